//! `torrent info`: what a torrent or a link says. Its words are somebody else's, and printed escaped.

use p2p_examples::{Failure, printable, say};
use p2p_swarm::torrent::{Kind, Magnet, Metainfo, Source};
use serde_json::json;

#[derive(clap::Args)]
pub(crate) struct Info {
    /// A `.torrent` file or a magnet link.
    what: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match (crate::source(&self.what)?, self.json) {
            (Source::Magnet(magnet), true) => println!("{}", described(&magnet)),
            (Source::Magnet(magnet), false) => say_link(&magnet),
            (Source::Metainfo(metainfo), true) => println!("{}", described_whole(&metainfo)),
            (Source::Metainfo(metainfo), false) => say_whole(&metainfo),
        }
        Ok(())
    }
}

fn described(magnet: &Magnet) -> serde_json::Value {
    json!({
        "info_hash": magnet.hashes.to_string(), "name": magnet.name, "trackers": magnet.trackers,
        "web_seeds": magnet.web_seeds, "peers": magnet.peers,
    })
}

fn say_link(magnet: &Magnet) {
    say("info-hash", magnet.hashes);
    magnet.name.iter().for_each(|name| say("name", printable(name)));
    magnet.trackers.iter().for_each(|tracker| say("tracker", printable(tracker)));
    magnet.web_seeds.iter().for_each(|url| say("web-seed", printable(url)));
    magnet.peers.iter().for_each(|peer| say("peer", printable(peer)));
}

fn described_whole(metainfo: &Metainfo) -> serde_json::Value {
    let info = metainfo.info();
    let files = info.files().iter().filter(|file| file.kind == Kind::File);
    let files: Vec<_> = files.map(|file| json!({ "path": file.path, "length": file.length })).collect();
    json!({
        "info_hash": info.hashes().to_string(), "name": info.name(), "size": info.size(),
        "piece_length": info.piece_length(), "pieces": info.piece_count(), "private": info.private(),
        "trackers": metainfo.trackers, "web_seeds": metainfo.web_seeds, "files": files,
    })
}

fn say_whole(metainfo: &Metainfo) {
    let info = metainfo.info();
    say("info-hash", info.hashes());
    say("name", printable(info.name()));
    say("size", info.size());
    say("pieces", format!("{} of {} bytes", info.piece_count(), info.piece_length()));
    metainfo.trackers.iter().flatten().for_each(|tracker| say("tracker", printable(tracker)));
    metainfo.web_seeds.iter().for_each(|url| say("web-seed", printable(url)));
    metainfo.comment.iter().for_each(|comment| say("comment", printable(comment)));
    for file in info.files().iter().filter(|file| file.kind == Kind::File) {
        println!("  {} {}", file.length, printable(&file.path));
    }
}
