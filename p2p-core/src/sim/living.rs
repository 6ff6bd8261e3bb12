//! Who lives: nodes start, join, crash and start again.

use super::node::{Body, Node};
use super::{Sim, SimPeer, stream};
use crate::protocol::{Protocol, Worker};
use crate::{CxState, Rng, Wire};

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

impl Birth<'_> {
    /// Some of those that are alive, `n` if there are so many, by chance and each once.
    pub fn some(&mut self, n: usize) -> Vec<SimPeer> {
        let n = n.min(self.alive.len());
        let mut some = Vec::with_capacity(n);
        while some.len() < n {
            some.extend(self.rng.choose(self.alive).filter(|peer| !some.contains(*peer)));
        }
        some
    }
}

impl<P: Protocol<Peer = SimPeer>, W: Worker<P::Job>> Sim<P, W>
where
    P::Msg: Wire,
{
    /// Starts a new node with the machine that `make` builds. Nodes are numbered from 0.
    pub fn spawn(&mut self, make: impl FnOnce(&mut Birth<'_>) -> P) -> SimPeer {
        self.spawn_as(SimPeer, make)
    }

    /// The same, of one that [crowds](SimPeer::crowding).
    pub fn spawn_crowding(&mut self, make: impl FnOnce(&mut Birth<'_>) -> P) -> SimPeer {
        self.spawn_as(SimPeer::crowding, make)
    }

    fn spawn_as(&mut self, name: fn(u32) -> SimPeer, make: impl FnOnce(&mut Birth<'_>) -> P) -> SimPeer {
        let number = u32::try_from(self.nodes.len()).ok().filter(|number| number >> 31 == 0);
        let peer = name(number.expect("fewer than 2^31 nodes"));
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
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn some_of_the_living_are_each_once() {
        let alive: Vec<SimPeer> = (0..5).map(SimPeer).collect();
        let mut rng = Rng::new(1);
        for n in 0..8 {
            let some = Birth { peer: SimPeer(9), alive: &alive, rng: &mut rng }.some(n);
            let once: BTreeSet<SimPeer> = some.iter().copied().collect();
            assert_eq!((some.len(), once.len()), (n.min(5), n.min(5)));
            assert!(once.iter().all(|peer| alive.contains(peer)));
        }
    }
}
