//! Chord in experiments: who is responsible for what, by a look at all nodes.

use p2p_core::sim::View;
use p2p_core::{Key, NoWorker, SimPeer};

use super::{Chord, ChordConfig, whole};
use crate::measure::Simulated;

impl Simulated for Chord<SimPeer> {
    type Config = ChordConfig;
    /// ToN §V-C: the path ends at the key's predecessor.
    const LAST_HOP_COUNTS: bool = false;

    fn converged(peers: &[SimPeer], config: ChordConfig) -> Vec<Self> {
        Chord::converged(peers, config)
    }

    fn newcomer(me: SimPeer, seeds: Vec<SimPeer>, config: ChordConfig) -> Self {
        Chord::with(me, seeds, config)
    }

    fn owners(nodes: &[(Key, SimPeer)], key: &Key, n: usize) -> Vec<SimPeer> {
        let at = nodes.partition_point(|(node, _)| node < key);
        let (before, after) = nodes.split_at(at);
        after.iter().chain(before).take(n).map(|(_, peer)| *peer).collect()
    }

    fn is_whole(view: &View<'_, Self, NoWorker>) -> Result<(), String> {
        whole::is_whole(view)
    }
}
