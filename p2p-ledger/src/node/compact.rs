//! Compact blocks: a header and short names of transactions that the other most likely has (BIP 152).
//!
//! A short name is six bytes of a hash of the transaction's name under a key that is drawn from the block's header and a
//! number of the sender's. So nobody can look for two transactions with one short name before there is the block, and what
//! collides for one sender does not for the next. BIP 152 has SipHash for it; here it is BLAKE3, which is there already.
//!
//! Some collide all the same, or are made to by whoever makes the block. Then what is put together is not what the header
//! commits to, nobody is to blame, and the whole block is asked for. Only a peer that contradicts itself, whose transactions
//! have not the short names that it gave them, is caught lying.

use std::collections::BTreeMap;

use p2p_core::Key;

use crate::block::{Block, MAX_TRANSACTIONS};
use crate::codec::{Decode, Encode, InvalidEncoding, Reader, put_count};
use crate::header::Header;
use crate::id::{BlockId, Kind, WtxId};
use crate::transaction::Tx;

/// A short name.
pub type ShortId = [u8; 6];

/// A block without the transactions that whoever gets it most likely has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactBlock<H, T> {
    /// Its header.
    pub header: H,
    /// What the short names are drawn with, beside the header.
    pub nonce: u64,
    /// The short names of those that are not here, in order.
    pub short: Vec<ShortId>,
    /// Those that are, and where they stand in the block, in order. The first of a block nobody else can have.
    pub prefilled: Vec<(u32, T)>,
}

impl<H: Header, T: Tx> CompactBlock<H, T> {
    /// A block without all but its first transaction. The number should be drawn anew for each block.
    ///
    /// ```
    /// use p2p_core::Key;
    /// use p2p_ledger::*;
    ///
    /// let transactions: Vec<_> = (0..9).map(|i| Transaction::coinbase(1, i, [])).collect();
    /// let seal = Work { bits: Compact(0x207f_ffff), nonce: 0 };
    /// let root = transactions_root(&transactions);
    /// let header = BlockHeader { height: 1, previous: BlockId::NONE, root, time: 1, seal };
    /// let block = Block { header, transactions };
    /// let compact = CompactBlock::of(&block, 7);
    /// assert_eq!((compact.prefilled.len(), compact.short.len()), (1, 8));
    /// assert!(compact.to_bytes().len() < block.to_bytes().len());
    /// ```
    pub fn of(block: &Block<H, T>, nonce: u64) -> CompactBlock<H, T> {
        let keyed = ShortIds::new(&block.header, nonce);
        let short = block.transactions.iter().skip(1).map(|one| keyed.of(&one.wtxid())).collect();
        let prefilled = block.transactions.first().map(|first| (0, first.clone())).into_iter().collect();
        CompactBlock { header: block.header.clone(), nonce, short, prefilled }
    }

    /// How many transactions the block has.
    fn len(&self) -> usize {
        self.short.len() + self.prefilled.len()
    }
}

impl<H: Encode, T: Encode> Encode for CompactBlock<H, T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        out.extend_from_slice(&self.nonce.to_le_bytes());
        put_count(out, self.short.len());
        self.short.iter().for_each(|short| out.extend_from_slice(short));
        put_count(out, self.prefilled.len());
        for (at, transaction) in &self.prefilled {
            out.extend_from_slice(&at.to_le_bytes());
            transaction.encode(out);
        }
    }
}

impl<H: Decode, T: Decode> Decode for CompactBlock<H, T> {
    fn decode(input: &mut Reader<'_>) -> Result<Self, InvalidEncoding> {
        let (header, nonce) = (H::decode(input)?, input.u64()?);
        let count = input.count(MAX_TRANSACTIONS)?;
        let short = (0..count).map(|_| input.array()).collect::<Result<Vec<ShortId>, _>>()?;
        let count = input.count(MAX_TRANSACTIONS - short.len())?;
        let prefilled = (0..count).map(|_| Ok((input.u32()?, T::decode(input)?)));
        let prefilled = prefilled.collect::<Result<Vec<(u32, T)>, InvalidEncoding>>()?;
        let all = short.len() + prefilled.len();
        let rises = prefilled.windows(2).all(|two| two[0].0 < two[1].0);
        if !rises || prefilled.last().is_some_and(|(at, _)| *at as usize >= all) {
            return Err(InvalidEncoding::NotCanonical("compact block"));
        }
        Ok(CompactBlock { header, nonce, short, prefilled })
    }
}

