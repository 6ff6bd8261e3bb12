//! `compute` as a user runs it: workers who die, come late and lie.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::process::Command;

use support::{Running, number};

fn compute(args: &[&str]) -> Running {
    Running::start(Command::new(env!("CARGO_BIN_EXE_compute")).args(args))
}

/// Below a million it is 837,799, with 524 steps (Project Euler, problem 14: a chain of 525 numbers).
#[test]
fn the_answer_is_right_though_workers_die_and_lie() {
    let offer = compute(&["offer", "--below", "1000000", "--unit", "10000", "--lease", "2"]);
    let contact = offer.says("contact");
    let liar = compute(&["work", "--join", &contact, "--wrong"]);
    liar.says("unit");
    let lost = compute(&["work", "--join", &contact]);
    lost.says("unit");
    // With kill -9, before anybody could agree with it on all: two others are needed for each unit.
    drop(lost);
    let others = number("P2P_PROCESSES", 4);
    let workers: Vec<Running> = (0..others).map(|_| compute(&["work", "--join", &contact])).collect();
    let (well, said) = offer.ends();
    assert!(well);
    assert_eq!(said.last().map(String::as_str), Some("longest: 837799 with 524 steps"));
    assert!(said.iter().any(|line| line.starts_with("unwanted: ")), "who lies is known: {said:?}");
    assert!(!liar.ends().0);
    for worker in workers {
        assert!(worker.ends().0, "it hears that there is no more");
    }
}

#[test]
fn what_cannot_be_is_said_clearly() {
    let said = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_compute")).args(args).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&["offer", "--below", "100000000000", "--unit", "1"]).contains("--unit"));
    assert!(said(&["offer", "--listen", "nowhere"]).contains("cannot listen at nowhere"));
    assert!(said(&["work", "--join", "nobody"]).contains("--join"));
}
