//! `torrent create`: a torrent of what lies there.

use std::path::PathBuf;

use clap::ValueEnum;
use p2p_examples::{Failure, say};
use p2p_swarm::Files;
use p2p_swarm::torrent::{CreateOptions, Format, Magnet, Metainfo};

#[derive(clap::Args)]
pub(crate) struct Create {
    /// The file or folder.
    path: PathBuf,
    /// Where the torrent goes.
    #[arg(short, long)]
    output: PathBuf,
    /// Which version: the first, the second, or both in one.
    #[arg(long, value_enum, default_value_t = Version::Hybrid)]
    version: Version,
    /// Bytes in a piece, a power of two; if not given, so many that there are some 1,500 pieces.
    #[arg(long)]
    piece_length: Option<u32>,
    /// A tracker; several are tiers.
    #[arg(long)]
    tracker: Vec<String>,
    /// Where the content lies on the web: the file's URL, or that of the folder that it, or its folder, lies in.
    #[arg(long, value_name = "URL")]
    web_seed: Vec<String>,
    /// Peers may be found by its trackers only.
    #[arg(long)]
    private: bool,
    /// What is to be said about it.
    #[arg(long)]
    comment: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Version {
    V1,
    V2,
    Hybrid,
}

impl Create {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Create { path, output, version, piece_length, tracker, web_seed, private, comment } = self;
        let options = CreateOptions {
            format: match version {
                Version::V1 => Format::V1,
                Version::V2 => Format::V2,
                Version::Hybrid => Format::Hybrid,
            },
            piece_length,
            private,
            trackers: tracker.into_iter().map(|url| vec![url]).collect(),
            web_seeds: web_seed,
            comment,
            creation_date: None,
        };
        let path = std::fs::canonicalize(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let made = tokio::task::spawn_blocking(move || Metainfo::create(&mut Files, &path, &options)).await?;
        let metainfo = made?;
        std::fs::write(&output, metainfo.encode())?;
        say("info-hash", metainfo.info().hashes());
        say("magnet", Magnet::from(&metainfo));
        Ok(())
    }
}
