//! Whom a session tells of whom (BEP 11), and how it makes connections.

use super::*;
use crate::storage::MemoryFiles;
use crate::torrent::command::{Add, SessionCommand, Source};
use crate::torrent::mse::Mse;
use crate::torrent::session::tests::work;
use crate::torrent::worker::MemoryTorrents;
use crate::torrent::{CreateOptions, Metainfo, PeerName, SessionConfig};
use std::net::IpAddr;

use crate::utp::StreamPeer;

use p2p_core::foreign::TcpPeer;
use p2p_core::{Down, Link, Script};
use p2p_dht::mainline::Secret;

const PEERS: u16 = 70;

fn addr(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n as u8], 1000 + n))
}

/// A session with a torrent of which it has nothing, and is told of peers to dial.
fn begun<P: Addressed>(
    session: Session<P>,
    options: &CreateOptions,
    peers: Vec<SocketAddr>,
) -> (Script<Session<P>>, SwarmId) {
    let mut files = MemoryFiles::default();
    files.put("t", vec![1; 100_000]);
    let metainfo = Metainfo::create(&mut files, "t".as_ref(), options).unwrap();
    let mut script = Script::new(session);
    let swarm = metainfo.info().hashes().swarms().next().unwrap();
    let torrent = Source::Metainfo(metainfo);
    script.command(SessionCommand::Add(Add { peers, ..Add::new(torrent, "") }));
    let mut worker = MemoryTorrents::new(MemoryFiles::default());
    work(&mut script, &mut worker);
    (script, swarm)
}

struct Hub {
    script: Script<Session<TcpPeer>>,
    swarm: SwarmId,
}

impl Hub {
    fn new(mse: Option<Encryption>, peers: Vec<SocketAddr>) -> Hub {
        let config = SessionConfig { peers: 100, ..SessionConfig::default() };
        let session = match mse {
            Some(policy) => Session::encrypted(config, Some(1), Mse::new(policy, &Secret::new([1; 32]))),
            None => Session::new(config, Some(1)),
        };
        let (script, swarm) = begun(session, &CreateOptions::default(), peers);
        Hub { script, swarm }
    }

    /// As [`Hub::new`], of such a session with such a torrent.
    fn with(session: Session<TcpPeer>, options: &CreateOptions, peers: Vec<SocketAddr>) -> Hub {
        let (script, swarm) = begun(session, options, peers);
        Hub { script, swarm }
    }

    /// A peer that has connected, says where it listens, and wants to hear of others.
    fn comes(&mut self, n: u16) -> TcpPeer {
        // Who listens by both versions sees an address of IPv4 as one of IPv6.
        let ip = match addr(n).ip() {
            IpAddr::V4(four) if n.is_multiple_of(5) => four.to_ipv6_mapped().into(),
            ip => ip,
        };
        let peer = TcpPeer::Accepted { addr: SocketAddr::new(ip, 5), number: n.into() };
        self.script.link(peer, Link::Up);
        let features = Features { extended: true, fast: true, ..Features::default() };
        let name = PeerName([n as u8; 20]);
        self.script.message(peer, PeerMsg::Handshake(Handshake { swarm: self.swarm, peer: name, features }));
        if n.is_multiple_of(2) {
            self.script.message(peer, PeerMsg::HaveAll);
        }
        let port = Some(addr(n).port());
        let encrypts = n.is_multiple_of(3);
        let extended = ExtendedHandshake { pex: Some(true), port, encrypts, ..ExtendedHandshake::default() };
        self.script.message(peer, PeerMsg::Extended(extended));
        peer
    }

    /// What each is told.
    fn told(&mut self) -> Vec<(TcpPeer, PexMsg)> {
        let sent = self.script.sent().into_iter();
        sent.filter_map(|(peer, msg)| if let PeerMsg::Pex(pex) = msg { Some((peer, pex)) } else { None })
            .collect()
    }
}

