//! How CAN nodes join, and tell each other of their zones.
//!
//! *Join* (§2.2): the newcomer looks up a point given by chance and asks its owner, who keeps one half of a zone and
//! gives the other away, or a whole zone if it has several. *Update* (§2.3): neighbours exchange their zones, and now
//! and then who their neighbours are. What a node says of its own zones is believed, and contests what others claim
//! ([`zones`](super::zones)); what it says of others is only a reason to ask them. What becomes of the zones of the
//! dead is in [`repair`](super::repair).

use std::time::Duration;

use p2p_core::{Cx, Down, Key, Keyed, Link, NoJob, OpId, Protocol, Suspicion, Time, Wire};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::zones::{MAX_ZONES, abuts, left_of, merge, volume};
use super::{CanMsg, CanState, CanTable, Claim, MAX_NEIGHBOURS, Neighbour};
use crate::structured::{Answer, Found, LookupError, Maintenance, Next, Region, Replicas, Want};

impl<P: Serialize + DeserializeOwned> Wire for CanMsg<P> {
    const MAX_BYTES: usize = 48 << 10;
}

/// A newcomer's question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joining<P> {
    peer: P,
    /// Its point.
    key: Key,
    /// When it is given up.
    until: Time,
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

/// What a lookup of the upkeep is for, as its tag. All others are for a newcomer's points, by their numbers.
pub(super) const MERGE: u32 = 0;
pub(super) const GAP: u32 = 1;
pub(super) const FIRST_POINT: u32 = 2;

/// How many peers that others have told of are asked at a time.
const MET: usize = 16;

impl<P: Keyed> CanTable<P> {
    pub(super) fn is_at_rest(&self) -> bool {
        self.config.update.is_zero()
    }

    pub(super) fn position(&self, peer: P) -> Option<usize> {
        self.neighbours.iter().position(|neighbour| neighbour.peer == peer)
    }

    /// What a node says that it holds, as far as it can be.
    fn sound(&self, mut claims: Vec<Claim>) -> Vec<Claim> {
        claims.truncate(MAX_ZONES);
        claims.retain(|claim| claim.zone.space() == self.space);
        claims
    }

    /// This node and its neighbours, with their zones.
    pub(super) fn around(&self) -> Vec<(P, Claim)> {
        let own = self.claims.iter().map(|claim| (self.me, *claim));
        let of = |neighbour: &Neighbour<P>| {
            let peer = neighbour.peer;
            neighbour.claims.iter().map(move |claim| (peer, *claim)).collect::<Vec<_>>()
        };
        own.chain(self.neighbours.iter().flat_map(of)).take(MAX_NEIGHBOURS).collect()
    }

    // ---- join

    fn try_to_join(&mut self, cx: &mut Cx<'_, Self>) {
        if self.joining.is_some_and(|joining| cx.now() < joining.until) {
            return;
        }
        let Some(door) = self.doors.next() else {
            // Nobody whom it has met can be reached: it goes on alone.
            return self.own_everything();
        };
        self.points = self.points.checked_add(1).unwrap_or(FIRST_POINT);
        cx.emit(Want { tag: self.points, key: self.point(self.points), replicas: 1, via: Some(door) });
    }

    /// A point by chance, as good as any, that need not be remembered.
    fn point(&self, number: u32) -> Key {
        Key::of(&[self.me.key().as_bytes().as_slice(), &number.to_be_bytes()].concat())
    }

    fn on_found_a_place(&mut self, cx: &mut Cx<'_, Self>, number: u32, found: &Found<P>) {
        let waits = self.joining.is_some_and(|joining| cx.now() < joining.until);
        if !self.joined && !waits && found.root() != self.me {
            self.request(cx, found.root(), self.point(number), false);
        }
    }

    fn request(&mut self, cx: &mut Cx<'_, Self>, peer: P, key: Key, last: bool) {
        let until = cx.now() + self.config.lookup.hop_timeout * 2;
        self.joining = Some(Joining { peer, key, until });
        cx.send(peer, CanMsg::Join { key, last });
    }

    fn on_join(&mut self, cx: &mut Cx<'_, Self>, from: P, key: &Key, last: bool) {
        let point = self.space.point(key);
        let at = self.claims.iter().position(|claim| claim.zone.contains(&point));
        let Some(at) = at.or(last.then_some(0)).filter(|_| self.joined && from != self.me) else { return };
        let Some(claim) = self.claims.get(at).copied() else { return };
        let around = || self.neighbours.iter().map(|other| other.peer);
        if self.config.subnets.is_some_and(|limits| !limits.admit(from, around(), [])) {
            return; // It tries another point.
        }
        let largest = self.neighbours.iter().filter(|other| other.suspicion.unanswered() == 0);
        let largest = largest.max_by_key(|other| (volume(&other.claims), other.peer));
        if let Some(other) = largest
            && self.config.uniform
            && !last
            && volume(&other.claims) > volume(&self.claims)
        {
            return cx.send(from, CanMsg::Elsewhere { peer: other.peer });
        }
        let given = match self.claims.len() {
            1 => {
                let Some((lower, upper)) = claim.split() else { return };
                let gives_upper = upper.zone.contains(&point);
                let (kept, given) = if gives_upper { (lower, upper) } else { (upper, lower) };
                self.claims[at] = kept;
                given
            }
            _ => self.claims.swap_remove(at).taken_over(),
        };
        cx.send(from, CanMsg::Welcome { claims: vec![given], neighbours: self.around() });
        self.place(from, vec![given]);
        self.moved(cx);
    }

