//! Who is connected, and as what: joining, leaving, refresh lists, and who says nothing any more.

use std::time::Duration;

use p2p_core::{Contact, Cx, Key, Time};

use super::msg::{Known, Places, decoy, digest};
use super::{Kazaa, KazaaEvent, KazaaMsg, KazaaTimer, id_of};
use crate::bucket::Bucket;
use crate::place::{Place, is_somewhere};
use crate::promotion::Role;

/// Somebody who is connected, or to be.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub kind: Kind,
    /// Whether it has said that this node is welcome.
    pub up: bool,
    /// Where others reach it, as far as is known.
    pub contact: Option<Contact>,
    heard: Time,
    /// The last probe of it, and when that was.
    probe: Option<(u64, Time)>,
    /// How long a probe takes there and back.
    rtt: Duration,
    /// How much room it has, if it is a super-node.
    pub room: Places,
    pub account: Account,
}

/// What somebody has had of its limits: who goes, and comes again, finds it as it was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    messages: Bucket,
    pub queries: Bucket,
    pub offers: Bucket,
    /// Of its signatures.
    pub checks: Bucket,
}

/// What a neighbour is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The super-node of this ordinary node.
    Parent,
    /// A super-node, as this one is.
    Super,
    /// An ordinary node of this super-node.
    Ordinary,
}

impl Neighbour {
    fn new(kind: Kind, up: bool, contact: Option<Contact>, account: Account, now: Time) -> Neighbour {
        Neighbour {
            kind,
            up,
            contact,
            heard: now,
            probe: None,
            rtt: Duration::ZERO,
            room: Places::default(),
            account,
        }
    }
}

impl<P: Place> Kazaa<P> {
    /// The neighbours that are there, of one kind.
    pub(super) fn up(&self, kind: Kind) -> impl Iterator<Item = (P, &Neighbour)> {
        let up = self.neighbours.iter().filter(move |(_, one)| one.up && one.kind == kind);
        up.map(|(peer, one)| (*peer, one))
    }

    /// What somebody is, if it is there.
    pub(super) fn kind_of(&self, peer: &P) -> Option<Kind> {
        self.neighbours.get(peer).filter(|one| one.up).map(|one| one.kind)
    }

