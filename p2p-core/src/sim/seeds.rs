//! Running a scenario under many seeds.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::thread;

/// How many seeds are run twice: what escapes the simulation shows in any.
const TWICE: u64 = 16;

/// Runs a scenario with seeds 1 to `n`, on every core. Each of the first 16 runs twice, and what comes of it is compared:
/// a trace hash, or anything else that must not differ between two runs. `P2P_SEEDS` in the environment replaces `n`;
/// `P2P_SEED` runs that one seed only, twice. On a failure it prints the seed and the command that replays it.
///
/// # Panics
/// If the scenario does, or if two runs of one seed differ.
pub fn run_seeds<T: PartialEq + std::fmt::Debug>(n: u64, scenario: impl Fn(u64) -> T + Sync) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (seeds, twice) = match number("P2P_SEED") {
        Some(seed) => (seed..=seed, seed),
        None => (1..=number("P2P_SEEDS").unwrap_or(n), TWICE),
    };
    let left = Mutex::new(seeds);
    let next = || left.lock().ok().and_then(|mut left| left.next());
    let run = |seed| {
        let first = scenario(seed);
        if seed <= twice {
            assert_eq!(
                first,
                scenario(seed),
                "two runs of one seed differ: something escapes the simulation"
            );
        }
    };
    let test = thread::current().name().unwrap_or("NAME_OF_THE_TEST").to_owned();
    let run_all = || {
        while let Some(seed) = next() {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
                replay(seed, &test);
                // The others need not go on.
                while next().is_some() {}
                resume_unwind(panic);
            }
        }
    };
    thread::scope(|scope| {
        let others = thread::available_parallelism().map_or(1, NonZero::get) - 1;
        let others: Vec<_> = (0..others).map(|_| scope.spawn(run_all)).collect();
        run_all();
        for other in others {
            if let Err(panic) = other.join() {
                resume_unwind(panic);
            }
        }
    });
}

#[expect(clippy::print_stderr, reason = "the command that replays a failure belongs on the terminal")]
fn replay(seed: u64, test: &str) {
    eprintln!("seed {seed} fails. Replay it: P2P_SEED={seed} cargo test --workspace -- --exact {test}");
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn two_runs_that_differ_are_noticed() {
        let runs = AtomicU64::new(0);
        let result =
            catch_unwind(AssertUnwindSafe(|| run_seeds(1, |_| runs.fetch_add(1, Ordering::Relaxed))));
        assert!(result.is_err() && runs.into_inner() == 2);
    }

    #[test]
    fn a_seed_that_fails_fails_all_whoever_runs_it() {
        for bad in 1..=4 {
            let result = catch_unwind(|| run_seeds(4, |seed| assert_ne!(seed, bad)));
            assert!(result.is_err(), "seed {bad}");
        }
    }

    #[test]
    fn all_seeds_run_and_the_first_twice() {
        let runs = Mutex::new(std::collections::BTreeMap::<u64, u64>::new());
        run_seeds(20, |seed| *runs.lock().unwrap().entry(seed).or_default() += 1);
        let runs = runs.into_inner().unwrap();
        let wanted = std::env::var("P2P_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
        assert!((1..=wanted).eq(runs.keys().copied()));
        assert!(runs.into_iter().all(|(seed, runs)| runs == if seed <= TWICE { 2 } else { 1 }));
    }
}
