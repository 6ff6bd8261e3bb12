//! Objects where they are: pointers on the way to an object's roots (JSAC §II-A, §III-A).
//!
//! Whoever has an object publishes it: a message travels to each of the object's roots, and every node that it passes
//! keeps a pointer to the sender. Whoever looks for the object sends a message toward one of the roots, and it goes to
//! the nearest that has the object from the first node that has a pointer. Ways to one root meet early where asker and
//! publisher are near each other: the nearer the object, the shorter the detour.
//!
//! Pointers are soft state: they end unless they are published again, and where the way to a root changes they are
//! passed on along the new one, for as long as they had left. Nobody believes them: whoever is said to have an object
//! is asked, and answers the asker itself. Nor do others' words hide an object: where somebody else is said to have it
//! already, or room is short, a node asks the newcomer itself before it keeps the pointer, and whoever has answered stands
//! before whoever has not. As in the paper, nodes on the way are trusted to pass a message on.
//!
//! In this order: [`Locate`], the machine and its configuration, its messages; in `request` what users ask, in
//! `pointers` the table, in `errand` how messages travel to a root, in `server` what is asked and done.

mod errand;
mod pointers;
mod request;
mod server;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use p2p_core::{Cx, Handle, Key, Keyed, Peer, Pending, Time, Up, Wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Tapestry, TapestryMsg, TapestryTimer};
use crate::routed::{RoutedMsg, RoutedTimer};
use crate::structured::Overlay;

use errand::Errand;
use pointers::Pointers;
pub use request::{
    LocateError, LocateObject, Located, ObjectCommand, ObjectOutcome, PublishError, PublishObject,
    UnpublishObject,
};
use server::{Locating, Publishing};

/// Objects that stay where they are, and are found by their key: what an application asks that does not care how.
#[async_trait]
pub trait Locate<P: Peer>: Send + Sync {
    /// Says that this node has an object, and goes on saying so. Gives how many of the object's roots know.
    ///
    /// # Errors
    /// See [`PublishError`].
    async fn publish(&self, object: Key) -> Result<usize, PublishError>;

    /// Takes that back.
    ///
    /// # Errors
    /// See [`PublishError`].
    async fn unpublish(&self, object: Key) -> Result<(), PublishError>;

    /// A node that has an object, and says so itself; of several one that is near.
    ///
    /// # Errors
    /// See [`LocateError`].
    async fn locate(&self, object: Key) -> Result<Located<P>, LocateError>;
}

#[async_trait]
impl<P: Keyed + Serialize + DeserializeOwned> Locate<P> for Handle<TapestryObjects<P>> {
    async fn publish(&self, object: Key) -> Result<usize, PublishError> {
        self.ask(PublishObject(object)).await?
    }
    async fn unpublish(&self, object: Key) -> Result<(), PublishError> {
        Ok(self.ask(UnpublishObject(object)).await?)
    }
    async fn locate(&self, object: Key) -> Result<Located<P>, LocateError> {
        self.ask(LocateObject(object)).await?
    }
}

