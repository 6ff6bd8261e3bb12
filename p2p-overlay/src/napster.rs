//! Napster: an index server knows what everybody shares; clients fetch from each other.
//!
//! The messages are those of OpenNap (*napster messages*, drscholl, 2000 and 2001). One machine has both roles: a
//! [`Napster::server`] keeps the index, a [`Napster::client`] logs in to the first of its servers that lets it in,
//! shares, searches and asks for files; when that server is gone it goes to the next, and shares all again.
//!
//! - A client is reached where its connection comes from, at the port that it says: so a server sends nobody to a
//!   third.
//! - Who says no port cannot be connected to: it is asked through the server to connect to whoever wants the file
//!   (500).
//! - A nick is whoever has it first. Passwords are not kept: a server of this kind knows nobody from before.
//! - Servers may be linked ([`Napster::linked`]): a user of one finds the files of all, and where one dies its users go
//!   to another.
//!
//! In this order: [`Napster`], its configuration, and how inputs are told apart. Then `msg`, `link`, `codec`
//! and `files` (bytes), `server`, `linked` (what servers do together) and `client`.

mod client;
mod codec;
mod files;
mod link;
mod linked;
mod msg;
mod server;

use std::fmt;
use std::time::Duration;

use p2p_core::{Contact, Cx, Down, Link, NoJob, OpId, Protocol, Request};

use crate::bucket::Rate;
use crate::place::Place;
use crate::search::{Hit, Item, Library, SearchCommand, SearchError, SearchItem, SearchOutcome, Searcher};
use crate::sharing::{Sharer, Wanted};

use client::Client;
use server::Server;

pub use codec::NapsterCodec;
pub use files::NapsterFilesCodec;
pub use link::{NapsterLinkMsg, NapsterSearchId};
pub use msg::{NapsterFile, NapsterMsg};

/// How a server or a client behaves. OpenNap's servers had similar bounds; these are ours.
#[derive(Clone, Copy, Debug)]
pub struct NapsterConfig {
    /// How many users a server lets in. 4,096.
    pub users: usize,
    /// How many files it knows of one user. 1,000.
    pub files_each: usize,
    /// And of all. 100,000.
    pub files: usize,
    /// How many results of one search may be one user's. 32.
    pub results_each: usize,
    /// How many others one user may have on the hot list. 100.
    pub hot: usize,
    /// How many messages a user may send it; a login counts as 100. One every 10 ms, 2,200 at once: that is what a
    /// newcomer shares, twice.
    pub messages: Rate,
    /// How fast a client's line is, as it tells others: 0 unknown, 10 the fastest. 0.
    pub link: u8,
    /// How many items a client shares. 1,000.
    pub items: usize,
    /// How long a client waits for a server before it goes to the next. 10 s.
    pub login: Duration,
    /// How many searches and downloads of its users are under way or wait, of each. 64.
    pub capacity: usize,
    /// How long a source has to connect, when it was asked to. 20 s.
    pub push_timeout: Duration,
    /// How often a client connects to somebody who wants a file. Every second, 5 at once.
    pub push: Rate,
    /// How many users of other servers a server knows. 65,536.
    pub users_elsewhere: usize,
    /// How many searches that other servers were asked too a server has under way; more are answered by itself. 1,024.
    pub relayed: usize,
    /// How long other servers have to answer. 10 s.
    pub relay_timeout: Duration,
    /// How often a server tries to link to one that it is not linked to, on average. 15 s.
    pub relink: Duration,
}

impl Default for NapsterConfig {
    fn default() -> NapsterConfig {
        NapsterConfig {
            users: 4096,
            files_each: 1000,
            files: 100_000,
            results_each: 32,
            hot: 100,
            messages: Rate { every: Duration::from_millis(10), burst: 2_200 },
            link: 0,
            items: 1000,
            login: Duration::from_secs(10),
            capacity: 64,
            push_timeout: Duration::from_secs(20),
            push: Rate { every: Duration::from_secs(1), burst: 5 },
            users_elsewhere: 65_536,
            relayed: 1024,
            relay_timeout: Duration::from_secs(10),
            relink: Duration::from_secs(15),
        }
    }
}

/// What a server has to know to be linked to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NapsterLinks {
    /// Its own name in the network of servers: of the letters that nicks have.
    pub name: String,
    /// What all servers of the network know, and nobody else. Without one it takes no links.
    pub password: String,
    /// Servers that it tries to link to, until it is linked to them in some way.
    pub servers: Vec<Contact>,
}

