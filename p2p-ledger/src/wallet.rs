//! A wallet: keys from one seed, the coins that they open, and payments.
//!
//! Nakamoto (2008, §10) advises "a new key pair ... for each transaction to keep them from being linked". All keys follow from
//! one secret of 32 bytes and a number (as in BIP 32, without its trees), so who has the secret has every coin: a wallet is
//! written down once. Found again from the secret alone it goes through the chain and looks for keys up to twenty beyond the
//! last that was used (BIP 44's gap).
//!
//! It follows a [`Ledger`] block by block, and back again when blocks are undone. At a full node it goes through every block; a
//! light client skips, by filters, those that cannot be about its keys or coins. Either way whoever serves it is asked for whole
//! blocks, and does not learn which keys it has. In this order: [`Wallet`], then `pay` (which coins, what change),
//! `address` (keys as text) and `file` (the secret under a password).

mod address;
mod file;
mod pay;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use p2p_core::{Key, Keypair};
use zeroize::Zeroizing;

use crate::block::Block;
use crate::codec::Encode;
use crate::coins::Coins;
use crate::consensus::Consensus;
use crate::header::Header;
use crate::headers::Tip;
use crate::id::{PublicKey, TxId};
use crate::ledger::{Ledger, LedgerError, Mark, Scanned};
use crate::lock::{Lock, Predicate};
use crate::transaction::{OutPoint, Transaction, Tx};

pub use address::{Address, ParseAddressError};
pub use file::{WalletFile, WalletFileError};
pub use pay::PayError;

/// How many keys beyond the last that was given out are looked for (BIP 44).
const GAP: u32 = 20;
/// How many blocks can be undone one by one; for more the wallet goes through the chain anew.
const UNDOABLE: usize = 1_000;
/// How many blocks that are not about it lie between two marks at most, if they come one by one: so many are gone through again
/// when the last block is undone.
const SKIPPED: u64 = 100;

/// Keys, and the coins that they open.
///
/// ```
/// use p2p_ledger::{Block, BlockHeader, BlockId, Compact, Output, Transaction, Wallet, Work, transactions_root};
///
/// let mut wallet = Wallet::new([7; 32], 1, 100);
/// let (first, second) = (wallet.receive(), wallet.receive());
/// assert_ne!(first, second);
///
/// let coinbase = Transaction::coinbase(1, 1, [Output { value: 50, lock: first.lock() }]);
/// let transactions = vec![coinbase];
/// let seal = Work { bits: Compact(0x207f_ffff), nonce: 0 };
/// let root = transactions_root(&transactions);
/// let header = BlockHeader { height: 1, previous: BlockId::NONE, root, time: 1, seal };
/// wallet.connect(&Block { header, transactions });
/// assert_eq!((wallet.balance().ready, wallet.balance().new), (0, 50));
/// ```
pub struct Wallet {
    secret: Zeroizing<[u8; 32]>,
    chain: u32,
    maturity: u64,
    /// How many keys were given out.
    given: u32,
    /// Those, and some more.
    keys: BTreeMap<PublicKey, u32>,
    /// A key was used that was not given out, so there may be more: those after it were not looked for in the blocks before.
    uses_more: bool,
    coins: BTreeMap<OutPoint, Owned>,
    /// Own payments that are in no block, each after what it depends on.
    pending: Vec<Transaction>,
    /// Own payments that spend what is not found: the wallet is behind, or a block was undone. They are kept until they are
    /// possible again, or a block has them or something else that spends the same.
    earlier: Vec<Transaction>,
    history: Vec<Entry>,
    /// The last blocks.
    last: VecDeque<Followed>,
    height: u64,
}

/// A coin of the wallet's that is not spent in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owned {
    value: u64,
    /// Which key opens it.
    key: u32,
    /// In which block it is; `None`: it is the change of a payment that is in none.
    height: Option<u64>,
    is_new: bool,
    /// A payment that is in no block spends it.
    spent: bool,
}

/// A block, with those that were skipped before it, and what is needed to undo it.
#[derive(Clone, Debug)]
struct Followed {
    mark: Mark,
    spent: Vec<(OutPoint, Owned)>,
    made: Vec<OutPoint>,
    own: Vec<Transaction>,
    entries: usize,
}

/// How much a wallet has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// What can be spent now: what is in blocks and old enough.
    pub ready: u64,
    /// New coins that wait for maturity.
    pub new: u64,
    /// What comes back from payments that are in no block.
    pub pending: u64,
}

