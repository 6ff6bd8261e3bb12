//! What nodes and the login server say to each other.

use bytes::Bytes;
use p2p_core::{Contact, Lane, PeerId, Wire, payload};
use serde::{Deserialize, Serialize};

use super::Certificate;
use super::login::{LoginError, LoginRequest};
use super::presence::Presence;
use super::ring::Ring;
use super::ticket::{RelayJoin, Ticket};

/// How many users and super-nodes one answer names at most.
pub(super) const MAX_NAMED: usize = 16;
/// Frames up to this length travel as datagrams.
const DATAGRAM: usize = 1000;
/// The longest frame, in bytes.
pub const MAX_FRAME: usize = 4096;

/// A message. Those who name super-nodes name 16 at most; more are not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SkypeMsg {
    /// To the login server: a user wants a name certified. Answered by one of the next two.
    Login(LoginRequest),
    /// The server certifies it.
    Certified(Certificate),
    /// The server does not, and says why.
    Refused(LoginError),

    /// A node wants to be next to a super-node: as its client, or as another super-node. Answered by one of the next
    /// two.
    Attach {
        /// Where it is.
        contact: Contact,
        /// Whether it is a super-node itself.
        super_node: bool,
    },
    /// The super-node has it, and names others.
    Welcome {
        /// How many clients more it has room for.
        room: u16,
        /// Other super-nodes.
        others: Vec<Contact>,
    },
    /// The sender has no room, is no super-node, retires, or does not know the other as a neighbour: it is to go to
    /// others.
    Away {
        /// Other super-nodes.
        others: Vec<Contact>,
    },
    /// Whether the other is there. Answered by [`SkypeMsg::Pong`], or by [`SkypeMsg::Away`] if it has forgotten.
    Ping,
    /// It is.
    Pong {
        /// How many clients more it has room for.
        room: u16,
        /// Other super-nodes.
        others: Vec<Contact>,
    },

    /// A client says to its super-node where it is. Not answered.
    Register(Box<Presence>),
    /// To a super-node: who has all words of this text in the name and the profile? Answered by [`SkypeMsg::Found`].
    Find {
        /// Of the search.
        id: u64,
        /// The words.
        text: String,
    },
    /// What a super-node knows of it, and whom else to ask.
    Found {
        /// Of the search.
        id: u64,
        /// Its clients that match.
        users: Vec<Presence>,
        /// The super-nodes it is next to.
        others: Vec<Contact>,
    },
    /// To a super-node that has a certain user: tell the sender what becomes of that user, for a while. Answered by
    /// [`SkypeMsg::Told`] now and whenever something changes.
    Watch {
        /// The user's name.
        name: String,
    },
    /// What a super-node knows of a user.
    Told {
        /// The user's name.
        name: String,
        /// The latest; nothing if the super-node does not have that user.
        presence: Option<Box<Presence>>,
    },

    /// To a super-node: pass this on to your client of that name.
    Forward {
        /// The client's user.
        to: String,
        /// The call.
        ring: Box<Ring>,
    },
    /// Somebody calls. Answered by [`SkypeMsg::Accept`] to the caller, or by coming to the relay.
    Ring(Box<Ring>),
    /// To a caller: the other is there.
    Accept {
        /// Of the call.
        call: u64,
        /// Whether it has connected to the caller.
        reversed: bool,
    },
    /// To whom was called: the call is made.
    Confirm {
        /// Of the call.
        call: u64,
    },

    /// To a super-node: a ticket for a call between these two, please. Answered by [`SkypeMsg::Leased`].
    Lease {
        /// Of the call.
        call: u64,
        /// Between whose keys.
        ends: [PeerId; 2],
    },
    /// A super-node's ticket; none if it relays as much as it can.
    Leased {
        /// Of the call.
        call: u64,
        /// The ticket.
        ticket: Option<Ticket>,
    },
    /// One of the two comes to the relay. Answered by [`SkypeMsg::Joined`] to both, when both have come.
    Join(Box<RelayJoin>),
    /// Both are there.
    Joined {
        /// Of the ticket.
        ticket: u64,
    },
    /// For the other end, which the relay passes on if the ticket allows it.
    Frame {
        /// Of the ticket.
        ticket: u64,
        /// At most [`MAX_FRAME`] bytes.
        #[serde(with = "payload")]
        bytes: Bytes,
    },
    /// The relayed call is over.
    Part {
        /// Of the ticket.
        ticket: u64,
    },
}

impl Wire for SkypeMsg {
    const MAX_BYTES: usize = 16 << 10;

    /// Frames may be lost; but those that might not fit a packet on the way go with the rest.
    fn lane(&self) -> Lane {
        match self {
            SkypeMsg::Frame { bytes, .. } if bytes.len() <= DATAGRAM => Lane::Datagram,
            _ => Lane::Ordered,
        }
    }
}
