use std::time::Duration;

use p2p_core::sim::{Network, Sim, run_seeds};
use p2p_core::{Contact, PeerId, Script, SimPeer, Wire};
use proptest::prelude::*;

use super::*;
use crate::search::{ContentHash, End, Fetch, Item, Query, Reach, Scope, Search, SearchError};

type Node = Script<Freenet<SimPeer>>;
type Msg = FreenetMsg<SimPeer>;

const ME: SimPeer = SimPeer(0);

/// A node that knows 1, 2 and 3, does not tell lies about sources, and adds no hops.
fn node(config: FreenetConfig) -> Node {
    let config = FreenetConfig { past_last: 0.0, claims: 0.0, announce: 0, ..config };
    Script::new(Freenet::new(ME, [1, 2, 3].map(SimPeer), config))
}

fn block() -> FreenetBlock {
    FreenetBlock::content("data").unwrap()
}

fn request(id: u64, htl: u16) -> Msg {
    FreenetMsg::Request { id, htl, key: block().key() }
}

/// Whom the node has asked, with how many hops to live.
fn asked(node: &mut Node) -> Option<(SimPeer, u16)> {
    node.sent().into_iter().find_map(|(to, msg)| match msg {
        FreenetMsg::Request { htl, .. } | FreenetMsg::Insert { htl, .. } => Some((to, htl)),
        _ => None,
    })
}

/// 1, 2 and 3 in the order in which their keys are close to that of the block.
fn by_closeness() -> Vec<SimPeer> {
    let mut peers = [1, 2, 3].map(SimPeer).to_vec();
    peers.sort_by_key(|peer| peer.key().ring_gap(&block().key()));
    peers
}

#[test]
fn a_request_tries_the_closest_first_and_comes_back_when_nobody_is_left() {
    let mut node = node(FreenetConfig::default());
    let order = by_closeness();
    node.message(SimPeer(9), request(1, 10));
    let sent = node.sent();
    assert_eq!(sent[0], (order[0], request(1, 9)));
    assert_eq!(sent[1], (SimPeer(9), FreenetMsg::Working { id: 1 }));
    node.message(order[0], FreenetMsg::Failed { id: 1, htl: 7 });
    assert_eq!(node.sent(), [(order[1], request(1, 7))]);
    node.message(order[0], FreenetMsg::Failed { id: 1, htl: 7 });
    assert_eq!(node.sent(), [], "only who was asked last answers");
    node.message(order[1], FreenetMsg::Failed { id: 1, htl: 500 });
    assert_eq!(node.sent(), [(order[2], request(1, 6))], "going there has cost a hop, whatever it says");
    node.message(order[2], FreenetMsg::Failed { id: 1, htl: 5 });
    assert_eq!(node.sent(), [(SimPeer(9), FreenetMsg::Failed { id: 1, htl: 5 })]);
    assert_eq!((node.machine().pending(), node.timers().count()), (0, 0));
}

#[test]
fn hops_to_live_are_cut_and_end() {
    let mut node = node(FreenetConfig { max_htl: 10, ..FreenetConfig::default() });
    node.message(SimPeer(9), request(1, u16::MAX));
    assert_eq!(asked(&mut node).unwrap().1, 9);
    for (id, htl) in [(2, 1), (3, 0)] {
        node.message(SimPeer(9), request(id, htl));
        assert_eq!(node.sent(), [(SimPeer(9), FreenetMsg::Failed { id, htl: 0 })]);
    }
}

#[test]
fn a_circle_is_refused_while_it_lasts_and_after() {
    let mut node = node(FreenetConfig::default());
    node.message(SimPeer(9), request(1, 10));
    let (next, _) = asked(&mut node).unwrap();
    node.message(SimPeer(8), request(1, 6));
    assert_eq!(node.sent(), [(SimPeer(8), FreenetMsg::Failed { id: 1, htl: 5 })]);
    node.message(next, FreenetMsg::Failed { id: 1, htl: 0 });
    assert_eq!(node.sent(), [(SimPeer(9), FreenetMsg::Failed { id: 1, htl: 0 })]);
    node.message(SimPeer(8), request(1, 6));
    assert_eq!(node.sent(), [(SimPeer(8), FreenetMsg::Failed { id: 1, htl: 5 })]);
}

