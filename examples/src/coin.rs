//! A currency among processes: what its chain is, and how programs talk to its nodes.

#![expect(clippy::disallowed_types, reason = "a program has a clock")]

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use futures::stream::{BoxStream, StreamExt, unfold};
use p2p_core::net::{Incoming, Node};
use p2p_core::{Contact, Handle, Key, Wire, Worker};
use p2p_ledger::{
    Block, BlockHeader, BlockId, Chain, ChainRules, Change, Coins, Compact, Decode, Encode, Header,
    HeaderChain, HeaderRules, Ledger, LedgerError, LedgerNode, Mined, Miner, ProofOfWork, Retarget, Solo,
    Store, StoreError, Template, Tip, Transaction, TxId, Verifier, Work, inspect,
};
use p2p_overlay::HyParView;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::Failure;

/// The consensus of the currency, its blocks, and a node of it.
pub type Pow = ProofOfWork<BlockHeader<Work>>;
/// See [`Pow`].
pub type CoinBlock = Block<BlockHeader<Work>, Transaction>;
/// See [`Pow`].
pub type CoinNode = LedgerNode<HyParView<Contact>, Pow, Coins>;

/// The protocol between a program and a node.
const NAME: &str = "coin/1";

/// What all nodes of one currency have to agree on. Its first block commits to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// When it was founded, in seconds since the Unix epoch.
    pub time: u64,
    /// The highest target, and the first.
    pub bits: u32,
    /// How many seconds are to be between blocks.
    pub spacing: u64,
    /// How much a block makes at first.
    pub subsidy: u64,
    /// How many blocks new coins wait.
    pub maturity: u64,
}

impl Wire for Founding {
    const MAX_BYTES: usize = 256;
}

impl Founding {
    /// A new currency. 65,000 hashes make the first blocks.
    ///
    /// # Errors
    /// The clock is before 1970.
    pub fn new(spacing: u64, maturity: u64) -> Result<Founding, Failure> {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        Ok(Founding { time, bits: 0x1f00_ffff, spacing, subsidy: 5_000_000_000, maturity })
    }

    /// Whether it is one that a node can follow.
    fn is_sound(&self) -> bool {
        let target = Compact(self.bits).target();
        target.is_some() && (1..=86_400).contains(&self.spacing) && self.subsidy <= 1 << 40
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

    /// What makes its headers count: the work follows what is put in within some ten blocks.
    pub fn rules(&self) -> Pow {
        let retarget = Retarget::Asert { half_life: self.spacing.saturating_mul(10) };
        Pow::new(Compact(self.bits), self.spacing).retargeted(retarget)
    }

    /// Its chain as it is in a store.
    ///
    /// # Errors
    /// The storage failed, or holds another chain.
    pub fn chain<D: Store>(&self, store: D, secret: [u8; 32]) -> Result<Chain<Pow, Coins, D>, StoreError> {
        let headers = HeaderChain::new(self.rules(), self.header(), HeaderRules::default());
        let coins = Coins { maturity: self.maturity, ..Coins::new(self.number(), self.subsidy) };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let verifier = Verifier::new(secret).threads(threads);
        Chain::open(headers, coins, store, verifier, ChainRules::default())
    }
}

/// From a program to a node. Answered by [`Reply`].
#[derive(Serialize, Deserialize)]
enum Ask {
    Founding,
    Status,
    /// The same once the tip is another one, or after a while.
    StatusAfter(BlockId),
    Block(u64),
    Submit(Bytes),
    Template(Bytes),
    Mined(Bytes),
}

#[derive(Serialize, Deserialize)]
enum Reply {
    Founding(Founding),
    Status {
        height: u64,
        id: BlockId,
        work: [u8; 32],
        supply: u64,
    },
    /// A block; nothing, if there is none.
    Block(Bytes),
    Submitted(TxId),
    /// The node has not taken the transaction in.
    Refused(String),
    Failed(String),
}

impl Wire for Ask {
    const MAX_BYTES: usize = 2 << 20;
}
impl Wire for Reply {
    const MAX_BYTES: usize = 2 << 20;
}

/// How long a node has a program wait for another tip.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers programs.
///
/// # Errors
/// The node is shut down.
pub fn serve(node: &Node, founding: &Founding, ledger: &Handle<CoinNode>) -> Result<(), Failure> {
    let (founding, ledger) = (founding.clone(), ledger.clone());
    node.serve(NAME, move |Incoming { body, .. }: Incoming| {
        let (founding, ledger) = (founding.clone(), ledger.clone());
        async move {
            let reply = match Ask::from_bytes(&body) {
                Ok(ask) => {
                    answer(&founding, &ledger, ask).await.unwrap_or_else(|why| Reply::Failed(why.to_string()))
                }
                Err(error) => Reply::Failed(error.to_string()),
            };
            Ok(reply.to_bytes().into())
        }
    })?;
    Ok(())
}

async fn answer(founding: &Founding, ledger: &Handle<CoinNode>, ask: Ask) -> Result<Reply, Failure> {
    let block = |block: Option<CoinBlock>| {
        Reply::Block(block.map_or_else(Bytes::new, |block| Encode::to_bytes(&block).into()))
    };
    Ok(match ask {
        Ask::Founding => Reply::Founding(founding.clone()),
        Ask::Status => status(ledger).await?,
        Ask::StatusAfter(id) => {
            let mut changes = Ledger::<Pow, Coins>::follow(ledger);
            if Ledger::<Pow, Coins>::tip(ledger).await?.id == id {
                let _ = tokio::time::timeout(PATIENCE, changes.next()).await;
            }
            status(ledger).await?
        }
        Ask::Block(height) => block(ledger.block(height).await?),
        Ask::Submit(bytes) => {
            let transaction: Transaction = Decode::from_bytes(&bytes)?;
            match Ledger::<Pow, Coins>::submit(ledger, transaction).await {
                Ok(id) => Reply::Submitted(id),
                Err(LedgerError::Refused(why) | LedgerError::Invalid(why)) => Reply::Refused(why),
                Err(error) => return Err(error.into()),
            }
        }
        Ask::Template(to) => block(Some(ledger.ask(Template(to.to_vec())).await??)),
        Ask::Mined(bytes) => {
            let mined: CoinBlock = Decode::from_bytes(&bytes)?;
            ledger.ask(Mined(mined)).await??;
            status(ledger).await?
        }
    })
}

async fn status(ledger: &Handle<CoinNode>) -> Result<Reply, LedgerError> {
    let look = |coins: &Coins, view: &p2p_ledger::View<'_>, tip: Tip| (tip, coins.supply(view));
    let (Tip { id, height, work }, supply) = inspect(ledger, look).await?;
    Ok(Reply::Status { height, id, work: work.to_be_bytes(), supply })
}

/// Where a node's chain stands, and how much there is of all coins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where it stands.
    pub tip: Tip,
    /// How much there is.
    pub supply: u64,
}

