//! `Gossip` beside, with the feature `rivals`, iroh-gossip and libp2p's gossipsub: 16 nodes in one process on loopback,
//! one of which publishes messages of 100 bytes as fast as it can; how many of the 15 times as many deliveries take
//! place, when 95% of them have and when the last does, and what it costs of the processor. The goal is that all of ours
//! have come when 95% of iroh-gossip's have.
//!
//! `cargo run --release -p bench [--features rivals] --bin gossip [rounds] [messages] [signed]`: 3 rounds, 20,000
//! messages; with a third argument gossipsub signs them. Each round begins with new nodes, and a greeting that all have
//! heard.
#![allow(clippy::print_stdout, reason = "a program that measures, and prints")]

use std::sync::Arc;

use bench::gossip::{Crowd, Heard, Outcome, node, run};
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
    // Of the times, the first half is when all had come, and the second when nearly all had.
    let (mut delivered, mut times, mut cost) = (Rounds::default(), Rounds::default(), Rounds::default());
    for round in 0..rounds as usize {
        let mut columns = [[0.0; SIDES]; 4];
        for side in order(round, SIDES) {
            let heard = Heard::new(messages);
            let crowd = start(side, &heard, signed).await;
            let outcome = run(&*crowd, &heard).await;
            names[side] = crowd.name();
            crowd.stop().await;
            println!("{round}: {}: {outcome:?}", names[side]);
            let Outcome { delivered, nearly, last, cpu } = outcome;
            for (column, value) in columns.iter_mut().zip([delivered, last, nearly, cpu]) {
                column[side] = value;
            }
        }
        delivered.add(&columns[0]);
        times.add(&columns[1..3].concat());
        cost.add(&columns[3]);
    }
    println!("\n{messages} messages: % delivered, seconds to 95% of the deliveries, to the last, seconds of");
    println!("processor; our last to this one's 95%, and to its last, in one round; medians (least to most)");
    for (side, name) in names.iter().enumerate() {
        let (delivered, cost) = (delivered.column(side), cost.column(side));
        let (least, most) = (delivered.least * 100.0, delivered.most * 100.0);
        let (nearly, last) = (times.column(SIDES + side), times.column(side));
        let (to_nearly, to_last) = (times.ratio(0, SIDES + side), times.ratio(0, side));
        println!(
            "| {name} | {least:.2} to {most:.2} | {nearly:.2} | {last:.2} | {cost:.1} | {to_nearly:.2} | {to_last:.2} |"
        );
    }
}
