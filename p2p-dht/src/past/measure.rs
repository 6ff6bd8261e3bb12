//! The paper's experiment (§5.1): files go into a network until it can take no more.
//!
//! 2,250 nodes give 27 MB each on average, truncated normal (*d1*), and 1,863,055 files, the unique ones of a web proxy's log,
//! want half as much again as there is. That log is gone. Sizes here have its median, mean and maximum (1,312 bytes, 10,517 bytes,
//! 138 MB) and the shape that Barford & Crovella found (*Generating representative web workloads*, SIGMETRICS 1998): log-normal
//! with a deviation of 1.318, and above 133 KB Pareto's with an exponent of 1.1. Everything is a thirty-second as large. The
//! network is at rest. Contents and certificates go their way as ever; what the nodes' workers do is left out: they keep nothing
//! and believe everything.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use p2p_core::sim::{DiskModel, Encoding, Latency, Network, Sim};
use p2p_core::{Keypair, Rng, SimPeer, Worker};
use p2p_overlay::{Pastry, PastryConfig};

use super::store::{PastDone, PastJob};
use super::{InsertError, Inserted, MAX_FILE, Past, PastConfig, PastNode};

/// The bytes that stand for a megabyte.
const MEGABYTE: f64 = 1e6 / 32.0;
/// Of the body, in real bytes: with the tail the median is 1,312.
const MEDIAN: f64 = 1290.0;
const SPREAD: f64 = 1.318;
/// Where the tail begins and ends, and how many of all files are in it, by which the mean is 10,517.
const TAIL: (f64, f64) = (133e3, 138e6);
const EXPONENT: f64 = 1.1;
const IN_TAIL: f64 = 0.0102;

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Filling {
    /// How many nodes there are. 2,250.
    pub nodes: u32,
    /// How many files for each of them. 828: in all 1,863,000.
    pub files: u32,
    /// Pastry's leaves, l. 32.
    pub leaves: usize,
    /// What a node takes, t_pri. 0.1.
    pub primary: f64,
    /// What it takes for another, t_div. 0.05; 0 for no replica diversion.
    pub diverted: f64,
    /// Whether files are tried under other salts. Yes.
    pub file_diversion: bool,
    /// The seed of everything.
    pub seed: u64,
}

