//! What the machine has done elsewhere: all that reads or changes the chain.
//!
//! A block may take a second to check and a commit waits for the disk, so the chain and the pool live with a worker, the
//! [`Keeper`](crate::Keeper); the machine only decides whom to ask for what, and what to think of them. All jobs are of one
//! lane: they are done one after the other, and so is every answer in the order of the questions.

use std::fmt;

use bytes::Bytes;
use p2p_core::{Job, JobError};

use super::compact::Partial;
use crate::chain::BlockOf;
use crate::consensus::Consensus;
use crate::headers::{SyncStep, Tip};
use crate::id::{BlockId, TxId, WtxId};
use crate::ledger::LedgerError;
use crate::light::{LightAnswer, LightAsk};
use crate::state::State;
use crate::store::View;

/// A look at the state: see [`Inspect`](crate::Inspect).
pub type Look<S> = Box<dyn FnOnce(&S, &View<'_>, Tip) + Send>;

/// A part of a block that a peer has sent in two parts.
pub(super) type PartOf<C, S> = Partial<<C as Consensus>::Header, <S as State>::Tx>;

/// A job for the [`Keeper`](crate::Keeper). Times are Unix times in seconds, bytes are as they came.
pub enum LedgerJob<C: Consensus, S: State> {
    /// Says where the chain stands, and forgets transactions that have waited too long.
    Stand {
        /// The time.
        now: u64,
    },
    /// Takes in headers.
    Headers {
        /// A list of them.
        headers: Bytes,
        /// The time.
        now: u64,
    },
    /// Follows headers that are too little work so far.
    Sync {
        /// Whether they are the first.
        begin: bool,
        /// A list of headers.
        headers: Bytes,
        /// The time.
        now: u64,
    },
    /// Follows them no more.
    EndSync,
    /// Reads headers for a peer.
    After {
        /// Where the peer is.
        locator: Vec<BlockId>,
    },
    /// Says which bodies are wanted on the way to a block.
    Wanted {
        /// The block.
        end: BlockId,
        /// How many at most.
        most: usize,
    },
    /// Takes in a block that a peer was asked for.
    Accept {
        /// Which.
        id: BlockId,
        /// The block.
        block: Bytes,
        /// The time.
        now: u64,
    },
    /// Takes in a block of a user's.
    Mined {
        /// The block.
        block: BlockOf<C, S>,
        /// The time.
        now: u64,
    },
    /// Puts a compact block together.
    Compact {
        /// It.
        compact: Bytes,
        /// The time.
        now: u64,
    },
    /// Goes on with that.
    Complete {
        /// What there is.
        partial: Box<Partial<C::Header, S::Tx>>,
        /// A list of what was missing.
        transactions: Bytes,
        /// The time.
        now: u64,
    },
    /// Reads a block for a peer.
    Read {
        /// Which.
        id: BlockId,
        /// What of it.
        form: Form,
    },
    /// Reads a block of the chain for a user.
    ReadAt {
        /// Its height.
        height: u64,
    },
    /// Reads a header of the chain for a user.
    HeaderAt {
        /// Its height.
        height: u64,
    },
    /// Takes in transactions that a peer was asked for.
    Add {
        /// A list of them.
        transactions: Bytes,
        /// The time.
        now: u64,
    },
    /// Takes in a user's transaction.
    Submit {
        /// It.
        transaction: S::Tx,
        /// The time.
        now: u64,
    },
    /// Says which transactions do not wait here.
    Lacking {
        /// Their names.
        ids: Vec<WtxId>,
    },
    /// Reads transactions that wait, for a peer.
    Waiting {
        /// Their names.
        ids: Vec<WtxId>,
    },
    /// Names transactions that wait, for a peer.
    Pool {
        /// Where to begin.
        from: WtxId,
    },
    /// Looks at the state.
    Inspect(Look<S>),
    /// Answers a light client.
    Serve {
        /// What it asks.
        ask: LightAsk,
        /// The time.
        now: u64,
    },
    /// Makes the next block but for its seal.
    Template {
        /// Who gets the reward, in the words of [`State::first`].
        to: Vec<u8>,
        /// The time.
        now: u64,
    },
}

/// What of a block is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// All of it.
    Whole,
    /// A compact block, if it is a late one.
    Compact,
    /// These of its transactions, if it is a late one.
    Some(Vec<u32>),
}

impl Form {
    /// How many bytes of a peer's it holds.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Form::Some(at) => 4 * at.len(),
            Form::Whole | Form::Compact => 0,
        }
    }
}

