//! Mining, at a node of this process or at another.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::BoxStream;
use p2p_core::{Handle, Worker};
use p2p_ledger::{Change, Ledger, LedgerError, Mined, Miner, Solo, Template};
use tokio::time::{Instant, sleep};

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
/// How long a miner rests whose block was refused, if nothing changes.
const REFUSED: Duration = Duration::from_secs(1);
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
            match rests(&mut changes, sleep(rest)).await {
                Woken::Changed => break None,
                Woken::Ended => {
                    changes = pit.follow();
                    sleep(rest).await;
                }
                Woken::Rested => {}
            }
            if began.elapsed() > RENEWED {
                break None;
            }
        };
        if let Some(block) = block {
            match pit.mined(block.clone()).await {
                Ok(()) => found(&block),
                // Somebody else has been faster, which changes the chain; or its time has not come yet.
                Err(_) => drop(rests(&mut changes, sleep(REFUSED)).await),
            }
        }
    }
}

/// Why a miner works again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// The chain has changed.
    Changed,
    /// No changes come any more.
    Ended,
    /// It has rested.
    Rested,
}

/// Rests until then, or until the chain changes.
async fn rests(changes: &mut BoxStream<'static, Change>, rested: impl Future<Output = ()>) -> Woken {
    tokio::select! {
        biased;
        change = changes.next() => if change.is_some() { Woken::Changed } else { Woken::Ended },
        () = rested => Woken::Rested,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Poll;

    use futures::FutureExt;
    use futures::channel::mpsc;
    use futures::future::{pending, ready};
    use futures::stream::poll_fn;
    use p2p_ledger::{
        Block, BlockHeader, BlockId, Board, Compact, Notice, Tip, TxId, Work, transactions_root,
    };
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Public;

    impl Terms for Public {
        const NAME: &'static str = "public";
        type State = Board;

        fn state(&self, chain: u32) -> Board {
            Board { chain }
        }
    }

    fn change() -> Change {
        let tip = Tip { id: BlockId::NONE, height: 1, work: Default::default() };
        Change { tip, disconnected: Vec::new(), connected: vec![BlockId::NONE] }
    }

    fn enough<T>() -> Result<T, LedgerError> {
        Err(LedgerError::Refused("it is enough".into()))
    }

    /// It gives one block to work on, which takes for ever; somebody else is faster at once.
    struct Elsewhere {
        given: AtomicU32,
        asked: &'static AtomicU32,
    }

    #[async_trait]
    impl Ledger<Pow, Board> for Elsewhere {
        async fn submit(&self, _: Notice) -> Result<TxId, LedgerError> {
            enough()
        }

        async fn tip(&self) -> Result<Tip, LedgerError> {
            enough()
        }

        async fn block(&self, _: u64) -> Result<Option<BlockOf<Public>>, LedgerError> {
            enough()
        }

        fn follow(&self) -> BoxStream<'static, Change> {
            let asked = self.asked;
            Box::pin(poll_fn(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
                0 => Poll::Ready(Some(change())),
                _ => Poll::Pending,
            }))
        }
    }

    #[async_trait]
    impl Pit<Public> for Elsewhere {
        async fn template(&self, _: Vec<u8>) -> Result<BlockOf<Public>, LedgerError> {
            if self.given.fetch_add(1, Ordering::Relaxed) > 0 {
                return enough();
            }
            let seal = Work { bits: Compact(0x0300_0001), nonce: 0 };
            let (previous, root) = (BlockId::NONE, transactions_root::<Notice>(&[]));
            let header = BlockHeader { height: 1, previous, root, time: 1_000, seal };
            Ok(Block { header, transactions: Vec::new() })
        }

        async fn mined(&self, _: BlockOf<Public>) -> Result<(), LedgerError> {
            enough()
        }
    }

    /// However much is left of a rest, a change ends it; and where there is none to take, a change is heard of all the same.
    #[tokio::test]
    async fn a_change_ends_a_rest() {
        let (told, changes) = mpsc::unbounded();
        let mut changes = changes.boxed();
        assert_eq!(rests(&mut changes, ready(())).await, Woken::Rested);
        {
            let mut resting = pin!(rests(&mut changes, pending()));
            assert_eq!(resting.as_mut().now_or_never(), None);
            told.unbounded_send(change()).unwrap();
            assert_eq!(resting.as_mut().now_or_never(), Some(Woken::Changed));
        }
        told.unbounded_send(change()).unwrap();
        assert_eq!(rests(&mut changes, ready(())).await, Woken::Changed);
        drop(told);
        assert_eq!(rests(&mut changes, pending()).now_or_never(), Some(Woken::Ended));
    }

    /// It does not wait until the block is renewed anyway.
    #[tokio::test]
    async fn when_somebody_is_faster_the_next_block_is_mined_at_once() {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        let pit = Elsewhere { given: AtomicU32::new(0), asked: &ASKED };
        let effort = Effort { threads: 1, percent: 1 };
        let rules = Pow::new(Compact(0x0300_0001), 10);
        let ended = mine::<Public>(&pit, &rules, &[], effort, |_| {}).await;
        assert_eq!((ended, ASKED.load(Ordering::Relaxed)), (enough(), 1), "it looks after the first range");
    }
}
