//! Who is connected: dialling, accepting, pings and pongs (§3.2.1, §3.2.2).

use p2p_core::{Contact, Cx, Down, Learnt, Time};

use super::codec::GnutellaMsg;
use super::descriptor::{Descriptor, Guid, Payload, Pong};
use super::{Gnutella, GnutellaEvent, GnutellaTimer};
use crate::bucket::Bucket;
use crate::place::{Place, is_somewhere};

/// Pongs kept of each neighbour.
const MOST_PONGS: usize = 10;

/// Somebody who is connected, or to be.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub state: State,
    /// Since when; and when it last said something.
    since: Time,
    heard: Time,
    /// Where others reach it, as it says itself and as its address allows.
    pub contact: Option<Contact>,
    pub account: Account,
    /// The newest last; each with when it came.
    pongs: Vec<(Pong, Time)>,
}

/// What somebody has had of its limits: who goes, and comes again, finds it as it was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    descriptors: Bucket,
    pub queries: Bucket,
    pub passing: Bucket,
    answers: Bucket,
    /// How many it has named that are not there.
    lies: u8,
}

/// How far somebody is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not accepted yet.
    Dialled,
    /// A neighbour.
    Up,
    /// Somebody who wants to know whom this servent knows: there is no room for more.
    Guest,
}

impl Neighbour {
    fn new(state: State, contact: Option<Contact>, account: Account, now: Time) -> Neighbour {
        Neighbour { state, since: now, heard: now, contact, account, pongs: Vec::new() }
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether it has named this many, too many, that are not there.
    fn lies(&self, too_many: u8) -> bool {
        self.account.lies >= too_many
    }
}

impl<P: Place> Gnutella<P> {
    fn count(&self, state: State) -> usize {
        self.neighbours.values().filter(|neighbour| neighbour.state == state).count()
    }

    /// Dials until there are enough neighbours, or nobody is left to dial.
    pub(super) fn look_for_neighbours(&mut self, cx: &mut Cx<'_, Self>) {
        while self.count(State::Up) + self.count(State::Dialled) < self.config.wanted {
            let (neighbours, listen, too_many) = (&self.neighbours, self.listen, self.config.lies);
            let skip = |contact: &Contact, named_by: Option<&P>| {
                let named_by = named_by.and_then(|peer| neighbours.get(peer));
                let lies = named_by.is_some_and(|neighbour| neighbour.lies(too_many));
                lies || listen == Some(*contact)
                    || neighbours.values().any(|other| other.contact == Some(*contact))
            };
            let Some((contact, hearsay)) = self.hosts.next(cx.now(), self.config.hearsay, skip) else {
                return;
            };
            let peer = self.dial(contact);
            self.tally.hearsay += u64::from(hearsay);
            let account = self.account_of(&peer);
            self.neighbours.insert(peer, Neighbour::new(State::Dialled, Some(contact), account, cx.now()));
            cx.set_timer(self.config.dial_timeout, GnutellaTimer::Dial(peer));
            cx.send(peer, GnutellaMsg::Connect);
        }
    }

    /// What somebody who comes has had before.
    fn account_of(&self, peer: &P) -> Account {
        self.accounts.get(&peer.account()).copied().unwrap_or_default()
    }

    /// The name of a new connection.
    pub(super) fn dial(&mut self, contact: Contact) -> P {
        self.tally.dials += 1;
        self.number += 1;
        P::at(contact, self.number)
    }

    /// Somebody wants to be a neighbour.
    pub(super) fn on_connect(&mut self, cx: &mut Cx<'_, Self>, from: P) {
        let state = match self.neighbours.get(&from).map(|neighbour| neighbour.state) {
            // Both have dialled.
            Some(State::Dialled) => {
                cx.send(from, GnutellaMsg::Accept);
                return self.on_accept(cx, from);
            }
            // It has forgotten that it is one. Nothing of it is forgotten here.
            Some(State::Up | State::Guest) => return cx.send(from, GnutellaMsg::Accept),
            None if self.count(State::Up) < self.config.most => State::Up,
            None if self.count(State::Guest) < self.config.guests => State::Guest,
            None => return cx.send(from, GnutellaMsg::Refuse),
        };
        let account = self.account_of(&from);
        self.neighbours.insert(from, Neighbour::new(state, from.contact(), account, cx.now()));
        cx.send(from, GnutellaMsg::Accept);
        if state == State::Up {
            self.is_up(cx, from);
        }
    }

