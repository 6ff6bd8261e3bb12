//! The zones of a whole network, as joins would have made them, and CAN in experiments.

use std::collections::BTreeMap;
use std::sync::Arc;

use p2p_core::sim::View;
use p2p_core::{Key, Keyed, NoWorker, Rng, SimPeer};

use super::{Can, CanConfig, CanTable, Claim, MAX_NEIGHBOURS, Neighbour, Space, Zone};
use crate::measure::Simulated;
use crate::routed::Routed;

impl<P: Keyed> Can<P> {
    /// The nodes of a network at rest, in order of `peers`: they have joined one after the other, at points given by
    /// chance, and know their neighbours.
    pub fn converged(peers: &[P], config: CanConfig) -> Vec<Can<P>> {
        let lookup = Arc::new(config.lookup);
        let config = Arc::new(config);
        let tree = Tree::grown(peers, &config);
        let table = |(i, peer): (usize, &P)| {
            let claim = tree.claim(i);
            let mut neighbours: Vec<Neighbour<P>> = tree
                .neighbours(&claim.zone)
                .into_iter()
                .take(MAX_NEIGHBOURS)
                .map(|other| Neighbour::new(peers[other], vec![tree.claim(other)]))
                .collect();
            neighbours.shrink_to_fit();
            let table = CanTable::new(*peer, [], config.clone());
            CanTable { claims: vec![claim], neighbours, ..table }
        };
        peers.iter().enumerate().map(table).map(|table| Routed::new(table, lookup.clone())).collect()
    }
}

/// The space cut into zones: a binary tree.
#[derive(Debug)]
struct Tree {
    space: Space,
    /// The root first.
    parts: Vec<Part>,
    /// Of each owner.
    zones: Vec<Zone>,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    /// The zone of this owner.
    Leaf(u32),
    /// Where its lower half is in the list; the upper one follows.
    Halved(u32),
}

impl Tree {
    /// As many joins as there are peers.
    fn grown<P: Keyed>(peers: &[P], config: &CanConfig) -> Tree {
        let space = Space::new(config.dimensions.clamp(1, 8));
        let mut tree = Tree { space, parts: Vec::new(), zones: Vec::with_capacity(peers.len()) };
        let Some(first) = peers.first() else { return tree };
        let seed = first.key().as_bytes()[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        let mut rng = Rng::new(seed);
        tree.parts.push(Part::Leaf(0));
        tree.zones.push(space.whole());
        while tree.zones.len() < peers.len() {
            tree.join(&rng.key(), config.uniform);
        }
        tree
    }

    fn claim(&self, owner: usize) -> Claim {
        let zone = self.zones[owner];
        Claim { zone, version: 2 * u32::from(zone.halvings()) }
    }

    /// One more node joins at a point; where zones are to be even, the largest of those around is split (§3.7).
    fn join(&mut self, key: &Key, uniform: bool) {
        let mut part = self.leaf_at(key);
        if uniform {
            let owner = self.owner(part);
            let around = self.neighbours(&self.zones[owner]).into_iter().chain([owner]);
            let largest = around.min_by_key(|other| (self.zones[*other].halvings(), *other != owner));
            if let Some(largest) = largest.filter(|largest| *largest != owner) {
                part = self.leaf_at(&self.zones[largest].corner());
            }
        }
        let owner = self.owner(part);
        let Some((lower, upper)) = self.zones[owner].split() else { return };
        let newcomer = self.zones.len();
        let gives_upper = !lower.contains(&self.space.point(key));
        let (kept, given) = if gives_upper { (lower, upper) } else { (upper, lower) };
        self.zones[owner] = kept;
        self.zones.push(given);
        let [below, above] = if gives_upper { [owner, newcomer] } else { [newcomer, owner] };
        self.parts[part] = Part::Halved(self.parts.len() as u32);
        self.parts.extend([Part::Leaf(below as u32), Part::Leaf(above as u32)]);
    }

    fn owner(&self, part: usize) -> usize {
        match self.parts[part] {
            Part::Leaf(owner) => owner as usize,
            Part::Halved(lower) => self.owner(lower as usize),
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

    /// The owners of the zones that abut one.
    fn neighbours(&self, zone: &Zone) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open = vec![(0, self.space.whole())];
        while let Some((part, cell)) = open.pop() {
            match self.parts[part] {
                Part::Leaf(owner) => found.extend(cell.is_neighbour(zone).then_some(owner as usize)),
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

impl Simulated for Can<SimPeer> {
    type Config = CanConfig;
    const LAST_HOP_COUNTS: bool = true;

    fn converged(peers: &[SimPeer], config: CanConfig) -> Vec<Self> {
        Can::converged(peers, config)
    }

    fn newcomer(me: SimPeer, seeds: Vec<SimPeer>, config: CanConfig) -> Self {
        Can::with(me, seeds, config)
    }

    /// Zones, where those of several nodes overlap what is left of the weaker claims, by their paths.
    fn places(nodes: &mut dyn Iterator<Item = &Self>) -> Option<Vec<(Key, SimPeer)>> {
        let of = |node: &Self| {
            let table = node.table();
            table.claims.iter().map(|claim| (*claim, table.me)).collect::<Vec<_>>()
        };
        let mut claims: Vec<(Claim, SimPeer)> = nodes.flat_map(of).collect();
        claims.sort_by_cached_key(|(claim, peer)| (std::cmp::Reverse(claim.version), peer.key()));
        let mut held: BTreeMap<Key, (Zone, SimPeer)> = BTreeMap::new();
        for (claim, peer) in claims {
            let path = claim.zone.path();
            let covering = held.range(..=path).next_back().filter(|(_, (zone, _))| zone.covers(&claim.zone));
            let inside =
                held.range(path..).map(|(_, (zone, _))| *zone).take_while(|zone| claim.zone.covers(zone));
            let better: Vec<Zone> = covering.map(|(_, (zone, _))| *zone).into_iter().chain(inside).collect();
            let left = better.iter().fold(vec![claim.zone], |left, zone| {
                left.iter().flat_map(|part| part.without(zone)).collect()
            });
            held.extend(left.into_iter().map(|zone| (zone.path(), (zone, peer))));
        }
        Some(held.into_iter().map(|(path, (_, peer))| (path, peer)).collect())
    }

    fn place(&self, key: &Key) -> Key {
        self.table().space.path(key)
    }

    fn is_still(&self) -> bool {
        self.table().is_at_rest()
    }

    /// Whoever has the zone at or before a point: where nobody has that point, who no answer names.
    fn owners(nodes: &[(Key, SimPeer)], place: &Key, _n: usize) -> Vec<SimPeer> {
        let after = nodes.partition_point(|(start, _)| start <= place);
        nodes[..after].last().map(|(_, peer)| *peer).into_iter().collect()
    }

    fn is_whole(view: &View<'_, Self, NoWorker>) -> Result<(), String> {
        super::whole::is_whole(view)
    }
}
