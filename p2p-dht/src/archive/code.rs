//! A segment and its fragments.

use bytes::Bytes;
use p2p_core::Key;
use serde::{Deserialize, Serialize};

use super::ArchiveError;

/// The longest fragment, in bytes: 32 KiB.
pub const MAX_FRAGMENT: u32 = 32 << 10;
/// The most fragments of a segment.
pub const MAX_FRAGMENTS: u8 = 128;

/// How segments become fragments, by Reed and Solomon's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// How many fragments of a segment are enough, m. 16; at least 1. They are the segment, cut.
    pub enough: u8,
    /// How many there are, n. 64; more than are enough, and at most [`MAX_FRAGMENTS`].
    pub fragments: u8,
    /// How long one is, in bytes: so a segment is m times as long, and the last of an object shorter. 8 KiB; even, from 64 to
    /// [`MAX_FRAGMENT`].
    pub length: u32,
}

impl Default for Code {
    fn default() -> Code {
        Code { enough: 16, fragments: 64, length: 8 << 10 }
    }
}

/// A code that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?}: it takes 1 ≤ enough < fragments ≤ 128, an even length of 64 to 32768, and segments twice as long as the names of their fragments"
)]
pub struct InvalidCode(pub Code);

/// What stands before the bytes of a fragment: which of its segment it is, and a number by which its hash is another.
const HEADER: usize = 2;

impl Code {
    pub(super) fn check(&self) -> Result<(), InvalidCode> {
        let Code { enough, fragments, length } = *self;
        let valid = enough >= 1
            && fragments > enough
            && fragments <= MAX_FRAGMENTS
            && (64..=MAX_FRAGMENT).contains(&length)
            && length.is_multiple_of(2)
            // Each level of names is half as long as the one below, or less.
            && self.segment() >= 2 * self.names_each();
        valid.then_some(()).ok_or(InvalidCode(*self))
    }

    /// The bytes of a segment.
    pub(super) fn segment(&self) -> u64 {
        u64::from(self.enough) * u64::from(self.length)
    }

    /// The bytes of a segment's hash and of the names of its fragments.
    pub(super) fn names_each(&self) -> u64 {
        32 * (1 + u64::from(self.fragments))
    }

    /// The bytes of the names of all fragments of something so long.
    pub(super) fn names(&self, size: u64) -> u64 {
        size.div_ceil(self.segment()).saturating_mul(self.names_each())
    }

    /// How long the fragments of a segment of so many bytes are.
    fn shard(&self, size: usize) -> usize {
        size.div_ceil(self.enough.into()).next_multiple_of(2)
    }

    /// The fragments of a segment, without their headers.
    pub(super) fn cut(&self, segment: &[u8]) -> Result<Vec<Bytes>, ArchiveError> {
        let (enough, more) = (usize::from(self.enough), usize::from(self.fragments - self.enough));
        let shard = self.shard(segment.len());
        let mut padded = segment.to_vec();
        padded.resize(shard * enough, 0);
        let padded = Bytes::from(padded);
        let mut shards: Vec<Bytes> = (0..enough).map(|i| padded.slice(i * shard..(i + 1) * shard)).collect();
        let coded = reed_solomon_simd::encode(enough, more, &shards).map_err(|_| InvalidCode(*self))?;
        shards.extend(coded.into_iter().map(Bytes::from));
        Ok(shards)
    }

    /// The segment of so many bytes of which these are fragments.
    pub(super) fn join(&self, size: usize, found: &[(u8, Bytes)]) -> Result<Bytes, ArchiveError> {
        let (enough, more) = (usize::from(self.enough), usize::from(self.fragments - self.enough));
        if found.len() < enough {
            return Err(ArchiveError::Lost { found: found.len(), needed: enough });
        }
        let first = found.iter().filter(|(i, _)| *i < self.enough).map(|(i, shard)| (usize::from(*i), shard));
        let rest = found
            .iter()
            .filter(|(i, _)| *i >= self.enough)
            .map(|(i, shard)| (usize::from(i - self.enough), shard));
        let restored = match first.clone().count() {
            all if all == enough => Default::default(),
            _ => reed_solomon_simd::decode(enough, more, first.clone(), rest)
                .map_err(|_| InvalidCode(*self))?,
        };
        let mut shards: Vec<&[u8]> = vec![&[]; enough];
        first.for_each(|(i, shard)| shards[i] = shard);
        restored.iter().for_each(|(i, shard)| shards[*i] = shard);
        let mut segment = shards.concat();
        segment.truncate(size);
        Ok(segment.into())
    }

    /// A fragment as it is stored.
    pub(super) fn fragment(index: u8, number: u8, shard: &[u8]) -> Bytes {
        [&[index, number], shard].concat().into()
    }

    /// What a fragment that was found under its name has of a segment of so many bytes, if it is the one with this index.
    pub(super) fn open(&self, name: &Key, index: u8, size: usize, fragment: &Bytes) -> Option<Bytes> {
        let fits = fragment.len() == HEADER + self.shard(size) && fragment[0] == index;
        (fits && Key::of(fragment) == *name).then(|| fragment.slice(HEADER..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whichever fragments are left.
        #[test]
        fn any_that_are_enough_give_the_segment_back(
            enough in 1u8..20,
            more in 1u8..40,
            segment in prop::collection::vec(any::<u8>(), 1..2000),
            order in any::<u64>(),
        ) {
            let code = Code { enough, fragments: enough + more, length: 2000 };
            let shards = code.cut(&segment).unwrap();
            let mut all: Vec<(u8, Bytes)> = (0..).zip(shards).collect();
            p2p_core::Rng::new(order).shuffle(&mut all);
            let few = &all[..usize::from(enough)];
            prop_assert_eq!(code.join(segment.len(), few).unwrap(), segment.clone());
            prop_assert!(code.join(segment.len(), &few[1..]).is_err());
        }
    }

    #[test]
    fn what_cannot_be_coded_is_said() {
        let good = Code::default();
        assert!(good.check().is_ok());
        let bad = [
            Code { enough: 0, ..good },
            Code { enough: 64, ..good },
            Code { fragments: 129, ..good },
            Code { length: 63, ..good },
            Code { length: 65, ..good },
            Code { length: MAX_FRAGMENT + 2, ..good },
            Code { enough: 1, fragments: 128, length: 4096 },
        ];
        for code in bad {
            assert_eq!(code.check(), Err(InvalidCode(code)));
        }
    }
}
