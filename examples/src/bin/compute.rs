//! `compute`: work handed out in units to whoever offers a processor, checked by quorum, as SETI@home did.
//!
//! ```sh
//! cargo run --release --bin compute -- offer --below 100000000     # prints: contact: p2p://…
//! cargo run --release --bin compute -- work --join p2p://…         # in other terminals, as many as you like
//! ```
//!
//! The question: which number below N has the longest way to 1, if even numbers are halved, and odd ones tripled and one
//! added (Collatz)? Workers are not trusted: each unit is computed by several until two agree.

#![expect(clippy::print_stderr, reason = "a program talks on the terminal")]
#![expect(clippy::disallowed_types, reason = "a program has a clock")]

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use p2p_core::net::{Incoming, Node};
use p2p_core::{Contact, Wire};
use p2p_examples::units::{Next, Taken, Units};
use p2p_examples::{Failure, exit, patiently, say};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Work in units, computed by peers, checked by quorum.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Hands out units until all are answered, and prints what has come of it.
    Offer {
        /// Where to listen.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
        listen: String,
        /// The longest way of a number below this is looked for.
        #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(2..=1 << 40))]
        below: u64,
        /// How many numbers a unit has.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=LONGEST_UNIT))]
        unit: u64,
        /// So many workers have to agree.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
        quorum: u8,
        /// Who has not answered after so many seconds is lost.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
        lease: u64,
    },
    /// Computes units until there are no more.
    Work {
        /// Who offers them.
        #[arg(long, value_name = "CONTACT")]
        join: Contact,
        /// Answers wrongly, to see what comes of it.
        #[arg(long)]
        wrong: bool,
    },
}

/// The most units of one offer.
const UNITS: u64 = 1 << 20;
/// The most numbers of a unit.
const LONGEST_UNIT: u64 = 1 << 32;
/// How long a worker waits when all units are taken.
const PAUSE: Duration = Duration::from_millis(200);
/// How long workers have to hear that there is no more.
const PATIENCE: Duration = Duration::from_secs(10);

/// A number and how many steps it takes to 1.
type Answer = (u64, u32);

/// What a worker says: its last answer, if it has one. It always wants another unit.
#[derive(Serialize, Deserialize)]
struct Ask(Option<(u64, Answer)>);

/// What it hears.
#[derive(Serialize, Deserialize)]
enum Reply {
    /// These numbers, from the one to below the other.
    Unit {
        number: u64,
        from: u64,
        to: u64,
    },
    Wait,
    Unwanted,
    Finished,
}

impl Wire for Ask {}
impl Wire for Reply {}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Args::parse().role {
        Role::Offer { listen, below, unit, quorum, lease } => {
            offer(&listen, below, unit, quorum, Duration::from_secs(lease)).await
        }
        Role::Work { join, wrong } => work(join, wrong).await,
    };
    exit("compute", done)
}

