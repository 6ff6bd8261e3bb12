//! Running a scenario under many seeds.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs a scenario with seeds 1 to `n`, each twice, and compares what it returns: a trace hash, or anything else
/// that must not differ between two runs. `P2P_SEEDS` in the environment replaces `n`; `P2P_SEED` runs that
/// one seed only. On a failure it prints the seed and the command that replays it.
///
/// # Panics
/// If the scenario does, or if two runs of one seed differ.
#[expect(clippy::print_stderr, reason = "the command that replays a failure belongs on the terminal")]
pub fn run_seeds<T: PartialEq + std::fmt::Debug>(n: u64, scenario: impl Fn(u64) -> T) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("P2P_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("P2P_SEEDS").unwrap_or(n),
    };
    for seed in seeds {
        let twice = catch_unwind(AssertUnwindSafe(|| {
            let (first, second) = (scenario(seed), scenario(seed));
            assert_eq!(first, second, "two runs of one seed differ: something escapes the simulation");
        }));
        if let Err(panic) = twice {
            let test = std::thread::current().name().unwrap_or("NAME_OF_THE_TEST").to_owned();
            eprintln!(
                "seed {seed} fails. Replay it: P2P_SEED={seed} cargo test --workspace -- --exact {test}"
            );
            resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_that_differ_are_noticed() {
        let runs = std::cell::Cell::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            run_seeds(1, |_| {
                runs.set(runs.get() + 1);
                runs.get()
            });
        }));
        assert!(result.is_err() && runs.get() == 2);
    }
}