#[test]
fn data_is_kept_on_its_way_and_its_source_is_known_for_its_key() {
    let mut node = node(FreenetConfig::default());
    node.message(SimPeer(9), request(1, 10));
    let (next, _) = asked(&mut node).unwrap();
    let data = |id, source| FreenetMsg::Data { id, source: SimPeer(source), block: block() };
    node.message(next, data(1, 77));
    assert_eq!(node.sent(), [(SimPeer(9), data(1, 77))]);
    assert!(node.machine().routes().any(|route| route == (block().key(), SimPeer(77))));
    node.message(SimPeer(8), request(2, 10));
    assert_eq!(node.sent(), [(SimPeer(8), data(2, 0))]);
}

#[test]
fn what_does_not_belong_under_its_key_is_neither_kept_nor_passed_on() {
    let mut node = node(FreenetConfig::default());
    node.message(SimPeer(9), request(1, 10));
    let (liar, _) = asked(&mut node).unwrap();
    let other = FreenetBlock::content("other").unwrap();
    node.message(liar, FreenetMsg::Data { id: 1, source: liar, block: other.clone() });
    let (next, htl) = asked(&mut node).unwrap();
    assert!(next != liar && htl == 8);
    assert!(node.machine().routes().all(|(_, peer)| peer != liar) && node.machine().blocks() == 0);
    // Nor what an inserter sends after its insert was accepted.
    node.message(SimPeer(9), FreenetMsg::Insert { id: 2, htl: 1, key: block().key() });
    assert_eq!(node.sent(), [(SimPeer(9), FreenetMsg::Accept { id: 2 })]);
    node.message(SimPeer(9), FreenetMsg::Send { id: 2, source: SimPeer(9), block: other });
    assert_eq!((node.machine().blocks(), node.machine().tally().forged), (0, 2));
}

#[test]
fn an_insert_is_accepted_from_its_end_and_then_sent_along() {
    let mut node = node(FreenetConfig::default());
    let key = block().key();
    node.message(SimPeer(9), FreenetMsg::Insert { id: 1, htl: 5, key });
    let (next, htl) = asked(&mut node).unwrap();
    assert_eq!(htl, 4);
    let send = FreenetMsg::Send { id: 1, source: SimPeer(9), block: block() };
    node.message(SimPeer(9), send.clone());
    assert_eq!(node.machine().blocks(), 0, "not before it is accepted");
    node.message(next, FreenetMsg::Accept { id: 1 });
    assert_eq!(node.sent(), [(SimPeer(9), FreenetMsg::Accept { id: 1 })]);
    node.message(SimPeer(8), send.clone());
    assert_eq!(node.machine().blocks(), 0, "not from another");
    node.message(SimPeer(9), send.clone());
    assert_eq!(node.sent(), [(next, send)]);
    assert!(node.machine().holds(&key));
    node.message(SimPeer(8), FreenetMsg::Stored { id: 1 });
    assert_eq!(node.sent(), [], "not from another");
    node.message(next, FreenetMsg::Stored { id: 1 });
    assert_eq!(node.sent(), [(SimPeer(9), FreenetMsg::Stored { id: 1 })]);
    assert_eq!(node.machine().pending(), 0);
}

