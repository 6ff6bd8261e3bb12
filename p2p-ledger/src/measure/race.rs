//! Nakamoto's race (2008, §11): an attacker works on a branch in secret, and shows it when it has more work.

use p2p_core::Rng;

use super::{Light, follow, genesis, headers};
use crate::header::Header;

/// Far enough behind to give up: from there a share of 0.3 catches up once in 10^18.
const HOPELESS: usize = 50;

/// Races of an attacker against a payment.
#[derive(Clone, Copy, Debug)]
pub struct Races {
    /// The attacker's share of all work.
    pub q: f64,
    /// How many blocks deep the payment is.
    pub z: u32,
    /// How many races there are.
    pub races: u32,
    /// The seed of everything.
    pub seed: u64,
}

impl Races {
    /// The share of races that the attacker wins, with as much progress as he makes while the others find their z blocks: to be
    /// compared with [`attacker_success_exact`](crate::attacker_success_exact).
    pub fn run(&self) -> f64 {
        self.wins(|rng| self.meanwhile(rng))
    }

    /// The same with a progress as the paper takes it for, from a Poisson distribution: to be compared with
    /// [`attacker_success`](crate::attacker_success).
    pub fn run_as_printed(&self) -> f64 {
        let mean = f64::from(self.z) * self.q / (1.0 - self.q);
        self.wins(|rng| poisson(rng, mean))
    }

    fn wins(&self, progress: impl Fn(&mut Rng) -> usize) -> f64 {
        let mut rng = Rng::new(self.seed);
        let won = (0..self.races).filter(|_| {
            let progress = progress(&mut rng);
            self.race(&mut rng, progress)
        });
        won.count() as f64 / f64::from(self.races)
    }

    /// How many of the attacker's headers come before the honest have found z.
    fn meanwhile(&self, rng: &mut Rng) -> usize {
        let (mut found, mut honest) = (0, 0);
        while honest < self.z {
            match rng.chance(self.q) {
                true => found += 1,
                false => honest += 1,
            }
        }
        found
    }

    /// One race. The attacker is one header ahead from the start; when the payment is z headers deep he has `progress` more. He
    /// shows his branch when it has more work, and wins if it is taken.
    fn race(&self, rng: &mut Rng, progress: usize) -> bool {
        let mut chain = headers();
        let mut accept = |headers: &[Light]| {
            chain.accept(headers, super::NOW).expect("headers with work are taken");
            chain.tip().id
        };
        let extend = |tip: &mut Light, rng: &mut Rng| {
            *tip = follow(tip, rng.key());
            tip.clone()
        };
        let mut honest = genesis();
        let mut honest_length = 0;
        for _ in 0..self.z {
            let header = extend(&mut honest, rng);
            assert_eq!(accept(&[header]), honest.id());
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
                    assert_eq!(accept(shorter), honest.id(), "as much work, seen later, changes nothing");
                }
                return accept(&secret) == attacker.id();
            }
            if honest_length - secret.len() > HOPELESS {
                return false;
            }
            match rng.chance(self.q) {
                true => secret.push(extend(&mut attacker, rng)),
                false => {
                    let header = extend(&mut honest, rng);
                    accept(&[header]);
                    honest_length += 1;
                }
            }
        }
    }
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
