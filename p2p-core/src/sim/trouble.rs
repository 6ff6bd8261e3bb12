//! Trouble while a world runs: faults take place, lines and the network change.

use std::time::Duration;

use super::world::Rare;
use super::{Bandwidth, Fault, Network, Schedule, Sim, SimPeer};
use crate::Wire;
use crate::protocol::{Protocol, Worker};
use crate::time::nanos;

impl<P: Protocol<Peer = SimPeer>, W: Worker<P::Job>> Sim<P, W>
where
    P::Msg: Wire,
{
    /// Schedules faults, counted from now.
    pub fn inject(&mut self, schedule: Schedule) {
        for (after, fault) in schedule {
            self.world.after(nanos(after), Rare::Fault(fault));
        }
    }

    pub(super) fn fault(&mut self, fault: Fault) {
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
}
