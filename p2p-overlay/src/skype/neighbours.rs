//! Who is next to whom: clients and super-nodes, and the change of roles.

use p2p_core::{Contact, Cx, Down, Learnt, Time};

use super::msg::MAX_NAMED;
use super::{Skype, SkypeEvent, SkypeMsg, SkypeNode, SkypeTimer};
use crate::place::{Place, is_somewhere};
use crate::promotion::{Need, Role, Standing, hand_over};

/// Super-nodes that a client is named when its own retires.
const HANDED: usize = 4;

/// Somebody who is connected, or to be.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub(super) contact: Contact,
    /// What it is: a client, or a super-node.
    pub(super) role: Role,
    /// Whether it has answered.
    pub(super) up: bool,
    heard: Time,
    /// How many clients more it has room for, if it is a super-node.
    room: u16,
}

impl<P: Place> SkypeNode<P> {
    pub(super) fn role(&self) -> Role {
        self.promotion.role()
    }

    pub(super) fn is_super(&self) -> bool {
        self.role() == Role::Ultrapeer
    }

    /// The neighbours that are there, of one kind.
    fn up(&self, role: Role) -> impl Iterator<Item = (P, &Neighbour)> {
        let up = move |one: &Neighbour| one.up && one.role == role;
        self.neighbours.iter().filter(move |(_, one)| up(one)).map(|(peer, one)| (*peer, one))
    }

    pub(super) fn super_nodes(&self) -> impl Iterator<Item = P> {
        self.up(Role::Ultrapeer).map(|(peer, _)| peer)
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = P> {
        self.up(Role::Leaf).map(|(peer, _)| peer)
    }

    /// Where the super-nodes are that it is next to.
    pub(super) fn hubs(&self) -> Vec<Contact> {
        self.up(Role::Ultrapeer).map(|(_, hub)| hub.contact).collect()
    }

    /// How many there are of one kind, those who are not there yet among them.
    fn count(&self, role: Role) -> usize {
        self.neighbours.values().filter(|one| one.role == role).count()
    }

    /// Whether somebody is a client or a super-node of its own, or itself.
    pub(super) fn is_near(&self, peer: P) -> bool {
        peer == self.me() || self.neighbours.get(&peer).is_some_and(|one| one.up)
    }

    /// How many super-nodes it looks for.
    fn wanted(&self) -> usize {
        match self.role() {
            Role::Leaf => self.config.homes,
            Role::Ultrapeer => self.config.wanted.min(self.config.degree),
        }
    }

    fn room(&self) -> u16 {
        match self.role() {
            Role::Leaf => 0,
            Role::Ultrapeer => {
                let room = self.config.clients.saturating_sub(self.count(Role::Leaf));
                u16::try_from(room).unwrap_or(u16::MAX)
            }
        }
    }

    /// Some super-nodes for others to go to, in random order.
    pub(super) fn others(&self, cx: &mut Cx<'_, Skype<P>>, but: P) -> Vec<Contact> {
        let others = self.up(Role::Ultrapeer).filter(|(peer, _)| *peer != but);
        let mut others: Vec<Contact> = others.map(|(_, hub)| hub.contact).collect();
        cx.rng().shuffle(&mut others);
        others.truncate(MAX_NAMED);
        others
    }

    fn note_others(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, others: Vec<Contact>) {
        for contact in others.into_iter().take(MAX_NAMED).filter(|contact| *contact != self.user.contact) {
            self.hosts.note(contact, Learnt::Hearsay, cx.wall(), Some(from));
        }
    }

    /// Dials until there are enough super-nodes, or nobody is left to dial.
    pub(super) fn look_for_neighbours(&mut self, cx: &mut Cx<'_, Skype<P>>) {
        while self.count(Role::Ultrapeer) < self.wanted() {
            let (neighbours, own) = (&self.neighbours, self.user.contact);
            let skip = |contact: &Contact, _: Option<&P>| {
                own == *contact || neighbours.values().any(|other| other.contact == *contact)
            };
            let Some((contact, _)) = self.hosts.next(cx.now(), self.config.hearsay, skip) else { return };
            let peer = P::at(contact, 0);
            let (role, heard) = (Role::Ultrapeer, cx.now());
            self.neighbours.insert(peer, Neighbour { contact, role, up: false, heard, room: 0 });
            cx.set_timer(self.config.patience, SkypeTimer::Dial(peer));
            let msg = SkypeMsg::Attach { contact: self.user.contact, super_node: self.is_super() };
            cx.send(peer, msg);
        }
    }

    /// Somebody wants to be a neighbour.
    pub(super) fn on_attach(
        &mut self,
        cx: &mut Cx<'_, Skype<P>>,
        from: P,
        contact: Contact,
        super_node: bool,
    ) {
        let role = if super_node { Role::Ultrapeer } else { Role::Leaf };
        let most = match role {
            Role::Leaf => self.config.clients,
            Role::Ultrapeer => self.config.degree,
        };
        let others = self.others(cx, from);
        // Who is one already has forgotten it, or both have dialled.
        let known = self.neighbours.get(&from).is_some_and(|one| one.role == role);
        let has_room = known || self.count(role) < most;
        if !self.is_super() || !has_room || !from.may_be(&contact) || from == self.me() {
            return cx.send(from, SkypeMsg::Away { others });
        }
        if super_node && is_somewhere(&contact) {
            self.hosts.note(contact, Learnt::Told, cx.wall(), None);
        }
        self.neighbours.insert(from, Neighbour { contact, role, up: false, heard: cx.now(), room: 0 });
        self.is_up(cx, from);
        cx.send(from, SkypeMsg::Welcome { room: self.room(), others });
    }

    /// A super-node has this node as its neighbour.
    pub(super) fn on_welcome(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, room: u16, others: Vec<Contact>) {
        let Some(neighbour) = self.neighbours.get_mut(&from).filter(|one| one.role == Role::Ultrapeer) else {
            return;
        };
        neighbour.room = room;
        let (contact, was_up) = (neighbour.contact, neighbour.up);
        self.hosts.note(contact, Learnt::Proved, cx.wall(), None);
        self.note_others(cx, from, others);
        if !was_up {
            self.is_up(cx, from);
            self.present(cx);
        }
        self.look_for_neighbours(cx);
    }

    fn is_up(&mut self, cx: &mut Cx<'_, Skype<P>>, peer: P) {
        cx.clear_timer(SkypeTimer::Dial(peer));
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.up = true;
            neighbour.heard = cx.now();
            cx.emit(SkypeEvent::Up(peer));
        }
    }

