//! The extension protocol (BEP 10) and what is said by it: metadata (BEP 9) and who else is there (BEP 11).
//!
//! Each end numbers the messages that it wants to get, so what is sent bears the receiver's number: it is the codec that
//! knows both.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use p2p_core::foreign::Malformed;
use p2p_core::payload;
use p2p_dht::bencode::{self, Flaw, Value};
use serde::{Deserialize, Serialize};

use super::{PeerMsg, malformed};
use crate::torrent::address::{put_compact, v4, v6};

/// The number under which this end wants to hear who is there.
const PEX: u8 = 1;
/// The number under which this end wants to hear of metadata.
const METADATA: u8 = 2;
/// Of the addresses in one message so many are taken, of each kind; the rest are passed over. 200: four times what BEP
/// 11 allows in any but the first.
pub const MAX_PEX: usize = 200;

/// The other end's numbers, as far as it wants such messages.
#[derive(Debug, Default)]
pub(super) struct Ids {
    pub metadata: Option<u8>,
    pub pex: Option<u8>,
}

/// What a peer can do, and knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendedHandshake {
    /// Whether it wants messages about metadata (BEP 9); `None`: as before, or no.
    pub metadata: Option<bool>,
    /// Whether it wants to hear who else is there (BEP 11); `None`: as before, or no.
    pub pex: Option<bool>,
    /// The length of the torrent's `info`, if it has it.
    pub metadata_size: Option<u32>,
    /// The port that it listens at.
    pub port: Option<u16>,
    /// How many requests may wait at it.
    pub request_queue: Option<u32>,
    /// What program it is.
    pub client: Option<String>,
    /// Whether it wants nothing (BEP 21); `None`: as before, or no.
    pub upload_only: Option<bool>,
    /// Whether it would rather have connections encrypted.
    pub encrypts: bool,
}

/// A message about metadata (BEP 9): pieces of 16 KiB of `info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetadataMsg {
    /// Asks for a piece; the answer is one of the others.
    Request(u32),
    /// A piece.
    Data {
        /// Which.
        piece: u32,
        /// The length of all.
        total: u32,
        /// Its bytes.
        #[serde(with = "payload")]
        data: Bytes,
    },
    /// The piece will not be sent.
    Reject(u32),
}

/// Who has come and gone (BEP 11).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PexMsg {
    /// Peers that the sender is connected to now.
    pub added: Vec<PexPeer>,
    /// Peers that it is not connected to any more.
    pub dropped: Vec<SocketAddr>,
}

/// A peer that somebody else is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PexPeer {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Whether it has everything.
    pub seed: bool,
    /// Whether the sender has reached it there.
    pub reachable: bool,
    /// Whether it would rather have connections encrypted.
    pub encrypts: bool,
    /// Whether it is known to speak uTP.
    pub utp: bool,
}

pub(super) fn frame(output: &mut BytesMut, number: u8, head: &[u8], data: &[u8]) {
    output.put_u32((2 + head.len() + data.len()) as u32);
    output.put_u8(super::id::EXTENDED);
    output.put_u8(number);
    output.put_slice(head);
    output.put_slice(data);
}

/// The extension message in a frame; `None` if it is of a kind that is not known here.
pub(super) fn decode(theirs: &mut Ids, mut frame: Bytes) -> Result<Option<PeerMsg>, Malformed> {
    if frame.is_empty() {
        return Err(malformed("an extension message without its number"));
    }
    let number = frame.get_u8();
    if ![0, PEX, METADATA].contains(&number) {
        return Ok(None);
    }
    // What follows the dictionary is a piece of metadata. Some programs do not sort their keys; no hash depends on it.
    let value = match Value::decode_prefix(&frame) {
        Err(error) if error.flaw == Flaw::KeyOrder => Value::decode_unsorted(&frame),
        value => value,
    };
    let value = value.map_err(|error| malformed(format!("an extension message: {error}")))?;
    let data = frame.slice(value.raw().len()..);
    Ok(match number {
        0 => Some(PeerMsg::Extended(ExtendedHandshake::of(&value, theirs))),
        PEX => Some(PeerMsg::Pex(PexMsg::of(&value))),
        _ => MetadataMsg::of(&value, data)?.map(PeerMsg::Metadata),
    })
}

fn number<T: TryFrom<i64>>(value: &Value<'_>, key: &str) -> Option<T> {
    T::try_from(value.get(key)?.as_int()?).ok()
}

/// What a peer's number for a kind of message says: whether it wants any, if it says so at all.
fn learn(ids: Option<Value<'_>>, key: &str, place: &mut Option<u8>) -> Option<bool> {
    let id: u8 = number(&ids?, key)?;
    *place = Some(id).filter(|id| *id != 0);
    Some(place.is_some())
}

