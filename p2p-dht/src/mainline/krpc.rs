//! KRPC (BEP 5): one bencoded dictionary per packet, a query, a response or an error.
//!
//! Reading is generous where real programs are sloppy (keys in any order, unknown keys, no version) and strict where
//! something is kept or compared: ids, addresses, and values (BEP 44), whose bytes stay as they came. A query that
//! cannot be served but says whom to answer is [`Query::Invalid`], so that its sender hears why.

mod compact;
mod read;
mod write;

use std::net::SocketAddr;

use bytes::Bytes;
use p2p_core::foreign::{Malformed, PacketCodec};
use p2p_core::{DecodeError, Key, Lane, Wire};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use compact::Node;

use super::item::MutableItem;
pub(super) use compact::{put_nodes, read_nodes};

/// The longest packet that is read, in bytes.
const MAX_PACKET: usize = 4096;

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KrpcMsg {
    /// The asker's number for its query, which the answer repeats. At most 32 bytes.
    pub transaction: Bytes,
    /// Which program sent it.
    pub version: Option<[u8; 4]>,
    /// In an answer: where the asker is, as the answerer sees it (BEP 42).
    pub ip: Option<SocketAddr>,
    /// What it is.
    pub body: KrpcBody,
}

/// What a packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KrpcBody {
    /// A question.
    Query {
        /// Who asks.
        id: Key<20>,
        /// It answers no queries: nobody should remember it (BEP 43).
        read_only: bool,
        /// What.
        query: Query,
    },
    /// The answer.
    Response(Box<Response>),
    /// Why there is none.
    Error {
        /// 201 to 204 (BEP 5), 205 to 207, 301, 302 (BEP 44).
        code: i64,
        /// In words.
        text: String,
    },
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Are you there? The answer has nothing but an id.
    Ping,
    /// Whom do you know near this id? The answer has nodes.
    FindNode {
        /// The id.
        target: Key<20>,
        /// Which kinds of nodes.
        want: Option<Want>,
    },
    /// Who has this torrent? The answer has a token, nodes, and peers if there are any.
    GetPeers {
        /// The torrent.
        info_hash: Key<20>,
        /// Which kinds of nodes.
        want: Option<Want>,
    },
    /// The sender has this torrent.
    AnnouncePeer {
        /// The torrent.
        info_hash: Key<20>,
        /// Where the sender's BitTorrent client listens.
        port: u16,
        /// It listens at the port that the packet came from.
        implied_port: bool,
        /// From an answer to `GetPeers`.
        token: Bytes,
    },
    /// What is kept here (BEP 44)? The answer has a token, nodes, and the item if there is one.
    Get {
        /// Where.
        target: Key<20>,
        /// Only what is newer than this sequence number.
        newer_than: Option<i64>,
        /// Which kinds of nodes.
        want: Option<Want>,
    },
    /// Keep this (BEP 44).
    Put {
        /// From an answer to `Get`.
        token: Bytes,
        /// What.
        item: Box<PutItem>,
    },
    /// Which torrents do you know (BEP 51)? The answer has samples and nodes.
    SampleInfohashes {
        /// Nodes near here.
        target: Key<20>,
        /// Which kinds of nodes.
        want: Option<Want>,
    },
    /// What this node cannot serve; it is never sent.
    Invalid {
        /// The error.
        code: i64,
        /// Why.
        why: &'static str,
    },
}

/// What is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutItem {
    /// A value under its hash, as it is encoded.
    Immutable(Bytes),
    /// A signed value.
    Mutable {
        /// The value. Its signature has not been checked.
        item: MutableItem,
        /// Only if this is the sequence number of what it replaces.
        cas: Option<i64>,
    },
}

/// Which kinds of nodes an answer should have (BEP 32); without it, those of the network that the query came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// Of IPv4.
    pub n4: bool,
    /// Of IPv6.
    pub n6: bool,
}

/// An answer: which of this it has depends on the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Who answers.
    pub id: Key<20>,
    /// Nodes of IPv4.
    pub nodes: Option<Vec<Node>>,
    /// Nodes of IPv6.
    pub nodes6: Option<Vec<Node>>,
    /// Peers of a torrent.
    pub values: Vec<SocketAddr>,
    /// To write here.
    pub token: Option<Bytes>,
    /// An item's value, as it is encoded.
    pub value: Option<Bytes>,
    /// A mutable item's sequence number.
    pub sequence: Option<i64>,
    /// Its publisher's key.
    pub publisher: Option<[u8; 32]>,
    /// Its signature.
    pub signature: Option<[u8; 64]>,
    /// Torrents (BEP 51).
    pub samples: Option<Samples>,
}

/// Some of the torrents that a node knows peers of (BEP 51).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// Which.
    pub info_hashes: Vec<Key<20>>,
    /// How many it knows in all.
    pub total: u32,
    /// For how many seconds there are no others.
    pub interval: u32,
}

impl Response {
    /// An answer that says nothing but who answers.
    pub fn new(id: Key<20>) -> Response {
        Response {
            id,
            nodes: None,
            nodes6: None,
            values: Vec::new(),
            token: None,
            value: None,
            sequence: None,
            publisher: None,
            signature: None,
            samples: None,
        }
    }
}

impl KrpcMsg {
    /// The message in a packet.
    ///
    /// # Errors
    /// There is none that could be answered.
    pub fn decode(packet: &[u8]) -> Result<KrpcMsg, Malformed> {
        read::message(packet).map_err(|why| Malformed(why.to_owned()))
    }
}

/// KRPC's packets, for `p2p_core::net::udp`.
#[derive(Clone, Copy, Debug, Default)]
pub struct KrpcCodec;

impl PacketCodec for KrpcCodec {
    type Msg = KrpcMsg;

    fn decode(&mut self, _: SocketAddr, packet: &[u8]) -> Result<KrpcMsg, Malformed> {
        KrpcMsg::decode(packet)
    }

    fn encode(&mut self, _: SocketAddr, msg: KrpcMsg, packet: &mut Vec<u8>) {
        write::message(&msg, packet);
    }
}

/// The simulator's wire has the same bytes as the real one.
impl Wire for KrpcMsg {
    const MAX_BYTES: usize = MAX_PACKET;

    fn lane(&self) -> Lane {
        Lane::Datagram
    }

    fn encode(&self, out: &mut Vec<u8>) {
        write::message(self, out);
    }

    fn wire_len(&self) -> usize {
        self.to_bytes().len()
    }

    fn from_bytes(bytes: &[u8]) -> Result<KrpcMsg, DecodeError> {
        read::message(bytes).map_err(|why| DecodeError::Malformed(why.to_owned()))
    }
}

impl Serialize for KrpcMsg {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

impl<'de> Deserialize<'de> for KrpcMsg {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KrpcMsg, D::Error> {
        let packet = Bytes::deserialize(deserializer)?;
        read::message(&packet).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