/// An index server, or a client of one. The bounds of both are in [`NapsterConfig`].
///
/// ```
/// use futures::StreamExt;
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{Network, Sim};
/// use p2p_overlay::{Item, Napster, NapsterConfig, Place, Query, Scope, Search};
///
/// let mut sim = Sim::<Napster<SimPeer>>::new(1, Network::default());
/// let server = sim.spawn(|_| Napster::server(NapsterConfig::default()));
/// for nick in ["ada", "bob"] {
///     sim.spawn(|birth| {
///         Napster::client(nick, birth.peer.contact(), server.contact(), NapsterConfig::default())
///     });
/// }
/// sim.run_for(std::time::Duration::from_secs(1));
/// let (ada, bob) = (sim.handle(SimPeer(1)), sim.handle(SimPeer(2)));
/// let (hit, source) = sim.block_on(async move {
///     ada.publish(Item::new("Blue Monday.mp3", 7_000_000)).await.unwrap();
///     let mut hits = bob.search(Query::text("monday"), Scope::default());
///     let hit = hits.next().await.unwrap();
///     assert!(hits.await.unwrap().cost.messages >= 3);
///     (hit.clone(), bob.reach(&hit).await)
/// });
/// assert_eq!((&hit.item.name[..], source), ("Blue Monday.mp3", Ok(SimPeer(1))));
/// ```
pub struct Napster<P: Place> {
    role: Role<P>,
}

enum Role<P: Place> {
    Server(Box<Server<P>>),
    Client(Box<Client<P>>),
}

/// The timers of a client: one, and one for each search and download. Those of a server: one, and one for each search
/// that it has passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NapsterTimer {
    /// Time to log in again, or elsewhere.
    Login,
    /// A search has had its time.
    Search(OpId),
    /// A source has not answered.
    Reach(OpId),
    /// Time to link to another server.
    Relink,
    /// Other servers have had their time to answer.
    Asked(NapsterSearchId),
}

/// A command to a client.
#[derive(Clone, Debug)]
pub enum NapsterCommand<P> {
    /// As to any other.
    Search(SearchCommand<P>),
    /// See [`Say`].
    Say(Say),
    /// See [`Watch`].
    Watch(Watch),
    /// See [`Reachable`].
    Reachable(Option<Contact>),
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NapsterOutcome<P> {
    /// Of [`NapsterCommand::Search`].
    Search(SearchOutcome<P>),
    /// Of all others: sent, or why not.
    Sent(Result<(), SearchError>),
}

/// What a client says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NapsterEvent<P> {
    /// A server has let it in.
    LoggedIn(P),
    /// The server is gone, or does not let it in, for this reason if it has given one.
    LoggedOut(Option<String>),
    /// Somebody says something to this user.
    Private {
        /// Who.
        nick: String,
        /// What.
        text: String,
    },
    /// Somebody on the hot list is there.
    SignOn(String),
    /// Or no longer.
    SignOff(String),
    /// Somebody wants a file and cannot connect: the client has connected to them, and sends it.
    Sends {
        /// Over this connection.
        to: P,
        /// The item's name.
        name: String,
    },
}

/// Says something to another user. Nobody tells whether it arrives.
#[derive(Clone, Debug)]
pub struct Say {
    /// To whom.
    pub nick: String,
    /// What.
    pub text: String,
}

/// Puts somebody on the hot list, or takes them off it.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Whom.
    pub nick: String,
    /// Whether to be told when they come and go.
    pub on: bool,
}

/// Says where others reach this client, as soon as that is known; it logs in anew.
#[derive(Clone, Copy, Debug)]
pub struct Reachable(pub Option<Contact>);

/// All that these requests have in common.
macro_rules! request {
    ($request:ty, |$this:ident| $command:expr) => {
        impl<P: Place> Request<Napster<P>> for $request {
            type Item = SearchItem<P>;
            type Reply = Result<(), SearchError>;

            fn command(self) -> NapsterCommand<P> {
                let $this = self;
                $command
            }
            fn item(_: SearchItem<P>) -> Option<SearchItem<P>> {
                None
            }
            fn reply(outcome: NapsterOutcome<P>) -> Option<Result<(), SearchError>> {
                match outcome {
                    NapsterOutcome::Sent(sent) => Some(sent),
                    NapsterOutcome::Search(_) => None,
                }
            }
        }
    };
}

request!(Say, |this| NapsterCommand::Say(this));
request!(Watch, |this| NapsterCommand::Watch(this));
request!(Reachable, |this| NapsterCommand::Reachable(this.0));

impl<P: Place> Searcher for Napster<P> {
    fn command(command: SearchCommand<P>) -> NapsterCommand<P> {
        NapsterCommand::Search(command)
    }
    fn outcome(outcome: NapsterOutcome<P>) -> Option<SearchOutcome<P>> {
        match outcome {
            NapsterOutcome::Search(outcome) => Some(outcome),
            NapsterOutcome::Sent(_) => None,
        }
    }
}

impl<P: Place> Sharer for Napster<P> {
    fn wanted(hit: &Hit<P>) -> Option<Wanted> {
        let (_, name) = std::str::from_utf8(&hit.reference).ok()?.split_once('\n')?;
        Some(Wanted { hash: None, index: 0, name: name.to_owned(), size: hit.item.size })
    }
    fn shared(&self, wanted: &Wanted) -> Option<&Item> {
        match &self.role {
            Role::Client(client) => client.library().get_of(&(), &wanted.name),
            Role::Server(_) => None,
        }
    }
}

