//! QUIC by quinn: one endpoint that dials and accepts, with raw public keys for names.
//!
//! The accepting task asks the [gate](super::gate) about every first packet, before any handshake, and lets
//! handshakes run side by side, each with a deadline. Packets are as large as path-MTU discovery finds
//! (RFC 8899) up to [`Limits::udp_payload`]. The keys behind stateless resets (RFC 9000 §10.3) are derived from
//! the identity, so that a node that was killed and started again tells its peers at once that the old
//! connections are gone.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::Instrument;

use super::clock::Clock;
use super::gate::{ConnectionPass, Gate, HandshakePass, Verdict};
use super::stats::{Refusal, Refusals};
use super::stream::{RecvStream, SendStream};
use super::tls::{self, Tls};
use super::transport::{CloseReason, Connection, DatagramError, DialError, Lost, Transport};
use crate::{Contact, Keypair, Limits, PeerId};

/// Connections that are ready and not yet taken by the node.
const BACKLOG: usize = 64;

/// What the kernel may keep of packets that come while no one reads, and of those that go, in bytes; it gives less if
/// the system's limits are lower. Its default of some 200 KiB holds three batches of segmentation offload: a burst of
/// messages loses the fourth, and each loss costs a message a timeout.
const SOCKET_BUFFER: usize = 4 << 20;

/// A QUIC endpoint.
#[derive(Debug)]
pub struct QuicTransport {
    id: PeerId,
    endpoint: quinn::Endpoint,
    local: SocketAddr,
    /// Where everybody is, if that is one place: see [`carried`](super::carried).
    there: Option<SocketAddr>,
    tls: Tls,
    transport: Arc<quinn::TransportConfig>,
    gate: Arc<Gate>,
    ready: tokio::sync::Mutex<mpsc::Receiver<Arc<dyn Connection>>>,
    dial_timeout: Duration,
}

/// How quinn is set up for these limits; public for benchmarks that compare like with like.
pub fn transport_config(limits: &Limits) -> quinn::TransportConfig {
    let mut mtu = quinn::MtuDiscoveryConfig::default();
    mtu.upper_bound(limits.udp_payload.max(1200));
    let silence = limits.silence_timeout.max(Duration::from_millis(100));
    let mut config = quinn::TransportConfig::default();
    config
        .max_concurrent_bidi_streams(limits.streams_per_connection.into())
        .max_concurrent_uni_streams(limits.message_streams_per_connection.into())
        .stream_receive_window(limits.stream_window.into())
        .receive_window(limits.connection_window.into())
        .send_window(u64::from(limits.connection_window))
        .datagram_receive_buffer_size(Some(limits.datagram_bytes))
        .datagram_send_buffer_size(limits.datagram_bytes)
        .keep_alive_interval(Some(silence / 4))
        .max_idle_timeout(quinn::IdleTimeout::try_from(silence).ok())
        .mtu_discovery_config(Some(mtu));
    config
}

/// A socket as our endpoints have it; public for benchmarks that compare like with like.
///
/// # Errors
/// The address cannot be bound.
pub fn bind_udp(addr: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(addr)?;
    let state = quinn::udp::UdpSocketState::new((&socket).into())?;
    let [receive, send] = [
        state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER),
        state.set_send_buffer_size((&socket).into(), SOCKET_BUFFER),
    ];
    if let Err(error) = receive.and(send) {
        tracing::debug!(%error, "the socket keeps its buffers");
    }
    Ok(socket)
}

impl QuicTransport {
    /// Binds a socket and starts accepting. `network` is the ALPN protocol name: peers of another network are
    /// refused in the handshake.
    ///
    /// # Errors
    /// The address cannot be bound, or there is no tokio runtime.
    pub fn bind(
        keypair: Keypair,
        network: &str,
        addr: SocketAddr,
        limits: &Limits,
    ) -> std::io::Result<Arc<QuicTransport>> {
        let runtime = quinn::default_runtime()
            .ok_or_else(|| std::io::Error::other("no tokio runtime: bind inside one"))?;
        let socket = runtime.wrap_udp_socket(bind_udp(addr)?)?;
        QuicTransport::start(keypair, network, socket, None, transport_config(limits), limits)
    }

