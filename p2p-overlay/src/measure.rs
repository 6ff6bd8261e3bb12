//! Measuring an overlay in the simulator, so that applications choose by numbers.
//!
//! An [`Experiment`] runs one workload on any overlay that is [`Simulated`]: lookups of random keys in pairs, each pair
//! the same key from two nodes at once, on a network that is at rest, damaged, or under churn. The [`Report`] compares
//! each answer with a brute-force look at all nodes.
//!
//! ```
//! use p2p_core::SimPeer;
//! use p2p_overlay::measure::Experiment;
//! use p2p_overlay::{Chord, ChordConfig};
//!
//! let experiment = Experiment { nodes: 200, lookups: 400, ..Experiment::default() };
//! let report = experiment.run::<Chord<SimPeer>>(ChordConfig::default());
//! assert_eq!(report.success(), 1.0);
//! assert!(report.hops.mean() < 7.0);
//! ```

pub mod flood;
pub mod freenet;
pub mod gossip;
pub mod multicast;
mod recorder;
pub mod search;
pub mod sharing;
pub mod siege;
pub mod upheaval;

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::sim::{Encoding, Ended, Histogram, Latency, Network, Session, Sim, Stats, View, churn};
use p2p_core::{Key, Keyed, NoJob, NoWorker, OpId, Rng, SimPeer, Time, Wire};

pub use recorder::{Carrier, Receipt, Recorder};

pub use crate::lookup::mislead;

use crate::can::Zone;
use crate::structured::{Find, Looked, Mode, Overlay, Region};

/// An overlay that can be measured.
pub trait Simulated: Overlay<Peer = SimPeer, Job = NoJob, Msg: Wire> {
    /// How its nodes are configured.
    type Config: Copy + Send + Sync + 'static;
    /// Whether the paper counts the last hop, to the owner itself.
    const LAST_HOP_COUNTS: bool;

    /// A network at rest.
    fn converged(peers: &[SimPeer], config: Self::Config) -> Vec<Self>;
    /// A node that joins through these; without any it starts a network.
    fn newcomer(me: SimPeer, seeds: Vec<SimPeer>, config: Self::Config) -> Self;
    /// Where the nodes stand, sorted, if that is not at their keys. A node that moves says that its
    /// [neighbours have changed](crate::NeighboursChanged).
    fn places(nodes: &mut dyn Iterator<Item = &Self>) -> Option<Vec<(Key, SimPeer)>> {
        let _ = nodes;
        None
    }
    /// Where a key lies among the places.
    fn place(&self, key: &Key) -> Key {
        *key
    }
    /// The `n` nodes that are responsible for what lies at a place, a key unless the overlay says otherwise, the first
    /// first, by a look at all nodes, which are sorted by where they stand; fewer if there are not so many.
    fn owners(nodes: &[(Key, SimPeer)], key: &Key, n: usize) -> Vec<SimPeer>;
    /// Whether what was found is right, given those owners: all of them, in order, unless the overlay says otherwise.
    fn is_right(found: &[SimPeer], owners: &[SimPeer]) -> bool {
        found == owners
    }
    /// What the overlay's paper wants of its tables when all is quiet: for so long that the upkeep has gone through all of
    /// them nobody has come, left or been cut off. Who checks it knows when that is; it holds of networks at rest, too.
    ///
    /// # Errors
    /// What is not so.
    fn is_whole(view: &View<'_, Self, NoWorker>) -> Result<(), String>;
}

/// How the network comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Its tables are computed: at rest from the beginning.
    Converged,
    /// Its nodes join one after the other, 50 a second, and have ten minutes to settle.
    Joined,
}

