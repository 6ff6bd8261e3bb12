//! Which block to ask a peer for.
//!
//! A piece that was begun is finished first (strict priority), since only a whole one can be passed on; but not where the peer
//! has one that half as many have, or fewer. What peers that choked have left undone others can finish: if it were asked of a
//! seed the seed's line would go for what is elsewhere, and everybody wait for what is not. A new one is, at the very start,
//! any (random first: the rarest come slowly, and who has nothing has nothing to give); later the rarest that the peer has.
//! When every block that is wanted has been asked for, those that are still out are asked of others
//! too, and whoever is late is told that it is not wanted any more (endgame). Cohen 2003.
//!
//! What somebody waits for comes before all that ([`urgent`]), and of the rest what is wanted most ([`Priority`]): all this is
//! among pieces that are wanted as much. Where content is to come in order ([`Order::Sequential`]), the first pieces take the
//! place of the rarest.
//!
//! A piece that turns out wrong, with blocks of several peers, is asked for again of one alone: if it is wrong again that
//! one has lied, and if it is right the blocks that differ say who had.

mod stretch;
mod urgent;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use p2p_core::{Peer, Rng, Time};

use super::merkle::BLOCK;
use super::metainfo::Info;
use super::rarity::Rarity;
use super::wire::Block;
use crate::bits::Bits;

/// Until so many pieces are there, new ones are chosen at random. 4 (Cohen 2003).
const RANDOM_FIRST: u64 = 4;
/// What so many times fewer peers have comes before what was begun. 2.
const MUCH_RARER: u16 = 2;
/// Of how many peers one block is asked at a time in the endgame. 3.
const MAX_ASKED: u8 = 3;

/// Which pieces of a torrent come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Those that the fewest peers have: so all stay to be had, and everybody has something to give (Cohen 2003).
    #[default]
    Rarest,
    /// The first: of what has come the most can be used, and a swarm where all do so is a slow one.
    Sequential,
}

/// How much a file is wanted, and so the pieces that it lies in; one that several lie in as much as the one of them that is
/// wanted most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Not at all. What of it shares a piece with another comes with that.
    Skip,
    /// When nothing else is to be had.
    Low,
    /// As others are.
    #[default]
    Normal,
    /// Before all others.
    High,
}

/// Those that are wanted, the first first.
const BY_PRIORITY: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];

/// A block of a piece that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State<P> {
    Missing,
    /// So many peers were asked for it.
    Asked(u8),
    /// This one has sent it.
    Here(P),
}

/// A piece that was begun and is not verified.
#[derive(Debug)]
struct Begun<P> {
    blocks: Vec<State<P>>,
    missing: u32,
    /// It was wrong once: only this peer is asked for it.
    alone: Option<P>,
}

/// What is said of a piece that was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong<P> {
    /// Who has sent each block.
    pub senders: Vec<P>,
    /// What each block hashes to.
    pub digests: Vec<[u8; 32]>,
}

/// A torrent's pieces: which are there, which were begun, which come next. A few numbers for each piece, a state for
/// each block of those that were begun.
#[derive(Debug)]
pub(crate) struct Picker<P> {
    lens: Lens,
    have: Bits,
    /// How much each is wanted.
    priorities: Vec<Priority>,
    /// Those that are wanted and not there; and how many these are, for each priority.
    missing: Bits,
    left: [u32; 4],
    wanted: u32,
    order: Order,
    rarity: Rarity,
    /// Pieces that somebody waits for, and when each should be there; the first comes first.
    urgent: Vec<(Time, u32)>,
    begun: BTreeMap<u32, Begun<P>>,
    /// Blocks of begun pieces that were not asked for.
    open: u64,
    /// So many of those that were begun are not wanted any more, and count for nothing here; what has come of them is kept.
    aside: u64,
    /// What was wrong, until it is known who lied.
    wrong: BTreeMap<u32, Vec<Wrong<P>>>,
}

