//! `search` as a user runs it: many processes that share files of a folder, some of which die, or accept nobody.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(unreachable_pub, clippy::disallowed_methods, reason = "it has files")]

#[path = "search/network.rs"]
mod network;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use network::{LONG, Network, fetch, fetch_from, node, report, search};
use p2p_overlay::hashes_of;
use support::{Folder, Running, number, same};

fn processes() -> usize {
    number("P2P_PROCESSES", 8)
}

/// A third of those through whom others join are killed by `kill -9`: the files of all others are still found and fetched,
/// and what was coming from one of them comes from another.
fn servents_share_and_survive(system: &'static str, door: &[&str], other: &[&str]) {
    let mut network = Network::of_servents(system, processes(), door, other);
    network.all_are_fetched(&[]);
    let dying = network.doors.len().div_ceil(3);
    network.all_are_fetched_while_doors_die(dying, other, |_| {});
}

#[test]
fn gnutella06_outlives_a_third_of_its_ultrapeers() {
    servents_share_and_survive("gnutella06", &[], &["--leaf"]);
}

#[test]
fn kazaa_outlives_a_third_of_its_super_nodes() {
    servents_share_and_survive("kazaa", &[], &["--leaf"]);
}

#[test]
fn gnutella04_outlives_a_third_of_its_servents() {
    servents_share_and_survive("gnutella04", &[], &[]);
}

fn index(listen: &str) -> (Running, String) {
    linked_index(listen, &[])
}

fn linked_index(listen: &str, links: &[&str]) -> (Running, String) {
    let running = Running::start(search().args(["index", "--listen", listen]).args(links));
    let contact = running.says("contact");
    (running, contact)
}

/// The index is not the files: when the server comes back, its clients tell it all again.
#[test]
fn napster_outlives_its_index() {
    let (server, contact) = index("127.0.0.1:0");
    let mut network = Network::new("napster", "napster", &[0]);
    network.doors.push((server, contact.clone(), None));
    for i in 0..processes() {
        let share = network.share(i);
        let nick = format!("user{i}");
        network.nodes.push((node("napster", &share, &[&contact], &["--nick", &nick]).0, i));
    }
    network.all_are_fetched(&[]);
    network.all_are_fetched_while_doors_die(1, &[], |network| {
        network.doors.push((index(&contact).0, contact.clone(), None));
    });
}

/// Users of three servers, one of which dies for good: its users go to another.
#[test]
fn linked_servers_are_one_index() {
    let mut network = Network::new("linked", "napster", &[0]);
    for _ in 0..3 {
        let before = network.addresses();
        let links = before.iter().flat_map(|addr| ["--link", addr]);
        let args: Vec<&str> = ["--password", "secret"].into_iter().chain(links).collect();
        let (server, contact) = linked_index("127.0.0.1:0", &args);
        network.doors.push((server, contact, None));
    }
    let servers = network.addresses();
    for i in 0..processes() {
        let share = network.share(i);
        let nick = format!("user{i}");
        let (own, next) = (&servers[i % 3], &servers[(i + 1) % 3]);
        network.nodes.push((node("napster", &share, &[own, next], &["--nick", &nick]).0, i));
    }
    network.all_are_fetched(&[]);
    network.all_are_fetched_while_doors_die(1, &[], |_| {});
}

/// What was given to the network stays when whoever gave it is killed, the moment it has said that it is shared.
#[test]
fn freenet_outlives_who_has_shared() {
    let folder = Folder::new("freenet");
    let empty = folder.within("empty");
    let (first, contact) = node("freenet", &empty, &[], &[]);
    let mut network = vec![(first, contact.clone())];
    for _ in 2..processes() {
        network.push(node("freenet", &empty, &[&contact], &[]));
    }
    let share = folder.within("share");
    folder.noise("share/a song.mp3", 200_000);
    let (mut giver, _) = node("freenet", &share, &[&contact], &[]);
    assert_eq!(giver.says("shared"), "a song.mp3");
    giver.kill();
    for (i, (_, door)) in network.iter().enumerate().step_by(3) {
        let out = folder.within(&format!("out {i}"));
        let (well, said) = fetch("freenet", &[door], &out, &["a", "song", "mp3"], &[]).ends();
        assert!(well, "{said:?}");
        assert!(same(share.join("a song.mp3"), out.join("a song.mp3")));
    }
}

fn login_server(data: Option<&Path>, listen: &str) -> (Running, String) {
    let mut command = search();
    command.args(["index", "--system", "skype", "--listen", listen]);
    if let Some(data) = data {
        command.arg("--data").arg(data);
    }
    let running = Running::start(&mut command);
    let contact = running.says("contact");
    (running, contact)
}

