//! What a user asks of the servent beside [`SearchCommand`]s, and what comes back.

use p2p_core::{Contact, Request};

use super::Gnutella;
use super::passing::{wanted, wanted_of};
use crate::place::Place;
use crate::search::{Hit, Item, SearchCommand, SearchItem, SearchOutcome, Searcher};
use crate::sharing::{Sharer, Wanted};

/// A command to [`Gnutella`].
#[derive(Clone, Debug)]
pub enum GnutellaCommand<P> {
    /// As to any other.
    Search(SearchCommand<P>),
    /// See [`Listen`].
    Listen(Option<Contact>),
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GnutellaOutcome<P> {
    /// Of [`GnutellaCommand::Search`].
    Search(SearchOutcome<P>),
    /// Of [`GnutellaCommand::Listen`].
    Listens,
}

impl<P: Place> Searcher for Gnutella<P> {
    fn command(command: SearchCommand<P>) -> GnutellaCommand<P> {
        GnutellaCommand::Search(command)
    }
    fn outcome(outcome: GnutellaOutcome<P>) -> Option<SearchOutcome<P>> {
        match outcome {
            GnutellaOutcome::Search(outcome) => Some(outcome),
            GnutellaOutcome::Listens => None,
        }
    }
}

impl<P: Place> Sharer for Gnutella<P> {
    fn wanted(hit: &Hit<P>) -> Option<Wanted> {
        wanted(hit)
    }
    fn shared(&self, wanted: &Wanted) -> Option<&Item> {
        wanted_of(&self.library, wanted)
    }
}

/// Says where others reach this servent, as soon as that is known; `None` if they do not. Over TCP:
/// `Listen(running.local_addr().map(of_address))`.
#[derive(Clone, Copy, Debug)]
pub struct Listen(pub Option<Contact>);

impl<P: Place> Request<Gnutella<P>> for Listen {
    type Item = SearchItem<P>;
    type Reply = ();

    fn command(self) -> GnutellaCommand<P> {
        GnutellaCommand::Listen(self.0)
    }
    fn item(_: SearchItem<P>) -> Option<SearchItem<P>> {
        None
    }
    fn reply(outcome: GnutellaOutcome<P>) -> Option<()> {
        matches!(outcome, GnutellaOutcome::Listens).then_some(())
    }
}
