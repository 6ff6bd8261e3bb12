//! Mining, at a node of this process or at another.

use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::StreamExt;
use futures::future::join_all;
use p2p_core::{Handle, Worker};
use p2p_ledger::{Ledger, LedgerError, Mined, Miner, Solo, Template};
use tokio::time::Instant;

use super::{BlockOf, NodeOf, Pow, Terms};

/// Where blocks are mined.
#[async_trait]
pub trait Pit<T: Terms>: Ledger<Pow, T::State> {
    /// The next block but for its nonce.
    ///
    /// # Errors
    /// See [`LedgerError`].
    async fn template(&self, to: Vec<u8>) -> Result<BlockOf<T>, LedgerError>;

    /// Takes in a block.
    ///
    /// # Errors
    /// See [`LedgerError`].
    async fn mined(&self, block: BlockOf<T>) -> Result<(), LedgerError>;
}

#[async_trait]
impl<T: Terms> Pit<T> for Handle<NodeOf<T>> {
    async fn template(&self, to: Vec<u8>) -> Result<BlockOf<T>, LedgerError> {
        self.ask(Template(to)).await?
    }

    async fn mined(&self, block: BlockOf<T>) -> Result<(), LedgerError> {
        self.ask(Mined(block)).await?.map(drop)
    }
}

/// How many nonces a thread tries before it looks up.
const RANGE: u64 = 1 << 14;
/// How often a block is made anew with what has come meanwhile.
const RENEWED: Duration = Duration::from_secs(2);

/// How a program's user says how much is mined.
#[derive(Clone, Debug, clap::Args)]
pub struct Mining {
    /// Mine on so many threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Mine for so much of the time, in percent.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    effort: u32,
}

impl Mining {
    /// How much that is.
    pub fn effort(&self) -> Effort {
        Effort { threads: self.threads.max(1), percent: self.effort }
    }
}

/// How much is mined.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// On how many threads.
    pub threads: usize,
    /// For how much of the time, in percent.
    pub percent: u32,
}

/// Mines for whom `to` says, if anybody gets something for it; tells of each block. Ends with the first failure to get a block
/// to work on.
///
/// # Errors
/// See [`LedgerError`].
pub async fn mine<T: Terms>(
    pit: &dyn Pit<T>,
    rules: &Pow,
    to: &[u8],
    effort: Effort,
    found: impl Fn(&BlockOf<T>),
) -> Result<(), LedgerError> {
    let mut changes = pit.follow();
    loop {
        // Two who mine the same must not try the same.
        let from = getrandom::u64().map_err(|error| LedgerError::Storage(error.to_string()))?;
        let mut solo = Solo::new(pit.template(to.to_vec()).await?, RANGE).starting_at(from);
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
