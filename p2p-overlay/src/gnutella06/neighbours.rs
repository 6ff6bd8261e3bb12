//! Who is connected, and as what: handshakes, pings, and the change of roles.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Contact, Cx, Down, Learnt, Time};

use super::codec::{Gnutella06Msg, farewell, named_in};
use super::ggep::Room;
use super::handshake::{Hello, TRIES};
use super::passing::Way;
use super::update::TableReader;
use super::{Gnutella06, Gnutella06Event, Gnutella06Timer, QueryTable};
use crate::bucket::Bucket;
use crate::gnutella::{Descriptor, Guid, Payload, Pong};
use crate::place::{Place, is_somewhere};
use crate::promotion::{Need, Role, Standing, hand_over};

/// Others that a leaf is named when its ultrapeer retires.
const HANDED: usize = 5;
/// How often the host cache is told that a neighbour is there.
const NOTED: Duration = Duration::from_secs(60);

/// Somebody who is connected, or to be.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub state: State,
    /// What it is: as a neighbour, if it is one.
    pub role: Role,
    heard: Time,
    /// Where others reach it, as far as is known.
    contact: Option<Contact>,
    /// When the host cache was last told that it is there.
    noted: Option<Time>,
    /// The last ping to it.
    ping: Option<Guid>,
    /// How much room it has, if it is an ultrapeer.
    room: Room,
    /// How many ultrapeers it knows itself, and how far queries may be sent to it.
    pub degree: u16,
    pub max_ttl: u8,
    pub takes_tables: bool,
    /// Its query table,
    pub reader: TableReader,
    /// and what it was told last.
    pub told: Option<Arc<QueryTable>>,
    pub account: Account,
}

/// What somebody has had of its limits: who goes, and comes again, finds it as it was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    descriptors: Bucket,
    pub queries: Bucket,
    pub passing: Bucket,
    answers: Bucket,
    /// Of query tables, its own and those that it is told because it connects.
    pub tables: Bucket,
}

/// How far somebody is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not answered yet.
    Dialled,
    /// It has dialled, and has not agreed yet.
    Welcomed,
    /// A neighbour.
    Up,
}

impl Neighbour {
    fn new(state: State, role: Role, contact: Option<Contact>, account: Account, now: Time) -> Neighbour {
        Neighbour {
            state,
            role,
            heard: now,
            contact,
            noted: None,
            ping: None,
            room: Room::default(),
            degree: 1,
            max_ttl: 1,
            takes_tables: false,
            reader: TableReader::default(),
            told: None,
            account,
        }
    }

    /// What it says of itself.
    fn introduced(&mut self, hello: &Hello, ttl: u8) {
        self.contact = hello.listen.or(self.contact);
        self.degree = hello.degree.unwrap_or(self.degree);
        self.max_ttl = hello.max_ttl.unwrap_or(ttl).min(ttl);
        self.takes_tables = match self.role {
            Role::Ultrapeer => hello.last_hop || hello.query_routing,
            Role::Leaf => false,
        };
    }

    /// Its query table, if it has told it and it says something.
    pub(super) fn table(&self) -> Option<&QueryTable> {
        self.reader.table().filter(|table| !table.is_saturated())
    }
}

impl<P: Place> Gnutella06<P> {
    /// The neighbours that are there, of one kind.
    pub(super) fn up(&self, role: Role) -> impl Iterator<Item = (P, &Neighbour)> {
        let up = move |neighbour: &Neighbour| neighbour.state == State::Up && neighbour.role == role;
        self.neighbours.iter().filter(move |(_, one)| up(one)).map(|(peer, one)| (*peer, one))
    }

    /// How many there are of one kind, those who are not there yet among them.
    fn count(&self, role: Role) -> usize {
        self.neighbours.values().iter().filter(|neighbour| neighbour.role == role).count()
    }

    fn hello(&self) -> Hello {
        let ultrapeer = self.role() == Role::Ultrapeer;
        Hello {
            ultrapeer: Some(ultrapeer),
            needed: None,
            query_routing: true,
            last_hop: ultrapeer,
            dynamic: true,
            degree: ultrapeer.then_some(self.config.degree as u16),
            max_ttl: Some(self.config.ttl),
            listen: self.listen,
            tries: Vec::new(),
        }
    }

