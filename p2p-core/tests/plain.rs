//! Machines over plain UDP and TCP; the TCP driver's shape is tried with BitTorrent's handshake (BEP 3).
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::StreamExt;
use p2p_core::foreign::{BothMsg, BothPeer};
use p2p_core::net::both::{self, Listen};
use p2p_core::net::tcp::{self, After, Codec, Malformed, TcpPeer};
use p2p_core::net::udp::{self, Group, PacketCodec};
use p2p_core::{AskError, Cx, Down, Limits, Link, NoJob, NoWorker, OpId, Protocol, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

async fn patient<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.expect("this test's step takes far too long")
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A command and its answer are the same everywhere here: do it, done.
struct Do<C>(C);
impl<P: Protocol<Command = C, Item = (), Outcome = ()>, C> Request<P> for Do<C> {
    type Item = ();
    type Reply = ();
    fn command(self) -> C {
        self.0
    }
    fn item((): ()) -> Option<()> {
        None
    }
    fn reply((): ()) -> Option<()> {
        Some(())
    }
}

// ---- UDP

struct Pinger;
impl Protocol for Pinger {
    type Peer = SocketAddr;
    type Msg = String;
    type Timer = ();
    type Command = SocketAddr;
    type Item = ();
    type Outcome = ();
    type Event = (SocketAddr, String);
    type Job = NoJob;
    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: SocketAddr, msg: String) {
        if msg == "ping" {
            cx.send(from, "pong".into());
        }
        cx.emit((from, msg));
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, to: SocketAddr) {
        cx.send(to, "ping".into());
        cx.finish(op, ());
    }
}

struct Text;
impl PacketCodec for Text {
    type Msg = String;
    fn decode(&mut self, _: SocketAddr, packet: &[u8]) -> Result<String, Malformed> {
        String::from_utf8(packet.to_vec()).map_err(|error| Malformed(error.to_string()))
    }
    fn encode(&mut self, _: SocketAddr, msg: String, packet: &mut Vec<u8>) {
        packet.extend_from_slice(msg.as_bytes());
    }
}

#[tokio::test]
async fn machines_talk_over_udp() {
    let start = || udp::spawn(Pinger, Text, loopback(), Limits::default(), [NoWorker; 0]);
    let (a, b) = (start().await.unwrap(), start().await.unwrap());
    let to = b.local_addr().unwrap();
    let mut heard = a.handle().events();
    // What is no message is dropped.
    let stranger = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    stranger.send_to(&[0xff, 0xfe], to).await.unwrap();
    patient(a.handle().ask(Do(to))).await.unwrap();
    assert_eq!(patient(heard.next()).await.unwrap(), (to, "pong".into()));
    patient(a.shutdown()).await;
}

#[tokio::test]
async fn a_socket_of_ipv6_takes_ipv4_too() {
    let six = udp::spawn(Pinger, Text, "[::]:0".parse().unwrap(), Limits::default(), [NoWorker; 0]).await;
    let four = udp::spawn(Pinger, Text, loopback(), Limits::default(), [NoWorker; 0]).await.unwrap();
    let (six, to) = (six.unwrap(), four.local_addr().unwrap());
    let mut heard = six.handle().events();
    patient(six.handle().ask(Do(to))).await.unwrap();
    assert_eq!(patient(heard.next()).await.unwrap(), (to, "pong".into()), "and calls it what it is");
}

// ---- both at one port

/// Says pong over whatever it is pinged by.
struct Either;
impl Protocol for Either {
    type Peer = BothPeer;
    type Msg = BothMsg<String, String>;
    type Timer = ();
    type Command = (BothPeer, BothMsg<String, String>);
    type Item = ();
    type Outcome = ();
    type Event = (BothPeer, BothMsg<String, String>);
    type Job = NoJob;
    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: BothPeer, msg: Self::Msg) {
        match &msg {
            BothMsg::Stream(text) if text == "ping" => cx.send(from, BothMsg::Stream("pong".into())),
            BothMsg::Packet(text) if text == "ping" => cx.send(from, BothMsg::Packet("pong".into())),
            BothMsg::Stream(_) | BothMsg::Packet(_) => {}
        }
        cx.emit((from, msg));
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, (to, msg): Self::Command) {
        cx.send(to, msg);
        cx.finish(op, ());
    }
}

