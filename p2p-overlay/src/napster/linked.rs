//! Linked servers: each knows the users of all, and asks the others where its own files are too few.
//!
//! Links make a tree, as in OpenNap: a server that is in the network already, by whatever way, is not linked again. So
//! every message has one way, and what comes from a link is passed on to all others. A server has several others that
//! it may link to, and tries them again and again; whom it is linked to in some way refuses. When a server or a link is
//! lost the tree is in two parts, until one of those tries joins them; users of a lost server log in to another one.
//!
//! Two servers trust each other: they share a password, and believe what the other says of its users. Still everything
//! is bounded.

use std::collections::{BTreeMap, BTreeSet};

use p2p_core::{Contact, Cx};

use super::link::{NapsterLinkMsg, NapsterSearchId, digest};
use super::msg::{NapsterFile, NapsterMsg};
use super::server::{Server, item};
use super::{Napster, NapsterConfig, NapsterLinks, NapsterTimer, is_nick};
use crate::place::Place;

/// Connections to other servers at once.
const MOST_LINKS: usize = 16;
/// Servers of the whole network.
const MOST_SERVERS: usize = 256;
/// Servers that a message may have passed.
const MOST_HOPS: u8 = 32;

/// At most 16 links, 256 servers, as many users elsewhere and searches as configured.
pub(super) struct Links<P> {
    of: NapsterLinks,
    /// Whose turn it is to be dialled.
    turn: usize,
    /// The number of the last connection it has made.
    number: u64,
    peers: BTreeMap<P, Link>,
    /// All other servers of the network, and the link they are behind.
    servers: BTreeMap<String, P>,
    /// Users of other servers.
    users: BTreeMap<String, Elsewhere<P>>,
    searches: BTreeMap<NapsterSearchId, Asked<P>>,
}

/// A connection to a server.
struct Link {
    /// Where it was dialled, if it was.
    dialled: Option<Contact>,
    nonce: String,
    /// What it has said: its name and its nonce.
    theirs: Option<(String, String)>,
    up: bool,
}

/// A user of another server.
pub(super) struct Elsewhere<P> {
    via: P,
    server: String,
    pub contact: Option<Contact>,
    pub link: u8,
}

/// A search that others were asked too.
struct Asked<P> {
    /// Who wants to know: a user of this server, or another server.
    by: P,
    from_server: bool,
    waiting: BTreeSet<P>,
    left: u16,
}

type Out<'a, 'b, P> = &'a mut Cx<'b, Napster<P>>;

fn say<P: Place>(cx: Out<'_, '_, P>, to: P, msg: NapsterLinkMsg) {
    cx.send(to, NapsterMsg::Link(msg));
}

impl<P: Place> Links<P> {
    pub(super) fn new(of: NapsterLinks) -> Links<P> {
        let (peers, servers) = (BTreeMap::new(), BTreeMap::new());
        let (users, searches) = (BTreeMap::new(), BTreeMap::new());
        Links { of, turn: 0, number: 0, peers, servers, users, searches }
    }

    /// A user of another server.
    pub(super) fn user(&self, nick: &str) -> Option<&Elsewhere<P>> {
        self.users.get(nick)
    }

