//! What a node's user asks beside [`SearchCommand`]s, and what comes back.

use bytes::Bytes;
use p2p_core::{Contact, PeerId, Request};

use super::login::LoginError;
use super::{Certificate, Skype};
use crate::place::Place;
use crate::promotion::Role;
use crate::search::{Blame, SearchCommand, SearchItem, SearchOutcome, Searcher};

/// A command to a node.
#[derive(Clone, Debug)]
pub enum SkypeCommand<P> {
    /// As to any other.
    Search(SearchCommand<P>),
    /// See [`LoggedIn`].
    LoggedIn,
    /// See [`Buddy`].
    Buddy(Buddy),
    /// See [`Call`].
    Call(Call),
    /// See [`SendFrame`].
    Frame(SendFrame),
    /// See [`HangUp`].
    HangUp(HangUp),
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkypeOutcome<P> {
    /// Of [`SkypeCommand::Search`].
    Search(SearchOutcome<P>),
    /// Of [`SkypeCommand::LoggedIn`].
    LoggedIn(Result<Certificate, LoginError>),
    /// Of [`SkypeCommand::Call`].
    Called(Result<Called, CallError>),
    /// Of all others: done, or why not.
    Done(Result<(), CallError>),
}

/// What a node says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SkypeEvent<P> {
    /// The login server has certified its name.
    LoggedIn(Certificate),
    /// The login server does not certify it.
    Refused(LoginError),
    /// It is next to this super-node.
    Up(P),
    /// Or no longer.
    Down(P),
    /// It has another role from now on.
    Role(Role),
    /// A buddy has come or gone.
    Presence {
        /// Who.
        name: String,
        /// Whether the buddy is there.
        online: bool,
    },
    /// Somebody has called: the call is made.
    Call(Called),
    /// A frame has come through a relay.
    Frame {
        /// Of the ticket.
        ticket: u64,
        /// What the other end has sent, or so the relay says.
        bytes: Bytes,
    },
}

/// Waits until the login server has certified the node's name, and says how, or why it does not. A server that is not
/// there, or has too much to do, is asked again and again.
#[derive(Clone, Copy, Debug)]
pub struct LoggedIn;

/// Puts a user on the buddy list, or takes them off it: [`SkypeEvent::Presence`] tells when they come and go.
#[derive(Clone, Debug)]
pub struct Buddy {
    /// Whom.
    pub name: String,
    /// Whether to be told.
    pub on: bool,
}

/// Calls a user.
#[derive(Clone, Debug)]
pub struct Call {
    /// Whom.
    pub name: String,
}

/// A call that is made. What is said is for the two: over a connection on which [`contact`](Called::contact) has proved
/// its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// The number of the call.
    pub id: u64,
    /// The other user, and
    pub name: String,
    /// the key that is certified for that name, which has signed that the user is at
    pub key: PeerId,
    /// this node.
    pub contact: Contact,
    /// The way that has worked.
    pub way: Way,
}

/// The way a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The caller has connected to the other.
    Direct,
    /// The other has connected to the caller.
    Reversed,
    /// Through a super-node: by [`SendFrame`] and [`SkypeEvent::Frame`], and whatever encrypts what is in them.
    Relayed {
        /// Of the ticket.
        ticket: u64,
    },
}

/// Sends a frame to the other end of a relayed call. It may be lost.
#[derive(Clone, Debug)]
pub struct SendFrame {
    /// Of the ticket.
    pub ticket: u64,
    /// At most [`MAX_FRAME`](super::MAX_FRAME) bytes. The relay can read them: encrypt what is in them.
    pub bytes: Bytes,
}

/// Ends a relayed call.
#[derive(Clone, Copy, Debug)]
pub struct HangUp {
    /// Of the ticket.
    pub ticket: u64,
}

/// Why a call was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nobody of this name is there, as far as the super-nodes know.
    #[error("nobody of this name is there")]
    NotFound,
    /// Neither directly, nor reversed, nor through a super-node.
    #[error("the user was found and is not reached: neither directly nor reversed nor through a super-node")]
    Unreachable,
    /// This node is not logged in yet.
    #[error("not logged in yet: only who has a certified name calls")]
    NotLoggedIn,
    /// Too many calls, buddies or relayed calls.
    #[error("too many at once: end some of them")]
    Busy,
    /// There is no such call, or the frame is too long.
    #[error("no such call, or a frame that is too long")]
    BadFrame,
    /// A login server does nothing but certify names.
    #[error("a login server does not call")]
    Unsupported,
}

impl CallError {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            CallError::BadFrame | CallError::Unsupported => Blame::Caller,
            CallError::NotFound | CallError::Unreachable | CallError::NotLoggedIn | CallError::Busy => {
                Blame::World
            }
        }
    }
}

impl<P: Place> Searcher for Skype<P> {
    fn command(command: SearchCommand<P>) -> SkypeCommand<P> {
        SkypeCommand::Search(command)
    }
    fn outcome(outcome: SkypeOutcome<P>) -> Option<SearchOutcome<P>> {
        match outcome {
            SkypeOutcome::Search(outcome) => Some(outcome),
            SkypeOutcome::LoggedIn(_) | SkypeOutcome::Called(_) | SkypeOutcome::Done(_) => None,
        }
    }
}

impl<P: Place> Request<Skype<P>> for LoggedIn {
    type Item = SearchItem<P>;
    type Reply = Result<Certificate, LoginError>;

    fn command(self) -> SkypeCommand<P> {
        SkypeCommand::LoggedIn
    }
    fn item(_: SearchItem<P>) -> Option<SearchItem<P>> {
        None
    }
    fn reply(outcome: SkypeOutcome<P>) -> Option<Self::Reply> {
        match outcome {
            SkypeOutcome::LoggedIn(certified) => Some(certified),
            SkypeOutcome::Search(_) | SkypeOutcome::Called(_) | SkypeOutcome::Done(_) => None,
        }
    }
}

impl<P: Place> Request<Skype<P>> for Call {
    type Item = SearchItem<P>;
    type Reply = Result<Called, CallError>;

    fn command(self) -> SkypeCommand<P> {
        SkypeCommand::Call(self)
    }
    fn item(_: SearchItem<P>) -> Option<SearchItem<P>> {
        None
    }
    fn reply(outcome: SkypeOutcome<P>) -> Option<Self::Reply> {
        match outcome {
            SkypeOutcome::Called(called) => Some(called),
            SkypeOutcome::Search(_) | SkypeOutcome::LoggedIn(_) | SkypeOutcome::Done(_) => None,
        }
    }
}

/// All that the others have in common.
macro_rules! request {
    ($request:ident, $command:ident) => {
        impl<P: Place> Request<Skype<P>> for $request {
            type Item = SearchItem<P>;
            type Reply = Result<(), CallError>;

            fn command(self) -> SkypeCommand<P> {
                SkypeCommand::$command(self)
            }
            fn item(_: SearchItem<P>) -> Option<SearchItem<P>> {
                None
            }
            fn reply(outcome: SkypeOutcome<P>) -> Option<Self::Reply> {
                match outcome {
                    SkypeOutcome::Done(done) => Some(done),
                    SkypeOutcome::Search(_) | SkypeOutcome::LoggedIn(_) | SkypeOutcome::Called(_) => None,
                }
            }
        }
    };
}

request!(Buddy, Buddy);
request!(SendFrame, Frame);
request!(HangUp, HangUp);