    /// Some ultrapeers that are there, for others to try: as many as are named, chosen at random. Those who have said
    /// that they have room come first: who is sent from one full ultrapeer to the next never gets in.
    fn tries(&self, cx: &mut Cx<'_, Self>, but: P, role: Role) -> Vec<Contact> {
        let there = self.up(Role::Ultrapeer).filter(|(peer, _)| *peer != but);
        let full = |room: Room| match role {
            Role::Leaf => room.leaves == 0,
            Role::Ultrapeer => room.ultrapeers == 0,
        };
        let there = there.filter_map(|(_, other)| Some((other.contact?, full(other.room))));
        let mut there: Vec<(Contact, bool)> = there.collect();
        cx.rng().shuffle(&mut there);
        there.sort_by_key(|(_, full)| *full);
        there.into_iter().map(|(contact, _)| contact).take(TRIES).collect()
    }

    fn note_tries(&mut self, cx: &mut Cx<'_, Self>, from: P, tries: Vec<Contact>) {
        for contact in tries.into_iter().take(TRIES).filter(|contact| self.listen != Some(*contact)) {
            self.hosts.note(contact, Learnt::Hearsay, cx.wall(), Some(from));
        }
    }

    /// How many ultrapeers it wants.
    fn wanted(&self) -> usize {
        match self.role() {
            Role::Leaf => self.config.hubs,
            // Where all that everybody wants is all that there is, the first few fill each other.
            Role::Ultrapeer => self.config.wanted.min((self.config.degree * 2).div_ceil(3)),
        }
    }

    /// Dials until there are enough ultrapeers, or nobody is left to dial.
    pub(super) fn look_for_neighbours(&mut self, cx: &mut Cx<'_, Self>) {
        while self.wants_more() {
            let (neighbours, listen) = (&self.neighbours, self.listen);
            let skip = |contact: &Contact, _: Option<&P>| {
                listen == Some(*contact)
                    || neighbours.values().iter().any(|other| other.contact == Some(*contact))
            };
            let Some((contact, _)) = self.hosts.next(cx.now(), self.config.hearsay, skip) else { return };
            self.number += 1;
            self.tally.dials += 1;
            let peer = P::at(contact, self.number);
            let account = self.account_of(&peer);
            let dialled = Neighbour::new(State::Dialled, Role::Ultrapeer, Some(contact), account, cx.now());
            self.neighbours.insert(peer, dialled);
            cx.set_timer(self.config.dial_timeout, Gnutella06Timer::Dial(peer));
            cx.send(peer, Gnutella06Msg::Connect(self.hello()));
        }
    }

    /// Somebody wants to be a neighbour.
    pub(super) fn on_connect(&mut self, cx: &mut Cx<'_, Self>, from: P, hello: Hello) {
        match self.neighbours.get(&from).map(|neighbour| neighbour.state) {
            // It has forgotten that it is one.
            Some(State::Up) => self.lost(cx, from, None),
            // Both have dialled, or it dials again.
            Some(State::Dialled | State::Welcomed) => drop(self.remove(from)),
            None => {}
        }
        let role = if hello.ultrapeer == Some(true) { Role::Ultrapeer } else { Role::Leaf };
        let most = match role {
            Role::Leaf => self.config.leaves,
            Role::Ultrapeer => self.config.degree,
        };
        let tries = self.tries(cx, from, role);
        if self.role() == Role::Leaf || self.count(role) >= most {
            return cx.send(from, Gnutella06Msg::Refuse(tries));
        }
        let mut account = self.account_of(&from);
        // A neighbour that is new is told the whole table.
        if !account.tables.take(cx.now(), self.config.tables) {
            return cx.send(from, Gnutella06Msg::Refuse(tries));
        }
        let mut neighbour = Neighbour::new(State::Welcomed, role, from.contact(), account, cx.now());
        neighbour.introduced(&hello, self.config.ttl);
        self.neighbours.insert(from, neighbour);
        cx.set_timer(self.config.dial_timeout, Gnutella06Timer::Dial(from));
        let needed = Some(self.load() >= self.config.promotion.idle);
        cx.send(from, Gnutella06Msg::Welcome(Hello { needed, tries, ..self.hello() }));
    }

