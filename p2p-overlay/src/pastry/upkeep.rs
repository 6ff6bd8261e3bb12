//! How a Pastry node keeps its tables.
//!
//! Now and then it compares leaves with one of them and pings the others; it compares a row with somebody in it and
//! pings the rest (§2.4, §2.5), and somebody in its neighbourhood; seldom it looks its own key up through a peer that
//! it has lost: that may lead to another network. Nobody becomes a leaf, or leaves the routing table, on hearsay: a
//! peer must have answered, or have been silent three times.

use std::time::Duration;

use p2p_core::{Cx, Key, Keyed, Suspicion, Time};

use super::join::MAX_AVOIDED;
use super::leaves::{Side, Spot};
use super::protocol::PastryTimer;
use super::{MAX_ASKED, MAX_LEAVES, PastryMsg, PastryTable, Recovery};
use crate::doors::SELDOM;
use crate::structured::Want;

/// What a question was sent for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// The way to this node's own key.
    Path,
    /// To be known, or to compare leaves. How often it was asked before.
    Hello { since: Time, tries: u32 },
    /// A row, or a neighbourhood: whom to compare with those that are known.
    Peers,
    /// Whether it lives, and since when. How often it was asked before.
    Ping { since: Time, tries: u32 },
    /// Whether it grants a lease, and since when.
    Renew { side: Side, since: Time },
}

/// The tag of the lookup by which two networks become one.
pub(super) const MERGE: u32 = 0;
const MAX_SUSPECTS: usize = 64;
/// How many peers an answer may name.
const MAX_NAMED: usize = 32;

impl<P: Keyed> PastryTable<P> {
    pub(super) fn is_at_rest(&self) -> bool {
        self.config.upkeep.is_zero()
    }

    pub(super) fn spot(&self, peer: P) -> Spot<P> {
        Spot::new(&self.key, peer)
    }

    // ---- upkeep

    pub(super) fn look_after(&mut self, cx: &mut Cx<'_, Self>) {
        let leaves: Vec<P> = self.leaves.peers().collect();
        // Where leaves are missing the furthest on that side knows who comes next.
        let short = [Side::Ahead, Side::Behind].into_iter().filter(|side| self.leaves.is_short(*side));
        let furthest: Vec<P> = short.filter_map(|side| self.leaves.last(side)).collect();
        let partner = cx.rng().choose(if furthest.is_empty() { &leaves } else { &furthest }).copied();
        if let Some(partner) = partner {
            self.hello(cx, partner, 0);
        }
        leaves.into_iter().filter(|leaf| Some(*leaf) != partner).for_each(|leaf| self.ping(cx, leaf, 0));
        let rows: Vec<usize> =
            (0..self.rows.len()).filter(|row| self.rows.row(*row).next().is_some()).collect();
        if let Some(&row) = cx.rng().choose(&rows) {
            let peers: Vec<P> = self.rows.row(row).collect();
            let partner = cx.rng().choose(&peers).copied();
            for peer in peers {
                match Some(peer) == partner {
                    true => self.ask(cx, peer, Asked::Peers, |id| PastryMsg::GetRow { id, row: row as u8 }),
                    false => self.ping(cx, peer, 0),
                }
            }
        }
        let neighbours: Vec<P> = self.neighbours.peers().collect();
        let neighbour = cx.rng().choose(&neighbours).copied();
        match neighbour {
            Some(neighbour) if cx.rng().below(SELDOM) == 0 => {
                self.ask(cx, neighbour, Asked::Peers, |id| PastryMsg::GetNeighbours { id });
            }
            Some(neighbour) => self.ping(cx, neighbour, 0),
            None => {}
        }
        self.knock(cx);
    }

    fn knock(&mut self, cx: &mut Cx<'_, Self>) {
        let knows = |door| self.leaves.holds(door);
        let via = self.doors.knock(self.leaves.peers().count(), knows, cx.rng());
        if via.is_some() {
            let replicas = self.config.leaves.min(MAX_LEAVES) as u8;
            cx.emit(Want { tag: MERGE, key: self.key, replicas, via });
        }
    }