    /// How many there are of one kind, those who are not there yet among them.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.neighbours.values().filter(|one| one.kind == kind).count()
    }

    /// Whether somebody may say something now.
    pub(super) fn takes(&mut self, cx: &Cx<'_, Self>, from: &P) -> bool {
        match self.neighbours.get_mut(from) {
            Some(neighbour) => neighbour.account.messages.take(cx.now(), self.config.messages),
            None => self.strangers.take(cx.now(), self.config.strangers),
        }
    }

    /// How full this super-node is.
    pub(super) fn room(&self) -> Places {
        let left =
            |most: usize, kind| most.saturating_sub(self.count(kind)).min(usize::from(u16::MAX)) as u16;
        let (most, taken) = (self.config.leaves.max(1), self.up(Kind::Ordinary).count());
        Places {
            load: (taken.min(most) * 1000 / most) as u16,
            ordinary: left(self.config.leaves, Kind::Ordinary),
            supers: left(self.config.degree, Kind::Super),
        }
    }

    /// The refresh list for somebody: whom this node has met.
    pub(super) fn list(&self, cx: &Cx<'_, Self>, to: &P) -> Vec<Known> {
        let mut list = self.nodes.list(cx.now(), &id_of(to));
        list.truncate(self.config.known);
        list
    }

    pub(super) fn note(&mut self, cx: &Cx<'_, Self>, known: &[Known]) {
        for known in known.iter().take(self.config.known) {
            if self.listen.is_none_or(|own| own.id != known.contact.id) {
                self.nodes.heard(known, cx.now());
            }
        }
    }

    // ---- joining

    /// Asks somebody to be the parent, or a neighbour.
    pub(super) fn join(&mut self, cx: &mut Cx<'_, Self>, peer: P, contact: Contact) {
        let (kind, as_super) = match self.role() {
            Role::Leaf => (Kind::Parent, false),
            Role::Ultrapeer => (Kind::Super, true),
        };
        let digest = (!as_super && !self.library.is_empty()).then(|| digest(self.shared(cx.wall())));
        let account = self.account_of(&peer);
        self.neighbours.insert(peer, Neighbour::new(kind, false, Some(contact), account, cx.now()));
        cx.set_timer(self.config.dial_timeout, KazaaTimer::Join(peer));
        cx.send(peer, KazaaMsg::Join { as_super, listen: self.listen, digest });
    }

    /// Somebody would be a neighbour.
    pub(super) fn on_join(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        as_super: bool,
        listen: Option<Contact>,
        digest: Option<Key>,
    ) {
        // Nobody is sent to a third, or to nowhere.
        let listen = listen.filter(|contact| from.may_be(contact) && is_somewhere(contact));
        let banned = self.nodes.is_banned(&id_of(&from), cx.now());
        let before = self.neighbours.get(&from).map(|one| (one.kind, one.up));
        let (kind, most) = match as_super {
            true => (Kind::Super, self.config.degree),
            false => (Kind::Ordinary, self.config.leaves),
        };
        let both_ask = before == Some((Kind::Super, false)) && as_super;
        if before == Some((Kind::Super, true)) && as_super {
            // It has forgotten that it is one, or wants the list; it may be found elsewhere now.
            if let Some(one) = self.neighbours.get_mut(&from) {
                one.contact = listen.or(one.contact);
            }
            let known = self.list(cx, &from);
            return cx.send(from, KazaaMsg::Welcome { room: self.room(), entrusted: false, known });
        }
        // It has forgotten that it is one, or is another now. What it shares may be on its way again.
        if before.is_some() && !both_ask {
            self.lost(cx, from);
        }
        let full = !both_ask && self.count(kind) >= most;
        if self.role() == Role::Leaf || full || banned || as_super && listen.is_none() {
            let known = self.list(cx, &from);
            return cx.send(from, KazaaMsg::Refuse { known });
        }
        cx.clear_timer(KazaaTimer::Join(from));
        let mut neighbour = Neighbour::new(kind, true, listen, self.account_of(&from), cx.now());
        if let Some(before) = self.neighbours.get(&from) {
            neighbour.contact = listen.or(before.contact);
            neighbour.account = before.account;
        }
        self.neighbours.insert(from, neighbour);
        let entrusted =
            kind == Kind::Ordinary && digest.is_some_and(|digest| self.take_over(cx, &from, digest));
        if let (Kind::Super, Some(contact)) = (kind, listen) {
            self.nodes.met(contact, 0, cx.now());
        }
        let known = self.list(cx, &from);
        cx.send(from, KazaaMsg::Welcome { room: self.room(), entrusted, known });
        cx.emit(KazaaEvent::Up(from));
        if kind == Kind::Super {
            self.probe(cx, from);
        }
    }

    /// Somebody who was asked would have this node.
    pub(super) fn on_welcome(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        room: Places,
        entrusted: bool,
        known: &[Known],
    ) {
        let now = cx.now();
        let Some(neighbour) = self.neighbours.get_mut(&from) else { return };
        neighbour.room = room;
        let (is_new, contact, kind) = (!neighbour.up, neighbour.contact, neighbour.kind);
        neighbour.up = true;
        neighbour.heard = now;
        if let Some(contact) = contact {
            self.nodes.met(contact, room.load, now);
        }
        self.note(cx, known);
        if !is_new {
            return;
        }
        cx.clear_timer(KazaaTimer::Join(from));
        cx.emit(KazaaEvent::Up(from));
        self.probe(cx, from);
        match kind {
            Kind::Parent => {
                self.probing.clear();
                if !entrusted {
                    self.upload(cx, from);
                }
                self.told = now;
            }
            Kind::Super => self.look_for_neighbours(cx),
            Kind::Ordinary => {}
        }
    }

    /// Somebody does not want this node, or is no super-node, and names others.
    pub(super) fn on_refuse(&mut self, cx: &mut Cx<'_, Self>, from: P, known: &[Known]) {
        if let Some(probing) = self.probing.remove(&from) {
            self.nodes.failed(&probing.contact);
            self.note(cx, known);
        }
        let neighbour = self.neighbours.get(&from).filter(|one| one.kind != Kind::Ordinary);
        if let Some((up, contact)) = neighbour.map(|one| (one.up, one.contact)) {
            self.note(cx, known);
            if let Some(contact) = contact.filter(|_| up) {
                // It is no super-node any more.
                self.nodes.failed(&contact);
            }
            self.lost(cx, from);
        }
        self.next_visit(cx, &from);
    }

    /// Nobody has said whether this node is welcome.
    pub(super) fn not_welcomed(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let Some(neighbour) = self.neighbours.get(&peer).filter(|one| !one.up) else { return };
        if let Some(contact) = neighbour.contact {
            self.nodes.failed(&contact);
        }
        self.lost(cx, peer);
    }

    /// A neighbour leaves, and says where to go instead.
    pub(super) fn on_bye(&mut self, cx: &mut Cx<'_, Self>, from: P, known: &[Known]) {
        let Some(neighbour) = self.neighbours.get(&from) else { return };
        let (was_parent, contact) = (neighbour.kind == Kind::Parent, neighbour.contact);
        self.note(cx, known);
        if let Some(contact) = contact {
            self.nodes.left(&contact, cx.now());
        }
        if let (true, Some(first)) = (was_parent, known.first()) {
            // It has handed over what this node shares: to the first it names.
            self.remove(cx, from);
            if let Some(contact) = self.one_to_ask(cx, |contact| contact.id == first.contact.id) {
                let peer = self.dial(contact);
                return self.join(cx, peer, contact);
            }
        }
        self.lost(cx, from);
        self.look_for_neighbours(cx);
    }

    /// A connection has ended, or is given up.
    pub(super) fn lost(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        if let Some(Kind::Parent) = self.remove(cx, peer) {
            self.look_for_neighbours(cx);
        }
    }

    /// What somebody who comes has had before.
    fn account_of(&self, peer: &P) -> Account {
        self.accounts.get(&peer.account()).copied().unwrap_or_default()
    }

    /// Forgets a neighbour, and all that it shares, but for what it has had; what it was.
    fn remove(&mut self, cx: &mut Cx<'_, Self>, peer: P) -> Option<Kind> {
        let neighbour = self.neighbours.remove(&peer)?;
        self.accounts.put(peer.account(), neighbour.account);
        cx.clear_timer(KazaaTimer::Join(peer));
        if neighbour.up {
            cx.emit(KazaaEvent::Down(peer));
        }
        if neighbour.kind == Kind::Ordinary {
            self.index.forget(&peer);
        }
        self.unasked(&peer);
        Some(neighbour.kind)
    }

    /// Sends a neighbour away, to others if there are any.
    pub(super) fn part(&mut self, cx: &mut Cx<'_, Self>, peer: P, known: Vec<Known>) {
        cx.send(peer, KazaaMsg::Bye { known });
        self.lost(cx, peer);
    }

    /// Somebody has given a false answer: it is not spoken to any more.
    pub(super) fn ban(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        self.tally.banned += 1;
        self.nodes.ban(id_of(&peer), cx.now());
        if self.neighbours.contains_key(&peer) {
            self.part(cx, peer, Vec::new());
        }
        self.look_for_neighbours(cx);
    }

    // ---- upkeep

    /// Time to look after everything.
    pub(super) fn upkeep(&mut self, cx: &mut Cx<'_, Self>) {
        cx.set_timer(self.config.upkeep, KazaaTimer::Upkeep);
        let now = cx.now();
        let silent =
            self.neighbours.iter().filter(|(_, one)| one.up && now.since(one.heard) > self.config.silence);
        for peer in silent.map(|(peer, _)| *peer).collect::<Vec<P>>() {
            if let Some(contact) = self.neighbours.get(&peer).and_then(|one| one.contact) {
                self.nodes.failed(&contact);
            }
            self.part(cx, peer, Vec::new());
        }
        self.nodes.age(now);
        self.index.expire(now);
        self.consider(cx);
        self.exchange(cx);
        self.lure(cx);
        self.tell_again(cx);
        self.look_for_neighbours(cx);
        // Ordinary nodes probe their super-node.
        let others = self.neighbours.iter().filter(|(_, one)| one.up && one.kind != Kind::Ordinary);
        for peer in others.map(|(peer, _)| *peer).collect::<Vec<P>>() {
            self.probe(cx, peer);
        }
    }

    /// Asks a neighbour whether it is there.
    fn probe(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let nonce = cx.rng().next_u64();
        if let Some(neighbour) = self.neighbours.get_mut(&peer) {
            neighbour.probe = Some((nonce, cx.now()));
            cx.send(peer, KazaaMsg::Probe { nonce });
        }
    }

    /// Somebody wants to know whether this node is there.
    pub(super) fn on_probe(&mut self, cx: &mut Cx<'_, Self>, from: P, nonce: u64) {
        if self.role() == Role::Leaf {
            let known = self.list(cx, &from);
            return cx.send(from, KazaaMsg::Refuse { known });
        }
        let neighbour = self.neighbours.get_mut(&from).filter(|one| one.up);
        let is_neighbour = neighbour.is_some();
        if let Some(neighbour) = neighbour {
            neighbour.heard = cx.now();
        }
        cx.send(from, KazaaMsg::Room { nonce, room: self.room(), neighbour: is_neighbour });
    }

    /// A neighbour, or somebody who might become one, is there.
    pub(super) fn on_room(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        nonce: u64,
        room: Places,
        is_neighbour: bool,
    ) {
        let now = cx.now();
        if let Some(probing) = self.probing.get_mut(&from) {
            return probing.answered(now, nonce, room);
        }
        let Some(neighbour) = self.neighbours.get_mut(&from).filter(|one| one.up) else { return };
        let Some((_, sent)) = neighbour.probe.filter(|(asked, _)| *asked == nonce) else {
            self.tally.dropped += 1;
            return;
        };
        neighbour.probe = None;
        neighbour.heard = now;
        neighbour.rtt = now.since(sent);
        neighbour.room = room;
        let contact = neighbour.contact;
        if let Some(contact) = contact {
            self.nodes.met(contact, room.load, now);
        }
        if !is_neighbour {
            // It has started anew, or has given this node up.
            self.lost(cx, from);
        }
    }

    /// Exchanges a neighbour now and then, so that searches reach others: the furthest, or any. Who knows nobody but its
    /// neighbours asks one of them for its list instead: those who are full, and know each other alone, would stay apart
    /// from all who have come later.
    fn exchange(&mut self, cx: &mut Cx<'_, Self>) {
        let peers: Vec<P> = self.super_nodes().collect();
        let others = self.nodes.iter().any(|contact| !self.is_next_to(&contact));
        let may = !others || peers.len() >= self.config.wanted;
        if self.role() == Role::Leaf || !may || cx.now().since(self.exchanged) < self.config.exchange {
            return;
        }
        self.exchanged = cx.now();
        let any = cx.rng().choose(&peers).copied();
        if !others {
            if let Some(any) = any {
                cx.send(any, KazaaMsg::Join { as_super: true, listen: self.listen, digest: None });
            }
            return;
        }
        let furthest = self.up(Kind::Super).max_by_key(|(_, one)| one.rtt).map(|(peer, _)| peer);
        let Some(peer) = (if cx.rng().chance(0.5) { furthest } else { any }) else { return };
        if let Some(contact) = self.neighbours.get(&peer).and_then(|one| one.contact) {
            self.nodes.left(&contact, cx.now());
        }
        self.part(cx, peer, Vec::new());
    }

    /// Whether somebody there is a neighbour, or to be one.
    fn is_next_to(&self, contact: &Contact) -> bool {
        self.neighbours.values().any(|one| one.contact == Some(*contact))
    }

    /// Asks somebody now and then for what cannot be there.
    fn lure(&mut self, cx: &mut Cx<'_, Self>) {
        if cx.now().since(self.lured) < self.config.decoy {
            return;
        }
        self.lured = cx.now();
        let peers: Vec<P> = self.super_nodes().chain(self.parent()).collect();
        let Some(peer) = cx.rng().choose(&peers).copied() else { return };
        let (id, query) = (cx.rng().next_u64(), decoy(cx.rng()));
        self.decoys.insert(id, peer);
        self.tally.decoys += 1;
        match (self.role(), self.listen) {
            (Role::Ultrapeer, Some(origin)) => cx.send(peer, KazaaMsg::Query { id, origin, query, ttl: 0 }),
            _ => cx.send(peer, KazaaMsg::Ask { id, query, wanted: 50, ttl: 0 }),
        }
    }
}