/// How long pieces are. For most torrents two numbers say it.
#[derive(Debug)]
struct Lens(std::sync::Arc<Info>);

impl Lens {
    fn block(&self, piece: u32, block: u32) -> Block {
        let begin = block * BLOCK;
        let length = self.0.piece_len(piece).saturating_sub(begin).min(BLOCK);
        Block { piece, begin, length }
    }

    /// Whether a block comes right after another, but for what nobody asks for.
    fn follows(&self, one: &Block, next: &Block) -> bool {
        let end = one.begin + one.length;
        match next.piece.checked_sub(one.piece) {
            Some(0) => next.begin == end,
            Some(1) => next.begin == 0 && end == self.0.piece_len(one.piece),
            _ => false,
        }
    }
}

/// What became of a block that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// It is wanted.
    New {
        /// How many others were asked for it too.
        others: u8,
    },
    /// It was there already, or the piece was.
    Again,
}

impl<P: Peer> Picker<P> {
    /// Of a torrent of which some pieces are there, and all are wanted so much.
    pub(crate) fn new(
        info: &std::sync::Arc<Info>,
        have: Bits,
        priorities: Vec<Priority>,
        order: Order,
        rng: &mut Rng,
    ) -> Picker<P> {
        let mut picker = Picker {
            lens: Lens(info.clone()),
            rarity: Rarity::new(info.piece_count(), rng),
            have,
            priorities: Vec::new(),
            missing: Bits::default(),
            left: [0; 4],
            wanted: 0,
            order,
            urgent: Vec::new(),
            begun: BTreeMap::new(),
            open: 0,
            aside: 0,
            wrong: BTreeMap::new(),
        };
        picker.have.iter().for_each(|piece| picker.rarity.done(piece as u32));
        picker.want(priorities);
        picker
    }

    /// Pieces are wanted so much from now on. Of those that are not wanted any more nothing may be asked for.
    pub(crate) fn want(&mut self, priorities: Vec<Priority>) {
        (self.missing, self.left, self.wanted) = (Bits::new(self.have.len()), [0; 4], 0);
        for (piece, priority) in (0..).zip(&priorities).filter(|(_, priority)| **priority > Priority::Skip) {
            self.wanted += 1;
            if !self.have.contains(piece) {
                self.missing.insert(piece);
                self.left[*priority as usize] += 1;
            }
        }
        self.priorities = priorities;
        let (missing, begun) = (&self.missing, &self.begun);
        let wanted = || begun.iter().filter(move |(piece, _)| missing.contains(u64::from(**piece)));
        self.open = wanted().map(|(_, begun)| u64::from(begun.missing)).sum();
        self.aside = begun.len() as u64 - wanted().count() as u64;
        self.urgent.retain(|(_, piece)| missing.contains((*piece).into()));
    }

    /// How much a piece is wanted.
    fn priority(&self, piece: u32) -> Priority {
        self.priorities.get(piece as usize).copied().unwrap_or(Priority::Skip)
    }

    /// The pieces that are there.
    pub(crate) fn have(&self) -> &Bits {
        &self.have
    }

    /// Whether a piece is wanted and not there.
    pub(crate) fn wants(&self, piece: u32) -> bool {
        self.missing.contains(piece.into())
    }

    /// How many pieces are wanted, there or not.
    pub(crate) fn wanted(&self) -> u32 {
        self.wanted
    }

    /// Whether everything that is wanted is there.
    pub(crate) fn is_done(&self) -> bool {
        self.missing.count() == 0
    }

    /// How many pieces somebody has and are wanted.
    pub(crate) fn wanted_of(&self, theirs: &Bits) -> u32 {
        self.missing.common(theirs) as u32
    }

    /// A peer has a piece, or is gone that had it.
    pub(crate) fn seen(&mut self, piece: u32) {
        self.rarity.add(piece);
    }

