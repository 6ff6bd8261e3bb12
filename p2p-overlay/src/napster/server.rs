//! The index server: who is there, and what they share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use p2p_core::{Contact, Cx, PeerId};

use super::link::NapsterLinkMsg;
use super::linked::Links;
use super::msg::{NapsterFile, NapsterMsg};
use super::{Napster, NapsterConfig, NapsterLinks, can_be_quoted, is_nick};
use crate::bucket::Bucket;
use crate::place::{Place, of_address};
use crate::recent::Recent;
use crate::search::{Item, Library, Query};

/// The most results of one search (OpenNap, 200).
const MOST_RESULTS: u16 = 100;
/// As how many messages a login counts: all other servers are told of it, and all who wait for the user.
const LOGIN: u32 = 100;
/// What is put in the place of a checksum that is not known.
pub(super) const NO_CHECKSUM: &str = "00000000000000000000000000000000";

/// At most as many users, files and hot lists as configured.
pub(super) struct Server<P> {
    pub config: NapsterConfig,
    users: BTreeMap<P, User>,
    /// What those have sent who have left, the last 512 at least.
    parted: Recent<PeerId, Bucket>,
    nicks: BTreeMap<String, P>,
    files: Library<P>,
    /// Who wants to know when somebody comes and goes.
    watchers: BTreeMap<String, BTreeSet<P>>,
    pub links: Links<P>,
}

pub(super) struct User {
    nick: String,
    /// Where others reach it.
    contact: Option<Contact>,
    link: u8,
    hot: BTreeSet<String>,
    bucket: Bucket,
}

impl<P: Place> Server<P> {
    pub(super) fn new(config: NapsterConfig, links: NapsterLinks) -> Server<P> {
        Server {
            config,
            users: BTreeMap::new(),
            parted: Recent::new(1024),
            nicks: BTreeMap::new(),
            files: Library::new(config.files),
            watchers: BTreeMap::new(),
            links: Links::new(links),
        }
    }

    pub(super) fn size(&self) -> (usize, usize) {
        (self.users.len(), self.files.len())
    }

    /// Whether somebody is called so here.
    pub(super) fn has(&self, nick: &str) -> bool {
        self.nicks.contains_key(nick)
    }

    /// Who is here: names, where others reach them, and how fast their lines are.
    pub(super) fn own_users(&self) -> Vec<(String, Option<Contact>, u8)> {
        self.users.values().map(|user| (user.nick.clone(), user.contact, user.link)).collect()
    }

    pub(super) fn on_message(&mut self, cx: &mut Cx<'_, Napster<P>>, from: P, msg: NapsterMsg) {
        if let NapsterMsg::Login { nick, contact, link, .. } = msg {
            return self.on_login(cx, from, nick, contact, link);
        }
        match msg {
            NapsterMsg::Link(msg) => return self.on_link(cx, from, msg),
            // Another server does not want this one.
            NapsterMsg::Error(_) => return self.link_lost(cx, from),
            _ => {}
        }
        let Some(user) = self.users.get_mut(&from) else {
            return cx.send(from, NapsterMsg::Error("log in first".into()));
        };
        if !user.bucket.take(cx.now(), self.config.messages) {
            return;
        }
        match msg {
            NapsterMsg::Share(file) => self.on_share(from, &file),
            NapsterMsg::Unshare { name } => drop(self.files.remove_of(&from, &name)),
            NapsterMsg::Search { words, most, local_only } => {
                self.on_search(cx, from, words, most, local_only);
            }
            NapsterMsg::Download { nick, name } => self.on_download(cx, from, nick, name),
            NapsterMsg::Push { nick, name } => self.on_push(cx, from, nick, name),
            NapsterMsg::Private { nick, text } => {
                let from = user.nick.clone();
                self.on_private(cx, from, &nick, text);
            }
            NapsterMsg::AddHot { nick } => self.on_hot(cx, from, nick),
            NapsterMsg::RemoveHot { nick } => {
                user.hot.remove(&nick);
                self.unwatch(from, &nick);
            }
            NapsterMsg::Login { .. }
            | NapsterMsg::Link(_)
            | NapsterMsg::Error(_)
            | NapsterMsg::LoginAck { .. }
            | NapsterMsg::Result { .. }
            | NapsterMsg::EndOfResults
            | NapsterMsg::DownloadAck { .. }
            | NapsterMsg::GetError { .. }
            | NapsterMsg::SignOn { .. }
            | NapsterMsg::SignOff { .. }
            | NapsterMsg::HotAck { .. }
            | NapsterMsg::HotError { .. }
            | NapsterMsg::PushAck { .. }
            | NapsterMsg::Send { .. } => {}
        }
    }

