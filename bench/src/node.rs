//! Ours.

use bytes::Bytes;
use futures::future::BoxFuture;
use p2p_core::Limits;
use p2p_core::net::{Incoming, Node};

use crate::{BODY, BULK, CHUNK, Side, rate};

/// Two nodes.
#[derive(Debug)]
pub struct Ours {
    name: &'static str,
    client: Node,
    server: Node,
}

impl Ours {
    /// Starts both.
    pub async fn start(name: &'static str, limits: &Limits) -> Ours {
        let node = async || Node::builder().limits(limits.clone()).bind("127.0.0.1:0").await.unwrap();
        let (client, server) = (node().await, node().await);
        let bulk = server.serve_streams("bulk/1", |_, mut send, mut recv| async move {
            let mut total = 0;
            while let Some(chunk) = recv.read_chunk(usize::MAX).await.unwrap() {
                total += chunk.len();
            }
            send.write(&total.to_le_bytes()).await.unwrap();
            let _ = send.finish();
        });
        bulk.unwrap();
        server.serve("echo/1", |request: Incoming| async move { Ok(request.body) }).unwrap();
        Ours { name, client, server }
    }
}

impl Side for Ours {
    fn name(&self) -> &'static str {
        self.name
    }

    fn bulk(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let (mut send, mut recv) = self.client.open(self.server.contact(), "bulk/1").await.unwrap();
            let chunk = Bytes::from(vec![7; CHUNK]);
            for _ in 0..BULK / CHUNK {
                send.write_chunk(chunk.clone()).await.unwrap();
            }
            send.finish().unwrap();
            assert_eq!(recv.read_to_end(8).await.unwrap()[..], BULK.to_le_bytes());
        })
    }

    fn requests(&self, outstanding: usize) -> BoxFuture<'_, f64> {
        let (node, to, body) = (self.client.clone(), self.server.contact(), Bytes::from_static(&[7; BODY]));
        Box::pin(rate(outstanding, move || {
            let (node, body) = (node.clone(), body.clone());
            async move { assert_eq!(node.request(to, "echo/1", body).await.unwrap().len(), BODY) }
        }))
    }
}
