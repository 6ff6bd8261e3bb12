//! What peers say to each other, and its bytes.
//!
//! A connection begins with a [`Handshake`] each way and goes on with messages, each behind its length (BEP 3). The Fast
//! extension (BEP 6), the extension protocol (BEP 10, in `extended`) and BEP 52's hash messages add theirs. Who gets a
//! message that was not agreed on may close the connection; so the machine sends none, and what comes with a number
//! that is not known here is passed over.

mod extended;
mod stream;

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use p2p_core::foreign::{After, Codec, Malformed};
use p2p_core::{Lane, Wire, payload};
use serde::{Deserialize, Serialize};

use super::merkle::{BLOCK, Range};
use super::metainfo::{MAX_PIECES, SwarmId};
use super::mse::{Chance, Initiating, Mse};

use extended::Ids;
pub use extended::{ExtendedHandshake, MAX_PEX, MetadataMsg, PexMsg, PexPeer};
use stream::Stream;

/// The longest message, in bytes, its length apart: the bitfield of a torrent with as many pieces as one may have.
pub const MAX_MESSAGE: usize = 1 + MAX_PIECES as usize / 8;
/// The most hashes in one message: 512 nodes and their uncles.
const MAX_HASHES: usize = 512 + 64;

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
const HANDSHAKE: usize = 68;

/// What one peer says to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMsg {
    /// The first message each way: which swarm, who, and what it can do.
    Handshake(Handshake),
    /// Nothing; every two minutes where there is nothing else to say.
    KeepAlive,
    /// Nothing will be sent until there is an [`PeerMsg::Unchoke`]. Without BEP 6 requests that wait are forgotten.
    Choke,
    /// Requests are answered from now on.
    Unchoke,
    /// The receiver has what the sender wants.
    Interested,
    /// It has not, or no more.
    NotInterested,
    /// The sender has got this piece.
    Have(u32),
    /// Which pieces the sender has, a bit for each, the first in the highest bit. The first message after the handshake,
    /// or never.
    Bitfield(#[serde(with = "payload")] Bytes),
    /// Asks for a block; the answer is a [`PeerMsg::Piece`], or with BEP 6 a [`PeerMsg::Reject`].
    Request(Block),
    /// A block.
    Piece {
        /// Of which piece.
        piece: u32,
        /// Where it begins in it.
        begin: u32,
        /// Its bytes.
        #[serde(with = "payload")]
        data: Bytes,
    },
    /// A block is not wanted any more; with BEP 6 it is answered all the same.
    Cancel(Block),
    /// The sender's DHT node listens at this port of UDP (BEP 5).
    Port(u16),
    /// The sender would like this piece to be asked for (BEP 6).
    Suggest(u32),
    /// In place of a bitfield: the sender has every piece (BEP 6).
    HaveAll,
    /// In place of a bitfield: the sender has none (BEP 6).
    HaveNone,
    /// A request will not be answered by a block (BEP 6).
    Reject(Block),
    /// This piece is sent even to a choked peer (BEP 6).
    AllowedFast(u32),
    /// Asks for a part of a file's tree (BEP 52); the answer is [`PeerMsg::Hashes`] or [`PeerMsg::HashReject`].
    HashRequest(HashRange),
    /// The nodes that were asked for, and then their uncles.
    Hashes(HashRange, Vec<[u8; 32]>),
    /// They will not be sent.
    HashReject(HashRange),
    /// What the sender can do beyond the above (BEP 10); a later one may change it.
    Extended(ExtendedHandshake),
    /// About the torrent's metadata (BEP 9).
    Metadata(MetadataMsg),
    /// Who else is in the swarm (BEP 11).
    Pex(PexMsg),
    /// What follows is encrypted: from a session to the codec of a connection that it makes, before the handshake. It is
    /// never sent as it is.
    Encrypt(SwarmId),
    /// Nothing follows: over TCP it has no bytes, the connection is closed.
    Goodbye,
}

