//! Measuring gossip: whom a broadcast reaches, by how many copies, also when most nodes fail at once; and how soon a
//! failure is noticed.
//!
//! After the figures of HyParView (DSN 2007 §5.2), Plumtree (SRDS 2007 §4) and SWIM (DSN 2002 §3.1).
//!
//! ```
//! use p2p_overlay::measure::gossip::Broadcasts;
//!
//! let report = Broadcasts { nodes: 100, warm: 20, after: 5, fail: 0.2, ..Broadcasts::default() }.run();
//! assert!(report.stable(5) < 0.1, "relative message redundancy");
//! assert_eq!(report.after.last().unwrap().reached(), 1.0);
//! ```

use std::sync::Arc;
use std::time::Duration;

use p2p_core::sim::{Histogram, Latency, Network, Sim, Stats};
use p2p_core::{Rng, SimPeer, Time};

use crate::hyparview::{HyParView, HyParViewConfig};
use crate::membership::Membership;
use crate::plumtree::{Gossip, Plumtree, PlumtreeCommand, PlumtreeConfig};
use crate::pubsub::Topic;
use crate::swim::{Swim, SwimConfig};

/// Broadcasts in a network at rest, then in what is left of it. Nobody but those who fail comes or goes.
#[derive(Clone, Copy, Debug)]
pub struct Broadcasts {
    /// How many nodes. 10,000, the papers'.
    pub nodes: u32,
    /// The seed of everything. 1.
    pub seed: u64,
    /// How many messages are published before anybody fails. 50.
    pub warm: u32,
    /// The share of nodes that fail at once then. 0.
    pub fail: f64,
    /// How many messages are published after that. 30.
    pub after: u32,
    /// How often one is published, by somebody who has not yet. 2 s.
    pub every: Duration,
    /// How long it takes until a connection to somebody who is dead is known to be lost; `None`: nobody hears of it,
    /// and neighbours find out by themselves. 1 s.
    pub links: Option<Duration>,
    /// How the membership behaves.
    pub membership: HyParViewConfig,
    /// How the broadcast does.
    pub config: PlumtreeConfig,
}

impl Default for Broadcasts {
    fn default() -> Broadcasts {
        Broadcasts {
            nodes: 10_000,
            seed: 1,
            warm: 50,
            fail: 0.0,
            after: 30,
            every: Duration::from_secs(2),
            links: Some(Duration::from_secs(1)),
            membership: HyParViewConfig::default(),
            config: PlumtreeConfig::default(),
        }
    }
}

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// When it was published: since the failure, or since the beginning.
    pub at: Duration,
    /// How many lived.
    pub nodes: u64,
    /// How many had it when the next was published, the publisher too.
    pub received: u64,
    /// How many copies came to those who had it already.
    pub duplicates: u64,
    /// How many steps it took to the furthest.
    pub hops: u16,
}

impl Reach {
    /// The share of the living that it has reached: the papers' reliability.
    pub fn reached(&self) -> f64 {
        self.received as f64 / self.nodes as f64
    }

    /// How many more copies were sent than there were receivers, for each of these: relative message redundancy
    /// (SRDS 2007 §4.1).
    pub fn redundancy(&self) -> f64 {
        self.duplicates as f64 / (self.received.max(2) - 1) as f64
    }
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct BroadcastReport {
    /// The messages before the failure.
    pub before: Vec<Reach>,
    /// Those after it.
    pub after: Vec<Reach>,
    /// How many neighbours the living had in the end.
    pub active: Histogram,
    /// What the simulator did.
    pub stats: Stats,
    /// The hash of all that happened.
    pub trace: u64,
}

impl BroadcastReport {
    /// The mean redundancy of the last messages before the failure.
    pub fn stable(&self, last: usize) -> f64 {
        let last = &self.before[self.before.len().saturating_sub(last)..];
        last.iter().map(Reach::redundancy).sum::<f64>() / last.len().max(1) as f64
    }
}

/// The stream of publishers and victims.
const CHOICES: u64 = 1 << 22;

impl Broadcasts {
    /// Builds the network and measures it.
    pub fn run(&self) -> BroadcastReport {
        self.measure(&mut self.build(), Sim::run_for)
    }

    /// The network, at rest.
    pub fn build(&self) -> Sim<Gossip<SimPeer>> {
        let latency = Latency::Uniform(Duration::from_millis(20), Duration::from_millis(80));
        let network = Network { latency, links: self.links, ..Network::default() };
        let mut sim = Sim::<Gossip<SimPeer>>::new(self.seed, network);
        let peers: Vec<SimPeer> = (0..self.nodes).map(SimPeer).collect();
        let config = Arc::new(self.config);
        for membership in HyParView::converged(&peers, self.membership, self.seed) {
            sim.spawn(|_| Plumtree::shared(membership, config.clone()));
        }
        sim
    }

