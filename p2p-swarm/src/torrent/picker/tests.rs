use super::*;
use crate::storage::MemoryFiles;
use crate::torrent::{CreateOptions, Format, Metainfo};
use p2p_core::SimPeer;
use std::collections::BTreeSet;

pub(super) const A: SimPeer = SimPeer(1);
pub(super) const B: SimPeer = SimPeer(2);

pub(super) fn picker(pieces: usize, rng: &mut Rng) -> Picker<SimPeer> {
    let mut disk = MemoryFiles::default();
    disk.put("t", vec![7; pieces * 32768 - 5]);
    let options = CreateOptions { format: Format::V1, piece_length: Some(32768), ..CreateOptions::default() };
    let info = Metainfo::create(&mut disk, "t".as_ref(), &options).unwrap().info().clone();
    let count = u64::from(info.piece_count());
    let wanted = vec![Priority::Normal; count as usize];
    let mut picker = Picker::new(&info, Bits::new(count), wanted, Order::Rarest, rng);
    (0..pieces as u32).for_each(|piece| picker.seen(piece));
    picker
}

fn pick(picker: &mut Picker<SimPeer>, peer: SimPeer, theirs: &Bits, rng: &mut Rng) -> Option<Block> {
    picker.pick(peer, theirs, None, |_| false, Time::ZERO, rng)
}

fn finish(picker: &mut Picker<SimPeer>, rng: &mut Rng) -> u32 {
    let all = Bits::full(picker.have.len());
    let piece = pick(picker, A, &all, rng).unwrap().piece;
    while picker.next_of(A, piece).is_some() {}
    picker.verified(piece);
    piece
}

#[test]
fn what_was_begun_is_finished_first() {
    let mut rng = Rng::new(1);
    let mut picker = picker(10, &mut rng);
    let all = Bits::full(10);
    let first = pick(&mut picker, A, &all, &mut rng).unwrap();
    let second = pick(&mut picker, B, &all, &mut rng).unwrap();
    assert_eq!((first.piece, first.begin, second.begin), (second.piece, 0, BLOCK));
    assert_ne!(pick(&mut picker, A, &all, &mut rng).unwrap().piece, first.piece);
}

#[test]
fn what_half_as_many_have_comes_before_what_was_begun() {
    let mut rng = Rng::new(1);
    let mut picker = picker(10, &mut rng);
    let all = Bits::full(10);
    (0..RANDOM_FIRST).for_each(|_| _ = finish(&mut picker, &mut rng));
    let begun = pick(&mut picker, A, &all, &mut rng).unwrap().piece;
    // Two have it, and the others one alone.
    picker.seen(begun);
    let rare = pick(&mut picker, B, &all, &mut rng).unwrap();
    assert_ne!(rare.piece, begun);
    let rest = pick(&mut picker, B, &all, &mut rng).unwrap();
    assert_eq!((rest.piece, rest.begin), (rare.piece, BLOCK), "that is finished first, too");
    (0..10).filter(|piece| *piece != begun).for_each(|piece| picker.seen(piece));
    assert_eq!(pick(&mut picker, B, &all, &mut rng).unwrap().piece, begun, "now as many have the others");
}

#[test]
fn the_first_pieces_are_any_and_then_the_rarest_come() {
    let starts: BTreeSet<u32> = (0..20)
        .map(|seed| {
            let mut rng = Rng::new(seed);
            let mut picker = picker(10, &mut rng);
            (0..9).for_each(|piece| picker.seen(piece));
            finish(&mut picker, &mut rng)
        })
        .collect();
    assert!(starts.len() > 4, "{starts:?}");
    let mut rng = Rng::new(1);
    let mut picker = picker(10, &mut rng);
    while picker.have.count() < RANDOM_FIRST {
        finish(&mut picker, &mut rng);
    }
    let rare = picker.have.first_missing(0).unwrap() as u32;
    (0..10).filter(|piece| *piece != rare).for_each(|piece| picker.seen(piece));
    assert_eq!(finish(&mut picker, &mut rng), rare);
}

