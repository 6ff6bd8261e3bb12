//! Which bytes of which files a piece has, and what it must hash to.

use super::{Info, Kind, PieceLayers, TorrentFile};
use crate::torrent::merkle::{BLOCK, Node, height};
use crate::torrent::wire::Block;

/// A stretch of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Which file.
    pub file: usize,
    /// From where in it.
    pub at: u64,
    /// Where it stands in what was asked for.
    pub within: usize,
    /// How many bytes.
    pub len: usize,
}

/// What a piece must hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// SHA-1, and how many zeros of pad files follow the data that it is of.
    pub v1: Option<([u8; 20], u32)>,
    /// The root above its blocks, and how many leaves that has room for.
    pub v2: Option<(Node, usize)>,
}

impl Info {
    /// Where the last byte of the last piece ends: files stand in the order of their bytes, so where the last does.
    pub(crate) fn end(&self) -> u64 {
        self.files.last().map_or(0, TorrentFile::end)
    }

    /// Where a piece begins.
    pub(crate) fn start_of(&self, piece: u32) -> u64 {
        u64::from(piece) * u64::from(self.piece_length)
    }

    /// The piece that has a byte.
    pub(crate) fn piece_at(&self, place: u64) -> u32 {
        (place / u64::from(self.piece_length)) as u32
    }

    /// Where a block begins.
    pub(crate) fn place_of(&self, block: &Block) -> u64 {
        self.start_of(block.piece) + u64::from(block.begin)
    }

    /// The files that have bytes in this stretch.
    fn within(&self, start: u64, end: u64) -> impl DoubleEndedIterator<Item = (usize, &TorrentFile)> {
        let first = self.files.partition_point(|file| file.end() <= start);
        let last = self.files.partition_point(|file| file.offset < end).max(first);
        let files = self.files[first..last].iter().enumerate();
        files
            .map(move |(i, file)| (first + i, file))
            .filter(move |(_, file)| file.length > 0 && file.end() > start)
    }

    /// How many bytes of a piece peers ask each other for: without what is beyond its file's end or in pad files at its
    /// own end.
    pub(crate) fn piece_len(&self, piece: u32) -> u32 {
        let start = self.start_of(piece);
        let end = (start + u64::from(self.piece_length)).min(self.end());
        let last = self.within(start, end).rev().find(|(_, file)| file.kind == Kind::File);
        let end = last.map_or(end, |(_, file)| end.min(file.end()));
        (end - start.min(end)) as u32
    }

    /// How many blocks of 16 KiB a piece has; the last may be shorter.
    pub(crate) fn block_count(&self, piece: u32) -> u32 {
        self.piece_len(piece).div_ceil(BLOCK)
    }

    /// Where a stretch of a piece lies. What is in none of the spans is zeros.
    pub(crate) fn spans(&self, piece: u32, begin: u32, len: u32) -> impl Iterator<Item = Span> {
        let start = self.start_of(piece) + u64::from(begin);
        let end = start + u64::from(len);
        self.within(start, end).filter(|(_, file)| file.kind == Kind::File).map(move |(i, file)| {
            let from = start.max(file.offset);
            let until = end.min(file.end());
            Span {
                file: i,
                at: from - file.offset,
                within: (from - start) as usize,
                len: (until - from) as usize,
            }
        })
    }

    /// The pieces that have bytes of a file.
    pub(crate) fn pieces_of(&self, file: &TorrentFile) -> std::ops::Range<u32> {
        let length = u64::from(self.piece_length);
        match file.length {
            0 => 0..0,
            _ => (file.offset / length) as u32..file.end().div_ceil(length) as u32,
        }
    }

    /// How many levels the root of a file of so many pieces, of two or more, lies above its leaves.
    pub(crate) fn tree_height(&self, pieces: usize) -> u32 {
        // Only the last piece may have fewer leaves than there is room for, and it has one.
        self.piece_level() + height(pieces as u64)
    }

    /// What a piece must hash to; `None` while the layer that it would be in is not known, and SHA-1 does not say it.
    pub(crate) fn expected(&self, piece: u32, layers: &PieceLayers) -> Option<Expected> {
        let start = self.start_of(piece);
        let v1 =
            self.pieces.chunks_exact(20).nth(piece as usize).and_then(|hash| hash.first_chunk().copied());
        let whole = (start + u64::from(self.piece_length)).min(self.end()) - start;
        let v1 = v1.map(|hash| (hash, (whole as u32).saturating_sub(self.piece_len(piece))));
        let v2 = self.hashes.v2.and_then(|_| self.root_of(piece, layers));
        (v1.is_some() || v2.is_some()).then_some(Expected { v1, v2 })
    }

    /// The root above a piece's blocks, and how many leaves it has room for.
    fn root_of(&self, piece: u32, layers: &PieceLayers) -> Option<(Node, usize)> {
        let start = self.start_of(piece);
        let file = self.within(start, start + 1).next()?.1;
        let root = file.root?;
        Some(match file.length > u64::from(self.piece_length) {
            true => {
                let at = piece - self.pieces_of(file).start;
                (*layers.get(&root)?.get(at as usize)?, (self.piece_length / BLOCK) as usize)
            }
            false => (root, self.block_count(piece).next_power_of_two() as usize),
        })
    }
}
