//! What Bitcoin's nodes say to each other, and how it travels: a magic number, a name, a length, a checksum, and a payload.

use bytes::{Buf, BufMut, BytesMut};
use p2p_core::foreign::{After, Codec, Malformed};
use p2p_core::{Key, Wire};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bloom::Bloom;
use super::merkle::MerkleBlock;
use super::transaction::{BitcoinBlock, BitcoinTransaction};
use crate::codec::{Decode, Encode, InvalidEncoding, Reader, put_compact_size};
use crate::header::BitcoinHeader;
use crate::id::{BlockId, put_reversed, reversed, twice};

/// The longest payload, as in Bitcoin Core: a block's 4,000,000 bytes.
const MAX_PAYLOAD: usize = 4_000_000;
/// The most headers in a message, hashes in a locator, and names in an inventory.
pub(super) const MAX_HEADERS: usize = 2_000;
const MAX_LOCATOR: usize = 101;
const MAX_INVENTORY: usize = 50_000;
/// The most hashes of filters in a message.
pub(super) const MAX_FILTER_HASHES: usize = 2_000;
/// The one kind of filters that there is (BIP 158). What is said of others is not looked at.
const BASIC: u8 = 0;
/// The longest name that a node gives itself, in bytes.
const MAX_AGENT: usize = 256;
/// Magic number, name, length, checksum.
const HEAD: usize = 24;

/// What travels.
#[derive(Clone, Debug, PartialEq)]
pub enum BitcoinMsg {
    /// Who speaks. The first that either says.
    Version(Version),
    /// It will do.
    Verack,
    /// Are you there?
    Ping(u64),
    /// Yes.
    Pong(u64),
    /// Say new blocks by their headers (BIP 130).
    SendHeaders,
    /// What comes after the first of these that is on your chain?
    GetHeaders(Vec<BlockId>),
    /// At most 2,000, each after the one before it.
    Headers(Vec<BitcoinHeader>),
    /// There are these.
    Inv(Vec<Inventory>),
    /// Give these.
    GetData(Vec<Inventory>),
    /// There are none of these.
    NotFound(Vec<Inventory>),
    /// From now on only what is in this (BIP 37).
    FilterLoad(Bloom),
    /// Of a block what the filter has; the transactions follow.
    MerkleBlock(MerkleBlock),
    /// A transaction.
    Tx(BitcoinTransaction),
    /// A block.
    Block(BitcoinBlock),
    /// Give the filters of these blocks (BIP 157): at most 1,000.
    GetCFilters(FilterRange),
    /// The filter of a block, as it travels.
    CFilter(BlockId, Vec<u8>),
    /// Name the filters of these blocks: at most 2,000.
    GetCFHeaders(FilterRange),
    /// The filter header before those blocks, the last of which is this one, and the hashes of their filters.
    CFHeaders(BlockId, Key, Vec<Key>),
    /// Name the filter headers of every 1,000th block up to this one.
    GetCFCheckpt(BlockId),
    /// Those, without the first block's.
    CFCheckpt(BlockId, Vec<Key>),
    /// Something that is not known here. It is not sent.
    Other,
    /// Closes the connection. It is not received.
    HangUp,
}

/// Who a node says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The protocol's version.
    pub version: u32,
    /// What it does for others: see [`NODE_NETWORK`].
    pub services: u64,
    /// Its clock, in seconds since the Unix epoch.
    pub time: u64,
    /// Any number, by which it knows itself.
    pub nonce: u64,
    /// What program it is, in printable characters of ASCII; those that are none are left out.
    pub agent: String,
    /// The height of its chain.
    pub height: u32,
    /// Whether it is to be told of transactions.
    pub relay: bool,
}

/// The node has all blocks.
pub const NODE_NETWORK: u64 = 1;
/// The node takes Bloom filters (BIP 111).
pub const NODE_BLOOM: u64 = 1 << 2;
/// The node serves the filters of blocks (BIP 157).
pub const NODE_COMPACT_FILTERS: u64 = 1 << 6;

/// Blocks, of which the filters are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterRange {
    /// The height of the first.
    pub start: u32,
    /// The last.
    pub stop: BlockId,
}

/// Something that a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// What it is.
    pub kind: u32,
    /// Its name.
    pub hash: Key,
}

