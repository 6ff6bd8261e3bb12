//! How messages go along the tree, and how the tree comes to be (SRDS 2007 §3.4).

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::Cx;

use super::msg::{Announced, MAX_LISTED, Missing, Push};
use super::store::Stored;
use super::streams::{MAX_NUMBER, Source, Stuck};
use super::{Plumtree, PlumtreeMsg, PlumtreeTimer};
use crate::membership::Membership;
use crate::pubsub::Message;

/// How many ranges of one source are asked for at once.
const MAX_WANTED: usize = 16;
/// After so many questions for what is missing, what came after it waits for it no more: whoever is asked may have yet to
/// find it too.
const ENOUGH: u32 = 6;
/// After so many nobody is asked again.
const TOO_MANY: u32 = 16;

/// When what a neighbour has came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Now,
    Lately,
    /// Since this node takes part.
    Since,
}

impl<M: Membership> Plumtree<M> {
    // ---- along the tree

    pub(super) fn on_push(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, push: Push<M::Peer>) {
        let Some(at) = self.branch(from) else { return cx.send(from, PlumtreeMsg::Prune) };
        let mark = push.mark;
        self.take_in(cx, from, at, push);
        self.on_mark(from, mark);
    }

    fn take_in(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, at: usize, push: Push<M::Peer>) {
        let Push { source, number, topic, hops, mark: _, bytes } = push;
        if bytes.len() > self.config.max_bytes || number >= MAX_NUMBER {
            return;
        }
        if self.is_own(&source) {
            return self.prune(cx, at);
        }
        let now = cx.now();
        let stream = self.streams.enter(source, number, now);
        if !stream.seen.insert(number) {
            return self.prune(cx, at);
        }
        let hops = hops.saturating_add(1);
        stream.used = now;
        stream.parent = Some((from, hops));
        stream.announced = stream.announced.max(number);
        // One before it is missing, and whoever has sent this has that too.
        let behind = stream.missing().next().is_some();
        match behind {
            true => stream.offer(from, number),
            false => (stream.stuck, stream.offers) = (None, Default::default()),
        }
        self.counts.received += 1;
        self.counts.hops = hops;
        let branch = &mut self.branches[at];
        // Whoever was told to announce has not heard of that yet.
        if branch.pruned.is_none_or(|pruned| pruned + self.config.graft <= now) {
            (branch.eager, branch.pruned) = (true, None);
        }
        if behind {
            self.miss(cx);
        }
        let message = Stored { source, number, topic, hops, bytes: bytes.clone() };
        self.pass_on(cx, message, Some(from));
        match self.readers.is_empty() {
            true => self.streams.skip(&source, number),
            false => {
                let message = Message { publisher: source.publisher, bytes };
                if let Some((topic, message)) =
                    self.streams.in_order(source, number, self.passed, (topic, message))
                {
                    self.deliver(cx, topic, &message);
                }
                if self.streams.is_overfull() {
                    self.release(cx, &source);
                }
            }
        }
    }

    /// Keeps a message, and has it go to all neighbours but the one that it came from.
    pub(super) fn pass_on(&mut self, cx: &mut Cx<'_, Self>, message: Stored<M::Peer>, from: Option<M::Peer>) {
        self.passed += 1;
        for at in 0..self.branches.len() {
            let branch = &self.branches[at];
            if Some(branch.peer) == from {
                continue;
            }
            match branch.eager {
                true => self.push(cx, at, message.clone()),
                false => self.announce(cx, at, &message),
            }
        }
        self.store.insert(cx.now(), message, self.config.keep_bytes);
        if !self.set.keep {
            self.set.keep = true;
            self.keep_later(cx);
        }
    }

    /// A message came again.
    fn prune(&mut self, cx: &mut Cx<'_, Self>, at: usize) {
        self.counts.duplicates += 1;
        let (now, branch) = (cx.now(), &mut self.branches[at]);
        // It may have lost the first word of it.
        if branch.pruned.is_none_or(|pruned| pruned + self.config.graft <= now) {
            branch.pruned = Some(now);
            cx.send(branch.peer, PlumtreeMsg::Prune);
            self.make_lazy(cx, at);
        }
    }

    pub(super) fn on_prune(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer) {
        if let Some(at) = self.branch(from) {
            self.make_lazy(cx, at);
        }
    }

    /// Takes a neighbour out of the tree: what waits for it is announced.
    pub(super) fn make_lazy(&mut self, cx: &mut Cx<'_, Self>, at: usize) {
        self.branches[at].eager = false;
        for message in self.branches[at].give_up() {
            self.announce(cx, at, &message);
        }
    }

