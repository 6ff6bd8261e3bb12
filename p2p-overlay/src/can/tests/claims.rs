//! One node at a time: whose claim holds, and what others may do to it.

use std::time::Duration;

use p2p_core::{Keyed, Rng, Script, SimPeer, Wire};
use proptest::prelude::*;

use super::super::zones::abuts;
use super::super::*;
use super::{SECOND, quick};
use crate::structured::Maintenance;

/// A table of a network at rest, which goes on from there, and a neighbour of it.
pub(super) fn script() -> (Script<CanTable<SimPeer>>, SimPeer) {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let table = Can::converged(&peers, quick(2)).swap_remove(7).table().clone();
    let neighbour = table.neighbours[0].peer;
    (Script::new(table), neighbour)
}

/// A peer tells its zones.
fn tells(script: &mut Script<CanTable<SimPeer>>, from: SimPeer, claims: Vec<Claim>) {
    let state = CanState { claims: claims.into(), neighbours: None };
    script.message(from, CanMsg::Update { id: 0, full: false, state });
}

#[test]
fn of_two_who_claim_one_zone_the_later_claim_holds() {
    let (mut script, neighbour) = script();
    let own = script.machine().claims[0];
    let older = Claim { version: own.version - 1, ..own };
    tells(&mut script, neighbour, vec![older]);
    assert_eq!(script.machine().claims, [own]);
    let (half, _) = own.split().unwrap();
    tells(&mut script, neighbour, vec![half]);
    let left: Vec<Claim> = own.without(&half.zone).collect();
    assert_eq!(script.machine().claims, left, "a newcomer to half of it");
    let winner = script.sent().into_iter().filter(|(to, _)| *to == neighbour);
    let told =
        winner.filter(|(_, msg)| matches!(msg, CanMsg::Update { state, .. } if state.neighbours.is_some()));
    assert_eq!(told.count(), 1, "it hears who is around");
    tells(&mut script, neighbour, vec![own.taken_over(), half]);
    assert!(!script.machine().joined, "whoever has lost everything joins again");
}

#[test]
fn of_two_claims_alike_that_of_the_lesser_key_holds() {
    let (mut script, _) = script();
    let (me, own) = (script.machine().me, script.machine().claims[0]);
    let others = || (100..).map(SimPeer);
    let (greater, lesser) =
        (others().find(|peer| peer.key() > me.key()), others().find(|peer| peer.key() < me.key()));
    tells(&mut script, greater.unwrap(), vec![own]);
    assert_eq!(script.machine().claims, [own]);
    tells(&mut script, lesser.unwrap(), vec![own]);
    assert_eq!(script.machine().claims, []);
}

#[test]
fn what_a_peer_says_of_others_is_a_reason_to_ask_them_and_no_more() {
    let (mut script, neighbour) = script();
    let own = script.machine().claims[0];
    let its = script.machine().neighbours[0].claims.clone();
    let before: Vec<SimPeer> = script.machine().neighbours().map(|(peer, _)| peer).collect();
    script.sent();
    let rival = SimPeer(999);
    let state = CanState { claims: its, neighbours: Some(vec![(rival, own.taken_over())].into()) };
    script.message(neighbour, CanMsg::Update { id: 0, full: false, state });
    assert_eq!(script.machine().claims, [own]);
    assert!(script.machine().neighbours().map(|(peer, _)| peer).eq(before));
    let asked =
        script.sent().into_iter().any(|(to, msg)| to == rival && matches!(msg, CanMsg::Update { .. }));
    assert!(asked);
}

/// Two nodes that were cut off from all others, and have taken their zones over, find back when the cut is mended.
#[test]
fn whoever_is_a_neighbour_no_more_because_of_another_is_a_way_back() {
    let (mut script, heir) = script();
    let table = script.machine();
    let heirs = table.neighbours[0].claims[0];
    let (gone, its) = (table.neighbours[1].peer, table.neighbours[1].claims[0]);
    assert_eq!(table.doors.any(&mut Rng::new(1)), None);
    tells(&mut script, heir, vec![heirs, its.taken_over()]);
    let table = script.machine();
    assert!(table.position(heir).is_some() && table.position(gone).is_none());
    assert_eq!(table.doors.any(&mut Rng::new(1)), Some(gone), "whose zone another has taken over");

    let two = Can::converged(&[SimPeer(0), SimPeer(1)], quick(2)).swap_remove(0).table().clone();
    let (other, its) = (two.neighbours[0].peer, two.neighbours[0].claims[0]);
    let mut small = its.split().unwrap().0;
    while abuts(&two.claims, &small.zone) {
        let (lower, upper) = small.split().unwrap();
        small = if abuts(&two.claims, &lower.zone) { upper } else { lower };
    }
    let mut script = Script::new(two);
    tells(&mut script, other, vec![small]);
    let table = script.machine();
    assert_eq!(table.neighbours.len(), 0);
    assert_eq!(table.doors.any(&mut Rng::new(1)), Some(other), "the last, which now stands elsewhere");
}