    /// Publishes, lets nodes fail, publishes again. Between looks at all nodes `run` lets the time pass, with
    /// [`Sim::run_for`]: a caller that wants to know how fast the simulator is holds a clock around that.
    pub fn measure(
        &self,
        sim: &mut Sim<Gossip<SimPeer>>,
        mut run: impl FnMut(&mut Sim<Gossip<SimPeer>>, Duration),
    ) -> BroadcastReport {
        let mut rng = Rng::stream(self.seed, CHOICES);
        let mut order = sim.alive().to_vec();
        rng.shuffle(&mut order);
        let dead = (f64::from(self.nodes) * self.fail) as usize;
        let (victims, mut survivors) = (order.split_off(order.len() - dead), order);
        let began = sim.now();
        let before = (0..self.warm).map(|_| self.publish(sim, &mut survivors, began, &mut run)).collect();
        for victim in victims {
            sim.crash(victim);
        }
        let failed = sim.now();
        let after = (0..self.after).map(|_| self.publish(sim, &mut survivors, failed, &mut run)).collect();
        let active = sim.view().iter().map(|(_, node)| node.membership().active().len() as u64).collect();
        BroadcastReport { before, after, active, stats: sim.stats(), trace: sim.trace() }
    }

    /// One message, by the survivor that has not published for the longest time.
    fn publish(
        &self,
        sim: &mut Sim<Gossip<SimPeer>>,
        survivors: &mut [SimPeer],
        since: Time,
        run: &mut impl FnMut(&mut Sim<Gossip<SimPeer>>, Duration),
    ) -> Reach {
        survivors.rotate_left(1);
        let publisher = survivors[0];
        // One look at all nodes: copies, how many have how many of the publisher's messages, steps.
        let look = |sim: &Sim<Gossip<SimPeer>>| {
            sim.view().iter().fold((0, 0, 0), |(copies, had, hops), (_, node)| {
                let counts = node.counts();
                (copies + counts.duplicates, had + node.seen_of(publisher), counts.hops.max(hops))
            })
        };
        let (at, (copies_before, had_before, _)) = (sim.now() - since, look(sim));
        let publish = PlumtreeCommand::Publish { topic: Topic::named("measured"), bytes: "measured".into() };
        sim.command(publisher, publish);
        run(sim, self.every);
        sim.take_outcomes();
        let (copies, had, hops) = look(sim);
        let (received, duplicates): (u64, u64) = (had - had_before, copies - copies_before);
        Reach { at, nodes: sim.alive().len() as u64, received, duplicates, hops }
    }
}

/// Members of a SWIM group that fail, a few at a time.
#[derive(Clone, Copy, Debug)]
pub struct Detections {
    /// How many members. 1000.
    pub members: u32,
    /// How often some fail. 20.
    pub rounds: u32,
    /// How many fail at once: few, for the dead ping nobody. 10.
    pub at_once: u32,
    /// The seed of everything. 1.
    pub seed: u64,
}

impl Default for Detections {
    fn default() -> Detections {
        Detections { members: 1000, rounds: 20, at_once: 10, seed: 1 }
    }
}

impl Detections {
    /// For each who failed: in which period after that somebody first pinged it, in vain. Every member pings one other
    /// in each period, whenever its own begin.
    pub fn run(&self) -> Histogram {
        let config = SwimConfig { max_members: self.members as usize, ..SwimConfig::default() };
        let mut sim = Sim::<Swim<SimPeer>>::new(self.seed, Network::default());
        let peers: Vec<SimPeer> = (0..self.members).map(SimPeer).collect();
        for member in Swim::converged(&peers, config) {
            sim.spawn(|_| member);
        }
        let mut order = peers;
        Rng::stream(self.seed, CHOICES).shuffle(&mut order);
        let mut periods = Histogram::default();
        sim.run_for(config.period * 3);
        for victims in order.chunks_exact(self.at_once as usize).take(self.rounds as usize) {
            victims.iter().for_each(|victim| sim.crash(*victim));
            let failed = sim.now();
            let mut unnoticed = victims.to_vec();
            while !unnoticed.is_empty() {
                sim.run_for(config.period / 50);
                let nodes = sim.view();
                let suspected = |victim: &SimPeer| nodes.iter().any(|(_, node)| node.is_suspected(*victim));
                let noticed = unnoticed.iter().filter(|victim| suspected(victim)).count();
                unnoticed.retain(|victim| !suspected(victim));
                // Suspected a period after the ping.
                let late = (sim.now() - failed).saturating_sub(config.period);
                let period = late.as_nanos().div_ceil(config.period.as_nanos()).max(1) as u64;
                (0..noticed).for_each(|_| periods.add(period));
            }
        }
        periods
    }
}
