//! `Gossip` beside, with the feature `rivals`, iroh-gossip and libp2p's gossipsub: 16 nodes in one process on loopback,
//! one of which publishes messages of 100 bytes as fast as it can; how many of the 15 times as many deliveries take
//! place, when the last does, and what it costs of the processor.
//!
//! `cargo run --release -p bench [--features rivals] --bin gossip [rounds] [messages] [signed]`: 3 rounds, 20,000
//! messages; with a third argument gossipsub signs them. Each round begins with new nodes, and a greeting that all have
//! heard.
#![allow(clippy::print_stdout, reason = "a program that measures, and prints")]

use std::sync::Arc;

use bench::gossip::{Crowd, Heard, node, run};
use bench::{Rounds, order};

/// How many there are to compare.
const SIDES: usize = if cfg!(feature = "rivals") { 3 } else { 1 };

async fn start(side: usize, heard: &Arc<Heard>, signed: bool) -> Box<dyn Crowd> {
    let _ = signed;
    match side {
        #[cfg(feature = "rivals")]
        1 => Box::new(bench::gossip::iroh::IrohGossip::start(heard).await),
        #[cfg(feature = "rivals")]
        2 => Box::new(bench::gossip::gossipsub::Gossipsub::start(heard, signed).await),
        _ => Box::new(node::Ours::start(heard).await),
    }
}

#[tokio::main]
async fn main() {
    let number = |at: usize| std::env::args().nth(at).and_then(|number| number.parse::<u64>().ok());
    let (rounds, messages) = (number(1).unwrap_or(3), number(2).unwrap_or(20_000));
    let signed = std::env::args().nth(3).is_some();
    let mut names = [""; SIDES];
    let (mut delivered, mut last, mut cost) = (Rounds::default(), Rounds::default(), Rounds::default());
    for round in 0..rounds as usize {
        let mut columns = [[0.0; SIDES]; 3];
        for side in order(round, SIDES) {
            let heard = Heard::new();
            let crowd = start(side, &heard, signed).await;
            let outcome = run(&*crowd, &heard, messages).await;
            names[side] = crowd.name();
            crowd.stop().await;
            println!("{round}: {}: {outcome:?}", names[side]);
            for (column, value) in columns.iter_mut().zip([outcome.delivered, outcome.last, outcome.cpu]) {
                column[side] = value;
            }
        }
        delivered.add(&columns[0]);
        last.add(&columns[1]);
        cost.add(&columns[2]);
    }
    println!(
        "\n{messages} messages: % delivered, seconds to the last delivery, seconds of processor, ratio of the"
    );
    println!("seconds to the last, ours to this; medians (least to most)");
    for (side, name) in names.iter().enumerate() {
        let (delivered, ratio) = (delivered.column(side), last.ratio(0, side));
        let (least, most) = (delivered.least * 100.0, delivered.most * 100.0);
        let (last, cost) = (last.column(side), cost.column(side));
        println!("| {name} | {least:.2} to {most:.2} | {last:.2} | {cost:.1} | {ratio:.2} |");
    }
}
