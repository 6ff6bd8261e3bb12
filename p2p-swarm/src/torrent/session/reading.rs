//! Reading a file while it comes: a player that shows it, or somebody who wants a part of it.
//!
//! A reader goes through its range chunk by chunk, as far ahead of whoever asked as that one reads. What it has not got to
//! yet has deadlines: the piece that it waits for is due a second after it got there, each further one a second later. A
//! reader that starts elsewhere is another, and what the first waited for is not urgent any more when it is gone.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Cx, OpId, Time};

use super::{Session, SessionItem, SessionOutcome, Stage};
use crate::torrent::address::Addressed;
use crate::torrent::command::{Read, TorrentError};
use crate::torrent::job::{Tag, Work};
use crate::torrent::metainfo::{Info, Kind};
use crate::torrent::wire::Block;

/// Readers of all torrents at a time. 64.
const MAX_READERS: usize = 64;
/// Bytes that are read at a time, and make an item. 64 KiB.
const CHUNK: u32 = 64 << 10;
/// Items that whoever asked has not read, at most. 96: 6 MiB; it is told of 32 at a time that they were read.
const UNREAD: usize = 96;
/// How far ahead of a reader pieces have deadlines: 4 MiB, and two pieces at the least.
const AHEAD: u64 = 4 << 20;
/// How much later than the one before each is due. 1 s.
const EACH: Duration = Duration::from_secs(1);

/// Somebody who reads a file.
#[derive(Debug)]
pub(super) struct Reader {
    torrent: u64,
    file: u32,
    range: Range<u64>,
    /// Where in the torrent's bytes it is, and where it ends; not known while the torrent's files are not.
    place: Option<Range<u64>>,
    /// Since when it is at the piece that it is at.
    since: Time,
    /// What is being read.
    reading: Option<Block>,
    unread: usize,
}

impl<P: Addressed> Session<P> {
    /// Somebody wants to read.
    pub(super) fn read(&mut self, cx: &mut Cx<'_, Self>, op: OpId, Read { torrent, file, range }: Read) {
        let refused = match self.torrents.get(&torrent.0) {
            None => Some(TorrentError::Unknown),
            Some(_) if self.readers.len() >= MAX_READERS => Some(TorrentError::Readers),
            Some(torrent) => match &torrent.stage {
                Stage::Failed(why) => Some(why.clone()),
                Stage::Metadata(_) | Stage::Hashes(_) | Stage::Opening(_) | Stage::Running(_) => None,
            },
        };
        if let Some(why) = refused {
            return cx.finish(op, SessionOutcome::Done(Err(why)));
        }
        let torrent = torrent.0;
        let since = cx.now();
        self.readers
            .insert(op, Reader { torrent, file, range, place: None, since, reading: None, unread: 0 });
        self.read_on(cx, op);
        self.hurry(cx, torrent);
    }

    /// A reader goes on, if what comes next is there and whoever asked has room for it.
    fn read_on(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let Some(reader) = self.readers.get_mut(&op) else { return };
        let Some(torrent) = self.torrents.get(&reader.torrent) else { return };
        let (Some(picker), Some(info)) = (torrent.picker(), &torrent.info) else { return };
        let place = match &reader.place {
            Some(place) => place.clone(),
            None => match place_of(info, reader.file, &reader.range) {
                Ok(place) => {
                    let comes = |piece: u32| picker.have().contains(piece.into()) || picker.wants(piece);
                    if !pieces_of(info, &place).all(comes) {
                        return self.stop_reading(cx, op, Err(TorrentError::NotWanted));
                    }
                    reader.place.insert(place).clone()
                }
                Err(why) => return self.stop_reading(cx, op, Err(why)),
            },
        };
        if place.is_empty() {
            return self.stop_reading(cx, op, Ok(()));
        }
        let piece = info.piece_at(place.start);
        let is_there = picker.have().contains(piece.into());
        // What was there may be so no more.
        if !is_there && !picker.wants(piece) {
            return self.stop_reading(cx, op, Err(TorrentError::NotWanted));
        }
        let waits = !torrent.serves() || !is_there;
        if reader.reading.is_some() || reader.unread >= UNREAD || waits {
            return;
        }
        let begin = (place.start - info.start_of(piece)) as u32;
        let left = (place.end - place.start).min(u64::from(info.piece_length() - begin)) as u32;
        // Chunks of a piece begin at its blocks.
        let length = left.min(CHUNK - begin % CHUNK);
        let block = Block { piece, begin, length };
        reader.reading = Some(block);
        torrent.start(cx, Tag::Read(op), Work::Read(block));
    }

