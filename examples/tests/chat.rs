//! `chat` among many processes: one says much at once, and all hear all of it, in order and in bounded memory, also
//! when one of them has stopped.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and talk")]
#![allow(clippy::disallowed_types, reason = "what is waited for has a bound")]

mod support;

use std::io::Write;
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

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
        others.iter().enumerate().for_each(|(i, chat)| hears_all(i + 1, chat, lines.clone()));
    });
    hears_all(0, speaker, lines);
    began.elapsed()
}

fn hears_all(i: usize, chat: &Running, lines: Range<usize>) {
    for line in lines {
        let heard = loop {
            let heard = chat.hears();
            // Neighbours come and go.
            if !heard.starts_with('(') && !heard.ends_with(": hello") {
                break heard;
            }
        };
        let text = heard.rsplit(' ').next().unwrap();
        assert_eq!(text.parse(), Ok(line), "process {i}: {heard}");
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
    // They wait for it for little more than a second.
    assert!(without_one < 3 * whole + Duration::from_secs(5), "{whole:?}, and then {without_one:?}");
    println!("{processes} processes, {lines} lines: {whole:?}; with one that has stopped: {without_one:?}");
    let most = all.iter().map(Running::most_memory).max().unwrap();
    println!("at most {} MiB in one process", most >> 20);
    // It is back when it goes on.
    stopped.signal("CONT");
    writeln!(all[0].input, "back").unwrap();
    while !stopped.hears().ends_with(": back") {}
}
