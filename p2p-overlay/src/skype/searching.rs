//! Searches: ever more super-nodes are asked, in rounds, until enough is found or nobody is left.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use p2p_core::{Contact, Cx, OpId, Time, Wire};

use super::certificate::is_user_name;
use super::msg::MAX_NAMED;
use super::presence::Presence;
use super::request::SkypeOutcome;
use super::{Skype, SkypeMsg, SkypeNode, SkypeTimer};
use crate::place::{Place, is_somewhere};
use crate::search::{
    Cost, End, Fetch, Hit, MAX_HITS, Query, Reach, Scope, SearchCommand, SearchError, SearchItem,
    SearchOutcome, Searched,
};

/// How many super-nodes more than it asks a search remembers at most, and how many one round asks.
const CANDIDATES: usize = 256;
const WIDEST: usize = 64;
/// How many users one search finds at most.
const FOUND: usize = MAX_HITS as usize;

/// What a search is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A user's command.
    User(OpId),
    /// A buddy.
    Buddy,
    /// A call.
    Call(u64),
}

/// A search under way.
#[derive(Debug)]
pub(super) struct Searching<P> {
    why: Why,
    text: String,
    scope: Scope,
    started: Time,
    /// How many the next round asks.
    width: usize,
    asked: BTreeSet<P>,
    /// Those of this round who have not answered.
    waiting: BTreeSet<P>,
    /// Whom it could ask.
    candidates: Vec<Contact>,
    /// Whether somebody has never answered.
    silent: bool,
    /// The newest that was found of each user, and which of them were told.
    found: BTreeMap<String, Presence>,
    told: BTreeSet<String>,
    cost: Cost,
}

impl<P: Place> SkypeNode<P> {
    // ---- what users ask

    pub(super) fn on_search(&mut self, cx: &mut Cx<'_, Skype<P>>, op: OpId, command: SearchCommand<P>) {
        let outcome = match command {
            SearchCommand::Publish(item) if item.name == self.user.name => {
                self.set_online(cx, true);
                SearchOutcome::Published(Ok(()))
            }
            // A node has one item: its user.
            SearchCommand::Publish(_) => SearchOutcome::Published(Err(SearchError::BadItem)),
            SearchCommand::Unpublish(name) => {
                SearchOutcome::Unpublished(name == self.user.name && self.set_online(cx, false))
            }
            SearchCommand::Search(query, scope) => match self.begin_user_search(cx, op, &query, scope) {
                Ok(()) => return,
                Err(why) => SearchOutcome::Searched(Err(why)),
            },
            SearchCommand::Reach(hit) => SearchOutcome::Reached(self.reach(cx, &hit)),
        };
        cx.finish(op, SkypeOutcome::Search(outcome));
    }

    fn begin_user_search(
        &mut self,
        cx: &mut Cx<'_, Skype<P>>,
        op: OpId,
        query: &Query,
        scope: Scope,
    ) -> Result<(), SearchError> {
        // How far it goes is decided round by round, and users have no content.
        if scope.reach != Reach::Auto || query.hash().is_some() {
            return Err(SearchError::Unsupported);
        }
        if query.words().is_empty() {
            return Err(SearchError::BadQuery);
        }
        let text = query.words().join(" ");
        self.begin_search(cx, Why::User(op), text, scope)
    }

    /// The node of a user who accepts connections. Others are to be called.
    fn reach(&mut self, cx: &mut Cx<'_, Skype<P>>, hit: &Hit<P>) -> Result<P, SearchError> {
        let presence = Presence::from_bytes(&hit.reference).map_err(|_| SearchError::BadHit)?;
        if !presence.is_genuine(&self.user.server, cx.wall(), self.config.lifetime) {
            return Err(SearchError::BadHit);
        }
        match presence.whereabouts().open {
            true => Ok(P::at(presence.whereabouts().contact, 0)),
            false => Err(SearchError::Unsupported),
        }
    }

