//! Networks that share files, by numbers, on one workload: what a search costs, whether it finds something, and who
//! bears the load, in questions and in bytes.
//!
//! ```
//! use p2p_overlay::measure::sharing::Sharing;
//! use p2p_overlay::{Gnutella06Config, GnutellaConfig, KazaaConfig};
//!
//! let sharing = Sharing { nodes: 100, searches: 20, ..Sharing::default() };
//! let old = sharing.gnutella(GnutellaConfig::default()).run();
//! let new = sharing.gnutella06(Gnutella06Config::default()).run();
//! let indexed = sharing.kazaa(KazaaConfig::default()).run();
//! assert!(new.messages() < old.messages() && indexed.messages() < old.messages());
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use p2p_core::sim::{Histogram, Network, Sim};
use p2p_core::{Contact, Cx, Link, NoJob, OpId, Protocol, Rng, SimPeer, Up, Wire};

use crate::gnutella::{Gnutella, GnutellaCommand, GnutellaConfig, GnutellaOutcome};
use crate::gnutella06::{Gnutella06, Gnutella06Config};
use crate::kazaa::{Kazaa, KazaaConfig};
use crate::place::Place;
use crate::promotion::Role;
use crate::search::{End, Item, Query, Reach, Scope, SearchCommand, SearchOutcome};

/// One workload: everybody shares some titles and looks for others, by Zipf's law of exponent 1 both; one search a
/// second, after the network has had a while to form.
#[derive(Clone, Copy, Debug)]
pub struct Sharing {
    /// How many nodes. 1,000.
    pub nodes: u32,
    /// One in so many is an ultrapeer or a super-node, where there are some: enough for three of each leaf. 8.
    pub leaves: u32,
    /// How many titles there are. 1,000.
    pub titles: u32,
    /// How many each node shares. 5.
    pub shared: u32,
    /// How long the network has to form. 600 s.
    pub form: Duration,
    /// How many searches. 100.
    pub searches: u32,
    /// How many hits each wants. 1.
    pub hits: u32,
    /// How long each may take. 120 s.
    pub deadline: Duration,
    /// The seed of everything. 1.
    pub seed: u64,
}

impl Default for Sharing {
    fn default() -> Sharing {
        Sharing {
            nodes: 1000,
            leaves: 8,
            titles: 1000,
            shared: 5,
            form: Duration::from_secs(600),
            searches: 100,
            hits: 1,
            deadline: Duration::from_secs(120),
            seed: 1,
        }
    }
}

/// A network that has formed, before anybody looks for anything.
pub struct Formed(Box<dyn FnOnce() -> Report>);

impl Formed {
    /// Runs the workload. A caller that wants to know how fast the simulator is holds a clock around this.
    pub fn run(self) -> Report {
        (self.0)()
    }
}

impl fmt::Debug for Formed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Formed")
    }
}

/// What came of it. Messages are queries and hits; what keeps the network together is not counted there, but among the
/// bytes.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many searches there were.
    pub searches: u32,
    /// How many found as much as they wanted.
    pub found: u32,
    /// How long those took, in milliseconds.
    pub delays: Histogram,
    /// Queries to nodes that pass them on, and to leaves.
    pub queries: [u64; 2],
    /// How many nodes of each kind there were.
    pub nodes: [u32; 2],
    /// Hits, each counted on every hop.
    pub hits: u64,
    /// Queries to leaves and on last hops that were sent, and that tables have saved.
    pub filtered: [u64; 2],
    /// Bytes that nodes of each kind have sent and received, in the encoding of this library, while there were
    /// searches,
    pub bytes: [u64; 2],
    /// and for how many seconds that was.
    pub seconds: f64,
    /// Events of the simulation since the network had formed.
    pub events: u64,
    /// The simulation's trace hash.
    pub trace: u64,
}