    /// See [`Picker::seen`].
    pub(crate) fn unseen(&mut self, piece: u32) {
        self.rarity.remove(piece);
    }

    /// Whether each piece is somewhere among the peers.
    pub(crate) fn is_spread(&self) -> bool {
        self.rarity.is_spread()
    }

    /// The pieces that no peer has, in order.
    pub(crate) fn unseen_by_all(&self) -> impl Iterator<Item = u32> {
        self.rarity.unseen()
    }

    /// How many of the peers have a piece.
    pub(crate) fn copies(&self, piece: u32) -> u16 {
        self.rarity.count(piece)
    }

    /// The next block to ask a peer for that has these pieces. `last` is the piece that it was asked for last, `mine`
    /// says whether it was asked for a block already.
    pub(crate) fn pick(
        &mut self,
        peer: P,
        theirs: &Bits,
        last: Option<u32>,
        mine: impl Fn(&Block) -> bool,
        now: Time,
        rng: &mut Rng,
    ) -> Option<Block> {
        if let Some(block) = self.pick_urgent(peer, theirs, &mine, now) {
            return Some(block);
        }
        if let Some(piece) = last
            && let Some(block) = self.next_of(peer, piece)
        {
            return Some(block);
        }
        let open = self.open_piece(peer, theirs);
        match self.begin(theirs, open, rng).or(open) {
            Some(piece) => self.next_of(peer, piece),
            None if self.is_endgame() => self.again(peer, theirs, mine, rng),
            None => None,
        }
    }

    /// The next block of a begun piece that nobody was asked for.
    fn next_of(&mut self, peer: P, piece: u32) -> Option<Block> {
        if !self.wants(piece) {
            return None;
        }
        let begun = self.begun.get_mut(&piece).filter(|begun| begun.missing > 0)?;
        if begun.alone.is_some_and(|alone| alone != peer) {
            return None;
        }
        let at = begun.blocks.iter().position(|block| *block == State::Missing)?;
        begun.blocks[at] = State::Asked(1);
        begun.missing -= 1;
        self.open -= 1;
        Some(self.lens.block(piece, at as u32))
    }

    /// Of the begun pieces that have blocks to ask for and are wanted most the rarest, or the first.
    fn open_piece(&mut self, peer: P, theirs: &Bits) -> Option<u32> {
        if self.open == 0 {
            return None;
        }
        let mine = |begun: &Begun<P>| begun.missing > 0 && begun.alone.is_none_or(|alone| alone == peer);
        let can = |piece: &u32| theirs.contains(u64::from(*piece)) && self.wants(*piece);
        let open = self.begun.iter().filter(|(piece, begun)| can(piece) && mine(begun));
        let open = open.map(|(piece, _)| *piece);
        let priority = |piece: &u32| Reverse(self.priority(*piece));
        match self.order {
            Order::Rarest => open.min_by_key(|piece| (priority(piece), self.rarity.count(*piece))),
            Order::Sequential => open.min_by_key(priority),
        }
    }

    /// Begins a piece; where one is open only if that is wanted less, or as much and the new one is much rarer.
    fn begin(&mut self, theirs: &Bits, open: Option<u32>, rng: &mut Rng) -> Option<u32> {
        if self.begun.len() as u64 - self.aside >= self.missing.count() {
            return None;
        }
        // Who has nothing new is not searched for it.
        if open.is_none() && self.missing.common(theirs) == self.begun_of(theirs) {
            return None;
        }
        let least = open.map_or(Priority::Low, |open| self.priority(open));
        for priority in BY_PRIORITY.into_iter().take_while(|priority| *priority >= least) {
            let open = open.filter(|open| self.priority(*open) == priority);
            if self.left[priority as usize] > 0
                && let Some(piece) = self.fresh(theirs, priority, open, rng)
            {
                self.begin_piece(piece);
                return Some(piece);
            }
        }
        None
    }