    /// Starts accepting on a socket.
    pub(super) fn start(
        keypair: Keypair,
        network: &str,
        socket: Arc<dyn quinn::AsyncUdpSocket>,
        there: Option<SocketAddr>,
        transport: quinn::TransportConfig,
        limits: &Limits,
    ) -> std::io::Result<Arc<QuicTransport>> {
        let id = keypair.id();
        let mut endpoint_config = endpoint_config(&keypair);
        endpoint_config.max_udp_payload_size(limits.udp_payload.max(1200)).map_err(std::io::Error::other)?;
        let tls = Tls::new(keypair, network.as_bytes().to_vec());
        let transport = Arc::new(transport);
        let crypto = tls.server().map_err(std::io::Error::other)?;
        let crypto = QuicServerConfig::try_from(crypto).map_err(std::io::Error::other)?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(transport.clone())
            .max_incoming(2 * limits.handshakes_at_once)
            .incoming_buffer_size(16 << 10)
            .incoming_buffer_size_total(4 << 20);
        let runtime = quinn::default_runtime()
            .ok_or_else(|| std::io::Error::other("no tokio runtime: bind inside one"))?;
        let endpoint =
            quinn::Endpoint::new_with_abstract_socket(endpoint_config, Some(server), socket, runtime)?;
        let local = endpoint.local_addr()?;
        let gate = Gate::new(limits.clone());
        let (sender, ready) = mpsc::channel(BACKLOG);
        let dial_timeout = limits.dial_timeout;
        tokio::spawn(accept(endpoint.clone(), gate.clone(), sender, dial_timeout));
        let ready = tokio::sync::Mutex::new(ready);
        Ok(Arc::new(QuicTransport { id, endpoint, local, there, tls, transport, gate, ready, dial_timeout }))
    }

    fn client_config(
        &self,
        peer: PeerId,
    ) -> Result<(quinn::ClientConfig, Arc<std::sync::OnceLock<PeerId>>), DialError> {
        let invalid = |error: &dyn std::fmt::Display| DialError::Invalid(error.to_string());
        let (config, other) = self.tls.client(peer).map_err(|error| invalid(&error))?;
        let crypto = QuicClientConfig::try_from(config).map_err(|error| invalid(&error))?;
        let mut client = quinn::ClientConfig::new(Arc::new(crypto));
        client.transport_config(self.transport.clone());
        Ok((client, other))
    }
}

/// Reset tokens that are the same after a restart.
fn endpoint_config(keypair: &Keypair) -> quinn::EndpointConfig {
    let secret = blake3::derive_key("p2p-core 2026 QUIC stateless reset", &keypair.sign(b"stateless reset"));
    let mut config = quinn::EndpointConfig::new(Arc::new(ResetKey(secret)));
    config.cid_generator(|| Box::new(RandomIds));
    config
}

/// Connection ids without a mark of the process that made them: quinn's own would keep a restarted endpoint
/// from answering to its predecessor's.
struct RandomIds;

impl quinn::ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        let mut id = [0; 8];
        // A failure gives a number that is in use; quinn then asks again.
        let _ = getrandom::fill(&mut id);
        quinn::ConnectionId::new(&id)
    }
    fn cid_len(&self) -> usize {
        8
    }
    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// A keyed BLAKE3 in the place of quinn's HMAC.
struct ResetKey([u8; 32]);

impl quinn::crypto::HmacKey for ResetKey {
    fn sign(&self, data: &[u8], out: &mut [u8]) {
        let hash = blake3::keyed_hash(&self.0, data);
        out.copy_from_slice(&hash.as_bytes()[..out.len()]);
    }
    fn signature_len(&self) -> usize {
        32
    }
    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), quinn::crypto::CryptoError> {
        // blake3's comparison of hashes takes constant time.
        let signature: [u8; 32] = signature.try_into().map_err(|_| quinn::crypto::CryptoError)?;
        match blake3::keyed_hash(&self.0, data) == blake3::Hash::from(signature) {
            true => Ok(()),
            false => Err(quinn::crypto::CryptoError),
        }
    }
}

