//! What a node does for those who ask it.

use super::*;

#[test]
fn a_peer_is_announced_with_a_token_that_was_given_there_and_lately() {
    let mut node = node();
    let torrent = key(1);
    let given = response(&mut node, at(1), get_peers(torrent));
    assert!(given.values.is_empty() && given.nodes == Some(vec![]));
    let token = given.token.unwrap();
    assert_eq!(code(&mut node, at(1), announce(torrent, Bytes::from_static(b"forged!!"))), 203);
    assert_eq!(code(&mut node, at(2), announce(torrent, token.clone())), 203, "another address'");
    response(&mut node, at(1), announce(torrent, token.clone()));
    let found = response(&mut node, at(2), get_peers(torrent));
    assert_eq!(found.values, [SocketAddr::new(at(1).ip(), 51_413)]);
    node.advance(Duration::from_secs(5 * 60));
    response(&mut node, at(1), announce(torrent, token.clone()));
    node.advance(Duration::from_secs(5 * 60));
    assert_eq!(code(&mut node, at(1), announce(torrent, token)), 203, "ten minutes later");
}

#[test]
fn an_implied_port_is_the_packets_own() {
    let mut node = node();
    let token = response(&mut node, at(1), get_peers(key(1))).token.unwrap();
    let implied =
        |port| Query::AnnouncePeer { info_hash: key(1), port, implied_port: port == 0, token: token.clone() };
    response(&mut node, at(1), implied(0));
    assert_eq!(response(&mut node, at(2), get_peers(key(1))).values, [at(1)]);
}

#[test]
fn an_item_is_kept_and_replaced_as_its_number_and_the_comparison_allow() {
    let mut node = node();
    let target = item(1, "a").target();
    let token = response(&mut node, at(1), get(target)).token.unwrap();
    let put = |sequence, value, cas| Query::Put {
        token: token.clone(),
        item: Box::new(PutItem::Mutable { item: item(sequence, value), cas }),
    };
    response(&mut node, at(1), put(3, "three", None));
    let found = response(&mut node, at(2), get(target));
    assert_eq!((found.sequence, found.value.unwrap()), (Some(3), Bytes::from(bencode::bytes("three"))));
    assert_eq!(code(&mut node, at(1), put(2, "two", None)), 302);
    assert_eq!(code(&mut node, at(1), put(4, "four", Some(2))), 301);
    response(&mut node, at(1), put(4, "four", Some(3)));
    let newer = |newer_than| Query::Get { target, newer_than: Some(newer_than), want: None };
    let found = response(&mut node, at(2), newer(4));
    assert_eq!((found.sequence, found.value, found.signature), (Some(4), None, None));
    assert!(response(&mut node, at(2), newer(3)).value.is_some());
    let mut forged = item(5, "five");
    forged.sequence = 6;
    let forged = Box::new(PutItem::Mutable { item: forged, cas: None });
    assert_eq!(code(&mut node, at(1), Query::Put { token: token.clone(), item: forged }), 206);
    node.advance(Duration::from_secs(2 * 3600));
    assert!(response(&mut node, at(2), get(target)).value.is_none(), "two hours later");
}

#[test]
fn a_value_is_found_under_its_hash() {
    let mut node = node();
    let value: Bytes = bencode::bytes("Hello World!").into();
    let token = response(&mut node, at(1), get(target_of(&value))).token.unwrap();
    response(&mut node, at(1), Query::Put { token, item: Box::new(PutItem::Immutable(value.clone())) });
    assert_eq!(response(&mut node, at(2), get(target_of(&value))).value, Some(value));
}

#[test]
fn a_source_has_its_rate_and_others_theirs() {
    let mut node = node();
    let answered =
        |node: &mut Node0, from| (0..300).filter(|_| asked(node, from, Query::Ping).is_some()).count();
    assert_eq!(answered(&mut node, at(1)), 100);
    assert_eq!(answered(&mut node, SocketAddr::new(at(1).ip(), 1)), 0, "another port is no other source");
    assert_eq!(answered(&mut node, at(2)), 100);
    node.advance(Duration::from_secs(1));
    assert_eq!(answered(&mut node, at(1)), 20);
}

