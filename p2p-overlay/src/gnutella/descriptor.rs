//! Gnutella's descriptors, byte for byte: a header of 23 bytes, and what follows it (Clip2 §3).
//!
//! Numbers are little-endian, IPv4 addresses big-endian. What the specification leaves to extensions is kept as it came
//! and passed on. In memory an address is a [`Contact`]; on the wire of TCP it is IPv4 and a port, and a contact that
//! is not is written as nowhere.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use p2p_core::foreign::Malformed;
use p2p_core::{Contact, Rng};
use serde::{Deserialize, Serialize};

use crate::gnutella06::RouteUpdate;
use crate::place::foreign;

/// The bytes of a header.
pub(crate) const HEADER: usize = 23;
/// The longest payload that is taken in, in bytes (§3.2.4.2: nobody should make a longer descriptor). 64 KiB.
pub(crate) const MAX_PAYLOAD: usize = 64 << 10;

/// A descriptor's identifier, or a servent's: 16 bytes that mean nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// One that nobody else has (§3.2.2.1: byte 8 says that it is unique, byte 15 is reserved).
    pub(crate) fn random(rng: &mut Rng) -> Guid {
        let mut guid = [0; 16];
        rng.fill(&mut guid);
        (guid[8], guid[15]) = (0xff, 0);
        Guid(guid)
    }
}

impl std::fmt::Debug for Guid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// What servents pass on to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// The same wherever it goes.
    pub id: Guid,
    /// How often it may still be passed on, with the way it has just come.
    pub ttl: u8,
    /// How often it was passed on.
    pub hops: u8,
    /// What it says.
    pub payload: Payload,
}

/// What a descriptor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Who is there? To neighbours and theirs. Answered by [`Payload::Pong`].
    Ping {
        /// What the specification does not say.
        extension: Bytes,
    },
    /// A servent is there. Back the way that the ping has come.
    Pong(Pong),
    /// Who has this? To neighbours and theirs. Answered by [`Payload::QueryHit`].
    Query {
        /// Who is slower need not answer, in kbit/s. Nobody's business but the sender's: always 0 here.
        min_speed: u16,
        /// Words.
        criteria: Bytes,
        /// URNs (HUGE), among others.
        extension: Bytes,
    },
    /// The sender has it. Back the way that the query has come.
    QueryHit(QueryHit),
    /// To whoever sent a hit, back the way that it has come: connect to me and give me this.
    Push {
        /// As the hit said it.
        servent: Guid,
        /// As the hit said it.
        index: u32,
        /// Whom to connect to.
        contact: Contact,
        /// What the specification does not say.
        extension: Bytes,
    },
    /// To a neighbour: the sender is leaving. An extension (§3.2.7), which need not be understood.
    Bye {
        /// Why.
        reason: Bytes,
    },
    /// To a neighbour: what the sender, or its leaves, might have. Of version 0.6.
    Route(RouteUpdate),
    /// From a leaf to its ultrapeer, under the query's identifier: so many results have come, by whatever way; 65,535
    /// to end the search. BearShare's message 12, of version 0.6.
    Status {
        /// How many.
        hits: u16,
    },
}

/// A servent is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Where.
    pub contact: Contact,
    /// How many files it shares.
    pub files: u32,
    /// And how many kilobytes.
    pub kilobytes: u32,
    /// What the specification does not say.
    pub extension: Bytes,
}

/// A servent has something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryHit {
    /// Where to fetch it.
    pub contact: Contact,
    /// How fast it is, in kbit/s.
    pub speed: u32,
    /// What; at most 255.
    pub results: Vec<Shared>,
    /// What the specification does not say; whether a push is needed, mostly (§A.1.2).
    pub extension: Bytes,
    /// Names it in a push.
    pub servent: Guid,
}

/// A file that is shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// The servent's number for it.
    pub index: u32,
    /// Its bytes.
    pub size: u32,
    /// Its name, without a zero byte.
    pub name: Bytes,
    /// Its URNs (HUGE), among others; without a zero byte.
    pub extension: Bytes,
}

const PING: u8 = 0x00;
const PONG: u8 = 0x01;
const BYE: u8 = 0x02;
const PUSH: u8 = 0x40;
const QUERY: u8 = 0x80;
const QUERY_HIT: u8 = 0x81;
const ROUTE: u8 = 0x30;
const VENDOR: u8 = 0x31;
/// The vendor, the number and the version of a status.
const STATUS: &[u8; 8] = b"BEAR\x0c\0\x01\0";
/// Extensions that others may send and nobody has to know (§3.1): vendors' own.
const SKIPPED: [u8; 2] = [0x10, 0x32];