/// A Tapestry node that publishes objects, and finds those of others.
///
/// ```
/// use p2p_core::sim::{Network, Sim};
/// use p2p_core::{Key, SimPeer};
/// use p2p_overlay::{Locate, ObjectConfig, Tapestry, TapestryObjects};
/// use std::time::Duration;
///
/// let mut sim = Sim::<TapestryObjects<SimPeer>>::new(1, Network::default());
/// let objects = |tapestry| TapestryObjects::new(tapestry, ObjectConfig::default());
/// let first = sim.spawn(|birth| objects(Tapestry::create(birth.peer)));
/// let second = sim.spawn(|birth| objects(Tapestry::join(birth.peer, [first])));
/// sim.run_for(Duration::from_secs(10));
///
/// let (here, there) = (sim.handle(first), sim.handle(second));
/// let song = Key::of(b"song.ogg");
/// let located = sim.block_on(async move {
///     here.publish(song).await.unwrap();
///     there.locate(song).await.unwrap()
/// });
/// assert_eq!(located.server, first);
/// ```
#[derive(Debug)]
pub struct TapestryObjects<P: Keyed> {
    overlay: Tapestry<P>,
    config: ObjectConfig,
    /// Ways on which this node stands. At most [`ObjectConfig::pointers`].
    pointers: Pointers<P>,
    /// What this node has, and when it is published again. At most [`ObjectConfig::objects`].
    published: BTreeMap<Key, Time>,
    /// Questions to peers. At most four times [`ObjectConfig::capacity`].
    asked: Pending<P, Asked<P>>,
    /// What users wait for, by its ticket: random, so that nobody who has not seen the question can answer it. At most
    /// [`ObjectConfig::capacity`] of each.
    publishing: BTreeMap<u64, Publishing>,
    locating: BTreeMap<u64, Locating>,
    /// When the timer for late answers fires.
    late: Option<Time>,
    /// The pointers are looked at soon, from the object after this one on: a way has changed.
    rerouting: bool,
    rerouted: Option<Key>,
}

/// How a node that publishes objects behaves.
#[derive(Clone, Copy, Debug)]
pub struct ObjectConfig {
    /// How many roots an object has: its key's, and those of its key with a salt (JSAC §II-A). 4; 1 to 16.
    pub roots: u8,
    /// What a node has it publishes again this often on average, each time after half to one and a half of it. 5 min.
    pub republish: Duration,
    /// A pointer that has not been published again ends after this long. 15 min.
    pub lifetime: Duration,
    /// How long after a change of its neighbours a node looks for pointers whose way has changed. 2 s.
    pub settle: Duration,
    /// How long an object's root has to answer. 5 s.
    pub timeout: Duration,
    /// How many objects a node publishes. 65,536.
    pub objects: usize,
    /// How many pointers a node keeps for others. One more is passed on but not kept. 262,144.
    pub pointers: usize,
    /// How many users' questions wait at once, of each kind. One more is refused. 1024.
    pub capacity: usize,
}

impl Default for ObjectConfig {
    fn default() -> ObjectConfig {
        ObjectConfig {
            roots: 4,
            republish: Duration::from_secs(300),
            lifetime: Duration::from_secs(900),
            settle: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            objects: 65_536,
            pointers: 262_144,
            capacity: 1024,
        }
    }
}

/// What nodes that publish objects say to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ObjectMsg<P> {
    /// The overlay's own.
    Overlay(RoutedMsg<P, TapestryMsg<P>>),
    /// From each node to the next on the way to a root. Answered by [`ObjectMsg::Taken`] at once.
    Pass {
        /// Numbers the question between these two.
        id: u32,
        /// What is to be done on the way.
        errand: Errand<P>,
    },
    /// To the sender of a [`ObjectMsg::Pass`] or a [`ObjectMsg::Seek`]: this node takes care of it. To that of a
    /// [`ObjectMsg::Check`]: the object is here.
    Taken {
        /// The number of the question.
        id: u32,
    },
    /// From a root to the publisher: it has a pointer now.
    Published {
        /// The publisher's number.
        ticket: u64,
        /// Which root.
        root: u8,
    },
    /// From a node with a pointer to whom it points to: somebody looks for this. Answered by [`ObjectMsg::Taken`] to
    /// the sender and [`ObjectMsg::Here`] to the asker; or by [`ObjectMsg::Gone`].
    Seek {
        /// Numbers the question between these two.
        id: u32,
        /// The object.
        object: Key,
        /// The asker.
        origin: P,
        /// The asker's number.
        ticket: u64,
        /// How often the question was passed on.
        hops: u16,
    },
    /// To the asker: the sender has the object.
    Here {
        /// The asker's number.
        ticket: u64,
        /// How often the question was passed on.
        hops: u16,
    },
    /// From a node with a pointer to whom it points to: is the object still there? Answered by [`ObjectMsg::Taken`] if
    /// it is, and by [`ObjectMsg::Gone`].
    Check {
        /// Numbers the question between these two.
        id: u32,
        /// The object.
        object: Key,
    },
    /// To the sender of a [`ObjectMsg::Seek`] or [`ObjectMsg::Check`]: the object is not here any more.
    Gone {
        /// The number of the question.
        id: u32,
    },
    /// From a root to the asker: nobody has published the object, as far as it knows.
    Missing {
        /// The asker's number.
        ticket: u64,
    },
}

