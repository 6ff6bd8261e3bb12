//! Where the files of torrents lie: no two of a session write to one file.
//!
//! What one has proved and written down the other would write over, and nobody would notice. Paths are compared as they are
//! given: what links, or a file system that takes `a` for `A`, make of them is not looked at. Of a torrent that is worked on no
//! more they are in use until the worker has closed them: what came before may still be written, or on its way elsewhere.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use p2p_core::{Cx, OpId};

use super::{Session, SessionOutcome, Stage, Torrent};
use crate::torrent::address::Addressed;
use crate::torrent::metainfo::{Info, Kind};

/// A path without the folders in it that are called `.`.
pub(super) fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// The paths of a torrent's files in a folder.
fn paths(info: &Info, folder: &Path) -> impl Iterator<Item = PathBuf> {
    let (files, folder) = (info.files().iter().filter(|file| file.kind == Kind::File), plain(folder));
    files.map(move |file| folder.join(&file.path))
}

/// The file, or the folder, that has all of them.
fn top(info: &Info, folder: &Path) -> PathBuf {
    let name = info.files().first().and_then(|file| file.path.split('/').next());
    plain(folder).join(name.unwrap_or_default())
}

impl<P: Addressed> Torrent<P> {
    /// The folders in which its files lie, or are to.
    fn folders(&self) -> impl Iterator<Item = &Path> {
        [Some(self.folder.as_path()), self.moving.as_ref().map(|moving| moving.to())].into_iter().flatten()
    }
}

/// The files of a torrent that is worked on no more, until they are closed.
#[derive(Debug)]
pub(super) struct Closing {
    info: Option<Arc<Info>>,
    folders: Vec<PathBuf>,
    /// Who waits for that, if anybody does.
    pub(super) asker: Option<OpId>,
}

impl Closing {
    /// Those of a torrent that the worker is to close.
    pub(super) fn of<P: Addressed>(torrent: &Torrent<P>) -> Closing {
        let folders = torrent.folders().map(Path::to_path_buf).collect();
        Closing { info: torrent.info.clone(), folders, asker: None }
    }

    /// Nobody waits any more who was told of that.
    pub(super) fn forget(&mut self, op: OpId) {
        self.asker = self.asker.filter(|asker| *asker != op);
    }

    /// Where they lie, and where they may.
    fn places(&self) -> impl Iterator<Item = (&Info, &Path)> {
        let folders = move |info| self.folders.iter().map(move |folder| (info, folder.as_path()));
        self.info.as_deref().into_iter().flat_map(folders)
    }
}

impl<P: Addressed> Session<P> {
    /// The worker has closed a torrent's files.
    pub(super) fn closed(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        if let Some(asker) = self.closing.remove(&number).and_then(|closing| closing.asker) {
            cx.finish(asker, SessionOutcome::Known(true));
        }
    }

    /// The first file of a torrent that would lie, in this folder, where one of another torrent does that is in use.
    pub(super) fn taken(&self, number: Option<u64>, info: &Info, folder: &Path) -> Option<PathBuf> {
        let here = top(info, folder);
        let others = self
            .torrents
            .iter()
            .filter(|(other, torrent)| Some(**other) != number && !matches!(torrent.stage, Stage::Failed(_)));
        let theirs = others.filter_map(|(_, torrent)| Some((torrent, torrent.info.as_deref()?)));
        let theirs = theirs.flat_map(|(torrent, info)| torrent.folders().map(move |folder| (info, folder)));
        let closing = self.closing.values().flat_map(Closing::places);
        // Most have nothing to do with each other.
        let mut near = theirs.chain(closing).filter(|(info, folder)| {
            let there = top(info, folder);
            there.starts_with(&here) || here.starts_with(&there)
        });
        near.find_map(|(other, there)| {
            let theirs: BTreeSet<PathBuf> = paths(other, there).collect();
            paths(info, folder).find(|path| theirs.contains(path))
        })
    }
}

#[cfg(test)]
mod tests {
    use p2p_core::{Script, SimPeer};

    use super::*;
    use crate::storage::MemoryFiles;
    use crate::torrent::command::{
        Add, Move, Remove, SessionCommand, SessionOutcome, Source, TorrentError, TorrentId,
    };
    use crate::torrent::session::tests::work;
    use crate::torrent::worker::MemoryTorrents;
    use crate::torrent::{CreateOptions, Metainfo, SessionConfig};

