//! The bytes of a connection: one GET, and one answer.
//!
//! A body has a length, or comes in chunks, or ends with the connection; the codec gives it in parts, as it comes, and
//! whoever gathers them bounds them.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use p2p_core::foreign::{After, Codec, Malformed, Securing};

/// The longest body that is taken where no range was asked for, in bytes, before and after it is inflated. 1 MiB.
pub const MAX_BODY: usize = 1 << 20;
/// The longest head of a request or an answer, in bytes. 16 KiB.
const MAX_HEAD: usize = 16 << 10;
/// The longest line that says how long a chunk is, in bytes. 1 KiB.
const MAX_LINE: usize = 1 << 10;

/// What travels between a client and a server over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpMsg {
    /// A client asks; the answer is an [`HttpMsg::Head`].
    Get {
        /// The host, as `Host:` has it.
        host: String,
        /// The path, and what follows it.
        target: String,
        /// The bytes that are asked for; `None`: all of them.
        range: Option<Range<u64>>,
        /// The name that the server has to prove, over TLS; `None`: it is asked in the clear. The request does not say it.
        proves: Option<String>,
    },
    /// How an answer begins; [`HttpMsg::Part`]s follow, and an [`HttpMsg::End`], or the connection's.
    Head {
        /// The status.
        status: u16,
        /// Whether the body is compressed by gzip.
        gzip: bool,
        /// Where else to ask.
        location: Option<String>,
        /// Which bytes these are, if they are not all.
        range: Option<Range<u64>>,
        /// How many follow, if that is said.
        length: Option<u64>,
        /// Whether the connection's end is the body's.
        until_closed: bool,
    },
    /// Bytes of the body.
    Part(Bytes),
    /// The body is whole.
    End,
    /// A server's answer, all of it; the connection is closed.
    Answer {
        /// The status: 200, or why not.
        status: u16,
        /// The body.
        body: Vec<u8>,
    },
    /// The connection is closed.
    Close,
}

impl Securing for HttpMsg {
    fn server_name(&self) -> Option<&str> {
        match self {
            HttpMsg::Get { proves, .. } => proves.as_deref(),
            HttpMsg::Head { .. }
            | HttpMsg::Part(_)
            | HttpMsg::End
            | HttpMsg::Answer { .. }
            | HttpMsg::Close => None,
        }
    }
}

/// One connection, at one of its ends.
#[derive(Debug)]
pub struct HttpCodec {
    state: State,
    /// It may ask for what is to be proved: there is TLS around it.
    secured: bool,
}

#[derive(Debug)]
enum State {
    /// A server's: a request is expected.
    Request,
    /// A client's: an answer is expected,
    Answer,
    /// so much more of its body,
    Length(u64),
    /// the length of a chunk, or what follows the last,
    Chunk,
    /// so much more of a chunk,
    InChunk(u64),
    /// the end of its line,
    AfterChunk,
    /// what follows the last chunk,
    Trailer,
    /// all there is.
    UntilClosed,
    Over,
}

fn malformed(what: impl Into<String>) -> Malformed {
    Malformed(what.into())
}

/// A head that is there whole.
fn head(input: &mut BytesMut) -> Result<Option<String>, Malformed> {
    let seen = &input[..input.len().min(MAX_HEAD)];
    match seen.windows(4).position(|end| end == b"\r\n\r\n") {
        Some(at) => {
            // Names in fields may be of other times (RFC 9110, section 5.5).
            Ok(Some(String::from_utf8_lossy(&input.split_to(at + 4)).into_owned()))
        }
        None if input.len() >= MAX_HEAD => Err(malformed(format!("a head longer than {MAX_HEAD} bytes"))),
        None => Ok(None),
    }
}

fn line(input: &mut BytesMut) -> Result<Option<String>, Malformed> {
    let seen = &input[..input.len().min(MAX_LINE)];
    match seen.windows(2).position(|end| end == b"\r\n") {
        Some(at) => Ok(Some(String::from_utf8_lossy(&input.split_to(at + 2)[..at]).into_owned())),
        None if input.len() >= MAX_LINE => Err(malformed(format!("a line longer than {MAX_LINE} bytes"))),
        None => Ok(None),
    }
}

