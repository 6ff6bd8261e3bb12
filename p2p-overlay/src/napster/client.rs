//! The client: logs in, shares, searches, and asks for files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use p2p_core::{Contact, Cx, OpId};

use super::msg::{NapsterFile, NapsterMsg};
use super::server::{file, item};
use super::{
    Napster, NapsterCommand, NapsterConfig, NapsterEvent, NapsterOutcome, NapsterTimer, Say, Watch,
    can_be_quoted, is_nick,
};
use crate::bucket::Bucket;
use crate::place::{Place, is_somewhere};
use crate::search::{
    Cost, End, Fetch, Hit, Item, Library, MAX_HITS, Query, Reach, Scope, SearchCommand, SearchError,
    SearchItem, SearchOutcome, Searched,
};

/// What a frame has beside its text.
const FRAME: u64 = 4;

/// At most [`NapsterConfig::capacity`] searches and downloads each.
pub(super) struct Client<P> {
    config: NapsterConfig,
    nick: String,
    listen: Option<Contact>,
    servers: Vec<Contact>,
    /// Which of them is next.
    turn: usize,
    /// The server, and whether it has let this client in.
    session: Option<(P, bool)>,
    library: Library,
    hot: BTreeSet<String>,
    /// The first is under way: results do not say what they are for, so that there can be one at a time.
    searches: VecDeque<Searching>,
    reaches: BTreeMap<OpId, Reaching>,
    push: Bucket,
    /// The number of the last connection it has made.
    number: u64,
}

struct Searching {
    /// `None` if nobody waits for it any more: what the server still says of it belongs to nothing else.
    op: Option<OpId>,
    query: Query,
    scope: Scope,
    hits: u32,
    cost: Cost,
}

struct Reaching {
    nick: String,
    name: String,
    /// Whether the source was asked to connect.
    pushed: bool,
}

type Out<'a, 'b, P> = &'a mut Cx<'b, Napster<P>>;

impl<P: Place> Client<P> {
    pub(super) fn new(
        nick: String,
        listen: Option<Contact>,
        servers: Vec<Contact>,
        config: NapsterConfig,
    ) -> Client<P> {
        Client {
            config,
            nick,
            listen,
            servers,
            turn: 0,
            session: None,
            library: Library::new(config.items),
            hot: BTreeSet::new(),
            searches: VecDeque::new(),
            reaches: BTreeMap::new(),
            push: Bucket::default(),
            number: 0,
        }
    }

    pub(super) fn library(&self) -> &Library {
        &self.library
    }

    pub(super) fn library_mut(&mut self) -> &mut Library {
        &mut self.library
    }

    /// The server, if it has let this client in.
    fn server(&self) -> Option<P> {
        self.session.filter(|(_, up)| *up).map(|(peer, _)| peer)
    }

    fn dial(&mut self, contact: Contact) -> P {
        self.number += 1;
        P::at(contact, self.number)
    }

    // ---- the session

    /// Tries the next server.
    pub(super) fn log_in(&mut self, cx: Out<'_, '_, P>) {
        cx.set_timer(self.config.login, NapsterTimer::Login);
        let Some(server) = self.servers.get(self.turn % self.servers.len().max(1)).copied() else { return };
        self.turn += 1;
        let peer = self.dial(server);
        self.session = Some((peer, false));
        self.say_who(cx, peer);
    }

    fn say_who(&self, cx: Out<'_, '_, P>, server: P) {
        let (nick, password) = (self.nick.clone(), "none".to_owned());
        let (contact, link) = (self.listen, self.config.link);
        cx.send(server, NapsterMsg::Login { nick, password, contact, info: "p2p".into(), link });
    }

    /// The server is gone.
    pub(super) fn gone(&mut self, cx: Out<'_, '_, P>, peer: P) {
        if self.session.is_some_and(|(server, _)| server == peer) {
            self.log_out(cx, None);
        }
    }