/// A transaction that has changed what a wallet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: TxId,
    /// The height of its block; `None` if it is in none.
    pub height: Option<u64>,
    /// What came to keys of the wallet.
    pub received: u64,
    /// What went from them, fees among it.
    pub spent: u64,
}

impl Wallet {
    /// A wallet of this secret, on a chain of this number whose new coins wait so many blocks. It knows of no block.
    pub fn new(secret: [u8; 32], chain: u32, maturity: u64) -> Wallet {
        Wallet::with_given(Zeroizing::new(secret), chain, maturity, 0)
    }

    /// A wallet with a new secret from the operating system's random source.
    ///
    /// # Panics
    /// If the operating system has no random numbers to give.
    pub fn generate(chain: u32, maturity: u64) -> Wallet {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *secret).expect("the operating system gives no random numbers");
        Wallet::with_given(secret, chain, maturity, 0)
    }

    fn with_given(secret: Zeroizing<[u8; 32]>, chain: u32, maturity: u64, given: u32) -> Wallet {
        let mut wallet = Wallet {
            secret,
            chain,
            maturity,
            given: 0,
            keys: BTreeMap::new(),
            uses_more: false,
            coins: BTreeMap::new(),
            pending: Vec::new(),
            earlier: Vec::new(),
            history: Vec::new(),
            last: VecDeque::new(),
            height: 0,
        };
        wallet.look_ahead(given);
        wallet
    }

    /// The key pair of this number.
    fn keypair(&self, number: u32) -> Keypair {
        let mut hasher = blake3::Hasher::new_derive_key("p2p-ledger 2026 wallet: the keys of a secret");
        hasher.update(&*self.secret).update(&number.to_le_bytes());
        Keypair::from_seed(hasher.finalize().as_bytes())
    }

    /// So many keys were given out: the next ones are looked for.
    fn look_ahead(&mut self, given: u32) {
        self.given = self.given.max(given);
        for number in self.keys.len() as u32..self.given.saturating_add(GAP) {
            let key = PublicKey::from(self.keypair(number).id());
            self.keys.insert(key, number);
        }
    }

    /// A key to be paid at that nobody was given before. Give each to one payer.
    pub fn receive(&mut self) -> Address {
        let key = PublicKey::from(self.keypair(self.given).id());
        self.look_ahead(self.given + 1);
        Address { chain: self.chain, key }
    }

    /// How many keys were given out.
    pub fn given(&self) -> u32 {
        self.given
    }

    /// How many blocks it has followed.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// How much there is.
    pub fn balance(&self) -> Balance {
        let mut balance = Balance::default();
        for coin in self.coins.values().filter(|coin| !coin.spent) {
            match coin.height {
                None => balance.pending += coin.value,
                Some(_) if self.is_ready(coin) => balance.ready += coin.value,
                Some(_) => balance.new += coin.value,
            }
        }
        balance
    }

    /// Whether a coin can be spent in the next block.
    fn is_ready(&self, coin: &Owned) -> bool {
        let height = coin.height.unwrap_or(u64::MAX);
        !coin.spent && (!coin.is_new || self.height + 1 >= height.saturating_add(self.maturity))
    }

    /// What has changed what there is, in the order of the blocks; then own payments that are in none.
    pub fn history(&self) -> impl Iterator<Item = Entry> {
        let pending = self.pending.iter().map(|one| self.entry(one, None, &BTreeMap::new()));
        self.history.iter().copied().chain(pending)
    }

    /// Own payments that are in no block: submit them again, if those who were told have forgotten them.
    pub fn pending(&self) -> impl Iterator<Item = &Transaction> {
        self.pending.iter()
    }

    fn entry(
        &self,
        transaction: &Transaction,
        height: Option<u64>,
        gone: &BTreeMap<OutPoint, Owned>,
    ) -> Entry {
        let coin = |at: &OutPoint| self.coins.get(at).or_else(|| gone.get(at));
        let spent = transaction.inputs.iter().filter_map(|input| coin(&input.previous));
        let received = transaction.outputs.iter().filter(|output| self.key_of(&output.lock).is_some());
        Entry {
            id: transaction.id(),
            height,
            received: received.map(|output| output.value).sum(),
            spent: spent.map(|coin| coin.value).sum(),
        }
    }

    /// Which of its keys opens this.
    fn key_of(&self, lock: &Lock) -> Option<u32> {
        match lock {
            Lock::Key(key) => self.keys.get(key).copied(),
            _ => None,
        }
    }

    /// The next block of the chain. Where keys are used that this wallet has not given out, blocks may come in an order in which
    /// some are not found: [`catch_up`](Wallet::catch_up) looks again.
    pub fn connect<H: Header>(&mut self, block: &Block<H, Transaction>) {
        let mark = Mark { height: self.height + 1, id: block.header.id(), filters: Key::ZERO };
        self.connect_at(mark, block);
    }

    /// A block of the chain, before which nothing that is skipped is about this wallet.
    fn connect_at<H: Header>(&mut self, mark: Mark, block: &Block<H, Transaction>) {
        self.height = mark.height;
        let before = self.history.len();
        let mut gone: BTreeMap<OutPoint, Owned> = BTreeMap::new();
        let (mut made, mut own) = (Vec::new(), Vec::new());
        for transaction in &block.transactions {
            let id = transaction.id();
            let mut is_own = false;
            for input in &transaction.inputs {
                if let Some(coin) = self.coins.remove(&input.previous) {
                    is_own = true;
                    if coin.spent && !self.pending.iter().any(|one| one.id() == id) {
                        self.give_up(&input.previous);
                    }
                    gone.insert(input.previous, Owned { spent: false, ..coin });
                }
            }
            self.pending.retain(|one| one.id() != id);
            self.earlier.retain(|one| {
                one.id() != id && !transaction.inputs.iter().any(|input| spends(one, &input.previous))
            });
            for (index, output) in (0..).zip(&transaction.outputs) {
                let Some(key) = self.key_of(&output.lock) else { continue };
                self.uses_more |= key >= self.given;
                self.look_ahead(key + 1);
                let at = OutPoint { id, index };
                let spent = self.pending.iter().any(|one| spends(one, &at));
                let (value, height) = (output.value, Some(self.height));
                self.coins.insert(at, Owned { value, key, height, is_new: transaction.is_coinbase(), spent });
                made.push(at);
            }
            let entry = self.entry(transaction, Some(self.height), &gone);
            if entry.received > 0 || entry.spent > 0 {
                self.history.push(entry);
            }
            if is_own {
                own.push(transaction.clone());
            }
        }
        // What is made and spent by one block need not come back.
        let spent = gone.into_iter().filter(|(at, _)| !made.contains(at)).collect();
        let made = made.into_iter().filter(|at| self.coins.contains_key(at)).collect();
        let entries = self.history.len() - before;
        self.remember(Followed { mark, spent, made, own, entries });
    }

    fn remember(&mut self, followed: Followed) {
        if self.last.len() >= UNDOABLE {
            self.last.pop_front();
        }
        self.last.push_back(followed);
    }

    /// How far it has come.
    fn mark(&self) -> Mark {
        self.last.back().map_or(Mark::START, |last| last.mark)
    }

    /// Nothing up to there is about this wallet.
    fn skip_to(&mut self, mark: Mark) {
        if mark == self.mark() {
            return;
        }
        self.height = mark.height;
        // When the last block is undone there has to be a mark not far before it.
        let before = self.last.iter().rev().nth(1).map_or(0, |before| before.mark.height);
        match self.last.back_mut() {
            Some(last) if last.skips() && mark.height <= before + SKIPPED => last.mark = mark,
            _ => self.remember(Followed::none(mark)),
        }
    }

    /// What it looks for: its keys as locks, and its coins as what is spent.
    fn about(&self) -> Vec<Vec<u8>> {
        let keys = self.keys.keys().map(|key| Lock::Key(*key).to_bytes());
        keys.chain(self.coins.keys().map(OutPoint::to_bytes)).collect()
    }

    /// The last block is undone. Own payments in it wait for another.
    fn disconnect(&mut self) -> Option<()> {
        let block = self.last.pop_back()?;
        self.height = self.mark().height;
        // As if nothing waited; what can still be, is noted again.
        let later = std::mem::take(&mut self.pending);
        self.coins.retain(|_, coin| coin.height.is_some());
        self.coins.values_mut().for_each(|coin| coin.spent = false);
        for at in &block.made {
            self.coins.remove(at);
        }
        self.coins.extend(block.spent);
        self.history.truncate(self.history.len() - block.entries);
        for one in block.own.into_iter().chain(later) {
            if !self.note(&one) {
                self.earlier.push(one);
            }
        }
        Some(())
    }

    /// An own payment waits for a block; says whether it does. It does not, if what it spends is not there.
    fn note(&mut self, transaction: &Transaction) -> bool {
        if self.pending.contains(transaction) {
            return true;
        }
        let is_there = |at: &OutPoint| self.coins.get(at).is_some_and(|coin| !coin.spent);
        if !transaction.inputs.iter().all(|input| is_there(&input.previous)) {
            return false;
        }
        for input in &transaction.inputs {
            if let Some(coin) = self.coins.get_mut(&input.previous) {
                coin.spent = true;
            }
        }
        let id = transaction.id();
        for (index, output) in (0..).zip(&transaction.outputs) {
            if let Some(key) = self.key_of(&output.lock) {
                let coin = Owned { value: output.value, key, height: None, is_new: false, spent: false };
                self.coins.entry(OutPoint { id, index }).or_insert(coin);
            }
        }
        self.pending.push(transaction.clone());
        true
    }

    /// Payments that were not possible before may be by now, and then those that depend on them.
    fn note_earlier(&mut self) {
        loop {
            let mut earlier = std::mem::take(&mut self.earlier);
            let before = earlier.len();
            earlier.retain(|one| !self.note(one));
            self.earlier = earlier;
            if self.earlier.len() == before {
                return;
            }
        }
    }

    /// The payments that spend this will never be in a block: something else has spent it.
    fn give_up(&mut self, coin: &OutPoint) {
        let going: Vec<TxId> =
            self.pending.iter().filter(|one| spends(one, coin)).map(Transaction::id).collect();
        going.into_iter().for_each(|id| self.abandon(id));
    }

    /// Gives up a payment that is in no block, and those that depend on it: what it spends can be spent by another. Who has
    /// heard of it may still bring it into a block.
    pub fn abandon(&mut self, id: TxId) {
        let depends = |one: &Transaction| one.inputs.iter().any(|input| input.previous.id == id);
        self.earlier.retain(|one| one.id() != id && !depends(one));
        let Some(at) = self.pending.iter().position(|one| one.id() == id) else { return };
        let transaction = self.pending.remove(at);
        for index in 0..transaction.outputs.len() as u32 {
            let change = OutPoint { id, index };
            self.give_up(&change);
            self.coins.remove(&change);
        }
        for input in &transaction.inputs {
            if let Some(coin) = self.coins.get_mut(&input.previous) {
                coin.spent = false;
            }
        }
    }

    /// Knows of no block any more, but of its keys and payments.
    fn begin_anew(&mut self) {
        self.earlier.append(&mut self.pending);
        (self.height, self.history) = (0, Vec::new());
        self.last.clear();
        self.coins.clear();
        self.uses_more = false;
    }

    /// Follows a ledger to where it stands now; says where that is. If it comes by keys that were not given out, as it does when it
    /// is found again from its secret alone, it goes through the chain once more, until it finds no others.
    ///
    /// # Errors
    /// See [`LedgerError`]. What has been followed by then stays.
    pub async fn catch_up<C: Consensus, P: Predicate>(
        &mut self,
        ledger: &dyn Ledger<C, Coins<P>>,
    ) -> Result<Tip, LedgerError> {
        loop {
            match ledger.scan(self.mark(), &|| self.about()).await? {
                Scanned::Found(mark, block) => self.connect_at(mark, &block),
                Scanned::Gone => {
                    self.disconnect();
                    if self.last.is_empty() {
                        self.begin_anew();
                    }
                }
                Scanned::End(mark) => {
                    if self.uses_more {
                        self.begin_anew();
                        continue;
                    }
                    self.skip_to(mark);
                    let tip = ledger.tip().await?;
                    if mark.id == tip.id || tip.height == 0 {
                        self.note_earlier();
                        return Ok(tip);
                    }
                }
            }
        }
    }
}

impl Followed {
    /// Blocks that were skipped.
    fn none(mark: Mark) -> Followed {
        Followed { mark, spent: Vec::new(), made: Vec::new(), own: Vec::new(), entries: 0 }
    }

    /// Whether it undoes nothing.
    fn skips(&self) -> bool {
        self.spent.is_empty() && self.made.is_empty() && self.own.is_empty() && self.entries == 0
    }
}

fn spends(transaction: &Transaction, coin: &OutPoint) -> bool {
    transaction.inputs.iter().any(|input| input.previous == *coin)
}

impl fmt::Debug for Wallet {
    /// Nothing of its secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wallet({} keys, height {}, {:?})", self.given, self.height, self.balance())
    }
}

#[cfg(test)]
mod tests;
