//! How a Chord node stabilises and rectifies (Zave 2015, §4).
//!
//! *Stabilise*, now and then: it asks its first successor for its neighbours, takes them over, and if the successor
//! has a predecessor in between, asks that one too and takes it for its first successor, and so on until there is none
//! (Zave goes one step at a time). Then it notifies its first successor. *Rectify*, on such a notice: it takes the
//! sender for its predecessor if that is nearer than the one it has, or the one it has is dead. *Merge*, seldom: it
//! looks up its own key through a peer that it has lost; if that leads to another ring, the answer is a successor
//! that stands between this node and its own, and stabilising goes on from there.
//!
//! Zave's proof asks that no node ever loses all its successors, and takes it for granted that whoever is taken for dead
//! is. Messages get lost: a node is asked three times before it is left out of the lists, and meanwhile no question goes
//! by it. Fingers are only shortcuts: one that was silent is left out at once.

use p2p_core::{Cx, Key, Keyed, Suspicion};

use super::protocol::ChordTimer;
use super::ring::{list, list_before};
use super::{CHOICES, ChordMsg, ChordTable, Spot};
use crate::structured::{Found, Want};

/// A [`ChordMsg::GetState`] that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<P> {
    pub(super) why: Asked<P>,
    /// How often the peer was silent before.
    pub(super) silent: u32,
}

/// What it was sent for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked<P> {
    /// To stabilise with the first successor.
    Successor,
    /// To stabilise with a node between this one and its successor.
    Between,
    /// To see whether the predecessor lives; if not, this one takes its place.
    Predecessor { candidate: P },
    /// To see whether a peer lives that was silent on a lookup's way.
    Life,
}

/// The tags of the lookups that a newcomer joins by, and by which two rings become one; the others are exponents of
/// fingers.
pub(super) const JOIN: u32 = u32::MAX;
pub(super) const MERGE: u32 = JOIN - 1;
const MAX_SUSPECTS: usize = 64;

impl<P: Keyed> ChordTable<P> {
    pub(super) fn is_at_rest(&self) -> bool {
        self.config.stabilize.is_zero()
    }

    fn spot(&self, peer: P) -> Spot<P> {
        let known = self.successors.iter().find(|spot| spot.peer == peer);
        known.copied().unwrap_or_else(|| Spot::new(&self.key, peer))
    }

    /// Whether it stands before all successors.
    fn would_be_first(&self, spot: &Spot<P>) -> bool {
        self.successors.first().is_none_or(|first| spot.is_before(first, &self.key))
    }

    // ---- upkeep

    pub(super) fn look_after(&mut self, cx: &mut Cx<'_, Self>) {
        self.stabilize(cx);
        self.ask_suspects(cx);
        (0..self.config.fingers).for_each(|_| self.fix_a_finger(cx));
        self.knock(cx);
    }

    fn knock(&mut self, cx: &mut Cx<'_, Self>) {
        let knows = |door| self.successors.iter().any(|spot| spot.peer == door);
        let via = self.doors.knock(self.successors.len(), knows, cx.rng());
        if via.is_some() {
            cx.emit(Want { tag: MERGE, key: self.key, replicas: 1, via });
        }
    }

    pub(super) fn on_knocked(&mut self, cx: &mut Cx<'_, Self>, found: &Found<P>) {
        let spot = self.spot(found.root());
        if !spot.is_keeper(&self.key) && self.would_be_first(&spot) {
            self.ask(cx, spot.peer, Asked::Between);
        }
    }

    // ---- stabilise

    pub(super) fn stabilize(&mut self, cx: &mut Cx<'_, Self>) {
        if let Some(first) = self.successors.first() {
            self.ask(cx, first.peer, Asked::Successor);
        }
    }

    pub(super) fn on_state(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        why: Asked<P>,
        predecessor: Option<P>,
        successors: &[P],
    ) {
        let spot = self.spot(from);
        match why {
            Asked::Successor if self.successors.first() == Some(&spot) => {}
            Asked::Between if self.would_be_first(&spot) => {}
            // The successor has changed meanwhile; or the peer lives, which was the question.
            Asked::Successor | Asked::Between | Asked::Predecessor { .. } | Asked::Life => return,
        }
        self.adopt(spot, successors);
        let between = predecessor
            .filter(|peer| *peer != self.me)
            .map(|peer| self.spot(peer))
            .filter(|between| between.is_before(&spot, &self.key) && !between.is_keeper(&self.key));
        match between {
            #[cfg(test)]
            Some(between) if self.original => {
                // As first published: taken over unseen.
                self.successors.insert(0, between);
                self.successors.truncate(self.most());
                self.notify(cx, between.peer);
            }
            // Ever nearer, so this ends; after many have joined at once it saves as many periods.
            Some(between) => self.ask(cx, between.peer, Asked::Between),
            None => self.notify(cx, from),
        }
    }