/// Words of four letters.
struct Words;
impl Codec for Words {
    type Msg = String;
    fn decode(&mut self, input: &mut BytesMut, _: &mut BytesMut) -> Result<Option<String>, Malformed> {
        let word = (input.len() >= 4).then(|| input.split_to(4));
        Ok(word.map(|word| String::from_utf8_lossy(&word).into_owned()))
    }
    fn encode(&mut self, msg: String, output: &mut BytesMut) -> After {
        output.put_slice(msg.as_bytes());
        After::Open
    }
}

#[tokio::test]
async fn a_machine_has_tcp_and_udp_at_one_port() {
    let at = |tcp, udp| Listen { tcp, udp };
    let start =
        |listen| both::spawn_at(|_| Either, |_| Words, Text, listen, Limits::default(), [NoWorker; 0]);
    let here = Some(loopback());
    let (a, b) = (start(at(here, here)).await.unwrap(), start(at(here, here)).await.unwrap());
    let to = b.local_addr().unwrap();
    let mut heard = a.handle().events();
    let packet = (BothPeer::Udp(to), BothMsg::Packet("ping".into()));
    patient(a.handle().ask(Do(packet))).await.unwrap();
    let pong = (BothPeer::Udp(to), BothMsg::Packet("pong".into()));
    assert_eq!(patient(heard.next()).await.unwrap(), pong);
    let peer = BothPeer::Tcp(TcpPeer::Dialled { addr: to, number: 1 });
    patient(a.handle().ask(Do((peer, BothMsg::Stream("ping".into()))))).await.unwrap();
    assert_eq!(patient(heard.next()).await.unwrap(), (peer, BothMsg::Stream("pong".into())));
    // One that has no packets sends none, and one that listens nowhere has connections all the same.
    let c = start(at(None, None)).await.unwrap();
    assert_eq!(c.local_addr(), None);
    let mut heard = c.handle().events();
    let packet = (BothPeer::Udp(to), BothMsg::Packet("ping".into()));
    patient(c.handle().ask(Do(packet))).await.unwrap();
    patient(c.handle().ask(Do((peer, BothMsg::Stream("ping".into()))))).await.unwrap();
    assert_eq!(patient(heard.next()).await.unwrap(), (peer, BothMsg::Stream("pong".into())));
    // Where one of the two is taken the other is not had either.
    assert!(start(at(None, Some(to))).await.is_err());
    for running in [a, b, c] {
        patient(running.shutdown()).await;
    }
}

#[tokio::test]
async fn what_is_sent_to_a_group_reaches_everybody_in_it() {
    // A port that nobody else has.
    let port = tokio::net::UdpSocket::bind(loopback()).await.unwrap().local_addr().unwrap().port();
    let addr = SocketAddrV4::new(Ipv4Addr::new(239, 255, 77, 77), port);
    let group = Group { addr, interface: Ipv4Addr::LOCALHOST };
    let start = || udp::spawn_in(group, Pinger, Text, Limits::default(), [NoWorker; 0]);
    let (a, b) = (start().await.unwrap(), start().await.unwrap());
    let (mut at_a, mut at_b) = (a.handle().events(), b.handle().events());
    patient(a.handle().ask(Do(addr.into()))).await.unwrap();
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    assert_eq!(patient(at_b.next()).await.unwrap(), (from, "ping".into()));
    assert_eq!(patient(at_a.next()).await.unwrap(), (from, "ping".into()), "whoever sends it hears it, too");
}

// ---- TCP: BitTorrent

#[derive(Debug, Clone, PartialEq)]
enum Bt {
    Handshake {
        info_hash: [u8; 20],
        id: [u8; 20],
    },
    Frame(Bytes),
    /// Says that nothing follows.
    Goodbye,
}

/// BitTorrent's framing. After the handshake each direction is veiled by an exclusive or, standing for what an
/// encryption does: the codec changes in mid-stream.
struct BtCodec {
    greeted: bool,
    veiled: bool,
    /// How much of the input is unveiled already.
    clear: usize,
}

const VEIL: u8 = 0x5a;

