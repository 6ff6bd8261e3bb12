//! What CAN nodes tell each other of their zones (§2.3).
//!
//! Neighbours exchange their zones, and now and then who their neighbours are. What a node says of its own zones is
//! believed, and contests what others claim ([`zones`](super::zones)); what it says of others is only a reason to ask
//! them.

use std::time::Duration;

use p2p_core::{Cx, Keyed};

use super::neighbours::{Around, Neighbour};
use super::protocol::CanTimer;
use super::zones::{Claims, MAX_ZONES, abuts, left_of, merge, overlap};
use super::{CanMsg, CanState, CanTable, Claim, MAX_ASKED, MAX_NEIGHBOURS};

/// How many peers that others have told of are asked at a time.
const MET: usize = 16;
/// The most who are believed to share a zone. There may be more than [`CanConfig::zone_peers`](super::CanConfig) for a
/// while, when many come at once.
const MAX_SHARING: usize = 16;
/// Of those who share a zone with a neighbour one is asked how far it is once in so many updates, on average.
const CURIOSITY: u64 = 4;

impl<P: Keyed> CanTable<P> {
    /// What a node says that it holds, as far as it can be.
    pub(super) fn sound(&self, claims: Claims) -> Claims {
        let is_sound = |claim: &Claim| claim.zone.space() == self.space;
        match claims.len() <= MAX_ZONES && claims.iter().all(is_sound) {
            true => claims,
            false => {
                let sound = claims.iter().take(MAX_ZONES).filter(|claim| is_sound(claim)).copied();
                sound.collect::<Vec<_>>().into()
            }
        }
    }

    /// What a node says of those around it, as far as it can be.
    fn sound_around(&self, told: Around<P>, claims: &[Claim]) -> Around<P> {
        let is_sound = |(_, claim): &&(P, Claim)| claim.zone.space() == self.space;
        // Nobody else has so many heirs that its zone would stay empty for long.
        let sharing = told.iter().filter(|(_, claim)| claims.contains(claim)).count();
        if sharing <= MAX_SHARING && told.len() <= MAX_NEIGHBOURS && told.iter().all(|one| is_sound(&one)) {
            return told;
        }
        let mut sharing = 0;
        let mut few = |(_, claim): &&(P, Claim)| {
            sharing += usize::from(claims.contains(claim));
            sharing <= MAX_SHARING || !claims.contains(claim)
        };
        told.iter().take(MAX_NEIGHBOURS).filter(is_sound).filter(|one| few(one)).copied().collect()
    }

    /// What this node tells of itself and its neighbours is not the same as before.
    pub(super) fn news(&mut self) {
        self.stamp = self.stamp.wrapping_add(1);
        self.forget_around();
    }

    /// Nobody is where somebody was.
    pub(super) fn forget_around(&mut self) {
        self.around = None;
        self.whole = false;
    }

