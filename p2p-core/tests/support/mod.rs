//! What the tests of the live world share: patience, nodes, and a machine that talks.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

pub mod talker;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use p2p_core::net::{Incoming, Node};
use p2p_core::{Contact, Limits};
use tokio::time::timeout;

/// A future's output, which is there in a moment unless the test has failed.
pub async fn patient<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("this test's step takes far too long")
}

pub async fn node(limits: Limits) -> Node {
    Node::builder().limits(limits).bind("127.0.0.1:0").await.unwrap()
}

/// A node that gives back what it is sent, under `echo/1`.
pub async fn echo(limits: Limits) -> Node {
    let node = node(limits).await;
    node.serve("echo/1", |request: Incoming| async move { Ok(request.body) }).unwrap();
    node
}

/// Asks a node that echoes.
pub async fn is_echoed(client: &Node, server: Contact) {
    assert_eq!(patient(client.request(server, "echo/1", "x")).await.unwrap(), "x");
}

/// A gate that threads wait at until it is opened.
#[derive(Clone, Default)]
pub struct Barrier(Arc<(Mutex<bool>, Condvar)>);

impl Barrier {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Opens it at the end of a test, so that a failed one ends too.
    pub fn opened_at_the_end(&self) -> Opens {
        Opens(self.clone())
    }

    pub fn wait(&self) {
        let closed = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(closed, |open| !*open).unwrap());
    }
}

/// Opens a barrier when dropped.
pub struct Opens(Barrier);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}
