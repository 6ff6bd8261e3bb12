//! The index and the worker agree, in whatever order things happen.

use std::time::Duration;

use p2p_core::{Job, JobError, JobId, Script, SimPeer, Worker};
use p2p_overlay::{Chord, ChordConfig, LookupMsg, Replicas, RoutedMsg, Tapestry, TapestryConfig};

use super::*;
use crate::client::Client;
use crate::record::RecordKind;
use crate::request::{DhtOutcome, Options, PutError, WithdrawError, Withdrawn};
use crate::store::MemoryStore;

mod custom;
mod fetch;
mod offers;
mod quorums;

const SECOND: Duration = Duration::from_secs(1);
const PEER: SimPeer = SimPeer(1);

/// A node of its own, and its worker, whose answers the test hands over.
struct Bench<O: Overlay<Peer = SimPeer, Job = NoJob> = Chord<SimPeer>> {
    script: Script<Replicated<O>>,
    store: MemoryStore<SimPeer>,
    next: u32,
}

type Done = (JobId, StoreDone<SimPeer>);

impl Bench {
    /// A node that does not know yet what its worker has.
    fn new() -> Bench {
        Bench::over(Chord::create(SimPeer(0)), DhtConfig::default())
    }

    fn started() -> Bench {
        let mut bench = Bench::new();
        bench.work();
        bench
    }
}

impl<O: Overlay<Peer = SimPeer, Job = NoJob>> Bench<O> {
    fn over(overlay: O, config: DhtConfig) -> Bench<O> {
        let node = Replicated::new(overlay, config);
        Bench { script: Script::new(node), store: MemoryStore::default(), next: 0 }
    }

    /// The worker does what waits for it; its answers are held back.
    fn run(&mut self) -> Vec<Done> {
        let (ids, jobs): (Vec<_>, Vec<_>) = self.script.jobs().into_iter().unzip();
        ids.into_iter().zip(self.store.run(jobs)).collect()
    }

    fn answer(&mut self, done: Vec<Done>) {
        done.into_iter().for_each(|(id, done)| self.script.done(id, done));
    }

    fn work(&mut self) {
        let done = self.run();
        self.answer(done);
    }

    /// Lets time pass; the worker does what waits for it every minute.
    fn wait(&mut self, hours: u32) {
        for _ in 0..60 * hours {
            self.script.advance(60 * SECOND);
            self.work();
        }
    }

    /// What a publisher hears who stores a record.
    fn answer_to(&mut self, publisher: SimPeer, record: Record<SimPeer>) -> Result<(), Refusal> {
        self.next += 1;
        self.script.message(publisher, DhtMsg::Store { id: self.next, record, expected: None, copy: false });
        self.work();
        let said = self.script.sent().into_iter().find_map(|(to, msg)| match msg {
            DhtMsg::Stored { id, result } if to == publisher && id == self.next => Some(result),
            _ => None,
        });
        said.expect("an answer")
    }

    /// A publisher stores a value of 100 bytes; whether it is kept.
    fn stores(&mut self, publisher: SimPeer) -> bool {
        let value = format!("{:0>100}", self.next + 1).into();
        match self.answer_to(publisher, Record::Immutable { value, expires: 1000 }) {
            Ok(()) => true,
            Err(Refusal::Full) => false,
            Err(other) => panic!("{other}"),
        }
    }

    /// How many values of a publisher are kept, one after the other.
    fn room_for(&mut self, publisher: SimPeer) -> usize {
        (0..).take_while(|_| self.stores(publisher)).count()
    }

    /// A publisher stores a value that ends at a time.
    fn store(&mut self, expires: u64) {
        self.next += 1;
        let record = Record::Immutable { value: "value".into(), expires };
        let store = DhtMsg::Store { id: self.next, record, expected: None, copy: false };
        self.script.message(PEER, store);
    }

