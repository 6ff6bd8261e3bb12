//! Skype's design: names that a server certifies, super-nodes that know who is there, and calls between two of them.
//!
//! After *An Analysis of the Skype Peer-to-Peer Internet Telephony Protocol* (Baset and Schulzrinne, INFOCOM 2006),
//! *An Experimental Study of the Skype Peer-to-Peer VoIP System* (Guha, Daswani and Jain, IPTPS 2006), and what
//! *Skype Security Evaluation* (Berson, 2005) says of its certificates. Skype's own messages were secret and its
//! network is gone: what is here is its design in messages of our own.
//!
//! - **Login.** A server certifies that a name belongs to a key, for some time, and has no other part: everything
//!   else goes on without it. Its public key is known to all, as Berson describes it.
//! - **Super-nodes.** An ordinary node is the client of a few super-nodes, and knows more of them in a host cache of
//!   200. Who is reached, has been there long and has a good line may become one of them, by
//!   [`Promotion`](crate::Promotion); who retires hands its clients over.
//! - **Presence.** A user signs where it is and how it is reached, with a number and for a while; its super-nodes
//!   keep that, and tell those who have it on their buddy lists.
//! - **Searches** ask ever more super-nodes, in rounds: a few at first, then twice as many, and so on, until the user
//!   is found or all have been asked. Each names those that it is next to.
//! - **Calls** are tried directly; then the other is asked, through its super-nodes, to connect to the caller; then
//!   both meet at a super-node that relays. It does so for who has a [`Ticket`] of its own making, within what that
//!   says, and can read whatever is not encrypted: what is said travels in a connection between the two, whose keys
//!   are proved.
//!
//! What is not here: passwords, and finding out by itself whether a node accepts connections; it is told.
//!
//! In this order: [`Skype`], its configuration, how inputs are told apart. Then what is signed (`certificate`,
//! `presence`, `ticket`, `ring`), `msg`, `login` (the server), `registrar` and `names` (the same, with names that are
//! written down), `node`, `neighbours` (super-nodes and clients),
//! `directory` and `users` (presence and buddies), `searching`, `calling`, `relay`, and `request`, what users ask.

mod calling;
mod certificate;
mod config;
mod directory;
mod login;
mod msg;
mod names;
mod neighbours;
mod node;
mod presence;
mod registrar;
mod relay;
mod request;
mod ring;
mod searching;
mod ticket;
mod users;

use std::fmt;

use p2p_core::{Contact, Cx, Down, HostCache, Keypair, Link, NoJob, OpId, PeerId, Protocol};

use crate::place::Place;
use crate::promotion::Role;
use crate::search::SearchItem;

use login::Server;
use node::SkypeNode;

pub use certificate::{Certificate, MAX_USER, is_user_name};
pub use config::SkypeConfig;
pub use login::{LoginError, LoginRequest};
pub use msg::{MAX_FRAME, SkypeMsg};
pub use names::{NamesError, NamesFile, NoteName};
pub use presence::{MAX_PROFILE, MAX_THROUGH, Presence, Whereabouts};
pub use registrar::LoginServer;
pub use request::{
    Buddy, Call, CallError, Called, HangUp, LoggedIn, SendFrame, SkypeCommand, SkypeEvent, SkypeOutcome, Way,
};
pub use ring::{CallOffer, Ring};
pub use ticket::{RelayJoin, Ticket};

/// What a node has done; an experiment adds them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SkypeTally {
    /// Signatures of others checked, records and rings each as one.
    pub checked: u64,
    /// Records and rings that are not what they say, or older than what is known.
    pub disbelieved: u64,
    /// Messages that went over a limit, or led nowhere.
    pub dropped: u64,
    /// Bytes relayed,
    pub relayed: u64,
    /// and not relayed, because no ticket allows it.
    pub not_relayed: u64,
    /// Changes of its role.
    pub changes: u64,
}

