//! `share` as a user runs it: a file crosses between processes, some of which die or lie.
//!
//! The liar is this test program itself: it has no harness, and serves lies if it is told what.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail, and talk")]
#![allow(clippy::disallowed_methods, reason = "it has files")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use p2p_core::net::Node;
use p2p_core::sim::Liar;
use p2p_core::{Contact, Request};
use p2p_swarm::{FetchItem, FileWorker, Files, Share, Swarm, SwarmCommand, SwarmMsg, SwarmOutcome, Ticket};
use support::{Folder, Running, number, same};

const LIE_ABOUT: &str = "P2P_SHARE_TEST_LIE_ABOUT";

fn main() {
    if let Ok(path) = std::env::var(LIE_ABOUT) {
        return lie(path.into());
    }
    for (name, test) in [
        ("a_file_survives_a_death_and_a_liar", a_file_survives_a_death_and_a_liar as fn()),
        ("a_killed_fetcher_goes_on_where_it_was", a_killed_fetcher_goes_on_where_it_was),
        (
            "a_folder_is_found_by_its_ticket_and_a_file_by_its_hash",
            a_folder_is_found_by_its_ticket_and_a_file_by_its_hash,
        ),
        ("what_is_wrong_is_said", what_is_wrong_is_said),
    ] {
        test();
        println!("test {name} ... ok");
    }
}

/// How large the file is: 64 MiB, and in the second tier 1 GiB.
fn size() -> usize {
    number("P2P_SHARE_MIB", 64) << 20
}

fn share() -> Command {
    Command::new(env!("CARGO_BIN_EXE_share"))
}

fn serve(path: &Path, more: &[&str]) -> (Running, Ticket) {
    let running = Running::start(share().arg("serve").arg(path).args(more));
    let ticket = running.says("ticket").parse().unwrap();
    (running, ticket)
}

/// Serves a file; every fourth answer has a wrong byte in it.
fn lie(path: PathBuf) {
    struct ShareIt(Share);
    impl Request<Liar<Swarm<Contact>>> for ShareIt {
        type Item = ();
        type Reply = ();
        fn command(self) -> SwarmCommand<Contact> {
            SwarmCommand::Share(self.0)
        }
        fn item(_: FetchItem<Contact>) -> Option<()> {
            None
        }
        fn reply(_: SwarmOutcome<Contact>) -> Option<()> {
            Some(())
        }
    }
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let node = Node::builder().bind("127.0.0.1:0").await.unwrap();
        let mut answers = 0;
        let liar = Liar::new(Swarm::default(), move |_, to, msg| match msg {
            SwarmMsg::Data { id, size, proof, bytes } => {
                answers += 1;
                let mut bytes = bytes.to_vec();
                if answers % 4 == 0 {
                    bytes[0] ^= 1;
                }
                vec![(to, SwarmMsg::Data { id, size, proof, bytes: bytes.into() })]
            }
            other => vec![(to, other)],
        });
        let swarm = node.spawn_with_workers("swarm/1", liar, [FileWorker::new(Files)]).unwrap();
        swarm.ask(ShareIt(Share { path })).await.unwrap();
        println!("contact: {}", node.contact());
        std::future::pending::<()>().await;
    });
}

/// Three provide a file: one is killed half-way, one lies. The file arrives as it is, and the liar is named.
fn a_file_survives_a_death_and_a_liar() {
    let folder = Folder::new("three");
    let (path, out) = (folder.noise("film", size()), folder.join("copy"));
    let (_honest, ticket) = serve(&path, &[]);
    let (dying, second) = serve(&path, &[]);
    let liar = Running::start(Command::new(std::env::current_exe().unwrap()).env(LIE_ABOUT, &path));
    let liar_contact: Contact = liar.says("contact").parse().unwrap();
    let ticket = ticket.with(second.contacts).with([liar_contact]);
    let fetcher = Running::start(share().arg("get").arg(ticket.to_string()).arg(&out));
    until_half_is_there(&out, size());
    drop(dying);
    let (well, said) = fetcher.ends();
    assert!(well, "{said:?}");
    assert!(said.contains(&format!("liar: {liar_contact}")), "{said:?}");
    assert!(same(&path, &out), "the copy differs");
}

/// The fetcher is killed half-way and started again: it fetches what it lacks, and no more than that and what it had
/// not synced.
fn a_killed_fetcher_goes_on_where_it_was() {
    let folder = Folder::new("killed");
    let (path, out) = (folder.noise("film", 4 * size()), folder.join("copy"));
    let (_provider, ticket) = serve(&path, &[]);
    let get = || Running::start(share().arg("get").arg(ticket.to_string()).arg(&out));
    let fetcher = get();
    until_half_is_there(&out, 4 * size());
    drop(fetcher);
    assert!(!out.exists(), "it was not killed in time");
    let (well, said) = get().ends();
    assert!(well && same(&path, &out), "{said:?}");
    let there: u64 = said
        .iter()
        .find_map(|line| line.strip_suffix(" of them were there")?.rsplit(' ').next()?.parse().ok())
        .unwrap();
    assert!(there > 0, "nothing was there: {said:?}");
}

/// As the blocks say that are written of it; or until it is there whole, which whoever waits takes for too late.
fn until_half_is_there(out: &Path, size: usize) {
    let blocks = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).map_or(0, |meta| meta.blocks() as usize * 512)
    };
    let part = out.with_extension("p2p-part");
    while blocks(&part) < size / 2 && !out.exists() {
        std::thread::yield_now();
    }
}

fn a_folder_is_found_by_its_ticket_and_a_file_by_its_hash() {
    let folder = Folder::new("album");
    let song = folder.noise("album/live/01.ogg", 300_000);
    folder.noise("album/02.ogg", 5);
    let (first, ticket) = serve(&folder.join("album"), &[]);
    let contact = first.says("contact");
    let copy = folder.join("copy");
    let (well, said) = Running::start(share().arg("get").arg(ticket.to_string()).arg(&copy)).ends();
    assert!(well && same(&song, copy.join("live/01.ogg")), "{said:?}");
    // Another process has one of the songs; it is found in the hash table that both belong to.
    let (second, _) = serve(&song, &["--join", &contact]);
    let root = second.says("root");
    let found = folder.join("found.ogg");
    let get = Running::start(share().args(["get", &root]).arg(&found).args(["--join", &contact]));
    let (well, said) = get.ends();
    assert!(well && same(&song, &found), "{said:?}");
}

fn what_is_wrong_is_said() {
    let folder = Folder::new("wrong");
    let out = folder.join("out");
    let wrong = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(wrong(share().args(["serve", "no/such/file"])).contains("no/such/file"));
    assert!(wrong(share().args(["get", &"00".repeat(32)]).arg(&out)).contains("--join"));
    assert!(wrong(share().args(["get", "p2p-film:xyz"]).arg(&out)).contains("p2p-file:"));
}
