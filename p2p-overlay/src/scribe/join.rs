//! How nodes come into a tree, and go (JSAC §III-A).

use p2p_core::{Cx, NoJob, OpId};

use super::tree::{Child, MAX_PATH, Member, Parent, Path, Place, Seek, Tree};
use super::{AVOIDED, Join, MAX_HOPS, Scribe, ScribeMsg, ScribeOutcome, ScribeTimer};
use crate::pubsub::{Delivery, PubSubError, Topic};
use crate::structured::{Next, SingleRoot};
use crate::trail::Trail;

impl<O: SingleRoot<Job = NoJob>> Scribe<O> {
    // ---- members: this node's users

    pub(super) fn add_member(&mut self, cx: &mut Cx<'_, Self>, op: OpId, topic: Topic, member: Member) {
        if let Member::Offer { left: 0 } = member {
            return cx.finish(op, ScribeOutcome::Ended(Ok(())));
        }
        let is_new = !self.trees.contains_key(&topic);
        if is_new && !self.add_tree(cx, topic) {
            return cx.finish(op, ScribeOutcome::Ended(Err(PubSubError::TooManyTopics)));
        }
        let Some(tree) = self.trees.get_mut(&topic) else { return };
        tree.members.insert(op, member);
        self.members.insert(op, topic);
        match is_new {
            true => self.ask_for_a_parent(cx, topic, false),
            false => self.tell_members(cx, topic),
        }
    }

    /// A member goes; without a word, if it was taken back.
    pub(super) fn remove_member(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(topic) = self.members.remove(&op) else { return };
        if let Some(tree) = self.trees.get_mut(&topic) {
            tree.members.remove(&op);
        }
        self.drop_if_idle(cx, topic);
    }

    pub(super) fn unsubscribe(&mut self, cx: &mut Cx<'_, Self>, op: OpId, topic: Topic) {
        let tree = self.trees.get(&topic);
        let all = tree.into_iter().flat_map(|tree| &tree.members);
        let subscribers = all.filter(|(_, member)| matches!(member, Member::Subscriber { .. }));
        for subscriber in subscribers.map(|(op, _)| *op).collect::<Vec<OpId>>() {
            self.remove_member(cx, subscriber);
            cx.finish(subscriber, ScribeOutcome::Ended(Ok(())));
        }
        cx.finish(op, ScribeOutcome::Unsubscribed);
    }

    /// Tells subscribers once the tree is whole above them.
    pub(super) fn tell_members(&mut self, cx: &mut Cx<'_, Self>, topic: Topic) {
        let Some(tree) = self.trees.get_mut(&topic) else { return };
        if !tree.is_rooted() {
            return;
        }
        for (op, member) in &mut tree.members {
            if let Member::Subscriber { joined: joined @ false } = member {
                *joined = true;
                cx.item(*op, Delivery::Joined);
            }
        }
    }

    // ---- a place in the tree

    /// Begins to take part in a tree, if there is room for one more.
    fn add_tree(&mut self, cx: &mut Cx<'_, Self>, topic: Topic) -> bool {
        if self.trees.len() >= self.config.max_topics {
            return false;
        }
        let tree = Tree::new(self.config.window, cx.rng().next_u64());
        self.trees.insert(topic, tree);
        self.look_after_later(cx, topic);
        true
    }

    /// Leaves a tree that nobody here needs.
    pub(super) fn drop_if_idle(&mut self, cx: &mut Cx<'_, Self>, topic: Topic) {
        if let Some(tree) = self.trees.get(&topic)
            && tree.is_idle()
        {
            if let Some(parent) = tree.parent() {
                cx.send(parent, ScribeMsg::Leave { topic });
            }
            self.trees.remove(&topic);
            cx.clear_timer(ScribeTimer::Join(topic));
            cx.clear_timer(ScribeTimer::Upkeep(topic));
        }
    }

    /// Takes the place of the root.
    pub(super) fn become_root(&mut self, cx: &mut Cx<'_, Self>, topic: Topic) {
        let Some(tree) = self.trees.get_mut(&topic) else { return };
        match &tree.place {
            Place::Root => return,
            Place::Under(parent) => cx.send(parent.peer, ScribeMsg::Leave { topic }),
            Place::Seeking(_) => cx.clear_timer(ScribeTimer::Join(topic)),
        }
        tree.place = Place::Root;
        self.tell_children(cx, topic);
        self.tell_members(cx, topic);
    }

    /// Looks for a parent anew; `silent` is not asked at first.
    pub(super) fn seek(&mut self, cx: &mut Cx<'_, Self>, topic: Topic, silent: Option<O::Peer>) {
        let ticket = cx.rng().next_u64();
        let Some(tree) = self.trees.get_mut(&topic) else { return };
        let claimed = matches!(tree.place, Place::Root);
        let avoid: Vec<O::Peer> = silent.into_iter().collect();
        tree.place = Place::Seeking(Seek { ticket, tries: 0, via: None, avoid });
        if !claimed {
            // A root that steps down is found below the other one soon.
            self.tell_children(cx, topic);
        }
        self.ask_for_a_parent(cx, topic, claimed);
    }