impl<P: Place> Napster<P> {
    /// An index server.
    pub fn server(config: NapsterConfig) -> Napster<P> {
        Napster::linked(NapsterLinks::default(), config)
    }

    /// An index server that is linked to others, or lets others link to it.
    ///
    /// ```
    /// use p2p_core::SimPeer;
    /// use p2p_core::sim::{Network, Sim};
    /// use p2p_overlay::{Napster, NapsterConfig, NapsterLinks, Place};
    ///
    /// let mut sim = Sim::<Napster<SimPeer>>::new(1, Network::default());
    /// for name in ["one", "two", "three"] {
    ///     sim.spawn(|birth| {
    ///         let servers = birth.alive.iter().filter_map(SimPeer::contact).collect();
    ///         let links = NapsterLinks { name: name.into(), password: "secret".into(), servers };
    ///         Napster::linked(links, NapsterConfig::default())
    ///     });
    /// }
    /// sim.run_for(std::time::Duration::from_secs(60));
    /// assert_eq!(sim.node(SimPeer(1)).and_then(Napster::linked_to), Some((2, 0)));
    /// ```
    pub fn linked(links: NapsterLinks, config: NapsterConfig) -> Napster<P> {
        Napster { role: Role::Server(Box::new(Server::new(config, links))) }
    }

    /// A client of this name, that others reach there, if they do. It logs in to the first of these servers that lets
    /// it in.
    pub fn client(
        nick: impl Into<String>,
        listen: Option<Contact>,
        servers: impl IntoIterator<Item = Contact>,
        config: NapsterConfig,
    ) -> Napster<P> {
        let client = Client::new(nick.into(), listen, servers.into_iter().collect(), config);
        Napster { role: Role::Client(Box::new(client)) }
    }

    /// What a client shares, to be changed before it starts; `None` of a server.
    pub fn library_mut(&mut self) -> Option<&mut Library> {
        match &mut self.role {
            Role::Client(client) => Some(client.library_mut()),
            Role::Server(_) => None,
        }
    }

    /// How many users a server has, and how many files they share; `None` of a client.
    pub fn index(&self) -> Option<(usize, usize)> {
        match &self.role {
            Role::Server(server) => Some(server.size()),
            Role::Client(_) => None,
        }
    }

    /// How many other servers a server is linked to in some way, and how many users they have; `None` of a client.
    pub fn linked_to(&self) -> Option<(usize, usize)> {
        match &self.role {
            Role::Server(server) => Some(server.links.size()),
            Role::Client(_) => None,
        }
    }
}

/// Whether somebody may be called so (OpenNap, 10).
fn is_nick(nick: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_[]{}-@^!$".contains(c);
    (1..=32).contains(&nick.len()) && nick.chars().all(allowed)
}

/// Whether a text can stand in quotation marks on a line.
fn can_be_quoted(text: &str) -> bool {
    text.len() <= 512 && !text.contains(['"', '\n', '\r', '\0'])
}

impl<P: Place> Protocol for Napster<P> {
    type Peer = P;
    type Msg = NapsterMsg;
    type Timer = NapsterTimer;
    type Command = NapsterCommand<P>;
    type Item = SearchItem<P>;
    type Outcome = NapsterOutcome<P>;
    type Event = NapsterEvent<P>;
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        match &mut self.role {
            Role::Client(client) => client.log_in(cx),
            Role::Server(server) => server.links.relink(cx, &server.config),
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: NapsterMsg) {
        match &mut self.role {
            Role::Server(server) => server.on_message(cx, from, msg),
            Role::Client(client) => client.on_message(cx, from, msg),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: NapsterTimer) {
        match (&mut self.role, timer) {
            (Role::Client(client), timer) => client.on_timer(cx, timer),
            (Role::Server(server), NapsterTimer::Relink) => server.links.relink(cx, &server.config),
            (Role::Server(server), NapsterTimer::Asked(id)) => server.links.end(cx, id),
            (Role::Server(_), _) => {}
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: NapsterCommand<P>) {
        match (&mut self.role, command) {
            (Role::Client(client), command) => client.on_command(cx, op, command),
            // A server only serves.
            (Role::Server(_), NapsterCommand::Search(command)) => {
                cx.finish(op, NapsterOutcome::Search(command.refused()));
            }
            (Role::Server(_), _) => cx.finish(op, NapsterOutcome::Sent(Err(SearchError::Unsupported))),
        }
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        if let Role::Client(client) = &mut self.role {
            client.on_cancel(cx, op);
        }
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        let Link::Down(why) = link else { return };
        match &mut self.role {
            Role::Server(server) if why != Down::Idle => {
                server.gone(cx, peer);
                server.link_lost(cx, peer);
            }
            Role::Client(client) if why != Down::Idle => client.gone(cx, peer),
            Role::Server(_) | Role::Client(_) => {}
        }
    }
}

impl<P: Place> fmt::Debug for Napster<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index() {
            Some((users, files)) => write!(f, "Napster server({users} users, {files} files)"),
            None => f.write_str("Napster client"),
        }
    }
}

#[cfg(test)]
mod tests;