impl ExtendedHandshake {
    fn of(value: &Value<'_>, theirs: &mut Ids) -> ExtendedHandshake {
        let ids = value.get("m");
        let client = value.get("v").and_then(|client| client.as_bytes());
        ExtendedHandshake {
            metadata: learn(ids, "ut_metadata", &mut theirs.metadata),
            pex: learn(ids, "ut_pex", &mut theirs.pex),
            metadata_size: number(value, "metadata_size"),
            port: number(value, "p").filter(|port| *port != 0),
            request_queue: number(value, "reqq"),
            client: client.map(|client| String::from_utf8_lossy(client).chars().take(64).collect()),
            upload_only: number::<u8>(value, "upload_only").map(|said| said == 1),
            encrypts: number(value, "e") == Some(1),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        bencode::dict(|d| {
            if self.encrypts {
                d.int("e", 1);
            }
            d.dict("m", |m| {
                for (key, offered, id) in
                    [("ut_metadata", self.metadata, METADATA), ("ut_pex", self.pex, PEX)]
                {
                    if let Some(offered) = offered {
                        m.int(key, if offered { id.into() } else { 0 });
                    }
                }
            });
            if let Some(size) = self.metadata_size {
                d.int("metadata_size", size.into());
            }
            if let Some(port) = self.port {
                d.int("p", port.into());
            }
            if let Some(requests) = self.request_queue {
                d.int("reqq", requests.into());
            }
            if let Some(upload_only) = self.upload_only {
                d.int("upload_only", upload_only.into());
            }
            if let Some(client) = &self.client {
                d.bytes("v", client);
            }
        })
    }
}

impl MetadataMsg {
    fn of(value: &Value<'_>, data: Bytes) -> Result<Option<MetadataMsg>, Malformed> {
        let piece = number(value, "piece").ok_or_else(|| malformed("metadata without a piece's number"))?;
        Ok(match number::<u8>(value, "msg_type") {
            Some(0) => Some(MetadataMsg::Request(piece)),
            Some(1) => {
                let total =
                    number(value, "total_size").ok_or_else(|| malformed("metadata without its size"))?;
                Some(MetadataMsg::Data { piece, total, data })
            }
            Some(2) => Some(MetadataMsg::Reject(piece)),
            _ => None,
        })
    }

    /// The dictionary, and what follows it.
    pub(super) fn encode(&self) -> (Vec<u8>, &[u8]) {
        let head = |kind, piece: u32, total: Option<u32>| {
            bencode::dict(|d| {
                d.int("msg_type", kind);
                d.int("piece", piece.into());
                if let Some(total) = total {
                    d.int("total_size", total.into());
                }
            })
        };
        match self {
            MetadataMsg::Request(piece) => (head(0, *piece, None), &[]),
            MetadataMsg::Data { piece, total, data } => (head(1, *piece, Some(*total)), data),
            MetadataMsg::Reject(piece) => (head(2, *piece, None), &[]),
        }
    }
}

const ENCRYPTS: u8 = 0x01;
const SEED: u8 = 0x02;
const UTP: u8 = 0x04;
const REACHABLE: u8 = 0x10;

/// Addresses in compact form: four bytes and a port, or sixteen and a port.
fn compact<const N: usize>(
    value: &Value<'_>,
    key: &str,
    address: fn(&[u8; N]) -> SocketAddr,
) -> Vec<SocketAddr> {
    let bytes = value.get(key).and_then(|list| list.as_bytes()).unwrap_or_default();
    bytes.as_chunks::<N>().0.iter().take(MAX_PEX).map(address).collect()
}

impl PexMsg {
    fn of(value: &Value<'_>) -> PexMsg {
        let mut pex = PexMsg::default();
        for (peers, flags) in
            [(compact(value, "added", v4), "added.f"), (compact(value, "added6", v6), "added6.f")]
        {
            let flags = value.get(flags).and_then(|flags| flags.as_bytes()).unwrap_or_default();
            pex.added.extend(peers.into_iter().enumerate().map(|(i, addr)| {
                let flags = flags.get(i).copied().unwrap_or_default();
                let has = |flag: u8| flags & flag != 0;
                let (seed, reachable) = (has(SEED), has(REACHABLE));
                PexPeer { addr, seed, reachable, encrypts: has(ENCRYPTS), utp: has(UTP) }
            }));
        }
        pex.dropped = [compact(value, "dropped", v4), compact(value, "dropped6", v6)].concat();
        pex
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Of version 4, and of version 6.
        let (mut added, mut dropped) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
        let mut flags = [const { Vec::new() }; 2];
        for peer in &self.added {
            let which = usize::from(peer.addr.is_ipv6());
            put_compact(&mut added[which], &peer.addr);
            let said =
                [(peer.seed, SEED), (peer.reachable, REACHABLE), (peer.encrypts, ENCRYPTS), (peer.utp, UTP)];
            flags[which].push(said.iter().filter(|(is, _)| *is).fold(0, |all, (_, flag)| all | flag));
        }
        for addr in &self.dropped {
            put_compact(&mut dropped[usize::from(addr.is_ipv6())], addr);
        }
        bencode::dict(|d| {
            for (which, ending) in ["", "6"].into_iter().enumerate() {
                if !added[which].is_empty() {
                    d.bytes(format!("added{ending}"), &added[which]);
                    d.bytes(format!("added{ending}.f"), &flags[which]);
                }
                if !dropped[which].is_empty() {
                    d.bytes(format!("dropped{ending}"), &dropped[which]);
                }
            }
        })
    }
}
