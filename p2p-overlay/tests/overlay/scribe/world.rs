//! A world of Scribe over any overlay, and what must hold in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use p2p_core::sim::{Encoding, Latency, Network, Sim};
use p2p_core::{Keyed, OpId, SimPeer};
use p2p_overlay::measure::{Recorder, Simulated};
use p2p_overlay::{Scribe, ScribeCommand, ScribeConfig, SingleRoot, Topic};

use super::{MS, SECOND};

type Node<O> = Recorder<Scribe<O>>;

/// A world of Scribe over an overlay, and who should receive what.
pub(super) struct World<O: Simulated + SingleRoot> {
    pub(super) sim: Sim<Node<O>>,
    pub(super) subscribed: BTreeMap<(Topic, SimPeer), OpId>,
    published: u32,
}

/// Nodes at rest; those that join later take part too.
pub(super) fn world<O: Simulated + SingleRoot>(
    seed: u64,
    nodes: u32,
    config: O::Config,
    scribe: ScribeConfig,
) -> World<O> {
    let network = Network {
        latency: Latency::Uniform(10 * MS, 100 * MS),
        encoding: Encoding::RoundTrip,
        ..Network::default()
    };
    let mut sim = Sim::<Node<O>>::new(seed, network);
    sim.population(move |birth| {
        let seeds: Vec<SimPeer> = (0..3).filter_map(|_| birth.rng.choose(birth.alive).copied()).collect();
        Recorder::new(Scribe::new(O::newcomer(birth.peer, seeds, config), scribe))
    });
    let peers: Vec<SimPeer> = (0..nodes).map(SimPeer).collect();
    for overlay in O::converged(&peers, config) {
        sim.spawn(|_| Recorder::new(Scribe::new(overlay, scribe)));
    }
    World { sim, subscribed: BTreeMap::new(), published: 0 }
}

pub(super) fn topic(i: u32) -> Topic {
    Topic::named(&format!("topic {i}"))
}

impl<O: Simulated + SingleRoot> World<O> {
    /// Once.
    pub(super) fn subscribe(&mut self, topic: Topic, peer: SimPeer) {
        if self.subscribed.contains_key(&(topic, peer)) {
            return;
        }
        let op = self.sim.command(peer, ScribeCommand::Subscribe { topic });
        self.subscribed.insert((topic, peer), op);
    }

    pub(super) fn unsubscribe(&mut self, topic: Topic, peer: SimPeer) {
        self.sim.command(peer, ScribeCommand::Unsubscribe { topic });
        self.subscribed.remove(&(topic, peer));
    }

    /// Everyone who lives subscribes.
    pub(super) fn subscribe_all(&mut self, topic: Topic) {
        self.sim.alive().to_vec().into_iter().for_each(|peer| self.subscribe(topic, peer));
    }

    pub(super) fn publish(&mut self, topic: Topic, peer: SimPeer) -> String {
        let text = format!("message {}", self.published);
        self.published += 1;
        self.sim.command(peer, ScribeCommand::Publish { topic, bytes: text.clone().into() });
        text
    }

    /// Who lives and has subscribed.
    pub(super) fn members(&self, topic: Topic) -> BTreeSet<SimPeer> {
        let all = self.subscribed.keys().filter(|(of, _)| *of == topic).map(|(_, peer)| *peer);
        all.filter(|peer| self.sim.node(*peer).is_some_and(|node| node.machine().is_member(topic))).collect()
    }

    /// Who has received a message, each as often as it has.
    pub(super) fn receivers(&self, topic: Topic, text: &str) -> Vec<SimPeer> {
        let mut receivers = Vec::new();
        for (peer, node) in self.sim.view().iter() {
            let received = node.received().iter().filter(|receipt| {
                receipt.topic == topic
                    && receipt.message.as_ref().is_some_and(|message| message.bytes == text)
            });
            receivers.extend(received.map(|_| peer));
        }
        receivers
    }

