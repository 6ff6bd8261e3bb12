//! The tables of a whole network, computed directly.

use std::sync::Arc;

use p2p_core::{Key, Keyed, Rng};

use super::levels::{KEPT, LEVELS};
use super::{Tapestry, TapestryConfig, TapestryTable};
use crate::measure::sample;
use crate::routed::Routed;

impl<P: Keyed> Tapestry<P> {
    /// The nodes of a network at rest, in order of `peers`: in each slot are three of those that belong there, chosen
    /// by chance (all, where there are fewer). Which of them are near nobody has measured.
    pub fn converged(peers: &[P], config: TapestryConfig) -> Vec<Tapestry<P>> {
        let mut nodes: Vec<(Key, P)> = peers.iter().map(|peer| (peer.key(), *peer)).collect();
        nodes.sort_unstable();
        let lookup = Arc::new(config.lookup);
        let config = Arc::new(config);
        let table = |peer: &P| TapestryTable::among(&nodes, *peer, config.clone());
        peers.iter().map(|peer| Routed::new(table(peer), lookup.clone())).collect()
    }
}

impl<P: Keyed> TapestryTable<P> {
    /// The table of one of some sorted nodes.
    fn among(nodes: &[(Key, P)], me: P, config: Arc<TapestryConfig>) -> TapestryTable<P> {
        let mut table = TapestryTable::new(me, [], config);
        let own = table.key();
        let seed = own.as_bytes()[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        let mut rng = Rng::new(seed);
        let mut neighbours = Vec::new();
        let mut alike = nodes;
        for level in 0..LEVELS {
            if alike.len() <= 1 {
                break;
            }
            let others = alike.chunk_by(|a, b| a.0.digit(level, 4) == b.0.digit(level, 4));
            for slot in others.filter(|slot| slot[0].0.digit(level, 4) != own.digit(level, 4)) {
                neighbours.extend(sample(&mut rng, slot.len(), KEPT).map(|i| slot[i]));
            }
            alike = with_digit(alike, level, own.digit(level, 4));
        }
        table.levels.fill(neighbours);
        table
    }
}

/// Those with this digit, of some sorted nodes whose digits before it are alike.
fn with_digit<P>(nodes: &[(Key, P)], level: usize, digit: u8) -> &[(Key, P)] {
    let from = &nodes[nodes.partition_point(|(key, _)| key.digit(level, 4) < digit)..];
    &from[..from.partition_point(|(key, _)| key.digit(level, 4) == digit)]
}

/// The root of a key, of nodes sorted by their keys: at each level those with the first digit that anybody has.
pub(super) fn root<P: Copy>(nodes: &[(Key, P)], key: &Key) -> Option<P> {
    let mut alike = nodes;
    for level in 0..LEVELS {
        if alike.len() <= 1 {
            break;
        }
        let digits = (0..16).map(|step| key.digit(level, 4).wrapping_add(step) & 15);
        let mut slots = digits.map(|digit| with_digit(alike, level, digit));
        alike = slots.find(|slot| !slot.is_empty())?;
    }
    alike.first().map(|(_, peer)| *peer)
}
