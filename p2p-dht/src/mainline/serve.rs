//! What others ask of this node.

use std::net::SocketAddr;

use bytes::Bytes;
use p2p_core::{Cx, Key, Wire};

use super::krpc::{KrpcBody, KrpcMsg, Query, Response, Want};
use super::sources::FACTOR;
use super::store::{KeptItem, NotKept};
use super::table::K;
use super::{Endpoint, Mainline, Question};

/// Peers of a torrent in one answer: with the nodes, less than the 1,024 bytes that BEP 32 allows.
const PEERS_V4: usize = 50;
const PEERS_V6: usize = 20;
/// The longest answer with an item, in bytes: what an Ethernet carries.
const LONGEST: usize = 1472;
/// Questions under way above which strangers are not asked whether they are there.
const BUSY: usize = 64;

impl<P: Endpoint> Mainline<P> {
    pub(super) fn on_query(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        msg: &KrpcMsg,
        id: Key<20>,
        read_only: bool,
        query: Query,
    ) {
        let (now, addr) = (cx.now(), from.addr());
        if self.config.read_only || !self.sources.may_ask(now, addr) {
            return;
        }
        let Some(side) = self.side_mut(addr.is_ipv6()) else { return };
        let me = side.table.me();
        let is_known = side.table.at(from).is_some();
        side.table.asked(now, &id, from);
        let is_wanted = !read_only && id != me && side.table.wants(now, &id);
        let asked = shortest(&query);
        let result = self.answer_to(cx, me, addr, query);
        let has_proved = is_known || matches!(result, Ok(Answer::Written(_)));
        match result {
            Ok(Answer::Read(response) | Answer::Written(response)) => {
                self.respond(cx, from, msg, response, if has_proved { None } else { Some(asked) });
            }
            Err(NotKept(code, why)) => {
                self.reply(cx, from, msg, KrpcBody::Error { code, text: why.to_owned() });
            }
        }
        // Whoever asks is in the table only when it has answered.
        if is_wanted && self.asked.len() < BUSY && !self.asked.waits_for(from) {
            self.ask(cx, from, Query::Ping, Question::Ping);
        }
    }

    fn answer_to(
        &mut self,
        cx: &mut Cx<'_, Self>,
        me: Key<20>,
        from: SocketAddr,
        query: Query,
    ) -> Result<Answer, NotKept> {
        let (now, v6) = (cx.now(), from.is_ipv6());
        let response = Response::new(me);
        let tokens = self.tokens.as_ref();
        let token = tokens.map(|tokens| Bytes::copy_from_slice(&tokens.token(now, from.ip())));
        let sources = &mut self.sources;
        let mut may_write = |token: &[u8]| {
            if !tokens.is_some_and(|tokens| tokens.accepts(now, from.ip(), token)) {
                return Err(NotKept(203, "invalid token: ask for a new one"));
            }
            sources.may_write(now, from).then_some(()).ok_or(NotKept(202, "too many writes at once"))
        };
        Ok(match query {
            Query::Ping => Answer::Read(response),
            Query::FindNode { target, want } => Answer::Read(self.with_nodes(response, &target, want, v6)),
            Query::GetPeers { info_hash, want } => {
                let most = if v6 { PEERS_V6 } else { PEERS_V4 };
                let values = self.store.peers(now, &info_hash, v6, most, cx.rng());
                let response = Response { token, values, ..response };
                Answer::Read(self.with_nodes(response, &info_hash, want, v6))
            }
            Query::AnnouncePeer { info_hash, port, implied_port, token } => {
                may_write(&token)?;
                let port = if implied_port { from.port() } else { port };
                if port == 0 {
                    return Err(NotKept(203, "expected a port other than 0"));
                }
                let peer = SocketAddr::new(from.ip(), port);
                match self.store.announce(now, &me, info_hash, peer) {
                    true => Answer::Written(response),
                    false => return Err(NotKept(202, "no room for this")),
                }
            }
            Query::Get { target, newer_than, want } => {
                let response = self.with_item(Response { token, ..response }, now, &target, newer_than);
                Answer::Read(self.with_nodes(response, &target, want, v6))
            }
            Query::Put { token, item } => {
                may_write(&token)?;
                self.store.put(now, &me, *item, from)?;
                Answer::Written(response)
            }
            Query::SampleInfohashes { target, want } => {
                let samples = Some(self.store.sample(now, cx.rng()));
                Answer::Read(self.with_nodes(Response { samples, ..response }, &target, want, v6))
            }
            Query::Invalid { code, why } => return Err(NotKept(code, why)),
        })
    }

