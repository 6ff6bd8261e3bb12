//! Gnutella 0.6 over TCP: a handshake in three steps, then descriptors (RFC-Gnutella 0.6, §2.1).
//!
//! Whoever dials says what it is, whoever is dialled answers with what it is, and the first agrees, perhaps as something
//! else: an ultrapeer that is not needed becomes a leaf.

use bytes::{BufMut, Bytes, BytesMut};
use p2p_core::foreign::{After, Codec, Malformed, TcpPeer};
use p2p_core::{Contact, Lane, Wire};
use serde::{Deserialize, Serialize};

use super::handshake::{Hello, addresses};
use crate::gnutella::codec::{give, given, greeting};
use crate::gnutella::descriptor::MAX_PAYLOAD;
use crate::gnutella::{Descriptor, Guid};
use crate::sharing::ForeignSearch;

/// What servents say to each other, over any transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gnutella06Msg {
    /// To whom one wants for a neighbour. Answered by [`Gnutella06Msg::Welcome`] or [`Gnutella06Msg::Refuse`].
    Connect(Hello),
    /// The receiver may be a neighbour. Answered by [`Gnutella06Msg::Agree`] or [`Gnutella06Msg::Refuse`].
    Welcome(Hello),
    /// Neighbours from now on. Only what has changed since the first step is said.
    Agree(Hello),
    /// No; but these might. The connection ends.
    Refuse(Vec<Contact>),
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

impl Wire for Gnutella06Msg {
    /// A whole descriptor, whose contacts are longer here.
    const MAX_BYTES: usize = MAX_PAYLOAD + (1 << 10);

    fn lane(&self) -> Lane {
        Lane::Ordered
    }
}

const CONNECT: &str = "GNUTELLA CONNECT/0.6";
const OK: &str = "GNUTELLA/0.6 200 OK";
const REFUSED: &str = "GNUTELLA/0.6 503 Not now";
/// Who is there, for people who look into it.
const AGENT: &str = concat!("User-Agent: p2p/", env!("CARGO_PKG_VERSION"), "\r\n");
/// The longest step of a handshake, in bytes.
const MAX_STEP: usize = 4 << 10;

/// One connection's.
#[derive(Debug)]
pub struct Gnutella06Codec {
    phase: Phase,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Who has dialled us says what it is.
    Connect,
    /// Whom we have dialled answers.
    Answer,
    /// Who has dialled us agrees.
    Agree,
    Descriptors,
    /// Nothing: it was refused, or a file is given here.
    Over,
}

impl Gnutella06Codec {
    /// For a connection of this name, which says who speaks first.
    pub fn new(peer: TcpPeer) -> Gnutella06Codec {
        let phase = match peer {
            TcpPeer::Dialled { .. } => Phase::Answer,
            TcpPeer::Accepted { .. } => Phase::Connect,
        };
        Gnutella06Codec { phase }
    }
}

impl Codec for Gnutella06Codec {
    type Msg = Gnutella06Msg;

    fn decode(&mut self, input: &mut BytesMut, _: &mut BytesMut) -> Result<Option<Gnutella06Msg>, Malformed> {
        match self.phase {
            Phase::Descriptors => return Ok(Descriptor::decode(input)?.map(Gnutella06Msg::Descriptor)),
            Phase::Over if input.is_empty() => return Ok(None),
            Phase::Over => return Err(Malformed("bytes after a refusal".into())),
            Phase::Connect | Phase::Answer | Phase::Agree => {}
        }
        let Some(lines) = greeting(input, MAX_STEP)? else { return Ok(None) };
        if self.phase == Phase::Connect && lines.starts_with(b"GIV ") {
            self.phase = Phase::Over;
            let (index, servent, name) = given(&lines)?;
            return Ok(Some(Gnutella06Msg::Give { index, servent, name }));
        }
        let lines = String::from_utf8_lossy(&lines);
        let (first, headers) = lines.split_once('\n').unwrap_or((&lines, ""));
        let hello = Hello::read(headers);
        let (msg, phase) = match (self.phase, status(first)) {
            (Phase::Connect, _) if first.trim_end() == CONNECT => {
                (Gnutella06Msg::Connect(hello), Phase::Agree)
            }
            (Phase::Answer, Some(200)) => (Gnutella06Msg::Welcome(hello), Phase::Descriptors),
            (Phase::Agree, Some(200)) => (Gnutella06Msg::Agree(hello), Phase::Descriptors),
            (Phase::Answer | Phase::Agree, Some(_)) => (Gnutella06Msg::Refuse(hello.tries), Phase::Over),
            _ => return Err(Malformed(format!("expected a step of the 0.6 handshake; came {first:?}"))),
        };
        self.phase = phase;
        Ok(Some(msg))
    }

