//! Two machines that talk over uTP, one packet at a time.

use std::time::Duration;

use bytes::{BufMut, Bytes};
use p2p_core::foreign::Malformed;
use p2p_core::{NoJob, Script};

use super::*;
use crate::utp::Kind;

/// Frames of a length and so many bytes; one of 255 is none, one of 0 is the last.
struct Frames;

impl Codec for Frames {
    type Msg = Bytes;

    fn begin(&mut self, output: &mut BytesMut) {
        output.put_slice(b"\x02hi");
    }

    fn decode(&mut self, input: &mut BytesMut, _: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
        match input.first() {
            Some(255) => Err(Malformed("255".into())),
            Some(&length) if input.len() > length.into() => {
                Ok(Some(input.split_to(1 + usize::from(length)).split_off(1).freeze()))
            }
            _ => Ok(None),
        }
    }

    fn encode(&mut self, msg: Bytes, output: &mut BytesMut) -> After {
        output.put_u8(msg.len() as u8);
        output.put_slice(&msg);
        if msg.is_empty() { After::Close } else { After::Open }
    }
}

/// Says what it is told to, and tells what it hears.
#[derive(Debug)]
struct Talker;

#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Link(Link),
    Msg(Bytes),
}

impl Protocol for Talker {
    type Peer = StreamPeer;
    type Msg = Bytes;
    type Timer = ();
    type Command = (StreamPeer, Bytes);
    type Item = ();
    type Outcome = ();
    type Event = (StreamPeer, Heard);
    type Job = NoJob;

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: StreamPeer, msg: Bytes) {
        cx.emit((from, Heard::Msg(msg)));
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, (to, msg): (StreamPeer, Bytes)) {
        cx.send(to, msg);
        cx.finish(op, ());
    }
    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: StreamPeer, link: Link) {
        cx.emit((peer, Heard::Link(link)));
    }
}

type End = Script<Streams<Talker, Frames>>;

fn addr(end: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, end as u8], 6881))
}

fn dialled(end: usize) -> StreamPeer {
    StreamPeer::Utp(TcpPeer::Dialled { addr: addr(end), number: 1 })
}

fn accepted(end: usize) -> StreamPeer {
    StreamPeer::Utp(TcpPeer::Accepted { addr: addr(end), number: 1 })
}

fn ends() -> [End; 2] {
    [(); 2].map(|()| Script::new(Streams::new(Talker, UtpConfig::default(), |_| Frames)))
}

fn say(end: &mut End, to: StreamPeer, msg: &'static [u8]) {
    end.command((to, Bytes::from_static(msg)));
}

/// Carries packets both ways, each for 10 ms, until there are no more for so long.
fn carry(ends: &mut [End; 2], quiet: Duration) {
    let mut silent = Duration::ZERO;
    while silent < quiet {
        let sent = ends.each_mut().map(|end| end.sent());
        silent =
            if sent.iter().all(Vec::is_empty) { silent + Duration::from_millis(10) } else { Duration::ZERO };
        ends.iter_mut().for_each(|end| end.advance(Duration::from_millis(10)));
        for (from, sent) in sent.into_iter().enumerate() {
            for (to, msg) in sent {
                assert_eq!(to, BothPeer::Udp(addr(1 - from)));
                ends[1 - from].message(BothPeer::Udp(addr(from)), msg);
            }
        }
    }
}

fn heard(end: &mut End, peer: StreamPeer) -> Vec<Heard> {
    let events = end.events();
    events.into_iter().map(|(from, heard)| (assert_eq!(from, peer), heard).1).collect()
}

fn msg(text: &'static str) -> Heard {
    Heard::Msg(Bytes::from_static(text.as_bytes()))
}

const SOON: Duration = Duration::from_millis(100);

#[test]
fn machines_talk_and_one_takes_its_leave() {
    let mut ends = ends();
    say(&mut ends[0], dialled(1), b"hello");
    say(&mut ends[0], dialled(1), b"world");
    carry(&mut ends, SOON);
    assert_eq!(heard(&mut ends[0], dialled(1)), [Heard::Link(Link::Up), msg("hi")]);
    assert_eq!(
        heard(&mut ends[1], accepted(0)),
        [Heard::Link(Link::Up), msg("hi"), msg("hello"), msg("world")]
    );
    say(&mut ends[1], accepted(0), b"last");
    say(&mut ends[1], accepted(0), b"");
    say(&mut ends[1], accepted(0), b"too late");
    carry(&mut ends, Duration::from_secs(5));
    let closed = Heard::Link(Link::Down(Down::Closed));
    assert_eq!(heard(&mut ends[0], dialled(1)), [msg("last"), msg(""), closed.clone()]);
    assert_eq!(heard(&mut ends[1], accepted(0)), [closed]);
    for end in &mut ends {
        assert_eq!(end.timers().count(), 0, "nothing is left");
        assert!(end.machine().lines.is_empty());
    }
}

