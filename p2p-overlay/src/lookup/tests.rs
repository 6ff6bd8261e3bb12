use p2p_core::{Script, SimPeer};

use super::*;
use crate::can::{Can, CanConfig};
use crate::chord::{Chord, ChordConfig};
use crate::structured::Overlay;

/// Whoever sends questions whose answers never come back must not fill the list of relays for good.
#[test]
fn relays_whose_answer_never_comes_are_forgotten() {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let config = ChordConfig { stabilize: Duration::ZERO, ..ChordConfig::default() };
    let mut script = Script::new(Chord::converged(&peers, config).swap_remove(0));
    let mut rng = p2p_core::Rng::new(1);
    let mut ask = |script: &mut Script<Chord<SimPeer>>, ticket| {
        let task = Task {
            ticket,
            origin: SimPeer(1),
            key: rng.key(),
            replicas: 1,
            hops: 0,
            timeouts: 0,
            waits: 0,
            claimed: false,
            back: true,
            trail: Trail::new(Vec::new()),
        };
        script.message(SimPeer(1), RoutedMsg::Lookup(LookupMsg::Forward { hop: ticket as u32, task }));
        // Whoever it is passed on to accepts it, and says no more.
        let mut accepted = false;
        for (to, msg) in script.sent() {
            match msg {
                RoutedMsg::Lookup(LookupMsg::Accepted { .. }) => accepted = true,
                RoutedMsg::Lookup(LookupMsg::Forward { hop, .. }) => {
                    script.message(to, RoutedMsg::Lookup(LookupMsg::Accepted { hop }));
                }
                _ => {}
            }
        }
        accepted
    };
    let taken = (0..3000).filter(|&ticket| ask(&mut script, ticket)).count();
    assert!(
        (1024..1200).contains(&taken),
        "{taken} taken: the bound is 1,024, and some keys are the node's own"
    );
    script.advance(LookupConfig::default().timeout);
    assert!(ask(&mut script, 9999), "the list is still full after the answers were due");
}

/// A question in a dead end takes a detour, until it has met more dead ends than it can remember.
#[test]
fn who_cannot_remember_more_dead_ends_is_lost() {
    let peers: Vec<SimPeer> = (0..256).map(SimPeer).collect();
    let config = CanConfig { update: Duration::ZERO, ..CanConfig::default() };
    let mut script = Script::new(Can::converged(&peers, config).swap_remove(0));
    let mut rng = p2p_core::Rng::new(1);
    // A key for which everybody nearer has been silent, and others are left.
    let (key, mut avoid) = std::iter::repeat_with(|| rng.key())
        .find_map(|key| {
            let mut avoid = Vec::new();
            while let Next::Toward(peer) = script.machine().next(&key, &avoid) {
                avoid.push(peer);
            }
            let is_dead_end = script.machine().next(&key, &avoid) == Next::Nowhere;
            (is_dead_end && script.machine().table().detour(&key, &avoid).is_some()).then_some((key, avoid))
        })
        .unwrap();
    let mut goes_on = |avoid: &[SimPeer]| {
        let (origin, avoid) = (SimPeer(999), avoid.to_vec());
        let task = Task {
            ticket: 1,
            origin,
            key,
            replicas: 1,
            hops: 1,
            timeouts: 0,
            waits: 0,
            claimed: false,
            back: false,
            trail: Trail::new(avoid),
        };
        script.message(SimPeer(1), RoutedMsg::Lookup(LookupMsg::Forward { hop: 1, task }));
        let sent = script.sent();
        let lost = sent.iter().any(|(to, msg)| {
            *to == origin && matches!(msg, RoutedMsg::Lookup(LookupMsg::Lost { ticket: 1 }))
        });
        let forwarded =
            sent.iter().any(|(_, msg)| matches!(msg, RoutedMsg::Lookup(LookupMsg::Forward { .. })));
        assert!(lost != forwarded);
        forwarded
    };
    assert!(avoid.len() < AVOIDED && goes_on(&avoid));
    avoid.extend((1000..).map(SimPeer).take(AVOIDED - avoid.len()));
    assert!(!goes_on(&avoid));
}
