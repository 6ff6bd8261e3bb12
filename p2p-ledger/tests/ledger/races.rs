//! Nakamoto's and Eyal and Sirer's figures: as functions, and as races between headers through the real choice of a chain.

use p2p_core::{Key, Rng};
use p2p_ledger::{
    Header, HeaderChain, attacker_success, attacker_success_exact, confirmations, selfish_revenue,
};
use serde_json::Value;

use crate::support::{Light, NOW, Pow, follow, genesis, light};

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

/// Far enough behind to give up: from there a share of 0.3 catches up once in 10^18.
const HOPELESS: usize = 50;

/// One race. The attacker works in secret on a chain of his own, one header ahead from the start; when the payment is z
/// headers deep he has `progress` more. He shows his chain when it has more work, and wins if it is taken.
fn race(rng: &mut Rng, q: f64, z: usize, progress: usize) -> bool {
    let rules = Pow::regtest();
    let mut chain: HeaderChain<Pow> = light();
    let mut honest = genesis();
    let extend = |tip: &mut Light, rng: &mut Rng| {
        *tip = follow(&rules, tip, rng.key());
        tip.clone()
    };
    let mut accept = |headers: &[Light]| chain.accept(headers, NOW).map(|_| chain.tip().id);
    let mut honest_length = 0;
    for _ in 0..z {
        let header = extend(&mut honest, rng);
        assert_eq!(accept(&[header]).unwrap(), honest.id());
        honest_length += 1;
    }
    let (mut secret, mut attacker) = (Vec::new(), genesis());
    for _ in 0..=progress {
        secret.push(extend(&mut attacker, rng));
    }
    loop {
        if secret.len() > honest_length {
            let shorter = &secret[..honest_length];
            if !shorter.is_empty() {
                let kept = accept(shorter).unwrap();
                assert_eq!(kept, honest.id(), "as much work, seen later, changes nothing");
            }
            return accept(&secret).unwrap() == attacker.id();
        }
        if honest_length - secret.len() > HOPELESS {
            return false;
        }
        match rng.chance(q) {
            true => secret.push(extend(&mut attacker, rng)),
            false => {
                let header = extend(&mut honest, rng);
                accept(&[header]).unwrap();
                honest_length += 1;
            }
        }
    }
}

fn share_of_wins(seed: u64, q: f64, z: usize, mut progress: impl FnMut(&mut Rng) -> usize) -> (f64, f64) {
    let races = std::env::var("P2P_RACES").map_or(1_000, |races| races.parse().unwrap());
    let mut rng = Rng::new(seed);
    let wins = (0..races)
        .filter(|_| {
            let progress = progress(&mut rng);
            race(&mut rng, q, z, progress)
        })
        .count();
    (wins as f64 / f64::from(races), f64::from(races))
}

/// How many of the attacker's headers come before the honest have found z.
fn meanwhile(rng: &mut Rng, q: f64, z: usize) -> usize {
    let (mut found, mut honest) = (0, 0);
    while honest < z {
        match rng.chance(q) {
            true => found += 1,
            false => honest += 1,
        }
    }
    found
}

fn poisson(rng: &mut Rng, mean: f64) -> usize {
    let mut at = rng.exponential();
    let mut count = 0;
    while at < mean {
        at += rng.exponential();
        count += 1;
    }
    count
}

#[test]
fn simulated_races_are_won_as_often_as_the_formulas_say() {
    for (seed, q, z) in [(1, 0.1, 1), (2, 0.1, 2), (3, 0.3, 2), (4, 0.3, 5)] {
        let (exact, printed) = (attacker_success_exact(q, z), attacker_success(q, z));
        let z = z as usize;
        let (found, races) = share_of_wins(seed, q, z, |rng| meanwhile(rng, q, z));
        let three_errors = 3.0 * (exact * (1.0 - exact) / races).sqrt();
        assert!((found - exact).abs() < three_errors, "q {q}, z {z}: {found}, {exact} ± {three_errors}");

        let mean = z as f64 * q / (1.0 - q);
        let (found, races) = share_of_wins(seed, q, z, |rng| poisson(rng, mean));
        let three_errors = 3.0 * (printed * (1.0 - printed) / races).sqrt();
        assert!((found - printed).abs() < three_errors, "the paper's, q {q}, z {z}: {found}, {printed}");
    }
}

