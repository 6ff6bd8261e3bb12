//! A network at rest, for experiments.

use std::sync::Arc;

use p2p_core::{Keyed, Rng};

use super::{HyParView, HyParViewConfig};

impl<P: Keyed> HyParView<P> {
    /// Nodes that all know each other as after a long time without trouble: neighbours at random, both ways, almost
    /// everybody with as many as it may have; others at random.
    pub fn converged(peers: &[P], config: HyParViewConfig, seed: u64) -> Vec<HyParView<P>> {
        let config = Arc::new(config);
        let mut rng = Rng::new(seed);
        let seeds = |at: usize| peers.get(at.wrapping_sub(1)).copied();
        let mut nodes: Vec<HyParView<P>> = peers
            .iter()
            .enumerate()
            .map(|(at, peer)| HyParView::shared(*peer, seeds(at), config.clone()))
            .collect();
        // Everybody has so many ends, and ends are tied at random; those of one node, or twice the same two, are not.
        let mut ends: Vec<usize> = (0..config.active).flat_map(|_| 0..peers.len()).collect();
        rng.shuffle(&mut ends);
        for pair in ends.chunks_exact(2) {
            let (a, b) = (pair[0], pair[1]);
            if a != b && nodes[a].views.insert(peers[b]) {
                nodes[b].views.insert(peers[a]);
            }
        }
        for node in &mut nodes {
            node.was_in = true;
            node.doors.found();
            for _ in 0..config.passive.min(peers.len().saturating_sub(1 + config.active)) {
                if let Some(peer) = rng.choose(peers).copied().filter(|peer| *peer != node.me) {
                    node.views.note(&mut rng, peer, config.passive, &mut Vec::new());
                }
            }
        }
        nodes
    }
}
