mod calls;
mod login;
mod relays;
mod worlds;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use p2p_core::sim::{Cut, Encoding, Fault, Latency, Liar, Network, Sim, random_faults, run_seeds};
use p2p_core::{Rng, Script, SimPeer};

use super::*;
use crate::promotion::PromotionConfig;
use crate::search::{End, Fetch, Hit, Query, Scope, Search, SearchError};
use crate::trouble::IN_ONE_PIECE;

const SERVER: SimPeer = SimPeer(0);
const SECOND: Duration = Duration::from_secs(1);

type Node = Skype<SimPeer>;

/// The key of a peer; of the login server, number 0.
fn key(peer: u32) -> Keypair {
    let mut seed = [7; 32];
    seed[..4].copy_from_slice(&peer.to_be_bytes());
    Keypair::from_seed(&seed)
}

fn name(peer: u32) -> String {
    format!("user{peer}")
}

/// Everything is quick, so that little has to be simulated.
fn config() -> SkypeConfig {
    SkypeConfig {
        upkeep: SECOND,
        silence: 4 * SECOND,
        patience: SECOND,
        lifetime: 30 * SECOND,
        way: 2 * SECOND,
        ..SkypeConfig::default()
    }
}

fn user(peer: SimPeer, open: bool) -> SkypeUser {
    let [contact, login] = [peer, SERVER].map(|peer| peer.contact().unwrap());
    let profile = format!("number{} of Somewhere", peer.0);
    SkypeUser { keypair: key(peer.0), name: name(peer.0), profile, server: key(0).id(), login, contact, open }
}

fn node(peer: SimPeer, seeds: impl IntoIterator<Item = SimPeer>, role: Role, open: bool) -> Node {
    let seeds: Vec<Contact> = seeds.into_iter().filter_map(|seed| seed.contact()).collect();
    Skype::node(user(peer, open), seeds, role, config())
}
