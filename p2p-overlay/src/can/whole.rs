//! What holds of a CAN when all is quiet: the zones tile the space, and neighbours know each other (§2).

use p2p_core::sim::View;
use p2p_core::{Key, NoWorker, SimPeer};

use super::zones::abuts;
use super::{Can, CanRealities, CanTable, Claim, Zone};

/// All have joined, the zones tile the space, and those who are neighbours, and no others, know each other's zones; where
/// several share a zone, one of each zone beside their own.
pub(super) fn is_whole(view: &View<'_, Can<SimPeer>, NoWorker>) -> Result<(), String> {
    are_whole(&view.iter().map(|(_, node)| node.table()).collect::<Vec<_>>())
}

/// The same of each reality.
pub(super) fn are_all_whole(view: &View<'_, CanRealities<SimPeer>, NoWorker>) -> Result<(), String> {
    let nodes: Vec<_> = view.iter().map(|(_, node)| node.table().tables()).collect();
    let realities = nodes.first().map_or(0, |tables| tables.len());
    (0..realities)
        .try_for_each(|reality| are_whole(&nodes.iter().map(|tables| &tables[reality]).collect::<Vec<_>>()))
}

fn are_whole(tables: &[&CanTable<SimPeer>]) -> Result<(), String> {
    if let Some(out) = tables.iter().find(|table| !table.joined) {
        return Err(format!("{} has not joined", out.me));
    }
    let mut zones: Vec<(Key, Zone, SimPeer)> = tables
        .iter()
        .flat_map(|table| table.claims.iter().map(|claim| (claim.zone.path(), claim.zone, table.me)))
        .collect();
    zones.sort_unstable();
    let shared = tables.iter().any(|table| table.shares_zones());
    if shared {
        zones.dedup_by_key(|(_, zone, _)| *zone);
    }
    if let Some(two) = zones.windows(2).find(|two| two[0].1.overlaps(&two[1].1)) {
        return Err(format!("two claim one place: {two:?}"));
    }
    let all = zones.iter().map(|(_, zone, _)| zone.volume()).sum::<u128>();
    if all != 1 << 126 {
        return Err(format!("{:.6} of the space is somebody's", all as f64 / (1u128 << 126) as f64));
    }
    for a in tables {
        for b in tables.iter().filter(|b| b.me != a.me) {
            let known = a.neighbours().find(|(peer, _)| *peer == b.me).map(|(_, claims)| claims);
            let is_right = match shared {
                true => knows_who_shares(a, b, known),
                false => {
                    let near = b.claims.iter().any(|claim| abuts(&a.claims, &claim.zone));
                    known == near.then_some(b.claims.as_slice())
                }
            };
            if !is_right {
                return Err(format!("{} takes {:?} for the zones of {}: {:?}", a.me, known, b.me, b.claims));
            }
        }
    }
    Ok(())
}

/// Those who share, and of each zone beside them one of those who share that.
fn knows_who_shares(a: &CanTable<SimPeer>, b: &CanTable<SimPeer>, known: Option<&[Claim]>) -> bool {
    let held = |claim: &Claim| a.neighbours().any(|(_, claims)| claims.contains(claim));
    let mut beside = b.claims.iter().filter(|claim| abuts(&a.claims, &claim.zone));
    let is_mate = b.claims.iter().any(|claim| a.claims.contains(claim));
    known.is_none_or(|known| known == b.claims) && (known.is_some() || !is_mate) && beside.all(held)
}