/// What came of a [`LedgerJob`].
pub enum LedgerDone<C: Consensus, S: State> {
    /// Where the chain stands.
    Standing(Standing),
    /// Of [`LedgerJob::Headers`].
    Headers(HeadersDone),
    /// Of [`LedgerJob::Sync`].
    Synced(Result<SyncStep, Refusal>, Standing),
    /// Of [`LedgerJob::After`]: a list of headers.
    After(Bytes),
    /// Of [`LedgerJob::Wanted`].
    Wanted(Vec<(u64, BlockId)>),
    /// A block was taken in, or not.
    Block(Box<BlockDone>),
    /// A compact block lacks transactions.
    Partial(Box<Partial<C::Header, S::Tx>>),
    /// Of [`LedgerJob::Read`].
    Read(Read),
    /// Of [`LedgerJob::ReadAt`].
    ReadAt(Result<Option<BlockOf<C, S>>, LedgerError>),
    /// Of [`LedgerJob::HeaderAt`].
    HeaderAt(Option<C::Header>),
    /// Of [`LedgerJob::Add`].
    Added(AddDone),
    /// Of [`LedgerJob::Submit`]: its name, and what has come into the pool.
    Submitted(Result<TxId, LedgerError>, Vec<WtxId>),
    /// Of [`LedgerJob::Lacking`].
    Lacking(Vec<WtxId>),
    /// Of [`LedgerJob::Waiting`]: a list of transactions.
    Waiting(Bytes),
    /// Of [`LedgerJob::Pool`].
    Pool(Vec<WtxId>),
    /// Of [`LedgerJob::Serve`].
    Served(ServeDone),
    /// Of [`LedgerJob::Template`].
    Template(Result<BlockOf<C, S>, LedgerError>),
    /// Of what has no answer.
    Nothing,
    /// It was not done.
    Failed(JobError),
}

/// Where the chain stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The block that the state stands at.
    pub tip: Tip,
    /// The best header.
    pub best: Tip,
    /// By which others find where this chain leaves theirs.
    pub locator: Vec<BlockId>,
    /// Up to which height there are no bodies any more; 0, if all are there.
    pub pruned: u64,
    /// How long a block may be, in bytes.
    pub block_bytes: usize,
}

/// Why something a peer has sent was of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It provably breaks the rules.
    Misbehaved(String),
    /// It is part of a chain with too little work.
    LowWork,
    /// It follows what is not known.
    Unconnected,
    /// It is not what the header commits to: of a compact block nobody's fault.
    Mutated,
    /// It cannot be taken now: nobody's fault.
    Later,
}

/// What came of headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadersDone {
    /// Why the first that was not taken was not.
    pub refused: Option<Refusal>,
    /// How many there were.
    pub count: usize,
    /// The last of them that is known now.
    pub shown: Option<Tip>,
    /// Which bodies are wanted on the way there, the lowest first.
    pub wanted: Vec<(u64, BlockId)>,
    /// Where the chain stands.
    pub standing: Standing,
}

/// What came of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDone {
    /// Which, if that could be read.
    pub id: Option<BlockId>,
    /// Where it is, if its header is known.
    pub place: Option<Tip>,
    /// Why it was not taken in.
    pub refused: Option<Refusal>,
    /// Blocks that were found invalid, and why.
    pub invalid: Vec<(BlockId, String)>,
    /// What has become of the chain, if it has changed.
    pub progress: Option<Progress>,
    /// What has come into the pool by it.
    pub admitted: Vec<WtxId>,
    /// Why the disk did not do it.
    pub failure: Option<String>,
}

/// What has become of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where it stands.
    pub standing: Standing,
    /// The block before the first that was done.
    pub fork: BlockId,
    /// The blocks that were undone, the last one first.
    pub disconnected: Vec<BlockId>,
    /// The blocks that were done, the first one first.
    pub connected: Vec<BlockId>,
    /// The last of them as a compact block.
    pub compact: Bytes,
    /// A list of the headers of the last of them, at most [`MAX_ANNOUNCED`](super::msg::MAX_ANNOUNCED).
    pub headers: Bytes,
}

/// What of a block was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// All of it; empty, if it is not there.
    Whole(Bytes),
    /// A compact block.
    Compact(Bytes),
    /// A list of transactions.
    Some(Bytes),
    /// The block has not so many transactions.
    OutOfRange,
    /// Up to this height bodies are not kept any more.
    Pruned(u64),
}

/// What came of transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddDone {
    /// They could not be read.
    pub malformed: Option<String>,
    /// All their names.
    pub given: Vec<WtxId>,
    /// What has come into the pool, others that have waited for these among them.
    pub admitted: Vec<WtxId>,
    /// Those that were refused, for now.
    pub refused: Vec<WtxId>,
    /// How many had signatures that are not good.
    pub unsigned: usize,
}

/// What came of a light client's question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeDone {
    /// The answer.
    pub answer: LightAnswer,
    /// What has come into the pool.
    pub admitted: Vec<WtxId>,
    /// What no honest client asks.
    pub offence: Option<Offence>,
}