impl Default for Filling {
    fn default() -> Filling {
        Filling {
            nodes: 2250,
            files: 828,
            leaves: 32,
            primary: 0.1,
            diverted: 0.05,
            file_diversion: true,
            seed: 1,
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Filled {
    /// How many files were tried, and how many of them are kept.
    pub files: u64,
    /// See there.
    pub kept: u64,
    /// Of those kept the share that is under another than the first salt.
    pub file_diverted: f64,
    /// Of the replicas kept the share that another keeps in the place of the node that should.
    pub replica_diverted: f64,
    /// The share of all room that is taken.
    pub utilisation: f64,
    /// What share of the files was rejected by the time that 95% of all room was taken, if it was.
    pub rejected_at_95: Option<f64>,
    /// How many bytes the files that are kept have on average, and those that are not.
    pub mean_kept: f64,
    /// See there.
    pub mean_rejected: f64,
    /// Stands for all that happened.
    pub trace: u64,
}

impl Filled {
    /// The share of the files that are not kept.
    pub fn rejected(&self) -> f64 {
        1.0 - self.kept as f64 / self.files.max(1) as f64
    }
}

/// Keeps nothing, and believes everything.
#[derive(Clone, Copy, Debug, Default)]
struct Weightless;

impl Worker<PastJob> for Weightless {
    fn run(&mut self, batch: Vec<PastJob>) -> Vec<PastDone> {
        let one = |job| match job {
            PastJob::Keep { .. } => PastDone::Kept(Ok(())),
            PastJob::Check { .. } => PastDone::Checked(Ok(true)),
            PastJob::Read(_) => PastDone::Read(Ok(None)),
            PastJob::Drop(_) => PastDone::Dropped(Ok(())),
            PastJob::Reclaim(_) => PastDone::Reclaimed(Ok(true)),
            PastJob::Scan => PastDone::Scanned(Ok(Vec::new())),
        };
        batch.into_iter().map(one).collect()
    }
}

/// 27 MB, with a deviation of 10.8, from 2 to 51 (table 1, d1).
fn room(rng: &mut Rng) -> u64 {
    loop {
        let megabytes = 27.0 + 10.8 * rng.normal();
        if (2.0..51.0).contains(&megabytes) {
            return (megabytes * MEGABYTE) as u64;
        }
    }
}

/// Of a file, in real bytes.
pub(super) fn size(rng: &mut Rng) -> f64 {
    if !rng.chance(IN_TAIL) {
        return MEDIAN * libm::exp(SPREAD * rng.normal());
    }
    let (from, to) = TAIL;
    let beyond = libm::pow(from / to, EXPONENT);
    from * libm::pow(1.0 - rng.unit() * (1.0 - beyond), -1.0 / EXPONENT)
}

impl Filling {
    /// Fills a network.
    pub fn run(&self) -> Filled {
        let network = Network {
            latency: Latency::Constant(Duration::from_millis(20)),
            encoding: Encoding::Ignore,
            ..Network::default()
        };
        let mut sim = Sim::<PastNode<SimPeer>, Weightless>::with_workers(
            self.seed,
            network,
            DiskModel::default(),
            |_| Weightless,
        );
        let mut rng = Rng::stream(self.seed, 1);
        let peers: Vec<SimPeer> = (0..self.nodes).map(SimPeer).collect();
        let pastry = PastryConfig { leaves: self.leaves, upkeep: Duration::ZERO, ..PastryConfig::default() };
        let config = PastConfig {
            primary: self.primary,
            diverted: self.diverted,
            max_files: usize::MAX,
            repair: Duration::ZERO,
            ..PastConfig::default()
        };
        for pastry in Pastry::converged(&peers, pastry) {
            let config = PastConfig { capacity: room(&mut rng), ..config };
            sim.spawn(|_| PastNode::new(pastry, config));
        }
        sim.run_for(Duration::from_secs(1));

        let room: u64 = sim.view().iter().map(|(_, node)| node.capacity()).sum();
        let users: Vec<Past<SimPeer>> = peers
            .iter()
            .map(|peer| {
                let past = Past::new(sim.handle(*peer), config);
                if self.file_diversion { past } else { past.without_file_diversion() }
            })
            .collect();
        let owner = Keypair::from_seed(&[1; 32]);
        let zeros = Bytes::from(vec![0; MAX_FILE]);
        let files = u64::from(self.nodes) * u64::from(self.files);
        let insert = |i: u64| {
            let (user, content) = (
                rng.choose(&users).cloned(),
                zeros.slice(..((size(&mut rng) / 32.0) as usize).min(MAX_FILE)),
            );
            let owner = owner.clone();
            async move {
                let bytes = content.len();
                let inserted = match user {
                    Some(user) => user.insert(&owner, &i.to_string(), content, 0).await,
                    None => Err(InsertError::Busy),
                };
                (bytes, inserted)
            }
        };
        let mut inserts = stream::iter((0..files).map(insert)).buffer_unordered(64);
        let mut filled = Filled { files, ..Filled::default() };
        let (mut tried, mut taken) = (0u64, 0u64);
        let (mut diverted, mut pointers, mut copies, mut bytes) = (0u64, 0u64, 0u64, [0u64; 2]);
        sim.block_on(async {
            while let Some((size, inserted)) = inserts.next().await {
                tried += 1;
                let Ok(Inserted { salt, receipts, .. }) = inserted else {
                    bytes[1] += size as u64;
                    continue;
                };
                bytes[0] += size as u64;
                taken += (size * receipts.copies) as u64;
                filled.kept += 1;
                if filled.rejected_at_95.is_none() && taken as f64 > 0.95 * room as f64 {
                    filled.rejected_at_95 = Some(1.0 - filled.kept as f64 / tried as f64);
                }
                diverted += u64::from(salt > 0);
                copies += receipts.copies as u64;
                pointers += receipts.diverted as u64;
            }
        });
        drop(inserts);
        let used = sim.view().iter().map(|(_, node)| node.used()).sum();
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        filled.file_diverted = share(diverted, filled.kept);
        filled.replica_diverted = share(pointers, copies);
        filled.utilisation = share(used, room);
        filled.mean_kept = 32.0 * share(bytes[0], filled.kept);
        filled.mean_rejected = 32.0 * share(bytes[1], files - filled.kept);
        filled.trace = sim.trace();
        filled
    }
}
