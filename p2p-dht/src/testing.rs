//! For tests: a hash table that is a map, and may lie.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::task::noop_waker;
use futures::{FutureExt, pin_mut};
use p2p_core::{Key, PeerId, SimPeer};

use crate::dht::Dht;
use crate::record::Signed;
use crate::request::{GetError, PutError};

/// Whatever is asked takes a turn, and how much was asked at once is counted.
#[derive(Default)]
pub(crate) struct Table(pub(crate) Mutex<Inside>);

#[derive(Default)]
pub(crate) struct Inside {
    pub(crate) values: BTreeMap<Key, Bytes>,
    pub(crate) signed: BTreeMap<Key, Signed>,
    pub(crate) open: usize,
    pub(crate) most: usize,
    pub(crate) gets: usize,
    pub(crate) puts: usize,
    /// So many publications fail, those that come first.
    pub(crate) busy: usize,
}

impl Table {
    async fn turn(&self) {
        {
            let mut inside = self.0.lock().unwrap();
            inside.open += 1;
            inside.most = inside.most.max(inside.open);
        }
        let mut waited = false;
        std::future::poll_fn(|cx| match std::mem::replace(&mut waited, true) {
            true => Poll::Ready(()),
            false => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
        self.0.lock().unwrap().open -= 1;
    }
}

#[async_trait]
impl Dht<SimPeer> for Table {
    async fn put(&self, value: Bytes) -> Result<Key, PutError> {
        self.turn().await;
        let key = Key::of(&value);
        let mut inside = self.0.lock().unwrap();
        inside.puts += 1;
        inside.values.insert(key, value);
        Ok(key)
    }

    async fn get(&self, key: Key) -> Result<Bytes, GetError> {
        self.turn().await;
        let mut inside = self.0.lock().unwrap();
        inside.gets += 1;
        inside.values.get(&key).cloned().ok_or(GetError::NotFound { answered: 1, silent: 0 })
    }

    async fn publish(&self, signed: Signed, expected: Option<u64>) -> Result<Key, PutError> {
        self.turn().await;
        let mut inside = self.0.lock().unwrap();
        let key = signed.key();
        if inside.busy > 0 {
            inside.busy -= 1;
            return Err(PutError::Busy);
        }
        match inside.signed.get(&key).map(Signed::sequence) {
            Some(there)
                if there >= signed.sequence() || expected.is_some_and(|expected| expected != there) =>
            {
                Err(PutError::Conflict { sequence: there })
            }
            _ => {
                inside.signed.insert(key, signed);
                Ok(key)
            }
        }
    }

    async fn latest(&self, publisher: PeerId, salt: &[u8]) -> Result<Signed, GetError> {
        self.turn().await;
        let inside = self.0.lock().unwrap();
        let signed = inside.signed.get(&Signed::key_of(&publisher, salt));
        signed.cloned().ok_or(GetError::NotFound { answered: 1, silent: 0 })
    }

    async fn provide(&self, _: Key) -> Result<(), PutError> {
        unreachable!("nobody provides anything")
    }

    async fn providers(&self, _: Key) -> Result<Vec<SimPeer>, GetError> {
        unreachable!("nobody provides anything")
    }
}

/// Polls it until it ends.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    pin_mut!(future);
    let waker = noop_waker();
    for _ in 0..1_000_000 {
        if let Poll::Ready(output) = future.poll_unpin(&mut Context::from_waker(&waker)) {
            return output;
        }
    }
    panic!("it never ends");
}