/// A node of the currency at the other end of a connection.
#[derive(Clone)]
pub struct Remote {
    node: Node,
    contact: Contact,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({})", self.contact)
    }
}

impl Remote {
    /// The node there, asked through a node of this process.
    pub fn new(node: &Node, contact: Contact) -> Remote {
        Remote { node: node.clone(), contact }
    }

    async fn ask(&self, ask: &Ask) -> Result<Reply, LedgerError> {
        let failed = |why: &dyn std::fmt::Display| LedgerError::Remote(format!("{}: {why}", self.contact));
        let reply = self.node.request(self.contact, NAME, ask.to_bytes()).await;
        let reply = reply.map_err(|error| failed(&error))?;
        match Reply::from_bytes(&reply).map_err(|error| failed(&error))? {
            Reply::Failed(why) => Err(failed(&why)),
            reply => Ok(reply),
        }
    }

    fn unexpected(&self) -> LedgerError {
        LedgerError::Remote(format!("{}: the answer does not belong to the question", self.contact))
    }

    /// What its currency is.
    ///
    /// # Errors
    /// It does not answer, or with what no node can follow.
    pub async fn founding(&self) -> Result<Founding, LedgerError> {
        match self.ask(&Ask::Founding).await? {
            Reply::Founding(founding) if founding.is_sound() => Ok(founding),
            _ => Err(self.unexpected()),
        }
    }

    /// Where its chain stands; if a block is given, once that is another one, or after a while.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self, after: Option<BlockId>) -> Result<Status, LedgerError> {
        match self.ask(&after.map_or(Ask::Status, Ask::StatusAfter)).await? {
            Reply::Status { height, id, work, supply } => {
                let work = ruint::aliases::U256::from_be_bytes(work);
                Ok(Status { tip: Tip { id, height, work }, supply })
            }
            _ => Err(self.unexpected()),
        }
    }

    async fn read(&self, ask: &Ask) -> Result<Option<CoinBlock>, LedgerError> {
        match self.ask(ask).await? {
            Reply::Block(bytes) if bytes.is_empty() => Ok(None),
            Reply::Block(bytes) => Decode::from_bytes(&bytes).map(Some).map_err(|_| self.unexpected()),
            _ => Err(self.unexpected()),
        }
    }
}