async fn accept(
    endpoint: quinn::Endpoint,
    gate: Arc<Gate>,
    ready: mpsc::Sender<Arc<dyn Connection>>,
    deadline: Duration,
) {
    let clock = Clock::start();
    while let Some(incoming) = endpoint.accept().await {
        let ip = incoming.remote_address().ip();
        match gate.judge(clock.now(), ip, incoming.remote_address_validated()) {
            Verdict::Accept => {}
            Verdict::Retry => {
                if let Err(error) = incoming.retry() {
                    error.into_incoming().refuse();
                }
                continue;
            }
            Verdict::Refuse(why) => {
                tracing::debug!(%ip, ?why, "refused a handshake");
                incoming.refuse();
                continue;
            }
        }
        let handshake = gate.handshake();
        let (gate, ready) = (gate.clone(), ready.clone());
        let span = tracing::debug_span!("handshake", %ip);
        let shaking = async move {
            if let Some(connection) = handshake_in(incoming, &gate, handshake, deadline).await {
                let _ = ready.send(connection).await;
            }
        };
        tokio::spawn(shaking.instrument(span));
    }
}

async fn handshake_in(
    incoming: quinn::Incoming,
    gate: &Arc<Gate>,
    handshake: HandshakePass,
    deadline: Duration,
) -> Option<Arc<dyn Connection>> {
    let connecting = incoming.accept().ok()?;
    let connection = match timeout(deadline, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake failed");
            gate.count(if error == quinn::ConnectionError::TimedOut {
                Refusal::TimedOut
            } else {
                Refusal::Failed
            });
            return None;
        }
        Err(_) => {
            gate.count(Refusal::TimedOut);
            return None;
        }
    };
    drop(handshake);
    let Some(pass) = gate.accepted(connection.remote_address().ip()) else {
        connection.close(CloseReason::TooMany.code().into(), b"too many connections");
        return None;
    };
    let Some(peer) = peer_of(&connection) else {
        gate.count(Refusal::Failed);
        return None;
    };
    Some(QuicConnection::shared(connection, peer, pass))
}

fn peer_of(connection: &quinn::Connection) -> Option<PeerId> {
    let keys = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    tls::peer_of(keys.first()?)
}

#[async_trait]
impl Transport for QuicTransport {
    fn id(&self) -> PeerId {
        self.id
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    async fn dial(&self, to: Contact) -> Result<Arc<dyn Connection>, DialError> {
        let (config, other) = self.client_config(to.id)?;
        let to = Contact::new(to.id, self.there.unwrap_or(to.addr));
        let pass = self.gate.dialled(to.addr.ip()).ok_or(DialError::TooMany)?;
        // The name is not sent: see the module on TLS.
        let connecting =
            self.endpoint.connect_with(config, to.addr, "peer.invalid").map_err(|error| match error {
                quinn::ConnectError::EndpointStopping => DialError::Shutdown,
                other => DialError::Invalid(other.to_string()),
            })?;
        let connection = match timeout(self.dial_timeout, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(_)) if other.get().is_some() => {
                let found = other.get().copied().unwrap_or(to.id);
                return Err(DialError::WrongKey { expected: to.id, found });
            }
            Ok(Err(quinn::ConnectionError::TimedOut)) | Err(_) => return Err(DialError::TimedOut(to.addr)),
            Ok(Err(quinn::ConnectionError::LocallyClosed)) => return Err(DialError::Shutdown),
            Ok(Err(error)) => return Err(DialError::Refused { addr: to.addr, why: error.to_string() }),
        };
        Ok(QuicConnection::shared(connection, to.id, pass))
    }

    async fn accept(&self) -> Option<Arc<dyn Connection>> {
        self.ready.lock().await.recv().await
    }

    async fn close(&self) {
        self.endpoint.close(CloseReason::Shutdown.code().into(), b"shutdown");
        self.endpoint.wait_idle().await;
    }

    fn refusals(&self) -> Refusals {
        self.gate.refusals()
    }

    async fn refused(&self) {
        self.gate.refused().await;
    }
}

#[derive(Debug)]
struct QuicConnection {
    inner: quinn::Connection,
    peer: PeerId,
    /// Given back when the connection is closed or nobody has it any more.
    pass: Mutex<Option<ConnectionPass>>,
}