    fn on_login(
        &mut self,
        cx: &mut Cx<'_, Napster<P>>,
        from: P,
        nick: String,
        contact: Option<Contact>,
        link: u8,
    ) {
        let why = match self.nicks.get(&nick) {
            Some(other) if *other != from => Some("somebody else is called so"),
            _ if self.links.user(&nick).is_some() => Some("somebody else is called so"),
            _ if !is_nick(&nick) => Some("nobody can be called so"),
            _ if self.users.len() >= self.config.users && !self.users.contains_key(&from) => Some("full"),
            _ => None,
        };
        if let Some(why) = why {
            return cx.send(from, NapsterMsg::Error(why.into()));
        }
        // Whoever logs in anew shares anew, and has sent what it has sent.
        let before = self.users.get(&from).map(|user| user.bucket);
        let before = before.or_else(|| self.parted.get(&from.account()).copied());
        let mut bucket = before.unwrap_or_default();
        let messages = self.config.messages;
        if !bucket.take_many(cx.now(), messages, LOGIN.min(messages.burst)) {
            return cx.send(from, NapsterMsg::Error("too often".into()));
        }
        self.gone(cx, from);
        let contact = contact.filter(|contact| from.may_be(contact));
        let (hot, link) = (BTreeSet::new(), link.min(10));
        self.users.insert(from, User { nick: nick.clone(), contact, link, hot, bucket });
        self.nicks.insert(nick.clone(), from);
        cx.send(from, NapsterMsg::LoginAck { email: "anon@napster.com".into() });
        self.links.joined(cx, &nick, contact, link);
        self.signed_on(cx, &nick, link);
    }

    pub(super) fn signed_on(&self, cx: &mut Cx<'_, Napster<P>>, nick: &str, link: u8) {
        for watcher in self.watchers.get(nick).into_iter().flatten() {
            cx.send(*watcher, NapsterMsg::SignOn { nick: nick.to_owned(), link });
        }
    }

    pub(super) fn signed_off(&self, cx: &mut Cx<'_, Napster<P>>, nick: &str) {
        for watcher in self.watchers.get(nick).into_iter().flatten() {
            cx.send(*watcher, NapsterMsg::SignOff { nick: nick.to_owned() });
        }
    }

    /// A user has left.
    pub(super) fn gone(&mut self, cx: &mut Cx<'_, Napster<P>>, peer: P) {
        let Some(user) = self.users.remove(&peer) else { return };
        self.parted.put(peer.account(), user.bucket);
        self.nicks.remove(&user.nick);
        self.files.remove_all_of(&peer);
        for nick in &user.hot {
            self.unwatch(peer, nick);
        }
        self.links.left(cx, peer, &user.nick);
        self.signed_off(cx, &user.nick);
    }

    fn on_share(&mut self, from: P, file: &NapsterFile) {
        let there = self.files.get_of(&from, &file.name).is_some();
        if there || self.files.count_of(&from) < self.config.files_each {
            // What cannot be shared is not: there is no message that says so.
            if let Some(item) = item(file) {
                let _ = self.files.insert_of(from, item);
            }
        }
    }

    /// Files that match, but the asker's own, and no more of one user's than that may give: who has them, what they are,
    /// from where and how fast.
    pub(super) fn find(&self, from: P, words: &str, most: u16) -> Vec<(String, NapsterFile, Ipv4Addr, u8)> {
        let query = Query::text(words);
        let found = self.files.find_some_of(&query, self.config.results_each);
        let found = found.filter(|(_, owner, _)| **owner != from);
        let found = found.take(most.min(MOST_RESULTS).into()).filter_map(|(_, owner, item)| {
            let user = self.users.get(owner)?;
            Some((user.nick.clone(), file(item), ip(user.contact), user.link))
        });
        found.collect()
    }

    fn on_search(
        &mut self,
        cx: &mut Cx<'_, Napster<P>>,
        from: P,
        words: String,
        most: u16,
        local_only: bool,
    ) {
        let most = most.min(MOST_RESULTS);
        let found = self.find(from, &words, most);
        let left = most.saturating_sub(found.len() as u16);
        for (nick, file, ip, link) in found {
            cx.send(from, NapsterMsg::Result { file, nick, ip, link });
        }
        let nick = self.users.get(&from).map(|user| user.nick.clone()).unwrap_or_default();
        // What cannot be quoted can be found here only.
        let asks = !local_only && can_be_quoted(&words);
        if !asks || !self.links.ask(cx, &self.config, from, nick, None, (words, left)) {
            cx.send(from, NapsterMsg::EndOfResults);
        }
    }

    /// The same message arrives, from the one instead of to the other (205).
    pub(super) fn on_private(&self, cx: &mut Cx<'_, Napster<P>>, from: String, nick: &str, text: String) {
        match self.nicks.get(nick) {
            Some(to) => cx.send(*to, NapsterMsg::Private { nick: from, text }),
            None => {
                let said = NapsterLinkMsg::Private { from, nick: nick.to_owned(), text };
                self.links.pass_on(cx, nick, said);
            }
        }
    }

