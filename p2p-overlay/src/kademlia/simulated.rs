//! Kademlia in experiments: who is responsible for what, by a look at all nodes.

use p2p_core::sim::View;
use p2p_core::{Key, NoWorker, SimPeer};

use super::converged::closest;
use super::{Kademlia, KademliaConfig, whole};
use crate::measure::Simulated;

impl Simulated for Kademlia<SimPeer> {
    type Config = KademliaConfig;
    const LAST_HOP_COUNTS: bool = true;

    fn converged(peers: &[SimPeer], config: KademliaConfig) -> Vec<Self> {
        Kademlia::converged(peers, config)
    }

    fn newcomer(me: SimPeer, seeds: Vec<SimPeer>, config: KademliaConfig) -> Self {
        Kademlia::with(me, seeds, config)
    }

    fn owners(nodes: &[(Key, SimPeer)], key: &Key, n: usize) -> Vec<SimPeer> {
        closest(nodes, key, n).into_iter().map(|(_, peer)| peer).collect()
    }

    fn is_whole(view: &View<'_, Self, NoWorker>) -> Result<(), String> {
        whole::is_whole(view)
    }
}
