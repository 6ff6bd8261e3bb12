//! What CAN nodes tell each other of their zones (§2.3).
//!
//! Neighbours exchange their zones, and now and then who their neighbours are. What a node says of its own zones is
//! believed, and contests what others claim ([`zones`](super::zones)); what it says of others is only a reason to ask
//! them.

use std::time::Duration;

use p2p_core::{Cx, Keyed, Suspicion};

use super::upkeep::CanTimer;
use super::zones::{MAX_ZONES, abuts, left_of, merge};
use super::{CanMsg, CanState, CanTable, Claim, MAX_ASKED, MAX_NEIGHBOURS, Neighbour};

/// How many peers that others have told of are asked at a time.
const MET: usize = 16;

impl<P: Keyed> CanTable<P> {
    /// What a node says that it holds, as far as it can be.
    pub(super) fn sound(&self, mut claims: Vec<Claim>) -> Vec<Claim> {
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

    /// Takes zones, and whoever is said to be around them for neighbours until they speak for themselves.
    /// A neighbour that has spoken for itself gives way to nobody who is only named: that one is asked.
    pub(super) fn hold(&mut self, cx: &mut Cx<'_, Self>, claims: &[Claim], neighbours: &[(P, Claim)]) {
        self.claims.extend(claims);
        let mut rivals = Vec::new();
        for &(peer, claim) in neighbours.iter().take(MAX_NEIGHBOURS) {
            if claim.zone.space() != self.space {
                continue;
            }
            let is_new = peer != self.me && !claims.iter().any(|own| own.zone.overlaps(&claim.zone));
            if is_new && abuts(claims, &claim.zone) && self.position(peer).is_none() {
                let is_held = |other: &Neighbour<P>| {
                    other.proved && other.claims.iter().any(|its| its.zone.overlaps(&claim.zone))
                };
                match self.neighbours.iter().any(is_held) {
                    true => rivals.push((peer, claim)),
                    // Whoever has several zones says so when it is asked.
                    false => self.place(peer, vec![claim], false),
                }
            }
        }
        self.moved(cx);
        self.meet(cx, &rivals);
    }

    /// What this node says of itself to a peer.
    pub(super) fn state(&mut self, peer: P, full: bool) -> CanState<P> {
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
        let is_proved = self.position(peer).is_some_and(|at| self.neighbours[at].proved);
        // Whom others name takes no more than half of the questions.
        if peer != self.me
            && (is_proved || self.asked.len() < MAX_ASKED / 2)
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

    pub(super) fn arm(&mut self, cx: &mut Cx<'_, Self>) {
        match self.asked.next_deadline() {
            Some(at) => cx.set_timer(at - cx.now(), CanTimer::Late),
            None => cx.clear_timer(CanTimer::Late),
        }
    }

    /// This node's zones have changed: all who were its neighbours hear of it.
    pub(super) fn moved(&mut self, cx: &mut Cx<'_, Self>) {
        merge(&mut self.claims);
        self.stamp = self.stamp.wrapping_add(1);
        self.changed = true;
        let told: Vec<P> = self.neighbours.iter().map(|neighbour| neighbour.peer).collect();
        let claims = &self.claims;
        self.neighbours.retain(|other| other.claims.iter().any(|claim| abuts(claims, &claim.zone)));
        told.into_iter().for_each(|peer| self.ask(cx, peer, false));
    }

    /// A peer says what it holds.
    pub(super) fn on_state(&mut self, cx: &mut Cx<'_, Self>, from: P, state: CanState<P>) {
        let claims = self.sound(state.claims);
        self.contest(cx, from, &claims);
        if !self.joined {
            return;
        }
        self.fallen.retain(|fallen| !claims.iter().any(|claim| claim.zone.overlaps(&fallen.claim.zone)));
        self.place(from, claims, true);
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

    /// Notes what a peer holds, where nobody else is known to have the better claim. It is a neighbour if that abuts,
    /// and if there is room: one that has spoken for itself, `proved`, takes that of one that was only named.
    pub(super) fn place(&mut self, peer: P, claims: Vec<Claim>, proved: bool) {
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
                neighbour.proved |= proved;
            }
            Some(at) => {
                self.neighbours.swap_remove(at);
                is_news = true;
            }
            None if is_near(&left) => {
                if self.neighbours.len() >= MAX_NEIGHBOURS
                    && let Some(named) = self.neighbours.iter().position(|other| proved && !other.proved)
                {
                    self.neighbours.swap_remove(named);
                }
                if self.neighbours.len() < MAX_NEIGHBOURS {
                    self.neighbours.push(Neighbour { proved, ..Neighbour::new(peer, left) });
                    is_news = true;
                }
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
            proved: true,
        }
    }

    /// Takes in one measured round trip, as TCP does (RFC 6298).
    pub(super) fn measured(&mut self, took: Duration) {
        let sample = took.as_micros().clamp(1, 1 << 31) as u32;
        self.rtt_us = match self.rtt_us {
            0 => sample,
            smoothed => (smoothed - smoothed / 8 + sample / 8).max(1),
        };
    }
}
