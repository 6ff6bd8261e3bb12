//! Calls: directly, then reversed, then through a super-node that relays.

use p2p_core::{Contact, Cx, OpId, PeerId, Time};

use super::presence::Presence;
use super::request::{Call, CallError, Called, SkypeOutcome, Way};
use super::ring::{CallOffer, Ring};
use super::searching::Why;
use super::ticket::{RelayJoin, Ticket};
use super::{Skype, SkypeEvent, SkypeMsg, SkypeNode, SkypeTimer};
use crate::bucket::Bucket;
use crate::place::Place;

/// How many relays are tried, one after the other.
const RELAYS: usize = 3;

/// A call that this node's user makes.
#[derive(Debug)]
pub(super) struct Calling<P> {
    op: OpId,
    /// Who is called, once that is known.
    other: Option<Presence>,
    step: Step<P>,
    /// The super-nodes that may be asked to relay.
    relays: Vec<Contact>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<P> {
    /// Looking for the other.
    Search,
    Direct,
    Reverse,
    /// Waiting for a ticket of this super-node, and then for the other to come there, with its number.
    Relay(P, Option<u64>),
}

/// A call that has come.
#[derive(Debug)]
pub(super) struct Offered<P> {
    caller: Presence,
    /// Who may say that it is made: the caller, or a relay with this ticket.
    by: P,
    reversed: bool,
    ticket: Option<u64>,
    /// Whether that was said: what comes of it later is a repetition.
    made: bool,
}

impl<P: Place> SkypeNode<P> {
    // ---- as the caller

    pub(super) fn call(&mut self, cx: &mut Cx<'_, Skype<P>>, op: OpId, call: Call) {
        let refused = |why| SkypeOutcome::Called(Err(why));
        if self.own.is_none() {
            return cx.finish(op, refused(CallError::NotLoggedIn));
        }
        if self.calls.len() >= self.config.capacity {
            return cx.finish(op, refused(CallError::Busy));
        }
        let id = cx.rng().next_u64();
        if !self.seek(cx, &call.name, Why::Call(id)) {
            return cx.finish(op, refused(CallError::NotFound));
        }
        self.calls.insert(id, Calling { op, other: None, step: Step::Search, relays: Vec::new() });
    }

    /// The search for the other is over.
    pub(super) fn sought(&mut self, cx: &mut Cx<'_, Skype<P>>, id: u64, other: Option<Presence>) {
        let Some(calling) = self.calls.get_mut(&id) else { return };
        let Some(other) = other.filter(|other| other.whereabouts().online) else {
            return self.end_call(cx, id, Err(CallError::NotFound));
        };
        // The other's super-nodes have a connection to it; this node's own do as well as any. Neither of the two
        // relays for itself.
        let (own, there) = (self.user.contact, other.whereabouts().contact);
        let all = other.whereabouts().through.iter().copied();
        let hubs = self.neighbours.values().filter(|one| one.up).map(|one| one.contact);
        let mut relays: Vec<Contact> =
            all.chain(hubs).filter(|relay| *relay != own && *relay != there).collect();
        relays.truncate(RELAYS);
        relays.reverse();
        calling.relays = relays;
        let open = other.whereabouts().open;
        calling.other = Some(other);
        match open {
            true => {
                calling.step = Step::Direct;
                cx.set_timer(self.config.way, SkypeTimer::Way(id));
                if let Some(ring) = self.ring(cx, id, CallOffer::Direct) {
                    cx.send(P::at(there, 0), SkypeMsg::Ring(Box::new(ring)));
                }
            }
            false => self.next_way(cx, id),
        }
    }

    fn ring(&self, cx: &Cx<'_, Skype<P>>, id: u64, offer: CallOffer) -> Option<Ring> {
        let (own, other) = (self.own.clone()?, self.calls.get(&id)?.other.as_ref()?);
        Some(Ring::new(&self.user.keypair, id, own, other.key(), cx.wall(), offer))
    }

    /// Rings the other through its super-nodes.
    fn ring_through(&mut self, cx: &mut Cx<'_, Skype<P>>, id: u64, offer: CallOffer) {
        let Some(ring) = self.ring(cx, id, offer) else { return };
        let Some(other) = self.calls.get(&id).and_then(|calling| calling.other.as_ref()) else { return };
        for hub in &other.whereabouts().through {
            let (to, ring) = (other.name().to_owned(), Box::new(ring.clone()));
            cx.send(P::at(*hub, 0), SkypeMsg::Forward { to, ring });
        }
    }