impl QuicConnection {
    fn shared(inner: quinn::Connection, peer: PeerId, pass: ConnectionPass) -> Arc<dyn Connection> {
        Arc::new(QuicConnection { inner, peer, pass: Mutex::new(Some(pass)) })
    }
}

/// How quinn's connection ended.
pub(super) fn lost(error: &quinn::ConnectionError) -> Lost {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            Lost::There(CloseReason::from_code(close.error_code.into_inner()))
        }
        quinn::ConnectionError::ConnectionClosed(_) => Lost::There(None),
        quinn::ConnectionError::Reset => Lost::Reset,
        quinn::ConnectionError::TimedOut => Lost::TimedOut,
        quinn::ConnectionError::LocallyClosed | quinn::ConnectionError::CidsExhausted => Lost::Here,
        quinn::ConnectionError::TransportError(_) | quinn::ConnectionError::VersionMismatch => Lost::Broken,
    }
}

#[async_trait]
impl Connection for QuicConnection {
    fn peer(&self) -> PeerId {
        self.peer
    }

    fn remote_addr(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    async fn open_bi(&self) -> Result<(SendStream, RecvStream), Lost> {
        let (send, recv) = self.inner.open_bi().await.map_err(|error| lost(&error))?;
        Ok((SendStream::quic(send), RecvStream::quic(recv)))
    }

    fn open_bi_now(&self) -> Option<Result<(SendStream, RecvStream), Lost>> {
        let opened = self.inner.open_bi().now_or_never()?;
        Some(
            opened
                .map(|(send, recv)| (SendStream::quic(send), RecvStream::quic(recv)))
                .map_err(|error| lost(&error)),
        )
    }

    async fn open_uni(&self) -> Result<SendStream, Lost> {
        self.inner.open_uni().await.map(SendStream::quic).map_err(|error| lost(&error))
    }

    async fn accept_bi(&self) -> Result<(SendStream, RecvStream), Lost> {
        let (send, recv) = self.inner.accept_bi().await.map_err(|error| lost(&error))?;
        Ok((SendStream::quic(send), RecvStream::quic(recv)))
    }

    async fn accept_uni(&self) -> Result<RecvStream, Lost> {
        self.inner.accept_uni().await.map(RecvStream::quic).map_err(|error| lost(&error))
    }

    fn send_datagram(&self, bytes: Bytes) -> Result<(), DatagramError> {
        let len = bytes.len();
        self.inner.send_datagram(bytes).map_err(|error| match error {
            quinn::SendDatagramError::ConnectionLost(error) => DatagramError::Lost(lost(&error)),
            quinn::SendDatagramError::UnsupportedByPeer
            | quinn::SendDatagramError::Disabled
            | quinn::SendDatagramError::TooLarge => DatagramError::TooLong { len, max: self.max_datagram() },
        })
    }

    async fn recv_datagram(&self) -> Result<Bytes, Lost> {
        self.inner.read_datagram().await.map_err(|error| lost(&error))
    }

    fn max_datagram(&self) -> usize {
        self.inner.max_datagram_size().unwrap_or(0)
    }

    fn close(&self, reason: CloseReason) {
        self.inner.close(reason.code().into(), b"");
    }

    async fn closed(&self) -> Lost {
        let lost = lost(&self.inner.closed().await);
        self.pass.lock().unwrap_or_else(PoisonError::into_inner).take();
        lost
    }

    fn lost(&self) -> Option<Lost> {
        self.inner.close_reason().map(|error| lost(&error))
    }

    fn activity(&self) -> u64 {
        let stats = self.inner.stats();
        let frames =
            [stats.frame_tx, stats.frame_rx].map(|frames| frames.stream.wrapping_add(frames.datagram));
        frames[0].wrapping_add(frames[1])
    }

    fn rtt(&self) -> Option<Duration> {
        Some(self.inner.rtt())
    }

    fn bytes(&self) -> (u64, u64) {
        let stats = self.inner.stats();
        (stats.udp_tx.bytes, stats.udp_rx.bytes)
    }
}
