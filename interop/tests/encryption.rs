//! Message Stream Encryption with libtorrent and aria2, both ways, and peers that a client in the middle names (BEP 11).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use p2p_swarm::torrent::{Encryption, Format, Source, Status};
use serde_json::json;
use support::{
    Folder, Kill, Libtorrent, MANY, add, aria2, at, ends_well, free_port, listens, same, session,
    session_with, torrent, wait,
};
use tokio::time::timeout;

/// What libtorrent wants of a connection, what may follow the handshake there, and what we want. Whoever requires
/// encryption takes nothing else, so what is not encrypted there does not arrive.
const MEETINGS: [(&str, &str, Encryption); 5] = [
    ("required", "rc4", Encryption::Preferred),
    ("required", "rc4", Encryption::Required),
    // Only the handshake is encrypted: we offer both and it takes this, or it offers no other.
    ("required", "plain", Encryption::Preferred),
    ("preferred", "both", Encryption::Required),
    // Nothing is.
    ("off", "rc4", Encryption::Preferred),
];

#[tokio::test]
async fn we_get_what_libtorrent_seeds_encrypted_or_in_the_clear() {
    for (theirs, level, ours) in MEETINGS {
        println!("libtorrent {theirs}, {level}; we {ours:?}");
        let folder = Folder::new();
        let metainfo = torrent(&folder, Format::Hybrid, &MANY);
        let mut libtorrent = Libtorrent::start();
        libtorrent.ask(json!({ "do": "start", "encryption": theirs, "level": level }));
        let (file, seed) = (folder.at("t.torrent"), folder.at("seed"));
        let port = libtorrent.ask(json!({ "do": "add", "torrent": file, "folder": seed, "seed": true }));
        let session = session_with(ours).await;
        let id = add(&session, Source::Metainfo(metainfo.clone()), folder.at("get"), vec![at(&port)]).await;
        wait(&session, id).await;
        same(&folder, &metainfo, "get");
        session.shutdown().await;
    }
}

#[tokio::test]
async fn libtorrent_gets_what_we_seed_encrypted_or_in_the_clear() {
    for (theirs, level, ours) in MEETINGS {
        println!("libtorrent {theirs}, {level}; we {ours:?}");
        let folder = Folder::new();
        let metainfo = torrent(&folder, Format::Hybrid, &MANY);
        let session = session_with(ours).await;
        let id = add(&session, Source::Metainfo(metainfo.clone()), folder.at("seed"), vec![]).await;
        wait(&session, id).await;
        let mut libtorrent = Libtorrent::start();
        libtorrent.ask(json!({ "do": "start", "encryption": theirs, "level": level }));
        libtorrent.ask(json!({ "do": "add", "torrent": folder.at("t.torrent"), "folder": folder.at("get") }));
        libtorrent.ask(json!({ "do": "connect", "port": session.local_addr().unwrap().port() }));
        libtorrent.done().await;
        same(&folder, &metainfo, "get");
        session.shutdown().await;
    }
}

/// Both kinds: all that is said is encrypted, or the handshake alone.
const FORCED: [&str; 2] = ["--bt-min-crypto-level=arc4", "--bt-min-crypto-level=plain"];

#[tokio::test]
async fn we_get_what_aria2_seeds_encrypted() {
    for level in FORCED {
        let folder = Folder::new();
        let metainfo = torrent(&folder, Format::V1, &MANY);
        let port = free_port();
        let dir = format!("--dir={}", folder.at("seed").display());
        let listen = format!("--listen-port={port}");
        let crypto = "--bt-require-crypto=true";
        let arguments = [&dir, &listen, "--check-integrity=true", "--seed-time=10", crypto, level];
        let _aria2 = Kill(aria2(&folder, &arguments));
        let session = session_with(Encryption::Required).await;
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        listens(addr).await;
        let id = add(&session, Source::Metainfo(metainfo.clone()), folder.at("get"), vec![addr]).await;
        wait(&session, id).await;
        same(&folder, &metainfo, "get");
        session.shutdown().await;
    }
}

#[tokio::test]
async fn aria2_gets_what_we_seed_encrypted() {
    for (level, ours) in FORCED.into_iter().zip([Encryption::Required, Encryption::Preferred]) {
        let folder = Folder::new();
        let metainfo = torrent(&folder, Format::V1, &MANY);
        let session = session_with(ours).await;
        let id = add(&session, Source::Metainfo(metainfo.clone()), folder.at("seed"), vec![]).await;
        wait(&session, id).await;
        let port = free_port();
        let dir = format!("--dir={}", folder.at("get").display());
        let listen = format!("--listen-port={port}");
        let aria2 =
            Kill(aria2(&folder, &[&dir, &listen, "--seed-time=0", "--bt-require-crypto=true", level]));
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        listens(addr).await;
        let peers = vec![addr];
        let torrent = id;
        session.handle().ask(p2p_swarm::torrent::AddPeers { torrent, peers }).await.unwrap();
        ends_well(aria2).await;
        same(&folder, &metainfo, "get");
        session.shutdown().await;
    }
}

/// Three that have nothing, and nothing but the one in the middle could bring the others together.
#[tokio::test]
async fn libtorrent_hears_of_peers_from_us_and_we_from_libtorrent() {
    let folder = Folder::new();
    let metainfo = torrent(&folder, Format::V1, &MANY);
    let file = folder.at("t.torrent");
    let start = |name: &str| {
        let mut libtorrent = Libtorrent::start();
        let port = libtorrent.ask(json!({ "do": "add", "torrent": file, "folder": folder.at(name) }));
        (libtorrent, at(&port))
    };
    let torrent = || Source::Metainfo(metainfo.clone());
    // We are in the middle.
    let middle = session().await;
    add(&middle, torrent(), folder.at("middle"), vec![]).await;
    let ((mut a, _), (mut b, _)) = (start("a"), start("b"));
    let port = middle.local_addr().unwrap().port();
    [&mut a, &mut b].into_iter().for_each(|each| _ = each.ask(json!({ "do": "connect", "port": port })));
    let met = tokio::task::spawn_blocking(move || {
        a.ask(json!({ "do": "meets", "client": "libtorrent", "seconds": 100 }))
    });
    // Libtorrent is.
    let (mut hub, hub_at) = start("hub");
    let (_far, far_at) = start("far");
    hub.ask(json!({ "do": "connect", "port": far_at.port() }));
    let ours = session().await;
    let id = add(&ours, torrent(), folder.at("ours"), vec![hub_at]).await;
    let heard = async {
        loop {
            let status = ours.handle().ask(Status { torrent: id }).await.unwrap().unwrap();
            if status.peers.iter().any(|peer| peer.addr == far_at) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(Duration::from_secs(100), heard).await.expect("libtorrent names peers once a minute");
    let met = met.await.unwrap();
    assert_eq!(met["met"], true, "{met:#}");
    ours.shutdown().await;
    middle.shutdown().await;
}