/// The value of a field, if it is there.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// How a body is wrapped for the way (RFC 9112, section 6.1): compressed by gzip, and in chunks.
fn wrapping(head: &str) -> Result<(bool, bool), Malformed> {
    let how = field(head, "transfer-encoding").unwrap_or_default().to_ascii_lowercase();
    let how: Vec<&str> =
        how.split(',').map(str::trim).filter(|coding| !matches!(*coding, "" | "identity")).collect();
    match how[..] {
        [] => Ok((false, false)),
        ["chunked"] => Ok((false, true)),
        ["gzip" | "x-gzip"] => Ok((true, false)),
        ["gzip" | "x-gzip", "chunked"] => Ok((true, true)),
        _ => Err(malformed("a Transfer-Encoding that is not known")),
    }
}

/// From the first to the last of some bytes (RFC 9110, section 14).
fn bytes_of(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.trim().split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some(first..last.checked_add(1)?).filter(|range| !range.is_empty())
}

impl HttpCodec {
    /// The client's end, of a connection in the clear: it refuses to ask where the server has to prove its name.
    pub fn client() -> HttpCodec {
        HttpCodec { state: State::Answer, secured: false }
    }

    /// The client's end, for a `p2p_core::net::tcp::Secured` around it, and for nothing else.
    pub fn secured() -> HttpCodec {
        HttpCodec { state: State::Answer, secured: true }
    }

    /// The server's end.
    pub fn server() -> HttpCodec {
        HttpCodec { state: State::Request, secured: false }
    }

    fn request(&mut self, head: &str) -> Result<HttpMsg, Malformed> {
        let mut words = head.lines().next().unwrap_or_default().split(' ');
        let (Some("GET"), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(malformed("expected GET of HTTP/1.1"));
        };
        self.state = State::Over;
        let host = field(head, "host").unwrap_or_default();
        let range = field(head, "range").and_then(|range| range.strip_prefix("bytes="));
        let range = range.and_then(bytes_of);
        Ok(HttpMsg::Get { host: host.into(), target: target.into(), range, proves: None })
    }

    /// The answer; none yet if more is to come first.
    fn answer(&mut self, head: &str) -> Result<Option<HttpMsg>, Malformed> {
        let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        let status: u16 = status.ok_or_else(|| malformed("expected an answer of HTTP/1.1"))?;
        match status {
            // Nobody has asked for another protocol.
            101 => return Err(malformed("another protocol than HTTP")),
            100..200 => return Ok(None),
            _ => {}
        }
        let (zipped, chunked) = wrapping(head)?;
        let gzip = field(head, "content-encoding").is_some_and(|how| how.eq_ignore_ascii_case("gzip"));
        if gzip && zipped {
            return Err(malformed("a body that is compressed twice"));
        }
        let length = field(head, "content-length").map(str::parse::<u64>).transpose();
        let length = length.map_err(|_| malformed("expected a number of bytes in Content-Length"))?;
        let length = length.filter(|_| !chunked && !zipped);
        self.state = match length {
            _ if matches!(status, 204 | 304) => State::Length(0),
            _ if chunked => State::Chunk,
            Some(length) => State::Length(length),
            None => State::UntilClosed,
        };
        let range = field(head, "content-range").and_then(|range| range.strip_prefix("bytes "));
        Ok(Some(HttpMsg::Head {
            status,
            gzip: gzip || zipped,
            location: field(head, "location").map(Into::into),
            range: range.and_then(|range| bytes_of(range.split('/').next()?)),
            length,
            until_closed: matches!(self.state, State::UntilClosed),
        }))
    }

    /// A part of what is left of a body or a chunk.
    fn part(input: &mut BytesMut, left: u64) -> Option<(HttpMsg, u64)> {
        let now = (input.len() as u64).min(left);
        (now > 0).then(|| (HttpMsg::Part(input.split_to(now as usize).freeze()), left - now))
    }
}