/// Whoever has had it keeps it, and says so; but a user is not told that others have it, if nobody else has said so.
#[test]
fn an_insert_is_not_done_before_others_have_it() {
    for dies in [false, true] {
        let mut node = node(FreenetConfig::default());
        let op = node.command(FreenetCommand::Insert(block()));
        let sent = node.sent();
        let Some((next, FreenetMsg::Insert { id, .. })) = sent.last().cloned() else { panic!("{sent:?}") };
        node.message(next, FreenetMsg::Accept { id });
        assert!(matches!(&node.sent()[..], [(to, FreenetMsg::Send { .. })] if *to == next));
        assert_eq!(node.outcomes(), [], "they have to have it");
        match dies {
            false => node.message(next, FreenetMsg::Stored { id }),
            true => node.link(next, Link::Down(Down::Closed)),
        }
        let outcomes = node.outcomes();
        let [(ended, FreenetOutcome::Inserted(inserted))] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!((*ended, inserted.is_ok()), (op, !dies), "{inserted:?}");
        assert_eq!(node.machine().holds(&block().key()), !dies, "who tries again inserts it again");
    }
}

#[test]
fn an_insert_that_finds_something_gets_it() {
    let mut node = node(FreenetConfig::default());
    let word = |data: &'static str| FreenetBlock::keyword("word", data).unwrap();
    let op = node.command(FreenetCommand::Insert(word("mine")));
    let (next, _) = asked(&mut node).unwrap();
    let id = *node.machine().pending.keys().next().unwrap();
    node.message(next, FreenetMsg::Data { id, source: next, block: word("theirs") });
    assert_eq!(node.outcomes(), [(op, FreenetOutcome::Inserted(Err(FreenetError::Taken)))]);
    let op = node.command(FreenetCommand::Insert(word("theirs")));
    let inserted = Inserted { key: word("theirs").key(), existed: true };
    assert_eq!(node.outcomes(), [(op, FreenetOutcome::Inserted(Ok(inserted)))]);
}

#[test]
fn an_insert_that_cannot_go_so_far_goes_half_as_far() {
    let mut node = node(FreenetConfig { htl: 4, ..FreenetConfig::default() });
    node.command(FreenetCommand::Insert(block()));
    let mut most = Vec::new();
    while let Some((next, htl)) = asked(&mut node) {
        let id = *node.machine().pending.keys().next().unwrap();
        most.push(htl);
        node.message(next, FreenetMsg::Failed { id, htl: htl - 1 });
    }
    assert!(most[0] <= 4 && *most.last().unwrap() == 1, "{most:?}");
    assert!(matches!(node.outcomes()[..], [(_, FreenetOutcome::Inserted(Err(FreenetError::Unreachable)))]));
}

#[test]
fn who_says_nothing_is_forgotten_and_who_works_has_time() {
    let mut node = node(FreenetConfig::default());
    node.message(SimPeer(9), request(1, 10));
    let (silent, _) = asked(&mut node).unwrap();
    node.advance(Duration::from_secs(3));
    let (next, htl) = asked(&mut node).unwrap();
    assert_eq!(htl, 8);
    assert!(node.machine().routes().all(|(_, peer)| peer != silent));
    node.message(next, FreenetMsg::Working { id: 1 });
    node.advance(Duration::from_secs(17));
    assert_eq!(node.sent(), []);
    node.advance(Duration::from_secs(2));
    assert_eq!(node.sent(), [(SimPeer(9), FreenetMsg::Failed { id: 1, htl: 0 })]);
}

#[test]
fn one_neighbour_cannot_fill_the_table_nor_all_of_them() {
    let requests = Rate { every: Duration::from_secs(1), burst: 3 };
    let mut node = node(FreenetConfig { requests, pending: 5, ..FreenetConfig::default() });
    (0..10).for_each(|id| node.message(SimPeer(9), request(id, 10)));
    assert_eq!(node.machine().pending(), 2, "a quarter of the table, rounded up");
    (10..20).for_each(|id| node.message(SimPeer(10 + id as u32), request(id, 10)));
    assert_eq!((node.machine().pending(), node.machine().tally().limited), (5, 8 + 7));
    let refused = node.sent().into_iter().filter(|(_, msg)| matches!(msg, FreenetMsg::Failed { htl: 9, .. }));
    assert_eq!(refused.count(), 15, "each is told, and may go elsewhere");
}

