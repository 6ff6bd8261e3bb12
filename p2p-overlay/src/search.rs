//! Search by content: items are found by what they are called or made of, not by a key.
//!
//! [`Search`] is what an application sees, whatever network is below: an index server, a flood, super-nodes, walkers or
//! a route by keys. A node takes part from the moment it is made, as in the structured overlays. All of them keep to
//! this:
//!
//! - an item that is published is found while its node is there, by whom a search reaches: no network of this kind
//!   promises that a search reaches everybody;
//! - hits come as they are found, none from the same source twice, no more than were asked for; a search ends at its
//!   deadline at the latest, and is given up when its [`Hits`] are dropped;
//! - what a hit says is what its source, or whoever stands between, says. Only the content itself, checked against a
//!   hash, proves anything.
//!
//! In this order: what is asked ([`Query`], [`Scope`]), what comes ([`Hit`], [`Searched`] with its [`Cost`]), what goes
//! wrong ([`SearchError`]), and the trait. `item` has what is shared, `library` what one node shares,
//! `machine` what a machine needs to be searched through.

#[cfg(test)]
pub(crate) mod attacks;
mod item;
mod library;
mod machine;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt};
use p2p_core::{AskError, MAX_WAITING};

pub use item::{ContentHash, Item, MAX_HASHES, MAX_METADATA, MAX_NAME, ParseHashError, Query, words};
pub use library::Library;
pub use machine::{SearchCommand, SearchOutcome, Searcher};

/// How many hits one search gives at most; [`Scope::hits`] above it counts as this.
pub const MAX_HITS: u32 = MAX_WAITING as u32 - 1;

/// How far and how long to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The search ends when so many hits have come; at most [`MAX_HITS`]. 50.
    pub hits: u32,
    /// It ends after this in any case. 20 s.
    pub deadline: Duration,
    /// Who is asked. As the network thinks best.
    pub reach: Reach,
}

impl Default for Scope {
    fn default() -> Scope {
        Scope { hits: 50, deadline: Duration::from_secs(20), reach: Reach::Auto }
    }
}

/// Who is asked. The names are those of Lv, Cao, Cohen, Li and Shenker, *Search and Replication in Unstructured
/// Peer-to-Peer Networks* (ICS 2002).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// As the network thinks best.
    Auto,
    /// Everybody within so many hops; where nodes route by keys, nobody beyond as many.
    Ttl(u8),
    /// Everybody within `first` hops, then `step` more, and so on until enough is found or `last` is reached.
    Ring {
        /// The first radius.
        first: u8,
        /// How much wider each is than the one before.
        step: u8,
        /// The widest.
        last: u8,
    },
    /// So many walkers, who go to one neighbour after the other and ask back now and then whether to go on.
    Walk {
        /// How many.
        walkers: u16,
        /// They ask back after so many steps.
        check_every: u16,
        /// How many steps each takes at most.
        steps: u32,
    },
}

/// How a hit is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch<P> {
    /// Connect to the source, which is there.
    Direct(P),
    /// The source accepts no connections: [`Search::reach`] has it connect to this node.
    Push,
    /// The hit does not say where the source is: [`Search::reach`] asks who keeps the index.
    Ask,
    /// Nobody connects to the source: this peer passes on what it sends.
    Relay(P),
}

/// Somebody has an item that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit<P> {
    /// The item, as its source describes it.
    pub item: Item,
    /// How to get it from there.
    pub fetch: Fetch<P>,
    /// Who the source is and what it knows the item by. For the network that has found it: give the hit back as it
    /// came.
    pub reference: Bytes,
}

/// What a search has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Messages, questions and answers alike.
    pub messages: u64,
    /// Their bytes, in the network's own encoding; what the transport adds is not counted.
    pub bytes: u64,
    /// Peers that were asked.
    pub peers: u64,
    /// Messages that told their receiver nothing new: questions asked before, hits that have come already.
    pub duplicates: u64,
    /// Whether that is all. If not, others have passed the search on in ways that nobody tells: these are the messages
    /// that this node itself has sent and received, and the peers it knows of. The true cost is higher.
    pub whole: bool,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Searched {
    /// Why.
    pub end: End,
    /// What it has cost.
    pub cost: Cost,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As many hits have come as were wanted.
    Enough,
    /// Everybody within reach has been asked and has answered.
    Exhausted,
    /// The time was up; who has not answered by then may have something.
    Deadline,
}

