use p2p_core::{Script, SimPeer};

use super::*;
use crate::chord::{Chord, ChordConfig};

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
            avoid: Vec::new(),
            trail: Vec::new(),
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
