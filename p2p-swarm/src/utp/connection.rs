//! One connection: a pure machine, of packets and time in, packets and bytes out.
//!
//! Whoever owns it tells it what comes ([`Connection::receive`]) and what time it is ([`Connection::tick`], at
//! [`Connection::next`] at the latest), writes and reads, and then sends all that it gives ([`Connection::transmit`]).
//!
//! Where BEP 29 is silent or nobody does as it says:
//!
//! - The acceptor's first [`Kind::State`] takes no sequence number, though BEP 29's figure counts it: its first data has the
//!   number that this packet bears. So do libutp and libtorrent.
//! - Both ends begin with random numbers: who cannot see the packets can only guess one that is believed. A reset is one
//!   that tells of a packet which is on its way or was the last to arrive, as those of libutp and libtorrent do.
//! - A packet's size does not change with the rate. It is such that every path carries it: one that is too large could not
//!   be cut when it is sent again.
//! - The acknowledgement of every second packet, or after 10 ms, is enough while nothing is missing.

use std::time::Duration;

use bytes::Bytes;
use p2p_core::Time;

use super::ledbat::Ledbat;
use super::packet::{HEADER, Kind, Packet, unwrap};
use super::receive::{AHEAD, Came, Receiver};
use super::rtt::RoundTrips;
use super::send::Sender;

/// Packets that may come before there is an acknowledgement. 2.
const UNACKED: u32 = 2;
/// How long an acknowledgement may wait for another packet. 10 ms.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// How often a connection is asked for. Twice: with a second and then two to wait, three seconds.
const SYNS: u32 = 2;
/// Timeouts in a row that end a connection, and one that is being closed. 6 and 3.
const SILENT: u32 = 6;
const SILENT_CLOSING: u32 = 3;
/// How long a connection that somebody asked for may wait for its first packet. 10 s.
const UNCONFIRMED: Duration = Duration::from_secs(10);
/// After so long without a packet there is one, so that NATs remember the connection. 29 s, as in libutp.
const KEEP_ALIVE: Duration = Duration::from_secs(29);
/// After so long without one from the other end it is gone. 3 minutes: BitTorrent's peers speak every two.
const IDLE: Duration = Duration::from_secs(180);
/// How often one packet finds out whether there is room again where there was none. 15 s, as in libutp.
const ZERO_WINDOW: Duration = Duration::from_secs(15);
/// How long one that is closed acknowledges what is sent again. 2 s.
const LINGER: Duration = Duration::from_secs(2);
/// What some programs say when they have measured nothing.
const NOT_MEASURED: u32 = i32::MAX as u32;
/// Whole sequence numbers begin here, so that those before are numbers, too.
const EPOCH: u64 = 1 << 32;

/// The bounds of one connection.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// Bytes of the largest packet that is sent, as UDP carries it. 1,232: what every path of IPv6 carries (RFC 8200 §5).
    pub packet: usize,
    /// Bytes of what has come that it holds, and one packet more. 1 MiB.
    pub receive_buffer: usize,
    /// Bytes of what is to be sent that it holds, until they are acknowledged; what is more is not taken. 4 MiB.
    pub send_buffer: usize,
}

impl Default for ConnectionConfig {
    fn default() -> ConnectionConfig {
        ConnectionConfig { packet: 1232, receive_buffer: 1 << 20, send_buffer: 4 << 20 }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// This end has closed it, and the other has heard of that.
    Closed,
    /// The other end does not know it, or wants it no more.
    Reset,
    /// Nobody answers there.
    Unreachable,
    /// The other end was silent for too long.
    TimedOut,
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was asked for by this end, or by the other, which has not shown that it hears us.
    Opening,
    /// Both ends hear each other.
    Open,
    /// It is over.
    Over(End),
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    config: ConnectionConfig,
    /// Bytes that a packet carries at most.
    payload: usize,
    /// Whether this end has asked for it.
    dialled: bool,
    status: Status,
    /// What it is called in packets that come, and in those that go.
    ids: (u16, u16),
    /// The number of the packet by which this end has asked, or the other.
    syn: u16,
    sender: Sender,
    receiver: Receiver,
    ledbat: Ledbat,
    round_trips: RoundTrips,
    /// Losses before this packet are known.
    recovered: u64,
    /// What is told of the last packet that came.
    difference: u32,
    their_window: usize,
    /// Packets that came and are not acknowledged, and until when they have to be.
    unacked: u32,
    ack_at: Option<Time>,
    /// When what is on its way counts as lost.
    timeout: Option<Time>,
    /// Whether it is to be asked for now.
    asks: bool,
    /// Whether the other end is to be told that it is over.
    resets: bool,
    since: Time,
    sent: Time,
    heard: Time,
    /// When their window became less than a packet, or that was last put to the test; and whether it is now.
    shut: Time,
    probes: bool,
    /// Since when this end's last packet has arrived.
    closed: Option<Time>,
}

impl Connection {
    fn new(
        config: ConnectionConfig,
        dialled: bool,
        id: u16,
        (syn, first, next): (u16, u64, u64),
        now: Time,
    ) -> Connection {
        let payload = config.packet.saturating_sub(HEADER).max(1);
        let ids = if dialled { (id, id.wrapping_add(1)) } else { (id.wrapping_add(1), id) };
        Connection {
            payload,
            dialled,
            status: Status::Opening,
            ids,
            syn,
            sender: Sender::new(first),
            receiver: Receiver::new(next, config.receive_buffer),
            ledbat: Ledbat::new(payload, AHEAD * payload),
            round_trips: RoundTrips::default(),
            recovered: 0,
            difference: 0,
            their_window: payload,
            unacked: 0,
            ack_at: None,
            timeout: None,
            asks: dialled,
            resets: false,
            since: now,
            sent: now,
            heard: now,
            shut: now,
            probes: false,
            closed: None,
            config,
        }
    }

