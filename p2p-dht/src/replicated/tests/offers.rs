//! Repairs go on, whatever others offer, want and do not send.

use p2p_core::Keypair;

use super::*;
use crate::record::Signed;

/// A node among some, whose neighbours stay the same.
pub(super) fn among(nodes: u32) -> Chord<SimPeer> {
    let peers: Vec<SimPeer> = (0..nodes).map(SimPeer).collect();
    let quiet = ChordConfig { stabilize: 3600 * SECOND, ..ChordConfig::default() };
    Chord::converged(&peers, quiet).swap_remove(0)
}

/// What is said to an offer of these.
pub(super) fn offer(bench: &mut Bench, from: u32, copies: &[(Slot<SimPeer>, Version)]) -> Vec<Verdict> {
    bench.next += 1;
    let copies = copies.iter().map(|(slot, version)| Offered { slot: *slot, version: *version, nth: 0 });
    bench.script.message(SimPeer(from), DhtMsg::Offer { id: bench.next, copies: copies.collect() });
    let sent = bench.script.sent().into_iter();
    let mut said = sent.filter_map(|(to, msg)| match msg {
        DhtMsg::Compared { id, verdicts } if to == SimPeer(from) && id == bench.next => Some(verdicts),
        _ => None,
    });
    said.next().expect("an answer")
}

/// A replica sends a copy.
pub(super) fn send(bench: &mut Bench, from: u32, record: Record<SimPeer>) {
    bench.next += 1;
    let store = DhtMsg::Store { id: bench.next, record, expected: None, copy: true };
    bench.script.message(SimPeer(from), store);
    bench.work();
}

/// A peer wants more copies than may be sent at once, does not answer what it is offered next, and is gone: what it was to be
/// sent is not waited for.
#[test]
fn a_peer_that_falls_silent_while_copies_wait_for_it_does_not_end_repairs() {
    let node = among(40);
    let keepers = |record: &Record<SimPeer>, n| match node.replicas(&record.slot().key, n) {
        Replicas::Peers(peers) => peers,
        Replicas::Keys(_) => panic!("Chord has no salted keys"),
    };
    let me = SimPeer(0);
    let value = |i: u32| Record::<SimPeer>::Immutable { value: format!("value {i}").into(), expires: 5000 };
    // Of those that it takes, though others should have them: two batches for the same three.
    let surplus =
        |record: &Record<SimPeer>| keepers(record, 6).contains(&me) && !keepers(record, 3).contains(&me);
    let mut records: Vec<_> = (0..6000).map(value).filter(surplus).collect();
    let first = keepers(&records[0], 3);
    records.retain(|record| keepers(record, 3) == first);
    records.truncate(2 * OFFERED);
    assert_eq!(records.len(), 2 * OFFERED);
    let config = DhtConfig { replicas: 3, repair: 100 * SECOND, repair_rate: 1, ..DhtConfig::default() };
    let mut bench = Bench::over(node, config);
    bench.work();
    records.into_iter().for_each(|record| send(&mut bench, 1, record));
    bench.script.sent();

    let silent = first[0];
    let (mut offered, mut sent) = (Vec::new(), 0);
    for second in 0..1000 {
        bench.script.advance(SECOND);
        bench.work();
        for (to, msg) in bench.script.sent() {
            match msg {
                DhtMsg::Offer { id, copies } => {
                    let verdict = if to == silent { Verdict::Wants } else { Verdict::Has };
                    if to != silent || offered.is_empty() {
                        let verdicts = vec![verdict; copies.len()];
                        bench.script.message(to, DhtMsg::Compared { id, verdicts });
                    }
                    if to == silent {
                        offered.push(second);
                    }
                }
                DhtMsg::Sum { id, .. } => bench.script.message(to, DhtMsg::Summed { id, parts: vec![] }),
                DhtMsg::Store { .. } => sent += 1,
                _ => {}
            }
        }
    }
    assert_eq!(sent, 1, "of those that it wanted");
    assert!(offered.last().is_some_and(|last| *last > 500), "it is offered copies at {offered:?}");
}

