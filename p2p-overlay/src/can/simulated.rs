//! CAN in experiments: who is responsible for what, by a look at all nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use p2p_core::sim::View;
use p2p_core::{Key, Keyed, NoWorker, Rng, SimPeer};

use super::{Can, CanConfig, CanRealities, CanTable, Claim, Realities, Zone, whole};
use crate::measure::Simulated;
use crate::routed::Routed;

impl Simulated for Can<SimPeer> {
    type Config = CanConfig;
    const LAST_HOP_COUNTS: bool = true;

    fn converged(peers: &[SimPeer], config: CanConfig) -> Vec<Self> {
        Can::converged(peers, config)
    }

    fn newcomer(me: SimPeer, seeds: Vec<SimPeer>, config: CanConfig) -> Self {
        Can::with(me, seeds, config)
    }

    fn places(nodes: &mut dyn Iterator<Item = &Self>) -> Option<Vec<(Key, SimPeer)>> {
        Some(places(nodes.map(Routed::table)))
    }

    fn place(&self, key: &Key) -> Key {
        self.table().space.path(key)
    }

    /// Whoever has the zone at or before a point: where nobody has that point, who no answer names.
    fn owners(nodes: &[(Key, SimPeer)], place: &Key, _n: usize) -> Vec<SimPeer> {
        let after = nodes.partition_point(|(start, _)| start <= place);
        let Some((start, _)) = nodes[..after].last() else { return Vec::new() };
        let sharing = nodes[..after].iter().rev().take_while(|(other, _)| other == start);
        sharing.map(|(_, peer)| *peer).collect()
    }

    /// One of those who share the zone is enough.
    fn is_right(found: &[SimPeer], owners: &[SimPeer]) -> bool {
        found.first().is_some_and(|root| owners.contains(root))
    }

    fn is_whole(view: &View<'_, Self, NoWorker>) -> Result<(), String> {
        whole::is_whole(view)
    }
}

/// Zones, where those of several nodes overlap what is left of the weaker claims, by their paths.
fn places<'a>(tables: impl Iterator<Item = &'a CanTable<SimPeer>>) -> Vec<(Key, SimPeer)> {
    let mut shared = false;
    let mut claims: Vec<(Key, Claim, SimPeer)> = Vec::new();
    for table in tables {
        shared |= table.shares_zones();
        claims.extend(table.claims.iter().map(|claim| (claim.zone.path(), *claim, table.me)));
    }
    // Whoever covers others stands before them.
    claims.sort_unstable_by_key(|(path, claim, _)| (*path, claim.zone.halvings()));
    let mut places = Vec::with_capacity(claims.len());
    let mut rest = &claims[..];
    while let [(path, first, peer), ..] = rest {
        let outside = rest.iter().position(|(_, claim, _)| !first.zone.covers(&claim.zone));
        let (together, others) = rest.split_at(outside.unwrap_or(rest.len()));
        match together {
            [_] => places.push((*path, *peer)),
            _ => places.extend(divided(together, shared)),
        }
        rest = others;
    }
    places
}

/// Who has what of zones that overlap: the higher version, of two that are as high the lower key.
fn divided(claims: &[(Key, Claim, SimPeer)], shared: bool) -> Vec<(Key, SimPeer)> {
    let mut claims: Vec<(Claim, SimPeer)> = claims.iter().map(|(_, claim, peer)| (*claim, *peer)).collect();
    claims.sort_by_cached_key(|(claim, peer)| (std::cmp::Reverse(claim.version), peer.key()));
    // Those who share a zone (§3.4) are one.
    let mut groups: Vec<(Claim, Vec<SimPeer>)> = Vec::with_capacity(claims.len());
    let mut same: BTreeMap<(Key, u16, u32), usize> = BTreeMap::new();
    for (claim, peer) in claims {
        let id = (claim.zone.path(), claim.zone.halvings(), claim.version);
        match same.get(&id).filter(|_| shared) {
            Some(&group) => groups[group].1.push(peer),
            None => {
                same.insert(id, groups.len());
                groups.push((claim, vec![peer]));
            }
        }
    }
    let mut held: BTreeMap<Key, (Zone, usize)> = BTreeMap::new();
    for (group, (claim, _)) in groups.iter().enumerate() {
        let path = claim.zone.path();
        let covering = held.range(..=path).next_back().filter(|(_, (zone, _))| zone.covers(&claim.zone));
        let inside =
            held.range(path..).map(|(_, (zone, _))| *zone).take_while(|zone| claim.zone.covers(zone));
        let better: Vec<Zone> = covering.map(|(_, (zone, _))| *zone).into_iter().chain(inside).collect();
        let left = better
            .iter()
            .fold(vec![claim.zone], |left, zone| left.iter().flat_map(|part| part.without(zone)).collect());
        held.extend(left.into_iter().map(|zone| (zone.path(), (zone, group))));
    }
    let mut places = Vec::with_capacity(held.len());
    for (path, (_, group)) in held {
        places.extend(groups[group].1.iter().map(|peer| (path, *peer)));
    }
    places
}

