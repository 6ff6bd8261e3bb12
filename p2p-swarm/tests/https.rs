//! Trackers and web seeds over TLS, with a certificate of our own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the server stands beside the test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use p2p_core::net::tcp::{self, Running, Secured};
use p2p_core::{Limits, NoWorker};
use p2p_swarm::torrent::PeerName;
use p2p_swarm::torrent::http::{HttpClient, HttpCodec, Resolve};
use p2p_swarm::torrent::tracker::{Announce, AnnounceReply, Event, TrackerClient, TrackerError};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tokio::time::timeout;

/// Everybody is here.
struct Here;

#[async_trait]
impl Resolve for Here {
    async fn resolve(&self, _: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
    }
}

/// A server that proves this name and answers everybody the same; its port, and its certificate.
fn server(name: &str, answer: String) -> (u16, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder_with_provider(default_provider().into());
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![cert.der().clone()], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let (mut asked, mut byte) = (Vec::new(), [0]);
            // Who does not believe it says nothing more.
            while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                asked.push(byte[0]);
            }
            if !asked.ends_with(b"\r\n\r\n") {
                continue;
            }
            let _ = stream.write_all(answer.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (port, cert.der().clone())
}

/// What asks trackers, and believes this certificate.
async fn client(root: &CertificateDer<'static>) -> (TrackerClient<Here>, Running<HttpClient>) {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(default_provider().into());
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let config = Arc::new(config.with_no_client_auth());
    let codec = move |_| Secured::new(HttpCodec::secured(), config.clone());
    let http = tcp::spawn(HttpClient::secured(), codec, None, Limits::default(), [NoWorker]).await.unwrap();
    (TrackerClient::new(http.handle(), None, None, Here), http)
}

async fn announce(client: &TrackerClient<Here>, url: String) -> Result<AnnounceReply, TrackerError> {
    let (swarm, peer) = ([7; 20], PeerName(*b"-XX0000-abcdefghijkl"));
    let (port, uploaded, downloaded, left, event, key) = (1, 0, 0, 0, Event::Started, 0);
    let announce =
        Announce { swarm, peer, port, uploaded, downloaded, left, event, key, want: None, tracker_id: None };
    timeout(Duration::from_secs(20), client.announce(&url, &announce)).await.expect("it ends")
}

fn says(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_that_proves_its_name_is_asked_and_no_other() {
    // Longer than what is decrypted at a time.
    let peers: String = "x".repeat(60_000);
    let (port, certificate) =
        server("tracker.example", says(&format!("d8:intervali900e5:peers60000:{peers}e")));
    let (client, _http) = client(&certificate).await;
    let reply = announce(&client, format!("https://tracker.example:{port}/announce")).await.unwrap();
    assert_eq!((reply.interval.as_secs(), reply.peers.len()), (900, 1000));
    // Another name than it proves, and one that proves nothing to us.
    let other = announce(&client, format!("https://other.example:{port}/announce")).await;
    assert!(matches!(other, Err(TrackerError::Malformed(_))), "{other:?}");
    let (stranger, _) = server("tracker.example", says("d8:intervali900ee"));
    let unknown = announce(&client, format!("https://tracker.example:{stranger}/announce")).await;
    assert!(matches!(unknown, Err(TrackerError::Malformed(_))), "{unknown:?}");
    // In the clear it says nothing that is understood; nor is one that speaks in the clear asked over TLS.
    let clear = announce(&client, format!("http://tracker.example:{port}/announce")).await;
    assert!(clear.is_err(), "{clear:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_in_secret_is_not_asked_in_the_clear() {
    let moved =
        "HTTP/1.1 302 Found\r\nLocation: http://tracker.example/announce\r\nContent-Length: 0\r\n\r\n";
    let (port, certificate) = server("tracker.example", moved.into());
    let (client, _http) = client(&certificate).await;
    let url = format!("https://tracker.example:{port}/announce");
    assert!(matches!(announce(&client, url.clone()).await, Err(TrackerError::Url(_))));
    let codec = |_| HttpCodec::client();
    let http = tcp::spawn(HttpClient::default(), codec, None, Limits::default(), [NoWorker]).await.unwrap();
    let client = TrackerClient::new(http.handle(), None, None, Here);
    assert_eq!(announce(&client, url).await, Err(TrackerError::NoTls));
}
