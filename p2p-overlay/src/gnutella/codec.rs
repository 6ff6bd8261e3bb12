//! Gnutella 0.4 over TCP: the greeting, then descriptors (Clip2 §2); or one line that gives a file (§6).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use p2p_core::foreign::{After, Codec, Malformed, TcpPeer};
use p2p_core::{Lane, Wire};
use serde::{Deserialize, Serialize};

use super::descriptor::{Descriptor, Guid, MAX_PAYLOAD};
use crate::sharing::ForeignSearch;

/// What servents say to each other, over any transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GnutellaMsg {
    /// To whom one wants for a neighbour. Answered by [`GnutellaMsg::Accept`] or [`GnutellaMsg::Refuse`].
    Connect,
    /// Neighbours from now on.
    Accept,
    /// No. The connection ends.
    Refuse,
    /// Between neighbours.
    Descriptor(Descriptor),
    /// From whom a push has asked for it, on a connection of its own: here is the file.
    Give {
        /// The sender's number for the file.
        index: u32,
        /// As its hit and the push have said it.
        servent: Guid,
        /// The file's name.
        name: Bytes,
    },
}

impl Wire for GnutellaMsg {
    /// A whole descriptor, whose contacts are longer here.
    const MAX_BYTES: usize = MAX_PAYLOAD + (1 << 10);

    fn lane(&self) -> Lane {
        Lane::Ordered
    }
}

const CONNECT: &[u8] = b"GNUTELLA CONNECT/0.4\n\n";
const OK: &[u8] = b"GNUTELLA OK\n\n";
/// What a refusal is, is left open but for its form (§2).
const REFUSED: &[u8] = b"503 Not now\n\n";
/// The longest greeting, or line that gives a file.
const MAX_GREETING: usize = 1 << 10;

/// One connection's.
#[derive(Debug)]
pub struct GnutellaCodec {
    phase: Phase,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Who has dialled us says what for.
    Purpose,
    /// Whom we have dialled answers.
    Answer,
    Descriptors,
    /// A file is given here: nothing that this codec knows.
    Given,
}

impl GnutellaCodec {
    /// For a connection of this name, which says who speaks first.
    pub fn new(peer: TcpPeer) -> GnutellaCodec {
        let phase = match peer {
            TcpPeer::Dialled { .. } => Phase::Answer,
            TcpPeer::Accepted { .. } => Phase::Purpose,
        };
        GnutellaCodec { phase }
    }
}

impl Codec for GnutellaCodec {
    type Msg = GnutellaMsg;

    fn decode(&mut self, input: &mut BytesMut, _: &mut BytesMut) -> Result<Option<GnutellaMsg>, Malformed> {
        match self.phase {
            Phase::Descriptors => {
                return Ok(Descriptor::decode(input)?.map(GnutellaMsg::Descriptor));
            }
            Phase::Given if input.is_empty() => return Ok(None),
            Phase::Given => return Err(Malformed("bytes where a file was given".into())),
            Phase::Purpose | Phase::Answer => {}
        }
        let Some(lines) = greeting(input, MAX_GREETING)? else { return Ok(None) };
        let (msg, phase) = match (self.phase, &lines[..]) {
            (Phase::Purpose, b"GNUTELLA CONNECT/0.4") => (GnutellaMsg::Connect, Phase::Descriptors),
            (Phase::Purpose, line) => {
                let (index, servent, name) = given(line)?;
                (GnutellaMsg::Give { index, servent, name }, Phase::Given)
            }
            (_, b"GNUTELLA OK") => (GnutellaMsg::Accept, Phase::Descriptors),
            (_, _) => (GnutellaMsg::Refuse, Phase::Given),
        };
        self.phase = phase;
        Ok(Some(msg))
    }

    fn encode(&mut self, msg: GnutellaMsg, output: &mut BytesMut) -> After {
        match msg {
            GnutellaMsg::Connect => output.put_slice(CONNECT),
            GnutellaMsg::Accept => output.put_slice(OK),
            GnutellaMsg::Refuse => {
                output.put_slice(REFUSED);
                return After::Close;
            }
            GnutellaMsg::Descriptor(descriptor) => {
                descriptor.encode(output);
                if descriptor.is_last() {
                    return After::Close;
                }
            }
            GnutellaMsg::Give { index, servent, name } => {
                give(index, servent, &name, output);
                self.phase = Phase::Given;
            }
        }
        After::Open
    }
}

impl ForeignSearch for GnutellaCodec {
    fn gives(msg: &GnutellaMsg) -> bool {
        matches!(msg, GnutellaMsg::Give { .. })
    }
}

/// The lines up to an empty one, without it, of `most` bytes in all; `None` while they are not all there.
pub(crate) fn greeting(input: &mut BytesMut, most: usize) -> Result<Option<BytesMut>, Malformed> {
    let within = &input[..input.len().min(most)];
    // Carriage returns are taken in, and never sent (§2).
    let ends = (0..within.len()).find_map(|at| {
        let rest = &within[at..];
        [&b"\n\n"[..], b"\n\r\n", b"\r\n\r\n"]
            .iter()
            .find(|end| rest.starts_with(end))
            .map(|end| (at, end.len()))
    });
    match ends {
        Some((at, len)) => {
            let lines = input.split_to(at);
            input.advance(len);
            Ok(Some(lines))
        }
        None if input.len() >= most => Err(Malformed("a greeting without an end".into())),
        None => Ok(None),
    }
}

/// Appends the line that gives a file.
pub(crate) fn give(index: u32, servent: Guid, name: &[u8], output: &mut BytesMut) {
    output.put_slice(format!("GIV {index}:{servent:?}/").as_bytes());
    output.extend(name.iter().filter(|byte| **byte != b'\n'));
    output.put_slice(b"\n\n");
}

