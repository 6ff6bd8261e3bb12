//! What a Pastry node does with what comes in, and what its tables answer.

use std::time::Duration;

use p2p_core::{Cx, Down, Key, Keyed, Link, NoJob, OpId, Protocol, Time, Wire};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::upkeep::MERGE;
use super::{MAX_LEAVES, PastryMsg, PastryTable};
use crate::lookup::part;
use crate::structured::{Answer, Maintenance, Next, Region, Replicas, Want};

impl<P: Serialize + DeserializeOwned> Wire for PastryMsg<P> {
    const MAX_BYTES: usize = 8192;
}

/// Pastry's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PastryTimer {
    /// Time to renew the leases, or to try to join.
    Heartbeat,
    /// Time to look after the tables.
    Upkeep,
    /// A question is late.
    Late,
}

/// Whether only who takes part says this.
fn is_of_a_member<P>(msg: &PastryMsg<P>) -> bool {
    match msg {
        PastryMsg::GetRow { .. } | PastryMsg::GetNeighbours { .. } | PastryMsg::Renew { .. } => true,
        PastryMsg::Hello { leaves, .. } => !leaves.is_empty(),
        _ => false,
    }
}

impl<P: Keyed> Protocol for PastryTable<P> {
    type Peer = P;
    type Msg = PastryMsg<P>;
    type Timer = PastryTimer;
    type Command = Answer<P>;
    type Item = ();
    type Outcome = ();
    type Event = Want<P>;
    type Job = NoJob;

    fn warm(&self) {
        self.leaves.warm();
        self.rows.warm();
        self.asked.warm();
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        if self.is_at_rest() {
            return;
        }
        // A node of a network at rest begins at any time of the period.
        let upkeep = cx.rng().duration(Duration::ZERO, self.config.upkeep);
        cx.set_timer(upkeep, PastryTimer::Upkeep);
        match self.joined {
            true => {
                let heartbeat = cx.rng().duration(Duration::ZERO, self.config.lease / 3);
                cx.set_timer(heartbeat, PastryTimer::Heartbeat);
            }
            false => self.on_timer(cx, PastryTimer::Heartbeat),
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: PastryMsg<P>) {
        if !self.joined && is_of_a_member(&msg) {
            self.doors.meet(from);
        }
        match msg {
            PastryMsg::Join { id, avoid } => self.on_join(cx, from, id, avoid),
            PastryMsg::Hello { id, leaves } => {
                if self.joined || self.is_greeting() {
                    cx.send(from, PastryMsg::Leaves { id, leaves: self.leaves_but(from) });
                    self.suspects.retain(|suspect| *suspect != from);
                    if self.is_greeting() {
                        self.greet(cx, from);
                    }
                    self.take_leaf(cx, self.spot(from));
                    self.promise(cx.now(), from);
                    // A newcomer asks the sender for its leaves: nobody has it wait for names that it has not asked for.
                    if self.joined {
                        leaves.iter().take(MAX_LEAVES).for_each(|leaf| self.consider(cx, *leaf, false));
                    }
                }
            }
            PastryMsg::GetRow { id, row } => {
                let peers = self.rows.row(row.into()).filter(|peer| *peer != from).collect();
                cx.send(from, PastryMsg::Peers { id, peers });
                self.meet(cx, from, None);
            }
            PastryMsg::GetNeighbours { id } => {
                let peers = self.neighbours.peers().filter(|peer| *peer != from).collect();
                cx.send(from, PastryMsg::Peers { id, peers });
                self.meet(cx, from, None);
            }
            PastryMsg::Ping { id } => {
                if self.joined || self.is_greeting() {
                    cx.send(from, PastryMsg::Pong { id });
                }
            }
            PastryMsg::Renew { id, side, mut unheard } => {
                unheard.truncate(MAX_LEAVES);
                self.on_renew(cx, from, id, side, &unheard);
            }
            answer @ (PastryMsg::Path { id, .. }
            | PastryMsg::Leaves { id, .. }
            | PastryMsg::Peers { id, .. }
            | PastryMsg::Pong { id }
            | PastryMsg::Lease { id, .. }) => {
                if let Some(what) = self.asked.answer(id, from) {
                    self.on_answer(cx, from, what, answer);
                }
            }
        }
        self.arm(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: PastryTimer) {
        match timer {
            PastryTimer::Heartbeat if self.joined => {
                let period = self.config.lease / 3;
                let next = cx.rng().duration(period * 7 / 8, period);
                cx.set_timer(next, PastryTimer::Heartbeat);
                self.renew(cx);
                for suspect in self.suspects.clone() {
                    if !self.is_pinged(suspect) {
                        self.ping(cx, suspect, 0);
                    }
                }
            }
            PastryTimer::Heartbeat => {
                let period = self.doors.patience(self.config.upkeep);
                let next = cx.rng().duration(period / 2, period * 3 / 2);
                cx.set_timer(next, PastryTimer::Heartbeat);
                self.try_to_join(cx);
            }
            PastryTimer::Upkeep => {
                let next = cx.rng().duration(self.config.upkeep / 2, self.config.upkeep * 3 / 2);
                cx.set_timer(next, PastryTimer::Upkeep);
                if self.joined {
                    self.look_after(cx);
                }
            }
            PastryTimer::Late => {
                while let Some((peer, why)) = self.asked.expire(cx.now()) {
                    self.on_silence(cx, peer, why);
                }
            }
        }
        self.arm(cx);
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, answer: Answer<P>) {
        cx.finish(op, ());
        if let (MERGE, Ok(found)) = (answer.tag, answer.looked) {
            found.peers.iter().take(MAX_LEAVES).for_each(|peer| self.consider(cx, *peer, false));
        }
        self.arm(cx);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        let Link::Down(Down::Unreachable | Down::TimedOut) = link else { return };
        while let Some(why) = self.asked.give_up(peer) {
            self.on_silence(cx, peer, why);
        }
        self.suspect(peer);
        self.arm(cx);
    }
}

impl<P: Keyed> Maintenance for PastryTable<P> {
    const CONVERGES: bool = false;

    fn at(&mut self, now: Time) {
        self.now = now;
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
        self.nearest(key, n, avoid)
    }
    fn distance(peer: &Key, key: &Key) -> Option<Key> {
        Some(peer.ring_gap(key))
    }
    fn upto(peer: &Key, key: &Key) -> Option<f64> {
        Some(2.0 * part(&peer.ring_gap(key)))
    }
    fn neighbourhood(&self) -> Option<(usize, f64)> {
        self.leaves.span().map(|(leaves, [ahead, behind])| (leaves, part(&ahead) + part(&behind)))
    }
    fn replicas(&self, key: &Key, n: usize, _claimed: bool) -> Replicas<P> {
        self.replica_set(key, n)
    }
    fn mine(&self) -> Region {
        self.region()
    }
    fn silent(&mut self, _now: Time, peer: P) {
        self.suspect(peer);
    }
    fn heard(&mut self, _now: Time, peer: P) {
        if !self.joined {
            self.doors.hear(peer);
        }
    }
    fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}
