//! Which files are wanted, and how much: by the link at first (BEP 53), and as the user says at any time.
//!
//! What nobody wants any more is asked for no longer, and peers that have nothing else hear that they are not interesting. What
//! has come of it stays: if it is wanted again it is gone on with.

use p2p_core::Cx;

use super::{Session, Stage, Torrent};
use crate::torrent::address::Addressed;
use crate::torrent::command::{SetPriorities, TorrentError};
use crate::torrent::metainfo::{Info, Kind};
use crate::torrent::picker::{Picker, Priority};
use crate::torrent::wire::PeerMsg;

impl<P: Addressed> Torrent<P> {
    /// How much each piece is wanted.
    pub(super) fn piece_priorities(&self, info: &Info) -> Vec<Priority> {
        let mut pieces = vec![Priority::Skip; info.piece_count() as usize];
        for (file, number) in info.files().iter().zip(0..).filter(|(file, _)| file.kind == Kind::File) {
            let priority = self.file_priority(number);
            for piece in info.pieces_of(file) {
                let before = &mut pieces[piece as usize];
                *before = priority.max(*before);
            }
        }
        pieces
    }

    /// How much a file is wanted.
    fn file_priority(&self, file: u32) -> Priority {
        let selected = self.select.is_empty() || self.select.iter().any(|range| range.contains(&file));
        let otherwise = if selected { Priority::Normal } else { Priority::Skip };
        self.priorities.get(&file).copied().unwrap_or(otherwise)
    }
}

impl<P: Addressed> Session<P> {
    /// Some files are wanted so much from now on.
    pub(super) fn set_priorities(
        &mut self,
        cx: &mut Cx<'_, Self>,
        SetPriorities { torrent, files }: SetPriorities,
    ) -> Result<(), TorrentError> {
        let number = torrent.0;
        let torrent = self.torrents.get_mut(&number).ok_or(TorrentError::Unknown)?;
        if let Stage::Failed(why) = &torrent.stage {
            return Err(why.clone());
        }
        let known = |info: &Info, file: u32| {
            info.files().get(file as usize).is_some_and(|file| file.kind == Kind::File)
        };
        if let Some(info) = &torrent.info
            && !files.iter().all(|(file, _)| known(info, *file))
        {
            return Err(TorrentError::NoFile);
        }
        torrent.priorities.extend(files);
        self.select(cx, number);
        Ok(())
    }

    /// Goes by what is wanted now.
    fn select(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get(&number) else { return };
        let (Stage::Running(_), Some(info)) = (&torrent.stage, &torrent.info) else { return };
        let priorities = torrent.piece_priorities(info);
        let peers: Vec<P> = torrent.peers.iter().copied().collect();
        self.forget_fetches(|of| of == number);
        for peer in &peers {
            let keeps =
                |piece: u32| priorities.get(piece as usize).is_some_and(|much| *much > Priority::Skip);
            for (block, _) in self.release(*peer, |block| keeps(block.piece)) {
                cx.send(*peer, PeerMsg::Cancel(block));
            }
        }
        if let Some(torrent) = self.torrents.get_mut(&number) {
            if let Some(picker) = torrent.running() {
                picker.want(priorities);
            }
            if torrent.done && !torrent.picker().is_some_and(Picker::is_done) {
                torrent.done = false;
                // Those that were left since nothing was wanted of them may have it.
                torrent.candidates.wake();
                self.say_what_is_wanted(cx, number);
            }
        }
        for peer in peers {
            if let Some((torrent, conn)) = self.pair(peer)
                && let Some(picker) = torrent.picker()
            {
                conn.wanted = picker.wanted_of(&conn.have);
            }
            self.interest(cx, peer);
        }
        self.readers_go_on(cx, number);
        self.hurry(cx, number);
        self.finish(cx, number);
    }
}