impl Payload {
    fn kind(&self) -> u8 {
        match self {
            Payload::Ping { .. } => PING,
            Payload::Pong(_) => PONG,
            Payload::Query { .. } => QUERY,
            Payload::QueryHit(_) => QUERY_HIT,
            Payload::Push { .. } => PUSH,
            Payload::Bye { .. } => BYE,
            Payload::Route(_) => ROUTE,
            Payload::Status { .. } => VENDOR,
        }
    }

    /// Its bytes on the wire of TCP.
    fn len(&self) -> usize {
        match self {
            Payload::Ping { extension } => extension.len(),
            Payload::Pong(pong) => 14 + pong.extension.len(),
            Payload::Query { criteria, extension, .. } => 3 + criteria.len() + extension.len(),
            Payload::QueryHit(hit) => {
                let results = hit.results.iter().map(Shared::len);
                27 + results.sum::<usize>() + hit.extension.len()
            }
            Payload::Push { extension, .. } => 26 + extension.len(),
            Payload::Bye { reason } => reason.len(),
            Payload::Route(update) => update.len(),
            Payload::Status { .. } => STATUS.len() + 2,
        }
    }
}

impl Shared {
    /// Its bytes in a hit.
    pub(crate) fn len(&self) -> usize {
        10 + self.name.len() + self.extension.len()
    }
}

impl Descriptor {
    /// The same for the next hop; `None` if there is none.
    pub(crate) fn onward(self) -> Option<Descriptor> {
        let ttl = self.ttl.checked_sub(1).filter(|ttl| *ttl > 0)?;
        Some(Descriptor { ttl, hops: self.hops.saturating_add(1), ..self })
    }

    /// Its bytes on the wire of TCP.
    pub fn wire_size(&self) -> usize {
        HEADER + self.payload.len()
    }

    /// Whether it can be written, and read again: it came from elsewhere, not as the bytes that are described here.
    pub(crate) fn is_sound(&self) -> bool {
        let no_zero = |text: &Bytes| !text.contains(&0);
        self.payload.len() <= MAX_PAYLOAD
            && match &self.payload {
                Payload::Query { criteria, .. } => no_zero(criteria),
                Payload::QueryHit(hit) => {
                    let results = &hit.results;
                    let sound = |shared: &Shared| no_zero(&shared.name) && no_zero(&shared.extension);
                    results.len() <= 255 && results.iter().all(sound)
                }
                Payload::Ping { .. }
                | Payload::Pong(_)
                | Payload::Push { .. }
                | Payload::Bye { .. }
                | Payload::Route(_)
                | Payload::Status { .. } => true,
            }
    }

    /// Whether nothing follows it.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self.payload, Payload::Bye { .. })
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.wire_size());
        out.put_slice(&self.id.0);
        out.put_slice(&[self.payload.kind(), self.ttl, self.hops]);
        out.put_u32_le(self.payload.len() as u32);
        match &self.payload {
            Payload::Ping { extension } => out.put_slice(extension),
            Payload::Pong(pong) => {
                let (ip, port) = address(&pong.contact);
                out.put_u16_le(port);
                out.put_slice(&ip.octets());
                out.put_u32_le(pong.files);
                out.put_u32_le(pong.kilobytes);
                out.put_slice(&pong.extension);
            }
            Payload::Query { min_speed, criteria, extension } => {
                out.put_u16_le(*min_speed);
                out.put_slice(criteria);
                out.put_u8(0);
                out.put_slice(extension);
            }
            Payload::QueryHit(hit) => {
                let (ip, port) = address(&hit.contact);
                out.put_u8(hit.results.len() as u8);
                out.put_u16_le(port);
                out.put_slice(&ip.octets());
                out.put_u32_le(hit.speed);
                for shared in &hit.results {
                    out.put_u32_le(shared.index);
                    out.put_u32_le(shared.size);
                    out.put_slice(&shared.name);
                    out.put_u8(0);
                    out.put_slice(&shared.extension);
                    out.put_u8(0);
                }
                out.put_slice(&hit.extension);
                out.put_slice(&hit.servent.0);
            }
            Payload::Push { servent, index, contact, extension } => {
                let (ip, port) = address(contact);
                out.put_slice(&servent.0);
                out.put_u32_le(*index);
                out.put_slice(&ip.octets());
                out.put_u16_le(port);
                out.put_slice(extension);
            }
            Payload::Bye { reason } => out.put_slice(reason),
            Payload::Route(update) => update.encode(out),
            Payload::Status { hits } => {
                out.put_slice(STATUS);
                out.put_u16_le(*hits);
            }
        }
    }

    /// Takes the next descriptor from the front of the input; `None` while it is not all there. What others may send
    /// and nobody has to know is passed over.
    ///
    /// # Errors
    /// The bytes are no descriptor, and nobody can say where the next one begins.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Descriptor>, Malformed> {
        loop {
            let Some(header) = input.first_chunk::<HEADER>() else { return Ok(None) };
            let (id, rest) = header.split_at(16);
            let &[kind, ttl, hops, a, b, c, d] = rest else { return Ok(None) };
            let length = u32::from_le_bytes([a, b, c, d]) as usize;
            let known = [PING, PONG, BYE, PUSH, QUERY, QUERY_HIT].contains(&kind);
            let extension = [ROUTE, VENDOR].contains(&kind);
            if !known && !extension && !SKIPPED.contains(&kind) {
                return Err(Malformed(format!("a descriptor of the unknown kind {kind:#04x}")));
            }
            if length > MAX_PAYLOAD {
                return Err(Malformed(format!(
                    "a payload of {length} bytes; at most {MAX_PAYLOAD} are taken in"
                )));
            }
            if input.len() < HEADER + length {
                return Ok(None);
            }
            let id = Guid(id.try_into().unwrap_or_default());
            input.advance(HEADER);
            let bytes = input.split_to(length).freeze();
            let Some(payload) = payload(kind, bytes) else {
                if !known {
                    continue;
                }
                return Err(Malformed(format!("{length} bytes are no payload of the kind {kind:#04x}")));
            };
            return Ok(Some(Descriptor { id, ttl, hops, payload }));
        }
    }
}

