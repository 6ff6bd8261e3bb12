//! The deterministic world: any number of nodes, one thread, one seed.
//!
//! A [`Sim`] runs machines whose peers are [`SimPeer`]s over a modelled [`Network`], in virtual time, one event
//! after the other. The same seed gives the same run, event for event, on every machine and at every optimisation
//! level; [`Sim::trace`] is a hash of all that happened. Randomness comes in separate streams (the network, each
//! node, the disks, and [`Sim::workload_rng`] for the experiment itself), so that changing one leaves the others.
//!
//! - [`Sim::spawn`], [`Sim::population`], [`Sim::join`]: nodes;
//! - [`Sim::command`], [`Sim::handle`], [`Sim::block_on`]: asking them things;
//! - [`Sim::run_for`], [`Sim::run_until_quiet`]: time;
//! - [`Sim::inject`], [`Sim::crash`], [`Fault`]: trouble; [`SimFile`]: a file that loses what was not synced;
//! - [`Sim::check_each_step`], [`Sim::check_world`]: what must always hold;
//! - [`Sim::stats`], [`Sim::trace`]: what happened.

mod arrivals;
mod asking;
mod checks;
mod churn;
mod disk;
mod fault;
mod file;
mod latency;
mod liar;
mod living;
mod network;
mod node;
mod peer;
mod seeds;
mod slab;
mod stats;
mod trouble;
mod wheel;
mod world;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use checks::View;
pub use churn::{Session, churn};
pub use disk::DiskModel;
pub use fault::{Cut, Fault, FaultMix, Schedule, random_faults, shrink};
pub use file::{SECTOR, SimFile};
pub use latency::{Latency, TransitStub};
pub use liar::{Liar, Rewrite};
pub use living::Birth;
pub use network::{Bandwidth, Encoding, Loss, Network};
pub use peer::SimPeer;
pub use seeds::run_seeds;
pub use stats::{Histogram, Stats};

use crate::handle::OpenCalls;
use crate::protocol::{NoWorker, OpId, Protocol, Worker};
use crate::{Cx, Rng, Time, Wire, prefetch};
use node::Node;
use world::{Happening, Rare, World};

/// The streams of a seed.
pub(crate) mod stream {
    pub(crate) const NETWORK: u64 = 0;
    pub(crate) const WORKLOAD: u64 = 1;
    pub(crate) const DISK: u64 = 2;
    pub(crate) const BIRTH: u64 = 3;
    /// Node i has stream NODE + i.
    pub(crate) const NODE: u64 = 1 << 32;
}

/// A simulation of machines `P`, whose jobs (if it has any) are done by workers `W`.
///
/// ```
/// use p2p_core::sim::{Network, Sim};
/// use p2p_core::{Cx, NoJob, OpId, Protocol, SimPeer, Wire};
/// use serde::{Deserialize, Serialize};
///
/// /// Passes a token around a ring, `laps` times.
/// struct Ring { next: SimPeer, seen: u32 }
/// #[derive(Serialize, Deserialize)]
/// struct Token { laps: u32 }
/// impl Wire for Token {}
///
/// impl Protocol for Ring {
///     type Peer = SimPeer;
///     type Msg = Token;
///     type Timer = ();
///     type Command = u32;
///     type Item = ();
///     type Outcome = ();
///     type Event = ();
///     type Job = NoJob;
///     fn on_message(&mut self, cx: &mut Cx<'_, Self>, _: SimPeer, token: Token) {
///         self.seen += 1;
///         if self.seen <= token.laps {
///             cx.send(self.next, token);
///         }
///     }
///     fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, laps: u32) {
///         cx.send(self.next, Token { laps });
///         cx.finish(op, ());
///     }
/// }
///
/// let mut sim = Sim::<Ring>::new(42, Network::default());
/// for i in 0..10 {
///     sim.spawn(|_| Ring { next: SimPeer((i + 1) % 10), seen: 0 });
/// }
/// sim.command(SimPeer(0), 3);
/// sim.run_until_quiet();
/// assert_eq!(sim.stats().delivered, 31);
/// ```
pub struct Sim<P: Protocol<Peer = SimPeer>, W = NoWorker> {
    seed: u64,
    nodes: Vec<Node<P, W>>,
    world: World<P>,
    /// Who is alive, in no particular order; and where each stands in that list.
    alive: Vec<SimPeer>,
    turnover: u64,
    factory: Option<Factory<P>>,
    workers: Box<dyn FnMut(SimPeer) -> W>,
    workload: Rng,
    births: Rng,
    open: Arc<OpenCalls>,
    step_check: Option<StepCheck<P>>,
    world_check: Option<(u64, WorldCheck<P, W>)>,
}