#[test]
fn who_takes_its_leave_before_there_is_a_connection_is_heard_all_the_same() {
    let mut ends = ends();
    say(&mut ends[0], dialled(1), b"hello");
    say(&mut ends[0], dialled(1), b"");
    carry(&mut ends, Duration::from_secs(5));
    let (up, closed) = (Heard::Link(Link::Up), Heard::Link(Link::Down(Down::Closed)));
    assert_eq!(heard(&mut ends[1], accepted(0)), [up, msg("hi"), msg("hello"), msg(""), closed]);
    assert_eq!(ends.each_ref().map(|end| end.timers().count()), [0, 0]);
}

#[test]
fn nobody_answers() {
    let [mut end, _] = ends();
    say(&mut end, dialled(1), b"hello");
    end.advance(Duration::from_secs(4));
    assert_eq!(heard(&mut end, dialled(1)), [Heard::Link(Link::Down(Down::Unreachable))]);
    assert_eq!((end.timers().count(), end.sent().len()), (0, 2));
}

#[test]
fn who_asks_and_is_not_heard_of_again_leaves_no_timer() {
    let [mut end, _] = ends();
    for n in 0..5000_u16 {
        let [high, low] = n.to_be_bytes();
        let syn = Packet {
            kind: Kind::Syn,
            connection: n,
            timestamp: 1,
            difference: 0,
            window: 1000,
            seq: 1,
            ack: 0,
            selective: Vec::new(),
            payload: Bytes::new(),
        };
        end.message(BothPeer::Udp(([198, 51, high, low], 1).into()), BothMsg::Packet(syn));
        assert!(end.timers().count() <= 128, "{} after {n}", end.timers().count());
    }
    end.advance(Duration::from_secs(11));
    assert_eq!(end.timers().count(), 0);
}

#[test]
fn what_is_no_message_ends_a_connection() {
    let mut ends = ends();
    say(&mut ends[0], dialled(1), &[255; 254]);
    carry(&mut ends, SOON);
    ends.iter_mut().for_each(|end| _ = end.events());
    // Its own frame has a length; this has none.
    say(&mut ends[0], dialled(1), &[255; 255]);
    carry(&mut ends, SOON);
    assert_eq!(heard(&mut ends[1], accepted(0)), [Heard::Link(Link::Down(Down::Misbehaved))]);
    assert_eq!(heard(&mut ends[0], dialled(1)), [Heard::Link(Link::Down(Down::Closed))], "it is told");
}

#[test]
fn who_takes_nothing_in_is_let_go() {
    let mut ends = ends();
    say(&mut ends[0], dialled(1), b"hello");
    carry(&mut ends, SOON);
    ends[0].events();
    let long: &'static [u8] = &[7; 200];
    let most = (4 << 20) / 200;
    let refused = (0..most).find_map(|_| {
        say(&mut ends[0], dialled(1), long);
        heard(&mut ends[0], dialled(1)).pop()
    });
    assert_eq!(refused, Some(Heard::Link(Link::Down(Down::Overflow))));
    let last = ends[0].sent().into_iter().rev().find_map(|(_, msg)| match msg {
        BothMsg::Packet(packet) if packet.kind == Kind::Reset => Some(packet),
        _ => None,
    });
    assert!(last.is_some(), "the other end is told");
    assert_eq!(ends[0].timers().count(), 0);
}

#[test]
fn tcp_passes_by() {
    let [mut end, _] = ends();
    let peer = TcpPeer::Accepted { addr: addr(1), number: 1 };
    end.link(BothPeer::Tcp(peer), Link::Up);
    end.message(BothPeer::Tcp(peer), BothMsg::Stream(Bytes::from_static(b"hello")));
    say(&mut end, StreamPeer::Tcp(peer), b"world");
    assert_eq!(heard(&mut end, StreamPeer::Tcp(peer)), [Heard::Link(Link::Up), msg("hello")]);
    assert_eq!(end.sent(), [(BothPeer::Tcp(peer), BothMsg::Stream(Bytes::from_static(b"world")))]);
}
