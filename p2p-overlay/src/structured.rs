//! What all structured overlays have in common, in words that favour none of them.
//!
//! A structured overlay makes one node (or the few closest) responsible for each [`Key`]. After Dabek et al.,
//! *Towards a common API for structured peer-to-peer overlays* (IPTPS 2003), in our shape: an overlay answers
//! pure questions about its present state, and finding what lies further away is a command. There is no upcall
//! on the way: a layer that must see every hop carries a message of its own and asks [`Overlay::next`].
//!
//! Two traits:
//! - [`Overlay`] is what users and the layers above see: a [`Protocol`] that takes [`Find`]s;
//! - [`Maintenance`] is what an overlay's author writes: the tables, how they are kept, and what they say about a
//!   key. [`Routed`](crate::Routed) makes the one from the other by adding the shared lookup driver.

use async_trait::async_trait;
use p2p_core::{AskError, Cx, Handle, Key, Keyed, Protocol, Request, Time};

/// What a node's tables say about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<P> {
    /// This node is responsible.
    Mine,
    /// That peer is responsible, as far as this node can tell: the last hop.
    Root(P),
    /// That peer is nearer.
    Toward(P),
    /// Nobody is known who is nearer.
    Nowhere,
    /// Who is responsible is about to change, and nobody can say right now: ask again soon.
    Later,
}

/// Where the copies of an object belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replicas<P> {
    /// On these peers, the root first.
    Peers(Vec<P>),
    /// At these keys, wherever they lead: overlays that replicate by salted keys or in other realities.
    Keys(Vec<Key>),
}

impl<P> Replicas<P> {
    /// At the key itself and at [`salted`] ones, which have nothing to do with each other. All nodes name the same.
    pub(crate) fn at_salted(key: &Key, n: usize) -> Replicas<P> {
        Replicas::Keys((0..n).map(|salt| salted(key, salt as u8)).collect())
    }
}

/// A key with a salt, by which an object has several places; with none, itself.
pub(crate) fn salted(key: &Key, salt: u8) -> Key {
    match salt {
        0 => *key,
        _ => Key::of(&[key.as_bytes().as_slice(), &[salt]].concat()),
    }
}

/// The part of the key space that a node is responsible for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Region {
    /// The half-open arcs `(after, upto]` of a ring.
    Arcs(Vec<(Key, Key)>),
    /// The keys that agree with `key` in every bit that `mask` has set.
    Bits {
        /// Where the node stands.
        key: Key,
        /// The bits that tell it from the others.
        mask: Key,
    },
    /// The keys of which each digit in base 16 is one of those that its level takes: bit `d` of the number at `i` says
    /// that digit `i` may be `d`. Digits beyond the last level may be any.
    Digits(Vec<u16>),
    /// Boxes in a torus: a key's coordinates are its consecutive parts (see [`Space`](crate::Space)).
    Boxes(Vec<crate::Zone>),
    /// Nothing, or nobody knows yet: the node has not joined.
    Nothing,
}

impl Region {
    /// Whether a key lies in it.
    pub fn contains(&self, key: &Key) -> bool {
        match self {
            Region::Arcs(arcs) => arcs.iter().any(|(after, upto)| key.is_in_arc(after, upto)),
            Region::Bits { key: own, mask } => key.xor(own).and(mask) == Key::ZERO,
            Region::Digits(levels) => {
                let mut levels = levels.iter().take(Key::<32>::BITS / 4).enumerate();
                levels.all(|(i, taken)| taken >> key.digit(i, 4) & 1 == 1)
            }
            Region::Boxes(zones) => zones.iter().any(|zone| zone.contains(&zone.space().point(key))),
            Region::Nothing => false,
        }
    }
}

/// How a lookup travels: in each of these manners over every overlay.
///
/// Several paths at once are no manner of travelling but a matter of the one overlay in which more than one node answers:
/// [`KademliaConfig::paths`](crate::KademliaConfig::paths).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// From node to node, and the answer back the same way.
    Recursive,
    /// From node to node, and the answer straight from the root to the asker: fewest messages.
    SemiRecursive,
    /// The asker asks each node itself.
    Iterative {
        /// How many it asks at a time (Kademlia's α), on each path.
        parallel: u8,
    },
}

impl Mode {
    /// Iteratively, this many at a time.
    pub const fn iterative(parallel: u8) -> Mode {
        Mode::Iterative { parallel }
    }
}

/// Find the node that is responsible for a key.
///
/// ```
/// use p2p_core::Key;
/// use p2p_overlay::{Find, Mode};
///
/// let find = Find::key(Key::of(b"song.ogg")).replicas(3).mode(Mode::iterative(3));
/// assert_eq!(find.replicas, 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Find {
    /// The key.
    pub key: Key,
    /// How many peers are wanted in the answer, the root among them. At most [`MAX_REPLICAS`].
    pub replicas: u8,
    /// How it travels; `None` in the overlay's own manner ([`LookupConfig::mode`](crate::LookupConfig)).
    pub mode: Option<Mode>,
}

/// The most peers that one lookup gives.
pub const MAX_REPLICAS: u8 = 32;