impl PeerMsg {
    /// Whether it is one of those that BEP 6 adds.
    pub(super) fn is_fast(&self) -> bool {
        matches!(
            self,
            PeerMsg::Suggest(_)
                | PeerMsg::HaveAll
                | PeerMsg::HaveNone
                | PeerMsg::Reject(_)
                | PeerMsg::AllowedFast(_)
        )
    }
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handshake {
    /// The swarm.
    pub swarm: SwarmId,
    /// Who the sender is, as it chose at its start.
    pub peer: PeerName,
    /// What it can do.
    pub features: Features,
}

/// Twenty bytes by which a peer calls itself, new at each start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PeerName(pub [u8; 20]);

impl fmt::Debug for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerName({})", self.0.escape_ascii())
    }
}

/// What the reserved bits of a handshake say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// The extension protocol (BEP 10).
    pub extended: bool,
    /// A DHT node (BEP 5).
    pub dht: bool,
    /// The Fast extension (BEP 6).
    pub fast: bool,
    /// Of a hybrid torrent the second version, too (BEP 52).
    pub v2: bool,
}

impl Features {
    fn bits(self) -> [u8; 8] {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let last = bit(self.dht, 0x01) | bit(self.fast, 0x04) | bit(self.v2, 0x10);
        [0, 0, 0, 0, 0, bit(self.extended, 0x10), 0, last]
    }

    fn of(bits: &[u8; 8]) -> Features {
        let has = |byte: usize, bit: u8| bits[byte] & bit != 0;
        Features { extended: has(5, 0x10), dht: has(7, 0x01), fast: has(7, 0x04), v2: has(7, 0x10) }
    }
}

/// A stretch of a piece that is asked for: 16 KiB, or what is left of the piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Block {
    /// Which piece.
    pub piece: u32,
    /// Where it begins in it.
    pub begin: u32,
    /// How many bytes.
    pub length: u32,
}

/// A part of a file's tree (BEP 52).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HashRange {
    /// The tree's root.
    pub root: [u8; 32],
    /// How many levels above the leaves the nodes stand.
    pub base: u32,
    /// The first of them.
    pub index: u32,
    /// How many: a power of two.
    pub length: u32,
    /// How many layers above are to be proved.
    pub proof: u32,
}

impl HashRange {
    pub(crate) fn range(&self) -> Range {
        Range { base: self.base, index: self.index, length: self.length, proof: self.proof }
    }
}

impl Wire for PeerMsg {
    /// A bitfield; its length and which message it is, besides.
    const MAX_BYTES: usize = MAX_MESSAGE + 64;

    fn lane(&self) -> Lane {
        Lane::Ordered
    }
}

/// The bytes of one connection.
///
/// ```
/// use bytes::BytesMut;
/// use p2p_core::foreign::Codec;
/// use p2p_swarm::torrent::{Block, Features, Handshake, PeerCodec, PeerMsg, PeerName};
///
/// let hello = Handshake { swarm: [7; 20], peer: PeerName(*b"-XX0000-abcdefghijkl"), features: Features::default() };
/// let (mut here, mut there) = (PeerCodec::default(), PeerCodec::default());
/// let mut bytes = BytesMut::new();
/// here.encode(PeerMsg::Handshake(hello), &mut bytes);
/// here.encode(PeerMsg::Request(Block { piece: 1, begin: 0, length: 16384 }), &mut bytes);
/// assert_eq!(bytes.len(), 68 + 17);
/// let mut reply = BytesMut::new();
/// assert_eq!(there.decode(&mut bytes, &mut reply).unwrap(), Some(PeerMsg::Handshake(hello)));
/// assert!(matches!(there.decode(&mut bytes, &mut reply).unwrap(), Some(PeerMsg::Request(_))));
/// ```
#[derive(Debug, Default)]
pub struct PeerCodec {
    /// Whether the other end's handshake is there.
    greeted: bool,
    /// The other end's numbers of extension messages.
    theirs: Ids,
    stream: Stream,
}

