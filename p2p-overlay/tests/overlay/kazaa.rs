//! KaZaA live, over QUIC.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::time::Duration;

use futures::StreamExt;
use p2p_core::net::Node;
use p2p_core::{Contact, Handle, Keypair};
use p2p_overlay::{Fetch, Hit, Item, Kazaa, KazaaConfig, KazaaEvent, Query, Role, Scope, Search};

async fn patient<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("this step takes far too long")
}

/// Searches until something is found: what is shared comes after the welcome.
async fn find(from: &dyn Search<Contact>, words: &str) -> Hit<Contact> {
    let found = async {
        loop {
            let scope = Scope { hits: 1, ..Scope::default() };
            if let Some(hit) = from.search(Query::text(words), scope).next().await {
                return hit;
            }
            tokio::task::yield_now().await;
        }
    };
    patient(found).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordinary_nodes_over_quic_find_and_reach_each_other() {
    let key = |seed| Keypair::from_seed(&[seed; 32]);
    let bind = async |seed| Node::builder().identity(key(seed)).bind("127.0.0.1:0").await.unwrap();
    let config = KazaaConfig { probe_wait: Duration::from_millis(200), ..KazaaConfig::default() };
    let (one, two, open, hidden) = (bind(1).await, bind(2).await, bind(3).await, bind(4).await);
    // All of them sign.
    let spawn = |own: &Node, by, listens: bool, seed: Option<Contact>, role| -> Handle<Kazaa<Contact>> {
        let kazaa = Kazaa::new(listens.then(|| own.contact()), seed, role, config);
        own.spawn("kazaa/1", kazaa.with_key(key(by))).unwrap()
    };
    let _first = spawn(&one, 1, true, None, Role::Ultrapeer);
    let _second = spawn(&two, 2, true, Some(one.contact()), Role::Ultrapeer);
    let here = spawn(&open, 3, true, Some(one.contact()), Role::Leaf);
    let there = spawn(&hidden, 4, false, Some(two.contact()), Role::Leaf);
    here.publish(Item::new("Blue Monday", 7)).await.unwrap();
    there.publish(Item::new("Ruby Tuesday", 7)).await.unwrap();
    let hit = find(&there, "monday").await;
    assert_eq!(
        (hit.fetch, patient(there.reach(&hit)).await),
        (Fetch::Direct(open.contact()), Ok(open.contact()))
    );
    // She accepts no connections: she makes one.
    let mut events = there.events();
    let hit = find(&here, "tuesday").await;
    assert_eq!((hit.fetch, patient(here.reach(&hit)).await), (Fetch::Push, Ok(hidden.contact())));
    let sends = KazaaEvent::Sends { to: open.contact(), name: "Ruby Tuesday".into() };
    while patient(events.next()).await.unwrap() != sends {}
}
