//! Plain quinn, tuned like the node: the same transport configuration, TLS 1.3 with an ed25519 raw public key, `Bytes`
//! handed over without a copy. The serving side gives each request a task, as quinn's examples do, or answers in place
//! what can be answered at once, as the node does.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use p2p_core::Limits;
use p2p_core::net::{bind_udp, transport_config};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

use tokio::sync::{Mutex, mpsc};

use crate::{BODY, BULK, CHUNK, Side, rate};

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

async fn pair(limits: &Limits) -> (quinn::Endpoint, quinn::Endpoint, quinn::Connection, quinn::Connection) {
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
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).unwrap()));
    server.transport_config(transport.clone());
    let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).unwrap()));
    client.transport_config(transport);
    let bind = |server| {
        let mut config = quinn::EndpointConfig::default();
        config.max_udp_payload_size(limits.udp_payload).unwrap();
        let socket = bind_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        quinn::Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime)).unwrap()
    };
    let (server, dialler) = (bind(Some(server)), bind(None));
    let dialled = dialler.connect_with(client, server.local_addr().unwrap(), "raw.invalid").unwrap();
    let accepted = async { server.accept().await.unwrap().await.unwrap() };
    let (dialled, accepted) = tokio::join!(dialled, accepted);
    (server, dialler, dialled.unwrap(), accepted)
}

/// How requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    /// Each in a task of its own.
    Tasks,
    /// Where they come in; in a task only if that would wait.
    InPlace,
}

/// Two endpoints and their connection.
#[derive(Debug)]
pub struct Raw {
    answering: Answering,
    _ends: [quinn::Endpoint; 2],
    dialled: quinn::Connection,
    /// How many bytes each bulk stream had.
    done: Mutex<mpsc::UnboundedReceiver<usize>>,
}

impl Raw {
    /// Connects the two, and answers on one of them.
    pub async fn start(limits: &Limits, answering: Answering) -> Raw {
        let (server, dialler, dialled, accepted) = pair(limits).await;
        let (sender, done) = mpsc::unbounded_channel();
        let bulk = accepted.clone();
        tokio::spawn(async move {
            while let Ok(mut recv) = bulk.accept_uni().await {
                let mut total = 0;
                while let Some(chunk) = recv.read_chunk(usize::MAX, true).await.unwrap() {
                    total += chunk.bytes.len();
                }
                let _ = sender.send(total);
            }
        });
        tokio::spawn(async move {
            while let Ok((mut send, mut recv)) = accepted.accept_bi().await {
                let mut answer = Box::pin(async move {
                    let body = recv.read_to_end(4 << 20).await.unwrap();
                    send.write_chunk(body.into()).await.unwrap();
                    let _ = send.finish();
                });
                if answering == Answering::Tasks || (&mut answer).now_or_never().is_none() {
                    tokio::spawn(answer);
                }
            }
        });
        Raw { answering, _ends: [server, dialler], dialled, done: Mutex::new(done) }
    }
}

impl Side for Raw {
    fn name(&self) -> &'static str {
        match self.answering {
            Answering::Tasks => "raw quinn",
            Answering::InPlace => "raw quinn, answering in place",
        }
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