impl Codec for BtCodec {
    type Msg = Bt;
    fn decode(&mut self, input: &mut BytesMut, _: &mut BytesMut) -> Result<Option<Bt>, Malformed> {
        if !self.greeted {
            let known = input.len().min(20);
            if input[..known] != b"\x13BitTorrent protocol"[..known] {
                return Err(Malformed("not a BitTorrent handshake".into()));
            }
            if input.len() < 68 {
                return Ok(None);
            }
            let handshake = input.split_to(68);
            self.greeted = true;
            let field = |at: usize| handshake[at..at + 20].try_into().unwrap();
            return Ok(Some(Bt::Handshake { info_hash: field(28), id: field(48) }));
        }
        input[self.clear..].iter_mut().for_each(|byte| *byte ^= VEIL);
        self.clear = input.len();
        let Some(len) = input.first_chunk::<4>().map(|len| u32::from_be_bytes(*len) as usize) else {
            return Ok(None);
        };
        if len > 1 << 17 {
            return Err(Malformed(format!("a frame of {len} bytes")));
        }
        if input.len() < 4 + len {
            return Ok(None);
        }
        input.advance(4);
        let frame = input.split_to(len).freeze();
        self.clear -= 4 + len;
        Ok(Some(Bt::Frame(frame)))
    }
    fn encode(&mut self, msg: Bt, output: &mut BytesMut) -> After {
        match msg {
            Bt::Handshake { info_hash, id } => {
                output.put_slice(b"\x13BitTorrent protocol");
                output.put_slice(&[0; 8]);
                output.put_slice(&info_hash);
                output.put_slice(&id);
                self.veiled = true;
            }
            Bt::Frame(frame) => {
                let start = output.len();
                output.put_u32(frame.len() as u32);
                output.put_slice(&frame);
                let veil = if self.veiled { VEIL } else { 0 };
                output[start..].iter_mut().for_each(|byte| *byte ^= veil);
            }
            Bt::Goodbye => return After::Close,
        }
        After::Open
    }
}

/// Shares some torrents: each peer that asks for one is greeted with its name.
struct Client {
    id: [u8; 20],
    torrents: BTreeMap<[u8; 20], &'static str>,
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Got(TcpPeer, Bt),
    Link(TcpPeer, Link),
}

impl Protocol for Client {
    type Peer = TcpPeer;
    type Msg = Bt;
    type Timer = ();
    type Command = (TcpPeer, Vec<Bt>);
    type Item = ();
    type Outcome = ();
    type Event = Event;
    type Job = NoJob;
    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: TcpPeer, msg: Bt) {
        if let (Bt::Handshake { info_hash, .. }, TcpPeer::Accepted { .. }) = (&msg, from) {
            match self.torrents.get(info_hash) {
                Some(name) => {
                    cx.send(from, Bt::Handshake { info_hash: *info_hash, id: self.id });
                    cx.send(from, Bt::Frame(name.as_bytes().into()));
                }
                None => cx.send(from, Bt::Goodbye),
            }
        }
        cx.emit(Event::Got(from, msg));
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, (to, messages): (TcpPeer, Vec<Bt>)) {
        for msg in messages {
            cx.send(to, msg);
        }
        cx.finish(op, ());
    }
    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: TcpPeer, link: Link) {
        cx.emit(Event::Link(peer, link));
    }
}

