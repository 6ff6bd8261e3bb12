//! Nakamoto's and Eyal and Sirer's figures: as functions, and as races between headers through the real choice of a chain.

use p2p_ledger::measure::{DifficultySteps, Races, SelfishMining};
use p2p_ledger::{Retarget, attacker_success, attacker_success_exact, confirmations, selfish_revenue};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/probabilities.json")).unwrap()
}

/// Half a unit of the last digit that the paper prints.
const PRINTED: f64 = 0.5e-7;

#[test]
fn the_papers_tables_are_the_functions_values() {
    let vectors = vectors();
    let table = |name: &str| vectors[name].as_object().unwrap().clone();
    for (q, row) in table("attacker_success") {
        for (z, expected) in row.as_object().unwrap() {
            let found = attacker_success(q.parse().unwrap(), z.parse().unwrap());
            assert!((found - expected.as_f64().unwrap()).abs() <= PRINTED, "q {q}, z {z}: {found}");
        }
    }
    for (q, row) in table("exact") {
        for (z, expected) in row.as_object().unwrap() {
            let found = attacker_success_exact(q.parse().unwrap(), z.parse().unwrap());
            assert!((found - expected.as_f64().unwrap()).abs() <= PRINTED, "q {q}, z {z}: {found}");
        }
    }
    for (q, expected) in table("confirmations_for_less_than_0_1_percent") {
        let found = confirmations(q.parse().unwrap(), 0.001);
        assert_eq!(found.map(u64::from), expected.as_u64(), "q {q}");
    }
    for case in vectors["selfish_mining"].as_array().unwrap() {
        let number = |name: &str| case[name].as_f64().unwrap();
        let found = selfish_revenue(number("alpha"), number("gamma"));
        assert!((found - number("revenue")).abs() < 1e-6, "{case}: {found}");
    }
    assert_eq!(
        (attacker_success(0.5, 6), attacker_success_exact(0.6, 6), confirmations(0.5, 0.001)),
        (1.0, 1.0, None)
    );
}

#[test]
fn simulated_races_are_won_as_often_as_the_formulas_say() {
    let races = std::env::var("P2P_RACES").map_or(1_000, |races| races.parse().unwrap());
    for (seed, q, z) in [(1, 0.1, 1), (2, 0.1, 2), (3, 0.3, 2), (4, 0.3, 5)] {
        let run = Races { q, z, races, seed };
        let cases = [
            (run.run(), attacker_success_exact(q, z), "exact"),
            (run.run_as_printed(), attacker_success(q, z), "the paper's"),
        ];
        for (found, expected, what) in cases {
            let three_errors = 3.0 * (expected * (1.0 - expected) / f64::from(races)).sqrt();
            assert!(
                (found - expected).abs() < three_errors,
                "{what}, q {q}, z {z}: {found}, {expected} ± {three_errors}"
            );
        }
    }
}

/// Ten runs for each case: their mean is within 1%, or within three standard errors where the runs are so short that these
/// are more.
#[test]
fn selfish_mining_brings_what_the_formula_says() {
    let blocks = std::env::var("P2P_BLOCKS").map_or(4_000, |blocks| blocks.parse().unwrap());
    for (case, seed) in vectors()["selfish_mining"].as_array().unwrap().iter().zip(1u64..) {
        let number = |name: &str| case[name].as_f64().unwrap();
        let (alpha, gamma) = (number("alpha"), number("gamma"));
        let run = |run: u64| SelfishMining { alpha, gamma, blocks, seed: 10 * seed + run }.run();
        let shares: Vec<f64> = (0..10u64).map(run).collect();
        let mean = shares.iter().sum::<f64>() / 10.0;
        let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / 9.0;
        let bound = (3.0 * (variance / 10.0).sqrt()).max(0.01);
        assert!((mean - number("revenue")).abs() < bound, "{case}: {mean} ± {bound}");
    }
}

/// Four times the work comes, and goes again: the target follows, by windows late and by ASERT soon. Of twenty intervals, each
/// exponential, the mean is within a half of what it should be but for once in some hundred.
#[test]
fn targets_follow_the_work_that_is_put_in() {
    let phases = vec![(200, 1.0), (400, 4.0), (400, 1.0)];
    for (retarget, settles) in
        [(Retarget::Window { blocks: 50 }, 110), (Retarget::Asert { half_life: 20 * 600 }, 60)]
    {
        let phases = DifficultySteps { retarget, spacing: 600, phases: phases.clone(), seed: 5 }.run();
        for phase in &phases {
            let rest = &phase.intervals[settles / 10..];
            let mean = rest.iter().sum::<f64>() / rest.len() as f64;
            assert!((0.8..1.25).contains(&mean), "{retarget:?}: {phase:?}");
        }
        assert!(phases[1].intervals[0] < 0.6, "at first blocks come too soon: {:?}", phases[1]);
        assert!(phases[2].intervals[0] > 1.8, "and then too late: {:?}", phases[2]);
        assert!((2.5..6.0).contains(&phases[1].difficulty), "{retarget:?}: {}", phases[1].difficulty);
    }
}