impl Inventory {
    /// A block.
    pub const BLOCK: u32 = 2;
    /// A block, of which only what the filter has.
    pub const FILTERED_BLOCK: u32 = 3;
}

/// Makes messages of the bytes of one connection.
#[derive(Clone, Debug)]
pub struct BitcoinCodec {
    magic: [u8; 4],
}

impl BitcoinCodec {
    pub(super) fn new(magic: [u8; 4]) -> BitcoinCodec {
        BitcoinCodec { magic }
    }
}

fn malformed(why: impl ToString) -> Malformed {
    Malformed(why.to_string())
}

impl Codec for BitcoinCodec {
    type Msg = BitcoinMsg;

    fn decode(&mut self, input: &mut BytesMut, _: &mut BytesMut) -> Result<Option<BitcoinMsg>, Malformed> {
        let begins = input.len().min(4);
        if input[..begins] != self.magic[..begins] {
            return Err(malformed("another network's magic number"));
        }
        let Some(head) = input.first_chunk::<HEAD>() else { return Ok(None) };
        let len = u32::from_le_bytes([head[16], head[17], head[18], head[19]]) as usize;
        let checksum = [head[20], head[21], head[22], head[23]];
        if len > MAX_PAYLOAD {
            return Err(malformed(format!("a payload of {len} bytes; at most {MAX_PAYLOAD}")));
        }
        if input.len() < HEAD + len {
            input.reserve(HEAD + len - input.len());
            return Ok(None);
        }
        let name: Vec<u8> = head[4..16].iter().copied().take_while(|byte| *byte != 0).collect();
        input.advance(HEAD);
        let payload = input.split_to(len);
        if checksum_of(&payload) != checksum {
            return Err(malformed("the payload's checksum is wrong"));
        }
        let read = read(&name, &payload);
        read.map(Some).map_err(|why| malformed(format!("{}: {why}", String::from_utf8_lossy(&name))))
    }

    fn encode(&mut self, msg: BitcoinMsg, output: &mut BytesMut) -> After {
        let mut payload = Vec::new();
        let Some(name) = write(&msg, &mut payload) else {
            return if msg == BitcoinMsg::HangUp { After::Close } else { After::Open };
        };
        let mut padded = [0; 12];
        padded[..name.len()].copy_from_slice(name);
        output.put_slice(&self.magic);
        output.put_slice(&padded);
        output.put_u32_le(payload.len() as u32);
        output.put_slice(&checksum_of(&payload));
        output.put_slice(&payload);
        After::Open
    }
}

/// In the simulator messages travel as they do between real nodes, without a network's magic number.
const SIMULATED: [u8; 4] = [0; 4];

