//! The programs, run as a user runs them.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::io::Write;
use std::process::Command;

use serde_json::Value;
use support::Running;

fn lab(args: &[&str]) -> Value {
    lab_of("overlay", args)
}

fn lab_of(what: &str, args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_lab")).arg(what).arg("--json").args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn lab_prints_every_field_and_the_same_trace_twice() {
    // In Kademlia a message that is late, as one in some thousand is here, may hide the closest node.
    let overlays = [("can", 1.0), ("chord", 1.0), ("kademlia", 0.99), ("pastry", 1.0), ("tapestry", 1.0)];
    for (overlay, success) in overlays {
        let args = ["--overlay", overlay, "--nodes", "300", "--lookups", "600", "--seed", "7"];
        let (first, second) = (lab(&args), lab(&args));
        assert_eq!(first["trace"], second["trace"]);
        assert!(first["success"].as_f64().unwrap() >= success, "{first}");
        let fields = [
            "overlay",
            "nodes",
            "seed",
            "lookups",
            "success",
            "agreement",
            "hops",
            "timeouts_mean",
            "latency_ms",
            "load",
            "bytes_per_node_s",
            "events",
            "events_per_s",
            "wall_s",
            "bytes_per_node",
            "start",
            "trace",
        ];
        for field in fields {
            assert!(!first[field].is_null(), "{field} is missing");
        }
        for field in ["mean", "p50", "p99", "max", "histogram"] {
            assert!(!first["hops"][field].is_null(), "hops.{field} is missing");
        }
    }
}

#[test]
fn lab_damages_churns_joins_and_draws() {
    let failed = lab(&["--nodes", "300", "--lookups", "600", "--fail", "0.3"]);
    assert!(failed["timeouts_mean"].as_f64().unwrap() > 1.0);
    let churned = lab(&["--nodes", "200", "--lookups", "600", "--churn", "3600", "--rate", "10"]);
    assert!(churned["success"].as_f64().unwrap() > 0.98, "{churned}");
    let plot = std::env::temp_dir().join(format!("p2p-lab-{}.svg", std::process::id()));
    // No message is late here: its receiver would be taken for dead, and its keys for those of the next.
    let joined = ["--nodes", "100", "--lookups", "200", "--start", "joined", "--latency", "constant"];
    let joined = lab(&[&joined[..], &["--plot", plot.to_str().unwrap()]].concat());
    assert_eq!(joined["success"], 1.0, "{joined}");
    assert!(std::fs::read_to_string(&plot).unwrap().contains("<svg"));
    std::fs::remove_file(plot).unwrap();
}

