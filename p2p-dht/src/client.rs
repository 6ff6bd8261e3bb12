//! Those who are no nodes, and the nodes that put for them.
//!
//! Whoever only stores and reads asks a node to do it: a gateway (OpenDHT; Rhea et al., *OpenDHT: a public DHT service and
//! its uses*, SIGCOMM 2005, §3). What a gateway puts for a client is the client's: it lasts as long as the client has asked
//! for and is gone then, unless the client comes again. The gateway neither publishes it again nor keeps it as its own; where
//! it is one of the replicas, the record takes the client's room there, not what there is. To the other replicas the gateway
//! is the publisher: they know nobody else, and what it says of its clients they need not believe.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use p2p_core::{Handle, Key, Keyed, NoJob, Peer, Request};
use p2p_overlay::Overlay;

use crate::dht::Dht;
use crate::record::Signed;
use crate::replicated::Replicated;
use crate::request::{Options, Publish, Put, PutError, Stored, With};

/// Somebody for whom a node puts something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Stands for whoever's room it takes; never 0.
    pub(crate) account: u64,
    /// How long what is put lasts, at most [`DhtConfig::max_lifetime`](crate::DhtConfig); one that can be removed, at most
    /// [`DhtConfig::lifetime`](crate::DhtConfig). What is signed lasts as its signature says.
    pub lifetime: Duration,
}

impl Client {
    /// A client that this peer is. All of one [subnet](Keyed::subnet) are one client.
    pub fn at<P: Keyed>(peer: P, lifetime: Duration) -> Client {
        Client { account: account_of(peer), lifetime }
    }
}

/// Stands for a publisher: its subnet, or itself if that says nothing. Never 0.
pub(crate) fn account_of<P: Keyed>(peer: P) -> u64 {
    let key = match peer.subnet() {
        Some(subnet) => Key::of(format!("{subnet:?}").as_bytes()),
        None => peer.key(),
    };
    key.as_bytes()[..8].iter().fold(0, |account, byte| account << 8 | u64::from(*byte)) | 1
}

/// Stands for the same as far as it copies what others have published. Never 0, and no publisher's.
pub(crate) fn copier_of<P: Keyed>(peer: P) -> u64 {
    account_of(peer) ^ 1 | 2
}

/// Whether this stands for somebody who copies.
pub(crate) fn is_copier(account: u64) -> bool {
    account != 0 && account & 1 == 0
}

/// A node's hash table, of which others make use through it.
///
/// ```
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_dht::{Client, Dht, DhtConfig, Gateway, MemoryStore, Replicated};
/// use p2p_overlay::Kademlia;
/// use std::time::Duration;
///
/// type Node = Replicated<Kademlia<SimPeer>>;
/// let mut sim = Sim::<Node, MemoryStore<SimPeer>>::with_workers(
///     1, Network::default(), DiskModel::default(), |_| MemoryStore::default(),
/// );
/// let first = sim.spawn(|birth| Node::new(Kademlia::create(birth.peer), DhtConfig::default()));
/// for _ in 0..9 {
///     sim.spawn(|birth| Node::new(Kademlia::join(birth.peer, [first]), DhtConfig::default()));
/// }
/// sim.run_for(Duration::from_secs(30));
///
/// let (gateway, elsewhere) = (sim.handle(SimPeer(3)), sim.handle(SimPeer(7)));
/// let client = Client::at(SimPeer(999), Duration::from_secs(3600));
/// let key = sim.block_on(async move { gateway.put_for(client, "a value".into()).await.unwrap() });
/// let there = elsewhere.clone();
/// assert_eq!(sim.block_on(async move { there.get(key).await.unwrap() }), "a value");
/// // An hour later nobody has it any more.
/// sim.run_for(Duration::from_secs(3700));
/// assert!(sim.block_on(async move { elsewhere.get(key).await.is_err() }));
/// ```
#[async_trait]
pub trait Gateway<P: Peer>: Dht<P> {
    /// Stores a value for a client.
    ///
    /// # Errors
    /// See [`PutError`].
    async fn put_for(&self, client: Client, value: Bytes) -> Result<Key, PutError>;

    /// Stores a signed value for a client, as [`Dht::publish`] does.
    ///
    /// # Errors
    /// See [`PutError`].
    async fn publish_for(
        &self,
        client: Client,
        signed: Signed,
        expected: Option<u64>,
    ) -> Result<Key, PutError>;
}

#[async_trait]
impl<O: Overlay<Job = NoJob>> Gateway<O::Peer> for Handle<Replicated<O>> {
    async fn put_for(&self, client: Client, value: Bytes) -> Result<Key, PutError> {
        ask_for(self, client, Put(value)).await
    }

    async fn publish_for(
        &self,
        client: Client,
        signed: Signed,
        expected: Option<u64>,
    ) -> Result<Key, PutError> {
        ask_for(self, client, Publish { signed, expected }).await
    }
}

async fn ask_for<O, R>(table: &Handle<Replicated<O>>, client: Client, request: R) -> Result<Key, PutError>
where
    O: Overlay<Job = NoJob>,
    With<R>: Request<Replicated<O>, Reply = crate::request::Answer<Result<Stored, PutError>, O::Peer>>,
{
    let options = Options { client: Some(client), ..Options::default() };
    Ok(table.ask(With { request, options }).await?.result?.key)
}
