//! A file between two who accept no connections, in one process with the super-node that relays it: so that it can be
//! looked at what that super-node gets to see.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::disallowed_methods, reason = "it has files")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use p2p_core::net::Node;
use p2p_core::sim::Liar;
use p2p_core::{Contact, Keypair};
use p2p_examples::{SkypeFiles, login_server, patiently, skype_config};
use p2p_overlay::{
    DiskFolder, Download, Fetch, Fetcher, Hit, Query, Role, Scope, Search, Skype, SkypeMsg, SkypeUser,
    items_in,
};
use support::Folder;

/// A user's name, and its key.
fn user(name: &str, key: &Keypair, login: Contact, node: &Node, open: bool) -> SkypeUser {
    let (name, profile, contact) = (name.to_owned(), String::new(), node.contact());
    SkypeUser { keypair: key.clone(), name, profile, server: login.id, login, contact, open }
}

async fn bind(key: &Keypair, open: bool) -> Node {
    SkypeFiles::bind(key, open, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// Which 16 bytes, from 16 to 16, of a content are somewhere in what was seen.
fn seen_of(content: &[u8], seen: &[u8]) -> usize {
    let parts: BTreeSet<&[u8]> = content.chunks_exact(16).collect();
    seen.windows(16).filter(|window| parts.contains(window)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_cannot_read_the_file_that_it_carries() {
    let folder = Folder::new("files");
    let (share, out) = (folder.join("share"), folder.join("out"));
    let content = std::fs::read(folder.noise("share/a secret.txt", 300_000)).unwrap();
    let [server, hub, ada, bob] = [1, 2, 3, 4].map(|seed| Keypair::from_seed(&[seed; 32]));

    let login_node = bind(&server, true).await;
    login_server(&login_node, server, None).unwrap();
    let login = login_node.contact();
    let hub_node = bind(&hub, true).await;
    let frames = Arc::new(Mutex::new(Vec::new()));
    let seen = frames.clone();
    let machine = Skype::node(user("hub", &hub, login, &hub_node, true), [], Role::Ultrapeer, skype_config());
    // It does what it should, and keeps all that it passes on.
    let spy = Liar::new(machine, move |_, to, msg| {
        if let SkypeMsg::Frame { bytes, .. } = &msg {
            seen.lock().unwrap().extend_from_slice(bytes);
        }
        vec![(to, msg)]
    });
    hub_node.spawn("skype/1", spy).unwrap();
    let start = async |name: &str, key: &Keypair, folder: DiskFolder, share: Option<&Path>| {
        let node = bind(key, false).await;
        let items = share.map_or(Vec::new(), |share| items_in(share).unwrap());
        let user = user(name, key, login, &node, false);
        SkypeFiles::start(node, user, vec![hub_node.contact()], Role::Leaf, items, folder).unwrap()
    };
    let there = start("ada", &ada, DiskFolder::new(Some(share.clone()), &out), Some(&share)).await;
    let here = start("bob", &bob, DiskFolder::new(None, &out), None).await;
    let hits = patiently(|| async {
        let scope = Scope { hits: 1, deadline: Duration::from_secs(20), ..Scope::default() };
        let hits: Vec<Hit<Contact>> = here.search(Query::text("ada secret"), scope).collect().await;
        if hits.is_empty() { Err("nothing was found") } else { Ok(hits) }
    });
    let hits = hits.await.unwrap();
    assert_eq!(hits[0].fetch, Fetch::Relay(hub_node.contact()));
    let fetched = here.fetch(Download { hits, name: None }).await.unwrap();
    assert_eq!((&fetched.name[..], fetched.size), ("a secret.txt", 300_000));
    assert_eq!(std::fs::read(out.join("a secret.txt")).unwrap(), content);
    let seen = frames.lock().unwrap().clone();
    assert!(seen.len() > content.len(), "all of it has passed there: {} bytes", seen.len());
    assert_eq!(seen_of(&content, &seen), 0, "and could not be read");
    assert!(seen_of(&content, &content) > 10_000, "what can be read would have been seen");
    for node in [here, there] {
        node.stop().await;
    }
    hub_node.shutdown().await;
    login_node.shutdown().await;
}
