//! What was acknowledged survives `kill -9`, and a chain goes on where it was.
//!
//! A process works on a chain in a file, step after step, among them reorganisations, and says when one is done; it is
//! killed at any moment. Then the file holds what all steps lead to that were said to be done, or one step more, and
//! nothing in between: the same steps in memory say what that is. Twenty kills, or `P2P_KILLS`.
//!
//! The process is this test program itself: it has no harness, and works if it is told where.
#![allow(missing_docs, dead_code, reason = "a test, which shares its helpers with others")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and may talk")]
#![allow(clippy::disallowed_types, reason = "a process is killed at any moment")]

#[path = "ledger/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use p2p_core::Rng;
use p2p_ledger::{
    Chain, ChainRules, Coins, Header, HeaderChain, HeaderRules, MemoryStore, RedbStore, Store, Tip,
    Transaction, Verifier,
};
use support::{CHAIN, CoinBlock, MATURITY, NOW, Pow, SUBSIDY, block, genesis, pay, spend};

const FILE: &str = "P2P_LEDGER_TEST_WORK_ON";
const FROM: &str = "P2P_LEDGER_TEST_WORK_FROM";
/// How many bodies are kept; if it is not there, all.
const KEEP: &str = "P2P_LEDGER_TEST_KEEP";
const OPEN: &str = "P2P_LEDGER_TEST_OPEN";

fn main() {
    if let Ok(file) = std::env::var(FILE) {
        let keep = std::env::var(KEEP).ok().map(|keep| keep.parse().unwrap());
        return work(Path::new(&file), std::env::var(FROM).unwrap().parse().unwrap(), keep);
    }
    if let Ok(file) = std::env::var(OPEN) {
        println!("0");
        drop(RedbStore::open(file));
        println!("1");
        return;
    }
    a_kill_while_a_file_is_made_leaves_none_that_cannot_be_opened();
    println!("test a_kill_while_a_file_is_made_leaves_none_that_cannot_be_opened ... ok");
    for keep in [None, Some(4)] {
        what_was_acknowledged_survives_kill_9(keep);
        println!("test what_was_acknowledged_survives_kill_9, keeping {keep:?} ... ok");
    }
}

fn open<D: Store>(store: D, keep: Option<u64>) -> Chain<Pow, Coins, D> {
    let coins = Coins { halving: 0, maturity: MATURITY, ..Coins::new(CHAIN, SUBSIDY) };
    let headers =
        HeaderChain::new(Pow::regtest(), genesis(), HeaderRules { finality: keep, ..HeaderRules::default() });
    let rules = ChainRules { keep, ..ChainRules::default() };
    Chain::open(headers, coins, store, Verifier::new([9; 32]), rules).unwrap()
}

/// A step, by its number and where the chain is: a block with a payment; or, every fourth, two that take the place of the
/// last. Each is one commit.
fn step<D: Store>(chain: &mut Chain<Pow, Coins, D>, number: u64) {
    let height = chain.tip().height;
    let mined = |chain: &Chain<Pow, Coins, D>, height: u64| -> CoinBlock {
        let id = chain.headers().at(height).unwrap().id();
        chain.block(&id).unwrap().unwrap()
    };
    let mut payments: Vec<Transaction> = Vec::new();
    if height > MATURITY + 2 {
        let coinbase = &mined(chain, height - MATURITY).transactions[0];
        let (coin, value) = (coinbase.out_point(0), coinbase.outputs[0].value);
        payments.push(spend(1, coin, [pay(2, value - 10), pay(3, number % 5)]));
    }
    let blocks = match number % 4 {
        3 => {
            let parent = chain.headers().at(height - 1).unwrap().clone();
            let first = block(&parent, 1, SUBSIDY - number % 500, &[]);
            let second = block(&first.header, 1, SUBSIDY, &[]);
            vec![first, second]
        }
        _ => vec![block(chain.tip_header(), 1, SUBSIDY, &payments)],
    };
    for block in &blocks {
        assert_eq!(chain.accept(block.clone(), NOW).unwrap().invalid, []);
    }
    assert_eq!(chain.tip().id, blocks.last().unwrap().header.id());
}