/// Why something was not published, searched or reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// A query has to have a word or a hash, and be no longer than the network carries.
    #[error("the query is empty or too long: ask for a few words, or a hash")]
    BadQuery,
    /// An item has a name of at most [`MAX_NAME`] bytes without control characters, and few hashes and metadata.
    #[error(
        "the item cannot be shared: its name is empty or too long, or it has too many hashes or metadata"
    )]
    BadItem,
    /// This node shares as much as it is configured to.
    #[error("{max} items are shared already: unpublish some, or raise the configured bound")]
    TooManyItems {
        /// The bound.
        max: usize,
    },
    /// This network does not search in this way, or not by what was asked for.
    #[error("this network does not search in this way: choose another reach, or Reach::Auto")]
    Unsupported,
    /// The hit comes from another network, or was changed.
    #[error("not a hit of this network: give it back as it came")]
    BadHit,
    /// Too many searches of this node are under way.
    #[error("too many searches at once: wait for some to end")]
    Busy,
    /// The hits came faster than they were read; the rest is lost.
    #[error("hits came faster than they were read: the search has ended")]
    Lagged,
    /// Nobody is connected to this node.
    #[error("this node has no neighbours: it knows nobody who is there")]
    NotConnected,
    /// The source did not connect in time, or the way to it is gone. It may be gone itself.
    #[error("the source cannot be reached: try another")]
    Unreachable,
    /// The source does not keep to the protocol, or does not offer what it has said.
    #[error("the source misbehaves: try another")]
    Misbehaved,
    /// No answer from the protocol itself.
    #[error(transparent)]
    Ask(AskError),
}

/// Whose fault something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller's: the same call fails again.
    Caller,
    /// A peer's: ask another.
    Peer,
    /// The world's, or this node's state: it may succeed later.
    World,
}

impl SearchError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            SearchError::BadQuery
            | SearchError::BadItem
            | SearchError::TooManyItems { .. }
            | SearchError::Unsupported
            | SearchError::BadHit
            | SearchError::Lagged
            | SearchError::Ask(AskError::Lagged | AskError::Mismatch) => Blame::Caller,
            SearchError::Misbehaved => Blame::Peer,
            SearchError::Busy
            | SearchError::NotConnected
            | SearchError::Unreachable
            | SearchError::Ask(AskError::Busy | AskError::Stopped) => Blame::World,
        }
    }
}

impl From<AskError> for SearchError {
    fn from(error: AskError) -> SearchError {
        match error {
            AskError::Lagged => SearchError::Lagged,
            AskError::Busy | AskError::Stopped | AskError::Mismatch => SearchError::Ask(error),
        }
    }
}

/// Finds items by what they are called or made of. Take an `Arc<dyn Search<Contact>>`.
#[async_trait]
pub trait Search<P>: Send + Sync {
    /// Shares an item from now on, in the place of one of the same name.
    ///
    /// # Errors
    /// [`SearchError::BadItem`] or [`SearchError::TooManyItems`].
    async fn publish(&self, item: Item) -> Result<(), SearchError>;

    /// Shares the item of this name no longer; says whether there was one.
    ///
    /// # Errors
    /// [`SearchError::Ask`].
    async fn unpublish(&self, name: &str) -> Result<bool, SearchError>;

    /// Searches. Read the hits as they come, then await what it has cost, or do so at once; to drop them is to cancel.
    fn search(&self, query: Query, scope: Scope) -> Hits<P>;

    /// Brings about that a hit can be fetched, and says whom to ask for it: the source itself, the connection that it
    /// has made, or the relay.
    ///
    /// # Errors
    /// [`SearchError::Unreachable`], [`SearchError::BadHit`].
    async fn reach(&self, hit: &Hit<P>) -> Result<P, SearchError>;
}

/// The hits of a search as they come, as a stream, and how it ended, as a future. Dropping it cancels the search.
#[must_use = "dropping Hits cancels the search"]
pub struct Hits<P> {
    found: BoxStream<'static, SearchItem<P>>,
    end: Option<Result<Searched, SearchError>>,
}

/// What comes of a search: for those who implement [`Search`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchItem<P> {
    /// A hit.
    Hit(Hit<P>),
    /// The last.
    End(Result<Searched, SearchError>),
}

impl<P> Hits<P> {
    /// For those who implement [`Search`]: `found` ends with [`SearchItem::End`], and dropping it cancels the search.
    pub fn new(found: impl Stream<Item = SearchItem<P>> + Send + 'static) -> Hits<P> {
        Hits { found: found.boxed(), end: None }
    }
}

impl<P> Stream for Hits<P> {
    type Item = Hit<P>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Hit<P>>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        match ready!(self.found.as_mut().poll_next(cx)) {
            Some(SearchItem::Hit(hit)) => Poll::Ready(Some(hit)),
            Some(SearchItem::End(end)) => {
                self.end = Some(end);
                Poll::Ready(None)
            }
            None => {
                self.end = Some(Err(SearchError::Ask(AskError::Stopped)));
                Poll::Ready(None)
            }
        }
    }
}

impl<P> Future for Hits<P> {
    type Output = Result<Searched, SearchError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        while ready!(self.as_mut().poll_next(cx)).is_some() {}
        Poll::Ready(self.end.unwrap_or(Err(SearchError::Ask(AskError::Stopped))))
    }
}

impl<P> fmt::Debug for Hits<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hits").field("end", &self.end).finish_non_exhaustive()
    }
}
