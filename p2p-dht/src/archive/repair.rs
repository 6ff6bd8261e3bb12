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
    /// How many segments of the object have too few to be read, or were stored so that nobody can.
    pub lost: usize,
}

impl<P: Peer> Archive<P> {
    /// Asks for every fragment of an object, makes those again that are not there, and puts all of them, so that none ends before
    /// the table's [lifetime](crate::DhtConfig::lifetime) has passed once more. Whoever knows the head may do so.
    ///
    /// # Errors
    /// A segment of names has too few fragments, or is not what they give, so nobody knows what there is below it.
    pub async fn repair(&self, content: &Content) -> Result<Repaired, ArchiveError> {
        content.check()?;
        let mut repaired = Repaired::default();
        for level in (0..content.levels().len() - 1).rev() {
            let mut segments = self.segments(content, level);
            while let Some(segment) = segments.next().await {
                repaired.segments += 1;
                match self.mend(&segment?, &mut repaired).await {
                    Err(ArchiveError::Lost { .. } | ArchiveError::Segment) if level == 0 => {
                        repaired.lost += 1;
                    }
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
        let shards = segment.code.cut(&segment.join(&found)?)?;
        let puts = (0..segment.code.fragments).filter_map(|index| {
            // By its name it is known which number it had.
            let numbered = |number| Code::fragment(index, number, &shards[usize::from(index)]);
            let fragment =
                (0..NUMBERS).map(numbered).find(|fragment| Key::of(fragment) == segment.name(index))?;
            let was_missing = missing.contains(&index);
            Some(async move { self.dht.put(fragment).await.is_ok() && was_missing })
        });
        let restored: Vec<bool> =
            stream::iter(puts).buffer_unordered(self.config.parallel.max(1)).collect().await;
        repaired.restored += restored.into_iter().filter(|restored| *restored).count();
        Ok(())
    }
}
