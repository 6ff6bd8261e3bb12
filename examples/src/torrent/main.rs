//! `torrent`: BitTorrent with whoever speaks it.
//!
//! ```sh
//! cargo run --release --bin torrent -- create album/ -o album.torrent
//! cargo run --release --bin torrent -- seed album.torrent .                  # prints: magnet: …
//! cargo run --release --bin torrent -- get 'magnet:?…' copy/                 # on another machine
//! cargo run --release --bin torrent -- get 'magnet:?…' copy/ --only live --first 02.ogg
//! cargo run --release --bin torrent -- stream 'magnet:?…' copy/              # prints: stream: http://…
//! cargo run --release --bin torrent -- tracker --listen 0.0.0.0:6969         # prints: listening: …
//! cargo run --release --bin torrent -- get 'magnet:?…' copy/ --dht --bootstrap HOST:PORT
//! ```
//!
//! Peers are found in the link, by `--peer`, from trackers (HTTP and UDP: the torrent's, the link's, or `--tracker URL`), in
//! the Mainline DHT (`--dht`; it needs the address of a node), in the local network (`--lsd`), and from other peers.
//!
//! For programs `--json` has what is said be JSON, an object a line; what fails is still said in words, to standard error.
//! - `get`, each second and when all is there, and `seed`, when it is interrupted: how the torrent stands. `stage` is `metadata`,
//!   `hashes`, `checking`, `downloading`, `seeding`, `paused` or `failed`, and `trouble` why it is one of the last two, or null;
//!   `pieces` are there of the `wanted` ones; `size` (null as long as a link has no metadata), `downloaded`, `uploaded` and `wasted`
//!   are bytes, `down` and `up` bytes a second. Beside `info_hash`, two for a hybrid, and `name` there are lists: `peers` with `addr`, `client`, `carrier`
//!   (`TCP` or `uTP`), `pieces`, `downloaded` and `uploaded` of each, `trackers` with `url`, `peers` and `failed`, `web_seeds` with `url`,
//!   `downloaded` and `failed`; `failed` is why, or null.
//! - `seed`, when it serves: `listening`, its address, and `magnet`, its link.
//! - `check`: how many of the `pieces` are `right`.
//! - `info`: what the torrent or the link says.

#![expect(clippy::print_stdout, reason = "a program talks on the terminal")]

mod check;
mod choice;
mod create;
mod get;
mod info;
mod online;
mod ranges;
mod report;
mod seed;
mod stream;
mod tracker;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use p2p_examples::{Failure, exit};
use p2p_swarm::torrent::{Metainfo, Source};

/// Makes torrents, seeds them, and gets what they stand for.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a torrent of a file or a folder.
    Create(create::Create),
    /// Prints what a torrent or a link says.
    Info(info::Info),
    /// Hashes what is there of a torrent's content. Fails if some is missing or wrong.
    Check(check::Check),
    /// Serves a torrent's content until it is interrupted.
    Seed(seed::Seed),
    /// Gets what a torrent or a link stands for. What is there already is not fetched again.
    Get(get::Get),
    /// Serves a file over HTTP while it comes: what a player asks for comes first.
    Stream(stream::Stream),
    /// Tells peers of each other, over HTTP and over UDP at the same port, until it is interrupted.
    Tracker(tracker::Track),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Create(create) => create.run().await,
        Command::Info(info) => info.run(),
        Command::Check(check) => check.run().await,
        Command::Seed(seed) => seed.run().await,
        Command::Get(get) => get.run().await,
        Command::Stream(stream) => stream.run().await,
        Command::Tracker(tracker) => tracker.run().await,
    };
    exit("torrent", done)
}

fn read(path: &Path) -> Result<Metainfo, Failure> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Metainfo::parse(&bytes)?)
}

/// A link, or a file.
fn source(what: &str) -> Result<Source, Failure> {
    Ok(match what.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:")) {
        true => Source::Magnet(what.parse()?),
        false => Source::Metainfo(read(what.as_ref())?),
    })
}
