//! The UDP wire (BEP 15), with a URL's path behind an announce (BEP 41).
//!
//! Whether addresses have four bytes or sixteen is told by the packet that brings them: by its sender's.

use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::foreign::{Malformed, PacketCodec};

use super::announce::{MAX_INTERVAL, text};
use super::{Announce, Event, MAX_PEERS, Scraped};
use crate::torrent::address::{put_compact, v4, v6};
use crate::torrent::metainfo::SwarmId;
use crate::torrent::wire::PeerName;

/// The most swarms that are asked about at once (BEP 15). 74: a packet of 1,500 bytes.
pub const MAX_SCRAPE: usize = 74;
/// What a request to connect begins with.
const MAGIC: u64 = 0x0417_2710_1980;
/// The longest path that is sent or taken, in bytes.
const MAX_PATH: usize = 1000;

mod action {
    pub(super) const CONNECT: u32 = 0;
    pub(super) const ANNOUNCE: u32 = 1;
    pub(super) const SCRAPE: u32 = 2;
    pub(super) const ERROR: u32 = 3;
}

/// One packet. A transaction is a number by which a client knows the answer to its question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpMsg {
    /// A client asks for a connection; the answer is [`UdpMsg::Connected`].
    Connect {
        /// The transaction.
        transaction: u32,
    },
    /// A client announces itself; the answer is [`UdpMsg::Announced`].
    Announce {
        /// The connection.
        connection: u64,
        /// The transaction.
        transaction: u32,
        /// What it says; the tracker's name for it is not part of it.
        announce: Announce,
        /// The tracker's path, as its URL has it.
        path: String,
    },
    /// A client asks how swarms stand; the answer is [`UdpMsg::Scraped`].
    Scrape {
        /// The connection.
        connection: u64,
        /// The transaction.
        transaction: u32,
        /// Which.
        swarms: Vec<SwarmId>,
    },
    /// A connection, which shows that its client is where it says.
    Connected {
        /// The transaction.
        transaction: u32,
        /// The connection.
        connection: u64,
    },
    /// Who else is there.
    Announced {
        /// The transaction.
        transaction: u32,
        /// When to announce again.
        interval: Duration,
        /// How many of the swarm have not everything.
        leechers: u32,
        /// How many have.
        seeders: u32,
        /// Where peers listen.
        peers: Vec<SocketAddr>,
    },
    /// How swarms stand, in the order that they were asked about.
    Scraped {
        /// The transaction.
        transaction: u32,
        /// Each.
        swarms: Vec<Scraped>,
    },
    /// The tracker says no.
    Error {
        /// The transaction.
        transaction: u32,
        /// Why.
        message: String,
    },
}

/// Packets, at one end.
#[derive(Clone, Copy, Debug)]
pub struct UdpCodec {
    server: bool,
}

/// Reads a packet from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let short = || Malformed("a packet that is cut short".into());
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(|bytes| u16::from_be_bytes(*bytes))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(|bytes| u32::from_be_bytes(*bytes))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(|bytes| u64::from_be_bytes(*bytes))
    }

    /// BEP 41: options, of which URLData is a piece of the path.
    fn path(mut self) -> Result<String, Malformed> {
        let mut path = Vec::new();
        while let [kind, rest @ ..] = self.0 {
            self.0 = rest;
            match kind {
                0 => break,
                1 => {}
                kind => {
                    let [length] = *self.take()?;
                    let cut = || Malformed("an option that is cut short".into());
                    let (data, rest) = self.0.split_at_checked(length.into()).ok_or_else(cut)?;
                    self.0 = rest;
                    if *kind == 2 && path.len() + data.len() <= MAX_PATH {
                        path.extend_from_slice(data);
                    }
                }
            }
        }
        String::from_utf8(path).map_err(|_| Malformed("a path that is not text".into()))
    }
}

fn unknown(action: u32) -> Malformed {
    Malformed(format!("a packet of an unknown kind, {action}"))
}

impl UdpCodec {
    /// The client's end.
    pub const fn client() -> UdpCodec {
        UdpCodec { server: false }
    }

    /// The tracker's end.
    pub const fn server() -> UdpCodec {
        UdpCodec { server: true }
    }

