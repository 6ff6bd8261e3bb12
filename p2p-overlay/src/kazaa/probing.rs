//! Whom to choose: some of those that are known are probed, and the nearest and emptiest are asked to be neighbours.

use std::time::Duration;

use p2p_core::{Contact, Cx, Rng, Time};

use super::msg::Places;
use super::neighbours::Kind;
use super::{Kazaa, KazaaMsg, KazaaTimer, id_of};
use crate::place::Place;
use crate::promotion::Role;

/// Somebody who was probed.
#[derive(Debug)]
pub(super) struct Probing {
    pub contact: Contact,
    nonce: u64,
    sent: Time,
    /// How long the answer took, and what it says.
    answer: Option<(Duration, Places)>,
}

impl Probing {
    pub(super) fn answered(&mut self, now: Time, nonce: u64, room: Places) {
        if nonce == self.nonce && self.answer.is_none() {
            self.answer = Some((now.since(self.sent), room));
        }
    }

    /// The less the better; `None` if it has no room. What it says of itself counts no more than as much again as what
    /// is measured, and chance as much as half of that, so that not all choose the same.
    fn score(&self, role: Role, rng: &mut Rng) -> Option<u64> {
        let (rtt, room) = self.answer?;
        let places = match role {
            Role::Leaf => room.ordinary,
            Role::Ultrapeer => room.supers,
        };
        let load = match role {
            Role::Leaf => room.load.min(1000),
            // What it has to do for other super-nodes it does not say.
            Role::Ultrapeer => 0,
        };
        let micros = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1);
        (places > 0).then(|| micros.saturating_mul(1000 + u64::from(load) + rng.below(500)))
    }
}

impl<P: Place> Kazaa<P> {
    /// How many neighbours are missing: those that a super-node looks for, or the parent.
    fn missing(&self) -> usize {
        match self.role() {
            Role::Leaf => 1usize.saturating_sub(self.count(Kind::Parent)),
            Role::Ultrapeer => {
                self.config.wanted.min(self.config.degree).saturating_sub(self.count(Kind::Super))
            }
        }
    }

    /// Probes some, if neighbours are missing and nobody is being probed.
    pub(super) fn look_for_neighbours(&mut self, cx: &mut Cx<'_, Self>) {
        let missing = self.missing();
        if missing == 0 || !self.probing.is_empty() {
            return;
        }
        if self.nodes.is_empty() {
            self.seeds.iter().for_each(|seed| self.nodes.seed(*seed, cx.now()));
        }
        let most = match self.role() {
            Role::Leaf => self.config.probes,
            Role::Ultrapeer => missing + self.config.probes,
        };
        for contact in self.chosen(cx, most) {
            let (peer, nonce) = (self.dial(contact), cx.rng().next_u64());
            self.tally.dials += 1;
            self.probing.insert(peer, Probing { contact, nonce, sent: cx.now(), answer: None });
            cx.send(peer, KazaaMsg::Probe { nonce });
        }
        if !self.probing.is_empty() {
            cx.set_timer(self.config.probe_wait, KazaaTimer::Choose);
        }
    }

    /// Some super-nodes that might become neighbours. Those tried just now are left in peace.
    fn chosen(&mut self, cx: &mut Cx<'_, Self>, most: usize) -> Vec<Contact> {
        let (own, now, hearsay) = (self.listen.map(|own| own.id), cx.now(), self.config.hearsay);
        let next: Vec<Contact> = self.neighbours.values().filter_map(|one| one.contact).collect();
        let skip = |contact: &Contact| own == Some(contact.id) || next.contains(contact);
        self.nodes.choose(now, cx.rng(), hearsay, most, true, skip)
    }

    /// A super-node to ask something, whatever it is to this node, and whenever it was tried last.
    pub(super) fn one_to_ask(
        &mut self,
        cx: &mut Cx<'_, Self>,
        suits: impl Fn(&Contact) -> bool,
    ) -> Option<Contact> {
        let (own, now, hearsay) = (self.listen.map(|own| own.id), cx.now(), self.config.hearsay);
        let skip = |contact: &Contact| own == Some(contact.id) || !suits(contact);
        self.nodes.choose(now, cx.rng(), hearsay, 1, false, skip).pop()
    }

    /// Those who were probed have had time: the best are asked. Who has not answered is not there.
    pub(super) fn choose(&mut self, cx: &mut Cx<'_, Self>) {
        let (role, now) = (self.role(), cx.now());
        for (peer, probing) in std::mem::take(&mut self.probing) {
            match probing.answer {
                Some((_, room)) => {
                    self.nodes.met(probing.contact, room.load, now);
                    self.probing.insert(peer, probing);
                }
                None => self.nodes.failed(&probing.contact),
            }
        }
        let scores = self
            .probing
            .iter()
            .filter_map(|(peer, probing)| Some((probing.score(role, cx.rng())?, *peer, probing.contact)));
        let mut best: Vec<(u64, P, Contact)> = scores.collect();
        best.sort_by_key(|(score, peer, _)| (*score, *peer));
        best.truncate(self.missing());
        self.probing.clear();
        for (_, peer, contact) in best {
            if !self.neighbours.contains_key(&peer) && !self.nodes.is_banned(&id_of(&peer), now) {
                self.join(cx, peer, contact);
            }
        }
    }

    /// Somebody who was probed is not there.
    pub(super) fn unprobed(&mut self, peer: &P) {
        if let Some(probing) = self.probing.remove(peer) {
            self.nodes.failed(&probing.contact);
        }
    }
}