/// The selfish pool against honest miners of two kinds: where two blocks are published at once, a share gamma hears of the
/// pool's first. Each kind has its own choice of a chain; the pool's blocks have a root of their own, by which they
/// are told apart.
fn selfish_share(seed: u64, alpha: f64, gamma: f64, blocks: u64) -> f64 {
    const POOL: Key = Key::new([1; 32]);
    const OTHERS: Key = Key::new([2; 32]);
    let (mut rng, rules) = (Rng::new(seed), Pow::regtest());
    // `views[0]` hears of the pool's blocks first.
    let mut views: [HeaderChain<Pow>; 2] = [light(), light()];
    // The pool's blocks that it has not published, above the block that all agree on or the pool's own last.
    let (mut secret, mut pool_tip): (Vec<Light>, Light) = (Vec::new(), genesis());
    // Whether two branches of one block each are published.
    let mut tie = false;
    let accept = |view: &mut HeaderChain<Pow>, headers: &[Light]| {
        view.accept(headers, NOW).unwrap();
    };
    let tip = |view: &HeaderChain<Pow>| view.at(view.tip().height).unwrap().clone();
    for _ in 0..blocks {
        if rng.chance(alpha) {
            pool_tip = follow(&rules, &pool_tip, POOL);
            secret.push(pool_tip.clone());
            if tie {
                // It is one ahead of both branches, and shows it.
                let shown = std::mem::take(&mut secret);
                views.iter_mut().for_each(|view| accept(view, &shown));
                tie = false;
            }
            continue;
        }
        let view = usize::from(!rng.chance(gamma));
        let found = follow(&rules, &tip(&views[view]), OTHERS);
        if tie {
            // Somebody's branch is longer now; all take it, and the pool gives up.
            views.iter_mut().for_each(|view| accept(view, std::slice::from_ref(&found)));
            (pool_tip, tie) = (found, false);
            continue;
        }
        let shown: Vec<Light> = match secret.len() {
            0 => {
                views.iter_mut().for_each(|view| accept(view, std::slice::from_ref(&found)));
                pool_tip = found;
                continue;
            }
            // One ahead: it publishes, and the two blocks race.
            1 => {
                tie = true;
                std::mem::take(&mut secret)
            }
            // Two ahead: it publishes both and wins.
            2 => std::mem::take(&mut secret),
            // More: it publishes one, which is enough to match.
            _ => vec![secret.remove(0)],
        };
        accept(&mut views[0], &shown);
        accept(&mut views[0], std::slice::from_ref(&found));
        accept(&mut views[1], std::slice::from_ref(&found));
        accept(&mut views[1], &shown);
    }
    let view = &views[0];
    let height = view.tip().height;
    let pools = (1..=height).filter(|height| view.at(*height).unwrap().root == POOL).count();
    pools as f64 / height as f64
}

/// Ten runs for each case: their mean is within 1%, or within three standard errors where the runs are so short that these
/// are more.
#[test]
fn selfish_mining_brings_what_the_formula_says() {
    let blocks = std::env::var("P2P_BLOCKS").map_or(4_000, |blocks| blocks.parse().unwrap());
    for (case, seed) in vectors()["selfish_mining"].as_array().unwrap().iter().zip(1u64..) {
        let number = |name: &str| case[name].as_f64().unwrap();
        let run = |run: u64| selfish_share(10 * seed + run, number("alpha"), number("gamma"), blocks);
        let shares: Vec<f64> = (0..10u64).map(run).collect();
        let mean = shares.iter().sum::<f64>() / 10.0;
        let variance = shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / 9.0;
        let bound = (3.0 * (variance / 10.0).sqrt()).max(0.01);
        assert!((mean - number("revenue")).abs() < bound, "{case}: {mean} ± {bound}");
    }
}
