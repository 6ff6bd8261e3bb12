//! What the programs here share: runs in pairs, and what is said of them.
//!
//! The machine is never quiet, so no figure stands alone: whatever is compared runs one after the other in one
//! process, the order changes from round to round, and what counts is the median of the rounds' ratios.
#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "a program that measures may fail loudly")]

use std::fmt;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

pub mod gossip;
#[cfg(feature = "rivals")]
pub mod iroh;
#[cfg(feature = "rivals")]
pub mod libp2p;
pub mod node;
pub mod raw;

/// What is sent in bulk: 1 GiB.
pub const BULK: usize = 1 << 30;
/// How much of it is handed over at a time.
pub const CHUNK: usize = 1 << 20;
/// A request's body and its reply's, in bytes.
pub const BODY: usize = 64;

/// One of those that are compared: two ends on loopback in this process, and their connection.
pub trait Side {
    /// What it is called in the table.
    fn name(&self) -> &'static str;
    /// Sends [`BULK`] bytes on one stream, and waits until the other end says that it has them.
    fn bulk(&self) -> BoxFuture<'_, ()>;
    /// Requests per second, with so many at a time.
    fn requests(&self, outstanding: usize) -> BoxFuture<'_, f64>;
}

/// The rounds of several measurements, one column each.
#[derive(Debug, Default)]
pub struct Rounds(Vec<Vec<f64>>);

/// Median, least and most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle value.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of these values, of which there is at least one.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Spread { median: values[values.len() / 2], least: values[0], most: values[values.len() - 1] }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        write!(f, "{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.least, self.most)
    }
}

impl Rounds {
    /// Adds a round: a value for each column.
    pub fn add(&mut self, round: &[f64]) {
        self.0.resize(round.len(), Vec::new());
        self.0.iter_mut().zip(round).for_each(|(column, value)| column.push(*value));
    }

    /// A column.
    pub fn column(&self, number: usize) -> Spread {
        Spread::of(self.0[number].iter().copied())
    }

    /// The rounds' ratios of one column to another.
    pub fn ratio(&self, number: usize, to: usize) -> Spread {
        Spread::of(self.0[number].iter().zip(&self.0[to]).map(|(value, to)| value / to))
    }
}

/// The processor time this process has used, in seconds, to a hundredth: what is left of a comparison where others take
/// turns on the processor.
pub fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The program's name, the second field, may have spaces in it; times are the fourteenth and fifteenth.
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}

/// In what order `count` sides run in a round, so that none always has the warmer machine.
pub fn order(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (turn + round) % count)
}

/// Requests per second of `ask`, with `outstanding` of them at a time, for a second.
pub async fn rate<F: Future<Output = ()> + Send>(
    outstanding: usize,
    ask: impl Fn() -> F + Clone + Send + 'static,
) -> f64 {
    let start = Instant::now();
    let end = start + Duration::from_secs(1);
    let tasks: Vec<_> = (0..outstanding)
        .map(|_| {
            let ask = ask.clone();
            let asker: std::pin::Pin<Box<dyn Future<Output = u64> + Send>> = Box::pin(async move {
                let mut asked = 0;
                while Instant::now() < end {
                    ask().await;
                    asked += 1;
                }
                asked
            });
            tokio::spawn(asker)
        })
        .collect();
    let mut total = 0;
    for task in tasks {
        total += task.await.unwrap();
    }
    total as f64 / start.elapsed().as_secs_f64()
}