/// A third of the super-nodes is killed, and the login server with them: those who are logged in still find each other,
/// and who comes later logs in at the server's next life.
#[test]
fn skype_outlives_its_login_server_and_a_third_of_its_super_nodes() {
    let mut network = Network::new("skype", "skype", &[0, processes() - 1]);
    let data = network.folder.within("names");
    let (server, login) = login_server(Some(&data), "127.0.0.1:0");
    for i in 0..processes() {
        let share = network.share(i);
        let doors = network.addresses();
        let some: Vec<&str> = doors.iter().rev().take(3).map(String::as_str).collect();
        // Users are found by their names.
        let nick = format!("number{i}");
        let more = ["--login", &login, "--nick", &nick];
        if i < processes() / 2 {
            let (running, contact) = node("skype", &share, &some, &more);
            network.doors.push((running, contact, Some(i)));
        } else {
            let leaf = [&more[..], &["--leaf"]].concat();
            network.nodes.push((node("skype", &share, &some, &leaf).0, i));
        }
    }
    let more = ["--login", &login[..]];
    network.all_are_fetched(&more);
    let dying = network.doors.len().div_ceil(3);
    let addr = login.rsplit_once('@').unwrap().1.to_owned();
    let mut again = None;
    network.all_are_fetched_while_doors_die(dying, &more, |_| {
        drop(server);
        again = Some(login_server(Some(&data), &addr));
    });
    assert_eq!(again.unwrap().1, login, "it is the same server, with the same names");
}

/// Two who accept no connections, and a super-node between them.
#[test]
fn two_who_are_firewalled_exchange_a_file_through_a_relay() {
    let folder = Folder::new("relayed");
    let share = folder.within("share");
    folder.noise("share/a rare song.mp3", 1_000_000);
    let (_server, login) = login_server(None, "127.0.0.1:0");
    let (_hub, hub) = node("skype", &folder.within("empty"), &[], &["--login", &login]);
    let profile = ["--login", &login, "--firewalled", "--nick", "ada", "--profile", "Ada of London"];
    let (_ada, contact) = node("skype", &share, &[&hub], &profile);
    assert_eq!(contact, "none");
    let (out, more) = (folder.within("out"), ["--login", &login, "--firewalled", "--json"]);
    let mut find = search();
    find.args(["find", "--system", "skype", "--hits", "1", "--join", &hub])
        .args(more)
        .args(["london", "rare"]);
    let (well, said) = Running::start(&mut find).ends();
    assert!(well && said[0].contains("a rare song.mp3"), "{said:?}");
    let source = serde_json::from_str::<serde_json::Value>(&said[0]).unwrap()["source"].to_string();
    assert!(hub.contains(source.trim_matches('"').split('@').next().unwrap()), "{source} is not {hub}");
    let (well, said) = fetch("skype", &[&hub], &out, &["london", "rare"], &more).ends();
    assert!(well, "{said:?}");
    assert!(same(share.join("a rare song.mp3"), out.join("a rare song.mp3")));
    // Whoever accepts connections is connected to instead.
    let open = folder.within("open");
    let (well, said) = fetch("skype", &[&hub], &open, &["ada", "rare"], &["--login", &login]).ends();
    assert!(well && same(share.join("a rare song.mp3"), open.join("a rare song.mp3")), "{said:?}");
}

/// Killed in the middle and started again, a download asks for what is missing.
#[test]
fn a_download_that_was_killed_goes_on() {
    let folder = Folder::new("resumed");
    let share = folder.within("share");
    folder.noise("share/a long song.mp3", LONG);
    let (_sharer, contact) = node("gnutella06", &share, &[], &[]);
    let out = folder.within("out");
    let more = ["--json"];
    let mut fetching = fetch("gnutella06", &[&contact], &out, &["long"], &more);
    // Until some of it is there: each note has 44 bytes and stands for 64 KiB.
    let notes = || {
        let files = std::fs::read_dir(&out).into_iter().flatten().map(|entry| entry.unwrap());
        let notes = files.filter(|entry| entry.file_name().to_str().unwrap().ends_with(".notes"));
        notes.map(|entry| entry.metadata().unwrap().len() / 44).sum::<u64>()
    };
    while notes() < 40 {
        std::thread::yield_now();
    }
    fetching.kill();
    assert!(!out.join("a long song.mp3").exists(), "it was killed in the middle");
    let (well, said) = fetch("gnutella06", &[&contact], &out, &["long"], &more).ends();
    assert!(well, "{said:?}");
    assert!(same(share.join("a long song.mp3"), out.join("a long song.mp3")));
    let said = report(&said);
    let (resumed, received) = (said["resumed"].as_u64().unwrap(), said["received"].as_u64().unwrap());
    assert!(resumed >= 39 << 16 && resumed + received == LONG as u64, "{said}");
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1, "nothing is left beside it");
}