/// What draws the short names of one block.
#[derive(Clone, Copy, Debug)]
struct ShortIds(Key);

impl ShortIds {
    fn new<H: Header>(header: &H, nonce: u64) -> ShortIds {
        let mut bytes = header.to_bytes();
        bytes.extend_from_slice(&nonce.to_le_bytes());
        ShortIds(Kind::ShortIds.hash(&bytes))
    }

    fn of(&self, id: &WtxId) -> ShortId {
        let hash = blake3::keyed_hash(self.0.as_bytes(), id.0.as_bytes());
        let mut short = [0; 6];
        short.copy_from_slice(&hash.as_bytes()[..6]);
        short
    }
}

/// A block of which some transactions are missing.
#[derive(Clone, Debug)]
pub struct Partial<H, T> {
    header: H,
    short_ids: ShortIds,
    /// The short name of each that is missing, by its place.
    missing: BTreeMap<u32, ShortId>,
    found: Vec<Option<T>>,
}

impl<H: Header, T: Tx> Partial<H, T> {
    /// Puts a block together from what waits: the names of that, and how to get it. Where two that wait have one short name
    /// neither is taken.
    pub fn new<'a>(
        compact: CompactBlock<H, T>,
        waiting: impl Iterator<Item = &'a WtxId>,
        get: impl Fn(&WtxId) -> Option<T>,
    ) -> Partial<H, T> {
        let short_ids = ShortIds::new(&compact.header, compact.nonce);
        let mut found: Vec<Option<T>> = vec![None; compact.len()];
        for (at, transaction) in compact.prefilled {
            found[at as usize] = Some(transaction);
        }
        let free = (0..).zip(&found).filter(|(_, one)| one.is_none()).map(|(at, _)| at);
        let mut missing: BTreeMap<u32, ShortId> = free.zip(compact.short).collect();
        let mut places: BTreeMap<ShortId, Vec<u32>> = BTreeMap::new();
        missing.iter().for_each(|(at, short)| places.entry(*short).or_default().push(*at));
        let mut named: BTreeMap<u32, Option<WtxId>> = BTreeMap::new();
        for id in waiting {
            if let Some([at]) = places.get(&short_ids.of(id)).map(Vec::as_slice) {
                named.entry(*at).and_modify(|one| *one = None).or_insert(Some(*id));
            }
        }
        for (at, id) in named {
            if let Some(transaction) = id.and_then(|id| get(&id)) {
                found[at as usize] = Some(transaction);
                missing.remove(&at);
            }
        }
        Partial { header: compact.header, short_ids, missing, found }
    }

    /// Its name.
    pub fn id(&self) -> BlockId {
        self.header.id()
    }

    /// Where those stand that are missing, in order.
    pub fn missing(&self) -> Vec<u32> {
        self.missing.keys().copied().collect()
    }

    /// The block, with what was missing, in order. Whether it is the one that the header commits to is another question.
    ///
    /// # Errors
    /// There are more or fewer than are missing, or one has another short name than the compact block said: whoever has
    /// sent both contradicts itself.
    pub fn complete(self, transactions: Vec<T>) -> Result<Block<H, T>, Contradiction> {
        let Partial { header, short_ids, missing, mut found } = self;
        if transactions.len() != missing.len() {
            return Err(Contradiction);
        }
        for ((at, short), transaction) in missing.into_iter().zip(transactions) {
            if short_ids.of(&transaction.wtxid()) != short {
                return Err(Contradiction);
            }
            found[at as usize] = Some(transaction);
        }
        Ok(Block { header, transactions: found.into_iter().flatten().collect() })
    }
}

