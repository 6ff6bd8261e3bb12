//! Which of a torrent's files a user wants, by the ends of their paths.

use std::sync::Arc;

use futures::StreamExt;
use p2p_core::Events;
use p2p_examples::Failure;
use p2p_swarm::torrent::{Info, Kind, Priority, SessionEvent};

/// What is wanted, and what first: files, or folders, of the torrent.
#[derive(clap::Args)]
pub(crate) struct Choice {
    /// Gets this file or folder of the torrent, by the end of its path, and no others; repeat for more.
    #[arg(long, value_name = "PATH")]
    only: Vec<String>,
    /// Gets this file or folder before the rest, likewise.
    #[arg(long, value_name = "PATH")]
    first: Vec<String>,
}

impl Choice {
    /// Whether nothing was said, so that all is wanted that the link selects.
    pub(crate) fn is_open(&self) -> bool {
        self.only.is_empty() && self.first.is_empty()
    }

    /// How much files are wanted of which that was said.
    pub(crate) fn priorities(&self, info: &Info) -> Result<Vec<(u32, Priority)>, Failure> {
        let files: Vec<_> = (0..).zip(info.files()).filter(|(_, file)| file.kind == Kind::File).collect();
        for end in self.only.iter().chain(&self.first) {
            if !files.iter().any(|(_, file)| lies_at(&file.path, end)) {
                return Err(format!("the torrent has no file or folder {end}: see torrent info").into());
            }
        }
        let among = |ends: &[String], path: &str| ends.iter().any(|end| lies_at(path, end));
        let priority = |path: &str| match (among(&self.first, path), among(&self.only, path)) {
            (true, _) => Some(Priority::High),
            (false, true) => Some(Priority::Normal),
            (false, false) => (!self.only.is_empty()).then_some(Priority::Skip),
        };
        Ok(files.into_iter().filter_map(|(number, file)| Some((number, priority(&file.path)?))).collect())
    }
}

/// Whether a path ends so, or lies in a folder whose path does.
fn lies_at(path: &str, end: &str) -> bool {
    let end = end.trim_matches('/');
    let mut folders = path.match_indices('/').map(|(at, _)| &path[..at]).chain([path]);
    !end.is_empty()
        && folders
            .any(|path| path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('/')))
}

/// What a link stands for, when a peer has sent it.
pub(crate) async fn metadata(mut events: Events<SessionEvent>) -> Result<Arc<Info>, Failure> {
    while let Some(event) = events.next().await {
        match event {
            SessionEvent::Metadata(_, metainfo) => return Ok(metainfo.info().clone()),
            SessionEvent::Failed(_, why) => return Err(why.into()),
            _ => {}
        }
    }
    Err("the session has ended".into())
}
