//! Tapestry in experiments: who is responsible for what, by a look at all nodes.

use p2p_core::sim::View;
use p2p_core::{Key, NoWorker, SimPeer};

use super::converged::root;
use super::{Tapestry, TapestryConfig, TapestryTable, whole};
use crate::measure::Simulated;
use crate::structured::Replicas;

impl Simulated for Tapestry<SimPeer> {
    type Config = TapestryConfig;
    /// The last digit that tells a node from the others is resolved by a hop to it.
    const LAST_HOP_COUNTS: bool = true;

    fn converged(peers: &[SimPeer], config: TapestryConfig) -> Vec<Self> {
        Tapestry::converged(peers, config)
    }

    fn newcomer(me: SimPeer, seeds: Vec<SimPeer>, config: TapestryConfig) -> Self {
        Tapestry::with(me, seeds, config)
    }

    /// Each of its keys has a root.
    fn owners(nodes: &[(Key, SimPeer)], key: &Key, n: usize) -> Vec<SimPeer> {
        match TapestryTable::<SimPeer>::replica_set(key, n) {
            Replicas::Keys(keys) => keys.iter().filter_map(|key| root(nodes, key)).collect(),
            Replicas::Peers(peers) => peers,
        }
    }

    fn is_whole(view: &View<'_, Self, NoWorker>) -> Result<(), String> {
        whole::is_whole(view)
    }
}
