//! What a link leaves out: the metadata (BEP 9), and of the second version the hashes of pieces (BEP 52).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use p2p_core::Time;

use super::merkle::{BLOCK, Node, proves};
use super::metainfo::{Info, MAX_INFO, PieceLayers};
use super::wire::HashRange;

/// How long a peer may take to answer before another is asked. 10 s.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How much longer it may take over each piece of metadata, all in all. 1 s.
const PER_PIECE: Duration = Duration::from_secs(1);
/// Questions that wait at a time. 8.
const WINDOW: usize = 8;
/// Hashes that are asked for at a time: as many as BEP 52 allows. 512.
const CHUNK: u32 = 512;

/// Metadata that is being asked for. All of it is asked of one peer, so that it is known who has lied if its hash is
/// wrong; when that one is slow or refuses it is asked of another, from the start.
#[derive(Debug)]
pub(super) struct Metadata<P> {
    /// Who is asked, and when a piece of it last came.
    from: Option<(P, Time)>,
    /// Since when, and until when that one may take.
    since: Time,
    until: Time,
    /// Who was asked last.
    last: Option<P>,
    size: u32,
    pieces: Vec<Option<Bytes>>,
    next: u32,
}

impl<P> Default for Metadata<P> {
    fn default() -> Self {
        Metadata {
            from: None,
            since: Time::ZERO,
            until: Time::ZERO,
            last: None,
            size: 0,
            pieces: Vec::new(),
            next: 0,
        }
    }
}

impl<P: Copy + PartialEq> Metadata<P> {
    /// Who is being asked, if it has not been silent for too long, nor at it.
    pub(super) fn from(&self, now: Time) -> Option<P> {
        self.from.filter(|(_, heard)| now - *heard < PATIENCE && now < self.until).map(|(peer, _)| peer)
    }

    /// Whether a peer was asked last: others come before it.
    pub(super) fn was_asked(&self, peer: P) -> bool {
        self.last == Some(peer)
    }

    /// Asks a peer that says how long it is: the pieces to ask for, or `None` if that cannot be.
    pub(super) fn ask(&mut self, peer: P, size: u32, now: Time) -> Option<Vec<u32>> {
        let pieces = pieces(size)?;
        *self = Metadata {
            from: Some((peer, now)),
            since: now,
            until: now + PATIENCE + PER_PIECE * pieces,
            last: Some(peer),
            size,
            pieces: vec![None; pieces as usize],
            next: 0,
        };
        Some((0..WINDOW).filter_map(|_| self.next()).collect())
    }

    /// Somebody else, who was not asked yet, says how long it is: whoever is asked may take no longer over it than over that
    /// much. So nobody gains time by what it says of the length; who says less than is true has its say until it is asked.
    pub(super) fn others_claim(&mut self, size: u32) {
        if let Some(pieces) = pieces(size) {
            self.until = self.until.min(self.since + PATIENCE + PER_PIECE * pieces);
        }
    }

    fn next(&mut self) -> Option<u32> {
        let next = self.next;
        self.next += 1;
        Some(next).filter(|next| (*next as usize) < self.pieces.len())
    }

    /// A peer will send nothing.
    pub(super) fn refused(&mut self, peer: P) {
        if self.from.is_some_and(|(from, _)| from == peer) {
            self.from = None;
        }
    }

    /// A piece has come: the next to ask for, or all of it.
    pub(super) fn came(
        &mut self,
        peer: P,
        piece: u32,
        data: Bytes,
        now: Time,
    ) -> (Option<u32>, Option<Bytes>) {
        let Some((_, heard)) = self.from.as_mut().filter(|(from, _)| *from == peer) else {
            return (None, None);
        };
        let expected = self.size.saturating_sub(piece.saturating_mul(BLOCK)).min(BLOCK);
        let fits = |place: &&mut Option<Bytes>| place.is_none() && data.len() == expected as usize;
        let Some(place) = self.pieces.get_mut(piece as usize).filter(fits) else { return (None, None) };
        *heard = now;
        *place = Some(data);
        let whole: Option<Vec<&[u8]>> = self.pieces.iter().map(|piece| piece.as_deref()).collect();
        let whole = whole.map(|pieces| Bytes::from(pieces.concat()));
        (self.next(), whole)
    }
}