impl Find {
    /// A question for the root alone, in the overlay's own manner.
    pub fn key(key: Key) -> Find {
        Find { key, replicas: 1, mode: None }
    }

    /// With this many peers in the answer.
    pub fn replicas(self, replicas: u8) -> Find {
        Find { replicas: replicas.clamp(1, MAX_REPLICAS), ..self }
    }

    /// In this mode.
    pub fn mode(self, mode: Mode) -> Find {
        Find { mode: Some(mode), ..self }
    }
}

/// What a lookup found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<P> {
    /// The root first, then where further copies belong, as the root knows it. At most as many as were asked for.
    pub peers: Vec<P>,
    /// How many times the question was passed on until the root had it; where several peers had to answer, the last
    /// of them.
    pub hops: u32,
    /// How many peers did not answer on the way.
    pub timeouts: u32,
    /// What is wrong with them, if that was [asked](crate::LookupConfig::density_check) and still is so after the lookup
    /// was tried otherwise.
    pub implausible: Option<Implausible<P>>,
}

/// The nodes around a key do not stand as nodes do whose ids are as good as chance. It may be chance all the same, as
/// often as [`LookupConfig::density_check`](crate::LookupConfig::density_check) lets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Implausible<P> {
    /// They are too many so near to the key: somebody may have tried ids until they were. What is stored is safer, and
    /// what is looked for more likely found, on those beyond them too.
    Dense {
        /// Who would be the answer if the crowd were not there, the nearest first: up to 32, since the outermost of a
        /// crowd stand as honest nodes do. Nobody, where no other node may answer.
        beyond: Vec<P>,
    },
    /// They are too few: those who were asked may hide whoever is nearer. Asked for by another node, or later, the
    /// answer may be another.
    Thin,
}

impl<P> Next<P> {
    /// Whom to pass something on to, and whether that peer is taken for the root.
    pub(crate) fn hop(self) -> Option<(P, bool)> {
        match self {
            Next::Root(peer) => Some((peer, true)),
            Next::Toward(peer) => Some((peer, false)),
            Next::Mine | Next::Nowhere | Next::Later => None,
        }
    }
}

impl<P: Copy> Found<P> {
    /// The node that is responsible.
    pub fn root(&self) -> P {
        self.peers[0]
    }
}

/// Why a lookup found nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// This node knows nobody: it has not joined, or has lost everybody it knew.
    #[error("this node is not part of an overlay: join through a live contact")]
    NotJoined,
    /// No answer in time, after all retries.
    #[error("no answer after {timeouts} peers were silent")]
    NoAnswer {
        /// How many peers were silent on the way, as far as the asker saw.
        timeouts: u32,
    },
    /// The caller has too many lookups open at this node.
    #[error("too many lookups at once: wait for some to end")]
    Busy,
    /// No answer from the protocol itself.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// What a lookup ended with.
pub type Looked<P> = Result<Found<P>, LookupError>;

/// What an overlay says unasked: the peers next to this node, who hold copies of what it holds, are not the same as
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighboursChanged;

/// A structured overlay: lookups as commands, and pure questions about the present state.
pub trait Overlay:
    Protocol<
        Peer: Keyed,
        Command = Find,
        Item = (),
        Outcome = Looked<<Self as Protocol>::Peer>,
        Event = NeighboursChanged,
    >
{
    /// This node.
    fn me(&self) -> Self::Peer;
    /// Whether the node takes part: it has joined, or has started an overlay of its own.
    fn is_joined(&self) -> bool;
    /// What this node's tables say about a key, leaving out some peers.
    fn next(&self, key: &Key, avoid: &[Self::Peer]) -> Next<Self::Peer>;
    /// Where `n` copies of the object at `key` belong: exact at the nodes that hold them. A node further away may not
    /// know: then there are fewer peers, or none.
    fn replicas(&self, key: &Key, n: usize) -> Replicas<Self::Peer>;
    /// What this node is responsible for.
    fn mine(&self) -> Region;
}

/// An overlay in which one node, and no other, is responsible for a key, and can say so itself: what a tree with one
/// root needs. Kademlia, where the closest share a key and none of them knows that it is one, is not such an overlay.
pub trait SingleRoot: Overlay {
    /// As [`Overlay::next`], for a node that somebody took for the root ([`Next::Root`]): it is [`Next::Mine`] unless
    /// somebody better is known. So the heir of a dead root takes over before its own tables say that it is the heir.
    fn next_if_claimed(&self, key: &Key, avoid: &[Self::Peer]) -> Next<Self::Peer>;
    /// Whom something may go on to that has got [nowhere](Next::Nowhere) here: see [`Maintenance::detour`].
    fn detour(&self, key: &Key, avoid: &[Self::Peer]) -> Option<Self::Peer> {
        let _ = (key, avoid);
        None
    }
}

/// [`Find`] is a typed request to any overlay.
impl<O: Overlay> Request<O> for Find {
    type Item = ();
    type Reply = Looked<O::Peer>;

