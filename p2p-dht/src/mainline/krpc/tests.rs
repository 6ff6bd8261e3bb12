use proptest::prelude::*;

use super::*;
use crate::bencode;

fn decoded(packet: &[u8]) -> KrpcMsg {
    KrpcMsg::decode(packet).unwrap()
}

/// A query with such arguments and nothing else.
fn query(method: &str, write: impl FnOnce(&mut bencode::DictWriter<'_>)) -> Query {
    let packet = bencode::dict(|d| {
        d.dict("a", |a| {
            a.bytes("id", [7; 20]);
            write(a);
        });
        d.bytes("q", method);
        d.bytes("t", "aa");
        d.bytes("y", "q");
    });
    match decoded(&packet).body {
        KrpcBody::Query { query, .. } => query,
        other => panic!("{other:?}"),
    }
}

/// The packets in BEP 5, 43 and 44 are read, and written as they came.
#[test]
fn the_specifications_packets_are_read_and_written() {
    let packets: &[&[u8]] = &[
        b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
        b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re",
        b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
        b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
        b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping2:roi1e1:t2:aa1:y1:qe",
    ];
    for packet in packets {
        assert_eq!(decoded(packet).to_bytes(), *packet, "{}", packet.escape_ascii());
    }
    let KrpcBody::Response(peers) = decoded(packets[5]).body else { panic!() };
    assert_eq!(peers.values[0], "97.120.106.101:11893".parse().unwrap());
    let KrpcBody::Query { read_only, .. } = decoded(packets[7]).body else { panic!() };
    assert!(read_only);
}

#[test]
fn what_does_not_say_whom_to_answer_is_dropped() {
    let packets: &[&[u8]] = &[
        b"",
        b"i1e",
        b"d1:y1:qe",
        b"d1:q4:ping1:t2:aa1:y1:qe",
        b"d1:ad2:id19:abcdefghij012345678e1:q4:ping1:t2:aa1:y1:qe",
        b"d1:rde1:t2:aa1:y1:re",
        b"d1:t2:aa1:y1:xe",
        b"d1:ele1:t2:aa1:y1:ee",
    ];
    for packet in packets {
        assert!(KrpcMsg::decode(packet).is_err(), "{}", packet.escape_ascii());
    }
    assert!(KrpcMsg::decode(&[b'l'; MAX_PACKET + 1]).is_err());
}

#[test]
fn what_cannot_be_served_says_why() {
    let code = |query| match query {
        Query::Invalid { code, .. } => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(query("get_peers", |a| a.bytes("info_hash", "short"))), 203);
    assert_eq!(code(query("dance", |_| {})), 204);
    let put = |value: &[u8], salt: usize, seq: i64| {
        code(query("put", |a| {
            a.bytes("k", [1; 32]);
            a.bytes("salt", vec![0; salt]);
            a.int("seq", seq);
            a.bytes("sig", [1; 64]);
            a.bytes("token", "token");
            a.bytes("v", value);
        }))
    };
    // Three digits and a colon make 1,001 bytes of it.
    assert_eq!(put(&[0; 997], 0, 1), 205);
    assert_eq!(put(&[0; 996], 65, 1), 207);
    assert_eq!(put(&[0; 996], 64, -1), 203);
}

#[test]
fn a_value_that_is_not_canonical_is_not_kept() {
    let packet = b"d1:ad2:id20:abcdefghij01234567895:token1:x1:vd1:bi1e1:ai2eee1:q3:put1:t2:aa1:y1:qe";
    let KrpcBody::Query { query, .. } = decoded(packet).body else { panic!() };
    assert!(matches!(query, Query::Invalid { code: 203, .. }), "{query:?}");
}

#[test]
fn queries_to_come_are_taken_for_lookups() {
    let target = Key::new([9; 20]);
    let found = query("find_something", |a| a.bytes("target", target.as_bytes()));
    assert_eq!(found, Query::FindNode { target, want: None });
    let wanted = query("find_node", |a| {
        a.bytes("target", target.as_bytes());
        a.list("want", |l| {
            l.bytes("n6");
            l.bytes("n8");
        });
    });
    assert_eq!(wanted, Query::FindNode { target, want: Some(Want { n4: false, n6: true }) });
}

fn nodes(v6: bool) -> impl Strategy<Value = Vec<Node>> {
    let node = (any::<[u8; 20]>(), any::<[u8; 16]>(), any::<u16>()).prop_map(move |(id, ip, port)| {
        let v4 = [ip[0], ip[1], ip[2], ip[3]];
        // No IPv4 address in IPv6's clothes.
        let v6_ip = std::net::Ipv6Addr::from(ip).to_bits() | 1 << 127;
        let ip = if v6 { std::net::Ipv6Addr::from_bits(v6_ip).into() } else { v4.into() };
        Node { id: Key::new(id), addr: SocketAddr::new(ip, port) }
    });
    proptest::collection::vec(node, 0..20)
}

proptest! {
    #[test]
    fn every_response_is_read_as_it_was_written(
        (n4, n6) in (nodes(false), nodes(true)),
        optional in any::<[bool; 6]>(),
        (sequence, value) in (any::<i64>(), proptest::collection::vec(any::<u8>(), 0..900)),
        (total, interval) in (any::<u32>(), 0_u32..21_600),
    ) {
        let [a, b, c, d, e, f] = optional;
        let response = Response {
            id: Key::new([3; 20]),
            values: if a { n4.iter().map(|node| node.addr).collect() } else { Vec::new() },
            samples: f.then(|| {
                Samples { info_hashes: n4.iter().map(|node| node.id).collect(), total, interval }
            }),
            nodes: b.then_some(n4),
            nodes6: c.then_some(n6),
            token: d.then(|| Bytes::from_static(b"token")),
            value: e.then(|| bencode::bytes(&value).into()),
            sequence: d.then_some(sequence),
            publisher: e.then_some([1; 32]),
            signature: e.then_some([2; 64]),
        };
        let msg = KrpcMsg {
            transaction: Bytes::from_static(b"1234"),
            version: a.then_some(*b"p2\0\x01"),
            ip: b.then(|| "203.0.113.9:6881".parse().unwrap()),
            body: KrpcBody::Response(Box::new(response)),
        };
        prop_assert_eq!(KrpcMsg::decode(&msg.to_bytes()).unwrap(), msg);
    }

    #[test]
    fn any_bytes_are_survived(bytes in "[ilde0-9:a-z]{0,80}") {
        let _ = KrpcMsg::decode(bytes.as_bytes());
    }
}