/// How many pieces metadata of this length has; `None` if there is no such metadata.
fn pieces(size: u32) -> Option<u32> {
    (size > 0 && size as usize <= MAX_INFO).then(|| size.div_ceil(BLOCK))
}

/// Hashes of pieces that are being asked for: in chunks, each proved by itself, so whoever sends a wrong one has lied.
#[derive(Debug)]
pub(super) struct Hashes<P> {
    info: Arc<Info>,
    /// What nobody is asked for now.
    open: Vec<HashRange>,
    asked: BTreeMap<HashRange, (P, Time)>,
    /// When some last came.
    heard: Time,
    /// What is there of each file's layer; and how many hashes are not, in all.
    layers: BTreeMap<Node, Vec<Option<Node>>>,
    missing: usize,
}

impl<P: Copy + PartialEq> Hashes<P> {
    /// Of a torrent of which nothing is there beyond its metadata.
    pub(super) fn new(info: Arc<Info>, now: Time) -> Hashes<P> {
        let base = info.piece_level();
        let (mut open, mut layers, mut missing) = (Vec::new(), BTreeMap::new(), 0);
        for (file, root) in info.layered() {
            let pieces = info.pieces_of(file).len() as u32;
            let height = info.tree_height(pieces as usize);
            let length = pieces.next_power_of_two().clamp(2, CHUNK);
            if layers.insert(root, vec![None; pieces as usize]).is_none() {
                missing += pieces as usize;
                let chunks = (0..pieces).step_by(length as usize);
                open.extend(chunks.map(|index| HashRange {
                    root,
                    base,
                    index,
                    length,
                    proof: height - base - 1,
                }));
            }
        }
        open.reverse();
        Hashes { info, open, asked: BTreeMap::new(), heard: now, layers, missing }
    }

    /// The layers, if they are all there.
    pub(super) fn whole(&self) -> Option<PieceLayers> {
        if self.missing > 0 { None } else { self.each().collect() }
    }

    /// Those that are there, if nobody sends the others and SHA-1 can do without.
    pub(super) fn spared(&self, now: Time) -> Option<PieceLayers> {
        let spare = self.info.hashes().v1.is_some() && now - self.heard > PATIENCE * 3;
        spare.then(|| self.each().flatten().collect())
    }

    fn each(&self) -> impl Iterator<Item = Option<(Node, Arc<[Node]>)>> {
        self.layers.iter().map(|(root, nodes)| {
            let nodes: Option<Arc<[Node]>> = nodes.iter().copied().collect();
            Some((*root, nodes?))
        })
    }

    /// What to ask a peer for next.
    pub(super) fn ask(&mut self, peer: P, now: Time) -> Option<HashRange> {
        if self.asked.values().filter(|(asked, _)| *asked == peer).count() >= WINDOW {
            return None;
        }
        let range = self.open.pop()?;
        self.asked.insert(range, (peer, now));
        Some(range)
    }

    /// A peer will not send some.
    pub(super) fn refused(&mut self, peer: P, range: HashRange) {
        if self.asked.get(&range).is_some_and(|(asked, _)| *asked == peer) {
            self.asked.remove(&range);
            self.open.push(range);
        }
    }

    /// What is owed for too long, or by who is gone, is asked of others.
    pub(super) fn reclaim(&mut self, now: Time, gone: Option<P>) {
        let late = |(peer, at): &(P, Time)| gone == Some(*peer) || now - *at > PATIENCE;
        let open: Vec<HashRange> =
            self.asked.iter().filter(|(_, asked)| late(asked)).map(|(range, _)| *range).collect();
        for range in open {
            self.asked.remove(&range);
            self.open.push(range);
        }
    }

