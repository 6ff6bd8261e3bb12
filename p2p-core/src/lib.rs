//! The ground that the p2p crates stand on: one state machine per protocol, run in both worlds.
//!
//! A [`Protocol`] is a pure state machine. The [simulator](sim) runs a hundred thousand of them deterministically.
//!
//! - **names**: [`PeerId`], [`Keypair`], [`Contact`], [`Key`];
//! - **machines**: [`Protocol`], [`Cx`], [`Wire`], [`Job`], [`Pending`], and [`Script`] to test them by hand;
//! - **users**: [`Handle`], [`Request`], [`Ask`], [`Events`];
//! - **foreign networks**: [`foreign`], codecs for connections whose bytes are not ours;
//! - **worlds**: [`sim::Sim`] (with the feature `prefetch` faster where a network fits no cache), and live by QUIC with the
//!   feature `net` (on by default): `net::Node`, under [`Limits`].
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod contact;
mod cx;
pub mod foreign;
mod handle;
mod identity;
mod key;
mod limits;
mod liveness;
#[cfg(feature = "net")]
pub mod net;
mod peers;
mod pending;
mod prefetch;
mod protocol;
mod rng;
mod script;
pub mod sim;
mod time;
mod wire;

pub use contact::{Contact, ParseContactError};
pub use cx::{Cx, CxState, Up};
pub use handle::{Ask, AskError, Events, Handle, MAX_OPEN_CALLS, MAX_WAITING, READ_EVERY, Request, TimedOut};
pub use identity::{KeyFileError, Keypair, ParsePeerIdError, PeerId};
pub use key::{Key, ParseKeyError};
pub use limits::Limits;
pub use liveness::{Health, Proximity, Rtt, Suspicion};
pub use peers::{Address, GIVEN_UP, HostCache, Learnt, MAX_ADDRESSES, Subnet};
pub use pending::Pending;
pub use prefetch::prefetch;
pub use protocol::{
    Down, Effect, Job, JobError, JobId, Keyed, Link, NoJob, NoWorker, OpId, Peer, Protocol, Worker,
};
pub use rng::Rng;
pub use script::Script;
pub use sim::SimPeer;
pub use time::Time;
pub use wire::{DecodeError, Lane, Wire, payload};