/// Whoever names strangers over and over keeps a node neither from its neighbours nor from asking them.
#[test]
fn names_of_strangers_take_no_more_than_half_of_the_questions() {
    let (mut script, liar) = script();
    let mut known: Vec<(SimPeer, Claim)> =
        script.machine().neighbours().map(|(peer, claims)| (peer, claims[0])).collect();
    let place = known.iter().find(|(peer, _)| *peer != liar).map(|(_, claim)| claim.zone).unwrap();
    let its = script.machine().neighbours[0].claims.clone();
    for id in 0..100 {
        let stranger = |i| (SimPeer(1000 + 256 * id + i), Claim { zone: place, version: 9999 });
        let state = CanState { claims: its.clone(), neighbours: Some((0..256).map(stranger).collect()) };
        script.message(liar, CanMsg::Update { id, full: false, state });
    }
    let asks = |msg: &CanMsg<SimPeer>| matches!(msg, CanMsg::Update { .. });
    let strangers = script.sent().iter().filter(|(to, msg)| to.0 >= 1000 && asks(msg)).count();
    assert!((16..=MAX_ASKED / 2).contains(&strangers), "{strangers} strangers are asked");
    script.advance(2 * quick(2).update);
    let asked: Vec<SimPeer> =
        script.sent().into_iter().filter(|(_, msg)| asks(msg)).map(|(to, _)| to).collect();
    known.retain(|(peer, _)| !asked.contains(peer));
    assert_eq!(known, [], "neighbours that are not asked");
}

/// A zone that is offered comes with who is around it, as the giver says.
#[test]
fn who_has_spoken_for_itself_gives_way_to_nobody_who_is_only_named() {
    let (mut script, giver) = script();
    let own = script.machine().claims[0];
    let sibling = own.zone.sibling().unwrap();
    let mut known: Vec<(SimPeer, Claim)> =
        script.machine().neighbours().map(|(peer, claims)| (peer, claims[0])).collect();
    known.retain(|(_, claim)| !claim.zone.overlaps(&sibling));
    assert!(known.len() > 1);
    let named: Vec<(SimPeer, Claim)> = (0..)
        .map(|i| SimPeer(1000 + i))
        .zip(known.iter().map(|(_, claim)| Claim { version: 9999, ..*claim }))
        .collect();
    let claim = Claim { zone: sibling, version: 9999 };
    script.message(giver, CanMsg::Take { claim, neighbours: named });
    assert!(script.machine().claims[0].zone.covers(&sibling), "it is taken");
    let now: Vec<SimPeer> = script.machine().neighbours().map(|(peer, _)| peer).collect();
    known.retain(|(peer, _)| !now.contains(peer));
    assert_eq!(known, [], "neighbours that others have displaced");
    let asked = script.sent().iter().any(|(to, msg)| to.0 >= 1000 && matches!(msg, CanMsg::Update { .. }));
    assert!(asked, "those named are asked");
}

#[test]
fn zones_that_nobody_asked_for_change_nothing() {
    let (mut script, neighbour) = script();
    let before = script.machine().claims.clone();
    let far = script.machine().space.whole();
    let all = Claim { zone: far, version: 99 };
    script.message(neighbour, CanMsg::Welcome { claims: vec![all], neighbours: vec![(neighbour, all)] });
    script.message(neighbour, CanMsg::Elsewhere { peer: SimPeer(3) });
    script.message(neighbour, CanMsg::Take { claim: all, neighbours: Vec::new() });
    tells(&mut script, neighbour, vec![Claim { zone: Space::new(3).whole(), version: 99 }]);
    assert_eq!(script.machine().claims, before);
    tells(&mut script, neighbour, vec![all; 1000]);
    assert!(script.machine().neighbours.iter().all(|other| other.claims.len() <= 32));
}

#[test]
fn a_dead_neighbours_zone_is_taken_over_by_the_smallest() {
    let (mut script, neighbour) = script();
    let claims = script.machine().neighbours[0].claims.clone();
    let other = (SimPeer(500), Claim { zone: claims[0].zone.sibling().unwrap(), version: 1 });
    let state = CanState { claims: claims.clone(), neighbours: Some(vec![other].into()) };
    script.message(neighbour, CanMsg::Update { id: 0, full: true, state });
    script.sent();
    Maintenance::silent(&mut script.machine().clone(), p2p_core::Time::ZERO, neighbour);
    let mut heard = Vec::new();
    // The others answer, this one does not.
    for _ in 0..100 {
        script.advance(Duration::from_millis(100));
        for (to, msg) in script.sent() {
            match msg {
                CanMsg::Update { id, .. } if to != neighbour => {
                    let its = script.machine().neighbours().find(|(peer, _)| *peer == to);
                    let claims = its.map_or(Vec::new(), |(_, claims)| claims.to_vec()).into();
                    script.message(to, CanMsg::Updated { id, state: CanState { claims, neighbours: None } });
                }
                CanMsg::Fallen { peer } => heard.push((to, peer)),
                _ => {}
            }
        }
    }
    assert_eq!(heard, [(SimPeer(500), neighbour)], "its other neighbour is to see for itself");
    let zone = claims[0].zone;
    assert!(
        script.machine().claims.iter().any(|own| own.zone.covers(&zone)),
        "{:?}",
        script.machine().claims
    );
}

proptest! {
    #[test]
    fn random_bytes_are_no_danger(kind in 0u8..9, rest in prop::collection::vec(0u8..8, 0..300)) {
        let bytes = [&[1, kind], rest.as_slice()].concat();
        if let Ok(msg) = CanMsg::<SimPeer>::from_bytes(&bytes) {
            let (mut script, neighbour) = script();
            script.message(neighbour, msg);
            script.advance(5 * SECOND);
        }
    }
}