    /// This node publishes a value.
    fn put(&mut self, value: &'static str) {
        self.script.command(DhtCommand::Put { value: value.into() });
        while self.script.outcomes().is_empty() {
            self.work();
            self.script.advance(SECOND);
        }
        self.work();
    }

    /// This node puts a value, for a client if one is named; whether that is stored.
    fn put_for(&mut self, client: Option<Client>, value: String) -> bool {
        let command = Box::new(DhtCommand::Put { value: value.into() });
        let options = Options { client, ..Options::default() };
        self.script.command(DhtCommand::With { command, options });
        loop {
            self.work();
            let outcome = self.script.outcomes().pop().map(|(_, outcome)| outcome);
            if let Some(DhtOutcome::Reported(outcome, _)) = outcome {
                self.work();
                return matches!(*outcome, DhtOutcome::Stored(Ok(_)));
            }
            self.script.advance(SECOND);
        }
    }

    /// What the worker has.
    fn there(&mut self) -> Vec<StoreEntry<SimPeer>> {
        match self.store.run(vec![StoreJob::Scan { after: None, most: usize::MAX }]).remove(0) {
            StoreDone::Scanned(Ok(there)) => there,
            other => panic!("{other:?}"),
        }
    }

    /// What the worker has; it must be what the index says.
    fn kept(&mut self) -> Vec<Version> {
        let there = self.there();
        let there: Vec<_> = there.iter().map(|entry| (entry.slot, entry.version)).collect();
        let held: Vec<_> = self.script.machine().held().map(|(slot, version)| (*slot, version)).collect();
        assert_eq!(held, there, "the index, and the worker");
        there.into_iter().map(|(_, version)| version).collect()
    }
}

#[test]
fn an_answer_that_crosses_a_removal_brings_nothing_back() {
    let mut bench = Bench::started();
    bench.store(100);
    bench.work();
    assert_eq!(bench.kept().len(), 1);
    bench.script.advance(90 * SECOND);
    bench.store(95);
    // It ends while the answer, that a copy which lasts longer is there already, is on its way.
    let late = bench.run();
    bench.script.advance(60 * SECOND);
    bench.answer(late);
    bench.work();
    bench.kept();
    bench.script.advance(60 * SECOND);
    bench.work();
    assert!(bench.kept().is_empty(), "it has ended");
}

#[test]
fn what_a_removal_leaves_is_kept() {
    let mut bench = Bench::started();
    bench.store(100);
    bench.work();
    // A write that failed, as far as anybody knows, and was done after all.
    bench.store(10_000);
    let (id, job) = bench.script.jobs().remove(0);
    let failed = job.failed(JobError::Panicked);
    bench.store.run(vec![job]);
    bench.script.done(id, failed);
    bench.script.advance(150 * SECOND);
    bench.work();
    assert_eq!(bench.kept()[0].expires, 10_000);
}

#[test]
fn a_removal_that_fails_is_tried_again() {
    let mut bench = Bench::started();
    bench.store(100);
    bench.work();
    bench.script.advance(150 * SECOND);
    for (id, job) in bench.script.jobs() {
        bench.script.done(id, job.failed(JobError::Storage));
    }
    assert_eq!(bench.kept().len(), 1, "it is still there");
    bench.script.advance(60 * SECOND);
    bench.work();
    assert!(bench.kept().is_empty());
}

#[test]
fn one_scan_is_under_way_at_a_time() {
    let mut bench = Bench::new();
    bench.script.advance(300 * SECOND);
    let jobs = bench.script.jobs();
    assert!(matches!(&jobs[..], [(_, StoreJob::Scan { .. })]), "{jobs:?}");
    let (id, job) = &jobs[0];
    bench.script.done(*id, job.failed(JobError::Storage));
    bench.script.advance(60 * SECOND);
    assert!(
        matches!(&bench.script.jobs()[..], [(_, StoreJob::Scan { .. })]),
        "one that failed is followed by another"
    );
}