mod id {
    pub(super) const CHOKE: u8 = 0;
    pub(super) const UNCHOKE: u8 = 1;
    pub(super) const INTERESTED: u8 = 2;
    pub(super) const NOT_INTERESTED: u8 = 3;
    pub(super) const HAVE: u8 = 4;
    pub(super) const BITFIELD: u8 = 5;
    pub(super) const REQUEST: u8 = 6;
    pub(super) const PIECE: u8 = 7;
    pub(super) const CANCEL: u8 = 8;
    pub(super) const PORT: u8 = 9;
    pub(super) const SUGGEST: u8 = 13;
    pub(super) const HAVE_ALL: u8 = 14;
    pub(super) const HAVE_NONE: u8 = 15;
    pub(super) const REJECT: u8 = 16;
    pub(super) const ALLOWED_FAST: u8 = 17;
    pub(super) const EXTENDED: u8 = 20;
    pub(super) const HASH_REQUEST: u8 = 21;
    pub(super) const HASHES: u8 = 22;
    pub(super) const HASH_REJECT: u8 = 23;
}

fn malformed(what: impl Into<String>) -> Malformed {
    Malformed(what.into())
}

/// The handshake at the front.
fn handshake(input: &mut BytesMut) -> Result<Option<Handshake>, Malformed> {
    let known = input.len().min(PROTOCOL.len());
    if input[..known] != PROTOCOL[..known] {
        return Err(malformed("expected a BitTorrent handshake"));
    }
    if input.len() < HANDSHAKE {
        return Ok(None);
    }
    input.advance(PROTOCOL.len());
    let mut bits = [0; 8];
    input.copy_to_slice(&mut bits);
    let (mut swarm, mut peer) = ([0; 20], [0; 20]);
    input.copy_to_slice(&mut swarm);
    input.copy_to_slice(&mut peer);
    Ok(Some(Handshake { swarm, peer: PeerName(peer), features: Features::of(&bits) }))
}

/// Reads the numbers that a message of a known length has.
fn numbers<const N: usize>(kind: &str, body: &[u8]) -> Result<[u32; N], Malformed> {
    let (numbers, rest) = body.as_chunks::<4>();
    match (<[[u8; 4]; N]>::try_from(numbers), rest) {
        (Ok(numbers), []) => Ok(numbers.map(u32::from_be_bytes)),
        _ => Err(malformed(format!("expected {} bytes of a {kind}, not {}", 4 * N, body.len()))),
    }
}

fn block(kind: &str, body: &[u8]) -> Result<Block, Malformed> {
    let [piece, begin, length] = numbers(kind, body)?;
    Ok(Block { piece, begin, length })
}

/// A hash message's head, and what follows it.
fn hash_range(body: &Bytes) -> Result<(HashRange, Bytes), Malformed> {
    let short = || malformed("expected 48 bytes of a hash message at the least");
    let (root, rest) = body.split_first_chunk::<32>().ok_or_else(short)?;
    let (head, rest) = rest.split_at_checked(16).ok_or_else(short)?;
    let [base, index, length, proof] = numbers("hash message", head)?;
    Ok((HashRange { root: *root, base, index, length, proof }, body.slice_ref(rest)))
}

fn nothing(msg: PeerMsg, body: &[u8]) -> Result<Option<PeerMsg>, Malformed> {
    match body {
        [] => Ok(Some(msg)),
        _ => Err(malformed(format!("expected nothing after {msg:?}, not {} bytes", body.len()))),
    }
}

impl PeerCodec {
    /// Of a connection that may be encrypted.
    pub(super) fn with_encryption(mse: Mse, chance: Chance, dialled: bool) -> PeerCodec {
        PeerCodec { stream: Stream::Open { mse, chance, dialled }, ..PeerCodec::default() }
    }

    /// The next message of what is in the clear.
    fn next(&mut self, input: &mut BytesMut) -> Result<Option<PeerMsg>, Malformed> {
        if !self.greeted {
            let Some(handshake) = handshake(input)? else { return Ok(None) };
            self.greeted = true;
            return Ok(Some(PeerMsg::Handshake(handshake)));
        }
        loop {
            let Some(length) = input.first_chunk::<4>() else { return Ok(None) };
            let length = u32::from_be_bytes(*length) as usize;
            if length > MAX_MESSAGE {
                return Err(malformed(format!("a message of {length} bytes, more than {MAX_MESSAGE}")));
            }
            if input.len() < 4 + length {
                return Ok(None);
            }
            input.advance(4);
            let frame = input.split_to(length).freeze();
            if let Some(msg) = self.message(frame)? {
                return Ok(Some(msg));
            }
        }
    }