    fn notify(&self, cx: &mut Cx<'_, Self>, successor: P) {
        let before = self.predecessor.iter().chain(&self.before).map(|spot| spot.peer);
        cx.send(successor, ChordMsg::Notify { before: before.take(self.most()).collect() });
    }

    /// Takes `first` for the first successor, and its successors for those that follow.
    fn adopt(&mut self, first: Spot<P>, then: &[P]) {
        let successors = list(&self.key, first, then, &self.successors, self.most());
        self.changed |= successors != self.successors;
        self.successors = successors;
        // Fingers that lead no further than the successor are of no use.
        let last = first.ilog2(&self.key).map_or(0, |exponent| Key::<32>::BITS - 1 - exponent);
        self.fingers.truncate(last);
    }

    /// Looks the next finger up again, from the longest to the shortest that leads further than the successor.
    fn fix_a_finger(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(first) = self.successors.first() else { return };
        let Some(shortest) = first.ilog2(&self.key).map(|exponent| exponent + 1) else { return };
        let index = usize::from(self.next_finger);
        let longest = Key::<32>::BITS - 1;
        let exponent = longest.checked_sub(index).filter(|exponent| *exponent >= shortest);
        let exponent = exponent.unwrap_or(longest);
        self.next_finger = (longest - exponent + 1).min(255) as u8;
        if exponent < shortest {
            return; // Half of the ring and more lies before the successor.
        }
        let key = self.key.wrapping_add(&Key::power_of_two(exponent));
        let replicas = if self.config.subnets.is_some() { CHOICES as u8 } else { 1 };
        cx.emit(Want { tag: exponent as u32, key, replicas, via: None });
    }

    pub(super) fn on_finger(&mut self, exponent: usize, found: &Found<P>) {
        let index = Key::<32>::BITS - 1 - exponent;
        let root = self.spot(found.root());
        let further = self.successors.first().is_some_and(|first| first.is_before(&root, &self.key));
        // Those that follow the root are as good: a finger is any node that lies so far away.
        let mut others = found.peers.iter().map(|peer| self.spot(*peer));
        let fits = |spot: &Spot<P>| !spot.is_before(&root, &self.key) && self.may_be_finger(index, spot.peer);
        let chosen = others.find(fits);
        if self.fingers.len() <= index && further {
            self.fingers.resize(index + 1, None);
        }
        if let Some(place) = self.fingers.get_mut(index) {
            *place = chosen.filter(|_| further);
        }
    }

    // ---- rectify

    pub(super) fn on_notify(&mut self, cx: &mut Cx<'_, Self>, from: P, before: &[P]) {
        if !self.joined {
            return;
        }
        let spot = self.spot(from);
        if self.successors.is_empty() {
            self.adopt(spot, &[]);
        }
        match self.predecessor {
            Some(old) if old.peer == from => {}
            Some(old) if spot.is_before(&old, &self.key) => {
                // One question at a time, however many give notice.
                let asks =
                    |(_, question): (P, &Question<P>)| matches!(question.why, Asked::Predecessor { .. });
                if self.asked.iter().any(asks) {
                    return;
                }
                self.ask(cx, old.peer, Asked::Predecessor { candidate: from });
            }
            _ => self.precede(Some(spot)),
        }
        if self.predecessor == Some(spot) {
            let most = self.most() - 1;
            let before = list_before(&self.key, spot, before, &self.before, most);
            self.changed |= before != self.before;
            self.before = before;
        }
    }

    pub(super) fn precede(&mut self, predecessor: Option<Spot<P>>) {
        if self.predecessor != predecessor {
            self.predecessor = predecessor;
            if predecessor.is_some() {
                self.before.clear();
            }
            self.changed = true;
        }
    }

    // ---- questions

    fn ask(&mut self, cx: &mut Cx<'_, Self>, peer: P, why: Asked<P>) {
        self.ask_again(cx, peer, why, 0);
    }