    /// How many pieces somebody has that are wanted and were begun.
    fn begun_of(&self, theirs: &Bits) -> u64 {
        let of = |piece: &&u32| self.wants(**piece) && theirs.contains(u64::from(**piece));
        self.begun.keys().filter(of).count() as u64
    }

    /// A piece that is wanted so much and that nobody has begun; where one is open only one much rarer.
    fn fresh(&self, theirs: &Bits, priority: Priority, open: Option<u32>, rng: &mut Rng) -> Option<u32> {
        let fresh = |piece: &u32| {
            let of = u64::from(*piece);
            let can = self.priority(*piece) == priority && self.missing.contains(of) && theirs.contains(of);
            can && !self.begun.contains_key(piece)
        };
        let count = self.have.len() as u32;
        match (self.order, open) {
            (Order::Sequential, None) => self.missing.iter().map(|piece| piece as u32).find(fresh),
            (Order::Rarest, None) if self.have.count() < RANDOM_FIRST => {
                let from = rng.index(count as usize) as u32;
                (from..count).chain(0..from).find(fresh)
            }
            (Order::Rarest, None) => self.rarity.rarest().find(fresh),
            (Order::Rarest, Some(open)) if self.have.count() >= RANDOM_FIRST => {
                let most = self.rarity.count(open) / MUCH_RARER;
                self.rarity.rarest().take_while(|piece| self.rarity.count(*piece) <= most).find(fresh)
            }
            (Order::Rarest | Order::Sequential, Some(_)) => None,
        }
    }

    fn begin_piece(&mut self, piece: u32) {
        let blocks = vec![State::Missing; self.lens.0.block_count(piece) as usize];
        let missing = blocks.len() as u32;
        self.open += u64::from(missing);
        self.begun.insert(piece, Begun { blocks, missing, alone: None });
    }

    /// Whether all that is wanted was asked for.
    pub(crate) fn is_endgame(&self) -> bool {
        self.open == 0 && self.begun.len() as u64 - self.aside == self.missing.count()
    }

    /// A block that others were asked for, the fewest first.
    fn again(
        &mut self,
        peer: P,
        theirs: &Bits,
        mine: impl Fn(&Block) -> bool,
        rng: &mut Rng,
    ) -> Option<Block> {
        let mut best: Option<(u8, u64, Block)> = None;
        for piece in self.begun.keys().filter(|piece| theirs.contains(u64::from(**piece))) {
            for (asked, block) in self.out_of(peer, *piece) {
                if best.is_some_and(|(fewest, ..)| asked > fewest) {
                    continue;
                }
                // Among equals any. To look whether it is the peer's own takes longest.
                let draw = rng.next_u64();
                if best.is_none_or(|(fewest, drawn, _)| (asked, draw) < (fewest, drawn)) && !mine(&block) {
                    best = Some((asked, draw, block));
                }
            }
        }
        let (_, _, block) = best?;
        Some(self.ask_again(block))
    }

    /// The blocks of a piece that are out, and may be asked of a peer too: of how many each was asked.
    fn out_of(&self, peer: P, piece: u32) -> impl Iterator<Item = (u8, Block)> {
        let usable = |begun: &&Begun<P>| self.wants(piece) && begun.alone.is_none_or(|alone| alone == peer);
        let begun = self.begun.get(&piece).filter(usable);
        let blocks = begun.map(|begun| begun.blocks.as_slice()).unwrap_or_default().iter().enumerate();
        blocks.filter_map(move |(at, state)| match *state {
            State::Asked(asked) if asked < MAX_ASKED => Some((asked, self.lens.block(piece, at as u32))),
            State::Missing | State::Asked(_) | State::Here(_) => None,
        })
    }

    fn ask_again(&mut self, block: Block) -> Block {
        if let Some(State::Asked(asked)) = self.state(block) {
            *asked += 1;
        }
        block
    }

    fn state(&mut self, block: Block) -> Option<&mut State<P>> {
        self.begun.get_mut(&block.piece)?.blocks.get_mut((block.begin / BLOCK) as usize)
    }

