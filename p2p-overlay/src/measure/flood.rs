//! Measuring floods: how often a message is sent, and how much later it comes than if it were sent directly.
//!
//! Beside [`multicast`](super::multicast), which measures trees: here everybody gets every message.
//!
//! ```
//! use p2p_overlay::CanConfig;
//! use p2p_overlay::measure::flood::Floods;
//!
//! let floods = Floods { nodes: 200, messages: 10, ..Floods::default() };
//! let report = floods.run(CanConfig::default());
//! assert_eq!((report.delivered, report.sent), (report.expected, report.expected - report.messages));
//! ```

use std::time::Duration;

use bytes::Bytes;
use p2p_core::sim::{Encoding, Latency, Network, Sim};
use p2p_core::{Rng, SimPeer};

use super::multicast::mean;
use super::recorder::Recorder;
use crate::can::{Can, CanConfig, CanMulticast, CanMulticastCommand, CanMulticastConfig};
use crate::pubsub::Topic;

/// Messages to everybody in a CAN at rest, whose nodes lie in a square.
#[derive(Clone, Copy, Debug)]
pub struct Floods {
    /// How many nodes. 1000.
    pub nodes: u32,
    /// How many messages, each from a node given by chance. 100.
    pub messages: u32,
    /// The seed of everything. 1.
    pub seed: u64,
    /// How long a message is on the way. Nodes lie in a square with edges of 100 ms.
    pub latency: Latency,
    /// How the nodes behave.
    pub config: CanMulticastConfig,
}

impl Default for Floods {
    fn default() -> Floods {
        Floods {
            nodes: 1000,
            messages: 100,
            seed: 1,
            latency: Latency::Plane(Duration::from_millis(100)),
            config: CanMulticastConfig::default(),
        }
    }
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many messages.
    pub messages: u64,
    /// How often one should have been received: by each node each of them.
    pub expected: u64,
    /// How often one was.
    pub delivered: u64,
    /// How often one was sent, from node to node: at best by one less than nodes.
    pub sent: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Of each message, the mean delay divided by the mean delay from the publisher directly, sorted.
    pub rad: Vec<f64>,
    /// The same of the latest node and the furthest one.
    pub rmd: Vec<f64>,
    /// The hash of all that happened.
    pub trace: u64,
}

impl Report {
    /// How often each message was sent for each node that it has to come to.
    pub fn sent_per_node(&self) -> f64 {
        self.sent as f64 / (self.expected - self.messages).max(1) as f64
    }
}

/// The stream of the publishers.
const PUBLISHERS: u64 = 1 << 22;
/// Longer than a flood takes.
const OVER: Duration = Duration::from_secs(60);

impl Floods {
    /// Builds the network, publishes one message after the other, and says how it went. The overlay's upkeep rests.
    pub fn run(&self, can: CanConfig) -> Report {
        let network = Network { latency: self.latency, encoding: Encoding::Measure, ..Network::default() };
        let mut sim = Sim::<Recorder<CanMulticast<SimPeer>>>::new(self.seed, network);
        let peers: Vec<SimPeer> = (0..self.nodes).map(SimPeer).collect();
        let topic = Topic::named("everybody");
        for can in Can::converged(&peers, CanConfig { update: Duration::ZERO, ..can }) {
            let peer = sim.spawn(|_| Recorder::new(CanMulticast::new(can, self.config)));
            sim.command(peer, CanMulticastCommand::Subscribe { topic });
        }
        let mut rng = Rng::stream(self.seed, PUBLISHERS);
        let before = sim.stats();
        let mut report = Report::default();
        for number in 0..self.messages {
            let publisher = peers[rng.index(peers.len())];
            let (began, bytes) = (sim.now(), Bytes::copy_from_slice(&number.to_be_bytes()));
            sim.command(publisher, CanMulticastCommand::Publish { topic, bytes: bytes.clone() });
            sim.run_for(OVER);
            let (mut flood, mut direct) = (Vec::new(), Vec::new());
            for &peer in &peers {
                let received = sim.node(peer).map(Recorder::received).unwrap_or_default();
                let is_it = |message: &crate::pubsub::Message<SimPeer>| message.bytes == bytes;
                let receipts = received.iter().rev().filter(|it| it.message.as_ref().is_some_and(is_it));
                report.delivered += receipts.clone().count() as u64;
                if let Some(receipt) = receipts.last().filter(|_| peer != publisher) {
                    flood.push(receipt.at - began);
                    direct.push(sim.latency(publisher, peer));
                }
            }
            report.messages += 1;
            report.expected += peers.len() as u64;
            if let (Some(last), Some(furthest)) = (flood.iter().max(), direct.iter().max()) {
                report.rad.push(mean(&flood) / mean(&direct));
                report.rmd.push(last.as_secs_f64() / furthest.as_secs_f64());
            }
        }
        let after = sim.stats();
        (report.sent, report.bytes) = (after.sent - before.sent, after.bytes - before.bytes);
        report.rad.sort_by(f64::total_cmp);
        report.rmd.sort_by(f64::total_cmp);
        Report { trace: sim.trace(), ..report }
    }
}
