//! Files between Napster's clients over TCP (OpenNap, *Client-Client Protocol*): one connection for one file, from an
//! offset to its end.
//!
//! Whoever is dialled says `1`. Whoever dials says what for: `GET`, its nick, the file and an offset, and gets the
//! file's size in digits and, right behind them, the bytes; or, when it was asked to push, `SEND`, its nick, the file
//! and the size, and gets the offset in digits and sends the bytes. Nothing ends a line, or a number, but the end of
//! what has come: a size is known from the search, and so is told from the bytes behind it. There is no busy: a
//! connection that ends at once says so.

use bytes::{Buf, BufMut, BytesMut};
use p2p_core::foreign::{After, Codec, Malformed, TcpPeer};

use super::codec::NapsterCodec;
use super::msg::{MAX_LINE, NapsterMsg};
use crate::sharing::{MAX_PART, Refusal, SharingMsg, Transfer, Wanted};

/// The answers of those who do not have it, or do not understand.
const NOT_SHARED: &[u8] = b"FILE NOT SHARED";

/// One connection's, of a client: to a server, or for a file.
#[derive(Debug)]
pub struct NapsterFilesCodec {
    peer: TcpPeer,
    nick: String,
    network: NapsterCodec,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// It was dialled, and says what for at the first message; or it has dialled, and does.
    Unknown,
    /// To a server, or to nobody who gives anything.
    Network,
    /// The file goes from here; with what was asked for, once it was.
    Gives {
        name: String,
        size: u64,
        one: bool,
        asked: Option<Asked>,
    },
    /// It comes here; `at` once its head is over.
    Takes {
        one: bool,
        headed: bool,
        asked: Option<Asked>,
    },
    Over,
}

/// What was asked for: the question's number, the file's size, and where the next byte stands.
#[derive(Clone, Copy, Debug)]
struct Asked {
    id: u32,
    size: u64,
    at: u64,
    /// Whether the answer has begun.
    begun: bool,
}

impl NapsterFilesCodec {
    /// Of a client that has this nick, for a connection of this name.
    pub fn new(peer: TcpPeer, nick: impl Into<String>) -> NapsterFilesCodec {
        let network = NapsterCodec::client(peer);
        NapsterFilesCodec { peer, nick: nick.into(), network, phase: Phase::Unknown }
    }

    /// What whoever has dialled says.
    fn purpose(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<Option<SharingMsg<NapsterMsg>>, Malformed> {
        let known = input.len().min(3);
        if known > 0 && input[..known] == b"GET"[..known] {
            if input.len() > MAX_LINE {
                return Err(Malformed("a request that is too long".into()));
            }
            let Some((name, start)) = requested(input) else { return Ok(None) };
            input.clear();
            let asked = Asked { id: 1, size: 0, at: start, begun: false };
            self.phase = Phase::Gives { name: name.clone(), size: 0, one: true, asked: Some(asked) };
            return Ok(Some(get(name, start)));
        }
        let msg = self.network.decode(input, output)?;
        if let Some(NapsterMsg::Send { .. }) = &msg {
            self.phase = Phase::Takes { one: true, headed: true, asked: None };
        }
        Ok(msg.map(SharingMsg::Search))
    }
}

fn get(name: String, start: u64) -> SharingMsg<NapsterMsg> {
    let wanted = Wanted { hash: None, index: 0, name, size: 0 };
    SharingMsg::Transfer(Transfer::Get { id: 1, wanted, start, end: u64::MAX })
}

/// `GET<nick> "<name>" <offset>`.
fn requested(input: &[u8]) -> Option<(String, u64)> {
    let line = String::from_utf8_lossy(input.get(3..)?).into_owned();
    let mut parts = line.splitn(3, '"').skip(1);
    let (name, offset) = (parts.next()?, parts.next()?);
    Some((name.to_owned(), offset.trim().parse().ok()?))
}

impl Codec for NapsterFilesCodec {
    type Msg = SharingMsg<NapsterMsg>;

    fn begin(&mut self, output: &mut BytesMut) {
        self.network.begin(output);
    }

