//! What a Tapestry node does with what comes in, and what its tables answer.

use std::time::Duration;

use p2p_core::{Cx, Down, Key, Keyed, Link, NoJob, OpId, Protocol, Time, Wire, prefetch};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::multicast::{MAX_WELCOMED, Parent};
use super::upkeep::{Asked, JOIN};
use super::{MAX_PEERS, TapestryMsg, TapestryTable, digits_after};
use crate::structured::{Answer, Maintenance, Next, Region, Replicas, Want};

impl<P: Serialize + DeserializeOwned> Wire for TapestryMsg<P> {
    const MAX_BYTES: usize = 8192;
}

/// Tapestry's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TapestryTimer {
    /// Time to look after the table, or to try to join.
    Upkeep,
    /// Time for a newcomer to look for nearer neighbours at the next level.
    Nearest,
    /// A question of the upkeep is late.
    Late,
}

impl<P: Keyed> Protocol for TapestryTable<P> {
    type Peer = P;
    type Msg = TapestryMsg<P>;
    type Timer = TapestryTimer;
    type Command = Answer<P>;
    type Item = ();
    type Outcome = ();
    type Event = Want<P>;
    type Job = NoJob;

    fn warm(&self) {
        self.levels.warm();
        prefetch(&self.back[..]);
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
                cx.set_timer(first, TapestryTimer::Upkeep);
            }
            false => self.on_timer(cx, TapestryTimer::Upkeep),
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: TapestryMsg<P>) {
        match msg {
            TapestryMsg::Ping { id, joined } => {
                if joined && !self.joined {
                    self.doors.meet(from);
                }
                cx.send(from, TapestryMsg::Pong { id, joined: self.joined });
                if joined && !self.is_at_rest() {
                    self.on_backpointer(cx.now(), from);
                }
            }
            TapestryMsg::Pong { id, joined } => {
                let why = self.answer(cx, id, from, |why| matches!(why, Asked::Ping { .. }));
                if let Some(Asked::Ping { at }) = why
                    && joined
                {
                    self.levels.hear(from, Some(cx.now() - at));
                }
                self.settle_in(cx);
            }
            TapestryMsg::GetRows { id, from: first, upto } => {
                if self.joined {
                    cx.send(from, TapestryMsg::Rows { id, peers: self.rows(first, upto, from) });
                }
            }
            TapestryMsg::Rows { id, peers } => {
                let fits = |why: &Asked| matches!(why, Asked::Copy | Asked::Compare { .. } | Asked::Nearest);
                if let Some(why) = self.answer(cx, id, from, fits) {
                    self.on_rows(cx, from, why, &peers[..peers.len().min(MAX_PEERS)]);
                }
            }
            TapestryMsg::Insert { id } => {
                if self.joined {
                    self.on_insert(cx, from, id);
                }
            }
            TapestryMsg::Inserted { id, done } => {
                if self.answer(cx, id, from, |why| matches!(why, Asked::Insert)).is_some() {
                    self.on_inserted(cx, done);
                    self.settle_in(cx);
                }
            }
            TapestryMsg::Multicast { id, newcomer, shared, level, patience } => {
                if self.joined || self.entering.is_some() {
                    let parent = Parent::Node(from, id);
                    self.on_multicast(cx, parent, newcomer, shared, level, patience);
                }
            }
            TapestryMsg::Acknowledge { id } => {
                let why = self.answer(cx, id, from, |why| matches!(why, Asked::Child(_)));
                if let Some(Asked::Child(child)) = why {
                    self.on_acknowledged(cx, child);
                }
            }
            TapestryMsg::Welcome { peers } => {
                self.on_welcome(cx, from, &peers[..peers.len().min(MAX_WELCOMED)]);
            }
        }
        self.mend(cx);
        self.arm(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: TapestryTimer) {
        match timer {
            TapestryTimer::Upkeep => {
                let period = match self.joined {
                    true => self.config.upkeep,
                    false => self.doors.patience(self.config.upkeep),
                };
                let next = cx.rng().duration(period / 2, period * 3 / 2);
                cx.set_timer(next, TapestryTimer::Upkeep);
                match self.joined {
                    true => self.look_after(cx),
                    false => self.try_to_join(cx),
                }
            }
            TapestryTimer::Nearest => self.descend(cx),
            TapestryTimer::Late => {
                self.late = None;
                while let Some((peer, why)) = self.asked.expire(cx.now()) {
                    self.on_silence(cx, peer, why);
                }
                self.settle_in(cx);
            }
        }
        self.mend(cx);
        self.arm(cx);
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, answer: Answer<P>) {
        cx.finish(op, ());
        let Ok(found) = answer.looked else { return }; // The timer tries again.
        match answer.tag {
            JOIN => self.on_surrogate(cx, found.root()),
            _ if self.joined && found.root() != self.me => self.copy(cx, found.root()),
            _ => {}
        }
        self.arm(cx);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        let Link::Down(Down::Unreachable | Down::TimedOut) = link else { return };
        while self.lose(peer) {}
        while let Some(why) = self.asked.give_up(peer) {
            self.on_silence(cx, peer, why);
        }
        self.settle_in(cx);
        self.mend(cx);
        self.arm(cx);
    }
}

impl<P: Keyed> Maintenance for TapestryTable<P> {
    const CONVERGES: bool = false;

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
        Some(digits_after(peer, key))
    }
    fn replicas(&self, key: &Key, n: usize, _claimed: bool) -> Replicas<P> {
        Self::replica_set(key, n)
    }
    fn mine(&self) -> Region {
        self.region()
    }
    fn silent(&mut self, _now: Time, peer: P) {
        self.lose(peer);
    }
    fn heard(&mut self, _now: Time, peer: P) {
        if !self.joined {
            self.doors.hear(peer);
        }
    }
    fn take_changed(&mut self) -> bool {
        self.levels.take_changed()
    }
}