    /// Somebody who was dialled would have this servent.
    pub(super) fn on_welcome(&mut self, cx: &mut Cx<'_, Self>, from: P, hello: Hello) {
        let Some(neighbour) = self.neighbours.get_mut(&from).filter(|one| one.state != State::Up) else {
            return;
        };
        if hello.ultrapeer != Some(true) {
            self.remove(from);
            cx.clear_timer(Gnutella06Timer::Dial(from));
            return cx.send(from, Gnutella06Msg::Refuse(Vec::new()));
        }
        neighbour.role = Role::Ultrapeer;
        neighbour.introduced(&hello, self.config.ttl);
        if let Some(contact) = neighbour.contact {
            self.hosts.note(contact, Learnt::Proved, cx.wall(), None);
        }
        self.note_tries(cx, from, hello.tries);
        // An ultrapeer that comes anew and is not needed.
        let alone = self.up(Role::Leaf).next().is_none() && self.up(Role::Ultrapeer).next().is_none();
        if hello.needed == Some(false) && alone && self.promotion.give_in(cx.now()) {
            self.stale = true;
            self.tally.changes += 1;
            cx.emit(Gnutella06Event::Role(Role::Leaf));
        }
        cx.send(from, Gnutella06Msg::Agree(self.hello()));
        self.is_up(cx, from);
        self.look_for_neighbours(cx);
    }

    /// Somebody who was welcomed agrees; perhaps as a leaf, though it came as an ultrapeer.
    pub(super) fn on_agree(&mut self, cx: &mut Cx<'_, Self>, from: P, hello: Hello) {
        let leaves = self.count(Role::Leaf);
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        if neighbour.state != State::Welcomed {
            return;
        }
        if hello.ultrapeer == Some(false) && neighbour.role == Role::Ultrapeer {
            if leaves >= self.config.leaves {
                return self.part(cx, from, "full", &[]);
            }
            neighbour.role = Role::Leaf;
            neighbour.takes_tables = false;
            self.stale = true;
        }
        self.is_up(cx, from);
    }

