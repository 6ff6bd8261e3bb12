//! Trackers: libtorrent and aria2 find each other, and us, on ours; we find each other on opentracker; over HTTP and UDP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "it has files")]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use p2p_swarm::torrent::{Format, Magnet, Metainfo, Source, Stop, find_peers};
use serde_json::json;
use support::tracker::{Ours, client, urls};
use support::{
    FORMATS, Folder, Kill, Libtorrent, MANY, add, aria2, ends_well, free_port, listens, same, session,
    tracked, wait,
};

/// We get what somebody seeds whom only a tracker names.
async fn get(folder: &Folder, metainfo: &Metainfo, torrent: Source) {
    let (session, client) = (session().await, client().await);
    let handle = session.handle();
    tokio::spawn(async move {
        let client = client;
        find_peers(&handle, &client.ask).await;
    });
    let id = add(&session, torrent, folder.at("get"), vec![]).await;
    wait(&session, id).await;
    same(folder, metainfo, "get");
    session.handle().ask(Stop).await.unwrap();
    session.shutdown().await;
}

#[tokio::test]
async fn libtorrent_finds_libtorrent_and_we_find_it_on_our_tracker() {
    let ours = Ours::start().await;
    for (url, (format, version)) in urls(ours.addr).into_iter().zip([FORMATS[0], FORMATS[2]]) {
        println!("{url} {version}");
        let folder = Folder::new();
        let metainfo = tracked(&folder, format, &MANY, std::slice::from_ref(&url));
        let (mut seed, mut other) = (Libtorrent::start(), Libtorrent::start());
        let file = folder.at("t.torrent");
        seed.ask(json!({ "do": "add", "torrent": file, "folder": folder.at("seed"), "seed": true }));
        other.ask(json!({ "do": "add", "torrent": file, "folder": folder.at("theirs") }));
        let _other = other.done().await;
        same(&folder, &metainfo, "theirs");
        get(&folder, &metainfo, Source::Magnet(Magnet::from(&metainfo))).await;
    }
    assert!(ours.peers().await >= 4, "they have announced themselves, and nobody has said that it goes");
}

#[tokio::test]
async fn aria2_finds_libtorrent_and_us_on_our_tracker() {
    let ours = Ours::start().await;
    for url in urls(ours.addr) {
        for us in [false, true] {
            println!("{url}, us: {us}");
            let folder = Folder::new();
            let metainfo = tracked(&folder, Format::V1, &MANY, std::slice::from_ref(&url));
            let (mut libtorrent, session, client) = (Libtorrent::start(), session().await, client().await);
            match us {
                true => {
                    let torrent = Source::Metainfo(metainfo.clone());
                    let id = add(&session, torrent, folder.at("seed"), vec![]).await;
                    wait(&session, id).await;
                    let handle = session.handle();
                    tokio::spawn(async move {
                        let client = client;
                        find_peers(&handle, &client.ask).await;
                    });
                }
                false => {
                    let (torrent, seed) = (folder.at("t.torrent"), folder.at("seed"));
                    libtorrent.ask(json!({ "do": "add", "torrent": torrent, "folder": seed, "seed": true }));
                }
            }
            let dir = format!("--dir={}", folder.at("get").display());
            let listen = format!("--listen-port={}", free_port());
            // It speaks with trackers over UDP only where its DHT is on; that has nobody to ask here.
            let table = format!("--dht-file-path={}", folder.at("dht.dat").display());
            let port = format!("--dht-listen-port={}", free_port());
            let dht = ["--enable-dht=true", &table, &port];
            ends_well(Kill(aria2(&folder, &[&[&dir, &listen, "--seed-time=0"], &dht[..]].concat()))).await;
            same(&folder, &metainfo, "get");
            session.shutdown().await;
        }
    }
}

/// A tracker that no one here wrote, for these torrents.
async fn opentracker(folder: &Folder, torrents: &[&Metainfo]) -> (Kill, SocketAddr) {
    let swarms = torrents.iter().flat_map(|metainfo| metainfo.info().hashes().swarms().collect::<Vec<_>>());
    let hex = |swarm: [u8; 20]| swarm.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    let list = folder.write("whitelist", swarms.map(hex).collect::<String>().as_bytes());
    // It changes its root to the folder, and its user to nobody.
    open_to_all(&folder.0);
    open_to_all(&list);
    let port = free_port();
    let mut command = Command::new("opentracker");
    command.args([
        "-i",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-P",
        &port.to_string(),
        "-w",
        "whitelist",
        "-d",
    ]);
    command.arg(&folder.0).current_dir(&folder.0).stdout(Stdio::null());
    let child = Kill(command.spawn().expect("opentracker is missing: run interop/setup"));
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    listens(addr).await;
    (child, addr)
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn we_find_each_other_on_opentracker() {
    for wire in 0..2 {
        let folder = Folder::new();
        let bare = tracked(&folder, Format::Hybrid, &MANY, &[]);
        let (_opentracker, addr) = opentracker(&folder, &[&bare]).await;
        let url = &urls(addr)[wire];
        println!("{url}");
        let metainfo = tracked(&folder, Format::Hybrid, &MANY, std::slice::from_ref(url));
        let (seed, client) = (session().await, client().await);
        let handle = seed.handle();
        let serving = tokio::spawn(async move {
            let client = client;
            find_peers(&handle, &client.ask).await;
        });
        add(&seed, Source::Metainfo(metainfo.clone()), folder.at("seed"), vec![]).await;
        get(&folder, &metainfo, Source::Magnet(Magnet::from(&metainfo))).await;
        let swarm = metainfo.info().hashes().swarms().next().unwrap();
        let ask = support::tracker::client().await;
        let stands = ask.ask.scrape(url, &[swarm]).await.unwrap();
        assert_eq!((stands[0].0, stands[0].1.seeders, stands[0].1.completed), (swarm, 1, 1), "{stands:?}");
        seed.handle().ask(Stop).await.unwrap();
        let stands = ask.ask.scrape(url, &[swarm]).await.unwrap();
        assert_eq!(stands.first().map_or(0, |(_, stands)| stands.seeders), 0, "it has said that it goes");
        seed.shutdown().await;
        serving.await.unwrap();
    }
}
