//! What holds of a Tapestry network when all is quiet: a slot is empty only if nobody belongs in it (SPAA §2.2,
//! Property 1), from which it follows that every key has one root.

use p2p_core::sim::View;
use p2p_core::{Key, Keyed, NoWorker, SimPeer};

use super::Tapestry;

/// All have joined, no slot of anybody is empty though somebody belongs in it, and nobody dead is known.
pub(super) fn is_whole(view: &View<'_, Tapestry<SimPeer>, NoWorker>) -> Result<(), String> {
    let alive: Vec<(Key, SimPeer)> = view.iter().map(|(peer, _)| (peer.key(), peer)).collect();
    for (me, node) in view.iter() {
        let table = node.table();
        if !table.joined {
            return Err(format!("{me} has not joined"));
        }
        for (key, other) in alive.iter().filter(|(_, other)| *other != me) {
            let level = table.key.common_prefix(key) / 4;
            if table.slot(level, key.digit(level, 4)).next().is_none() {
                return Err(format!("{me} has nobody where {other} belongs, at level {level}"));
            }
        }
        if let Some(dead) = table.neighbours().find(|other| view.get(*other).is_none()) {
            return Err(format!("{me} knows {dead}, who is dead"));
        }
    }
    Ok(())
}
