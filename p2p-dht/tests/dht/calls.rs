//! Puts and gets with a quorum, a deadline and a report of their own.

use crate::world::{Quick, SECOND, World, config, copies, world};
use p2p_core::sim::Network;
use p2p_core::{Key, Keypair, SimPeer};
use p2p_dht::{
    Answer, Get, GetError, GetProviders, GetSigned, Options, Provide, Publish, Put, PutError, Refusal, Said,
    Signed, With,
};

fn quorum<R>(request: R, quorum: u8) -> With<R> {
    With { request, options: Options { quorum: Some(quorum), ..Options::default() } }
}

fn deadline<R>(request: R, millis: u32) -> With<R> {
    With { request, options: Options { deadline: Some(SECOND * millis / 1000), ..Options::default() } }
}

fn said(peers: &[(SimPeer, Said)], what: Said) -> usize {
    peers.iter().filter(|(_, said)| *said == what).count()
}

fn holders<O: Quick>(sim: &World<O>, key: &Key) -> usize {
    sim.view().iter().filter(|(_, node)| node.held().any(|(slot, _)| slot.key == *key)).count()
}

fn a_put_ends_with_its_quorum_and_goes_on<O: Quick>() {
    let mut sim = world::<O>(1, 12, Network::default(), config());
    let node = sim.handle(SimPeer(2));
    let Answer { result, report } =
        sim.block_on(async move { node.ask(quorum(Put("a".into()), 1)).await.unwrap() });
    let stored = result.unwrap();
    assert_eq!(stored.copies, 1);
    assert_eq!(said(&report.peers, Said::Has), 1, "{report:?}");
    assert_eq!(report.peers.len() - 1, said(&report.peers, Said::Nothing), "{report:?}");
    sim.run_for(10 * SECOND);
    assert!(holders(&sim, &stored.key) >= copies(&sim, &stored.key), "the others get it, too");
}

fn a_report_says_who_has_what<O: Quick>() {
    let mut sim = world::<O>(1, 12, Network::default(), config());
    let (writer, reader) = (sim.handle(SimPeer(2)), sim.handle(SimPeer(9)));
    let value = Put("a".into());
    let options = Options::default();
    let (put, got, lost) = sim.block_on(async move {
        let put = writer.ask(With { request: value, options }).await.unwrap();
        let key = put.result.as_ref().unwrap().key;
        let got = reader.ask(With { request: Get(key), options }).await.unwrap();
        let lost = reader.ask(With { request: Get(Key::of(b"lost")), options }).await.unwrap();
        (put, got, lost)
    });
    let stored = put.result.unwrap();
    assert_eq!(said(&put.report.peers, Said::Has), stored.copies);
    assert!(put.report.lookups >= 1 && put.report.took < SECOND, "{:?}", put.report);
    assert_eq!(got.result.unwrap(), "a");
    assert!(said(&got.report.peers, Said::Has) == 1 && got.report.took < SECOND, "{:?}", got.report);
    assert!(matches!(lost.result, Err(GetError::NotFound { .. })));
    assert_eq!(said(&lost.report.peers, Said::Lacks), lost.report.peers.len());
}

/// Half of the nodes are dead, and nobody has noticed yet: a call does not wait for them longer than its user does, and says
/// who has not answered.
fn a_deadline_is_kept<O: Quick>() {
    let mut sim = world::<O>(5, 6, Network::default(), config());
    let keypair = Keypair::from_seed(&[1; 32]);
    let until = sim.wall().as_secs() + 3600;
    let sign = |sequence| Signed::new(&keypair, "", sequence, until, "one").unwrap();
    let key = sign(1).key();
    let (writer, reader) = (sim.handle(SimPeer(0)), sim.handle(SimPeer(1)));
    let first = Publish { signed: sign(1), expected: None };
    let stored = {
        let writer = writer.clone();
        sim.block_on(async move { writer.ask(first).await.unwrap() })
    };
    assert!(stored.is_ok(), "{stored:?}");
    for peer in [3, 4, 5] {
        sim.crash(SimPeer(peer));
    }
    let next = Publish { signed: sign(2), expected: Some(1) };
    let began = sim.now();
    let (write, read) = sim.block_on(async move {
        (
            writer.ask(deadline(next, 700)).await.unwrap(),
            reader.ask(deadline(GetSigned(key), 700)).await.unwrap(),
        )
    });
    assert!(sim.now() - began < SECOND * 3 / 2, "two calls of 0.7 s took {:?}", sim.now() - began);
    assert!(write.report.took <= SECOND * 7 / 10 && read.report.took <= SECOND * 7 / 10);
    match write.result {
        Err(PutError::Quorum { copies, needed, refusals }) => {
            assert!(copies < needed, "{:?}", write.report);
            let waited = said(&write.report.peers, Said::Nothing);
            assert!(refusals.iter().filter(|refusal| **refusal == Refusal::Silent).count() >= waited);
        }
        // Where lookups go through the dead, they take as long.
        Err(PutError::Lookup(_)) => assert!(write.report.peers.is_empty(), "{:?}", write.report),
        Err(other) => panic!("{other}"),
        Ok(stored) => assert!(stored.copies >= 3, "{stored:?}"),
    }
    match read.result {
        Ok(signed) => assert_eq!(signed.value(), "one"),
        Err(GetError::Partial { answered, needed, silent, .. }) => {
            assert!(answered < needed, "{silent} silent");
        }
        Err(GetError::Lookup(_)) => assert!(read.report.peers.is_empty(), "{:?}", read.report),
        Err(other) => panic!("{other}"),
    }
}

fn a_few_providers_are_enough_for_who_asks_for_few_answers<O: Quick>() {
    let mut sim = world::<O>(1, 12, Network::default(), config());
    let (provider, reader) = (sim.handle(SimPeer(2)), sim.handle(SimPeer(9)));
    let key = Key::of(b"a film");
    let answer = sim.block_on(async move {
        provider.ask(Provide(key)).await.unwrap().unwrap();
        reader.ask(quorum(GetProviders(key), 1)).await.unwrap()
    });
    assert_eq!(answer.result, Ok(vec![SimPeer(2)]));
    assert_eq!(said(&answer.report.peers, Said::Has), 1, "{:?}", answer.report);
}

over_each_overlay!(
    a_put_ends_with_its_quorum_and_goes_on,
    a_report_says_who_has_what,
    a_deadline_is_kept,
    a_few_providers_are_enough_for_who_asks_for_few_answers,
);