/// One workload on one network.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// How many nodes. 1000.
    pub nodes: u32,
    /// How many lookups. 10,000.
    pub lookups: u64,
    /// How many lookups begin per second. 100.
    pub rate: f64,
    /// The seed of everything. 1.
    pub seed: u64,
    /// The share of nodes that die at once before the lookups begin. 0.
    pub fail: f64,
    /// How long nodes stay; those that leave are replaced. They stay for good.
    pub churn: Option<Session>,
    /// How the network comes to be. Converged.
    pub start: Start,
    /// How long the network looks after itself before the lookups begin, so that nodes find out who is near. Zero.
    pub settle: Duration,
    /// How many peers each lookup wants; it succeeds if all of them are right. 1.
    pub replicas: u8,
    /// How lookups travel. In the overlay's own manner.
    pub mode: Option<Mode>,
    /// The network between the nodes. Exponential latency with a mean of 50 ms, and messages are measured.
    pub network: Network,
}

impl Default for Experiment {
    fn default() -> Experiment {
        Experiment {
            nodes: 1000,
            lookups: 10_000,
            rate: 100.0,
            seed: 1,
            fail: 0.0,
            churn: None,
            start: Start::Converged,
            settle: Duration::ZERO,
            replicas: 1,
            mode: None,
            network: Network {
                latency: Latency::Exponential(Duration::from_millis(50)),
                encoding: Encoding::Measure,
                ..Network::default()
            },
        }
    }
}

/// What an experiment showed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Lookups that were begun by nodes that then lived on until the end of the lookup.
    pub lookups: u64,
    /// Lookups that ended at the node, or the nodes, that a brute-force look at all live nodes that take part gave at that
    /// moment.
    pub succeeded: u64,
    /// The same by a look at all live nodes, those that are still joining among them: no lookup can end there yet.
    pub succeeded_of_all: u64,
    /// Nodes that were alive whenever a lookup ended, all together, and of those the ones that took part.
    pub living: (u64, u64),
    /// Pairs of lookups of one key from two nodes at one time that both ended, and of those the ones that ended alike.
    pub pairs: (u64, u64),
    /// Lookups of whose answer the asker said that it is implausible.
    pub flagged: u64,
    /// Hops per successful lookup, counted as the overlay's paper does.
    pub hops: Histogram,
    /// Silent peers met per lookup, of all that ended.
    pub timeouts: Histogram,
    /// Microseconds per successful lookup.
    pub latency_us: Histogram,
    /// Keys per node, of 50 random keys for each.
    pub load: Histogram,
    /// What the simulation did while lookups were under way.
    pub stats: Stats,
    /// Virtual seconds while lookups were under way.
    pub seconds: f64,
    /// Nodes that were alive at the end.
    pub alive: usize,
    /// The hash of all that happened.
    pub trace: u64,
}

impl Report {
    /// The share of lookups that succeeded.
    pub fn success(&self) -> f64 {
        self.succeeded as f64 / self.lookups.max(1) as f64
    }

    /// The share of lookups that succeeded by a look at all live nodes.
    pub fn success_of_all(&self) -> f64 {
        self.succeeded_of_all as f64 / self.lookups.max(1) as f64
    }

    /// The share of pairs that agree.
    pub fn agreement(&self) -> f64 {
        self.pairs.1 as f64 / self.pairs.0.max(1) as f64
    }

    /// The share of the nodes alive that took part, on average: the others were joining.
    pub fn joined(&self) -> f64 {
        self.living.1 as f64 / self.living.0.max(1) as f64
    }

    /// Bytes sent per node and second.
    pub fn bytes_per_node_s(&self) -> f64 {
        self.stats.bytes as f64 / self.alive.max(1) as f64 / self.seconds.max(1e-9)
    }
}

/// A lookup under way.
struct Asked {
    key: Key,
    pair: u64,
    began: Time,
}

impl Experiment {
    /// Builds the network and runs the workload.
    pub fn run<O: Simulated>(&self, config: O::Config) -> Report {
        let mut sim = self.build::<O>(config);
        let report = self.look_up(&mut sim);
        Report { load: load(&sim), ..report }
    }