#[test]
fn a_scan_that_is_late_brings_nothing_back() {
    let mut bench = Bench::new();
    let scan = bench.script.jobs();
    bench.store(100);
    bench.work();
    let late: Vec<Done> =
        scan.into_iter().map(|(id, job)| (id, bench.store.run(vec![job]).remove(0))).collect();
    bench.script.advance(150 * SECOND);
    bench.work();
    bench.answer(late);
    bench.kept();
    bench.script.advance(60 * SECOND);
    bench.work();
    assert!(bench.kept().is_empty(), "it has ended");
}

#[test]
fn a_withdrawal_that_fails_is_said_and_changes_nothing() {
    let mut bench = Bench::started();
    bench.put("value");
    let slot = *bench.script.machine().held().next().expect("its own copy").0;
    let withdraw = || DhtCommand::Withdraw { slot: Withdrawn::Record(slot) };

    bench.script.command(withdraw());
    for (id, job) in bench.script.jobs() {
        bench.script.done(id, job.failed(JobError::Storage));
    }
    let outcomes = bench.script.outcomes();
    let said = matches!(outcomes[..], [(_, DhtOutcome::Withdrawn(Err(WithdrawError::Storage(_))))]);
    assert!(said, "{outcomes:?}");
    bench.wait(30);
    assert_eq!(bench.kept().len(), 1, "it lasts a day, and has been published again");

    bench.script.command(withdraw());
    assert!(bench.script.outcomes().is_empty(), "not before it is written down");
    bench.work();
    assert!(matches!(bench.script.outcomes()[..], [(_, DhtOutcome::Withdrawn(Ok(())))]));
    bench.wait(30);
    assert!(bench.kept().is_empty(), "it has ended");
}

/// That a value is published until it is withdrawn nobody is told before it would be so after a restart.
#[test]
fn a_value_that_cannot_be_published_again_is_not_acknowledged() {
    for fails in [false, true] {
        let mut bench = Bench::started();
        bench.script.command(DhtCommand::Put { value: "value".into() });
        // The copy that it keeps as a replica, which is itself alone; then the one that it publishes.
        bench.work();
        let (id, job) = bench.script.jobs().pop().expect("its own copy");
        assert!(matches!(job, StoreJob::Write { own: true, .. }), "{job:?}");
        assert!(bench.script.outcomes().is_empty(), "not before it is written down");
        let done = match fails {
            true => job.failed(JobError::Storage),
            false => bench.store.run(vec![job]).remove(0),
        };
        bench.script.done(id, done);
        match &bench.script.outcomes()[..] {
            [(_, DhtOutcome::Stored(Ok(_)))] if !fails => {}
            [(_, DhtOutcome::Stored(Err(PutError::Storage(JobError::Storage))))] if fails => {}
            other => panic!("{other:?}"),
        }
        bench.wait(30);
        assert_eq!(bench.kept().is_empty(), fails, "it lasts a day, or has been published again");
    }
}

/// What this node publishes it goes on publishing, as long as it has a copy of it.
#[test]
fn a_renewal_that_cannot_be_written_down_is_tried_again() {
    let mut bench = Bench::started();
    bench.put("value");
    let mut failed = 0;
    for _ in 0..3 * 60 {
        bench.script.advance(60 * SECOND);
        while let jobs @ [_, ..] = &mut bench.script.jobs()[..] {
            for (id, job) in jobs {
                let own = matches!(job, StoreJob::Write { own: true, .. });
                failed += u32::from(own);
                let done = match own {
                    true => job.failed(JobError::Storage),
                    false => bench.store.run(vec![job.clone()]).remove(0),
                };
                bench.script.done(*id, done);
            }
        }
    }
    assert!(failed > 0, "it has not been published again in three hours");
    bench.wait(30);
    assert_eq!(bench.kept().len(), 1, "it lasts a day, and has been published again");
}

