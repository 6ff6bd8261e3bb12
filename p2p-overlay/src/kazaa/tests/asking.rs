//! Questions, answers, and false ones.

use super::*;

// ---- questions

#[test]
fn a_question_is_answered_from_the_index_first_and_passed_on_if_that_is_not_enough() {
    let mut node = hub(2, 3);
    share(&mut node, 2, &["one song", "two songs: a song"]);
    node.message(SimPeer(1), ask(1, "song", 1, 1));
    let sent = node.sent();
    assert!(
        matches!(&sent[..], [(SimPeer(1), KazaaMsg::Results { hits, .. })] if hits.len() == 1),
        "{sent:?}"
    );
    node.message(SimPeer(1), ask(2, "song", 5, 1));
    let asked: Vec<u32> =
        node.sent().iter().filter(|(_, msg)| *msg == query(2, 0, "song", 0)).map(|(to, _)| to.0).collect();
    assert_eq!(asked, [101, 102, 103]);
    node.message(SimPeer(1), ask(3, "song", 5, 0));
    assert!(!node.sent().iter().any(|(_, msg)| matches!(msg, KazaaMsg::Query { .. })), "no further");
}

#[test]
fn what_neighbours_answer_goes_to_the_asker_until_it_is_enough() {
    let mut node = hub(2, 3);
    node.message(SimPeer(1), ask(1, "song", 3, 1));
    node.sent();
    node.message(SimPeer(101), results(1, 101, &["song 1", "song 2"]));
    node.message(SimPeer(9), results(1, 9, &["song 3"]));
    node.message(SimPeer(102), results(7, 102, &["song 4"]));
    node.message(SimPeer(102), results(1, 102, &["song 5", "song 6"]));
    node.message(SimPeer(103), results(1, 103, &["song 7"]));
    assert_eq!(given(&mut node), [(1, names(&["song 1", "song 2"])), (1, names(&["song 5"]))]);
    assert_eq!(node.machine().tally().dropped, 2, "a stranger's, and what nobody has asked for");
}

/// Neighbours are exchanged: what one has answered that was asked and has left meanwhile would never come again.
#[test]
fn who_was_asked_may_answer_when_it_is_no_neighbour_any_more() {
    let mut node = hub(1, 2);
    node.message(SimPeer(1), ask(1, "song", 9, 1));
    node.message(SimPeer(101), KazaaMsg::Bye { known: Vec::new() });
    node.sent();
    node.message(SimPeer(101), results(1, 101, &["song 1"]));
    assert_eq!(given(&mut node), [(1, names(&["song 1"]))]);
    node.message(SimPeer(101), results(1, 101, &["buy this"]));
    node.message(SimPeer(101), results(1, 101, &["song 2"]));
    assert_eq!((given(&mut node), node.machine().tally().banned), (vec![], 1), "but nobody who is banned");
}

#[test]
fn a_question_goes_as_far_as_it_says_and_is_answered_once() {
    let mut node = hub(1, 3);
    share(&mut node, 1, &["song"]);
    node.message(SimPeer(101), query(1, 101, "song", 1));
    let sent = node.sent();
    let passed: Vec<u32> =
        sent.iter().filter(|(_, msg)| *msg == query(1, 101, "song", 0)).map(|(to, _)| to.0).collect();
    assert_eq!(passed, [102, 103]);
    assert!(matches!(&sent[0], (SimPeer(101), KazaaMsg::Results { id: 1, .. })), "straight to whoever asks");
    node.message(SimPeer(102), query(1, 101, "song", 0));
    assert_eq!((node.sent(), node.machine().tally().duplicates), (vec![], 1));
    node.message(SimPeer(102), query(1, 101, "song", 2));
    let passed = node.sent();
    assert_eq!(passed.len(), 2, "further than before, and answered no second time: {passed:?}");
    node.message(SimPeer(102), query(2, 102, "song", u8::MAX));
    assert!(node.sent().iter().any(|(_, msg)| *msg == query(2, 102, "song", 2)), "no further than anybody's");
}

#[test]
fn who_asks_through_others_is_offered_hits_and_gets_them_if_it_has_asked() {
    let mut node = hub(1, 2);
    share(&mut node, 1, &["song"]);
    node.message(SimPeer(101), query(1, 200, "song", 0));
    assert_eq!(node.sent(), [(SimPeer(200), KazaaMsg::Offer { id: 1, hits: 1 })]);
    node.message(SimPeer(201), query(1, 201, "song", 0));
    assert_eq!(node.sent(), [], "it was not offered any");
    node.message(SimPeer(200), query(1, 200, "song", 0));
    assert_eq!(given(&mut node), [(200, names(&["song"]))]);
    node.message(SimPeer(200), query(1, 200, "song", 0));
    assert_eq!(node.sent(), [], "once");

    // The other side.
    let mut node = hub(1, 2);
    node.message(SimPeer(1), ask(1, "song", 3, 2));
    node.sent();
    node.message(SimPeer(200), KazaaMsg::Offer { id: 7, hits: 3 });
    node.message(SimPeer(200), KazaaMsg::Offer { id: 1, hits: 3 });
    assert_eq!(node.sent(), [(SimPeer(200), query(1, 0, "song", 0))], "only what was asked for");
    node.message(SimPeer(200), results(1, 200, &["song"]));
    assert_eq!(given(&mut node), [(1, names(&["song"]))]);
}

