//! What a node asks, and whom it believes.

use super::*;

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
fn who_announces_hears_who_else_is_there_but_not_of_hosts_that_strangers_cannot_know() {
    let mut node = node();
    let nodes = crowd(&mut node);
    answer_all(&mut node, |to, _| Some(named(&nodes, to)));
    let peers = ["198.51.100.7:6881", "127.0.0.1:80", "192.168.0.1:80", "0.0.0.0:80", "198.51.100.7:0"];
    let values: Vec<SocketAddr> = peers.iter().map(|addr| addr.parse().unwrap()).collect();
    let op = node.command(MainlineCommand::Announce { info_hash: key(5), port: Some(51_413) });
    let questions =
        answer_all(&mut node, |to, _| Some(Response { values: values.clone(), ..named(&nodes, to) }));
    assert!(questions.iter().any(|(_, query)| matches!(query, Query::AnnouncePeer { .. })));
    assert_eq!(node.items(), [(op, MainlineItem::Peer(values[0]))], "once, though all name it");
    assert!(matches!(node.outcomes().pop(), Some((ended, MainlineOutcome::Stored(Ok(_)))) if ended == op));
}

/// In a network of two each keeps what the other publishes.
#[test]
fn what_a_node_keeps_itself_it_finds_too() {
    let mut node = node();
    let friend = at(1);
    let token = response(&mut node, friend, get_peers(key(1))).token.unwrap();
    response(&mut node, friend, announce(key(1), token.clone()));
    let value: Bytes = bencode::bytes("Hello World!").into();
    for item in [PutItem::Immutable(value.clone()), PutItem::Mutable { item: item(3, "three"), cas: None }] {
        response(&mut node, friend, Query::Put { token: token.clone(), item: Box::new(item) });
    }
    let ask = |node: &mut Node0, command| {
        let op = node.command(command);
        let knows_nothing = |_, _: &Query| Some(Response::new(key(9)));
        answer_all(node, knows_nothing);
        node.outcomes().into_iter().find(|(of, _)| *of == op).unwrap().1
    };
    let there = SocketAddr::new(friend.ip(), 51_413);
    let found = ask(&mut node, MainlineCommand::GetPeers { info_hash: key(1) });
    assert!(matches!(found, MainlineOutcome::Peers(Ok(found)) if found == [there]));
    assert!(node.items().iter().any(|(_, item)| *item == MainlineItem::Peer(there)));
    let found = ask(&mut node, MainlineCommand::GetImmutable { target: target_of(&value) });
    assert!(matches!(found, MainlineOutcome::Immutable(Ok(found)) if found == value));
    let (publisher, salt) = (item(3, "three").publisher(), Bytes::from_static(b"salt"));
    let found = ask(&mut node, MainlineCommand::GetMutable { publisher, salt });
    assert!(matches!(found, MainlineOutcome::Mutable(Ok(found)) if found.sequence() == 3));
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
