//! The tables of a whole network, computed directly.

use std::sync::Arc;

use p2p_core::{Key, Keyed, Rng};

use super::buckets::Spot;
use super::{Kademlia, KademliaConfig, KademliaTable};
use crate::measure::sample;
use crate::routed::Routed;

impl<P: Keyed> Kademlia<P> {
    /// The nodes of a network at rest, in order of `peers`: each knows its k nearest, and k others, chosen by chance,
    /// of each bucket (all, where there are fewer).
    pub fn converged(peers: &[P], config: KademliaConfig) -> Vec<Kademlia<P>> {
        let mut nodes: Vec<(Key, P)> = peers.iter().map(|peer| (peer.key(), *peer)).collect();
        nodes.sort_unstable();
        let lookup = Arc::new(config.lookup);
        let config = Arc::new(config);
        let table = |peer: &P| KademliaTable::among(&nodes, *peer, config.clone());
        peers.iter().map(|peer| Routed::new(table(peer), lookup.clone())).collect()
    }
}

impl<P: Keyed> KademliaTable<P> {
    /// The tables of one of some sorted nodes.
    fn among(nodes: &[(Key, P)], me: P, config: Arc<KademliaConfig>) -> KademliaTable<P> {
        let mut table = KademliaTable::new(me, [], config);
        let own = table.key();
        let seed = own.as_bytes()[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        let mut rng = Rng::new(seed);
        let mut contacts = Vec::new();
        let mut add = |(key, peer): &(Key, P)| contacts.push(Spot::at(&own.xor(key), *peer));
        // Where some are left out others take their places.
        let some = table.config.most() * if table.config.subnets.is_some() { 2 } else { 1 };
        let buckets = buckets(nodes, &own, table.config.width().into());
        for same in &buckets {
            sample(&mut rng, same.len(), some).for_each(|i| add(&same[i]));
        }
        closest(nodes, &own, table.buckets.most_near() + 1).iter().filter(|node| node.0 != own).for_each(add);
        table.buckets.fill(contacts.into_iter());
        if table.config.subnets.is_some() {
            table.fill_up(nodes, &buckets);
        }
        table
    }

    /// Where a subnet crowds, so that most of those chosen are left out, the others are looked for one after the other.
    fn fill_up(&mut self, nodes: &[(Key, P)], buckets: &[&[(Key, P)]]) {
        let own = self.key();
        let spot = |(key, peer): &(Key, P)| Spot::at(&own.xor(key), *peer);
        for same in buckets {
            for node in *same {
                if !self.buckets.fill_one(spot(node)) {
                    break;
                }
            }
        }
        let near = self.buckets.most_near();
        for node in closest(nodes, &own, near * 64).iter().filter(|node| node.0 != own) {
            if self.buckets.is_beyond_the_nearest(&spot(node)) {
                break;
            }
            self.buckets.fill_one(spot(node));
        }
    }
}

/// The nodes of each bucket: down the tree, the other parts of each subtree that a node is in, by so many bits each time.
fn buckets<'a, P>(nodes: &'a [(Key, P)], own: &Key, bits: usize) -> Vec<&'a [(Key, P)]> {
    let mut buckets = Vec::new();
    let (mut subtree, mut level) = (nodes, 0);
    while subtree.len() > 1 && level < Key::<32>::BITS {
        let mut rest = subtree;
        let mut inner: &[(Key, P)] = &[];
        while let Some((first, _)) = rest.first() {
            let digit = first.digit(level / bits, bits);
            let (same, others) =
                rest.split_at(rest.partition_point(|(key, _)| key.digit(level / bits, bits) <= digit));
            rest = others;
            match digit == own.digit(level / bits, bits) {
                true => inner = same,
                false => buckets.push(same),
            }
        }
        subtree = inner;
        level += bits;
    }
    buckets
}

/// The `n` nodes closest to a key, the closest first, of nodes that are sorted by their keys.
pub(super) fn closest<P: Keyed>(nodes: &[(Key, P)], key: &Key, n: usize) -> Vec<(Key, P)> {
    // Whoever shares more bits with the key is nearer, and stands no further from where the key would. The smallest
    // subtree around the key that has so many has them all.
    let at = nodes.partition_point(|(node, _)| node < key);
    let shared = |node: Option<&(Key, P)>| node.map(|(node, _)| node.xor(key).leading_zeros());
    let (mut from, mut to, mut bits) = (at, at, Some(Key::<32>::BITS));
    loop {
        let before = shared(from.checked_sub(1).map(|before| &nodes[before]));
        let after = shared(nodes.get(to));
        let next = before.max(after);
        if next.is_none() || to - from >= n && next < bits {
            break;
        }
        bits = bits.min(next);
        if before == next { from -= 1 } else { to += 1 }
    }
    let subtree = &nodes[from..to];
    let mut closest = subtree.to_vec();
    closest.sort_unstable_by_key(|(node, _)| node.xor(key));
    closest.truncate(n);
    closest
}
