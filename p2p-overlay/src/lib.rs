//! Overlay networks as pure state machines, over any network that `p2p-core` runs.
//!
//! **Structured overlays** find the node that is responsible for a key. They share one vocabulary ([`Overlay`],
//! [`Find`], [`Next`], [`Region`], [`Replicas`]) and one lookup driver ([`Routed`]); each brings its tables and their
//! upkeep ([`Maintenance`]). Applications that do not care which one they run on take an `Arc<dyn Lookup<P>>`.
//!
//! - [`Chord`]: a ring with fingers;
//! - [`Kademlia`]: a tree by exclusive or, whose tables every message keeps fresh;
//! - [`Can`]: a torus cut into zones;
//! - [`measure`]: any of them in the simulator, by numbers.

mod can;
mod chord;
mod doors;
mod kademlia;
mod lookup;
pub mod measure;
mod routed;
mod spot;
mod structured;

pub use can::{Can, CanConfig, CanMsg, CanState, CanTable, Claim, Point, Space, Zone};
pub use chord::{Chord, ChordConfig, ChordMsg, ChordTable, MAX_VIRTUAL, Virtual, VirtualChord, VirtualMsg};
pub use kademlia::{Kademlia, KademliaConfig, KademliaMsg, KademliaTable};
pub use lookup::{Hint, LookupConfig, LookupMsg};
pub use routed::{Routed, RoutedMsg, RoutedTimer};
pub use structured::{
    Answer, Find, Found, Looked, Lookup, LookupError, MAX_REPLICAS, Maintenance, Mode, NeighboursChanged,
    Next, Overlay, Region, Replicas, Want,
};