/// The realities stand one after the other: the first byte of a place says which it is.
impl Simulated for CanRealities<SimPeer> {
    type Config = CanConfig;
    const LAST_HOP_COUNTS: bool = true;

    /// In each reality they have joined in another order.
    fn converged(peers: &[SimPeer], config: CanConfig) -> Vec<Self> {
        let config = Realities::<SimPeer>::bounded(config);
        let mut tables: Vec<Vec<CanTable<SimPeer>>> = vec![Vec::new(); peers.len()];
        let mut order: Vec<usize> = (0..peers.len()).collect();
        let mut rng = Rng::new(peers.len() as u64);
        for _ in 0..config.realities {
            let joined: Vec<SimPeer> = order.iter().map(|i| peers[*i]).collect();
            for (i, node) in order.iter().zip(Can::converged(&joined, config)) {
                tables[*i].push(node.table().clone());
            }
            rng.shuffle(&mut order);
        }
        let lookup = Arc::new(config.lookup);
        let node = |(me, tables): (&SimPeer, _)| Routed::new(Realities { me: *me, tables }, lookup.clone());
        peers.iter().zip(tables).map(node).collect()
    }

    fn newcomer(me: SimPeer, seeds: Vec<SimPeer>, config: CanConfig) -> Self {
        CanRealities::with(me, seeds, config)
    }

    fn places(nodes: &mut dyn Iterator<Item = &Self>) -> Option<Vec<(Key, SimPeer)>> {
        let nodes: Vec<&Self> = nodes.collect();
        let realities = nodes.first().map_or(0, |node| node.table().tables().len());
        let mut all = Vec::new();
        for reality in 0..realities {
            let tables = nodes.iter().filter_map(|node| node.table().tables().get(reality));
            let places = places(tables).into_iter();
            all.extend(places.map(|(path, peer)| (within(reality as u8, &path), peer)));
        }
        Some(all)
    }

    fn place(&self, key: &Key) -> Key {
        within(0, &self.table().tables()[0].space.path(key))
    }

    /// Whoever has the point in any reality.
    fn owners(nodes: &[(Key, SimPeer)], place: &Key, n: usize) -> Vec<SimPeer> {
        let Some((last, _)) = nodes.last() else { return Vec::new() };
        let mut place = *place.as_bytes();
        let mut owners = Vec::new();
        for reality in 0..=last.as_bytes()[0] {
            place[0] = reality;
            owners.extend(Can::<SimPeer>::owners(nodes, &Key::new(place), n));
        }
        owners
    }

    fn is_right(found: &[SimPeer], owners: &[SimPeer]) -> bool {
        Can::<SimPeer>::is_right(found, owners)
    }

    fn is_whole(view: &View<'_, Self, NoWorker>) -> Result<(), String> {
        whole::are_all_whole(view)
    }
}

/// A place in one of the realities; paths in them are short enough.
fn within(reality: u8, path: &Key) -> Key {
    let mut place = [reality; 32];
    place[1..].copy_from_slice(&path.as_bytes()[..31]);
    Key::new(place)
}
