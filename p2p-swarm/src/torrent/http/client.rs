//! Asking: a connection for each question.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use p2p_core::foreign::TcpPeer;
use p2p_core::{Cx, Down, Link, NoJob, OpId, Protocol, Request, Time};

use super::{HttpError, HttpMsg, MAX_BODY};

/// How long nothing may come. 30 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an answer may take in all. 2 minutes.
const LONGEST: Duration = Duration::from_secs(120);
/// Questions that wait for an answer; more are refused. 256.
const MAX_OPEN: usize = 256;

/// Asks a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGet {
    /// Where it is.
    pub addr: SocketAddr,
    /// What it is called.
    pub host: String,
    /// The path, and what follows it.
    pub target: String,
    /// The bytes that are asked for; `None`: all, and at most [`MAX_BODY`].
    pub range: Option<Range<u64>>,
    /// The name that the server has to prove, over TLS; `None`: it is asked in the clear.
    pub proves: Option<String>,
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    /// The status.
    pub status: u16,
    /// Whether the body is compressed by gzip.
    pub gzip: bool,
    /// Where else to ask.
    pub location: Option<String>,
    /// Which bytes the body is, if it is not all.
    pub range: Option<Range<u64>>,
    /// The body. If a range was asked for, and what comes is longer than that, it is left out.
    pub body: Vec<u8>,
}

/// The machine that asks over HTTP, for `p2p_core::net::tcp` with [`HttpCodec::client`](super::HttpCodec::client). At most
/// 256 questions wait at a time, until nothing has come for 30 s, or for two minutes.
#[derive(Debug, Default)]
pub struct HttpClient {
    open: BTreeMap<u64, Open>,
    next: u64,
    /// Whether its connections may be over TLS.
    secured: bool,
}

#[derive(Debug)]
struct Open {
    op: OpId,
    peer: TcpPeer,
    /// The most bytes that the body may have.
    most: u64,
    /// Whether a range was asked for.
    ranged: bool,
    since: Time,
    reply: Option<HttpReply>,
    until_closed: bool,
}

impl HttpClient {
    /// One whose connections are over TLS where a server has to prove its name: for `p2p_core::net::tcp` with
    /// [`HttpCodec::secured`](super::HttpCodec::secured) in a `p2p_core::net::tcp::Secured`. Any other one refuses to ask
    /// for that, as does any other codec.
    pub fn secured() -> HttpClient {
        HttpClient { secured: true, ..HttpClient::default() }
    }

    fn number(peer: TcpPeer) -> u64 {
        match peer {
            TcpPeer::Dialled { number, .. } | TcpPeer::Accepted { number, .. } => number,
        }
    }

    /// More comes than was asked for. Who asked for a range wants to know what it is instead.
    fn too_long(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(open) = self.open.get_mut(&number) else { return };
        let result = match open.reply.take().filter(|_| open.ranged) {
            Some(reply) => Ok(HttpReply { body: Vec::new(), ..reply }),
            None => Err(HttpError::Malformed(format!("it is longer than {MAX_BODY} bytes"))),
        };
        self.end(cx, number, result);
    }

    /// A question is over, and its connection is not needed any more.
    fn end(&mut self, cx: &mut Cx<'_, Self>, number: u64, result: Result<HttpReply, HttpError>) {
        if let Some(open) = self.open.remove(&number) {
            cx.clear_timer(number);
            cx.send(open.peer, HttpMsg::Close);
            cx.finish(open.op, result);
        }
    }
}