#[async_trait]
impl Ledger<Pow, Coins> for Remote {
    async fn submit(&self, transaction: Transaction) -> Result<TxId, LedgerError> {
        match self.ask(&Ask::Submit(Encode::to_bytes(&transaction).into())).await? {
            Reply::Submitted(id) => Ok(id),
            Reply::Refused(why) => Err(LedgerError::Refused(why)),
            _ => Err(self.unexpected()),
        }
    }

    async fn tip(&self) -> Result<Tip, LedgerError> {
        Ok(self.status(None).await?.tip)
    }

    async fn block(&self, height: u64) -> Result<Option<CoinBlock>, LedgerError> {
        self.read(&Ask::Block(height)).await
    }

    /// Tips as they come; which blocks led there the other end does not say.
    fn follow(&self) -> BoxStream<'static, Change> {
        let changes = unfold((self.clone(), None), |(remote, last)| async move {
            loop {
                let tip = remote.status(last).await.ok()?.tip;
                if last != Some(tip.id) {
                    let change = Change { tip, disconnected: Vec::new(), connected: vec![tip.id] };
                    return Some((change, (remote, Some(tip.id))));
                }
            }
        });
        changes.boxed()
    }
}

/// Where blocks are mined: at a node of this process, or at another.
#[async_trait]
pub trait Pit: Ledger<Pow, Coins> {
    /// The next block but for its nonce.
    ///
    /// # Errors
    /// See [`LedgerError`].
    async fn template(&self, to: Vec<u8>) -> Result<CoinBlock, LedgerError>;

    /// Takes in a block.
    ///
    /// # Errors
    /// See [`LedgerError`].
    async fn mined(&self, block: CoinBlock) -> Result<(), LedgerError>;
}

#[async_trait]
impl Pit for Handle<CoinNode> {
    async fn template(&self, to: Vec<u8>) -> Result<CoinBlock, LedgerError> {
        self.ask(Template(to)).await?
    }

    async fn mined(&self, block: CoinBlock) -> Result<(), LedgerError> {
        self.ask(Mined(block)).await?.map(drop)
    }
}

#[async_trait]
impl Pit for Remote {
    async fn template(&self, to: Vec<u8>) -> Result<CoinBlock, LedgerError> {
        self.read(&Ask::Template(to.into())).await?.ok_or_else(|| self.unexpected())
    }

    async fn mined(&self, block: CoinBlock) -> Result<(), LedgerError> {
        self.ask(&Ask::Mined(Encode::to_bytes(&block).into())).await.map(drop)
    }
}

/// How many nonces a thread tries before it looks up.
const RANGE: u64 = 1 << 14;
/// How often a block is made anew with what has come meanwhile.
const RENEWED: Duration = Duration::from_secs(2);

/// How much is mined.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// On how many threads.
    pub threads: usize,
    /// For how much of the time, in percent.
    pub percent: u32,
}

/// Mines for whom `to` says; tells of each block. Ends with the first failure to get a block to work on.
///
/// # Errors
/// See [`LedgerError`].
pub async fn mine(
    pit: &dyn Pit,
    rules: &Pow,
    to: &[u8],
    effort: Effort,
    found: impl Fn(&CoinBlock),
) -> Result<(), LedgerError> {
    let mut changes = pit.follow();
    // Two miners for one address must not try the same.
    let mut marker: u64 = u64::from(std::process::id()) << 32;
    loop {
        marker += 1;
        let mut solo = Solo::new(pit.template([to, &marker.to_le_bytes()].concat()).await?, RANGE);
        let began = Instant::now();
        let block = loop {
            let at = Instant::now();
            let one = |_| {
                let (mut miner, range) = (Miner(rules.clone()), solo.next_range());
                tokio::task::spawn_blocking(move || miner.run(vec![range]).pop())
            };
            let done = join_all((0..effort.threads).map(one).collect::<Vec<_>>()).await;
            let block = done.into_iter().find_map(|done| solo.done(done.ok()??));
            if block.is_some() {
                break block;
            }
            let rest = at.elapsed() * 100_u32.saturating_sub(effort.percent) / effort.percent.max(1);
            tokio::time::sleep(rest).await;
            match changes.next().now_or_never() {
                Some(Some(_)) => break None,
                Some(None) => changes = pit.follow(),
                None if began.elapsed() > RENEWED => break None,
                None => {}
            }
        };
        // Somebody else may have been faster.
        if let Some(block) = block
            && pit.mined(block.clone()).await.is_ok()
        {
            found(&block);
        }
    }
}