#[test]
fn who_is_known_by_hearsay_is_dialled_now_and_then_only() {
    let hearsay = Rate { every: Duration::from_secs(10), burst: 2 };
    let mut node = Script::new(Freenet::new(
        ME,
        [SimPeer(1)],
        FreenetConfig { hearsay, announce: 10, ..FreenetConfig::default() },
    ));
    node.sent();
    for name in 100..150 {
        node.message(SimPeer(1), FreenetMsg::Announce { node: SimPeer(name), htl: 1 });
    }
    let mut dialled = 0;
    for id in 0..20 {
        let key = Key::of(&[id]);
        node.message(SimPeer(50), FreenetMsg::Request { id: id.into(), htl: 10, key });
        dialled += usize::from(asked(&mut node).is_some_and(|(to, _)| to != SimPeer(1)));
    }
    assert_eq!(dialled, 2);
}

#[test]
fn tables_keep_to_their_bounds() {
    let mut node = node(FreenetConfig {
        routes: 10,
        store: 5 * (8 + BLOCK_OVERHEAD),
        requests: Rate { every: Duration::from_nanos(1), burst: 1000 },
        ..FreenetConfig::default()
    });
    for id in 0u64..200 {
        let block = FreenetBlock::content(id.to_be_bytes().to_vec()).unwrap();
        node.message(SimPeer(9), FreenetMsg::Insert { id, htl: 1, key: block.key() });
        node.message(SimPeer(9), FreenetMsg::Send { id, source: SimPeer(id as u32 + 10), block });
        node.message(SimPeer(9), FreenetMsg::Announce { node: SimPeer(1000 + id as u32), htl: 1 });
    }
    let machine = node.machine();
    assert_eq!((machine.blocks(), machine.routes().count(), machine.pending()), (5, 10, 0));
    assert_eq!(machine.stored(), 5 * (8 + BLOCK_OVERHEAD));
}

#[test]
fn who_names_many_displaces_no_more_than_a_quarter() {
    let requests = Rate { every: Duration::from_nanos(1), burst: 1000 };
    let mut node = node(FreenetConfig { routes: 40, requests, ..FreenetConfig::default() });
    let announce = |peer: u32| FreenetMsg::Announce { node: SimPeer(peer), htl: 1 };
    (100..137).for_each(|peer| node.message(SimPeer(peer), announce(peer)));
    let flood = |node: &mut Node, names: std::ops::Range<u32>| {
        names.for_each(|name| node.message(SimPeer(9), announce(name)));
        node.machine().routes().filter(|(_, peer)| peer.0 < 1000).count()
    };
    assert_eq!(flood(&mut node, 1000..1500), 30);
    // Who has said something is hearsay no longer.
    let (_, named) = node.machine().routes().find(|(_, peer)| peer.0 >= 1000).unwrap();
    node.message(named, FreenetMsg::Stored { id: 0 });
    assert!(flood(&mut node, 2000..2500) >= 29);
    assert!(node.machine().routes().any(|(_, peer)| peer == named));
    // Nor does hearsay take the place of who has had a key.
    let (key, heard) = node.machine().routes().find(|(_, peer)| (100..137).contains(&peer.0)).unwrap();
    assert_eq!(key, heard.key());
    assert_eq!(node.machine().routes().count(), 40);
}

/// Thirty nodes, each of which knows the one before it.
fn network(seed: u64) -> Sim<Freenet<SimPeer>> {
    let mut sim = Sim::new(seed, Network::default());
    for _ in 0..30 {
        sim.spawn(|birth| Freenet::new(birth.peer, birth.alive.last().copied(), FreenetConfig::default()));
    }
    sim.run_for(Duration::from_secs(10));
    sim
}