    /// Hashes have come; `false` if they are not true.
    pub(super) fn came(&mut self, peer: P, range: HashRange, hashes: &[Node], now: Time) -> bool {
        if self.asked.get(&range).is_none_or(|(asked, _)| *asked != peer) {
            return true;
        }
        self.asked.remove(&range);
        let HashRange { index, length, root, .. } = range;
        let layer = self.layers.get_mut(&root).map(Vec::as_mut_slice).unwrap_or_default();
        if !proves(&root, self.info.tree_height(layer.len()), range.range(), hashes) {
            self.open.push(range);
            return false;
        }
        for (place, hash) in layer[index as usize..].iter_mut().zip(&hashes[..length as usize]) {
            self.missing -= usize::from(place.is_none());
            *place = Some(*hash);
        }
        self.heard = now;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryFiles;
    use crate::torrent::merkle::{answer, height};
    use crate::torrent::{CreateOptions, Format, Metainfo};

    #[test]
    fn metadata_comes_from_one_peer_at_a_time() {
        let mut metadata = Metadata::default();
        let now = Time::ZERO;
        assert_eq!(metadata.ask(1, 0, now), None);
        assert_eq!(metadata.ask(1, MAX_INFO as u32 + 1, now), None, "more than is taken");
        assert_eq!(metadata.ask(1, BLOCK + 5, now), Some(vec![0, 1]));
        let long = Bytes::from(vec![1; BLOCK as usize]);
        assert_eq!(metadata.came(2, 0, long.clone(), now), (None, None), "it was not asked");
        assert_eq!(metadata.came(1, 1, long.clone(), now), (None, None), "it is too long");
        assert_eq!(metadata.came(1, 9, Bytes::new(), now), (None, None));
        assert_eq!(metadata.came(1, 0, long, now), (None, None));
        let whole = metadata.came(1, 1, Bytes::from_static(b"12345"), now).1.unwrap();
        assert_eq!(whole.len(), BLOCK as usize + 5);
        assert_eq!(metadata.from(now + PATIENCE), None, "it is silent: somebody else is asked");
    }

    #[test]
    fn nobody_keeps_others_from_being_asked_by_sending_the_same_again_or_little() {
        let block = || Bytes::from(vec![1; BLOCK as usize]);
        let mut metadata = Metadata::default();
        let start = Time::ZERO;
        metadata.ask(1, 30 * BLOCK, start);
        metadata.came(1, 0, block(), start);
        assert_eq!(metadata.came(1, 0, block(), start + PATIENCE / 2), (None, None));
        assert_eq!(metadata.from(start + PATIENCE), None, "nothing new has come");
        metadata.ask(1, 30 * BLOCK, start);
        let mut now = start;
        for piece in 0..4 {
            assert_eq!(metadata.from(now), Some(1), "piece {piece}");
            now += PATIENCE - PER_PIECE;
            metadata.came(1, piece, block(), now);
        }
        assert_eq!(
            metadata.from(start + PATIENCE + PER_PIECE * 30),
            None,
            "at this pace it would take minutes"
        );
        assert!(metadata.was_asked(1) && !metadata.was_asked(2));
    }

    #[test]
    fn hashes_are_proved_chunk_by_chunk() {
        let mut disk = MemoryFiles::default();
        let content: Vec<u8> = (0..700 * 16384 + 3).map(|at| (at / 1000) as u8).collect();
        disk.put("t/a", content);
        disk.put("t/b", vec![1; 40_000]);
        disk.put("t/c", vec![1; 10]);
        let options =
            CreateOptions { format: Format::V2, piece_length: Some(16384), ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut disk, "t".as_ref(), &options).unwrap();
        let mut hashes = Hashes::new(metainfo.info().clone(), Time::ZERO);
        let mut asked = 0;
        while let Some(range) = hashes.ask(1, Time::ZERO) {
            asked += 1;
            let blocks = metainfo
                .info()
                .layered()
                .find(|(_, root)| *root == range.root)
                .unwrap()
                .0
                .length
                .div_ceil(16384);
            let mut nodes = answer(&metainfo.layers()[&range.root], height(blocks), range.range()).unwrap();
            nodes[0][0] ^= 1;
            assert!(!hashes.came(1, range, &nodes, Time::ZERO), "a lie is seen");
            assert_eq!(hashes.ask(2, Time::ZERO), Some(range), "and somebody else is asked");
            nodes[0][0] ^= 1;
            assert!(hashes.whole().is_none());
            assert!(hashes.came(2, range, &nodes, Time::ZERO));
        }
        assert_eq!(hashes.spared(Time::ZERO + PATIENCE * 4), None, "there is no SHA-1 to go by");
        assert_eq!((asked, hashes.whole().as_ref()), (3, Some(&**metainfo.layers())));
    }
}
