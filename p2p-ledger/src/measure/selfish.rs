//! Selfish mining (Eyal and Sirer 2014): a pool that publishes its blocks only when that robs others of theirs.

use p2p_core::{Key, Rng};

use super::{Light, Pow, follow, genesis, headers};
use crate::headers::HeaderChain;

/// A selfish pool against honest miners of two kinds: where two blocks are published at once, a share gamma hears of the pool's
/// first. Each kind has its own choice of a chain; the pool's blocks have a root of their own, by which they are told apart.
#[derive(Clone, Copy, Debug)]
pub struct SelfishMining {
    /// The pool's share of all work.
    pub alpha: f64,
    /// Of the others, the share that hears of the pool's block first where two are published at once.
    pub gamma: f64,
    /// How many blocks are found.
    pub blocks: u64,
    /// The seed of everything.
    pub seed: u64,
}

const POOL: Key = Key::new([1; 32]);
const OTHERS: Key = Key::new([2; 32]);

impl SelfishMining {
    /// The pool's share of the chain in the end: to be compared with [`selfish_revenue`](crate::selfish_revenue).
    pub fn run(&self) -> f64 {
        let mut rng = Rng::new(self.seed);
        // `views[0]` hears of the pool's blocks first.
        let mut views: [HeaderChain<Pow>; 2] = [headers(), headers()];
        // The pool's blocks that it has not published, above the block that all agree on or the pool's own last.
        let (mut secret, mut pool_tip): (Vec<Light>, Light) = (Vec::new(), genesis());
        // Whether two branches of one block each are published.
        let mut tie = false;
        let accept = |view: &mut HeaderChain<Pow>, headers: &[Light]| {
            view.accept(headers, super::NOW).expect("headers with work are taken");
        };
        let tip = |view: &HeaderChain<Pow>| view.header(&view.tip().id).cloned().expect("the tip is there");
        for _ in 0..self.blocks {
            if rng.chance(self.alpha) {
                pool_tip = follow(&pool_tip, POOL);
                secret.push(pool_tip.clone());
                if tie {
                    // It is one ahead of both branches, and shows it.
                    let shown = std::mem::take(&mut secret);
                    views.iter_mut().for_each(|view| accept(view, &shown));
                    tie = false;
                }
                continue;
            }
            let view = usize::from(!rng.chance(self.gamma));
            let found = follow(&tip(&views[view]), OTHERS);
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
        let pools = (1..=height).filter(|height| view.at(*height).is_some_and(|header| header.root == POOL));
        pools.count() as f64 / height.max(1) as f64
    }
}
