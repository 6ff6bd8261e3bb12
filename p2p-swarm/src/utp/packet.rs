//! A packet's bytes (BEP 29): twenty of header, then a chain of extensions, then what it carries.

use std::net::SocketAddr;

use bytes::Bytes;
use p2p_core::foreign::{Malformed, PacketCodec};

/// Bytes of a header without extensions.
pub const HEADER: usize = 20;
/// The version that there is.
const VERSION: u8 = 1;
/// The one extension that is known here.
const SELECTIVE_ACK: u8 = 1;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Carries data; takes a sequence number.
    Data,
    /// Nothing follows; takes a sequence number, too.
    Fin,
    /// Acknowledges, and no more.
    State,
    /// There is no such connection, or no more.
    Reset,
    /// Asks for a connection.
    Syn,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Data, Kind::Fin, Kind::State, Kind::Reset, Kind::Syn];
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it is for.
    pub kind: Kind,
    /// The connection, as the receiver numbers it; of [`Kind::Syn`], as the sender does.
    pub connection: u16,
    /// When it was sent, by the sender's clock, in microseconds; it wraps.
    pub timestamp: u32,
    /// By how much the sender's clock was ahead of the timestamp of the last packet that came to it, when that came, in
    /// microseconds; it wraps. 0: none has come.
    pub difference: u32,
    /// How many bytes the sender has room for, beyond what it has acknowledged.
    pub window: u32,
    /// This packet's sequence number; of one that takes none the next that will be taken.
    pub seq: u16,
    /// The last packet that came to the sender of which none before is missing.
    pub ack: u16,
    /// Which came after the first that is missing: bit 0 of byte 0 is `ack + 2`. Empty: none.
    pub selective: Vec<u8>,
    /// Data.
    pub payload: Bytes,
}

impl Packet {
    /// Reads a packet. Extensions that are not known are passed over.
    ///
    /// # Errors
    /// It is too short for what it says, of another version, or of no known type.
    pub fn decode(bytes: &[u8]) -> Result<Packet, Malformed> {
        let malformed = |what: String| Err(Malformed(what));
        let Some((head, mut rest)) = bytes.split_first_chunk::<HEADER>() else {
            return malformed(format!("expected {HEADER} bytes of header at least, not {}", bytes.len()));
        };
        let (kind, version) = (head[0] >> 4, head[0] & 0xf);
        let Some(&kind) = Kind::ALL.get(usize::from(kind)).filter(|_| version == VERSION) else {
            return malformed(format!("type {kind} of version {version} is not known"));
        };
        let short = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (mut extension, mut selective) = (head[1], Vec::new());
        while extension != 0 {
            let [next, length, ..] = *rest else {
                return malformed("an extension without its length".into());
            };
            let Some((body, after)) = rest[2..].split_at_checked(length.into()) else {
                return malformed(format!(
                    "an extension of {length} bytes, of which {} are there",
                    rest.len() - 2
                ));
            };
            if extension == SELECTIVE_ACK {
                selective = body.to_vec();
            }
            (extension, rest) = (next, after);
        }
        Ok(Packet {
            kind,
            connection: short(2),
            timestamp: long(4),
            difference: long(8),
            window: long(12),
            seq: short(16),
            ack: short(18),
            selective,
            payload: Bytes::copy_from_slice(rest),
        })
    }

    /// Appends its bytes. Of a selective acknowledgement 252 bytes are sent at most: 2,016 packets.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let acks = &self.selective[..self.selective.len().min(252)];
        out.extend([(self.kind as u8) << 4 | VERSION, if acks.is_empty() { 0 } else { SELECTIVE_ACK }]);
        out.extend(self.connection.to_be_bytes());
        [self.timestamp, self.difference, self.window].iter().for_each(|n| out.extend(n.to_be_bytes()));
        [self.seq, self.ack].iter().for_each(|n| out.extend(n.to_be_bytes()));
        if !acks.is_empty() {
            out.extend([0, acks.len() as u8]);
            out.extend_from_slice(acks);
        }
        out.extend_from_slice(&self.payload);
    }
}

