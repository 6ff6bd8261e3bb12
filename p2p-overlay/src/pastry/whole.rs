//! What holds of a Pastry network when all is quiet (§2.1; DSN 2004).

use p2p_core::sim::View;
use p2p_core::{Key, NoWorker, SimPeer};

use super::{Pastry, PastryTable, Side};

/// All have joined, know their true leaves, and have leases from the neighbours on both sides.
pub(super) fn is_whole(view: &View<'_, Pastry<SimPeer>, NoWorker>) -> Result<(), String> {
    let mut ring: Vec<(Key, &PastryTable<SimPeer>)> =
        view.iter().map(|(_, node)| (node.table().key, node.table())).collect();
    ring.sort_unstable_by_key(|(key, _)| *key);
    let n = ring.len();
    for (i, (_, table)) in ring.iter().enumerate() {
        let me = table.me;
        if !table.joined {
            return Err(format!("{me} has not joined"));
        }
        let most = (n - 1).min(table.config.leaves / 2);
        let mut leaves: Vec<SimPeer> =
            (1..=most).flat_map(|j| [ring[(i + j) % n].1.me, ring[(i + n - j) % n].1.me]).collect();
        leaves.sort_unstable();
        leaves.dedup();
        let mut known: Vec<SimPeer> = table.leaves().collect();
        known.sort_unstable();
        if known != leaves {
            return Err(format!("the leaves of {me} are {leaves:?}, not {known:?}"));
        }
        if n > 1 && !([Side::Ahead, Side::Behind].iter().all(|side| table.has_lease(*side, view.now))) {
            return Err(format!("{me} lacks a lease"));
        }
    }
    Ok(())
}
