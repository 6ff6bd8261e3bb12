//! Files over TCP, as Gnutella's programs have it: HTTP/1.1 on the port of the network itself.
//!
//! RFC-Gnutella 0.6 §2.8 (*File Transfer*: requests, ranges, `GIV`); *Hash/URN Gnutella Extensions* (HUGE) 0.94 (Mohr,
//! 2002: `/uri-res/N2R?` and `X-Gnutella-Content-URN`); RFC 9110. The first line of a connection says what it is for:
//! a greeting, a request, or `GIV`, after which whoever was dialled sends its requests. Connections are kept for more
//! requests, which come one after the other: a request before the answer to the last one is not taken in.
//!
//! `HEAD` is answered by what the head of the whole file's answer would be (RFC 9110 §9.3.2).
//!
//! A range is `bytes=a-b` or `bytes=a-`; others count as none, which RFC 9110 §14.2 allows.
//!
//! In this order: [`HttpCodec`], which tells connections apart; [`Server`] and [`Client`], the two ends of one that is
//! for files; and their helpers.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::{Buf, BufMut, BytesMut};
use p2p_core::foreign::{After, Codec, Malformed, TcpPeer};

use super::msg::{MAX_PART, Refusal, SharingMsg, Transfer, Wanted};
use crate::gnutella::codec::greeting;
use crate::search::{ContentHash, MAX_NAME};

/// The longest head of a request or an answer, in bytes.
const MAX_HEAD: usize = 8 << 10;
/// The longest body of an answer that is no file, in bytes: some programs explain themselves.
const MAX_EXPLANATION: u64 = 64 << 10;
/// Who is there, for people who look into it.
const AGENT: &str = concat!("p2p/", env!("CARGO_PKG_VERSION"));

/// The codec of a network whose peers move files by HTTP.
pub trait ForeignSearch: Codec {
    /// Whether a message is the line of a servent that was asked to push: files go over its connection from then on,
    /// from who has sent it.
    fn gives(msg: &Self::Msg) -> bool;
}

/// One connection's: of the network, or for files.
#[derive(Debug)]
pub struct HttpCodec<C> {
    peer: TcpPeer,
    network: C,
    files: Files,
}

#[derive(Debug)]
enum Files {
    /// Nothing has been said that tells what the connection is for.
    Unknown,
    /// Not for files.
    Never,
    Server(Server),
    Client(Client),
}

impl<C> HttpCodec<C> {
    /// For a connection of this name, where the network's own codec is this one.
    pub fn new(peer: TcpPeer, network: C) -> HttpCodec<C> {
        HttpCodec { peer, network, files: Files::Unknown }
    }
}

impl<C: ForeignSearch> Codec for HttpCodec<C> {
    type Msg = SharingMsg<C::Msg>;

    fn begin(&mut self, output: &mut BytesMut) {
        self.network.begin(output);
    }

