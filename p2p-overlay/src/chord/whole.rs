//! What holds of a ring when all is quiet (ToN §IV-E: the *ideal* state, which Zave's invariants lead to).

use p2p_core::sim::View;
use p2p_core::{Key, NoWorker, SimPeer};

use super::{Chord, ChordTable};

/// All have joined, and know their true neighbours: the predecessor, and all successors of the list.
pub(super) fn is_whole(view: &View<'_, Chord<SimPeer>, NoWorker>) -> Result<(), String> {
    let mut ring: Vec<(Key, &ChordTable<SimPeer>)> =
        view.iter().map(|(_, node)| (node.table().key, node.table())).collect();
    ring.sort_unstable_by_key(|(key, _)| *key);
    let n = ring.len();
    for (i, (_, table)) in ring.iter().enumerate() {
        let me = table.me;
        let after = (1..=table.most().min(n - 1)).map(|j| ring[(i + j) % n].1.me);
        let before = Some(ring[(i + n - 1) % n].1.me).filter(|peer| *peer != me);
        if !table.joined {
            return Err(format!("{me} has not joined"));
        }
        if !table.successors().eq(after.clone()) {
            let (known, after) = (table.successors().collect::<Vec<_>>(), after.collect::<Vec<_>>());
            return Err(format!("{me} is followed by {after:?}, not by {known:?}"));
        }
        if table.predecessor() != before {
            return Err(format!("{me} is preceded by {before:?}, not by {:?}", table.predecessor()));
        }
    }
    Ok(())
}
