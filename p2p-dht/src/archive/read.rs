//! Reading: level by level, from the names in the head down to the object; of each segment as many fragments as are enough.

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, FuturesUnordered, StreamExt};
use p2p_core::{Key, Peer};

use super::code::Code;
use super::{Archive, ArchiveError, Content};

/// How many segments are asked for at once: the next while one is read.
const SEGMENTS_AHEAD: usize = 2;

/// An object in its order, as it comes.
pub type Restoring = BoxStream<'static, Result<Bytes, ArchiveError>>;

/// A segment, by its hash and the names of its fragments.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) code: Code,
    pub(super) names: Bytes,
    pub(super) size: usize,
}

impl Segment {
    pub(super) fn name(&self, index: u8) -> Key {
        self.at(1 + usize::from(index))
    }

    fn at(&self, i: usize) -> Key {
        Key::new(self.names[32 * i..][..32].try_into().expect("32 bytes"))
    }

    /// What these fragments give, if it is the segment: fragments that are what names them may be of no code.
    pub(super) fn join(&self, found: &[(u8, Bytes)]) -> Result<Bytes, ArchiveError> {
        let joined = self.code.join(self.size, found)?;
        (Key::of(&joined) == self.at(0)).then_some(joined).ok_or(ArchiveError::Segment)
    }
}

impl<P: Peer> Archive<P> {
    /// The object as it was stored, each fragment and each segment of it verified. It ends with the first error.
    pub fn read(&self, content: &Content) -> Restoring {
        match content.check() {
            Ok(()) => self.level(content, 0),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    /// The bytes of a level.
    pub(super) fn level(&self, content: &Content, level: usize) -> Restoring {
        if level + 1 >= content.levels().len() {
            return stream::iter([Ok(content.names.clone())]).boxed();
        }
        let archive = self.clone();
        let segments = self.segments(content, level).map(move |segment| {
            let archive = archive.clone();
            async move { archive.restore(&segment?).await }
        });
        segments.buffered(SEGMENTS_AHEAD).boxed()
    }

    /// The segments of a level.
    pub(super) fn segments(
        &self,
        content: &Content,
        level: usize,
    ) -> BoxStream<'static, Result<Segment, ArchiveError>> {
        let (code, mut left) = (content.code, content.levels()[level]);
        let names = groups(self.level(content, level + 1), code.names_each() as usize);
        let segment = move |names: Result<Bytes, ArchiveError>| {
            let size = left.min(code.segment()) as usize;
            left -= size as u64;
            Ok(Segment { code, names: names?, size })
        };
        names.map(segment).boxed()
    }

    async fn restore(&self, segment: &Segment) -> Result<Bytes, ArchiveError> {
        let Code { enough, fragments, .. } = segment.code;
        let mut next = enough;
        let mut open: FuturesUnordered<_> = (0..enough).map(|index| self.fragment(segment, index)).collect();
        let mut found = Vec::new();
        while let Some(fragment) = open.next().await {
            match fragment {
                Some(fragment) => found.push(fragment),
                None if next < fragments => {
                    open.push(self.fragment(segment, next));
                    next += 1;
                }
                None => {}
            }
        }
        segment.join(&found)
    }

    /// A fragment, if it is there.
    pub(super) async fn fragment(&self, segment: &Segment, index: u8) -> Option<(u8, Bytes)> {
        let name = segment.name(index);
        let fragment = self.dht.get(name).await.ok()?;
        Some((index, segment.code.open(&name, index, segment.size, &fragment)?))
    }
}

/// The same bytes, so many at a time.
fn groups(bytes: Restoring, len: usize) -> BoxStream<'static, Result<Bytes, ArchiveError>> {
    let next = move |(mut bytes, mut begun): (Restoring, BytesMut)| async move {
        while begun.len() < len {
            match bytes.next().await {
                Some(more) => begun.extend_from_slice(&more?),
                None => return Ok(None),
            }
        }
        let group = begun.split_to(len).freeze();
        Ok(Some((group, (bytes, begun))))
    };
    stream::try_unfold((bytes, BytesMut::new()), next).boxed()
}