    fn on_welcome(&mut self, cx: &mut Cx<'_, Self>, from: P, claims: Vec<Claim>, neighbours: &[(P, Claim)]) {
        let claims = self.sound(claims);
        if self.joining.is_none_or(|joining| joining.peer != from) || claims.is_empty() {
            return;
        }
        self.joining = None;
        self.doors.found();
        self.joined = true;
        self.hold(cx, &claims, neighbours);
    }

    /// Takes zones, and whoever is said to be around them for neighbours until they speak for themselves.
    pub(super) fn hold(&mut self, cx: &mut Cx<'_, Self>, claims: &[Claim], neighbours: &[(P, Claim)]) {
        self.claims.extend(claims);
        for &(peer, claim) in neighbours.iter().take(MAX_NEIGHBOURS) {
            if claim.zone.space() != self.space {
                continue;
            }
            let is_new = peer != self.me && !claims.iter().any(|own| own.zone.overlaps(&claim.zone));
            if is_new && abuts(claims, &claim.zone) && self.position(peer).is_none() {
                // Whoever has several zones says so when it is asked.
                self.place(peer, vec![claim]);
            }
        }
        self.moved(cx);
    }

    // ---- update

    /// What this node says of itself to a peer.
    fn state(&mut self, peer: P, full: bool) -> CanState<P> {
        let at = self.position(peer);
        let is_news = at.is_none_or(|at| self.neighbours[at].stamp != self.stamp);
        let neighbours = (full && is_news).then(|| self.around());
        if let Some(at) = at.filter(|_| neighbours.is_some()) {
            self.neighbours[at].stamp = self.stamp;
        }
        CanState { claims: self.claims.clone(), neighbours }
    }

    pub(super) fn ask(&mut self, cx: &mut Cx<'_, Self>, peer: P, full: bool) {
        let deadline = cx.now() + self.config.lookup.hop_timeout;
        if peer != self.me
            && let Ok(id) = self.asked.insert(peer, deadline, cx.now())
        {
            let state = self.state(peer, full);
            cx.send(peer, CanMsg::Update { id, full, state });
        }
        self.arm(cx);
    }

    pub(super) fn is_asked(&self, peer: P) -> bool {
        self.asked.iter().any(|(asked, _)| asked == peer)
    }

    fn arm(&mut self, cx: &mut Cx<'_, Self>) {
        match self.asked.next_deadline() {
            Some(at) => cx.set_timer(at - cx.now(), CanTimer::Late),
            None => cx.clear_timer(CanTimer::Late),
        }
    }

    /// This node's zones have changed: all who were its neighbours hear of it.
    fn moved(&mut self, cx: &mut Cx<'_, Self>) {
        merge(&mut self.claims);
        self.stamp = self.stamp.wrapping_add(1);
        self.changed = true;
        let told: Vec<P> = self.neighbours.iter().map(|neighbour| neighbour.peer).collect();
        let claims = &self.claims;
        self.neighbours.retain(|other| other.claims.iter().any(|claim| abuts(claims, &claim.zone)));
        told.into_iter().for_each(|peer| self.ask(cx, peer, false));
    }

    /// A peer says what it holds.
    fn on_state(&mut self, cx: &mut Cx<'_, Self>, from: P, state: CanState<P>) {
        let claims = self.sound(state.claims);
        self.contest(cx, from, &claims);
        if !self.joined {
            return;
        }
        self.fallen.retain(|fallen| !claims.iter().any(|claim| claim.zone.overlaps(&fallen.claim.zone)));
        self.place(from, claims);
        if let Some(mut told) = state.neighbours {
            told.truncate(MAX_NEIGHBOURS);
            told.retain(|(_, claim)| claim.zone.space() == self.space);
            self.meet(cx, &told);
            if let Some(at) = self.position(from) {
                self.neighbours[at].told = told;
                self.neighbours[at].exchanged = Some(cx.now());
            }
        }
    }

    /// Gives up those parts of this node's zones to which another has the better claim.
    fn contest(&mut self, cx: &mut Cx<'_, Self>, from: P, claims: &[Claim]) {
        let left = left_of(&self.claims, self.me, claims, from);
        if left == self.claims {
            return;
        }
        self.claims = left;
        // The winner may know nobody here.
        self.stamp = self.stamp.wrapping_add(1);
        self.ask(cx, from, true);
        let neighbours: Vec<P> = self.neighbours.iter().map(|neighbour| neighbour.peer).collect();
        self.moved(cx);
        if self.claims.is_empty() {
            neighbours.into_iter().chain([from]).for_each(|peer| self.doors.lose(peer));
            self.leave(cx);
        }
    }