    /// A torrent of these files, which is another for each `kind`.
    fn torrent(name: &str, files: &[&str], kind: u8) -> Metainfo {
        let mut disk = MemoryFiles::default();
        files.iter().for_each(|file| disk.put(format!("{name}{file}"), vec![kind; 20_000]));
        Metainfo::create(&mut disk, name.as_ref(), &CreateOptions::default()).unwrap()
    }

    struct Folders {
        script: Script<Session<SimPeer>>,
        worker: MemoryTorrents,
    }

    impl Folders {
        fn new() -> Folders {
            let script = Script::new(Session::<SimPeer>::new(SessionConfig::default(), None));
            Folders { script, worker: MemoryTorrents::new(MemoryFiles::default()) }
        }

        fn asks(&mut self, command: SessionCommand) -> SessionOutcome {
            self.script.command(command);
            work(&mut self.script, &mut self.worker);
            self.script.outcomes().pop().unwrap().1
        }

        fn adds(&mut self, torrent: &Metainfo, folder: &str) -> Result<TorrentId, TorrentError> {
            match self.asks(SessionCommand::Add(Add::new(Source::Metainfo(torrent.clone()), folder))) {
                SessionOutcome::Added(added) => added,
                other => panic!("{other:?}"),
            }
        }

        fn moves(&mut self, torrent: TorrentId, folder: &str) -> SessionOutcome {
            self.asks(SessionCommand::Move(Move { torrent, folder: folder.into() }))
        }
    }

    #[test]
    fn no_two_torrents_write_to_one_file() {
        let mut folders = Folders::new();
        let taken = |path: &str| TorrentError::Taken(path.into());
        let show = |files: &[&str], kind| torrent("show", files, kind);
        let first = folders.adds(&show(&["/a", "/b/c"], 1), "f").unwrap();
        assert_eq!(folders.adds(&show(&["/b/c", "/d"], 2), "f"), Err(taken("f/show/b/c")));
        assert_eq!(folders.adds(&show(&["/b/c", "/d"], 2), "./f/./"), Err(taken("f/show/b/c")));
        // The same folder with other files, and the same files in another folder.
        folders.adds(&show(&["/d", "/e"], 3), "f").unwrap();
        let elsewhere = folders.adds(&show(&["/a", "/b/c"], 4), "g").unwrap();
        // One that lies in the folder of another.
        assert_eq!(folders.adds(&torrent("c", &[""], 5), "f/show/b"), Err(taken("f/show/b/c")));
        folders.adds(&torrent("x", &[""], 6), "f/show/b").unwrap();
        assert_eq!(folders.moves(elsewhere, "f"), SessionOutcome::Done(Err(taken("f/show/a"))));
        assert_eq!(folders.moves(first, "f"), SessionOutcome::Done(Ok(())), "its own are its own");
        folders.asks(SessionCommand::Remove(Remove { torrent: first }));
        assert_eq!(folders.moves(elsewhere, "f"), SessionOutcome::Done(Ok(())));
    }

    #[test]
    fn files_of_what_is_removed_are_in_use_until_they_are_closed() {
        let mut folders = Folders::new();
        let first = folders.adds(&torrent("show", &["/a", "/b"], 1), "f").unwrap();
        let other = torrent("show", &["/b", "/c"], 2);
        // It is on its way from one folder to another.
        let script = &mut folders.script;
        script.command(SessionCommand::Move(Move { torrent: first, folder: "g".into() }));
        let removed = script.command(SessionCommand::Remove(Remove { torrent: first }));
        script.outcomes();
        for folder in ["f", "g"] {
            script.command(SessionCommand::Add(Add::new(Source::Metainfo(other.clone()), folder)));
            let taken = TorrentError::Taken(format!("{folder}/show/b").into());
            assert_eq!(script.outcomes().pop().unwrap().1, SessionOutcome::Added(Err(taken)));
        }
        work(script, &mut folders.worker);
        assert_eq!(script.outcomes(), [(removed, SessionOutcome::Known(true))], "it is closed");
        assert!(folders.adds(&other, "g").is_ok());
    }

    #[test]
    fn paths_are_of_files_that_are_made() {
        let info: Arc<Info> = torrent("show", &["/a", "/b/c"], 1).info().clone();
        let files = ["f/show/a", "f/show/b/c"].map(PathBuf::from);
        assert!(paths(&info, "f".as_ref()).eq(files));
        assert_eq!(top(&info, "f".as_ref()), PathBuf::from("f/show"));
    }
}
