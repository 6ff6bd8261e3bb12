//! iroh, as it comes, with its relays and lookups off.

use bytes::Bytes;
use futures::future::BoxFuture;
use iroh::endpoint::{Connection, presets};
use iroh::{Endpoint, EndpointAddr, RelayMode};
use tokio::sync::{Mutex, mpsc};

use crate::{BODY, BULK, CHUNK, Side, rate};

const ALPN: &[u8] = b"bench/1";

/// Two endpoints and their connection.
#[derive(Debug)]
pub struct Iroh {
    _ends: [Endpoint; 2],
    dialled: Connection,
    /// How many bytes each bulk stream had.
    done: Mutex<mpsc::UnboundedReceiver<usize>>,
}

/// An endpoint on loopback.
pub async fn endpoint(alpn: &[u8]) -> Endpoint {
    let builder = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .alpns(vec![alpn.to_vec()]);
    builder.bind().await.unwrap()
}

/// Where it can be dialled.
pub fn address(endpoint: &Endpoint) -> EndpointAddr {
    let addr = endpoint.bound_sockets().into_iter().find(std::net::SocketAddr::is_ipv4).unwrap();
    EndpointAddr::new(endpoint.id()).with_ip_addr(addr)
}

impl Iroh {
    /// Connects the two, and answers on one of them.
    pub async fn start() -> Iroh {
        let (server, client) = (endpoint(ALPN).await, endpoint(ALPN).await);
        let accepting = server.clone();
        let (sender, done) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let accepted = accepting.accept().await.unwrap().await.unwrap();
            let bulk = accepted.clone();
            tokio::spawn(async move {
                while let Ok(mut recv) = bulk.accept_uni().await {
                    let mut total = 0;
                    while let Some(chunk) = recv.read_chunk(usize::MAX).await.unwrap() {
                        total += chunk.len();
                    }
                    let _ = sender.send(total);
                }
            });
            while let Ok((mut send, mut recv)) = accepted.accept_bi().await {
                tokio::spawn(async move {
                    let body = recv.read_to_end(4 << 20).await.unwrap();
                    send.write_chunk(body.into()).await.unwrap();
                    let _ = send.finish();
                });
            }
        });
        let dialled = client.connect(address(&server), ALPN).await.unwrap();
        Iroh { _ends: [server, client], dialled, done: Mutex::new(done) }
    }
}

impl Side for Iroh {
    fn name(&self) -> &'static str {
        "iroh"
    }

    fn bulk(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut send = self.dialled.open_uni().await.unwrap();
            let chunk = Bytes::from(vec![7; CHUNK]);
            for _ in 0..BULK / CHUNK {
                send.write_chunk(chunk.clone()).await.unwrap();
            }
            send.finish().unwrap();
            assert_eq!(self.done.lock().await.recv().await, Some(BULK));
        })
    }

    fn requests(&self, outstanding: usize) -> BoxFuture<'_, f64> {
        let (connection, body) = (self.dialled.clone(), Bytes::from_static(&[7; BODY]));
        Box::pin(rate(outstanding, move || {
            let (connection, body) = (connection.clone(), body.clone());
            async move {
                let (mut send, mut recv) = connection.open_bi().await.unwrap();
                send.write_chunk(body).await.unwrap();
                send.finish().unwrap();
                assert_eq!(recv.read_to_end(4 << 20).await.unwrap().len(), BODY);
            }
        }))
    }
}
