//! Storing: segments are coded as the object comes, and their fragments put where those of the same segment are not.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream, StreamExt};
use p2p_core::{Key, Peer};
use p2p_overlay::Find;

use super::code::Code;
use super::{Archive, ArchiveError, Content, HEAD};

/// How many numbers a fragment tries until it lies where no other of its segment does.
pub(super) const NUMBERS: u8 = 8;
/// Each level is half as long as the one below, or less.
const LEVELS: usize = 64;

/// What a level has so far and the one above does not name, and how many bytes it had in all.
#[derive(Clone, Default)]
struct Level {
    begun: BytesMut,
    size: u64,
}

impl Level {
    /// The next segment, if there is one. Names that may yet fit into the head are none.
    fn segment(&mut self, code: &Code, is_names: bool) -> Option<Bytes> {
        let segment = code.segment() as usize;
        let full = self.begun.len() >= segment && (!is_names || self.size > HEAD);
        full.then(|| self.begun.split_to(segment).freeze())
    }
}

impl<P: Peer> Archive<P> {
    /// Puts the fragments of an object into the hash table, as it comes. It is to be [committed](Archive::commit) then.
    ///
    /// # Errors
    /// The object could not be read, or too many fragments of a segment could not be put: those that have been stay.
    pub async fn store<E>(
        &self,
        object: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Content, ArchiveError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let code = self.config.code;
        code.check()?;
        let mut levels = vec![Level::default(); LEVELS];
        let mut object = std::pin::pin!(object);
        while let Some(piece) = object.next().await {
            let mut piece = piece.map_err(|error| ArchiveError::Source(error.into()))?;
            while !piece.is_empty() {
                let part = piece.split_to(piece.len().min(code.segment() as usize));
                self.push(&mut levels, part).await?;
            }
        }
        let size = levels[0].size;
        for level in 0..LEVELS {
            if level > 0 && levels[level].size <= HEAD {
                return Ok(Content { code, size, names: levels[level].begun.split().freeze() });
            }
            let rest = levels[level].begun.split().freeze();
            for segment in rest.chunks(code.segment() as usize) {
                let names = self.put_segment(segment).await?;
                self.push(&mut levels[level + 1..], names).await?;
            }
        }
        Err(ArchiveError::Head)
    }

    /// Adds to the first of some levels, and codes what is full, from below; the last one is the highest.
    async fn push(&self, levels: &mut [Level], mut bytes: Bytes) -> Result<(), ArchiveError> {
        let all = levels.len();
        for (above, level) in levels.iter_mut().enumerate() {
            level.size += bytes.len() as u64;
            level.begun.extend_from_slice(&bytes);
            let is_names = above > 0 || all < LEVELS;
            let mut names = BytesMut::new();
            while let Some(segment) = level.segment(&self.config.code, is_names) {
                names.extend_from_slice(&self.put_segment(&segment).await?);
            }
            if names.is_empty() {
                break;
            }
            bytes = names.freeze();
        }
        Ok(())
    }

    /// Puts the fragments of a segment; gives its hash and their names.
    async fn put_segment(&self, segment: &[u8]) -> Result<Bytes, ArchiveError> {
        let code = self.config.code;
        let fragments = self.place(&code.cut(segment)?).await;
        let hashed = std::iter::once(segment).chain(fragments.iter().map(|fragment| &fragment[..]));
        let names: Vec<u8> = hashed.flat_map(|bytes| *Key::of(bytes).as_bytes()).collect();
        let all = fragments.len();
        let mut puts = stream::iter(fragments)
            .map(|fragment| async move { self.dht.put(fragment).await })
            .buffer_unordered(self.config.parallel.max(1));
        let mut failed = Vec::new();
        while let Some(put) = puts.next().await {
            failed.extend(put.err());
        }
        // Some may be missing from the beginning, as others will be soon.
        let spare = usize::from(code.fragments - code.enough);
        match failed.pop() {
            Some(error) if failed.len() + 1 > (spare / 4).min(all) => Err(error.into()),
            _ => Ok(names.into()),
        }
    }

    /// Numbers the fragments of a segment so that no two lie at one node, as far as chance finds such numbers.
    async fn place(&self, shards: &[Bytes]) -> Vec<Bytes> {
        let mut placed = vec![Bytes::new(); shards.len()];
        let mut taken: BTreeSet<P> = BTreeSet::new();
        let mut open: Vec<u8> = (0..shards.len() as u8).collect();
        let mut idle = 0;
        for number in 0..NUMBERS {
            let look = |index: u8| {
                let fragment = Code::fragment(index, number, &shards[usize::from(index)]);
                async move {
                    let found = self.lookup.lookup(Find::key(Key::of(&fragment))).await;
                    (index, fragment, found.ok().map(|found| found.root()))
                }
            };
            let mut found =
                stream::iter(std::mem::take(&mut open)).map(look).buffered(self.config.parallel.max(1));
            let last = number + 1 == NUMBERS || idle > 1;
            idle += 1;
            while let Some((index, fragment, root)) = found.next().await {
                let free = root.is_none_or(|root| taken.insert(root));
                if free || last {
                    placed[usize::from(index)] = fragment;
                    idle = if free { 0 } else { idle };
                } else {
                    open.push(index);
                }
            }
            if open.is_empty() {
                break;
            }
        }
        placed
    }
}
