//! Ledgers whose nodes are processes: what their programs have in common.
//!
//! An application says what its chain is about ([`Terms`]). Whoever founds one writes these down with when it was
//! ([`Founding`]), and the first block commits to that. The rest is the same for all: nodes that keep the chain, mine and answer
//! programs (`node`, `remote`, `mine`), and light clients, by which everybody else reads it and adds to it (`light`).

#![expect(clippy::disallowed_types, reason = "a program has a clock")]

mod light;
mod mine;
mod node;
mod remote;

use std::fmt::Debug;
use std::time::SystemTime;

use p2p_core::{Contact, Key, Wire};
use p2p_ledger::{
    Block, BlockHeader, BlockId, Chain, ChainRules, Compact, Header, HeaderChain, HeaderRules, LedgerNode,
    LightNode, ProofOfWork, Retarget, State, Store, StoreError, Verifier, View, Work,
};
use p2p_overlay::HyParView;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Failure;

pub use light::{LightArgs, Reader};
pub use mine::{Effort, Mining, Pit, mine};
pub use node::{Member, NodeArgs};
pub use remote::{Remote, Status, client, print_status};

/// The consensus of these chains.
pub type Pow = ProofOfWork<BlockHeader<Work>>;
/// A transaction of such a chain.
pub type TxOf<T> = <<T as Terms>::State as State>::Tx;
/// A block.
pub type BlockOf<T> = Block<BlockHeader<Work>, TxOf<T>>;
/// A node that keeps the chain.
pub type NodeOf<T> = LedgerNode<HyParView<Contact>, Pow, <T as Terms>::State>;
/// A light client.
pub type LightOf<T> = LightNode<HyParView<Contact>, Pow, <T as Terms>::State>;

/// What a chain is about, and on what terms: what is agreed on when it is founded.
pub trait Terms: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name of the program and of its network.
    const NAME: &'static str;
    /// What a transaction that takes another's place pays for its way, for each 1,000 bytes; 0 where there are no fees.
    const RELAY_FEE: u64 = 0;
    /// The state machine.
    type State: State;

    /// The machine of the chain of this number.
    fn state(&self, chain: u32) -> Self::State;

    /// Whether they are such that a node can follow them.
    fn is_sound(&self) -> bool {
        true
    }

    /// How much there is, where there is such a thing.
    fn supply(state: &Self::State, view: &View<'_>) -> Option<u64> {
        let _ = (state, view);
        None
    }
}

/// What all nodes of one chain have to agree on. Its first block commits to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding<T> {
    /// When it was founded, in seconds since the Unix epoch.
    pub time: u64,
    /// The highest target, and the first.
    pub bits: u32,
    /// How many seconds are to be between blocks.
    pub spacing: u64,
    /// What it is about.
    pub terms: T,
}

impl<T: Terms> Wire for Founding<T> {
    const MAX_BYTES: usize = 256;
}

impl<T: Terms> Founding<T> {
    /// A new chain. 65,000 hashes make the first blocks.
    ///
    /// # Errors
    /// The clock is before 1970.
    pub fn new(spacing: u64, terms: T) -> Result<Founding<T>, Failure> {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        Ok(Founding { time, bits: 0x1f00_ffff, spacing, terms })
    }

    /// Whether it is one that a node can follow.
    fn is_sound(&self) -> bool {
        let target = Compact(self.bits).target();
        target.is_some() && (1..=86_400).contains(&self.spacing) && self.terms.is_sound()
    }

    fn header(&self) -> BlockHeader<Work> {
        let seal = Work { bits: Compact(self.bits), nonce: 0 };
        let root = Key::of(&self.to_bytes());
        BlockHeader { height: 0, previous: BlockId::NONE, root, time: self.time, seal }
    }

    /// The name of its first block, which is its own.
    pub fn id(&self) -> BlockId {
        self.header().id()
    }

    /// The number that transactions name it by.
    pub fn number(&self) -> u32 {
        let id = self.id();
        let mut first = [0; 4];
        first.copy_from_slice(&id.0.as_bytes()[..4]);
        u32::from_le_bytes(first)
    }

    /// The state machine.
    pub fn state(&self) -> T::State {
        self.terms.state(self.number())
    }

    /// The protocol that its nodes speak: those of another chain are no neighbours.
    fn protocol(&self) -> String {
        format!("{}-{:08x}/1", T::NAME, self.number())
    }

    /// What makes its headers count: the work follows what is put in within some ten blocks, and so that nobody can do that by stamping
    /// his own, a time is taken that is an eighth as long ahead, or 5 s.
    pub fn rules(&self) -> Pow {
        let retarget = Retarget::Asert { half_life: self.spacing.saturating_mul(10) };
        Pow::new(Compact(self.bits), self.spacing).retargeted(retarget)
    }

    /// Its headers: the first alone.
    pub fn headers(&self) -> HeaderChain<Pow> {
        HeaderChain::new(self.rules(), self.header(), HeaderRules::default())
    }

    /// Its chain as it is in a store; with so many of the last bodies alone, if it is to be kept short.
    ///
    /// # Errors
    /// The storage failed, or holds another chain.
    pub fn chain<D: Store>(
        &self,
        store: D,
        keep: Option<u64>,
        secret: [u8; 32],
    ) -> Result<Chain<Pow, T::State, D>, StoreError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let verifier = Verifier::new(secret).threads(threads);
        let headers = HeaderRules { finality: keep, ..HeaderRules::default() };
        let headers = HeaderChain::new(self.rules(), self.header(), headers);
        let rules = ChainRules { keep, ..ChainRules::default() };
        Chain::open(headers, self.state(), store, verifier, rules)
    }
}
