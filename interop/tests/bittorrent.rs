//! BitTorrent with libtorrent (driven by `drive.py`) and aria2, over plaintext TCP on 127.0.0.1: what we make they
//! read, what they seed we get, and the other way round.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use p2p_swarm::torrent::{Format, Kind, Magnet, Metainfo, Source};
use serde_json::{Value, json};
use support::{
    FORMATS, Folder, Kill, Libtorrent, MANY, PIECE, add, aria2, at, free_port, listens, same, session,
    torrent, wait,
};
use tokio::time::timeout;

#[test]
fn libtorrent_reads_what_we_make_and_finds_the_same_hashes() {
    let mut libtorrent = Libtorrent::start();
    for (format, version) in FORMATS {
        for files in [
            &MANY[..],
            &[("one", 1)],
            &[("exact", 4 * PIECE)],
            &[("odd", 5 * PIECE + 77)],
            &[("block", 16384)],
        ] {
            let folder = Folder::new();
            let metainfo = torrent(&folder, format, files);
            let info = metainfo.info();
            let said = libtorrent.ask(json!({ "do": "describe", "path": folder.at("t.torrent") }));
            let hex = |hash: Option<&[u8]>| {
                hash.map(|hash| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            };
            assert_eq!(
                said["v1"],
                json!(hex(info.hashes().v1.as_ref().map(|hash| &hash[..]))),
                "{version} {files:?}"
            );
            assert_eq!(
                said["v2"],
                json!(hex(info.hashes().v2.as_ref().map(|hash| &hash[..]))),
                "{version} {files:?}"
            );
            assert_eq!(said["pieces"], info.piece_count(), "{version} {files:?}");
            let ours: Vec<Value> = info
                .files()
                .iter()
                .filter(|file| file.kind == Kind::File)
                .map(|file| json!({ "path": file.path, "size": file.length }))
                .collect();
            assert_eq!(said["files"], json!(ours), "{version} {files:?}");
            // And what it makes of the same content has the same pieces and trees: its info differs in nothing but
            // whether it bothers to pad.
            let path = folder.at("seed").join(info.name());
            let made = libtorrent.ask(json!({
                "do": "create", "path": path, "folder": folder.at("seed"), "version": version, "piece_length": PIECE,
            }));
            let made: Vec<u8> = (0..made["torrent"].as_str().unwrap().len() / 2)
                .map(|i| {
                    u8::from_str_radix(&made["torrent"].as_str().unwrap()[2 * i..2 * i + 2], 16).unwrap()
                })
                .collect();
            let theirs = Metainfo::parse(&made).unwrap();
            let roots = |metainfo: &Metainfo| -> Vec<_> {
                metainfo
                    .info()
                    .files()
                    .iter()
                    .filter(|f| f.kind == Kind::File)
                    .map(|f| (f.path.clone(), f.root))
                    .collect()
            };
            let sorted = |metainfo: &Metainfo| {
                let mut roots = roots(metainfo);
                roots.sort();
                roots
            };
            assert_eq!(sorted(&theirs), sorted(&metainfo), "{version} {files:?}");
        }
    }
}

#[tokio::test]
async fn we_get_what_libtorrent_seeds() {
    for (format, version) in FORMATS {
        for link in [false, true] {
            let folder = Folder::new();
            let metainfo = torrent(&folder, format, &MANY);
            let mut libtorrent = Libtorrent::start();
            let (torrent, seed) = (folder.at("t.torrent"), folder.at("seed"));
            let port =
                libtorrent.ask(json!({ "do": "add", "torrent": torrent, "folder": seed, "seed": true }));
            let session = session().await;
            let source = match link {
                true => Source::Magnet(Magnet::from(&metainfo)),
                false => Source::Metainfo(metainfo.clone()),
            };
            let id = add(&session, source, folder.at("get"), vec![at(&port)]).await;
            println!("{version}, link: {link}");
            wait(&session, id).await;
            same(&folder, &metainfo, "get");
            session.shutdown().await;
        }
    }
}

#[tokio::test]
async fn libtorrent_gets_what_we_seed() {
    for (format, version) in FORMATS {
        for link in [false, true] {
            let folder = Folder::new();
            let metainfo = torrent(&folder, format, &MANY);
            let session = session().await;
            let id = add(&session, Source::Metainfo(metainfo.clone()), folder.at("seed"), vec![]).await;
            wait(&session, id).await;
            let mut libtorrent = Libtorrent::start();
            let get = folder.at("get");
            println!("{version}, link: {link}");
            libtorrent.ask(match link {
                true => json!({ "do": "add", "magnet": Magnet::from(&metainfo).to_string(), "folder": get }),
                false => json!({ "do": "add", "torrent": folder.at("t.torrent"), "folder": get }),
            });
            libtorrent.ask(json!({ "do": "connect", "port": session.local_addr().unwrap().port() }));
            libtorrent.done().await;
            same(&folder, &metainfo, "get");
            session.shutdown().await;
        }
    }
}

#[tokio::test]
async fn we_get_what_aria2_seeds() {
    let folder = Folder::new();
    let metainfo = torrent(&folder, Format::V1, &MANY);
    let port = free_port();
    let dir = format!("--dir={}", folder.at("seed").display());
    let listen = format!("--listen-port={port}");
    let _aria2 = Kill(aria2(&folder, &[&dir, &listen, "--check-integrity=true", "--seed-time=10"]));
    let session = session().await;
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    listens(addr).await;
    let id = add(&session, Source::Metainfo(metainfo.clone()), folder.at("get"), vec![addr]).await;
    wait(&session, id).await;
    same(&folder, &metainfo, "get");
    session.shutdown().await;
}

#[tokio::test]
async fn aria2_gets_what_we_seed() {
    let folder = Folder::new();
    let metainfo = torrent(&folder, Format::V1, &MANY);
    let port = free_port();
    let dir = format!("--dir={}", folder.at("get").display());
    let listen = format!("--listen-port={port}");
    let mut aria2 = Kill(aria2(&folder, &[&dir, &listen, "--seed-time=0"]));
    let session = session().await;
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    listens(addr).await;
    // There is no tracker to tell it of us: we connect to it.
    add(&session, Source::Metainfo(metainfo.clone()), folder.at("seed"), vec![addr]).await;
    let left = tokio::task::spawn_blocking(move || aria2.0.wait().unwrap());
    let status = timeout(Duration::from_secs(30), left).await.expect("aria2 has not ended").unwrap();
    assert!(status.success(), "{status}");
    same(&folder, &metainfo, "get");
    session.shutdown().await;
}
