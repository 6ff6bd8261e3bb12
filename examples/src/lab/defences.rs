//! The defences that `lab defend` and `lab sybil` try, one at a time.

use p2p_overlay::{KademliaConfig, LookupConfig, SubnetLimits};
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Defence {
    Nothing,
    /// Eight disjoint paths.
    Paths,
    /// Sibling lists for 16 siblings.
    Siblings,
    /// The default limits on subnets.
    Subnets,
    /// The density check, with one false alarm in a thousand.
    Density,
}

impl Defence {
    pub(crate) const ALL: [Defence; 5] =
        [Defence::Nothing, Defence::Paths, Defence::Siblings, Defence::Subnets, Defence::Density];

    pub(crate) fn subnets(self) -> Option<SubnetLimits> {
        (self == Defence::Subnets).then(SubnetLimits::default)
    }

    pub(crate) fn guard(self, lookup: LookupConfig) -> LookupConfig {
        LookupConfig { density_check: (self == Defence::Density).then_some(1e-3), ..lookup }
    }

    pub(crate) fn kademlia(self) -> KademliaConfig {
        let config = KademliaConfig::default();
        let siblings = if self == Defence::Siblings { 16 } else { 0 };
        let paths = if self == Defence::Paths { 8 } else { 1 };
        KademliaConfig {
            siblings,
            paths,
            subnets: self.subnets(),
            lookup: self.guard(config.lookup),
            ..config
        }
    }
}
