//! What to ask of somebody who sends much at a time: a stretch of blocks one after the other (BEP 19).
//!
//! What somebody waits for comes first, and then pieces that were begun. Otherwise it goes on where the last stretch has
//! ended, and where it cannot it begins at the start of the widest gap: so peers, who take single pieces anywhere, are met
//! late. Where content is to come in order it is the first gap. A stretch is of pieces that are wanted as much, and of those
//! that are wanted most.

use std::cmp::Reverse;

use p2p_core::Peer;

use super::{BY_PRIORITY, Begun, Order, Picker, Priority, State};
use crate::torrent::wire::Block;

impl<P: Peer> Picker<P> {
    /// Blocks that nobody was asked for, one after the other, of at most so many bytes, but for the first; whoever has sent
    /// the stretch before that ended with the piece `last`. None where all is there or was asked of somebody.
    pub(crate) fn stretch(&mut self, peer: P, last: Option<u32>, most: u64) -> Vec<Block> {
        let mut stretch: Vec<Block> = Vec::new();
        let mut bytes = 0;
        let unfinished = || self.unfinished(peer).filter(|piece| self.is_first(*piece));
        let after = || self.after(peer, last).filter(|piece| self.is_first(*piece));
        let gap = || BY_PRIORITY.into_iter().find_map(|priority| self.gap(priority));
        let mut next = self.first_urgent(peer).or_else(unfinished).or_else(after).or_else(gap);
        while let Some(piece) = next {
            let begins = !self.begun.contains_key(&piece);
            if begins {
                self.begin_piece(piece);
            }
            while bytes < most {
                let Some(block) = self.next_of(peer, piece) else { break };
                // What follows something that is there, or was asked of another, is another stretch.
                if stretch.last().is_some_and(|last| !self.lens.follows(last, &block)) {
                    self.unasked(block);
                    return stretch;
                }
                bytes += u64::from(block.length);
                stretch.push(block);
            }
            let alike = |next: &u32| self.priority(*next) == self.priority(piece);
            next = self.after(peer, Some(piece)).filter(alike).filter(|_| bytes < most);
        }
        stretch
    }

    /// Whether every piece that is wanted more than this one was begun.
    fn is_first(&self, piece: u32) -> bool {
        let priority = self.priority(piece);
        let mut more = BY_PRIORITY.into_iter().take_while(|more| *more > priority);
        !more.any(|more| self.gap(more).is_some())
    }

    /// Of the pieces that were begun and have blocks for this peer the first that is wanted most.
    fn unfinished(&self, peer: P) -> Option<u32> {
        let mine = |begun: &Begun<P>| begun.missing > 0 && begun.alone.is_none_or(|alone| alone == peer);
        let begun = self.begun.iter().filter(|(piece, begun)| self.wants(**piece) && mine(begun));
        begun.map(|(piece, _)| *piece).min_by_key(|piece| Reverse(self.priority(*piece)))
    }

    /// The piece after this one, if it is wanted and its first block can be had of this peer: nobody has begun it, or what was
    /// asked for did not come.
    fn after(&self, peer: P, piece: Option<u32>) -> Option<u32> {
        let next = piece?.checked_add(1)?;
        let can = |begun: &Begun<P>| {
            begun.blocks.first() == Some(&State::Missing) && begun.alone.is_none_or(|alone| alone == peer)
        };
        (self.missing.contains(next.into()) && self.begun.get(&next).is_none_or(can)).then_some(next)
    }