    /// Searches end as far as they have come: they may have missed something.
    fn log_out(&mut self, cx: Out<'_, '_, P>, why: Option<String>) {
        let Some((_, up)) = self.session.take() else { return };
        if up || why.is_some() {
            cx.emit(NapsterEvent::LoggedOut(why));
        }
        while let Some(search) = self.searches.pop_front() {
            self.ended(cx, search, Err(SearchError::NotConnected));
        }
        for (op, _) in std::mem::take(&mut self.reaches) {
            self.reached(cx, op, Err(SearchError::NotConnected));
        }
        // At the next turn of the timer another server is tried; at once, if this one had let it in.
        if up {
            self.log_in(cx);
        }
    }

    pub(super) fn on_timer(&mut self, cx: Out<'_, '_, P>, timer: NapsterTimer) {
        match timer {
            NapsterTimer::Login => {
                if self.server().is_none() {
                    self.log_in(cx);
                }
            }
            NapsterTimer::Search(op) => {
                // Those behind it in the line have not been sent.
                let Some(at) = self.searches.iter().position(|search| search.op == Some(op)) else { return };
                match at {
                    0 => {
                        let long = self.searches[0].scope.deadline >= self.config.login;
                        self.finish_first(cx, Ok(End::Deadline));
                        // A server that is silent for so long is none.
                        if long {
                            self.log_out(cx, None);
                        }
                    }
                    _ => {
                        if let Some(search) = self.searches.remove(at) {
                            self.ended(cx, search, Ok(End::Deadline));
                        }
                    }
                }
            }
            NapsterTimer::Reach(op) => {
                if self.reaches.remove(&op).is_some() {
                    self.reached(cx, op, Err(SearchError::Unreachable));
                }
            }
            NapsterTimer::Relink | NapsterTimer::Asked(_) => {}
        }
    }

    pub(super) fn on_message(&mut self, cx: Out<'_, '_, P>, from: P, msg: NapsterMsg) {
        if let NapsterMsg::Send { nick, name, .. } = msg {
            return self.on_send(cx, from, &nick, &name);
        }
        if self.session.is_none_or(|(server, _)| server != from) {
            return;
        }
        match msg {
            NapsterMsg::LoginAck { .. } => self.on_logged_in(cx, from),
            NapsterMsg::Error(why) => self.log_out(cx, Some(why)),
            NapsterMsg::Result { file, nick, .. } => self.on_result(cx, &file, nick),
            NapsterMsg::EndOfResults => {
                if let Some(search) = self.searches.front_mut() {
                    search.cost.messages += 1;
                    search.cost.bytes += FRAME;
                }
                match self.searches.front() {
                    Some(Searching { op: Some(_), .. }) => self.finish_first(cx, Ok(End::Exhausted)),
                    Some(_) | None => drop(self.searches.pop_front()),
                }
                self.next_search(cx);
            }
            NapsterMsg::DownloadAck { nick, contact, name, .. } => self.on_ack(cx, &nick, contact, &name),
            NapsterMsg::GetError { nick, name } => {
                if let Some(op) = self.reaching(&nick, &name) {
                    self.end_reach(cx, op, Err(SearchError::Unreachable));
                }
            }
            NapsterMsg::PushAck { contact, name, .. } => self.on_push(cx, contact, name),
            NapsterMsg::Private { nick, text } => cx.emit(NapsterEvent::Private { nick, text }),
            NapsterMsg::SignOn { nick, .. } if self.hot.contains(&nick) => {
                cx.emit(NapsterEvent::SignOn(nick));
            }
            NapsterMsg::SignOff { nick } if self.hot.contains(&nick) => cx.emit(NapsterEvent::SignOff(nick)),
            NapsterMsg::HotError { nick } => {
                self.hot.remove(&nick);
            }
            NapsterMsg::SignOn { .. }
            | NapsterMsg::SignOff { .. }
            | NapsterMsg::HotAck { .. }
            | NapsterMsg::Login { .. }
            | NapsterMsg::Share(_)
            | NapsterMsg::Unshare { .. }
            | NapsterMsg::Search { .. }
            | NapsterMsg::Download { .. }
            | NapsterMsg::AddHot { .. }
            | NapsterMsg::RemoveHot { .. }
            | NapsterMsg::Push { .. }
            | NapsterMsg::Link(_)
            | NapsterMsg::Send { .. } => {}
        }
    }

