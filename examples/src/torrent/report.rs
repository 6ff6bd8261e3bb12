//! How a torrent stands, on the terminal. What peers and trackers say is escaped.

use indicatif::{ProgressBar, ProgressStyle};
use p2p_examples::printable;
use p2p_swarm::torrent::{Carrier, TorrentStatus};

pub(crate) fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {eta} {msg}") {
        bar.set_style(style);
    }
    bar
}

pub(crate) fn report(status: &TorrentStatus) {
    let TorrentStatus { pieces, wanted, downloaded, uploaded, wasted, .. } = status;
    println!(
        "{pieces} of {wanted} pieces; {downloaded} bytes came, {wasted} of them in vain, {uploaded} went"
    );
    for peer in &status.peers {
        let client = printable(peer.client.as_deref().unwrap_or("?"));
        let carrier = match peer.carrier {
            Carrier::Tcp => "TCP",
            Carrier::Utp => "uTP",
        };
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
