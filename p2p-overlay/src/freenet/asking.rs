//! What users ask: inserts, retrievals, and the searches that are made of them.

use p2p_core::{Cx, Key, Keyed, OpId, Wire};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::passing::What;
use super::request::{FreenetError, FreenetOutcome, Inserted, Retrieve};
use super::{Freenet, FreenetBlock, FreenetMsg, FreenetTimer};
use crate::search::{
    ContentHash, Cost, End, Fetch, Hit, Item, MAX_NAME, Query, Reach, Scope, SearchCommand, SearchError,
    SearchItem, SearchOutcome, Searched, words,
};

/// A command under way.
#[derive(Debug)]
pub(super) struct User {
    /// The number of its request.
    pub(super) id: u64,
    key: Key,
    asks: Asks,
    cost: Cost,
}

#[derive(Debug)]
enum Asks {
    Retrieve,
    /// A block, at so many nodes; whether it is an item that is published.
    Insert {
        block: FreenetBlock,
        htl: u16,
        publishes: bool,
    },
    Search(Query),
}

impl User {
    pub(super) fn charge<P: Serialize + DeserializeOwned>(&mut self, msg: &FreenetMsg<P>) {
        self.cost.messages += 1;
        self.cost.bytes += msg.wire_len() as u64;
        self.cost.peers += u64::from(matches!(msg, FreenetMsg::Request { .. } | FreenetMsg::Insert { .. }));
    }
}

/// An item as it lies under its words.
#[derive(Serialize, serde::Deserialize)]
struct Described(Item);

impl Wire for Described {}

/// The keyword that all words of a text make.
fn keyword(words: &[String]) -> String {
    words.join(" ")
}

impl<P: Keyed + Serialize + DeserializeOwned> Freenet<P> {
    /// Notes a command, if there is room for it.
    fn enter(&mut self, op: OpId, key: Key, asks: Asks) -> Result<(), FreenetError> {
        if self.users.len() >= self.config.capacity || self.pending.len() >= self.config.pending {
            return Err(FreenetError::Busy);
        }
        self.users.insert(op, User { id: 0, key, asks, cost: Cost::default() });
        Ok(())
    }

    /// Up to three hops less than wanted, so that nobody can tell by them who has begun.
    fn veiled(cx: &mut Cx<'_, Self>, htl: u16) -> u16 {
        htl - cx.rng().below(u64::from(htl.clamp(1, 4))) as u16
    }

    pub(super) fn begin_retrieve(&mut self, cx: &mut Cx<'_, Self>, op: OpId, retrieve: Retrieve) {
        let Retrieve { key, htl } = retrieve;
        if let Some(block) = self.store.get(&key) {
            let data = block.data().clone();
            return cx.finish(op, FreenetOutcome::Retrieved(Ok(data)));
        }
        if let Err(error) = self.enter(op, key, Asks::Retrieve) {
            return cx.finish(op, FreenetOutcome::Retrieved(Err(error)));
        }
        let htl = Self::veiled(cx, htl.unwrap_or(self.config.htl));
        self.begin(cx, op, What::Request, key, htl);
    }

    pub(super) fn begin_insert(&mut self, cx: &mut Cx<'_, Self>, op: OpId, block: FreenetBlock) {
        self.insert(cx, op, block, false);
    }

    fn insert(&mut self, cx: &mut Cx<'_, Self>, op: OpId, block: FreenetBlock, publishes: bool) {
        let key = block.key();
        if !block.belongs(&key) {
            return Self::inserted(cx, op, publishes, Err(FreenetError::TooLong));
        }
        if let Some(there) = self.store.get(&key) {
            let same = there.data() == block.data();
            let result = if same { Ok(Inserted { key, existed: true }) } else { Err(FreenetError::Taken) };
            return Self::inserted(cx, op, publishes, result);
        }
        let htl = Self::veiled(cx, self.config.htl);
        if let Err(error) = self.enter(op, key, Asks::Insert { block, htl, publishes }) {
            return Self::inserted(cx, op, publishes, Err(error));
        }
        self.begin(cx, op, What::Insert, key, htl);
    }

