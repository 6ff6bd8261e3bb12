//! What a user asks beside [`SearchCommand`]s, and what comes back.

use bytes::Bytes;
use p2p_core::{Key, Keyed, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Freenet, FreenetBlock};
use crate::search::{Blame, SearchCommand, SearchItem, SearchOutcome, Searcher};

/// A command to [`Freenet`].
#[derive(Clone, Debug)]
pub enum FreenetCommand<P> {
    /// As to any other.
    Search(SearchCommand<P>),
    /// See [`Insert`].
    Insert(FreenetBlock),
    /// See [`Retrieve`].
    Retrieve(Retrieve),
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FreenetOutcome<P> {
    /// Of [`FreenetCommand::Search`].
    Search(SearchOutcome<P>),
    /// Of [`FreenetCommand::Insert`].
    Inserted(Result<Inserted, FreenetError>),
    /// Of [`FreenetCommand::Retrieve`].
    Retrieved(Result<Bytes, FreenetError>),
}

/// Inserts a block (§3.3), at as many nodes as [`FreenetConfig::htl`](super::FreenetConfig::htl) says if there are so
/// many; if not, at half as many, and so on.
#[derive(Clone, Debug)]
pub struct Insert(pub FreenetBlock);

/// A block is in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// Its key.
    pub key: Key,
    /// Whether it was there before.
    pub existed: bool,
}

/// Retrieves the data of a key (§3.2).
#[derive(Clone, Copy, Debug)]
pub struct Retrieve {
    /// The key.
    pub key: Key,
    /// How many nodes are asked at most; [`FreenetConfig::htl`](super::FreenetConfig::htl) if it does not say.
    pub htl: Option<u16>,
}

/// Why a block was not inserted or retrieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FreenetError {
    /// Nobody who was asked has it. That others do is possible: this network promises no more.
    #[error("not found within the hops to live: insert it again, or ask for more hops")]
    NotFound,
    /// Longer than [`MAX_BLOCK`](super::MAX_BLOCK).
    #[error("the data is longer than {} bytes: split it", super::MAX_BLOCK)]
    TooLong,
    /// Other data is there under this keyword.
    #[error("other data is there under this keyword: choose another")]
    Taken,
    /// Too many commands of this node are under way.
    #[error("too many commands at once: wait for some to end")]
    Busy,
    /// This node knows nobody.
    #[error("this node knows nobody: it has found nobody to ask")]
    NotConnected,
    /// Those it knows do not answer, or accept nothing.
    #[error("nobody accepts the block: try again later")]
    Unreachable,
}

impl FreenetError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            FreenetError::TooLong | FreenetError::Taken => Blame::Caller,
            FreenetError::NotFound
            | FreenetError::Busy
            | FreenetError::NotConnected
            | FreenetError::Unreachable => Blame::World,
        }
    }
}

impl<P: Keyed + Serialize + DeserializeOwned> Searcher for Freenet<P> {
    fn command(command: SearchCommand<P>) -> FreenetCommand<P> {
        FreenetCommand::Search(command)
    }
    fn outcome(outcome: FreenetOutcome<P>) -> Option<SearchOutcome<P>> {
        match outcome {
            FreenetOutcome::Search(outcome) => Some(outcome),
            FreenetOutcome::Inserted(_) | FreenetOutcome::Retrieved(_) => None,
        }
    }
}

impl<P: Keyed + Serialize + DeserializeOwned> Request<Freenet<P>> for Insert {
    type Item = SearchItem<P>;
    type Reply = Result<Inserted, FreenetError>;

    fn command(self) -> FreenetCommand<P> {
        FreenetCommand::Insert(self.0)
    }
    fn item(_: SearchItem<P>) -> Option<SearchItem<P>> {
        None
    }
    fn reply(outcome: FreenetOutcome<P>) -> Option<Self::Reply> {
        match outcome {
            FreenetOutcome::Inserted(inserted) => Some(inserted),
            FreenetOutcome::Search(_) | FreenetOutcome::Retrieved(_) => None,
        }
    }
}

impl<P: Keyed + Serialize + DeserializeOwned> Request<Freenet<P>> for Retrieve {
    type Item = SearchItem<P>;
    type Reply = Result<Bytes, FreenetError>;

    fn command(self) -> FreenetCommand<P> {
        FreenetCommand::Retrieve(self)
    }
    fn item(_: SearchItem<P>) -> Option<SearchItem<P>> {
        None
    }
    fn reply(outcome: FreenetOutcome<P>) -> Option<Self::Reply> {
        match outcome {
            FreenetOutcome::Retrieved(retrieved) => Some(retrieved),
            FreenetOutcome::Search(_) | FreenetOutcome::Inserted(_) => None,
        }
    }
}