#[test]
fn who_is_there_is_told_fifty_at_a_time_and_once_a_minute() {
    let mut hub = Hub::new(None, Vec::new());
    let peers: Vec<TcpPeer> = (1..=PEERS).map(|n| hub.comes(n)).collect();
    hub.script.advance(Duration::from_secs(1));
    let first = hub.told();
    assert_eq!(first.len(), usize::from(PEERS), "each once");
    for (_, pex) in &first {
        assert_eq!((pex.added.len(), pex.dropped.len()), (PEX_AT_ONCE, 0));
        for told in &pex.added {
            let n = told.addr.port() - 1000;
            assert_eq!((told.addr, told.reachable), (addr(n), false));
            assert_eq!((told.seed, told.encrypts), (n.is_multiple_of(2), n.is_multiple_of(3)));
        }
    }
    // Some go meanwhile.
    for peer in &peers[..30] {
        hub.script.link(*peer, Link::Down(Down::Closed));
    }
    hub.script.advance(Duration::from_secs(58));
    assert_eq!(hub.told(), []);
    hub.script.advance(Duration::from_secs(3));
    let second = hub.told();
    assert_eq!(second.len(), usize::from(PEERS) - 30);
    for (peer, pex) in second {
        let before = &first.iter().find(|(other, _)| *other == peer).unwrap().1;
        let known = |addr: &SocketAddr| before.added.iter().any(|peer| peer.addr == *addr);
        assert!(pex.added.iter().all(|peer| !known(&peer.addr)), "nobody twice");
        assert!(pex.dropped.iter().all(known), "nobody who was not told of");
        let gone = (1..=30).filter(|n| known(&addr(*n))).count();
        assert_eq!(pex.dropped.len(), gone, "everybody who is gone");
    }
}

#[test]
fn who_tells_of_others_all_the_time_is_not_listened_to() {
    let mut hub = Hub::new(None, Vec::new());
    let peer = hub.comes(1);
    hub.script.sent();
    let tell = |hub: &mut Hub, n: u16| {
        let added =
            vec![PexPeer { addr: addr(n), seed: false, reachable: true, encrypts: false, utp: false }];
        hub.script.message(peer, PeerMsg::Pex(PexMsg { added, dropped: Vec::new() }));
        let sent = hub.script.sent();
        sent.iter().any(|(to, msg)| to.addr() == addr(n) && matches!(msg, PeerMsg::Handshake(_)))
    };
    assert!(tell(&mut hub, 2));
    assert!(!tell(&mut hub, 3));
    hub.script.advance(Duration::from_secs(45));
    hub.script.sent();
    assert!(tell(&mut hub, 4), "a minute is not the same everywhere");
}

/// How the next connection is begun: whether it is encrypted.
fn dialled(script: &mut Script<Session<TcpPeer>>) -> Option<(TcpPeer, bool)> {
    let sent = script.sent();
    let (peer, _) = sent.iter().find(|(_, msg)| matches!(msg, PeerMsg::Handshake(_)))?;
    let encrypts = matches!(sent.first(), Some((first, PeerMsg::Encrypt(_))) if first == peer);
    Some((*peer, encrypts))
}

#[test]
fn who_does_not_understand_what_is_encrypted_is_spoken_to_in_the_clear() {
    let fails = |script: &mut Script<Session<TcpPeer>>, peer: TcpPeer, why: Down| {
        if why == Down::Closed {
            script.link(peer, Link::Up);
        }
        script.link(peer, Link::Down(why));
        script.sent();
        script.advance(Duration::from_secs(1));
    };
    let mut hub = Hub::new(Some(Encryption::Preferred), vec![addr(1)]);
    let (first, encrypted) = dialled(&mut hub.script).unwrap();
    assert!(encrypted);
    fails(&mut hub.script, first, Down::Closed);
    let (second, encrypted) = dialled(&mut hub.script).expect("at once");
    assert!(!encrypted);
    fails(&mut hub.script, second, Down::Closed);
    assert_eq!(dialled(&mut hub.script), None, "it waits as others do");
    hub.script.advance(Duration::from_secs(5));
    assert!(dialled(&mut hub.script).unwrap().1);

    let mut hub = Hub::new(Some(Encryption::Preferred), vec![addr(1)]);
    let (first, _) = dialled(&mut hub.script).unwrap();
    fails(&mut hub.script, first, Down::Unreachable);
    assert_eq!(dialled(&mut hub.script), None, "nobody was there who could have understood it");
    for (policy, encrypts) in [(Encryption::Required, true), (Encryption::Off, false)] {
        let mut hub = Hub::new(Some(policy), vec![addr(1)]);
        for _ in 0..3 {
            let (peer, encrypted) = dialled(&mut hub.script).unwrap();
            assert_eq!(encrypted, encrypts, "{policy:?}");
            fails(&mut hub.script, peer, Down::Closed);
            hub.script.advance(Duration::from_secs(60));
        }
    }
}

