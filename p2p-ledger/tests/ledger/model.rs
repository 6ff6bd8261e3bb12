//! The chain beside a slow model of one.

use p2p_core::Rng;
use proptest::prelude::*;

use crate::support::{self, Node};

#[path = "../support/model.rs"]
mod slow;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("P2P_CASES").map_or(12, |cases| cases.parse().unwrap())
    ))]

    #[test]
    fn the_chain_agrees_with_the_model_after_every_block(seed: u64) {
        let (mut rng, mut model, mut node) = (Rng::new(seed), slow::Model::default(), Node::new());
        (0..40).for_each(|_| model.step(&mut |below| rng.below(below), &mut node));
    }
}
