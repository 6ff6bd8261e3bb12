//! Many connections over one socket, and what strangers can make of that.
//!
//! A connection is the other end's address and the number that its packets bear. A packet of none is answered by a
//! [`Kind::Reset`], which is no longer than any packet, at a limited rate. Who asks for a connection gets one answer of a
//! header's length, and a place among those that have not shown that they heard it; if there is none left, that of
//! whoever has waited for longest, of the same host if it is that which has too many. So nobody is drowned whose answer
//! takes less time than such a flood needs to fill all places, and a host's own if the flood comes in its name. Who has
//! shown it may still open too many one after the other: those are reset before anything is read of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use bytes::Bytes;
use p2p_core::foreign::TcpPeer;
use p2p_core::{Rng, Time};

use super::connection::{Connection, ConnectionConfig, Status};
use super::opening::Opening;
use super::packet::{Kind, Packet};
use crate::bucket::Bucket;

/// Bursts of so many seconds' worth of resets pass. 2.
const BURST: f64 = 2.0;

/// The bounds of one socket's connections.
#[derive(Clone, Debug)]
pub struct UtpConfig {
    /// The bounds of each.
    pub connection: ConnectionConfig,
    /// Connections, both ways, those that end among them; one that is not confirmed gives way to another. 1,024.
    pub connections: usize,
    /// Connections of one host: an address of IPv4, or a /64 of IPv6; this machine has as many as there are. 64.
    pub of_host: usize,
    /// Those that others have asked for, and not shown that they heard the answer. 128.
    pub unconfirmed: usize,
    /// Connections that one host may open in a second, on the average; four times as many its subnet, a /24 or a /48, and
    /// sixteen times as many all together. Bursts of four seconds' worth pass. 16.
    pub opened_by_host: u32,
    /// Packets of no connection that are answered in a second. 64.
    pub resets: u32,
}

impl Default for UtpConfig {
    fn default() -> UtpConfig {
        UtpConfig {
            connection: ConnectionConfig::default(),
            connections: 1024,
            of_host: 64,
            unconfirmed: 128,
            opened_by_host: 16,
            resets: 64,
        }
    }
}

/// Where a connection's packets come from, and what they call it.
type Key = (SocketAddr, u16);

/// What is to be done about a packet.
#[derive(Debug)]
pub(super) enum Verdict {
    /// A connection has got it.
    Of(TcpPeer),
    /// It is the first of a connection, to which that other has given way.
    Accepted(TcpPeer, Option<TcpPeer>),
    /// It is answered by this.
    Answer(Packet),
    /// Nothing.
    Nothing,
}

/// There are too many connections.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// A connection, and what is known of it here.
#[derive(Debug)]
pub(super) struct Entry {
    pub name: TcpPeer,
    pub connection: Connection,
    /// Whether it was told that it is open.
    pub told: bool,
    /// When its timer fires, if it is set.
    pub alarm: Option<Time>,
}

/// The connections, by what they are called here and by what they are called in packets.
#[derive(Debug)]
pub(super) struct Mux {
    config: UtpConfig,
    connections: BTreeMap<Key, Entry>,
    keys: BTreeMap<TcpPeer, Key>,
    /// Those that others have asked for, and not shown that they heard the answer, by their number: in order.
    unconfirmed: BTreeMap<u64, TcpPeer>,
    accepted: u64,
    opening: Opening,
    resets: Bucket,
}

impl Mux {
    pub(super) fn new(config: UtpConfig) -> Mux {
        let rate = f64::from(config.resets);
        Mux {
            connections: BTreeMap::new(),
            keys: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            accepted: 0,
            opening: Opening::new(config.opened_by_host),
            resets: Bucket::new(rate, rate * BURST, Time::ZERO),
            config,
        }
    }

    pub(super) fn get(&mut self, name: &TcpPeer) -> Option<&mut Entry> {
        self.connections.get_mut(self.keys.get(name)?)
    }

    pub(super) fn remove(&mut self, name: &TcpPeer) {
        if let Some(key) = self.keys.remove(name) {
            self.connections.remove(&key);
        }
        if let TcpPeer::Accepted { number, .. } = name {
            self.unconfirmed.remove(number);
        }
    }

    fn insert(&mut self, key: Key, name: TcpPeer, connection: Connection) {
        self.keys.insert(name, key);
        self.connections.insert(key, Entry { name, connection, told: false, alarm: None });
    }

