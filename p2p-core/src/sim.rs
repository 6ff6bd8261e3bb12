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
//! - [`Sim::inject`], [`Sim::crash`], [`Fault`]: trouble;
//! - [`Sim::check_each_step`], [`Sim::check_world`]: what must always hold;
//! - [`Sim::stats`], [`Sim::trace`]: what happened.

mod arrivals;
mod asking;
mod churn;
mod disk;
mod fault;
mod liar;
mod network;
mod node;
mod peer;
mod seeds;
mod slab;
mod stats;
mod wheel;
mod world;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use churn::{Session, churn};
pub use disk::DiskModel;
pub use fault::{Cut, Fault, FaultMix, Schedule, random_faults, shrink};
pub use liar::{Liar, Rewrite};
pub use network::{Bandwidth, Encoding, Latency, Loss, Network};
pub use peer::SimPeer;
pub use seeds::run_seeds;
pub use stats::{Histogram, Stats};

use crate::handle::OpenCalls;
use crate::protocol::{NoWorker, OpId, Protocol, Worker};
use crate::time::nanos;
use crate::{Cx, CxState, Rng, Time, Wire};
use node::{Body, Node};
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
    /// To whom something happens next.
    soon: Vec<SimPeer>,
}

/// How many events ahead nodes are read.
const WARMED: usize = 64;

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

