//! Pastry in experiments: who is responsible for what, by a look at all nodes.

use p2p_core::sim::View;
use p2p_core::{Key, NoWorker, SimPeer};

use super::{Pastry, PastryConfig, whole};
use crate::measure::Simulated;

impl Simulated for Pastry<SimPeer> {
    type Config = PastryConfig;
    const LAST_HOP_COUNTS: bool = true;

    fn converged(peers: &[SimPeer], config: PastryConfig) -> Vec<Self> {
        Pastry::converged(peers, config)
    }

    fn newcomer(me: SimPeer, seeds: Vec<SimPeer>, config: PastryConfig) -> Self {
        Pastry::with(me, seeds, config)
    }

    fn owners(nodes: &[(Key, SimPeer)], key: &Key, n: usize) -> Vec<SimPeer> {
        // The nearest on either side, of which the nearest are the nearest of all.
        let at = nodes.partition_point(|(node, _)| node < key);
        let (before, after) = nodes.split_at(at);
        let most = n.min(nodes.len());
        let ahead = after.iter().chain(before).take(most);
        let behind = before.iter().rev().chain(after.iter().rev()).take(most);
        let mut near: Vec<&(Key, SimPeer)> = ahead.chain(behind).collect();
        // Of two that are as near it is the one before.
        near.sort_unstable_by_key(|(node, _)| (node.ring_gap(key), key.distance(node) < node.distance(key)));
        near.dedup();
        near.into_iter().take(most).map(|(_, peer)| *peer).collect()
    }

    fn is_whole(view: &View<'_, Self, NoWorker>) -> Result<(), String> {
        whole::is_whole(view)
    }
}
