//! Transactions validated by `p2p-ledger` with the state in memory, beside the signatures' check alone, which nothing can
//! be faster than; and headers.
//!
//! Each transaction has one input and two outputs, each input another key. A block of them comes as bytes, is decoded,
//! hashed, checked against its header, applied to the state and committed; none of its signatures has been seen before. Then
//! the same with a file behind, in which it is when the time is taken.
//! `cargo run --release -p bench --bin ledger [rounds] [transactions]`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a program that measures, prints, and may fail loudly"
)]

use std::convert::Infallible;
use std::time::Instant;

use bench::{Rounds, cpu};
use ed25519_zebra::{Signature, VerificationKeyBytes, batch};
use p2p_core::{Key, Keypair, Rng};
use p2p_ledger::{
    Block, BlockHeader, BlockId, Cached, Chain, ChainRules, Coins, Decode, Encode, Header, HeaderChain,
    HeaderRules, Lock, MAX_OUTPUTS, MemoryStore, Output, Part, ProofOfWork, RedbStore, Store, Transaction,
    Tx, Verifier, Work, transactions_root,
};
use rand_core::{TryCryptoRng, TryRng};

type Format = BlockHeader<Work>;
type Pow = ProofOfWork<Format>;

const NOW: u64 = u64::MAX / 2;

fn genesis() -> Format {
    let seal = Work { bits: Pow::regtest().limit, nonce: 0 };
    BlockHeader { height: 0, previous: BlockId::NONE, root: Key::ZERO, time: 1_000, seal }
}

fn follow(parent: &Format, root: Key) -> Format {
    let mut header = BlockHeader {
        height: parent.height + 1,
        previous: parent.id(),
        root,
        time: parent.time + 600,
        seal: parent.seal,
    };
    assert!(Pow::regtest().mine(&mut header, 0, 1 << 20));
    header
}

struct World {
    /// Those that make the coins, and the one that spends them.
    blocks: Vec<Vec<u8>>,
    payments: Vec<Transaction>,
}

impl World {
    fn new(transactions: usize) -> World {
        let mut rng = Rng::new(1);
        let mut keypair = || {
            let mut seed = [0; 32];
            rng.fill(&mut seed);
            Keypair::from_seed(&seed)
        };
        let (mut parent, mut blocks, mut payments) = (genesis(), Vec::new(), Vec::new());
        let to = |keypair: &Keypair, value| Output { value, lock: Lock::Key(keypair.id().into()) };
        let mut append = |transactions: Vec<Transaction>| {
            let header = follow(&parent, transactions_root(&transactions));
            parent = header.clone();
            blocks.push(Block { header, transactions }.to_bytes());
            parent.height
        };
        let mut left = transactions;
        let mut height = 0;
        while left > 0 {
            let owners: Vec<Keypair> = (0..left.min(MAX_OUTPUTS)).map(|_| keypair()).collect();
            left -= owners.len();
            let coinbase = Transaction::coinbase(1, height + 1, owners.iter().map(|owner| to(owner, 100)));
            for (owner, index) in owners.iter().zip(0..) {
                let outputs = [to(&keypair(), 60), to(&keypair(), 39)];
                let mut payment = Transaction::new(1, [coinbase.out_point(index)], outputs);
                payment.sign(0, owner);
                payments.push(payment);
            }
            height = append(vec![coinbase]);
        }
        let coinbase = Transaction::coinbase(1, height + 1, [to(&keypair(), 1)]);
        append([vec![coinbase], payments.clone()].concat());
        World { blocks, payments }
    }

