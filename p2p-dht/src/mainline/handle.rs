//! A node as a [`Dht`]: values are byte strings of at most 996 bytes, keys have 160 bits, and what is signed is a
//! [`MutableItem`].

use async_trait::async_trait;
use bytes::Bytes;
use p2p_core::{Handle, Key, PeerId};
use p2p_overlay::LookupError;

use super::request::{
    Announce, GetImmutable, GetMutable, GetPeers, MainlineError, PutImmutable, PutMutable, Status,
};
use super::{Endpoint, Mainline, MutableItem};
use crate::bencode::{self, Value};
use crate::dht::Dht;
use crate::record::InvalidRecord;
use crate::request::{GetError, PutError};

#[async_trait]
impl<P: Endpoint> Dht<P, 20, MutableItem> for Handle<Mainline<P>> {
    async fn put(&self, value: Bytes) -> Result<Key<20>, PutError> {
        let stored = self.ask(PutImmutable(bencode::bytes(value).into())).await?;
        Ok(stored.map_err(put_error)?.target)
    }

    /// A value that is no byte string is not found: ask for it by [`GetImmutable`].
    async fn get(&self, key: Key<20>) -> Result<Bytes, GetError> {
        let encoded = self.ask(GetImmutable(key)).await?.map_err(get_error)?;
        let bytes = Value::decode(&encoded).ok().and_then(|value| value.as_bytes());
        bytes.map(|bytes| encoded.slice_ref(bytes)).ok_or(GetError::NotFound { answered: 1, silent: 0 })
    }

    async fn publish(&self, signed: MutableItem, expected: Option<u64>) -> Result<Key<20>, PutError> {
        let cas = expected.map(|expected| i64::try_from(expected).unwrap_or(i64::MAX));
        let stored = self.ask(PutMutable { item: signed, cas }).await?;
        Ok(stored.map_err(put_error)?.target)
    }

    async fn latest(&self, publisher: PeerId, salt: &[u8]) -> Result<MutableItem, GetError> {
        let salt = Bytes::copy_from_slice(salt);
        self.ask(GetMutable { publisher, salt }).await?.map_err(get_error)
    }

    async fn provide(&self, key: Key<20>) -> Result<(), PutError> {
        let port = self.ask(Status).await?.port;
        self.ask(Announce { info_hash: key, port }).await?.map_err(put_error)?;
        Ok(())
    }

    async fn providers(&self, key: Key<20>) -> Result<Vec<P>, GetError> {
        let peers = self.ask(GetPeers(key)).await?.map_err(get_error)?;
        Ok(peers.into_iter().map(P::at).collect())
    }
}

fn put_error(error: MainlineError) -> PutError {
    use super::InvalidItem;
    match error {
        MainlineError::Invalid(InvalidItem::TooLong { len }) => InvalidRecord::TooLong { len }.into(),
        MainlineError::Invalid(InvalidItem::Salt { len }) => InvalidRecord::Salt { len }.into(),
        MainlineError::Invalid(_) => InvalidRecord::Signature.into(),
        MainlineError::NotJoined | MainlineError::NoAnswer => LookupError::NotJoined.into(),
        MainlineError::NotFound { .. } | MainlineError::NotStored { .. } => {
            PutError::Quorum { copies: 0, needed: 1, refusals: Vec::new() }
        }
        MainlineError::Conflict { sequence, .. } => PutError::Conflict {
            sequence: sequence.and_then(|sequence| sequence.try_into().ok()).unwrap_or(0),
        },
        MainlineError::Full => PutError::Full,
        MainlineError::Busy => PutError::Busy,
        MainlineError::Ask(error) => error.into(),
    }
}

fn get_error(error: MainlineError) -> GetError {
    match error {
        MainlineError::NotJoined | MainlineError::NoAnswer => LookupError::NotJoined.into(),
        MainlineError::NotFound { answered } => GetError::NotFound { answered, silent: 0 },
        MainlineError::Busy | MainlineError::Full => GetError::Busy,
        MainlineError::Ask(error) => error.into(),
        MainlineError::Invalid(_) | MainlineError::NotStored { .. } | MainlineError::Conflict { .. } => {
            GetError::NotFound { answered: 0, silent: 0 }
        }
    }
}
