//! `torrent check`: what is there of a torrent's content.

use std::path::PathBuf;

use futures::StreamExt;
use p2p_core::Limits;
use p2p_core::net::tcp;
use p2p_examples::Failure;
use p2p_swarm::torrent::{Add, PeerCodec, Session, SessionConfig, SessionEvent, Source, TorrentConfig};
use serde_json::json;

use crate::online::workers;

#[derive(clap::Args)]
pub(crate) struct Check {
    /// The `.torrent` file.
    torrent: PathBuf,
    /// The folder that its file, or its folder, lies in.
    folder: PathBuf,
    /// Says it as JSON.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let metainfo = crate::read(&self.torrent)?;
        let (machine, workers) = (Session::new(SessionConfig::default(), None), workers());
        let session = tcp::spawn(machine, |_| PeerCodec::default(), None, Limits::default(), workers).await?;
        let mut events = session.handle().events();
        let pieces = metainfo.info().piece_count();
        let torrent = Source::Metainfo(metainfo);
        let config = TorrentConfig { recheck: true, ..TorrentConfig::default() };
        session.handle().ask(Add { config, ..Add::new(torrent, self.folder) }).await??;
        while let Some(event) = events.next().await {
            match event {
                SessionEvent::Checked(_, good) => {
                    match self.json {
                        true => println!("{}", json!({ "right": good, "pieces": pieces })),
                        false => println!("{good} of {pieces} pieces are there and right"),
                    }
                    session.shutdown().await;
                    return if good == pieces { Ok(()) } else { Err("the content is not whole".into()) };
                }
                SessionEvent::Failed(_, why) | SessionEvent::Paused(_, Some(why)) => return Err(why.into()),
                SessionEvent::Metadata(..)
                | SessionEvent::Done(_)
                | SessionEvent::Lied(..)
                | SessionEvent::WebSeedDropped(..)
                | SessionEvent::Paused(_, None)
                | SessionEvent::Resumed(_)
                | SessionEvent::DhtNode(_) => {}
            }
        }
        Err("the session has ended".into())
    }
}
