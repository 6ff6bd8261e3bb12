use super::*;
use crate::storage::MemoryFiles;
use crate::torrent::command::{
    Add, AddPeers, Announced, Announcing, SessionCommand, SessionItem, Source, TorrentId,
};
use crate::torrent::metainfo::SwarmId;
use crate::torrent::session::tests::work;
use crate::torrent::source::SourceKind;
use crate::torrent::tracker::AnnounceReply;
use crate::torrent::wire::{Block, Features, Handshake, PeerMsg};
use crate::torrent::worker::MemoryTorrents;
use crate::torrent::{CreateOptions, Metainfo, PeerName, SessionConfig};
use std::net::SocketAddr;

use p2p_core::foreign::TcpPeer;
use p2p_core::{Link, Script};

/// A session that seeds some torrents.
struct Seed {
    script: Script<Session<TcpPeer>>,
    worker: MemoryTorrents,
    swarms: Vec<SwarmId>,
    next: u64,
}

impl Seed {
    fn new(config: SessionConfig, torrents: u8) -> Seed {
        let mut files = MemoryFiles::default();
        let mut seed = Seed {
            script: Script::new(Session::new(config, Some(1))),
            worker: MemoryTorrents::new(files.clone()),
            swarms: Vec::new(),
            next: 0,
        };
        for torrent in 0..torrents {
            let name = torrent.to_string();
            files.put(&name, vec![torrent; 50_000]);
            let trackers = vec![vec!["http://192.0.2.9/announce".into()]];
            let options = CreateOptions { trackers, ..CreateOptions::default() };
            let metainfo = Metainfo::create(&mut files, name.as_ref(), &options).unwrap();
            seed.swarms.extend(metainfo.info().hashes().swarms().take(1));
            seed.script.command(SessionCommand::Add(Add::new(Source::Metainfo(metainfo), "")));
        }
        work(&mut seed.script, &mut seed.worker);
        seed
    }

    /// A tracker says where it sees the session.
    fn is_seen_at(&mut self, ip: [u8; 4]) {
        self.script.command(SessionCommand::Announcing(Announcing(SourceKind::Trackers)));
        let items = self.script.items().into_iter();
        let number = items.filter_map(|(_, item)| match item {
            SessionItem::Announce(wanted) => Some(wanted.number),
            _ => None,
        });
        let result = Ok(AnnounceReply { external: Some(ip.into()), ..AnnounceReply::default() });
        let number = number.last().unwrap();
        self.script.command(SessionCommand::Announced(Announced { number, result }));
    }

    /// Somebody connects from there: whether it is let in.
    fn connects(&mut self, ip: [u8; 4], torrent: usize) -> Option<TcpPeer> {
        self.next += 1;
        let peer = TcpPeer::Accepted { addr: SocketAddr::from((ip, 5)), number: self.next };
        self.script.link(peer, Link::Up);
        let mut name = [0; 20];
        name[..8].copy_from_slice(&self.next.to_be_bytes());
        let (swarm, features) = (self.swarms[torrent], Features { fast: true, ..Features::default() });
        self.script.message(peer, PeerMsg::Handshake(Handshake { swarm, peer: PeerName(name), features }));
        self.script.machine().conns.contains_key(&peer).then_some(peer)
    }

    /// All say that they are there, which is all that they do.
    fn waits(&mut self, seconds: u64) {
        for _ in 0..seconds / 10 {
            let all: Vec<TcpPeer> = self.script.machine().conns.keys().copied().collect();
            all.into_iter().for_each(|peer| self.script.message(peer, PeerMsg::KeepAlive));
            self.script.advance(Duration::from_secs(10));
        }
    }

    /// A peer gets a block.
    fn gets(&mut self, peer: TcpPeer) {
        self.script.message(peer, PeerMsg::Interested);
        let block = Block { piece: 0, begin: 0, length: 16384 };
        self.script.sent();
        self.script.message(peer, PeerMsg::Request(block));
        work(&mut self.script, &mut self.worker);
        let sent = self.script.sent();
        assert!(sent.iter().any(|(to, msg)| *to == peer && matches!(msg, PeerMsg::Piece { .. })), "{sent:?}");
    }

