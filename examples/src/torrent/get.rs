//! `torrent get`: gets what a torrent or a link stands for.

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use p2p_core::net::both::Running;
use p2p_examples::Failure;
use p2p_swarm::torrent::{Add, Client, Order, Status, TorrentConfig, TorrentId, Wait};

use crate::online::{Net, Online};
use crate::report::{bar, report};

#[derive(clap::Args)]
pub(crate) struct Get {
    /// A `.torrent` file or a magnet link.
    what: String,
    /// The folder that it goes to.
    folder: PathBuf,
    #[command(flatten)]
    net: Net,
    /// Goes on seeding when all is there, until it is interrupted.
    #[arg(long)]
    seed: bool,
    /// Gets the first pieces first, so that what has come can be used. It makes the swarm slower: others find less to get.
    #[arg(long)]
    sequential: bool,
}

impl Get {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Get { what, folder, net, seed, sequential } = self;
        let (torrent, peers) = net.wanted(&what).await?;
        let order = if sequential { Order::Sequential } else { Order::Rarest };
        let config = TorrentConfig { order, ..TorrentConfig::default() };
        let online = Online::start(&net).await?;
        // However it ends the trackers hear of it.
        let done = tokio::select! {
            biased;
            interrupted = tokio::signal::ctrl_c() => Err(match interrupted {
                Ok(()) => "it was interrupted: what has come stays, and is not fetched again".into(),
                Err(error) => error.into(),
            }),
            done = download(&online.session, Add { peers, config, ..Add::new(torrent, folder) }) => done,
        };
        let done = match done {
            Ok(()) if seed => tokio::signal::ctrl_c().await.map_err(Failure::from),
            done => done,
        };
        online.stop().await;
        done
    }
}

async fn download(session: &Running<Client>, add: Add) -> Result<(), Failure> {
    let id = session.handle().ask(add).await??;
    watch(session, id).await
}

/// Waits until all is there, and says how far it is.
pub(crate) async fn watch(session: &Running<Client>, id: TorrentId) -> Result<(), Failure> {
    let mut waiting = session.handle().ask(Wait { torrent: id, progress: Some(Duration::from_millis(500)) });
    let bar = bar();
    while let Some(status) = waiting.next().await {
        let size = status.size.unwrap_or_default();
        bar.set_length(size);
        bar.set_position(size * u64::from(status.pieces) / u64::from(status.wanted.max(1)));
        bar.set_message(format!("{} peers, {}/s down, {}/s up", status.peers.len(), status.down, status.up));
    }
    waiting.await??;
    bar.finish_and_clear();
    if let Some(status) = session.handle().ask(Status { torrent: id }).await? {
        report(&status);
    }
    Ok(())
}
