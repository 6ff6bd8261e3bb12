//! The simulator's own behaviour, shown on a machine that does a little of everything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::*;
use crate::protocol::{Down, Job, JobError, JobId, Link};
use crate::{AskError, Lane, Request};
use futures::StreamExt;

/// Echoes, gossips, keeps time and writes to disk.
#[derive(Default)]
struct Node {
    heard: Vec<(Time, SimPeer, u64)>,
    links: Vec<(SimPeer, Link)>,
    fired: Vec<Time>,
    waiting: BTreeMap<JobId, OpId>,
    stored: Vec<u64>,
    asked: Option<OpId>,
    cancelled: usize,
}

#[derive(Serialize, Deserialize)]
enum Msg {
    Say(u64),
    Datagram(u64),
    Echo,
    Echoed,
}
impl Wire for Msg {
    fn lane(&self) -> Lane {
        if matches!(self, Msg::Datagram(_)) { Lane::Datagram } else { Lane::Ordered }
    }
}

enum Command {
    Say(SimPeer, u64),
    Datagram(SimPeer, u64),
    Echo(SimPeer),
    Count(u64),
    Write(u64),
    Tick(Duration),
    Hang,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Done,
    Failed(JobError),
}

enum Disk {
    Write(u64),
    Scan,
}
enum DiskDone {
    Wrote,
    Found(Vec<u64>),
    Failed(JobError),
}
impl Job for Disk {
    type Done = DiskDone;
    fn failed(&self, why: JobError) -> DiskDone {
        DiskDone::Failed(why)
    }
}

#[derive(Default)]
struct Platter(Vec<u64>);
impl Worker<Disk> for Platter {
    fn run(&mut self, batch: Vec<Disk>) -> Vec<DiskDone> {
        let mut done = |job| match job {
            Disk::Write(value) => {
                self.0.push(value);
                DiskDone::Wrote
            }
            Disk::Scan => DiskDone::Found(self.0.clone()),
        };
        batch.into_iter().map(&mut done).collect()
    }
}

impl Protocol for Node {
    type Peer = SimPeer;
    type Msg = Msg;
    type Timer = ();
    type Command = Command;
    type Item = u64;
    type Outcome = Outcome;
    type Event = u64;
    type Job = Disk;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        cx.start(Disk::Scan);
    }
    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: SimPeer, msg: Msg) {
        match msg {
            Msg::Say(n) | Msg::Datagram(n) => {
                self.heard.push((cx.now(), from, n));
                cx.emit(n);
            }
            Msg::Echo => cx.send(from, Msg::Echoed),
            Msg::Echoed => {
                if let Some(op) = self.asked.take() {
                    cx.finish(op, Outcome::Done);
                }
            }
        }
    }
    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, (): ()) {
        self.fired.push(cx.now());
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: Command) {
        match command {
            Command::Say(to, n) => cx.send(to, Msg::Say(n)),
            Command::Datagram(to, n) => cx.send(to, Msg::Datagram(n)),
            Command::Echo(to) => {
                self.asked = Some(op);
                return cx.send(to, Msg::Echo);
            }
            Command::Count(n) => (0..n).for_each(|i| cx.item(op, i)),
            Command::Write(value) => {
                let job = cx.start(Disk::Write(value));
                self.waiting.insert(job, op);
                return;
            }
            Command::Tick(after) => cx.set_timer(after, ()),
            Command::Hang => return,
        }
        cx.finish(op, Outcome::Done);
    }
    fn on_cancel(&mut self, _: &mut Cx<'_, Self>, _: OpId) {
        self.cancelled += 1;
    }
    fn on_link(&mut self, _: &mut Cx<'_, Self>, peer: SimPeer, link: Link) {
        self.links.push((peer, link));
    }
    fn on_job(&mut self, cx: &mut Cx<'_, Self>, id: JobId, done: DiskDone) {
        let outcome = match done {
            DiskDone::Found(stored) => {
                self.stored = stored;
                return;
            }
            DiskDone::Wrote => Outcome::Done,
            DiskDone::Failed(why) => Outcome::Failed(why),
        };
        if let Some(op) = self.waiting.remove(&id) {
            cx.finish(op, outcome);
        }
    }
}

const A: SimPeer = SimPeer(0);
const B: SimPeer = SimPeer(1);
const C: SimPeer = SimPeer(2);

