//! How the target follows the work that is put in, when that changes at once.

use p2p_core::{Key, Rng};

use super::{Light, Pow};
use crate::consensus::{Consensus, Past, Retarget};
use crate::header::{BlockHeader, Header, Work};
use crate::headers::{HeaderChain, HeaderRules};
use crate::id::BlockId;
use crate::target::Compact;

/// The first target: 64 times as hard as the limit, so that there can be less work than at the beginning.
const FIRST: Compact = Compact(0x2001_ffff);

/// A chain whose miners come and go.
#[derive(Clone, Debug)]
pub struct DifficultySteps {
    /// How its target follows.
    pub retarget: Retarget,
    /// How many seconds are to be between blocks.
    pub spacing: u64,
    /// For how many blocks how much work is put in: 1 is as much as the first target is right for. No more than 64 and no less
    /// than 1/64.
    pub phases: Vec<(u64, f64)>,
    /// The seed of everything.
    pub seed: u64,
}

/// What came of a phase of [`DifficultySteps`].
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// How much work was put in.
    pub rate: f64,
    /// The seconds between blocks, in units of the spacing: on average over each ten blocks.
    pub intervals: Vec<f64>,
    /// How much work a block takes in the end, where 1 is what the first took.
    pub difficulty: f64,
}

impl DifficultySteps {
    /// Mines them.
    pub fn run(&self) -> Vec<Phase> {
        let mut rng = Rng::new(self.seed);
        let rules = Pow::new(Pow::regtest().limit, self.spacing).retargeted(self.retarget);
        let seal = Work { bits: FIRST, nonce: 0 };
        let first =
            BlockHeader { height: 0, previous: BlockId::NONE, root: Key::ZERO, time: 1_000_000, seal };
        // In seconds, and more finely than headers have it.
        let mut now = first.time as f64;
        let mut chain = HeaderChain::new(rules, first, HeaderRules::default());
        let mut phases = Vec::new();
        for (blocks, rate) in &self.phases {
            let (mut intervals, mut ten) = (Vec::new(), now);
            let mut difficulty = 1.0;
            for block in 1..=*blocks {
                let header = next(&chain, &mut rng, rate.clamp(1.0 / 64.0, 64.0), &mut now);
                difficulty = harder(header.seal.bits);
                chain.accept(&[header], super::NOW).expect("headers with work are taken");
                if block % 10 == 0 {
                    intervals.push((now - ten) / 10.0 / self.spacing as f64);
                    ten = now;
                }
            }
            phases.push(Phase { rate: *rate, intervals, difficulty });
        }
        phases
    }
}

/// How much harder than the first target.
fn harder(bits: Compact) -> f64 {
    let work = |bits: Compact| bits.work().as_limbs()[0] as f64;
    work(bits) / work(FIRST)
}

/// The next header, found after as long as it takes with so much work.
fn next(chain: &HeaderChain<Pow>, rng: &mut Rng, rate: f64, now: &mut f64) -> Light {
    let rules = chain.consensus();
    let at = |height| chain.at(height);
    let past = Past::new(chain.tip().height, &at);
    let bits = rules.next_bits(&past, *now as u64);
    *now += rng.exponential() * rules.spacing as f64 * harder(bits) / rate;
    let time = (*now as u64).max(past.median_time() + 1);
    let mut header = rules.draft(&past, rng.key(), time);
    assert!(rules.mine(&mut header, 0, 1 << 32), "it is easy enough");
    debug_assert_eq!(header.previous(), chain.tip().id);
    header
}