    /// Somebody names a peer: it is pinged if it would be a leaf, or its place in the routing table is free; `compare`,
    /// also if somebody else has that place.
    pub(super) fn consider(&mut self, cx: &mut Cx<'_, Self>, peer: P, compare: bool) {
        let is_known = self.leaves.holds(peer) || self.rows.holds(peer) && !compare;
        let is_busy = self.asked.len() >= MAX_ASKED / 2;
        if peer == self.me || is_known || is_busy || self.is_pinged(peer) {
            return;
        }
        let key = peer.key();
        let spot = Spot::at(&self.key.distance(&key), peer);
        if compare || self.rows.misses(&key) || self.leaves.wants(&spot) {
            self.ping(cx, peer, 0);
        }
    }

    /// A peer that takes part has been heard from: it is alive, and has its place wherever it fits.
    pub(super) fn meet(&mut self, cx: &mut Cx<'_, Self>, peer: P, rtt: Option<Duration>) {
        self.suspects.retain(|suspect| *suspect != peer);
        let is_known = self.leaves.holds(peer);
        if is_known && rtt.is_none() {
            return;
        }
        let key = peer.key();
        self.rows.offer(&key, peer, rtt);
        if let Some(rtt) = rtt {
            self.neighbours.offer(peer, rtt);
        }
        // Who has not joined is told by hello, and not in passing.
        if self.joined && !is_known {
            self.take_leaf(cx, Spot::at(&self.key.distance(&key), peer));
        }
    }

    pub(super) fn take_leaf(&mut self, cx: &mut Cx<'_, Self>, spot: Spot<P>) {
        if self.leaves.insert(spot) {
            self.changed = true;
            let is_neighbour =
                [Side::Behind, Side::Ahead].map(|side| self.leaves.first(side)).contains(&Some(spot.peer));
            if self.joined && is_neighbour {
                self.renew(cx);
            }
        }
    }

    // ---- questions

    pub(super) fn ping(&mut self, cx: &mut Cx<'_, Self>, peer: P, tries: u32) {
        let since = cx.now();
        self.ask(cx, peer, Asked::Ping { since, tries }, |id| PastryMsg::Ping { id });
    }

    pub(super) fn is_pinged(&self, peer: P) -> bool {
        self.asked.iter().any(|(to, what)| to == peer && matches!(what, Asked::Ping { .. }))
    }

    pub(super) fn ask(
        &mut self,
        cx: &mut Cx<'_, Self>,
        peer: P,
        what: Asked,
        question: impl FnOnce(u32) -> PastryMsg<P>,
    ) {
        let deadline = cx.now() + self.config.lookup.hop_timeout;
        if let Ok(id) = self.asked.insert(peer, deadline, what) {
            cx.send(peer, question(id));
        }
    }

    pub(super) fn arm(&mut self, cx: &mut Cx<'_, Self>) {
        match self.asked.next_deadline() {
            Some(at) => cx.set_timer(at - cx.now(), PastryTimer::Late),
            None => cx.clear_timer(PastryTimer::Late),
        }
    }

    pub(super) fn on_answer(&mut self, cx: &mut Cx<'_, Self>, from: P, what: Asked, answer: PastryMsg<P>) {
        match (what, answer) {
            (Asked::Path, PastryMsg::Path { mut row, next, mut leaves, .. }) => {
                row.truncate(MAX_NAMED);
                leaves.truncate(MAX_LEAVES);
                self.on_path(cx, from, &row, next, &leaves);
            }
            (Asked::Hello { since, tries }, PastryMsg::Leaves { mut leaves, .. }) => {
                leaves.truncate(MAX_LEAVES);
                // When it was asked more than once nobody knows which question it answers.
                let rtt = (tries == 0).then(|| cx.now() - since);
                self.meet(cx, from, rtt);
                if self.is_greeting() {
                    self.take_leaf(cx, self.spot(from));
                    leaves.iter().for_each(|leaf| self.greet(cx, *leaf));
                    self.join_if_known(cx);
                } else {
                    self.changed |= self.leaves.follow(from, &leaves);
                    leaves.iter().for_each(|leaf| self.consider(cx, *leaf, false));
                }
            }
            (Asked::Peers, PastryMsg::Peers { peers, .. }) => {
                self.meet(cx, from, None);
                peers.iter().take(MAX_NAMED).for_each(|peer| self.consider(cx, *peer, true));
            }
            (Asked::Ping { since, tries }, PastryMsg::Pong { .. }) => {
                let rtt = (tries == 0).then(|| cx.now() - since);
                self.meet(cx, from, rtt);
            }
            (Asked::Renew { side, since }, PastryMsg::Lease { granted, between, .. }) => {
                self.meet(cx, from, None);
                self.on_lease(from, side, since, granted);
                if let Some(between) = between {
                    self.consider(cx, between, false);
                }
            }
            // An answer to something else is none.
            (what, _) => self.on_silence(cx, from, what),
        }
    }