/// A removal outlasts all that may have been put, though its clock is behind that of those who keep it, and theirs behind the
/// putter's; and they take it if it is ahead.
#[test]
fn a_removal_outlasts_whatever_it_removes() {
    let lifetime = 24 * 3600;
    let config = DhtConfig { max_lifetime: Duration::from_secs(lifetime), ..DhtConfig::default() };
    let mut bench = Bench::over(Chord::create(SimPeer(0)), config);
    bench.work();
    let (key, secret) = (Key::of(b"guests"), [7; 32]);
    let put = |value: &'static str, expires| Record::Removable {
        key,
        value: value.into(),
        owner: Key::of(&secret),
        expires,
    };
    let latest = lifetime + SKEW;
    assert_eq!(bench.answer_to(PEER, put("ada", latest + 1)), Err(Refusal::Lifetime));
    assert_eq!(bench.answer_to(PEER, put("ada", latest)), Ok(()));
    // From a clock that is as much behind as clocks may be.
    let value = Key::of(b"ada");
    bench.script.command(DhtCommand::Remove { key, secret, value });
    let removed = loop {
        bench.work();
        if let Some((_, outcome)) = bench.script.outcomes().pop() {
            break outcome;
        }
        bench.script.advance(SECOND);
    };
    assert!(matches!(removed, DhtOutcome::Stored(Ok(_))), "{removed:?}");
    let [Version { sequence: 1, expires, .. }] = bench.kept()[..] else { panic!("{:?}", bench.kept()) };
    assert!(expires >= latest + SKEW, "it ends at {expires}, and what was put at {latest} by a clock ahead");
    // Nobody can have it end sooner, and nobody puts what is removed.
    let removal = |expires| Record::Removed { key, secret, value, expires };
    assert_eq!(bench.answer_to(PEER, removal(1000)), Ok(()));
    assert_eq!(bench.kept()[0].expires, expires);
    assert_eq!(bench.answer_to(PEER, put("ada", 2000)), Err(Refusal::Conflict(1)));
    assert_eq!(bench.answer_to(PEER, removal(lifetime + 3 * SKEW)), Ok(()), "its clock is ahead");
    assert_eq!(bench.answer_to(PEER, removal(lifetime + 4 * SKEW)), Err(Refusal::Lifetime));
}

/// Where copies lie at salted keys, a pass over many records looks their roots up bit by bit.
#[test]
fn keys_are_looked_up_a_few_at_a_time() {
    let peers: Vec<SimPeer> = (0..64).map(SimPeer).collect();
    let config = TapestryConfig { upkeep: Duration::ZERO, ..TapestryConfig::default() };
    let node = Tapestry::converged(&peers, config).swap_remove(0);
    let mut bench = Bench::over(node, DhtConfig { repair: 10 * SECOND, ..DhtConfig::default() });
    bench.work();
    for i in 0..400 {
        let record = Record::Immutable { value: format!("value {i}").into(), expires: 10_000 };
        bench.script.message(PEER, DhtMsg::Store { id: i, record, expected: None, copy: true });
    }
    bench.work();
    let kept = bench.script.machine().held().len();
    assert!((50..150).contains(&kept), "of 400 values it is to keep 16 in 64, not {kept}");
    bench.script.sent();
    let mut asked = 0;
    for _ in 0..600 {
        bench.script.advance(SECOND / 20);
        let lookup = |(_, msg): &(SimPeer, Msg<Tapestry<SimPeer>>)| {
            matches!(msg, DhtMsg::Overlay(RoutedMsg::Lookup(LookupMsg::Forward { .. })))
        };
        let at_once = bench.script.sent().iter().filter(|sent| lookup(sent)).count();
        // Sixteen new ones, and those under way are tried again.
        assert!(at_once <= 64, "{at_once} at once, for {kept} records");
        asked += at_once;
    }
    assert!(asked > 100, "only {asked} are asked in half a minute, for {kept} records");
}