/// Packets are packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct UtpCodec;

impl PacketCodec for UtpCodec {
    type Msg = Packet;

    fn decode(&mut self, _: SocketAddr, packet: &[u8]) -> Result<Packet, Malformed> {
        Packet::decode(packet)
    }

    fn encode(&mut self, _: SocketAddr, msg: Packet, packet: &mut Vec<u8>) {
        msg.encode(packet);
    }
}

/// The whole sequence number that a packet's sixteen bits stand for: the one nearest to `near`.
pub(super) fn unwrap(bits: u16, near: u64) -> u64 {
    near.wrapping_add_signed(i64::from(bits.wrapping_sub(near as u16) as i16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A packet laid out by hand after BEP 29's figures.
    const DATA: [u8; 32] = [
        0x01, 0x01, 0x12, 0x34, // ST_DATA, version 1, selective ack follows, connection
        0x00, 0x0f, 0x42, 0x40, // a second
        0xff, 0xff, 0xff, 0xfe, // two microseconds less than none
        0x00, 0x10, 0x00, 0x00, // a window of 1 MiB
        0xff, 0xff, 0x00, 0x07, // seq_nr, ack_nr
        0x00, 0x04, 0x05, 0x00, 0x00, 0x80, // the last extension, of 4 bytes: 9, 11 and 40
        b'h', b'i', b'!', b'!', b'!', b'!',
    ];

    #[test]
    fn a_packet_is_read_as_it_is_drawn() {
        let packet = Packet::decode(&DATA).unwrap();
        let expected = Packet {
            kind: Kind::Data,
            connection: 0x1234,
            timestamp: 1_000_000,
            difference: u32::MAX - 1,
            window: 1 << 20,
            seq: 65_535,
            ack: 7,
            selective: vec![0b101, 0, 0, 0x80],
            payload: Bytes::from_static(b"hi!!!!"),
        };
        assert_eq!(packet, expected);
        let mut bytes = Vec::new();
        packet.encode(&mut bytes);
        assert_eq!(bytes, DATA);
    }

    #[test]
    fn unknown_extensions_are_passed_over() {
        let mut bytes = DATA.to_vec();
        bytes[1] = 77;
        bytes.splice(20..20, [1, 3, 9, 9, 9]);
        assert_eq!(Packet::decode(&bytes), Packet::decode(&DATA));
    }

    #[test]
    fn what_is_cut_off_or_of_another_kind_is_no_packet() {
        for length in (0..20).chain(20..26) {
            assert!(Packet::decode(&DATA[..length]).is_err(), "{length} bytes");
        }
        for first in [0x00, 0x02, 0x51, 0xf1] {
            let mut bytes = DATA;
            bytes[0] = first;
            assert!(Packet::decode(&bytes).is_err(), "{first:#x}");
        }
    }

    #[test]
    fn sequence_numbers_are_taken_for_the_nearest() {
        assert_eq!(unwrap(5, 0x2_0003), 0x2_0005);
        assert_eq!(unwrap(0xfffe, 0x2_0003), 0x1_fffe);
        assert_eq!(unwrap(2, 0x1_fff0), 0x2_0002);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            kind in 0_usize..5, connection: u16, timestamp: u32, difference: u32, window: u32, seq: u16, ack: u16,
            selective in proptest::collection::vec(any::<u8>(), 0..252), payload: Vec<u8>,
        ) {
            let kind = Kind::ALL[kind];
            let payload = payload.into();
            let packet = Packet { kind, connection, timestamp, difference, window, seq, ack, selective, payload };
            let mut bytes = Vec::new();
            packet.encode(&mut bytes);
            prop_assert_eq!(Packet::decode(&bytes), Ok(packet));
        }
    }
}
