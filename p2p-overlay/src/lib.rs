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
//! **Unstructured overlays** find items by what they are called or made of. Applications take an `Arc<dyn Search<P>>`.
//!
//! - [`Napster`]: an index server, and its clients;
//! - [`Gnutella`]: version 0.4, over any transport, with the real bytes over TCP;
//! - [`Gnutella06`]: leaves and ultrapeers, query tables, and searches that go no further than they have to;
//! - [`Promotion`]: who becomes a super-node, in any of them that has some;
//! - [`Seeker`]: floods, rings and walkers on any [`Graph`], and [`Replication`].
//!
//! **Broadcast** is a message to everyone who asked for its topic. Applications take an `Arc<dyn PubSub<P>>`.
//!
//! - [`Scribe`]: a tree for each topic, over any structured overlay in which a key has one root ([`SingleRoot`]).

mod bucket;
mod can;
mod chord;
mod doors;
mod gnutella;
mod gnutella06;
mod kademlia;
mod lookup;
pub mod measure;
mod napster;
mod pastry;
mod place;
mod promotion;
mod pubsub;
mod recent;
mod routed;
mod scribe;
mod search;
mod spot;
mod strategy;
mod structured;
mod tapestry;

pub use bucket::Rate;
pub use can::{Can, CanConfig, CanMsg, CanState, CanTable, Claim, Point, Space, Zone};
pub use chord::{Chord, ChordConfig, ChordMsg, ChordTable, MAX_VIRTUAL, Virtual, VirtualChord, VirtualMsg};
pub use gnutella::{
    Descriptor, Gnutella, GnutellaCodec, GnutellaCommand, GnutellaConfig, GnutellaEvent, GnutellaMsg,
    GnutellaOutcome, GnutellaTally, GnutellaTimer, Guid, Listen, Payload, Pong, QueryHit, Shared,
};
pub use gnutella06::{
    Asked, Gnutella06, Gnutella06Codec, Gnutella06Config, Gnutella06Event, Gnutella06Msg, Gnutella06Tally,
    Gnutella06Timer, Hello, QueryTable, RouteUpdate, TableReader, qrp_hash, updates,
};
pub use kademlia::{Kademlia, KademliaConfig, KademliaMsg, KademliaTable};
pub use lookup::{Hint, LookupConfig, LookupMsg};
pub use napster::{
    Napster, NapsterCodec, NapsterCommand, NapsterConfig, NapsterEvent, NapsterFile, NapsterMsg,
    NapsterOutcome, NapsterTimer, Reachable, Say, Watch,
};
pub use pastry::{Pastry, PastryConfig, PastryMsg, PastryTable, Recovery, Side};
pub use place::{Place, of_address};
pub use promotion::{Need, Promotion, PromotionConfig, Role, Standing, hand_over};
pub use pubsub::{Message, PubSub, PubSubError, Subscription, Topic};
pub use routed::{Routed, RoutedMsg, RoutedTimer};
pub use scribe::{
    Anycast, AnycastError, Join, MAX_MESSAGE, Offer, Path, Publish, Scribe, ScribeCommand, ScribeConfig,
    ScribeItem, ScribeMsg, ScribeOutcome, ScribeTimer, Subscribe, Unsubscribe, Visit,
};
pub use search::{
    Blame, ContentHash, Cost, End, Fetch, Hit, Hits, Item, Library, MAX_HASHES, MAX_HITS, MAX_METADATA,
    MAX_NAME, ParseHashError, Query, Reach, Scope, Search, SearchCommand, SearchError, SearchItem,
    SearchOutcome, Searched, Searcher, words,
};
pub use strategy::{Graph, Replication, Seek, Seeker, SeekerConfig, SeekerMsg, SeekerTally, Sought, Walker};
pub use structured::{
    Answer, Find, Found, Looked, Lookup, LookupError, MAX_REPLICAS, Maintenance, Mode, NeighboursChanged,
    Next, Overlay, Region, Replicas, SingleRoot, Want,
};
pub use tapestry::{
    Locate, LocateError, LocateObject, Located, ObjectCommand, ObjectConfig, ObjectMsg, ObjectOutcome,
    PublishError, PublishObject, Tapestry, TapestryConfig, TapestryMsg, TapestryObjects, TapestryTable,
    UnpublishObject,
};