    /// Somebody does not have this node as its neighbour, or not any more.
    pub(super) fn on_away(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, others: Vec<Contact>) {
        if self.neighbours.contains_key(&from) {
            self.note_others(cx, from, others);
            self.lost(cx, from, None);
        }
    }

    /// Somebody who was dialled has not answered.
    pub(super) fn no_answer(&mut self, cx: &mut Cx<'_, Skype<P>>, peer: P) {
        if self.neighbours.get(&peer).is_some_and(|one| !one.up) {
            self.lost(cx, peer, Some(Down::TimedOut));
        }
    }

    /// A neighbour is gone; others are looked for at once, and told where this node is then.
    pub(super) fn lost(&mut self, cx: &mut Cx<'_, Skype<P>>, peer: P, why: Option<Down>) {
        let Some(neighbour) = self.neighbours.remove(&peer) else { return };
        cx.clear_timer(SkypeTimer::Dial(peer));
        if why.is_some() && neighbour.role == Role::Ultrapeer {
            self.hosts.failed(neighbour.contact);
        }
        if neighbour.up {
            cx.emit(SkypeEvent::Down(peer));
        }
        if neighbour.role == Role::Ultrapeer {
            if neighbour.up {
                self.present(cx);
            }
            self.look_for_neighbours(cx);
        }
    }

    pub(super) fn on_ping(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P) {
        let others = self.others(cx, from);
        let msg = match self.neighbours.get_mut(&from).filter(|one| one.up) {
            Some(neighbour) => {
                neighbour.heard = cx.now();
                SkypeMsg::Pong { room: self.room(), others }
            }
            None => SkypeMsg::Away { others },
        };
        cx.send(from, msg);
    }

    pub(super) fn on_pong(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, room: u16, others: Vec<Contact>) {
        let Some(neighbour) = self.neighbours.get_mut(&from).filter(|one| one.up) else { return };
        (neighbour.heard, neighbour.room) = (cx.now(), room);
        if neighbour.role == Role::Ultrapeer {
            let contact = neighbour.contact;
            self.hosts.note(contact, Learnt::Proved, cx.wall(), None);
            self.note_others(cx, from, others);
        }
    }

