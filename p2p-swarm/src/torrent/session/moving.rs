//! A torrent's files go to another folder, while it goes on.
//!
//! Whatever was to be done with them before is done before, and what comes meanwhile waits for its turn. While it is being
//! found out what is there they stay, and go then.

use std::path::{Path, PathBuf};

use p2p_core::{Cx, OpId};

use super::pausing::Again;
use super::{Session, SessionOutcome, Stage, places};
use crate::job::StoreError;
use crate::torrent::address::Addressed;
use crate::torrent::command::{Move, TorrentError};
use crate::torrent::job::{Tag, Work};

/// Where files are to go.
#[derive(Debug)]
pub(super) struct Moving {
    /// Who waits for that, if anybody does still.
    asker: Option<OpId>,
    to: PathBuf,
    /// Whether the worker was told.
    begun: bool,
}

impl Moving {
    /// Nobody waits any more who was told of that.
    pub(super) fn forget(&mut self, op: OpId) {
        self.asker = self.asker.filter(|asker| *asker != op);
    }

    /// Whoever waits.
    pub(super) fn asker(&self) -> Option<OpId> {
        self.asker
    }

    pub(super) fn to(&self) -> &Path {
        &self.to
    }

    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }
}

impl<P: Addressed> Session<P> {
    /// A torrent's files are to go elsewhere.
    pub(super) fn move_files(&mut self, cx: &mut Cx<'_, Self>, op: OpId, Move { torrent, folder }: Move) {
        let info = self.torrents.get(&torrent.0).and_then(|torrent| torrent.info.clone());
        let taken = info.and_then(|info| self.taken(Some(torrent.0), &info, &folder));
        let refused = match self.torrents.get_mut(&torrent.0) {
            None => TorrentError::Unknown,
            Some(torrent) => match (&torrent.stage, &torrent.moving) {
                (Stage::Failed(why), _) => why.clone(),
                (_, Some(_)) => TorrentError::Moving,
                (_, None) => match taken {
                    Some(path) => TorrentError::Taken(path),
                    None => {
                        // However it is spelled, it is where it is.
                        let same = places::plain(&folder) == places::plain(&torrent.folder);
                        let to = if same { torrent.folder.clone() } else { folder };
                        torrent.moving = Some(Moving { asker: Some(op), to, begun: false });
                        let number = torrent.number;
                        return self.move_on(cx, number);
                    }
                },
            },
        };
        cx.finish(op, SessionOutcome::Done(Err(refused)));
    }

    /// Has the worker move what is to be moved, if what is there is known.
    pub(super) fn move_on(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let Some(moving) = &mut torrent.moving else { return };
        moving.begun = matches!(torrent.stage, Stage::Running(_));
        let to = moving.to.clone();
        match torrent.stage {
            Stage::Running(_) => torrent.start(cx, Tag::Move, Work::Move { to }),
            // There are none.
            Stage::Metadata(_) | Stage::Hashes(_) => self.moved(cx, number, Ok(())),
            Stage::Opening(_) | Stage::Failed(_) => {}
        }
    }

    /// They are there, or could not go.
    pub(super) fn moved(&mut self, cx: &mut Cx<'_, Self>, number: u64, result: Result<(), StoreError>) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let Some(Moving { asker, to, .. }) = torrent.moving.take() else { return };
        if result.is_ok() {
            torrent.folder = to;
            // What was copied is written down where it is.
            torrent.fresh = true;
        }
        if let Some(asker) = asker {
            cx.finish(asker, SessionOutcome::Done(result.clone().map_err(TorrentError::from)));
        }
        if let Err(error @ StoreError::Unsynced { .. }) = result {
            self.trouble(cx, number, error, Again::Look);
        }
    }
}