impl Serialize for BitcoinMsg {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = BytesMut::new();
        BitcoinCodec::new(SIMULATED).encode(self.clone(), &mut bytes);
        bytes.to_vec().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BitcoinMsg {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BitcoinMsg, D::Error> {
        let mut bytes = BytesMut::from(&Vec::<u8>::deserialize(deserializer)?[..]);
        let read = BitcoinCodec::new(SIMULATED).decode(&mut bytes, &mut BytesMut::new());
        Ok(read.map_err(serde::de::Error::custom)?.unwrap_or(BitcoinMsg::HangUp))
    }
}

impl Wire for BitcoinMsg {
    const MAX_BYTES: usize = HEAD + MAX_PAYLOAD + 8;
}

/// The first four bytes of SHA-256 twice.
pub(super) fn checksum_of(payload: &[u8]) -> [u8; 4] {
    let mut hash = *twice(payload).as_bytes();
    hash.reverse();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// A payload of this name. What follows the known part of one is let be: later versions say more.
fn read(name: &[u8], payload: &[u8]) -> Result<BitcoinMsg, InvalidEncoding> {
    let input = &mut Reader::new(payload);
    Ok(match name {
        b"version" => BitcoinMsg::Version(Version::decode(input)?),
        b"verack" => BitcoinMsg::Verack,
        b"ping" => BitcoinMsg::Ping(input.u64()?),
        b"pong" => BitcoinMsg::Pong(input.u64()?),
        b"sendheaders" => BitcoinMsg::SendHeaders,
        b"getheaders" => {
            input.u32()?;
            let count = input.compact_size(MAX_LOCATOR)?;
            let ids = (0..count).map(|_| reversed(input).map(BlockId)).collect::<Result<_, _>>()?;
            BitcoinMsg::GetHeaders(ids)
        }
        b"headers" => {
            let count = input.compact_size(MAX_HEADERS)?;
            let one = |input: &mut Reader<'_>| {
                let header = BitcoinHeader::decode(input)?;
                input.compact_size(MAX_PAYLOAD)?;
                Ok(header)
            };
            BitcoinMsg::Headers((0..count).map(|_| one(input)).collect::<Result<_, _>>()?)
        }
        b"inv" => BitcoinMsg::Inv(inventories(input)?),
        b"getdata" => BitcoinMsg::GetData(inventories(input)?),
        b"notfound" => BitcoinMsg::NotFound(inventories(input)?),
        b"filterload" => BitcoinMsg::FilterLoad(Bloom::decode(input)?),
        b"merkleblock" => BitcoinMsg::MerkleBlock(MerkleBlock::from_bytes(payload)?),
        b"tx" => BitcoinMsg::Tx(BitcoinTransaction::from_bytes(payload)?),
        b"block" => BitcoinMsg::Block(BitcoinBlock::from_bytes(payload)?),
        _ if payload.first() == Some(&BASIC) => return read_of_filters(name, &payload[1..]),
        _ => BitcoinMsg::Other,
    })
}

/// What follows the kind of filters.
fn read_of_filters(name: &[u8], payload: &[u8]) -> Result<BitcoinMsg, InvalidEncoding> {
    let input = &mut Reader::new(payload);
    let range = |input: &mut Reader<'_>| {
        Ok::<_, InvalidEncoding>(FilterRange { start: input.u32()?, stop: BlockId(reversed(input)?) })
    };
    let hashes = |input: &mut Reader<'_>, most: usize| {
        let count = input.compact_size(most)?;
        (0..count).map(|_| reversed(input)).collect::<Result<Vec<Key>, _>>()
    };
    Ok(match name {
        b"getcfilters" => BitcoinMsg::GetCFilters(range(input)?),
        b"cfilter" => {
            let block = BlockId(reversed(input)?);
            let len = input.compact_size(MAX_PAYLOAD)?;
            BitcoinMsg::CFilter(block, input.bytes(len)?.to_vec())
        }
        b"getcfheaders" => BitcoinMsg::GetCFHeaders(range(input)?),
        b"cfheaders" => {
            let (stop, previous) = (BlockId(reversed(input)?), reversed(input)?);
            BitcoinMsg::CFHeaders(stop, previous, hashes(input, MAX_FILTER_HASHES)?)
        }
        b"getcfcheckpt" => BitcoinMsg::GetCFCheckpt(BlockId(reversed(input)?)),
        b"cfcheckpt" => {
            let stop = BlockId(reversed(input)?);
            BitcoinMsg::CFCheckpt(stop, hashes(input, MAX_PAYLOAD / 32)?)
        }
        _ => BitcoinMsg::Other,
    })
}

fn inventories(input: &mut Reader<'_>) -> Result<Vec<Inventory>, InvalidEncoding> {
    let count = input.compact_size(MAX_INVENTORY)?;
    (0..count).map(|_| Ok(Inventory { kind: input.u32()?, hash: reversed(input)? })).collect()
}