#[test]
fn a_source_writes_so_often() {
    let mut node = node();
    let token = response(&mut node, at(1), get_peers(key(1))).token.unwrap();
    let mut kept = 0;
    for n in 0..80 {
        node.advance(Duration::from_millis(50));
        kept += usize::from(matches!(
            asked(&mut node, at(1), announce(key(n), token.clone())),
            Some(KrpcBody::Response(_))
        ));
    }
    // 64 at once, and one after two seconds; the next would be after four, and it took 3.95.
    assert_eq!(kept, 65);
}

/// The longest answer that there is, asked for in the name of somebody who never asked.
#[test]
fn nobody_can_be_flooded_by_way_of_this_node() {
    let mut node = node();
    let value: Bytes = bencode::bytes([7; 990]).into();
    let token = response(&mut node, at(1), get(target_of(&value))).token.unwrap();
    response(&mut node, at(1), Query::Put { token, item: Box::new(PutItem::Immutable(value.clone())) });
    let question = query_as(9, true, get(target_of(&value)));
    let (mut sent, mut received, mut whole) = (0, 0, 0);
    for _ in 0..2000 {
        node.sent();
        node.advance(Duration::from_millis(100));
        node.message(at(2), question.clone());
        sent += question.wire_len();
        for (to, msg) in node.sent().into_iter().filter(|(to, _)| *to == at(2)) {
            assert_eq!(to, at(2));
            received += msg.wire_len();
            whole +=
                usize::from(matches!(&msg.body, KrpcBody::Response(response) if response.value.is_some()));
        }
    }
    assert!(received <= 3 * sent + 4096 + 200 * 32, "{received} bytes for {sent}");
    assert!((4..15).contains(&whole), "{whole} in full: a stranger's lookup is served");
}

#[test]
fn who_has_answered_is_answered_in_full() {
    let mut node = node();
    node.message(at(2), query_as(9, false, Query::Ping));
    answer_all(&mut node, |_, _| Some(Response::new(key(9))));
    let value: Bytes = bencode::bytes([7; 990]).into();
    let token = response(&mut node, at(1), get(target_of(&value))).token.unwrap();
    response(&mut node, at(1), Query::Put { token, item: Box::new(PutItem::Immutable(value.clone())) });
    let whole = (0..50).filter(|_| response(&mut node, at(2), get(target_of(&value))).value.is_some());
    assert_eq!(whole.count(), 50);
}

#[test]
fn who_asks_is_known_only_when_it_has_answered_and_a_read_only_node_never() {
    let mut node = node();
    node.message(at(1), query_as(1, false, Query::Ping));
    node.message(at(2), query_as(2, true, Query::Ping));
    let pinged: Vec<SocketAddr> = { node.sent().into_iter() }
        .filter(|(_, msg)| matches!(msg.body, KrpcBody::Query { query: Query::Ping, .. }))
        .map(|(to, _)| to)
        .collect();
    assert_eq!((pinged, node.machine().known(false)), (vec![at(1)], 0));
    node.advance(Duration::from_secs(10));
    node.message(at(1), query_as(1, false, Query::Ping));
    answer_all(&mut node, |_, _| Some(Response::new(key(1))));
    assert_eq!(node.machine().known(false), 1);
}

#[test]
fn a_read_only_node_answers_nobody_and_says_that_it_is_one() {
    let config = MainlineConfig { read_only: true, bootstrap: vec![at(1)], ..MainlineConfig::default() };
    let mut node = Script::new(Mainline::new(config));
    let all_say_so = { node.sent().into_iter() }
        .all(|(_, msg)| matches!(msg.body, KrpcBody::Query { read_only: true, .. }));
    assert!(all_say_so);
    assert_eq!(asked(&mut node, at(1), Query::Ping), None);
}
