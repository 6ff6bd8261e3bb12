//! Where the files of torrents lie: no two of a session write to one file.
//!
//! What one has proved and written down the other would write over, and nobody would notice. Paths are compared as they are
//! given: what links, or a file system that takes `a` for `A`, make of them is not looked at.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{Session, Stage, Torrent};
use crate::torrent::address::Addressed;
use crate::torrent::metainfo::{Info, Kind};

/// A path without the folders in it that are called `.`.
fn plain(path: &Path) -> PathBuf {
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

impl<P: Addressed> Session<P> {
    /// The first file of a torrent that would lie, in this folder, where one of another torrent does that is worked on.
    pub(super) fn taken(&self, number: Option<u64>, info: &Info, folder: &Path) -> Option<PathBuf> {
        let here = top(info, folder);
        let others = self
            .torrents
            .iter()
            .filter(|(other, torrent)| Some(**other) != number && !matches!(torrent.stage, Stage::Failed(_)));
        let theirs = others.filter_map(|(_, torrent)| Some((torrent, torrent.info.as_ref()?)));
        let theirs = theirs.flat_map(|(torrent, info)| torrent.folders().map(move |folder| (info, folder)));
        // Most have nothing to do with each other.
        let mut near = theirs.filter(|(info, folder)| {
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
    use std::sync::Arc;

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
        let (script, worker) = (
            Script::new(Session::<SimPeer>::new(SessionConfig::default(), None)),
            MemoryTorrents::new(MemoryFiles::default()),
        );
        let mut folders = Folders { script, worker };
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
    fn paths_are_of_files_that_are_made() {
        let info: Arc<Info> = torrent("show", &["/a", "/b/c"], 1).info().clone();
        let files = ["f/show/a", "f/show/b/c"].map(PathBuf::from);
        assert!(paths(&info, "f".as_ref()).eq(files));
        assert_eq!(top(&info, "f".as_ref()), PathBuf::from("f/show"));
    }
}