    fn request(packet: &[u8]) -> Result<UdpMsg, Malformed> {
        let mut reader = Reader(packet);
        let connection = reader.u64()?;
        let (action, transaction) = (reader.u32()?, reader.u32()?);
        match action {
            action::CONNECT if connection == MAGIC => Ok(UdpMsg::Connect { transaction }),
            action::ANNOUNCE => {
                let (swarm, peer) = (*reader.take()?, PeerName(*reader.take()?));
                let (downloaded, left, uploaded) = (reader.u64()?, reader.u64()?, reader.u64()?);
                let event = match reader.u32()? {
                    1 => Event::Completed,
                    2 => Event::Started,
                    3 => Event::Stopped,
                    _ => Event::Regular,
                };
                // Where it says that it is: what the packet says counts.
                let _: u32 = reader.u32()?;
                let (key, want, port) = (reader.u32()?, reader.u32()?, reader.u16()?);
                let want = i32::try_from(want).ok().map(|_| want);
                let announce = Announce {
                    swarm,
                    peer,
                    port,
                    uploaded,
                    downloaded,
                    left,
                    event,
                    key,
                    want,
                    tracker_id: None,
                };
                Ok(UdpMsg::Announce { connection, transaction, announce, path: reader.path()? })
            }
            action::SCRAPE => {
                let swarms = reader.0.as_chunks().0.iter().take(MAX_SCRAPE).copied().collect();
                Ok(UdpMsg::Scrape { connection, transaction, swarms })
            }
            action => Err(unknown(action)),
        }
    }

    fn reply(from: SocketAddr, packet: &[u8]) -> Result<UdpMsg, Malformed> {
        let mut reader = Reader(packet);
        let (action, transaction) = (reader.u32()?, reader.u32()?);
        match action {
            action::CONNECT => Ok(UdpMsg::Connected { transaction, connection: reader.u64()? }),
            action::ANNOUNCE => {
                let interval = Duration::from_secs(reader.u32()?.into()).min(MAX_INTERVAL);
                let (leechers, seeders) = (reader.u32()?, reader.u32()?);
                let mut peers: Vec<SocketAddr> = match from.ip().to_canonical().is_ipv4() {
                    true => reader.0.as_chunks().0.iter().map(v4).collect(),
                    false => reader.0.as_chunks().0.iter().map(v6).collect(),
                };
                peers.truncate(MAX_PEERS);
                Ok(UdpMsg::Announced { transaction, interval, leechers, seeders, peers })
            }
            action::SCRAPE => {
                let mut swarms = Vec::new();
                while swarms.len() < MAX_SCRAPE && reader.0.len() >= 12 {
                    let (seeders, completed, leechers) = (reader.u32()?, reader.u32()?, reader.u32()?);
                    swarms.push(Scraped { seeders, leechers, completed });
                }
                Ok(UdpMsg::Scraped { transaction, swarms })
            }
            action::ERROR => Ok(UdpMsg::Error { transaction, message: text(reader.0) }),
            action => Err(unknown(action)),
        }
    }
}

impl PacketCodec for UdpCodec {
    type Msg = UdpMsg;

    fn decode(&mut self, from: SocketAddr, packet: &[u8]) -> Result<UdpMsg, Malformed> {
        match self.server {
            true => UdpCodec::request(packet),
            false => UdpCodec::reply(from, packet),
        }
    }

