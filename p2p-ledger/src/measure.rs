//! Experiments with chains, by numbers: races between branches, a selfish pool, targets that follow the work, and how blocks get
//! around. The tests of the papers' figures use them, and whoever wants to draw them.
//!
//! Headers have real work, if little, and go through the real choice of a chain. [`Party`] is for simulations with light clients in
//! them.

mod difficulty;
mod party;
mod race;
mod selfish;
mod spread;

use p2p_core::Key;

use crate::consensus::ProofOfWork;
use crate::header::{BlockHeader, Header, Work};
use crate::headers::{HeaderChain, HeaderRules};
use crate::id::BlockId;

pub use difficulty::{DifficultySteps, Phase};
pub use party::{Party, PartyCommand, PartyOutcome, ToFull, ToLight};
pub use race::Races;
pub use selfish::SelfishMining;
pub use spread::{Forks, ForksReport, Spread};

type Light = BlockHeader<Work>;
type Pow = ProofOfWork<Light>;

/// Later than every header.
const NOW: u64 = u64::MAX - 10_000;

/// The first header of every chain here, on which one hash of two is work enough.
fn genesis() -> Light {
    let seal = Work { bits: Pow::regtest().limit, nonce: 0 };
    BlockHeader { height: 0, previous: BlockId::NONE, root: Key::ZERO, time: 0, seal }
}

/// A header after another one, with work in it.
fn follow(parent: &Light, root: Key) -> Light {
    let (height, time) = (parent.height + 1, parent.time + 600);
    let mut header = BlockHeader { height, previous: parent.id(), root, time, seal: parent.seal };
    assert!(Pow::regtest().mine(&mut header, 0, 1 << 20), "of a million hashes half are good enough");
    header
}

fn headers() -> HeaderChain<Pow> {
    HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default())
}
