//! The nodes whose zones abut ours, and what each has told of those around itself.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use p2p_core::{Peer, Proximity, Suspicion, Time, prefetch};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::zones::{Claim, Claims};

/// A node whose zone abuts one of ours.
#[derive(Clone, Debug)]
pub(super) struct Neighbour<P> {
    pub(super) peer: P,
    pub(super) claims: Claims,
    /// Its own neighbours, as it has told: who is to hear of it when it dies.
    pub(super) told: Around<P>,
    pub(super) suspicion: Suspicion,
    pub(super) proximity: Proximity,
    /// When it has last told of them.
    pub(super) exchanged: Option<Time>,
    /// The stamp of what it was told last.
    pub(super) stamp: u32,
    /// Somebody else has said that it is dead: its neighbours know.
    pub(super) rumoured: bool,
    /// It has spoken for itself; otherwise somebody has named it.
    pub(super) proved: bool,
}

impl<P> Neighbour<P> {
    pub(super) fn new(peer: P, claims: Claims) -> Neighbour<P> {
        Neighbour {
            peer,
            claims,
            told: Around::default(),
            suspicion: Suspicion::default(),
            proximity: Proximity::UNKNOWN,
            exchanged: None,
            stamp: 0,
            rumoured: false,
            proved: true,
        }
    }
}

/// The neighbours, in no order that means anything. Their names stand in a list of their own: with every message one
/// of them is looked for, and in a network that fits no cache that reads one line and not all of them.
#[derive(Clone, Debug)]
pub(super) struct Neighbours<P> {
    peers: Vec<P>,
    all: Vec<Neighbour<P>>,
}

impl<P: Peer> Neighbours<P> {
    pub(super) const fn new() -> Neighbours<P> {
        Neighbours { peers: Vec::new(), all: Vec::new() }
    }

    /// Where a peer is in the list.
    #[inline]
    pub(super) fn position(&self, peer: P) -> Option<usize> {
        self.peers.iter().position(|other| *other == peer)
    }

    pub(super) fn push(&mut self, neighbour: Neighbour<P>) {
        if self.all.len() == self.all.capacity() {
            // Most lists stay as long as they are, and there may be a hundred thousand.
            let more = 1 + self.all.len() / 8;
            self.all.reserve_exact(more);
            self.peers.reserve_exact(more);
        }
        self.peers.push(neighbour.peer);
        self.all.push(neighbour);
    }

    pub(super) fn swap_remove(&mut self, at: usize) -> Neighbour<P> {
        self.peers.swap_remove(at);
        self.all.swap_remove(at)
    }

    /// Puts another in the place of one.
    pub(super) fn replace(&mut self, at: usize, with: Neighbour<P>) -> Neighbour<P> {
        self.peers[at] = with.peer;
        std::mem::replace(&mut self.all[at], with)
    }

    pub(super) fn retain(&mut self, keeps: impl Fn(&Neighbour<P>) -> bool) {
        let before = self.all.len();
        self.all.retain(keeps);
        if self.all.len() < before {
            self.peers.clear();
            self.peers.extend(self.all.iter().map(|other| other.peer));
        }
    }

    pub(super) fn clear(&mut self) {
        self.peers.clear();
        self.all.clear();
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.peers.shrink_to_fit();
        self.all.shrink_to_fit();
    }

    pub(super) fn warm(&self) {
        prefetch(&self.peers[..]);
        prefetch(&self.all[..]);
    }
}

/// To be changed, but for who they are.
impl<P> Deref for Neighbours<P> {
    type Target = [Neighbour<P>];

    #[inline]
    fn deref(&self) -> &[Neighbour<P>] {
        &self.all
    }
}

impl<P> DerefMut for Neighbours<P> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Neighbour<P>] {
        &mut self.all
    }
}

impl<P: Peer> FromIterator<Neighbour<P>> for Neighbours<P> {
    fn from_iter<I: IntoIterator<Item = Neighbour<P>>>(neighbours: I) -> Neighbours<P> {
        let mut all = Neighbours::new();
        neighbours.into_iter().for_each(|neighbour| all.push(neighbour));
        all
    }
}

/// Who holds what around a node, itself included. All whom it tells of it are told the same, and nobody changes it: in a
/// simulation they share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Around<P>(Option<Arc<Vec<(P, Claim)>>>);

impl<P> Default for Around<P> {
    fn default() -> Around<P> {
        Around(None)
    }
}

impl<P> Deref for Around<P> {
    type Target = [(P, Claim)];

    fn deref(&self) -> &[(P, Claim)] {
        self.0.as_ref().map_or(&[], |all| all.as_slice())
    }
}

impl<P> From<Vec<(P, Claim)>> for Around<P> {
    fn from(all: Vec<(P, Claim)>) -> Around<P> {
        Around((!all.is_empty()).then(|| Arc::new(all)))
    }
}

impl<P> FromIterator<(P, Claim)> for Around<P> {
    fn from_iter<I: IntoIterator<Item = (P, Claim)>>(all: I) -> Around<P> {
        all.into_iter().collect::<Vec<_>>().into()
    }
}

/// As a list.
impl<P: Serialize> Serialize for Around<P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<'de, P: Deserialize<'de>> Deserialize<'de> for Around<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Around<P>, D::Error> {
        Vec::deserialize(deserializer).map(Around::from)
    }
}