#[test]
fn lab_compares_all_overlays() {
    let plot = std::env::temp_dir().join(format!("p2p-compare-{}.svg", std::process::id()));
    let compared =
        lab_of("compare", &["--nodes", "60", "--lookups", "200", "--plot", plot.to_str().unwrap()]);
    let rows = compared["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4 * 5);
    for row in rows {
        // Where a tenth has died and nothing is repaired, CAN has nobody for their zones.
        let least = if row["workload"] == "10% dead" { 0.8 } else { 0.9 };
        assert!(row["success"].as_f64().unwrap() >= least, "{row}");
    }
    assert!(std::fs::read_to_string(&plot).unwrap().contains("<svg"));
    std::fs::remove_file(plot).unwrap();
}

#[test]
fn lab_says_how_long_overlays_take_after_upheavals() {
    let args = ["--nodes", "40", "--probes", "10", "--strike", "mass-failure", "--patience", "600"];
    let after = lab_of("upheaval", &args);
    let rows = after["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    for row in rows {
        let seconds = |what: &str| row[what].as_u64().unwrap_or_else(|| panic!("{what} of {row}"));
        assert!(seconds("to_99_percent_right_s") <= seconds("to_all_right_s"), "{row}");
        assert!(row["bytes_per_node"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn lab_sends_to_groups() {
    for overlay in ["can", "chord", "pastry", "tapestry"] {
        let args = ["--overlay", overlay, "--nodes", "100", "--groups", "20", "--settle", "60"];
        let sent = lab_of("multicast", &args);
        assert_eq!((&sent["delivered"], &sent["duplicates"]), (&sent["expected"], &0.into()), "{sent}");
        assert!(sent["rad"]["p50"].as_f64().unwrap() >= 1.0, "{sent}");
    }
}

#[test]
fn lab_floods_searches_gossips_and_requests() {
    let plot = std::env::temp_dir().join(format!("p2p-lab-more-{}.svg", std::process::id()));
    let picture = plot.to_str().unwrap();
    let flood = lab_of("flood", &["--nodes", "50", "--messages", "3"]);
    assert_eq!((&flood["delivered"], flood["sent_per_node"].as_f64()), (&flood["expected"], Some(1.0)));
    let search = lab_of("search", &["--nodes", "300", "--searches", "5", "--plot", picture]);
    assert!(search["floods"][0]["reached"].as_f64().unwrap() > 1.0, "{search}");
    let messages = |network: usize| search["networks"][network]["messages"].as_f64().unwrap();
    assert!(messages(2) < messages(0), "an index asks fewer than a flood: {search}");
    assert!(std::fs::read_to_string(&plot).unwrap().contains("<svg"));
    let small = ["--nodes", "60", "--warm", "10", "--after", "20", "--fail", "0.5", "--members", "0"];
    let gossip = lab_of("gossip", &[&small[..], &["--plot", picture]].concat());
    assert_eq!(gossip["runs"][0]["fail"], 0.5);
    assert!(std::fs::read_to_string(&plot).unwrap().contains("<svg"));
    let ledger = lab_of(
        "ledger",
        &[
            "--nodes",
            "20",
            "--blocks",
            "10",
            "--intervals",
            "1",
            "--races",
            "200",
            "--selfish",
            "2000",
            "--plot",
            picture,
        ],
    );
    assert_eq!(ledger["races"].as_array().unwrap().len(), 18);
    assert!(ledger["races"][0]["simulated"].as_f64().unwrap() < 0.4, "{ledger}");
    assert!(ledger["spread"]["median_ms"].as_f64().unwrap() > 0.0, "{ledger}");
    let pools = ledger["selfish"].as_array().unwrap();
    let differs =
        |pool: &Value| (pool["simulated"].as_f64().unwrap() - pool["formula"].as_f64().unwrap()).abs();
    assert!(pools.len() == 21 && pools.iter().all(|pool| differs(pool) < 0.06), "{ledger}");
    // Four times the work for a while, and then as much as before.
    for rule in ledger["difficulty"].as_array().unwrap() {
        let phase = |at: usize, what: &str| rule["phases"][at][what].as_f64().unwrap();
        assert!(phase(1, "at_first") < 0.5 && phase(2, "at_first") > 1.5, "{rule}");
        assert!((0.6..1.2).contains(&phase(1, "in_the_end")), "{rule}");
    }
    let forks = &ledger["forks"][0];
    assert_eq!((&forks["interval_s"], &forks["blocks"]), (&1.0.into(), &10.into()));
    assert!(forks["in_vain"].as_u64().unwrap() < 10, "{ledger}");
    let drawn = std::fs::read_to_string(&plot).unwrap();
    let points = |line: &str| {
        line.split('"').find(|part| part.contains(',')).map(|part| part.split_whitespace().count())
    };
    let lines = drawn.split("points=").skip(1).filter(|line| points(line) == Some(6));
    assert_eq!(lines.count(), 2 * 3, "of each share two, over six depths");
    std::fs::remove_file(plot).unwrap();
    let freenet = lab_of("freenet", &["--nodes", "50", "--steps", "100", "--probes", "20"]);
    // Where there are so few nodes most of them are asked at the worst.
    let found = |row: &Value| row["median"].as_u64().unwrap() < 50;
    assert!(freenet["learning"].as_array().unwrap().iter().all(found), "{freenet}");
}

#[test]
fn lab_watches_a_swarm() {
    let plot = std::env::temp_dir().join(format!("p2p-lab-swarm-{}.svg", std::process::id()));
    let small = ["--peers", "12", "--free-riders", "2", "--uplink", "100,400", "--pieces", "50"];
    let swarm = lab_of("swarm", &[&small[..], &["--plot", plot.to_str().unwrap()]].concat());
    let again = lab_of("swarm", &small);
    assert_eq!(swarm["trace"], again["trace"]);
    let classes = swarm["classes"].as_array().unwrap();
    let uplinks: Vec<(u64, u64)> = classes
        .iter()
        .map(|class| (class["uplink"].as_u64().unwrap(), class["done"].as_u64().unwrap()))
        .collect();
    assert_eq!(uplinks, [(400_000, 4), (100_000, 5), (0, 2)]);
    assert_eq!(swarm["leechers"].as_array().unwrap().len(), 11);
    // A share; how large it is in so small a crowd is chance.
    let entropy = swarm["pieces"]["entropy"].as_f64().unwrap();
    assert!(entropy > 0.0 && entropy <= 1.0, "{}", swarm["pieces"]);
    assert!(std::fs::read_to_string(&plot).unwrap().contains("<svg"));
    std::fs::remove_file(plot).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_lab")).args(["swarm", "--peers", "5", "--seeds", "5"]).output();
    assert!(String::from_utf8_lossy(&output.unwrap().stderr).contains("a leecher"));
}

#[test]
fn lab_defends() {
    let rows = lab_of("defend", &["--nodes", "100", "--lookups", "20"]);
    let rows = rows["rows"].as_array().unwrap();
    let unattacked = |row: &&Value| row["overlay"] == "kademlia" && row["attack"].is_null();
    assert!(rows.iter().filter(unattacked).all(|row| row["right"].as_f64().unwrap() > 0.9), "{rows:?}");
}

#[test]
fn lab_says_what_is_wrong_with_an_argument() {
    let output = Command::new(env!("CARGO_BIN_EXE_lab")).args(["overlay", "--fail", "1.5"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("a share is at least 0 and below 1"));
}

#[test]
fn the_tour_checks_out_and_a_missing_file_does_not() {
    let tour = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_tour")).args(args).output().unwrap();
    let done = tour(&["--nodes", "8"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).contains("byte for byte"));
    let failed = tour(&["--nodes", "4", "--file", "no/such/file"]);
    assert!(!failed.status.success());
    assert!(String::from_utf8_lossy(&failed.stderr).contains("no/such/file"));
}

fn chat(args: &[&str]) -> Running {
    Running::start(Command::new(env!("CARGO_BIN_EXE_chat")).args(args))
}

#[test]
fn three_chat_and_whoever_comes_late_hears_what_was_said() {
    let first = chat(&[]);
    let contact = first.says("contact");
    let mut second = chat(&["--join", &contact]);
    let third = chat(&["--join", &contact]);
    for chat in [&second, &third] {
        chat.says("room");
    }
    let mut all = [&first, &second, &third].map(|_| String::new());
    // Each hears it, the speaker too; and in the same words.
    writeln!(second.input, "hello").unwrap();
    for (chat, heard) in [&first, &second, &third].into_iter().zip(&mut all) {
        while !heard.ends_with(": hello") {
            *heard = chat.hears();
        }
    }
    assert!(all.iter().all(|heard| *heard == all[0]), "{all:?}");
    let late = chat(&["--join", &contact]);
    late.says("contact");
    assert_eq!(late.hears(), all[0]);
    assert_eq!(late.says("room"), "lobby");
}