    fn inserted(cx: &mut Cx<'_, Self>, op: OpId, publishes: bool, result: Result<Inserted, FreenetError>) {
        if !publishes {
            return cx.finish(op, FreenetOutcome::Inserted(result));
        }
        let published = result.map(drop).map_err(|error| match error {
            FreenetError::TooLong | FreenetError::Taken => SearchError::BadItem,
            FreenetError::Busy => SearchError::Busy,
            FreenetError::NotConnected => SearchError::NotConnected,
            FreenetError::NotFound | FreenetError::Unreachable => SearchError::Unreachable,
        });
        cx.finish(op, FreenetOutcome::Search(SearchOutcome::Published(published)));
    }

    pub(super) fn on_search(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: SearchCommand<P>) {
        let outcome = match command {
            SearchCommand::Publish(item) => {
                let keyword = keyword(&words(&item.name));
                if item.check().is_err() || keyword.is_empty() {
                    SearchOutcome::Published(Err(SearchError::BadItem))
                } else {
                    match FreenetBlock::keyword(&keyword, Described(item).to_bytes()) {
                        Ok(block) => return self.insert(cx, op, block, true),
                        Err(_) => SearchOutcome::Published(Err(SearchError::BadItem)),
                    }
                }
            }
            SearchCommand::Unpublish(_) => SearchOutcome::Unpublished(false),
            SearchCommand::Search(query, scope) => match self.begin_search(cx, op, query, scope) {
                Ok(()) => return,
                Err(error) => SearchOutcome::Searched(Err(error)),
            },
            SearchCommand::Reach(hit) => {
                let own = hit.fetch == Fetch::Relay(self.me);
                SearchOutcome::Reached(if own { Ok(self.me) } else { Err(SearchError::BadHit) })
            }
        };
        cx.finish(op, FreenetOutcome::Search(outcome));
    }

    fn begin_search(
        &mut self,
        cx: &mut Cx<'_, Self>,
        op: OpId,
        query: Query,
        scope: Scope,
    ) -> Result<(), SearchError> {
        let htl = match scope.reach {
            Reach::Auto => self.config.htl,
            Reach::Ttl(ttl) => u16::from(ttl),
            Reach::Ring { .. } | Reach::Walk { .. } => return Err(SearchError::Unsupported),
        };
        let key = match (query.words(), query.hash()) {
            ([], None) => return Err(SearchError::BadQuery),
            ([], Some(ContentHash::Blake3(hash))) => Key::new(hash),
            ([], Some(ContentHash::Sha1(_))) => return Err(SearchError::Unsupported),
            (words, _) => FreenetBlock::keyword_key(&keyword(words)),
        };
        self.enter(op, key, Asks::Search(query)).map_err(|_| SearchError::Busy)?;
        if let Some(block) = self.store.get(&key).cloned() {
            self.user_found(cx, op, &block);
            return Ok(());
        }
        cx.set_timer(scope.deadline, FreenetTimer::Deadline(op));
        let htl = Self::veiled(cx, htl);
        self.begin(cx, op, What::Request, key, htl);
        Ok(())
    }

    /// The user's command is over.
    pub(super) fn forget_user(&mut self, cx: &mut Cx<'_, Self>, op: OpId) -> Option<User> {
        let user = self.users.remove(&op)?;
        self.end(cx, user.id);
        cx.clear_timer(FreenetTimer::Deadline(op));
        Some(user)
    }