    fn decode(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<Option<Self::Msg>, Malformed> {
        if matches!((&self.files, self.peer), (Files::Unknown, TcpPeer::Accepted { .. })) {
            let Some(first) = input.first_chunk::<4>() else { return Ok(None) };
            self.files = match first {
                b"GET " | b"HEAD" => Files::Server(Server::default()),
                _ => Files::Never,
            };
        }
        match &mut self.files {
            Files::Server(server) => Ok(server.decode(input)?.map(SharingMsg::Transfer)),
            Files::Client(client) => Ok(client.decode(input)?.map(SharingMsg::Transfer)),
            Files::Unknown | Files::Never => {
                let msg = self.network.decode(input, output)?;
                if msg.as_ref().is_some_and(C::gives) {
                    self.files = Files::Client(Client::new(self.peer.addr()));
                }
                Ok(msg.map(SharingMsg::Search))
            }
        }
    }

    fn encode(&mut self, msg: Self::Msg, output: &mut BytesMut) -> After {
        match (msg, &mut self.files) {
            (SharingMsg::Search(msg), files) => {
                if C::gives(&msg) {
                    *files = Files::Server(Server::default());
                } else if matches!(files, Files::Unknown) {
                    *files = Files::Never;
                }
                self.network.encode(msg, output)
            }
            (SharingMsg::Transfer(msg), Files::Server(server)) => server.encode(msg, output),
            (SharingMsg::Transfer(msg), Files::Client(client)) => client.encode(msg, output),
            (SharingMsg::Transfer(msg), files @ Files::Unknown) => {
                let mut client = Client::new(self.peer.addr());
                let after = client.encode(msg, output);
                *files = Files::Client(client);
                after
            }
            // Nothing about files can be said among descriptors.
            (SharingMsg::Transfer(_), Files::Never) => After::Close,
        }
    }
}

/// The end that has files.
#[derive(Debug, Default)]
struct Server {
    /// The number of the last request.
    last: u32,
    answering: Option<Answering>,
}

/// A request that has no whole answer yet.
#[derive(Debug)]
struct Answering {
    id: u32,
    /// Whether it asked for the head alone,
    head: bool,
    /// or for a range.
    ranged: bool,
    /// Whether the connection ends with the answer.
    close: bool,
    /// Whether the answer's head has gone out.
    begun: bool,
}

impl Server {
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Transfer>, Malformed> {
        if self.answering.is_some() {
            return match input.is_empty() {
                true => Ok(None),
                false => Err(Malformed("a request before the answer to the last one".into())),
            };
        }
        let Some(lines) = greeting(input, MAX_HEAD)? else { return Ok(None) };
        let lines = String::from_utf8_lossy(&lines);
        let (first, headers) = lines.split_once('\n').unwrap_or((&lines, ""));
        let wrong =
            || Malformed(format!("expected GET or HEAD, and /get/… or /uri-res/N2R?…; came {first:?}"));
        let (path, head) = match (first.strip_prefix("GET "), first.strip_prefix("HEAD ")) {
            (Some(path), _) => (path, false),
            (None, Some(path)) => (path, true),
            (None, None) => return Err(wrong()),
        };
        // Some old servents do not encode spaces (§2.8.1).
        let (path, version) = path.rsplit_once(" HTTP/").ok_or_else(wrong)?;
        let wanted = wanted(path.trim()).ok_or_else(wrong)?;
        let headers = Headers(headers);
        // Ranges are for GET alone (RFC 9110 §14.2).
        let range = headers.get("range").and_then(range).filter(|_| !head);
        let kept = headers.get("connection").map(str::to_ascii_lowercase);
        let close = match kept.as_deref() {
            Some("close") => true,
            Some("keep-alive") => false,
            _ => version.trim() != "1.1",
        };
        self.last = self.last.wrapping_add(1);
        let id = self.last;
        self.answering = Some(Answering { id, head, ranged: range.is_some(), close, begun: false });
        // One byte of the file shows that it is there, and how long.
        let (start, end) = range.unwrap_or((0, if head { 1 } else { u64::MAX }));
        Ok(Some(Transfer::Get { id, wanted, start, end }))
    }

