//! Search strategies by numbers: what a search costs, and what it finds, on networks of several shapes.
//!
//! ```
//! use p2p_overlay::Reach;
//! use p2p_overlay::measure::search::{Copies, Searches};
//!
//! let searches = Searches { nodes: 500, searches: 20, copies: Copies::Share(0.02), ..Searches::default() };
//! let report = searches.run();
//! assert_eq!(report.found, 20);
//! ```

use p2p_core::sim::{Histogram, Network, Sim};
use p2p_core::{Rng, SimPeer};
use std::time::Duration;

use crate::search::{Reach, Scope};
use crate::strategy::{Graph, Replication, Seek, Seeker, SeekerConfig, SeekerTally};

/// Who is connected to whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Topology {
    /// G(n, m): as many edges as that mean degree takes, between pairs chosen at random.
    Random {
        /// The mean degree.
        degree: f64,
    },
    /// Degrees by a power law, joined at random; loops and second edges are left out.
    PowerLaw {
        /// A degree d is as frequent as d to the power of minus this.
        exponent: f64,
        /// The smallest degree.
        least: u32,
        /// The largest.
        most: u32,
    },
    /// Nodes of one degree, joined at random; loops and second edges are left out, so that a few have less.
    Regular {
        /// The degree.
        degree: u32,
    },
}

impl Topology {
    /// Everybody's neighbours.
    pub fn neighbours(&self, nodes: u32, rng: &mut Rng) -> Vec<Vec<SimPeer>> {
        let mut neighbours = vec![Vec::new(); nodes as usize];
        let degrees: Vec<u32> = match *self {
            Topology::Random { degree } => {
                let possible = u64::from(nodes) * u64::from(nodes.saturating_sub(1)) / 2;
                let mut left = ((f64::from(nodes) * degree / 2.0) as u64).min(possible);
                while left > 0 {
                    let (a, b) = (rng.below(nodes.into()) as u32, rng.below(nodes.into()) as u32);
                    left -= u64::from(connect(&mut neighbours, a, b));
                }
                return neighbours;
            }
            Topology::PowerLaw { exponent, least, most } => {
                let weights: Vec<f64> =
                    (least..=most).map(|degree| libm::pow(degree.into(), -exponent)).collect();
                let sum: f64 = weights.iter().sum();
                let mut draw = || {
                    let mut left = rng.unit() * sum;
                    let drawn = weights.iter().position(|weight| {
                        left -= weight;
                        left < 0.0
                    });
                    least + drawn.unwrap_or(0) as u32
                };
                (0..nodes).map(|_| draw()).collect()
            }
            Topology::Regular { degree } => vec![degree; nodes as usize],
        };
        let ends = |(node, degree): (u32, &u32)| std::iter::repeat_n(node, *degree as usize);
        let mut ends: Vec<u32> = (0..nodes).zip(&degrees).flat_map(ends).collect();
        rng.shuffle(&mut ends);
        for pair in ends.chunks_exact(2) {
            connect(&mut neighbours, pair[0], pair[1]);
        }
        neighbours
    }
}

/// Connects two nodes, if they are not the same and were not connected.
fn connect(neighbours: &mut [Vec<SimPeer>], a: u32, b: u32) -> bool {
    let new = a != b && !neighbours[a as usize].contains(&SimPeer(b));
    if new {
        neighbours[a as usize].push(SimPeer(b));
        neighbours[b as usize].push(SimPeer(a));
    }
    new
}

/// Who has what, and what is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Copies {
    /// Each search is for an item of its own, which this share of all nodes has.
    Share(f64),
    /// So many items, of which a node has so many on average; asked for by Zipf's law of exponent 1.
    Shelf {
        /// How many items.
        items: u32,
        /// How many copies a node has on average.
        per_node: u32,
        /// How they are shared out.
        by: Replication,
    },
}

/// The nodes of the largest part that hangs together.
fn largest_part(neighbours: &[Vec<SimPeer>]) -> Vec<SimPeer> {
    let mut seen = vec![false; neighbours.len()];
    let mut largest = Vec::new();
    for start in 0..neighbours.len() {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        let mut part = vec![SimPeer(start as u32)];
        let mut at = 0;
        while let Some(peer) = part.get(at).copied() {
            at += 1;
            let new = neighbours[peer.index()]
                .iter()
                .filter(|next| !std::mem::replace(&mut seen[next.index()], true));
            part.extend(new);
        }
        if part.len() > largest.len() {
            largest = part;
        }
    }
    largest
}

/// One workload on one network: searches by random nodes of its largest part, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Searches {
    /// The network. G(n, m) of degree 4.
    pub topology: Topology,
    /// How many nodes. 10,000.
    pub nodes: u32,
    /// Who has what. One node in a hundred.
    pub copies: Copies,
    /// How to search. 32 walkers that ask back after every four steps.
    pub reach: Reach,
    /// How many hits a search wants. 1.
    pub hits: u32,
    /// How many searches. 100.
    pub searches: u32,
    /// The seed of everything. 1.
    pub seed: u64,
}