    /// Nobody has answered.
    pub(super) fn join_again(&mut self, cx: &mut Cx<'_, Self>, topic: Topic) {
        let Some(tree) = self.trees.get_mut(&topic) else { return };
        let Place::Seeking(seek) = &mut tree.place else { return };
        if let Some(silent) = seek.via.take() {
            seek.avoid.push(silent);
            if seek.avoid.len() > AVOIDED {
                seek.avoid.remove(0);
            }
        }
        let mut trail = Trail::new(seek.avoid.clone());
        if let Next::Nowhere | Next::Later = self.onward(topic, false, &mut trail) {
            // They may have been well all the time: nobody else knows of a root, or can be one while they live.
            self.forgive(topic);
        }
        self.ask_for_a_parent(cx, topic, false);
    }

    fn forgive(&mut self, topic: Topic) {
        if let Some(Tree { place: Place::Seeking(seek), .. }) = self.trees.get_mut(&topic) {
            seek.avoid.clear();
        }
    }

    /// Sends a join towards the root; if `claimed`, somebody takes this node for it.
    fn ask_for_a_parent(&mut self, cx: &mut Cx<'_, Self>, topic: Topic, claimed: bool) {
        let Some(Tree { place: Place::Seeking(seek), .. }) = self.trees.get(&topic) else { return };
        let mut trail = Trail::new(seek.avoid.clone());
        let next = self.onward(topic, claimed, &mut trail);
        if next == Next::Mine {
            return self.become_root(cx, topic);
        }
        let me = self.overlay.me();
        let Some(Tree { place: Place::Seeking(seek), .. }) = self.trees.get_mut(&topic) else { return };
        let timeout = self.config.join_timeout * (1 << seek.tries.min(3));
        seek.tries += 1;
        seek.via = None;
        if let Some((to, claimed)) = next.hop() {
            seek.via = Some(to);
            let ticket = seek.ticket;
            let join = Join { topic, child: me, ticket, hops: 0, claimed, down: false, trail };
            cx.send(to, ScribeMsg::Join(join));
        }
        let after = cx.rng().duration(timeout, timeout * 5 / 4);
        cx.set_timer(after, ScribeTimer::Join(topic));
    }

    // ---- the other end

    /// Somebody looks for a parent.
    pub(super) fn on_join(&mut self, cx: &mut Cx<'_, Self>, from: O::Peer, mut join: Join<O::Peer>) {
        let topic = join.topic;
        join.hops = join.hops.saturating_add(1);
        join.trail.truncate(AVOIDED);
        if join.hops > MAX_HOPS || !self.overlay.is_joined() {
            return; // The child will find somebody else.
        }
        if join.child == self.overlay.me() {
            return self.on_own_join(cx, join);
        }
        if let Some(tree) = self.trees.get(&topic) {
            if join.down && tree.parent() != Some(from) {
                return; // A child takes what its parent passes on, and nobody else's.
            }
            // Who is silent to others need not be dead: that is believed only while nothing else is known of a root.
            let avoid: &[O::Peer] = if tree.is_rooted() { &[] } else { &join.trail.avoid };
            if join.claimed && !join.down && self.next(topic, true, avoid) == Next::Mine {
                self.become_root(cx, topic);
            }
            return self.adopt(cx, from, join);
        }
        if join.down {
            return;
        }
        // A dead end is no place in a tree: it has the join go another way.
        if self.next(topic, join.claimed, &join.trail.avoid) == Next::Nowhere
            && let Some(peer) = self.around(topic, &mut join.trail)
        {
            return cx.send(peer, ScribeMsg::Join(Join { claimed: false, ..join }));
        }
        match self.has_entries_left() && self.has_trees_left() && self.add_tree(cx, topic) {
            true => {
                if let Some(Tree { place: Place::Seeking(seek), .. }) = self.trees.get_mut(&topic) {
                    seek.avoid.clone_from(&join.trail.avoid);
                }
                let claimed = join.claimed;
                self.adopt(cx, from, join);
                self.ask_for_a_parent(cx, topic, claimed);
            }
            false => self.pass_up(cx, join),
        }
    }

    /// Its own question has come around: nobody who was asked knows of another root, or a dead end has sent it back.
    fn on_own_join(&mut self, cx: &mut Cx<'_, Self>, mut join: Join<O::Peer>) {
        let topic = join.topic;
        let Some(Tree { place: Place::Seeking(seek), .. }) = self.trees.get(&topic) else { return };
        if seek.ticket != join.ticket {
            return;
        }
        if join.claimed {
            if self.next(topic, true, &seek.avoid) == Next::Mine {
                self.become_root(cx, topic);
            }
            return;
        }
        let Some((to, claimed)) = self.onward(topic, false, &mut join.trail).hop() else { return };
        if let Some(Tree { place: Place::Seeking(seek), .. }) = self.trees.get_mut(&topic) {
            seek.via = Some(to);
        }
        cx.send(to, ScribeMsg::Join(Join { claimed, ..join }));
    }

