//! A machine whose peers are connections, over TCP and uTP alike.
//!
//! [`Streams`] is a shell: a TCP connection's messages pass it by, and what its machine says over uTP becomes a
//! connection's bytes, and packets. Live it runs on `p2p_core::net::both`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use bytes::BytesMut;
use p2p_core::foreign::{After, BothMsg, BothPeer, Codec, TcpPeer};
use p2p_core::{Cx, Down, Job, JobId, Link, OpId, Protocol};

use super::connection::{End, Status};
use super::mux::{Entry, Mux, UtpConfig, Verdict};
use super::packet::Packet;

/// A connection's name, and what carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamPeer {
    /// TCP.
    Tcp(TcpPeer),
    /// uTP: named in the same way, dialled and accepted.
    Utp(TcpPeer),
}

/// The timers of [`Streams`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamsTimer<T> {
    /// Its machine's.
    Machine(T),
    /// A uTP connection's: one each.
    Connection(TcpPeer),
}

/// A connection's codec, and what is not a message yet.
struct Line<C> {
    codec: C,
    input: BytesMut,
    output: BytesMut,
    /// Whether nothing will be said any more.
    closing: bool,
}

impl<C: Codec> Line<C> {
    fn new(mut codec: C) -> Line<C> {
        let mut output = BytesMut::new();
        codec.begin(&mut output);
        Line { codec, input: BytesMut::new(), output, closing: false }
    }
}

/// Runs a machine over TCP and uTP. What it holds is bounded by [`UtpConfig`], and by what the codec lets its input grow to,
/// for each connection.
pub struct Streams<M, C> {
    machine: M,
    codec: Box<dyn Fn(StreamPeer) -> C + Send>,
    mux: Mux,
    lines: BTreeMap<TcpPeer, Line<C>>,
    /// Connections that may have something to send.
    touched: BTreeSet<TcpPeer>,
}

impl<M, C> fmt::Debug for Streams<M, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("connections", &self.lines.len()).finish_non_exhaustive()
    }
}

impl<M, C> Streams<M, C>
where
    M: Protocol<Peer = StreamPeer>,
    C: Codec<Msg = M::Msg>,
{
    /// Runs a machine; `codec` makes each uTP connection its codec.
    pub fn new(
        machine: M,
        config: UtpConfig,
        codec: impl Fn(StreamPeer) -> C + Send + 'static,
    ) -> Streams<M, C> {
        Streams {
            machine,
            codec: Box::new(codec),
            mux: Mux::new(config),
            lines: BTreeMap::new(),
            touched: BTreeSet::new(),
        }
    }

    /// The machine.
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Gives the machine an input, and takes what it says.
    fn run(&mut self, cx: &mut Cx<'_, Self>, input: impl FnOnce(&mut M, &mut Cx<'_, M>)) {
        let machine = &mut self.machine;
        let mut said = Vec::new();
        cx.wrap(
            |cx| input(machine, cx),
            StreamsTimer::Machine,
            |cx, to, msg| match to {
                StreamPeer::Tcp(to) => cx.send(BothPeer::Tcp(to), BothMsg::Stream(msg)),
                StreamPeer::Utp(to) => said.push((to, msg)),
            },
        );
        said.into_iter().for_each(|(to, msg)| self.say(cx, to, msg));
    }

    /// The machine says something over uTP.
    fn say(&mut self, cx: &mut Cx<'_, Self>, to: TcpPeer, msg: M::Msg) {
        if !self.lines.contains_key(&to) {
            // Of one that somebody else has made it was told that it is gone.
            let TcpPeer::Dialled { .. } = to else { return };
            let now = cx.now();
            let Ok(evicted) = self.mux.dial(to, now, cx.rng()) else {
                let full = Link::Down(Down::Overflow);
                return self.run(cx, |machine, cx| machine.on_link(cx, StreamPeer::Utp(to), full));
            };
            evicted.into_iter().for_each(|gone| cx.clear_timer(StreamsTimer::Connection(gone)));
            self.lines.insert(to, Line::new((self.codec)(StreamPeer::Utp(to))));
        }
        if let Some(line) = self.lines.get_mut(&to).filter(|line| !line.closing) {
            line.closing = line.codec.encode(msg, &mut line.output) == After::Close;
            self.touched.insert(to);
        }
    }

    /// A packet has come.
    fn packet(&mut self, cx: &mut Cx<'_, Self>, from: SocketAddr, packet: Packet) {
        let now = cx.now();
        match self.mux.receive(from, packet, now, cx.rng()) {
            Verdict::Of(peer) => self.look_after(cx, peer),
            Verdict::Accepted(peer, evicted) => {
                evicted.into_iter().for_each(|gone| cx.clear_timer(StreamsTimer::Connection(gone)));
                self.look_after(cx, peer);
            }
            Verdict::Answer(answer) => cx.send(BothPeer::Udp(from), BothMsg::Packet(answer)),
            Verdict::Nothing => {}
        }
    }

    /// Something may have happened to a connection: it is open, bytes have come, or no more will.
    fn look_after(&mut self, cx: &mut Cx<'_, Self>, peer: TcpPeer) {
        self.touched.insert(peer);
        let Some(entry) = self.mux.get(&peer) else { return };
        if entry.connection.status() == Status::Open && !std::mem::replace(&mut entry.told, true) {
            let codec = &self.codec;
            self.lines.entry(peer).or_insert_with(|| Line::new(codec(StreamPeer::Utp(peer))));
            self.run(cx, |machine, cx| machine.on_link(cx, StreamPeer::Utp(peer), Link::Up));
        }
        self.read(cx, peer);
        let Some(entry) = self.mux.get(&peer) else { return };
        if entry.connection.is_finished() {
            // The other end says nothing more: nor is anything said to it.
            entry.connection.close();
            self.gone(cx, peer, Down::Closed);
        }
    }

    /// Makes messages of what has come.
    fn read(&mut self, cx: &mut Cx<'_, Self>, peer: TcpPeer) {
        let (Some(line), Some(entry)) = (self.lines.get_mut(&peer), self.mux.get(&peer)) else { return };
        let before = line.input.len();
        while let Some(bytes) = entry.connection.read() {
            line.input.extend_from_slice(&bytes);
        }
        if line.input.len() == before {
            return;
        }
        while let Some(line) = self.lines.get_mut(&peer) {
            // Who has said that it goes hears nothing more.
            if line.closing {
                return line.input.clear();
            }
            match line.codec.decode(&mut line.input, &mut line.output) {
                Ok(Some(msg)) => {
                    self.run(cx, |machine, cx| machine.on_message(cx, StreamPeer::Utp(peer), msg));
                }
                Ok(None) => return,
                Err(_) => {
                    self.mux.get(&peer).into_iter().for_each(|entry| entry.connection.reset());
                    return self.gone(cx, peer, Down::Misbehaved);
                }
            }
        }
    }

    /// Nothing more is heard of a connection.
    fn gone(&mut self, cx: &mut Cx<'_, Self>, peer: TcpPeer, why: Down) {
        if self.lines.remove(&peer).is_some() {
            self.run(cx, |machine, cx| machine.on_link(cx, StreamPeer::Utp(peer), Link::Down(why)));
        }
    }

    /// Does all that the connections which were touched have to do.
    fn settle(&mut self, cx: &mut Cx<'_, Self>) {
        while let Some(peer) = self.touched.pop_first() {
            self.flush(cx, peer);
        }
    }

    /// Sends what there is to send on a connection, sets its timer, and forgets it if it is over.
    fn flush(&mut self, cx: &mut Cx<'_, Self>, peer: TcpPeer) {
        let now = cx.now();
        let Some(Entry { connection, alarm, .. }) = self.mux.get(&peer) else { return };
        let mut overflow = false;
        if let Some(line) = self.lines.get_mut(&peer) {
            if !line.output.is_empty() {
                overflow = !connection.write(line.output.split().freeze());
            }
            match (overflow, line.closing) {
                (true, _) => connection.reset(),
                (false, true) => connection.close(),
                (false, false) => {}
            }
        }
        while let Some(packet) = connection.transmit(now) {
            cx.send(BothPeer::Udp(peer.addr()), BothMsg::Packet(packet));
        }
        let Status::Over(end) = connection.status() else {
            let next = connection.next();
            if alarm.is_none_or(|alarm| next < alarm) {
                *alarm = Some(next);
                cx.set_timer(next - now, StreamsTimer::Connection(peer));
            }
            return;
        };
        self.mux.remove(&peer);
        cx.clear_timer(StreamsTimer::Connection(peer));
        let why = match end {
            _ if overflow => Down::Overflow,
            End::Closed | End::Reset => Down::Closed,
            End::Unreachable => Down::Unreachable,
            End::TimedOut => Down::TimedOut,
        };
        self.gone(cx, peer, why);
    }
}

