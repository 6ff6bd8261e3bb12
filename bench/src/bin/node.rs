//! `Node` beside raw quinn on one loopback, in one program: bulk throughput and request rates as ratios.
//!
//! Both have the same transport configuration ([`transport_config`]: path MTU, windows), TLS 1.3 with an ed25519 raw
//! public key, `Bytes` handed over without a copy, and a task per request on the serving side.
//! `cargo run --release -p bench --bin node [rounds] [outstanding]` prints medians of paired runs; with the second
//! number only requests are measured, that many at a time.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a program that measures, prints, and may fail loudly"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use p2p_core::Limits;
use p2p_core::net::{Incoming, Node, transport_config};

const BULK: usize = 1 << 30;
const CHUNK: usize = 1 << 20;

mod raw {
    //! Plain quinn, tuned like the node.
    use super::{Arc, Limits, transport_config};
    use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{
        CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
    };
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    /// An ed25519 key in PKCS #8 (RFC 8410 §7), its public half left out.
    const KEY: [u8; 48] = {
        let mut key = [7; 48];
        let head = [0x30, 0x2e, 0x02, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        let mut i = 0;
        while i < 16 {
            key[i] = head[i];
            i += 1;
        }
        key
    };

    #[derive(Debug)]
    struct AnyKey(Arc<rustls::crypto::CryptoProvider>);
    impl ServerCertVerifier for AnyKey {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("TLS 1.2".into()))
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            key: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let key = SubjectPublicKeyInfoDer::from(key.as_ref());
            let algorithms = &self.0.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }
        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    }

    pub(crate) async fn pair(
        limits: &Limits,
    ) -> (quinn::Endpoint, quinn::Endpoint, quinn::Connection, quinn::Connection) {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = provider
            .key_provider
            .load_private_key(PrivatePkcs8KeyDer::from(&KEY[..]).clone_key().into())
            .unwrap();
        let public = CertificateDer::from(key.public_key().unwrap().to_vec());
        let own = Arc::new(rustls::sign::CertifiedKey::new(vec![public], key));
        let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::AlwaysResolvesServerRawPublicKeys::new(own)));
        server.alpn_protocols = vec![b"raw".to_vec()];
        let mut client = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyKey(provider)))
            .with_no_client_auth();
        client.alpn_protocols = vec![b"raw".to_vec()];
        let transport = Arc::new(transport_config(limits));
        let mut server =
            quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).unwrap()));
        server.transport_config(transport.clone());
        let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap()));
        client.transport_config(transport);
        let bind = |server| {
            let mut config = quinn::EndpointConfig::default();
            config.max_udp_payload_size(limits.udp_payload).unwrap();
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            quinn::Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime)).unwrap()
        };
        let (server, dialler) = (bind(Some(server)), bind(None));
        let dialled = dialler.connect_with(client, server.local_addr().unwrap(), "raw.invalid").unwrap();
        let accepted = async { server.accept().await.unwrap().await.unwrap() };
        let (dialled, accepted) = tokio::join!(dialled, accepted);
        (server, dialler, dialled.unwrap(), accepted)
    }
}

async fn raw_bulk(from: &quinn::Connection, to: &quinn::Connection) -> Duration {
    let chunk = Bytes::from(vec![7; CHUNK]);
    let start = Instant::now();
    let reader = tokio::spawn({
        let to = to.clone();
        async move {
            let (_, mut recv) = to.accept_bi().await.unwrap();
            let mut total = 0;
            while let Some(chunk) = recv.read_chunk(usize::MAX, true).await.unwrap() {
                total += chunk.bytes.len();
            }
            total
        }
    });
    let (mut send, _recv) = from.open_bi().await.unwrap();
    for _ in 0..BULK / CHUNK {
        send.write_chunk(chunk.clone()).await.unwrap();
    }
    send.finish().unwrap();
    assert_eq!(reader.await.unwrap(), BULK);
    start.elapsed()
}

async fn node_bulk(
    from: &Node,
    to: &Node,
    done: &mut tokio::sync::mpsc::UnboundedReceiver<usize>,
) -> Duration {
    let chunk = Bytes::from(vec![7; CHUNK]);
    let start = Instant::now();
    let (mut send, _recv) = from.open(to.contact(), "bulk/1").await.unwrap();
    for _ in 0..BULK / CHUNK {
        send.write_chunk(chunk.clone()).await.unwrap();
    }
    send.finish().unwrap();
    assert_eq!(done.recv().await.unwrap(), BULK);
    start.elapsed()
}

