//! What a Chord node does with what comes in, and what its tables answer.

use std::time::Duration;

use p2p_core::{Cx, Down, Key, Keyed, Link, NoJob, OpId, Protocol, Time, Wire, prefetch};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::upkeep::{Asked, JOIN, MERGE, Question};
use super::{ChordMsg, ChordTable, MAX_SUCCESSORS};
use crate::lookup::part;
use crate::structured::{Answer, Maintenance, Next, Region, Replicas, Want};

impl<P: Serialize + DeserializeOwned> Wire for ChordMsg<P> {
    const MAX_BYTES: usize = 4096;
}

/// Chord's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChordTimer {
    /// Time to stabilise, or to try to join.
    Stabilize,
    /// A question of the upkeep is late.
    Late,
}

impl<P: Keyed> Protocol for ChordTable<P> {
    type Peer = P;
    type Msg = ChordMsg<P>;
    type Timer = ChordTimer;
    type Command = Answer<P>;
    type Item = ();
    type Outcome = ();
    type Event = Want<P>;
    type Job = NoJob;

    fn warm(&self) {
        prefetch(&self.successors[..]);
        prefetch(&self.fingers[..]);
        self.asked.warm();
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        if self.is_at_rest() {
            return;
        }
        match self.joined {
            // A node of a ring at rest begins at any time of the period.
            true => {
                let first = cx.rng().duration(Duration::ZERO, self.config.stabilize);
                cx.set_timer(first, ChordTimer::Stabilize);
            }
            false => self.on_timer(cx, ChordTimer::Stabilize),
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: ChordMsg<P>) {
        if !self.joined {
            // Whoever looks after the ring is in it; a newcomer looks its key up.
            self.doors.meet(from);
        }
        match msg {
            ChordMsg::GetState { id } => {
                if self.joined {
                    let successors = self.successors.iter().map(|spot| spot.peer).collect();
                    cx.send(from, ChordMsg::State { id, predecessor: self.predecessor(), successors });
                }
            }
            ChordMsg::State { id, predecessor, successors } => {
                if let Some(Question { why, .. }) = self.asked.answer(id, from) {
                    let successors = &successors[..successors.len().min(MAX_SUCCESSORS)];
                    self.on_state(cx, from, why, predecessor, successors);
                    self.arm(cx);
                }
            }
            ChordMsg::Notify { before } => {
                let before = &before[..before.len().min(MAX_SUCCESSORS)];
                self.on_notify(cx, from, before);
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: ChordTimer) {
        match timer {
            ChordTimer::Stabilize => {
                let period = match self.joined {
                    true => self.config.stabilize,
                    false => self.doors.patience(self.config.stabilize),
                };
                let next = cx.rng().duration(period / 2, period * 3 / 2);
                cx.set_timer(next, ChordTimer::Stabilize);
                match self.joined {
                    true => self.look_after(cx),
                    false => self.try_to_join(cx),
                }
            }
            ChordTimer::Late => {
                while let Some((peer, question)) = self.asked.expire(cx.now()) {
                    self.on_silence(cx, peer, question);
                }
                self.arm(cx);
            }
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, answer: Answer<P>) {
        cx.finish(op, ());
        match (answer.tag, answer.looked) {
            (JOIN, Ok(found)) => self.on_joined(cx, &found),
            (MERGE, Ok(found)) => self.on_knocked(cx, &found),
            (exponent, Ok(found)) => self.on_finger(exponent as usize, &found),
            (_, Err(_)) => {} // The timer tries again.
        }
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        let Link::Down(Down::Unreachable | Down::TimedOut) = link else { return };
        let given_up = std::iter::from_fn(|| self.asked.give_up(peer));
        let questions: Vec<Asked<P>> = given_up.map(|question| question.why).collect();
        self.on_death(cx, peer, questions);
        self.arm(cx);
    }
}

impl<P: Keyed> Maintenance for ChordTable<P> {
    const CONVERGES: bool = false;

    fn me(&self) -> P {
        self.me
    }
    fn is_joined(&self) -> bool {
        self.joined
    }
    fn next(&self, key: &Key, avoid: &[P], claimed: bool) -> Next<P> {
        self.next_hop(key, avoid, claimed)
    }
    fn candidates(&self, key: &Key, n: usize, avoid: &[P]) -> Vec<P> {
        self.nearest(key, n, avoid)
    }
    fn distance(peer: &Key, key: &Key) -> Option<Key> {
        Some(peer.distance(key))
    }
    fn upto(peer: &Key, key: &Key) -> Option<f64> {
        Some(part(&key.distance(peer)))
    }
    fn neighbourhood(&self) -> Option<(usize, f64)> {
        let last = self.successors.last()?;
        Some((self.successors.len(), part(&last.distance(&self.key))))
    }
    fn replicas(&self, key: &Key, n: usize, claimed: bool) -> Replicas<P> {
        self.replica_set(key, n, claimed)
    }
    fn mine(&self) -> Region {
        self.region()
    }
    fn silent(&mut self, _now: Time, peer: P) {
        self.suspect(peer);
    }
    fn attend(&mut self, cx: &mut Cx<'_, Self>) {
        self.ask_suspects(cx);
    }
    fn heard(&mut self, _now: Time, peer: P) {
        self.suspects.retain(|suspect| *suspect != peer);
        if !self.joined {
            self.doors.hear(peer);
        }
    }
    fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}