    fn encode(&mut self, msg: Transfer, output: &mut BytesMut) -> After {
        let Some(answering) = &mut self.answering else {
            return if matches!(msg, Transfer::End { .. }) { After::Close } else { After::Open };
        };
        match msg {
            Transfer::Part { id, at, end, size, hash, data } if id == answering.id => {
                if !answering.begun {
                    answering.begun = true;
                    let mut head = String::new();
                    let status = if answering.ranged { "206 Partial Content" } else { "200 OK" };
                    begin(&mut head, status, answering.close);
                    line(&mut head, "Content-Type", "application/binary");
                    let length = if answering.head { size } else { end.saturating_sub(at) };
                    line(&mut head, "Content-Length", &length.to_string());
                    if answering.ranged {
                        let last = end.saturating_sub(1);
                        line(&mut head, "Content-Range", &format!("bytes {at}-{last}/{size}"));
                    }
                    if let Some(hash @ ContentHash::Sha1(_)) = hash {
                        line(&mut head, "X-Gnutella-Content-URN", &hash.to_string());
                    }
                    head.push_str("\r\n");
                    output.put_slice(head.as_bytes());
                }
                if !answering.head {
                    output.put_slice(&data);
                }
                if at.saturating_add(data.len() as u64) < end {
                    return After::Open;
                }
            }
            Transfer::No { id, why } if id == answering.id => {
                let mut head = String::new();
                let status = match why {
                    Refusal::Busy { .. } => "503 Busy",
                    Refusal::Missing => "404 Not Found",
                    Refusal::Range { .. } => "416 Requested Range Not Satisfiable",
                };
                begin(&mut head, status, answering.close);
                line(&mut head, "Content-Length", "0");
                match why {
                    Refusal::Busy { seconds } => line(&mut head, "Retry-After", &seconds.to_string()),
                    Refusal::Range { size } => line(&mut head, "Content-Range", &format!("bytes */{size}")),
                    Refusal::Missing => {}
                }
                head.push_str("\r\n");
                output.put_slice(head.as_bytes());
            }
            Transfer::End { .. } => return After::Close,
            Transfer::Part { .. } | Transfer::No { .. } | Transfer::Get { .. } => return After::Open,
        }
        let close = answering.close;
        self.answering = None;
        if close { After::Close } else { After::Open }
    }
}

/// The end that wants files.
#[derive(Debug)]
struct Client {
    host: SocketAddr,
    asked: Option<u32>,
    body: Option<Body>,
}

/// What is still to come of an answer.
#[derive(Clone, Copy, Debug)]
enum Body {
    File {
        id: u32,
        at: u64,
        end: u64,
        size: u64,
        hash: Option<ContentHash>,
    },
    /// So many bytes that nobody reads, and then this is the answer.
    Explanation {
        id: u32,
        left: u64,
        why: Refusal,
    },
}

impl Client {
    fn new(host: SocketAddr) -> Client {
        Client { host, asked: None, body: None }
    }

    fn encode(&mut self, msg: Transfer, output: &mut BytesMut) -> After {
        match msg {
            Transfer::Get { id, wanted, start, end } => {
                self.asked = Some(id);
                let mut head = match wanted.hash {
                    Some(hash @ ContentHash::Sha1(_)) => format!("GET /uri-res/N2R?{hash} HTTP/1.1\r\n"),
                    _ => format!("GET /get/{}/{} HTTP/1.1\r\n", wanted.index, encoded(&wanted.name)),
                };
                line(&mut head, "Host", &self.host.to_string());
                line(&mut head, "User-Agent", AGENT);
                line(&mut head, "Connection", "Keep-Alive");
                line(&mut head, "Range", &format!("bytes={start}-{}", end.saturating_sub(1)));
                head.push_str("\r\n");
                output.put_slice(head.as_bytes());
                After::Open
            }
            Transfer::End { .. } => After::Close,
            Transfer::Part { .. } | Transfer::No { .. } => After::Open,
        }
    }

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Transfer>, Malformed> {
        if self.body.is_none() {
            if input.is_empty() {
                return Ok(None);
            }
            let Some(id) = self.asked else { return Err(Malformed("an answer to nothing".into())) };
            let Some(lines) = greeting(input, MAX_HEAD)? else { return Ok(None) };
            self.asked = None;
            self.body = Some(answer(id, &String::from_utf8_lossy(&lines))?);
        }
        match &mut self.body {
            Some(Body::File { id, at, end, size, hash }) => {
                let len = (*end - *at).min(MAX_PART as u64).min(input.len() as u64);
                // Parts that are worth a message: whole ones, or the last.
                if len == 0 || len < (*end - *at).min(MAX_PART as u64) {
                    return Ok(None);
                }
                let data = input.split_to(len as usize).freeze();
                let part =
                    Transfer::Part { id: *id, at: *at, end: *end, size: *size, hash: hash.take(), data };
                *at += len;
                if *at == *end {
                    self.body = None;
                }
                Ok(Some(part))
            }
            Some(Body::Explanation { id, left, why }) => {
                let len = (*left).min(input.len() as u64);
                input.advance(len as usize);
                *left -= len;
                if *left > 0 {
                    return Ok(None);
                }
                let no = Transfer::No { id: *id, why: *why };
                self.body = None;
                Ok(Some(no))
            }
            None => Ok(None),
        }
    }
}

/// What the head of an answer says is to come.
fn answer(id: u32, lines: &str) -> Result<Body, Malformed> {
    let (first, headers) = lines.split_once('\n').unwrap_or((lines, ""));
    let headers = Headers(headers);
    let wrong = |what: &str| Malformed(format!("{what} in an answer that begins {first:?}"));
    // Some programs leave the version out.
    let rest = first.strip_prefix("HTTP").ok_or_else(|| wrong("no status"))?;
    let status: Option<u16> = rest.split_whitespace().find_map(|word| word.parse().ok());
    let status = status.ok_or_else(|| wrong("no status"))?;
    let length = match headers.get("content-length") {
        Some(length) => Some(length.parse::<u64>().map_err(|_| wrong("no length"))?),
        None => None,
    };
    let hash = headers.get("x-gnutella-content-urn").and_then(|urn| urn.parse().ok());
    match status {
        200 => {
            let size = length.filter(|size| *size > 0).ok_or_else(|| wrong("no length"))?;
            Ok(Body::File { id, at: 0, end: size, size, hash })
        }
        206 => {
            let (at, end, size) =
                headers.get("content-range").and_then(content_range).ok_or_else(|| wrong("no range"))?;
            if length.is_some_and(|length| length != end - at) {
                return Err(wrong("a length that is not the range's"));
            }
            Ok(Body::File { id, at, end, size, hash })
        }
        _ => {
            let left = length.unwrap_or(0);
            if left > MAX_EXPLANATION {
                return Err(wrong("a long explanation"));
            }
            let why = match status {
                503 => {
                    let seconds = headers.get("retry-after").and_then(|seconds| seconds.parse().ok());
                    Refusal::Busy { seconds: seconds.unwrap_or(5) }
                }
                416 => Refusal::Range { size: 0 },
                _ => Refusal::Missing,
            };
            Ok(Body::Explanation { id, left, why })
        }
    }
}

/// The lines after the first.
struct Headers<'a>(&'a str);

