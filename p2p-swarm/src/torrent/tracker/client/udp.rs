//! Asking over UDP (BEP 15): a connection first, which lives a minute, and everything again while there is no answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::{Cx, NoJob, OpId, Protocol, Request, Time};

use crate::torrent::metainfo::SwarmId;
use crate::torrent::tracker::{Announce, AnnounceReply, Scraped, TrackerError, UdpMsg};

/// How long to wait for the first answer; doubled each time (BEP 15). 15 s.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a question is asked before its tracker counts as gone. 3: after 105 s; BEP 15 goes on for hours, while other
/// trackers might answer.
const ATTEMPTS: u32 = 3;
/// How long a connection may be used (BEP 15). A minute.
const LIFE: Duration = Duration::from_secs(60);
/// Trackers whose connections are remembered. 1,000.
const MAX_CONNECTIONS: usize = 1000;
/// Questions that wait for an answer; more are refused. 1,000.
const MAX_OPEN: usize = 1000;

/// What a tracker is asked over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpAsk {
    /// Who else is there. The path is its URL's.
    Announce(Announce, String),
    /// How swarms stand.
    Scrape(Vec<SwarmId>),
}

/// Asks a tracker over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpQuestion {
    /// Where it is.
    pub tracker: SocketAddr,
    /// What is asked.
    pub ask: UdpAsk,
}

/// What a tracker answers over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpReply {
    /// Who else is there.
    Announced(AnnounceReply),
    /// How swarms stand, in the order that they were asked about.
    Scraped(Vec<Scraped>),
}

/// The machine that asks over UDP, for `p2p_core::net::udp` with [`UdpCodec::client`](super::super::UdpCodec::client). At
/// most 1,000 questions wait at a time, and as many connections are remembered.
#[derive(Debug, Default)]
pub struct UdpClient {
    connections: BTreeMap<SocketAddr, (u64, Time)>,
    /// By their transactions, which nobody can guess who does not see them.
    open: BTreeMap<u32, Open>,
}

#[derive(Debug)]
struct Open {
    op: OpId,
    question: UdpQuestion,
    /// How often there was no answer.
    silent: u32,
    /// Whether a connection is what was asked for last.
    connecting: bool,
}

impl UdpClient {
    /// Asks, or asks for a connection first.
    fn send(&mut self, cx: &mut Cx<'_, Self>, mut open: Open) {
        let now = cx.now();
        let transaction = loop {
            let transaction = cx.rng().next_u64() as u32;
            if !self.open.contains_key(&transaction) {
                break transaction;
            }
        };
        let UdpQuestion { tracker, ask } = &open.question;
        let connection = self.connections.get(tracker).filter(|(_, until)| now < *until);
        open.connecting = connection.is_none();
        let msg = match (connection, ask.clone()) {
            (None, _) => UdpMsg::Connect { transaction },
            (Some((connection, _)), UdpAsk::Announce(announce, path)) => {
                UdpMsg::Announce { connection: *connection, transaction, announce, path }
            }
            (Some((connection, _)), UdpAsk::Scrape(swarms)) => {
                UdpMsg::Scrape { connection: *connection, transaction, swarms }
            }
        };
        cx.send(*tracker, msg);
        cx.set_timer(PATIENCE * (1 << open.silent.min(8)), transaction);
        self.open.insert(transaction, open);
    }

    /// What was asked, if it was asked of this one.
    fn answered(&mut self, cx: &mut Cx<'_, Self>, from: SocketAddr, transaction: u32) -> Option<Open> {
        self.open.get(&transaction).filter(|open| open.question.tracker == from)?;
        cx.clear_timer(transaction);
        self.open.remove(&transaction)
    }
}

impl Protocol for UdpClient {
    type Peer = SocketAddr;
    type Msg = UdpMsg;
    /// A transaction has no answer.
    type Timer = u32;
    type Command = UdpQuestion;
    type Item = ();
    type Outcome = Result<UdpReply, TrackerError>;
    type Event = ();
    type Job = NoJob;

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: SocketAddr, msg: UdpMsg) {
        let transaction = match &msg {
            UdpMsg::Connected { transaction, .. }
            | UdpMsg::Announced { transaction, .. }
            | UdpMsg::Scraped { transaction, .. }
            | UdpMsg::Error { transaction, .. } => *transaction,
            // The codec gives none of these to a client.
            UdpMsg::Connect { .. } | UdpMsg::Announce { .. } | UdpMsg::Scrape { .. } => return,
        };
        let Some(open) = self.answered(cx, from, transaction) else { return };
        let result = match (msg, open.connecting, &open.question.ask) {
            (UdpMsg::Connected { connection, .. }, true, _) => {
                let now = cx.now();
                if self.connections.len() >= MAX_CONNECTIONS {
                    self.connections.retain(|_, (_, until)| now < *until);
                }
                if self.connections.len() >= MAX_CONNECTIONS {
                    self.connections.pop_first();
                }
                self.connections.insert(from, (connection, now + LIFE));
                return self.send(cx, open);
            }
            (UdpMsg::Announced { interval, leechers, seeders, peers, .. }, false, UdpAsk::Announce(..)) => {
                Ok(UdpReply::Announced(AnnounceReply {
                    interval,
                    peers,
                    seeders: Some(seeders),
                    leechers: Some(leechers),
                    ..AnnounceReply::default()
                }))
            }
            (UdpMsg::Scraped { swarms, .. }, false, UdpAsk::Scrape(_)) => Ok(UdpReply::Scraped(swarms)),
            (UdpMsg::Error { message, .. }, ..) => {
                // It may be the connection that it does not like.
                self.connections.remove(&from);
                Err(TrackerError::Refused(message))
            }
            _ => Err(TrackerError::Malformed("it answers another question".into())),
        };
        cx.finish(open.op, result);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, transaction: u32) {
        let Some(mut open) = self.open.remove(&transaction) else { return };
        open.silent += 1;
        match open.silent < ATTEMPTS {
            true => self.send(cx, open),
            false => cx.finish(open.op, Err(TrackerError::TimedOut)),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, question: UdpQuestion) {
        if self.open.len() >= MAX_OPEN {
            return cx.finish(op, Err(TrackerError::Busy));
        }
        self.send(cx, Open { op, question, silent: 0, connecting: false });
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let of = |(transaction, open): (&u32, &Open)| (open.op == op).then_some(*transaction);
        if let Some(transaction) = self.open.iter().find_map(of) {
            self.open.remove(&transaction);
            cx.clear_timer(transaction);
        }
    }
}