    // ---- beside the tree

    pub(super) fn announce(&mut self, cx: &mut Cx<'_, Self>, at: usize, message: &Stored<M::Peer>) {
        let Stored { source, number, hops, .. } = *message;
        let announcements = &mut self.branches[at].announcements;
        let next = announcements.iter_mut().find(|last| last.source == source && last.to + 1 == number);
        match next {
            Some(last) => (last.to, last.hops) = (number, hops),
            None => announcements.push(Announced { source, from: number, to: number, hops }),
        }
        if announcements.len() >= MAX_LISTED {
            self.announce_to(cx, at);
        }
        if !self.set.announce {
            self.set.announce = true;
            cx.set_timer(self.config.announce, PlumtreeTimer::Announce);
        }
    }

    fn announce_to(&mut self, cx: &mut Cx<'_, Self>, at: usize) {
        let branch = &mut self.branches[at];
        if !branch.announcements.is_empty() {
            cx.send(branch.peer, PlumtreeMsg::Announce(std::mem::take(&mut branch.announcements)));
        }
    }

    pub(super) fn announce_all(&mut self, cx: &mut Cx<'_, Self>) {
        self.set.announce = false;
        (0..self.branches.len()).for_each(|at| self.announce_to(cx, at));
    }

    /// A neighbour has messages. If they have come to it lately, and this node has not been here for long, only sources
    /// that are known matter: what was published before it was there is not for it. What has come since is.
    pub(super) fn on_announce(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: M::Peer,
        announced: &[Announced<M::Peer>],
        when: When,
    ) {
        let Some(at) = self.branch(from) else { return };
        if when == When::Since && !self.branches[at].asked {
            return;
        }
        let mut shorter = None;
        for &Announced { source, from: first, to, hops } in announced.iter().take(MAX_LISTED) {
            if first > to || to >= MAX_NUMBER || self.is_own(&source) {
                continue;
            }
            let stream = match when == When::Lately && !self.streams.settled {
                true => self.streams.get_mut(&source),
                false => Some(self.streams.enter(source, first, cx.now())),
            };
            let Some(stream) = stream else { continue };
            if stream.seen.top() == Some(to)
                && let Some((parent, far)) = stream.parent
                && far > hops.saturating_add(1 + self.config.threshold)
                && parent != from
            {
                stream.parent = None;
                shorter = Some((parent, source, to));
            }
            if when == When::Since {
                stream.base = stream.base.min(first);
            }
            if stream.seen.gaps(stream.base.max(first), to).next().is_some() {
                stream.offer(from, to);
                self.miss(cx);
            }
        }
        if let Some((parent, source, to)) = shorter {
            self.shorten(cx, parent, from, Missing { source, ranges: vec![(to + 1, MAX_NUMBER)] });
        }
    }

    /// Takes the way of an announcement instead of the message's (§3.4.3).
    fn shorten(&mut self, cx: &mut Cx<'_, Self>, parent: M::Peer, by: M::Peer, want: Missing<M::Peer>) {
        self.graft(cx, by, vec![want]);
        if let Some(at) = self.branch(parent) {
            self.branches[at].pruned = Some(cx.now());
            cx.send(parent, PlumtreeMsg::Prune);
            self.make_lazy(cx, at);
        }
    }

    // ---- grafting

    fn graft(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, wants: Vec<Missing<M::Peer>>) {
        let Some(at) = self.branch(peer) else { return };
        self.counts.grafts += 1;
        (self.branches[at].eager, self.branches[at].pruned) = (true, None);
        cx.send(peer, PlumtreeMsg::Graft(wants));
    }

    pub(super) fn on_graft(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, wants: &[Missing<M::Peer>]) {
        let Some(at) = self.branch(from) else { return };
        (self.branches[at].eager, self.branches[at].pruned) = (true, None);
        let mut room = self.config.queue;
        let mut wanted = Vec::new();
        for Missing { source, ranges } in wants.iter().take(MAX_LISTED) {
            for &(first, last) in ranges.iter().take(MAX_WANTED) {
                for message in self.store.range(*source, first, last) {
                    let Some(left) = room.checked_sub(message.size()) else { break };
                    room = left;
                    wanted.push(message.clone());
                }
            }
        }
        for message in wanted {
            self.push(cx, at, message);
        }
    }

