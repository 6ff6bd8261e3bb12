//! Overlay networks as pure state machines, over any network that `p2p-core` runs.
//!
//! **Structured overlays** find the node that is responsible for a key. They share one vocabulary ([`Overlay`],
//! [`Find`], [`Next`], [`Region`], [`Replicas`]) and one lookup driver ([`Routed`]); each brings its tables and their
//! upkeep ([`Maintenance`]). Applications that do not care which one they run on take an `Arc<dyn Lookup<P>>`.
//!
//! - [`Chord`]: a ring with fingers;
//! - [`Kademlia`]: a tree by exclusive or, whose tables every message keeps fresh;
//! - [`Pastry`]: a ring with a routing table by digits, whose entries are near in the network;
//! - [`Tapestry`]: digit by digit, by neighbours that are near in the network, and [`Locate`], by pointers to objects;
//! - [`Can`]: a torus cut into zones;
//! - [`measure`]: any of them in the simulator, by numbers.
//!
//! **Broadcast** is a message to everyone who asked for its topic. Applications take an `Arc<dyn PubSub<P>>`.
//!
//! - [`Scribe`]: a tree for each topic, over any structured overlay in which a key has one root ([`SingleRoot`]);
//! - [`Gossip`]: one tree for all that is published in a network without structure: [`Plumtree`] over a [`Membership`],
//!   which is [`HyParView`], or [`Swim`] in a group whose members all know each other.

mod can;
mod chord;
mod doors;
mod hyparview;
mod kademlia;
mod lookup;
pub mod measure;
mod membership;
mod pastry;
mod plumtree;
mod pubsub;
mod routed;
mod scribe;
mod spot;
mod structured;
mod swim;
mod tapestry;

pub use can::{Can, CanConfig, CanMsg, CanState, CanTable, Claim, Point, Space, Zone};
pub use chord::{Chord, ChordConfig, ChordMsg, ChordTable, MAX_VIRTUAL, Virtual, VirtualChord, VirtualMsg};
pub use hyparview::{HyParView, HyParViewConfig, HyParViewMsg, HyParViewTimer};
pub use kademlia::{Kademlia, KademliaConfig, KademliaMsg, KademliaTable};
pub use lookup::{Hint, LookupConfig, LookupMsg};
pub use membership::{Membership, MembershipCommand, Neighbour, Parting};
pub use pastry::{Pastry, PastryConfig, PastryMsg, PastryTable, Recovery, Side};
pub use plumtree::{
    Announced, Counts, Gossip, Leave, MAX_BROADCAST, Missing, Plumtree, PlumtreeCommand, PlumtreeConfig,
    PlumtreeMsg, PlumtreeOutcome, PlumtreeTimer, Push, Source,
};
pub use pubsub::{Delivery, Message, PubSub, PubSubError, Subscription, Topic};
pub use routed::{Routed, RoutedMsg, RoutedTimer};
pub use scribe::{
    Anycast, AnycastError, Join, MAX_MESSAGE, Offer, Path, Publish, Scribe, ScribeCommand, ScribeConfig,
    ScribeItem, ScribeMsg, ScribeOutcome, ScribeTimer, Subscribe, Unsubscribe, Visit,
};
pub use structured::{
    Answer, Find, Found, Looked, Lookup, LookupError, MAX_REPLICAS, Maintenance, Mode, NeighboursChanged,
    Next, Overlay, Region, Replicas, SingleRoot, Want,
};
pub use swim::{MemberState, News, Swim, SwimConfig, SwimMsg, SwimTimer};
pub use tapestry::{
    Locate, LocateError, LocateObject, Located, ObjectCommand, ObjectConfig, ObjectMsg, ObjectOutcome,
    PublishError, PublishObject, Tapestry, TapestryConfig, TapestryMsg, TapestryObjects, TapestryTable,
    UnpublishObject,
};
