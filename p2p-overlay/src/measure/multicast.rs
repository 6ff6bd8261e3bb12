//! Measuring trees: how much later messages come than if they were sent directly, and how the work is shared.
//!
//! After JSAC 2002 §IV: groups whose sizes follow Zipf's law, members at random, one message to each group.
//!
//! ```
//! use p2p_core::SimPeer;
//! use p2p_overlay::measure::multicast::Groups;
//! use p2p_overlay::{Chord, ChordConfig};
//! use std::time::Duration;
//!
//! let groups = Groups { nodes: 200, groups: 20, ..Groups::default() };
//! let at_rest = ChordConfig { stabilize: Duration::ZERO, ..ChordConfig::default() };
//! let report = groups.run::<Chord<SimPeer>>(at_rest);
//! assert_eq!((report.delivered, report.duplicates), (report.expected, 0));
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::sim::{Encoding, Histogram, Latency, Network, Sim};
use p2p_core::{Key, Rng, SimPeer, Time};

use super::Simulated;
use super::recorder::{Receipt, Recorder};
use crate::pubsub::Topic;
use crate::scribe::{Scribe, ScribeCommand, ScribeConfig};
use crate::structured::SingleRoot;

/// Groups in a network whose nodes lie in a square. Nobody comes or goes.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    /// How many nodes, N. 1000; the paper's are 100,000.
    pub nodes: u32,
    /// How many groups. The r-th has N·r^-1.25 members, and two at least (JSAC §IV). 1500.
    pub groups: u32,
    /// The seed of everything. 1.
    pub seed: u64,
    /// How long a message is on the way. Nodes lie in a square with edges of 100 ms.
    pub latency: Latency,
    /// How long the overlay looks after its tables before the groups are made, so that it can find out who is near.
    /// Zero.
    pub settle: Duration,
    /// How the nodes behave; the upkeep of the trees rests.
    pub config: ScribeConfig,
}