    /// Asks for a connection: which other has given way to it. One that bears the name already, and ends, is forgotten.
    pub(super) fn dial(&mut self, name: TcpPeer, now: Time, rng: &mut Rng) -> Result<Option<TcpPeer>, Full> {
        let to = name.addr();
        self.remove(&name);
        let evicted = self.make_room(None)?;
        // There are fewer connections than numbers.
        let mut id = rng.next_u64() as u16;
        while self.connections.contains_key(&(to, id)) {
            id = id.wrapping_add(1);
        }
        let connection = Connection::dial(self.config.connection.clone(), id, rng.next_u64() as u16, now);
        self.insert((to, id), name, connection);
        Ok(evicted)
    }

    /// A packet has come.
    pub(super) fn receive(&mut self, from: SocketAddr, packet: Packet, now: Time, rng: &mut Rng) -> Verdict {
        let id = match packet.kind {
            // It bears the number of the other direction.
            Kind::Syn => packet.connection.wrapping_add(1),
            Kind::Reset => self.reset(from, packet.connection),
            Kind::Data | Kind::Fin | Kind::State => packet.connection,
        };
        match self.connections.get_mut(&(from, id)) {
            Some(entry) => {
                entry.connection.receive(packet, now);
                let name = entry.name;
                if let TcpPeer::Accepted { number, .. } = name
                    && entry.connection.status() != Status::Opening
                    && self.unconfirmed.remove(&number).is_some()
                    && entry.connection.status() == Status::Open
                    && !self.opening.may(from.ip(), now)
                {
                    entry.connection.reset();
                }
                Verdict::Of(name)
            }
            None if packet.kind == Kind::Syn => self.accept(from, &packet, now, rng),
            None if packet.kind == Kind::Reset || !self.resets.take(1.0, now) => Verdict::Nothing,
            None => Verdict::Answer(Packet {
                kind: Kind::Reset,
                connection: packet.connection,
                timestamp: 0,
                difference: 0,
                window: 0,
                seq: 0,
                ack: packet.seq,
                selective: Vec::new(),
                payload: Bytes::new(),
            }),
        }
    }

    /// What a connection is called that is reset: that bears its number, or, from somebody who does not know it, that of
    /// the packets that went there.
    fn reset(&self, from: SocketAddr, id: u16) -> u16 {
        let goes = |other: &u16| {
            self.connections.get(&(from, *other)).is_some_and(|entry| entry.connection.ids().1 == id)
        };
        match self.connections.contains_key(&(from, id)) {
            true => id,
            false => [id.wrapping_sub(1), id.wrapping_add(1)].into_iter().find(goes).unwrap_or(id),
        }
    }

    /// Somebody asks for a connection.
    fn accept(&mut self, from: SocketAddr, syn: &Packet, now: Time, rng: &mut Rng) -> Verdict {
        let Ok(evicted) = self.make_room(Some(from.ip())) else { return Verdict::Nothing };
        self.accepted += 1;
        let name = TcpPeer::Accepted { addr: from, number: self.accepted };
        let connection = Connection::accept(self.config.connection.clone(), syn, rng.next_u64() as u16, now);
        self.insert((from, connection.ids().0), name, connection);
        self.unconfirmed.insert(self.accepted, name);
        Verdict::Accepted(name, evicted)
    }

    /// Makes room for one more connection, for which that host has asked or this end: which had to give way. It is the
    /// oldest that is not confirmed; of the host itself, if that has too many.
    fn make_room(&mut self, asks: Option<IpAddr>) -> Result<Option<TcpPeer>, Full> {
        let config = &self.config;
        let host = asks.filter(|ip| !ip.to_canonical().is_loopback()).map(host);
        let oldest = if let Some(host) = host.filter(|host| self.of_host(host) >= config.of_host) {
            self.unconfirmed.values().find(|name| host.contains(&name.addr().ip()))
        } else if self.connections.len() >= config.connections
            || (asks.is_some() && self.unconfirmed.len() >= config.unconfirmed.max(1))
        {
            self.unconfirmed.values().next()
        } else {
            return Ok(None);
        };
        let oldest = *oldest.ok_or(Full)?;
        self.remove(&oldest);
        Ok(Some(oldest))
    }

    /// How many connections a host has.
    fn of_host(&self, host: &RangeInclusive<IpAddr>) -> usize {
        let (first, last) = (SocketAddr::new(*host.start(), 0), SocketAddr::new(*host.end(), u16::MAX));
        self.connections.range((first, 0)..=(last, u16::MAX)).count()
    }
}

/// The addresses that are one host's.
pub(super) fn host(ip: IpAddr) -> RangeInclusive<IpAddr> {
    match ip {
        IpAddr::V4(_) => ip..=ip,
        IpAddr::V6(six) => {
            let network = six.to_bits() >> 64 << 64;
            let of = |bits| IpAddr::V6(Ipv6Addr::from_bits(bits));
            of(network)..=of(network | u128::from(u64::MAX))
        }
    }
}

#[cfg(test)]
mod tests;