fn three(network: Network) -> Sim<Node, Platter> {
    let mut sim = Sim::with_workers(1, network, DiskModel::default(), |_| Platter::default());
    sim.population(|_| Node::default());
    (0..3).for_each(|_| {
        sim.join();
    });
    sim
}

fn heard(sim: &Sim<Node, Platter>, peer: SimPeer) -> Vec<u64> {
    sim.node(peer).unwrap().heard.iter().map(|&(_, _, n)| n).collect()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_message_takes_the_networks_time() {
    let mut sim = three(Network::default());
    sim.command(A, Command::Say(B, 7));
    sim.run_until_quiet();
    assert_eq!(sim.node(B).unwrap().heard, [(Time::from_nanos(50_000_000), A, 7)]);
}

#[test]
fn what_is_sent_together_arrives_in_order() {
    let mut sim = three(Network::default());
    (0..100).for_each(|i| {
        sim.command(A, Command::Say(B, i));
    });
    sim.run_until_quiet();
    assert_eq!(heard(&sim, B), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_timer_set_again_is_replaced_by_the_later_and_by_the_earlier() {
    let mut sim = three(Network::default());
    for secs in [5, 9, 3] {
        sim.command(A, Command::Tick(Duration::from_secs(secs)));
    }
    sim.command(B, Command::Tick(Duration::from_secs(5)));
    sim.command(B, Command::Tick(Duration::from_secs(9)));
    sim.run_until_quiet();
    let fired = |sim: &Sim<Node, Platter>, peer| sim.node(peer).unwrap().fired.clone();
    assert_eq!(fired(&sim, A), [Time::ZERO + 3 * SECOND]);
    assert_eq!(fired(&sim, B), [Time::ZERO + 9 * SECOND]);
    assert_eq!(sim.stats().timers, 2, "replaced timers are not events");
}

#[test]
fn a_crash_loses_memory_and_keeps_what_was_synced() {
    let mut sim = three(Network::default());
    sim.command(A, Command::Write(1));
    sim.run_until_quiet();
    assert_eq!(sim.take_outcomes().len(), 1);
    sim.command(A, Command::Write(2));
    sim.crash(A);
    sim.restart(A);
    sim.run_until_quiet();
    assert!(sim.take_outcomes().is_empty(), "nobody was told of the second write");
    let stored = &sim.node(A).unwrap().stored;
    assert!(*stored == [1] || *stored == [1, 2], "{stored:?}");
}

#[test]
fn an_unsynced_write_sometimes_survives_a_crash_and_sometimes_does_not() {
    let survived = (0..40).filter(|&seed| {
        let mut sim: Sim<Node, Platter> =
            Sim::with_workers(seed, Network::default(), DiskModel::default(), |_| Platter::default());
        sim.population(|_| Node::default());
        sim.join();
        sim.run_until_quiet();
        sim.command(A, Command::Write(2));
        sim.crash(A);
        !sim.worker(A).unwrap().0.is_empty()
    });
    assert!((8..32).contains(&survived.count()));
}

#[test]
fn a_full_queue_of_jobs_fails_at_once() {
    let disk = DiskModel { queue: 3, ..DiskModel::default() };
    let mut sim = Sim::<Node, _>::with_workers(1, Network::default(), disk, |_| Platter::default());
    sim.spawn(|_| Node::default());
    (0..5).for_each(|i| {
        sim.command(A, Command::Write(i));
    });
    sim.run_until_quiet();
    let outcomes: Vec<_> = sim.take_outcomes().into_iter().map(|ended| ended.outcome).collect();
    let full = outcomes.iter().filter(|outcome| **outcome == Outcome::Failed(JobError::QueueFull)).count();
    assert_eq!((outcomes.len(), full), (5, 3), "the scan and two writes fit");
}

#[test]
fn a_failing_disk_says_so() {
    let disk = DiskModel { failures: 1.0, ..DiskModel::default() };
    let mut sim = Sim::<Node, _>::with_workers(1, Network::default(), disk, |_| Platter::default());
    sim.spawn(|_| Node::default());
    sim.command(A, Command::Write(1));
    sim.run_until_quiet();
    assert_eq!(sim.take_outcomes().pop().unwrap().outcome, Outcome::Failed(JobError::Storage));
}

#[test]
fn a_one_way_cut_stops_one_way_until_it_heals() {
    let mut sim = three(Network::default());
    sim.inject(vec![(Duration::ZERO, Fault::Cut(Cut::one_way([A], [B, C]))), (SECOND, Fault::Heal)]);
    sim.run_for(Duration::from_millis(1));
    sim.command(A, Command::Say(B, 1));
    sim.command(B, Command::Say(A, 2));
    sim.run_for(2 * SECOND);
    sim.command(A, Command::Say(B, 3));
    sim.run_until_quiet();
    assert_eq!((heard(&sim, A), heard(&sim, B)), (vec![2], vec![3]));
    assert_eq!(sim.stats().cut, 1);
}

#[test]
fn a_paused_node_catches_up_and_a_clogged_link_lets_go() {
    let mut sim = three(Network::default());
    let clog = Fault::Clog(A, C, 5 * SECOND);
    sim.inject(vec![(Duration::ZERO, Fault::Pause(B, 3 * SECOND)), (Duration::ZERO, clog)]);
    sim.run_for(Duration::from_millis(1));
    (0..3).for_each(|i| {
        sim.command(A, Command::Say(B, i));
    });
    sim.command(A, Command::Say(C, 9));
    sim.run_until_quiet();
    assert_eq!(heard(&sim, B), [0, 1, 2]);
    assert!(sim.node(B).unwrap().heard.iter().all(|&(at, _, _)| at == Time::ZERO + 3 * SECOND));
    assert_eq!(sim.node(C).unwrap().heard[0].0, Time::ZERO + 5 * SECOND);
}

#[test]
fn a_clock_that_drifts_fires_timers_early_and_tells_the_wrong_time() {
    let mut sim = three(Network::default());
    sim.inject(vec![(Duration::ZERO, Fault::Drift(A, 250_000))]);
    sim.run_for(Duration::ZERO);
    sim.command(A, Command::Tick(10 * SECOND));
    sim.run_until_quiet();
    assert_eq!(sim.now(), Time::ZERO + 8 * SECOND + Duration::from_nanos(1), "a clock 25% too fast");
    assert_eq!(sim.node(A).unwrap().fired, [Time::ZERO + 10 * SECOND + Duration::from_nanos(1)]);
}

#[test]
fn no_drift_makes_a_timer_fire_before_its_time() {
    for ppm in [-900_000, -10_001, -7, 0, 3, 9_999, 900_000] {
        let mut sim = three(Network::default());
        sim.inject(vec![(Duration::from_nanos(12_345), Fault::Drift(A, ppm))]);
        for nanos in [1, 2, 999, 1_000_003] {
            sim.run_for(Duration::from_nanos(777_777));
            let due = Time::from_nanos(sim.world.clock(A).0.as_nanos() + nanos);
            sim.command(A, Command::Tick(Duration::from_nanos(nanos)));
            sim.run_for(SECOND);
            let fired = *sim.node(A).unwrap().fired.last().unwrap();
            assert!(
                fired >= due && fired.since(due) <= Duration::from_nanos(3),
                "{ppm} ppm, {nanos} ns: {fired:?}"
            );
        }
    }
}

#[test]
fn datagrams_are_doubled_and_overtake() {
    let mut sim = three(Network { duplicate: 0.5, reorder: 0.5, ..Network::default() });
    (0..100).for_each(|i| {
        sim.command(A, Command::Datagram(B, i));
    });
    sim.run_until_quiet();
    let heard = heard(&sim, B);
    assert!((130..170).contains(&heard.len()), "{}", heard.len());
    assert!(!heard.is_sorted());
}

#[test]
fn links_come_up_and_a_crash_takes_them_down() {
    let mut sim = three(Network { links: Some(2 * SECOND), ..Network::default() });
    sim.command(A, Command::Say(B, 1));
    sim.run_for(SECOND);
    sim.crash(B);
    sim.run_until_quiet();
    let links = &sim.node(A).unwrap().links;
    assert_eq!(*links, [(B, Link::Up), (B, Link::Down(Down::TimedOut))]);
    sim.command(A, Command::Say(B, 2));
    sim.run_until_quiet();
    let links = &sim.node(A).unwrap().links;
    assert_eq!(links[2..], [(B, Link::Up), (B, Link::Down(Down::Unreachable))]);
}

#[test]
fn a_slow_line_takes_its_time_and_overflows() {
    let line = Bandwidth { up: 1000, down: 1_000_000, queue: 40 };
    let network = Network {
        bandwidth: Some(line),
        encoding: Encoding::RoundTrip,
        links: Some(SECOND),
        ..Default::default()
    };
    let mut sim = three(network);
    (0..30).for_each(|i| {
        sim.command(A, Command::Say(B, i));
    });
    sim.run_until_quiet();
    let first = sim.node(B).unwrap().heard[0].0;
    // Three bytes at 1,000 a second, 50 ms, and three bytes at a million a second.
    assert_eq!(first, Time::from_nanos(3_000_000 + 50_000_000 + 3_000));
    assert!(heard(&sim, B).len() < 20 && sim.stats().overflowed > 10);
    assert!(sim.node(A).unwrap().links.contains(&(B, Link::Down(Down::Overflow))));
}

#[test]
#[should_panic(expected = "#1 at 0.050000s (seed 1): heard a seven")]
fn a_broken_invariant_names_the_node_the_time_and_the_seed() {
    let mut sim = three(Network::default());
    sim.check_each_step(|_, node| match node.heard.iter().any(|&(_, _, n)| n == 7) {
        true => Err("heard a seven".into()),
        false => Ok(()),
    });
    sim.command(A, Command::Say(B, 7));
    sim.run_until_quiet();
}

#[test]
#[should_panic(expected = "two have heard")]
fn a_broken_invariant_of_the_world_is_found() {
    let mut sim = three(Network::default());
    sim.check_world(1, |view| match view.iter().filter(|(_, node)| !node.heard.is_empty()).count() {
        0 | 1 => Ok(()),
        _ => Err("two have heard".into()),
    });
    sim.command(A, Command::Say(B, 1));
    sim.command(A, Command::Say(C, 1));
    sim.run_until_quiet();
}

struct Echo(SimPeer);
impl Request<Node> for Echo {
    type Item = ();
    type Reply = ();
    fn command(self) -> Command {
        Command::Echo(self.0)
    }
    fn item(_: u64) -> Option<()> {
        None
    }
    fn reply(outcome: Outcome) -> Option<()> {
        (outcome == Outcome::Done).then_some(())
    }
}

struct Count(u64);
impl Request<Node> for Count {
    type Item = u64;
    type Reply = ();
    fn command(self) -> Command {
        Command::Count(self.0)
    }
    fn item(item: u64) -> Option<u64> {
        Some(item)
    }
    fn reply(_: Outcome) -> Option<()> {
        Some(())
    }
}

struct Hang;
impl Request<Node> for Hang {
    type Item = ();
    type Reply = ();
    fn command(self) -> Command {
        Command::Hang
    }
    fn item(_: u64) -> Option<()> {
        None
    }
    fn reply(_: Outcome) -> Option<()> {
        None
    }
}

#[test]
fn async_code_runs_in_virtual_time() {
    let mut sim = three(Network::default());
    let a = sim.handle(A);
    sim.block_on(async {
        a.ask(Echo(B)).await.unwrap();
        a.sleep(3 * SECOND).await.unwrap();
        assert_eq!(a.timeout(SECOND, a.ask(Hang)).await, Err(crate::TimedOut));
        assert_eq!(a.timeout(SECOND, a.ask(Echo(C))).await, Ok(Ok(())));
    });
    assert_eq!(sim.now(), Time::ZERO + Duration::from_millis(100 + 3000 + 1000 + 100));
    sim.run_until_quiet();
    assert_eq!(sim.node(A).unwrap().cancelled, 1, "the hanging question was taken back");
}

#[test]
fn items_stream_and_a_reader_too_slow_is_told() {
    let mut sim = three(Network::default());
    let a = sim.handle(A);
    let (items, reply) = sim.block_on(async {
        let mut ask = a.ask(Count(50));
        let items: Vec<u64> = ask.by_ref().collect().await;
        (items, ask.await)
    });
    assert_eq!((items, reply), ((0..50).collect(), Ok(())));
    assert_eq!(sim.block_on(a.ask(Count(5000))), Err(AskError::Lagged));
}

#[test]
fn an_asker_learns_that_the_node_died() {
    let mut sim = three(Network::default());
    let a = sim.handle(A);
    let mut events = a.events();
    sim.inject(vec![(SECOND, Fault::Crash(A))]);
    sim.command(B, Command::Say(A, 5));
    let (reply, heard) = sim.block_on(async { (a.ask(Hang).await, events.next().await) });
    assert_eq!((reply, heard), (Err(AskError::Stopped), Some(5)));
    assert_eq!(sim.block_on(events.next()), None);
    assert_eq!(sim.block_on(a.ask(Hang)), Err(AskError::Stopped));
}

#[test]
#[should_panic(expected = "nothing is left to happen")]
fn waiting_for_what_never_comes_is_an_error() {
    let mut sim = three(Network::default());
    let a = sim.handle(A);
    let _ = sim.block_on(a.ask(Hang));
}

#[test]
fn too_many_open_calls_are_refused() {
    let mut sim = three(Network::default());
    let a = sim.handle(A);
    let open: Vec<_> = (0..crate::MAX_OPEN_CALLS).map(|_| a.ask(Hang)).collect();
    assert_eq!(sim.block_on(a.ask(Echo(B))), Err(AskError::Busy));
    drop(open);
    assert_eq!(sim.block_on(a.ask(Echo(B))), Ok(()));
}

/// A workload with everything in it; what must not differ between two runs.
fn busy(seed: u64) -> (u64, Stats) {
    let network = Network {
        latency: Latency::Exponential(Duration::from_millis(30)),
        jitter: Duration::from_millis(5),
        loss: Loss::GilbertElliott { to_bad: 0.05, to_good: 0.3, good: 0.01, bad: 0.5 },
        duplicate: 0.05,
        reorder: 0.1,
        bandwidth: Some(Bandwidth { up: 10_000, down: 10_000, queue: 2_000 }),
        links: Some(SECOND),
        encoding: Encoding::RoundTrip,
        ..Network::default()
    };
    let disk = DiskModel { failures: 0.05, ..DiskModel::default() };
    let mut sim = Sim::<Node, Platter>::with_workers(seed, network, disk, |_| Platter::default());
    sim.population(|_| Node::default());
    let peers: Vec<_> = (0..20).map(|_| sim.join()).collect();
    let mut rng = Rng::stream(seed, 99);
    let mix = FaultMix { crashes: 8, pauses: 5, cuts: 3, clogs: 5, drifts: 5 };
    sim.inject(random_faults(&mut rng, &peers, 30 * SECOND, mix));
    let session = Session::Weibull { median: 20 * SECOND, shape: 0.5 };
    sim.inject(churn(&mut rng, 20, 20, session, 30 * SECOND));
    for i in 0..2000 {
        let from = peers[sim.workload_rng().index(peers.len())];
        let to = peers[sim.workload_rng().index(peers.len())];
        let command = match i % 4 {
            0 => Command::Say(to, i),
            1 => Command::Datagram(to, i),
            2 => Command::Write(i),
            _ => Command::Tick(Duration::from_millis(i)),
        };
        sim.command(from, command);
        sim.run_for(Duration::from_millis(15));
    }
    sim.run_until_quiet();
    (sim.trace(), sim.stats())
}

#[test]
fn one_seed_gives_one_run() {
    run_seeds(5, busy);
    assert_ne!(busy(1).0, busy(2).0);
}

/// The same on every machine, in debug and in release: committed once, from a release build.
#[test]
fn the_golden_trace() {
    assert_eq!(format!("{:016x}", busy(1).0), "9c3fac761bc5fe1c");
}

#[test]
fn a_liar_rewrites_what_it_sends() {
    let mut sim: Sim<Liar<Node>, Platter> =
        Sim::with_workers(1, Network::default(), DiskModel::default(), |_| Platter::default());
    sim.spawn(|_| {
        Liar::new(Node::default(), |rng, to, msg| match msg {
            Msg::Say(n) if rng.chance(0.5) => vec![(to, Msg::Say(n + 1000)), (C, Msg::Say(n))],
            other => vec![(to, other)],
        })
    });
    (1..3).for_each(|_| {
        sim.spawn(|_| Liar::honest(Node::default()));
    });
    (0..100).for_each(|i| {
        sim.command(A, Command::Say(B, i));
    });
    sim.run_until_quiet();
    let lied = |peer, from| sim.node(peer).unwrap().machine().heard.iter().filter(|h| h.2 >= from).count();
    assert!(lied(B, 1000) > 30 && lied(B, 1000) == lied(C, 0));
    assert_eq!(lied(B, 0), 100);
}
