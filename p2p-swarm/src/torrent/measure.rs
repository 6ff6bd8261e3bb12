//! Measuring swarms: how long a crowd takes, whether pieces get rare, what a peer gets for what it gives, and how long the
//! last pieces take.
//!
//! Everybody comes at once, as in the experiments of Legout et al. (*Clustering and Sharing Incentives in BitTorrent Systems*,
//! SIGMETRICS 2007), whose lines, seed and number of pieces are the defaults. What counts is Cohen's (*Incentives Build
//! Robustness in BitTorrent*, 2003) and Legout, Urvoy-Keller and Michiardi's (*Rarest First and Choke Algorithms Are
//! Enough*, IMC 2006): see [`CrowdReport`]. The sessions are those that run live; the simulator carries what they send, and
//! their workers hash every block.
//!
//! ```
//! use p2p_swarm::torrent::measure::Crowd;
//!
//! let crowd = Crowd { peers: 8, pieces: 40, uplinks: vec![1_000_000], ..Crowd::default() };
//! let report = crowd.run();
//! assert!(report.leechers.len() == 7 && report.leechers.iter().all(|leecher| leecher.done));
//! ```

mod mirror;
mod report;
mod swarm;
mod watch;

use std::time::Duration;

use bytes::Bytes;
use p2p_core::sim::{Bandwidth, Liar};
use p2p_core::{Rng, SimPeer};

use super::{CreateError, CreateOptions, Format, Metainfo, Order};

pub use mirror::{Mirror, MirrorFile};
pub use report::{CrowdReport, Leecher, Rarity};
pub use swarm::{Swarm, network, session};

use watch::Watch;

/// A swarm to which all leechers come at once.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Peers in all. 41.
    pub peers: u32,
    /// How many of them have everything from the beginning, and stay. 1.
    pub seeds: u32,
    /// How many of the others send nothing; they are the last. 0.
    pub free_riders: u32,
    /// Bytes a second that a line sends; the other leechers have these in turn. 20, 50 and 200 kB/s.
    pub uplinks: Vec<u64>,
    /// Bytes a second that a seed's line sends. 200 kB/s.
    pub seed_uplink: u64,
    /// How many pieces there are. 453.
    pub pieces: u32,
    /// Bytes in a piece, a power of two. 64 KiB: a quarter of the paper's, so that a swarm is simulated in a quarter of the
    /// time.
    pub piece_length: u32,
    /// Peers to which each sends at a time, one of them drawn by chance. 4 (Cohen 2003).
    pub slots: usize,
    /// How many others a leecher is told of, besides the seeds. 20.
    pub acquaintances: usize,
    /// Which pieces come first. The rarest.
    pub order: Order,
    /// Whether who is done stays and sends on. Otherwise it goes at once, as in the paper. No.
    pub stay: bool,
    /// How long it is watched, if somebody is not done before. Three hours.
    pub within: Duration,
    /// The seed of everything. 1.
    pub seed: u64,
}

impl Default for Crowd {
    fn default() -> Crowd {
        Crowd {
            peers: 41,
            seeds: 1,
            free_riders: 0,
            uplinks: vec![20_000, 50_000, 200_000],
            seed_uplink: 200_000,
            pieces: 453,
            piece_length: 64 << 10,
            slots: 4,
            acquaintances: 20,
            order: Order::Rarest,
            stay: false,
            within: Duration::from_secs(3 * 3600),
            seed: 1,
        }
    }
}

impl Crowd {
    /// Builds the swarm and watches it until everybody is done.
    ///
    /// # Panics
    /// If there is no seed, no line, nothing to share, or if a piece's length is none that a torrent may have.
    pub fn run(&self) -> CrowdReport {
        let mut swarm = self.build().expect("a torrent of these pieces");
        swarm.begin(self.seeds, self.acquaintances);
        Watch::new(self, swarm).run()
    }

    /// What a leecher sends at the most; nothing if it is a free rider.
    fn uplink(&self, leecher: u32) -> u64 {
        let contributors = self.peers - self.seeds - self.free_riders;
        match leecher < contributors {
            true => self.uplinks[leecher as usize % self.uplinks.len()],
            false => 0,
        }
    }

    fn build(&self) -> Result<Swarm<Mirror>, CreateError> {
        let mut content = vec![0; self.pieces as usize * self.piece_length as usize];
        Rng::new(self.seed).fill(&mut content);
        let content = Bytes::from(content);
        let disks: Vec<Mirror> =
            (0..self.peers).map(|peer| Mirror::new(content.clone(), peer < self.seeds)).collect();
        let options = CreateOptions {
            format: Format::V1,
            piece_length: Some(self.piece_length),
            ..CreateOptions::default()
        };
        let metainfo = Metainfo::create(&mut disks[0].clone(), mirror::NAME.as_ref(), &options)?;
        let line = |peer: u32| match peer.checked_sub(self.seeds) {
            None => self.seed_uplink,
            Some(leecher) => self.uplink(leecher),
        };
        let lines: Vec<u64> = (0..self.peers).map(line).collect();
        let fastest = lines.iter().copied().max().unwrap_or_default();
        let (slots, of_sessions) = (self.slots, lines.clone());
        let make = move |peer: SimPeer| match of_sessions[peer.index()] {
            // It has a line, and sends nothing over it but what it asks for.
            0 => Liar::honest(session(fastest, 0)),
            up => Liar::honest(session(up, slots)),
        };
        let mut swarm = Swarm::new(self.seed, network(fastest), disks, metainfo, make);
        for (peer, up) in (0..).zip(lines).filter(|(_, up)| *up > 0) {
            swarm.sim.set_bandwidth(SimPeer(peer), Bandwidth { up, down: fastest * 10, queue: 16 << 20 });
        }
        swarm.config.order = self.order;
        Ok(swarm)
    }
}
