//! Disputes: a block of which servers say different things is fetched, and its filter made anew; then it is known who lies.
//!
//! All that may have it are asked at the same time, before anything more is asked for users: so nobody can keep an honest server
//! from being asked, though where blocks are long it has to give those first that it was asked for already. Who says that it is not there may only have had no room, and is asked again. Users wait until everybody
//! has had its chance twice; after half of their patience once is enough.
//!
//! If nobody has given it, what is believed of it already stays, or else what most of those that answer say is believed; where as
//! many say one thing as another, the lot decides, and nothing that a server can choose. The others are overruled. What they said
//! is remembered, and the block is asked for again now and then, for which nobody waits: a truth that comes late is taken.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use p2p_core::{Cx, Key, Time};
use p2p_overlay::Membership;

use super::servers::{Server, What};
use super::{LightAnswer, LightAsk, LightNode};
use crate::chain::BlockOf;
use crate::codec::Decode;
use crate::consensus::Consensus;
use crate::filter::Filter;
use crate::header::Header;
use crate::id::BlockId;
use crate::state::State;

/// How often a server may not give a block before it is overruled, if there is time.
const CHANCES: u32 = 2;
/// How many questions for such blocks one server has open.
const MOST_OF_ONE: usize = 2;

/// A block whose filter is to be made anew.
#[derive(Debug)]
pub(super) struct Dispute<P> {
    height: u64,
    block: BlockId,
    /// Until when everybody has a second chance.
    until: Time,
    /// How often each has not given it, and when it is asked again.
    failed: BTreeMap<P, (u32, Time)>,
}

impl<M: Membership, C: Consensus, S: State> LightNode<M, C, S> {
    /// Whether a block is asked for of which those say different things that are waited for.
    pub(super) fn is_held_up(&self) -> bool {
        self.dispute.as_ref().is_some_and(|dispute| self.differ(dispute.height, self.timely()))
    }

    /// What some of the servers say of a block.
    pub(super) fn said_of<'a>(
        &self,
        height: u64,
        servers: impl Iterator<Item = (M::Peer, &'a Server)>,
    ) -> Vec<Key> {
        servers.filter_map(|(_, server)| server.said.of(height, self.belief.headers())).collect()
    }