    /// Seconds and processor seconds for the block that spends all coins.
    fn validate<D: Store>(&self, threads: usize, store: D, flush: impl Fn(&mut D)) -> [f64; 2] {
        let headers = HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default());
        let coins = Coins { maturity: 1, ..Coins::new(1, 100 * MAX_OUTPUTS as u64) };
        let rules = ChainRules { block_bytes: 1 << 30, waiting_bytes: 1 << 30, keep: None };
        let verifier = Verifier::new([1; 32]).threads(threads).remembering(0);
        let mut chain = Chain::new(headers, coins, store, verifier, rules);
        let (last, before) = self.blocks.split_last().unwrap();
        for block in before {
            chain.accept(Block::from_bytes(block).unwrap(), NOW).unwrap();
        }
        flush(chain.store_mut());
        let measured = timed(|| {
            let outcome = chain.accept(Block::from_bytes(last).unwrap(), NOW).unwrap();
            assert_eq!(outcome.connected.len(), 1);
            flush(chain.store_mut());
        });
        assert_eq!(chain.tip().height as usize, self.blocks.len());
        measured
    }

    /// The same for the signatures alone: all in one batch, for each thread.
    fn signatures(&self, threads: usize) -> [f64; 2] {
        let checks: Vec<_> = self
            .payments
            .iter()
            .zip(self.owners())
            .map(|(payment, owner)| {
                let [Part::Signature(signature)] = payment.inputs[0].witness.0[..] else {
                    panic!("one signature")
                };
                let message = [b"p2p-ledger spend".as_slice(), payment.id().0.as_bytes()].concat();
                (VerificationKeyBytes::from(owner), Signature::from_bytes(&signature), message)
            })
            .collect();
        timed(|| {
            std::thread::scope(|scope| {
                for part in checks.chunks(checks.len().div_ceil(threads)) {
                    scope.spawn(move || {
                        let mut batch = batch::Verifier::new();
                        part.iter()
                            .for_each(|(key, signature, message)| batch.queue((*key, *signature, message)));
                        batch.verify(Drawn(Rng::new(7))).unwrap();
                    });
                }
            });
        })
    }

    fn owners(&self) -> impl Iterator<Item = [u8; 32]> {
        let blocks = self.blocks[..self.blocks.len() - 1].iter();
        let coinbases =
            blocks.map(|block| Block::<Format, Transaction>::from_bytes(block).unwrap().transactions);
        coinbases.flat_map(|transactions| transactions.into_iter().flat_map(|one| one.outputs)).map(
            |output| match output.lock {
                Lock::Key(key) => key.0,
                other => panic!("{other:?}"),
            },
        )
    }
}

/// Seconds and processor seconds.
fn timed(work: impl FnOnce()) -> [f64; 2] {
    let (start, used) = (Instant::now(), cpu());
    work();
    [start.elapsed().as_secs_f64(), cpu() - used]
}

/// Headers, 2,000 at a time as peers send them.
fn sync(headers: &[Format]) -> [f64; 2] {
    let mut chain = HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default());
    timed(|| {
        for some in headers.chunks(2_000) {
            chain.accept(some, NOW).unwrap();
        }
        assert_eq!(chain.tip().height as usize, headers.len());
    })
}

/// Good enough for signatures that nobody has crafted.
struct Drawn(Rng);

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next_u64() as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

fn main() {
    let argument = |n, or| std::env::args().nth(n).map_or(or, |argument| argument.parse().unwrap());
    let (rounds, count): (usize, usize) = (argument(1, 5), argument(2, 20_000));
    let world = World::new(count);
    println!(
        "{count} transactions of one input and two outputs, {rounds} rounds; for each second, and processor second"
    );
    for threads in [1, 2] {
        let mut measured = Rounds::default();
        for _ in 0..rounds {
            let file = std::env::temp_dir().join(format!("p2p-bench-{}.redb", std::process::id()));
            let persisted = Cached::new(RedbStore::open(&file).unwrap(), 1 << 30);
            let rates = [
                world.signatures(threads),
                world.validate(threads, MemoryStore::default(), |_| ()),
                world.validate(threads, persisted, |store| store.flush().unwrap()),
            ];
            std::fs::remove_file(file).unwrap();
            measured
                .add(&rates.as_flattened().iter().map(|seconds| count as f64 / seconds).collect::<Vec<_>>());
        }
        println!("{threads} threads: signatures alone {}, {}", measured.column(0), measured.column(1));
        println!("{threads} threads: validated        {}, {}", measured.column(2), measured.column(3));
        println!("{threads} threads: in a file        {}, {}", measured.column(4), measured.column(5));
        println!(
            "{threads} threads: ratio            {:.3}, {:.3}",
            measured.ratio(2, 0),
            measured.ratio(3, 1)
        );
    }
    let mut parent = genesis();
    let headers: Vec<Format> = (0..400_000u32)
        .map(|i| {
            parent = follow(&parent, Key::of(&i.to_le_bytes()));
            parent.clone()
        })
        .collect();
    let mut measured = Rounds::default();
    for _ in 0..rounds {
        measured.add(&sync(&headers).map(|seconds| headers.len() as f64 / seconds));
    }
    println!("headers accepted: {}, {}", measured.column(0), measured.column(1));
}