/// Requests per second of `ask`, with `outstanding` of them at a time, for a second.
async fn rate<F: Future<Output = ()> + Send>(
    outstanding: usize,
    ask: impl Fn() -> F + Clone + Send + 'static,
) -> f64 {
    let start = Instant::now();
    let end = start + Duration::from_millis(1000);
    let askers: Vec<_> = (0..outstanding)
        .map(|_| {
            let ask = ask.clone();
            async move {
                let mut asked = 0u64;
                while Instant::now() < end {
                    ask().await;
                    asked += 1;
                }
                asked
            }
        })
        .collect();
    let tasks: Vec<_> = askers
        .into_iter()
        .map(|asker| tokio::spawn(Box::pin(asker) as std::pin::Pin<Box<dyn Future<Output = u64> + Send>>))
        .collect();
    let mut total = 0;
    for task in tasks {
        total += task.await.unwrap();
    }
    total as f64 / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let only: Option<usize> = std::env::args().nth(2).and_then(|outstanding| outstanding.parse().ok());
    let limits = Limits::default();
    let (_server, _dialler, dialled, accepted) = raw::pair(&limits).await;
    let node = async || Node::builder().bind("127.0.0.1:0").await.unwrap();
    let (client, server) = (node().await, node().await);
    let (sender, mut done) = tokio::sync::mpsc::unbounded_channel();
    server
        .serve_streams("bulk/1", move |_, _, mut recv| {
            let sender = sender.clone();
            async move {
                let mut total = 0;
                while let Some(chunk) = recv.read_chunk(usize::MAX).await.unwrap() {
                    total += chunk.len();
                }
                sender.send(total).unwrap();
            }
        })
        .unwrap();
    server.serve("echo/1", |request: Incoming| async move { Ok(request.body) }).unwrap();

    // The first run of each finds the path's MTU.
    let mut bulk = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=if only.is_none() { rounds } else { 0 } {
        // Who goes first changes, so that neither has the warmer machine.
        let mut ours = None;
        if round % 2 == 1 {
            ours = Some(node_bulk(&client, &server, &mut done).await);
        }
        let raw = raw_bulk(&dialled, &accepted).await;
        let ours = match ours {
            Some(ours) => ours,
            None => node_bulk(&client, &server, &mut done).await,
        };
        let [raw, ours] = [raw, ours].map(|time| BULK as f64 / 1e6 / time.as_secs_f64());
        if round > 0 {
            bulk.iter_mut().zip([raw, ours, ours / raw]).for_each(|(all, one)| all.push(one));
        }
    }
    if only.is_none() {
        let [raw, ours, ratio] = bulk.map(median);
        println!("bulk 1 GiB, one stream: raw quinn {raw:.0} MB/s, Node {ours:.0} MB/s, ratio {ratio:.3}");
    }

    tokio::spawn(async move {
        while let Ok((mut send, mut recv)) = accepted.accept_bi().await {
            tokio::spawn(async move {
                let body = recv.read_to_end(4 << 20).await.unwrap();
                send.write_chunk(body.into()).await.unwrap();
                let _ = send.finish();
            });
        }
    });
    let body = Bytes::from(vec![7; 64]);
    for outstanding in only.map_or(vec![1, 64, 512], |one| vec![one]) {
        let mut rates = [Vec::new(), Vec::new(), Vec::new()];
        for round in 0..=rounds {
            let (connection, sent) = (dialled.clone(), body.clone());
            let ask_raw = move || {
                let (connection, sent) = (connection.clone(), sent.clone());
                async move {
                    let (mut send, mut recv) = connection.open_bi().await.unwrap();
                    send.write_chunk(sent).await.unwrap();
                    send.finish().unwrap();
                    assert_eq!(recv.read_to_end(4 << 20).await.unwrap().len(), 64);
                }
            };
            let (node, to, sent) = (client.clone(), server.contact(), body.clone());
            let ask_node = move || {
                let (node, sent) = (node.clone(), sent.clone());
                async move {
                    assert_eq!(node.request(to, "echo/1", sent).await.unwrap().len(), 64);
                }
            };
            let mut ours = None;
            if round % 2 == 1 {
                ours = Some(rate(outstanding, ask_node.clone()).await);
            }
            let raw = rate(outstanding, ask_raw).await;
            let ours = match ours {
                Some(ours) => ours,
                None => rate(outstanding, ask_node).await,
            };
            if round > 0 {
                rates.iter_mut().zip([raw, ours, ours / raw]).for_each(|(all, one)| all.push(one));
            }
        }
        let [raw, ours, ratio] = rates.map(median);
        println!("{outstanding} outstanding: raw quinn {raw:.0}/s, Node {ours:.0}/s, ratio {ratio:.3}");
    }
    client.shutdown().await;
    server.shutdown().await;
}
