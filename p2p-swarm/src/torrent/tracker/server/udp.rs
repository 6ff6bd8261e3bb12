//! A tracker over UDP (BEP 15).
//!
//! A connection's number is a keyed hash of the address that asks for it and of the time: who shows it gets what is sent
//! to that address, and nothing is kept for it. Until then nothing is answered that is longer than what was asked.

use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::{Cx, NoJob, OpId, Protocol};
use p2p_dht::mainline::Secret;

use super::{CountPeers, SWEEP, Shared};
use crate::torrent::tracker::{Event, TrackerCounts, UdpMsg};

/// How often the time in connections' numbers moves on. A minute; one is good for two to three (BEP 15: two).
const PERIOD: Duration = Duration::from_secs(60);
/// Bytes of peers in one answer: what every path carries.
const ROOM: usize = 1280 - 48 - 20;

/// The machine of a tracker that answers over UDP; see [`Tracker`](super::Tracker).
#[derive(Debug)]
pub struct UdpTracker {
    swarms: Shared,
    key: [u8; 32],
}

impl UdpTracker {
    pub(super) fn new(swarms: Shared, secret: &Secret) -> UdpTracker {
        UdpTracker { swarms, key: secret.key("p2p-swarm tracker: connections over UDP") }
    }

    fn connection(&self, cx: &Cx<'_, Self>, to: SocketAddr, age: u64) -> u64 {
        // More than it is, so that there are some before the first.
        let period = 2 + cx.now().as_nanos() / PERIOD.as_nanos() as u64 - age;
        let mut hash = blake3::Hasher::new_keyed(&self.key);
        hash.update(&period.to_be_bytes());
        match to.ip().to_canonical() {
            std::net::IpAddr::V4(ip) => hash.update(&ip.octets()),
            std::net::IpAddr::V6(ip) => hash.update(&ip.octets()),
        };
        hash.update(&to.port().to_be_bytes());
        let mut number = [0; 8];
        hash.finalize_xof().fill(&mut number);
        u64::from_be_bytes(number)
    }

    /// Whether it was given to this address, and lately.
    fn is_known(&self, cx: &Cx<'_, Self>, from: SocketAddr, connection: u64) -> bool {
        (0..3).any(|age| self.connection(cx, from, age) == connection)
    }
}

