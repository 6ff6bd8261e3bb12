//! What a node keeps of one topic's tree: who is above, who is below, who listens here, what has been seen.

use std::collections::{BTreeMap, VecDeque};

use p2p_core::{OpId, Peer, Time};
use serde::{Deserialize, Serialize};

/// The nodes above a node, as a node tells its children: the root first, itself last. Whoever finds itself in it is in
/// a circle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path<P> {
    /// Whether the first of them is the root; otherwise it looks for a parent.
    pub(super) rooted: bool,
    /// At most [`MAX_PATH`].
    pub(super) peers: Vec<P>,
}

/// The most nodes from the root down. A child that would be further down is not taken, and a longer path is not
/// believed.
pub(super) const MAX_PATH: usize = 64;

/// A node's part of the tree of one topic. It goes away when it has neither members nor children.
#[derive(Clone, Debug)]
pub(super) struct Tree<P> {
    pub(super) place: Place<P>,
    /// At most [`ScribeConfig::max_children`](super::ScribeConfig).
    pub(super) children: BTreeMap<P, Child>,
    /// The commands of this node's users.
    pub(super) members: BTreeMap<OpId, Member>,
    pub(super) seen: Seen<P>,
    /// When the children last heard of this node.
    pub(super) told: Time,
}

/// Where a node stands in a tree.
#[derive(Clone, Debug)]
pub(super) enum Place<P> {
    /// At the root.
    Root,
    /// Below somebody.
    Under(Parent<P>),
    /// Nowhere yet, or no more: it looks for a parent.
    Seeking(Seek<P>),
}

#[derive(Clone, Debug)]
pub(super) struct Parent<P> {
    pub(super) peer: P,
    pub(super) path: Path<P>,
    /// When it was last heard of.
    pub(super) heard: Time,
    /// When it was last told that this node is still there.
    pub(super) refreshed: Time,
}

/// Looking for a parent.
#[derive(Clone, Debug)]
pub(super) struct Seek<P> {
    /// Random, so that nobody who has not seen the question can answer it.
    pub(super) ticket: u64,
    pub(super) tries: u32,
    /// Whom the last question went to.
    pub(super) via: Option<P>,
    /// Who did not answer; the latest last.
    pub(super) avoid: Vec<P>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    /// When it last said that it is there.
    pub(super) refreshed: Time,
    /// Whether it has spoken for itself; otherwise somebody named it.
    pub(super) proved: bool,
}

/// What a user of this node is in a topic for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Member {
    /// To receive its messages; whether it has been told that it does from now on.
    Subscriber { joined: bool },
    /// To take so many more anycasts.
    Offer { left: u32 },
}

impl<P: Peer> Tree<P> {
    pub(super) fn new(window: usize, ticket: u64) -> Tree<P> {
        Tree {
            place: Place::Seeking(Seek { ticket, tries: 0, via: None, avoid: Vec::new() }),
            children: BTreeMap::new(),
            members: BTreeMap::new(),
            seen: Seen::new(window),
            told: Time::ZERO,
        }
    }

    pub(super) fn parent(&self) -> Option<P> {
        match &self.place {
            Place::Under(parent) => Some(parent.peer),
            Place::Root | Place::Seeking(_) => None,
        }
    }

    /// A sign of life of the parent.
    pub(super) fn heard(&mut self, now: Time) {
        if let Place::Under(parent) = &mut self.place {
            parent.heard = now;
        }
    }

    /// Whether nobody needs it.
    pub(super) fn is_idle(&self) -> bool {
        self.children.is_empty() && self.members.is_empty()
    }

    /// Whether it hangs together with a root, as far as this node knows.
    pub(super) fn is_rooted(&self) -> bool {
        match &self.place {
            Place::Root => true,
            Place::Under(parent) => parent.path.rooted,
            Place::Seeking(_) => false,
        }
    }

    /// The nodes above this one.
    pub(super) fn above(&self) -> &[P] {
        match &self.place {
            Place::Under(parent) => &parent.path.peers,
            Place::Root | Place::Seeking(_) => &[],
        }
    }

    /// What this node tells its children.
    pub(super) fn path(&self, me: P) -> Path<P> {
        let peers = self.above().iter().copied().chain([me]).collect();
        Path { rooted: self.is_rooted(), peers }
    }
}

impl<P> Place<P> {
    /// Whether a question for a parent is open that has this number.
    pub(super) fn is_asking(&self, number: u64) -> bool {
        matches!(self, Place::Seeking(seek) if seek.ticket == number)
    }
}

impl<P: Peer> Path<P> {
    /// Whether whoever tells it can be the parent of `me`.
    pub(super) fn suits(&self, from: P, me: P) -> bool {
        self.peers.len() < MAX_PATH && self.peers.last() == Some(&from) && !self.peers.contains(&me)
    }
}

/// The messages that a node has passed on, the last [`ScribeConfig::window`](super::ScribeConfig) of them: the
/// publisher of each and its number.
#[derive(Clone, Debug)]
pub(super) struct Seen<P> {
    last: VecDeque<(P, u64)>,
    window: usize,
}

impl<P: Peer> Seen<P> {
    pub(super) fn new(window: usize) -> Seen<P> {
        Seen { last: VecDeque::new(), window }
    }

    /// Notes a message; says whether it is new.
    pub(super) fn insert(&mut self, publisher: P, sequence: u64) -> bool {
        if self.last.iter().any(|seen| seen.1 == sequence && seen.0 == publisher) {
            return false;
        }
        self.last.push_back((publisher, sequence));
        if self.last.len() > self.window {
            self.last.pop_front();
        }
        true
    }
}