impl Request<UdpClient> for UdpQuestion {
    type Item = ();
    type Reply = Result<UdpReply, TrackerError>;

    fn command(self) -> UdpQuestion {
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

    fn tracker() -> SocketAddr {
        "192.0.2.1:6969".parse().unwrap()
    }

    fn ask(script: &mut Script<UdpClient>) {
        script.command(UdpQuestion { tracker: tracker(), ask: UdpAsk::Scrape(vec![[1; 20]]) });
    }

    fn one(script: &mut Script<UdpClient>) -> UdpMsg {
        let mut sent = script.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0).1
    }

    fn connected(script: &mut Script<UdpClient>) {
        let UdpMsg::Connect { transaction } = one(script) else { panic!() };
        script.message(tracker(), UdpMsg::Connected { transaction, connection: 7 });
    }

    fn scrape(script: &mut Script<UdpClient>) -> u32 {
        match one(script) {
            UdpMsg::Scrape { connection: 7, transaction, .. } => transaction,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connection_serves_for_a_minute() {
        let mut script = Script::new(UdpClient::default());
        ask(&mut script);
        connected(&mut script);
        let transaction = scrape(&mut script);
        script.message(tracker(), UdpMsg::Scraped { transaction, swarms: vec![Scraped::default()] });
        assert!(matches!(script.outcomes()[..], [(_, Ok(UdpReply::Scraped(_)))]));
        script.advance(LIFE - Duration::from_secs(1));
        ask(&mut script);
        let transaction = scrape(&mut script);
        script.message(tracker(), UdpMsg::Scraped { transaction, swarms: vec![] });
        script.advance(Duration::from_secs(1));
        ask(&mut script);
        connected(&mut script);
    }

    /// BEP 15: 15 s, then 30; and a connection that has ended meanwhile is asked for again.
    #[test]
    fn who_does_not_answer_is_asked_again_and_given_up_at_last() {
        let mut script = Script::new(UdpClient::default());
        ask(&mut script);
        connected(&mut script);
        scrape(&mut script);
        script.advance(Duration::from_secs(14));
        assert_eq!(script.sent(), []);
        script.advance(Duration::from_secs(1));
        scrape(&mut script);
        script.advance(Duration::from_secs(30));
        scrape(&mut script);
        script.advance(Duration::from_secs(59));
        assert!(script.outcomes().is_empty());
        script.advance(Duration::from_secs(1));
        assert!(matches!(script.outcomes()[..], [(_, Err(TrackerError::TimedOut))]));
        let mut script = Script::new(UdpClient::default());
        ask(&mut script);
        for wait in [15, 30] {
            assert!(matches!(one(&mut script), UdpMsg::Connect { .. }));
            script.advance(Duration::from_secs(wait));
        }
        connected(&mut script);
        scrape(&mut script);
        script.advance(Duration::from_secs(60));
        assert!(matches!(script.outcomes()[..], [(_, Err(TrackerError::TimedOut))]), "it is one question");
    }

    #[test]
    fn only_who_was_asked_is_heard() {
        let mut script = Script::new(UdpClient::default());
        ask(&mut script);
        let UdpMsg::Connect { transaction } = one(&mut script) else { panic!() };
        let other = "192.0.2.2:6969".parse().unwrap();
        script.message(other, UdpMsg::Connected { transaction, connection: 9 });
        script.message(tracker(), UdpMsg::Connected { transaction: transaction ^ 1, connection: 9 });
        assert_eq!(script.sent(), []);
        script.message(tracker(), UdpMsg::Error { transaction, message: "full".into() });
        assert!(matches!(&script.outcomes()[..], [(_, Err(TrackerError::Refused(why)))] if why == "full"));
        ask(&mut script);
        let UdpMsg::Connect { transaction } = one(&mut script) else { panic!() };
        script.message(tracker(), UdpMsg::Scraped { transaction, swarms: vec![] });
        assert!(matches!(script.outcomes()[..], [(_, Err(TrackerError::Malformed(_)))]));
    }
}