    /// The network, before the workload: converged or joined, damaged, and with its churn scheduled.
    pub fn build<O: Simulated>(&self, config: O::Config) -> Sim<O> {
        let mut sim = Sim::<O>::new(self.seed, self.network.clone());
        sim.population(move |birth| {
            let seeds = birth.some(3);
            O::newcomer(birth.peer, seeds, config)
        });
        match self.start {
            Start::Converged => {
                let peers: Vec<SimPeer> = (0..self.nodes).map(SimPeer).collect();
                O::converged(&peers, config).into_iter().for_each(|node| {
                    sim.spawn(|_| node);
                });
            }
            Start::Joined => {
                for _ in 0..self.nodes {
                    sim.join();
                    sim.run_for(Duration::from_millis(20));
                }
                sim.run_for(Duration::from_secs(600));
            }
        }
        if !self.settle.is_zero() {
            sim.run_for(self.settle);
        }
        let mut rng = Rng::stream(self.seed, FAULTS);
        let mut victims = sim.alive().to_vec();
        rng.shuffle(&mut victims);
        victims.truncate((f64::from(self.nodes) * self.fail) as usize);
        victims.into_iter().for_each(|peer| sim.crash(peer));
        if let Some(session) = self.churn {
            let span = Duration::from_secs_f64(self.lookups as f64 / self.rate) + WARM_UP + COOL_DOWN;
            sim.inject(churn(&mut rng, self.nodes, self.nodes, session, span));
            sim.run_for(WARM_UP);
        }
        sim
    }

    /// Runs the workload on a network that stands. The report's [`Report::load`] stays empty: see [`load`].
    pub fn look_up<O: Simulated>(&self, sim: &mut Sim<O>) -> Report {
        let mut report = Report::default();
        let mut asked: BTreeMap<OpId, Asked> = BTreeMap::new();
        let mut firsts: BTreeMap<u64, Option<SimPeer>> = BTreeMap::new();
        let mut census = Census::default();
        let (before, began) = (sim.stats(), sim.now());
        let mut next = sim.now();
        for pair in 0..self.lookups.div_ceil(2) {
            let gap = sim.workload_rng().exponential() * 2.0 / self.rate;
            next += Duration::from_secs_f64(gap);
            while sim.run_to_outcome(next) {
                self.collect(sim, &mut asked, &mut firsts, &mut census, &mut report);
            }
            let key = sim.workload_rng().key();
            let joined = |sim: &Sim<O>, peer: &SimPeer| sim.node(*peer).is_some_and(O::is_joined);
            if !sim.alive().iter().any(|peer| joined(sim, peer)) {
                continue; // There is nobody to ask.
            }
            for _ in 0..2 {
                let origin = loop {
                    let at = sim.workload_rng().next_u64();
                    let origin = sim.alive()[(at % sim.alive().len() as u64) as usize];
                    if joined(sim, &origin) {
                        break origin;
                    }
                };
                let op =
                    sim.command(origin, Find { mode: self.mode, ..Find::key(key).replicas(self.replicas) });
                asked.insert(op, Asked { key, pair, began: sim.now() });
            }
        }
        let end = sim.now() + COOL_DOWN;
        while sim.run_to_outcome(end) {
            self.collect(sim, &mut asked, &mut firsts, &mut census, &mut report);
            if asked.is_empty() {
                break;
            }
        }
        report.seconds = (sim.now() - began).as_secs_f64();
        report.stats = difference(sim.stats(), before);
        report.alive = sim.alive().len();
        report.trace = sim.trace();
        report
    }