    /// Somebody who was dialled has accepted.
    pub(super) fn on_accept(&mut self, cx: &mut Cx<'_, Self>, from: P) {
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        if neighbour.state != State::Dialled {
            return;
        }
        neighbour.state = State::Up;
        neighbour.heard = cx.now();
        if let Some(contact) = neighbour.contact {
            self.hosts.note(contact, Learnt::Proved, cx.wall(), None);
        }
        cx.clear_timer(GnutellaTimer::Dial(from));
        self.is_up(cx, from);
    }

    fn is_up(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        cx.emit(GnutellaEvent::Up(peer));
        self.ping(cx, peer, self.config.ttl);
    }

    /// A connection has ended, or is given up. Another is looked for at the next upkeep, not at once, lest two that do
    /// not get along dial each other without end.
    pub(super) fn lost(&mut self, cx: &mut Cx<'_, Self>, peer: P, why: Option<Down>) {
        let Some(neighbour) = self.neighbours.remove(&peer) else { return };
        cx.clear_timer(GnutellaTimer::Dial(peer));
        self.accounts.put(peer.account(), neighbour.account);
        match neighbour.state {
            State::Up => cx.emit(GnutellaEvent::Down(peer)),
            State::Dialled if matches!(why, Some(Down::Unreachable | Down::TimedOut)) => {
                let liar = neighbour.contact.and_then(|contact| self.hosts.failed(contact));
                if let Some(liar) = liar.and_then(|liar| self.neighbours.get_mut(&liar)) {
                    liar.account.lies = liar.account.lies.saturating_add(1);
                }
            }
            State::Dialled | State::Guest => {}
        }
    }

    /// Sends a neighbour away.
    fn part(&mut self, cx: &mut Cx<'_, Self>, peer: P, reason: &'static str) {
        let bye = Payload::Bye { reason: reason.into() };
        let id = Guid::random(cx.rng());
        self.tell(cx, peer, Descriptor { id, ttl: 1, hops: 0, payload: bye });
        self.lost(cx, peer, None);
    }

    /// Sends a descriptor.
    pub(super) fn tell(&self, cx: &mut Cx<'_, Self>, peer: P, descriptor: Descriptor) {
        cx.send(peer, GnutellaMsg::Descriptor(descriptor));
    }

    /// Time to look after all of them.
    pub(super) fn upkeep(&mut self, cx: &mut Cx<'_, Self>) {
        cx.set_timer(self.config.upkeep, GnutellaTimer::Upkeep);
        let now = cx.now();
        let silent = self.neighbours.iter().filter(|(_, neighbour)| match neighbour.state {
            State::Up => now.since(neighbour.heard) > self.config.silence,
            State::Guest => now.since(neighbour.since) > self.config.upkeep,
            State::Dialled => false,
        });
        for peer in silent.map(|(peer, _)| *peer).collect::<Vec<P>>() {
            self.part(cx, peer, "silent");
        }
        for neighbour in self.neighbours.values_mut() {
            neighbour.pongs.retain(|(_, came)| now.since(*came) < self.config.pong_lasts);
        }
        self.look_for_neighbours(cx);
        // Who has enough neighbours only wants to know that they are there.
        let ttl = if self.count(State::Up) < self.config.wanted { self.config.ttl } else { 1 };
        for peer in self.neighbours().collect::<Vec<P>>() {
            self.ping(cx, peer, ttl);
        }
    }

    fn ping(&mut self, cx: &mut Cx<'_, Self>, peer: P, ttl: u8) {
        let id = Guid::random(cx.rng());
        self.pings.insert(id, None);
        let payload = Payload::Ping { extension: Default::default() };
        self.tell(cx, peer, Descriptor { id, ttl, hops: 0, payload });
    }

