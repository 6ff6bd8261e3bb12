//! uTP (BEP 29) with libtorrent, both ways: over it alone, in the clear and encrypted, and beside TCP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use p2p_swarm::torrent::{Carrier, Carriers, Encryption, Format, Source, Status};
use serde_json::json;
use support::{Folder, Libtorrent, MANY, add, at, client_with, same, torrent, wait};
use tokio::time::timeout;

/// What both want of a connection. Libtorrent has no TCP, so what arrives has come over uTP.
const MEETINGS: [(&str, Encryption); 2] = [("off", Encryption::Off), ("required", Encryption::Required)];

/// Long enough that windows grow.
const LONG: [(&str, usize); 1] = [("long", 20_000_000)];

#[tokio::test]
async fn we_get_what_libtorrent_seeds_over_utp() {
    for files in [&MANY[..], &LONG] {
        for (theirs, ours) in MEETINGS {
            println!("{} files, libtorrent {theirs}; we {ours:?}", files.len());
            let folder = Folder::new();
            let metainfo = torrent(&folder, Format::Hybrid, files);
            let mut libtorrent = Libtorrent::start();
            libtorrent.ask(json!({ "do": "start", "encryption": theirs, "utp": "only" }));
            let (file, seed) = (folder.at("t.torrent"), folder.at("seed"));
            let port = libtorrent.ask(json!({ "do": "add", "torrent": file, "folder": seed, "seed": true }));
            let client = client_with(Carriers::Utp, ours).await;
            let source = Source::Metainfo(metainfo.clone());
            let id = add(&client, source, folder.at("get"), vec![at(&port)]).await;
            wait(&client, id).await;
            same(&folder, &metainfo, "get");
            client.shutdown().await;
        }
    }
}

#[tokio::test]
async fn libtorrent_gets_what_we_seed_over_utp() {
    for files in [&MANY[..], &LONG] {
        for (theirs, ours) in MEETINGS {
            println!("{} files, libtorrent {theirs}; we {ours:?}", files.len());
            let folder = Folder::new();
            let metainfo = torrent(&folder, Format::Hybrid, files);
            let client = client_with(Carriers::Utp, ours).await;
            let id = add(&client, Source::Metainfo(metainfo.clone()), folder.at("seed"), vec![]).await;
            wait(&client, id).await;
            let mut libtorrent = Libtorrent::start();
            libtorrent.ask(json!({ "do": "start", "encryption": theirs, "utp": "only" }));
            let get = folder.at("get");
            libtorrent.ask(json!({ "do": "add", "torrent": folder.at("t.torrent"), "folder": get }));
            libtorrent.ask(json!({ "do": "connect", "port": client.local_addr().unwrap().port() }));
            libtorrent.done().await;
            same(&folder, &metainfo, "get");
            client.shutdown().await;
        }
    }
}

#[tokio::test]
async fn beside_tcp_we_dial_libtorrent_over_utp_and_without_it_over_tcp() {
    for (theirs, carrier) in [("too", Carrier::Utp), ("off", Carrier::Tcp)] {
        let folder = Folder::new();
        let metainfo = torrent(&folder, Format::V1, &LONG);
        let mut libtorrent = Libtorrent::start();
        libtorrent.ask(json!({ "do": "start", "utp": theirs }));
        let (file, seed) = (folder.at("t.torrent"), folder.at("seed"));
        let port = libtorrent.ask(json!({ "do": "add", "torrent": file, "folder": seed, "seed": true }));
        let client = client_with(Carriers::Both, Encryption::Off).await;
        let source = Source::Metainfo(metainfo.clone());
        let id = add(&client, source, folder.at("get"), vec![at(&port)]).await;
        // While it is there: two that have everything part.
        let handle = client.handle();
        let met = async {
            loop {
                let status = handle.ask(Status { torrent: id }).await.unwrap().unwrap();
                match status.peers.first() {
                    Some(peer) => return peer.carrier,
                    None => handle.sleep(Duration::from_millis(1)).await.unwrap(),
                }
            }
        };
        assert_eq!(timeout(Duration::from_secs(20), met).await, Ok(carrier), "{theirs}");
        wait(&client, id).await;
        same(&folder, &metainfo, "get");
        client.shutdown().await;
    }
}