/// How many events one step of prefetching is ahead of the next.
const STRIDE: usize = 8;

type Factory<P> = Box<dyn FnMut(&mut Birth<'_>) -> P>;
type StepCheck<P> = Box<dyn FnMut(SimPeer, &P) -> Result<(), String>>;
type WorldCheck<P, W> = Box<dyn FnMut(&View<'_, P, W>) -> Result<(), String>>;

/// A command that is over.
#[expect(missing_debug_implementations, reason = "an outcome need not be Debug")]
pub struct Ended<P: Protocol> {
    /// Who was asked.
    pub peer: SimPeer,
    /// What [`Sim::command`] returned.
    pub op: OpId,
    /// When it ended.
    pub at: Time,
    /// How.
    pub outcome: P::Outcome,
}

impl<P: Protocol<Peer = SimPeer>> Sim<P>
where
    P::Msg: Wire,
    P: Protocol<Job = crate::NoJob>,
{
    /// An empty world, for machines without jobs.
    pub fn new(seed: u64, network: Network) -> Sim<P> {
        Sim::with_workers(seed, network, DiskModel::default(), |_| NoWorker)
    }
}

impl<P: Protocol<Peer = SimPeer>, W: Worker<P::Job>> Sim<P, W>
where
    P::Msg: Wire,
{
    /// An empty world in which each node's jobs are done by a worker of its own. A worker outlives the crashes
    /// of its node; `disk` says how long jobs take and how they fail.
    pub fn with_workers(
        seed: u64,
        network: Network,
        disk: DiskModel,
        workers: impl FnMut(SimPeer) -> W + 'static,
    ) -> Sim<P, W> {
        Sim {
            seed,
            nodes: Vec::new(),
            world: World::new(seed, network, disk),
            alive: Vec::new(),
            turnover: 0,
            factory: None,
            workers: Box::new(workers),
            workload: Rng::stream(seed, stream::WORKLOAD),
            births: Rng::stream(seed, stream::BIRTH),
            open: Arc::default(),
            step_check: None,
            world_check: None,
        }
    }

    // ---- time

    /// The virtual time.
    pub fn now(&self) -> Time {
        Time::from_nanos(self.world.now)
    }

    /// The time of day, since the Unix epoch, by a clock that does not drift.
    pub fn wall(&self) -> Duration {
        world::EPOCH + self.now().since(Time::ZERO)
    }

    /// Runs for this long.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now() + duration;
        self.take_calls();
        while self.step(until) {}
        self.world.now = until.as_nanos();
    }

    /// Runs until nothing is left to happen. A protocol with periodic timers never gets there.
    pub fn run_until_quiet(&mut self) {
        self.take_calls();
        while self.step(Time::MAX) {}
        self.check_the_world();
    }

    /// Does what happens next, if that is not after `until`.
    fn step(&mut self, until: Time) -> bool {
        self.warm(until);
        let Some(happening) = self.world.next(until.as_nanos()) else { return false };
        self.world.steps += 1;
        match happening {
            Happening::Message { from, to, msg } => self.deliver(from, to, msg),
            Happening::Timer { node, id } => self.fire(node, id),
            Happening::Rare(rare) => self.happen(*rare),
        }
        if let Some((every, _)) = &self.world_check
            && self.world.steps.is_multiple_of(*every)
        {
            self.check_the_world();
        }
        true
    }

    /// Prefetches what the next events need, each a few events after what leads to it: the event, the node's record, and
    /// what that points to. In a network that fits no cache the processor would wait for memory most of the time.
    #[inline]
    fn warm(&mut self, until: Time) {
        let begins = self.world.begin_tick(until.as_nanos());
        let upto = |n: usize| if begins { 0..=n } else { n..=n };
        upto(3 * STRIDE).for_each(|n| self.world.warm(n));
        for n in upto(2 * STRIDE) {
            if let Some(peer) = self.world.ahead(n) {
                self.nodes.get(peer.index()).into_iter().for_each(prefetch);
                self.world.links_of(peer).into_iter().for_each(prefetch);
            }
        }
        for n in upto(STRIDE) {
            if let Some(peer) = self.world.ahead(n) {
                self.nodes.get(peer.index()).into_iter().for_each(Node::warm);
                self.world.links_of(peer).into_iter().for_each(|links| prefetch(&links[..]));
            }
        }
    }

    fn deliver(&mut self, from: SimPeer, to: SimPeer, msg: P::Msg) {
        let now = self.world.now;
        let Some(node) = self.nodes.get(to.index()).filter(|node| node.machine.is_some()) else {
            self.world.undeliverable(from, to);
            return;
        };
        if node.body.paused_until > now {
            self.world.hold(node.body.paused_until, from, to, msg);
            return;
        }
        self.world.stats.delivered += 1;
        self.world.note(u64::from(from.0) << 32 | u64::from(to.0), 0x0d);
        self.input(to, |machine, cx| machine.on_message(cx, from, msg));
    }

    fn fire(&mut self, peer: SimPeer, id: u32) {
        let Some(node) = self.nodes.get_mut(peer.index()) else { return };
        let Some(timer) = node.body.fire(&mut self.world, peer, id) else { return };
        self.world.stats.timers += 1;
        self.world.note(u64::from(peer.0) << 32 | u64::from(id), 0x0e);
        self.input(peer, |machine, cx| machine.on_timer(cx, timer));
    }

    fn happen(&mut self, rare: Rare<P>) {
        match rare {
            Rare::Link(peer, other, link) => {
                self.input(peer, |machine, cx| machine.on_link(cx, other, link));
            }
            Rare::DiskDone(peer, epoch) => {
                let Some(node) = self.nodes.get_mut(peer.index()) else { return };
                let Some(disk) = node.body.disk.as_mut().filter(|disk| disk.epoch == epoch) else { return };
                for (id, done) in disk.finish(&mut self.world, peer) {
                    self.input(peer, |machine, cx| machine.on_job(cx, id, done));
                }
            }
            Rare::JobRefused(peer, id, done) => self.input(peer, |machine, cx| machine.on_job(cx, id, done)),
            Rare::Wake(sender) => {
                let _ = sender.send(());
            }
            Rare::Fault(fault) => self.fault(fault),
        }
    }

    /// Hands an input to a machine, and sees to what follows.
    #[inline]
    fn input(&mut self, peer: SimPeer, input: impl FnOnce(&mut P, &mut Cx<'_, P>)) {
        self.hand(peer, input);
        self.follow_up();
    }

    fn follow_up(&mut self) {
        while let Some((peer, todo)) = self.world.todo.pop_front() {
            self.carry_out(peer, todo);
        }
    }

    #[inline]
    fn hand(&mut self, peer: SimPeer, input: impl FnOnce(&mut P, &mut Cx<'_, P>)) {
        let Some(Node { machine: Some(machine), state, body }) = self.nodes.get_mut(peer.index()) else {
            return;
        };
        let world = &mut self.world;
        let workers = &mut self.workers;
        let (now, wall) = world.clock(peer);
        let mut sink = |effect| world.apply(peer, body, effect, workers);
        input(machine, &mut Cx::new(now, wall, state, &mut sink));
        if let Some(check) = &mut self.step_check
            && let Err(broken) = check(peer, machine)
        {
            panic!("{peer} at {} (seed {}): {broken}", self.world.now(), self.seed);
        }
    }

    // ---- what happened

    /// Counts of what happened.
    pub fn stats(&self) -> Stats {
        self.world.stats
    }

    /// A hash of all that happened, in order. Equal runs have equal traces.
    pub fn trace(&self) -> u64 {
        self.world.trace
    }

    /// The random numbers of the experiment: which node looks up what, and when.
    pub fn workload_rng(&mut self) -> &mut Rng {
        &mut self.workload
    }
}

impl<P: Protocol<Peer = SimPeer>, W> fmt::Debug for Sim<P, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, alive) = (self.nodes.len(), self.alive.len());
        write!(f, "Sim(seed {}, {} of {nodes} nodes alive at {})", self.seed, alive, self.world.now())
    }
}

#[cfg(test)]
mod tests;
