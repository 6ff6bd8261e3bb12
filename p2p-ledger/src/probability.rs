//! How safe a payment is, and whether it pays to cheat: the formulas that the ledger's simulations are held to.
//!
//! - Nakamoto (2008, §11): an attacker with a share q of all work catches up from z blocks behind. His progress while the
//!   z blocks are found is taken for Poisson-distributed ([`attacker_success`]).
//! - Rosenfeld (2014, §5): it is negative-binomial ([`attacker_success_exact`]).
//! - Eyal and Sirer (2014, §4.3): what share of the blocks a pool gets that publishes its own only when that robs others
//!   of theirs ([`selfish_revenue`]).

/// The probability that an attacker with a share `q` of all work ever catches up with a payment that is `z` blocks deep, as
/// the paper computes it.
///
/// ```
/// // The paper's table: q = 0.1, z = 5.
/// assert!((p2p_ledger::attacker_success(0.1, 5) - 0.0009137).abs() < 5e-8);
/// ```
pub fn attacker_success(q: f64, z: u32) -> f64 {
    let p = 1.0 - q;
    if q >= p {
        return 1.0;
    }
    let lambda = f64::from(z) * (q / p);
    let mut poisson = libm::exp(-lambda);
    let mut sum = 1.0;
    for k in 0..=z {
        sum -= poisson * (1.0 - libm::pow(q / p, f64::from(z - k)));
        poisson *= lambda / f64::from(k + 1);
    }
    sum
}

/// The same with the attacker's progress as it is distributed.
pub fn attacker_success_exact(q: f64, z: u32) -> f64 {
    let p = 1.0 - q;
    if q >= p {
        return 1.0;
    }
    // The probability that he has found k when the honest find their z-th: C(k + z - 1, k) p^z q^k.
    let mut found = libm::pow(p, f64::from(z));
    let mut sum = 1.0;
    for k in 0..z {
        sum -= found * (1.0 - libm::pow(q / p, f64::from(z - k)));
        found *= q * f64::from(k + z) / f64::from(k + 1);
    }
    sum
}

/// How deep a payment must be for the attacker's chance to be below `risk`; `None` if it never is.
pub fn confirmations(q: f64, risk: f64) -> Option<u32> {
    if q >= 0.5 || risk <= 0.0 {
        return None;
    }
    (0..100_000).find(|z| attacker_success(q, *z) < risk)
}

/// The share of all blocks that selfish mining brings a pool with a share `alpha` of the work, if of the others a share
/// `gamma` works on its block where two are published at once. Honest mining brings `alpha`; this brings more above
/// (1 - gamma) / (3 - 2 gamma).
pub fn selfish_revenue(alpha: f64, gamma: f64) -> f64 {
    let honest = 1.0 - alpha;
    let won = alpha * honest * honest * (4.0 * alpha + gamma * (1.0 - 2.0 * alpha)) - alpha * alpha * alpha;
    won / (1.0 - alpha * (1.0 + (2.0 - alpha) * alpha))
}