#[test]
fn an_ordinary_node_answers_nobody_and_passes_nothing_on() {
    let mut node = ordinary();
    node.message(SimPeer(101), query(1, 101, "song", 3));
    node.message(SimPeer(7), query(2, 7, "song", 3));
    assert_eq!(node.sent(), []);
    node.message(SimPeer(7), ask(3, "song", 3, 3));
    assert!(matches!(node.sent()[..], [(SimPeer(7), KazaaMsg::Refuse { .. })]));
}

#[test]
fn a_flood_of_questions_leaves_ordinary_nodes_their_share() {
    let mut node = hub(1, 40);
    share(&mut node, 1, &["song"]);
    let mut answered = 0;
    for i in 0..10_000u64 {
        node.message(SimPeer(101 + (i % 40) as u32), query(i, 101 + (i % 40) as u32, "song", 0));
        answered += given(&mut node).len();
    }
    assert_eq!(answered, 400, "what all super-nodes together may ask at once");
    node.message(SimPeer(1), ask(1_000_000, "nothing", 1, 0));
    assert_eq!(given(&mut node), [(1, vec![])]);
}

#[test]
fn who_goes_and_comes_again_has_what_it_had_left() {
    let mut node = hub(1, 0);
    share(&mut node, 1, &["song"]);
    let comes = KazaaMsg::Join { as_super: false, listen: None, digest: None };
    let mut answered = |again: &[KazaaMsg], id: u64| {
        again.iter().for_each(|msg| node.message(SimPeer(1), msg.clone()));
        (id..id + 40).for_each(|id| node.message(SimPeer(1), ask(id, "song", 1, 0)));
        given(&mut node).len()
    };
    assert_eq!(answered(&[], 0), 20, "as many at once");
    assert_eq!(answered(std::slice::from_ref(&comes), 100), 0);
    assert_eq!(answered(&[KazaaMsg::Bye { known: Vec::new() }, comes], 200), 0);
}

#[test]
fn no_source_fills_an_answer_alone() {
    let mut node = hub(3, 1);
    let many: Vec<String> = (0..100).map(|i| format!("song {i}")).collect();
    for some in many.chunks(BATCH) {
        share(&mut node, 1, &some.iter().map(String::as_str).collect::<Vec<_>>());
    }
    share(&mut node, 2, &["another song"]);
    node.message(SimPeer(3), ask(1, "song", 200, 0));
    let all: Vec<String> = given(&mut node).into_iter().flat_map(|(_, names)| names).collect();
    assert_eq!((all.len(), all.last().map(String::as_str)), (33, Some("another song")));
}

const BATCH: usize = super::msg::BATCH;

// ---- searches of users

#[test]
fn a_search_that_finds_too_little_goes_to_other_super_nodes() {
    let mut node = ordinary();
    node.message(
        SimPeer(101),
        KazaaMsg::Welcome { room: room(), entrusted: false, known: vec![known(102), known(103)] },
    );
    let op = node.command(search("tune", 3, Reach::Auto));
    let first = asked(&mut node);
    let id = first[0].1;
    assert_eq!(first, [(101, id)]);
    node.message(SimPeer(101), results(id, 101, &["tune 1", "tune 1"]));
    let mut others = Vec::new();
    for _ in 0..2 {
        node.advance(Duration::from_secs(3));
        others.extend(asked(&mut node));
    }
    others.sort_unstable();
    assert_eq!(others, [(102, id), (103, id)]);
    node.message(SimPeer(102), results(id, 102, &["tune 2"]));
    node.message(SimPeer(104), results(id, 104, &["tune 3"]));
    node.advance(Duration::from_secs(3));
    let outcomes = node.outcomes();
    let [(ended, SearchOutcome::Searched(Ok(searched)))] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!((*ended, searched.end, searched.cost.peers), (op, End::Exhausted, 3));
    assert_eq!(
        (node.items().len(), searched.cost.messages),
        (2, 5),
        "each once, and from nobody who was not asked"
    );
}

/// A user who looks for the next thing at once gets as far as with the first.
#[test]
fn whom_one_search_has_asked_the_next_one_asks_too() {
    let mut node = ordinary();
    node.message(SimPeer(101), KazaaMsg::Welcome { room: room(), entrusted: false, known: vec![known(102)] });
    for words in ["tune", "song"] {
        node.command(search(words, 1, Reach::Auto));
        node.advance(Duration::from_secs(3));
        let asked: Vec<u32> = asked(&mut node).into_iter().map(|(to, _)| to).collect();
        assert_eq!(asked, [101, 102]);
    }
}

