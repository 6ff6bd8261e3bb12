//! What a node tells `tracing`: the spans it works in, and nothing routine above debug.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use p2p_core::{Contact, Keypair, Limits};
use support::talker::{End, Msg};
use support::{echo, is_echoed, patient};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Notes what comes from this crate.
#[derive(Clone, Default)]
struct Seen {
    spans: Arc<Mutex<BTreeSet<&'static str>>>,
    loud: Arc<Mutex<Vec<&'static str>>>,
    ids: Arc<AtomicU64>,
}

impl Subscriber for Seen {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("p2p_core")
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.note(span.metadata());
        self.spans.lock().unwrap().insert(span.metadata().name());
        Id::from_u64(1 + self.ids.fetch_add(1, Ordering::Relaxed))
    }
    fn event(&self, event: &Event<'_>) {
        self.note(event.metadata());
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Seen {
    fn note(&self, metadata: &'static Metadata<'static>) {
        if *metadata.level() < Level::DEBUG {
            self.loud.lock().unwrap().push(metadata.name());
        }
    }
}

#[tokio::test]
async fn a_node_works_in_spans_and_is_quiet() {
    let seen = Seen::default();
    let _default = tracing::subscriber::set_default(seen.clone());
    let (mut a, b) = (End::over_quic(Limits::default()).await, echo(Limits::default()).await);
    is_echoed(&a.node, b.contact()).await;
    let b = End::new(b);
    b.say(a.node.contact(), [Msg::Ordered(1, vec![]), Msg::Datagram(2), Msg::Bulk(3, vec![])]).await;
    for _ in 0..4 {
        a.next().await;
    }
    let nobody = Contact::new(Keypair::generate().id(), b.node.contact().addr);
    assert!(patient(a.node.request(nobody, "x/1", "")).await.is_err());
    patient(a.node.datagram(b.node.contact(), "talk/1", [9, 9])).await.unwrap();
    a.until_down().await;
    patient(a.node.shutdown()).await;
    let expected = ["connection", "dial", "handshake", "outbox", "protocol"];
    assert!(seen.spans.lock().unwrap().iter().eq(&expected), "{:?}", seen.spans);
    assert!(seen.loud.lock().unwrap().is_empty(), "{:?}", seen.loud);
}