    /// The way that is tried does not lead there: the next.
    pub(super) fn next_way(&mut self, cx: &mut Cx<'_, Skype<P>>, id: u64) {
        let Some(calling) = self.calls.get_mut(&id) else { return };
        cx.set_timer(self.config.way, SkypeTimer::Way(id));
        let reverse = matches!(calling.step, Step::Search | Step::Direct) && self.user.open;
        if reverse {
            calling.step = Step::Reverse;
            return self.ring_through(cx, id, CallOffer::Reverse);
        }
        if let Step::Relay(_, Some(ticket)) = calling.step {
            self.lines.remove(&ticket);
        }
        let Some(calling) = self.calls.get_mut(&id) else { return };
        let (Some(relay), Some(other)) = (calling.relays.pop(), &calling.other) else {
            return self.end_call(cx, id, Err(CallError::Unreachable));
        };
        let relay = P::at(relay, 0);
        calling.step = Step::Relay(relay, None);
        let ends = [self.user.keypair.id(), other.key()];
        cx.send(relay, SkypeMsg::Lease { call: id, ends });
    }

    /// A peer cannot be reached: who waits for it tries the next way at once.
    pub(super) fn way_is_blocked(&mut self, cx: &mut Cx<'_, Skype<P>>, peer: P) {
        let blocked = |calling: &Calling<P>| match calling.step {
            Step::Direct => {
                calling.other.as_ref().is_some_and(|other| P::at(other.whereabouts().contact, 0) == peer)
            }
            Step::Relay(relay, _) => relay == peer,
            Step::Search | Step::Reverse => false,
        };
        let blocked = self.calls.iter().filter(|(_, calling)| blocked(calling));
        for id in blocked.map(|(id, _)| *id).collect::<Vec<u64>>() {
            self.next_way(cx, id);
        }
        self.lines.retain(|_, line| line.relay != peer);
    }

    /// The other is there, by a connection of either's making.
    pub(super) fn on_accept(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, id: u64, reversed: bool) {
        let other = self.calls.get(&id).and_then(|calling| calling.other.as_ref());
        if !other.is_some_and(|other| from.may_be(&other.whereabouts().contact)) {
            self.tally.dropped += 1;
            return;
        }
        cx.send(from, SkypeMsg::Confirm { call: id });
        self.end_call(cx, id, Ok(if reversed { Way::Reversed } else { Way::Direct }));
    }

    /// A super-node relays, or not.
    pub(super) fn on_leased(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, id: u64, ticket: Option<Ticket>) {
        let Some(calling) = self.calls.get_mut(&id).filter(|one| one.step == Step::Relay(from, None)) else {
            return;
        };
        let ends = calling.other.as_ref().map(|other| [self.user.keypair.id(), other.key()]);
        let ticket = ticket.filter(|ticket| ends == Some(ticket.ends()));
        let (Some(ticket), Some(relay)) = (ticket, from.contact()) else { return self.next_way(cx, id) };
        calling.step = Step::Relay(from, Some(ticket.id()));
        self.come_to(cx, from, &ticket);
        self.ring_through(cx, id, CallOffer::Relay { relay, ticket: Box::new(ticket) });
    }

    /// The call is made, or cannot be.
    pub(super) fn end_call(&mut self, cx: &mut Cx<'_, Skype<P>>, id: u64, way: Result<Way, CallError>) {
        let Some(calling) = self.calls.remove(&id) else { return };
        cx.clear_timer(SkypeTimer::Way(id));
        let called = match (way, &calling.other) {
            (Ok(way), Some(other)) => Ok(called(id, other, way)),
            (Err(why), _) => Err(why),
            (Ok(_), None) => Err(CallError::NotFound),
        };
        cx.finish(calling.op, SkypeOutcome::Called(called));
    }

    /// Nobody waits for a call any more.
    pub(super) fn forget_call(&mut self, cx: &mut Cx<'_, Skype<P>>, op: OpId) {
        let own = self.calls.iter().find(|(_, calling)| calling.op == op);
        if let Some(id) = own.map(|(id, _)| *id) {
            self.calls.remove(&id);
            cx.clear_timer(SkypeTimer::Way(id));
        }
    }

    // ---- as a super-node

    /// Passes a ring on to a client, if it is true, and for it: as one of others it is looked at here, and rings that
    /// nobody has made leave the client room to hear of its super-node what else it has to hear.
    pub(super) fn on_forward(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, to: &str, ring: Box<Ring>) {
        let client = self.directory.client(to).filter(|_| self.is_super());
        let key = self.directory.get(to).map(Presence::key);
        if let (Some(client), Some(key)) = (client, key)
            && from.may_be(&ring.caller().whereabouts().contact)
            && ring.is_for(&key, cx.wall())
            && self.believes(cx, ring.caller(), false)
            && self.may_check(cx.now(), false)
            && ring.is_signed()
            && self.may_ring(cx.now(), client)
        {
            return cx.send(client, SkypeMsg::Ring(ring));
        }
        self.tally.dropped += 1;
    }