    /// Nobody waits for a search any more.
    pub(super) fn forget_search(&mut self, cx: &mut Cx<'_, Skype<P>>, op: OpId) {
        let own = self.searches.iter().find(|(_, search)| search.why == Why::User(op));
        if let Some(id) = own.map(|(id, _)| *id) {
            self.searches.remove(&id);
            cx.clear_timer(SkypeTimer::Round(id));
        }
    }

    // ---- how it goes

    /// Looks for one user; whether that is under way.
    pub(super) fn seek(&mut self, cx: &mut Cx<'_, Skype<P>>, name: &str, why: Why) -> bool {
        let under_way = |search: &Searching<P>| search.why == why && search.text == name;
        if self.searches.values().any(under_way) {
            return true;
        }
        let scope = Scope { hits: 1, ..Scope::default() };
        is_user_name(name) && self.begin_search(cx, why, name.to_owned(), scope).is_ok()
    }

    fn begin_search(
        &mut self,
        cx: &mut Cx<'_, Skype<P>>,
        why: Why,
        text: String,
        scope: Scope,
    ) -> Result<(), SearchError> {
        if self.searches.len() >= self.config.capacity + self.config.buddies {
            return Err(SearchError::Busy);
        }
        let mut first: Vec<P> = self.super_nodes().collect();
        if self.is_super() {
            first.push(self.me());
        }
        if first.is_empty() {
            return Err(SearchError::NotConnected);
        }
        let id = cx.rng().next_u64();
        let search = Searching {
            why,
            text,
            scope,
            started: cx.now(),
            width: self.config.first_round.max(1),
            asked: BTreeSet::new(),
            waiting: BTreeSet::new(),
            candidates: Vec::new(),
            silent: false,
            found: BTreeMap::new(),
            told: BTreeSet::new(),
            cost: Cost { whole: true, ..Cost::default() },
        };
        self.searches.insert(id, search);
        self.ask(cx, id, first);
        Ok(())
    }

    /// Asks these in one round.
    fn ask(&mut self, cx: &mut Cx<'_, Skype<P>>, id: u64, peers: Vec<P>) {
        let Some(search) = self.searches.get_mut(&id) else { return };
        let left = search.scope.deadline.saturating_sub(cx.now().since(search.started));
        cx.set_timer(self.config.patience.min(left), SkypeTimer::Round(id));
        for peer in peers {
            if search.asked.insert(peer) {
                search.waiting.insert(peer);
                let msg = SkypeMsg::Find { id, text: search.text.clone() };
                search.cost.messages += 1;
                search.cost.bytes += msg.wire_len() as u64;
                search.cost.peers += 1;
                cx.send(peer, msg);
            }
        }
    }

    /// Somebody searches: what this super-node knows, and whom else to ask.
    pub(super) fn on_find(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, id: u64, text: &str) {
        let users = if self.is_super() { self.directory.find(text) } else { Vec::new() };
        let others = self.others(cx, from);
        cx.send(from, SkypeMsg::Found { id, users, others });
    }

    pub(super) fn on_found(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, found: SkypeMsg) {
        let len = found.wire_len() as u64;
        let SkypeMsg::Found { id, users, others } = found else { return };
        let near = self.is_near(from);
        let waited_for = |search: &mut Searching<P>| search.waiting.remove(&from);
        if !self.searches.get_mut(&id).is_some_and(waited_for) {
            self.tally.dropped += 1;
            return;
        }
        let mut genuine = Vec::new();
        for user in users.into_iter().take(MAX_NAMED) {
            let Some(search) = self.searches.get(&id) else { return };
            let fits = user.item().matches(&Query::text(&search.text));
            let known =
                search.found.get(user.name()).is_some_and(|known| known.sequence() >= user.sequence());
            if fits && !known && self.believes(cx, &user, near) {
                genuine.push(user);
            }
        }
        let me = self.user.contact;
        let Some(search) = self.searches.get_mut(&id) else { return };
        search.cost.messages += 1;
        search.cost.bytes += len;
        if genuine.is_empty() {
            search.cost.duplicates += 1;
        }
        for user in genuine {
            if search.found.len() < FOUND || search.found.contains_key(user.name()) {
                search.found.insert(user.name().to_owned(), user);
            }
        }
        for other in others.into_iter().take(MAX_NAMED) {
            let new = is_somewhere(&other) && other != me && !search.candidates.contains(&other);
            if new && search.candidates.len() < CANDIDATES && !search.asked.contains(&P::at(other, 0)) {
                search.candidates.push(other);
            }
        }
        if search.waiting.is_empty() {
            self.end_round(cx, id);
        }
    }

