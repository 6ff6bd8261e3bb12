//! The zones of a whole network, as joins would have made them.

use std::sync::Arc;

use p2p_core::{Key, Keyed, Rng};

use super::neighbours::{Neighbour, Neighbours};
use super::{Can, CanConfig, CanTable, Claim, Claims, MAX_NEIGHBOURS, Space, Zone};
use crate::routed::Routed;

impl<P: Keyed> Can<P> {
    /// The nodes of a network at rest, in order of `peers`: they have joined one after the other, at points given by
    /// chance, and know their neighbours.
    pub fn converged(peers: &[P], config: CanConfig) -> Vec<Can<P>> {
        let lookup = Arc::new(config.lookup);
        let config = Arc::new(config);
        let tree = Tree::grown(peers, &config);
        let mut rng = Rng::new(peers.len() as u64);
        let mut table = |(i, peer): (usize, &P)| {
            let zone = tree.zone_of[i] as usize;
            let claim = tree.claim(zone);
            let mates = tree.owners[zone].iter().copied().filter(|other| *other as usize != i);
            let others = tree.neighbours(&claim.zone).into_iter();
            let mut neighbours: Neighbours<P> = mates
                .map(|mate| (mate, zone))
                .chain(others.map(|other| (tree.one_of(other, &mut rng), other)))
                .take(MAX_NEIGHBOURS)
                .map(|(peer, zone)| {
                    let claim = tree.claim(zone);
                    let sharing = tree.owners[zone].iter().filter(|other| **other != peer);
                    let told = sharing.map(|other| (peers[*other as usize], claim)).collect();
                    Neighbour { told, ..Neighbour::new(peers[peer as usize], Claims::One(claim)) }
                })
                .collect();
            neighbours.shrink_to_fit();
            let table = CanTable::new(*peer, [], config.clone());
            CanTable { claims: vec![claim], neighbours, ..table }
        };
        peers.iter().enumerate().map(&mut table).map(|table| Routed::new(table, lookup.clone())).collect()
    }
}

/// The space cut into zones: a binary tree.
#[derive(Debug)]
struct Tree {
    space: Space,
    /// The root first.
    parts: Vec<Part>,
    zones: Vec<Zone>,
    /// Of each zone, at most [`CanConfig::zone_peers`].
    owners: Vec<Vec<u32>>,
    /// Of each peer.
    zone_of: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    /// This zone.
    Leaf(u32),
    /// Where its lower half is in the list; the upper one follows.
    Halved(u32),
}

impl Tree {
    /// As many joins as there are peers.
    fn grown<P: Keyed>(peers: &[P], config: &CanConfig) -> Tree {
        let space = Space::new(config.dimensions.clamp(1, 8));
        let (zones, owners, zone_of) = (Vec::new(), Vec::new(), Vec::with_capacity(peers.len()));
        let mut tree = Tree { space, parts: Vec::new(), zones, owners, zone_of };
        let Some(first) = peers.first() else { return tree };
        let seed = first.key().as_bytes()[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        let mut rng = Rng::new(seed);
        tree.parts.push(Part::Leaf(0));
        tree.zones.push(space.whole());
        tree.owners.push(vec![0]);
        tree.zone_of.push(0);
        while tree.zone_of.len() < peers.len() {
            tree.join(&rng.key(), config);
        }
        tree
    }

    fn claim(&self, zone: usize) -> Claim {
        let zone = self.zones[zone];
        Claim { zone, version: 2 * u32::from(zone.halvings()) }
    }

    /// Whoever of those who share a zone is somebody's neighbour.
    fn one_of(&self, zone: usize, rng: &mut Rng) -> u32 {
        match &self.owners[zone][..] {
            [only] => *only,
            several => several[rng.index(several.len())],
        }
    }

    /// One more node joins at a point. It shares the zone there, if that has room (§3.4); else, where zones are to be
    /// even, the largest of those around is split (§3.7).
    fn join(&mut self, key: &Key, config: &CanConfig) {
        let newcomer = self.zone_of.len() as u32;
        let mut part = self.leaf_at(key);
        let has_room = |tree: &Tree, zone: usize| tree.owners[zone].len() < config.peers_in_zone();
        if config.uniform && !has_room(self, self.zone(part)) {
            let zone = self.zone(part);
            let around = self.neighbours(&self.zones[zone]).into_iter().chain([zone]);
            let largest = around.min_by_key(|other| (self.zones[*other].halvings(), *other != zone));
            if let Some(largest) = largest.filter(|largest| *largest != zone) {
                part = self.leaf_at(&self.zones[largest].corner());
            }
        }
        let zone = self.zone(part);
        if has_room(self, zone) {
            self.owners[zone].push(newcomer);
            return self.zone_of.push(zone as u32);
        }
        let Some((lower, upper)) = self.zones[zone].split() else { return };
        let other = self.zones.len();
        let gives_upper = !lower.contains(&self.space.point(key));
        let (kept, given) = if gives_upper { (lower, upper) } else { (upper, lower) };
        self.zones[zone] = kept;
        self.zones.push(given);
        // The first keeps one half, the newcomer has the other, the rest take turns.
        let mut theirs = vec![newcomer];
        let old = std::mem::take(&mut self.owners[zone]);
        for (i, owner) in old.into_iter().enumerate() {
            if i % 2 == 0 { self.owners[zone].push(owner) } else { theirs.push(owner) }
        }
        self.zone_of.push(other as u32);
        theirs.iter().for_each(|owner| self.zone_of[*owner as usize] = other as u32);
        self.owners.push(theirs);
        let [below, above] = if gives_upper { [zone, other] } else { [other, zone] };
        self.parts[part] = Part::Halved(self.parts.len() as u32);
        self.parts.extend([Part::Leaf(below as u32), Part::Leaf(above as u32)]);
    }

    fn zone(&self, part: usize) -> usize {
        match self.parts[part] {
            Part::Leaf(zone) => zone as usize,
            Part::Halved(lower) => self.zone(lower as usize),
        }
    }

    /// The part that is the zone in which a key lies.
    fn leaf_at(&self, key: &Key) -> usize {
        let path = self.space.path(key);
        let mut part = 0;
        let mut depth = 0;
        while let Part::Halved(lower) = self.parts[part] {
            part = lower as usize + usize::from(path.bit(depth));
            depth += 1;
        }
        part
    }

    /// The zones that abut one.
    fn neighbours(&self, zone: &Zone) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open = vec![(0, self.space.whole())];
        while let Some((part, cell)) = open.pop() {
            match self.parts[part] {
                Part::Leaf(other) => found.extend(cell.is_neighbour(zone).then_some(other as usize)),
                Part::Halved(lower) => {
                    let Some((below, above)) = cell.split() else { continue };
                    let halves = [(lower as usize, below), (lower as usize + 1, above)];
                    open.extend(halves.into_iter().filter(|(_, half)| half.touches(zone)));
                }
            }
        }
        found
    }
}