/// A node, ordinary or super, or a login server. The bounds of all are in [`SkypeConfig`]; besides, a node remembers
/// 4,096 senders, the latest number of 4,096 users, and 4,096 tickets that are spent.
///
/// A node's users hold a [`Handle`](p2p_core::Handle), which is a [`Search`](crate::Search) for users and takes
/// [`Buddy`] and [`Call`]:
///
/// ```
/// use p2p_core::sim::{Network, Sim};
/// use p2p_core::{Keypair, SimPeer};
/// use p2p_overlay::{Call, Place, Role, Skype, SkypeConfig, SkypeUser, Way};
/// use std::time::Duration;
///
/// let server = Keypair::from_seed(&[1; 32]);
/// let mut sim = Sim::<Skype<SimPeer>>::new(1, Network::default());
/// let keypair = server.clone();
/// sim.spawn(move |_| Skype::login_server(keypair, [], SkypeConfig::default()));
/// for (i, name) in ["hub", "ada", "bob"].into_iter().enumerate() {
///     let (keypair, server) = (Keypair::from_seed(&[2 + i as u8; 32]), server.id());
///     sim.spawn(move |birth| {
///         let contact = birth.peer.contact().unwrap();
///         let login = SimPeer(0).contact().unwrap();
///         let profile = String::new();
///         let user = SkypeUser { keypair, name: name.into(), profile, server, login, contact, open: true };
///         let role = if name == "hub" { Role::Ultrapeer } else { Role::Leaf };
///         Skype::node(user, SimPeer(1).contact(), role, SkypeConfig::default())
///     });
/// }
/// sim.run_for(Duration::from_secs(10));
///
/// let ada = sim.handle(SimPeer(2));
/// let called = sim.block_on(async move { ada.ask(Call { name: "bob".into() }).await });
/// assert_eq!(called.unwrap().unwrap().way, Way::Direct);
/// ```
pub struct Skype<P: Place> {
    kind: Kind<P>,
}

enum Kind<P: Place> {
    Server(Box<Server<P>>),
    Node(Box<SkypeNode<P>>),
}

/// Who a node speaks for, and where it is.
#[derive(Clone, Debug)]
pub struct SkypeUser {
    /// The user's key.
    pub keypair: Keypair,
    /// The user's name: see [`is_user_name`].
    pub name: String,
    /// What else the user is found by: see [`Whereabouts::profile`]. What is longer than [`MAX_PROFILE`] is cut off.
    pub profile: String,
    /// The login server's public key.
    pub server: PeerId,
    /// Where the login server is.
    pub login: Contact,
    /// The node itself.
    pub contact: Contact,
    /// Whether it accepts connections.
    pub open: bool,
}

/// The timers of a node: two, and one for each neighbour that is not one yet, each search and each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkypeTimer<P> {
    /// Time to log in, or to renew the certificate.
    Login,
    /// Time to look after everything.
    Upkeep,
    /// A super-node has not answered.
    Dial(P),
    /// A round of a search has had its time.
    Round(u64),
    /// A way of making a call has had its time.
    Way(u64),
}

impl<P: Place> Skype<P> {
    /// A login server that keeps names in memory, and knows these from before. Peers know it by the public half of its
    /// key. A [`LoginServer`] writes them down.
    pub fn login_server(
        keypair: Keypair,
        names: impl IntoIterator<Item = (String, PeerId)>,
        config: SkypeConfig,
    ) -> Skype<P> {
        Skype { kind: Kind::Server(Box::new(Server::new(keypair, names, config))) }
    }

    /// A node that joins through these and begins in this role. The first of a network is a super-node.
    pub fn node(
        user: SkypeUser,
        seeds: impl IntoIterator<Item = Contact>,
        role: Role,
        config: SkypeConfig,
    ) -> Skype<P> {
        let node = SkypeNode::new(user, seeds, role, config);
        Skype { kind: Kind::Node(Box::new(node)) }
    }

    fn as_node(&self) -> Option<&SkypeNode<P>> {
        match &self.kind {
            Kind::Server(_) => None,
            Kind::Node(node) => Some(node),
        }
    }

    /// The names that a login server has certified, and for whom, to be saved; of a node none.
    pub fn names(&self) -> impl Iterator<Item = (&str, PeerId)> {
        let names = match &self.kind {
            Kind::Server(server) => Some(server.names()),
            Kind::Node(_) => None,
        };
        names.into_iter().flatten().map(|(name, key)| (name.as_str(), *key))
    }

    /// A node's role; `None` of a login server.
    pub fn role(&self) -> Option<Role> {
        self.as_node().map(SkypeNode::role)
    }

    /// The super-nodes that a node is connected to.
    pub fn super_nodes(&self) -> impl Iterator<Item = P> {
        self.as_node().into_iter().flat_map(SkypeNode::super_nodes)
    }

    /// The clients of a super-node.
    pub fn clients(&self) -> impl Iterator<Item = P> {
        self.as_node().into_iter().flat_map(SkypeNode::clients)
    }

    /// What a node says of itself, as soon as it is logged in.
    pub fn own_presence(&self) -> Option<&Presence> {
        self.as_node()?.own.as_ref()
    }