    /// The message in a frame; `None` if it is of a kind that is not known here.
    fn message(&mut self, mut frame: Bytes) -> Result<Option<PeerMsg>, Malformed> {
        if frame.is_empty() {
            return Ok(Some(PeerMsg::KeepAlive));
        }
        let kind = frame.get_u8();
        let number = |kind| numbers(kind, &frame).map(|[number]| number);
        Ok(Some(match kind {
            id::CHOKE => return nothing(PeerMsg::Choke, &frame),
            id::UNCHOKE => return nothing(PeerMsg::Unchoke, &frame),
            id::INTERESTED => return nothing(PeerMsg::Interested, &frame),
            id::NOT_INTERESTED => return nothing(PeerMsg::NotInterested, &frame),
            id::HAVE => PeerMsg::Have(number("have")?),
            id::BITFIELD => PeerMsg::Bitfield(frame),
            id::REQUEST => PeerMsg::Request(block("request", &frame)?),
            id::PIECE => {
                let (head, _) =
                    frame.split_at_checked(8).ok_or_else(|| malformed("a piece without its place"))?;
                let [piece, begin] = numbers("piece", head)?;
                frame.advance(8);
                if frame.len() > BLOCK as usize {
                    return Err(malformed(format!(
                        "a block of {} bytes, more than is ever asked for",
                        frame.len()
                    )));
                }
                PeerMsg::Piece { piece, begin, data: frame }
            }
            id::CANCEL => PeerMsg::Cancel(block("cancel", &frame)?),
            id::PORT => {
                let port = frame.first_chunk().ok_or_else(|| malformed("a port without its number"))?;
                PeerMsg::Port(u16::from_be_bytes(*port))
            }
            id::SUGGEST => PeerMsg::Suggest(number("suggest")?),
            id::HAVE_ALL => return nothing(PeerMsg::HaveAll, &frame),
            id::HAVE_NONE => return nothing(PeerMsg::HaveNone, &frame),
            id::REJECT => PeerMsg::Reject(block("reject", &frame)?),
            id::ALLOWED_FAST => PeerMsg::AllowedFast(number("allowed fast")?),
            id::EXTENDED => return extended::decode(&mut self.theirs, frame),
            id::HASH_REQUEST => PeerMsg::HashRequest(hash_range(&frame)?.0),
            id::HASH_REJECT => PeerMsg::HashReject(hash_range(&frame)?.0),
            id::HASHES => {
                let (range, rest) = hash_range(&frame)?;
                let (hashes, rest) = rest.as_chunks::<32>();
                if !rest.is_empty() || hashes.len() > MAX_HASHES {
                    return Err(malformed(format!("expected hashes of 32 bytes, at most {MAX_HASHES}")));
                }
                PeerMsg::Hashes(range, hashes.to_vec())
            }
            _ => return Ok(None),
        }))
    }
}

impl Codec for PeerCodec {
    type Msg = PeerMsg;

