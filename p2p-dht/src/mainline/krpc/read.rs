//! From packets to messages.

use bytes::Bytes;
use p2p_core::{Key, PeerId};

use super::compact::{read_addr, read_nodes};
use super::{KrpcBody, KrpcMsg, MAX_PACKET, PutItem, Query, Response, Samples, Want};
use crate::bencode::{Kind, Value};
use crate::mainline::item::{InvalidItem, MAX_ITEM, MutableItem, value_fits};

/// What is repeated in an answer is short.
const MAX_TRANSACTION: usize = 32;
const MAX_TOKEN: usize = 128;
/// Of what an answer names: more than any program says, and few enough to look through.
const MAX_NODES: usize = 64;
const MAX_VALUES: usize = 256;
const MAX_SAMPLES: usize = 256;
const MAX_TEXT: usize = 200;

pub(super) fn message(packet: &[u8]) -> Result<KrpcMsg, &'static str> {
    if packet.len() > MAX_PACKET {
        return Err("a packet of more than 4,096 bytes");
    }
    let all = Value::decode_unsorted(packet).map_err(|_| "expected one bencoded dictionary")?;
    let transaction = all.get("t").and_then(|t| t.as_bytes()).ok_or("no transaction (t)")?;
    if transaction.len() > MAX_TRANSACTION {
        return Err("a transaction of more than 32 bytes");
    }
    let body = match all.get("y").and_then(|y| y.as_bytes()) {
        Some(b"q") => query(all)?,
        Some(b"r") => KrpcBody::Response(Box::new(response(all)?)),
        Some(b"e") => error(all)?,
        _ => return Err("expected a query, a response or an error (y)"),
    };
    Ok(KrpcMsg {
        transaction: Bytes::copy_from_slice(transaction),
        version: all.get("v").and_then(|v| v.as_array().copied()),
        ip: all.get("ip").and_then(|ip| read_addr(ip.as_bytes()?)),
        body,
    })
}

fn key(arguments: Value<'_>, name: &str) -> Option<Key<20>> {
    Some(Key::new(*arguments.get(name)?.as_array()?))
}

fn bytes(arguments: Value<'_>, name: &str, most: usize) -> Option<Bytes> {
    let bytes = arguments.get(name)?.as_bytes()?;
    (bytes.len() <= most).then(|| Bytes::copy_from_slice(bytes))
}

fn int(arguments: Value<'_>, name: &str) -> Option<i64> {
    arguments.get(name)?.as_int()
}

