//! `chat`: everybody in a room hears what anybody types, by gossip, and whoever comes later hears what was said before.
//!
//! ```sh
//! cargo run --bin chat                               # prints: contact: p2p://…
//! cargo run --bin chat -- --join p2p://…             # in another terminal
//! ```
//!
//! A room is a topic. The latest lines are kept by all; a newcomer asks one of them for what it has missed.
//!
//! Names are not proved: lines are not signed, and whoever passes one on, or tells what was said before, can have said it in
//! another's name. Lines that no terminal should see, or that are too long, are not shown and not kept.

#![expect(clippy::print_stdout, reason = "a program talks on the terminal")]

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use futures::StreamExt;
use p2p_core::net::{Incoming, Node};
use p2p_core::{Ask, Contact, PeerId, Wire};
use p2p_overlay::{
    Gossip, HyParViewConfig, Message, Neighbour, PlumtreeConfig, PubSub, PubSubError, Publish, Topic,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};

/// What somebody has said.
#[derive(Clone, Serialize, Deserialize)]
struct Line {
    /// Later lines of one speaker have higher numbers: what comes by two ways is shown once.
    number: u64,
    text: String,
}

impl Wire for Line {}

/// What was said lately, and by whom.
#[derive(Clone, Default, Serialize, Deserialize)]
struct History(VecDeque<(PeerId, Line)>);

impl Wire for History {
    const MAX_BYTES: usize = 4 << 20;
}

/// How many lines are kept, and how many bytes a line has at most.
const KEPT: usize = 1000;
const LONGEST: usize = 2000;
/// How many speakers are told apart.
const SPEAKERS: usize = 10_000;
/// How many lines are on their way at once.
const UNDER_WAY: usize = 256;

#[derive(Default)]
struct Room {
    history: History,
    /// The number of each speaker's last line.
    last: BTreeMap<PeerId, u64>,
}

impl Room {
    /// Shows a line, unless it was shown before, or is none that a user can have typed.
    fn hear(&mut self, speaker: PeerId, line: Line) {
        if line.text.len() > LONGEST || line.text.contains(char::is_control) {
            return;
        }
        let known = self.last.get(&speaker);
        if known.is_some_and(|last| *last >= line.number) || (known.is_none() && self.last.len() >= SPEAKERS)
        {
            return;
        }
        self.last.insert(speaker, line.number);
        println!("{speaker:?}: {}", line.text);
        if self.history.0.len() == KEPT {
            self.history.0.pop_front();
        }
        self.history.0.push_back((speaker, line));
    }
}

type Shared = Arc<Mutex<Room>>;

fn room(room: &Shared) -> std::sync::MutexGuard<'_, Room> {
    room.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everybody hears what anybody types. Names are not proved: a line may be another's than it says.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Somebody who is there already.
    #[arg(long)]
    join: Option<Contact>,
    /// Which room.
    #[arg(long, default_value = "lobby")]
    room: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let node = Node::builder().network("chat").bind(args.listen).await?;
    let shared = Shared::default();
    let history = shared.clone();
    node.serve("history/1", move |_: Incoming| {
        let history = room(&history).history.to_bytes();
        async move { Ok(history.into()) }
    })?;
    let second = Duration::from_secs(1);
    let membership = HyParViewConfig { shuffle: 5 * second, upkeep: second, ..HyParViewConfig::default() };
    let gossip = Gossip::with(node.contact(), args.join, membership, PlumtreeConfig::default());
    let gossip = node.spawn("gossip/1", gossip)?;
    println!("contact: {}", node.contact());

    let topic = Topic::named(&args.room);
    let mut neighbours = gossip.events();
    let mut messages = gossip.subscribe(topic).await?;
    if let Some(first) = args.join
        && let Ok(reply) = node.request(first, "history/1", "").await
        && let Ok(History(lines)) = History::from_bytes(&reply)
    {
        lines.into_iter().for_each(|(speaker, line)| room(&shared).hear(speaker, line));
    }
    println!("room: {}", args.room);

    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut under_way: VecDeque<Ask<Gossip<Contact>, Publish>> = VecDeque::new();
    let mut number = 0;
    loop {
        tokio::select! {
            Some(event) = neighbours.next() => if let Neighbour::Down(peer, why) = event {
                println!("({:?}: {why})", peer.id);
            },
            Some(message) = messages.next() => match message {
                Ok(Message { publisher, bytes }) => if let Ok(line) = Line::from_bytes(&bytes) {
                    room(&shared).hear(publisher.id, line);
                },
                Err(PubSubError::Lagged) => {
                    println!("(lines were lost: they came faster than they could be shown)");
                    messages = gossip.subscribe(topic).await?;
                }
                Err(error) => return Err(error.into()),
            },
            Some(done) = async { Some(under_way.front_mut()?.await) } => {
                under_way.pop_front();
                match done? {
                    Ok(()) => {}
                    Err(error @ PubSubError::NotJoined) => println!("({error})"),
                    Err(error) => return Err(error.into()),
                }
            },
            line = lines.next_line(), if under_way.len() < UNDER_WAY => match line? {
                Some(text) if text.is_empty() => {}
                Some(text) if text.len() > LONGEST => println!("(a line has at most {LONGEST} bytes)"),
                Some(text) if text.contains(char::is_control) => {
                    println!("(a line has no control characters)");
                }
                Some(text) => {
                    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
                    number = u64::try_from(now).unwrap_or(u64::MAX).max(number + 1);
                    let bytes = Line { number, text }.to_bytes().into();
                    under_way.push_back(gossip.ask(Publish { topic, bytes }));
                }
                None => break,
            },
        }
    }
    for done in under_way {
        done.await??;
    }
    node.shutdown().await;
    Ok(())
}