    fn decode(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<Option<PeerMsg>, Malformed> {
        if !self.stream.receive(input, output)? {
            return Ok(None);
        }
        let next = self.next(input);
        self.stream.keep(input.len());
        next
    }

    fn encode(&mut self, msg: PeerMsg, output: &mut BytesMut) -> After {
        if let Stream::Open { dialled: true, .. } = self.stream
            && let Stream::Open { mse, mut chance, .. } = std::mem::take(&mut self.stream)
            && let PeerMsg::Encrypt(swarm) = msg
        {
            let this = Initiating::new(swarm, mse.policy(), &mut chance, output);
            self.stream = Stream::Initiating { this: Box::new(this), chance };
            return After::Open;
        }
        let mut clear = BytesMut::new();
        let begin = output.len();
        let held = matches!(self.stream, Stream::Initiating { .. });
        let after = self.put(msg, if held { &mut clear } else { &mut *output });
        match &mut self.stream {
            Stream::Initiating { this, .. } => this.held.unsplit(clear),
            Stream::Rc4 { out, .. } => out.apply(&mut output[begin..]),
            Stream::Plain | Stream::Open { .. } | Stream::Accepting { .. } => {}
        }
        after
    }
}

impl PeerCodec {
    /// Appends a message's bytes, in the clear.
    fn put(&mut self, msg: PeerMsg, output: &mut BytesMut) -> After {
        let plain = |output: &mut BytesMut, kind: u8, numbers: &[u32]| {
            output.put_u32(1 + 4 * numbers.len() as u32);
            output.put_u8(kind);
            numbers.iter().for_each(|number| output.put_u32(*number));
        };
        let block = |output: &mut BytesMut, kind: u8, Block { piece, begin, length }: Block| {
            plain(output, kind, &[piece, begin, length]);
        };
        let hashes = |output: &mut BytesMut, kind: u8, range: HashRange, hashes: &[[u8; 32]]| {
            output.put_u32((49 + 32 * hashes.len()) as u32);
            output.put_u8(kind);
            output.put_slice(&range.root);
            [range.base, range.index, range.length, range.proof]
                .iter()
                .for_each(|number| output.put_u32(*number));
            output.put_slice(hashes.as_flattened());
        };
        match msg {
            PeerMsg::Handshake(Handshake { swarm, peer, features }) => {
                output.put_slice(PROTOCOL);
                output.put_slice(&features.bits());
                output.put_slice(&swarm);
                output.put_slice(&peer.0);
            }
            PeerMsg::KeepAlive => output.put_u32(0),
            PeerMsg::Choke => plain(output, id::CHOKE, &[]),
            PeerMsg::Unchoke => plain(output, id::UNCHOKE, &[]),
            PeerMsg::Interested => plain(output, id::INTERESTED, &[]),
            PeerMsg::NotInterested => plain(output, id::NOT_INTERESTED, &[]),
            PeerMsg::Have(piece) => plain(output, id::HAVE, &[piece]),
            PeerMsg::Bitfield(bits) => {
                output.put_u32(1 + bits.len() as u32);
                output.put_u8(id::BITFIELD);
                output.put_slice(&bits);
            }
            PeerMsg::Request(asked) => block(output, id::REQUEST, asked),
            PeerMsg::Piece { piece, begin, data } => {
                output.put_u32(9 + data.len() as u32);
                output.put_u8(id::PIECE);
                output.put_u32(piece);
                output.put_u32(begin);
                output.put_slice(&data);
            }
            PeerMsg::Cancel(asked) => block(output, id::CANCEL, asked),
            PeerMsg::Port(port) => {
                output.put_u32(3);
                output.put_u8(id::PORT);
                output.put_u16(port);
            }
            PeerMsg::Suggest(piece) => plain(output, id::SUGGEST, &[piece]),
            PeerMsg::HaveAll => plain(output, id::HAVE_ALL, &[]),
            PeerMsg::HaveNone => plain(output, id::HAVE_NONE, &[]),
            PeerMsg::Reject(asked) => block(output, id::REJECT, asked),
            PeerMsg::AllowedFast(piece) => plain(output, id::ALLOWED_FAST, &[piece]),
            PeerMsg::HashRequest(range) => hashes(output, id::HASH_REQUEST, range, &[]),
            PeerMsg::Hashes(range, nodes) => hashes(output, id::HASHES, range, &nodes),
            PeerMsg::HashReject(range) => hashes(output, id::HASH_REJECT, range, &[]),
            PeerMsg::Extended(handshake) => extended::frame(output, 0, &handshake.encode(), &[]),
            PeerMsg::Metadata(metadata) => {
                // Whoever has not said that it knows such messages gets none.
                if let Some(number) = self.theirs.metadata {
                    let (head, data) = metadata.encode();
                    extended::frame(output, number, &head, data);
                }
            }
            PeerMsg::Pex(pex) => {
                if let Some(number) = self.theirs.pex {
                    extended::frame(output, number, &pex.encode(), &[]);
                }
            }
            PeerMsg::Encrypt(_) => {}
            PeerMsg::Goodbye => return After::Close,
        }
        After::Open
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(super) use tests::message as any_message;