fn both() -> SessionConfig {
    SessionConfig { carriers: Carriers::Both, ..SessionConfig::default() }
}

fn accepted(n: u16) -> TcpPeer {
    TcpPeer::Accepted { addr: addr(n), number: n.into() }
}

/// A peer that has connected over TCP or uTP says who it is.
fn meets(script: &mut Script<Session<StreamPeer>>, swarm: SwarmId, peer: StreamPeer, n: u16) {
    script.link(peer, Link::Up);
    let features = Features { extended: true, fast: true, ..Features::default() };
    script.message(peer, PeerMsg::Handshake(Handshake { swarm, peer: PeerName([n as u8; 20]), features }));
    let port = Some(addr(n).port());
    script
        .message(peer, PeerMsg::Extended(ExtendedHandshake { pex: Some(true), port, ..Default::default() }));
}

/// To whom connections are begun.
fn begins(script: &mut Script<Session<StreamPeer>>) -> Vec<(Carrier, SocketAddr)> {
    let sent = script.sent().into_iter();
    let handshakes = sent.filter(|(_, msg)| matches!(msg, PeerMsg::Handshake(_)));
    handshakes
        .filter(|(peer, _)| peer.dialled() == Some(true))
        .map(|(peer, _)| (peer.carrier(), peer.addr()))
        .collect()
}

#[test]
fn utp_is_tried_first_and_tcp_at_once_where_nobody_answers() {
    let (mut script, _) = begun(Session::new(both(), Some(1)), &CreateOptions::default(), vec![addr(1)]);
    for (number, carrier) in [Carrier::Utp, Carrier::Tcp, Carrier::Utp].into_iter().enumerate() {
        assert_eq!(begins(&mut script), [(carrier, addr(1))]);
        script.link(StreamPeer::dial(carrier, addr(1), number as u64 + 1), Link::Down(Down::Unreachable));
        // After both have failed it waits as others do.
        script.advance(Duration::from_secs(if carrier == Carrier::Utp { 1 } else { 5 }));
    }
    let only = |carriers| SessionConfig { carriers, ..SessionConfig::default() };
    for (config, carrier) in [(only(Carriers::Tcp), Carrier::Tcp), (only(Carriers::Utp), Carrier::Utp)] {
        let (mut script, _) = begun(Session::new(config, Some(1)), &CreateOptions::default(), vec![addr(1)]);
        assert_eq!(begins(&mut script), [(carrier, addr(1))]);
        script.link(StreamPeer::dial(carrier, addr(1), 1), Link::Down(Down::Unreachable));
        script.advance(Duration::from_secs(7));
        assert_eq!(begins(&mut script), [(carrier, addr(1))]);
    }
}