impl Codec for HttpCodec {
    type Msg = HttpMsg;

    fn decode(&mut self, input: &mut BytesMut, _: &mut BytesMut) -> Result<Option<HttpMsg>, Malformed> {
        loop {
            match self.state {
                State::Request => {
                    let Some(head) = head(input)? else { return Ok(None) };
                    return self.request(&head).map(Some);
                }
                State::Answer => {
                    let Some(head) = head(input)? else { return Ok(None) };
                    if let Some(answer) = self.answer(&head)? {
                        return Ok(Some(answer));
                    }
                }
                State::Length(0) => {
                    self.state = State::Over;
                    return Ok(Some(HttpMsg::End));
                }
                State::Length(left) => {
                    let Some((part, left)) = HttpCodec::part(input, left) else { return Ok(None) };
                    self.state = State::Length(left);
                    return Ok(Some(part));
                }
                State::Chunk => {
                    let Some(line) = line(input)? else { return Ok(None) };
                    let digits = line.split(';').next().unwrap_or_default().trim();
                    let length = u64::from_str_radix(digits, 16).ok();
                    let length = length.ok_or_else(|| malformed("a chunk without a length"))?;
                    self.state = if length == 0 { State::Trailer } else { State::InChunk(length) };
                }
                State::InChunk(left) => {
                    let Some((part, left)) = HttpCodec::part(input, left) else { return Ok(None) };
                    self.state = if left == 0 { State::AfterChunk } else { State::InChunk(left) };
                    return Ok(Some(part));
                }
                State::AfterChunk => {
                    if input.len() < 2 {
                        return Ok(None);
                    }
                    if !input.starts_with(b"\r\n") {
                        return Err(malformed("a chunk longer than it says"));
                    }
                    input.advance(2);
                    self.state = State::Chunk;
                }
                State::Trailer => {
                    let Some(line) = line(input)? else { return Ok(None) };
                    if line.is_empty() {
                        self.state = State::Over;
                        return Ok(Some(HttpMsg::End));
                    }
                }
                State::UntilClosed if input.is_empty() => return Ok(None),
                State::UntilClosed => return Ok(Some(HttpMsg::Part(input.split().freeze()))),
                // Nothing more is expected.
                State::Over => {
                    input.clear();
                    return Ok(None);
                }
            }
        }
    }

    fn encode(&mut self, msg: HttpMsg, output: &mut BytesMut) -> After {
        match msg {
            HttpMsg::Get { proves: Some(_), .. } if !self.secured => After::Close,
            HttpMsg::Get { host, target, range, .. } => {
                let agent = concat!("p2p-swarm/", env!("CARGO_PKG_VERSION"));
                let wanted = match range {
                    // Of what is compressed there is another range.
                    Some(Range { start, end }) => {
                        format!("Range: bytes={start}-{}\r\nAccept-Encoding: identity", end.saturating_sub(1))
                    }
                    None => "Accept-Encoding: gzip".into(),
                };
                let head = format!(
                    "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n{wanted}\r\nConnection: close\r\n\r\n"
                );
                output.extend_from_slice(head.as_bytes());
                After::Open
            }
            HttpMsg::Answer { status, body } => {
                let reason = match status {
                    200 => "OK",
                    400 => "Bad Request",
                    404 => "Not Found",
                    _ => "Unavailable",
                };
                let head = format!(
                    "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                output.extend_from_slice(head.as_bytes());
                output.extend_from_slice(&body);
                After::Close
            }
            // Its parts are not sent by anybody.
            HttpMsg::Head { .. } | HttpMsg::Part(_) | HttpMsg::End | HttpMsg::Close => After::Close,
        }
    }
}

/// What gzip (RFC 1952) made shorter; `None` if it is none, or longer than a body may be.
pub(in crate::torrent) fn gunzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, mut rest) = bytes.split_first_chunk::<10>()?;
    let [0x1f, 0x8b, 8, flags, ..] = *head else { return None };
    if flags & 0x04 != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(u16::from_le_bytes(*length).into()..)?;
    }
    // A name, and a comment.
    for flag in [0x08, 0x10] {
        if flags & flag != 0 {
            rest = &rest[rest.iter().position(|byte| *byte == 0)? + 1..];
        }
    }
    if flags & 0x02 != 0 {
        rest = rest.get(2..)?;
    }
    // What follows is a check of what TCP has checked.
    miniz_oxide::inflate::decompress_to_vec_with_limit(rest, MAX_BODY).ok()
}