/// A message's payload and its name, if it has one.
fn write(msg: &BitcoinMsg, out: &mut Vec<u8>) -> Option<&'static [u8]> {
    let list = |all: &[Inventory], out: &mut Vec<u8>| {
        put_compact_size(out, all.len());
        for Inventory { kind, hash } in all {
            out.extend_from_slice(&kind.to_le_bytes());
            put_reversed(out, hash);
        }
    };
    let hashes = |all: &[Key], out: &mut Vec<u8>| {
        put_compact_size(out, all.len());
        all.iter().for_each(|hash| put_reversed(out, hash));
    };
    Some(match msg {
        BitcoinMsg::Version(version) => {
            version.encode(out);
            b"version"
        }
        BitcoinMsg::Verack => b"verack",
        BitcoinMsg::Ping(nonce) => {
            out.extend_from_slice(&nonce.to_le_bytes());
            b"ping"
        }
        BitcoinMsg::Pong(nonce) => {
            out.extend_from_slice(&nonce.to_le_bytes());
            b"pong"
        }
        BitcoinMsg::SendHeaders => b"sendheaders",
        BitcoinMsg::GetHeaders(locator) => {
            out.extend_from_slice(&VERSION.to_le_bytes());
            put_compact_size(out, locator.len());
            locator.iter().for_each(|id| put_reversed(out, &id.0));
            // As many as there are.
            put_reversed(out, &Key::ZERO);
            b"getheaders"
        }
        BitcoinMsg::Headers(headers) => {
            put_compact_size(out, headers.len());
            for header in headers {
                header.encode(out);
                out.push(0);
            }
            b"headers"
        }
        BitcoinMsg::Inv(all) => {
            list(all, out);
            b"inv"
        }
        BitcoinMsg::GetData(all) => {
            list(all, out);
            b"getdata"
        }
        BitcoinMsg::NotFound(all) => {
            list(all, out);
            b"notfound"
        }
        BitcoinMsg::FilterLoad(filter) => {
            filter.encode(out);
            b"filterload"
        }
        BitcoinMsg::MerkleBlock(block) => {
            block.encode(out);
            b"merkleblock"
        }
        BitcoinMsg::Tx(transaction) => {
            transaction.encode(out);
            b"tx"
        }
        BitcoinMsg::Block(block) => {
            block.encode(out);
            b"block"
        }
        BitcoinMsg::GetCFilters(range) => {
            put_range(out, range);
            b"getcfilters"
        }
        BitcoinMsg::CFilter(block, filter) => {
            put_of_filters(out, block);
            put_compact_size(out, filter.len());
            out.extend_from_slice(filter);
            b"cfilter"
        }
        BitcoinMsg::GetCFHeaders(range) => {
            put_range(out, range);
            b"getcfheaders"
        }
        BitcoinMsg::CFHeaders(stop, previous, all) => {
            put_of_filters(out, stop);
            put_reversed(out, previous);
            hashes(all, out);
            b"cfheaders"
        }
        BitcoinMsg::GetCFCheckpt(stop) => {
            put_of_filters(out, stop);
            b"getcfcheckpt"
        }
        BitcoinMsg::CFCheckpt(stop, all) => {
            put_of_filters(out, stop);
            hashes(all, out);
            b"cfcheckpt"
        }
        BitcoinMsg::Other | BitcoinMsg::HangUp => return None,
    })
}

fn put_of_filters(out: &mut Vec<u8>, block: &BlockId) {
    out.push(BASIC);
    put_reversed(out, &block.0);
}

fn put_range(out: &mut Vec<u8>, FilterRange { start, stop }: &FilterRange) {
    out.push(BASIC);
    out.extend_from_slice(&start.to_le_bytes());
    put_reversed(out, &stop.0);
}

/// The protocol's version that is spoken here: of witnesses, and headers said unasked.
pub(super) const VERSION: u32 = 70_015;

/// How long an address in a version is: services, address and port. It says nothing that its receiver does not know: all zero
/// will do.
const ADDRESS: usize = 26;

impl Encode for Version {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.services.to_le_bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&[0; 2 * ADDRESS]);
        out.extend_from_slice(&self.nonce.to_le_bytes());
        put_compact_size(out, self.agent.len());
        out.extend_from_slice(self.agent.as_bytes());
        out.extend_from_slice(&self.height.to_le_bytes());
        out.push(self.relay.into());
    }
}

impl Decode for Version {
    fn decode(input: &mut Reader<'_>) -> Result<Version, InvalidEncoding> {
        let (version, services, time) = (input.u32()?, input.u64()?, input.u64()?);
        input.bytes(2 * ADDRESS)?;
        let nonce = input.u64()?;
        let agent = input.compact_size(MAX_AGENT)?;
        let printable = |byte: &&u8| byte.is_ascii_graphic() || **byte == b' ';
        let agent = input.bytes(agent)?.iter().filter(printable).map(|byte| char::from(*byte)).collect();
        let height = input.u32()?;
        // Whoever does not say wants all (BIP 37).
        let relay = input.u8() != Ok(0);
        Ok(Version { version, services, time, nonce, agent, height, relay })
    }
}
