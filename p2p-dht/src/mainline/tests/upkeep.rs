//! How a node goes on: outages, liars, and what it has published.

use super::*;

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