    /// This node and its neighbours, with their zones.
    pub(super) fn around(&self) -> Vec<(P, Claim)> {
        let own = self.claims.iter().map(|claim| (self.me, *claim));
        let others = self.neighbours.iter();
        let others = others.flat_map(|other| other.claims.iter().map(|claim| (other.peer, *claim)));
        own.chain(others).take(MAX_NEIGHBOURS).collect()
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
            let is_mate = self.shares_zones() && claims.contains(&claim);
            let is_new = peer != self.me && !claims.iter().any(|own| own.zone.overlaps(&claim.zone));
            let is_near = is_new && abuts(claims, &claim.zone) || peer != self.me && is_mate;
            if is_near && self.position(peer).is_none() {
                let is_held = |other: &Neighbour<P>| {
                    let mut its = other.claims.iter();
                    other.proved && !is_mate && its.any(|its| its.zone.overlaps(&claim.zone))
                };
                match self.neighbours.iter().any(is_held) {
                    true => rivals.push((peer, claim)),
                    // Whoever has several zones says so when it is asked.
                    false => self.place(peer, Claims::One(claim), false),
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
        let neighbours = (full && is_news).then(|| match &self.around {
            Some(around) => around.clone(),
            None => self.around.insert(self.around().into()).clone(),
        });
        if let Some(at) = at.filter(|_| neighbours.is_some()) {
            self.neighbours[at].stamp = self.stamp;
        }
        CanState { claims: self.claims.as_slice().into(), neighbours }
    }

    // ---- questions

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
        self.news();
        self.changed = true;
        let told: Vec<P> = self.neighbours.iter().map(|neighbour| neighbour.peer).collect();
        let (own, shared) = (&self.claims, self.shares_zones());
        self.neighbours.retain(|other| is_near(own, &other.claims, shared));
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
        if let Some(told) = state.neighbours {
            self.meet(cx, &told);
            if let Some(at) = self.position(from) {
                let told = self.sound_around(told, &self.neighbours[at].claims);
                self.neighbours[at].told = told;
                self.neighbours[at].exchanged = Some(cx.now());
            }
        }
    }

    /// Gives up those parts of this node's zones to which another has the better claim.
    fn contest(&mut self, cx: &mut Cx<'_, Self>, from: P, claims: &[Claim]) {
        if !self.shares_zones() && !overlap(&self.claims, claims) {
            return;
        }
        let own = if self.shares_zones() { self.follow(from, claims) } else { self.claims.clone() };
        let left = left_of(&own, self.me, claims, from, self.shares_zones());
        if left == self.claims {
            return;
        }
        self.claims = left;
        // The winner may know nobody here.
        self.news();
        self.ask(cx, from, true);
        let neighbours: Vec<P> = self.neighbours.iter().map(|neighbour| neighbour.peer).collect();
        self.moved(cx);
        if self.claims.is_empty() {
            neighbours.into_iter().chain([from]).for_each(|peer| self.doors.lose(peer));
            self.leave(cx);
        }
    }

    /// This node's claims after those of others with whom it shares, as far as it can go along: where one has split
    /// the zone it takes the same half, until it is told otherwise, and where one has taken over more it shares that.
    fn follow(&self, from: P, claims: &[Claim]) -> Vec<Claim> {
        let known = self.position(from).map(|at| &self.neighbours[at].claims);
        let next = |own: &Claim| {
            let halves = own.split().map(<[Claim; 2]>::from).unwrap_or([*own; 2]);
            let is_mate = known.is_some_and(|its| its.contains(own));
            let is_more = |its: &Claim| is_mate && its.zone.covers(&own.zone) && its.version >= own.version;
            claims.iter().copied().find(|its| halves.contains(its) || is_more(its)).unwrap_or(*own)
        };
        let mut own: Vec<Claim> = self.claims.iter().map(next).collect();
        own.dedup();
        own
    }

    /// This node holds nothing any more: it joins again.
    pub(super) fn leave(&mut self, cx: &mut Cx<'_, Self>) {
        self.neighbours.clear();
        self.fallen.clear();
        self.claims.clear();
        self.forget_around();
        self.joined = false;
        self.changed = true;
        self.doors.begin();
        let soon = self.doors.patience(self.config.update);
        let soon = cx.rng().duration(Duration::ZERO, soon);
        cx.set_timer(soon, CanTimer::Update);
    }

    /// Notes what a peer holds, where nobody else is known to have the better claim. It is a neighbour if that abuts,
    /// and if there is room: one that has spoken for itself, `proved`, takes that of one that was only named.
    pub(super) fn place(&mut self, peer: P, claims: Claims, proved: bool) {
        let shared = self.shares_zones();
        let known = self.position(peer);
        if let Some(at) = known.filter(|at| !shared && self.neighbours[*at].claims == claims) {
            // Most often it is as before, and then nobody else claims any of it.
            self.neighbours[at].proved |= proved;
            return;
        }
        let mut left = claims;
        let mut is_other = false;
        for other in self.neighbours.iter_mut().filter(|other| other.peer != peer) {
            if !overlap(&other.claims, &left) {
                continue;
            }
            let theirs: Claims = left_of(&other.claims, other.peer, &left, peer, shared).into();
            left = left_of(&left, peer, &other.claims, other.peer, shared).into();
            is_other |= theirs != other.claims;
            other.claims = theirs;
            if other.claims.is_empty() && other.proved {
                // It may live on beyond a cut, and not know that another holds its zone.
                self.doors.lose(other.peer);
            }
        }
        if is_other {
            self.forget_around();
        }
        let before = self.neighbours.len();
        let own = &self.claims;
        let is_near = |claims: &[Claim]| is_near(own, claims, shared);
        // Of those who share a zone beside this node's one is enough.
        let is_enough = |claim: &Claim| {
            let held = || self.neighbours.iter().any(|other| other.claims.contains(claim));
            !abuts(own, &claim.zone) && !own.contains(claim) || shared && !own.contains(claim) && held()
        };
        let is_needless = left.iter().all(is_enough);
        self.neighbours.retain(|other| other.peer == peer || is_near(&other.claims));
        let mut is_news = self.neighbours.len() < before;
        match self.neighbours.position(peer) {
            Some(at) if is_near(&left) => {
                let neighbour = &mut self.neighbours[at];
                is_news |= neighbour.claims != left;
                neighbour.claims = left;
                neighbour.proved |= proved;
            }
            Some(at) => {
                self.neighbours.swap_remove(at);
                is_news = true;
                if self.neighbours.is_empty() {
                    // Where it has gone the others are.
                    self.doors.lose(peer);
                }
            }
            None if is_near(&left) && !is_needless => {
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
            self.news();
            self.changed = true;
        }
    }

    // ---- shared zones

    /// Asks some of those who share a zone with a neighbour how far they are.
    pub(super) fn compare(&mut self, cx: &mut Cx<'_, Self>) {
        let mut asked = Vec::new();
        for neighbour in self.neighbours.iter() {
            let other = neighbour.told.iter().filter(|(peer, claim)| {
                *peer != self.me && self.position(*peer).is_none() && neighbour.claims.contains(claim)
            });
            let others: Vec<P> = other.map(|(peer, _)| *peer).collect();
            if cx.rng().below(CURIOSITY) == 0 {
                asked.extend(cx.rng().choose(&others).copied());
            }
        }
        asked.into_iter().for_each(|peer| self.ask(cx, peer, false));
    }

    /// A peer that is no neighbour has answered: it takes the place of one with whom it shares its zones, if it is
    /// nearer (§3.4).
    pub(super) fn prefer(&mut self, peer: P, claims: Claims, took: Duration) {
        let is_further = |other: &Neighbour<P>| {
            other.claims == claims
                && other.proximity.rtt().is_some_and(|rtt| rtt * 4 > took * 5)
                && !self.claims.contains(&claims[0])
        };
        if !self.shares_zones() || claims.is_empty() {
            return;
        }
        if let Some(at) = self.neighbours.iter().position(is_further) {
            let further = self.neighbours.replace(at, Neighbour::new(peer, claims));
            self.neighbours[at].told = further.told;
            self.neighbours[at].proximity.sample(took);
            self.news();
        }
    }

    /// Asks those that are said to be near and are not known to be.
    fn meet(&mut self, cx: &mut Cx<'_, Self>, told: &[(P, Claim)]) {
        let mut met = Vec::new();
        for (peer, claim) in told.iter().take(MAX_NEIGHBOURS) {
            if met.len() >= MET {
                break;
            }
            let is_sound = claim.zone.space() == self.space;
            if is_sound && *peer != self.me && !met.contains(peer) && self.is_news_of(*peer, claim) {
                met.push(*peer);
            }
        }
        met.into_iter().for_each(|peer| self.ask(cx, peer, false));
    }

    /// Whether a peer, if it holds what somebody says, contests this node's zones, or is a neighbour that is not known;
    /// unless it is being asked.
    fn is_news_of(&self, peer: P, claim: &Claim) -> bool {
        let shared = self.shares_zones();
        let overlapping = |own: &&Claim| own.zone.overlaps(&claim.zone);
        let is_mate = || shared && self.claims.contains(claim);
        let contests =
            || self.claims.iter().filter(overlapping).any(|own| claim.beats(peer, own, self.me, shared));
        let is_near = || abuts(&self.claims, &claim.zone) || is_mate();
        let as_told = || self.position(peer).is_some_and(|at| self.neighbours[at].claims.contains(claim));
        let is_known = || {
            let is_mate = is_mate();
            self.neighbours.iter().any(|neighbour| {
                let mut its = neighbour.claims.iter().filter(overlapping);
                its.any(|known| {
                    neighbour.peer == peer
                        || shared && !is_mate && known == claim
                        || known.beats(neighbour.peer, claim, peer, shared)
                })
            })
        };
        (contests() || is_near() && !as_told() && !is_known()) && !self.is_asked(peer)
    }
}

/// Whether somebody with these claims is a neighbour of this node, or shares a zone with it.
fn is_near(own: &[Claim], its: &[Claim], shared: bool) -> bool {
    its.iter().any(|claim| abuts(own, &claim.zone) || shared && own.contains(claim))
}