impl Report {
    /// Messages of one search, on average.
    pub fn messages(&self) -> f64 {
        self.per_search(self.queries[0] + self.queries[1] + self.hits)
    }

    /// The share of searches that found as much as they wanted.
    pub fn success(&self) -> f64 {
        f64::from(self.found) / f64::from(self.searches.max(1))
    }

    /// How many queries one node gets of each search, on average: one that passes them on, and a leaf.
    pub fn load(&self) -> [f64; 2] {
        [0, 1].map(|kind| self.per_search(self.queries[kind]) / f64::from(self.nodes[kind].max(1)))
    }

    /// How many bytes a second one node sends and receives, on average: one that passes queries on, and a leaf.
    pub fn bandwidth(&self) -> [f64; 2] {
        [0, 1]
            .map(|kind| self.bytes[kind] as f64 / f64::from(self.nodes[kind].max(1)) / self.seconds.max(1.0))
    }

    /// The share of the messages on last hops that tables have saved.
    pub fn saved(&self) -> f64 {
        let [sent, saved] = self.filtered;
        saved as f64 / (sent + saved).max(1) as f64
    }

    fn per_search(&self, all: u64) -> f64 {
        all as f64 / f64::from(self.searches.max(1))
    }
}

/// How often titles are wanted, by Zipf's law, each with all before it.
fn rates(titles: u32) -> Vec<f64> {
    let mut sum = 0.0;
    let upto = |rank| {
        sum += 1.0 / f64::from(rank);
        sum
    };
    (1..=titles).map(upto).collect()
}

/// A number by these rates.
fn zipf(rates: &[f64], rng: &mut Rng) -> u32 {
    let sum = rates.last().copied().unwrap_or(0.0);
    let at = rng.unit() * sum;
    rates.partition_point(|rate| *rate <= at).min(rates.len().saturating_sub(1)) as u32
}

/// What a machine has to do for this.
trait Servent: Protocol<Peer = SimPeer, Msg: Wire, Job = NoJob> {
    fn ask(command: SearchCommand<SimPeer>) -> Self::Command;
    fn answered(outcome: &Self::Outcome) -> Option<&SearchOutcome<SimPeer>>;
    /// Queries to nodes that pass on, and to leaves; hits; what was sent on last hops, and what was saved.
    fn counted(&self) -> [u64; 5];
    fn is_leaf(&self) -> bool;
}

impl Servent for Gnutella<SimPeer> {
    fn ask(command: SearchCommand<SimPeer>) -> GnutellaCommand<SimPeer> {
        GnutellaCommand::Search(command)
    }
    fn answered(outcome: &GnutellaOutcome<SimPeer>) -> Option<&SearchOutcome<SimPeer>> {
        match outcome {
            GnutellaOutcome::Search(outcome) => Some(outcome),
            GnutellaOutcome::Listens => None,
        }
    }
    fn counted(&self) -> [u64; 5] {
        let tally = self.tally();
        [tally.queries, 0, tally.hits, 0, 0]
    }
    fn is_leaf(&self) -> bool {
        false
    }
}

impl Servent for Gnutella06<SimPeer> {
    fn ask(command: SearchCommand<SimPeer>) -> SearchCommand<SimPeer> {
        command
    }
    fn answered(outcome: &SearchOutcome<SimPeer>) -> Option<&SearchOutcome<SimPeer>> {
        Some(outcome)
    }
    fn counted(&self) -> [u64; 5] {
        let tally = self.tally();
        let (sent, saved) = (tally.to_leaves + tally.last_hops, tally.leaves_spared + tally.last_hops_spared);
        [tally.queries, tally.to_leaves, tally.hits, sent, saved]
    }
    fn is_leaf(&self) -> bool {
        self.role() == Role::Leaf
    }
}

