//! `chat` among many processes: one says much, and all hear all of it, in order and in bounded memory.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::io::Write;
use std::process::Command;

use support::{Running, number};

fn chat(args: &[&str]) -> Running {
    Running::start(Command::new(env!("CARGO_BIN_EXE_chat")).args(args))
}

/// 24 processes and 100,000 lines of 100 bytes in the second tier.
#[test]
fn all_hear_all_that_one_says() {
    let (processes, lines) = (number("P2P_PROCESSES", 6), number("P2P_LINES", 3000));
    let first = chat(&[]);
    let contact = first.says("contact");
    let mut all = vec![first];
    all.extend((1..processes).map(|_| chat(&["--join", &contact])));
    all.iter().for_each(|chat| drop(chat.says("room")));
    let mut speaker = all.pop().unwrap();
    #[allow(clippy::disallowed_methods, reason = "writes a process's input beside the test")]
    let writer = std::thread::spawn(move || {
        for line in 0..lines {
            writeln!(speaker.input, "{line:0100}").unwrap();
        }
        speaker
    });
    let hears_all = |i: usize, chat: &Running| {
        for line in 0..lines {
            let heard = loop {
                let heard = chat.hears();
                // Neighbours come and go; nothing else is between the lines.
                if !heard.starts_with('(') {
                    break heard;
                }
            };
            let text = heard.rsplit(' ').next().unwrap();
            assert_eq!(text.parse(), Ok(line), "process {i}: {heard}");
        }
        let mebibytes = chat.most_memory() >> 20;
        assert!(mebibytes < 200, "process {i} has used {mebibytes} MiB");
    };
    all.iter().enumerate().for_each(|(i, chat)| hears_all(i, chat));
    hears_all(processes, &writer.join().unwrap());
}
