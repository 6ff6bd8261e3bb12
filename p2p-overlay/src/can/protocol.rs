//! What a CAN node does with what comes in, and what its tables answer.

use std::time::Duration;

use p2p_core::{Cx, Down, Key, Keyed, Link, NoJob, OpId, Protocol, Time, Wire, prefetch};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::upkeep::{FIRST_POINT, GAP, MERGE};
use super::{CanMsg, CanTable};
use crate::structured::{Answer, LookupError, Maintenance, Next, Region, Replicas, Want};

impl<P: Serialize + DeserializeOwned> Wire for CanMsg<P> {
    const MAX_BYTES: usize = 48 << 10;
}

/// CAN's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CanTimer {
    /// Time to exchange updates, or to try to join.
    Update,
    /// A question of the upkeep is late.
    Late,
    /// Time to take over a dead neighbour's zone.
    Takeover,
}

impl<P: Keyed> Protocol for CanTable<P> {
    type Peer = P;
    type Msg = CanMsg<P>;
    type Timer = CanTimer;
    type Command = Answer<P>;
    type Item = ();
    type Outcome = ();
    type Event = Want<P>;
    type Job = NoJob;

    fn warm(&self) {
        prefetch(&self.claims[..]);
        self.neighbours.warm();
        self.asked.warm();
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        if self.is_at_rest() {
            return;
        }
        match self.joined {
            // A node of a network at rest begins at any time of the period.
            true => {
                let first = cx.rng().duration(Duration::ZERO, self.config.update);
                cx.set_timer(first, CanTimer::Update);
            }
            false => self.on_timer(cx, CanTimer::Update),
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: CanMsg<P>) {
        match msg {
            CanMsg::Join { key, last } => self.on_join(cx, from, &key, last),
            CanMsg::Elsewhere { peer } => {
                if let Some(joining) = self.joining.filter(|joining| joining.peer == from && !self.joined) {
                    self.request(cx, peer, joining.key, true);
                }
            }
            CanMsg::Welcome { claims, neighbours } => self.on_welcome(cx, from, claims, &neighbours),
            CanMsg::Update { id, full, state } => {
                match self.joined {
                    true => self.on_state(cx, from, state),
                    // Only who has a zone looks after its neighbours.
                    false => self.doors.meet(from),
                }
                let state = self.state(from, full && self.joined);
                cx.send(from, CanMsg::Updated { id, state });
            }
            CanMsg::Updated { id, state } => {
                let Some(sent) = self.asked.answer(id, from) else { return };
                self.arm(cx);
                let claims = self.shares_zones().then(|| self.sound(state.claims.clone()));
                if self.joined {
                    self.on_state(cx, from, state);
                }
                match (self.position(from), claims) {
                    (Some(at), _) => self.neighbours[at].proximity.sample(cx.now().since(sent)),
                    (None, Some(claims)) => self.prefer(from, claims, cx.now().since(sent)),
                    (None, None) => {}
                }
            }
            CanMsg::Fallen { peer } => {
                if let Some(at) = self.position(peer).filter(|_| !self.is_asked(peer)) {
                    self.neighbours[at].rumoured = true;
                    self.neighbours[at].suspicion.missed();
                    self.ask(cx, peer, false);
                }
            }
            CanMsg::Reassign { claim, neighbours } => {
                if self.may_take(&claim) {
                    self.on_reassign(cx, claim, &neighbours);
                }
            }
            CanMsg::Half { whole, half } => self.on_half(cx, from, whole, half),
            CanMsg::Take { claim, neighbours } => {
                let sibling = claim.zone.sibling();
                let completes = self.claims.iter().any(|own| Some(own.zone) == sibling);
                if completes && self.may_take(&claim) {
                    self.hold(cx, &[claim], &neighbours);
                }
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: CanTimer) {
        match timer {
            CanTimer::Update => {
                let period = match self.joined {
                    true => self.config.update,
                    false => self.doors.patience(self.config.update),
                };
                let next = cx.rng().duration(period / 2, period * 3 / 2);
                cx.set_timer(next, CanTimer::Update);
                match self.joined {
                    true => self.look_after(cx),
                    false => self.try_to_join(cx),
                }
            }
            CanTimer::Late => {
                while let Some((peer, _)) = self.asked.expire(cx.now()) {
                    self.on_silence(cx, peer);
                }
                self.arm(cx);
            }
            CanTimer::Takeover => self.on_takeover(cx),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, answer: Answer<P>) {
        cx.finish(op, ());
        let gap = self.gap.take_if(|_| answer.tag == GAP);
        match (answer.tag, answer.looked) {
            (MERGE | GAP, Ok(found)) if self.joined => self.ask(cx, found.root(), true),
            (GAP, Err(LookupError::NoAnswer { .. })) => {
                if let Some(gap) = gap {
                    self.on_nobody(cx, gap);
                }
            }
            (number @ FIRST_POINT.., Ok(found)) => self.on_found_a_place(cx, number, &found),
            _ => {} // The timer tries again.
        }
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        let Link::Down(Down::Unreachable | Down::TimedOut) = link else { return };
        while self.asked.give_up(peer).is_some() {}
        self.on_silence(cx, peer);
        self.arm(cx);
    }
}

impl<P: Keyed> Maintenance for CanTable<P> {
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
    fn distance(_peer: &Key, _key: &Key) -> Option<Key> {
        None
    }
    fn detour(&self, key: &Key, avoid: &[P]) -> Option<P> {
        self.way_around(key, avoid)
    }
    fn replicas(&self, key: &Key, n: usize, _claimed: bool) -> Replicas<P> {
        self.replica_set(key, n)
    }
    fn mine(&self) -> Region {
        self.region()
    }
    fn silent(&mut self, _now: Time, peer: P) {
        if let Some(at) = self.position(peer).filter(|_| !self.is_at_rest()) {
            self.neighbours[at].suspicion.missed();
        }
    }
    fn attend(&mut self, cx: &mut Cx<'_, Self>) {
        let suspected = self.neighbours.iter().filter(|neighbour| neighbour.suspicion.unanswered() > 0);
        let suspected: Vec<P> = suspected.map(|neighbour| neighbour.peer).collect();
        for peer in suspected {
            if !self.is_asked(peer) {
                self.ask(cx, peer, false);
            }
        }
    }
    fn heard(&mut self, _now: Time, peer: P) {
        if !self.is_at_rest()
            && let Some(at) = self.position(peer)
        {
            self.neighbours[at].suspicion.heard();
            self.neighbours[at].rumoured = false;
        }
        if !self.joined {
            self.doors.hear(peer);
        }
    }
    fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}