#[test]
fn in_order_the_first_come_first() {
    let mut rng = Rng::new(1);
    let mut picker = picker(10, &mut rng);
    picker.order = Order::Sequential;
    // The last is the rarest.
    (0..9).for_each(|piece| picker.seen(piece));
    let mut theirs = Bits::full(10);
    theirs.remove(1);
    let order: Vec<u32> = (0..6).map(|_| pick(&mut picker, A, &theirs, &mut rng).unwrap().piece).collect();
    assert_eq!(order, [0, 0, 2, 2, 3, 3]);
    assert_eq!(pick(&mut picker, B, &Bits::full(10), &mut rng).unwrap().piece, 1);
}

#[test]
fn in_the_endgame_what_is_out_is_asked_of_others_too() {
    let mut rng = Rng::new(1);
    let mut picker = picker(2, &mut rng);
    let all = Bits::full(2);
    let asked: Vec<Block> =
        std::iter::from_fn(|| picker.pick(A, &all, None, |_| true, Time::ZERO, &mut rng)).collect();
    assert_eq!(asked.len(), 4);
    assert!(picker.is_endgame());
    let mine: BTreeSet<Block> = asked.iter().copied().collect();
    assert_eq!(
        picker.pick(A, &all, None, |block| mine.contains(block), Time::ZERO, &mut rng),
        None,
        "not of the same peer"
    );
    let again = pick(&mut picker, B, &all, &mut rng).unwrap();
    assert_eq!(picker.came(B, again), Came::New { others: 1 });
    assert_eq!(picker.came(A, again), Came::Again);
    // What is not to come is asked for anew.
    picker.unasked(asked.iter().copied().find(|block| *block != again).unwrap());
    assert!(!picker.is_endgame());
}

#[test]
fn nothing_is_asked_for_that_the_peer_does_not_have_or_nobody_wants() {
    let mut rng = Rng::new(1);
    let mut picker = picker(4, &mut rng);
    let mut theirs = Bits::new(4);
    assert_eq!(pick(&mut picker, A, &theirs, &mut rng), None);
    theirs.insert(2);
    assert_eq!(pick(&mut picker, A, &theirs, &mut rng).map(|block| block.piece), Some(2));
    picker.verified(2);
    assert_eq!(pick(&mut picker, A, &theirs, &mut rng), None);
    assert!(!picker.is_done() && picker.wanted_of(&theirs) == 0);
}

#[test]
fn a_wrong_piece_is_asked_of_one_peer_alone() {
    let mut rng = Rng::new(1);
    let mut picker = picker(1, &mut rng);
    let all = Bits::full(1);
    for peer in [A, B] {
        let block = pick(&mut picker, peer, &all, &mut rng).unwrap();
        picker.came(peer, block);
    }
    assert_eq!(picker.senders(0), [A, B]);
    let wrong = Wrong { senders: vec![A, B], digests: vec![[1; 32], [2; 32]] };
    picker.retry(0, Some(wrong.clone()), Some(B));
    assert_eq!(pick(&mut picker, A, &all, &mut rng), None);
    assert!(pick(&mut picker, B, &all, &mut rng).is_some());
    picker.gone(B);
    assert!(pick(&mut picker, A, &all, &mut rng).is_some());
    assert_eq!(picker.verified(0), Some(vec![wrong]));
    assert!(picker.is_done());
}

/// What a peer that has everything is asked for, until there is nothing more: the pieces, each as often as it has blocks.
fn all_of(picker: &mut Picker<SimPeer>, peer: SimPeer, rng: &mut Rng) -> Vec<u32> {
    let all = Bits::full(picker.have.len());
    let next = || picker.pick(peer, &all, None, |_| true, Time::ZERO, rng);
    std::iter::from_fn(next).map(|block| block.piece).collect()
}

