//! bcoin, a full node of Bitcoin's: our client follows its headers through a reorganisation, finds payments in its blocks,
//! whole and by its filters, and its proofs are ours byte for byte.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "it has files")]

#[path = "support/bcoin.rs"]
mod bcoin;
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use bcoin::Bcoin;
use futures::StreamExt;
use p2p_core::net::tcp::{self, Running, TcpPeer};
use p2p_core::{Limits, NoWorker};
use p2p_ledger::bitcoin::{
    BitcoinClient, BitcoinConfig, BitcoinError, BitcoinEvent, BitcoinNetwork, HeaderAt, Matching, Prove,
    Synced,
};
use p2p_ledger::{Encode, Header, HeaderRules, TxId};
use serde_json::json;
use support::free_port;
use tokio::time::timeout;

/// The hash of the key that bcoin pays what it mines.
const MINERS_KEY: [u8; 20] = [
    0xa3, 0xc6, 0xb1, 0xee, 0x4a, 0x49, 0xd9, 0xf2, 0xaf, 0x3b, 0x38, 0x02, 0x97, 0x47, 0x44, 0xfb, 0xa9,
    0x24, 0x16, 0x4a,
];

async fn client(nodes: &[SocketAddr], config: BitcoinConfig) -> Running<BitcoinClient<TcpPeer>> {
    let network = BitcoinNetwork::regtest();
    let headers = network.headers(HeaderRules::default());
    let client = BitcoinClient::new(&network, nodes.iter().copied(), headers, config);
    tcp::spawn(client, move |_| network.codec(), None, Limits::default(), [NoWorker]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_follows_bcoin_and_finds_what_is_in_its_blocks() {
    let bcoin = Bcoin::start().await;
    bcoin.mine(150).await;
    for filters in [false, true] {
        let config = BitcoinConfig { filters, timeout: Duration::from_secs(5), ..BitcoinConfig::default() };
        let running = client(&[bcoin.node], config).await;
        let client = running.handle();
        let tip = client.ask(Synced).await.unwrap().unwrap();
        assert_eq!((tip.height, tip.id.to_string()), (150, bcoin.best().await));

        // What paid the miner of block 100, and a proof of it.
        let block = client.ask(HeaderAt(100)).await.unwrap().unwrap().id();
        let named = bcoin.ask("getblockhash", json!([100])).await;
        assert_eq!(named, block.to_string());
        let theirs = bcoin.ask("getblock", json!([named])).await;
        let id: TxId = theirs["tx"][0].as_str().unwrap().parse().map(TxId).unwrap();
        let found = client.ask(Prove { block, transaction: id }).await.unwrap().unwrap().unwrap();
        assert_eq!((found.height, found.confirmations), (100, 51));
        let proof = bcoin.ask("gettxoutproof", json!([[id.to_string()], named])).await;
        let ours: String = found.proof.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(proof, ours);
        let paid = client.ask(Matching { block, items: vec![MINERS_KEY.to_vec()] }).await.unwrap().unwrap();
        assert_eq!(paid, [found.transaction]);
        assert_eq!(client.ask(Matching { block, items: vec![vec![7; 20]] }).await.unwrap(), Ok(vec![]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_over_to_the_branch_that_bcoin_goes_over_to() {
    let bcoin = Bcoin::start().await;
    bcoin.mine(120).await;
    let config = BitcoinConfig { timeout: Duration::from_secs(5), ..BitcoinConfig::default() };
    let running = client(&[bcoin.node], config).await;
    let client = running.handle();
    let before = client.ask(Synced).await.unwrap().unwrap();
    let undone = client.ask(HeaderAt(116)).await.unwrap().unwrap().id();
    let mut events = client.events();
    bcoin.ask("invalidateblock", json!([undone.to_string()])).await;
    bcoin.mine(9).await;
    let best = bcoin.best().await;
    let (mut gone, mut came) = (0, 0);
    let followed = async {
        loop {
            let BitcoinEvent::Changed(change) = events.next().await.unwrap() else { panic!("bcoin lies") };
            gone += change.disconnected.len();
            came += change.connected.len();
            if change.tip.id.to_string() == best {
                return change.tip;
            }
        }
    };
    let tip = timeout(Duration::from_secs(30), followed).await.expect("the new branch comes");
    assert_eq!((before.height, tip.height, gone, came), (120, 124, 5, 9));
    let transaction = TxId(p2p_core::Key::ZERO);
    let asked = client.ask(Prove { block: undone, transaction }).await.unwrap();
    assert_eq!(asked, Err(BitcoinError::NotOnChain(undone)));
}

/// Of three nodes one is dead, and one is killed: the third is enough. Without any there is no answer, and that is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_of_three_is_enough() {
    let (first, second) = (Bcoin::start().await, Bcoin::start().await);
    first.mine(30).await;
    // The second has the same blocks.
    for height in 1..=30 {
        let hash = first.ask("getblockhash", json!([height])).await;
        let block = first.ask("getblock", json!([hash, false])).await;
        second.ask("submitblock", json!([block])).await;
    }
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let patience = Duration::from_secs(10);
    let config = BitcoinConfig { timeout: Duration::from_secs(3), patience, ..BitcoinConfig::default() };
    let running = client(&[dead, first.node, second.node], config).await;
    let client = running.handle();
    let tip = client.ask(Synced).await.unwrap().unwrap();
    assert_eq!(tip.height, 30);
    drop(first);
    let items = vec![MINERS_KEY.to_vec()];
    let found = client.ask(Matching { block: tip.id, items: items.clone() }).await.unwrap().unwrap();
    assert_eq!(found.len(), 1);
    drop(second);
    assert_eq!(client.ask(Matching { block: tip.id, items }).await.unwrap(), Err(BitcoinError::NoNode));
}
