//! How a Tapestry node keeps its table.
//!
//! Now and then it compares one level with a neighbour who shares as many digits, and so hears of whom it has missed.
//! It asks some neighbours after the other whether they live, which measures how far they are, and where a death has
//! left a hole it asks for somebody to fill it. *Merge*, seldom: it looks up its own key through a peer that it has
//! lost; if that leads to another node, it copies that one's levels as a newcomer does (`join`).

use p2p_core::{Cx, Key, Keyed, Time};

use super::levels::{LEVELS, Silence};
use super::multicast::Child;
use super::protocol::TapestryTimer;
use super::{Back, MAX_ASKED, MAX_BACKPOINTERS, MAX_PEERS, TapestryMsg, TapestryTable};
use crate::structured::Want;

/// What a question of the upkeep was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// Whether a peer lives, and how far it is.
    Ping { at: Time },
    /// A surrogate's levels, to join or to merge.
    Copy,
    /// One level, to see who is missing there.
    Compare { level: u8 },
    /// One level, to find nearer neighbours.
    Nearest,
    /// To be made known.
    Insert,
    /// To make a newcomer known.
    Child(Child),
}

/// What a lookup of the upkeep is for, as its tag.
pub(super) const JOIN: u32 = 0;
pub(super) const MERGE: u32 = 1;

/// Of the peers that others name for full slots one in so many is asked how far it is: it may be nearer than those.
const CURIOSITY: u64 = 8;
/// How many peers of each slot are named.
const NAMED: usize = 2;
/// How many backpointers are named with one level.
const NAMED_BACK: usize = 16;
/// Whoever has not said for so many rounds of probes that it has this node in its table does not have it any more.
const FORGOTTEN: u32 = 3;

impl<P: Keyed> TapestryTable<P> {
    pub(super) fn is_at_rest(&self) -> bool {
        self.config.upkeep.is_zero()
    }

    pub(super) fn shared(&self, key: &Key) -> u8 {
        (self.key.common_prefix(key) / 4).min(LEVELS - 1) as u8
    }

    // ---- upkeep

    pub(super) fn look_after(&mut self, cx: &mut Cx<'_, Self>) {
        let level = cx.rng().index(self.levels.depth());
        self.compare(cx, level as u8);
        self.probe(cx);
        self.knock(cx);
        let patience = FORGOTTEN * self.config.probe.max(self.config.upkeep).as_secs() as u32;
        let oldest = (cx.now().as_secs_f64() as u32).saturating_sub(patience);
        self.back.retain(|back| back.seen >= oldest);
    }

    /// Asks somebody who shares as many digits whom it knows at a level.
    fn compare(&mut self, cx: &mut Cx<'_, Self>, level: u8) {
        let joined = self.levels.sharing(level.into()).iter().filter(|other| other.joined);
        let sure: Vec<P> = joined.filter(|other| !other.is_doubtful()).map(|other| other.peer).collect();
        if let Some(&peer) = cx.rng().choose(&sure) {
            let question = |id| TapestryMsg::GetRows { id, from: level, upto: level };
            self.ask(cx, peer, Asked::Compare { level }, question);
        }
    }

    /// Sees to the levels in which a death has left a hole.
    pub(super) fn mend(&mut self, cx: &mut Cx<'_, Self>) {
        if self.holes == 0 {
            return;
        }
        let holes = std::mem::take(&mut self.holes);
        (0..LEVELS as u8).filter(|level| holes >> level & 1 == 1).for_each(|level| self.compare(cx, level));
    }

    /// Asks the next neighbours whether they live, and those who were silent.
    fn probe(&mut self, cx: &mut Cx<'_, Self>) {
        let all = self.levels.all();
        let (upkeep, probe) = (self.config.upkeep.as_nanos(), self.config.probe.as_nanos());
        let share = (all.len() as u128 * upkeep).div_ceil(probe.max(1)).min(all.len() as u128) as usize;
        let next = all.iter().cycle().skip(self.probed % all.len().max(1)).take(share);
        let doubtful = all.iter().filter(|other| other.is_doubtful());
        let peers: Vec<P> = next.chain(doubtful).map(|other| other.peer).collect();
        self.probed = (self.probed + share) % all.len().max(1);
        for peer in peers {
            if !self.is_pinged(peer) {
                self.ping(cx, peer);
            }
        }
    }

    fn knock(&mut self, cx: &mut Cx<'_, Self>) {
        let knows = |door| self.levels.find(door).is_some();
        let via = self.doors.knock(self.levels.all().len(), knows, cx.rng());
        if via.is_some() {
            cx.emit(Want { tag: MERGE, key: self.key, replicas: 1, via });
        }
    }

    /// Somebody names a peer: if it is not known yet, and there is room for it, it is asked whether it lives.
    pub(super) fn consider(&mut self, cx: &mut Cx<'_, Self>, peer: P, anyway: bool) {
        let is_busy = self.asked.len() >= MAX_ASKED / 2;
        if peer == self.me || is_busy || self.levels.find(peer).is_some() || self.is_pinged(peer) {
            return;
        }
        if anyway || self.levels.has_room(peer) {
            self.ping(cx, peer);
        }
    }

    // ---- questions

    fn is_pinged(&self, peer: P) -> bool {
        self.asked.iter().any(|(asked, what)| asked == peer && matches!(what, Asked::Ping { .. }))
    }

