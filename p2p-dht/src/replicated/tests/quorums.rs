//! That lookups fail makes no quorum smaller.

use p2p_core::Keypair;
use p2p_overlay::{Next, measure::mislead};

use super::*;
use crate::record::Signed;
use crate::request::GetError;

/// A node that is the root of one of a key's salted keys, and what it hears of its other keys' lookups.
struct Among {
    bench: Bench<Tapestry<SimPeer>>,
    /// From when on others answer lookups; before, the question gets nowhere.
    from: Duration,
}

impl Among {
    fn new(from: Duration) -> Among {
        let mut bench = Bench::over(Among::node(), DhtConfig::default());
        bench.work();
        Among { bench, from }
    }

    fn node() -> Tapestry<SimPeer> {
        let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
        let config = TapestryConfig { upkeep: Duration::ZERO, ..TapestryConfig::default() };
        Tapestry::converged(&peers, config).swap_remove(0)
    }

    /// A value of whose copies this node should have one, and no more.
    fn value() -> Signed {
        let node = Among::node();
        let signed =
            |i: u8| Signed::new(&Keypair::from_seed(&[i; 32]), "", 1, 10_000, "value").expect("it fits");
        let is_root = |signed: &Signed| match node.replicas(&signed.key(), 16) {
            Replicas::Keys(keys) => keys.iter().filter(|key| node.next(key, &[]) == Next::Mine).count() == 1,
            Replicas::Peers(_) => panic!("Tapestry has salted keys"),
        };
        (0..100).map(signed).find(is_root).expect("one in 100")
    }

    /// What comes of a command. Whoever is found keeps what it is to keep, and has nothing.
    fn ask(&mut self, command: DhtCommand<SimPeer>) -> DhtOutcome<SimPeer> {
        self.bench.script.command(command);
        for tick in 0..6000 {
            self.bench.work();
            if let Some((_, outcome)) = self.bench.script.outcomes().pop() {
                return outcome;
            }
            for (to, msg) in self.bench.script.sent() {
                let up = tick * SECOND / 10 >= self.from;
                answer(to, msg, up).into_iter().for_each(|msg| self.bench.script.message(to, msg));
            }
            self.bench.script.advance(SECOND / 10);
        }
        panic!("no outcome in ten minutes");
    }
}

/// What a peer says.
fn answer(peer: SimPeer, msg: Msg<Tapestry<SimPeer>>, up: bool) -> Vec<Msg<Tapestry<SimPeer>>> {
    match msg {
        DhtMsg::Overlay(RoutedMsg::Lookup(forward @ LookupMsg::Forward { hop, .. })) => {
            let (_, found) = mislead((peer, SimPeer(0)), forward, &[], false);
            let told = match found {
                LookupMsg::Found { ticket, .. } if !up => LookupMsg::Lost { ticket },
                found => found,
            };
            [LookupMsg::Accepted { hop }, told].map(|msg| DhtMsg::Overlay(RoutedMsg::Lookup(msg))).into()
        }
        DhtMsg::Store { id, .. } => vec![DhtMsg::Stored { id, result: Ok(()) }],
        DhtMsg::Load { id, .. } => vec![DhtMsg::Loaded { id, records: Vec::new() }],
        _ => Vec::new(),
    }
}

fn publish() -> DhtCommand<SimPeer> {
    DhtCommand::Publish { signed: Among::value(), expected: None }
}

fn read() -> DhtCommand<SimPeer> {
    DhtCommand::Get { key: Among::value().key(), wanted: Wanted::Mutable }
}

#[test]
fn one_copy_is_no_quorum_where_the_lookups_of_others_fail() {
    let mut among = Among::new(Duration::MAX);
    match among.ask(publish()) {
        DhtOutcome::Stored(Err(PutError::Quorum { copies: 1, needed: 5, .. })) => {}
        other => panic!("{other:?}"),
    }
    match among.ask(read()) {
        DhtOutcome::Signed(Err(GetError::Partial { answered: 1, needed: 4, newest: Some(_), .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn lookups_that_fail_for_a_while_are_tried_again() {
    let mut among = Among::new(3 * SECOND);
    match among.ask(publish()) {
        DhtOutcome::Stored(Ok(stored)) => assert!(stored.copies >= 5, "{stored:?}"),
        other => panic!("{other:?}"),
    }
    let got = among.ask(read());
    assert!(matches!(got, DhtOutcome::Signed(Ok(_))), "{got:?}");
}
