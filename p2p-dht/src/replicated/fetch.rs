//! Gets of what many want: a value is cached along the way to its key.
//!
//! Everybody who asks for a popular value comes to the same few nodes, unless those before them can answer. So a get of a value
//! under its hash goes first from node to node towards its key, as a recursive lookup does, and the first that has the value, or
//! has it cached, gives it; it comes back the same way, and each node on it caches it (Kademlia §2.3 caches at the last node
//! before; PAST, Rowstron & Druschel SOSP 2001, §4, at all). How long, shrinks with the distance, by half with every hop: the
//! further away a node, the more there are of its like, and the less each is asked. A cached copy is passed on for half of
//! the time that is left to it, so that copies of copies end before what they were made of.
//!
//! A way that leads nowhere, because somebody on it is dead or lies, says nothing: then those who keep the key are looked up as
//! ever. Whatever comes is checked by its hash before it is returned, cached or passed on.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Cx, Key, NoJob, OpId};
use p2p_overlay::{Next, Overlay};
use serde::{Deserialize, Serialize};

use super::cache::{Cache, Cached};
use super::{DhtMsg, JobFor, Question, Replicated, Wanted};
use crate::record::{MAX_VALUE, Record};
use crate::request::Said;
use crate::store::StoreJob;

/// How long a value is cached by whoever gets it from one of its keepers.
const LONGEST: Duration = Duration::from_secs(600);
/// How many hops a question goes at most.
const HOPS: u8 = 32;

/// A value on its way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// The value.
    #[serde(with = "p2p_core::payload")]
    pub value: Bytes,
    /// When the record ends, in seconds since the Unix epoch.
    pub expires: u64,
    /// For how many seconds whoever gets it may cache it.
    pub cache_s: u32,
}

/// What passes through a node for others.
#[derive(Clone, Debug)]
pub(super) struct Passing<P> {
    pub(super) cache: Cache,
    /// How many questions of each peer are on their way, and of all: at most an eighth of
    /// [`DhtConfig::capacity`](super::DhtConfig), and so many.
    of: BTreeMap<P, usize>,
    all: usize,
}

impl<P: Ord> Passing<P> {
    pub(super) fn new(room: u64) -> Passing<P> {
        Passing { cache: Cache::new(room), of: BTreeMap::new(), all: 0 }
    }

    /// Whether one more question of a peer may be passed on; then it is.
    fn begin(&mut self, peer: P, capacity: usize) -> bool {
        let of_peer = self.of.get(&peer).copied().unwrap_or(0);
        let may = of_peer < capacity.div_ceil(8) && self.all < capacity;
        if may {
            self.of.insert(peer, of_peer + 1);
            self.all += 1;
        }
        may
    }

    fn end(&mut self, peer: P) {
        if let Some(of_peer) = self.of.get_mut(&peer) {
            *of_peer -= 1;
            self.all -= 1;
            if *of_peer == 0 {
                self.of.remove(&peer);
            }
        }
    }
}

impl<O: Overlay<Job = NoJob>> Replicated<O> {
    // ---- asking

    /// Asks along the way for what a get wants; says whether it is worth waiting for.
    pub(super) fn fetch(&mut self, cx: &mut Cx<'_, Self>, op: OpId, key: Key) -> bool {
        if !self.passing.cache.is_on() {
            return false;
        }
        let Some(next) = self.toward(&key) else { return false };
        self.note_asked(op, next);
        self.ask(cx, next, Question::Fetch(op), |id| DhtMsg::Fetch { id, key, hops: HOPS })
    }

    /// The next node on the way to where a key's copies are.
    fn toward(&self, key: &Key) -> Option<O::Peer> {
        let salted = self.keys(key);
        let key = salted.as_ref().and_then(|keys| keys.first()).unwrap_or(key);
        match self.overlay.next(key, &[]) {
            Next::Root(peer) | Next::Toward(peer) => Some(peer),
            Next::Mine | Next::Nowhere | Next::Later => None,
        }
    }

