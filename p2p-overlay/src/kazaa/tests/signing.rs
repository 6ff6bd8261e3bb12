//! Sources that sign.

use p2p_core::Wire;

use super::*;
use crate::kazaa::msg::Reference;

/// What an ordinary node 1 with keys says of its song, to a super-node; `by` signs.
fn signed_by(by: u32, name: &str, wall: Duration) -> Shared {
    let item = Item::new(name, 7);
    let word = Word::new(&simulated_keypair(SimPeer(by)), Some(&place(1)), &item, wall);
    Shared { item, word: Some(word) }
}

#[test]
fn a_super_node_takes_what_its_own_have_signed() {
    let kazaa = Kazaa::new(ME.contact(), [], Role::Ultrapeer, KazaaConfig::default());
    let mut node = Script::new(kazaa.with_key(simulated_keypair(ME)));
    let wall = Duration::ZERO;
    node.message(SimPeer(1), KazaaMsg::Join { as_super: false, listen: Some(place(1)), digest: None });
    let shared = vec![
        signed_by(1, "song", wall),
        signed_by(2, "song of another", wall),
        Shared::from(Item::new("song of nobody", 7)),
    ];
    node.message(SimPeer(1), KazaaMsg::Share(shared));
    assert_eq!((node.machine().indexed(&SimPeer(1)), node.machine().tally().disbelieved), (1, 2));
    node.sent();
    // It hands the word on, so that others can look too.
    node.message(SimPeer(9), ask(1, "song", 9, 0));
    let sent = node.sent();
    let [(_, KazaaMsg::Results { hits, .. })] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(hits[0].word, signed_by(1, "song", wall).word);
}

#[test]
fn who_hands_on_a_forged_hit_is_not_listened_to() {
    let kazaa = Kazaa::new(ME.contact(), [place(101)], Role::Leaf, KazaaConfig::default());
    let mut node = Script::new(kazaa.with_key(simulated_keypair(ME)));
    answer_probes(&mut node, |_| Some(room()));
    node.message(SimPeer(101), KazaaMsg::Welcome { room: room(), entrusted: false, known: Vec::new() });
    node.sent();
    node.command(search("song", 9, Reach::Auto));
    let (_, id) = asked(&mut node)[0];
    let wall = Duration::ZERO;
    let hit = |by, name| {
        let Shared { item, word } = signed_by(by, name, wall);
        Source { id: place(1).id, listen: Some(place(1)), item, word }
    };
    let hits = vec![hit(1, "song"), hit(2, "another song"), hit(1, "a third song")];
    node.message(SimPeer(101), KazaaMsg::Results { id, via: place(101), hits });
    let names: Vec<String> = node
        .items()
        .into_iter()
        .filter_map(|(_, item)| match item {
            SearchItem::Hit(hit) => Some(hit.item.name),
            SearchItem::End(_) => None,
        })
        .collect();
    assert_eq!(names, ["song"], "nothing behind the forged one is looked at");
    assert_eq!(node.machine().tally().banned, 1);
    assert_eq!(node.machine().parent(), None);
}

/// This node's clock stands where time begins.
#[test]
fn whose_clock_is_slow_bans_nobody() {
    let kazaa = Kazaa::new(ME.contact(), [place(101)], Role::Leaf, KazaaConfig::default());
    let mut node = Script::new(kazaa.with_key(simulated_keypair(ME)));
    answer_probes(&mut node, |_| Some(room()));
    node.message(SimPeer(101), KazaaMsg::Welcome { room: room(), entrusted: false, known: Vec::new() });
    node.sent();
    node.command(search("song", 9, Reach::Auto));
    let (_, id) = asked(&mut node)[0];
    let Shared { item, word } = signed_by(1, "song", Duration::from_secs(3600));
    let hits = vec![Source { id: place(1).id, listen: Some(place(1)), item, word }];
    node.message(SimPeer(101), KazaaMsg::Results { id, via: place(101), hits });
    assert!(node.items().is_empty(), "it is not believed");
    assert_eq!((node.machine().tally().banned, node.machine().parent()), (0, Some(SimPeer(101))));
}

/// Between two of one super-node's: the asker signs, and the source connects, once.
#[test]
fn a_source_connects_to_who_has_signed_that_it_wants_this() {
    let asker = Kazaa::<SimPeer>::new(SimPeer(7).contact(), [place(101)], Role::Leaf, KazaaConfig::default());
    let mut asker = Script::new(asker.with_key(simulated_keypair(SimPeer(7))));
    let reference = Reference { via: place(101), source: place(ME.0).id, name: "a song".into() };
    let hit =
        Hit { item: Item::new("a song", 9), fetch: Fetch::Push, reference: reference.to_bytes().into() };
    asker.command(SearchCommand::Reach(hit));
    let pushed = asker.sent().into_iter().find_map(|(_, msg)| match msg {
        KazaaMsg::Push { wish, .. } => Some(wish),
        _ => None,
    });
    let wish = pushed.unwrap();
    let given = |wish: &Wish| {
        let mut node = ordinary_of(true, KazaaConfig::default());
        (0..3).for_each(|_| node.message(SimPeer(101), KazaaMsg::Dial(wish.clone())));
        node.sent()
    };
    let give = KazaaMsg::Give { nonce: wish.nonce };
    assert_eq!(given(&wish), [(SimPeer(7), give)], "nobody repeats it in the asker's place");
    for forged in [
        Wish { to: place(8), ..wish.clone() },
        Wish { nonce: wish.nonce ^ 1, ..wish.clone() },
        Wish { word: None, ..wish.clone() },
    ] {
        assert_eq!(given(&forged), [], "{forged:?}");
    }
}
