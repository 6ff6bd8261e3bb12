//! Virtual nodes: one host stands in several places.
//!
//! Where nodes have the arcs that chance gives them, some have ten times their share. A host that runs v nodes has
//! the sum of v arcs, which varies less (ToN 2003, §V-B; Dabek et al., SOSP 2001, §4.3). Here a host is one machine,
//! which runs Chord v times over names that say which of its nodes is meant.

use std::collections::BTreeMap;

use p2p_core::{Cx, Key, Keyed, Lane, Link, NoJob, OpId, Protocol, Subnet, Up, Wire};
use serde::{Deserialize, Serialize};

use super::{Chord, ChordConfig};
use crate::structured::{
    Find, Found, Implausible, Looked, MAX_REPLICAS, NeighboursChanged, Next, Overlay, Region, Replicas,
};

/// The most virtual nodes of a host.
pub const MAX_VIRTUAL: u8 = 32;

/// One of a host's nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Virtual<P> {
    /// The host.
    pub peer: P,
    /// Which of its nodes, from 0.
    pub index: u8,
}

impl<P: Keyed> Keyed for Virtual<P> {
    /// The host's own key for its first node, for the others the hash of that and the number.
    fn key(&self) -> Key {
        let key = self.peer.key();
        match self.index {
            0 => key,
            index => Key::of(&[key.as_bytes().as_slice(), &[index]].concat()),
        }
    }

    fn subnet(&self) -> Option<Subnet> {
        self.peer.subnet()
    }
}

/// A host that runs several Chord nodes: itself an [`Overlay`], of hosts.
///
/// ```
/// use p2p_core::sim::{Network, Sim};
/// use p2p_core::{Key, SimPeer};
/// use p2p_overlay::{ChordConfig, Find, Lookup, VirtualChord};
/// use std::time::Duration;
///
/// let mut sim = Sim::<VirtualChord<SimPeer>>::new(1, Network::default());
/// let config = ChordConfig::default();
/// let first = sim.spawn(|birth| VirtualChord::with(birth.peer, 4, [], config));
/// let second = sim.spawn(|birth| VirtualChord::with(birth.peer, 4, [first], config));
/// sim.run_for(Duration::from_secs(600));
///
/// let (a, b) = (sim.handle(first), sim.handle(second));
/// let find = Find::key(Key::of(b"song.ogg"));
/// let found = sim.block_on(async { (a.lookup(find).await, b.lookup(find).await) });
/// assert_eq!(found.0.unwrap().root(), found.1.unwrap().root());
/// ```
#[derive(Debug)]
pub struct VirtualChord<P: Keyed> {
    me: P,
    /// At most [`MAX_VIRTUAL`].
    nodes: Vec<Chord<Virtual<P>>>,
    /// Lookups of the nodes: whose they are, and how many hosts are wanted.
    asked: BTreeMap<OpId, (OpId, u8)>,
}

type Node<P> = Chord<Virtual<P>>;
type NodeMsg<P> = <Node<P> as Protocol>::Msg;
type NodeTimer<P> = <Node<P> as Protocol>::Timer;

/// From one node to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VirtualMsg<M> {
    /// Which of the sender's nodes.
    from: u8,
    /// Which of the receiver's.
    to: u8,
    msg: M,
}

impl<M: Wire> Wire for VirtualMsg<M> {
    const MAX_BYTES: usize = M::MAX_BYTES + 2;
    const VERSION: u8 = M::VERSION;

    fn lane(&self) -> Lane {
        self.msg.lane()
    }
}

impl<P: Keyed> VirtualChord<P> {
    /// A host of so many nodes, 1 to [`MAX_VIRTUAL`], that joins the ring of any of these hosts; without seeds its
    /// first node starts a ring, and the others join that.
    pub fn with(
        me: P,
        nodes: u8,
        seeds: impl IntoIterator<Item = P>,
        config: ChordConfig,
    ) -> VirtualChord<P> {
        let first = |peer| Virtual { peer, index: 0 };
        let seeds: Vec<Virtual<P>> = seeds.into_iter().filter(|seed| *seed != me).map(first).collect();
        let node = |index| match (index, seeds.is_empty()) {
            (1.., true) => Chord::with(Virtual { peer: me, index }, [first(me)], config),
            _ => Chord::with(Virtual { peer: me, index }, seeds.iter().copied(), config),
        };
        VirtualChord {
            me,
            nodes: (0..nodes.clamp(1, MAX_VIRTUAL)).map(node).collect(),
            asked: BTreeMap::new(),
        }
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Chord<Virtual<P>>] {
        &self.nodes
    }