#[test]
fn a_name_is_found_by_all_of_its_words_and_a_content_by_its_hash() {
    run_seeds(3, |seed| {
        let mut sim = network(seed);
        let (here, there) = (sim.handle(SimPeer(3)), sim.handle(SimPeer(17)));
        sim.block_on(async move {
            let data = FreenetBlock::content("How does it feel").unwrap();
            let hash = ContentHash::Blake3(*data.key().as_bytes());
            let item = Item::new("Blue Monday.mp3", 16).hash(hash);
            there.ask(Insert(data)).await.unwrap().unwrap();
            there.publish(item.clone()).await.unwrap();
            assert_eq!(there.publish(Item::new("monday blue mp3", 1)).await, Err(SearchError::BadItem));
            assert_eq!(there.unpublish("Blue Monday.mp3").await, Ok(false));
            let search = async |query: Query, reach| {
                let mut hits = here.search(query, Scope { reach, ..Scope::default() });
                let hit = futures::StreamExt::next(&mut hits).await;
                (hit, hits.await)
            };
            let (hit, searched) = search(Query::text("mp3 MONDAY, blue"), Reach::Auto).await;
            let hit = hit.unwrap();
            assert_eq!((&hit.item, hit.fetch), (&item, Fetch::Relay(SimPeer(3))));
            let searched = searched.unwrap();
            assert!(searched.end == End::Enough && searched.cost.messages >= 2 && searched.cost.bytes > 80);
            assert_eq!(here.reach(&hit).await, Ok(SimPeer(3)));
            let (hit, _) = search(Query::content(hash), Reach::Ttl(20)).await;
            assert_eq!(hit.unwrap().item.size, 16);
            let (hit, searched) = search(Query::text("monday"), Reach::Auto).await;
            assert!(hit.is_none() && searched.unwrap().end == End::Exhausted, "some of its words are none");
            let (_, rings) = search(Query::text("a"), Reach::Ring { first: 1, step: 1, last: 2 }).await;
            assert_eq!(rings, Err(SearchError::Unsupported));
        });
        sim.trace()
    });
}

/// One in four nodes answers every request with other data: what comes to a user is what was asked for, or nothing.
#[test]
fn liars_cost_time_and_nothing_else() {
    use p2p_core::sim::Liar;
    run_seeds(3, |seed| {
        let mut sim = Sim::<Liar<Freenet<SimPeer>>>::new(seed, Network::default());
        for i in 0..40 {
            sim.spawn(|birth| {
                let seeds = birth.alive.iter().rev().take(4).copied();
                let machine = Freenet::new(birth.peer, seeds, FreenetConfig::default());
                if i % 4 != 3 {
                    return Liar::honest(machine);
                }
                Liar::new(machine, |_, to, msg| match msg {
                    FreenetMsg::Data { id, source, .. } => {
                        let block = FreenetBlock::Content("a lie".into());
                        vec![(to, FreenetMsg::Data { id, source, block })]
                    }
                    other => vec![(to, other)],
                })
            });
        }
        sim.run_for(Duration::from_secs(10));
        let mut ask = |peer, command| {
            sim.command(SimPeer(peer), command);
            sim.run_until_quiet();
            sim.take_outcomes().pop().unwrap().outcome
        };
        let mut found = 0;
        for i in 0..30u8 {
            let block = FreenetBlock::content(vec![i; 100]).unwrap();
            let key = block.key();
            if ask(33, FreenetCommand::Insert(block))
                == FreenetOutcome::Inserted(Ok(Inserted { key, existed: false }))
            {
                match ask(2, FreenetCommand::Retrieve(Retrieve { key, htl: Some(40) })) {
                    FreenetOutcome::Retrieved(Ok(data)) => {
                        assert_eq!(data, vec![i; 100]);
                        found += 1;
                    }
                    other => assert_eq!(other, FreenetOutcome::Retrieved(Err(FreenetError::NotFound))),
                }
            }
        }
        assert!(found >= 15, "{found} of 30 found");
        (found, sim.trace())
    });
}

