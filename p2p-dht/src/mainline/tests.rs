//! One node by hand: what it answers, keeps, refuses, and whom it asks.

use bytes::Bytes;
use p2p_core::{Keypair, Script, Wire};

use super::*;
use crate::bencode;

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

#[test]
fn an_answer_counts_from_who_was_asked_and_once() {
    let config = MainlineConfig { bootstrap: vec![at(1)], ..MainlineConfig::default() };
    let mut node = Script::new(Mainline::new(config));
    let [(to, question)] = node.sent().try_into().unwrap();
    assert_eq!(to, at(1));
    let answer = |transaction: &[u8]| KrpcMsg {
        transaction: Bytes::copy_from_slice(transaction),
        ..msg(KrpcBody::Response(Box::new(Response::new(key(5)))))
    };
    node.message(at(2), answer(&question.transaction));
    node.message(at(1), answer(b"guess"));
    node.message(at(1), answer(&[0; 4]));
    assert_eq!(node.machine().known(false), 0);
    node.message(at(1), answer(&question.transaction));
    assert_eq!(node.machine().known(false), 1);
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

#[test]
fn a_put_goes_to_the_nodes_nearest_to_its_target_that_answer() {
    let mut node = node();
    let nodes = crowd(&mut node);
    answer_all(&mut node, |to, _| Some(named(&nodes, to)));
    let value: Bytes = bencode::bytes("a value").into();
    let target = target_of(&value);
    let mut nearest = nodes.clone();
    nearest.sort_by_key(|node| node.id.xor(&target));
    let dead = nearest[2].addr;
    let op = node.command(MainlineCommand::Put { item: PutItem::Immutable(value) });
    let answer = |to, _: &Query| (to != dead).then(|| named(&nodes, to));
    let mut questions = answer_all(&mut node, answer);
    node.advance(Duration::from_secs(5));
    questions.extend(answer_all(&mut node, answer));
    let written: Vec<SocketAddr> = { questions.into_iter() }
        .filter(|(_, query)| matches!(query, Query::Put { .. }))
        .map(|(to, _)| to)
        .collect();
    let eight = nearest.iter().filter(|node| node.addr != dead).take(8);
    assert!(eight.clone().all(|node| written.contains(&node.addr)), "{written:?}");
    assert!(!written.contains(&dead));
    let (ended, outcome) = node.outcomes().pop().unwrap();
    let MainlineOutcome::Stored(Ok(stored)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((ended, stored.target, stored.nodes), (op, target, written.len()));
}

#[test]
fn a_comparison_is_asked_of_those_who_have_something_to_compare() {
    let mut node = node();
    let nodes = crowd(&mut node);
    answer_all(&mut node, |to, _| Some(named(&nodes, to)));
    let old = item(3, "three");
    let has = |to: SocketAddr| to.ip().to_string().len().is_multiple_of(2);
    let answer = |to, _: &Query| {
        let response = named(&nodes, to);
        Some(match has(to) {
            false => response,
            true => Response {
                value: Some(old.encoded().clone()),
                sequence: Some(3),
                publisher: Some(*old.publisher().as_bytes()),
                signature: Some(*old.signature()),
                ..response
            },
        })
    };
    node.command(MainlineCommand::Put { item: PutItem::Mutable { item: item(4, "four"), cas: Some(3) } });
    let compared: Vec<(SocketAddr, Option<i64>)> = { answer_all(&mut node, answer).into_iter() }
        .filter_map(|(to, query)| match query {
            Query::Put { item, .. } => match *item {
                PutItem::Mutable { cas, .. } => Some((to, cas)),
                PutItem::Immutable(_) => None,
            },
            _ => None,
        })
        .collect();
    assert!(
        compared.len() >= 8 && compared.iter().all(|(to, cas)| *cas == has(*to).then_some(3)),
        "{compared:?}"
    );
    assert!(matches!(node.outcomes().pop().unwrap().1, MainlineOutcome::Stored(Ok(_))));
    // Another number is there: nothing is written.
    node.command(MainlineCommand::Put { item: PutItem::Mutable { item: item(4, "four"), cas: Some(2) } });
    let questions = answer_all(&mut node, answer);
    assert!(!questions.iter().any(|(_, query)| matches!(query, Query::Put { .. })));
    let (_, outcome) = node.outcomes().pop().unwrap();
    let conflict = MainlineError::Conflict { sequence: Some(3), nodes: 0 };
    assert!(matches!(&outcome, MainlineOutcome::Stored(Err(error)) if *error == conflict), "{outcome:?}");
}

#[test]
fn forged_and_old_items_are_not_believed() {
    let mut node = node();
    let nodes = crowd(&mut node);
    answer_all(&mut node, |to, _| Some(named(&nodes, to)));
    let (old, new) = (item(3, "three"), item(4, "four"));
    let target = new.target();
    let op = node.command(MainlineCommand::GetMutable { publisher: new.publisher(), salt: "salt".into() });
    answer_all(&mut node, |to, _| {
        // One in three has the newest, one an old one, and one a number that nobody has signed.
        let (sequence, item) = match to.ip().to_string().as_bytes()[5] % 3 {
            0 => (4, &new),
            1 => (3, &old),
            _ => (5, &new),
        };
        Some(Response {
            value: Some(item.encoded().clone()),
            sequence: Some(sequence),
            publisher: Some(*item.publisher().as_bytes()),
            signature: Some(*item.signature()),
            ..named(&nodes, to)
        })
    });
    let (ended, outcome) = node.outcomes().pop().unwrap();
    let MainlineOutcome::Mutable(Ok(found)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((ended, found.target()), (op, target));
    assert_eq!(found, new);
}

#[test]
fn what_is_announced_is_announced_again_until_it_is_taken_back() {
    let mut node = node();
    let nodes = crowd(&mut node);
    answer_all(&mut node, |to, _| Some(named(&nodes, to)));
    let announced = |node: &mut Node0, minutes: u64| {
        let mut announced = 0;
        for _ in 0..60 * minutes {
            node.advance(Duration::from_secs(1));
            let questions = answer_all(node, |to, _| Some(named(&nodes, to)));
            announced +=
                usize::from(questions.iter().any(|(_, query)| matches!(query, Query::AnnouncePeer { .. })));
        }
        announced
    };
    node.command(MainlineCommand::Announce { info_hash: key(1), port: Some(1) });
    assert!((2..=4).contains(&announced(&mut node, 45)));
    node.command(MainlineCommand::Unpublish { target: key(1) });
    assert_eq!(announced(&mut node, 45), 0);
}

#[test]
fn a_node_takes_an_id_that_its_address_allows_when_enough_others_agree_on_that() {
    let mut node = node();
    let nodes = crowd(&mut node);
    let here: SocketAddr = "198.51.100.7:6881".parse().unwrap();
    let before = node.machine().id(false).unwrap();
    for (to, sent) in node.sent() {
        if matches!(sent.body, KrpcBody::Query { .. }) {
            let body = KrpcBody::Response(Box::new(named(&nodes, to)));
            node.message(to, KrpcMsg { body, transaction: sent.transaction, version: None, ip: Some(here) });
        }
    }
    let id = node.machine().id(false).unwrap();
    assert!(id != before && is_secure_id(&id, here.ip()));
    assert_eq!(node.events().last(), Some(&MainlineEvent::Address { ip: here.ip(), id }));
    assert!(node.machine().known(false) > 10, "whom it knew it still knows");
}

#[test]
fn a_node_in_both_networks_names_nodes_of_both_to_whoever_wants_them() {
    let config = MainlineConfig { ipv6: true, ..MainlineConfig::default() };
    let mut node = Script::new(Mainline::<SocketAddr>::new(config));
    // An IPv6 socket's name for an IPv4 host.
    let v4: SocketAddr = "[::ffff:203.1.113.9]:6881".parse().unwrap();
    let v6: SocketAddr = "[2001:db8::9]:6881".parse().unwrap();
    for (n, addr) in [(1, v4), (2, v6)] {
        node.message(addr, query_as(n, false, Query::Ping));
        answer_all(&mut node, |to, _| Some(Response::new(key(if to == v4 { 1 } else { 2 }))));
    }
    assert_eq!((node.machine().known(false), node.machine().known(true)), (1, 1));
    let find = |want| Query::FindNode { target: key(1), want };
    let node_4 = Node { id: key(1), addr: "203.1.113.9:6881".parse().unwrap() };
    let node_6 = Node { id: key(2), addr: v6 };
    let plain = response(&mut node, v6, find(None));
    assert_eq!((plain.nodes, plain.nodes6), (None, Some(vec![node_6])));
    let both = response(&mut node, v4, find(Some(Want { n4: true, n6: true })));
    assert_eq!((both.nodes, both.nodes6), (Some(vec![node_4]), Some(vec![node_6])));
}

#[test]
fn saved_nodes_are_asked_before_they_are_believed() {
    let mut node = node();
    let nodes = crowd(&mut node);
    answer_all(&mut node, |to, _| Some(named(&nodes, to)));
    node.command(MainlineCommand::Save);
    let Some((_, MainlineOutcome::Saved(saved))) = node.outcomes().pop() else { panic!() };
    let id = saved.ids[0];
    let config = MainlineConfig { saved: Some(saved), ..MainlineConfig::default() };
    let mut again = Script::new(Mainline::new(config));
    assert_eq!((again.machine().id(false), again.machine().known(false)), (id, 0));
    // Half of them are gone.
    answer_all(&mut again, |to, _| (to.ip().to_string().len().is_multiple_of(2)).then(|| named(&nodes, to)));
    again.advance(Duration::from_secs(30));
    answer_all(&mut again, |to, _| (to.ip().to_string().len().is_multiple_of(2)).then(|| named(&nodes, to)));
    let known = again.machine().known(false);
    assert!((3..nodes.len()).contains(&known), "{known}");
}

/// Lets time pass; all questions go to `answer`, which may leave some unanswered. Gives the questions.
fn pass(
    node: &mut Node0,
    seconds: u64,
    answer: impl Fn(SocketAddr, &Query) -> Option<KrpcBody>,
) -> Vec<(SocketAddr, Query)> {
    let mut questions = Vec::new();
    for _ in 0..=seconds {
        loop {
            let sent = node.sent();
            if sent.is_empty() {
                break;
            }
            for (to, sent) in sent {
                let KrpcBody::Query { query, .. } = sent.body else { continue };
                if let Some(body) = answer(to, &query) {
                    let transaction = sent.transaction;
                    node.message(to, KrpcMsg { body, transaction, version: None, ip: None });
                }
                questions.push((to, query));
            }
        }
        node.advance(Duration::from_secs(1));
    }
    questions
}

fn as_named(nodes: &[Node]) -> impl Fn(SocketAddr, &Query) -> Option<KrpcBody> {
    |to, _| Some(KrpcBody::Response(Box::new(named(nodes, to))))
}

/// What a lookup finds within a minute.
fn looked_up(
    node: &mut Node0,
    target: Key<20>,
    answer: impl Fn(SocketAddr, &Query) -> Option<KrpcBody>,
) -> Result<Vec<Node>, MainlineError> {
    node.command(MainlineCommand::FindNode { target });
    pass(node, 60, answer);
    match node.outcomes().pop() {
        Some((_, MainlineOutcome::Nodes(found))) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_comes_back_after_an_outage_that_silenced_all_that_it_knew() {
    let mut node = node();
    let nodes = crowd(&mut node);
    pass(&mut node, 10, as_named(&nodes));
    assert!(looked_up(&mut node, key(3), as_named(&nodes)).is_ok());
    pass(&mut node, 2 * 3600, |_, _| None);
    assert_eq!(looked_up(&mut node, key(3), |_, _| None), Err(MainlineError::NotJoined));
    node.command(MainlineCommand::Save);
    let Some((_, MainlineOutcome::Saved(saved))) = node.outcomes().pop() else { panic!() };
    assert!(saved.nodes.len() > 10, "and whoever starts anew meanwhile has somebody to ask");
    // The network is there again, and does not come by itself.
    pass(&mut node, 120, as_named(&nodes));
    let found = looked_up(&mut node, key(3), as_named(&nodes)).unwrap();
    assert!(found.len() >= 8, "{found:?}");
}

#[test]
fn a_bad_node_that_asks_is_asked_whether_it_is_back() {
    let mut node = node();
    // Enough that lookups do not ask the lost ones, and few enough that nobody waits for a place.
    let nodes = &crowd(&mut node)[..12];
    let answer = |to: SocketAddr| {
        let is_there = nodes.iter().any(|node| node.addr == to);
        is_there.then(|| KrpcBody::Response(Box::new(named(nodes, to))))
    };
    pass(&mut node, 10, |to, _| answer(to));
    let back = nodes[4];
    pass(&mut node, 2 * 3600, |to, _| if to == back.addr { None } else { answer(to) });
    let lost = node.machine().side(false).unwrap().table.lost(&back.id, 1);
    assert!(lost[0].addr == back.addr);
    node.message(back.addr, msg(KrpcBody::Query { id: back.id, read_only: false, query: Query::Ping }));
    let pinged = { node.sent().into_iter() }
        .any(|(to, msg)| to == back.addr && matches!(msg.body, KrpcBody::Query { query: Query::Ping, .. }));
    assert!(pinged);
}

#[test]
fn everything_published_is_announced_again_in_its_time() {
    const TORRENTS: u16 = 300;
    let mut node = node();
    let nodes = crowd(&mut node);
    pass(&mut node, 10, as_named(&nodes));
    let torrent = |n: u16| {
        let mut key = [0; 20];
        key[..2].copy_from_slice(&(n * 200).to_be_bytes());
        Key::new(key)
    };
    for n in 0..TORRENTS {
        node.command(MainlineCommand::Announce { info_hash: torrent(n), port: Some(1) });
        pass(&mut node, 0, as_named(&nodes));
    }
    // They were announced within five minutes; each is due in fifteen, and again fifteen later, with some delay each time.
    let mut again = BTreeMap::<Key<20>, std::collections::BTreeSet<u64>>::new();
    for minute in 0..50 {
        for (_, query) in pass(&mut node, 59, as_named(&nodes)) {
            if let Query::AnnouncePeer { info_hash, .. } = query {
                again.entry(info_hash).or_default().insert(minute);
            }
        }
    }
    let often = { 0..TORRENTS }.filter(|n| again.get(&torrent(*n)).is_some_and(|at| at.len() >= 2)).count();
    assert_eq!(often, usize::from(TORRENTS));
}

#[test]
fn two_liars_do_not_push_the_honest_nodes_out_of_a_lookup() {
    let mut node = node();
    let nodes = crowd(&mut node);
    pass(&mut node, 10, as_named(&nodes));
    let target = key(0x5a);
    node.command(MainlineCommand::Save);
    let Some((_, MainlineOutcome::Saved(saved))) = node.outcomes().pop() else { panic!() };
    let mut nearest = saved.nodes;
    nearest.sort_by_key(|node| node.id.xor(&target));
    let liars = [nearest[0].addr, nearest[1].addr];
    let lie = |to: SocketAddr, n: u8| {
        let mut id = *target.as_bytes();
        (id[18], id[19]) = (to.ip().to_string().len() as u8, n);
        Node {
            id: Key::new(id),
            addr: SocketAddr::from(([11, to.port() as u8, n, liars[0].eq(&to).into()], 1)),
        }
    };
    let answer = |to: SocketAddr, _: &Query| match liars.contains(&to) {
        true => {
            let lies = (0..128).map(|n| lie(to, n)).collect();
            let honest = named(&nodes, to);
            Some(KrpcBody::Response(Box::new(Response { nodes: Some(lies), ..honest })))
        }
        false if nodes.iter().any(|node| node.addr == to) => {
            Some(KrpcBody::Response(Box::new(Response { nodes: None, ..named(&nodes, to) })))
        }
        false => None,
    };
    // The liars answer first.
    let found = looked_up(&mut node, target, answer).unwrap();
    let honest = found.iter().filter(|found| nodes.contains(found) && !liars.contains(&found.addr));
    assert!(honest.count() >= 6, "{found:?}");
}

/// An answer to a lookup with this item in it.
fn holding(nodes: &[Node], to: SocketAddr, item: &MutableItem) -> Response {
    Response {
        value: Some(item.encoded().clone()),
        sequence: Some(item.sequence()),
        publisher: Some(*item.publisher().as_bytes()),
        signature: Some(*item.signature()),
        ..named(nodes, to)
    }
}

fn puts(questions: &[(SocketAddr, Query)]) -> Vec<i64> {
    let item = |query: &Query| match query {
        Query::Put { item, .. } => match &**item {
            PutItem::Mutable { item, .. } => Some(item.sequence()),
            PutItem::Immutable(_) => None,
        },
        _ => None,
    };
    let mut puts: Vec<i64> = questions.iter().filter_map(|(_, query)| item(query)).collect();
    puts.dedup();
    puts
}

#[test]
fn what_others_refused_to_exchange_is_not_put_again() {
    let mut node = node();
    let nodes = crowd(&mut node);
    pass(&mut node, 10, as_named(&nodes));
    let old = item(2, "two");
    // Somebody else's is there between the question and the write.
    let refuse = |to: SocketAddr, query: &Query| match query {
        Query::Put { .. } => Some(KrpcBody::Error { code: 301, text: "another is there".to_owned() }),
        _ => Some(KrpcBody::Response(Box::new(holding(&nodes, to, &old)))),
    };
    node.command(MainlineCommand::Put { item: PutItem::Mutable { item: item(4, "four"), cas: Some(2) } });
    assert_eq!(puts(&pass(&mut node, 10, refuse)), [4]);
    let (_, outcome) = node.outcomes().pop().unwrap();
    assert!(matches!(outcome, MainlineOutcome::Stored(Err(MainlineError::Conflict { .. }))), "{outcome:?}");
    let accept = |to: SocketAddr, _: &Query| {
        Some(KrpcBody::Response(Box::new(holding(&nodes, to, &item(3, "theirs")))))
    };
    assert_eq!(puts(&pass(&mut node, 2 * 3600, accept)), []);
    // One that was exchanged is published.
    node.command(MainlineCommand::Put { item: PutItem::Mutable { item: item(4, "four"), cas: Some(3) } });
    assert_eq!(puts(&pass(&mut node, 10, accept)), [4]);
    let accept =
        |to: SocketAddr, _: &Query| Some(KrpcBody::Response(Box::new(holding(&nodes, to, &item(4, "four")))));
    assert_eq!(puts(&pass(&mut node, 2 * 3600, accept)), [4]);
}

#[test]
fn a_late_exchange_takes_nothing_from_what_was_published_before() {
    for cas in [Some(1), None] {
        let mut node = node();
        let nodes = crowd(&mut node);
        pass(&mut node, 10, as_named(&nodes));
        let own = item(3, "three");
        node.command(MainlineCommand::Put { item: PutItem::Mutable { item: own.clone(), cas: None } });
        assert_eq!(puts(&pass(&mut node, 10, as_named(&nodes))), [3]);
        let there = |to: SocketAddr, _: &Query| Some(KrpcBody::Response(Box::new(holding(&nodes, to, &own))));
        // To be compared with what is no longer there, or older than it.
        let late = item(if cas.is_some() { 4 } else { 2 }, "late");
        node.command(MainlineCommand::Put { item: PutItem::Mutable { item: late, cas } });
        assert_eq!(puts(&pass(&mut node, 10, there)), []);
        let (_, outcome) = node.outcomes().pop().unwrap();
        let conflict = MainlineError::Conflict { sequence: Some(3), nodes: 0 };
        assert!(matches!(&outcome, MainlineOutcome::Stored(Err(error)) if *error == conflict), "{outcome:?}");
        assert_eq!(puts(&pass(&mut node, 2 * 3600, there)), [3]);
    }
}

/// The same random source in all of them, and so the same ids, which everybody sees.
#[test]
fn tokens_and_question_numbers_come_from_the_secret_alone() {
    let made = |secret: Option<u8>| {
        let secret = secret.map(|byte| Secret::new([byte; 32]));
        let config = MainlineConfig { secret, bootstrap: vec![at(1)], ..MainlineConfig::default() };
        let mut node = Script::new(Mainline::new(config));
        let [(_, question)] = node.sent().try_into().unwrap();
        let token = response(&mut node, at(2), get_peers(key(1))).token.unwrap();
        (node.machine().id(false), question.transaction, token)
    };
    let (none, one, two) = (made(None), made(Some(1)), made(Some(2)));
    assert_eq!((made(None), made(Some(1))), (none.clone(), one.clone()));
    assert!(none.0 == one.0 && one.0 == two.0);
    assert!(none.1 != one.1 && one.1 != two.1 && none.1 != two.1);
    assert!(none.2 != one.2 && one.2 != two.2 && none.2 != two.2);
}

#[test]
fn a_live_nodes_secret_is_its_own_and_is_not_printed() {
    assert_ne!(MainlineConfig::live().secret, MainlineConfig::live().secret);
    let config = MainlineConfig { secret: Some(Secret::new([251; 32])), ..MainlineConfig::default() };
    let printed = format!("{config:?} {config:#?}");
    assert!(
        printed.contains("Secret(..)") && !printed.contains("251") && !printed.contains("fb"),
        "{printed}"
    );
}

#[test]
fn what_a_busy_node_refuses_to_publish_is_not_published_later() {
    let mut node =
        Script::new(Mainline::<SocketAddr>::new(MainlineConfig { tasks: 0, ..MainlineConfig::default() }));
    node.command(MainlineCommand::Announce { info_hash: key(1), port: Some(1) });
    node.command(MainlineCommand::Put { item: PutItem::Mutable { item: item(1, "one"), cas: None } });
    for (_, outcome) in node.outcomes() {
        assert!(matches!(outcome, MainlineOutcome::Stored(Err(MainlineError::Busy))), "{outcome:?}");
    }
    node.command(MainlineCommand::Status);
    let Some((_, MainlineOutcome::Status(status))) = node.outcomes().pop() else { panic!() };
    assert_eq!(status.published, 0);
}