/// Bytes as they stand in a query.
pub(in crate::torrent) fn escape(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(*byte));
            }
            byte => {
                out.push('%');
                out.push_str(&data_encoding::HEXUPPER.encode(&[*byte]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a codec understands of bytes that come in such pieces, and whether it finds fault with them in the end.
    fn decoded(mut codec: HttpCodec, bytes: &[u8], piece: usize) -> (Vec<HttpMsg>, bool) {
        let (mut input, mut nothing, mut all) = (BytesMut::new(), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece.max(1)) {
            input.extend_from_slice(piece);
            loop {
                match codec.decode(&mut input, &mut nothing) {
                    Ok(Some(msg)) => all.push(msg),
                    Ok(None) => break,
                    Err(_) => return (all, true),
                }
            }
        }
        (all, false)
    }

    fn body(msgs: &[HttpMsg]) -> Vec<u8> {
        let part = |msg: &HttpMsg| if let HttpMsg::Part(part) = msg { part.to_vec() } else { Vec::new() };
        msgs.iter().flat_map(part).collect()
    }

    #[test]
    fn every_way_to_end_a_body_is_understood() {
        let length = "HTTP/1.1 200 OK\r\nContent-length:  5\r\n\r\nhello";
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nA: b\r\n\r\n";
        let closed = "HTTP/1.0 200\r\n\r\nhello";
        for (text, ends) in [(length, true), (chunked, true), (closed, false)] {
            for piece in [1, 3, 1000] {
                let (msgs, wrong) = decoded(HttpCodec::client(), text.as_bytes(), piece);
                assert_eq!((body(&msgs).as_slice(), wrong), (&b"hello"[..], false), "{text}");
                assert_eq!(msgs.last() == Some(&HttpMsg::End), ends, "{text}");
                assert!(
                    matches!(msgs[0], HttpMsg::Head { status: 200, until_closed, .. } if until_closed != ends)
                );
            }
        }
    }

    #[test]
    fn what_is_no_answer_or_too_long_is_refused() {
        for text in [
            "SMTP\r\n\r\n",
            "HTTP/1.1 x\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: br, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nContent-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1ffffffffffffffff\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            &"x".repeat(MAX_HEAD),
        ] {
            assert!(decoded(HttpCodec::client(), text.as_bytes(), 7).1, "{text}");
        }
        for text in ["POST / HTTP/1.1\r\n\r\n", "GET / x HTTP/1.1\r\n\r\n", "GET /\r\n\r\n"] {
            assert!(decoded(HttpCodec::server(), text.as_bytes(), 7).1, "{text}");
        }
    }

    /// RFC 9110, section 15.2; RFC 9112, section 6.
    #[test]
    fn what_comes_before_an_answer_is_passed_over() {
        for (text, zipped) in [
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\nContent-Length: 1\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                true,
            ),
            ("HTTP/1.1 200 OK\r\nServer: caf\u{1}\r\nContent-Length: 5\r\n\r\nhello", false),
        ] {
            // One byte of Latin-1.
            let bytes: Vec<u8> = text.bytes().map(|byte| if byte == 1 { 0xe9 } else { byte }).collect();
            for piece in [1, 1000] {
                let (msgs, wrong) = decoded(HttpCodec::client(), &bytes, piece);
                assert_eq!((body(&msgs).as_slice(), wrong), (&b"hello"[..], false), "{text}");
                assert!(
                    matches!(msgs[0], HttpMsg::Head { status: 200, gzip, .. } if gzip == zipped),
                    "{text}"
                );
                assert_eq!(msgs.last(), Some(&HttpMsg::End));
            }
        }
        let (msgs, wrong) = decoded(HttpCodec::client(), b"HTTP/1.1 204 No Content\r\n\r\n", 1000);
        assert_eq!((msgs.len(), msgs.last(), wrong), (2, Some(&HttpMsg::End), false), "nothing follows it");
    }

    #[test]
    fn what_is_to_be_proved_goes_over_tls_alone() {
        for (mut codec, after) in [(HttpCodec::client(), After::Close), (HttpCodec::secured(), After::Open)] {
            let (mut bytes, proves) = (BytesMut::new(), Some("a".into()));
            let get = HttpMsg::Get { host: "a:443".into(), target: "/secret".into(), range: None, proves };
            assert_eq!(codec.encode(get, &mut bytes), after);
            assert_eq!(bytes.is_empty(), after == After::Close);
        }
    }

    #[test]
    fn what_is_asked_and_answered_arrives() {
        let mut bytes = BytesMut::new();
        for range in [None, Some(0..1), Some(5..1 << 40)] {
            let (host, target) = ("tracker.example:80".into(), "/announce?x".into());
            let get = HttpMsg::Get { host, target, range, proves: None };
            assert_eq!(HttpCodec::client().encode(get.clone(), &mut bytes), After::Open);
            assert_eq!(decoded(HttpCodec::server(), &bytes, 5).0, [get]);
            bytes.clear();
        }
        let answer = HttpMsg::Answer { status: 200, body: b"hello".to_vec() };
        assert_eq!(HttpCodec::server().encode(answer, &mut bytes), After::Close);
        assert_eq!(body(&decoded(HttpCodec::client(), &bytes, 5).0), b"hello");
    }

    #[test]
    fn an_answer_says_which_bytes_it_has() {
        for (said, range) in [
            ("bytes 5-9/100", Some(5..10)),
            ("bytes 5-9/*", Some(5..10)),
            ("bytes */100", None),
            ("bytes 9-5/100", None),
            ("bytes 0-18446744073709551615/*", None),
            ("lines 1-2/3", None),
        ] {
            let text = format!("HTTP/1.1 206 Partial\r\nContent-Range: {said}\r\nContent-Length: 5\r\n\r\n");
            let (msgs, wrong) = decoded(HttpCodec::client(), text.as_bytes(), 1000);
            let HttpMsg::Head { status: 206, range: found, length: Some(5), .. } = &msgs[0] else {
                panic!("{msgs:?}")
            };
            assert_eq!((found, wrong), (&range, false), "{said}");
        }
    }

    #[test]
    fn gzip_is_undone_and_bombs_are_not() {
        let zipped = |flags: u8, extra: &[u8], data: &[u8]| {
            let mut bytes = vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255];
            bytes.extend_from_slice(extra);
            bytes.extend(miniz_oxide::deflate::compress_to_vec(data, 6));
            bytes.extend_from_slice(&[0; 8]);
            bytes
        };
        assert_eq!(gunzip(&zipped(0, &[], b"hello")).as_deref(), Some(&b"hello"[..]));
        assert_eq!(
            gunzip(&zipped(0x1e, b"\x02\0xxname\0comment\0cc", b"hello")).as_deref(),
            Some(&b"hello"[..])
        );
        assert_eq!(gunzip(&zipped(0, &[], &vec![0; MAX_BODY + 1])), None);
        assert_eq!(gunzip(&zipped(0x08, b"", &[0; 9])[..12]), None);
        assert_eq!(gunzip(b"\x1f\x8b"), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_understood_alike_in_any_pieces(text in "(HTTP/1\\.1 200 OK\r\n(Content-Length: [0-9]{1,2}\r\n|Transfer-Encoding: chunked\r\n)?\r\n)?([0-9a-f\r\n]|.){0,60}", piece in 1usize..9) {
            let (whole, wrong) = decoded(HttpCodec::client(), text.as_bytes(), 1000);
            let (pieces, also_wrong) = decoded(HttpCodec::client(), text.as_bytes(), piece);
            prop_assert_eq!((body(&whole), wrong), (body(&pieces), also_wrong));
        }
    }
}
