//! Asking over HTTP: a connection for each question.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::foreign::TcpPeer;
use p2p_core::{Cx, Down, Link, NoJob, OpId, Protocol, Request};

use crate::torrent::tracker::TrackerError;
use crate::torrent::tracker::http::{HttpMsg, MAX_BODY};

/// How long an answer may take. 30 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// Questions that wait for an answer; more are refused. 256.
const MAX_OPEN: usize = 256;

/// Asks a tracker over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGet {
    /// Where it is.
    pub addr: SocketAddr,
    /// What it is called.
    pub host: String,
    /// The path, and what follows it.
    pub target: String,
}

/// What comes back over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    /// The status.
    pub status: u16,
    /// Whether the body is compressed by gzip.
    pub gzip: bool,
    /// Where else to ask.
    pub location: Option<String>,
    /// The body, at most [`MAX_BODY`] bytes.
    pub body: Vec<u8>,
}

/// The machine that asks over HTTP, for `p2p_core::net::tcp` with [`HttpCodec::client`](super::super::HttpCodec::client).
/// At most 256 questions wait at a time, for 30 s each.
#[derive(Debug, Default)]
pub struct HttpClient {
    open: BTreeMap<u64, Open>,
    next: u64,
}

#[derive(Debug)]
struct Open {
    op: OpId,
    peer: TcpPeer,
    reply: Option<HttpReply>,
    until_closed: bool,
}

impl HttpClient {
    fn number(peer: TcpPeer) -> u64 {
        match peer {
            TcpPeer::Dialled { number, .. } | TcpPeer::Accepted { number, .. } => number,
        }
    }

    /// A question is over, and its connection is not needed any more.
    fn end(&mut self, cx: &mut Cx<'_, Self>, number: u64, result: Result<HttpReply, TrackerError>) {
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
    type Outcome = Result<HttpReply, TrackerError>;
    type Event = ();
    type Job = NoJob;

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: TcpPeer, msg: HttpMsg) {
        let number = HttpClient::number(from);
        let Some(open) = self.open.get_mut(&number) else { return };
        match (msg, &mut open.reply) {
            (HttpMsg::Head { status, gzip, location, until_closed }, None) => {
                open.reply = Some(HttpReply { status, gzip, location, body: Vec::new() });
                open.until_closed = until_closed;
            }
            (HttpMsg::Part(part), Some(reply)) if reply.body.len() + part.len() <= MAX_BODY => {
                reply.body.extend_from_slice(&part);
            }
            (HttpMsg::End, reply @ Some(_)) => {
                let reply = reply.take().ok_or(TrackerError::Unreachable);
                self.end(cx, number, reply);
            }
            (HttpMsg::Part(_), Some(_)) => {
                let long = TrackerError::Malformed(format!("it is longer than {MAX_BODY} bytes"));
                self.end(cx, number, Err(long));
            }
            // The codec gives them in order, and nothing else.
            _ => self.end(cx, number, Err(TrackerError::Malformed("it is no answer".into()))),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        self.end(cx, number, Err(TrackerError::TimedOut));
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, get: HttpGet) {
        if self.open.len() >= MAX_OPEN {
            return cx.finish(op, Err(TrackerError::Busy));
        }
        self.next += 1;
        let (number, HttpGet { addr, host, target }) = (self.next, get);
        let peer = TcpPeer::Dialled { addr, number };
        self.open.insert(number, Open { op, peer, reply: None, until_closed: false });
        cx.set_timer(PATIENCE, number);
        cx.send(peer, HttpMsg::Get { host, target });
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let number = self.open.iter().find(|(_, open)| open.op == op).map(|(number, _)| *number);
        number.into_iter().for_each(|number| self.end(cx, number, Err(TrackerError::TimedOut)));
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: TcpPeer, link: Link) {
        let (Link::Down(why), number) = (link, HttpClient::number(peer)) else { return };
        // Nothing is sent to it: that would make another connection.
        let Some(open) = self.open.remove(&number) else { return };
        cx.clear_timer(number);
        let result = match (open.reply, why) {
            (Some(reply), Down::Closed) if open.until_closed => Ok(reply),
            (Some(_), _) => Err(TrackerError::Malformed("it is cut short".into())),
            (None, Down::Misbehaved) => Err(TrackerError::Malformed("it is no HTTP".into())),
            (None, _) => Err(TrackerError::Unreachable),
        };
        cx.finish(open.op, result);
    }
}

impl Request<HttpClient> for HttpGet {
    type Item = ();
    type Reply = Result<HttpReply, TrackerError>;

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

    fn asked(script: &mut Script<HttpClient>) -> (OpId, TcpPeer) {
        let addr = "192.0.2.1:80".parse().unwrap();
        let op = script.command(HttpGet { addr, host: "a".into(), target: "/".into() });
        let mut sent = script.sent();
        let Some((peer, HttpMsg::Get { .. })) = sent.pop() else { panic!("{sent:?}") };
        (op, peer)
    }

    fn head(until_closed: bool) -> HttpMsg {
        HttpMsg::Head { status: 200, gzip: false, location: None, until_closed }
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
        assert!(matches!(script.outcomes()[..], [(_, Err(TrackerError::Malformed(_)))]), "it is cut short");
    }

    #[test]
    fn nobody_can_make_a_client_wait_or_keep_much() {
        let mut script = Script::new(HttpClient::default());
        let (_, peer) = asked(&mut script);
        script.message(peer, head(true));
        script.message(peer, HttpMsg::Part(vec![0; MAX_BODY].into()));
        script.message(peer, HttpMsg::Part(vec![0; 1].into()));
        assert!(matches!(script.outcomes()[..], [(_, Err(TrackerError::Malformed(_)))]));
        let (_, peer) = asked(&mut script);
        script.advance(PATIENCE);
        assert!(matches!(script.outcomes()[..], [(_, Err(TrackerError::TimedOut))]));
        assert!(script.sent().contains(&(peer, HttpMsg::Close)));
        for _ in 0..MAX_OPEN {
            asked(&mut script);
        }
        let addr = "192.0.2.1:80".parse().unwrap();
        script.command(HttpGet { addr, host: "a".into(), target: "/".into() });
        assert!(matches!(script.outcomes()[..], [(_, Err(TrackerError::Busy))]));
    }
}