    fn decode(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<Option<Self::Msg>, Malformed> {
        if matches!((&self.phase, self.peer), (Phase::Unknown, TcpPeer::Accepted { .. })) {
            return self.purpose(input, output);
        }
        match &mut self.phase {
            Phase::Unknown | Phase::Network => {
                Ok(self.network.decode(input, output)?.map(SharingMsg::Search))
            }
            Phase::Gives { name, one, asked, .. } => {
                skip_one(input, one);
                if input.is_empty() {
                    return Ok(None);
                }
                let digits = input.len() <= 20 && input.iter().all(u8::is_ascii_digit);
                let start = std::str::from_utf8(input).ok().and_then(|text| text.parse().ok());
                let (true, Some(start), None) = (digits, start, &asked) else {
                    return Err(Malformed("expected an offset in digits".into()));
                };
                input.clear();
                *asked = Some(Asked { id: 1, size: 0, at: start, begun: false });
                Ok(Some(get(name.clone(), start)))
            }
            Phase::Takes { one, headed, asked } => {
                skip_one(input, one);
                let Some(Asked { id, size, at, .. }) = asked else {
                    return match input.is_empty() {
                        true => Ok(None),
                        false => Err(Malformed("bytes that nobody has asked for".into())),
                    };
                };
                if !*headed {
                    let head = size.to_string();
                    let came = input.len().min(head.len());
                    if input[..came] != head.as_bytes()[..came] {
                        let id = *id;
                        self.phase = Phase::Over;
                        input.clear();
                        let why = Refusal::Missing;
                        return Ok(Some(SharingMsg::Transfer(Transfer::No { id, why })));
                    }
                    if came < head.len() {
                        return Ok(None);
                    }
                    input.advance(came);
                    *headed = true;
                }
                let len = (*size - *at).min(MAX_PART as u64);
                if len == 0 || (input.len() as u64) < len {
                    return Ok(None);
                }
                let data = input.split_to(len as usize).freeze();
                let part = Transfer::Part { id: *id, at: *at, end: *size, size: *size, hash: None, data };
                *at += len;
                Ok(Some(SharingMsg::Transfer(part)))
            }
            Phase::Over => {
                input.clear();
                Ok(None)
            }
        }
    }

    fn encode(&mut self, msg: Self::Msg, output: &mut BytesMut) -> After {
        match (msg, &mut self.phase) {
            (SharingMsg::Search(msg), phase) => {
                *phase = match &msg {
                    NapsterMsg::Send { name, size, .. } => {
                        Phase::Gives { name: name.clone(), size: *size, one: false, asked: None }
                    }
                    _ => Phase::Network,
                };
                self.network.encode(msg, output)
            }
            (SharingMsg::Transfer(Transfer::Get { id, wanted, start, .. }), phase) => {
                let asked = Some(Asked { id, size: wanted.size, at: start, begun: false });
                match phase {
                    Phase::Unknown => {
                        let line = format!("GET{} \"{}\" {start}", self.nick, wanted.name);
                        output.put_slice(line.as_bytes());
                        *phase = Phase::Takes { one: false, headed: false, asked };
                    }
                    Phase::Takes { asked: taking @ None, .. } => {
                        output.put_slice(start.to_string().as_bytes());
                        *taking = asked;
                    }
                    // One connection is for one file, and is over with it.
                    _ => return After::Close,
                }
                if start > wanted.size { After::Close } else { After::Open }
            }
            (
                SharingMsg::Transfer(Transfer::Part { id, at, end, size, data, .. }),
                Phase::Gives { size: said, asked: Some(asked), .. },
            ) if asked.id == id => {
                // Who has sent its size already says it no more.
                if !asked.begun && *said == 0 {
                    output.put_slice(size.to_string().as_bytes());
                }
                asked.begun = true;
                output.put_slice(&data);
                let whole = at.saturating_add(data.len() as u64) >= end;
                if whole { After::Close } else { After::Open }
            }
            (SharingMsg::Transfer(Transfer::No { why, .. }), _) => {
                if why == Refusal::Missing {
                    output.put_slice(NOT_SHARED);
                }
                After::Close
            }
            (SharingMsg::Transfer(Transfer::Part { .. } | Transfer::End { .. }), _) => After::Close,
        }
    }
}

/// Passes over the `1` of whoever was dialled, the first byte that comes.
fn skip_one(input: &mut BytesMut, seen: &mut bool) {
    if let (false, Some(first)) = (*seen, input.first()) {
        *seen = true;
        if *first == b'1' {
            input.advance(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn codec(dialled: bool) -> NapsterFilesCodec {
        let addr = "192.0.2.1:6699".parse().unwrap();
        let peer = match dialled {
            true => TcpPeer::Dialled { addr, number: 1 },
            false => TcpPeer::Accepted { addr, number: 1 },
        };
        NapsterFilesCodec::new(peer, "bob")
    }

    fn begun(codec: &mut NapsterFilesCodec) -> Vec<u8> {
        let mut out = BytesMut::new();
        codec.begin(&mut out);
        out.to_vec()
    }

    fn decode(codec: &mut NapsterFilesCodec, bytes: &[u8]) -> Vec<SharingMsg<NapsterMsg>> {
        let mut input = BytesMut::from(bytes);
        std::iter::from_fn(|| codec.decode(&mut input, &mut BytesMut::new()).unwrap()).collect()
    }

    fn encode(codec: &mut NapsterFilesCodec, msg: SharingMsg<NapsterMsg>) -> (Vec<u8>, After) {
        let mut out = BytesMut::new();
        let after = codec.encode(msg, &mut out);
        (out.to_vec(), after)
    }

    fn asks(id: u32, start: u64, size: u64) -> SharingMsg<NapsterMsg> {
        let wanted = Wanted { hash: None, index: 0, name: "a song.mp3".into(), size };
        SharingMsg::Transfer(Transfer::Get { id, wanted, start, end: size })
    }

    fn part(id: u32, at: u64, size: u64, data: &'static [u8]) -> SharingMsg<NapsterMsg> {
        let data = Bytes::from_static(data);
        SharingMsg::Transfer(Transfer::Part { id, at, end: size, size, hash: None, data })
    }

    /// As the specification has it: the digits of the size stand right before the bytes, which may be digits too.
    #[test]
    fn a_file_is_got_from_an_offset_on() {
        let (mut taker, mut giver) = (codec(true), codec(false));
        let one = begun(&mut giver);
        assert_eq!((begun(&mut taker), &one[..]), (vec![], &b"1"[..]));
        let (line, _) = encode(&mut taker, asks(7, 2, 6));
        assert_eq!(line, b"GETbob \"a song.mp3\" 2");
        assert_eq!(decode(&mut giver, &line), [get("a song.mp3".into(), 2)]);
        assert_eq!(encode(&mut giver, part(1, 2, 6, b"23")), (b"623".to_vec(), After::Open));
        assert_eq!(encode(&mut giver, part(1, 4, 6, b"45")), (b"45".to_vec(), After::Close));
        assert_eq!(decode(&mut taker, b"162345"), [part(7, 2, 6, b"2345")]);
    }

    #[test]
    fn a_file_is_pushed_from_an_offset_on() {
        let (mut giver, mut taker) = (codec(true), codec(false));
        let send = NapsterMsg::Send { nick: "ada".into(), name: "a song.mp3".into(), size: 6 };
        let (line, _) = encode(&mut giver, SharingMsg::Search(send.clone()));
        assert_eq!(line, b"SENDada \"a song.mp3\" 6");
        assert_eq!(decode(&mut taker, &line), [SharingMsg::Search(send)]);
        let (offset, _) = encode(&mut taker, asks(7, 1, 6));
        assert_eq!(offset, b"1");
        // The 1 of whoever was dialled, and the offset, in one piece.
        assert_eq!(decode(&mut giver, b"11"), [get("a song.mp3".into(), 1)]);
        assert_eq!(encode(&mut giver, part(1, 1, 6, b"bcdef")), (b"bcdef".to_vec(), After::Close));
        assert_eq!(decode(&mut taker, b"bcdef"), [part(7, 1, 6, b"bcdef")]);
    }

    #[test]
    fn what_is_not_shared_does_not_come() {
        let (mut taker, mut giver) = (codec(true), codec(false));
        let (line, _) = encode(&mut taker, asks(7, 0, 6));
        decode(&mut giver, &line);
        let no = |id| SharingMsg::Transfer(Transfer::No { id, why: Refusal::Missing });
        assert_eq!(encode(&mut giver, no(1)), (b"FILE NOT SHARED".to_vec(), After::Close));
        assert_eq!(decode(&mut taker, b"1FILE NOT SHARED"), [no(7)]);
        // Another size is another file.
        let mut taker = codec(true);
        encode(&mut taker, asks(8, 0, 6));
        assert_eq!(decode(&mut taker, b"17abcdefg"), [no(8)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            begin in prop::sample::select(vec!["", "1", "16", "GET", "SENDada \"x\" 5"]),
            what in 0u8..3,
        ) {
            let mut codec = codec(what > 0);
            match what {
                1 => drop(encode(&mut codec, asks(1, 0, 6))),
                2 => {
                    let send = NapsterMsg::Send { nick: "ada".into(), name: "x".into(), size: 6 };
                    encode(&mut codec, SharingMsg::Search(send));
                }
                _ => {}
            }
            let mut input = BytesMut::from(&[begin.as_bytes(), &bytes].concat()[..]);
            while let Ok(Some(_)) = codec.decode(&mut input, &mut BytesMut::new()) {}
        }
    }
}