/// BEP 5: nodes of the DHT are told to those who have one, and heard of from each peer once.
#[test]
fn peers_tell_each_other_of_their_nodes_of_the_dht() {
    for (has_one, private) in [(true, false), (false, false), (true, true)] {
        let config = SessionConfig { dht_port: Some(4444), ..SessionConfig::default() };
        let options = CreateOptions { private, ..CreateOptions::default() };
        let mut hub = Hub::with(Session::new(config, Some(1)), &options, Vec::new());
        let peer = TcpPeer::Accepted { addr: addr(1), number: 1 };
        let features = Features { dht: has_one, ..Features::default() };
        let hello = Handshake { swarm: hub.swarm, peer: PeerName([9; 20]), features };
        hub.script.message(peer, PeerMsg::Handshake(hello));
        let told = has_one && !private;
        let sent = hub.script.sent();
        assert_eq!(sent.contains(&(peer, PeerMsg::Port(4444))), told, "{sent:?}");
        let offers =
            |msg: &PeerMsg| matches!(msg, PeerMsg::Handshake(Handshake { features, .. }) if features.dht);
        assert_eq!(sent.iter().any(|(_, msg)| offers(msg)), !private);
        hub.script.events();
        [0, 5555, 6666].into_iter().for_each(|port| hub.script.message(peer, PeerMsg::Port(port)));
        let node = SessionEvent::DhtNode(SocketAddr::new(addr(1).ip(), 5555));
        assert_eq!(hub.script.events(), if told { vec![node] } else { Vec::new() });
    }
}

#[test]
fn who_speaks_utp_is_told_and_believed() {
    let (mut script, swarm) = begun(Session::new(both(), Some(1)), &CreateOptions::default(), vec![addr(3)]);
    let (first, second) = (StreamPeer::Utp(accepted(1)), StreamPeer::Tcp(accepted(2)));
    meets(&mut script, swarm, first, 1);
    meets(&mut script, swarm, second, 2);
    assert_eq!(begins(&mut script), [(Carrier::Utp, addr(3))]);
    script.advance(Duration::from_secs(1));
    let told: Vec<_> = script
        .sent()
        .into_iter()
        .filter_map(|(peer, msg)| match msg {
            PeerMsg::Pex(pex) => Some((peer, pex.added.iter().map(|peer| (peer.addr, peer.utp)).collect())),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(second, vec![(addr(1), true)]), (first, vec![(addr(2), false)])]);
    // It did not answer over uTP, but somebody has it from somebody that it speaks that.
    script.link(StreamPeer::dial(Carrier::Utp, addr(3), 1), Link::Down(Down::Unreachable));
    let named = PexPeer { addr: addr(3), seed: false, reachable: true, encrypts: false, utp: true };
    script.message(first, PeerMsg::Pex(PexMsg { added: vec![named], dropped: Vec::new() }));
    assert_eq!(begins(&mut script), [(Carrier::Utp, addr(3))]);
}

#[test]
fn what_is_said_against_a_host_is_said_of_its_64_by_ipv6() {
    let account = |addr: &str| {
        let peer = TcpPeer::Accepted { addr: addr.parse().unwrap(), number: 1 };
        Session::account(&peer, None)
    };
    assert_eq!(account("[2001:db8:1:2::1]:5"), account("[2001:db8:1:2:3:4:5:6]:7"));
    assert_ne!(account("[2001:db8:1:2::1]:5"), account("[2001:db8:1:3::1]:5"));
    assert_eq!(account("192.0.2.1:5"), account("[::ffff:192.0.2.1]:6"));
    assert_ne!(account("192.0.2.1:5"), account("192.0.2.2:5"));
    assert_ne!(account("127.0.0.1:5"), account("127.0.0.1:6"), "of this machine each port is somebody");
}

#[test]
fn a_name_is_one_peers_only_where_it_is() {
    // Whichever of the two names is lower.
    for name in [PeerName([0; 20]), PeerName([255; 20])] {
        let mut hub = Hub::new(None, vec![addr(1)]);
        let (dialled, _) = dialled(&mut hub.script).unwrap();
        let hello = |hub: &Hub| {
            let features = Features::default();
            PeerMsg::Handshake(Handshake { swarm: hub.swarm, peer: name, features })
        };
        // Somebody else has heard of the name, and connects.
        let thief = accepted(2);
        hub.script.message(thief, hello(&hub));
        hub.script.message(dialled, hello(&hub));
        assert_eq!(hub.script.machine().conns.keys().copied().collect::<Vec<_>>(), [dialled, thief]);
        let again = accepted(3);
        hub.script.message(again, hello(&hub));
        assert_eq!(hub.script.machine().conns.len(), 3);
    }
}