impl Default for Groups {
    fn default() -> Groups {
        Groups {
            nodes: 1000,
            groups: 1500,
            seed: 1,
            latency: Latency::Plane(Duration::from_millis(100)),
            settle: Duration::ZERO,
            config: ScribeConfig::default(),
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Of each group, its members' mean delay divided by their mean delay from the publisher directly: the paper's RAD,
    /// sorted. In a square IP multicast would take as long as that.
    pub rad: Vec<f64>,
    /// The same of the latest member and the furthest one: RMD.
    pub rmd: Vec<f64>,
    /// Of each node, in how many groups it has children.
    pub tables: Histogram,
    /// Of each node, how many children it has in all groups together.
    pub entries: Histogram,
    /// Of each node in each group in which it has children, how many: so many copies of each message it sends.
    pub copies: Histogram,
    /// Of each member, how many nodes are between it and the root, and one more.
    pub depth: Histogram,
    /// How many messages members should have received.
    pub expected: u64,
    /// How many they have received.
    pub delivered: u64,
    /// How often one of them came again.
    pub duplicates: u64,
    /// The hash of all that happened.
    pub trace: u64,
}

/// The stream of the members and publishers.
const MEMBERS: u64 = 1 << 21;
/// Longer than anything takes in a network at rest.
const SETTLED: Duration = Duration::from_secs(30);

impl Groups {
    /// How many members a group has, by its rank from 1.
    pub fn size(&self, rank: u32) -> usize {
        let size = f64::from(self.nodes) * libm::pow(f64::from(rank), -1.25) + 0.5;
        (size as usize).max(2).min(self.nodes as usize)
    }

    /// Builds the network and its trees, sends one message to each group, and says how it went.
    pub fn run<O: Simulated + SingleRoot>(&self, config: O::Config) -> Report {
        let network = Network { latency: self.latency, encoding: Encoding::Measure, ..Network::default() };
        let mut sim = Sim::<Recorder<Scribe<O>>>::new(self.seed, network);
        let peers: Vec<SimPeer> = (0..self.nodes).map(SimPeer).collect();
        let scribe = ScribeConfig { heartbeat: Duration::ZERO, ..self.config };
        for overlay in O::converged(&peers, config) {
            sim.spawn(|_| Recorder::new(Scribe::new(overlay, scribe)));
        }
        sim.run_for(self.settle);
        let mut rng = Rng::stream(self.seed, MEMBERS);
        let mut order = peers;
        let members: Vec<Vec<SimPeer>> = (1..=self.groups)
            .map(|rank| {
                rng.shuffle(&mut order);
                order[..self.size(rank)].to_vec()
            })
            .collect();
        let mut joins: Vec<(Topic, SimPeer)> = Vec::new();
        for (group, members) in members.iter().enumerate() {
            joins.extend(members.iter().map(|member| (topic(group), *member)));
        }
        rng.shuffle(&mut joins);
        for (topic, member) in joins {
            sim.command(member, ScribeCommand::Subscribe { topic });
            sim.run_for(Duration::from_millis(1));
        }
        sim.run_for(SETTLED);
        let publishers: Vec<SimPeer> = members.iter().map(|_| order[rng.index(order.len())]).collect();
        // The first message finds the root, and the second goes straight to it (JSAC §III-A).
        let mut began = sim.now();
        for bytes in ["to find the root", "measured"] {
            began = sim.now();
            for (group, publisher) in publishers.iter().enumerate() {
                let publish = ScribeCommand::Publish { topic: topic(group), bytes: bytes.into() };
                sim.command(*publisher, publish);
            }
            sim.run_for(SETTLED);
        }
        self.report(&mut sim, &members, &publishers, began)
    }

    fn report<O: Simulated + SingleRoot>(
        &self,
        sim: &mut Sim<Recorder<Scribe<O>>>,
        members: &[Vec<SimPeer>],
        publishers: &[SimPeer],
        began: Time,
    ) -> Report {
        let mut report = Report { trace: sim.trace(), ..Report::default() };
        let groups: BTreeMap<Topic, usize> = (0..members.len()).map(|group| (topic(group), group)).collect();
        // Each member's first receipt of the measured message.
        let mut delays: Vec<BTreeMap<SimPeer, Duration>> = vec![BTreeMap::new(); members.len()];
        for (peer, node) in sim.view().iter() {
            for Receipt { at, topic, message } in node.received() {
                if message.as_ref().is_none_or(|message| message.bytes != "measured") {
                    continue;
                }
                match delays[groups[topic]].insert(peer, *at - began) {
                    None => report.delivered += 1,
                    Some(_) => report.duplicates += 1,
                }
            }
            let tables = node.machine().topics().map(|topic| node.machine().children(topic).count() as u64);
            let tables: Vec<u64> = tables.filter(|children| *children > 0).collect();
            report.tables.add(tables.len() as u64);
            report.entries.add(tables.iter().sum());
            tables.iter().for_each(|children| report.copies.add(*children));
        }
        for (group, members) in members.iter().enumerate() {
            report.expected += members.len() as u64;
            let publisher = publishers[group];
            let others = || members.iter().filter(|member| **member != publisher);
            let direct: Vec<Duration> = others().map(|member| sim.latency(publisher, *member)).collect();
            let tree: Vec<Duration> =
                others().filter_map(|member| delays[group].get(member).copied()).collect();
            if let (Some(most), Some(most_direct)) = (tree.iter().max(), direct.iter().max()) {
                report.rad.push(mean(&tree) / mean(&direct));
                report.rmd.push(most.as_secs_f64() / most_direct.as_secs_f64());
            }
            members.iter().for_each(|member| report.depth.add(depth(sim, topic(group), *member)));
        }
        report.rad.sort_by(f64::total_cmp);
        report.rmd.sort_by(f64::total_cmp);
        report
    }
}

fn topic(group: usize) -> Topic {
    Topic(Key::of(format!("group {group}").as_bytes()))
}

pub(super) fn mean(times: &[Duration]) -> f64 {
    times.iter().sum::<Duration>().as_secs_f64() / times.len().max(1) as f64
}

/// How many steps lead from a node up to the root.
fn depth<O: Simulated + SingleRoot>(sim: &Sim<Recorder<Scribe<O>>>, topic: Topic, of: SimPeer) -> u64 {
    let parent = |peer: &SimPeer| sim.node(*peer).and_then(|node| node.machine().parent(topic));
    std::iter::successors(Some(of), parent).take(sim.alive().len()).count() as u64 - 1
}