    fn ask_again(&mut self, cx: &mut Cx<'_, Self>, peer: P, why: Asked<P>, silent: u32) {
        let deadline = cx.now() + self.config.lookup.hop_timeout;
        if let Ok(id) = self.asked.insert(peer, deadline, Question { why, silent }) {
            cx.send(peer, ChordMsg::GetState { id });
        }
        self.arm(cx);
    }

    pub(super) fn arm(&mut self, cx: &mut Cx<'_, Self>) {
        match self.asked.next_deadline() {
            Some(at) => cx.set_timer(at - cx.now(), ChordTimer::Late),
            None => cx.clear_timer(ChordTimer::Late),
        }
    }

    // ---- the dead

    /// A peer was silent: it may be dead, or a message was lost.
    pub(super) fn suspect(&mut self, peer: P) {
        if self.is_at_rest() {
            return;
        }
        let is_finger = |spot: &Spot<P>| spot.peer == peer;
        if self.fingers.iter().flatten().any(is_finger) {
            self.doors.lose(peer);
            self.fingers.iter_mut().for_each(|finger| *finger = finger.filter(|spot| !is_finger(spot)));
        }
        let mut known = self.successors.iter().chain(&self.predecessor).chain(&self.before);
        if known.any(|spot| spot.peer == peer)
            && self.suspects.len() < MAX_SUSPECTS
            && !self.suspects.contains(&peer)
        {
            self.suspects.push(peer);
        }
    }

    /// Asks those that were silent on a lookup's way.
    pub(super) fn ask_suspects(&mut self, cx: &mut Cx<'_, Self>) {
        for peer in self.suspects.clone() {
            if !self.asked.iter().any(|(asked, _)| asked == peer) {
                self.ask_again(cx, peer, Asked::Life, 1);
            }
        }
    }

    pub(super) fn on_silence(
        &mut self,
        cx: &mut Cx<'_, Self>,
        peer: P,
        Question { why, silent }: Question<P>,
    ) {
        match silent + 1 < Suspicion::DEAD_AFTER {
            true => {
                self.suspect(peer);
                self.ask_again(cx, peer, why, silent + 1);
            }
            false => self.on_death(cx, peer, [why]),
        }
    }

    /// A peer is dead, and leaves these questions unanswered.
    pub(super) fn on_death(
        &mut self,
        cx: &mut Cx<'_, Self>,
        peer: P,
        questions: impl IntoIterator<Item = Asked<P>>,
    ) {
        let was_first = self.successors.first().is_some_and(|first| first.peer == peer);
        self.forget(peer);
        questions.into_iter().for_each(|why| self.on_unanswered(cx, why, was_first));
    }

    fn on_unanswered(&mut self, cx: &mut Cx<'_, Self>, why: Asked<P>, was_first: bool) {
        match why {
            Asked::Predecessor { candidate } if self.predecessor.is_none() => {
                self.precede(Some(self.spot(candidate)));
            }
            Asked::Successor if was_first => self.stabilize(cx),
            Asked::Between => {
                // The successor still takes a dead node for its predecessor: being notified, it will look.
                if let Some(first) = self.successors.first() {
                    self.notify(cx, first.peer);
                }
            }
            Asked::Predecessor { .. } | Asked::Successor | Asked::Life => {}
        }
    }

    /// Leaves a dead peer out of all tables.
    fn forget(&mut self, peer: P) {
        if self.is_at_rest() {
            return;
        }
        self.suspects.retain(|suspect| *suspect != peer);
        let mut known = self.successors.iter().chain(&self.predecessor).chain(self.fingers.iter().flatten());
        if known.any(|spot| spot.peer == peer) {
            self.doors.lose(peer);
        }
        self.precede(self.predecessor.filter(|spot| spot.peer != peer));
        for finger in &mut self.fingers {
            *finger = finger.filter(|spot| spot.peer != peer);
        }
        let known = self.successors.len() + self.before.len();
        let had_successors = !self.successors.is_empty();
        self.successors.retain(|spot| spot.peer != peer);
        self.before.retain(|spot| spot.peer != peer);
        self.changed |= self.successors.len() + self.before.len() < known;
        if self.successors.is_empty() && had_successors {
            // All successors have died: whoever is nearest takes their place; without anybody it has to join again.
            let known = self.fingers.iter().flatten().chain(&self.predecessor);
            let nearest = known.min_by(|a, b| a.order(b, &self.key));
            match nearest.copied() {
                Some(nearest) => self.adopt(nearest, &[]),
                None => {
                    self.joined = false;
                    self.doors.begin();
                }
            }
        }
    }
}
