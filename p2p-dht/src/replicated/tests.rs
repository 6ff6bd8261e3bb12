//! The index and the worker agree, in whatever order things happen.

use std::time::Duration;

use p2p_core::{Job, JobError, JobId, Script, SimPeer, Worker};
use p2p_overlay::{Chord, LookupMsg, RoutedMsg, Tapestry, TapestryConfig};

use super::*;
use crate::request::{WithdrawError, Withdrawn};
use crate::store::MemoryStore;

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

    /// A publisher stores a value that ends at a time.
    fn store(&mut self, expires: u64) {
        self.next += 1;
        let record = Record::Immutable { value: "value".into(), expires };
        let store = DhtMsg::Store { id: self.next, record, expected: None, copy: false };
        self.script.message(PEER, store);
    }

    /// What the worker has; it must be what the index says.
    fn kept(&mut self) -> Vec<Version> {
        let StoreDone::Scanned(Ok(there)) =
            self.store.run(vec![StoreJob::Scan { after: None, most: usize::MAX }]).remove(0)
        else {
            panic!()
        };
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
    bench.script.command(DhtCommand::Put { value: "value".into() });
    while bench.script.outcomes().is_empty() {
        bench.work();
        bench.script.advance(SECOND);
    }
    bench.work();
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