    fn on_logged_in(&mut self, cx: Out<'_, '_, P>, server: P) {
        if self.server().is_some() {
            return;
        }
        self.session = Some((server, true));
        cx.emit(NapsterEvent::LoggedIn(server));
        for nick in &self.hot {
            cx.send(server, NapsterMsg::AddHot { nick: nick.clone() });
        }
        for (_, item) in self.library.iter() {
            cx.send(server, NapsterMsg::Share(file(item)));
        }
    }

    // ---- commands

    pub(super) fn on_command(&mut self, cx: Out<'_, '_, P>, op: OpId, command: NapsterCommand<P>) {
        match command {
            NapsterCommand::Search(SearchCommand::Publish(item)) => {
                let published = self.publish(cx, item);
                cx.finish(op, NapsterOutcome::Search(SearchOutcome::Published(published)));
            }
            NapsterCommand::Search(SearchCommand::Unpublish(name)) => {
                let removed = self.library.remove(&name).is_some();
                if let Some(server) = self.server().filter(|_| removed) {
                    cx.send(server, NapsterMsg::Unshare { name });
                }
                cx.finish(op, NapsterOutcome::Search(SearchOutcome::Unpublished(removed)));
            }
            NapsterCommand::Search(SearchCommand::Search(query, scope)) => {
                self.begin_search(cx, op, query, scope);
            }
            NapsterCommand::Search(SearchCommand::Reach(hit)) => self.begin_reach(cx, op, &hit),
            NapsterCommand::Say(Say { nick, text }) => {
                let sent = match self.server() {
                    _ if !is_nick(&nick) || text.len() > 1024 => Err(SearchError::BadQuery),
                    None => Err(SearchError::NotConnected),
                    Some(server) => {
                        cx.send(server, NapsterMsg::Private { nick, text });
                        Ok(())
                    }
                };
                cx.finish(op, NapsterOutcome::Sent(sent));
            }
            NapsterCommand::Watch(watch) => {
                let sent = self.watch(cx, watch);
                cx.finish(op, NapsterOutcome::Sent(sent));
            }
            NapsterCommand::Reachable(contact) => {
                self.listen = contact;
                // The same connection logs in anew; what is shared follows.
                if let Some((server, up)) = &mut self.session {
                    *up = false;
                    let server = *server;
                    self.say_who(cx, server);
                }
                cx.finish(op, NapsterOutcome::Sent(Ok(())));
            }
        }
    }

    pub(super) fn on_cancel(&mut self, cx: Out<'_, '_, P>, op: OpId) {
        if self.reaches.remove(&op).is_some() {
            cx.clear_timer(NapsterTimer::Reach(op));
        }
        let Some(at) = self.searches.iter().position(|search| search.op == Some(op)) else { return };
        cx.clear_timer(NapsterTimer::Search(op));
        match at {
            0 => self.searches[0].op = None,
            _ => drop(self.searches.remove(at)),
        }
    }

    fn publish(&mut self, cx: Out<'_, '_, P>, item: Item) -> Result<(), SearchError> {
        if !can_be_quoted(&item.name) {
            return Err(SearchError::BadItem);
        }
        let shared = file(&item);
        self.library.insert(item)?;
        if let Some(server) = self.server() {
            cx.send(server, NapsterMsg::Share(shared));
        }
        Ok(())
    }