/// What is known when a node is made.
#[derive(Debug)]
pub struct Birth<'a> {
    /// Its name.
    pub peer: SimPeer,
    /// The nodes that are alive, in no particular order; the new one is not among them.
    pub alive: &'a [SimPeer],
    /// For choosing among them, and the like.
    pub rng: &'a mut Rng,
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
            soon: Vec::new(),
        }
    }

    // ---- nodes

    /// Starts a new node with the machine that `make` builds. Nodes are numbered from 0.
    pub fn spawn(&mut self, make: impl FnOnce(&mut Birth<'_>) -> P) -> SimPeer {
        let peer = SimPeer(u32::try_from(self.nodes.len()).expect("at most 2^32 nodes"));
        let machine = make(&mut Birth { peer, alive: &self.alive, rng: &mut self.births });
        let rng = Rng::stream(self.seed, stream::NODE + u64::from(peer.0));
        self.nodes.push(Node { machine: None, state: CxState::new(rng), body: Body::default() });
        self.start(peer, machine);
        peer
    }

    /// How to make nodes that [join](Sim::join) or restart.
    pub fn population(&mut self, make: impl FnMut(&mut Birth<'_>) -> P + 'static) {
        self.factory = Some(Box::new(make));
    }

    /// Starts a new node.
    ///
    /// # Panics
    /// If there is no [`Sim::population`].
    pub fn join(&mut self) -> SimPeer {
        let mut factory = self.factory.take().expect("Sim::population says how to make a node that joins");
        let peer = self.spawn(&mut factory);
        self.factory = Some(factory);
        peer
    }

    /// Kills a node: its memory and what its worker had not synced are lost. Nothing happens if it is dead.
    pub fn crash(&mut self, peer: SimPeer) {
        let Some(node) = self.nodes.get_mut(peer.index()) else { return };
        if node.machine.take().is_none() {
            return;
        }
        let place = node.body.crash(&mut self.world);
        self.alive.swap_remove(place);
        if let Some(moved) = self.alive.get(place) {
            self.nodes[moved.index()].body.place = place as u32;
        }
        self.turnover += 1;
        self.world.desks.remove(&peer.0);
        self.world.links_of_dead(peer);
        self.world.note(0x0c, peer.0.into());
    }

    /// Starts a dead node again, with the worker it had.
    ///
    /// # Panics
    /// If there is no [`Sim::population`].
    pub fn restart(&mut self, peer: SimPeer) {
        if self.nodes.get(peer.index()).is_none_or(|node| node.machine.is_some()) {
            return;
        }
        let mut factory = self.factory.take().expect("Sim::population says how to make a node that restarts");
        let machine = factory(&mut Birth { peer, alive: &self.alive, rng: &mut self.births });
        self.factory = Some(factory);
        self.start(peer, machine);
    }

    fn start(&mut self, peer: SimPeer, machine: P) {
        let node = &mut self.nodes[peer.index()];
        node.machine = Some(machine);
        node.body.place = self.alive.len() as u32;
        self.alive.push(peer);
        self.turnover += 1;
        self.world.note(0x0a, peer.0.into());
        self.input(peer, |machine, cx| machine.on_start(cx));
    }

    /// A node's machine; `None` if it is dead.
    pub fn node(&self, peer: SimPeer) -> Option<&P> {
        self.nodes.get(peer.index())?.machine.as_ref()
    }

    /// A node's machine, to be changed by hand: tests break things this way.
    pub fn node_mut(&mut self, peer: SimPeer) -> Option<&mut P> {
        self.nodes.get_mut(peer.index())?.machine.as_mut()
    }

    /// A node's worker, dead or alive; `None` before its first job.
    pub fn worker(&self, peer: SimPeer) -> Option<&W> {
        self.nodes.get(peer.index())?.body.disk.as_ref().map(|disk| &disk.worker)
    }

    /// Who is alive, in no particular order.
    pub fn alive(&self) -> &[SimPeer] {
        &self.alive
    }

    /// How often a node has started or died so far: unchanged, if the living are the same as before.
    pub fn turnover(&self) -> u64 {
        self.turnover
    }

    /// The living machines with their names, in order of the names.
    pub fn view(&self) -> View<'_, P, W> {
        View { nodes: &self.nodes, now: self.now() }
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

    /// Has the nodes read to which something happens next, in two rounds: what they are, and what that leads to. No
    /// read waits for the one before it, so the processor fetches the memory of many nodes at a time. In a network that
    /// fits no cache this takes a third off the time of an event.
    fn warm(&mut self, until: Time) {
        self.soon.clear();
        self.soon.extend(self.world.coming(until.as_nanos(), WARMED));
        if self.soon.is_empty() {
            return;
        }
        let nodes = || self.soon.iter().filter_map(|peer| self.nodes.get(peer.index()));
        let records = nodes().fold(0, |sum, node| sum ^ node.warm());
        let more = nodes().fold(0, |sum, node| sum ^ node.warm_more());
        std::hint::black_box(records ^ more);
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
        while let Some((peer, todo)) = self.world.todo.pop() {
            self.carry_out(peer, todo);
        }
    }

    // ---- trouble

    /// Schedules faults, counted from now.
    pub fn inject(&mut self, schedule: Schedule) {
        for (after, fault) in schedule {
            self.world.after(nanos(after), Rare::Fault(fault));
        }
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Crash(peer) => self.crash(peer),
            Fault::Restart(peer) => self.restart(peer),
            Fault::Join => {
                self.join();
            }
            Fault::Pause(peer, duration) => {
                let until = self.world.now.saturating_add(nanos(duration));
                if let Some(node) = self.nodes.get_mut(peer.index()) {
                    node.body.paused_until = until;
                }
            }
            Fault::Cut(cut) => self.world.net.cuts.push(cut),
            Fault::Heal => self.world.net.cuts.clear(),
            Fault::Clog(from, to, duration) => {
                let until = self.world.now.saturating_add(nanos(duration));
                self.world.net.clogs.insert((from.0, to.0), until);
            }
            Fault::Drift(peer, ppm) => self.world.drift(peer, ppm),
        }
    }

    /// Gives one node a line of its own.
    pub fn set_bandwidth(&mut self, peer: SimPeer, line: Bandwidth) {
        self.world.net.lines.insert(peer.0, line);
    }

    /// The network, to be changed under way.
    pub fn network_mut(&mut self) -> &mut Network {
        &mut self.world.net.config
    }

    /// How long a message from one node to another takes at least. Draws from the network's randomness where
    /// latencies are random.
    pub fn latency(&mut self, from: SimPeer, to: SimPeer) -> Duration {
        Duration::from_nanos(self.world.net.latency(from, to))
    }

    // ---- what must hold

    /// Checks a node after every input it had. An `Err` ends the simulation with a panic that names the node, the
    /// time and the seed.
    pub fn check_each_step(&mut self, check: impl FnMut(SimPeer, &P) -> Result<(), String> + 'static) {
        self.step_check = Some(Box::new(check));
    }

    /// Checks all nodes together after every `every` steps (1: each) and when the world has become quiet.
    pub fn check_world(
        &mut self,
        every: u64,
        check: impl FnMut(&View<'_, P, W>) -> Result<(), String> + 'static,
    ) {
        self.world_check = Some((every.max(1), Box::new(check)));
    }

    fn check_the_world(&mut self) {
        let Some((_, check)) = &mut self.world_check else { return };
        let view = View { nodes: &self.nodes, now: Time::from_nanos(self.world.now) };
        if let Err(broken) = check(&view) {
            panic!("at {} (seed {}): {broken}", self.world.now(), self.seed);
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

/// The living machines.
pub struct View<'a, P: Protocol, W> {
    nodes: &'a [Node<P, W>],
    /// The virtual time.
    pub now: Time,
}

impl<'a, P: Protocol, W> View<'a, P, W> {
    /// Each with its name, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (SimPeer, &'a P)> + use<'a, P, W> {
        let machines = self.nodes.iter().enumerate();
        machines.filter_map(|(i, node)| Some((SimPeer(i as u32), node.machine.as_ref()?)))
    }

    /// One of them; `None` if it is dead.
    pub fn get(&self, peer: SimPeer) -> Option<&'a P> {
        self.nodes.get(peer.index())?.machine.as_ref()
    }
}

impl<P: Protocol, W> fmt::Debug for View<'_, P, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({} nodes at {})", self.nodes.len(), self.now)
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
