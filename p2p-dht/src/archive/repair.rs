//! Repair: fragments that are gone are made again of those that are left (OceanStore §4.7.2 sweeps so, slowly).

use futures::stream::{self, StreamExt};
use p2p_core::{Key, Peer};

use super::code::Code;
use super::read::Segment;
use super::store::NUMBERS;
use super::{Archive, ArchiveError, Content};

/// What a repair has found and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// How many segments there are, those of names included.
    pub segments: usize,
    /// How many of their fragments were not there.
    pub missing: usize,
    /// How many of those are there now.
    pub restored: usize,
    /// How many segments of the object have too few to be read.
    pub lost: usize,
}

impl<P: Peer> Archive<P> {
    /// Asks for every fragment of an object, and puts those again that are not there. Whoever knows the head may do so.
    ///
    /// # Errors
    /// A segment of names has too few fragments, so nobody knows what there is below it.
    pub async fn repair(&self, content: &Content) -> Result<Repaired, ArchiveError> {
        content.check()?;
        let mut repaired = Repaired::default();
        for level in (0..content.levels().len() - 1).rev() {
            let mut segments = self.segments(content, level);
            while let Some(segment) = segments.next().await {
                repaired.segments += 1;
                match self.mend(&segment?, &mut repaired).await {
                    Err(ArchiveError::Lost { .. }) if level == 0 => repaired.lost += 1,
                    done => done?,
                }
            }
        }
        Ok(repaired)
    }

    async fn mend(&self, segment: &Segment, repaired: &mut Repaired) -> Result<(), ArchiveError> {
        let all = stream::iter(0..segment.code.fragments).map(|index| self.fragment(segment, index));
        let found: Vec<_> = all.buffer_unordered(self.config.parallel.max(1)).collect().await;
        let found: Vec<_> = found.into_iter().flatten().collect();
        let is_missing = |index: &u8| found.iter().all(|(there, _)| there != index);
        let missing: Vec<u8> = (0..segment.code.fragments).filter(is_missing).collect();
        repaired.missing += missing.len();
        if missing.is_empty() {
            return Ok(());
        }
        let shards = segment.code.cut(&segment.code.join(segment.size, &found)?)?;
        let puts = missing.into_iter().filter_map(|index| {
            // By its name it is known which number it had.
            let numbered = |number| Code::fragment(index, number, &shards[usize::from(index)]);
            let fragment =
                (0..NUMBERS).map(numbered).find(|fragment| Key::of(fragment) == segment.name(index))?;
            Some(async move { self.dht.put(fragment).await.is_ok() })
        });
        let put: Vec<bool> = stream::iter(puts).buffer_unordered(self.config.parallel.max(1)).collect().await;
        repaired.restored += put.into_iter().filter(|put| *put).count();
        Ok(())
    }
}