/// What is wrong with a question that has cost something and could never have come to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// It cannot be read.
    Malformed,
    /// A signature is not good.
    Unsigned,
}

impl<C: Consensus, S: State> LedgerJob<C, S> {
    /// How many bytes of a peer's it holds.
    pub(super) fn bytes(&self) -> usize {
        match self {
            LedgerJob::Headers { headers: bytes, .. }
            | LedgerJob::Sync { headers: bytes, .. }
            | LedgerJob::Accept { block: bytes, .. }
            | LedgerJob::Compact { compact: bytes, .. }
            | LedgerJob::Complete { transactions: bytes, .. }
            | LedgerJob::Add { transactions: bytes, .. } => bytes.len(),
            LedgerJob::After { locator } => 32 * locator.len(),
            LedgerJob::Lacking { ids } | LedgerJob::Waiting { ids } => 32 * ids.len(),
            LedgerJob::Read { form, .. } => form.bytes(),
            LedgerJob::Serve { ask, .. } => ask.bytes(),
            LedgerJob::Stand { .. }
            | LedgerJob::EndSync
            | LedgerJob::Wanted { .. }
            | LedgerJob::Mined { .. }
            | LedgerJob::ReadAt { .. }
            | LedgerJob::HeaderAt { .. }
            | LedgerJob::Submit { .. }
            | LedgerJob::Pool { .. }
            | LedgerJob::Inspect(_)
            | LedgerJob::Template { .. } => 0,
        }
    }
}

impl<C: Consensus, S: State> Job for LedgerJob<C, S> {
    type Done = LedgerDone<C, S>;

    fn lane(&self) -> Option<u64> {
        Some(0)
    }

    fn failed(&self, why: JobError) -> LedgerDone<C, S> {
        LedgerDone::Failed(why)
    }
}

impl<C: Consensus, S: State> fmt::Debug for LedgerJob<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LedgerJob::Stand { .. } => "Stand",
            LedgerJob::Headers { .. } => "Headers",
            LedgerJob::Sync { .. } => "Sync",
            LedgerJob::EndSync => "EndSync",
            LedgerJob::After { .. } => "After",
            LedgerJob::Wanted { .. } => "Wanted",
            LedgerJob::Accept { .. } => "Accept",
            LedgerJob::Mined { .. } => "Mined",
            LedgerJob::Compact { .. } => "Compact",
            LedgerJob::Complete { .. } => "Complete",
            LedgerJob::Read { .. } => "Read",
            LedgerJob::ReadAt { .. } => "ReadAt",
            LedgerJob::HeaderAt { .. } => "HeaderAt",
            LedgerJob::Add { .. } => "Add",
            LedgerJob::Submit { .. } => "Submit",
            LedgerJob::Lacking { .. } => "Lacking",
            LedgerJob::Waiting { .. } => "Waiting",
            LedgerJob::Pool { .. } => "Pool",
            LedgerJob::Inspect(_) => "Inspect",
            LedgerJob::Serve { .. } => "Serve",
            LedgerJob::Template { .. } => "Template",
        })
    }
}

impl<C: Consensus, S: State> fmt::Debug for LedgerDone<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerDone::Standing(standing) => write!(f, "{standing:?}"),
            LedgerDone::Headers(done) => write!(f, "{done:?}"),
            LedgerDone::Synced(step, _) => write!(f, "Synced({step:?})"),
            LedgerDone::After(bytes) => write!(f, "After({} bytes)", bytes.len()),
            LedgerDone::Wanted(ids) => write!(f, "Wanted({ids:?})"),
            LedgerDone::Block(done) => write!(f, "{done:?}"),
            LedgerDone::Partial(partial) => write!(f, "Partial({:?})", partial.id()),
            LedgerDone::Read(read) => write!(f, "{read:?}"),
            LedgerDone::ReadAt(read) => write!(f, "ReadAt({read:?})"),
            LedgerDone::HeaderAt(header) => write!(f, "HeaderAt({header:?})"),
            LedgerDone::Added(done) => write!(f, "{done:?}"),
            LedgerDone::Submitted(result, _) => write!(f, "Submitted({result:?})"),
            LedgerDone::Lacking(ids) => write!(f, "Lacking({} ids)", ids.len()),
            LedgerDone::Waiting(bytes) => write!(f, "Waiting({} bytes)", bytes.len()),
            LedgerDone::Pool(ids) => write!(f, "Pool({} ids)", ids.len()),
            LedgerDone::Served(done) => write!(f, "{done:?}"),
            LedgerDone::Template(result) => write!(f, "Template({result:?})"),
            LedgerDone::Nothing => f.write_str("Nothing"),
            LedgerDone::Failed(why) => write!(f, "Failed({why:?})"),
        }
    }
}
