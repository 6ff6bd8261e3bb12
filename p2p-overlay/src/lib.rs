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
//! - [`Kazaa`]: super-nodes that index what their ordinary nodes share, and ask each other;
//! - [`Freenet`]: data by keys, on routes that form where it is asked for;
//! - [`Sharing`]: files, from those who were found to have them, over any of these whose peers can be asked: behind
//!   [`Fetcher`];
//! - [`Skype`]: certified names, presence kept by super-nodes, and calls: direct, reversed or relayed;
//! - [`Promotion`]: who becomes a super-node, in any of them that has some;
//! - [`Seeker`]: floods, rings and walkers on any [`Graph`], and [`Replication`].
//!
//! **Broadcast** is a message to everyone who asked for its topic. Applications take an `Arc<dyn PubSub<P>>`.
//!
//! - [`Scribe`]: a tree for each topic, over any structured overlay in which a key has one root ([`SingleRoot`]);
//! - [`CanMulticast`]: a flood of a whole CAN that comes to each node once;
//! - [`Gossip`]: one tree for all that is published in a network without structure: [`Plumtree`] over a [`Membership`],
//!   which is [`HyParView`], or [`Swim`] in a group whose members all know each other.

mod bucket;
mod can;
mod chord;
mod doors;
mod few;
mod freenet;
mod gnutella;
mod gnutella06;
mod hyparview;
mod kademlia;
mod kazaa;
mod lookup;
pub mod measure;
mod membership;
mod napster;
mod pastry;
mod place;
mod plumtree;
mod promotion;
mod pubsub;
mod recent;
mod routed;
mod scribe;
mod search;
mod sharing;
mod signing;
mod skype;
mod spot;
mod strategy;
mod structured;
mod subnets;
mod swim;
mod tapestry;
mod trail;
#[cfg(test)]
mod trouble;

pub use bucket::Rate;
pub use can::{
    Around, Can, CanConfig, CanMsg, CanMulticast, CanMulticastCommand, CanMulticastConfig, CanMulticastMsg,
    CanMulticastOutcome, CanRealities, CanState, CanTable, Claim, Claims, Flood, Point, Realities,
    RealityMsg, RealityTimer, Space, Spread, Zone,
};
pub use chord::{Chord, ChordConfig, ChordMsg, ChordTable, MAX_VIRTUAL, Virtual, VirtualChord, VirtualMsg};
pub use freenet::{
    Freenet, FreenetBlock, FreenetCommand, FreenetConfig, FreenetError, FreenetMsg, FreenetOutcome,
    FreenetTally, FreenetTimer, Insert, Inserted, MAX_BLOCK, Retrieve,
};
pub use gnutella::{
    Descriptor, Gnutella, GnutellaCodec, GnutellaCommand, GnutellaConfig, GnutellaEvent, GnutellaMsg,
    GnutellaOutcome, GnutellaTally, GnutellaTimer, Guid, Listen, Payload, Pong, QueryHit, Shared,
};
pub use gnutella06::{
    Asked, Gnutella06, Gnutella06Codec, Gnutella06Config, Gnutella06Event, Gnutella06Msg, Gnutella06Tally,
    Gnutella06Timer, Hello, QueryTable, RouteUpdate, TableReader, qrp_hash, updates,
};
pub use hyparview::{HyParView, HyParViewConfig, HyParViewMsg, HyParViewTimer};
pub use kademlia::{Kademlia, KademliaConfig, KademliaMsg, KademliaTable};
pub use kazaa::{
    Kazaa, KazaaConfig, KazaaEvent, KazaaMsg, KazaaTally, KazaaTimer, Known, Places, Shared as KazaaShared,
    Source as KazaaSource, Wish as KazaaWish, Word as KazaaWord,
};
pub use lookup::{Hint, LookupConfig, LookupMsg};
pub use membership::{Membership, MembershipCommand, Neighbour, Parting};
pub use napster::{
    Napster, NapsterCodec, NapsterCommand, NapsterConfig, NapsterEvent, NapsterFile, NapsterFilesCodec,
    NapsterLinkMsg, NapsterLinks, NapsterMsg, NapsterOutcome, NapsterSearchId, NapsterTimer, Reachable, Say,
    Watch,
};
pub use pastry::{Pastry, PastryConfig, PastryMsg, PastryTable, Recovery, Side};
pub use place::{Place, of_address, simulated_keypair};
pub use plumtree::{
    Announced, Counts, Gossip, Leave, MAX_BROADCAST, Missing, Plumtree, PlumtreeCommand, PlumtreeConfig,
    PlumtreeMsg, PlumtreeOutcome, PlumtreeTimer, Push, Source,
};
pub use promotion::{Need, Promotion, PromotionConfig, Role, Standing, hand_over};
pub use pubsub::{
    Delivery, MAX_MESSAGE, Message, PubSub, PubSubError, Publish, Subscribe, Subscription, Topic, Unsubscribe,
};
pub use routed::{Routed, RoutedMsg, RoutedTimer};
pub use scribe::{
    Anycast, AnycastError, Join, Offer, Path, Scribe, ScribeCommand, ScribeConfig, ScribeMsg, ScribeOutcome,
    ScribeTimer, Visit,
};
pub use search::{
    Blame, ContentHash, Cost, End, Fetch, Hit, Hits, Item, Library, MAX_HASHES, MAX_HITS, MAX_METADATA,
    MAX_NAME, ParseHashError, Query, Reach, Scope, Search, SearchCommand, SearchError, SearchItem,
    SearchOutcome, Searched, Searcher, words,
};
pub use sharing::{
    Below, DiskFile, DiskFolder, Download, DownloadError, Downloaded, Fetcher, Fetching, Folder, FolderError,
    ForeignSearch, HttpCodec, MAX_PART, MemoryFile, MemoryFolder, Progress, Refusal, ShareOutput,
    ShareWorker, Sharer, Sharing, SharingCommand, SharingConfig, SharingItem, SharingJob, SharingMsg,
    SharingOutcome, SharingTally, SharingTimer, Shelf, ShelfMsg, SourceReport, SourceStanding, Transfer,
    Wanted, Written, hashes_of, is_plain_name, items_in,
};
pub use skype::{
    Buddy, Call, CallError, CallOffer, Called, Certificate, HangUp, LoggedIn, LoginError, LoginRequest,
    LoginServer, MAX_FRAME, MAX_PROFILE, MAX_THROUGH, MAX_USER, NamesError, NamesFile, NoteName, Presence,
    RelayJoin, Ring, SendFrame, Skype, SkypeCommand, SkypeConfig, SkypeEvent, SkypeMsg, SkypeOutcome,
    SkypeTally, SkypeTimer, SkypeUser, Ticket, Way, Whereabouts, is_user_name,
};
pub use strategy::{Graph, Replication, Seek, Seeker, SeekerConfig, SeekerMsg, SeekerTally, Sought, Walker};
pub use structured::{
    Answer, Find, Found, Implausible, Looked, Lookup, LookupError, MAX_REPLICAS, Maintenance, Mode,
    NeighboursChanged, Next, Overlay, Region, Replicas, SingleRoot, Want,
};
pub use subnets::SubnetLimits;
pub use swim::{MemberState, News, Swim, SwimConfig, SwimMsg, SwimTimer};
pub use tapestry::{
    Locate, LocateError, LocateObject, Located, ObjectCommand, ObjectConfig, ObjectMsg, ObjectOutcome,
    PublishError, PublishObject, Tapestry, TapestryConfig, TapestryMsg, TapestryObjects, TapestryTable,
    UnpublishObject,
};