    /// A chunk was read for somebody, who may be gone.
    pub(super) fn was_read(&mut self, cx: &mut Cx<'_, Self>, op: OpId, data: Bytes) {
        let Some(reader) = self.readers.get_mut(&op) else { return };
        reader.reading = None;
        reader.unread += 1;
        let number = reader.torrent;
        let info = self.torrents.get(&number).and_then(|torrent| torrent.info.clone());
        let (Some(place), Some(info)) = (&mut reader.place, info) else { return };
        let piece = info.piece_at(place.start);
        place.start += data.len() as u64;
        let is_next = info.piece_at(place.start) != piece;
        cx.item(op, SessionItem::Read(data));
        if is_next {
            reader.since = cx.now();
            self.hurry(cx, number);
        }
        self.read_on(cx, op);
    }

    /// A chunk could not be read: which. It is tried again with the next tick, or when the torrent is not paused any more.
    pub(super) fn was_not_read(&mut self, op: OpId) -> Option<Block> {
        self.readers.get_mut(&op)?.reading.take()
    }

    /// Whoever asked has read so many items.
    pub(super) fn has_read(&mut self, cx: &mut Cx<'_, Self>, op: OpId, items: usize) {
        let Some(reader) = self.readers.get_mut(&op) else { return };
        reader.unread = reader.unread.saturating_sub(items);
        self.read_on(cx, op);
    }

    /// More of a torrent is there, or may be.
    pub(super) fn readers_go_on(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        for op in self.readers_of(number) {
            self.read_on(cx, op);
        }
    }

    fn readers_of(&self, number: u64) -> Vec<OpId> {
        self.readers.iter().filter(|(_, reader)| reader.torrent == number).map(|(op, _)| *op).collect()
    }

    /// What readers of a torrent wait for comes first.
    pub(super) fn hurry(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let (Stage::Running(picker), Some(info)) = (&mut torrent.stage, &torrent.info) else { return };
        let mut urgent = Vec::new();
        for reader in self.readers.values().filter(|reader| reader.torrent == number) {
            let Some(place) = reader.place.as_ref().filter(|place| !place.is_empty()) else { continue };
            let first = info.piece_at(place.start);
            let ahead = (AHEAD / u64::from(info.piece_length())).max(2) as u32;
            let pieces = first..=info.piece_at(place.end - 1).min(first + ahead);
            urgent.extend(pieces.zip(1..).map(|(piece, nth)| (reader.since + EACH * nth, piece)));
        }
        picker.hurry(urgent);
        self.fill_all(cx, number);
        self.fetch(cx, number);
    }

    /// Somebody reads no more.
    pub(super) fn reader_gone(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        if let Some(reader) = self.readers.remove(&op) {
            self.hurry(cx, reader.torrent);
        }
    }

    fn stop_reading(&mut self, cx: &mut Cx<'_, Self>, op: OpId, done: Result<(), TorrentError>) {
        cx.finish(op, SessionOutcome::Done(done));
        self.reader_gone(cx, op);
    }

    /// Nobody can read any more of a torrent.
    pub(super) fn stop_readers(&mut self, cx: &mut Cx<'_, Self>, number: u64, why: &TorrentError) {
        for op in self.readers_of(number) {
            self.stop_reading(cx, op, Err(why.clone()));
        }
    }
}

/// The pieces that a part of a torrent's bytes lies in.
fn pieces_of(info: &Info, place: &Range<u64>) -> Range<u32> {
    match place.is_empty() {
        true => 0..0,
        false => info.piece_at(place.start)..info.piece_at(place.end - 1) + 1,
    }
}

/// Where in a torrent's bytes a range of one of its files lies.
fn place_of(info: &Info, file: u32, range: &Range<u64>) -> Result<Range<u64>, TorrentError> {
    let file = info.files().get(file as usize).filter(|file| file.kind == Kind::File);
    let file = file.ok_or(TorrentError::NoFile)?;
    match range.start <= range.end && range.end <= file.length {
        true => Ok(file.offset + range.start..file.offset + range.end),
        false => Err(TorrentError::Range { length: file.length }),
    }
}

#[cfg(test)]
mod tests;
