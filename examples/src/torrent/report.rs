//! How a torrent stands, on the terminal, where what peers and trackers say is escaped; or as JSON, a line each time.

use indicatif::{ProgressBar, ProgressStyle};
use p2p_examples::printable;
use p2p_swarm::torrent::{Carrier, PeerStatus, TorrentStage, TorrentStatus, TrackerStatus, WebSeedStatus};
use serde_json::{Value, json};

pub(crate) fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {eta} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// As JSON: bytes, bytes a second, and pieces.
pub(crate) fn described(status: &TorrentStatus) -> Value {
    let stage = match status.stage {
        TorrentStage::Metadata => "metadata",
        TorrentStage::Hashes => "hashes",
        TorrentStage::Checking => "checking",
        TorrentStage::Downloading => "downloading",
        TorrentStage::Seeding => "seeding",
        TorrentStage::Paused => "paused",
        TorrentStage::Failed => "failed",
    };
    let peer = |peer: &PeerStatus| {
        json!({
            "addr": peer.addr, "client": peer.client, "carrier": carrier(peer.carrier), "pieces": peer.pieces,
            "downloaded": peer.downloaded, "uploaded": peer.uploaded,
        })
    };
    let tracker = |tracker: &TrackerStatus| {
        let failed = tracker.said.as_ref().and_then(|said| said.as_ref().err()).map(ToString::to_string);
        json!({ "url": tracker.url, "peers": tracker.peers, "failed": failed })
    };
    let web_seed = |seed: &WebSeedStatus| {
        let failed = seed.failed.as_ref().map(ToString::to_string);
        json!({ "url": seed.url, "downloaded": seed.downloaded, "failed": failed })
    };
    json!({
        "info_hash": status.hashes.to_string(), "name": status.name, "stage": stage,
        "trouble": status.trouble.as_ref().map(ToString::to_string),
        "pieces": status.pieces, "wanted": status.wanted, "size": status.size,
        "downloaded": status.downloaded, "uploaded": status.uploaded, "wasted": status.wasted,
        "down": status.down, "up": status.up,
        "peers": status.peers.iter().map(peer).collect::<Vec<_>>(),
        "trackers": status.trackers.iter().map(tracker).collect::<Vec<_>>(),
        "web_seeds": status.web_seeds.iter().map(web_seed).collect::<Vec<_>>(),
    })
}

fn carrier(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::Tcp => "TCP",
        Carrier::Utp => "uTP",
    }
}

pub(crate) fn report(status: &TorrentStatus, json: bool) {
    if json {
        return println!("{}", described(status));
    }
    let TorrentStatus { pieces, wanted, downloaded, uploaded, wasted, .. } = status;
    println!(
        "{pieces} of {wanted} pieces; {downloaded} bytes came, {wasted} of them in vain, {uploaded} went"
    );
    for peer in &status.peers {
        let client = printable(peer.client.as_deref().unwrap_or("?"));
        let carrier = carrier(peer.carrier);
        println!("  {} ({client}, {carrier}): {} down, {} up", peer.addr, peer.downloaded, peer.uploaded);
    }
    for tracker in &status.trackers {
        let url = printable(&tracker.url);
        match &tracker.said {
            Some(Ok(reply)) => {
                let warning =
                    reply.warning.iter().map(|warning| format!("; it warns: {}", printable(warning)));
                println!("  {url}: {} peers{}", tracker.peers, warning.collect::<String>());
            }
            Some(Err(why)) => println!("  {url}: {}", printable(&why.to_string())),
            None => {}
        }
    }
    for seed in &status.web_seeds {
        let failed = seed.failed.iter().map(|why| format!("; {}", printable(&why.to_string())));
        println!("  {}: {} down{}", printable(&seed.url), seed.downloaded, failed.collect::<String>());
    }
}