impl Servent for Kazaa<SimPeer> {
    fn ask(command: SearchCommand<SimPeer>) -> SearchCommand<SimPeer> {
        command
    }
    fn answered(outcome: &SearchOutcome<SimPeer>) -> Option<&SearchOutcome<SimPeer>> {
        Some(outcome)
    }
    fn counted(&self) -> [u64; 5] {
        let tally = self.tally();
        [tally.queries + tally.offers, 0, tally.hits, 0, 0]
    }
    fn is_leaf(&self) -> bool {
        self.role() == Role::Leaf
    }
}

/// What nodes have sent and received.
struct Scales {
    /// Only while there are searches: it costs time.
    on: AtomicBool,
    bytes: Vec<AtomicU64>,
}

/// A servent whose messages are weighed.
struct Weighed<S> {
    servent: S,
    me: SimPeer,
    scales: Arc<Scales>,
}

impl<S: Servent> Weighed<S> {
    fn run(&mut self, cx: &mut Cx<'_, Self>, input: impl FnOnce(&mut S, &mut Cx<'_, S>)) {
        let Weighed { servent, me, scales } = self;
        let weigh = |to: SimPeer, msg: S::Msg| {
            if scales.on.load(Ordering::Relaxed) {
                for bytes in [*me, to].iter().filter_map(|end| scales.bytes.get(end.index())) {
                    bytes.fetch_add(msg.wire_len() as u64, Ordering::Relaxed);
                }
            }
            (to, msg)
        };
        let ups = cx.nest_as(weigh, |timer| timer, |job| job, |cx| input(servent, cx));
        for up in ups {
            match up {
                Up::Item(op, item) => cx.item(op, item),
                Up::Finished(op, outcome) => cx.finish(op, outcome),
                Up::Event(event) => cx.emit(event),
            }
        }
    }
}

impl<S: Servent> Protocol for Weighed<S> {
    type Peer = SimPeer;
    type Msg = S::Msg;
    type Timer = S::Timer;
    type Command = S::Command;
    type Item = S::Item;
    type Outcome = S::Outcome;
    type Event = S::Event;
    type Job = NoJob;

    fn warm(&self) {
        self.servent.warm();
    }
    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.run(cx, |servent, cx| servent.on_start(cx));
    }
    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: SimPeer, msg: S::Msg) {
        self.run(cx, |servent, cx| servent.on_message(cx, from, msg));
    }
    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: S::Timer) {
        self.run(cx, |servent, cx| servent.on_timer(cx, timer));
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: S::Command) {
        self.run(cx, |servent, cx| servent.on_command(cx, op, command));
    }
    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.run(cx, |servent, cx| servent.on_cancel(cx, op));
    }
    fn on_read(&mut self, cx: &mut Cx<'_, Self>, op: OpId, items: usize) {
        self.run(cx, |servent, cx| servent.on_read(cx, op, items));
    }
    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: SimPeer, link: Link) {
        self.run(cx, |servent, cx| servent.on_link(cx, peer, link));
    }
}

impl Sharing {
    /// Forms a network of Gnutella 0.4.
    pub fn gnutella(&self, config: GnutellaConfig) -> Formed {
        self.form(|me, seeds, items, _| {
            let mut servent = Gnutella::new(me.contact(), seeds, config);
            for item in items {
                // It is new, and few are shared.
                let _: Result<u32, _> = servent.library_mut().insert(item);
            }
            servent
        })
    }

    /// Forms a network of Gnutella 0.6.
    pub fn gnutella06(&self, config: Gnutella06Config) -> Formed {
        self.form(|me, seeds, items, role| {
            let mut servent = Gnutella06::new(me.contact(), seeds, role, config);
            for item in items {
                let _: Result<u32, _> = servent.library_mut().insert(item);
            }
            servent
        })
    }

    /// Forms a network of KaZaA.
    pub fn kazaa(&self, config: KazaaConfig) -> Formed {
        self.form(|me, seeds, items, role| {
            let mut node = Kazaa::new(me.contact(), seeds, role, config);
            for item in items {
                let _: Result<u32, _> = node.library_mut().insert(item);
            }
            node
        })
    }