    /// How many other servers there are, and how many users they have.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.servers.len(), self.users.len())
    }

    fn up(&self) -> impl Iterator<Item = P> {
        self.peers.iter().filter(|(_, link)| link.up).map(|(peer, _)| *peer)
    }

    fn is_up(&self, peer: P) -> bool {
        self.peers.get(&peer).is_some_and(|link| link.up)
    }

    /// Tells all links but one.
    fn tell(&self, cx: Out<'_, '_, P>, but: Option<P>, msg: &NapsterLinkMsg) {
        for peer in self.up().filter(|peer| Some(*peer) != but) {
            say(cx, peer, msg.clone());
        }
    }

    /// A user of this server has come.
    pub(super) fn joined(&self, cx: Out<'_, '_, P>, nick: &str, contact: Option<Contact>, link: u8) {
        let (nick, server) = (nick.to_owned(), self.of.name.clone());
        self.tell(cx, None, &NapsterLinkMsg::User { nick, contact, link, server });
    }

    /// A user of this server is gone; nobody waits for its searches.
    pub(super) fn left(&mut self, cx: Out<'_, '_, P>, peer: P, nick: &str) {
        self.tell(cx, None, &NapsterLinkMsg::Quit { nick: nick.to_owned() });
        self.drop_searches(cx, |asked| asked.by == peer);
    }

    fn drop_searches(&mut self, cx: Out<'_, '_, P>, which: impl Fn(&Asked<P>) -> bool) {
        self.searches.retain(|id, asked| {
            let drops = which(asked);
            if drops {
                cx.clear_timer(NapsterTimer::Asked(*id));
            }
            !drops
        });
    }

    /// Passes on what a user says to one of another server; `false` if there is no such user there.
    pub(super) fn pass_on(&self, cx: Out<'_, '_, P>, nick: &str, msg: NapsterLinkMsg) -> bool {
        let via = self.users.get(nick).map(|user| user.via);
        if let Some(via) = via {
            say(cx, via, msg);
        }
        via.is_some()
    }

    /// Asks the other servers for what is still wanted; `false` if nobody is asked.
    pub(super) fn ask(
        &mut self,
        cx: Out<'_, '_, P>,
        config: &NapsterConfig,
        by: P,
        nick: String,
        id: Option<NapsterSearchId>,
        (words, most): (String, u16),
    ) -> bool {
        let waiting: BTreeSet<P> = self.up().filter(|peer| *peer != by).collect();
        if waiting.is_empty() || most == 0 || self.searches.len() >= config.relayed {
            return false;
        }
        let from_server = id.is_some();
        let id = id.unwrap_or_else(|| letters(cx));
        for peer in &waiting {
            let (nick, words) = (nick.clone(), words.clone());
            say(cx, *peer, NapsterLinkMsg::Search { nick, id, words, most });
        }
        cx.set_timer(config.relay_timeout, NapsterTimer::Asked(id));
        self.searches.insert(id, Asked { by, from_server, waiting, left: most });
        true
    }

    /// All have answered, or have had their time.
    pub(super) fn end(&mut self, cx: Out<'_, '_, P>, id: NapsterSearchId) {
        let Some(asked) = self.searches.remove(&id) else { return };
        cx.clear_timer(NapsterTimer::Asked(id));
        match asked.from_server {
            true => say(cx, asked.by, NapsterLinkMsg::End { id }),
            false => cx.send(asked.by, NapsterMsg::EndOfResults),
        }
    }

    fn on_result(
        &mut self,
        cx: Out<'_, '_, P>,
        from: P,
        id: NapsterSearchId,
        nick: String,
        file: NapsterFile,
    ) {
        let Some(user) = self.users.get(&nick).filter(|user| user.via == from) else { return };
        let Some(asked) = self.searches.get_mut(&id).filter(|asked| asked.waiting.contains(&from)) else {
            return;
        };
        if item(&file).is_none() {
            return;
        }
        asked.left = asked.left.saturating_sub(1);
        let done = asked.left == 0;
        match asked.from_server {
            true => say(cx, asked.by, NapsterLinkMsg::Result { id, nick, file }),
            false => {
                let (ip, link) = (super::server::ip(user.contact), user.link);
                cx.send(asked.by, NapsterMsg::Result { file, nick, ip, link });
            }
        }
        if done {
            self.end(cx, id);
        }
    }

    fn on_end(&mut self, cx: Out<'_, '_, P>, from: P, id: NapsterSearchId) {
        let Some(asked) = self.searches.get_mut(&id) else { return };
        asked.waiting.remove(&from);
        if asked.waiting.is_empty() {
            self.end(cx, id);
        }
    }

    // ---- links

    /// Links to the next server that it is not linked to, and comes back.
    pub(super) fn relink(&mut self, cx: Out<'_, '_, P>, config: &NapsterConfig) {
        if self.of.password.is_empty() {
            return;
        }
        let wait = cx.rng().duration(config.relink / 2, config.relink * 3 / 2);
        cx.set_timer(wait, NapsterTimer::Relink);
        // Whoever has not answered since is not there.
        let late: Vec<P> = self.peers.iter().filter(|(_, link)| !link.up).map(|(peer, _)| *peer).collect();
        for peer in late {
            self.peers.remove(&peer);
            cx.send(peer, NapsterMsg::Error("link failed: silent".into()));
        }
        let there = |contact: Contact| {
            let mut peers = self.peers.iter();
            peers.any(|(peer, link)| link.dialled == Some(contact) || peer.contact() == Some(contact))
        };
        let wanted: Vec<Contact> = self.of.servers.iter().copied().filter(|one| !there(*one)).collect();
        if wanted.is_empty() || self.peers.len() >= MOST_LINKS {
            return;
        }
        let contact = wanted[self.turn % wanted.len()];
        self.turn += 1;
        self.number += 1;
        let peer = P::at(contact, self.number);
        let nonce = letters(cx).map(char::from).iter().collect::<String>();
        self.peers
            .insert(peer, Link { dialled: Some(contact), nonce: nonce.clone(), theirs: None, up: false });
        say(cx, peer, NapsterLinkMsg::Login { name: self.of.name.clone(), nonce });
    }

    fn knows(&self, name: &str) -> bool {
        name == self.of.name || self.servers.contains_key(name)
    }

    /// A server wants to be linked, or answers that it would be.
    fn on_login(&mut self, cx: Out<'_, '_, P>, from: P, name: String, nonce: String) {
        let known = self.peers.contains_key(&from);
        let why = match () {
            () if self.of.password.is_empty() => Some("no links"),
            () if !is_nick(&name) || nonce.is_empty() || nonce.len() > 64 => Some("no name"),
            () if self.knows(&name) => Some("already linked"),
            () if !known && self.peers.len() >= MOST_LINKS => Some("full"),
            () => None,
        };
        if let Some(why) = why {
            self.peers.remove(&from);
            return cx.send(from, NapsterMsg::Error(format!("link failed: {why}")));
        }
        if !known {
            let own = letters(cx).map(char::from).iter().collect::<String>();
            say(cx, from, NapsterLinkMsg::Login { name: self.of.name.clone(), nonce: own.clone() });
            self.peers.insert(from, Link { dialled: None, nonce: own, theirs: None, up: false });
        }
        let Some(link) = self.peers.get_mut(&from).filter(|link| link.theirs.is_none()) else { return };
        let digest = digest(&nonce, &link.nonce, &self.of.password);
        link.theirs = Some((name, nonce));
        say(cx, from, NapsterLinkMsg::Ack { digest });
    }

    /// A server has proved that it knows the password; the name of it, if so.
    fn on_ack(&mut self, cx: Out<'_, '_, P>, from: P, proof: &str) -> Option<String> {
        let link = self.peers.get(&from).filter(|link| !link.up)?;
        let (name, nonce) = link.theirs.clone()?;
        let why = match () {
            () if digest(&link.nonce, &nonce, &self.of.password) != proof => "bad password",
            // Another connection was quicker.
            () if self.knows(&name) || self.servers.len() >= MOST_SERVERS => "already linked",
            () => {
                self.peers.get_mut(&from)?.up = true;
                let (own, to) = (self.of.name.clone(), name.clone());
                self.tell(cx, Some(from), &NapsterLinkMsg::Server { name: to, to: own.clone(), hops: 2 });
                for other in self.servers.keys().cloned() {
                    say(cx, from, NapsterLinkMsg::Server { name: other, to: own.clone(), hops: 2 });
                }
                for (nick, user) in &self.users {
                    let (nick, server) = (nick.clone(), user.server.clone());
                    let (contact, link) = (user.contact, user.link);
                    say(cx, from, NapsterLinkMsg::User { nick, contact, link, server });
                }
                self.servers.insert(name.clone(), from);
                return Some(name);
            }
        };
        self.peers.remove(&from);
        cx.send(from, NapsterMsg::Error(format!("link failed: {why}")));
        None
    }

    /// A server says that another is there. Two ways to one make a circle: this link is cut, and tried again some time.
    /// `false` if it is.
    fn on_server(&mut self, cx: Out<'_, '_, P>, from: P, name: String, to: String, hops: u8) -> bool {
        if self.knows(&name) {
            return false;
        }
        if is_nick(&name) && hops < MOST_HOPS && self.servers.len() < MOST_SERVERS {
            self.tell(cx, Some(from), &NapsterLinkMsg::Server { name: name.clone(), to, hops: hops + 1 });
            self.servers.insert(name, from);
        }
        true
    }

    fn on_gone(&mut self, cx: Out<'_, '_, P>, from: P, name: String, said_by: String) {
        if self.servers.get(&name) == Some(&from) {
            self.servers.remove(&name);
            self.tell(cx, Some(from), &NapsterLinkMsg::Gone { name, from: said_by });
        }
    }

    /// A link is lost: those behind it are gone for now. Their names, if it was one.
    fn lost(&mut self, cx: Out<'_, '_, P>, peer: P) -> Option<Vec<String>> {
        self.peers.remove(&peer)?;
        let behind: Vec<String> =
            self.servers.iter().filter(|(_, via)| **via == peer).map(|(name, _)| name.clone()).collect();
        for name in behind {
            self.servers.remove(&name);
            self.tell(cx, None, &NapsterLinkMsg::Gone { name, from: self.of.name.clone() });
        }
        self.drop_searches(cx, |asked| asked.by == peer);
        for id in self.searches.keys().copied().collect::<Vec<NapsterSearchId>>() {
            self.on_end(cx, peer, id);
        }
        let users = self.users.iter().filter(|(_, user)| user.via == peer);
        Some(users.map(|(nick, _)| nick.clone()).collect())
    }
}

