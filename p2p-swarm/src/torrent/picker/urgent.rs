//! Pieces that somebody waits for: a player that shows what has come so far.
//!
//! Each has a deadline. The earlier that is the sooner its blocks are asked for, before all others; and when it has passed,
//! blocks that are still out are asked of whoever has nothing more urgent to do, for a single slow peer must not hold up
//! what all others could send.

use p2p_core::{Peer, Time};

use super::Picker;
use crate::bits::Bits;
use crate::torrent::wire::Block;

impl<P: Peer> Picker<P> {
    /// These pieces are waited for, and no others any more.
    pub(crate) fn hurry(&mut self, mut urgent: Vec<(Time, u32)>) {
        urgent.retain(|(_, piece)| self.wants(*piece));
        urgent.sort_unstable();
        self.urgent = urgent;
    }

    /// The next block of what is waited for, if the peer can send one.
    pub(super) fn pick_urgent(
        &mut self,
        peer: P,
        theirs: &Bits,
        mine: impl Fn(&Block) -> bool,
        now: Time,
    ) -> Option<Block> {
        let first = self.urgent.iter().map(|(_, piece)| *piece);
        let first =
            first.filter(|piece| theirs.contains(u64::from(*piece))).find(|piece| self.is_open(peer, *piece));
        if let Some(piece) = first {
            return self.next_of_new(peer, piece);
        }
        let late =
            self.urgent.iter().filter(|(due, piece)| *due <= now && theirs.contains(u64::from(*piece)));
        let mut best: Option<(u8, Block)> = None;
        for (asked, block) in late.flat_map(|(_, piece)| self.out_of(peer, *piece)) {
            if best.is_none_or(|(fewest, _)| asked < fewest) && !mine(&block) {
                best = Some((asked, block));
            }
        }
        let (_, block) = best?;
        Some(self.ask_again(block))
    }

    /// The first piece that is waited for and that a peer that has everything can be asked for.
    pub(super) fn first_urgent(&self, peer: P) -> Option<u32> {
        self.urgent.iter().map(|(_, piece)| *piece).find(|piece| self.is_open(peer, *piece))
    }

    /// Whether a piece that is wanted has blocks that nobody was asked for and this peer may be.
    fn is_open(&self, peer: P, piece: u32) -> bool {
        let open =
            |begun: &super::Begun<P>| begun.missing > 0 && begun.alone.is_none_or(|alone| alone == peer);
        self.begun.get(&piece).is_none_or(open)
    }

    /// The next block of a piece, which may not be begun yet.
    fn next_of_new(&mut self, peer: P, piece: u32) -> Option<Block> {
        if !self.begun.contains_key(&piece) {
            self.begin_piece(piece);
        }
        self.next_of(peer, piece)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::torrent::picker::tests::{A, B, picker};
    use p2p_core::Rng;

    #[test]
    fn what_is_waited_for_comes_first_and_again_where_it_is_late() {
        let mut rng = Rng::new(1);
        let mut picker = picker(10, &mut rng);
        let all = Bits::full(10);
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let mut pick = |picker: &mut Picker<_>, peer, last, now, mine: &[Block]| {
            picker.pick(peer, &all, last, |block| mine.contains(block), now, &mut rng)
        };
        // It is in the middle of another piece.
        let other = pick(&mut picker, A, None, at(0), &[]).unwrap().piece;
        let waited: Vec<u32> = (0..10).filter(|piece| *piece != other).skip(5).take(2).collect();
        picker.hurry(vec![(at(9), waited[1]), (at(8), waited[0]), (at(1), other)]);
        let order: Vec<u32> =
            (0..5).map(|_| pick(&mut picker, A, Some(other), at(0), &[]).unwrap().piece).collect();
        assert_eq!(order, [other, waited[0], waited[0], waited[1], waited[1]]);
        // Nothing is late: another peer begins what comes next.
        let next = pick(&mut picker, B, None, at(0), &[]).unwrap();
        assert!(next.piece != other && !waited.contains(&next.piece));
        // The first is: its blocks are asked of the other, too, each once.
        let mut mine = Vec::new();
        for _ in 0..2 {
            mine.push(pick(&mut picker, B, None, at(8), &mine).unwrap());
        }
        assert!(mine.iter().all(|block| block.piece == other));
        // When it is there it is waited for no more.
        picker.verified(other);
        assert_eq!(picker.urgent, [(at(8), waited[0]), (at(9), waited[1])]);
    }
}