async fn client(number: u8, torrents: &[([u8; 20], &'static str)]) -> tcp::Running<Client> {
    let client = Client { id: [number; 20], torrents: torrents.iter().copied().collect() };
    let codec = |_| BtCodec { greeted: false, veiled: false, clear: 0 };
    tcp::spawn(client, codec, Some(loopback()), Limits::default(), [NoWorker; 0]).await.unwrap()
}

const MUSIC: [u8; 20] = [1; 20];
const FILMS: [u8; 20] = [2; 20];

#[tokio::test]
async fn one_listener_serves_two_torrents_and_the_codec_changes_in_mid_stream() {
    let seeder = client(1, &[(MUSIC, "music"), (FILMS, "films")]).await;
    let leecher = client(2, &[]).await;
    let addr = seeder.local_addr().unwrap();
    let mut heard = leecher.handle().events();
    for (number, (info_hash, name)) in [(MUSIC, "music"), (FILMS, "films")].into_iter().enumerate() {
        let to = TcpPeer::Dialled { addr, number: number as u64 };
        let handshake = Bt::Handshake { info_hash, id: [2; 20] };
        let frames = (0..100).map(|i| Bt::Frame(vec![i; 1000].into()));
        let messages = std::iter::once(handshake).chain(frames).collect();
        patient(leecher.handle().ask(Do((to, messages)))).await.unwrap();
        let mut next = async || patient(heard.next()).await.unwrap();
        assert_eq!(next().await, Event::Link(to, Link::Up));
        assert_eq!(next().await, Event::Got(to, Bt::Handshake { info_hash, id: [1; 20] }));
        assert_eq!(next().await, Event::Got(to, Bt::Frame(name.as_bytes().into())));
    }
    // A torrent that is not shared: the other end closes.
    let to = TcpPeer::Dialled { addr, number: 9 };
    let handshake = Bt::Handshake { info_hash: [9; 20], id: [2; 20] };
    patient(leecher.handle().ask(Do((to, vec![handshake])))).await.unwrap();
    assert_eq!(patient(heard.next()).await.unwrap(), Event::Link(to, Link::Up));
    assert_eq!(patient(heard.next()).await.unwrap(), Event::Link(to, Link::Down(Down::Closed)));
    patient(seeder.shutdown()).await;
}

#[tokio::test]
async fn every_frame_arrives_in_order() {
    let (seeder, leecher) = (client(1, &[(MUSIC, "music")]).await, client(2, &[]).await);
    let mut heard = seeder.handle().events();
    let to = TcpPeer::Dialled { addr: seeder.local_addr().unwrap(), number: 1 };
    let handshake = Bt::Handshake { info_hash: MUSIC, id: [2; 20] };
    let frames: Vec<_> = (0..100).map(|i| Bt::Frame(vec![i; 1000].into())).collect();
    let messages = std::iter::once(handshake.clone()).chain(frames.clone()).collect();
    patient(leecher.handle().ask(Do((to, messages)))).await.unwrap();
    let Event::Link(from, Link::Up) = patient(heard.next()).await.unwrap() else { panic!("no link") };
    for message in std::iter::once(handshake).chain(frames) {
        assert_eq!(patient(heard.next()).await.unwrap(), Event::Got(from, message));
    }
}

#[tokio::test]
async fn garbage_over_tcp_is_misbehaviour_and_nobody_there_is_unreachable() {
    let seeder = client(1, &[]).await;
    let mut heard = seeder.handle().events();
    let mut stranger = tokio::net::TcpStream::connect(seeder.local_addr().unwrap()).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let Event::Link(from, Link::Up) = patient(heard.next()).await.unwrap() else { panic!("no link") };
    assert_eq!(patient(heard.next()).await.unwrap(), Event::Link(from, Link::Down(Down::Misbehaved)));
    let mut rest = Vec::new();
    let _ = patient(stranger.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());

    let closed = std::net::TcpListener::bind(loopback()).unwrap().local_addr().unwrap();
    let nobody = TcpPeer::Dialled { addr: closed, number: 1 };
    patient(seeder.handle().ask(Do((nobody, vec![Bt::Goodbye])))).await.unwrap();
    assert_eq!(patient(heard.next()).await.unwrap(), Event::Link(nobody, Link::Down(Down::Unreachable)));
}

/// Says who comes, and panics at the first message.
struct Fragile;
impl Protocol for Fragile {
    type Peer = TcpPeer;
    type Msg = Bt;
    type Timer = ();
    type Command = ();
    type Item = ();
    type Outcome = ();
    type Event = Link;
    type Job = NoJob;
    fn on_message(&mut self, _: &mut Cx<'_, Self>, _: TcpPeer, _: Bt) {
        panic!("a machine may do that");
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, (): ()) {
        cx.finish(op, ());
    }
    fn on_link(&mut self, cx: &mut Cx<'_, Self>, _: TcpPeer, link: Link) {
        cx.emit(link);
    }
}

#[tokio::test]
async fn a_machine_that_panics_leaves_no_connection_and_no_address_taken() {
    let codec = |_| BtCodec { greeted: false, veiled: false, clear: 0 };
    let start = |at| tcp::spawn(Fragile, codec, Some(at), Limits::default(), [NoWorker; 0]);
    let fragile = start(loopback()).await.unwrap();
    let addr = fragile.local_addr().unwrap();
    let mut events = fragile.handle().events();
    let [mut idle, mut rude] = [
        patient(tokio::net::TcpStream::connect(addr)).await,
        patient(tokio::net::TcpStream::connect(addr)).await,
    ]
    .map(Result::unwrap);
    for _ in 0..2 {
        assert_eq!(patient(events.next()).await, Some(Link::Up));
    }
    rude.write_all(b"\x13BitTorrent protocol").await.unwrap();
    rude.write_all(&[0; 48]).await.unwrap();
    for stream in [&mut idle, &mut rude] {
        assert!(matches!(patient(stream.read(&mut [0])).await, Ok(0) | Err(_)), "it is closed");
    }
    assert_eq!(patient(events.next()).await, None);
    assert_eq!(patient(fragile.handle().ask(Do(()))).await, Err(AskError::Stopped));
    let again = start(addr).await.unwrap();
    assert_eq!(patient(again.handle().ask(Do(()))).await, Ok(()));
    patient(fragile.shutdown()).await;
    patient(again.shutdown()).await;
}