/// Works until it is killed, or the test is gone.
fn work(file: &Path, from: u64, keep: Option<u64>) {
    let mut chain = open(RedbStore::open(file).unwrap(), keep);
    #[allow(clippy::disallowed_methods, reason = "notices the end of the test beside the work")]
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    for number in from.. {
        step(&mut chain, number);
        println!("{number}");
    }
}

/// Where a chain is, and every value in its store.
fn contents<D: Store>(chain: &Chain<Pow, Coins, D>) -> (Tip, BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut all = BTreeMap::new();
    chain.store().scan(&[], &mut |key, value| drop(all.insert(key.to_vec(), value.to_vec()))).unwrap();
    (chain.tip(), all)
}

/// At every moment from before the file is there to when it is whole: so long does it take when nobody is killed.
fn a_kill_while_a_file_is_made_leaves_none_that_cannot_be_opened() {
    let kills: u64 = std::env::var("P2P_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let folder = std::env::temp_dir().join(format!("p2p-ledger-first-{}", std::process::id()));
    let mut took = None;
    for kill in 0..=kills {
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("chain.redb");
        let child =
            Command::new(std::env::current_exe().unwrap()).env(OPEN, &file).stdout(Stdio::piped()).spawn();
        let mut child = Killed(child.unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        said(lines.next(), 0).expect("it begins");
        let began = Instant::now();
        match took {
            None => {
                said(lines.next(), 1).expect("it opens the file");
                took = Some(began.elapsed());
            }
            Some(took) => {
                let until = began + took.mul_f64(kill as f64 / kills as f64);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            }
        }
        drop(child);
        assert!(
            RedbStore::open(&file).is_ok(),
            "kill {kill} of {kills}, {took:?}: {:?}",
            RedbStore::open(&file)
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

fn what_was_acknowledged_survives_kill_9(keep: Option<u64>) {
    let kills: u64 = std::env::var("P2P_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let file = std::env::temp_dir().join(format!("p2p-ledger-kills-{}.redb", std::process::id()));
    let mut memory = open(MemoryStore::default(), keep);
    // The next step that nobody has acknowledged, and that has not been done in memory.
    let (mut next, mut applied) = (0, 0);
    let mut rng = Rng::stream(kills, 1);
    for kill in 1..=kills {
        let mut child = start(&file, next, keep);
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        for _ in 0..1 + rng.below(12) {
            next = said(lines.next(), next).expect("it works until it is killed");
        }
        let until = Instant::now() + Duration::from_micros(rng.below(5000));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        // What it has said by then counts.
        while let Some(after) = said(lines.next(), next) {
            next = after;
        }
        (applied..next).for_each(|number| step(&mut memory, number));
        let there = contents(&open(RedbStore::open(&file).unwrap(), keep));
        if there != contents(&memory) {
            step(&mut memory, next);
            assert!(there == contents(&memory), "kill {kill}: steps up to {next} were acknowledged");
            next += 1;
        }
        applied = next;
    }
    println!("{next} steps, height {} at the end", memory.tip().height);
    std::fs::remove_file(file).unwrap();
}

/// A process that is killed by SIGKILL when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(file: &Path, from: u64, keep: Option<u64>) -> Killed {
    let child = Command::new(std::env::current_exe().unwrap())
        .envs(keep.map(|keep| (KEEP, keep.to_string())))
        .env(FILE, file)
        .env(FROM, from.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    Killed(child.unwrap())
}

/// The step after the one that it says it has done.
fn said(line: Option<std::io::Result<String>>, expected: u64) -> Option<u64> {
    let line = line?.ok()?;
    // The last line may be cut off.
    let number = line.parse::<u64>().ok().filter(|number| *number == expected)?;
    Some(number + 1)
}