    /// What a super-node knows of a user.
    pub fn known(&self, name: &str) -> Option<&Presence> {
        self.as_node()?.directory.get(name)
    }

    /// What a node believes of a buddy: the newest that it has heard and that is not over.
    pub fn buddy(&self, name: &str) -> Option<&Presence> {
        self.as_node()?.buddies.get(name)?.presence()
    }

    /// A node that knows these super-nodes too, from its last run; as many as their cache holds. A login server needs none.
    ///
    /// ```
    /// use p2p_core::{HostCache, Keypair, Learnt, SimPeer};
    /// use p2p_overlay::{Place, Role, Skype, SkypeConfig, SkypeUser};
    /// use std::time::Duration;
    ///
    /// let [contact, login, hub] = [0, 1, 2].map(|peer| SimPeer(peer).contact().unwrap());
    /// let mut saved = HostCache::new(200, 200);
    /// saved.note(hub, Learnt::Proved, Duration::from_secs(1_000_000));
    ///
    /// let [keypair, server] = [1, 2].map(|seed| Keypair::from_seed(&[seed; 32]));
    /// let (name, profile, server) = ("ada".into(), String::new(), server.id());
    /// let user = SkypeUser { keypair, name, profile, server, login, contact, open: true };
    /// let node = Skype::<SimPeer>::node(user, [], Role::Leaf, SkypeConfig::default()).with_hosts(saved);
    /// assert_eq!(node.hosts().unwrap().best(), [hub]);
    /// ```
    pub fn with_hosts(mut self, hosts: HostCache) -> Skype<P> {
        if let Kind::Node(node) = &mut self.kind {
            node.hosts.remember(hosts);
        }
        self
    }

    /// The super-nodes that a node knows, to be saved, and given to [`Skype::with_hosts`].
    pub fn hosts(&self) -> Option<&HostCache> {
        self.as_node().map(|node| node.hosts.cache())
    }

    /// What a node has done.
    pub fn tally(&self) -> SkypeTally {
        self.as_node().map(|node| node.tally).unwrap_or_default()
    }
}

impl<P: Place> Protocol for Skype<P> {
    type Peer = P;
    type Msg = SkypeMsg;
    type Timer = SkypeTimer<P>;
    type Command = SkypeCommand<P>;
    type Item = SearchItem<P>;
    type Outcome = SkypeOutcome<P>;
    type Event = SkypeEvent<P>;
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        if let Kind::Node(node) = &mut self.kind {
            node.on_start(cx);
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: SkypeMsg) {
        match &mut self.kind {
            Kind::Server(server) => server.on_message(cx, from, msg),
            Kind::Node(node) => node.on_message(cx, from, msg),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: SkypeTimer<P>) {
        let Kind::Node(node) = &mut self.kind else { return };
        match timer {
            SkypeTimer::Login => node.log_in(cx),
            SkypeTimer::Upkeep => node.upkeep(cx),
            SkypeTimer::Dial(peer) => node.no_answer(cx, peer),
            SkypeTimer::Round(id) => node.end_round(cx, id),
            SkypeTimer::Way(call) => node.next_way(cx, call),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: SkypeCommand<P>) {
        match (&mut self.kind, command) {
            (Kind::Node(node), command) => node.on_command(cx, op, command),
            (Kind::Server(_), SkypeCommand::Search(command)) => {
                cx.finish(op, SkypeOutcome::Search(command.refused()));
            }
            // It has no name.
            (Kind::Server(_), SkypeCommand::LoggedIn) => {
                cx.finish(op, SkypeOutcome::LoggedIn(Err(LoginError::BadName)));
            }
            (Kind::Server(_), SkypeCommand::Call(_)) => {
                cx.finish(op, SkypeOutcome::Called(Err(CallError::Unsupported)));
            }
            (Kind::Server(_), _) => cx.finish(op, SkypeOutcome::Done(Err(CallError::Unsupported))),
        }
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        if let Kind::Node(node) = &mut self.kind {
            node.on_cancel(cx, op);
        }
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        let (Kind::Node(node), Link::Down(why)) = (&mut self.kind, link) else { return };
        // A connection that only rests comes back with the next message.
        if why != Down::Idle {
            node.gone(cx, peer, why);
        }
    }
}

impl<P: Place> fmt::Debug for Skype<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Server(server) => write!(f, "Skype login server({} names)", server.names().len()),
            Kind::Node(node) => {
                let (role, users) = (node.role(), node.directory.len());
                write!(
                    f,
                    "Skype({}, {role:?}, {} neighbours, {users} users)",
                    node.user.name,
                    node.neighbours.len()
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