/// Of n publishers each gets 4/(4n + 1) of what there is, if they come at once; who comes later finds less, and always
/// something. After a restart it is the same.
#[test]
fn a_publisher_takes_its_share_of_records_and_there_is_room_for_another() {
    let config = DhtConfig { max_records: 900, ..DhtConfig::default() };
    let mut bench = Bench::over(Chord::create(SimPeer(0)), config);
    bench.work();
    assert_eq!(bench.room_for(SimPeer(1)), 720);
    assert_eq!(bench.room_for(SimPeer(2)), 144);
    let store = bench.store.clone();
    let mut bench = Bench { store, next: 10_000, ..Bench::over(Chord::create(SimPeer(0)), config) };
    bench.work();
    assert_eq!((bench.room_for(SimPeer(1)), bench.room_for(SimPeer(2))), (0, 0), "they have had theirs");
    assert_eq!(bench.room_for(SimPeer(3)), 29);
    assert_eq!(bench.room_for(SimPeer(4)), 6);
    // What ends makes room again.
    bench.wait(1);
    assert!(bench.kept().is_empty());
    let next = Record::Immutable { value: "later".into(), expires: 10_000 };
    bench.script.message(SimPeer(1), DhtMsg::Store { id: 1, record: next, expected: None, copy: false });
    bench.work();
    assert_eq!(bench.kept().len(), 1);
}

#[test]
fn a_publisher_takes_its_share_of_bytes() {
    let config =
        DhtConfig { max_bytes: 90_000, allocation: Allocation::Threshold(1), ..DhtConfig::default() };
    let mut bench = Bench::over(Chord::create(SimPeer(0)), config);
    bench.work();
    assert_eq!(bench.room_for(SimPeer(1)), 450, "half of what there is");
    assert_eq!(bench.room_for(SimPeer(2)), 225);
}

/// Publishers who have had their share renew and remove what is here; and whose room it takes stays the same, so that nobody
/// takes more with another's help.
#[test]
fn what_takes_no_more_room_than_before_is_never_refused_for_want_of_it() {
    let config =
        DhtConfig { max_bytes: 90_000, allocation: Allocation::Threshold(1), ..DhtConfig::default() };
    let mut bench = Bench::over(Chord::create(SimPeer(0)), config);
    bench.work();
    let (key, secret) = (Key::of(b"guests"), [7; 32]);
    let put = |value: &'static str, expires| Record::Removable {
        key,
        value: value.into(),
        owner: Key::of(&secret),
        expires,
    };
    assert_eq!(bench.answer_to(SimPeer(1), put("a value", 1000)), Ok(()));
    for peer in 1..5 {
        assert!(bench.room_for(SimPeer(peer)) > 0);
    }
    let value = |expires| Record::Immutable { value: format!("{:0>100}", 2).into(), expires };
    let slot = value(0).slot();
    let account =
        |bench: &mut Bench| bench.there().iter().find(|entry| entry.slot == slot).map(|e| e.account);
    let before = account(&mut bench);
    assert!(before.is_some_and(|account| account != 0));
    assert_eq!(bench.answer_to(SimPeer(1), value(2000)), Ok(()));
    assert_eq!(bench.answer_to(SimPeer(2), value(3000)), Ok(()), "of another's value");
    assert!(bench.kept().iter().any(|version| version.expires == 3000));
    assert_eq!(account(&mut bench), before);
    // What takes more room needs a share.
    assert_eq!(bench.answer_to(SimPeer(1), put("another value", 2000)), Err(Refusal::Full));
    assert_eq!(bench.answer_to(SimPeer(1), put("a value", 2000)), Ok(()));
    let removed = Record::Removed { key, secret, value: Key::of(b"a value"), expires: 3000 };
    assert_eq!(bench.answer_to(SimPeer(2), removed), Ok(()));
    assert_eq!((bench.room_for(SimPeer(1)), bench.room_for(SimPeer(2))), (0, 0));
}