    fn watch(&mut self, cx: Out<'_, '_, P>, Watch { nick, on }: Watch) -> Result<(), SearchError> {
        if !is_nick(&nick) {
            return Err(SearchError::BadQuery);
        }
        if on && self.hot.len() >= self.config.hot {
            return Err(SearchError::Busy);
        }
        let changed = if on { self.hot.insert(nick.clone()) } else { self.hot.remove(&nick) };
        if let Some(server) = self.server().filter(|_| changed) {
            let msg = if on { NapsterMsg::AddHot { nick } } else { NapsterMsg::RemoveHot { nick } };
            cx.send(server, msg);
        }
        Ok(())
    }

    // ---- searching

    fn begin_search(&mut self, cx: Out<'_, '_, P>, op: OpId, query: Query, scope: Scope) {
        let refused = match scope.reach {
            Reach::Ring { .. } | Reach::Walk { .. } => Some(SearchError::Unsupported),
            // The index knows names.
            Reach::Auto | Reach::Ttl(_) if query.hash().is_some() => Some(SearchError::Unsupported),
            _ if query.is_empty() || query.words().join(" ").len() > 512 => Some(SearchError::BadQuery),
            _ if self.searches.len() >= self.config.capacity => Some(SearchError::Busy),
            _ if self.server().is_none() => Some(SearchError::NotConnected),
            _ => None,
        };
        if let Some(why) = refused {
            return cx.finish(op, NapsterOutcome::Search(SearchOutcome::Searched(Err(why))));
        }
        cx.set_timer(scope.deadline, NapsterTimer::Search(op));
        self.searches.push_back(Searching { op: Some(op), query, scope, hits: 0, cost: Cost::default() });
        if self.searches.len() == 1 {
            self.next_search(cx);
        }
    }

    /// Asks what the first search is for.
    fn next_search(&mut self, cx: Out<'_, '_, P>) {
        let (Some(server), Some(search)) = (self.server(), self.searches.front_mut()) else { return };
        let words = search.query.words().join(" ");
        let most = search.scope.hits.clamp(1, 100) as u16;
        let local_only = search.scope.reach == Reach::Ttl(1);
        search.cost.messages += 1;
        search.cost.bytes += FRAME + words.len() as u64 + 40;
        search.cost.peers = 1;
        cx.send(server, NapsterMsg::Search { words, most, local_only });
    }

    fn on_result(&mut self, cx: Out<'_, '_, P>, result: &NapsterFile, nick: String) {
        let Some(search) = self.searches.front_mut() else { return };
        let Searching { op: Some(op), .. } = *search else { return };
        search.cost.messages += 1;
        search.cost.bytes += FRAME + (result.name.len() + nick.len()) as u64 + 60;
        let item = item(result).filter(|_| is_nick(&nick));
        let Some(item) = item.filter(|_| search.hits < search.scope.hits.min(MAX_HITS)) else { return };
        search.hits += 1;
        let reference = Bytes::from(format!("{nick}\n{}", item.name));
        cx.item(op, SearchItem::Hit(Hit { item, fetch: Fetch::Ask, reference }));
    }

    /// The first search has ended for whoever waits for it; what still comes of it belongs to it.
    fn finish_first(&mut self, cx: Out<'_, '_, P>, end: Result<End, SearchError>) {
        let Some(search) = self.searches.pop_front() else { return };
        if end == Ok(End::Deadline) {
            let (query, scope) = (search.query.clone(), search.scope);
            let ghost = Searching { op: None, query, scope, hits: 0, cost: Cost::default() };
            self.searches.push_front(ghost);
        }
        self.ended(cx, search, end);
    }

    fn ended(&mut self, cx: Out<'_, '_, P>, search: Searching, end: Result<End, SearchError>) {
        let Some(op) = search.op else { return };
        cx.clear_timer(NapsterTimer::Search(op));
        // The server itself is all that was asked, and it has said that there is no more.
        let cost = Cost { whole: end == Ok(End::Exhausted), ..search.cost };
        let end = end.map(|end| match search.hits >= search.scope.hits {
            true => End::Enough,
            false => end,
        });
        let searched = end.map(|end| Searched { end, cost });
        cx.finish(op, NapsterOutcome::Search(SearchOutcome::Searched(searched)));
    }