    /// Asks for a connection that is called `id`. `seq` is where its sequence numbers begin.
    pub fn dial(config: ConnectionConfig, id: u16, seq: u16, now: Time) -> Connection {
        Connection::new(config, true, id, (seq, EPOCH + u64::from(seq) + 1, EPOCH), now)
    }

    /// The other end asks for one, by a [`Kind::Syn`]. `seq` is where this end's sequence numbers begin.
    pub fn accept(config: ConnectionConfig, syn: &Packet, seq: u16, now: Time) -> Connection {
        let numbers = (syn.seq, EPOCH + u64::from(seq), EPOCH + u64::from(syn.seq) + 1);
        let mut connection = Connection::new(config, false, syn.connection, numbers, now);
        connection.their_window = syn.window as usize;
        connection.time(syn, now);
        connection.ack_at = Some(now);
        connection
    }

    /// What it is called in packets that come, but for the one that asks for it, and in those that go.
    pub fn ids(&self) -> (u16, u16) {
        self.ids
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        self.status
    }

    /// Bytes that it holds: of what is to be sent or may have to be again, and the room for what comes that is taken.
    pub fn held(&self) -> (usize, usize) {
        (self.sender.held(), self.config.receive_buffer.saturating_sub(self.receiver.window()))
    }

    /// How long packets to the other end queue on their way, as far as that is known.
    pub fn queueing(&self) -> Duration {
        self.ledbat.queueing()
    }

    // ---- what its owner does

    /// Has bytes sent. `false`, and it takes none, if too many wait.
    pub fn write(&mut self, bytes: Bytes) -> bool {
        let fits = self.sender.held() + bytes.len() <= self.config.send_buffer;
        if fits {
            self.sender.write(bytes);
        }
        fits
    }

    /// The next bytes of what has come. Then there may be something to send: that there is room again.
    pub fn read(&mut self) -> Option<Bytes> {
        let bytes = self.receiver.read()?;
        if self.receiver.reopens(self.payload) {
            // At once.
            self.ack_at = Some(Time::ZERO);
        }
        Some(bytes)
    }

    /// Whether all was read that the other end will ever send.
    pub fn is_finished(&self) -> bool {
        self.receiver.is_finished()
    }

    /// Closes it when all has been sent.
    pub fn close(&mut self) {
        match self.status {
            // Nobody has heard of it yet, nor is to hear anything.
            Status::Opening if self.dialled && self.sender.held() == 0 => self.over(End::Closed),
            Status::Opening | Status::Open => self.sender.end(),
            Status::Over(_) => {}
        }
    }

    /// Ends it at once, and tells the other end.
    pub fn reset(&mut self) {
        if !matches!(self.status, Status::Over(_)) {
            self.status = Status::Over(End::Reset);
            self.resets = true;
        }
    }

    // ---- what comes