    /// This node holds nothing any more: it joins again.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_, Self>) {
        self.neighbours.clear();
        self.fallen.clear();
        self.claims.clear();
        self.joined = false;
        self.changed = true;
        self.doors.begin();
        let soon = self.doors.patience(self.config.update);
        let soon = cx.rng().duration(Duration::ZERO, soon);
        cx.set_timer(soon, CanTimer::Update);
    }

    /// Notes what a peer holds, where nobody else is known to have the better claim. It is a neighbour if that abuts.
    fn place(&mut self, peer: P, claims: Vec<Claim>) {
        let mut left = claims;
        for other in self.neighbours.iter_mut().filter(|other| other.peer != peer) {
            let theirs = left_of(&other.claims, other.peer, &left, peer);
            left = left_of(&left, peer, &other.claims, other.peer);
            other.claims = theirs;
        }
        let before = self.neighbours.len();
        let own = &self.claims;
        let is_near = |claims: &[Claim]| claims.iter().any(|claim| abuts(own, &claim.zone));
        self.neighbours.retain(|other| other.peer == peer || is_near(&other.claims));
        let mut is_news = self.neighbours.len() < before;
        match self.neighbours.iter().position(|neighbour| neighbour.peer == peer) {
            Some(at) if is_near(&left) => {
                let neighbour = &mut self.neighbours[at];
                is_news |= neighbour.claims != left;
                neighbour.claims = left;
            }
            Some(at) => {
                self.neighbours.swap_remove(at);
                is_news = true;
            }
            None if is_near(&left) && self.neighbours.len() < MAX_NEIGHBOURS => {
                self.neighbours.push(Neighbour::new(peer, left));
                is_news = true;
            }
            None => {}
        }
        if is_news {
            self.stamp = self.stamp.wrapping_add(1);
            self.changed = true;
        }
    }

    /// Asks those that are said to be near and are not known to be.
    fn meet(&mut self, cx: &mut Cx<'_, Self>, told: &[(P, Claim)]) {
        let mut met = Vec::new();
        for (peer, claim) in told {
            if *peer == self.me || met.contains(peer) || met.len() >= MET || self.is_asked(*peer) {
                continue;
            }
            let near = abuts(&self.claims, &claim.zone);
            let overlapping = |own: &&Claim| own.zone.overlaps(&claim.zone);
            let contests = self.claims.iter().filter(overlapping).any(|own| claim.beats(*peer, own, self.me));
            let is_known = self.neighbours.iter().any(|neighbour| {
                let mut its = neighbour.claims.iter().filter(overlapping);
                its.any(|known| neighbour.peer == *peer || known.beats(neighbour.peer, claim, *peer))
            });
            if contests || near && !is_known {
                met.push(*peer);
            }
        }
        met.into_iter().for_each(|peer| self.ask(cx, peer, false));
    }

    fn look_after(&mut self, cx: &mut Cx<'_, Self>) {
        self.leave_if_cut_off(cx);
        let now = cx.now();
        let lately = |at: Time| now.since(at) < self.config.update * 3 / 4;
        let due = self.neighbours.iter().filter(|neighbour| !neighbour.exchanged.is_some_and(lately));
        let due: Vec<P> = due.map(|neighbour| neighbour.peer).collect();
        due.into_iter().for_each(|peer| self.ask(cx, peer, true));
        self.repair(cx);
        self.reassign(cx);
        self.knock(cx);
    }
}

impl<P: Keyed> Neighbour<P> {
    pub(super) fn new(peer: P, claims: Vec<Claim>) -> Neighbour<P> {
        Neighbour {
            peer,
            claims,
            told: Vec::new(),
            suspicion: Suspicion::default(),
            rtt_us: 0,
            exchanged: None,
            stamp: 0,
            rumoured: false,
        }
    }

    /// Takes in one measured round trip, as TCP does (RFC 6298).
    fn measured(&mut self, took: Duration) {
        let sample = took.as_micros().clamp(1, 1 << 31) as u32;
        self.rtt_us = match self.rtt_us {
            0 => sample,
            smoothed => (smoothed - smoothed / 8 + sample / 8).max(1),
        };
    }
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

    fn warm(&self) -> u64 {
        let claims = self
            .neighbours
            .iter()
            .filter_map(|neighbour| neighbour.claims.first())
            .chain(self.claims.first());
        claims.fold(self.asked.len() as u64, |sum, claim| sum ^ u64::from(claim.zone.halvings()))
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
                if self.joined {
                    self.on_state(cx, from, state);
                }
                let state = self.state(from, full && self.joined);
                cx.send(from, CanMsg::Updated { id, state });
            }
            CanMsg::Updated { id, state } => {
                let Some(sent) = self.asked.answer(id, from) else { return };
                self.arm(cx);
                if self.joined {
                    self.on_state(cx, from, state);
                }
                if let Some(at) = self.position(from) {
                    self.neighbours[at].measured(cx.now().since(sent));
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
        CanTable::replica_keys(key, n)
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
    }
    fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}