fn letters<P: Place>(cx: Out<'_, '_, P>) -> NapsterSearchId {
    std::array::from_fn(|_| b'A' + cx.rng().below(26) as u8)
}

impl<P: Place> Server<P> {
    /// A server says something, or whoever wants to be one.
    pub(super) fn on_link(&mut self, cx: Out<'_, '_, P>, from: P, msg: NapsterLinkMsg) {
        match msg {
            NapsterLinkMsg::Login { name, nonce } => {
                // It has forgotten that it is linked.
                if self.links.is_up(from) {
                    self.link_lost(cx, from);
                }
                self.links.on_login(cx, from, name, nonce);
            }
            NapsterLinkMsg::Ack { digest } => {
                if self.links.on_ack(cx, from, &digest).is_some() {
                    for (nick, contact, link) in self.own_users() {
                        let server = self.links.of.name.clone();
                        say(cx, from, NapsterLinkMsg::User { nick, contact, link, server });
                    }
                }
            }
            _ if !self.links.is_up(from) => cx.send(from, NapsterMsg::Error("no link".into())),
            NapsterLinkMsg::User { nick, contact, link, server } => {
                let user = Elsewhere { via: from, server, contact, link: link.min(10) };
                self.on_user(cx, nick, user);
            }
            NapsterLinkMsg::Quit { nick } => {
                if self.links.users.get(&nick).is_some_and(|user| user.via == from) {
                    self.user_gone(cx, Some(from), nick);
                }
            }
            NapsterLinkMsg::Server { name, to, hops } => {
                if !self.links.on_server(cx, from, name, to, hops) {
                    cx.send(from, NapsterMsg::Error("link failed: a circle".into()));
                    self.link_lost(cx, from);
                }
            }
            NapsterLinkMsg::Gone { name, from: said_by } => self.links.on_gone(cx, from, name, said_by),
            NapsterLinkMsg::Search { nick, id, words, most } => {
                self.on_remote_search(cx, from, nick, id, words, most);
            }
            NapsterLinkMsg::Result { id, nick, file } => self.links.on_result(cx, from, id, nick, file),
            NapsterLinkMsg::End { id } => self.links.on_end(cx, from, id),
            NapsterLinkMsg::Private { from: nick, nick: to, text } => self.on_private(cx, nick, &to, text),
            NapsterLinkMsg::Push { from: asker, nick, name } => self.pass_push(cx, from, asker, nick, name),
        }
    }