/// Transactions are not those whose short names a compact block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transactions are not those that the compact block names")]
pub struct Contradiction;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{BlockHeader, Work};
    use crate::target::Compact;
    use crate::transaction::{Transaction, tests::transaction};
    use crate::transactions_root;
    use proptest::prelude::*;

    fn block(transactions: Vec<Transaction>) -> Block<BlockHeader<Work>, Transaction> {
        let seal = Work { bits: Compact(0x207f_ffff), nonce: 0 };
        let root = transactions_root(&transactions);
        let header = BlockHeader { height: 1, previous: BlockId::NONE, root, time: 1, seal };
        Block { header, transactions }
    }

    proptest! {
        /// Whatever waits, the block is what it was once what is missing has come.
        #[test]
        fn a_block_comes_back_from_what_waits_and_what_is_missing(
            transactions in proptest::collection::vec(transaction(), 1..8),
            others in proptest::collection::vec(transaction(), 0..4),
            nonce in any::<u64>(),
            waits in any::<u8>(),
        ) {
            let block = block(transactions);
            let compact = CompactBlock::of(&block, nonce);
            let bytes = compact.to_bytes();
            prop_assert_eq!(&CompactBlock::from_bytes(&bytes).unwrap(), &compact);
            let there = block.transactions.iter().enumerate().filter(|(i, _)| waits >> i & 1 == 1);
            let there = there.map(|(_, one)| one.clone()).chain(others);
            let pool: BTreeMap<WtxId, Transaction> = there.map(|one| (one.wtxid(), one)).collect();
            let partial = Partial::new(compact, pool.keys(), |id| pool.get(id).cloned());
            let missing: Vec<Transaction> =
                partial.missing().into_iter().map(|at| block.transactions[at as usize].clone()).collect();
            prop_assert_eq!(partial.id(), block.header.id());
            prop_assert_eq!(partial.complete(missing).unwrap(), block);
        }

        #[test]
        fn garbage_is_refused_without_a_panic(bytes: Vec<u8>) {
            let _: Result<CompactBlock<BlockHeader<Work>, Transaction>, _> = CompactBlock::from_bytes(&bytes);
        }
    }

    #[test]
    fn a_peer_that_sends_others_than_it_named_contradicts_itself() {
        let one = |height| Transaction::coinbase(1, height, []);
        let block = block((0..4).map(one).collect());
        let partial =
            || Partial::new(CompactBlock::of(&block, 1), std::iter::empty(), |_| None::<Transaction>);
        assert_eq!(partial().missing(), [1, 2, 3]);
        assert_eq!(partial().complete(vec![one(1), one(2)]), Err(Contradiction));
        assert_eq!(partial().complete(vec![one(1), one(2), one(4)]), Err(Contradiction));
        assert_eq!(partial().complete(vec![one(1), one(2), one(3)]), Ok(block.clone()));
    }

    #[test]
    fn places_of_transactions_have_one_spelling() {
        let block = block((0..3).map(|height| Transaction::coinbase(1, height, [])).collect());
        let mut compact = CompactBlock::of(&block, 1);
        compact.prefilled[0].0 = 3;
        let read = CompactBlock::<BlockHeader<Work>, Transaction>::from_bytes(&compact.to_bytes());
        assert_eq!(read, Err(InvalidEncoding::NotCanonical("compact block")));
    }

    #[test]
    fn where_short_names_collide_neither_is_taken() {
        let block = block((0..2).map(|height| Transaction::coinbase(1, height, [])).collect());
        let mut compact = CompactBlock::of(&block, 1);
        let own = block.transactions[1].wtxid();
        // The block names one short name twice: nobody can say which of the two what waits is.
        compact.short.push(compact.short[0]);
        let partial = Partial::new(compact, [own].iter(), |_| Some(block.transactions[1].clone()));
        assert_eq!(partial.missing(), [1, 2]);
        // What waits has it twice: neither is taken.
        let compact = CompactBlock::of(&block, 1);
        let partial = Partial::new(compact, [own, own].iter(), |_| Some(block.transactions[1].clone()));
        assert_eq!(partial.missing(), [1]);
    }
}
