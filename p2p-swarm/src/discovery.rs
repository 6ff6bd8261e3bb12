//! Finding out who has something: what a store asks of a distributed hash table.

use async_trait::async_trait;
use p2p_core::Key;

/// Where providers make themselves known and are found, by root.
#[async_trait]
pub trait Discovery<P>: Send + Sync {
    /// Makes it known that this node provides what is under the key.
    ///
    /// # Errors
    /// It could not be made known.
    async fn announce(&self, key: Key) -> Result<(), DiscoveryError>;
    /// Peers who say that they provide it, in any order; none, if nobody does.
    ///
    /// # Errors
    /// Nobody could be asked.
    async fn providers(&self, key: Key) -> Result<Vec<P>, DiscoveryError>;
}

/// Why nothing was announced or found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("discovery failed: {0}")]
pub struct DiscoveryError(
    /// What the discovery says.
    pub String,
);
