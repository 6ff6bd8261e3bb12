//! What a user asks of the servent beside [`SearchCommand`]s, and what comes back.

use p2p_core::{Contact, Request};

use super::{Gnutella, Place};
use crate::search::{Found, SearchCommand, SearchOutcome, Searcher};

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

/// Says where others reach this servent, as soon as that is known; `None` if they do not. Over TCP:
/// `Listen(running.local_addr().map(of_address))`.
#[derive(Clone, Copy, Debug)]
pub struct Listen(pub Option<Contact>);

impl<P: Place> Request<Gnutella<P>> for Listen {
    type Item = Found<P>;
    type Reply = ();

    fn command(self) -> GnutellaCommand<P> {
        GnutellaCommand::Listen(self.0)
    }
    fn item(_: Found<P>) -> Option<Found<P>> {
        None
    }
    fn reply(outcome: GnutellaOutcome<P>) -> Option<()> {
        matches!(outcome, GnutellaOutcome::Listens).then_some(())
    }
}
