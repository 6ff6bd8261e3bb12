//! `chat` among many processes: one says much at once, and all hear all of it, in order and in bounded memory, also
//! when one of them has stopped.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and talk")]
#![allow(clippy::disallowed_types, reason = "what is waited for has a bound")]

mod support;

use std::io::Write;
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use p2p_core::net::Node;
use p2p_core::{Contact, Wire};
use p2p_overlay::{Gossip, HyParViewConfig, PlumtreeConfig, PubSub, Publish, Topic};
use serde::{Deserialize, Serialize};
use support::{Running, number};

fn chat(args: &[&str]) -> Running {
    Running::start(Command::new(env!("CARGO_BIN_EXE_chat")).args(args))
}

/// What each process may have used of memory: what gossip keeps (16 MiB of messages for others, 16 for its reader, 4
/// for each neighbour), half as much again for its tables, and the program.
const MOST: usize = 160 << 20;

/// Has all hear the first. From then on they notice what they miss of what it says; before, while a network forms,
/// nobody knows whether what was said before is for them.
fn introduce(all: &mut [Running]) {
    let (speaker, others) = all.split_first_mut().unwrap();
    for other in others {
        writeln!(speaker.input, "hello").unwrap();
        while !other.hears_soon().is_some_and(|heard| heard.ends_with(": hello")) {
            writeln!(speaker.input, "hello").unwrap();
        }
    }
}

/// The first says these lines of 100 bytes, as fast as they are taken from it; all hear them, in order. Says how long
/// that took.
fn all_hear(all: &mut [Running], lines: Range<usize>) -> Duration {
    let began = Instant::now();
    let (speaker, others) = all.split_first_mut().unwrap();
    #[allow(clippy::disallowed_methods, reason = "one process is written to while others are read from")]
    std::thread::scope(|scope| {
        let says = lines.clone();
        let speaker = &mut *speaker;
        scope.spawn(move || says.for_each(|line| writeln!(speaker.input, "{line:0100}").unwrap()));
        others.iter().enumerate().for_each(|(i, chat)| hears(i + 1, chat, lines.clone(), true));
    });
    hears(0, speaker, lines, true);
    began.elapsed()
}

/// Somebody hears these lines, in order: all of them, or at least the last.
fn hears(i: usize, chat: &Running, lines: Range<usize>, all: bool) {
    let mut next = lines.start;
    while next < lines.end {
        let heard = chat.hears();
        // Neighbours come and go.
        if heard.starts_with('(') || heard.ends_with(": hello") {
            continue;
        }
        let line: usize = heard.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(line == next || line > next && !all, "process {i}, instead of {next}: {heard}");
        next = line + 1;
    }
    let mebibytes = chat.most_memory() >> 20;
    assert!(mebibytes <= MOST >> 20, "process {i} has used {mebibytes} MiB");
}

/// 24 processes and 100,000 lines in the second tier.
#[test]
fn all_hear_all_that_one_says_though_one_of_them_stops() {
    let (processes, lines) = (number("P2P_PROCESSES", 8), number("P2P_MESSAGES", 5000));
    let first = chat(&[]);
    let contact = first.says("contact");
    let mut all = vec![first];
    all.extend((0..processes).map(|_| chat(&["--join", &contact])));
    all.iter().for_each(|chat| drop(chat.says("room")));
    introduce(&mut all);
    let whole = all_hear(&mut all, 0..lines);
    let stopped = all.pop().unwrap();
    stopped.signal("STOP");
    let without_one = all_hear(&mut all, lines..2 * lines);
    // They wait for it for a second. Beside that it took them between 0.73 and 1.18 of what it had taken with all.
    assert!(without_one < whole * 3 / 2 + Duration::from_secs(5), "{whole:?}, and then {without_one:?}");
    println!("{processes} processes, {lines} lines: {whole:?}; with one that has stopped: {without_one:?}");
    let most = all.iter().map(Running::most_memory).max().unwrap();
    println!("at most {} MiB in one process", most >> 20);
    // When it goes on it hears what there is for it: all, if that is no more than waits for a neighbour, or is kept.
    let all_is_kept = lines * 256 <= 4 << 20 && without_one < Duration::from_secs(20);
    stopped.signal("CONT");
    writeln!(all[0].input, "{:0100}", 2 * lines).unwrap();
    hears(processes, &stopped, lines..2 * lines + 1, all_is_kept);
}

/// A line as the program has it.
#[derive(Serialize, Deserialize)]
struct Line {
    number: u64,
    text: String,
}

impl Wire for Line {}

/// Somebody speaks whose program has no such limits.
#[test]
fn what_no_user_can_have_typed_is_not_shown() {
    let chat = chat(&[]);
    let contact: Contact = chat.says("contact").parse().unwrap();
    chat.says("room");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let node = Node::builder().network("chat").bind("127.0.0.1:0").await.unwrap();
        let (membership, tree) = (HyParViewConfig::default(), PlumtreeConfig::default());
        let machine = Gossip::with(node.contact(), [contact], membership, tree);
        let gossip = node.spawn("gossip/1", machine).unwrap();
        let topic = Topic::named("lobby");
        let _messages = gossip.subscribe(topic).await.unwrap();
        let lines =
            ["one\nada: two".to_owned(), "\u{1b}[2J".to_owned(), "x".repeat(2001), "hello".to_owned()];
        // Until it is there and hears.
        for number in 1.. {
            let text = lines[number % lines.len()].clone();
            let bytes = Line { number: number as u64, text }.to_bytes().into();
            let _said = gossip.ask(Publish { topic, bytes }).await.unwrap();
            if number % lines.len() != 3 {
                continue;
            }
            if let Some(heard) = chat.hears_soon() {
                assert!(heard.ends_with(": hello") || heard.starts_with('('), "{heard:?}");
                // Once more, for whatever came before the first that was heard.
                if number > 20 {
                    break;
                }
            }
        }
        node.shutdown().await;
    });
}