/// `GIV <index>:<servent>/<name>`.
pub(crate) fn given(line: &[u8]) -> Result<(u32, Guid, Bytes), Malformed> {
    let parts = || {
        let line = line.strip_prefix(b"GIV ")?;
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (index, rest) = (&line[..colon], &line[colon + 1..]);
        let (servent, rest) = rest.split_at_checked(32)?;
        let name = rest.strip_prefix(b"/").filter(|name| !name.contains(&b'\n'))?;
        let name = Bytes::copy_from_slice(name);
        let digits = index.iter().all(u8::is_ascii_digit);
        let index = std::str::from_utf8(index).ok().filter(|_| digits)?.parse().ok()?;
        let mut guid = [0; 16];
        for (byte, pair) in guid.iter_mut().zip(servent.chunks(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Some((index, Guid(guid), name))
    };
    parts().ok_or_else(|| {
        Malformed(format!("expected GNUTELLA CONNECT/0.4 or GIV; came {:?}", String::from_utf8_lossy(line)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepted() -> GnutellaCodec {
        GnutellaCodec::new(TcpPeer::Accepted { addr: "192.0.2.1:5".parse().unwrap(), number: 1 })
    }

    fn dialled() -> GnutellaCodec {
        GnutellaCodec::new(TcpPeer::Dialled { addr: "192.0.2.1:5".parse().unwrap(), number: 1 })
    }

    fn decode(codec: &mut GnutellaCodec, bytes: &[u8]) -> Vec<GnutellaMsg> {
        let mut input = BytesMut::from(bytes);
        let next = || codec.decode(&mut input, &mut BytesMut::new()).unwrap();
        std::iter::from_fn(next).collect()
    }

    fn encode(codec: &mut GnutellaCodec, msg: GnutellaMsg) -> (Vec<u8>, After) {
        let mut out = BytesMut::new();
        let after = codec.encode(msg, &mut out);
        (out.to_vec(), after)
    }

    const PING: &[u8] =
        b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x00\x01\x00\x00\x00\x00\x00";

    #[test]
    fn the_greeting_is_the_specifications() {
        let mut codec = accepted();
        let both = [b"GNUTELLA CONNECT/0.4\n\n", PING].concat();
        let came = decode(&mut codec, &both);
        assert!(matches!(came[..], [GnutellaMsg::Connect, GnutellaMsg::Descriptor(_)]), "{came:?}");
        assert_eq!(encode(&mut codec, GnutellaMsg::Accept), (b"GNUTELLA OK\n\n".to_vec(), After::Open));
        let mut codec = dialled();
        assert_eq!(encode(&mut codec, GnutellaMsg::Connect).0, b"GNUTELLA CONNECT/0.4\n\n");
        let came = decode(&mut codec, &[b"GNUTELLA OK\n\n", PING].concat());
        assert!(matches!(came[..], [GnutellaMsg::Accept, GnutellaMsg::Descriptor(_)]), "{came:?}");
    }

    #[test]
    fn carriage_returns_are_taken_in() {
        assert_eq!(decode(&mut accepted(), b"GNUTELLA CONNECT/0.4\r\n\r\n"), [GnutellaMsg::Connect]);
        assert_eq!(decode(&mut dialled(), b"GNUTELLA OK\n\r\n"), [GnutellaMsg::Accept]);
    }

    #[test]
    fn any_other_answer_is_a_refusal() {
        assert_eq!(decode(&mut dialled(), b"404 Not found\n\n"), [GnutellaMsg::Refuse]);
        assert_eq!(encode(&mut accepted(), GnutellaMsg::Refuse).1, After::Close);
    }

    #[test]
    fn a_file_is_given_by_one_line() {
        let give = GnutellaMsg::Give { index: 2468, servent: Guid([0xab; 16]), name: "Foobar.mp3".into() };
        let line = b"GIV 2468:ABABABABABABABABABABABABABABABAB/Foobar.mp3\n\n";
        assert_eq!(encode(&mut dialled(), give.clone()).0, line);
        assert_eq!(decode(&mut accepted(), line), [give]);
    }

    #[test]
    fn what_is_no_greeting_is_refused() {
        let endless = [b'x'; MAX_GREETING];
        let wrong: [&[u8]; 5] = [
            b"GNUTELLA CONNECT/0.6\r\n\r\n",
            b"GIV -1:ABABABABABABABABABABABABABABABAB/x\n\n",
            b"GIV 1:ABAB/x\n\n",
            b"GIV 1:ABABABABABABABABABABABABABABABAG/x\n\n",
            &endless,
        ];
        for bytes in wrong {
            let decoded = accepted().decode(&mut BytesMut::from(bytes), &mut BytesMut::new());
            assert!(decoded.is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        /// However the bytes are cut, the same messages come.
        #[test]
        fn the_stream_may_be_cut_anywhere(cut in 0usize..68) {
            let bytes = [b"GNUTELLA CONNECT/0.4\n\n", PING, PING].concat();
            let mut codec = accepted();
            let mut input = BytesMut::new();
            let mut came = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                input.extend_from_slice(part);
                while let Some(msg) = codec.decode(&mut input, &mut BytesMut::new()).unwrap() {
                    came.push(msg);
                }
            }
            prop_assert_eq!(came.len(), 3);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), dial in any::<bool>()) {
            let mut codec = if dial { dialled() } else { accepted() };
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = codec.decode(&mut input, &mut BytesMut::new()) {}
        }
    }
}
