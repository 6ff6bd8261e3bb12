//! A shared, append-only, contested-in-public record, as a crate: Nakamoto's design (2008), for an application to embed.
//!
//! [`LedgerNode`] is a node of the network, live and in the simulator; an application that has one takes an
//! `Arc<dyn Ledger>`. What it is made of is of use alone, too: a library of plain values and functions, with no clock, no
//! network and no random numbers. Whoever owns a [`Chain`] hands it headers, blocks and the time.
//!
//! ```
//! use p2p_core::{Key, Keypair};
//! use p2p_ledger::*;
//!
//! // A currency on a chain where one hash of two is work enough.
//! let rules: ProofOfWork<BlockHeader<Work>> = ProofOfWork::regtest();
//! let seal = Work { bits: rules.limit, nonce: 0 };
//! let first = BlockHeader { height: 0, previous: BlockId::NONE, root: Key::ZERO, time: 1_000, seal };
//! let headers = HeaderChain::new(rules.clone(), first, HeaderRules::default());
//! let verifier = Verifier::new([7; 32]);
//! let coins = Coins::new(1, 50);
//! let mut chain = Chain::new(headers, coins, MemoryStore::default(), verifier, ChainRules::default());
//!
//! // A block that pays its miner.
//! let miner = Keypair::generate();
//! let reward = Output { value: 50, lock: Lock::Key(miner.id().into()) };
//! let transactions = vec![Transaction::coinbase(1, 1, [reward])];
//! let (previous, root) = (chain.tip().id, transactions_root(&transactions));
//! let mut header = BlockHeader { height: 1, previous, root, time: 1_600, seal };
//! assert!(rules.mine(&mut header, 0, 1_000));
//! let outcome = chain.accept(Block { header, transactions }, 1_700).unwrap();
//! assert_eq!(outcome.connected, [chain.tip().id]);
//! assert_eq!(chain.state().supply(&chain.view()), 50);
//! ```
//!
//! - **what is hashed**: [`Encode`] and [`Decode`], one encoding for each value; [`Kind`], a tag for each kind of thing;
//!   [`MerkleProof`];
//! - **headers**: [`Header`] in several formats, [`Consensus`] with [`ProofOfWork`] and [`ProofOfAuthority`], and
//!   [`HeaderChain`], the choice between branches;
//! - **blocks**: [`Chain`], over any [`Store`]: [`MemoryStore`], or with the feature `redb` (on by default) a file;
//!   [`Cached`] writes many blocks at once;
//! - **state machines**: [`State`] with [`Coins`], whose [`Transaction`]s open [`Lock`]s, [`Board`] and [`Registry`];
//! - **signatures**: [`Verifier`], by ZIP 215;
//! - **what waits**: [`Pool`]; [`template`], [`Solo`] and [`Miner`] make blocks of it;
//! - **the network**: [`Ledger`], [`LedgerNode`] with its worker, the [`Keeper`], and [`CompactBlock`];
//! - **for light clients**: [`LightNode`], which has the headers alone and is a [`Ledger`] all the same; [`Filter`], Bitcoin's
//!   compact filters; [`Inclusion`], the proof of a transaction;
//! - **of Bitcoin itself**: [`bitcoin`], a client of its network (feature `bitcoin`, on by default);
//! - **a wallet**: [`Wallet`], whose keys follow from one secret, [`Address`], and [`WalletFile`] (feature `wallet`, on by
//!   default);
//! - **how safe it is**: [`attacker_success`], [`confirmations`], [`selfish_revenue`], and [`measure`], experiments with the real
//!   choice of a chain.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

#[cfg(feature = "bitcoin")]
pub mod bitcoin;
mod block;
mod board;
mod chain;
mod codec;
mod coins;
mod consensus;
mod filter;
mod header;
mod headers;
mod id;
mod inclusion;
mod ledger;
mod light;
mod lock;
pub mod measure;
mod merkle;
mod mining;
mod node;
mod pool;
mod probability;
mod registry;
mod request;
mod signature;
mod state;
mod store;
mod target;
mod transaction;
#[cfg(feature = "wallet")]
mod wallet;

pub use block::{Block, MAX_TRANSACTIONS, transactions_root};
pub use board::{Act, Board, BoardError, Notice, Post, Topic};
pub use chain::{BlockError, BlockOf, Chain, ChainRules, InvalidBlock, Outcome};
pub use codec::{Decode, Encode, InvalidEncoding, Reader, put_blob, put_compact_size, put_count, put_list};
pub use coins::{Coin, CoinError, Coins, MAX_SUPPLY};
pub use consensus::{
    Consensus, Fault, MEDIAN_SPAN, Past, ProofOfAuthority, ProofOfWork, Retarget, asert, window,
};
pub use filter::Filter;
pub use header::{BitcoinHeader, BlockHeader, Endorsement, Header, Work, WorkHeader};
pub use headers::{HeaderChain, HeaderRules, HeaderSync, Refused, SyncError, SyncStep, Tip};
pub use id::{BlockId, Kind, PublicKey, TxId, WtxId};
pub use inclusion::{Inclusion, InclusionOf};
pub use ledger::{Change, Ledger, LedgerError, Mark, Scanned};
pub use light::{
    Enlist, FILTER_BYTES, LightAnswer, LightAsk, LightCommand, LightConfig, LightEvent, LightMsg, LightNode,
    LightOutcome, MAX_FILTER_HASHES, MAX_FILTERS, Prove, Scan,
};
pub use lock::{
    Age, Lock, LockError, LockTime, MAX_CONDITIONS, MAX_DEPTH, MAX_KEYS, MAX_PREDICATE, MAX_PREIMAGE,
    NoPredicate, Part, Predicate, Witness,
};
pub use merkle::{MerkleProof, merkle_root};
pub use mining::{Miner, Search, Searched, Solo, template};
pub use node::{
    AddDone, BlockAt, BlockDone, CompactBlock, Contradiction, Form, HeaderAt, HeadersDone, Inspect,
    JobRefusal, Keeper, LedgerCommand, LedgerConfig, LedgerDone, LedgerEvent, LedgerJob, LedgerMsg,
    LedgerNode, LedgerOutcome, LedgerTimer, Look, MAX_ANNOUNCED, MAX_BLOCK, MAX_HEADERS, MAX_INVENTORY,
    MAX_LOCATOR, Mined, Offence, Partial, Progress, Read, ServeDone, ShortId, Standing, Status, Submit,
    Template, inspect,
};
pub use pool::{Pool, PoolError, PoolRules, Rate};
pub use probability::{attacker_success, attacker_success_exact, confirmations, selfish_revenue};
pub use registry::{MAX_NAME, Move, Name, NameError, NameMove, Registry};
pub use signature::{Check, Checks, Verifier};
pub use state::{Footprint, Place, State};
#[cfg(feature = "redb")]
pub use store::RedbStore;
pub use store::{Batch, Cached, MemoryStore, Store, StoreError, View};
pub use target::Compact;
pub use transaction::{Input, MAX_INPUTS, MAX_MEMO, MAX_OUTPUTS, OutPoint, Output, Transaction, Tx};
#[cfg(feature = "wallet")]
pub use wallet::{Address, Balance, Entry, ParseAddressError, PayError, Wallet, WalletFile, WalletFileError};
