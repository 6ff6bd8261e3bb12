//! Transmission, both ways: in the clear, encrypted, and over uTP. It says every ten seconds to whom it sends, and whom it
//! asks, so all meetings are held at once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;

use futures::future::join_all;
use p2p_swarm::torrent::{AddPeers, Carriers, Encryption, Format, Source};
use support::{Folder, MANY, add, client_with, comes, free_port, listens, same, torrent, transmission, wait};

/// What carries the connection, and what both want of it: who has no other carrier or requires encryption takes nothing
/// else, and who has it off offers none.
const MEETINGS: [(Carriers, Encryption); 4] = [
    (Carriers::Tcp, Encryption::Off),
    (Carriers::Tcp, Encryption::Required),
    (Carriers::Utp, Encryption::Off),
    (Carriers::Utp, Encryption::Required),
];

/// It makes no empty files.
fn files() -> Vec<(&'static str, usize)> {
    MANY.into_iter().filter(|(_, len)| *len > 0).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_get_what_transmission_seeds() {
    join_all(MEETINGS.map(|(carriers, encryption)| async move {
        let folder = Folder::new();
        let metainfo = torrent(&folder, Format::V1, &files());
        let port = free_port();
        let _transmission = transmission(&folder, "seed", port, encryption, carriers == Carriers::Utp);
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        listens(addr).await;
        let client = client_with(carriers, encryption).await;
        let id = add(&client, Source::Metainfo(metainfo.clone()), folder.at("get"), vec![addr]).await;
        wait(&client, id).await;
        same(&folder, &metainfo, "get");
        println!("{carriers:?}, {encryption:?}");
        client.shutdown().await;
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transmission_gets_what_we_seed() {
    join_all(MEETINGS.map(|(carriers, encryption)| async move {
        let folder = Folder::new();
        let metainfo = torrent(&folder, Format::V1, &files());
        let client = client_with(carriers, encryption).await;
        let id = add(&client, Source::Metainfo(metainfo.clone()), folder.at("seed"), vec![]).await;
        wait(&client, id).await;
        let port = free_port();
        let _transmission = transmission(&folder, "get", port, encryption, carriers == Carriers::Utp);
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        listens(addr).await;
        // There is no tracker to tell it of us: we connect to it.
        client.handle().ask(AddPeers { torrent: id, peers: vec![addr] }).await.unwrap();
        comes(&folder, &metainfo, "get").await;
        same(&folder, &metainfo, "get");
        println!("{carriers:?}, {encryption:?}");
        client.shutdown().await;
    }))
    .await;
}
