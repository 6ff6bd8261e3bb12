//! Pushes: a source that accepts no connections is asked, back the way that its hit has come, to make one (§4). The
//! same in both versions.
//!
//! A servent connects to nobody because somebody says so: a push has to name the identifier of a hit, whose second half
//! is drawn anew for each hit, so that only who has seen it knows it. One hit is good for two connections, and all of
//! them together have a limit.

use std::collections::BTreeMap;

use bytes::Bytes;
use p2p_core::{Contact, OpId, Rng, Time};

use super::descriptor::Guid;
use crate::bucket::{Bucket, Rate};
use crate::place::{Place, is_somewhere};
use crate::recent::Recent;
use crate::search::Library;

/// How many pushes one hit is good for: a second try, if the first connection fails.
const PUSHES: u8 = 2;
/// How many of its own hits a servent remembers.
const OFFERS: usize = 1024;

/// What a servent knows of pushes: 1,024 hits of its own, and so many ways and pushes of others as it was made for.
#[derive(Debug)]
pub(crate) struct Pushing<P> {
    /// The ways that hits have come, by servent.
    servents: Recent<Guid, P>,
    /// Pushes that have come.
    seen: Recent<Guid, ()>,
    /// Its own hits, and how many pushes each is still good for.
    offers: Recent<Guid, u8>,
    /// Connects to those who ask for it.
    rate: Bucket,
    /// Sources that were asked to connect, and to give what.
    reaches: BTreeMap<OpId, (Guid, u32)>,
}

/// What a push asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed<P> {
    /// It has come before.
    Again,
    /// To connect.
    Own,
    /// To pass it on to this one.
    Via(P),
    /// Nobody knows whom it means.
    Nowhere,
}

impl<P: Place> Pushing<P> {
    pub(crate) fn new(routes: usize) -> Pushing<P> {
        Pushing {
            servents: Recent::new(routes),
            seen: Recent::new(routes),
            offers: Recent::new(OFFERS),
            rate: Bucket::default(),
            reaches: BTreeMap::new(),
        }
    }

    // ---- the source

    /// The identifier of a hit of its own, which only who sees that knows.
    pub(crate) fn offer(&mut self, servent: Guid, rng: &mut Rng) -> Guid {
        let mut servent = servent;
        servent.0[8..].copy_from_slice(&rng.next_u64().to_be_bytes());
        self.offers.insert(servent, PUSHES);
        servent
    }

    /// The name of what a push asks for, if it is right to connect there now because it names this hit.
    pub(crate) fn gives(
        &mut self,
        library: &Library,
        servent: &Guid,
        index: u32,
        contact: &Contact,
        now: Time,
        rate: Rate,
    ) -> Option<Bytes> {
        let item = library.get(index)?;
        let left = self.offers.get_mut(servent).filter(|left| **left > 0)?;
        if !is_somewhere(contact) || !self.rate.take(now, rate) {
            return None;
        }
        *left -= 1;
        Some(Bytes::from(item.name.clone()))
    }

    // ---- those between

    /// A hit has come from a neighbour.
    pub(crate) fn on_hit(&mut self, servent: Guid, from: P, is_there: impl Fn(&P) -> bool) {
        if let Some(known) = self.servents.get_mut(&servent) {
            // The way that is there, if the other is gone.
            if !is_there(known) {
                *known = from;
            }
        } else {
            self.servents.insert(servent, from);
        }
    }

    /// A push has come from a neighbour.
    pub(crate) fn on_push(&mut self, id: Guid, servent: &Guid, from: P) -> Pushed<P> {
        if !self.seen.insert(id, ()) {
            return Pushed::Again;
        }
        if self.offers.get(servent).is_some() {
            return Pushed::Own;
        }
        match self.servents.get(servent).copied().filter(|via| *via != from) {
            Some(via) => Pushed::Via(via),
            None => Pushed::Nowhere,
        }
    }

    // ---- who wants it

    /// The way to a servent.
    pub(crate) fn way(&self, servent: &Guid) -> Option<P> {
        self.servents.get(servent).copied()
    }

    /// How many sources were asked.
    pub(crate) fn asked(&self) -> usize {
        self.reaches.len()
    }

    /// A source is asked, by a push of this identifier.
    pub(crate) fn ask(&mut self, op: OpId, id: Guid, servent: Guid, index: u32) {
        self.seen.insert(id, ());
        self.reaches.insert(op, (servent, index));
    }

    /// Somebody has connected to give this; whose question that answers, if it was asked for.
    pub(crate) fn given(&mut self, servent: Guid, index: u32) -> Option<OpId> {
        let op = self.reaches.iter().find(|(_, asked)| **asked == (servent, index)).map(|(op, _)| *op)?;
        self.reaches.remove(&op);
        Some(op)
    }

    /// Nobody waits for it any more; whether somebody did.
    pub(crate) fn forget(&mut self, op: OpId) -> bool {
        self.reaches.remove(&op).is_some()
    }
}