    /// Something is missing: sees later whether it still is.
    fn miss(&mut self, cx: &mut Cx<'_, Self>) {
        if !self.set.missing {
            self.set.missing = true;
            cx.set_timer(self.config.graft / 2, PlumtreeTimer::Missing);
        }
    }

    /// Asks for what is missing where nothing has come for a while.
    pub(super) fn look_for_missing(&mut self, cx: &mut Cx<'_, Self>) {
        self.set.missing = false;
        let (now, patience) = (cx.now(), self.config.graft);
        let mut wants: BTreeMap<M::Peer, Vec<Missing<M::Peer>>> = BTreeMap::new();
        let mut waiting = false;
        let mut enough: Vec<Source<M::Peer>> = Vec::new();
        for (source, stream) in self.streams.iter_mut() {
            let Some((lowest, _)) = stream.missing().next() else {
                stream.stuck = None;
                continue;
            };
            waiting = true;
            let stuck = stream.stuck.filter(|stuck| stuck.at == lowest);
            let mut stuck = stuck.unwrap_or(Stuck { at: lowest, since: now, asked: 0 });
            let patience = if stuck.asked == 0 { patience } else { patience / 2 };
            // The timer has run for half of it already when it is noticed.
            if stuck.since + patience / 2 <= now && stream.stuck.is_some() {
                (stuck.since, stuck.asked) = (now, stuck.asked + 1);
                if let Some(peer) = stream.offers.pop_front() {
                    stream.offers.push_back(peer);
                    let onwards = (stream.announced + 1, MAX_NUMBER);
                    let ranges = stream.missing().take(MAX_WANTED - 1).chain([onwards]).collect();
                    let list = wants.entry(peer).or_default();
                    if list.len() < MAX_LISTED {
                        list.push(Missing { source: *source, ranges });
                    }
                }
                if stuck.asked == ENOUGH {
                    enough.push(*source);
                }
            }
            stream.stuck = Some(stuck);
            if stuck.asked >= TOO_MANY {
                stream.give_up();
                enough.push(*source);
            }
        }
        for (peer, wants) in wants {
            self.graft(cx, peer, wants);
        }
        for source in enough {
            self.release(cx, &source);
        }
        if waiting {
            self.miss(cx);
        }
    }

    // ---- what was lost on the way

    /// Tells a neighbour what has come lately.
    pub(super) fn tell_recent(&self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        let recent = self.store.sources(MAX_LISTED);
        if !recent.is_empty() {
            let announced = |(source, from, to, hops)| Announced { source, from, to, hops };
            cx.send(peer, PlumtreeMsg::Recent(recent.into_iter().map(announced).collect()));
        }
    }

    /// Asks a new neighbour for what has come since this node takes part, if that is not long ago: its publisher may have
    /// begun while neighbours came and went, so that its first messages passed this node by.
    pub(super) fn ask_since(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        let joined = *self.joined.get_or_insert(cx.now());
        if let Some(at) = self.branch(peer)
            && !self.streams.settled
        {
            self.branches[at].asked = true;
            let since = cx.now().since(joined).min(self.config.keep);
            cx.send(peer, PlumtreeMsg::Since(u32::try_from(since.as_millis()).unwrap_or(u32::MAX)));
        }
    }

    pub(super) fn on_since(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, ms: u32) {
        let Some(at) = self.branch(from) else { return };
        if std::mem::replace(&mut self.branches[at].told, true) {
            return;
        }
        // And while the question was on its way.
        let since = Duration::from_millis(ms.into()).min(self.config.keep) + self.config.graft;
        let announced = self.store.since(cx.now(), since);
        for some in announced.chunks(MAX_LISTED) {
            let announced = |&(source, from, to, hops)| Announced { source, from, to, hops };
            cx.send(from, PlumtreeMsg::Had(some.iter().map(announced).collect()));
        }
    }

    fn keep_later(&self, cx: &mut Cx<'_, Self>) {
        let period = self.config.recent;
        let after = cx.rng().duration(period / 2, period * 3 / 2);
        cx.set_timer(after, PlumtreeTimer::Keep);
    }

    pub(super) fn keep(&mut self, cx: &mut Cx<'_, Self>) {
        self.store.expire(cx.now(), self.config.keep);
        self.set.keep = !self.store.is_empty();
        if self.set.keep {
            self.keep_later(cx);
            if let Some(peer) = cx.rng().choose(self.membership.active()).copied() {
                self.tell_recent(cx, peer);
            }
        }
    }
}