    /// Hands one of the nodes an input.
    fn node(
        &mut self,
        cx: &mut Cx<'_, Self>,
        index: u8,
        input: impl FnOnce(&mut Node<P>, &mut Cx<'_, Node<P>>),
    ) {
        let Some(node) = self.nodes.get_mut(usize::from(index)) else { return };
        let send = |to: Virtual<P>, msg| (to.peer, VirtualMsg { from: index, to: to.index, msg });
        let ups = cx.nest_as(send, |timer| (index, timer), |job| job, |cx| input(node, cx));
        for up in ups {
            match up {
                Up::Finished(child, looked) => {
                    if let Some((op, wanted)) = self.asked.remove(&child) {
                        cx.finish(op, looked.map(|found| hosts(found, wanted)));
                    }
                }
                Up::Event(NeighboursChanged) => cx.emit(NeighboursChanged),
                Up::Item(_, ()) => {}
            }
        }
    }

    /// The node that knows most about a key: its root, or a neighbour of it, or any.
    fn best(&self, key: &Key) -> usize {
        let rank = |node: &Node<P>| match node.next(key, &[]) {
            Next::Mine => 0,
            Next::Root(_) => 1,
            Next::Toward(_) => 2,
            Next::Nowhere | Next::Later => 3,
        };
        (0..self.nodes.len()).min_by_key(|i| rank(&self.nodes[*i])).unwrap_or(0)
    }
}

/// The hosts of some nodes, each once.
fn once<P: Keyed>(nodes: impl IntoIterator<Item = Virtual<P>>) -> Vec<P> {
    let mut hosts = Vec::new();
    for node in nodes {
        if !hosts.contains(&node.peer) {
            hosts.push(node.peer);
        }
    }
    hosts
}

fn hosts<P: Keyed>(found: Found<Virtual<P>>, wanted: u8) -> Found<P> {
    let peers = once(found.peers).into_iter().take(wanted.into()).collect();
    let implausible = found.implausible.map(|what| match what {
        Implausible::Dense { beyond } => Implausible::Dense { beyond: once(beyond) },
        Implausible::Thin => Implausible::Thin,
    });
    Found { peers, hops: found.hops, timeouts: found.timeouts, implausible }
}

impl<P: Keyed> Protocol for VirtualChord<P> {
    type Peer = P;
    type Msg = VirtualMsg<NodeMsg<P>>;
    type Timer = (u8, NodeTimer<P>);
    type Command = Find;
    type Item = ();
    type Outcome = Looked<P>;
    type Event = NeighboursChanged;
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        for index in 0..self.nodes.len() as u8 {
            self.node(cx, index, |node, cx| node.on_start(cx));
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, VirtualMsg { from: index, to, msg }: Self::Msg) {
        if index < MAX_VIRTUAL {
            let from = Virtual { peer: from, index };
            self.node(cx, to, |node, cx| node.on_message(cx, from, msg));
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, (index, timer): Self::Timer) {
        self.node(cx, index, |node, cx| node.on_timer(cx, timer));
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, find: Find) {
        // Nodes of one host stand for one copy: ask for more, so that enough hosts are among them.
        let more = find.replicas.saturating_mul(2).min(MAX_REPLICAS);
        let child = cx.op();
        self.asked.insert(child, (op, find.replicas));
        let find = Find { replicas: if find.replicas > 1 { more } else { 1 }, ..find };
        let best = self.best(&find.key) as u8;
        self.node(cx, best, |node, cx| node.on_command(cx, child, find));
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let theirs = self.asked.iter().find(|(_, (of, _))| *of == op).map(|(child, _)| *child);
        if let Some(child) = theirs {
            self.asked.remove(&child);
            (0..self.nodes.len() as u8)
                .for_each(|index| self.node(cx, index, |node, cx| node.on_cancel(cx, child)));
        }
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        for index in 0..self.nodes.len() as u8 {
            for of_peer in (0..MAX_VIRTUAL).map(|index| Virtual { peer, index }) {
                self.node(cx, index, |node, cx| node.on_link(cx, of_peer, link));
            }
        }
    }
}

impl<P: Keyed> Overlay for VirtualChord<P> {
    fn me(&self) -> P {
        self.me
    }
    fn is_joined(&self) -> bool {
        self.nodes.iter().all(Node::is_joined)
    }
    fn next(&self, key: &Key, avoid: &[P]) -> Next<P> {
        let nodes_of =
            |peer: &P| (0..MAX_VIRTUAL).map(|index| Virtual { peer: *peer, index }).collect::<Vec<_>>();
        let avoid: Vec<Virtual<P>> = avoid.iter().flat_map(nodes_of).collect();
        match self.nodes[self.best(key)].next(key, &avoid) {
            Next::Mine => Next::Mine,
            Next::Root(node) => Next::Root(node.peer),
            Next::Toward(node) => Next::Toward(node.peer),
            Next::Nowhere => Next::Nowhere,
            Next::Later => Next::Later,
        }
    }
    fn replicas(&self, key: &Key, n: usize) -> Replicas<P> {
        let of_node = |node: &Node<P>| match node.replicas(key, MAX_REPLICAS.into()) {
            Replicas::Peers(nodes) => once(nodes).into_iter().take(n).collect(),
            Replicas::Keys(_) => Vec::new(),
        };
        let known: Vec<Vec<P>> = self.nodes.iter().map(of_node).collect();
        Replicas::Peers(known.into_iter().rev().max_by_key(Vec::len).unwrap_or_default())
    }
    fn mine(&self) -> Region {
        let arcs_of = |node: &Node<P>| match node.mine() {
            Region::Arcs(arcs) => arcs,
            Region::Bits { .. } | Region::Digits(_) | Region::Boxes(_) | Region::Nothing => Vec::new(),
        };
        Region::Arcs(self.nodes.iter().flat_map(arcs_of).collect())
    }
}
