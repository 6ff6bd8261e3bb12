//! Pieces by how many peers have them: the rarest are asked for first (Legout et al. 2006).
//!
//! Pieces stand in one list, those that fewer peers have before those that more have, and among equals in an order that
//! was drawn at random, so that peers do not all ask for the same one. A piece that one more peer has moves to a random
//! place among its new equals, in constant time. Those that are there stand before all others, and are passed over.

use p2p_core::Rng;

use crate::bits::Bits;

/// A torrent's pieces in order of their availability. Two numbers and a bit for each, and one for each number of peers.
#[derive(Debug)]
pub(crate) struct Rarity {
    /// The pieces: those that are there, and then the others, the rarest first.
    order: Vec<u32>,
    /// Where each stands in it.
    place: Vec<u32>,
    /// How many peers have each.
    count: Vec<u16>,
    /// Where of those that are not there those begin that so many peers have, or more.
    start: Vec<u32>,
    /// Those that no peer has.
    unseen: Bits,
    rng: Rng,
}

impl Rarity {
    /// So many pieces that nobody has.
    pub(crate) fn new(pieces: u32, rng: &mut Rng) -> Rarity {
        let mut order: Vec<u32> = (0..pieces).collect();
        rng.shuffle(&mut order);
        let mut place = vec![0; order.len()];
        for (at, piece) in order.iter().enumerate() {
            place[*piece as usize] = at as u32;
        }
        Rarity {
            order,
            place,
            count: vec![0; pieces as usize],
            start: vec![0],
            unseen: Bits::full(pieces.into()),
            rng: Rng::new(rng.next_u64()),
        }
    }

    fn swap(&mut self, a: u32, b: u32) {
        self.order.swap(a as usize, b as usize);
        self.place[self.order[a as usize] as usize] = a;
        self.place[self.order[b as usize] as usize] = b;
    }

    /// Moves what stands at a place to a random one among its equals.
    fn mix(&mut self, at: u32, count: usize) {
        let end = self.start.get(count + 1).map_or(self.order.len(), |end| *end as usize) as u32;
        let begin = self.start[count];
        let to = begin + self.rng.index((end - begin) as usize) as u32;
        self.swap(at, to);
    }

    /// Whether a piece is there.
    fn is_done(&self, piece: u32) -> bool {
        self.place[piece as usize] < self.start[0]
    }

    /// A piece is there.
    pub(crate) fn done(&mut self, piece: u32) {
        if self.is_done(piece) {
            return;
        }
        // It becomes the first of its equals, then of those that are rarer, and at last leaves the rarest.
        for count in (0..=usize::from(self.count[piece as usize])).rev() {
            let first = self.start[count];
            self.swap(self.place[piece as usize], first);
            self.start[count] = first + 1;
        }
    }

    /// One more peer has a piece.
    pub(crate) fn add(&mut self, piece: u32) {
        let count = usize::from(self.count[piece as usize]);
        if count == usize::from(u16::MAX) {
            return;
        }
        self.unseen.remove(piece.into());
        self.count[piece as usize] += 1;
        if self.is_done(piece) {
            return;
        }
        if self.start.len() == count + 1 {
            self.start.push(self.order.len() as u32);
        }
        // It becomes the last of its equals, and then the first of the next.
        let last = self.start[count + 1] - 1;
        self.swap(self.place[piece as usize], last);
        self.start[count + 1] = last;
        self.mix(last, count + 1);
    }

    /// One peer fewer has it.
    pub(crate) fn remove(&mut self, piece: u32) {
        let count = usize::from(self.count[piece as usize]);
        if count == 0 {
            return;
        }
        self.count[piece as usize] -= 1;
        if count == 1 {
            self.unseen.insert(piece.into());
        }
        if self.is_done(piece) {
            return;
        }
        let first = self.start[count];
        self.swap(self.place[piece as usize], first);
        self.start[count] = first + 1;
        self.mix(first, count - 1);
    }

    /// How many peers have it.
    pub(crate) fn count(&self, piece: u32) -> u16 {
        self.count[piece as usize]
    }

    /// Whether somebody has each.
    pub(crate) fn is_spread(&self) -> bool {
        self.unseen.count() == 0
    }

    /// The pieces that no peer has, in order.
    pub(crate) fn unseen(&self) -> impl Iterator<Item = u32> {
        self.unseen.iter().map(|piece| piece as u32)
    }

    /// The pieces that are not there and somebody has, the rarest first.
    pub(crate) fn rarest(&self) -> impl Iterator<Item = u32> {
        let known = self.start.get(1).map_or(self.order.len(), |first| *first as usize);
        self.order[known..].iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::Rng;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_order_is_always_by_availability_and_of_what_is_not_there(
            changes in prop::collection::vec((0u32..20, 0u8..9), 0..200),
        ) {
            let mut rarity = Rarity::new(20, &mut Rng::new(1));
            let (mut model, mut done) = ([0u16; 20], [false; 20]);
            for (piece, change) in changes {
                let count = &mut model[piece as usize];
                match change {
                    0 => { rarity.done(piece); done[piece as usize] = true; }
                    1..5 => { rarity.add(piece); *count += 1; }
                    _ => { rarity.remove(piece); *count = count.saturating_sub(1); }
                }
                let order: Vec<u32> = rarity.rarest().collect();
                let mut sorted = order.clone();
                sorted.sort_unstable();
                let of_use = |piece: &u32| model[*piece as usize] > 0 && !done[*piece as usize];
                prop_assert!(sorted.into_iter().eq((0..20).filter(of_use)));
                prop_assert!((0..20).all(|piece| rarity.count(piece) == model[piece as usize]));
                prop_assert!(rarity.unseen().eq((0..20).filter(|piece| model[*piece as usize] == 0)));
                prop_assert_eq!(rarity.is_spread(), model.iter().all(|count| *count > 0));
                prop_assert!(order.is_sorted_by_key(|piece| model[*piece as usize]));
            }
        }
    }

    #[test]
    fn equals_stand_in_another_order_with_each_peer() {
        let order = |seed| {
            let mut rarity = Rarity::new(100, &mut Rng::new(seed));
            (0..100).for_each(|piece| rarity.add(piece));
            rarity.rarest().collect::<Vec<_>>()
        };
        assert_ne!(order(1), order(2));
    }
}