    fn encode(&mut self, msg: Gnutella06Msg, output: &mut BytesMut) -> After {
        let mut step = |first: &str, hello: Option<&Hello>| {
            let mut text = format!("{first}\r\n{AGENT}");
            if let Some(hello) = hello {
                hello.write(&mut text);
            }
            text.push_str("\r\n");
            output.put_slice(text.as_bytes());
        };
        match msg {
            Gnutella06Msg::Connect(hello) => step(CONNECT, Some(&hello)),
            Gnutella06Msg::Welcome(hello) | Gnutella06Msg::Agree(hello) => step(OK, Some(&hello)),
            Gnutella06Msg::Refuse(tries) => {
                step(REFUSED, Some(&Hello { tries, ..Hello::default() }));
                return After::Close;
            }
            Gnutella06Msg::Give { index, servent, name } => {
                give(index, servent, &name, output);
                self.phase = Phase::Over;
            }
            Gnutella06Msg::Descriptor(descriptor) => {
                descriptor.encode(output);
                if descriptor.is_last() {
                    return After::Close;
                }
            }
        }
        After::Open
    }
}

impl ForeignSearch for Gnutella06Codec {
    fn gives(msg: &Gnutella06Msg) -> bool {
        matches!(msg, Gnutella06Msg::Give { .. })
    }
}

/// The number of a line `GNUTELLA/0.6 <number> <text>`.
fn status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("GNUTELLA/0.6 ")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The reason of a goodbye that hands its receiver over to others: a code, and a header (RFC-Gnutella 0.6, §2.2.8).
pub(super) fn farewell(text: &str, tries: &[Contact]) -> bytes::Bytes {
    let mut reason = 200u16.to_le_bytes().to_vec();
    reason.extend_from_slice(text.as_bytes());
    if !tries.is_empty() {
        reason.extend_from_slice(format!("\r\nX-Try-Ultrapeers: {}\r\n\r\n", addresses(tries)).as_bytes());
    }
    reason.push(0);
    reason.into()
}