impl<M, C> Protocol for Streams<M, C>
where
    M: Protocol<Peer = StreamPeer>,
    C: Codec<Msg = M::Msg>,
{
    type Peer = BothPeer;
    type Msg = BothMsg<M::Msg, Packet>;
    type Timer = StreamsTimer<M::Timer>;
    type Command = M::Command;
    type Item = M::Item;
    type Outcome = M::Outcome;
    type Event = M::Event;
    type Job = M::Job;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.run(cx, |machine, cx| machine.on_start(cx));
        self.settle(cx);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: BothPeer, msg: Self::Msg) {
        match (from, msg) {
            (BothPeer::Tcp(from), BothMsg::Stream(msg)) => {
                self.run(cx, |machine, cx| machine.on_message(cx, StreamPeer::Tcp(from), msg));
            }
            (BothPeer::Udp(from), BothMsg::Packet(packet)) => self.packet(cx, from, packet),
            (BothPeer::Tcp(_), BothMsg::Packet(_)) | (BothPeer::Udp(_), BothMsg::Stream(_)) => {}
        }
        self.settle(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: Self::Timer) {
        match timer {
            StreamsTimer::Machine(timer) => self.run(cx, |machine, cx| machine.on_timer(cx, timer)),
            StreamsTimer::Connection(peer) => {
                if let Some(entry) = self.mux.get(&peer) {
                    entry.alarm = None;
                    entry.connection.tick(cx.now());
                    self.touched.insert(peer);
                }
            }
        }
        self.settle(cx);
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: M::Command) {
        self.run(cx, |machine, cx| machine.on_command(cx, op, command));
        self.settle(cx);
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.run(cx, |machine, cx| machine.on_cancel(cx, op));
        self.settle(cx);
    }

    fn on_read(&mut self, cx: &mut Cx<'_, Self>, op: OpId, items: usize) {
        self.run(cx, |machine, cx| machine.on_read(cx, op, items));
        self.settle(cx);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: BothPeer, link: Link) {
        if let BothPeer::Tcp(peer) = peer {
            self.run(cx, |machine, cx| machine.on_link(cx, StreamPeer::Tcp(peer), link));
        }
        self.settle(cx);
    }

    fn on_job(&mut self, cx: &mut Cx<'_, Self>, id: JobId, done: <M::Job as Job>::Done) {
        self.run(cx, |machine, cx| machine.on_job(cx, id, done));
        self.settle(cx);
    }
}

#[cfg(test)]
mod tests;