    fn form<S: Servent + 'static>(
        &self,
        make: impl Fn(SimPeer, Vec<Contact>, Vec<Item>, Role) -> S,
    ) -> Formed {
        let mut sim = Sim::<Weighed<S>>::new(self.seed, Network::default());
        let bytes = (0..self.nodes).map(|_| AtomicU64::new(0)).collect();
        let scales = Arc::new(Scales { on: AtomicBool::new(false), bytes });
        let rates = rates(self.titles);
        for node in 0..self.nodes {
            let role = if node % self.leaves.max(1) == 0 { Role::Ultrapeer } else { Role::Leaf };
            let rng = sim.workload_rng();
            let items = (0..self.shared).map(|_| format!("title{}", zipf(&rates, rng)));
            let items = items.map(|title| Item::new(title, 1000)).collect();
            let seeds: Vec<Contact> =
                (0..3.min(node)).filter_map(|_| SimPeer(rng.below(node.into()) as u32).contact()).collect();
            let scales = scales.clone();
            sim.spawn(|birth| {
                let me = birth.peer;
                Weighed { servent: make(me, seeds, items, role), me, scales }
            });
        }
        sim.run_for(self.form);
        let sharing = *self;
        Formed(Box::new(move || sharing.search(sim, &scales, &rates)))
    }

    fn search<S: Servent>(&self, mut sim: Sim<Weighed<S>>, scales: &Scales, rates: &[f64]) -> Report {
        let (before, formed) = (self.sum(&sim), sim.stats().events());
        scales.on.store(true, Ordering::Relaxed);
        let begin = sim.now();
        let scope = Scope { hits: self.hits, deadline: self.deadline, reach: Reach::Auto };
        let mut begun = BTreeMap::new();
        for _ in 0..self.searches {
            let rng = sim.workload_rng();
            let (from, title) = (rng.below(self.nodes.into()) as u32, zipf(rates, rng));
            let query = Query::text(&format!("title{title}"));
            let op = sim.command(SimPeer(from), S::ask(SearchCommand::Search(query, scope)));
            begun.insert((SimPeer(from), op), sim.now());
            sim.run_for(Duration::from_secs(1));
        }
        sim.run_for(self.deadline);
        let seconds = sim.now().since(begin).as_secs_f64();
        let mut report = Report { searches: self.searches, seconds, ..Report::default() };
        for ended in sim.take_outcomes() {
            if let Some(SearchOutcome::Searched(Ok(searched))) = S::answered(&ended.outcome)
                && searched.end == End::Enough
            {
                report.found += 1;
                let took = begun.get(&(ended.peer, ended.op)).map(|begun| ended.at.since(*begun));
                report.delays.add(took.unwrap_or_default().as_millis() as u64);
            }
        }
        let after = self.sum(&sim);
        let [passing, leaves, hits, sent, saved] = std::array::from_fn(|i| after[i] - before[i]);
        report.queries = [passing, leaves];
        report.hits = hits;
        report.filtered = [sent, saved];
        let nodes = (0..self.nodes).filter_map(|node| sim.node(SimPeer(node)));
        for (node, bytes) in nodes.zip(&scales.bytes) {
            let kind = usize::from(node.servent.is_leaf());
            report.nodes[kind] += 1;
            report.bytes[kind] += bytes.load(Ordering::Relaxed);
        }
        report.events = sim.stats().events() - formed;
        report.trace = sim.trace();
        report
    }

    fn sum<S: Servent>(&self, sim: &Sim<Weighed<S>>) -> [u64; 5] {
        let each =
            (0..self.nodes).filter_map(|node| sim.node(SimPeer(node))).map(|node| node.servent.counted());
        each.fold([0; 5], |sum, node| std::array::from_fn(|i| sum[i] + node[i]))
    }
}
