//! How a Kademlia node keeps its tables when nobody asks it anything.
//!
//! Now and then it asks one of its neighbours who is near, and pings those it does not know, its silent neighbours, and
//! contacts whose place somebody waits for. It looks up a key in a bucket in which nothing was looked up for long.
//! Seldom it pings a peer that it has lost: if that lives in a network that was cut off, it is a contact again, and its
//! neighbours will be. (The paper looks the own key up every hour instead: that costs more, and under churn it comes
//! too late.)

use p2p_core::{Cx, Keyed, Time};

use super::protocol::KademliaTimer;
use super::{KademliaMsg, KademliaTable, MAX_ASKED};
use crate::structured::Want;

/// What a lookup of the upkeep is for, as its tag.
pub(super) const JOIN: u32 = 0;
pub(super) const EXPLORE: u32 = 1;
const REFRESH: u32 = 2;

impl<P: Keyed> KademliaTable<P> {
    pub(super) fn is_at_rest(&self) -> bool {
        self.config.upkeep.is_zero()
    }

    pub(super) fn want(&mut self, cx: &mut Cx<'_, Self>, tag: u32, level: usize) {
        let key = self.buckets.key_at(level, cx.rng());
        cx.emit(Want { tag, key, replicas: 1, via: None });
    }

    // ---- upkeep

    pub(super) fn look_after(&mut self, cx: &mut Cx<'_, Self>) {
        if let Some(level) = self.buckets.stalest(cx.now(), self.config.refresh) {
            self.want(cx, REFRESH, level);
        }
        let neighbour = cx.rng().choose(&self.buckets.near()).copied();
        if let Some(neighbour) = neighbour {
            self.ask(cx, neighbour, |id| KademliaMsg::GetNeighbours { id });
        }
        let doubtful = self.buckets.doubtful(cx.now(), self.config.upkeep);
        for peer in doubtful.into_iter().filter(|peer| Some(*peer) != neighbour) {
            self.ask(cx, peer, |id| KademliaMsg::Ping { id });
        }
        self.knock(cx);
    }

    fn knock(&mut self, cx: &mut Cx<'_, Self>) {
        let near = self.buckets.near();
        if let Some(lost) = self.doors.knock(near.len(), |door| near.contains(&door), cx.rng()) {
            self.ask(cx, lost, |id| KademliaMsg::Ping { id });
        }
    }

    /// Somebody names a peer: if it is not known yet, and would be a neighbour, it is asked whether it lives.
    pub(super) fn consider(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let is_busy = self.asked.len() >= MAX_ASKED / 2;
        if peer != self.me && !is_busy && self.buckets.misses(peer) {
            self.ask(cx, peer, |id| KademliaMsg::Ping { id });
        }
    }

    // ---- questions

    pub(super) fn ask(
        &mut self,
        cx: &mut Cx<'_, Self>,
        peer: P,
        question: impl FnOnce(u32) -> KademliaMsg<P>,
    ) {
        let deadline = cx.now() + self.config.lookup.hop_timeout;
        if let Ok(id) = self.asked.insert(peer, deadline, ()) {
            cx.send(peer, question(id));
        }
        self.arm(cx);
    }

    pub(super) fn arm(&mut self, cx: &mut Cx<'_, Self>) {
        match self.asked.next_deadline() {
            Some(at) => cx.set_timer(at - cx.now(), KademliaTimer::Late),
            None => cx.clear_timer(KademliaTimer::Late),
        }
    }

    // ---- the dead

    /// A peer did not answer. Whoever has heard from nobody for long has to join again.
    pub(super) fn on_silence(&mut self, now: Time, peer: P) {
        if self.is_at_rest() {
            return;
        }
        if let Some(lost) = self.buckets.silent(now, self.config.lookup.hop_timeout, peer) {
            self.doors.lose(lost);
        }
        if self.joined && self.buckets.are_all_gone() {
            for contact in self.buckets.clear() {
                self.doors.lose(contact);
            }
            self.joined = false;
            self.doors.begin();
        }
    }
}