    /// What came of a question that this node asked, for itself or for another.
    pub(super) fn on_fetched(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: O::Peer,
        question: Question<O::Peer>,
        found: Option<Fetched>,
    ) {
        match question {
            Question::Fetch(op) => {
                let Some(key) = self.fetching(op) else { return };
                let found = self.take_in(cx, &key, found);
                self.note_said(op, from, if found.is_some() { Said::Has } else { Said::Lacks });
                self.fetch_ended(cx, op, found.map(|found| found.value));
            }
            Question::Pass { to, id, key } => {
                let found = self.take_in(cx, &key, found);
                self.pass_back(cx, to, id, found);
            }
            // An answer to something else is none.
            other => self.on_silence(cx, from, other),
        }
    }

    /// Caches what has come, if it is what was asked for; says what of it may be passed on.
    fn take_in(&mut self, cx: &Cx<'_, Self>, key: &Key, found: Option<Fetched>) -> Option<Fetched> {
        let Fetched { value, expires, cache_s } = found?;
        let is_it = value.len() <= MAX_VALUE && Key::of(&value) == *key && expires > cx.wall().as_secs();
        if !is_it {
            return None;
        }
        let lasts = Duration::from_secs(cache_s.into()).min(LONGEST);
        self.passing.cache.put(*key, value.clone(), expires, cx.now() + lasts);
        Some(Fetched { value, expires, cache_s: lasts.as_secs() as u32 / 2 })
    }

    // ---- answering, and passing on

    /// Somebody wants a value: for himself, or for whoever has asked him.
    pub(super) fn on_fetch(&mut self, cx: &mut Cx<'_, Self>, from: O::Peer, id: u32, key: Key, hops: u8) {
        let (now, wall) = (cx.now(), cx.wall().as_secs());
        if let Some(Cached { value, expires, until, .. }) = self.passing.cache.get(&key, now, wall) {
            let (value, expires) = (value.clone(), *expires);
            let cache_s = (*until - now).as_secs() as u32 / 2;
            return self.tell(
                cx,
                from,
                DhtMsg::Fetched { id, found: Some(Fetched { value, expires, cache_s }) },
            );
        }
        let slots = self.index.of(key, Wanted::Immutable, 1);
        if !slots.is_empty() && self.is_busy_for(from) {
            return self.tell(cx, from, DhtMsg::Fetched { id, found: None });
        }
        if !slots.is_empty() {
            return self.start(cx, StoreJob::Read(slots), JobFor::Fetch { from, id });
        }
        let next = self.toward(&key).filter(|next| *next != from && self.passing.cache.is_on());
        let Some(next) = next.filter(|_| hops > 1 && self.passing.begin(from, self.config.capacity)) else {
            return self.tell(cx, from, DhtMsg::Fetched { id, found: None });
        };
        let fetch = |id| DhtMsg::Fetch { id, key, hops: hops.min(HOPS) - 1 };
        if !self.ask(cx, next, Question::Pass { to: from, id, key }, fetch) {
            self.pass_back(cx, from, id, None);
        }
    }

    /// A question that was passed on is over.
    pub(super) fn pass_back(&mut self, cx: &mut Cx<'_, Self>, to: O::Peer, id: u32, found: Option<Fetched>) {
        self.passing.end(to);
        self.tell(cx, to, DhtMsg::Fetched { id, found });
    }

    /// What this node keeps, and was asked for on the way, has been read.
    pub(super) fn give_fetched(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: O::Peer,
        id: u32,
        records: Vec<Record<O::Peer>>,
    ) {
        let wall = cx.wall().as_secs();
        let found = records.into_iter().find_map(|record| match record {
            Record::Immutable { value, expires } if expires > wall => {
                Some(Fetched { value, expires, cache_s: LONGEST.as_secs() as u32 })
            }
            _ => None,
        });
        self.tell(cx, from, DhtMsg::Fetched { id, found });
    }
}