    /// Whether there is room for one more tree in which this node is for others alone: half of all are for its users.
    fn has_trees_left(&self) -> bool {
        let for_others = self.trees.values().filter(|tree| tree.members.is_empty());
        for_others.count() < self.config.max_topics.div_ceil(2)
    }

    fn has_entries_left(&self) -> bool {
        self.trees.values().map(|tree| tree.children.len()).sum::<usize>() < self.config.max_entries
    }

    /// Takes a child, or has somebody else take it.
    fn adopt(&mut self, cx: &mut Cx<'_, Self>, from: O::Peer, join: Join<O::Peer>) {
        let (topic, child, ticket, me) = (join.topic, join.child, join.ticket, self.overlay.me());
        let room = self.has_entries_left();
        let Some(tree) = self.trees.get_mut(&topic) else { return };
        let above = tree.above();
        // Where the child is above this node, it would be a circle.
        if above.contains(&child) || above.len() + 2 > MAX_PATH {
            return self.pass_up(cx, join);
        }
        let known = tree.children.get(&child);
        if known.is_none() && (tree.children.len() >= self.config.max_children || !room) {
            return self.push_down(cx, join);
        }
        let proved = from == child || known.is_some_and(|known| known.proved);
        tree.children.insert(child, Child { refreshed: cx.now(), proved });
        cx.send(child, ScribeMsg::Accepted { topic, ticket, path: tree.path(me) });
    }

    /// Passes a newcomer on towards the root, without being its parent.
    fn pass_up(&mut self, cx: &mut Cx<'_, Self>, mut join: Join<O::Peer>) {
        let mut avoid = join.trail.avoid.clone();
        avoid.push(join.child);
        let hop = match self.next(join.topic, join.claimed, &avoid) {
            Next::Nowhere => self.around(join.topic, &mut join.trail).map(|peer| (peer, false)),
            next => next.hop(),
        };
        match hop {
            Some((to, claimed)) => cx.send(to, ScribeMsg::Join(Join { claimed, down: false, ..join })),
            None => Self::refuse(cx, &join),
        }
    }

    /// Has one of the children take a newcomer (the bottleneck remover of JSAC §IV, turned around).
    fn push_down(&mut self, cx: &mut Cx<'_, Self>, join: Join<O::Peer>) {
        let Some(tree) = self.trees.get(&join.topic) else { return };
        let able =
            tree.children.iter().filter(|(peer, child)| child.proved && !join.trail.avoid.contains(peer));
        let able: Vec<O::Peer> = able.map(|(peer, _)| *peer).collect();
        match cx.rng().choose(&able) {
            Some(&to) => cx.send(to, ScribeMsg::Join(Join { down: true, claimed: false, ..join })),
            None => Self::refuse(cx, &join),
        }
    }

    fn refuse(cx: &mut Cx<'_, Self>, join: &Join<O::Peer>) {
        let Join { topic, ticket, child, .. } = *join;
        cx.send(child, ScribeMsg::Refused { topic, ticket });
    }

    // ---- answers

    pub(super) fn on_accepted(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: O::Peer,
        topic: Topic,
        ticket: u64,
        path: Path<O::Peer>,
    ) {
        let me = self.overlay.me();
        match self.trees.get_mut(&topic).map(|tree| &mut tree.place) {
            Some(Place::Under(parent)) if parent.peer == from => {
                self.on_heartbeat(cx, from, topic, path);
            }
            Some(place @ Place::Seeking(_)) if place.is_asking(ticket) && path.suits(from, me) => {
                let now = cx.now();
                *place = Place::Under(Parent { peer: from, path, heard: now, refreshed: now });
                cx.clear_timer(ScribeTimer::Join(topic));
                cx.send(from, ScribeMsg::Refresh { topic });
                self.tell_children(cx, topic);
                self.tell_members(cx, topic);
            }
            // Another was faster, or it would be a circle, or nobody here has asked.
            _ => cx.send(from, ScribeMsg::Leave { topic }),
        }
    }

    /// There is no room: whoever said so is well, and may have some later. Those who were silent are asked again as well:
    /// it may be that only one of them, the root itself say, has any, and that nothing but an answer of its was lost.
    pub(super) fn on_refused(&mut self, topic: Topic, ticket: u64) {
        if let Some(Tree { place, .. }) = self.trees.get_mut(&topic)
            && place.is_asking(ticket)
            && let Place::Seeking(seek) = place
        {
            seek.via = None;
            seek.avoid.clear();
        }
    }

    pub(super) fn remove_child(&mut self, cx: &mut Cx<'_, Self>, topic: Topic, child: O::Peer) {
        if let Some(tree) = self.trees.get_mut(&topic)
            && tree.children.remove(&child).is_some()
        {
            self.drop_if_idle(cx, topic);
        }
    }
}
