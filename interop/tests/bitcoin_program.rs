//! The program `bitcoin` with bcoin, as a user runs it: through reorganisations and `kill -9`, and where something is wrong.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "it has files")]

#[path = "support/bcoin.rs"]
mod bcoin;
#[path = "../../examples/tests/support/mod.rs"]
mod programs;
mod support;

use std::process::Command;
use std::sync::Arc;

use bcoin::Bcoin;
use programs::{Running, run, said};
use serde_json::json;
use support::Folder;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const PROGRAM: &str = env!("CARGO_BIN_EXE_bitcoin-program");

/// Follows a node, and keeps its headers.
fn follow(node: &str, data: &str) -> Running {
    let args = ["follow", "--network", "regtest", "--connect", node, "--data", data];
    Running::start(Command::new(PROGRAM).args(args))
}

/// The height and the name that it prints next.
fn tip(follow: &Running) -> (u64, String) {
    let tip = follow.says("tip");
    let (height, id) = tip.split_once(' ').unwrap();
    (height.parse().unwrap(), id.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_follows_bcoin_through_reorganisations_and_its_own_death() {
    let bcoin = Arc::new(Bcoin::start().await);
    bcoin.mine(120).await;
    let folder = Folder::new();
    let (node, data) = (bcoin.node.to_string(), folder.0.to_str().unwrap());
    let mut running = follow(&node, data);
    assert_eq!(running.says("kept"), "0");
    assert_eq!(tip(&running), (120, bcoin.best().await));
    bcoin.mine(1).await;
    assert_eq!(tip(&running), (121, bcoin.best().await));

    // It is dead while the chain goes over to another branch, and finds that out when it is back.
    running.kill();
    bcoin.ask("invalidateblock", json!([bcoin.block_at(118).await])).await;
    bcoin.mine(6).await;
    let mut running = follow(&node, data);
    assert_eq!(running.says("kept"), "121");
    assert_eq!(tip(&running), (123, bcoin.best().await));

    // The next time it is there.
    bcoin.ask("invalidateblock", json!([bcoin.block_at(122).await])).await;
    bcoin.mine(5).await;
    let best = bcoin.best().await;
    assert_eq!(running.says("undone"), "2");
    while tip(&running).1 != best {}

    // Killed while blocks come: what it has printed is kept.
    for _ in 0..3 {
        let miner = bcoin.clone();
        let mining = tokio::spawn(async move { miner.mine(40).await });
        let (height, _) = tip(&running);
        running.kill();
        mining.await.unwrap();
        running = follow(&node, data);
        let kept: u64 = running.says("kept").parse().unwrap();
        assert!(kept >= height, "{kept} of {height}");
        assert_eq!(tip(&running).1, bcoin.best().await);
    }
    running.kill();
    let headers = std::fs::read(folder.at("regtest.headers")).unwrap();
    assert_eq!(headers.len(), 80 * (126 + 3 * 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_proofs_are_bcoins_and_what_is_wrong_is_said() {
    let bcoin = Bcoin::start().await;
    bcoin.mine(110).await;
    let folder = Folder::new();
    let (node, data) = (bcoin.node.to_string(), folder.0.to_str().unwrap());
    let prove = |id: &str, more: &[&str]| {
        let args = ["prove", id, "--network", "regtest", "--connect", &node, "--data", data];
        run(PROGRAM, &[&args[..], more].concat())
    };
    let block = bcoin.block_at(100).await;
    let paid = bcoin.ask("getblock", json!([block])).await["tx"][0].as_str().unwrap().to_owned();
    for more in [&["--block", "100"][..], &["--block", &block], &[]] {
        let shown = prove(&paid, more).unwrap();
        assert_eq!((said(&shown, "block"), said(&shown, "confirmations")), (block.clone(), "11".into()));
        let proof = said(&shown, "proof");
        assert_eq!(bcoin.ask("gettxoutproof", json!([[paid], block])).await, proof);
        assert_eq!(bcoin.ask("verifytxoutproof", json!([proof])).await, json!([paid]));
    }

    // What is not there, or not any more, or not yet.
    let nowhere = "77".repeat(32);
    let undone = bcoin.block_at(109).await;
    bcoin.ask("invalidateblock", json!([undone])).await;
    bcoin.mine(3).await;
    for (id, more, why) in [
        (&nowhere, &["--last", "5"][..], "is not in any of the last 5 blocks"),
        (&nowhere, &["--block", "100"], "is not in block 100"),
        (&paid, &["--block", "99"], "is not in block 99"),
        (&paid, &["--block", "112"], "there is no block 112 yet"),
        (&paid, &["--block", &undone], "is not on the chain"),
    ] {
        let refused = prove(id, more).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }

    // Another network; something else; nobody serves filters.
    let strange = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stranger = strange.local_addr().unwrap().to_string();
    let greets = tokio::spawn(async move {
        loop {
            let (mut stream, _) = strange.accept().await.unwrap();
            // It may have gone already.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            std::mem::forget(stream);
        }
    });
    for (network, at, command, why) in [
        ("main", &node, "prove", "what it says is no message of this network"),
        ("regtest", &stranger, "prove", "what it says is no message of this network"),
        ("regtest", &node, "scan", "serves the filters of blocks"),
    ] {
        let args = [command, &paid, "--network", network, "--connect", at];
        let refused = run(PROGRAM, &args).unwrap_err();
        assert!(refused.contains(why), "{network} {at}: {refused}");
    }
    // The same beside a node that is one: it is of no matter.
    let args = ["prove", &paid, "--network", "regtest", "--connect", &stranger, "--connect", &node];
    let shown = run(PROGRAM, &args).unwrap();
    assert_eq!(said(&shown, "block"), block);
    greets.abort();
}
