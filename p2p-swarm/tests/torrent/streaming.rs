//! Content in order, and what somebody waits for before the rest.

use super::*;
use bytes::Bytes;
use futures::StreamExt;
use p2p_swarm::torrent::{Order, Read, TorrentConfig};

const LEECHER: SimPeer = SimPeer(3);
const PIECES: usize = 200;

/// Three that have everything and one that gets it from them, at 300 kB/s in all: in 22 s.
fn swarm(seed: u64, order: Order) -> Swarm {
    let mut swarm = Swarm::new(seed, 4, 100_000, PIECES * PIECE as usize, Format::V2);
    (1..3).for_each(|seed| swarm.disks[seed].put("t", swarm.content.clone()));
    for peer in 0..3 {
        swarm.add(SimPeer(peer), Source::Metainfo(swarm.metainfo.clone()), []);
        swarm.wait(SimPeer(peer));
    }
    swarm.finish(3, Duration::from_secs(10));
    let peers = (0..3).map(|peer| SimPeer(peer).addr()).collect();
    let config = TorrentConfig { order, ..TorrentConfig::default() };
    let add = Add { peers, config, ..Add::new(Source::Metainfo(swarm.metainfo.clone()), "") };
    swarm.sim.command(LEECHER, SessionCommand::Add(add));
    swarm.id(LEECHER);
    swarm
}

/// How many pieces have come, and how many of them from the first on, when half of them have; and whether that was never
/// fewer than all but those under way.
fn beginning(order: Order) -> (usize, usize, bool) {
    let mut swarm = swarm(5, order);
    let mut always = true;
    loop {
        swarm.sim.run_for(Duration::from_millis(200));
        let come = swarm.status(LEECHER).unwrap().pieces as usize;
        let copy = swarm.disks[LEECHER.index()].read("t").unwrap_or_default();
        let same = |(ours, theirs): &(&[u8], &[u8])| ours == theirs;
        let piece = PIECE as usize;
        let first = copy.chunks(piece).zip(swarm.content.chunks(piece)).take_while(same).count();
        // Each peer has eight requests at the least, of half a piece each, and as many more as it sends in half a second.
        always &= first + 24 >= come;
        if come * 2 >= PIECES {
            return (come, first, always);
        }
    }
}

#[test]
fn in_order_what_has_come_is_a_whole_beginning() {
    let (come, first, always) = beginning(Order::Sequential);
    println!("in order: of {come} pieces the first {first} are whole");
    assert!(always, "{first} of {come}");
    let (come, first, _) = beginning(Order::Rarest);
    assert!(first < come / 2, "{first} of {come}, though nobody asked for it");
}

#[test]
fn what_somebody_waits_for_comes_before_the_rest_wherever_it_is() {
    run_seeds(2, |seed| {
        let mut swarm = swarm(seed, Order::Sequential);
        let handle = swarm.sim.handle(LEECHER);
        // A player that is in the middle, and is then set to somewhere near the end.
        let third = swarm.content.len() as u64 / 3;
        for (range, at_most) in [(third..third + 500_000, 40), (third * 2 + 7..third * 2 + 300_000, 80)] {
            let read = Read { torrent: TorrentId::first(), file: 0, range: range.clone() };
            // What it was at is dropped.
            let other = handle.ask(Read { range: 0..1, ..read.clone() });
            let reading = handle.ask(read);
            drop(other);
            let parts = swarm.sim.block_on(async { reading.collect::<Vec<Bytes>>().await });
            assert!(parts.concat() == swarm.content[range.start as usize..range.end as usize]);
            let come = swarm.status(LEECHER).unwrap().pieces;
            println!(
                "{} bytes at {} were read when {come} of {PIECES} pieces had come",
                range.end - range.start,
                range.start
            );
            assert!(come <= at_most, "{come} pieces");
        }
        swarm.sim.trace()
    });
}