    /// The nodes closest to a key, of the kinds that are wanted (BEP 32). There are never none of that of the asker: some
    /// programs take an answer without any for one to another question.
    fn with_nodes(&self, response: Response, target: &Key<20>, want: Option<Want>, v6: bool) -> Response {
        let want = want.unwrap_or(Want { n4: !v6, n6: v6 });
        let closest = |v6: bool| {
            let closest = self.side(v6).map(|side| side.table.closest(target, K));
            closest.into_iter().flatten().map(|entry| entry.node()).collect()
        };
        Response {
            nodes: want.n4.then(|| closest(false)),
            nodes6: want.n6.then(|| closest(true)),
            ..response
        }
    }

    pub(super) fn with_item(
        &self,
        response: Response,
        now: p2p_core::Time,
        target: &Key<20>,
        newer_than: Option<i64>,
    ) -> Response {
        match self.store.item(now, target) {
            None => response,
            Some(KeptItem::Immutable(value)) => Response { value: Some(value.clone()), ..response },
            Some(KeptItem::Mutable(item)) if newer_than.is_some_and(|newer| item.sequence() <= newer) => {
                Response { sequence: Some(item.sequence()), ..response }
            }
            Some(KeptItem::Mutable(item)) => Response {
                sequence: Some(item.sequence()),
                publisher: Some(*item.publisher().as_bytes()),
                signature: Some(*item.signature()),
                value: Some(item.encoded().clone()),
                ..response
            },
        }
    }

    /// Answers, to an address that has proved nothing with no more than it may be sent for a question of this length.
    fn respond(
        &mut self,
        cx: &mut Cx<'_, Self>,
        to: P,
        msg: &KrpcMsg,
        response: Response,
        unproved: Option<usize>,
    ) {
        let mut answer = self.message(to, msg, KrpcBody::Response(Box::new(response)));
        while answer.wire_len() > LONGEST && fewer_nodes(&mut answer, to.addr().is_ipv6()) {}
        if let Some(asked) = unproved {
            let beyond = answer.wire_len().saturating_sub(FACTOR * asked);
            if beyond > 0 && !self.sources.may_send(cx.now(), to.addr(), beyond) {
                let most = FACTOR * asked;
                while answer.wire_len() > most && shorten(&mut answer, to.addr().is_ipv6()) {}
            }
        }
        cx.send(to, answer);
    }

    fn reply(&mut self, cx: &mut Cx<'_, Self>, to: P, msg: &KrpcMsg, body: KrpcBody) {
        let answer = self.message(to, msg, body);
        cx.send(to, answer);
    }

    fn message(&self, to: P, msg: &KrpcMsg, body: KrpcBody) -> KrpcMsg {
        let (transaction, version) = (msg.transaction.clone(), self.config.version);
        KrpcMsg { transaction, version, ip: Some(to.addr()), body }
    }
}

enum Answer {
    Read(Response),
    /// It has shown a token, and so received something at its address.
    Written(Response),
}

/// How long a query of this kind is at least, in bytes.
fn shortest(query: &Query) -> usize {
    match query {
        Query::Ping | Query::Invalid { .. } => 56,
        _ => 85,
    }
}

/// Leaves nodes out of an answer, first those of the other network, then the furthest; says whether there were any.
fn fewer_nodes(answer: &mut KrpcMsg, v6: bool) -> bool {
    let KrpcBody::Response(response) = &mut answer.body else { return false };
    let (own, other) = match v6 {
        true => (&mut response.nodes6, &mut response.nodes),
        false => (&mut response.nodes, &mut response.nodes6),
    };
    other.take().is_some() || own.as_mut().is_some_and(|nodes| nodes.pop().is_some())
}

/// Leaves something out of an answer, what is long first; says whether there was something.
fn shorten(answer: &mut KrpcMsg, v6: bool) -> bool {
    let KrpcBody::Response(response) = &mut answer.body else { return false };
    if response.value.take().is_some() {
        (response.publisher, response.signature) = (None, None);
        return true;
    }
    response.samples.as_mut().is_some_and(|samples| samples.info_hashes.pop().is_some())
        || response.values.pop().is_some()
        || fewer_nodes(answer, v6)
}