/// Who accepts no connections connects to whoever wants the file.
fn a_firewalled_sharer_is_reached(system: &str, door: &str) {
    let folder = Folder::new(&format!("firewalled {system}"));
    let share = folder.within("share");
    folder.noise("share/a rare song.mp3", 700_000);
    let (_hidden, contact) = node(system, &share, &[door], &["--firewalled"]);
    assert_eq!(contact, "none");
    let (well, said) = fetch(system, &[door], &folder, &["rare"], &[]).ends();
    assert!(well, "{system}: {said:?}");
    assert!(same(share.join("a rare song.mp3"), folder.join("a rare song.mp3")));
}

#[test]
fn a_firewalled_sharer_is_reached_by_push() {
    let empty = Folder::new("empty");
    let (_server, contact) = index("127.0.0.1:0");
    a_firewalled_sharer_is_reached("napster", &contact);
    for system in ["gnutella04", "gnutella06", "kazaa"] {
        let (_first, first) = node(system, &empty, &[], &[]);
        // The push goes over another servent.
        let (_second, second) = node(system, &empty, &[&first], &[]);
        a_firewalled_sharer_is_reached(system, &second);
    }
}

/// Three have it, by three names, and more than one gives a part: it is asked for by what it is made of.
#[test]
fn one_content_comes_from_all_who_have_it() {
    for (system, which) in [("gnutella06", 0), ("kazaa", 1)] {
        let folder = Folder::new(&format!("three {system}"));
        let song = folder.noise("song", 6_000_000);
        let urn = hashes_of(&std::fs::read(&song).unwrap())[which].to_string();
        let mut nodes: Vec<(Running, String)> = Vec::new();
        for name in ["first.mp3", "second.mp3", "third.mp3"] {
            let share = folder.within(&format!("share {name}"));
            std::fs::hard_link(&song, share.join(name)).unwrap();
            let join: Vec<&str> = nodes.iter().take(1).map(|(_, contact)| contact.as_str()).collect();
            let started = node(system, &share, &join, &[]);
            nodes.push(started);
        }
        let out = folder.within("out");
        let more = ["--name", "song.mp3", &urn];
        let (well, said) = fetch_from(3, system, &[&nodes[0].1], &out, &more).ends();
        assert!(well, "{system}: {said:?}");
        let said = report(&said);
        assert!(said["size"] == 6_000_000 && said["sources"].as_u64() > Some(1), "{system}: {said}");
        assert!(same(&song, out.join("song.mp3")), "{system}");
    }
}

fn exchange(addr: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Any program that knows HTTP is served on the port of the network; what is nobody's language is survived.
#[test]
fn the_port_speaks_http_and_survives_garbage() {
    let folder = Folder::new("http");
    let share = folder.within("share");
    let path = folder.noise("share/song.mp3", 100_000);
    let content = std::fs::read(&path).unwrap();
    for system in ["gnutella04", "gnutella06"] {
        let (_node, addr) = node(system, &share, &[], &[]);
        let garbage: [&[u8]; 6] = [
            &[0xff; 5000],
            b"GIV 0:00/x\n\n",
            b"GIV 0:00000000000000000000000000000000/x\n\n",
            b"GET /etc/passwd HTTP/1.1\r\n\r\n",
            b"GET /get/0/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nConnection: close\r\n\r\n",
            b"GNUTELLA CONNECT/0.6\r\n\r\nGNUTELLA/0.6 200 OK\r\n\r\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x77\0\0\0\0\0\0",
        ];
        for bytes in garbage {
            exchange(&addr, bytes);
        }
        let words = ["song"];
        let out = folder.within(system);
        let (well, said) = fetch(system, &[&addr], &out, &words, &[]).ends();
        assert!(well && same(&path, out.join("song.mp3")), "{said:?}");
        let urn = said.iter().find_map(|line| line.strip_prefix("hash: ")).unwrap();
        let request =
            format!("GET /uri-res/N2R?{urn} HTTP/1.1\r\nRange: bytes=5-20\r\nConnection: close\r\n\r\n");
        // The writing half stays open: some servers take its end for the connection's.
        let mut stream = TcpStream::connect(&addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 206 Partial Content\r\n"), "{text}");
        assert!(text.contains("\r\nContent-Range: bytes 5-20/100000\r\n") && text.contains(urn), "{text}");
        assert!(answer.ends_with(&content[5..21]));
    }
}

#[test]
fn what_is_wrong_is_said() {
    let wrong = |args: &[&str]| {
        let output = search().args(args).output().unwrap();
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let empty = Folder::new("nothing");
    assert!(wrong(&["node", "--share", "no/such/folder"]).contains("no/such/folder"));
    assert!(wrong(&["find", "--system", "napster", "x"]).contains("--join"));
    assert!(wrong(&["find", "--system", "telepathy", "x"]).contains("gnutella06"));
    let (_node, addr) = node("gnutella04", &empty, &[], &[]);
    let find =
        |words| ["find", "--system", "gnutella04", "--join", &addr, "--patience", "2", "--wait", "1", words];
    assert!(wrong(&find("nowhere")).contains("nothing was found"));
    assert!(wrong(&find("!?")).contains("the query is empty"));
}
