//! What a node remembers of its peers, and how far they are.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use p2p_core::net::{MemoryNetwork, Node};
use p2p_core::{Contact, HostCache, Keypair, Limits, PeerId};
use support::{echo, is_echoed, node, patient};

#[tokio::test]
async fn a_node_that_starts_again_knows_where_its_peers_were() {
    let file = std::env::temp_dir().join(format!("p2p-peers-{}", std::process::id()));
    let [dialled, caller] = [echo(Limits::default()).await, node(Limits::default()).await];
    let start = async || Node::builder().peers(&file).unwrap().bind("127.0.0.1:0").await.unwrap();
    let addrs = |peers: &[Contact]| peers.iter().map(|peer| (peer.id, peer.addr)).collect::<Vec<_>>();
    let at = |contact: Contact| (contact.id, contact.addr);

    let first = start().await;
    assert_eq!(first.peers(), []);
    let lie = Contact::new(dialled.id(), "192.0.2.1:1".parse().unwrap());
    let rumour = Contact::new(Keypair::generate().id(), "192.0.2.2:2".parse().unwrap());
    first.heard_of(lie);
    first.heard_of(rumour);
    is_echoed(&first, dialled.contact()).await;
    assert!(
        patient(caller.request(first.contact(), "x/1", "")).await.is_err(),
        "it serves nothing, but is there"
    );
    let known = [at(dialled.contact()), at(caller.contact()), at(rumour)];
    first.heard_of(lie);
    assert_eq!(addrs(&first.peers()), known, "proved, told, heard");
    patient(first.shutdown()).await;

    let second = start().await;
    assert_eq!(addrs(&second.peers()), known);
    patient(second.shutdown()).await;
    std::fs::write(&file, [0xff; 40]).unwrap();
    assert!(Node::builder().peers(&file).is_err());
    std::fs::remove_file(&file).unwrap();
}

/// The clock is the test's: it goes on when every task waits, and stands while a file is written.
#[tokio::test(start_paused = true)]
async fn the_file_is_written_every_minute_if_there_is_news() {
    let folder = std::env::temp_dir().join(format!("p2p-hosts-{}", std::process::id()));
    let file = folder.join("peers");
    std::fs::create_dir_all(&folder).unwrap();
    let network = MemoryNetwork::default();
    let node = Node::builder().peers(&file).unwrap().bind_on(network.join(Keypair::generate().id()));
    let [first, second, third] = [1, 2, 3].map(|number| {
        Contact::new(PeerId::from_bytes([number; 32]), format!("192.0.2.{number}:1").parse().unwrap())
    });
    let wait = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    let kept = || {
        let mut cache = HostCache::default();
        cache.load(&file).map(|()| cache.len()).ok()
    };
    node.heard_of(first);
    wait(59).await;
    assert_eq!(kept(), None);
    wait(2).await;
    assert_eq!(kept(), Some(1));

    std::fs::remove_file(&file).unwrap();
    wait(60).await;
    assert_eq!(kept(), None, "nothing is new");
    node.heard_of(second);
    wait(60).await;
    assert_eq!(kept(), Some(2));

    // What could not be written is written when it can be.
    std::fs::remove_dir_all(&folder).unwrap();
    node.heard_of(third);
    wait(60).await;
    std::fs::create_dir_all(&folder).unwrap();
    wait(60).await;
    assert_eq!(kept(), Some(3));
    node.shutdown().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn the_round_trip_time_is_known_while_there_is_a_connection() {
    let [server, client] = [echo(Limits::default()).await, node(Limits::default()).await];
    assert_eq!(client.rtt(&server.id()), None);
    is_echoed(&client, server.contact()).await;
    assert!(client.rtt(&server.id()).is_some_and(|rtt| !rtt.is_zero()));
}