impl Protocol for HttpClient {
    type Peer = TcpPeer;
    type Msg = HttpMsg;
    /// A question has waited for too long.
    type Timer = u64;
    type Command = HttpGet;
    type Item = ();
    type Outcome = Result<HttpReply, HttpError>;
    type Event = ();
    type Job = NoJob;

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: TcpPeer, msg: HttpMsg) {
        let number = HttpClient::number(from);
        let Some(open) = self.open.get_mut(&number) else { return };
        let left = (open.since + LONGEST) - cx.now();
        cx.set_timer(PATIENCE.min(left), number);
        match (msg, &mut open.reply) {
            (HttpMsg::Head { status, gzip, location, range, length, until_closed }, None) => {
                open.reply = Some(HttpReply { status, gzip, location, range, body: Vec::new() });
                open.until_closed = until_closed;
                if length.is_some_and(|length| length > open.most) {
                    self.too_long(cx, number);
                }
            }
            (HttpMsg::Part(part), Some(reply)) if (reply.body.len() + part.len()) as u64 <= open.most => {
                reply.body.extend_from_slice(&part);
            }
            (HttpMsg::End, reply @ Some(_)) => {
                let reply = reply.take().ok_or(HttpError::Unreachable);
                self.end(cx, number, reply);
            }
            (HttpMsg::Part(_), Some(_)) => self.too_long(cx, number),
            // The codec gives them in order, and nothing else.
            _ => self.end(cx, number, Err(HttpError::Malformed("it is no answer".into()))),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        self.end(cx, number, Err(HttpError::TimedOut));
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, get: HttpGet) {
        if self.open.len() >= MAX_OPEN {
            return cx.finish(op, Err(HttpError::Busy));
        }
        if get.proves.is_some() && !self.secured {
            return cx.finish(op, Err(HttpError::NoTls));
        }
        self.next += 1;
        let (number, HttpGet { addr, host, target, range, proves }) = (self.next, get);
        let peer = TcpPeer::Dialled { addr, number };
        let most = range.as_ref().map_or(MAX_BODY as u64, |range| range.end.saturating_sub(range.start));
        let (ranged, since) = (range.is_some(), cx.now());
        self.open.insert(number, Open { op, peer, most, ranged, since, reply: None, until_closed: false });
        cx.set_timer(PATIENCE, number);
        cx.send(peer, HttpMsg::Get { host, target, range, proves });
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let number = self.open.iter().find(|(_, open)| open.op == op).map(|(number, _)| *number);
        number.into_iter().for_each(|number| self.end(cx, number, Err(HttpError::TimedOut)));
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: TcpPeer, link: Link) {
        let (Link::Down(why), number) = (link, HttpClient::number(peer)) else { return };
        // Nothing is sent to it: that would make another connection.
        let Some(open) = self.open.remove(&number) else { return };
        cx.clear_timer(number);
        let result = match (open.reply, why) {
            (Some(reply), Down::Closed) if open.until_closed => Ok(reply),
            (Some(_), _) => Err(HttpError::Malformed("it is cut short".into())),
            (None, Down::Misbehaved) => {
                Err(HttpError::Malformed("it is no HTTP, or does not prove its name".into()))
            }
            (None, _) => Err(HttpError::Unreachable),
        };
        cx.finish(open.op, result);
    }
}

impl Request<HttpClient> for HttpGet {
    type Item = ();
    type Reply = Result<HttpReply, HttpError>;

