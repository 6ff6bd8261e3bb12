//! `torrent seed`: serves what is there.

use std::path::PathBuf;

use futures::StreamExt;
use p2p_examples::{Failure, say};
use p2p_swarm::torrent::{Add, Magnet, Metainfo, SessionEvent, Source, Status, TorrentConfig};
use serde_json::json;

use crate::online::{Net, Online, resolve};
use crate::report::report;

#[derive(clap::Args)]
pub(crate) struct Seed {
    /// The `.torrent` file.
    torrent: PathBuf,
    /// The folder that its file, or its folder, lies in.
    folder: PathBuf,
    #[command(flatten)]
    net: Net,
    /// Gives each piece to one peer alone until all of it is among them (BEP 16): for a first seed whose line is slow.
    #[arg(long)]
    super_seeding: bool,
    /// Says where it listens, its link, and in the end how it stands as JSON, in two lines.
    #[arg(long)]
    json: bool,
}

impl Seed {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let metainfo = crate::read(&self.torrent)?;
        let peers = resolve(&self.net.peer).await?;
        let online = Online::start(&self.net, self.json).await?;
        let torrent = self.net.with_places(Source::Metainfo(metainfo.clone()));
        let config = TorrentConfig { super_seeding: self.super_seeding, ..TorrentConfig::default() };
        // However it ends the trackers hear of it.
        let add = Add { peers, config, ..Add::new(torrent, self.folder) };
        let done = serve(&online, &self.net, &metainfo, add, self.json).await;
        online.stop().await;
        done
    }
}

async fn serve(online: &Online, net: &Net, metainfo: &Metainfo, add: Add, json: bool) -> Result<(), Failure> {
    let session = &online.session;
    let mut events = session.handle().events();
    let id = session.handle().ask(add).await??;
    while let Some(event) = events.next().await {
        match event {
            SessionEvent::Checked(_, good) if good < metainfo.info().piece_count() => {
                if !json {
                    say("pieces", format!("{good} of {} are there", metainfo.info().piece_count()));
                }
                break;
            }
            SessionEvent::Done(_) => break,
            SessionEvent::Failed(_, why) => return Err(why.into()),
            SessionEvent::Checked(..)
            | SessionEvent::Metadata(..)
            | SessionEvent::Lied(..)
            | SessionEvent::WebSeedDropped(..)
            | SessionEvent::Paused(..)
            | SessionEvent::Resumed(_)
            | SessionEvent::DhtNode(_) => {}
        }
    }
    let local = session.local_addr();
    let reachable = local.filter(|addr| !addr.ip().is_unspecified());
    let mut link = Magnet::from(metainfo);
    // Of a private torrent trackers alone tell who has it.
    link.peers.extend(reachable.filter(|_| !metainfo.info().private()).map(|addr| addr.to_string()));
    link.trackers.extend(net.tracker.iter().cloned());
    if json {
        println!("{}", json!({ "listening": local, "magnet": link.to_string() }));
    } else {
        local.iter().for_each(|addr| say("listening", addr));
        say("magnet", link);
    }
    tokio::signal::ctrl_c().await?;
    if let Some(status) = session.handle().ask(Status { torrent: id }).await? {
        report(&status, json);
    }
    Ok(())
}
