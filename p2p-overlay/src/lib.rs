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
//! - [`CanMulticast`]: a flood of a whole CAN that comes to each node once.

mod can;
mod chord;
mod doors;
mod kademlia;
mod lookup;
pub mod measure;
mod pastry;
mod pubsub;
mod routed;
mod scribe;
mod spot;
mod structured;
mod subnets;
mod tapestry;
#[cfg(test)]
mod trouble;

pub use can::{
    Can, CanConfig, CanMsg, CanMulticast, CanMulticastCommand, CanMulticastConfig, CanMulticastMsg,
    CanMulticastOutcome, CanRealities, CanState, CanTable, Claim, Flood, Point, Realities, RealityMsg,
    RealityTimer, Space, Spread, Zone,
};
pub use chord::{Chord, ChordConfig, ChordMsg, ChordTable, MAX_VIRTUAL, Virtual, VirtualChord, VirtualMsg};
pub use kademlia::{Kademlia, KademliaConfig, KademliaMsg, KademliaTable};
pub use lookup::{Hint, LookupConfig, LookupMsg};
pub use pastry::{Pastry, PastryConfig, PastryMsg, PastryTable, Recovery, Side};
pub use pubsub::{
    Delivery, MAX_MESSAGE, Message, PubSub, PubSubError, Publish, Subscribe, Subscription, Topic, Unsubscribe,
};
pub use routed::{Routed, RoutedMsg, RoutedTimer};
pub use scribe::{
    Anycast, AnycastError, Join, Offer, Path, Scribe, ScribeCommand, ScribeConfig, ScribeMsg, ScribeOutcome,
    ScribeTimer, Visit,
};
pub use structured::{
    Answer, Find, Found, Implausible, Looked, Lookup, LookupError, MAX_REPLICAS, Maintenance, Mode,
    NeighboursChanged, Next, Overlay, Region, Replicas, SingleRoot, Want,
};
pub use subnets::SubnetLimits;
pub use tapestry::{
    Locate, LocateError, LocateObject, Located, ObjectCommand, ObjectConfig, ObjectMsg, ObjectOutcome,
    PublishError, PublishObject, Tapestry, TapestryConfig, TapestryMsg, TapestryObjects, TapestryTable,
    UnpublishObject,
};