    /// A peer will not send a block that it was asked for.
    pub(crate) fn unasked(&mut self, block: Block) {
        let wanted = self.wants(block.piece);
        let Some(state) = self.state(block) else { return };
        match state {
            State::Asked(asked) if *asked > 1 => *asked -= 1,
            State::Asked(_) => {
                *state = State::Missing;
                self.open += u64::from(wanted);
                if let Some(begun) = self.begun.get_mut(&block.piece) {
                    begun.missing += 1;
                }
            }
            State::Missing | State::Here(_) => {}
        }
    }

    /// A block has come from a peer that was asked for it.
    pub(crate) fn came(&mut self, peer: P, block: Block) -> Came {
        let Some(State::Asked(asked)) = self.state(block) else { return Came::Again };
        let others = *asked - 1;
        if let Some(begun) = self.begun.get_mut(&block.piece) {
            begun.blocks[(block.begin / BLOCK) as usize] = State::Here(peer);
        }
        Came::New { others }
    }

    /// A block that came was not kept.
    pub(crate) fn lost(&mut self, block: Block) {
        let wanted = self.wants(block.piece);
        let Some(state) = self.state(block).filter(|state| matches!(state, State::Here(_))) else { return };
        *state = State::Missing;
        self.open += u64::from(wanted);
        if let Some(begun) = self.begun.get_mut(&block.piece) {
            begun.missing += 1;
        }
    }

    /// A peer is gone: what only it was to be asked for, anybody is. Whether there was anything.
    pub(crate) fn gone(&mut self, peer: P) -> bool {
        let mut freed = false;
        for begun in self.begun.values_mut().filter(|begun| begun.alone == Some(peer)) {
            begun.alone = None;
            freed = true;
        }
        freed
    }

    /// A piece is right. What was wrong of it before, if anything was, is to be compared with it.
    pub(crate) fn verified(&mut self, piece: u32) -> Option<Vec<Wrong<P>>> {
        let wanted = self.wants(piece);
        match self.begun.remove(&piece) {
            Some(begun) if wanted => self.open -= u64::from(begun.missing),
            Some(_) => self.aside -= 1,
            None => {}
        }
        if self.missing.remove(piece.into()) {
            self.left[self.priority(piece) as usize] -= 1;
        }
        self.urgent.retain(|(_, urgent)| *urgent != piece);
        self.have.insert(piece.into());
        self.rarity.done(piece);
        self.wrong.remove(&piece)
    }

    /// A piece is wrong: who has sent its blocks. It must be [begun again](Picker::retry).
    pub(crate) fn senders(&self, piece: u32) -> Vec<P> {
        let blocks = self.begun.get(&piece).map(|begun| begun.blocks.as_slice()).unwrap_or_default();
        let sender = |block: &State<P>| match block {
            State::Here(peer) => Some(*peer),
            State::Missing | State::Asked(_) => None,
        };
        blocks.iter().filter_map(sender).collect()
    }

    /// Begins a piece again that was wrong. If several had sent it, their blocks' hashes are kept, and the next to have a
    /// part in it is `alone`, if somebody is named.
    pub(crate) fn retry(&mut self, piece: u32, wrong: Option<Wrong<P>>, alone: Option<P>) {
        let wanted = self.wants(piece);
        if let Some(begun) = self.begun.get_mut(&piece) {
            begun.blocks.fill(State::Missing);
            if wanted {
                self.open += begun.blocks.len() as u64 - u64::from(begun.missing);
            }
            begun.missing = begun.blocks.len() as u32;
            begun.alone = alone;
        }
        if let Some(wrong) = wrong {
            let kept = self.wrong.entry(piece).or_default();
            // Each time one peer at least is found out, so there are not many.
            if kept.len() < 8 {
                kept.push(wrong);
            }
        }
    }
}

#[cfg(test)]
mod tests;
