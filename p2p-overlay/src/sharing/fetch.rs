//! What is known of a download: its pieces and its sources.

use bytes::Bytes;
use p2p_core::OpId;

use super::request::SourceStanding;
use crate::search::{ContentHash, Hit};

/// A download under way.
#[derive(Debug)]
pub(super) struct Fetch<P> {
    pub number: u64,
    pub name: String,
    pub size: u64,
    pub hashes: Vec<ContentHash>,
    pub piece: u64,
    pub pieces: Vec<Piece>,
    /// All pieces before this one are whole.
    pub first: usize,
    pub sources: Vec<Source<P>>,
    /// Sources are tried one by one: there is no hash that all have, or somebody has lied.
    pub alone: bool,
    pub phase: Phase,
    /// Parts that are being written.
    pub writing: usize,
    /// Bytes that an earlier attempt has left.
    pub resumed: u64,
    /// Bytes that have come, those among them, and how many had when that was told last.
    pub bytes: u64,
    pub told: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Opening,
    Fetching,
    Finishing,
}

/// A piece of the file: so many of its bytes have come, from its beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Piece {
    pub have: u64,
    pub asked: bool,
}

#[derive(Debug)]
pub(super) struct Source<P> {
    pub hit: Hit<P>,
    /// Over what it is asked, if it was reached, and whether it was asked anything there.
    pub peer: Option<P>,
    pub open: bool,
    /// Over what it was asked last.
    pub named: Option<P>,
    pub state: State,
    /// Failures in a row.
    pub failures: u8,
    /// Bytes it has given, and those of the present attempt.
    pub bytes: u64,
    pub lately: u64,
    pub standing: SourceStanding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not in use, or no more.
    Fresh,
    /// The searching machine brings about that it can be asked.
    Reaching(OpId),
    Idle,
    Asked(Question),
    /// It is left in peace for a while.
    Resting,
    Gone,
}

/// A piece that a source was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub id: u32,
    pub piece: usize,
    /// The byte that comes next, and what that was when the timer was set.
    pub at: u64,
    pub seen: u64,
}

/// What a peer sends of a file.
pub(super) struct Part {
    pub at: u64,
    pub end: u64,
    pub size: u64,
    pub hash: Option<ContentHash>,
    pub data: Bytes,
}

impl<P> Fetch<P> {
    /// Where a piece begins and ends.
    pub(super) fn bounds(&self, piece: usize) -> (u64, u64) {
        let start = piece as u64 * self.piece;
        (start, start.saturating_add(self.piece).min(self.size))
    }

    pub(super) fn is_whole(&self, piece: usize) -> bool {
        let (start, end) = self.bounds(piece);
        self.pieces.get(piece).is_some_and(|piece| piece.have == end - start)
    }

    /// The first piece that lacks something and that nobody is asked for.
    pub(super) fn next_piece(&self) -> Option<usize> {
        (self.first..self.pieces.len()).find(|piece| !self.pieces[*piece].asked && !self.is_whole(*piece))
    }

    pub(super) fn active(&self) -> usize {
        self.sources.iter().filter(|source| !matches!(source.state, State::Fresh | State::Gone)).count()
    }

    /// Forgets what has come.
    pub(super) fn begin_anew(&mut self) {
        self.pieces.iter_mut().for_each(|piece| *piece = Piece::default());
        self.sources.iter_mut().for_each(|source| source.lately = 0);
        (self.first, self.resumed, self.bytes, self.told) = (0, 0, 0, 0);
    }

    /// These parts are there already, in order.
    pub(super) fn go_on(&mut self, there: &[(u64, u64)]) {
        for i in 0..self.pieces.len() {
            let (start, end) = self.bounds(i);
            let after = there.partition_point(|(first, _)| *first <= start);
            let covers = after.checked_sub(1).and_then(|before| there.get(before));
            let have = covers.map_or(0, |(_, last)| end.min(*last).saturating_sub(start));
            self.pieces[i].have = have;
            self.resumed += have;
        }
        (self.bytes, self.told) = (self.resumed, self.resumed);
        while self.first < self.pieces.len() && self.is_whole(self.first) {
            self.first += 1;
        }
    }
}