async fn offer(listen: &str, below: u64, unit: u64, quorum: u8, lease: Duration) -> Result<(), Failure> {
    let count = (below - 1).div_ceil(unit);
    if count > UNITS {
        return Err(
            format!("{count} units are more than {UNITS}: let each have more numbers (--unit)").into()
        );
    }
    let units = Arc::new(Mutex::new(Units::<Answer>::new(count as usize, quorum.into(), lease)));
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} units, {eta} left")?;
    let (bar, changed) = (ProgressBar::new(count).with_style(style), Arc::new(Notify::new()));
    let node =
        Node::builder().bind(listen).await.map_err(|error| format!("cannot listen at {listen}: {error}"))?;
    let (shared, ended, begun) = (units.clone(), changed.clone(), Instant::now());
    let disputed = Arc::new(Mutex::new(None));
    let dispute = disputed.clone();
    node.serve("compute/1", move |incoming: Incoming| {
        let reply = Ask::from_bytes(&incoming.body).map(|Ask(answer)| {
            let (worker, mut units) =
                (incoming.from.id, shared.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some((number, answer)) = answer {
                let number = usize::try_from(number).unwrap_or(usize::MAX);
                if units.answer(worker, number, answer) == Taken::Disputed {
                    *dispute.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
                }
            }
            // Whoever waits for it looks when this is done.
            ended.notify_one();
            match units.next(worker, begun.elapsed()) {
                Next::Unit(number) => {
                    let from = 1 + number as u64 * unit;
                    Reply::Unit { number: number as u64, from, to: below.min(from + unit) }
                }
                Next::Wait => Reply::Wait,
                Next::Unwanted => Reply::Unwanted,
                Next::Finished => Reply::Finished,
            }
        });
        async move { Ok(reply.map_err(|_| p2p_core::net::Refused(1))?.to_bytes().into()) }
    })?;
    say("contact", node.contact());
    loop {
        changed.notified().await;
        if let Some(number) = *disputed.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(format!("unit {number} has 32 answers, and no quorum among them").into());
        }
        let units = units.lock().unwrap_or_else(PoisonError::into_inner);
        bar.set_position(count - units.open() as u64);
        if units.open() == 0 {
            break;
        }
    }
    bar.finish_and_clear();
    {
        let units = units.lock().unwrap_or_else(PoisonError::into_inner);
        // Of numbers with ways of one length the smallest.
        let best = units.answers().max_by_key(|(number, steps)| (*steps, std::cmp::Reverse(*number)));
        let (number, steps) = best.copied().unwrap_or((1, 0));
        units.unwanted().for_each(|worker| say("unwanted", format!("{worker:?}")));
        say("longest", format!("{number} with {steps} steps"));
    }
    // The workers hear that there is no more, but for those that are lost.
    let all_know = async {
        while units.lock().unwrap_or_else(PoisonError::into_inner).unaware() > 0 {
            changed.notified().await;
        }
    };
    let _ = tokio::time::timeout(lease.min(PATIENCE), all_know).await;
    node.shutdown().await;
    Ok(())
}

async fn work(join: Contact, wrong: bool) -> Result<(), Failure> {
    let node = Node::builder().bind("127.0.0.1:0").await?;
    let mut answer = None;
    loop {
        let ask = Ask(answer).to_bytes();
        let replied = patiently(|| node.request(join, "compute/1", ask.clone())).await;
        let reply = replied.map_err(|error| format!("who offers the work cannot be reached: {error}"))?;
        answer = match Reply::from_bytes(&reply)? {
            Reply::Unit { from, to, .. } if to.saturating_sub(from) > LONGEST_UNIT => {
                return Err(format!("a unit of more than {LONGEST_UNIT} numbers is too much").into());
            }
            Reply::Unit { number, from, to } => {
                say("unit", number);
                let found = tokio::task::spawn_blocking(move || longest(from, to)).await?;
                Some((number, if wrong { (found.0, found.1 + 1) } else { found }))
            }
            Reply::Wait => {
                tokio::time::sleep(PAUSE).await;
                None
            }
            Reply::Unwanted => return Err("unwanted: other workers have other answers".into()),
            Reply::Finished => {
                eprintln!("compute: there is no more to do");
                node.shutdown().await;
                return Ok(());
            }
        };
    }
}

/// The number with the longest way among these, the smallest of several. What a unit says comes from elsewhere: it
/// ends, whatever it says.
fn longest(from: u64, to: u64) -> Answer {
    let steps = |start: u64| {
        let (mut number, mut steps) = (u128::from(start), 0u32);
        while number > 1 && steps < 100_000 {
            number = if number.is_multiple_of(2) {
                number / 2
            } else {
                number.saturating_mul(3).saturating_add(1)
            };
            steps += 1;
        }
        steps
    };
    let each = (from.max(1)..to).map(|number| (number, steps(number)));
    each.max_by_key(|(number, steps)| (*steps, std::cmp::Reverse(*number))).unwrap_or((from, 0))
}
