//! What must always hold: checks of one node after its inputs, and of all nodes together.

use std::fmt;

use super::node::Node;
use super::{Sim, SimPeer};
use crate::protocol::{Protocol, Worker};
use crate::{Time, Wire};

/// The living machines.
pub struct View<'a, P: Protocol, W> {
    nodes: &'a [Node<P, W>],
    alive: &'a [SimPeer],
    /// The virtual time.
    pub now: Time,
}

impl<'a, P: Protocol, W> View<'a, P, W> {
    /// Each with its name, in order of the numbers.
    pub fn iter(&self) -> impl Iterator<Item = (SimPeer, &'a P)> + use<'a, P, W> {
        let alive = self.alive;
        let named = |node: &'a Node<P, W>| {
            let machine = node.machine.as_ref()?;
            Some((alive[node.body.place as usize], machine))
        };
        self.nodes.iter().filter_map(named)
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

impl<P: Protocol<Peer = SimPeer>, W: Worker<P::Job>> Sim<P, W>
where
    P::Msg: Wire,
{
    /// The living machines with their names, in order of the numbers.
    pub fn view(&self) -> View<'_, P, W> {
        View { nodes: &self.nodes, alive: &self.alive, now: self.now() }
    }

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

    pub(super) fn check_the_world(&mut self) {
        let Some((_, check)) = &mut self.world_check else { return };
        let now = Time::from_nanos(self.world.now);
        let view = View { nodes: &self.nodes, alive: &self.alive, now };
        if let Err(broken) = check(&view) {
            panic!("at {} (seed {}): {broken}", self.world.now(), self.seed);
        }
    }
}