    fn dialled(&self) -> usize {
        self.script.machine().conns.values().filter(|conn| conn.dialled).count()
    }
}

#[test]
fn a_dozen_hosts_that_do_nothing_keep_nobody_out_for_longer_than_a_minute() {
    let mut seed = Seed::new(SessionConfig::default(), 1);
    let honest = seed.connects([198, 51, 100, 1], 0).unwrap();
    let flood: Vec<TcpPeer> =
        (0..13).flat_map(|n| [n; 4]).filter_map(|n| seed.connects([203, 0, n, 1], 0)).collect();
    assert_eq!(flood.len(), 49);
    assert_eq!(seed.connects([192, 0, 2, 1], 0), None, "they may have something to do");
    seed.waits(60);
    seed.gets(honest);
    for n in 1..=30 {
        let newcomer = seed.connects([192, 0, n, 1], 0).unwrap_or_else(|| panic!("number {n}"));
        assert!(seed.script.machine().conns.contains_key(&newcomer));
        assert_eq!(seed.script.machine().conns.len(), 50);
    }
    let conns = &seed.script.machine().conns;
    assert!(conns.contains_key(&honest), "it has something to do");
    // They were four of each, and are two, or one: a share like that of others. So they do not come back for more.
    assert_eq!(flood.iter().filter(|peer| conns.contains_key(peer)).count(), 19);
    seed.waits(60);
    assert_eq!(seed.connects([203, 0, 1, 2], 0), None);
}

#[test]
fn connections_of_one_subnet_do_not_put_each_other_out() {
    let mut seed = Seed::new(SessionConfig { peers: 8, ..SessionConfig::default() }, 1);
    (0..8).for_each(|n| assert!(seed.connects([203, 0, 113, n], 0).is_some()));
    seed.waits(120);
    assert_eq!(seed.connects([203, 0, 113, 9], 0), None);
}

#[test]
fn however_many_connect_some_are_dialled() {
    let mut seed = Seed::new(SessionConfig { peers: 20, ..SessionConfig::default() }, 1);
    (0..20).for_each(|n| assert!(seed.connects([203, n, 0, 1], 0).is_some()));
    let peers = (0..20).map(|n| SocketAddr::from(([192, 0, n, 1], 6881))).collect();
    seed.script.command(SessionCommand::AddPeers(AddPeers { torrent: TorrentId::first(), peers }));
    assert_eq!(seed.dialled(), 0, "who has come may have something to do");
    seed.waits(60);
    assert_eq!(
        (seed.dialled(), seed.script.machine().conns.len()),
        (5, 20),
        "a quarter is this end's choice"
    );
}

#[test]
fn one_torrents_guests_keep_nobody_out_of_another() {
    let config = SessionConfig { peers: 30, connections: 40, ..SessionConfig::default() };
    let mut seed = Seed::new(config, 3);
    for torrent in 0..2 {
        (0..20).for_each(|n| assert!(seed.connects([203, 0, n, torrent as u8], torrent).is_some()));
    }
    assert_eq!(seed.connects([192, 0, 2, 1], 2), None);
    seed.waits(60);
    assert!(seed.connects([192, 0, 2, 1], 2).is_some());
    assert_eq!(seed.script.machine().conns.len(), 40);
}

#[test]
fn of_subnets_with_as_many_those_of_the_highest_priority_stay() {
    let mut seed = Seed::new(SessionConfig { peers: 10, ..SessionConfig::default() }, 1);
    let here = [198, 51, 100, 1];
    seed.is_seen_at(here);
    let hosts: Vec<[u8; 4]> = (0..30).map(|n| [203, n, 7, 1]).collect();
    for host in &hosts {
        seed.connects(*host, 0);
        seed.waits(60);
    }
    let priority = |host: &[u8; 4]| priority(SocketAddr::from((here, 1)), SocketAddr::from((*host, 1)));
    let mut best = hosts.clone();
    best.sort_by_key(|host| Reverse(priority(host)));
    let mut stay: Vec<IpAddr> = best[..10].iter().map(|host| IpAddr::from(*host)).collect();
    stay.sort_unstable();
    let there: Vec<IpAddr> = seed.script.machine().conns.keys().map(|peer| peer.addr().ip()).collect();
    assert_eq!(there, stay);
}