    pub(super) fn ping(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let (at, joined) = (cx.now(), self.joined);
        self.ask(cx, peer, Asked::Ping { at }, |id| TapestryMsg::Ping { id, joined });
    }

    pub(super) fn ask(
        &mut self,
        cx: &mut Cx<'_, Self>,
        peer: P,
        why: Asked,
        question: impl FnOnce(u32) -> TapestryMsg<P>,
    ) {
        let patience = match why {
            Asked::Insert => self.config.lookup.timeout,
            _ => self.config.lookup.hop_timeout,
        };
        match self.asked.insert(peer, cx.now() + patience, why) {
            Ok(id) => cx.send(peer, question(id)),
            Err(why) => self.on_unasked(why),
        }
    }

    /// The question that a peer answers. An answer to something else is none.
    pub(super) fn answer(
        &mut self,
        cx: &mut Cx<'_, Self>,
        id: u32,
        from: P,
        fits: fn(&Asked) -> bool,
    ) -> Option<Asked> {
        let why = self.asked.answer(id, from)?;
        if fits(&why) {
            return Some(why);
        }
        self.on_silence(cx, from, why);
        None
    }

    /// Sets the timer to when the next answer is late: what every input ends with.
    pub(super) fn arm(&mut self, cx: &mut Cx<'_, Self>) {
        match self.asked.next_deadline() {
            next if next == self.late => return,
            Some(at) => cx.set_timer(at - cx.now(), TapestryTimer::Late),
            None => cx.clear_timer(TapestryTimer::Late),
        }
        self.late = self.asked.next_deadline();
    }

    /// Two neighbours of each slot of some levels; of one alone also who has this node in its table.
    pub(super) fn rows(&self, from: u8, upto: u8, asker: P) -> Vec<P> {
        let upto = usize::from(upto).min(LEVELS - 1);
        let levels = self.levels.sharing(from.into()).chunk_by(|a, b| a.place() == b.place());
        let levels =
            levels.take_while(|slot| slot.first().is_some_and(|one| usize::from(one.place().0) <= upto));
        let slots = levels.flat_map(|slot| slot.iter().filter(|other| other.joined).take(NAMED));
        let back = self.back.iter().rev().filter(|back| usize::from(from) == upto && back.shared >= from);
        let back = back.take(NAMED_BACK).map(|back| back.peer);
        let all = slots.map(|other| other.peer).chain(back).filter(|peer| *peer != asker);
        all.take(MAX_PEERS).collect()
    }

    pub(super) fn on_rows(&mut self, cx: &mut Cx<'_, Self>, from: P, why: Asked, peers: &[P]) {
        match why {
            Asked::Copy => self.on_copied(cx, from, peers),
            Asked::Compare { .. } => {
                for &peer in peers {
                    let curious = cx.rng().below(CURIOSITY) == 0;
                    self.consider(cx, peer, curious);
                }
            }
            Asked::Nearest => peers.iter().for_each(|peer| self.consider(cx, *peer, true)),
            Asked::Ping { .. } | Asked::Insert | Asked::Child(_) => {}
        }
    }

    /// A node that takes part has this one in its table.
    pub(super) fn on_backpointer(&mut self, now: Time, peer: P) {
        let seen = now.as_secs_f64() as u32;
        if let Some(back) = self.back.iter_mut().find(|back| back.peer == peer) {
            back.seen = seen;
            self.levels.hear_again(peer, None);
            return;
        }
        if self.back.len() >= MAX_BACKPOINTERS {
            let oldest = self.back.iter().enumerate().min_by_key(|(_, back)| back.seen);
            let Some((oldest, _)) = oldest else { return };
            self.back.swap_remove(oldest);
        }
        let shared = self.shared(&peer.key());
        self.back.push(Back { peer, seen, shared });
        self.levels.hear(peer, None);
    }

    // ---- the dead

    /// A peer was silent. Says whether it should be asked again.
    pub(super) fn lose(&mut self, peer: P) -> bool {
        if self.is_at_rest() {
            return false;
        }
        let hole = match self.levels.silent(peer) {
            Silence::Stranger => return false,
            Silence::Doubtful => return true,
            Silence::Dead { hole } => hole,
        };
        self.doors.lose(peer);
        self.back.retain(|back| back.peer != peer);
        self.holes |= hole.map_or(0, |level| 1 << level);
        if self.joined && self.neighbours().next().is_none() {
            self.joined = false;
            self.doors.begin();
        }
        false
    }

    pub(super) fn on_silence(&mut self, cx: &mut Cx<'_, Self>, peer: P, why: Asked) {
        let doubtful = self.lose(peer);
        match why {
            Asked::Ping { .. } if doubtful && !self.is_pinged(peer) => self.ping(cx, peer),
            Asked::Child(child) => self.on_silent_child(cx, peer, child),
            why => self.on_unasked(why),
        }
    }

    /// A question has come to nothing.
    fn on_unasked(&mut self, why: Asked) {
        match why {
            // The timer tries again.
            Asked::Copy | Asked::Insert => self.entering = None,
            Asked::Compare { level } => self.holes |= 1 << level,
            Asked::Ping { .. } | Asked::Nearest | Asked::Child(_) => {}
        }
    }
}
