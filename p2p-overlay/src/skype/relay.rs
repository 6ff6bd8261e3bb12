//! Relaying: frames pass between the two whom a ticket names, no more of them than it says, and nothing else does.

use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Cx, PeerId, Time};

use super::msg::MAX_FRAME;
use super::request::{CallError, SendFrame};
use super::ticket::{RelayJoin, Ticket};
use super::{Skype, SkypeEvent, SkypeMsg, SkypeNode};
use crate::bucket::{Bucket, Rate};
use crate::place::Place;

/// How many calls are relayed for one peer at most.
const EACH: usize = 4;
/// A relayed call in which nothing has been said for so long is over.
const SILENCE: Duration = Duration::from_secs(60);

/// What a super-node relays for two.
#[derive(Debug)]
pub(super) struct Session<P> {
    /// Where each is, if it has come.
    ends: [Option<P>; 2],
    /// How many bytes each has sent lately,
    buckets: [Bucket; 2],
    rate: Rate,
    /// and how many more both may.
    left: u64,
    /// In seconds since the Unix epoch.
    expires: u64,
    /// When a frame was passed on last.
    used: Time,
}

/// A relayed call, as one of the two sees it.
#[derive(Debug)]
pub(super) struct Line<P> {
    pub(super) relay: P,
    /// In seconds since the Unix epoch.
    expires: u64,
}

impl<P: Place> SkypeNode<P> {
    // ---- as a super-node

    /// Somebody wants a ticket. Nothing is kept of it: who has one brings it along.
    pub(super) fn on_lease(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, call: u64, ends: [PeerId; 2]) {
        let near = self.is_near(from);
        let relays = self.is_super()
            && self.sessions.len() < self.config.relayed
            && from != self.me()
            && self.may_check(cx.now(), near);
        let ticket = relays.then(|| {
            let expires = cx.wall().saturating_add(self.config.relay_time).as_secs();
            let (rate, total) = (self.config.relay_rate, self.config.relay_total);
            Ticket::new(&self.user.keypair, cx.rng().next_u64(), ends, rate, total, expires)
        });
        cx.send(from, SkypeMsg::Leased { call, ticket });
    }

    /// One of the two comes.
    pub(super) fn on_join(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, join: &RelayJoin) {
        let near = self.is_near(from);
        let ticket = join.ticket();
        let own = self.sessions.values().filter(|session| session.ends.contains(&Some(from))).count();
        let new = self.sessions.len() < self.config.relayed && own < EACH;
        let has_room = new || self.sessions.contains_key(&ticket.id());
        let is_spent = self.spent.get(&ticket.id()).is_some();
        if !self.is_super() || is_spent || !has_room || !self.may_check(cx.now(), near) {
            self.tally.dropped += 1;
            return;
        }
        let Some(end) = join.end(&self.user.keypair.id(), cx.wall()) else {
            self.tally.disbelieved += 1;
            return;
        };
        // A byte is a token; two seconds' worth pass at once.
        let every = Duration::from_secs(1) / ticket.rate().max(1);
        let rate = Rate { every, burst: ticket.rate().saturating_mul(2) };
        let session = self.sessions.entry(ticket.id()).or_insert_with(|| Session {
            ends: [None; 2],
            buckets: [Bucket::default(); 2],
            rate,
            left: ticket.total(),
            expires: ticket.expires(),
            used: cx.now(),
        });
        session.ends[end] = Some(from);
        if let [Some(one), Some(other)] = session.ends {
            cx.send(one, SkypeMsg::Joined { ticket: ticket.id() });
            cx.send(other, SkypeMsg::Joined { ticket: ticket.id() });
        }
    }

    /// A frame comes: at the relay, to be passed on; at an end, from the relay.
    pub(super) fn on_frame(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, ticket: u64, bytes: Bytes) {
        let len = bytes.len() as u64;
        if self.lines.get(&ticket).is_some_and(|line| line.relay == from) {
            return cx.emit(SkypeEvent::Frame { ticket, bytes });
        }
        if self.passes(cx, from, ticket, len) {
            let other = self.other_end(from, ticket);
            self.tally.relayed += len;
            if let Some(other) = other {
                cx.send(other, SkypeMsg::Frame { ticket, bytes });
            }
        } else {
            self.tally.not_relayed += len;
        }
    }

    /// Whether a ticket lets this through.
    fn passes(&mut self, cx: &Cx<'_, Skype<P>>, from: P, ticket: u64, len: u64) -> bool {
        let (now, wall) = (cx.now(), cx.wall().as_secs());
        let Some(session) = self.sessions.get_mut(&ticket) else { return false };
        let Some(end) = session.ends.iter().position(|end| *end == Some(from)) else { return false };
        let tokens = u32::try_from(len).unwrap_or(u32::MAX);
        let passes = len <= MAX_FRAME as u64
            && session.expires > wall
            && session.ends.iter().all(Option::is_some)
            && session.left >= len
            && session.buckets[end].take_many(now, session.rate, tokens);
        if passes {
            session.left -= len;
            session.used = now;
        }
        passes
    }

    /// Relays no more by this ticket: it is not good for as much again.
    fn end_session(&mut self, ticket: u64) {
        self.sessions.remove(&ticket);
        self.spent.insert(ticket, ());
    }

    fn other_end(&self, from: P, ticket: u64) -> Option<P> {
        let session = self.sessions.get(&ticket)?;
        let end = session.ends.iter().position(|end| *end == Some(from))?;
        session.ends[1 - end]
    }

    // ---- as an end

    /// Notes a relayed call; whether there is room for it.
    pub(super) fn add_line(&mut self, ticket: &Ticket, relay: P) -> bool {
        let has_room = self.lines.len() < self.config.capacity;
        if has_room {
            self.lines.insert(ticket.id(), Line { relay, expires: ticket.expires() });
        }
        has_room
    }

    pub(super) fn send_frame(
        &mut self,
        cx: &mut Cx<'_, Skype<P>>,
        frame: SendFrame,
    ) -> Result<(), CallError> {
        let SendFrame { ticket, bytes } = frame;
        let line = self.lines.get(&ticket).filter(|_| bytes.len() <= MAX_FRAME).ok_or(CallError::BadFrame)?;
        cx.send(line.relay, SkypeMsg::Frame { ticket, bytes });
        Ok(())
    }

    pub(super) fn hang_up(&mut self, cx: &mut Cx<'_, Skype<P>>, ticket: u64) -> Result<(), CallError> {
        let line = self.lines.remove(&ticket).ok_or(CallError::BadFrame)?;
        cx.send(line.relay, SkypeMsg::Part { ticket });
        Ok(())
    }

    // ---- both

    /// A relayed call is over: an end says so to the relay, or the relay to the other end.
    pub(super) fn on_part(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, ticket: u64) {
        if self.lines.get(&ticket).is_some_and(|line| line.relay == from) {
            self.lines.remove(&ticket);
        } else if let Some(other) = self.other_end(from, ticket) {
            self.end_session(ticket);
            cx.send(other, SkypeMsg::Part { ticket });
        }
    }

    /// Forgets what is over.
    pub(super) fn look_after_relays(&mut self, cx: &mut Cx<'_, Skype<P>>) {
        let wall = cx.wall().as_secs();
        let is_over = |one: &Session<P>| one.expires <= wall || cx.now().since(one.used) >= SILENCE;
        let over = self.sessions.iter().filter(|(_, session)| is_over(session)).map(|(ticket, _)| *ticket);
        over.collect::<Vec<u64>>().into_iter().for_each(|ticket| self.end_session(ticket));
        self.lines.retain(|_, line| line.expires > wall);
    }
}