    /// A descriptor comes.
    pub(super) fn on_descriptor(&mut self, cx: &mut Cx<'_, Self>, from: P, mut descriptor: Descriptor) {
        let now = cx.now();
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        neighbour.heard = now;
        let answer = matches!(descriptor.payload, Payload::Pong(_) | Payload::QueryHit(_));
        let passes = match answer {
            true => neighbour.account.answers.take(now, self.config.answers),
            false => neighbour.account.descriptors.take(now, self.config.descriptors),
        };
        let most = self.config.ttl;
        if !passes || neighbour.state == State::Dialled || descriptor.hops >= most || !descriptor.is_sound() {
            self.tally.dropped += 1;
            return;
        }
        let guest = neighbour.state == State::Guest;
        // It may be lowered, and must not be raised (§3.1).
        descriptor.ttl = descriptor.ttl.min(most - descriptor.hops);
        match &descriptor.payload {
            Payload::Ping { .. } => self.on_ping(cx, from, &descriptor, guest),
            Payload::Bye { .. } => self.lost(cx, from, None),
            _ if guest => self.tally.dropped += 1,
            Payload::Pong(pong) => self.on_pong(cx, from, &descriptor, pong),
            Payload::Query { .. } => self.on_query(cx, from, descriptor),
            Payload::QueryHit(_) => self.on_hit(cx, from, descriptor),
            Payload::Push { .. } => self.on_push(cx, from, descriptor),
            // Of version 0.6.
            Payload::Route(_) | Payload::Status { .. } => {}
        }
    }

    /// Somebody asks who is there: this servent is, and those it knows.
    fn on_ping(&mut self, cx: &mut Cx<'_, Self>, from: P, ping: &Descriptor, guest: bool) {
        if !self.pings.insert(ping.id, Some(from)) {
            self.tally.duplicates += 1;
            return;
        }
        let back = |hops: u8, payload: Payload| {
            let ttl = ping.hops.saturating_add(1);
            Descriptor { id: ping.id, ttl, hops, payload: payload.clone() }
        };
        if let Some(contact) = self.listen {
            let files = self.library.len() as u32;
            let kilobytes = u32::try_from(self.library.bytes() / 1024).unwrap_or(u32::MAX);
            let pong = Pong { contact, files, kilobytes, extension: Default::default() };
            self.tell(cx, from, back(0, Payload::Pong(pong)));
        }
        if ping.ttl > 1 || guest {
            let others = self.neighbours.iter().filter(|(peer, _)| **peer != from);
            let mut known: Vec<&Pong> =
                others.flat_map(|(_, other)| &other.pongs).map(|(pong, _)| pong).collect();
            // By chance: if all were told of the same few, these would be full, and of those with room nobody would hear.
            cx.rng().shuffle(&mut known);
            let known: Vec<Pong> = known.into_iter().take(self.config.pongs).cloned().collect();
            let enough = known.len() >= self.config.pongs;
            for pong in known {
                self.tell(cx, from, back(1, Payload::Pong(pong)));
            }
            if guest {
                return self.part(cx, from, "full");
            }
            if !enough {
                self.pass_on(cx, from, ping.clone());
            }
        }
    }

    /// Somebody is there.
    fn on_pong(&mut self, cx: &mut Cx<'_, Self>, from: P, descriptor: &Descriptor, pong: &Pong) {
        let Some(way) = self.pings.get(&descriptor.id).copied() else {
            self.tally.dropped += 1;
            return;
        };
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        let contact = pong.contact;
        // Who talks within one host may name it, nobody else.
        let local = contact.addr.ip().is_loopback()
            && !neighbour.contact.is_some_and(|known| known.addr.ip().is_loopback())
            && !from.may_be(&contact);
        if !is_somewhere(&contact) || local || neighbour.lies(self.config.lies) {
            self.tally.dropped += 1;
            return;
        }
        let own = descriptor.hops == 0 && from.may_be(&contact);
        if own {
            neighbour.contact = Some(contact);
        }
        neighbour.pongs.retain(|(other, _)| other.contact != contact);
        if neighbour.pongs.len() >= MOST_PONGS {
            neighbour.pongs.remove(0);
        }
        neighbour.pongs.push((pong.clone(), cx.now()));
        if self.listen != Some(contact) {
            let learnt = if own { Learnt::Told } else { Learnt::Hearsay };
            self.hosts.note(contact, learnt, cx.wall(), Some(from));
        }
        if let Some(via) = way.filter(|via| *via != from) {
            self.pass_back(cx, via, descriptor.clone());
        }
    }
}
