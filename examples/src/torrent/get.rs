//! `torrent get`: gets what a torrent or a link stands for.

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use indicatif::ProgressBar;
use p2p_core::net::both::Running;
use p2p_examples::Failure;
use p2p_swarm::torrent::{Add, Client, Order, SetPriorities, Source, Status, TorrentConfig, TorrentId, Wait};

use crate::choice::{Choice, metadata};
use crate::online::{Net, Online};
use crate::report::{bar, described, report};

#[derive(clap::Args)]
pub(crate) struct Get {
    /// A `.torrent` file or a magnet link.
    what: String,
    /// The folder that it goes to.
    folder: PathBuf,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    net: Net,
    /// Goes on seeding when all is there, until it is interrupted.
    #[arg(long)]
    seed: bool,
    /// Gets the first pieces first, so that what has come can be used. It makes the swarm slower: others find less to get.
    #[arg(long)]
    sequential: bool,
    /// Says how far it is as JSON, in a line each second, and in the last when all is there.
    #[arg(long)]
    json: bool,
}

impl Get {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Get { what, folder, choice, net, seed, sequential, json } = self;
        let (torrent, peers) = net.wanted(&what).await?;
        let order = if sequential { Order::Sequential } else { Order::Rarest };
        let config = TorrentConfig { order, ..TorrentConfig::default() };
        let online = Online::start(&net, json).await?;
        // However it ends the trackers hear of it.
        let done = tokio::select! {
            biased;
            interrupted = tokio::signal::ctrl_c() => Err(match interrupted {
                Ok(()) => "it was interrupted: what has come stays, and is not fetched again".into(),
                Err(error) => error.into(),
            }),
            done = download(
                &online.session,
                Add { peers, config, ..Add::new(torrent, folder) },
                &choice,
                json,
            ) => done,
        };
        let done = match done {
            Ok(()) if seed => tokio::signal::ctrl_c().await.map_err(Failure::from),
            done => done,
        };
        online.stop().await;
        done
    }
}

async fn download(session: &Running<Client>, add: Add, choice: &Choice, json: bool) -> Result<(), Failure> {
    let events = session.handle().events();
    let known = match &add.torrent {
        Source::Metainfo(metainfo) => Some(choice.priorities(metainfo.info())?),
        Source::Magnet(_) => None,
    };
    let torrent = session.handle().ask(add).await??;
    let choose = async {
        let files = match known {
            Some(files) => files,
            None if choice.is_open() => return Ok(()),
            None => choice.priorities(&*metadata(events).await?)?,
        };
        Ok(session.handle().ask(SetPriorities { torrent, files }).await??)
    };
    tokio::try_join!(choose, watch(session, torrent, json)).map(|_| ())
}

/// Waits until all is there, and says how far it is.
pub(crate) async fn watch(session: &Running<Client>, id: TorrentId, json: bool) -> Result<(), Failure> {
    let mut waiting = session.handle().ask(Wait { torrent: id, progress: Some(Duration::from_millis(500)) });
    let bar = if json { ProgressBar::hidden() } else { bar() };
    while let Some(status) = waiting.next().await {
        if json {
            println!("{}", described(&status));
        }
        let size = status.size.unwrap_or_default();
        bar.set_length(size);
        bar.set_position(size * u64::from(status.pieces) / u64::from(status.wanted.max(1)));
        bar.set_message(format!("{} peers, {}/s down, {}/s up", status.peers.len(), status.down, status.up));
    }
    waiting.await??;
    bar.finish_and_clear();
    if let Some(status) = session.handle().ask(Status { torrent: id }).await? {
        report(&status, json);
    }
    Ok(())
}