    fn encode(&mut self, to: SocketAddr, msg: UdpMsg, packet: &mut Vec<u8>) {
        let head = |packet: &mut Vec<u8>, connection: Option<u64>, action: u32, transaction: u32| {
            packet.extend(connection.map(u64::to_be_bytes).into_iter().flatten());
            packet.extend_from_slice(&action.to_be_bytes());
            packet.extend_from_slice(&transaction.to_be_bytes());
        };
        let numbers = |packet: &mut Vec<u8>, numbers: &[u32]| {
            numbers.iter().for_each(|number| packet.extend_from_slice(&number.to_be_bytes()));
        };
        match msg {
            UdpMsg::Connect { transaction } => head(packet, Some(MAGIC), action::CONNECT, transaction),
            UdpMsg::Announce { connection, transaction, announce, path } => {
                head(packet, Some(connection), action::ANNOUNCE, transaction);
                packet.extend_from_slice(&announce.swarm);
                packet.extend_from_slice(&announce.peer.0);
                for number in [announce.downloaded, announce.left, announce.uploaded] {
                    packet.extend_from_slice(&number.to_be_bytes());
                }
                let event = match announce.event {
                    Event::Regular => 0,
                    Event::Completed => 1,
                    Event::Started => 2,
                    Event::Stopped => 3,
                };
                let want = announce.want.filter(|want| i32::try_from(*want).is_ok()).unwrap_or(u32::MAX);
                numbers(packet, &[event, 0, announce.key, want]);
                packet.extend_from_slice(&announce.port.to_be_bytes());
                let path = &path.as_bytes()[..path.len().min(MAX_PATH)];
                for piece in path.chunks(255) {
                    packet.extend_from_slice(&[2, piece.len() as u8]);
                    packet.extend_from_slice(piece);
                }
            }
            UdpMsg::Scrape { connection, transaction, swarms } => {
                head(packet, Some(connection), action::SCRAPE, transaction);
                swarms.iter().take(MAX_SCRAPE).for_each(|swarm| packet.extend_from_slice(swarm));
            }
            UdpMsg::Connected { transaction, connection } => {
                head(packet, None, action::CONNECT, transaction);
                packet.extend_from_slice(&connection.to_be_bytes());
            }
            UdpMsg::Announced { transaction, interval, leechers, seeders, peers } => {
                head(packet, None, action::ANNOUNCE, transaction);
                numbers(packet, &[interval.as_secs() as u32, leechers, seeders]);
                let four = to.ip().to_canonical().is_ipv4();
                peers.iter().filter(|peer| peer.is_ipv4() == four).for_each(|peer| put_compact(packet, peer));
            }
            UdpMsg::Scraped { transaction, swarms } => {
                head(packet, None, action::SCRAPE, transaction);
                for Scraped { seeders, leechers, completed } in swarms {
                    numbers(packet, &[seeders, completed, leechers]);
                }
            }
            UdpMsg::Error { transaction, message } => {
                head(packet, None, action::ERROR, transaction);
                packet.extend_from_slice(message.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announce() -> Announce {
        Announce {
            swarm: [1; 20],
            peer: PeerName([2; 20]),
            port: 6881,
            uploaded: 3,
            downloaded: 4,
            left: 5,
            event: Event::Started,
            key: 6,
            want: None,
            tracker_id: None,
        }
    }

    fn sent(codec: UdpCodec, to: SocketAddr, msg: UdpMsg) -> Vec<u8> {
        let (mut codec, mut packet) = (codec, Vec::new());
        codec.encode(to, msg, &mut packet);
        packet
    }

    #[test]
    fn an_announce_has_the_places_that_bep_15_gives_it() {
        let there = "192.0.2.1:1".parse().unwrap();
        let msg =
            UdpMsg::Announce { connection: 7, transaction: 8, announce: announce(), path: String::new() };
        let packet = sent(UdpCodec::client(), there, msg);
        assert_eq!(packet.len(), 98);
        assert_eq!(packet[..16], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 8]);
        assert_eq!((&packet[16..36], &packet[36..56]), (&[1; 20][..], &[2; 20][..]));
        assert_eq!(packet[56..64], 4u64.to_be_bytes(), "downloaded");
        assert_eq!(packet[64..72], 5u64.to_be_bytes(), "left");
        assert_eq!(packet[72..80], 3u64.to_be_bytes(), "uploaded");
        assert_eq!(packet[80..98], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 6, 255, 255, 255, 255, 0x1a, 0xe1]);
        let connect = sent(UdpCodec::client(), there, UdpMsg::Connect { transaction: 1 });
        assert_eq!(connect, [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn no_tracker_has_itself_left_alone_for_more_than_a_day() {
        let there = "192.0.2.1:1".parse().unwrap();
        let packet = [[0, 0, 0, 1], [0, 0, 0, 9], [255; 4], [0; 4], [0; 4]].concat();
        let msg = UdpCodec::client().decode(there, &packet);
        assert!(
            matches!(msg, Ok(UdpMsg::Announced { interval, .. }) if interval.as_secs() == 86_400),
            "{msg:?}"
        );
    }

    #[test]
    fn what_is_sent_is_understood() {
        let (four, six): (SocketAddr, SocketAddr) =
            ("192.0.2.1:1".parse().unwrap(), "[2001:db8::1]:1".parse().unwrap());
        let path = format!("/announce?{}", "x".repeat(600));
        let (connection, transaction) = (u64::MAX, 9);
        for msg in [
            UdpMsg::Connect { transaction },
            UdpMsg::Announce { connection, transaction, announce: announce(), path },
            UdpMsg::Scrape { connection, transaction, swarms: vec![[1; 20], [2; 20]] },
        ] {
            let packet = sent(UdpCodec::client(), four, msg.clone());
            assert_eq!(UdpCodec::server().decode(four, &packet), Ok(msg.clone()));
            for cut in 0..packet.len() {
                // What is cut short is refused, or has less to say.
                assert_ne!(UdpCodec::server().decode(four, &packet[..cut]), Ok(msg.clone()), "{cut}");
            }
        }
        let stands = Scraped { seeders: 1, leechers: 2, completed: 3 };
        for to in [four, six] {
            let interval = Duration::from_secs(1800);
            for msg in [
                UdpMsg::Connected { transaction, connection },
                UdpMsg::Announced { transaction, interval, leechers: 1, seeders: 2, peers: vec![to, to] },
                UdpMsg::Scraped { transaction, swarms: vec![stands; 2] },
                UdpMsg::Error { transaction, message: "no".into() },
            ] {
                let packet = sent(UdpCodec::server(), to, msg.clone());
                assert_eq!(UdpCodec::client().decode(to, &packet), Ok(msg));
            }
        }
    }
}