/// What the payload of a known kind says, if it is as long as it has to be.
fn payload(kind: u8, mut bytes: Bytes) -> Option<Payload> {
    Some(match kind {
        PING => Payload::Ping { extension: bytes },
        PONG => {
            let port = bytes.try_get_u16_le().ok()?;
            let contact = foreign(ip(&mut bytes)?, port);
            let files = bytes.try_get_u32_le().ok()?;
            let kilobytes = bytes.try_get_u32_le().ok()?;
            Payload::Pong(Pong { contact, files, kilobytes, extension: bytes })
        }
        QUERY => {
            let min_speed = bytes.try_get_u16_le().ok()?;
            let criteria = text(&mut bytes)?;
            Payload::Query { min_speed, criteria, extension: bytes }
        }
        QUERY_HIT => {
            let count = bytes.try_get_u8().ok()?;
            let port = bytes.try_get_u16_le().ok()?;
            let contact = foreign(ip(&mut bytes)?, port);
            let speed = bytes.try_get_u32_le().ok()?;
            let mut results = Vec::new();
            for _ in 0..count {
                let index = bytes.try_get_u32_le().ok()?;
                let size = bytes.try_get_u32_le().ok()?;
                let name = text(&mut bytes)?;
                let extension = text(&mut bytes)?;
                results.push(Shared { index, size, name, extension });
            }
            let extension = bytes.split_to(bytes.len().checked_sub(16)?);
            Payload::QueryHit(QueryHit { contact, speed, results, extension, servent: guid(&mut bytes)? })
        }
        PUSH => {
            let servent = guid(&mut bytes)?;
            let index = bytes.try_get_u32_le().ok()?;
            let ip = ip(&mut bytes)?;
            let port = bytes.try_get_u16_le().ok()?;
            Payload::Push { servent, index, contact: foreign(ip, port), extension: bytes }
        }
        BYE => Payload::Bye { reason: bytes },
        ROUTE => Payload::Route(RouteUpdate::decode(bytes)?),
        VENDOR => {
            let hits = bytes.strip_prefix(STATUS)?.try_into().ok()?;
            Payload::Status { hits: u16::from_le_bytes(hits) }
        }
        _ => return None,
    })
}

/// What stands before the next zero byte.
fn text(bytes: &mut Bytes) -> Option<Bytes> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let text = bytes.split_to(end);
    bytes.advance(1);
    Some(text)
}

fn ip(bytes: &mut Bytes) -> Option<Ipv4Addr> {
    bytes.try_get_u32().ok().map(Ipv4Addr::from)
}

fn guid(bytes: &mut Bytes) -> Option<Guid> {
    let guid = bytes.first_chunk::<16>().map(|guid| Guid(*guid))?;
    bytes.advance(16);
    Some(guid)
}

/// Where a contact is by IPv4; nowhere, if it is not.
fn address(contact: &Contact) -> (Ipv4Addr, u16) {
    match contact.addr {
        SocketAddr::V4(addr) => (*addr.ip(), addr.port()),
        SocketAddr::V6(_) => (Ipv4Addr::UNSPECIFIED, 0),
    }
}

#[cfg(test)]
mod tests;