    fn collect<O: Simulated>(
        &self,
        sim: &mut Sim<O>,
        asked: &mut BTreeMap<OpId, Asked>,
        firsts: &mut BTreeMap<u64, Option<SimPeer>>,
        census: &mut Census,
        report: &mut Report,
    ) {
        for Ended { op, at, outcome, .. } in sim.take_outcomes() {
            let Some(Asked { key, pair, began }) = asked.remove(&op) else { continue };
            let root = outcome.as_ref().ok().map(|found| found.root());
            match firsts.remove(&pair) {
                None => drop(firsts.insert(pair, root)),
                Some(first) => {
                    if let (Some(first), Some(second)) = (first, root) {
                        report.pairs.0 += 1;
                        report.pairs.1 += u64::from(first == second);
                    }
                }
            }
            report.lookups += 1;
            let any = sim.alive().first().and_then(|peer| sim.node(*peer));
            let place = any.map_or(key, |node| node.place(&key));
            census.look(sim);
            let [owners, of_all] =
                [&census.nodes, &census.all].map(|nodes| O::owners(nodes, &place, self.replicas.into()));
            report.living.0 += sim.alive().len() as u64;
            report.living.1 += (sim.alive().len() - census.outside.len()) as u64;
            let is_right = |owners| outcome.as_ref().is_ok_and(|found| O::is_right(&found.peers, owners));
            let right = is_right(&owners);
            report.succeeded_of_all += u64::from(is_right(&of_all));
            record::<O>(report, right, &outcome, at - began);
        }
    }
}

/// The stream of the faults.
const FAULTS: u64 = 1 << 20;
const WARM_UP: Duration = Duration::from_secs(300);
const COOL_DOWN: Duration = Duration::from_secs(180);

fn record<O: Simulated>(report: &mut Report, right: bool, looked: &Looked<SimPeer>, took: Duration) {
    let Ok(found) = looked else { return };
    report.timeouts.add(u64::from(found.timeouts));
    report.flagged += u64::from(found.implausible.is_some());
    if right {
        report.succeeded += 1;
        report.hops.add(u64::from(found.hops.saturating_sub(u32::from(!O::LAST_HOP_COUNTS))));
        report.latency_us.add(took.as_micros() as u64);
    }
}

/// All nodes, and those that have joined, sorted by where they stand; counted again when who lives, or has joined, or where
/// they stand may have changed.
#[derive(Default)]
struct Census {
    turnover: u64,
    /// Of each peer, by its number.
    keys: Vec<Key>,
    all: Vec<(Key, SimPeer)>,
    nodes: Vec<(Key, SimPeer)>,
    /// Alive, but not joined when last counted.
    outside: Vec<SimPeer>,
    /// They do not stand at their keys, and what had been said when last counted.
    moving: Option<u64>,
}

impl Census {
    fn look<O: Simulated>(&mut self, sim: &Sim<O>) {
        let joined = |peer: &SimPeer| sim.node(*peer).is_some_and(O::is_joined);
        let said = sim.stats().said;
        let moved = self.moving.is_some_and(|before| before != said);
        if self.turnover != sim.turnover() || self.outside.iter().any(joined) || moved {
            self.turnover = sim.turnover();
            let (inside, outside): (Vec<SimPeer>, Vec<SimPeer>) =
                sim.alive().iter().partition(|peer| joined(peer));
            self.outside = outside;
            if let Some(places) = O::places(&mut inside.iter().filter_map(|peer| sim.node(*peer))) {
                // Who has not joined stands nowhere.
                (self.all, self.nodes, self.moving) = (places.clone(), places, Some(said));
                return;
            }
            let newest = sim.alive().iter().map(|peer| peer.index() + 1).max().unwrap_or(0);
            self.keys.extend((self.keys.len()..newest).map(|i| SimPeer(i as u32).key()));
            self.all = sim.alive().iter().map(|peer| (self.keys[peer.index()], *peer)).collect();
            self.all.sort_unstable();
            self.nodes.clone_from(&self.all);
            self.nodes.retain(|(_, peer)| !self.outside.contains(peer));
        }
    }
}

