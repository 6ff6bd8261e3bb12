//! What a Kademlia node does with what comes in, and what its tables answer.

use std::time::Duration;

use p2p_core::{Cx, Down, Key, Keyed, Link, NoJob, OpId, Protocol, Time, Wire};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::upkeep::{EXPLORE, JOIN};
use super::{KademliaMsg, KademliaTable};
use crate::lookup::part;
use crate::structured::{Answer, MAX_REPLICAS, Maintenance, Next, Region, Replicas, Want};

impl<P: Serialize + DeserializeOwned> Wire for KademliaMsg<P> {
    const MAX_BYTES: usize = 4096;
}

/// Kademlia's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KademliaTimer {
    /// Time to look after the tables, or to try to join.
    Upkeep,
    /// A ping is late.
    Late,
}

impl<P: Keyed> Protocol for KademliaTable<P> {
    type Peer = P;
    type Msg = KademliaMsg<P>;
    type Timer = KademliaTimer;
    type Command = Answer<P>;
    type Item = ();
    type Outcome = ();
    type Event = Want<P>;
    type Job = NoJob;

    fn warm(&self) {
        self.buckets.warm();
        self.asked.warm();
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        if self.is_at_rest() {
            return;
        }
        match self.joined {
            // A node of a network at rest begins at any time of the period.
            true => {
                let first = cx.rng().duration(Duration::ZERO, self.config.upkeep);
                cx.set_timer(first, KademliaTimer::Upkeep);
            }
            false => self.on_timer(cx, KademliaTimer::Upkeep),
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: KademliaMsg<P>) {
        if !self.joined && matches!(msg, KademliaMsg::Ping { .. } | KademliaMsg::GetNeighbours { .. }) {
            // Whoever looks after its contacts has joined; another newcomer is no way in.
            self.doors.meet(from);
        }
        match msg {
            KademliaMsg::Ping { id } => cx.send(from, KademliaMsg::Pong { id }),
            KademliaMsg::Pong { id } => {
                self.asked.answer(id, from);
                self.arm(cx);
            }
            KademliaMsg::GetNeighbours { id } => {
                if self.joined {
                    let peers = self.candidates(&from.key(), self.buckets.most_near(), &[from]);
                    cx.send(from, KademliaMsg::Neighbours { id, peers });
                }
            }
            KademliaMsg::Neighbours { id, peers } => {
                if self.asked.answer(id, from).is_some() && !self.is_at_rest() {
                    let most = self.buckets.most_near().max(MAX_REPLICAS.into());
                    peers.into_iter().take(most).for_each(|peer| self.consider(cx, peer));
                }
                self.arm(cx);
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: KademliaTimer) {
        match timer {
            KademliaTimer::Upkeep => {
                let period = match self.joined {
                    true => self.config.upkeep,
                    false => self.doors.patience(self.config.upkeep),
                };
                let next = cx.rng().duration(period / 2, period * 3 / 2);
                cx.set_timer(next, KademliaTimer::Upkeep);
                match self.joined {
                    true => self.look_after(cx),
                    false => self.try_to_join(cx),
                }
            }
            KademliaTimer::Late => {
                while let Some((peer, ())) = self.asked.expire(cx.now()) {
                    self.on_silence(cx.now(), peer);
                }
                self.arm(cx);
            }
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, answer: Answer<P>) {
        cx.finish(op, ());
        match (answer.tag, answer.looked) {
            (JOIN, Ok(_)) if !self.joined => self.on_joined(cx),
            (EXPLORE, _) => self.explore(cx),
            // The answers have come as messages, and whoever sent them has been heard. The timer tries again.
            _ => {}
        }
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        let Link::Down(Down::Unreachable | Down::TimedOut) = link else { return };
        self.on_silence(cx.now(), peer);
        while self.asked.give_up(peer).is_some() {}
        self.arm(cx);
    }
}

impl<P: Keyed> Maintenance for KademliaTable<P> {
    const CONVERGES: bool = true;

    fn paths(&self) -> u8 {
        self.config.paths
    }
    fn me(&self) -> P {
        self.me
    }
    fn is_joined(&self) -> bool {
        self.joined
    }
    fn next(&self, key: &Key, avoid: &[P], _claimed: bool) -> Next<P> {
        self.next_hop(key, avoid)
    }
    fn candidates(&self, key: &Key, n: usize, avoid: &[P]) -> Vec<P> {
        self.buckets.closest(key, n, avoid).into_iter().map(|spot| spot.peer).collect()
    }
    fn distance(peer: &Key, key: &Key) -> Option<Key> {
        Some(peer.xor(key))
    }
    fn upto(peer: &Key, key: &Key) -> Option<f64> {
        Some(part(&peer.xor(key)))
    }
    fn neighbourhood(&self) -> Option<(usize, f64)> {
        self.buckets.neighbourhood().map(|(nodes, last)| (nodes, part(&last)))
    }
    fn replicas(&self, key: &Key, n: usize, _claimed: bool) -> Replicas<P> {
        self.replica_set(key, n)
    }
    fn mine(&self) -> Region {
        self.region()
    }
    fn silent(&mut self, now: Time, peer: P) {
        self.on_silence(now, peer);
    }
    fn heard(&mut self, now: Time, peer: P) {
        if !self.is_at_rest() {
            self.buckets.heard(now, peer);
        }
    }
    fn looked_up(&mut self, now: Time, key: &Key) {
        if !self.is_at_rest() {
            self.buckets.looked_up(now, key);
        }
    }
    fn take_changed(&mut self) -> bool {
        self.buckets.take_changed()
    }
}