    fn is_up(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        cx.clear_timer(Gnutella06Timer::Dial(peer));
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.state = State::Up;
            neighbour.heard = cx.now();
        }
        cx.emit(Gnutella06Event::Up(peer));
        self.ping(cx, peer, self.wants_more());
        self.tell_table(cx, peer);
    }

    /// Somebody does not want this servent, and names others.
    pub(super) fn on_refuse(&mut self, cx: &mut Cx<'_, Self>, from: P, tries: Vec<Contact>) {
        if !self.neighbours.contains_key(&from) {
            return;
        }
        self.lost(cx, from, None);
        self.note_tries(cx, from, tries);
        self.look_for_neighbours(cx);
    }

    /// What somebody who comes has had before.
    fn account_of(&self, peer: &P) -> Account {
        self.accounts.get(&peer.account()).copied().unwrap_or_default()
    }

    /// Forgets a neighbour, but for what it has had.
    fn remove(&mut self, peer: P) -> Option<Neighbour> {
        let neighbour = self.neighbours.remove(&peer)?;
        self.accounts.put(peer.account(), neighbour.account);
        Some(neighbour)
    }

    /// A connection has ended, or is given up.
    pub(super) fn lost(&mut self, cx: &mut Cx<'_, Self>, peer: P, why: Option<Down>) {
        let Some(neighbour) = self.remove(peer) else { return };
        self.stale |= neighbour.role == Role::Leaf;
        cx.clear_timer(Gnutella06Timer::Dial(peer));
        self.drop_guided(cx, |way| way == Way::Via(peer));
        match neighbour.state {
            State::Up => cx.emit(Gnutella06Event::Down(peer)),
            State::Dialled if matches!(why, Some(Down::Unreachable | Down::TimedOut)) => {
                if let Some(contact) = neighbour.contact {
                    self.hosts.failed(contact);
                }
            }
            State::Dialled | State::Welcomed => {}
        }
    }

    /// Sends a neighbour away, to others if there are any.
    pub(super) fn part(&mut self, cx: &mut Cx<'_, Self>, peer: P, reason: &str, tries: &[Contact]) {
        if self.neighbours.get(&peer).is_some_and(|neighbour| neighbour.state == State::Up) {
            let payload = Payload::Bye { reason: farewell(reason, tries) };
            let id = Guid::random(cx.rng());
            self.tell(cx, peer, Descriptor { id, ttl: 1, hops: 0, payload });
        } else {
            cx.send(peer, Gnutella06Msg::Refuse(tries.to_vec()));
        }
        self.lost(cx, peer, None);
    }

    /// Sends a descriptor.
    pub(super) fn tell(&self, cx: &mut Cx<'_, Self>, peer: P, descriptor: Descriptor) {
        cx.send(peer, Gnutella06Msg::Descriptor(descriptor));
    }

    /// Time to look after everything.
    pub(super) fn upkeep(&mut self, cx: &mut Cx<'_, Self>) {
        cx.set_timer(self.config.upkeep, Gnutella06Timer::Upkeep);
        let now = cx.now();
        let silent = self
            .neighbours
            .iter()
            .filter(|(_, one)| one.state == State::Up && now.since(one.heard) > self.config.silence);
        for peer in silent.map(|(peer, _)| *peer).collect::<Vec<P>>() {
            self.part(cx, peer, "silent", &[]);
        }
        self.consider(cx);
        self.look_for_neighbours(cx);
        let up = self.neighbours.iter().filter(|(_, one)| one.state == State::Up);
        let wants = self.wants_more();
        for peer in up.map(|(peer, _)| *peer).collect::<Vec<P>>() {
            self.ping(cx, peer, wants);
        }
        self.tell_tables(cx);
    }

    /// Whether it looks for more ultrapeers.
    fn wants_more(&self) -> bool {
        self.count(Role::Ultrapeer) < self.wanted()
    }

    /// Who has enough only wants to know that they are there, not who else is.
    fn ping(&mut self, cx: &mut Cx<'_, Self>, peer: P, wants_more: bool) {
        let id = Guid::random(cx.rng());
        let ttl = if wants_more { 2 } else { 1 };
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.ping = Some(id);
        }
        let payload = Payload::Ping { extension: Bytes::new() };
        self.tell(cx, peer, Descriptor { id, ttl, hops: 0, payload });
    }

    // ---- roles

    /// How full the ultrapeers are, in thousandths: those of a leaf; of an ultrapeer, itself.
    fn load(&self) -> u16 {
        let room = self.config.leaves.max(1);
        let thousandths = |taken: usize, room: usize| (taken.min(room) * 1000 / room) as u16;
        match self.role() {
            Role::Ultrapeer => thousandths(self.leaves().count(), room),
            Role::Leaf => {
                let free: usize = self.up(Role::Ultrapeer).map(|(_, hub)| usize::from(hub.room.leaves)).sum();
                let all = self.ultrapeers().count() * room;
                if all == 0 { 1000 } else { thousandths(all.saturating_sub(free), all) }
            }
        }
    }

    /// Asks whether this servent should have another role.
    fn consider(&mut self, cx: &mut Cx<'_, Self>) {
        let standing = Standing {
            reachable: self.listen.is_some(),
            uptime: cx.now().since(self.started),
            bandwidth: self.config.speed,
        };
        let free: usize = self.up(Role::Ultrapeer).map(|(_, other)| usize::from(other.room.leaves)).sum();
        // It becomes a leaf itself.
        let room = free > self.leaves().count();
        let (need, lot) = (Need { load: self.load(), room }, cx.rng().below(1000) as u16);
        let Some(role) = self.promotion.consider(cx.now(), standing, need, lot) else { return };
        self.stale = true;
        self.tally.changes += 1;
        cx.emit(Gnutella06Event::Role(role));
        self.hand_over_leaves(cx);
        // The others have it as what it was: it comes to them anew.
        for peer in self.neighbours.keys().to_vec() {
            if let Some(contact) = self.neighbours.get(&peer).and_then(|one| one.contact) {
                self.hosts.note(contact, Learnt::Told, cx.wall(), None);
            }
            self.part(cx, peer, "another role", &[]);
        }
        self.drop_guided(cx, |_| true);
    }

    fn hand_over_leaves(&mut self, cx: &mut Cx<'_, Self>) {
        let leaves: Vec<P> = self.leaves().collect();
        let others: Vec<(P, usize)> =
            self.up(Role::Ultrapeer).map(|(peer, other)| (peer, other.room.leaves.into())).collect();
        for (leaf, to) in hand_over(&leaves, &others, HANDED) {
            let of = |peer: P| self.neighbours.get(&peer).and_then(|other| other.contact);
            let tries: Vec<Contact> = to.into_iter().filter_map(of).collect();
            self.part(cx, leaf, "retired", &tries);
        }
    }

    // ---- descriptors

    /// A descriptor comes.
    pub(super) fn on_descriptor(&mut self, cx: &mut Cx<'_, Self>, from: P, mut descriptor: Descriptor) {
        let now = cx.now();
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        neighbour.heard = now;
        let answer =
            matches!(descriptor.payload, Payload::Pong(_) | Payload::QueryHit(_) | Payload::Route(_));
        let passes = match answer {
            true => neighbour.account.answers.take(now, self.config.answers),
            false => neighbour.account.descriptors.take(now, self.config.descriptors),
        };
        let most = self.config.most_hops;
        if !passes || neighbour.state != State::Up || descriptor.hops >= most || !descriptor.is_sound() {
            self.tally.dropped += 1;
            return;
        }
        // It may be lowered, and must not be raised.
        descriptor.ttl = descriptor.ttl.min(most - descriptor.hops);
        match &descriptor.payload {
            Payload::Ping { .. } => self.on_ping(cx, from, &descriptor),
            Payload::Pong(pong) => self.on_pong(cx, from, &descriptor, pong),
            Payload::Bye { reason } => {
                let tries = named_in(reason);
                self.lost(cx, from, None);
                self.note_tries(cx, from, tries);
                self.look_for_neighbours(cx);
            }
            Payload::Route(update) => self.on_route(cx, from, update),
            Payload::Query { .. } => self.on_query(cx, from, descriptor),
            Payload::QueryHit(_) => self.on_hit(cx, from, descriptor),
            Payload::Status { hits } => self.on_status(cx, from, descriptor.id, *hits),
            Payload::Push { .. } => self.on_push(cx, from, descriptor),
        }
    }

    /// A neighbour wants to know whether this servent is there, or who else.
    fn on_ping(&mut self, cx: &mut Cx<'_, Self>, from: P, ping: &Descriptor) {
        let (files, kilobytes) = (self.library.len() as u32, self.library.bytes() / 1024);
        let kilobytes = u32::try_from(kilobytes).unwrap_or(u32::MAX);
        let left = |most: usize, taken: usize| most.saturating_sub(taken).min(255) as u8;
        let extension = match self.role() {
            Role::Leaf => Bytes::new(),
            Role::Ultrapeer => {
                let taken = self.count(Role::Leaf);
                let leaves = left(self.config.leaves, taken);
                let ultrapeers = left(self.config.degree, self.neighbours.len() - taken);
                let room = Room { leaves, ultrapeers };
                if self.told_room.0 != room {
                    self.told_room = (room, room.write());
                }
                self.told_room.1.clone()
            }
        };
        let ttl = ping.hops.saturating_add(1);
        // Who is reached nowhere is there too.
        let contact = self.listen.unwrap_or(crate::place::foreign([0, 0, 0, 0].into(), 0));
        let pong = Pong { contact, files, kilobytes, extension };
        self.tell(cx, from, Descriptor { id: ping.id, ttl, hops: 0, payload: Payload::Pong(pong) });
        if ping.ttl > 1 {
            for contact in self.tries(cx, from, Role::Ultrapeer) {
                let pong = Pong { contact, files: 0, kilobytes: 0, extension: Bytes::new() };
                self.tell(cx, from, Descriptor { id: ping.id, ttl, hops: 1, payload: Payload::Pong(pong) });
            }
        }
    }

    /// A neighbour is there, or names another ultrapeer.
    fn on_pong(&mut self, cx: &mut Cx<'_, Self>, from: P, descriptor: &Descriptor, pong: &Pong) {
        let asked = |neighbour: &&mut Neighbour| neighbour.ping == Some(descriptor.id);
        let Some(neighbour) = self.neighbours.get_mut(&from).filter(asked) else {
            self.tally.dropped += 1;
            return;
        };
        let contact = Some(pong.contact).filter(is_somewhere);
        if descriptor.hops > 0 {
            return self.note_tries(cx, from, contact.into_iter().collect());
        }
        neighbour.room = Room::read(&pong.extension).unwrap_or_default();
        if let Some(contact) = contact.filter(|contact| from.may_be(contact)) {
            neighbour.contact = Some(contact);
            let noted = neighbour.noted.is_some_and(|at| cx.now().since(at) < NOTED);
            if neighbour.role == Role::Ultrapeer && !noted {
                neighbour.noted = Some(cx.now());
                self.hosts.note(contact, Learnt::Told, cx.wall(), None);
            }
        }
    }
}