/// Keys per node, of 50 random keys for each, by what the nodes say is theirs.
pub fn load<O: Simulated>(sim: &Sim<O>) -> Histogram {
    let mut rng = Rng::new(50);
    let mut keys: Vec<Key> = (0..50 * sim.alive().len()).map(|_| rng.key()).collect();
    keys.sort_unstable();
    // In order of their paths, for boxes.
    let mut by_path: Vec<Key> = Vec::new();
    let count = |region: Region| match region {
        Region::Boxes(zones) => {
            if let Some(zone) = zones.first().filter(|_| by_path.is_empty()) {
                by_path = keys.iter().map(|key| zone.space().path(key)).collect();
                by_path.sort_unstable();
            }
            let within = |zone: &Zone| keys_with_prefix(&by_path, &zone.path(), zone.halvings().into()).len();
            zones.iter().map(within).sum::<usize>() as u64
        }
        region => count(&keys, &region),
    };
    sim.view().iter().map(|(_, node)| node.mine()).map(count).collect()
}

/// The sorted keys that begin with these bits: they stand together.
fn keys_with_prefix<'a>(keys: &'a [Key], prefix: &Key, bits: usize) -> &'a [Key] {
    let near = |other: &Key| other.common_prefix(prefix) >= bits;
    let keys = &keys[keys.partition_point(|other| other < prefix && !near(other))..];
    &keys[..keys.partition_point(near)]
}

/// How many of the sorted keys lie in a region.
fn count(keys: &[Key], region: &Region) -> u64 {
    let upto = |key: &Key| keys.partition_point(|other| other <= key);
    let in_arc = |(after, upto_key): &(Key, Key)| match after < upto_key {
        true => upto(upto_key) - upto(after),
        false => keys.len() - upto(after) + upto(upto_key),
    };
    match region {
        Region::Arcs(arcs) => arcs.iter().map(in_arc).sum::<usize>() as u64,
        Region::Bits { key, mask } => {
            let bits = (0..Key::<32>::BITS).find(|&i| !mask.bit(i)).unwrap_or(Key::<32>::BITS);
            let near = keys_with_prefix(keys, key, bits);
            near.iter().filter(|key| region.contains(key)).count() as u64
        }
        Region::Digits(levels) => with_digits(keys, levels, 0),
        Region::Boxes(_) => keys.iter().filter(|key| region.contains(key)).count() as u64,
        Region::Nothing => 0,
    }
}

/// How many of the sorted keys, which are alike up to digit `i`, have digits of which `levels` take each from there on.
fn with_digits(keys: &[Key], levels: &[u16], i: usize) -> u64 {
    let Some(taken) = levels.get(i).filter(|_| !keys.is_empty()) else { return keys.len() as u64 };
    let before = |digit: u8| keys.partition_point(|key| key.digit(i, 4) < digit);
    let taken = (0..16).filter(|digit| taken >> digit & 1 == 1);
    taken.map(|digit| with_digits(&keys[before(digit)..before(digit + 1)], levels, i + 1)).sum()
}

/// Some of `n` places, chosen by chance (Floyd's sampling); all, if there are no more.
pub(crate) fn sample(rng: &mut Rng, n: usize, some: usize) -> impl Iterator<Item = usize> + use<> {
    let mut chosen = Vec::new();
    for last in n.saturating_sub(some)..n {
        let i = rng.below(last as u64 + 1) as usize;
        chosen.push(if chosen.contains(&i) { last } else { i });
    }
    chosen.into_iter()
}

fn difference(after: Stats, before: Stats) -> Stats {
    Stats {
        delivered: after.delivered - before.delivered,
        timers: after.timers - before.timers,
        sent: after.sent - before.sent,
        bytes: after.bytes - before.bytes,
        lost: after.lost - before.lost,
        cut: after.cut - before.cut,
        undeliverable: after.undeliverable - before.undeliverable,
        overflowed: after.overflowed - before.overflowed,
        said: after.said - before.said,
        jobs: after.jobs - before.jobs,
        jobs_failed: after.jobs_failed - before.jobs_failed,
    }
}
