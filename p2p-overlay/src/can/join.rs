//! How a CAN node joins (§2.2).
//!
//! The newcomer looks up a point given by chance and asks its owner, who keeps one half of a zone and gives the other
//! away, or a whole zone if it has several. Where zones are to be even (§3.7) the owner first names the neighbour with
//! the largest zone, if that is larger than its own.

use p2p_core::{Cx, Key, Keyed, Time};

use super::upkeep::FIRST_POINT;
use super::zones::{Claims, volume};
use super::{CanMsg, CanTable, Claim};
use crate::structured::{Found, Want};

/// A newcomer's question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joining<P> {
    pub(super) peer: P,
    /// Its point.
    pub(super) key: Key,
    /// When it is given up.
    until: Time,
}

impl<P: Keyed> CanTable<P> {
    pub(super) fn try_to_join(&mut self, cx: &mut Cx<'_, Self>) {
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

    pub(super) fn on_found_a_place(&mut self, cx: &mut Cx<'_, Self>, number: u32, found: &Found<P>) {
        let waits = self.joining.is_some_and(|joining| cx.now() < joining.until);
        if !self.joined && !waits && found.root() != self.me {
            self.request(cx, found.root(), self.point(number), false);
        }
    }

    pub(super) fn request(&mut self, cx: &mut Cx<'_, Self>, peer: P, key: Key, last: bool) {
        let until = cx.now() + self.config.lookup.hop_timeout * 2;
        self.joining = Some(Joining { peer, key, until });
        cx.send(peer, CanMsg::Join { key, last });
    }

    pub(super) fn on_join(&mut self, cx: &mut Cx<'_, Self>, from: P, key: &Key, last: bool) {
        let point = self.space.point(key);
        let at = self.claims.iter().position(|claim| claim.zone.contains(&point));
        let Some(at) = at.or(last.then_some(0)).filter(|_| self.joined && from != self.me) else { return };
        let Some(claim) = self.claims.get(at).copied() else { return };
        let around = || self.neighbours.iter().map(|other| other.peer);
        if self.config.subnets.is_some_and(|limits| !limits.admit(from, around(), [])) {
            return; // It tries another point.
        }
        let mates: Vec<P> = self.mates(&claim).filter(|mate| *mate != from).collect();
        if mates.len() + 1 < self.config.peers_in_zone() {
            cx.send(from, CanMsg::Welcome { claims: vec![claim], neighbours: self.around() });
            return self.place(from, Claims::One(claim), true);
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
                self.divide(cx, claim, [given, kept], mates);
                given
            }
            // Who shares it goes on to hold it.
            _ if self.shares_zones() => self.claims.swap_remove(at),
            _ => self.claims.swap_remove(at).taken_over(),
        };
        cx.send(from, CanMsg::Welcome { claims: vec![given], neighbours: self.around() });
        self.place(from, Claims::One(given), true);
        self.moved(cx);
    }

    /// Those who shared a zone that has been split are given one half and the other in turns, in order of their keys
    /// (§3.4). The newcomer has the first, this node the second, so that both are somebody's whoever hears of it.
    fn divide(&mut self, cx: &mut Cx<'_, Self>, whole: Claim, halves: [Claim; 2], mut mates: Vec<P>) {
        mates.sort_unstable_by_key(Keyed::key);
        for (mate, half) in mates.into_iter().zip(halves.into_iter().cycle()) {
            cx.send(mate, CanMsg::Half { whole, half });
            self.place(mate, Claims::One(half), true);
        }
    }

    /// The zone that this node shares has been split. It may have seen somebody else have a half by now, and have
    /// taken that one.
    pub(super) fn on_half(&mut self, cx: &mut Cx<'_, Self>, from: P, whole: Claim, half: Claim) {
        let Some((lower, upper)) = whole.split().filter(|_| self.shares_zones()) else { return };
        let other = if half == lower { upper } else { lower };
        let at = self.claims.iter().position(|own| *own == whole || *own == other);
        if let Some(at) = at.filter(|_| half == lower || half == upper)
            && self.position(from).is_some()
        {
            self.claims[at] = half;
            self.moved(cx);
        }
    }

    pub(super) fn on_welcome(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        claims: Vec<Claim>,
        neighbours: &[(P, Claim)],
    ) {
        let claims = self.sound(claims.into());
        if self.joining.is_none_or(|joining| joining.peer != from) || claims.is_empty() {
            return;
        }
        self.joining = None;
        self.doors.found();
        self.joined = true;
        self.hold(cx, &claims, neighbours);
    }
}