/// One has become a neighbour since, another has left, perhaps before the question came to it.
#[test]
fn a_search_asks_neighbours_that_were_none_and_those_that_have_left() {
    let mut node = hub(0, 3);
    node.command(search("tune", 1, Reach::Auto));
    let first: Vec<SimPeer> = node.sent().into_iter().map(|(to, _)| to).collect();
    assert_eq!(first, [101, 102, 103].map(SimPeer));
    node.message(SimPeer(104), KazaaMsg::Join { as_super: true, listen: Some(place(104)), digest: None });
    node.message(SimPeer(101), KazaaMsg::Bye { known: Vec::new() });
    let mut others = Vec::new();
    for _ in 0..3 {
        node.advance(Duration::from_secs(3));
        others.extend(asked(&mut node).into_iter().map(|(to, _)| to));
    }
    others.sort_unstable();
    assert_eq!((others, node.outcomes().len()), (vec![101, 104], 1));
}

#[test]
fn who_is_no_super_node_any_more_is_passed_over_at_once() {
    let mut node = ordinary();
    node.message(
        SimPeer(101),
        KazaaMsg::Welcome { room: room(), entrusted: false, known: vec![known(102), known(103)] },
    );
    node.command(search("tune", 3, Reach::Auto));
    node.advance(Duration::from_secs(3));
    let (second, _) = asked(&mut node)[1];
    node.message(SimPeer(second), KazaaMsg::Refuse { known: Vec::new() });
    assert_eq!(asked(&mut node).len(), 1);
}

#[test]
fn a_search_with_a_radius_asks_nobody_else() {
    let mut node = ordinary();
    node.message(SimPeer(101), KazaaMsg::Welcome { room: room(), entrusted: false, known: vec![known(102)] });
    node.command(search("tune", 3, Reach::Ttl(2)));
    assert_eq!(asked(&mut node).len(), 1);
    node.advance(Duration::from_secs(19));
    assert_eq!(asked(&mut node), []);
    node.advance(Duration::from_secs(1));
    let outcomes = node.outcomes();
    assert!(
        matches!(&outcomes[..], [(_, SearchOutcome::Searched(Ok(searched)))] if searched.end == End::Deadline)
    );
}

#[test]
fn what_cannot_be_searched_is_refused_with_a_reason() {
    let mut node = ordinary();
    node.command(search("song", 1, Reach::Walk { walkers: 1, check_every: 1, steps: 1 }));
    node.command(search("!", 1, Reach::Auto));
    let mut alone = Script::new(Kazaa::<SimPeer>::new(None, [], Role::Leaf, KazaaConfig::default()));
    alone.command(search("song", 1, Reach::Auto));
    let errors = node.outcomes().into_iter().chain(alone.outcomes()).map(|(_, outcome)| match outcome {
        SearchOutcome::Searched(Err(error)) => error,
        other => panic!("{other:?}"),
    });
    let wanted = [SearchError::Unsupported, SearchError::BadQuery, SearchError::NotConnected];
    assert_eq!(errors.collect::<Vec<_>>(), wanted);
}

// ---- false answers

#[test]
fn who_has_what_cannot_be_there_is_banned() {
    let mut node = hub(1, 1);
    let decoy = |node: &mut Node| loop {
        node.message(SimPeer(101), KazaaMsg::Probe { nonce: 1 });
        node.advance(Duration::from_secs(10));
        let decoy = node.sent().into_iter().find_map(|(_, msg)| match msg {
            KazaaMsg::Query { id, ttl: 0, .. } => Some(id),
            _ => None,
        });
        if let Some(id) = decoy {
            return id;
        }
    };
    let id = decoy(&mut node);
    node.message(SimPeer(101), results(id, 101, &[]));
    assert_eq!(node.machine().super_nodes().count(), 1, "nothing is an honest answer");
    let id = decoy(&mut node);
    node.message(SimPeer(101), results(id, 101, &["whatever you want"]));
    assert_eq!((node.machine().super_nodes().count(), node.machine().tally().banned), (0, 1));
    node.sent();
    node.message(SimPeer(101), KazaaMsg::Join { as_super: true, listen: Some(place(101)), digest: None });
    assert!(matches!(node.sent()[..], [(SimPeer(101), KazaaMsg::Refuse { .. })]));
}

#[test]
fn who_gives_what_does_not_match_is_banned_and_the_rest_of_it_kept() {
    let mut node = hub(1, 2);
    node.message(SimPeer(1), ask(1, "song", 9, 1));
    node.sent();
    node.message(SimPeer(101), results(1, 101, &["song", "buy this"]));
    assert_eq!(given(&mut node), [(1, names(&["song"]))]);
    assert_eq!(node.machine().super_nodes().collect::<Vec<_>>(), [SimPeer(102)]);
}