#[test]
fn what_is_wanted_most_comes_first_also_before_what_was_begun() {
    use Priority::{High, Low, Normal, Skip};
    for order in [Order::Rarest, Order::Sequential] {
        let mut rng = Rng::new(1);
        let mut picker = picker(6, &mut rng);
        picker.order = order;
        picker.want(vec![Normal, Low, Skip, Normal, Low, Low]);
        let all = Bits::full(6);
        let begun = pick(&mut picker, A, &all, &mut rng).unwrap().piece;
        assert!([0, 3].contains(&begun));
        picker.want(vec![Normal, Low, Skip, Normal, High, Low]);
        let mut asked = all_of(&mut picker, A, &mut rng);
        assert_eq!(asked.drain(..2).collect::<Vec<_>>(), [4, 4], "{order:?}");
        assert_eq!(asked.remove(0), begun, "and then what was begun");
        let rest: Vec<u32> = asked.drain(..2).collect();
        assert!(rest == [3 - begun; 2], "{rest:?}");
        asked.sort_unstable();
        assert_eq!(asked, [1, 1, 5, 5], "{order:?}");
        assert!(picker.is_endgame() && picker.wanted() == 5);
    }
}

#[test]
fn what_is_not_wanted_any_more_is_set_aside_with_what_has_come_of_it() {
    let mut rng = Rng::new(1);
    let mut picker = picker(3, &mut rng);
    picker.order = Order::Sequential;
    let all = Bits::full(3);
    let [first, second, third] = [(); 3].map(|()| pick(&mut picker, A, &all, &mut rng).unwrap());
    assert_eq!([first.piece, second.piece, third.piece], [0, 0, 1]);
    picker.came(A, first);
    picker.unasked(second);
    let (all_of_it, but_the_first) =
        (vec![Priority::Normal; 3], vec![Priority::Skip, Priority::Normal, Priority::Normal]);
    picker.want(but_the_first.clone());
    assert_eq!((picker.wanted(), picker.wanted_of(&all), picker.wants(0)), (2, 2, false));
    assert_eq!(all_of(&mut picker, A, &mut rng), [1, 2, 2]);
    assert!(picker.is_endgame(), "what is set aside does not count");
    assert_ne!(picker.pick(B, &all, Some(0), |_| false, Time::ZERO, &mut rng).unwrap().piece, 0);
    // It is wanted again: what is there is not asked for.
    picker.want(all_of_it.clone());
    assert!(!picker.is_endgame());
    assert_eq!(pick(&mut picker, A, &all, &mut rng), Some(second));
    // It was on its way when it was not wanted again, and is right.
    picker.came(A, second);
    picker.want(but_the_first);
    assert_eq!((picker.verified(0), picker.have().contains(0)), (None, true));
    picker.want(all_of_it);
    assert_eq!((picker.wanted(), picker.wanted_of(&all), picker.is_endgame()), (3, 2, true));
}

#[test]
fn in_the_endgame_few_blocks_are_looked_for_among_the_peers_own() {
    let mut rng = Rng::new(1);
    let mut picker = picker(200, &mut rng);
    let all = Bits::full(200);
    while pick(&mut picker, A, &all, &mut rng).is_some_and(|_| !picker.is_endgame()) {}
    let looked = std::cell::Cell::new(0);
    let mine = |_: &Block| {
        looked.set(looked.get() + 1);
        false
    };
    let times = 100;
    for _ in 0..times {
        picker.pick(B, &all, None, mine, Time::ZERO, &mut rng).unwrap();
    }
    // Of n blocks in random order each is the least so far with a chance of 1/i: of 400 that is ln 400 + 0.6, 6.6.
    assert!((times..10 * times).contains(&looked.get()), "{} for {times}", looked.get());
}

#[test]
fn what_is_there_is_not_looked_through_for_what_is_not() {
    let mut rng = Rng::new(1);
    let mut picker = picker(50, &mut rng);
    for left in (0..50).rev() {
        finish(&mut picker, &mut rng);
        assert_eq!(picker.rarity.rarest().count(), left);
    }
}
