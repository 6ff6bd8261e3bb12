//! `torrent get`: gets what a torrent or a link stands for.

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use p2p_core::net::both::Running;
use p2p_examples::Failure;
use p2p_swarm::torrent::{Add, Client, Source, Status, Wait};

use crate::online::{Net, Online, resolve};
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
}

impl Get {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Get { what, folder, net, seed } = self;
        let torrent = net.with_places(crate::source(&what)?);
        let private = matches!(&torrent, Source::Metainfo(metainfo) if metainfo.info().private());
        if private && !net.peer.is_empty() {
            return Err("the torrent is private, so its trackers alone name peers: leave --peer out".into());
        }
        let mut peers = resolve(&net.peer).await?;
        if let Source::Magnet(magnet) = &torrent {
            peers.extend(resolve(&magnet.peers).await?);
        }
        let others = !private && net.finds_others();
        if peers.is_empty() && places_of(&torrent) == 0 && !others {
            return Err("there is nobody to get it from: name a peer, --peer HOST:PORT, a tracker, --tracker URL, or a node \
                 of the DHT, --dht --bootstrap HOST:PORT, or look in the local network, --lsd"
                .into());
        }
        let online = Online::start(&net).await?;
        // However it ends the trackers hear of it.
        let done = tokio::select! {
            biased;
            interrupted = tokio::signal::ctrl_c() => Err(match interrupted {
                Ok(()) => "it was interrupted: what has come stays, and is not fetched again".into(),
                Err(error) => error.into(),
            }),
            done = download(&online.session, Add { peers, ..Add::new(torrent, folder) }) => done,
        };
        let done = match done {
            Ok(()) if seed => tokio::signal::ctrl_c().await.map_err(Failure::from),
            done => done,
        };
        online.stop().await;
        done
    }
}

/// How many trackers and web seeds it names; for a link web seeds are no beginning.
fn places_of(torrent: &Source) -> usize {
    match torrent {
        Source::Metainfo(metainfo) => metainfo.trackers.iter().flatten().count() + metainfo.web_seeds.len(),
        Source::Magnet(magnet) => magnet.trackers.len(),
    }
}

async fn download(session: &Running<Client>, add: Add) -> Result<(), Failure> {
    let id = session.handle().ask(add).await??;
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