    /// Who has a file of somebody's, and its checksum.
    pub(super) fn source(&self, nick: &str, name: &str) -> Option<(P, &User, String)> {
        let peer = *self.nicks.get(nick)?;
        let item = self.files.get_of(&peer, name)?;
        Some((peer, self.users.get(&peer)?, file(item).checksum))
    }

    fn on_download(&mut self, cx: &mut Cx<'_, Napster<P>>, from: P, nick: String, name: String) {
        let here = self.source(&nick, &name).map(|(_, user, checksum)| (user.contact, user.link, checksum));
        // Of another server's user it is not known what it shares: it says so itself.
        let there = self.links.user(&nick).map(|user| (user.contact, user.link, NO_CHECKSUM.to_owned()));
        let msg = match here.or(there) {
            None => NapsterMsg::GetError { nick, name },
            Some((contact, link, checksum)) => {
                let contact = contact.unwrap_or_else(|| of_address((Ipv4Addr::UNSPECIFIED, 0).into()));
                NapsterMsg::DownloadAck { nick, contact, name, checksum, link }
            }
        };
        cx.send(from, msg);
    }

    fn on_push(&mut self, cx: &mut Cx<'_, Napster<P>>, from: P, nick: String, name: String) {
        let asker =
            self.users.get(&from).and_then(|user| Some((user.nick.clone(), user.contact?, user.link)));
        let source = self.source(&nick, &name).map(|(peer, _, checksum)| (peer, checksum));
        match (asker, source) {
            (Some((asker, contact, link)), Some((peer, checksum))) => {
                cx.send(peer, NapsterMsg::PushAck { nick: asker, contact, name, checksum, link });
            }
            (Some((from, ..)), None) if self.links.user(&nick).is_some() => {
                let push = NapsterLinkMsg::Push { from, nick: nick.clone(), name };
                self.links.pass_on(cx, &nick, push);
            }
            _ => cx.send(from, NapsterMsg::GetError { nick, name }),
        }
    }

    fn on_hot(&mut self, cx: &mut Cx<'_, Napster<P>>, from: P, nick: String) {
        let Some(user) = self.users.get_mut(&from) else { return };
        let room = user.hot.len() < self.config.hot || user.hot.contains(&nick);
        if !room || !is_nick(&nick) {
            return cx.send(from, NapsterMsg::HotError { nick });
        }
        user.hot.insert(nick.clone());
        self.watchers.entry(nick.clone()).or_default().insert(from);
        let here = self.nicks.get(&nick).and_then(|peer| self.users.get(peer)).map(|user| user.link);
        let there = here.or_else(|| self.links.user(&nick).map(|user| user.link));
        cx.send(from, NapsterMsg::HotAck { nick: nick.clone() });
        if let Some(link) = there {
            cx.send(from, NapsterMsg::SignOn { nick, link });
        }
    }

    fn unwatch(&mut self, watcher: P, nick: &str) {
        if let Some(watchers) = self.watchers.get_mut(nick) {
            watchers.remove(&watcher);
            if watchers.is_empty() {
                self.watchers.remove(nick);
            }
        }
    }
}

/// The number of an address, which nobody can connect to without a port.
pub(super) fn ip(contact: Option<Contact>) -> Ipv4Addr {
    match contact.map(|contact| contact.addr.ip()) {
        Some(IpAddr::V4(ip)) => ip,
        _ => Ipv4Addr::UNSPECIFIED,
    }
}

/// A file as an item; `None` if it is none that can be shared.
pub(super) fn item(file: &NapsterFile) -> Option<Item> {
    let music = ["bit rate", "frequency", "seconds"].iter().zip(file.music);
    let metadata =
        music.filter(|(_, value)| *value > 0).map(|(key, value)| ((*key).to_owned(), value.to_string()));
    let checksum = (file.checksum != NO_CHECKSUM).then(|| ("checksum".to_owned(), file.checksum.clone()));
    let metadata = metadata.chain(checksum).collect();
    let item = Item { name: file.name.clone(), size: file.size, hashes: Vec::new(), metadata };
    (can_be_quoted(&item.name) && item.check().is_ok()).then_some(item)
}

/// An item as a file.
pub(super) fn file(item: &Item) -> NapsterFile {
    let said =
        |key: &str| item.metadata.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
    let number = |key| said(key).and_then(|value| value.parse().ok()).unwrap_or(0);
    let word = |text: &&str| {
        !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    NapsterFile {
        name: item.name.clone(),
        checksum: said("checksum").filter(word).unwrap_or(NO_CHECKSUM).to_owned(),
        size: item.size,
        music: [number("bit rate"), number("frequency"), number("seconds")],
    }
}
