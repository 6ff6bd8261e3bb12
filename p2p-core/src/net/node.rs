//! [`Node`]: the live world in one value.

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::future::select;
use tokio::net::ToSocketAddrs;
use tokio::time::{Instant, timeout_at};

use super::driver;
use super::error::{OpenError, RequestError, SendError, ServeError};
use super::hosts::Hosts;
use super::pool::Use;
use super::quic::QuicTransport;
use super::serve::{Incoming, Refused, Taker};
use super::shared::{Phase, Shared, header};
use super::stats::Stats;
use super::stream::{RecvStream, SendStream};
use super::transport::{CloseReason, Transport};
use crate::protocol::NoJob;
use crate::{Contact, Handle, Keypair, Learnt, Limits, NoWorker, PeerId, Protocol, Wire, Worker};

/// A peer on the network: one endpoint, its identity, and the protocols it runs. Clones are the same node; when
/// the last is dropped the node closes at once. [`Node::shutdown`] lets it end what it has begun.
///
/// ```
/// use p2p_core::net::{Incoming, Node};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let server = Node::builder().bind("127.0.0.1:0").await?;
/// server.serve("echo/1", |request: Incoming| async move { Ok(request.body) })?;
///
/// let client = Node::builder().bind("127.0.0.1:0").await?;
/// let reply = client.request(server.contact(), "echo/1", "hello").await?;
/// assert_eq!(reply, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Node {
    shared: Arc<Shared>,
    _alive: Arc<Alive>,
}

/// Closes the node when its last clone goes.
#[derive(Debug)]
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.pool.shut();
        self.0.phase.send_replace(Phase::Closed);
        for link in self.0.pool.all() {
            link.conn.close(CloseReason::Shutdown);
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let transport = self.0.transport.clone();
            runtime.spawn(async move { transport.close().await });
        }
    }
}

/// What a node starts with; everything has a default.
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it is bound"]
pub struct NodeBuilder {
    keypair: Option<Keypair>,
    network: Option<String>,
    limits: Limits,
    hosts: Hosts,
}

impl NodeBuilder {
    /// Who the node is. A new key pair each time.
    pub fn identity(mut self, keypair: Keypair) -> NodeBuilder {
        self.keypair = Some(keypair);
        self
    }

    /// The network's name, by which peers refuse strangers in the handshake (ALPN). `p2p`.
    pub fn network(mut self, name: impl Into<String>) -> NodeBuilder {
        self.network = Some(name.into());
        self
    }

    /// What the node lets others cost it. [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> NodeBuilder {
        self.limits = limits;
        self
    }

    /// The file in which the node remembers where its peers are: see [`Node::peers`]. It is read now if it exists, and
    /// written every minute and at [`Node::shutdown`]. Without one all is forgotten with the node.
    ///
    /// # Errors
    /// The file cannot be read or is no such file: see [`HostCache::load`](crate::HostCache::load).
    pub fn peers(mut self, file: impl Into<PathBuf>) -> std::io::Result<NodeBuilder> {
        self.hosts = Hosts::load(file.into())?;
        Ok(self)
    }

    /// Binds a UDP socket and starts. Port 0 leaves the port to the system. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// The address does not resolve, or cannot be bound.
    pub async fn bind(self, addr: impl ToSocketAddrs) -> std::io::Result<Node> {
        let addr = tokio::net::lookup_host(addr).await?.next();
        let addr = addr.ok_or_else(|| std::io::Error::other("the address to bind does not resolve"))?;
        let keypair = self.keypair.unwrap_or_else(Keypair::generate);
        let network = self.network.as_deref().unwrap_or("p2p");
        let transport = QuicTransport::bind(keypair, network, addr, &self.limits)?;
        Ok(Node::start(transport, self.limits, self.hosts))
    }

    /// Starts on a transport, which knows who the node is and what its network is. Must be called in a tokio
    /// runtime.
    pub fn bind_on(self, transport: Arc<dyn Transport>) -> Node {
        Node::start(transport, self.limits, self.hosts)
    }
}