    // ---- fetching

    fn begin_reach(&mut self, cx: Out<'_, '_, P>, op: OpId, hit: &Hit<P>) {
        let reference = std::str::from_utf8(&hit.reference).ok().and_then(|text| text.split_once('\n'));
        let known = reference.filter(|(nick, name)| is_nick(nick) && can_be_quoted(name));
        let Some((nick, name)) = known.map(|(nick, name)| (nick.to_owned(), name.to_owned())) else {
            return self.reached(cx, op, Err(SearchError::BadHit));
        };
        let Some(server) = self.server() else { return self.reached(cx, op, Err(SearchError::NotConnected)) };
        if self.reaches.len() >= self.config.capacity {
            return self.reached(cx, op, Err(SearchError::Busy));
        }
        cx.set_timer(self.config.push_timeout, NapsterTimer::Reach(op));
        cx.send(server, NapsterMsg::Download { nick: nick.clone(), name: name.clone() });
        self.reaches.insert(op, Reaching { nick, name, pushed: false });
    }

    fn reaching(&self, nick: &str, name: &str) -> Option<OpId> {
        let found = self.reaches.iter().find(|(_, reach)| reach.nick == nick && reach.name == name);
        found.map(|(op, _)| *op)
    }

    fn on_ack(&mut self, cx: Out<'_, '_, P>, nick: &str, contact: Contact, name: &str) {
        let Some(op) = self.reaching(nick, name) else { return };
        if is_somewhere(&contact) {
            let source = self.dial(contact);
            return self.end_reach(cx, op, Ok(source));
        }
        // Two that accept no connections do not meet.
        let Some(server) = self.server().filter(|_| self.listen.is_some()) else {
            return self.end_reach(cx, op, Err(SearchError::Unreachable));
        };
        if let Some(reach) = self.reaches.get_mut(&op) {
            reach.pushed = true;
        }
        cx.send(server, NapsterMsg::Push { nick: nick.to_owned(), name: name.to_owned() });
    }

    /// Somebody has connected to send a file: as whom, it says itself, and of a source that was asked to connect it is not
    /// known where it is. Of no other it is believed.
    fn on_send(&mut self, cx: Out<'_, '_, P>, from: P, nick: &str, name: &str) {
        let asked = self.reaching(nick, name);
        match asked.filter(|op| self.reaches.get(op).is_some_and(|reach| reach.pushed)) {
            Some(op) => self.end_reach(cx, op, Ok(from)),
            None => cx.send(from, NapsterMsg::Error("not asked for".into())),
        }
    }

    fn end_reach(&mut self, cx: Out<'_, '_, P>, op: OpId, reached: Result<P, SearchError>) {
        self.reaches.remove(&op);
        cx.clear_timer(NapsterTimer::Reach(op));
        self.reached(cx, op, reached);
    }

    fn reached(&self, cx: Out<'_, '_, P>, op: OpId, reached: Result<P, SearchError>) {
        cx.finish(op, NapsterOutcome::Search(SearchOutcome::Reached(reached)));
    }

    /// The server says who wants a file and cannot be helped otherwise.
    fn on_push(&mut self, cx: Out<'_, '_, P>, contact: Contact, name: String) {
        let Some(size) = self.library.get_of(&(), &name).map(|item| item.size) else { return };
        if !is_somewhere(&contact) || !self.push.take(cx.now(), self.config.push) {
            return;
        }
        let to = self.dial(contact);
        cx.send(to, NapsterMsg::Send { nick: self.nick.clone(), name: name.clone(), size });
        cx.emit(NapsterEvent::Sends { to, name });
    }
}
