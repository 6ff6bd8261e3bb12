//! Who comes and goes, who is late, and who is to blame.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use p2p_core::{Cx, Time};
use p2p_overlay::{Membership, MembershipCommand};

use super::job::{Form, PartOf, Standing};
use super::msg::LedgerMsg;
use super::recent::Recent;
use super::{LedgerEvent, LedgerNode, LedgerTimer, TICK};
use crate::consensus::Consensus;
use crate::headers::Tip;
use crate::id::{BlockId, WtxId};
use crate::state::State;

/// Who has so many points is a neighbour no more. One goes with every tick.
const MOST_POINTS: u32 = 100;
/// Who has left so many questions for headers in a row unanswered is a neighbour no more either.
const MOST_SILENT: u32 = 3;
/// How many are banned at once.
const MOST_BANNED: usize = 1_024;

/// What is known of a neighbour.
pub(super) struct PeerState<C: Consensus, S: State> {
    /// Which question for headers it has not answered, and until when it may.
    pub(super) asked: Option<(u32, Time)>,
    /// It is to be asked again then.
    pub(super) again: bool,
    /// The end of the best chain that it has shown.
    pub(super) best: Option<Tip>,
    /// The last block that it was told of.
    pub(super) told: Option<BlockId>,
    /// It wants new blocks unasked.
    pub(super) wants_push: bool,
    /// A block of which it has been asked for the rest, and until when.
    pub(super) partial: Option<(Box<PartOf<C, S>>, Time)>,
    /// How many compact blocks may come because they were asked for.
    pub(super) compacts: usize,
    /// Which blocks are to be read for it after the one that is.
    pub(super) reads: VecDeque<(BlockId, Form)>,
    /// Which bodies it has is being found out.
    pub(super) looking: bool,
    /// Its chain had too little work: when it may be followed again.
    pub(super) poor_until: Time,
    /// Transactions that it has, or has been told of.
    pub(super) knows: Recent<WtxId>,
    /// Transactions that it is to be told of.
    pub(super) announce: Vec<WtxId>,
    /// It has named as many that wait as it may at once: when those have come it is asked for more.
    pub(super) has_more: bool,
    /// Up to which height it has no bodies.
    pub(super) pruned: u64,
    /// How many questions for headers it has left unanswered, one after the other.
    pub(super) silent: u32,
    /// How much of a nuisance it is.
    points: u32,
}

impl<C: Consensus, S: State> PeerState<C, S> {
    fn new(now: Time) -> PeerState<C, S> {
        PeerState {
            asked: None,
            again: false,
            best: None,
            told: None,
            wants_push: false,
            partial: None,
            compacts: 0,
            reads: VecDeque::new(),
            looking: false,
            poor_until: now,
            knows: Recent::new(10_000),
            announce: Vec::new(),
            has_more: false,
            pruned: 0,
            silent: 0,
            points: 0,
        }
    }

    /// Whether it has this block, as far as is known.
    pub(super) fn has(&self, id: &BlockId) -> bool {
        self.told.as_ref() == Some(id) || self.best.is_some_and(|best| best.id == *id)
    }
}

impl<M: Membership, C: Consensus, S: State> LedgerNode<M, C, S> {
    pub(super) fn on_up(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        if self.banned.get(&peer).is_some_and(|until| *until > cx.now()) {
            return self.tell_membership(cx, MembershipCommand::Expel(peer));
        }
        if self.peers.insert(peer, PeerState::new(cx.now())).is_none() && self.standing.is_some() {
            self.greet(cx, peer);
        }
    }

    pub(super) fn on_down(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        if self.peers.remove(&peer).is_none() {
            return;
        }
        self.pushers.retain(|pusher| *pusher != peer);
        if self.is_followed(peer) {
            self.end_sync(cx);
        }
        self.bodies.forget(peer);
        self.forget_questions_to(cx, peer);
        self.fetch(cx);
    }