    /// A user of another server has come. Whoever was called so first stays.
    fn on_user(&mut self, cx: Out<'_, '_, P>, nick: String, user: Elsewhere<P>) {
        let room = self.links.users.len() < self.config.users_elsewhere;
        if !room || !is_nick(&nick) || self.has(&nick) || self.links.users.contains_key(&nick) {
            return;
        }
        let (contact, link, server) = (user.contact, user.link, user.server.clone());
        let told = NapsterLinkMsg::User { nick: nick.clone(), contact, link, server };
        self.links.tell(cx, Some(user.via), &told);
        self.links.users.insert(nick.clone(), user);
        self.signed_on(cx, &nick, link);
    }

    fn user_gone(&mut self, cx: Out<'_, '_, P>, from: Option<P>, nick: String) {
        self.links.users.remove(&nick);
        self.links.tell(cx, from, &NapsterLinkMsg::Quit { nick: nick.clone() });
        self.signed_off(cx, &nick);
    }

    /// A connection to a server has ended, if it was one.
    pub(super) fn link_lost(&mut self, cx: Out<'_, '_, P>, peer: P) {
        for nick in self.links.lost(cx, peer).unwrap_or_default() {
            self.user_gone(cx, None, nick);
        }
    }

    fn on_remote_search(
        &mut self,
        cx: Out<'_, '_, P>,
        from: P,
        nick: String,
        id: NapsterSearchId,
        words: String,
        most: u16,
    ) {
        let known = self.links.users.get(&nick).is_some_and(|user| user.via == from);
        if !known || self.links.searches.contains_key(&id) {
            return say(cx, from, NapsterLinkMsg::End { id });
        }
        let found = self.find(from, &words, most);
        let left = most.saturating_sub(found.len() as u16);
        for (nick, file, ..) in found {
            say(cx, from, NapsterLinkMsg::Result { id, nick, file });
        }
        if !self.links.ask(cx, &self.config, from, nick, Some(id), (words, left)) {
            say(cx, from, NapsterLinkMsg::End { id });
        }
    }

    fn pass_push(&mut self, cx: Out<'_, '_, P>, from: P, asker: String, nick: String, name: String) {
        let Some(user) = self.links.users.get(&asker).filter(|user| user.via == from) else { return };
        let (contact, link) = (user.contact, user.link);
        match (contact, self.source(&nick, &name)) {
            (Some(contact), Some((peer, _, checksum))) => {
                cx.send(peer, NapsterMsg::PushAck { nick: asker, contact, name, checksum, link });
            }
            _ => {
                let push = NapsterLinkMsg::Push { from: asker, nick: nick.clone(), name };
                self.links.pass_on(cx, &nick, push);
            }
        }
    }
}