/// What a keeper says that it expects of others may never come: it is offered again, but not for ever.
#[test]
fn a_peer_that_always_expects_what_it_is_offered_is_offered_it_a_few_times() {
    let node = among(40);
    let keepers = |record: &Record<SimPeer>, n| match node.replicas(&record.slot().key, n) {
        Replicas::Peers(peers) => peers,
        Replicas::Keys(_) => panic!("Chord has no salted keys"),
    };
    let me = SimPeer(0);
    let value = |i: u32| Record::<SimPeer>::Immutable { value: format!("value {i}").into(), expires: 50_000 };
    // One that it takes, though others should have it: it has nothing in common with anybody.
    let surplus = { (0..6000).map(value) }
        .find(|record| keepers(record, 6).contains(&me) && !keepers(record, 3).contains(&me))
        .expect("one of 6000");
    let liar = keepers(&surplus, 3)[0];
    let config = DhtConfig { replicas: 3, repair: 1000 * SECOND, ..DhtConfig::default() };
    let mut bench = Bench::over(node, config);
    bench.work();
    send(&mut bench, 1, surplus);
    let mut offered = 0;
    for _ in 0..2000 {
        bench.script.advance(SECOND);
        bench.work();
        for (to, msg) in bench.script.sent() {
            if let DhtMsg::Offer { id, copies } = msg {
                offered += u32::from(to == liar);
                let verdict = if to == liar { Verdict::Expects } else { Verdict::Has };
                bench.script.message(to, DhtMsg::Compared { id, verdicts: vec![verdict; copies.len()] });
            }
        }
    }
    // Four passes over all at most, and three more looks after each.
    assert!((4..=16).contains(&offered), "{offered} times in two thousand seconds");
}

/// Whoever makes up peers and keys does not keep others from sending what they have.
#[test]
fn offers_that_nobody_keeps_are_no_reason_to_refuse_others() {
    let mut bench = Bench::over(among(4), DhtConfig::default());
    bench.work();
    let version = Version { expires: 1000, ..Version::default() };
    let invented = |i: u32| (Slot { key: Key::of(&i.to_be_bytes()), kind: RecordKind::Immutable }, version);
    for batch in 0..40u32 {
        let copies: Vec<_> = (32 * batch..32 * (batch + 1)).map(invented).collect();
        assert_eq!(offer(&mut bench, 100 + batch / 4, &copies), [Verdict::Wants; 32]);
    }
    let genuine = Record::Immutable { value: "genuine".into(), expires: 1000 };
    assert_eq!(offer(&mut bench, 1, &[(genuine.slot(), genuine.version())]), [Verdict::Wants]);
    send(&mut bench, 1, genuine.clone());
    assert_eq!(offer(&mut bench, 2, &[(genuine.slot(), genuine.version())]), [Verdict::Has]);
}

/// What a peer offers, and does not send in time, others are not told to wait for again: whoever offers it, and whatever is
/// sent instead.
#[test]
fn a_copy_that_does_not_come_is_waited_for_once() {
    let mut bench = Bench::over(among(4), DhtConfig::default());
    bench.work();
    let keypair = Keypair::from_seed(&[1; 32]);
    let signed = |sequence| {
        let value = format!("value {sequence}");
        Record::Mutable(Signed::new(&keypair, "", sequence, 10_000, value).expect("it fits"))
    };
    let slot = signed(1).slot();
    let genuine = [(slot, signed(2).version())];
    let invented = [(slot, Version { sequence: 9, ..signed(2).version() })];
    assert_eq!(offer(&mut bench, 100, &invented), [Verdict::Wants]);
    assert_eq!(offer(&mut bench, 1, &genuine), [Verdict::Expects], "somebody sends it");
    for liar in [100, 100, 101] {
        bench.script.advance(5 * SECOND);
        // Neither what is there already is what was offered, nor what nobody has signed.
        send(&mut bench, liar, signed(1));
        let Record::Mutable(of_another) = signed(3) else { unreachable!() };
        let mut bytes = p2p_core::Wire::to_bytes(&Record::<SimPeer>::Mutable(of_another));
        *bytes.last_mut().expect("a signature") ^= 1;
        send(&mut bench, liar, p2p_core::Wire::from_bytes(&bytes).expect("a record"));
        assert_eq!(offer(&mut bench, liar, &invented), [Verdict::Wants]);
        assert_eq!(offer(&mut bench, 1, &genuine), [Verdict::Wants]);
    }
    // What comes is what others need not send.
    send(&mut bench, 1, signed(9));
    let next = [(slot, signed(10).version())];
    assert_eq!(offer(&mut bench, 1, &next), [Verdict::Wants]);
    assert_eq!(offer(&mut bench, 2, &next), [Verdict::Expects]);
    send(&mut bench, 1, signed(10));
    assert_eq!(offer(&mut bench, 2, &next), [Verdict::Has]);
}
