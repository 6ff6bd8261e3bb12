//! What holds of a CAN when all is quiet: the zones tile the space, and neighbours know each other (§2).

use p2p_core::sim::View;
use p2p_core::{Key, NoWorker, SimPeer};

use super::zones::abuts;
use super::{Can, CanTable, Zone};

/// All have joined, the zones tile the space, and those who are neighbours, and no others, know each other's zones.
pub(super) fn is_whole(view: &View<'_, Can<SimPeer>, NoWorker>) -> Result<(), String> {
    let tables: Vec<&CanTable<SimPeer>> = view.iter().map(|(_, node)| node.table()).collect();
    if let Some(out) = tables.iter().find(|table| !table.joined) {
        return Err(format!("{} has not joined", out.me));
    }
    let mut zones: Vec<(Key, Zone, SimPeer)> = tables
        .iter()
        .flat_map(|table| table.claims.iter().map(|claim| (claim.zone.path(), claim.zone, table.me)))
        .collect();
    zones.sort_unstable();
    if let Some(two) = zones.windows(2).find(|two| two[0].1.overlaps(&two[1].1)) {
        return Err(format!("two claim one place: {two:?}"));
    }
    let all = zones.iter().map(|(_, zone, _)| zone.volume()).sum::<u128>();
    if all != 1 << 126 {
        return Err(format!("{:.6} of the space is somebody's", all as f64 / (1u128 << 126) as f64));
    }
    for a in &tables {
        for b in tables.iter().filter(|b| b.me != a.me) {
            let near = b.claims.iter().any(|claim| abuts(&a.claims, &claim.zone));
            let known = a.neighbours().find(|(peer, _)| *peer == b.me).map(|(_, claims)| claims);
            if known != near.then_some(&b.claims) {
                return Err(format!("{} takes {:?} for the zones of {}: {:?}", a.me, known, b.me, b.claims));
            }
        }
    }
    Ok(())
}