impl<'a> Headers<'a> {
    /// What one says, by its name in small letters.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

fn begin(head: &mut String, status: &str, close: bool) {
    // A text takes in whatever is written to it.
    let _ = write!(head, "HTTP/1.1 {status}\r\n");
    line(head, "Server", AGENT);
    line(head, "Connection", if close { "close" } else { "Keep-Alive" });
}

fn line(head: &mut String, name: &str, value: &str) {
    let _ = write!(head, "{name}: {value}\r\n");
}

/// What a path asks for.
fn wanted(path: &str) -> Option<Wanted> {
    let nothing = Wanted { hash: None, index: 0, name: String::new(), size: 0 };
    if let Some(urn) = path.strip_prefix("/uri-res/N2R?") {
        return Some(Wanted { hash: Some(urn.parse().ok()?), ..nothing });
    }
    let (index, name) = path.strip_prefix("/get/")?.split_once('/')?;
    let name = decoded(name)?;
    Some(Wanted { index: index.parse().ok()?, name, ..nothing })
}

/// `bytes=a-b` or `bytes=a-`, as the first byte and the one after the last.
fn range(text: &str) -> Option<(u64, u64)> {
    let (start, last) = text.strip_prefix("bytes")?.trim_start_matches(['=', ' ']).split_once('-')?;
    let start = start.trim().parse().ok()?;
    let end = match last.trim() {
        "" => u64::MAX,
        last => last.parse::<u64>().ok()?.checked_add(1)?,
    };
    (start < end).then_some((start, end))
}

/// `bytes a-b/size`; some programs write `bytes=`.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, size) = text.strip_prefix("bytes")?.trim_start_matches(['=', ' ']).split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let (start, last) = (start.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?);
    let (end, size) = (last.checked_add(1)?, size.trim().parse().ok()?);
    (start < end && end <= size).then_some((start, end, size))
}

/// A name as a part of a path (RFC 3986 §2.1).
fn encoded(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The other way round; what is not encoded is itself. `None` if it is too long.
fn decoded(text: &str) -> Option<String> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => digit(high).zip(digit(low)).map(|(high, low)| (high << 4 | low) as u8),
            _ => None,
        };
        out.push(escaped.unwrap_or(*byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    (out.len() <= MAX_NAME).then(|| String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests;