/// As the doc of [`ProvideAll`](crate::ProvideAll) says; the others are told one by one.
#[test]
fn a_node_provides_as_much_as_it_has_room_for_and_says_what_it_does_not() {
    let mut bench =
        Bench::over(Chord::create(SimPeer(0)), DhtConfig { max_records: 5, ..DhtConfig::default() });
    bench.work();
    let keys = (0..8u8).map(|i| Key::of(&[i])).collect();
    bench.script.command(DhtCommand::ProvideAll { keys });
    let swept = loop {
        bench.work();
        if let Some((_, outcome)) = bench.script.outcomes().pop() {
            break outcome;
        }
        bench.script.advance(SECOND);
    };
    let DhtOutcome::Swept(Ok(swept)) = swept else { panic!("{swept:?}") };
    assert_eq!((swept.stored, swept.failed), (5, 3));
    assert!(swept.failures.iter().all(|(_, why)| *why == PutError::Full), "{:?}", swept.failures);
    assert_eq!(bench.there().iter().filter(|entry| entry.own).count(), 5);
}

/// The worker is slow, and one peer stores and reads without end: it is told that the node is busy, and others are served. Of
/// what is left then each has an eighth of all.
#[test]
fn one_peer_has_half_of_the_jobs_at_most() {
    let config = DhtConfig { capacity: 64, cache_bytes: 1 << 20, ..DhtConfig::default() };
    let mut bench = Bench::over(offers::among(4), config);
    bench.work();
    let value = |i: u32| Record::Immutable { value: format!("value {i}").into(), expires: 1000 };
    assert_eq!(bench.answer_to(SimPeer(1), value(0)), Ok(()));
    let key = value(0).slot().key;
    let store = |i| DhtMsg::Store { id: i, record: value(i), expected: None, copy: false };
    let load = |i| DhtMsg::Load { id: i, key, wanted: Wanted::Immutable };
    let fetch = |i| DhtMsg::Fetch { id: i, key, hops: 4 };
    for i in 1..100 {
        [store(i), load(i), fetch(i)].into_iter().for_each(|msg| bench.script.message(SimPeer(1), msg));
    }
    let busy = |(_, msg): &(SimPeer, _)| matches!(msg, DhtMsg::Stored { result: Err(Refusal::Busy), .. });
    assert!(bench.script.sent().iter().any(busy));
    assert_eq!(bench.script.jobs().len(), 32);
    for i in 200..300 {
        [store(i), load(i), fetch(i)].into_iter().for_each(|msg| bench.script.message(SimPeer(2), msg));
    }
    assert_eq!(bench.script.jobs().len(), 8, "somebody else's");
}

/// Whoever puts values under a key, or says of many peers that they provide what it names, leaves places for others: four times
/// what is free, of 64 that is 52, of the 12 left ten, then two.
#[test]
fn nobody_closes_a_key_to_others() {
    let key = Key::of(b"guests");
    let mut bench = Bench::started();
    let mut kept = |peer: u32, renewed: &str| {
        let put = |i: u32| Record::Removable {
            key,
            value: format!("{peer} {i}").into(),
            owner: Key::of(&[7; 32]),
            expires: if renewed.is_empty() { 1000 } else { 2000 },
        };
        (0..100).take_while(|i| bench.answer_to(SimPeer(peer), put(*i)) == Ok(())).count()
    };
    assert_eq!([1, 2, 3, 4].map(|peer| kept(peer, "")), [52, 10, 2, 0]);
    assert_eq!(kept(1, "renewed"), 52, "what is there stays");

    // Nor by many at once, before any is written.
    let mut bench = Bench::started();
    for i in 0..100 {
        let (value, owner) = (format!("at once {i}").into(), Key::of(&[7; 32]));
        let record = Record::Removable { key, value, owner, expires: 1000 };
        bench.script.message(SimPeer(1), DhtMsg::Store { id: i, record, expected: None, copy: false });
    }
    bench.work();
    assert_eq!(bench.kept().len(), 52);

    // Over salted keys anybody may copy: that a peer provides something, too.
    let peers: Vec<SimPeer> = (0..2).map(SimPeer).collect();
    let node = Tapestry::converged(&peers, TapestryConfig::default()).swap_remove(0);
    let mut bench = Bench::over(node, DhtConfig::default());
    bench.work();
    for i in 0..100 {
        let record = Record::Provider { key, peer: SimPeer(1000 + i), expires: 1000 };
        bench.script.message(PEER, DhtMsg::Store { id: i, record, expected: None, copy: true });
        bench.work();
    }
    assert_eq!(bench.kept().len(), 52);
    assert_eq!(
        bench.answer_to(SimPeer(7), Record::Provider { key, peer: SimPeer(7), expires: 1000 }),
        Ok(())
    );
}

