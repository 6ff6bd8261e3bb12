//! One node by hand: what it answers, keeps, refuses, and whom it asks.

use bytes::Bytes;
use p2p_core::{Keypair, Script, Wire};

use super::*;
use crate::bencode;

mod asking;
mod serving;
mod upkeep;

type Node0 = Script<Mainline<SocketAddr>>;

fn node() -> Node0 {
    Script::new(Mainline::new(MainlineConfig::default()))
}

/// The n-th stranger, each in a subnet of its own.
fn at(n: u8) -> SocketAddr {
    SocketAddr::from(([203, n, 113, 9], 6881))
}

fn key(byte: u8) -> Key<20> {
    Key::new([byte; 20])
}

fn msg(body: KrpcBody) -> KrpcMsg {
    KrpcMsg { transaction: Bytes::from_static(b"aa"), version: None, ip: None, body }
}

fn query_as(id: u8, read_only: bool, query: Query) -> KrpcMsg {
    msg(KrpcBody::Query { id: key(id), read_only, query })
}

/// What a node answers to a question, beside what else it sends.
fn asked(node: &mut Node0, from: SocketAddr, query: Query) -> Option<KrpcBody> {
    node.sent();
    node.message(from, query_as(from.ip().to_string().len() as u8, true, query));
    let answers = node.sent().into_iter().filter(|(to, msg)| *to == from && *msg.transaction == *b"aa");
    let mut answers: Vec<KrpcBody> = answers.map(|(_, msg)| msg.body).collect();
    assert!(answers.len() <= 1);
    answers.pop()
}

fn response(node: &mut Node0, from: SocketAddr, query: Query) -> Response {
    match asked(node, from, query) {
        Some(KrpcBody::Response(response)) => *response,
        other => panic!("{other:?}"),
    }
}

fn code(node: &mut Node0, from: SocketAddr, query: Query) -> i64 {
    match asked(node, from, query) {
        Some(KrpcBody::Error { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

/// Answers all questions that a node has under way, as nodes with these ids; gives the questions.
fn answer_all(
    node: &mut Node0,
    answer: impl Fn(SocketAddr, &Query) -> Option<Response>,
) -> Vec<(SocketAddr, Query)> {
    let mut questions = Vec::new();
    loop {
        let sent = node.sent();
        if sent.is_empty() {
            return questions;
        }
        for (to, sent) in sent {
            let KrpcBody::Query { query, .. } = sent.body else { continue };
            if let Some(response) = answer(to, &query) {
                let body = KrpcBody::Response(Box::new(response));
                node.message(to, KrpcMsg { body, transaction: sent.transaction, version: None, ip: None });
            }
            questions.push((to, query));
        }
    }
}

fn get_peers(info_hash: Key<20>) -> Query {
    Query::GetPeers { info_hash, want: None }
}

fn announce(info_hash: Key<20>, token: Bytes) -> Query {
    Query::AnnouncePeer { info_hash, port: 51_413, implied_port: false, token }
}

fn get(target: Key<20>) -> Query {
    Query::Get { target, newer_than: None, want: None }
}

fn item(sequence: i64, value: &str) -> MutableItem {
    MutableItem::new(&Keypair::from_seed(&[7; 32]), "salt", sequence, bencode::bytes(value)).unwrap()
}

/// A network in which everybody names the same nodes, each with an id that its address allows.
fn crowd(node: &mut Node0) -> Vec<Node> {
    let mut rng = p2p_core::Rng::new(9);
    let nodes: Vec<Node> =
        (1..30).map(|n| Node { id: secure_id(at(n).ip(), &mut rng), addr: at(n) }).collect();
    for node_there in &nodes {
        node.message(
            node_there.addr,
            msg(KrpcBody::Query { id: node_there.id, read_only: false, query: Query::Ping }),
        );
    }
    nodes
}

fn named(nodes: &[Node], to: SocketAddr) -> Response {
    let id = nodes.iter().find(|node| node.addr == to).unwrap().id;
    Response { nodes: Some(nodes.to_vec()), token: Some(Bytes::from_static(b"token")), ..Response::new(id) }
}
