//! The structured overlays by their names, and one experiment on any of them.

use std::time::Duration;

use clap::ValueEnum;
use p2p_core::SimPeer;
use p2p_overlay::measure::{Experiment, Report, Simulated, load};
use p2p_overlay::{
    Can, CanConfig, CanRealities, Chord, ChordConfig, Kademlia, KademliaConfig, Pastry, PastryConfig,
    Tapestry, TapestryConfig,
};
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Can,
    Chord,
    Kademlia,
    Pastry,
    Tapestry,
}

/// How an overlay is configured, where that is not its default.
#[derive(Clone, Copy, Default)]
pub(crate) struct How {
    /// No upkeep.
    pub(crate) at_rest: bool,
    /// Of CAN's space.
    pub(crate) dimensions: Option<u8>,
    /// How many nodes share one of CAN's zones.
    pub(crate) zone_peers: Option<u8>,
    /// In how many realities CAN's nodes have a zone.
    pub(crate) realities: Option<u8>,
    /// Chord stabilises every 5 s instead of every 30, with three fingers each time.
    pub(crate) often: bool,
}

/// What came out.
pub(crate) struct Measured {
    pub(crate) report: Report,
    /// Of the lookups, not of building the network.
    pub(crate) wall_s: f64,
    /// Of this process.
    pub(crate) bytes_per_node: u64,
}

/// What is done with whichever overlay it is.
pub(crate) trait Run {
    type Output;

    fn run<O: Simulated>(self, config: O::Config) -> Self::Output;
}

impl How {
    fn every(self, period: Duration) -> Duration {
        if self.at_rest { Duration::ZERO } else { period }
    }

    pub(crate) fn can(self) -> CanConfig {
        let config = CanConfig::default();
        CanConfig {
            dimensions: self.dimensions.unwrap_or(config.dimensions),
            zone_peers: self.zone_peers.unwrap_or(config.zone_peers),
            realities: self.realities.unwrap_or(config.realities),
            update: self.every(config.update),
            ..config
        }
    }

    pub(crate) fn chord(self) -> ChordConfig {
        let config = ChordConfig::default();
        let (stabilize, fingers) = match self.often {
            true => (Duration::from_secs(5), 3),
            false => (config.stabilize, config.fingers),
        };
        ChordConfig { stabilize: self.every(stabilize), fingers, ..config }
    }

    pub(crate) fn kademlia(self) -> KademliaConfig {
        let config = KademliaConfig::default();
        KademliaConfig { upkeep: self.every(config.upkeep), ..config }
    }

    pub(crate) fn pastry(self) -> PastryConfig {
        let config = PastryConfig::default();
        PastryConfig { upkeep: self.every(config.upkeep), ..config }
    }

    pub(crate) fn tapestry(self) -> TapestryConfig {
        let config = TapestryConfig::default();
        TapestryConfig { upkeep: self.every(config.upkeep), ..config }
    }
}

/// Does something with an overlay.
pub(crate) fn on<R: Run>(kind: Kind, how: How, run: R) -> R::Output {
    match kind {
        Kind::Can if how.realities.is_some() => run.run::<CanRealities<SimPeer>>(how.can()),
        Kind::Can => run.run::<Can<SimPeer>>(how.can()),
        Kind::Chord => run.run::<Chord<SimPeer>>(how.chord()),
        Kind::Kademlia => run.run::<Kademlia<SimPeer>>(how.kademlia()),
        Kind::Pastry => run.run::<Pastry<SimPeer>>(how.pastry()),
        Kind::Tapestry => run.run::<Tapestry<SimPeer>>(how.tapestry()),
    }
}

pub(crate) fn measure(kind: Kind, experiment: &Experiment, how: How) -> Measured {
    on(kind, how, experiment)
}

impl Run for &Experiment {
    type Output = Measured;

    #[expect(clippy::disallowed_types, reason = "wall time is what is measured")]
    fn run<O: Simulated>(self, config: O::Config) -> Measured {
        let before = resident();
        let mut sim = self.build::<O>(config);
        let clock = std::time::Instant::now();
        let report = self.look_up(&mut sim);
        let wall_s = clock.elapsed().as_secs_f64();
        let bytes_per_node = resident().saturating_sub(before) / u64::from(self.nodes);
        Measured { report: Report { load: load(&sim), ..report }, wall_s, bytes_per_node }
    }
}

/// The memory of this process, in bytes.
pub(crate) fn resident() -> u64 {
    memory_stats::memory_stats().map_or(0, |memory| memory.physical_mem as u64)
}