    /// Where pieces stand together that are wanted so much and that nobody has begun: the most of them, or the first.
    fn gap(&self, priority: Priority) -> Option<u32> {
        if self.left[priority as usize] == 0 {
            return None;
        }
        let mut widest: Option<(u32, u32)> = None;
        let mut gap: Option<(u32, u32)> = None;
        let fresh = |piece: &u32| self.priority(*piece) == priority && !self.begun.contains_key(piece);
        let mut fresh = self.missing.iter().map(|piece| piece as u32).filter(fresh);
        if self.order == Order::Sequential {
            return fresh.next();
        }
        for piece in fresh {
            gap = match gap {
                Some((start, length)) if start + length == piece => Some((start, length + 1)),
                _ => Some((piece, 1)),
            };
            if gap.map(|(_, length)| length) > widest.map(|(_, length)| length) {
                widest = gap;
            }
        }
        widest.map(|(start, _)| start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::Bits;
    use crate::storage::MemoryFiles;
    use crate::torrent::merkle::BLOCK;
    use crate::torrent::{CreateOptions, Format, Metainfo};
    use p2p_core::{Rng, SimPeer, Time};

    const WEB: SimPeer = SimPeer(1);
    const PEER: SimPeer = SimPeer(2);

    /// Of a file of ten pieces of two blocks each, of which some are there.
    fn picker(have: &[u64]) -> Picker<SimPeer> {
        let mut disk = MemoryFiles::default();
        disk.put("t", vec![7; 10 * 32768 - 5]);
        let options =
            CreateOptions { format: Format::V1, piece_length: Some(32768), ..CreateOptions::default() };
        let info = Metainfo::create(&mut disk, "t".as_ref(), &options).unwrap().info().clone();
        let mut there = Bits::new(10);
        have.iter().for_each(|piece| _ = there.insert(*piece));
        Picker::new(&info, there, vec![Priority::Normal; 10], Order::Rarest, &mut Rng::new(1))
    }

    /// The place of the first block, and the number of blocks.
    fn stretch(picker: &mut Picker<SimPeer>, last: Option<u32>, most: u64) -> Option<(u32, u32, usize)> {
        let blocks = picker.stretch(WEB, last, most);
        blocks.windows(2).for_each(|two| assert!(picker.lens.follows(&two[0], &two[1]), "{two:?}"));
        blocks.first().map(|first| (first.piece, first.begin, blocks.len()))
    }

    #[test]
    fn a_stretch_begins_at_the_widest_gap_and_goes_on_until_its_end() {
        let mut picker = picker(&[0, 3, 4]);
        assert_eq!(stretch(&mut picker, None, 3 * 32768), Some((5, 0, 6)));
        assert_eq!(stretch(&mut picker, Some(7), 1 << 30), Some((8, 0, 4)), "to the end");
        assert_eq!(stretch(&mut picker, Some(9), 1 << 30), Some((1, 0, 4)), "the other gap");
        assert_eq!(stretch(&mut picker, Some(2), 1 << 30), None, "all was asked for");
    }

    #[test]
    fn what_did_not_come_is_a_stretch_again() {
        let mut picker = picker(&[]);
        let blocks = picker.stretch(WEB, None, 1 << 30);
        assert_eq!(blocks.len(), 20);
        blocks.into_iter().for_each(|block| picker.unasked(block));
        assert_eq!(stretch(&mut picker, Some(9), 1 << 30), Some((0, 0, 20)), "in one");
    }

    #[test]
    fn what_is_waited_for_comes_first_and_in_order_the_first() {
        let mut picker = picker(&[0]);
        picker.hurry(vec![(Time::ZERO, 7)]);
        assert_eq!(stretch(&mut picker, Some(3), 3 * 32768), Some((7, 0, 6)));
        picker.order = Order::Sequential;
        assert_eq!(stretch(&mut picker, Some(9), 32768), Some((1, 0, 2)));
    }

    #[test]
    fn what_is_wanted_most_comes_first_in_a_stretch_of_its_own() {
        let mut picker = picker(&[0]);
        let mut priorities = vec![Priority::Normal; 10];
        priorities[1..6].fill(Priority::Low);
        priorities[4] = Priority::Skip;
        priorities[8..].fill(Priority::High);
        picker.want(priorities);
        assert_eq!(stretch(&mut picker, Some(5), 32768), Some((8, 0, 2)));
        assert_eq!(stretch(&mut picker, Some(8), 1 << 30), Some((9, 0, 2)));
        assert_eq!(stretch(&mut picker, None, 1 << 30), Some((6, 0, 4)));
        assert_eq!(stretch(&mut picker, None, 1 << 30), Some((1, 0, 6)));
        assert_eq!(stretch(&mut picker, Some(3), 1 << 30), Some((5, 0, 2)));
        assert_eq!(stretch(&mut picker, Some(5), 1 << 30), None, "the rest is not wanted");
    }

    #[test]
    fn what_was_begun_is_finished_first_and_what_others_were_asked_for_ends_a_stretch() {
        let mut picker = picker(&[]);
        // A peer is asked for the first blocks of two pieces, and of one is not to be any more.
        picker.begin_piece(4);
        let first = picker.next_of(PEER, 4).unwrap();
        picker.begin_piece(6);
        picker.next_of(PEER, 6).unwrap();
        assert_eq!(stretch(&mut picker, None, 1 << 30), Some((4, BLOCK, 3)), "and the piece behind it");
        picker.unasked(first);
        assert_eq!(stretch(&mut picker, Some(5), 1 << 30), Some((4, 0, 1)));
        assert_eq!(stretch(&mut picker, Some(4), 1 << 30), Some((6, BLOCK, 7)));
        assert_eq!(stretch(&mut picker, Some(9), 1), Some((0, 0, 1)), "one at the least");
    }
}