impl Node {
    /// A node to be.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    fn start(transport: Arc<dyn Transport>, limits: Limits, hosts: Hosts) -> Node {
        let shared = Shared::new(transport, limits, hosts);
        tokio::spawn(shared.clone().accept());
        tokio::spawn(shared.clone().sweep());
        tokio::spawn(shared.clone().save_hosts());
        Node { _alive: Arc::new(Alive(shared.clone())), shared }
    }

    /// Who this node proves to be.
    pub fn id(&self) -> PeerId {
        self.shared.transport.id()
    }

    /// Where others can dial it: the bound address; where that is unspecified (`0.0.0.0`) what at least two
    /// peers have observed, and until then this machine's loopback address.
    pub fn contact(&self) -> Contact {
        Contact::new(self.id(), self.shared.addr())
    }

    // ---- asking

    /// Asks a peer, and waits for the whole reply. Connects if there is no connection.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request(
        &self,
        peer: impl Into<Contact>,
        protocol: &str,
        body: impl Into<Bytes>,
    ) -> Result<Bytes, RequestError> {
        let (peer, body) = (peer.into(), body.into());
        let max = self.shared.limits.request_bytes;
        if body.len() > max {
            return Err(RequestError::TooLong { len: body.len(), max });
        }
        let asked = pin!(async {
            let mut before = false;
            loop {
                match self.request_once(peer, protocol, body.clone()).await {
                    // The peer closed the connection as unused: it has seen nothing of this.
                    Err(RequestError::Lost(lost)) if lost.unseen() && !before => before = true,
                    outcome => return outcome,
                }
            }
        });
        self.shared.in_time(asked).await.unwrap_or(Err(RequestError::TimedOut))
    }

    async fn request_once(&self, peer: Contact, protocol: &str, body: Bytes) -> Result<Bytes, RequestError> {
        let head = header(protocol, if body.len() <= SMALL { body.len() } else { 0 })?;
        let (hold, send, recv) = self.stream(peer).await?;
        self.shared.count_sent(protocol);
        let reply = exchange(send, recv, head, body, self.shared.limits.request_bytes).await;
        drop(hold);
        reply
    }

    /// A new stream both ways on the connection to a peer; on a new one if that turns out to be lost.
    async fn stream(&self, peer: Contact) -> Result<(Use, SendStream, RecvStream), OpenError> {
        if let Some(link) = self.shared.pool.current(&peer.id) {
            let opened = match link.conn.open_bi_now() {
                Some(opened) => opened,
                None => link.conn.open_bi().await,
            };
            if let Ok((send, recv)) = opened {
                return Ok((Use::new(link), send, recv));
            }
        }
        // Boxed: it is seldom needed, and large beside the rest of a request.
        let link = Box::pin(self.shared.link(peer)).await?;
        let (send, recv) = link.conn.open_bi().await?;
        Ok((Use::new(link), send, recv))
    }

    /// Opens a stream both ways to a peer's protocol, which the peer takes by [`Node::serve_streams`]. Connects if
    /// there is no connection.
    ///
    /// # Errors
    /// See [`OpenError`]. That the peer does not serve the protocol shows at the first read.
    pub async fn open(
        &self,
        peer: impl Into<Contact>,
        protocol: &str,
    ) -> Result<(SendStream, RecvStream), OpenError> {
        let header = header(protocol, 0)?;
        let link = self.shared.link(peer.into()).await?;
        let (mut send, mut recv) = link.conn.open_bi().await?;
        self.shared.count_sent(protocol);
        send.hold(Use::new(link.clone()));
        recv.hold(Use::new(link));
        match send.write_chunk(header.into()).await {
            Err(super::StreamError::Lost(lost)) => Err(lost.into()),
            _ => Ok((send, recv)),
        }
    }

    /// Sends a datagram to a peer's protocol: it may be lost, doubled or late. Connects if there is no connection.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn datagram(
        &self,
        peer: impl Into<Contact>,
        protocol: &str,
        bytes: impl AsRef<[u8]>,
    ) -> Result<(), SendError> {
        let bytes = bytes.as_ref();
        let mut datagram = header(protocol, bytes.len())?;
        datagram.extend_from_slice(bytes);
        let link = self.shared.link(peer.into()).await.map_err(OpenError::from)?;
        link.touch();
        self.shared.count_sent(protocol);
        Ok(link.conn.send_datagram(datagram.into())?)
    }

    // ---- serving

    /// Answers requests to a protocol. Handlers wait side by side, at most
    /// [`Limits::requests_at_once`](crate::Limits::requests_at_once) of them. Until it first waits a handler runs
    /// where its peer's requests come in, and holds up that peer's next one: long computations belong on a thread of
    /// their own, as
    /// `tokio::task::spawn_blocking` gives.
    ///
    /// # Errors
    /// The name is taken, or too long, or the node is shut down.
    pub fn serve<F, R>(&self, protocol: &str, handler: F) -> Result<(), ServeError>
    where
        F: Fn(Incoming) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Bytes, Refused>> + Send + 'static,
    {
        let handler = move |request: Incoming| Box::pin(handler(request)) as _;
        self.shared.register(protocol, Taker::Requests(Box::new(handler))).map(drop)
    }

    /// Takes the streams that peers [open](Node::open) to a protocol. Until it first waits a handler runs where its
    /// peer's streams come in, as with [`Node::serve`].
    ///
    /// # Errors
    /// As [`Node::serve`].
    pub fn serve_streams<F, R>(&self, protocol: &str, handler: F) -> Result<(), ServeError>
    where
        F: Fn(Contact, SendStream, RecvStream) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let handler = move |from: Contact, send: SendStream, recv: RecvStream| {
            Box::pin(handler(from, send, recv)) as super::serve::Conversation
        };
        self.shared.register(protocol, Taker::Streams(Box::new(handler))).map(drop)
    }

    /// Takes the datagrams to a protocol. The handler must not wait: it holds up the connection's others.
    ///
    /// # Errors
    /// As [`Node::serve`].
    pub fn serve_datagrams(
        &self,
        protocol: &str,
        handler: impl Fn(Contact, Bytes) + Send + Sync + 'static,
    ) -> Result<(), ServeError> {
        self.shared.register(protocol, Taker::Datagrams(Box::new(handler))).map(drop)
    }

    /// Serves a protocol no more: its name is free again. A machine that was [spawned](Node::spawn) hears nothing
    /// more from its peers, whose streams are refused.
    pub fn withdraw(&self, protocol: &str) {
        self.shared.withdraw(protocol);
    }

    /// Runs a machine that has no jobs.
    ///
    /// # Errors
    /// As [`Node::serve`].
    pub fn spawn<P>(&self, protocol: &str, machine: P) -> Result<Handle<P>, ServeError>
    where
        P: Protocol<Peer = Contact, Job = NoJob>,
        P::Msg: Wire,
    {
        self.spawn_with_workers(protocol, machine, [NoWorker; 0])
    }

    /// Runs a machine whose jobs these workers do, each on a thread of its own. Jobs of one lane go to one worker.
    ///
    /// # Errors
    /// As [`Node::serve`]; also if the system gives no thread.
    pub fn spawn_with_workers<P, W>(
        &self,
        protocol: &str,
        machine: P,
        workers: impl IntoIterator<Item = W>,
    ) -> Result<Handle<P>, ServeError>
    where
        P: Protocol<Peer = Contact>,
        P::Msg: Wire,
        W: Worker<P::Job> + 'static,
    {
        driver::spawn(&self.shared, protocol, machine, workers)
    }

    // ---- about itself

    /// Where peers were last seen, one address each, the most promising first: whom to dial after a start. At most as
    /// many as a default [`HostCache`](crate::HostCache) holds. What this node has dialled comes before those who have
    /// connected to it, and both before what was [heard](Node::heard_of).
    pub fn peers(&self) -> Vec<Contact> {
        self.shared.hosts.best()
    }

    /// Notes where somebody says that a peer is; never in the place of an address that is proved.
    pub fn heard_of(&self, contact: Contact) {
        self.shared.hosts.note(contact, Learnt::Hearsay, self.shared.clock.wall());
    }

    /// The estimated round-trip time to a peer (RFC 9002 §5); `None` if there is no connection, or none that measures;
    /// for a moment the last one of a connection that is lost.
    pub fn rtt(&self, peer: &PeerId) -> Option<Duration> {
        self.shared.pool.current(peer)?.conn.rtt()
    }

    /// What the node has counted.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// What the node has counted, as soon as it meets a condition; bytes alone are no occasion to look again.
    ///
    /// ```no_run
    /// # async fn all_gone(node: p2p_core::net::Node) {
    /// let stats = node.stats_when(|stats| stats.connections == 0).await;
    /// # }
    /// ```
    pub async fn stats_when(&self, condition: impl Fn(&Stats) -> bool) -> Stats {
        let waiting = self.shared.counters.changes.wait();
        loop {
            let told = pin!(waiting.changed());
            let mut changed = pin!(select(told, self.shared.transport.refused()));
            // Polled once before the look: what changes from then on is not missed.
            let at_once = poll_fn(|cx| Poll::Ready(changed.as_mut().poll(cx).is_ready())).await;
            let stats = self.stats();
            if condition(&stats) {
                return stats;
            }
            if !at_once {
                changed.await;
            }
        }
    }

    /// Ends the node: nothing new begins, handlers and machines' queues come to their end, peers are told. Takes
    /// no longer than [`Limits::shutdown_deadline`](crate::Limits::shutdown_deadline); what is not done by then
    /// is cut off.
    pub async fn shutdown(&self) {
        let deadline = Instant::now() + self.shared.limits.shutdown_deadline;
        self.shared.phase.send_modify(|phase| *phase = Phase::Draining.max(*phase));
        self.shared.pool.shut();
        let machines =
            std::mem::take(&mut *self.shared.machines.lock().unwrap_or_else(PoisonError::into_inner));
        let drained = async {
            for machine in machines {
                let _ = machine.await;
            }
            self.shared.load.none().await;
            self.shared.flush().await;
        };
        // A quarter of the time is kept for telling the peers.
        let drain_by = deadline - self.shared.limits.shutdown_deadline / 4;
        let _ = timeout_at(drain_by, drained).await;
        self.shared.phase.send_replace(Phase::Closed);
        let _ = timeout_at(deadline, self.shared.hosts.save()).await;
        let _ = timeout_at(deadline, self.shared.transport.close()).await;
    }
}

/// Below this a copy is cheaper than a second chunk.
const SMALL: usize = 2048;

/// Sends one request on a stream of its own and reads its reply.
async fn exchange(
    mut send: SendStream,
    mut recv: RecvStream,
    mut head: Vec<u8>,
    body: Bytes,
    max: usize,
) -> Result<Bytes, RequestError> {
    let written = if body.len() <= SMALL {
        head.extend_from_slice(&body);
        send.write_chunk(head.into()).await
    } else {
        send.write_chunks(&mut [head.into(), body]).await
    };
    match written {
        // The peer may refuse the request before it has read all of it: its reason comes with the reply.
        Ok(()) | Err(super::StreamError::Abandoned(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let _ = send.finish();
    Ok(recv.read_to_end(max).await?)
}