impl Protocol for UdpTracker {
    type Peer = SocketAddr;
    type Msg = UdpMsg;
    /// Peers may have fallen silent.
    type Timer = ();
    type Command = CountPeers;
    type Item = ();
    type Outcome = TrackerCounts;
    type Event = ();
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.swarms.start(cx);
        cx.set_timer(SWEEP, ());
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: SocketAddr, msg: UdpMsg) {
        match msg {
            UdpMsg::Connect { transaction } => {
                let connection = self.connection(cx, from, 0);
                cx.send(from, UdpMsg::Connected { transaction, connection });
            }
            UdpMsg::Announce { connection, transaction, announce, .. } => {
                if !self.is_known(cx, from, connection) {
                    return;
                }
                let (now, ip) = (self.swarms.now(cx), from.ip().to_canonical());
                let most = ROOM / if ip.is_ipv4() { 6 } else { 18 };
                let fits = |peer: &SocketAddr| peer.is_ipv4() == ip.is_ipv4();
                let reply = self.swarms.lock().announce(now, ip, &announce, fits, most, cx.rng());
                let msg = match reply {
                    Ok(reply) => UdpMsg::Announced {
                        transaction,
                        interval: reply.interval,
                        leechers: reply.leechers.unwrap_or_default(),
                        seeders: reply.seeders.unwrap_or_default(),
                        peers: if announce.event == Event::Stopped { Vec::new() } else { reply.peers },
                    },
                    Err(why) => UdpMsg::Error { transaction, message: why.into() },
                };
                cx.send(from, msg);
            }
            UdpMsg::Scrape { connection, transaction, swarms } => {
                if self.is_known(cx, from, connection) {
                    let known = self.swarms.lock();
                    let stand = |swarm| known.scrape(swarm).unwrap_or_default();
                    let swarms = swarms.iter().map(stand).collect();
                    cx.send(from, UdpMsg::Scraped { transaction, swarms });
                }
            }
            // The codec gives none of these to a tracker.
            UdpMsg::Connected { .. }
            | UdpMsg::Announced { .. }
            | UdpMsg::Scraped { .. }
            | UdpMsg::Error { .. } => {}
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, (): ()) {
        let now = self.swarms.now(cx);
        self.swarms.lock().sweep(now);
        cx.set_timer(SWEEP, ());
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, _: CountPeers) {
        let counts = self.swarms.lock().counts();
        cx.finish(op, counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrent::tracker::{Announce, Tracker, TrackerConfig, UdpCodec};
    use crate::torrent::wire::PeerName;
    use p2p_core::Script;
    use p2p_core::foreign::PacketCodec;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn connect(script: &mut Script<UdpTracker>, from: SocketAddr) -> u64 {
        script.message(from, UdpMsg::Connect { transaction: 1 });
        match script.sent()[..] {
            [(to, UdpMsg::Connected { transaction: 1, connection })] if to == from => connection,
            ref other => panic!("{other:?}"),
        }
    }

    fn announce(connection: u64) -> UdpMsg {
        let announce = Announce {
            swarm: [1; 20],
            peer: PeerName([2; 20]),
            port: 1,
            uploaded: 0,
            downloaded: 0,
            left: 1,
            event: Event::Started,
            key: 0,
            want: None,
            tracker_id: None,
        };
        UdpMsg::Announce { connection, transaction: 2, announce, path: String::new() }
    }

    #[test]
    fn who_has_not_shown_where_it_is_gets_nothing_and_costs_nothing() {
        let tracker = Tracker::new(TrackerConfig::default(), Secret::new([1; 32]));
        let mut script = Script::new(tracker.udp);
        let (here, there) = (addr("192.0.2.1:5"), addr("192.0.2.2:5"));
        let connection = connect(&mut script, here);
        for (from, connection) in
            [(there, connection), (addr("192.0.2.1:6"), connection), (here, connection ^ 1)]
        {
            script.message(from, announce(connection));
            script.message(from, UdpMsg::Scrape { connection, transaction: 3, swarms: vec![[1; 20]; 74] });
            assert_eq!(script.sent(), []);
        }
        assert_eq!(script.machine().swarms.lock().counts(), TrackerCounts::default());
        let bytes = |codec: UdpCodec, msg: UdpMsg| {
            let (mut codec, mut packet) = (codec, Vec::new());
            codec.encode(here, msg, &mut packet);
            packet.len()
        };
        let asked = bytes(UdpCodec::client(), UdpMsg::Connect { transaction: 1 });
        assert!(bytes(UdpCodec::server(), UdpMsg::Connected { transaction: 1, connection }) <= asked);
        script.message(here, announce(connection));
        assert!(matches!(script.sent()[..], [(_, UdpMsg::Announced { .. })]));
    }

    #[test]
    fn a_connection_lives_two_to_three_minutes() {
        let tracker = Tracker::new(TrackerConfig::default(), Secret::new([1; 32]));
        let mut script = Script::new(tracker.udp);
        let here = addr("192.0.2.1:5");
        for wait in [0, 30, 59] {
            script.advance(Duration::from_secs(wait));
            let connection = connect(&mut script, here);
            script.advance(Duration::from_secs(120));
            script.message(here, announce(connection));
            assert_eq!(script.sent().len(), 1, "BEP 15: two minutes");
            script.advance(Duration::from_secs(60));
            script.message(here, announce(connection));
            assert_eq!(script.sent().len(), 0);
        }
    }

    #[test]
    fn an_answer_fits_a_packet_and_has_addresses_of_its_version() {
        let tracker = Tracker::new(TrackerConfig::default(), Secret::new([1; 32]));
        let mut script = Script::new(tracker.udp);
        for n in 0..600 {
            let from = match n % 2 {
                0 => SocketAddr::from(([10, 0, (n / 256) as u8, n as u8], 5)),
                _ => SocketAddr::from(([0x2001, 0xdb8, 0, n, 0, 0, 0, 1], 5)),
            };
            let connection = connect(&mut script, from);
            let mut msg = announce(connection);
            let UdpMsg::Announce { announce, .. } = &mut msg else { panic!() };
            announce.want = Some(1000);
            script.message(from, msg);
            let [(_, msg)] = &script.sent()[..] else { panic!() };
            let UdpMsg::Announced { peers, .. } = msg else { panic!() };
            assert!(peers.iter().all(|peer| peer.is_ipv4() == from.is_ipv4()));
            let mut packet = Vec::new();
            UdpCodec::server().encode(from, msg.clone(), &mut packet);
            assert!(packet.len() <= 1232 && (n < 550 || peers.len() > 60), "{}", packet.len());
        }
    }
}