    /// Whether a client is passed one more ring.
    fn may_ring(&mut self, now: Time, client: P) -> bool {
        self.rings.insert(client, Bucket::default());
        let rate = self.config.rings;
        self.rings.get_mut(&client).is_some_and(|bucket| bucket.take(now, rate))
    }

    // ---- as who is called

    pub(super) fn on_ring(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, ring: Ring) {
        let near = self.is_near(from);
        let (id, caller) = (ring.call(), ring.caller());
        let direct = *ring.offer() == CallOffer::Direct;
        // Who rings directly is who calls; everybody else is a super-node of this node's own.
        let by_right = if direct { from.may_be(&caller.whereabouts().contact) } else { near };
        let known = self.offered.get(&id).is_some_and(|known| known.caller.key() != caller.key());
        if !self.online
            || !by_right
            || known
            || !ring.is_for(&self.user.keypair.id(), cx.wall())
            || !self.believes(cx, caller, near)
            || !self.may_check(cx.now(), near)
            || !ring.is_signed()
        {
            self.tally.dropped += 1;
            return;
        }
        let caller_at = P::at(caller.whereabouts().contact, 0);
        let (by, reversed, ticket) = match ring.offer() {
            CallOffer::Direct => (from, false, None),
            CallOffer::Reverse if caller.whereabouts().open => (caller_at, true, None),
            CallOffer::Relay { relay, ticket } if *relay != self.user.contact => {
                let ends = [caller.key(), self.user.keypair.id()];
                if ticket.ends() != ends {
                    return;
                }
                (P::at(*relay, 0), false, Some(ticket))
            }
            CallOffer::Reverse | CallOffer::Relay { .. } => return,
        };
        let number = ticket.map(|ticket| ticket.id());
        // The same ring comes through each of its super-nodes.
        let same = |known: &Offered<P>| (known.by, known.reversed, known.ticket) == (by, reversed, number);
        if self.offered.get(&id).is_some_and(|known| known.made || same(known)) {
            return;
        }
        let offered = Offered { caller: caller.clone(), by, reversed, ticket: number, made: false };
        self.offered.remove(&id);
        self.offered.insert(id, offered);
        match ticket {
            Some(ticket) => self.come_to(cx, by, ticket),
            None => cx.send(by, SkypeMsg::Accept { call: id, reversed }),
        }
    }

    /// The caller says that the call is made.
    pub(super) fn on_confirm(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, id: u64) {
        let Some(offered) = self.offered.get(&id).filter(|one| one.by == from && one.ticket.is_none()) else {
            return;
        };
        let way = if offered.reversed { Way::Reversed } else { Way::Direct };
        self.is_made(cx, id, way);
    }

    /// Tells the user, once.
    fn is_made(&mut self, cx: &mut Cx<'_, Skype<P>>, id: u64, way: Way) {
        if let Some(offered) = self.offered.get_mut(&id).filter(|offered| !offered.made) {
            offered.made = true;
            cx.emit(SkypeEvent::Call(called(id, &offered.caller, way)));
        }
    }

    // ---- both

    /// Comes to a relay with its ticket.
    fn come_to(&mut self, cx: &mut Cx<'_, Skype<P>>, relay: P, ticket: &Ticket) {
        if self.add_line(ticket, relay) {
            let join = RelayJoin::new(&self.user.keypair, ticket.clone());
            cx.send(relay, SkypeMsg::Join(Box::new(join)));
        }
    }

    /// A relay says that both have come.
    pub(super) fn on_joined(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, ticket: u64) {
        let way = Way::Relayed { ticket };
        let own = self.calls.iter().find(|(_, calling)| calling.step == Step::Relay(from, Some(ticket)));
        if let Some(id) = own.map(|(id, _)| *id) {
            return self.end_call(cx, id, Ok(way));
        }
        let offered = |offered: &Offered<P>| offered.by == from && offered.ticket == Some(ticket);
        if let Some(id) = self.offered.find(|_, one| offered(one)).copied() {
            self.is_made(cx, id, way);
        }
    }
}

fn called(id: u64, other: &Presence, way: Way) -> Called {
    let (name, key): (String, PeerId) = (other.name().to_owned(), other.key());
    Called { id, name, key, contact: other.whereabouts().contact, way }
}