    /// Whether some of the servers say different things of a block, or something else than is believed.
    fn differ<'a>(&self, height: u64, servers: impl Iterator<Item = (M::Peer, &'a Server)>) -> bool {
        let said = self.said_of(height, servers).into_iter();
        let mut all = said.chain(self.belief.at(height).map(|(_, header)| header));
        all.next().is_some_and(|first| all.any(|other| other != first))
    }

    /// The first block of which one of these says something else than is believed.
    pub(super) fn doubted<'a>(servers: impl Iterator<Item = (M::Peer, &'a Server)>) -> Option<u64> {
        servers.filter_map(|(_, server)| server.said.doubts()).min()
    }

    // ---- which block

    /// The filter of a block is to be made anew.
    pub(super) fn dispute(&mut self, cx: &Cx<'_, Self>, height: u64) {
        let Some(block) = self.chain.at(height).map(Header::id) else { return };
        if self.dispute.as_ref().is_none_or(|dispute| dispute.block != block) {
            let until = cx.now() + self.config.patience / 2;
            self.dispute = Some(Dispute { height, block, until, failed: BTreeMap::new() });
        }
    }

    /// The same now and then, where nobody waits for it.
    pub(super) fn doubt(&mut self, cx: &Cx<'_, Self>, height: u64) {
        if self.doubts_again <= cx.now() && self.dispute.is_none() {
            self.doubts_again = cx.now() + self.config.poll;
            self.dispute(cx, height);
        }
    }

    /// Asks now and then for a block of which somebody says something else who is not waited for, or once has said so: for these
    /// in turn.
    pub(super) fn hear_the_others(&mut self, cx: &mut Cx<'_, Self>) {
        if let Some(height) = Self::doubted(self.live()) {
            self.doubt(cx, height);
        }
        if self.doubts_again > cx.now() {
            return;
        }
        let claimed: BTreeSet<u64> = self.servers.values().flat_map(|server| server.said.claimed()).collect();
        let next = claimed.range(self.doubted_last + 1..).next().or(claimed.first()).copied();
        let Some((height, block)) = next.and_then(|next| Some((next, self.chain.at(next)?.id()))) else {
            return;
        };
        (self.doubted_last, self.doubts_again) = (height, cx.now() + self.config.poll);
        for peer in self.who_may_have(height) {
            self.ask_disputed(cx, peer, block);
        }
    }

    // ---- from asking for it to the end

    /// Asks for the block all that may have it, until it comes or everybody has had its chance.
    pub(super) fn settle_dispute(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(Dispute { height, block, until, failed }) = &self.dispute else { return };
        let (height, block, now) = (*height, *block, cx.now());
        // Who falls silent meanwhile does not begin it anew when it is back.
        if !self.chain.is_on_chain(&block) || !self.differ(height, self.everybody()) {
            self.dispute = None;
            return;
        }
        let all = self.who_may_have(height);
        let fails = |peer: &M::Peer| failed.get(peer).map_or(0, |(times, _)| *times);
        let chances = if *until <= now { 1 } else { CHANCES };
        let is_over = match all.is_empty() {
            true => *until <= now,
            false => all.iter().all(|peer| fails(peer) >= chances),
        };
        if is_over {
            return self.undecided(cx, height);
        }
        let is_due = |peer: &M::Peer| failed.get(peer).is_none_or(|(_, again)| *again <= now);
        for peer in all.into_iter().filter(is_due).collect::<Vec<_>>() {
            self.ask_disputed(cx, peer, block);
        }
    }

    /// Those that answer and have shown the block, or say something of its filter.
    fn who_may_have(&self, height: u64) -> Vec<M::Peer> {
        let says = |server: &Server| server.said.of(height, self.belief.headers()).is_some();
        let all = self.live().filter(|(_, server)| self.reach(server) >= height || says(server));
        all.map(|(peer, _)| peer).collect()
    }

    fn ask_disputed(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, block: BlockId) {
        let is_asked = self.open_of(peer, |what| *what == What::Disputed(block)) > 0;
        let has_room = self.open_of(peer, |what| matches!(what, What::Disputed(_))) < MOST_OF_ONE;
        let ask = LightAsk::Block(block);
        if !is_asked && has_room && self.fits(peer, &ask) {
            self.ask(cx, peer, ask, What::Disputed(block));
        }
    }

    /// What a server has answered that was asked for such a block; `None`, if it has not.
    pub(super) fn disputed_answered(
        &mut self,
        cx: &mut Cx<'_, Self>,
        block: BlockId,
        of: M::Peer,
        answer: Option<LightAnswer>,
    ) {
        match answer {
            Some(LightAnswer::Block(bytes)) => {
                let place = self.chain.place(&block).filter(|_| self.chain.is_on_chain(&block));
                // Others may have given it before.
                if place.is_some_and(|place| self.differ(place.height, self.everybody())) {
                    self.look_at(cx, of, block, &bytes);
                }
            }
            None | Some(LightAnswer::Missing) => {
                if let Some(dispute) = self.dispute.as_mut().filter(|dispute| dispute.block == block) {
                    let again = cx.now() + self.config.poll;
                    let (times, at) = dispute.failed.entry(of).or_insert((0, again));
                    (*times, *at) = (*times + 1, again);
                }
            }
            Some(_) => self.strayed(cx, of),
        }
    }

    /// Nobody has given it.
    fn undecided(&mut self, cx: &mut Cx<'_, Self>, height: u64) {
        self.dispute = None;
        let said = self.said_of(height, self.live());
        let votes = |header: &Key| said.iter().filter(|other| *other == header).count();
        let most = said.iter().map(votes).max();
        let winners: BTreeSet<Key> =
            said.iter().filter(|header| Some(votes(header)) == most).copied().collect();
        if self.belief.height() + 1 == height
            && let Some(id) = self.chain.at(height).map(Header::id)
            && let Some(header) = cx.rng().choose(&winners.into_iter().collect::<Vec<_>>()).copied()
        {
            self.settle(height, id, header);
        }
        self.servers.values_mut().for_each(|server| server.said.overrule(height));
    }

    /// A block of the chain that was asked for, and its height, if it is that block. Who says something else of its filter has lied.
    pub(super) fn look_at(
        &mut self,
        cx: &mut Cx<'_, Self>,
        of: M::Peer,
        id: BlockId,
        bytes: &Bytes,
    ) -> Option<(u64, BlockOf<C, S>)> {
        let block = BlockOf::<C, S>::from_bytes(bytes).ok();
        let Some(block) = block.filter(|block| block.header.id() == id && block.is_whole()) else {
            self.lied(cx, of, "it gives another block than was asked for");
            return None;
        };
        let height = self.chain.place(&id).map_or(0, |place| place.height);
        if let Some((_, before)) = height.checked_sub(1).and_then(|before| self.belief.at(before)) {
            let header = Filter::of(&id, &block.transactions).header(&before);
            self.truth(cx, height, header);
        }
        Some((height, block))
    }

    /// What the filter header of a block is, now that the block is here.
    fn truth(&mut self, cx: &mut Cx<'_, Self>, height: u64, header: Key) {
        let other = |server: &Server| {
            server.said.of(height, self.belief.headers()).is_some_and(|said| said != header)
        };
        let liars = self.servers.iter().filter(|(_, server)| other(server));
        for peer in liars.map(|(peer, _)| *peer).collect::<Vec<_>>() {
            self.lied(cx, peer, "it names a filter that is not the block's");
        }
        if self.belief.at(height).is_some_and(|(_, believed)| believed != header) {
            self.belief.truncate(height - 1);
        }
        self.servers.values_mut().for_each(|server| server.said.ask_again(height));
    }
}