    pub(super) fn look_after_neighbours(&mut self, cx: &mut Cx<'_, Skype<P>>) {
        let now = cx.now();
        let silent = self.neighbours.iter().filter(|(_, one)| one.up);
        let silent = silent.filter(|(_, one)| now.since(one.heard) > self.config.silence);
        for peer in silent.map(|(peer, _)| *peer).collect::<Vec<P>>() {
            self.lost(cx, peer, Some(Down::TimedOut));
        }
        self.consider(cx);
        self.look_for_neighbours(cx);
        // Clients ask by themselves.
        for peer in self.super_nodes().collect::<Vec<P>>() {
            cx.send(peer, SkypeMsg::Ping);
        }
    }

    // ---- roles

    /// How full the super-nodes are, in thousandths: those of an ordinary node; of a super-node, itself.
    fn load(&self) -> u16 {
        let each = self.config.clients.max(1);
        let thousandths = |taken: usize, room: usize| (taken.min(room) * 1000 / room) as u16;
        match self.role() {
            Role::Ultrapeer => thousandths(self.count(Role::Leaf), each),
            Role::Leaf => {
                let free: usize = self.up(Role::Ultrapeer).map(|(_, hub)| usize::from(hub.room)).sum();
                let all = self.super_nodes().count() * each;
                if all == 0 { 1000 } else { thousandths(all.saturating_sub(free), all) }
            }
        }
    }

    /// Asks whether this node should have another role.
    fn consider(&mut self, cx: &mut Cx<'_, Skype<P>>) {
        let standing = Standing {
            reachable: self.user.open,
            uptime: cx.now().since(self.started),
            bandwidth: self.config.speed,
        };
        let free: usize = self.up(Role::Ultrapeer).map(|(_, hub)| usize::from(hub.room)).sum();
        let room = free > self.count(Role::Leaf);
        let (need, lot) = (Need { load: self.load(), room }, cx.rng().below(1000) as u16);
        let Some(role) = self.promotion.consider(cx.now(), standing, need, lot) else { return };
        self.tally.changes += 1;
        cx.emit(SkypeEvent::Role(role));
        self.hand_over_clients(cx);
        // The others have it as what it was: it comes to them anew.
        let hubs: Vec<(P, Contact)> =
            self.up(Role::Ultrapeer).map(|(peer, hub)| (peer, hub.contact)).collect();
        for (i, (peer, contact)) in hubs.into_iter().enumerate() {
            if role == Role::Leaf {
                cx.send(peer, SkypeMsg::Away { others: Vec::new() });
                if i >= self.config.homes {
                    self.neighbours.remove(&peer);
                    cx.emit(SkypeEvent::Down(peer));
                    continue;
                }
            }
            let msg = SkypeMsg::Attach { contact: self.user.contact, super_node: role == Role::Ultrapeer };
            let (role, heard) = (Role::Ultrapeer, cx.now());
            self.neighbours.insert(peer, Neighbour { contact, role, up: false, heard, room: 0 });
            cx.set_timer(self.config.patience, SkypeTimer::Dial(peer));
            cx.send(peer, msg);
        }
        if role == Role::Leaf {
            self.directory.clear();
        }
        self.present(cx);
    }

    /// Sends all clients to others, if it has any.
    fn hand_over_clients(&mut self, cx: &mut Cx<'_, Skype<P>>) {
        let clients: Vec<P> =
            self.neighbours.iter().filter(|(_, one)| one.role == Role::Leaf).map(|(peer, _)| *peer).collect();
        let others: Vec<(P, usize)> =
            self.up(Role::Ultrapeer).map(|(peer, hub)| (peer, hub.room.into())).collect();
        for (client, to) in hand_over(&clients, &others, HANDED) {
            let of = |peer: P| self.neighbours.get(&peer).map(|hub| hub.contact);
            let others: Vec<Contact> = to.into_iter().filter_map(of).collect();
            cx.send(client, SkypeMsg::Away { others });
            self.neighbours.remove(&client);
            cx.emit(SkypeEvent::Down(client));
        }
    }
}