impl Default for Searches {
    fn default() -> Searches {
        Searches {
            topology: Topology::Random { degree: 4.0 },
            nodes: 10_000,
            copies: Copies::Share(0.01),
            reach: Reach::Walk { walkers: 32, check_every: 4, steps: 100_000 },
            hits: 1,
            searches: 100,
            seed: 1,
        }
    }
}

/// What came of them.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many searches there were.
    pub searches: u32,
    /// How many found something.
    pub found: u32,
    /// What all nodes have done, for all searches.
    pub tally: SeekerTally,
    /// Messages of each search: questions, and walkers that ask back or are sent on; not the answers.
    pub messages: Histogram,
    /// How long those that found something took, in milliseconds.
    pub delays: Histogram,
    /// The simulation's trace hash.
    pub trace: u64,
}

impl Report {
    /// Nodes reached by a search, on average.
    pub fn reached(&self) -> f64 {
        self.tally.reached as f64 / f64::from(self.searches.max(1))
    }

    /// Steps or copies of the question of a search, on average: as [`Report::messages`], but without asking back.
    pub fn probes(&self) -> f64 {
        self.tally.probes as f64 / f64::from(self.searches.max(1))
    }
}

/// A node of the experiment.
#[derive(Debug)]
struct Holder {
    neighbours: Vec<SimPeer>,
    /// Sorted.
    items: Vec<u32>,
}

impl Graph for Holder {
    type Peer = SimPeer;
    type Query = u32;

    fn neighbours(&self) -> &[SimPeer] {
        &self.neighbours
    }
    fn holds(&self, item: &u32) -> bool {
        self.items.binary_search(item).is_ok()
    }
}

impl Searches {
    /// Runs it.
    pub fn run(&self) -> Report {
        let mut sim = Sim::<Seeker<Holder>>::new(self.seed, Network::default());
        let neighbours = self.topology.neighbours(self.nodes, sim.workload_rng());
        let sources = largest_part(&neighbours);
        let (held, asked) = self.shelves(sim.workload_rng());
        for (neighbours, items) in neighbours.into_iter().zip(held) {
            let holder = Holder { neighbours, items };
            sim.spawn(|birth| Seeker::new(birth.peer, holder, SeekerConfig::default()));
        }
        // Longer than any search takes; virtual time goes on to it after each.
        let deadline = Duration::from_secs(100_000);
        let scope = Scope { hits: self.hits, deadline, reach: self.reach };
        let mut report = Report { searches: self.searches, ..Report::default() };
        let mut before = 0;
        for item in asked {
            let source = sources[sim.workload_rng().index(sources.len())];
            let begun = sim.now();
            sim.command(source, Seek { query: item, scope });
            // Until the last question has come, whatever the asker knows by then.
            sim.run_until_quiet();
            for ended in sim.take_outcomes() {
                if ended.outcome.is_ok_and(|sought| !sought.holders.is_empty()) {
                    report.found += 1;
                    report.delays.add(ended.at.since(begun).as_millis() as u64);
                }
            }
            let tally = self.tally(&sim);
            report.messages.add(tally.probes + tally.checks - before);
            before = tally.probes + tally.checks;
        }
        report.tally = self.tally(&sim);
        report.trace = sim.trace();
        report
    }

    fn tally(&self, sim: &Sim<Seeker<Holder>>) -> SeekerTally {
        let each = (0..self.nodes).filter_map(|node| sim.node(SimPeer(node))).map(Seeker::tally);
        each.fold(SeekerTally::default(), |sum, node| SeekerTally {
            probes: sum.probes + node.probes,
            checks: sum.checks + node.checks,
            answers: sum.answers + node.answers,
            reached: sum.reached + node.reached,
            duplicates: sum.duplicates + node.duplicates,
        })
    }

    /// What each node has, and what is asked for, in order.
    fn shelves(&self, rng: &mut Rng) -> (Vec<Vec<u32>>, Vec<u32>) {
        let mut held = vec![Vec::new(); self.nodes as usize];
        let mut place = |item: u32, copies: u64, rng: &mut Rng| {
            let mut left = copies.min(self.nodes.into());
            while left > 0 {
                let shelf: &mut Vec<u32> = &mut held[rng.index(self.nodes as usize)];
                if shelf.last() != Some(&item) {
                    shelf.push(item);
                    left -= 1;
                }
            }
        };
        let asked = match self.copies {
            Copies::Share(share) => {
                let copies = (share * f64::from(self.nodes)) as u64;
                (0..self.searches).for_each(|item| place(item, copies, rng));
                (0..self.searches).collect()
            }
            Copies::Shelf { items, per_node, by } => {
                let rates: Vec<f64> = (1..=items).map(|rank| 1.0 / f64::from(rank)).collect();
                let copies = by.allocate(&rates, u64::from(per_node) * u64::from(self.nodes));
                (0..items).zip(copies).for_each(|(item, copies)| place(item, copies, rng));
                let sum: f64 = rates.iter().sum();
                let draw = |_| {
                    let mut left = rng.unit() * sum;
                    let drawn = rates.iter().position(|rate| {
                        left -= rate;
                        left < 0.0
                    });
                    drawn.unwrap_or(0) as u32
                };
                (0..self.searches).map(draw).collect()
            }
        };
        (held, asked)
    }
}
