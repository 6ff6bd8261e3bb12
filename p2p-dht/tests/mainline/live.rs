//! Over real UDP on loopback, by IPv4 and by both.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use p2p_core::net::udp::{self, Running};
use p2p_core::{Key, Limits, NoWorker};
use p2p_dht::mainline::{
    Announce, FindNode, GetPeers, KrpcCodec, Mainline, MainlineConfig, MainlineEvent, SampleInfohashes, Save,
};
use tokio::time::timeout;

type Node = Running<Mainline<SocketAddr>>;

async fn spawn(bind: &str, config: MainlineConfig) -> Node {
    let machine = Mainline::new(config);
    udp::spawn(machine, KrpcCodec, bind.parse().unwrap(), Limits::default(), [] as [NoWorker; 0])
        .await
        .unwrap()
}

async fn joined(node: &Node) {
    let mut events = node.handle().events();
    // It may have joined before the first look.
    while node.handle().ask(FindNode(Key::ZERO)).await.unwrap().is_ok_and(|nodes| nodes.is_empty()) {
        let is_joined = async { while !matches!(events.next().await, Some(MainlineEvent::Joined { .. })) {} };
        let _ = timeout(Duration::from_secs(1), is_joined).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_on_loopback_announce_find_sample_and_go_on_from_a_saved_table() {
    let first = spawn("127.0.0.1:0", MainlineConfig::live()).await;
    let bootstrap = vec![first.local_addr().unwrap()];
    let config = || MainlineConfig { bootstrap: bootstrap.clone(), ..MainlineConfig::live() };
    let mut nodes = Vec::new();
    for _ in 0..12 {
        nodes.push(spawn("127.0.0.1:0", config()).await);
    }
    for node in &nodes {
        joined(node).await;
    }
    let torrent = Key::new([5; 20]);
    let stored = nodes[3].handle().ask(Announce { info_hash: torrent, port: None }).await.unwrap().unwrap();
    assert!(stored.nodes >= 8, "{stored:?}");
    let peers = nodes[9].handle().ask(GetPeers(torrent)).await.unwrap().unwrap();
    assert_eq!(peers, [nodes[3].local_addr().unwrap()]);
    // All that keep it name it in their samples; `first` may be one of them, and is not asked.
    let mut sampled = 0;
    for node in &nodes {
        let ask = SampleInfohashes { node: node.local_addr().unwrap(), target: torrent };
        let samples = first.handle().ask(ask).await.unwrap().unwrap();
        sampled += usize::from(samples.info_hashes == [torrent] && samples.total == 1);
    }
    assert!((stored.nodes - 1..=stored.nodes).contains(&sampled), "{sampled}");
    // A node that was there before needs no bootstrap host, and has its id still.
    let saved = nodes[9].handle().ask(Save).await.unwrap();
    let again =
        spawn("127.0.0.1:0", MainlineConfig { saved: Some(saved.clone()), ..MainlineConfig::live() }).await;
    joined(&again).await;
    assert_eq!(again.handle().ask(Save).await.unwrap().ids, saved.ids);
    assert_eq!(again.handle().ask(GetPeers(torrent)).await.unwrap().unwrap(), peers);
    again.shutdown().await;
    for node in nodes {
        node.shutdown().await;
    }
}

/// One socket for both networks: each is joined through a node of its own, and what is announced is found in either.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_in_both_networks_announces_in_both() {
    let four = spawn("127.0.0.1:0", MainlineConfig::live()).await;
    let six = MainlineConfig { ipv4: false, ipv6: true, ..MainlineConfig::live() };
    let six_first = spawn("[::1]:0", six.clone()).await;
    let bootstrap = vec![four.local_addr().unwrap(), six_first.local_addr().unwrap()];
    let both = spawn("[::]:0", MainlineConfig { ipv6: true, bootstrap, ..MainlineConfig::live() }).await;
    joined(&both).await;
    let torrent = Key::new([6; 20]);
    both.handle().ask(Announce { info_hash: torrent, port: Some(7000) }).await.unwrap().unwrap();
    let peer = |ip: &str| vec![SocketAddr::new(ip.parse().unwrap(), 7000)];
    let bootstrap = vec![four.local_addr().unwrap()];
    let reader = spawn("127.0.0.1:0", MainlineConfig { bootstrap, ..MainlineConfig::live() }).await;
    assert_eq!(reader.handle().ask(GetPeers(torrent)).await.unwrap().unwrap(), peer("127.0.0.1"));
    let bootstrap = vec![six_first.local_addr().unwrap()];
    let reader = spawn("[::1]:0", MainlineConfig { bootstrap, ..six }).await;
    assert_eq!(reader.handle().ask(GetPeers(torrent)).await.unwrap().unwrap(), peer("::1"));
}
