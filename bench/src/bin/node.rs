//! `Node` beside raw quinn, and with the feature `rivals` beside iroh and libp2p: bulk throughput and request rates
//! on one loopback, in one process, as ratios.
//!
//! `cargo run --release -p bench [--features rivals] --bin node [rounds] [outstanding]`; with the second number only
//! requests are measured, that many at a time.
#![allow(clippy::print_stdout, clippy::disallowed_types, reason = "a program that measures, and prints")]

use std::time::Instant;

use bench::node::Ours;
use bench::raw::{Answering, Raw};
use bench::{BULK, Rounds, Side, cpu, order};
use p2p_core::Limits;

async fn sides() -> Vec<Box<dyn Side>> {
    let limits = Limits::default();
    let mut sides: Vec<Box<dyn Side>> = vec![Box::new(Ours::start("Node", &limits).await)];
    for answering in [Answering::Tasks, Answering::InPlace] {
        sides.push(Box::new(Raw::start(&limits, answering).await));
    }
    if cfg!(feature = "rivals") {
        // What quinn and iroh go up to by themselves.
        let small = Limits { udp_payload: 1452, ..limits };
        sides.push(Box::new(Ours::start("Node, 1,452-byte packets", &small).await));
    }
    #[cfg(feature = "rivals")]
    sides.push(Box::new(bench::iroh::Iroh::start().await));
    #[cfg(feature = "rivals")]
    sides.push(Box::new(bench::libp2p::Libp2p::start().await));
    sides
}

/// What was measured: rates, and what they cost of the processor at both ends.
#[derive(Default)]
struct Measured {
    rates: Rounds,
    costs: Rounds,
}

impl Measured {
    /// Runs every side once and gives the rates and costs that `run` gives; the first round is thrown away: in it each
    /// finds the path's MTU.
    async fn round(
        &mut self,
        round: usize,
        sides: &[Box<dyn Side>],
        run: impl AsyncFn(&dyn Side) -> (f64, f64),
    ) {
        let (mut rates, mut costs) = (vec![0.0; sides.len()], vec![0.0; sides.len()]);
        for number in order(round, sides.len()) {
            (rates[number], costs[number]) = run(&*sides[number]).await;
        }
        if round > 0 {
            self.rates.add(&rates);
            self.costs.add(&costs);
        }
    }

    fn print(&self, what: &str, sides: &[Box<dyn Side>]) {
        println!("\n{what}, ratio of ours to this; medians (least to most)");
        for (number, side) in sides.iter().enumerate() {
            let (rate, cost) = (self.rates.column(number), self.costs.column(number));
            println!("| {} | {rate} | {cost:.2} | {:.3} |", side.name(), self.rates.ratio(0, number));
        }
    }
}

#[tokio::main]
async fn main() {
    let rounds = std::env::args().nth(1).and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let only: Option<usize> = std::env::args().nth(2).and_then(|outstanding| outstanding.parse().ok());
    let sides = sides().await;

    if only.is_none() {
        let mut bulk = Measured::default();
        for round in 0..=rounds {
            let run = async |side: &dyn Side| {
                let (start, used) = (Instant::now(), cpu());
                side.bulk().await;
                (BULK as f64 / 1e6 / start.elapsed().as_secs_f64(), cpu() - used)
            };
            bulk.round(round, &sides, run).await;
        }
        bulk.print("1 GiB on one stream: MB/s, seconds of processor", &sides);
    }
    for outstanding in only.map_or(vec![1, 64, 512], |one| vec![one]) {
        let mut requests = Measured::default();
        for round in 0..=rounds {
            let run = async |side: &dyn Side| {
                let (start, used) = (Instant::now(), cpu());
                let rate = side.requests(outstanding).await;
                (rate, (cpu() - used) * 1e6 / (rate * start.elapsed().as_secs_f64()))
            };
            requests.round(round, &sides, run).await;
        }
        let what =
            format!("requests of 64 bytes, {outstanding} at a time: a second, microseconds of processor");
        requests.print(&what, &sides);
    }
}