    /// A request has come back without anything.
    pub(super) fn user_failed(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let alone = self.routes.len() == 0;
        let Some(user) = self.users.get_mut(&op) else { return };
        let key = user.key;
        match &mut user.asks {
            Asks::Retrieve => {
                let error = if alone { FreenetError::NotConnected } else { FreenetError::NotFound };
                cx.finish(op, FreenetOutcome::Retrieved(Err(error)));
            }
            Asks::Insert { htl, publishes, .. } => {
                if *htl > 1 && !alone {
                    *htl /= 2;
                    let htl = *htl;
                    return self.begin(cx, op, What::Insert, key, htl);
                }
                let error = if alone { FreenetError::NotConnected } else { FreenetError::Unreachable };
                Self::inserted(cx, op, *publishes, Err(error));
            }
            Asks::Search(_) if alone => Self::searched(cx, op, Err(SearchError::NotConnected)),
            Asks::Search(_) => {
                let searched = Searched { end: End::Exhausted, cost: user.cost };
                Self::searched(cx, op, Ok(searched));
            }
        }
        self.forget_user(cx, op);
    }

    fn searched(cx: &mut Cx<'_, Self>, op: OpId, searched: Result<Searched, SearchError>) {
        cx.finish(op, FreenetOutcome::Search(SearchOutcome::Searched(searched)));
    }

    pub(super) fn on_deadline(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        if let Some(user) = self.forget_user(cx, op) {
            Self::searched(cx, op, Ok(Searched { end: End::Deadline, cost: user.cost }));
        }
    }

    /// The block that a user's insert brings: nothing is there under its key.
    pub(super) fn user_inserts(&self, op: OpId) -> Option<FreenetBlock> {
        match &self.users.get(&op)?.asks {
            Asks::Insert { block, .. } => Some(block.clone()),
            Asks::Retrieve | Asks::Search(_) => None,
        }
    }

    /// It is kept by those on its way; or nobody has said so. Then it is not kept here either, so that whoever tries again
    /// inserts it again.
    pub(super) fn user_stored(&mut self, cx: &mut Cx<'_, Self>, op: OpId, stored: bool) {
        let Some(User { key, asks, .. }) = self.forget_user(cx, op) else { return };
        let Asks::Insert { block, publishes, .. } = asks else { return };
        let result = match stored {
            true => {
                self.store.insert(key, block);
                Ok(Inserted { key, existed: false })
            }
            false => Err(FreenetError::Unreachable),
        };
        Self::inserted(cx, op, publishes, result);
    }

    /// A request, or an insert, has found the block of its key.
    pub(super) fn user_found(&mut self, cx: &mut Cx<'_, Self>, op: OpId, found: &FreenetBlock) {
        let Some(User { key, asks, cost, .. }) = self.forget_user(cx, op) else { return };
        match asks {
            Asks::Retrieve => cx.finish(op, FreenetOutcome::Retrieved(Ok(found.data().clone()))),
            Asks::Insert { block, publishes, .. } => {
                let same = block.data() == found.data();
                let result =
                    if same { Ok(Inserted { key, existed: true }) } else { Err(FreenetError::Taken) };
                Self::inserted(cx, op, publishes, result);
            }
            Asks::Search(query) => {
                let item = Self::described(&query, found);
                let end = if item.is_some() { End::Enough } else { End::Exhausted };
                if let Some(item) = item {
                    let fetch = Fetch::Relay(self.me);
                    let reference = key.as_bytes().to_vec().into();
                    cx.item(op, SearchItem::Hit(Hit { item, fetch, reference }));
                }
                Self::searched(cx, op, Ok(Searched { end, cost }));
            }
        }
    }

    /// What a block says of an item that a query asks for.
    fn described(query: &Query, found: &FreenetBlock) -> Option<Item> {
        if query.words().is_empty() {
            let hash = query.hash()?;
            let mut name = hash.to_string();
            name.truncate(MAX_NAME);
            return Some(Item::new(name, found.data().len() as u64).hash(hash));
        }
        let Described(item) = Described::from_bytes(found.data()).ok()?;
        (item.check().is_ok() && item.matches(query)).then_some(item)
    }
}
