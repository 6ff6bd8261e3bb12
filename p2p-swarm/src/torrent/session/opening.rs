//! What is there of a torrent when it is taken on.
//!
//! A worker looks which pieces are there by what it has written down of them, and which may be; those are hashed a slice at
//! a time, by as many workers as there are.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use p2p_core::Cx;

use super::{Session, SessionEvent, Stage, TorrentId};
use crate::bits::Bits;
use crate::torrent::address::Addressed;
use crate::torrent::job::Tag;
use crate::torrent::picker::Picker;
use crate::torrent::wire::PeerMsg;
use crate::worker::SLICE;

/// Slices of one torrent that are hashed at a time: two for each of eight workers. 16.
const AT_ONCE: usize = 16;

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Opening {
    have: Bits,
    /// Slices that nobody hashes yet.
    left: VecDeque<Range<u32>>,
    /// Where those begin that are being hashed.
    out: BTreeSet<u32>,
    /// Whether a worker looks, and nothing has failed since.
    begun: bool,
}

impl Opening {
    /// A worker looks.
    pub(super) fn begun() -> Opening {
        Opening { begun: true, ..Opening::default() }
    }

    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }
}

/// Runs of pieces, of so many at the most.
fn slices(pieces: &Bits, most: u32) -> VecDeque<Range<u32>> {
    let mut slices: VecDeque<Range<u32>> = VecDeque::new();
    for piece in pieces.iter().map(|piece| piece as u32) {
        match slices.back_mut() {
            Some(last) if last.end == piece && last.end - last.start < most => last.end += 1,
            _ => slices.push_back(piece..piece + 1),
        }
    }
    slices
}

impl<P: Addressed> Session<P> {
    /// A worker has looked what is there.
    pub(super) fn opened(&mut self, cx: &mut Cx<'_, Self>, number: u64, have: Bits, check: &Bits) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let (Stage::Opening(opening), Some(info)) = (&mut torrent.stage, &torrent.info) else { return };
        let most = (SLICE / u64::from(info.piece_length())).max(1) as u32;
        *opening = Opening { have, left: slices(check, most), out: BTreeSet::new(), begun: true };
        // Who has hashed something writes down what came of it.
        torrent.fresh |= check.count() > 0;
        self.check_on(cx, number);
    }

    /// Has some of what may be there hashed; if there is nothing more the torrent begins.
    fn check_on(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let Stage::Opening(opening) = &mut torrent.stage else { return };
        let mut begun = Vec::new();
        while opening.out.len() < AT_ONCE
            && let Some(slice) = opening.left.pop_front()
        {
            opening.out.insert(slice.start);
            begun.push(slice);
        }
        let done = opening.out.is_empty();
        let have = done.then(|| std::mem::take(&mut opening.have));
        begun.into_iter().for_each(|slice| torrent.check(cx, slice));
        if let Some(have) = have {
            self.begin(cx, number, have);
        }
    }

    /// The slice that begins there was hashed: these of its pieces are right.
    pub(super) fn checked(&mut self, cx: &mut Cx<'_, Self>, number: u64, from: u32, right: &[u32]) {
        let torrent = self.torrents.get_mut(&number);
        // Others were to be hashed before it paused, and nobody waits for them.
        if let Some(Stage::Opening(opening)) = torrent.map(|torrent| &mut torrent.stage)
            && opening.out.remove(&from)
        {
            right.iter().for_each(|piece| _ = opening.have.insert((*piece).into()));
            self.check_on(cx, number);
        }
    }

    /// What is there is known.
    fn begin(&mut self, cx: &mut Cx<'_, Self>, number: u64, have: Bits) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let Some(info) = torrent.info.clone() else { return };
        let priorities = torrent.piece_priorities(&info);
        let picker = Picker::new(&info, have.clone(), priorities, torrent.order, cx.rng());
        torrent.stage = Stage::Running(Box::new(picker));
        torrent.saved = cx.now();
        self.go_on(cx, number);
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        if have.is_full() {
            torrent.tiers.values_mut().for_each(|tiers| tiers.had_all(cx.now()));
        }
        cx.emit(SessionEvent::Checked(TorrentId(number), have.count() as u32));
        // Who was asked for metadata is here already.
        let one_by_one = torrent.is_super_seeding();
        let peers: Vec<P> = torrent.peers.iter().copied().collect();
        for peer in peers {
            if !one_by_one {
                have.iter().for_each(|piece| cx.send(peer, PeerMsg::Have(piece as u32)));
            }
            self.catch_up(cx, peer);
        }
        self.finish(cx, number);
        self.move_on(cx, number);
        self.readers_go_on(cx, number);
        self.hurry(cx, number);
        self.dial(cx, number);
        self.fetch(cx, number);
        self.announce(cx, number);
    }

    /// Now and then what has come is made safe and written down, so that little of it is hashed again after a crash.
    pub(super) fn save(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let now = cx.now();
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        if torrent.fresh
            && !torrent.syncing
            && now - torrent.saved >= super::tick::SAVE
            && torrent.picker().is_some()
        {
            torrent.fresh = false;
            torrent.saved = now;
            torrent.sync(cx, Tag::Save);
        }
    }
}

#[cfg(test)]
mod tests {
    use p2p_core::{Job, Script, SimPeer, Worker};

    use super::*;
    use crate::storage::{MemoryFiles, Storage};
    use crate::torrent::command::{Add, SessionCommand, Source};
    use crate::torrent::status::TorrentStage;
    use crate::torrent::worker::MemoryTorrents;
    use crate::torrent::{CreateOptions, Format, Metainfo, SessionConfig};

    #[test]
    fn slices_are_runs_of_what_is_to_be_hashed() {
        let mut pieces = Bits::new(20);
        (0..20).filter(|piece| ![3, 4, 11].contains(piece)).for_each(|piece| _ = pieces.insert(piece));
        assert_eq!(slices(&pieces, 4), [0..3, 5..9, 9..11, 12..16, 16..20]);
        assert!(slices(&Bits::new(5), 4).is_empty());
    }

    #[test]
    fn all_slices_are_hashed_at_once_by_whichever_workers_have_time() {
        let mut files = MemoryFiles::default();
        for name in ["a", "b", "c"] {
            files.put(format!("t/{name}"), vec![name.as_bytes()[0]; 32_768]);
        }
        let options =
            CreateOptions { format: Format::V2, piece_length: Some(16_384), ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut files, "t".as_ref(), &options).unwrap();
        // Without the second file these are two runs.
        files.remove("t/b".as_ref()).unwrap();
        let mut worker = MemoryTorrents::new(files);
        let mut script = Script::<Session<SimPeer>>::new(Session::new(SessionConfig::default(), None));
        script.command(SessionCommand::Add(Add::new(Source::Metainfo(metainfo), "")));
        let mut slices = 0;
        for round in 0..2 {
            // The last that was handed out is the first to be done.
            for (id, job) in script.jobs().into_iter().rev() {
                assert_eq!(job.lane().is_none(), round == 1);
                slices += round;
                worker.run(vec![job]).into_iter().for_each(|done| script.done(id, done));
            }
        }
        let status = script.machine().status(TorrentId::first()).unwrap();
        assert_eq!((slices, status.stage, status.pieces), (2, TorrentStage::Downloading, 4));
    }
}
