//! The hash table as an application sees it.

use async_trait::async_trait;
use bytes::Bytes;
use p2p_core::{Handle, Key, NoJob, Peer, PeerId};
use p2p_overlay::Overlay;

use crate::record::Signed;
use crate::replicated::Replicated;
use crate::request::{Get, GetError, GetProviders, GetSigned, Provide, Publish, Put, PutError};

/// Put and get: what an application asks that does not care what is under it. Take an `Arc<dyn Dht<Contact>>`.
///
/// `P` names who provides things. Keys have `N` bytes, and `S` is a value that its publisher has signed: each network signs
/// its own bytes, so an application makes one in that network's way and hands it over whole. The defaults are those of
/// [`Replicated`]; [`Mainline`](crate::mainline::Mainline) is a `Dht<SocketAddr, 20, MutableItem>`.
#[async_trait]
pub trait Dht<P: Peer, const N: usize = 32, S: Send + 'static = Signed>: Send + Sync {
    /// Stores a value, and goes on publishing it. It is found under the key that comes back, its hash: BLAKE3
    /// here, on Mainline SHA-1 of its encoding.
    ///
    /// # Errors
    /// See [`PutError`].
    async fn put(&self, value: Bytes) -> Result<Key<N>, PutError>;

    /// The value with this hash.
    ///
    /// # Errors
    /// See [`GetError`].
    async fn get(&self, key: Key<N>) -> Result<Bytes, GetError>;

    /// Stores a signed value in the place of the one with the sequence number `expected`, if that is given.
    ///
    /// # Errors
    /// See [`PutError`], [`PutError::Conflict`] above all.
    async fn publish(&self, signed: S, expected: Option<u64>) -> Result<Key<N>, PutError>;

    /// The newest value that a publisher has signed with this salt.
    ///
    /// # Errors
    /// See [`GetError`].
    async fn latest(&self, publisher: PeerId, salt: &[u8]) -> Result<S, GetError>;

    /// Says that this node has what a key names, and goes on saying so.
    ///
    /// # Errors
    /// See [`PutError`].
    async fn provide(&self, key: Key<N>) -> Result<(), PutError>;

    /// Who has what a key names.
    ///
    /// # Errors
    /// See [`GetError`].
    async fn providers(&self, key: Key<N>) -> Result<Vec<P>, GetError>;
}

#[async_trait]
impl<O: Overlay<Job = NoJob>> Dht<O::Peer> for Handle<Replicated<O>> {
    async fn put(&self, value: Bytes) -> Result<Key, PutError> {
        Ok(self.ask(Put(value)).await??.key)
    }

    async fn get(&self, key: Key) -> Result<Bytes, GetError> {
        self.ask(Get(key)).await?
    }

    async fn publish(&self, signed: Signed, expected: Option<u64>) -> Result<Key, PutError> {
        Ok(self.ask(Publish { signed, expected }).await??.key)
    }

    async fn latest(&self, publisher: PeerId, salt: &[u8]) -> Result<Signed, GetError> {
        self.ask(GetSigned(Signed::key_of(&publisher, salt))).await?
    }

    async fn provide(&self, key: Key) -> Result<(), PutError> {
        self.ask(Provide(key)).await??;
        Ok(())
    }

    async fn providers(&self, key: Key) -> Result<Vec<O::Peer>, GetError> {
        self.ask(GetProviders(key)).await?
    }
}