    // ---- the dead

    fn knows(&self, peer: P) -> bool {
        self.leaves.holds(peer) || self.rows.holds(peer) || self.neighbours.peers().any(|other| other == peer)
    }

    pub(super) fn suspect(&mut self, peer: P) {
        if self.knows(peer)
            && !self.is_at_rest()
            && self.suspects.len() < MAX_SUSPECTS
            && !self.suspects.contains(&peer)
        {
            self.suspects.push(peer);
        }
    }

    pub(super) fn on_silence(&mut self, cx: &mut Cx<'_, Self>, peer: P, why: Asked) {
        match why {
            Asked::Path => {
                let Some(joining) = &mut self.joining else { return };
                joining.path.retain(|other| *other != peer);
                if joining.avoid.len() < MAX_AVOIDED {
                    joining.avoid.push(peer);
                    self.ask_the_way(cx);
                }
            }
            Asked::Hello { tries, .. } if self.is_greeting() => match tries + 1 < Suspicion::DEAD_AFTER {
                true => self.hello(cx, peer, tries + 1),
                false => {
                    let until = cx.now() + self.config.lease * 9 / 8;
                    if self.unheard.len() < MAX_LEAVES {
                        self.unheard.push((peer, until));
                    }
                    self.suspect(peer);
                    self.join_if_known(cx);
                }
            },
            // Somebody had named it.
            Asked::Ping { .. } if !self.knows(peer) => {}
            Asked::Ping { tries, .. } if tries + 1 < Suspicion::DEAD_AFTER => {
                self.suspect(peer);
                self.ping(cx, peer, tries + 1);
            }
            // Until then it is asked with each heartbeat.
            Asked::Ping { .. } if self.has_promised(cx.now(), peer) => self.suspect(peer),
            Asked::Ping { .. } => self.forget(cx, peer),
            Asked::Hello { .. } | Asked::Peers | Asked::Renew { .. } => {
                self.suspect(peer);
                if !self.is_pinged(peer) {
                    self.ping(cx, peer, 1);
                }
            }
        }
    }

    /// Leaves a dead peer out of all tables.
    fn forget(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        self.suspects.retain(|suspect| *suspect != peer);
        self.neighbours.remove(peer);
        let row = self.rows.remove(peer);
        let was_leaf = self.leaves.remove(peer);
        if row.is_some() || was_leaf {
            self.doors.lose(peer);
        }
        for lease in &mut self.leases {
            lease.from = lease.from.filter(|(from, _)| *from != peer);
        }
        if let Some(row) = row {
            // Lazily (§2.4): whoever has the same row is asked for somebody in the place of the dead; where that row is
            // empty, whoever shares a digit more.
            let rows = (row..self.rows.len()).map(|row| self.rows.row(row).collect::<Vec<P>>());
            let peers = rows.into_iter().find(|peers| !peers.is_empty()).unwrap_or_default();
            if let Some(&other) = cx.rng().choose(&peers) {
                self.ask(cx, other, Asked::Peers, |id| PastryMsg::GetRow { id, row: row as u8 });
            }
        }
        if !was_leaf {
            return;
        }
        self.changed = true;
        if self.leaves.is_empty() && self.joined {
            self.joined = false;
            self.doors.begin();
            return;
        }
        if self.joined {
            self.renew(cx);
        }
        let is_ahead = self.key.distance(&peer.key()) < Key::power_of_two(255);
        let side = if is_ahead { Side::Ahead } else { Side::Behind };
        if let (Recovery::Reactive, Some(last)) = (self.config.recovery, self.leaves.last(side)) {
            self.hello(cx, last, 0);
        }
    }
}