    /// All have answered, or their time is up.
    pub(super) fn end_round(&mut self, cx: &mut Cx<'_, Skype<P>>, id: u64) {
        let Some(search) = self.searches.get_mut(&id) else { return };
        search.silent |= !std::mem::take(&mut search.waiting).is_empty();
        if let Why::User(op) = search.why {
            let wanted = search.scope.hits.clamp(1, MAX_HITS) as usize;
            for (name, user) in &search.found {
                if search.told.len() < wanted && search.told.insert(name.clone()) {
                    cx.item(op, SearchItem::Hit(hit_of(user)));
                }
            }
        }
        let is_enough = match search.why {
            Why::User(_) => search.told.len() >= search.scope.hits.clamp(1, MAX_HITS) as usize,
            Why::Buddy | Why::Call(_) => search.found.contains_key(&search.text),
        };
        let is_late = cx.now().since(search.started) >= search.scope.deadline;
        let width = search.width.min(self.config.reach.saturating_sub(search.asked.len()));
        if is_enough {
            return self.end_search(cx, id, End::Enough);
        }
        if is_late {
            return self.end_search(cx, id, End::Deadline);
        }
        cx.rng().shuffle(&mut search.candidates);
        let next = search.candidates.split_off(search.candidates.len().saturating_sub(width));
        if next.is_empty() {
            let end = if search.silent { End::Deadline } else { End::Exhausted };
            return self.end_search(cx, id, end);
        }
        search.width = (2 * search.width).min(WIDEST);
        self.ask(cx, id, next.into_iter().map(|contact| P::at(contact, 0)).collect());
    }

    fn end_search(&mut self, cx: &mut Cx<'_, Skype<P>>, id: u64, end: End) {
        let Some(mut search) = self.searches.remove(&id) else { return };
        cx.clear_timer(SkypeTimer::Round(id));
        let sought = search.found.remove(&search.text);
        match search.why {
            Why::User(op) => {
                let searched = Searched { end, cost: search.cost };
                cx.finish(op, SkypeOutcome::Search(SearchOutcome::Searched(Ok(searched))));
            }
            Why::Buddy => {
                if let Some(presence) = sought {
                    self.learn(cx, presence);
                }
            }
            Why::Call(call) => self.sought(cx, call, sought),
        }
    }

    /// A super-node that was asked is gone: nobody waits for it.
    pub(super) fn not_reached(&mut self, cx: &mut Cx<'_, Skype<P>>, peer: P) {
        let mut over = Vec::new();
        for (id, search) in &mut self.searches {
            if search.waiting.remove(&peer) {
                search.silent = true;
                if search.waiting.is_empty() {
                    over.push(*id);
                }
            }
        }
        over.into_iter().for_each(|id| self.end_round(cx, id));
        self.way_is_blocked(cx, peer);
    }
}

/// A user as a hit: what the user has signed is its reference.
fn hit_of<P: Place>(user: &Presence) -> Hit<P> {
    let contact = user.whereabouts().contact;
    let fetch = if user.whereabouts().open { Fetch::Direct(P::at(contact, 0)) } else { Fetch::Push };
    Hit { item: user.item(), fetch, reference: Bytes::from(user.to_bytes()) }
}