/// What a node puts for its clients takes their room, each client's for itself, where the node is a replica; and none of it is
/// the node's own.
#[test]
fn a_client_takes_its_share_and_leaves_room_for_another_and_for_the_node() {
    let config = DhtConfig { max_records: 900, lifetime: 24 * 3600 * SECOND, ..DhtConfig::default() };
    let mut bench = Bench::over(Chord::create(SimPeer(0)), config);
    bench.work();
    let room_for = |bench: &mut Bench, client: Option<u32>| {
        let client = client.map(|peer| Client::at(SimPeer(peer), 3600 * SECOND));
        let kept = |i: &u32| bench.put_for(client, format!("{client:?} {i}"));
        (0..1000).take_while(kept).count()
    };
    assert_eq!(room_for(&mut bench, Some(1)), 720);
    assert_eq!(room_for(&mut bench, Some(2)), 144);
    assert!(bench.there().iter().all(|entry| !entry.own && entry.account != 0));
    assert_eq!(room_for(&mut bench, None), 36, "the node itself takes what there is");
    // What is the clients' ends when they have said; what is the node's own is published again.
    bench.wait(2);
    let there = bench.there();
    assert_eq!((there.len(), there.iter().filter(|entry| entry.own).count()), (36, 36));
}

/// That it copies a neighbour says itself: alone it takes no more than a publisher, beside what it publishes; whoever else
/// copies finds room, and takes over what a node that others rely on should have. It is so where publishers take turns, too.
#[test]
fn a_neighbour_that_says_it_copies_leaves_room_for_others() {
    for allocation in [Allocation::Threshold(4), Allocation::Fair] {
        let config = DhtConfig { max_records: 90, allocation, ..DhtConfig::default() };
        let peers: Vec<SimPeer> = (0..4).map(SimPeer).collect();
        let node = Chord::converged(&peers, ChordConfig::default()).swap_remove(0);
        let mut bench = Bench::over(node, config);
        bench.work();
        let published = |expires| Record::Immutable { value: "published".into(), expires };
        assert_eq!(bench.answer_to(SimPeer(9), published(1000)), Ok(()));
        let publisher = bench.there()[0].account;
        let copied = |bench: &mut Bench, peer: u32| {
            let before = bench.kept().len();
            for i in 0..100 {
                let record = Record::Immutable { value: format!("{peer} {i}").into(), expires: 1000 };
                let store = DhtMsg::Store { id: i, record, expected: None, copy: true };
                bench.script.message(SimPeer(peer), store);
                bench.work();
            }
            bench.kept().len() - before
        };
        assert_eq!(copied(&mut bench, 1), 72, "{allocation:?}");
        let next = Record::Immutable { value: "offered".into(), expires: 1000 };
        let next = [(next.slot(), next.version())];
        assert_eq!(offers::offer(&mut bench, 1, &next), [Verdict::Refuses], "it is not sent in vain");
        assert_eq!(offers::offer(&mut bench, 2, &next), [Verdict::Wants]);
        assert_eq!([2, 3].map(|peer| copied(&mut bench, peer)), [14, 3], "{allocation:?}");
        // What is here it renews all the same; that is the publisher's as before.
        let newer = published(2000);
        assert_eq!(offers::offer(&mut bench, 1, &[(newer.slot(), newer.version())]), [Verdict::Wants]);
        offers::send(&mut bench, 1, newer.clone());
        let there = bench.there().into_iter().find(|entry| entry.slot == newer.slot()).unwrap();
        assert_eq!((there.version, there.account), (newer.version(), publisher), "{allocation:?}");
    }
}