    /// A packet has come whose connection this is.
    pub fn receive(&mut self, packet: Packet, now: Time) {
        match (self.status, packet.kind) {
            (Status::Over(_), _) => return,
            (_, Kind::Reset) if !self.tells_of_ours(packet.ack) => return,
            (Status::Opening, Kind::Reset) if self.dialled => return self.over(End::Unreachable),
            (_, Kind::Reset) => return self.over(End::Reset),
            (Status::Opening, Kind::Syn) if !self.dialled && packet.seq == self.syn => {
                self.ack_at = Some(now);
                return;
            }
            (_, Kind::Syn) => return,
            (Status::Opening, Kind::State) if self.dialled && packet.ack == self.syn => {
                self.receiver = Receiver::new(EPOCH + u64::from(packet.seq), self.config.receive_buffer);
                self.round_trips.heard();
                (self.asks, self.timeout) = (false, None);
                // The other end waits for a sign that we hear it.
                self.ack_at = Some(now + ACK_DELAY);
            }
            (Status::Opening, _) if self.dialled => return,
            // Whoever has heard this end's answer knows its number.
            (Status::Opening, _) if packet.ack != (self.sender.next() - 1) as u16 => return,
            (Status::Opening | Status::Open, Kind::Data | Kind::Fin | Kind::State) => {}
        }
        if !self.acknowledged(&packet, now) {
            return;
        }
        self.status = Status::Open;
        self.heard = now;
        if let Kind::Data | Kind::Fin = packet.kind {
            self.came(packet, now);
        }
        if self.sender.is_finished() && self.closed.is_none() {
            self.closed = Some(now);
        }
    }

    /// Whether a number is that of a packet which is on its way, or was the last to arrive, or takes none.
    fn tells_of_ours(&self, ack: u16) -> bool {
        (self.sender.first() - 1..=self.sender.next()).contains(&unwrap(ack, self.sender.next()))
    }

    /// Learns from a packet's clock.
    fn time(&mut self, packet: &Packet, now: Time) {
        if packet.timestamp != 0 {
            self.difference = micros(now).wrapping_sub(packet.timestamp);
            self.ledbat.theirs_took(self.difference, now);
        }
    }

    /// Learns what has arrived; `false` if the packet tells of what was never sent: it is not the other end's.
    fn acknowledged(&mut self, packet: &Packet, now: Time) -> bool {
        let next = unwrap(packet.ack, self.sender.next()) + 1;
        let (flight, first) = (self.sender.in_flight(), self.sender.first());
        let duplicate = packet.kind == Kind::State;
        let Some(acked) = self.sender.acknowledge(next, &packet.selective, duplicate, now) else {
            return false;
        };
        self.time(packet, now);
        if packet.difference != 0 && packet.difference != NOT_MEASURED {
            self.ledbat.ours_took(packet.difference, acked.took, now);
        }
        if acked.packets > 0 {
            acked.took.into_iter().for_each(|took| self.round_trips.add(took));
            self.round_trips.heard();
        }
        // The first that is missing is waited for, whatever else arrives.
        if self.sender.first() > first {
            self.timeout = self.sender.is_waiting().then(|| now + self.round_trips.timeout());
        }
        if acked.bytes > 0 {
            self.ledbat.acked(acked.bytes, flight + self.payload > self.ledbat.window());
        }
        if acked.lost.is_some_and(|seq| seq >= self.recovered) {
            self.recovered = self.sender.next();
            self.ledbat.lost();
        }
        // One that was overtaken tells of room that is taken since.
        if next == self.sender.first() {
            let window = packet.window as usize;
            self.shut =
                if window < self.payload && self.their_window >= self.payload { now } else { self.shut };
            self.their_window = window;
        }
        true
    }

    /// Takes what a packet carries.
    fn came(&mut self, packet: Packet, now: Time) {
        let seq = unwrap(packet.seq, self.receiver.next());
        let was_whole = self.receiver.is_whole();
        let came = self.receiver.receive(seq, packet.payload, packet.kind == Kind::Fin);
        self.unacked += 1;
        let whole = was_whole && came == Came::Next;
        let soon = match whole && packet.kind == Kind::Data && self.unacked < UNACKED {
            true => now + ACK_DELAY,
            false => now,
        };
        self.ack_at = Some(self.ack_at.map_or(soon, |at| at.min(soon)));
    }

    fn over(&mut self, end: End) {
        self.status = Status::Over(end);
    }

    // ---- time

    /// When [`Connection::tick`] is to be called, at the latest.
    pub fn next(&self) -> Time {
        let forgotten = match (self.status, self.dialled) {
            (Status::Opening, false) => self.since + UNCONFIRMED,
            _ => self.heard + IDLE,
        };
        let keep_alive = (self.status == Status::Open).then(|| self.sent + KEEP_ALIVE);
        let shut = self.is_shut_out().then(|| self.shut + ZERO_WINDOW);
        let lingered = self.closed.map(|at| at + LINGER);
        let times = [self.ack_at, self.timeout, keep_alive, shut, lingered];
        times.into_iter().flatten().fold(forgotten, Time::min)
    }