/// Whom such a reason names.
pub(super) fn named_in(reason: &[u8]) -> Vec<Contact> {
    let text = String::from_utf8_lossy(reason.get(2..reason.len().min(MAX_STEP)).unwrap_or_default());
    Hello::read(text.split_once('\n').map_or("", |(_, headers)| headers)).tries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::of_address;
    use proptest::prelude::*;

    fn codec(dialled: bool) -> Gnutella06Codec {
        let addr = "192.0.2.1:5".parse().unwrap();
        Gnutella06Codec::new(match dialled {
            true => TcpPeer::Dialled { addr, number: 1 },
            false => TcpPeer::Accepted { addr, number: 1 },
        })
    }

    fn decode(codec: &mut Gnutella06Codec, bytes: &[u8]) -> Vec<Gnutella06Msg> {
        let mut input = BytesMut::from(bytes);
        std::iter::from_fn(|| codec.decode(&mut input, &mut BytesMut::new()).unwrap()).collect()
    }

    fn encode(codec: &mut Gnutella06Codec, msg: Gnutella06Msg) -> (String, After) {
        let mut out = BytesMut::new();
        let after = codec.encode(msg, &mut out);
        (String::from_utf8(out.to_vec()).unwrap(), after)
    }

    const PING: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0, 1, 0, 0, 0, 0, 0];

    /// The handshake of the specification's §2.1: three steps, and binary data after the last.
    #[test]
    fn the_handshake_has_three_steps() {
        let (mut here, mut there) = (codec(true), codec(false));
        let is = |ultrapeer| Hello { ultrapeer: Some(ultrapeer), ..Hello::default() };
        let (first, _) = encode(&mut here, Gnutella06Msg::Connect(is(true)));
        assert_eq!(
            first,
            "GNUTELLA CONNECT/0.6\r\nUser-Agent: p2p/".to_owned()
                + env!("CARGO_PKG_VERSION")
                + "\r\nX-Ultrapeer: True\r\n\r\n"
        );
        assert_eq!(decode(&mut there, first.as_bytes()), [Gnutella06Msg::Connect(is(true))]);
        let welcome = Hello { needed: Some(false), ..is(true) };
        let (second, _) = encode(&mut there, Gnutella06Msg::Welcome(welcome.clone()));
        assert!(
            second.starts_with("GNUTELLA/0.6 200 OK\r\n") && second.contains("X-Ultrapeer-Needed: False")
        );
        assert_eq!(decode(&mut here, second.as_bytes()), [Gnutella06Msg::Welcome(welcome)]);
        let (third, after) = encode(&mut here, Gnutella06Msg::Agree(is(false)));
        assert_eq!(after, After::Open);
        let came = decode(&mut there, &[third.as_bytes(), PING].concat());
        assert!(
            matches!(&came[..], [Gnutella06Msg::Agree(hello), Gnutella06Msg::Descriptor(_)] if *hello == is(false))
        );
    }

    #[test]
    fn a_refusal_names_others_and_ends_it() {
        let other = of_address("192.0.2.7:6346".parse().unwrap());
        let (text, after) = encode(&mut codec(false), Gnutella06Msg::Refuse(vec![other]));
        assert!(after == After::Close && text.contains("\r\nX-Try-Ultrapeers: 192.0.2.7:6346\r\n"), "{text}");
        let mut here = codec(true);
        assert_eq!(decode(&mut here, text.as_bytes()), [Gnutella06Msg::Refuse(vec![other])]);
        assert!(here.decode(&mut BytesMut::from(PING), &mut BytesMut::new()).is_err());
    }

    #[test]
    fn a_file_is_given_by_one_line() {
        let give = Gnutella06Msg::Give { index: 2468, servent: Guid([0xab; 16]), name: "Foobar.mp3".into() };
        let line = "GIV 2468:ABABABABABABABABABABABABABABABAB/Foobar.mp3\n\n";
        assert_eq!(encode(&mut codec(true), give.clone()), (line.to_owned(), After::Open));
        let mut there = codec(false);
        assert_eq!(decode(&mut there, line.as_bytes()), [give]);
        assert!(there.decode(&mut BytesMut::from(PING), &mut BytesMut::new()).is_err());
    }

    #[test]
    fn a_goodbye_names_others() {
        let other = of_address("192.0.2.7:6346".parse().unwrap());
        assert_eq!(named_in(&farewell("retired", &[other])), [other]);
        assert_eq!(named_in(&farewell("silent", &[])), []);
        for reason in [&b""[..], b"x", b"\xc8\0\r\nX-Try-Ultrapeers", b"\xc8\0\n\n"] {
            assert_eq!(named_in(reason), []);
        }
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        let endless = [b'x'; MAX_STEP];
        let wrong: [(bool, &[u8]); 6] = [
            (false, b"GNUTELLA CONNECT/0.4\n\n"),
            (false, b"GNUTELLA/0.6 200 OK\r\n\r\n"),
            (true, b"GNUTELLA OK\n\n"),
            (true, b"GNUTELLA/0.6 OK\r\n\r\n"),
            (true, b"GNUTELLA CONNECT/0.6\r\n\r\n"),
            (false, &endless),
        ];
        for (dialled, bytes) in wrong {
            let decoded = codec(dialled).decode(&mut BytesMut::from(bytes), &mut BytesMut::new());
            assert!(decoded.is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        /// However the bytes are cut, the same messages come.
        #[test]
        fn the_stream_may_be_cut_anywhere(cut in 0usize..90) {
            let bytes =
                [b"GNUTELLA CONNECT/0.6\r\nX-Degree: 9\r\n\r\nGNUTELLA/0.6 200 OK\r\n\r\n", PING].concat();
            let (mut codec, mut input, mut came) = (codec(false), BytesMut::new(), 0);
            let cut = cut.min(bytes.len());
            for part in [&bytes[..cut], &bytes[cut..]] {
                input.extend_from_slice(part);
                while codec.decode(&mut input, &mut BytesMut::new()).unwrap().is_some() {
                    came += 1;
                }
            }
            prop_assert_eq!(came, 3);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), dialled in any::<bool>()) {
            let (mut codec, mut input) = (codec(dialled), BytesMut::from(&bytes[..]));
            while let Ok(Some(_)) = codec.decode(&mut input, &mut BytesMut::new()) {}
        }
    }
}