    fn command(self) -> Find {
        self
    }
    fn item((): ()) -> Option<()> {
        None
    }
    fn reply(outcome: Looked<O::Peer>) -> Option<Looked<O::Peer>> {
        Some(outcome)
    }
}

/// Who is responsible for a key, asked by an application that does not care which overlay says so.
#[async_trait]
pub trait Lookup<P>: Send + Sync {
    /// Looks a key up.
    ///
    /// # Errors
    /// See [`LookupError`].
    async fn lookup(&self, find: Find) -> Looked<P>;
}

#[async_trait]
impl<O: Overlay> Lookup<O::Peer> for Handle<O> {
    async fn lookup(&self, find: Find) -> Looked<O::Peer> {
        self.ask(find).await?
    }
}

/// The part in which overlays differ: their tables, how these are kept, and what they say about a key.
///
/// It is a machine of its own, a child of [`Routed`](crate::Routed). It asks for lookups by emitting [`Want`]s, and
/// each comes back as its command.
pub trait Maintenance:
    Protocol<
        Peer: Keyed,
        Command = Answer<<Self as Protocol>::Peer>,
        Item = (),
        Outcome = (),
        Event = Want<<Self as Protocol>::Peer>,
    >
{
    /// Whether the nodes closest to a key are responsible for it, and none of them can tell that it is one: then an
    /// iterative lookup goes on until the closest have all answered. Otherwise one node is, and says so: there it ends.
    const CONVERGES: bool;

    /// The time of the input that follows: what a node knows may have run out.
    fn at(&mut self, now: Time) {
        let _ = now;
    }
    /// This node.
    fn me(&self) -> Self::Peer;
    /// Whether the node takes part in an overlay.
    fn is_joined(&self) -> bool;
    /// On how many paths that have no node in common an iterative lookup goes, where lookups
    /// [converge](Maintenance::CONVERGES).
    fn paths(&self) -> u8 {
        1
    }
    /// The best next hop for a key, leaving out some peers. If `claimed`, the asker took this node for the root: it
    /// should be [`Next::Mine`] unless somebody better is known.
    fn next(&self, key: &Key, avoid: &[Self::Peer], claimed: bool) -> Next<Self::Peer>;
    /// Up to `n` peers that may be asked about a key next, best first, some left out; never this node.
    fn candidates(&self, key: &Key, n: usize, avoid: &[Self::Peer]) -> Vec<Self::Peer>;
    /// How far a peer at `peer` has yet to go to `key`: less is better. `None` where a peer's key does not tell where
    /// it stands: then only whoever names a peer knows. Where lookups [converge](Maintenance::CONVERGES) there is
    /// always one.
    fn distance(peer: &Key, key: &Key) -> Option<Key>;
    /// The part of the key space that lies nearer to a key than a peer at `peer`, or as near; `None` where that is not
    /// told by their distance.
    fn upto(peer: &Key, key: &Key) -> Option<f64> {
        let _ = (peer, key);
        None
    }
    /// How many nodes this one knows next to itself without a gap, and the part of the key space that they take up, up
    /// to the last of them: how dense nodes are. `None` where [`Maintenance::upto`] is.
    fn neighbourhood(&self) -> Option<(usize, f64)> {
        None
    }
    /// Whom a question may go on to that has got nowhere here, though that peer is no nearer: for overlays whose greedy
    /// routing meets dead ends. It comes back only to go another way.
    fn detour(&self, key: &Key, avoid: &[Self::Peer]) -> Option<Self::Peer> {
        let _ = (key, avoid);
        None
    }
    /// See [`Overlay::replicas`]. If `claimed`, somebody takes this node for the root.
    fn replicas(&self, key: &Key, n: usize, claimed: bool) -> Replicas<Self::Peer>;
    /// See [`Overlay::mine`].
    fn mine(&self) -> Region;
    /// The lookup driver asked a peer in vain.
    fn silent(&mut self, now: Time, peer: Self::Peer);
    /// What there is to do at once after peers have been [silent](Maintenance::silent).
    fn attend(&mut self, cx: &mut Cx<'_, Self>) {
        let _ = cx;
    }
    /// A message came from a peer, so it lives.
    fn heard(&mut self, now: Time, peer: Self::Peer) {
        let _ = (now, peer);
    }
    /// This node looks a key up, for its user or for the upkeep.
    fn looked_up(&mut self, now: Time, key: &Key) {
        let _ = (now, key);
    }
    /// Whether the peers next to this node have changed since this was last asked.
    fn take_changed(&mut self) -> bool;
}

/// A lookup that maintenance wants done.
#[derive(Clone, Copy, Debug)]
pub struct Want<P> {
    /// Comes back with the answer.
    pub tag: u32,
    /// What to look up.
    pub key: Key,
    /// How many peers are wanted in the answer.
    pub replicas: u8,
    /// Whom to ask first; by default this node's own tables say.
    pub via: Option<P>,
}

/// What came of a [`Want`].
#[derive(Clone, Debug)]
pub struct Answer<P> {
    /// The tag of the [`Want`].
    pub tag: u32,
    /// What was found.
    pub looked: Looked<P>,
}