/// A copy that this node should not have any more goes when there is no room, as soon as a quorum of those who should have
/// it say so, and no copy of another kind does.
#[test]
fn a_copy_too_many_makes_room_once_others_have_it() {
    let peers: Vec<SimPeer> = (0..40).map(SimPeer).collect();
    let quiet = ChordConfig { stabilize: 3600 * SECOND, ..ChordConfig::default() };
    let node = Chord::converged(&peers, quiet).swap_remove(0);
    let me = SimPeer(0);
    let among = |key: &Key, n| match node.replicas(key, n) {
        Replicas::Peers(peers) => peers.contains(&me),
        Replicas::Keys(_) => panic!("Chord has no salted keys"),
    };
    let value = |i: u32| Record::<SimPeer>::Immutable { value: format!("value {i}").into(), expires: 5000 };
    let all = (0..4000).map(value);
    let (mine, others): (Vec<_>, Vec<_>) =
        all.filter(|record| among(&record.slot().key, 6)).partition(|record| among(&record.slot().key, 3));
    let config = DhtConfig {
        replicas: 3,
        write_quorum: 2,
        max_records: 20,
        allocation: Allocation::Threshold(1000),
        repair: 100 * SECOND,
        ..DhtConfig::default()
    };
    let mut bench = Bench::over(node, config);
    bench.work();
    let store = |bench: &mut Bench, record: &Record<SimPeer>| {
        let record = record.clone();
        bench.script.message(SimPeer(1), DhtMsg::Store { id: 7, record, expected: None, copy: true });
        bench.work();
        let sent = bench.script.sent();
        sent.iter().any(|(_, msg)| matches!(msg, DhtMsg::Stored { result: Ok(()), .. }))
    };
    let surplus = others[0].slot();
    assert!(store(&mut bench, &others[0]));
    assert!(mine[..19].iter().all(|record| store(&mut bench, record)));
    assert!(!store(&mut bench, &mine[19]), "it is full");
    // It offers the copy to the three who should have it: one says that it has it, then another.
    let mut offers = Vec::new();
    for _ in 0..200 {
        bench.script.advance(SECOND);
        for (to, msg) in bench.script.sent() {
            match msg {
                DhtMsg::Offer { id, copies } => {
                    assert!(copies.iter().all(|copy| copy.slot == surplus), "{copies:?}");
                    offers.push((to, id));
                }
                // Of its own it sends sums.
                DhtMsg::Sum { id, .. } => bench.script.message(to, DhtMsg::Summed { id, parts: vec![] }),
                _ => {}
            }
        }
        if offers.len() == 3 {
            break;
        }
    }
    assert_eq!(offers.len(), 3, "{offers:?}");
    let has = |bench: &mut Bench, (from, id): (SimPeer, u32)| {
        bench.script.message(from, DhtMsg::Compared { id, verdicts: vec![Verdict::Has] });
    };
    has(&mut bench, offers[0]);
    assert!(!store(&mut bench, &mine[19]), "one is no quorum");
    has(&mut bench, offers[1]);
    assert!(store(&mut bench, &mine[19]));
    assert!(bench.script.machine().held().all(|(slot, _)| *slot != surplus));
    assert!(!store(&mut bench, &mine[20]), "all others are its own to keep");
    assert_eq!(bench.kept().len(), 20);
}