    /// Publishes from a random node, waits, and says whether all members received it, once.
    pub(super) fn reaches_all(&mut self, topic: Topic, wait: Duration) -> bool {
        let alive = self.sim.alive().to_vec();
        let publisher = *self.sim.workload_rng().choose(&alive).unwrap();
        let text = self.publish(topic, publisher);
        self.sim.run_for(wait);
        let receivers = self.receivers(topic, &text);
        let once: BTreeSet<SimPeer> = receivers.iter().copied().collect();
        assert_eq!(once.len(), receivers.len(), "somebody received {text:?} twice");
        once == self.members(topic)
    }

    /// How long it takes until messages reach all again, by trying every second.
    pub(super) fn recovers_in(&mut self, topic: Topic, most: Duration) -> Duration {
        let began = self.sim.now();
        while !self.reaches_all(topic, SECOND) {
            assert!(self.sim.now() - began < most, "messages do not reach all after {most:?}");
        }
        self.sim.now() - began
    }

    /// Who is responsible for a topic, by a look at all nodes.
    pub(super) fn owner(&self, topic: Topic) -> SimPeer {
        let view = self.sim.view();
        let overlay = |peer: &SimPeer| view.get(*peer).unwrap().machine().overlay();
        let alive = self.sim.alive();
        let mut places = O::places(&mut alive.iter().map(overlay))
            .unwrap_or_else(|| alive.iter().map(|peer| (peer.key(), *peer)).collect());
        places.sort_unstable();
        O::owners(&places, &overlay(&alive[0]).place(&topic.0), 1)[0]
    }

    pub(super) fn root(&self, topic: Topic) -> SimPeer {
        let roots: Vec<SimPeer> = self
            .sim
            .view()
            .iter()
            .filter(|(_, node)| node.machine().is_root(topic))
            .map(|(peer, _)| peer)
            .collect();
        assert_eq!(roots.len(), 1, "the roots of {topic:?}: {roots:?}");
        roots[0]
    }

    /// Who passes messages on, and is not the root.
    pub(super) fn forwarders(&self, topic: Topic) -> Vec<SimPeer> {
        let nodes = self.sim.view();
        let forwards = |node: &Node<O>| {
            node.machine().children(topic).next().is_some() && !node.machine().is_root(topic)
        };
        nodes.iter().filter(|(_, node)| forwards(node)).map(|(peer, _)| peer).collect()
    }

    /// What must hold when all is quiet: each topic has one tree, with the node responsible for its key at the root,
    /// and all who live and have to do with it in it; parents and children know each other.
    pub(super) fn check(&self) {
        let view = self.sim.view();
        let topics: BTreeSet<Topic> = view.iter().flat_map(|(_, node)| node.machine().topics()).collect();
        let wanted: BTreeSet<Topic> = self.subscribed.keys().map(|(topic, _)| *topic).collect();
        for topic in topics.into_iter().chain(wanted) {
            if self.members(topic).is_empty() {
                continue;
            }
            let owner = self.owner(topic);
            assert_eq!(self.root(topic), owner, "the root of {topic:?}");
            for (peer, node) in view.iter() {
                let scribe = node.machine();
                if !scribe.topics().any(|of| of == topic) {
                    continue;
                }
                assert!(scribe.is_member(topic) || scribe.children(topic).next().is_some(), "{peer} idles");
                for child in scribe.children(topic) {
                    let parent = view.get(child).and_then(|child| child.machine().parent(topic));
                    assert_eq!(parent, Some(peer), "the parent of {child}");
                }
                let up = |at: &SimPeer| view.get(*at).and_then(|node| node.machine().parent(topic));
                let path: Vec<SimPeer> =
                    std::iter::successors(Some(peer), up).take(self.sim.alive().len() + 1).collect();
                assert_eq!(path.last().copied(), Some(owner), "from {peer} up: {path:?}");
                if let Some(parent) = scribe.parent(topic) {
                    let mut children = view.get(parent).unwrap().machine().children(topic);
                    assert!(children.any(|child| child == peer), "{parent} does not know {peer}");
                }
            }
        }
    }
}
