//! From messages to packets.

use super::compact::{put_addr, put_nodes};
use super::{KrpcBody, KrpcMsg, PutItem, Query, Response, Want};
use crate::bencode::{DictWriter, Value, dict_into};

pub(super) fn message(msg: &KrpcMsg, out: &mut Vec<u8>) {
    dict_into(out, |d| {
        if let KrpcBody::Query { id, query, .. } = &msg.body {
            d.dict("a", |a| {
                a.bytes("id", id.as_bytes());
                arguments(query, a);
            });
        }
        if let KrpcBody::Error { code, text } = &msg.body {
            d.list("e", |e| {
                e.int(*code);
                e.bytes(text);
            });
        }
        if let Some(ip) = msg.ip {
            let mut compact = Vec::new();
            put_addr(&mut compact, ip);
            d.bytes("ip", compact);
        }
        if let KrpcBody::Query { query, read_only, .. } = &msg.body {
            d.bytes("q", method(query));
            if *read_only {
                d.int("ro", 1);
            }
        }
        if let KrpcBody::Response(response) = &msg.body {
            d.dict("r", |r| values(response, r));
        }
        d.bytes("t", &msg.transaction);
        if let Some(version) = &msg.version {
            d.bytes("v", version);
        }
        let kind = match &msg.body {
            KrpcBody::Query { .. } => "q",
            KrpcBody::Response(_) => "r",
            KrpcBody::Error { .. } => "e",
        };
        d.bytes("y", kind);
    });
}

fn method(query: &Query) -> &'static str {
    match query {
        Query::Ping => "ping",
        Query::FindNode { .. } => "find_node",
        Query::GetPeers { .. } => "get_peers",
        Query::AnnouncePeer { .. } => "announce_peer",
        Query::Get { .. } => "get",
        Query::Put { .. } => "put",
        Query::SampleInfohashes { .. } => "sample_infohashes",
        Query::Invalid { .. } => "invalid",
    }
}

fn arguments(query: &Query, a: &mut DictWriter<'_>) {
    match query {
        Query::Ping | Query::Invalid { .. } => {}
        Query::FindNode { target, want } | Query::SampleInfohashes { target, want } => {
            a.bytes("target", target.as_bytes());
            put_want(*want, a);
        }
        Query::GetPeers { info_hash, want } => {
            a.bytes("info_hash", info_hash.as_bytes());
            put_want(*want, a);
        }
        Query::AnnouncePeer { info_hash, port, implied_port, token } => {
            if *implied_port {
                a.int("implied_port", 1);
            }
            a.bytes("info_hash", info_hash.as_bytes());
            a.int("port", i64::from(*port));
            a.bytes("token", token);
        }
        Query::Get { target, newer_than, want } => {
            if let Some(newer_than) = newer_than {
                a.int("seq", *newer_than);
            }
            a.bytes("target", target.as_bytes());
            put_want(*want, a);
        }
        Query::Put { token, item } => put(token, item, a),
    }
}

/// `target` is not in BEP 44, which has it follow from the item; some programs want it.
fn put(token: &[u8], item: &PutItem, a: &mut DictWriter<'_>) {
    let (target, value) = match item {
        PutItem::Immutable(value) => (super::super::item::target_of(value), value),
        PutItem::Mutable { item, cas } => {
            if let Some(cas) = cas {
                a.int("cas", *cas);
            }
            a.bytes("k", item.publisher.as_bytes());
            if !item.salt.is_empty() {
                a.bytes("salt", &item.salt);
            }
            a.int("seq", item.sequence);
            a.bytes("sig", item.signature);
            (item.target(), &item.value)
        }
    };
    a.bytes("target", target.as_bytes());
    a.bytes("token", token);
    put_value(value, a);
}

/// What is kept and sent has been checked; anything else is left out.
fn put_value(value: &[u8], d: &mut DictWriter<'_>) {
    if let Ok(value) = Value::decode_unsorted(value) {
        d.value("v", value);
    }
}

fn put_want(want: Option<Want>, a: &mut DictWriter<'_>) {
    let Some(want) = want else { return };
    a.list("want", |l| {
        if want.n4 {
            l.bytes("n4");
        }
        if want.n6 {
            l.bytes("n6");
        }
    });
}

fn values(response: &Response, r: &mut DictWriter<'_>) {
    r.bytes("id", response.id.as_bytes());
    if let Some(samples) = &response.samples {
        r.int("interval", i64::from(samples.interval));
    }
    if let Some(publisher) = &response.publisher {
        r.bytes("k", publisher);
    }
    if let Some(nodes) = &response.nodes {
        r.bytes("nodes", put_nodes(nodes, false));
    }
    if let Some(nodes) = &response.nodes6 {
        r.bytes("nodes6", put_nodes(nodes, true));
    }
    if let Some(samples) = &response.samples {
        r.int("num", i64::from(samples.total));
        let all: Vec<u8> = samples.info_hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
        r.bytes("samples", all);
    }
    if let Some(sequence) = response.sequence {
        r.int("seq", sequence);
    }
    if let Some(signature) = &response.signature {
        r.bytes("sig", signature);
    }
    if let Some(token) = &response.token {
        r.bytes("token", token);
    }
    if let Some(value) = &response.value {
        put_value(value, r);
    }
    if !response.values.is_empty() {
        r.list("values", |l| {
            for peer in &response.values {
                let mut compact = Vec::with_capacity(18);
                put_addr(&mut compact, *peer);
                l.bytes(compact);
            }
        });
    }
}
