//! Writing: a file is cut into blocks as it comes, and no more of it is in memory than is on its way.

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, Stream, StreamExt};
use p2p_core::{Key, Peer};

use super::tree::{BLOCK, Blocks, FANOUT};
use super::{Cfs, CfsError};

/// A file on its way.
struct Writer<'a, P: Peer> {
    cfs: &'a Cfs<P>,
    /// Blocks on their way: at most [`CfsConfig::parallel`](super::CfsConfig).
    open: FuturesUnordered<BoxFuture<'a, Result<(), CfsError>>>,
    /// The names that each level has so far and the one above does not: fewer than [`FANOUT`].
    levels: Vec<BytesMut>,
    size: u64,
}

impl<P: Peer> Cfs<P> {
    /// Puts a file's blocks into the hash table, as the file comes.
    ///
    /// # Errors
    /// The file could not be read, or a block not put: those that have been stay until they end.
    pub async fn write<E>(
        &self,
        file: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Blocks, CfsError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut writer = Writer { cfs: self, open: FuturesUnordered::new(), levels: Vec::new(), size: 0 };
        let mut file = std::pin::pin!(file);
        let mut begun = BytesMut::with_capacity(BLOCK);
        while let Some(piece) = file.next().await {
            let mut piece = piece.map_err(|error| CfsError::Source(error.into()))?;
            while !piece.is_empty() {
                let part = piece.split_to(piece.len().min(BLOCK - begun.len()));
                match begun.is_empty() && part.len() == BLOCK {
                    true => writer.data(part).await?,
                    false => begun.extend_from_slice(&part),
                }
                if begun.len() == BLOCK {
                    writer.data(begun.split().freeze()).await?;
                }
            }
        }
        if !begun.is_empty() {
            writer.data(begun.freeze()).await?;
        }
        writer.end().await
    }
}

impl<P: Peer> Writer<'_, P> {
    async fn data(&mut self, block: Bytes) -> Result<(), CfsError> {
        self.size += block.len() as u64;
        let key = self.put(block).await?;
        self.name(0, key).await
    }

    /// Names a block, and each block of names that this makes full.
    async fn name(&mut self, level: usize, mut key: Key) -> Result<(), CfsError> {
        for level in level.. {
            if self.levels.len() == level {
                self.levels.push(BytesMut::new());
            }
            let names = &mut self.levels[level];
            names.extend_from_slice(key.as_bytes());
            if names.len() < 32 * FANOUT {
                break;
            }
            let names = names.split().freeze();
            key = self.put(names).await?;
        }
        Ok(())
    }

    /// Sends a block on its way, when there is room for one more.
    async fn put(&mut self, block: Bytes) -> Result<Key, CfsError> {
        while self.open.len() >= self.cfs.config.parallel.max(1)
            && let Some(done) = self.open.next().await
        {
            done?;
        }
        let key = Key::of(&block);
        let dht = self.cfs.dht.clone();
        self.open.push(Box::pin(async move {
            dht.put(block).await?;
            Ok(())
        }));
        Ok(key)
    }

    async fn end(mut self) -> Result<Blocks, CfsError> {
        let mut level = 0;
        let top = loop {
            let is_top = level + 1 >= self.levels.len();
            match self.levels.get_mut(level) {
                None => break Key::ZERO,
                Some(names) if is_top && names.len() == 32 => {
                    break Key::new(names[..].try_into().expect("32 bytes"));
                }
                Some(names) if !names.is_empty() => {
                    let names = names.split().freeze();
                    let key = self.put(names).await?;
                    self.name(level + 1, key).await?;
                }
                Some(_) => {}
            }
            level += 1;
        };
        while let Some(done) = self.open.next().await {
            done?;
        }
        Ok(Blocks { top, size: self.size })
    }
}