fn contact() -> impl Strategy<Value = Contact> {
    any::<([u8; 32], std::net::SocketAddr)>()
        .prop_map(|(id, addr)| Contact::new(PeerId::from_bytes(id), addr))
}

fn any_block() -> impl Strategy<Value = FreenetBlock> {
    let data = || prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        data().prop_map(|data| FreenetBlock::Content(data.into())),
        ("[a-z ]{0,20}", data()).prop_map(|(word, data)| FreenetBlock::keyword(&word, data).unwrap()),
    ]
}

fn any_msg() -> impl Strategy<Value = FreenetMsg<Contact>> {
    let number = any::<(u64, u16, [u8; 32])>();
    prop_oneof![
        number.prop_map(|(id, htl, key)| FreenetMsg::Request { id, htl, key: Key::new(key) }),
        any::<(u64, u16, [u8; 32])>().prop_map(|(id, htl, key)| FreenetMsg::Insert {
            id,
            htl,
            key: Key::new(key)
        }),
        any::<u64>().prop_map(|id| FreenetMsg::Working { id }),
        any::<(u64, u16)>().prop_map(|(id, htl)| FreenetMsg::Failed { id, htl }),
        any::<u64>().prop_map(|id| FreenetMsg::Accept { id }),
        any::<u64>().prop_map(|id| FreenetMsg::Stored { id }),
        (any::<u64>(), contact(), any_block()).prop_map(|(id, source, block)| FreenetMsg::Data {
            id,
            source,
            block
        }),
        (any::<u64>(), contact(), any_block()).prop_map(|(id, source, block)| FreenetMsg::Send {
            id,
            source,
            block
        }),
        (contact(), any::<u16>()).prop_map(|(node, htl)| FreenetMsg::Announce { node, htl }),
    ]
}

proptest! {
    #[test]
    fn messages_come_back(msg in any_msg()) {
        let bytes = msg.to_bytes();
        prop_assert_eq!(bytes.len(), msg.wire_len());
        prop_assert_eq!(FreenetMsg::<Contact>::from_bytes(&bytes).unwrap(), msg);
    }

    /// Whatever others say, in whatever order: the bounds hold.
    #[test]
    fn nothing_that_is_said_breaks_the_bounds(
        said in prop::collection::vec((0u32..6, 0u8..9, 0u64..4, any::<u16>(), 0u8..3), 0..200)
    ) {
        let config = FreenetConfig { pending: 3, routes: 4, store: 300, max_htl: 5, ..FreenetConfig::default() };
        let mut node = Script::new(Freenet::new(ME, [1, 2, 3].map(SimPeer), config));
        for (from, kind, id, htl, which) in said {
            let (source, block) = (SimPeer(from + 1), FreenetBlock::Content(vec![which; 50].into()));
            let key = block.key();
            node.message(SimPeer(from), match kind {
                0 => FreenetMsg::Request { id, htl, key },
                1 => FreenetMsg::Insert { id, htl, key },
                2 => FreenetMsg::Working { id },
                3 => FreenetMsg::Failed { id, htl },
                4 => FreenetMsg::Accept { id },
                5 => FreenetMsg::Data { id, source, block },
                6 => FreenetMsg::Send { id, source, block },
                7 => FreenetMsg::Stored { id },
                _ => FreenetMsg::Announce { node: source, htl },
            });
            let machine = node.machine();
            prop_assert!(machine.pending() <= 3 && machine.routes().count() <= 4 && machine.stored() <= 300);
            prop_assert!(node.timers().count() <= 3);
            let cut = |msg: &Msg| !matches!(msg, FreenetMsg::Request { htl, .. } if *htl > 5);
            prop_assert!(node.sent().iter().all(|(_, msg)| cut(msg)));
        }
    }
}