    /// Whether the other end has no room for what goes next, and nothing is on its way.
    fn is_shut_out(&self) -> bool {
        self.sender.in_flight() == 0 && self.sender.waits(self.payload) > self.their_window
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time) {
        if let Status::Over(_) = self.status {
            return;
        }
        if self.closed.is_some_and(|at| now >= at + LINGER) {
            return self.over(End::Closed);
        }
        let unconfirmed = self.status == Status::Opening && !self.dialled && now >= self.since + UNCONFIRMED;
        if unconfirmed || now >= self.heard + IDLE {
            return self.over(End::TimedOut);
        }
        if self.timeout.is_some_and(|at| now >= at) {
            self.timed_out(now);
        }
        if self.is_shut_out() && now >= self.shut + ZERO_WINDOW {
            (self.probes, self.shut) = (true, now);
        }
        if self.status == Status::Open && now >= self.sent + KEEP_ALIVE {
            self.ack_at = Some(now);
        }
    }

    /// Nothing was heard of what is on its way.
    fn timed_out(&mut self, now: Time) {
        self.timeout = None;
        if self.status == Status::Opening && self.dialled {
            match self.round_trips.timed_out() < SYNS {
                true => self.asks = true,
                false => self.over(End::Unreachable),
            }
            return;
        }
        self.sender.timed_out();
        // That nothing is taken says nothing of the way, nor whether anybody is there.
        if self.is_shut_out() {
            return;
        }
        let silent = self.round_trips.timed_out();
        if silent >= if self.sender.is_ending() { SILENT_CLOSING } else { SILENT } {
            return self.over(End::TimedOut);
        }
        self.ledbat.timed_out();
        self.recovered = self.sender.next();
        self.timeout = Some(now + self.round_trips.timeout());
    }

    // ---- what goes

    /// The next packet that is to be sent now; `None` when there is none.
    pub fn transmit(&mut self, now: Time) -> Option<Packet> {
        match self.status {
            Status::Over(_) => std::mem::take(&mut self.resets).then(|| self.packet(Kind::Reset, now)),
            Status::Opening if self.dialled => {
                std::mem::take(&mut self.asks).then_some(())?;
                self.timeout = Some(now + self.round_trips.timeout());
                let packet = self.packet(Kind::Syn, now);
                Some(Packet { connection: self.ids.0, seq: self.syn, ack: 0, ..packet })
            }
            // Nothing is sent to somebody who may not be there, but that one answer.
            Status::Opening => self.acknowledge(now),
            Status::Open => self.data(now).or_else(|| self.acknowledge(now)),
        }
    }

    fn data(&mut self, now: Time) -> Option<Packet> {
        let room = if std::mem::take(&mut self.probes) { self.payload } else { self.their_window };
        let outgoing = self.sender.transmit(self.payload, self.ledbat.window(), room, now)?;
        if self.timeout.is_none() || outgoing.seq == self.sender.first() {
            self.timeout = Some(now + self.round_trips.timeout());
        }
        // What is missing is told by a packet of its own.
        if self.receiver.is_whole() {
            (self.unacked, self.ack_at) = (0, None);
        }
        let kind = if outgoing.last { Kind::Fin } else { Kind::Data };
        let packet = self.packet(kind, now);
        Some(Packet { seq: outgoing.seq as u16, payload: outgoing.payload, ..packet })
    }

    fn acknowledge(&mut self, now: Time) -> Option<Packet> {
        self.ack_at.filter(|at| now >= *at)?;
        (self.unacked, self.ack_at) = (0, None);
        let selective = self.receiver.selective();
        Some(Packet { selective, ..self.packet(Kind::State, now) })
    }

    fn packet(&mut self, kind: Kind, now: Time) -> Packet {
        self.sent = now;
        Packet {
            kind,
            connection: self.ids.1,
            timestamp: micros(now),
            difference: self.difference,
            window: u32::try_from(self.receiver.promise(self.payload)).unwrap_or(u32::MAX),
            seq: self.sender.next() as u16,
            ack: (self.receiver.next() - 1) as u16,
            selective: Vec::new(),
            payload: Bytes::new(),
        }
    }
}

fn micros(now: Time) -> u32 {
    (now.as_nanos() / 1000) as u32
}

#[cfg(test)]
mod tests;