    fn command(self) -> HttpGet {
        self
    }
    fn item(_: ()) -> Option<()> {
        None
    }
    fn reply(outcome: Self::Reply) -> Option<Self::Reply> {
        Some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::Script;

    fn get(range: Option<Range<u64>>) -> HttpGet {
        let addr = "192.0.2.1:80".parse().unwrap();
        HttpGet { addr, host: "a".into(), target: "/".into(), range, proves: None }
    }

    fn asked(script: &mut Script<HttpClient>) -> (OpId, TcpPeer) {
        asked_for(script, None)
    }

    fn asked_for(script: &mut Script<HttpClient>, range: Option<Range<u64>>) -> (OpId, TcpPeer) {
        let op = script.command(get(range));
        let mut sent = script.sent();
        let Some((peer, HttpMsg::Get { .. })) = sent.pop() else { panic!("{sent:?}") };
        (op, peer)
    }

    fn head(until_closed: bool) -> HttpMsg {
        HttpMsg::Head { status: 200, gzip: false, location: None, range: None, length: None, until_closed }
    }

    #[test]
    fn an_answer_ends_as_it_says_and_not_before() {
        let mut script = Script::new(HttpClient::default());
        for until_closed in [false, true] {
            let (op, peer) = asked(&mut script);
            script.message(peer, head(until_closed));
            script.message(peer, HttpMsg::Part("he".into()));
            script.message(peer, HttpMsg::Part("llo".into()));
            assert!(script.outcomes().is_empty());
            match until_closed {
                true => script.link(peer, Link::Down(Down::Closed)),
                false => script.message(peer, HttpMsg::End),
            }
            let [(of, Ok(reply))] = &script.outcomes()[..] else { panic!() };
            assert_eq!((*of, &reply.body[..]), (op, &b"hello"[..]));
            // To close a connection that is gone would make another.
            assert_eq!(script.sent().is_empty(), until_closed);
        }
        let (_, peer) = asked(&mut script);
        script.message(peer, head(false));
        script.link(peer, Link::Down(Down::Closed));
        assert!(matches!(script.outcomes()[..], [(_, Err(HttpError::Malformed(_)))]), "it is cut short");
    }

    #[test]
    fn nobody_can_make_a_client_wait_or_keep_much() {
        let mut script = Script::new(HttpClient::default());
        let (_, peer) = asked(&mut script);
        script.message(peer, head(true));
        script.message(peer, HttpMsg::Part(vec![0; MAX_BODY].into()));
        script.message(peer, HttpMsg::Part(vec![0; 1].into()));
        assert!(matches!(script.outcomes()[..], [(_, Err(HttpError::Malformed(_)))]));
        let (_, peer) = asked(&mut script);
        script.advance(PATIENCE);
        assert!(matches!(script.outcomes()[..], [(_, Err(HttpError::TimedOut))]));
        assert!(script.sent().contains(&(peer, HttpMsg::Close)));
        for _ in 0..MAX_OPEN {
            asked(&mut script);
        }
        script.command(get(None));
        assert!(matches!(script.outcomes()[..], [(_, Err(HttpError::Busy))]));
    }

    #[test]
    fn what_is_to_be_proved_is_not_asked_in_the_clear() {
        let asked = || HttpGet { proves: Some("a".into()), ..get(None) };
        let mut script = Script::new(HttpClient::default());
        script.command(asked());
        assert_eq!(script.sent(), []);
        assert!(matches!(script.outcomes()[..], [(_, Err(HttpError::NoTls))]));
        let mut script = Script::new(HttpClient::secured());
        script.command(asked());
        assert!(matches!(&script.sent()[..], [(_, HttpMsg::Get { proves: Some(_), .. })]));
    }

    #[test]
    fn of_a_range_no_more_is_taken_than_was_asked_for() {
        let mut script = Script::new(HttpClient::default());
        let head = |length| HttpMsg::Head {
            status: 200,
            gzip: false,
            location: None,
            range: None,
            length,
            until_closed: false,
        };
        // A server that sends the whole file, and says so at once, or does not.
        for length in [Some(1 << 40), None] {
            let (_, peer) = asked_for(&mut script, Some(5..10));
            script.message(peer, head(length));
            script.message(peer, HttpMsg::Part(vec![0; 5].into()));
            script.message(peer, HttpMsg::Part(vec![0; 5].into()));
            let [(_, Ok(reply))] = &script.outcomes()[..] else { panic!() };
            assert_eq!((reply.status, reply.body.len()), (200, 0));
            assert!(script.sent().contains(&(peer, HttpMsg::Close)));
        }
        let (_, peer) = asked_for(&mut script, Some(0..2 << 20));
        script.message(peer, head(Some(2 << 20)));
        for _ in 0..4 {
            // Slowly, but it comes.
            script.advance(PATIENCE - Duration::from_secs(1));
            script.message(peer, HttpMsg::Part(vec![0; 1 << 10].into()));
        }
        assert_eq!(script.outcomes(), []);
        script.advance(Duration::from_secs(5));
        assert!(matches!(script.outcomes()[..], [(_, Err(HttpError::TimedOut))]), "it has taken two minutes");
    }
}
