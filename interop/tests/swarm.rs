//! One swarm of libtorrent, aria2, Transmission, rTorrent and two of ours, on a tracker of ours: one has everything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;

use futures::future::join_all;
use p2p_swarm::torrent::{
    AddPeers, Encryption, Format, RateLimits, SetRates, Source, Status, TorrentId, find_peers,
};
use serde_json::json;
use support::tracker::{Ours, client, urls};
use support::{
    Folder, Kill, Libtorrent, add, aria2, comes, free_port, listens, rtorrent, same, session, tracked,
    transmission, wait,
};

/// Of which no file ends where a piece does.
const FILES: [(&str, usize); 3] = [("a", 1_000_000), ("b/c", 1_500_001), ("d", 700_000)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_different_clients_and_two_of_ours_get_all_from_one_seed_and_each_other() {
    let folder = Folder::new();
    let ours = Ours::start().await;
    let [url, _] = urls(ours.addr);
    let metainfo = tracked(&folder, Format::V1, &FILES, &[url]);
    let (seed, leecher) = (session().await, session().await);
    for session in [&seed, &leecher] {
        let (handle, client) = (session.handle(), client().await);
        tokio::spawn(async move {
            let client = client;
            find_peers(&handle, &client.ask).await;
        });
    }
    // Slow enough that they have something to give to each other before they have all of it from the seed.
    let rates = RateLimits { up: Some(1_000_000), down: None };
    seed.handle().ask(SetRates { torrent: None, rates }).await.unwrap();
    let id = add(&seed, Source::Metainfo(metainfo.clone()), folder.at("seed"), vec![]).await;
    wait(&seed, id).await;

    // Nobody else dials it on loopback but those who hear of it, so it is the first to be heard of.
    let port = free_port();
    let _transmission = transmission(&folder, "transmission", port, Encryption::Off, false);
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    listens(addr).await;
    seed.handle().ask(AddPeers { torrent: id, peers: vec![addr] }).await.unwrap();
    let mut libtorrent = Libtorrent::start();
    let file = folder.at("t.torrent");
    libtorrent.ask(json!({ "do": "add", "torrent": file, "folder": folder.at("libtorrent") }));
    let dir = format!("--dir={}", folder.at("aria2").display());
    let listen = format!("--listen-port={}", free_port());
    let _aria2 = Kill(aria2(&folder, &[&dir, &listen, "--seed-time=10"]));
    let _rtorrent = rtorrent(&folder, "rtorrent", free_port());
    let id = add(&leecher, Source::Metainfo(metainfo.clone()), folder.at("ours"), vec![]).await;

    let all = ["transmission", "libtorrent", "aria2", "rtorrent", "ours"];
    join_all(all.map(|to| comes(&folder, &metainfo, to))).await;
    wait(&leecher, id).await;
    all.into_iter().for_each(|to| same(&folder, &metainfo, to));
    let sent = seed.handle().ask(Status { torrent: TorrentId::first() }).await.unwrap().unwrap().uploaded;
    let copies = sent as f64 / metainfo.info().size() as f64;
    println!("the seed has sent {copies:.2} copies to five");
    // Five that got all from the seed would be five copies; 3.4 were seen.
    assert!(copies < 4.0, "{copies:.2} copies: they have given each other nothing");
    seed.shutdown().await;
    leecher.shutdown().await;
}
