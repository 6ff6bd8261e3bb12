//! Gnutella 0.6 over TCP: a handshake in three steps, then descriptors (RFC-Gnutella 0.6, §2.1).
//!
//! Whoever dials says what it is, whoever is dialled answers with what it is, and the first agrees, perhaps as something
//! else: an ultrapeer that is not needed becomes a leaf. To who takes it in so, descriptors are sent deflated.

use bytes::{BufMut, Bytes, BytesMut};
use p2p_core::foreign::{After, Codec, Malformed, TcpPeer};
use p2p_core::{Contact, Lane, Wire};
use serde::{Deserialize, Serialize};

use super::deflated::{Deflater, Inflater};
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
/// This end takes a deflated stream in, and sends one.
const ACCEPTS: &str = "Accept-Encoding: deflate\r\n";
const DEFLATES: &str = "Content-Encoding: deflate\r\n";
/// The longest step of a handshake, in bytes.
const MAX_STEP: usize = 4 << 10;

/// One connection's; some 400 KiB, if it is deflated both ways.
#[derive(Debug)]
pub struct Gnutella06Codec {
    phase: Phase,
    /// Whether the other end takes a deflated stream in.
    accepts: bool,
    deflater: Option<Deflater>,
    inflater: Option<Inflater>,
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
        Gnutella06Codec { phase, accepts: false, deflater: None, inflater: None }
    }

    fn descriptor(&mut self, input: &mut BytesMut) -> Result<Option<Descriptor>, Malformed> {
        let Some(inflater) = &mut self.inflater else { return Descriptor::decode(input) };
        loop {
            let came = Descriptor::decode(inflater.plain())?;
            if came.is_some() || !inflater.more(input)? {
                return Ok(came);
            }
        }
    }
}

impl Codec for Gnutella06Codec {
    type Msg = Gnutella06Msg;

    fn decode(&mut self, input: &mut BytesMut, _: &mut BytesMut) -> Result<Option<Gnutella06Msg>, Malformed> {
        match self.phase {
            Phase::Descriptors => return Ok(self.descriptor(input)?.map(Gnutella06Msg::Descriptor)),
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
        self.accepts |= says_deflate(headers, "accept-encoding");
        let deflated = says_deflate(headers, "content-encoding");
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
        self.inflater = (phase == Phase::Descriptors && deflated).then(Inflater::new);
        Ok(Some(msg))
    }

    fn encode(&mut self, msg: Gnutella06Msg, output: &mut BytesMut) -> After {
        let mut step = |first: &str, hello: &Hello, encodings: &[&str]| {
            let mut text = format!("{first}\r\n{AGENT}");
            hello.write(&mut text);
            encodings.iter().for_each(|line| text.push_str(line));
            text.push_str("\r\n");
            output.put_slice(text.as_bytes());
        };
        let deflates = if self.accepts { DEFLATES } else { "" };
        match msg {
            Gnutella06Msg::Connect(hello) => step(CONNECT, &hello, &[ACCEPTS]),
            Gnutella06Msg::Welcome(hello) => {
                step(OK, &hello, &[ACCEPTS, deflates]);
                self.deflater = self.accepts.then(Deflater::default);
            }
            Gnutella06Msg::Agree(hello) => {
                step(OK, &hello, &[deflates]);
                self.deflater = self.accepts.then(Deflater::default);
            }
            Gnutella06Msg::Refuse(tries) => {
                step(REFUSED, &Hello { tries, ..Hello::default() }, &[]);
                return After::Close;
            }
            Gnutella06Msg::Give { index, servent, name } => {
                give(index, servent, &name, output);
                self.phase = Phase::Over;
            }
            Gnutella06Msg::Descriptor(descriptor) => {
                match &mut self.deflater {
                    None => descriptor.encode(output),
                    Some(deflater) => {
                        let mut plain = BytesMut::new();
                        descriptor.encode(&mut plain);
                        deflater.put(&plain, output);
                    }
                }
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

/// Whether the header of this name, in small letters, says `deflate`.
fn says_deflate(headers: &str, name: &str) -> bool {
    let mut headers = headers.lines().filter_map(|line| line.split_once(':'));
    headers.any(|(this, value)| {
        let mut values = value.split(',');
        this.trim().eq_ignore_ascii_case(name) && values.any(|value| value.trim() == "deflate")
    })
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

    /// What zlib's own program makes of the ping below, flushed, at the beginning of a stream, and of the same again.
    const DEFLATED: [&[u8]; 2] = [
        b"\x78\x9c\x62\x64\x62\x66\x61\x65\x63\xe7\xe0\xe4\xe2\xe6\xe1\xe5\xe3\x17\x60\x60\x64\0\x01\0\0\0\0\xff\xff",
        b"\x62\xc4\x2e\x0c\0\0\0\xff\xff",
    ];
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
                + "\r\nX-Ultrapeer: True\r\nAccept-Encoding: deflate\r\n\r\n"
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
        assert!(second.contains("\r\nAccept-Encoding: deflate\r\nContent-Encoding: deflate\r\n"), "{second}");
        assert!(third.contains("\r\nContent-Encoding: deflate\r\n"), "{third}");
        let came = decode(&mut there, &[third.as_bytes(), DEFLATED[0]].concat());
        let [Gnutella06Msg::Agree(hello), ping @ Gnutella06Msg::Descriptor(_)] = &came[..] else {
            panic!("{came:?}")
        };
        assert_eq!(*hello, is(false));
        assert_eq!(decode(&mut there, DEFLATED[1]), std::slice::from_ref(ping));
        // And from here to there, however it is deflated.
        let mut deflated = BytesMut::new();
        here.encode(ping.clone(), &mut deflated);
        assert_ne!(deflated, PING);
        let mut again = Inflater::new();
        again.more(&mut deflated).unwrap();
        assert_eq!(again.plain()[..], *PING);
    }

    /// Who does not say that it takes in, or sends, a deflated stream gets, and is read as, a plain one.
    #[test]
    fn who_does_not_deflate_is_talked_to_as_before() {
        let mut there = codec(false);
        decode(&mut there, b"GNUTELLA CONNECT/0.6\r\nAccept-Encoding: gzip\r\n\r\n");
        let (second, _) = encode(&mut there, Gnutella06Msg::Welcome(Hello::default()));
        assert!(!second.contains("Content-Encoding"), "{second}");
        let came = decode(&mut there, &[b"GNUTELLA/0.6 200 OK\r\n\r\n", PING].concat());
        let [_, ping] = &came[..] else { panic!("{came:?}") };
        let mut plain = BytesMut::new();
        there.encode(ping.clone(), &mut plain);
        assert_eq!(plain, PING);
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
        fn the_stream_may_be_cut_anywhere(cut in 0usize..130, deflated in any::<bool>()) {
            let begin = &b"GNUTELLA CONNECT/0.6\r\nX-Degree: 9\r\n\r\nGNUTELLA/0.6 200 OK\r\n"[..];
            let (encoding, ping) = match deflated {
                true => (&b"Content-Encoding: deflate\r\n\r\n"[..], DEFLATED[0]),
                false => (&b"\r\n"[..], PING),
            };
            let bytes = [begin, encoding, ping].concat();
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