impl<P: Keyed + Serialize + DeserializeOwned> Wire for ObjectMsg<P> {
    const MAX_BYTES: usize = RoutedMsg::<P, TapestryMsg<P>>::MAX_BYTES + 8;
}

/// The timers of a node that publishes objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectTimer {
    /// The overlay's own.
    Overlay(RoutedTimer<TapestryTimer>),
    /// A peer, or a root, is late.
    Late,
    /// Time to publish own objects again.
    Keep,
    /// Time to forget pointers that have ended.
    Forget,
    /// Neighbours have changed a while ago.
    Reroute,
}

/// What a question to a peer was for.
#[derive(Clone, Debug)]
enum Asked<P> {
    /// To take over an errand.
    Pass(Errand<P>),
    /// To say whether it has the object that this errand looks for.
    Seek(Errand<P>),
    /// To say whether it has the object, as this errand says, or has it no more.
    Check(Errand<P>),
}

impl<P: Keyed + Serialize + DeserializeOwned> TapestryObjects<P> {
    /// A node of this overlay.
    pub fn new(overlay: Tapestry<P>, config: ObjectConfig) -> TapestryObjects<P> {
        let config = ObjectConfig { roots: config.roots.clamp(1, 16), ..config };
        TapestryObjects {
            overlay,
            config,
            pointers: Pointers::with_capacity(config.pointers),
            published: BTreeMap::new(),
            asked: Pending::with_capacity(4 * config.capacity),
            publishing: BTreeMap::new(),
            locating: BTreeMap::new(),
            late: None,
            rerouting: false,
            rerouted: None,
        }
    }

    /// The overlay.
    pub fn overlay(&self) -> &Tapestry<P> {
        &self.overlay
    }

    /// What this node has published, sorted.
    pub fn published(&self) -> impl ExactSizeIterator<Item = Key> {
        self.published.keys().copied()
    }

    /// How many pointers it keeps.
    pub fn pointers(&self) -> usize {
        self.pointers.len()
    }

    fn me(&self) -> P {
        self.overlay.me()
    }

    /// Hands the overlay an input.
    fn below(
        &mut self,
        cx: &mut Cx<'_, Self>,
        input: impl FnOnce(&mut Tapestry<P>, &mut Cx<'_, Tapestry<P>>),
    ) {
        let overlay = &mut self.overlay;
        let ups = cx.nest(ObjectMsg::Overlay, ObjectTimer::Overlay, |job| job, |cx| input(overlay, cx));
        // It is asked nothing: it says only that its neighbours have changed.
        let changed = ups.iter().any(|up| matches!(up, Up::Event(_)));
        if changed && !self.rerouting && self.pointers.len() > 0 {
            self.rerouting = true;
            cx.set_timer(self.config.settle, ObjectTimer::Reroute);
        }
    }

    /// Sets the timer to when the next answer is late.
    fn arm(&mut self, cx: &mut Cx<'_, Self>) {
        let publishing = self.publishing.values().map(|publishing| publishing.deadline);
        let locating = self.locating.values().map(|locating| locating.deadline);
        let next = publishing.chain(locating).chain(self.asked.next_deadline()).min();
        match next {
            _ if next == self.late => return,
            Some(at) => cx.set_timer(at - cx.now(), ObjectTimer::Late),
            None => cx.clear_timer(ObjectTimer::Late),
        }
        self.late = next;
    }
}