    /// Asks a new neighbour what it has.
    fn greet(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        if self.pushers.len() < self.config.pushers {
            self.pushers.push(peer);
            cx.send(peer, LedgerMsg::Push(true));
        }
        if let Some(pruned) =
            self.standing.as_ref().map(|standing| standing.pruned).filter(|pruned| *pruned > 0)
        {
            cx.send(peer, LedgerMsg::Pruned(pruned));
        }
        self.ask_headers(cx, peer, None);
        self.ask_pool(cx, peer);
    }

    pub(super) fn stands_at(&mut self, cx: &mut Cx<'_, Self>, standing: Standing) {
        let was_behind = self.is_behind();
        if self.standing.replace(standing).is_none() {
            for peer in self.peers.keys().copied().collect::<Vec<_>>() {
                self.greet(cx, peer);
            }
        } else if was_behind && let Some(peer) = self.anybody(cx) {
            self.ask_pool(cx, peer);
        }
    }

    /// A neighbour by lot.
    fn anybody(&self, cx: &mut Cx<'_, Self>) -> Option<M::Peer> {
        let peers: Vec<M::Peer> = self.peers.keys().copied().collect();
        cx.rng().choose(&peers).copied()
    }

    /// It has provably broken the rules.
    pub(super) fn ban(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, why: &str) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        self.bar(cx, peer, why);
        self.tell_membership(cx, MembershipCommand::Expel(peer));
        // Whatever the membership makes of it.
        self.on_down(cx, peer);
    }

    /// Has nothing to do with a peer any more, who need not be a neighbour.
    fn bar(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, why: &str) {
        self.clients.forget(peer);
        if self.banned.len() >= MOST_BANNED {
            let first = self.banned.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
            first.map(|first| self.banned.remove(&first));
        }
        self.banned.insert(peer, cx.now() + self.config.ban);
        cx.emit(LedgerEvent::Banned(peer, Arc::from(why)));
    }

    /// A light client has provably broken the rules.
    pub(super) fn ban_client(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, why: &str) {
        match self.peers.contains_key(&peer) {
            true => self.ban(cx, peer, why),
            false => self.bar(cx, peer, why),
        }
    }

    /// It is of no use, which proves nothing.
    pub(super) fn annoy(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, points: u32) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.points = state.points.saturating_add(points);
        if state.points > MOST_POINTS {
            self.tell_membership(cx, MembershipCommand::Expel(peer));
        }
    }

    /// Sees who is late.
    pub(super) fn tick(&mut self, cx: &mut Cx<'_, Self>) {
        cx.set_timer(TICK, LedgerTimer::Tick);
        let at = cx.now();
        let mut silent = Vec::new();
        for (name, peer) in &mut self.peers {
            peer.points = peer.points.saturating_sub(1);
            if peer.partial.as_ref().is_some_and(|(_, until)| *until <= at) {
                peer.partial = None;
            }
            if peer.asked.is_some_and(|(_, until)| until <= at) {
                peer.asked = None;
                silent.push(*name);
            }
        }
        for peer in silent {
            if self.is_followed(peer) {
                self.end_sync(cx);
            }
            self.annoy(cx, peer, 20);
            let Some(state) = self.peers.get_mut(&peer) else { continue };
            state.silent += 1;
            if state.silent >= MOST_SILENT {
                self.tell_membership(cx, MembershipCommand::Expel(peer));
            }
        }
        for (_, peer) in self.bodies.late(at) {
            self.annoy(cx, peer, 20);
        }
        self.ask_others_for_transactions(cx);
        self.look_for_more(cx);
        self.fetch(cx);
    }

    /// Asks one neighbour what it has: something may have been lost.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_, Self>) {
        cx.set_timer(self.config.poll, LedgerTimer::Poll);
        self.banned.retain(|_, until| *until > cx.now());
        self.stand(cx);
        if let Some(peer) = self.anybody(cx) {
            self.ask_headers(cx, peer, None);
            self.ask_pool(cx, peer);
        }
    }
}

impl<C: Consensus, S: State> fmt::Debug for PeerState<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerState({:?}, {} points)", self.best, self.points)
    }
}