fn query(all: Value<'_>) -> Result<KrpcBody, &'static str> {
    let method = all.get("q").and_then(|q| q.as_bytes()).ok_or("a query without a name (q)")?;
    let arguments = all.get("a").ok_or("a query without arguments (a)")?;
    let id = key(arguments, "id").ok_or("a query without an id of 20 bytes")?;
    let read_only = int(all, "ro") == Some(1);
    let query = arguments_of(method, arguments).unwrap_or_else(|(code, why)| Query::Invalid { code, why });
    Ok(KrpcBody::Query { id, read_only, query })
}

fn arguments_of(method: &[u8], arguments: Value<'_>) -> Result<Query, (i64, &'static str)> {
    let target = |name| key(arguments, name);
    let want = want(arguments);
    let no_target = (203, "expected a target of 20 bytes");
    let no_info_hash = (203, "expected an info_hash of 20 bytes");
    let token = || bytes(arguments, "token", MAX_TOKEN).ok_or((203, "expected a token"));
    Ok(match method {
        b"ping" => Query::Ping,
        b"find_node" => Query::FindNode { target: target("target").ok_or(no_target)?, want },
        b"get_peers" => Query::GetPeers { info_hash: target("info_hash").ok_or(no_info_hash)?, want },
        b"announce_peer" => {
            let implied_port = int(arguments, "implied_port").is_some_and(|implied| implied != 0);
            let port = int(arguments, "port").and_then(|port| u16::try_from(port).ok());
            let port = port.or(implied_port.then_some(0)).ok_or((203, "expected a port"))?;
            let info_hash = target("info_hash").ok_or(no_info_hash)?;
            Query::AnnouncePeer { info_hash, port, implied_port, token: token()? }
        }
        b"get" => {
            let newer_than = int(arguments, "seq");
            Query::Get { target: target("target").ok_or(no_target)?, newer_than, want }
        }
        b"put" => Query::Put { token: token()?, item: Box::new(put(arguments)?) },
        b"sample_infohashes" => Query::SampleInfohashes { target: target("target").ok_or(no_target)?, want },
        // So that queries to come are answered by nodes that do not know them, and lookups by them work.
        _ => match target("target").or_else(|| target("info_hash")) {
            Some(target) => Query::FindNode { target, want },
            None => return Err((204, "method unknown")),
        },
    })
}

fn want(arguments: Value<'_>) -> Option<Want> {
    let wanted = arguments.get("want").filter(|want| want.kind() == Kind::List)?;
    let names = |name: &[u8]| wanted.items().any(|item| item.as_bytes() == Some(name));
    Some(Want { n4: names(b"n4"), n6: names(b"n6") })
}

fn put(arguments: Value<'_>) -> Result<PutItem, (i64, &'static str)> {
    let value = arguments.get("v").ok_or((203, "expected a value (v)"))?.raw();
    value_fits(value).map_err(code_of)?;
    let value = Bytes::copy_from_slice(value);
    let Some(publisher) = arguments.get("k") else { return Ok(PutItem::Immutable(value)) };
    let publisher = *publisher.as_array().ok_or((203, "expected a key (k) of 32 bytes"))?;
    let signature = arguments.get("sig").and_then(|sig| sig.as_array().copied());
    let salt = arguments.get("salt").and_then(|salt| salt.as_bytes()).unwrap_or_default();
    let item = MutableItem {
        publisher: PeerId::from_bytes(publisher),
        salt: Bytes::copy_from_slice(salt),
        sequence: int(arguments, "seq").ok_or((203, "expected a sequence number (seq)"))?,
        value,
        signature: signature.ok_or((203, "expected a signature (sig) of 64 bytes"))?,
    };
    item.fits().map_err(code_of)?;
    Ok(PutItem::Mutable { item, cas: int(arguments, "cas") })
}

/// BEP 44's number for what is wrong with an item.
fn code_of(error: InvalidItem) -> (i64, &'static str) {
    match error {
        InvalidItem::TooLong { .. } => (205, "message (v field) too big"),
        InvalidItem::Signature => (206, "invalid signature"),
        InvalidItem::Salt { .. } => (207, "salt (salt field) too big"),
        InvalidItem::Sequence { .. } => (203, "negative sequence number"),
        InvalidItem::Encoding(_) => (203, "the value is not bencoded"),
    }
}

fn response(all: Value<'_>) -> Result<Response, &'static str> {
    let r = all.get("r").ok_or("a response without values (r)")?;
    let nodes = |name, v6| r.get(name).and_then(|nodes| read_nodes(nodes.as_bytes()?, v6, MAX_NODES));
    let peers = r.get("values").into_iter().flat_map(|values| values.items()).take(MAX_VALUES);
    let value = r.get("v").filter(|v| v.raw().len() <= MAX_ITEM);
    Ok(Response {
        id: key(r, "id").ok_or("a response without an id of 20 bytes")?,
        nodes: nodes("nodes", false),
        nodes6: nodes("nodes6", true),
        values: peers.filter_map(|peer| read_addr(peer.as_bytes()?)).collect(),
        token: bytes(r, "token", MAX_TOKEN),
        value: value.map(|v| Bytes::copy_from_slice(v.raw())),
        sequence: int(r, "seq"),
        publisher: r.get("k").and_then(|k| k.as_array().copied()),
        signature: r.get("sig").and_then(|sig| sig.as_array().copied()),
        samples: samples(r),
    })
}

fn samples(r: Value<'_>) -> Option<Samples> {
    let samples = r.get("samples")?.as_bytes()?.as_chunks().0;
    let number = |name| int(r, name).and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
    Some(Samples {
        info_hashes: samples.iter().take(MAX_SAMPLES).map(|sample| Key::new(*sample)).collect(),
        total: number("num"),
        // Six hours are the most that is allowed (BEP 51).
        interval: number("interval").min(6 * 60 * 60),
    })
}

fn error(all: Value<'_>) -> Result<KrpcBody, &'static str> {
    let mut e = all.get("e").ok_or("an error without a list (e)")?.items();
    let code = e.next().and_then(|code| code.as_int()).ok_or("an error without a number")?;
    let text = e.next().and_then(|text| text.as_bytes()).unwrap_or_default();
    let mut text = String::from_utf8_lossy(&text[..text.len().min(MAX_TEXT)]).into_owned();
    // What stands for a byte that is no text is longer than that.
    while text.len() > MAX_TEXT {
        text.pop();
    }
    Ok(KrpcBody::Error { code, text })
}
