//! `search` as a user runs it: many processes that share files of a folder, some of which die, or accept nobody.

#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::disallowed_methods, reason = "it has files")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use p2p_core::Rng;
use support::{Running, number};

fn search() -> Command {
    Command::new(env!("CARGO_BIN_EXE_search"))
}

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("p2p-search-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// A folder within it.
    fn within(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A file of noise.
fn noise(path: &Path, seed: usize, len: usize) {
    let mut bytes = vec![0; len];
    Rng::new(seed as u64).fill(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// A running node and where it is.
fn node(system: &str, share: &Path, join: &[&str], more: &[&str]) -> (Running, String) {
    let mut command = search();
    command.args(["node", "--system", system, "--share"]).arg(share).args(more);
    command.args(join.iter().flat_map(|addr| ["--join", addr]));
    let running = Running::start(&mut command);
    let contact = running.says("contact");
    (running, contact)
}

/// Begins to fetch one file to a folder.
fn fetch(system: &str, join: &[&str], out: &Path, words: &[&str], more: &[&str]) -> Running {
    let mut command = search();
    command.args(["get", "--system", system, "--hits", "1", "--patience", "80", "--out"]).arg(out);
    command.args(join.iter().flat_map(|addr| ["--join", addr]));
    Running::start(command.args(more).args(words))
}

fn same(a: &Path, b: &Path) -> bool {
    std::fs::read(a).unwrap() == std::fs::read(b).unwrap()
}

/// A network of processes, each of which shares a file of its own.
struct Network {
    system: &'static str,
    folder: Folder,
    /// Through whom others join, each with its number, if it shares something.
    doors: Vec<(Running, String, Option<usize>)>,
    /// The others.
    nodes: Vec<(Running, usize)>,
}

impl Network {
    /// So many processes, a half of which are doors.
    fn of_servents(system: &'static str, processes: usize, door: &[&str], other: &[&str]) -> Network {
        let folder = Folder::new(system);
        let mut network = Network { system, folder, doors: Vec::new(), nodes: Vec::new() };
        for i in 0..processes {
            let share = network.share(i);
            let doors = network.addresses();
            let some: Vec<&str> = doors.iter().rev().take(3).map(String::as_str).collect();
            match i < processes / 2 {
                true => {
                    let (running, contact) = node(system, &share, &some, door);
                    network.doors.push((running, contact, Some(i)));
                }
                false => network.nodes.push((node(system, &share, &some, other).0, i)),
            }
        }
        network
    }

    /// The folder that a node shares, with its file.
    fn share(&self, i: usize) -> PathBuf {
        let share = self.folder.within(&format!("share {i}"));
        noise(&share.join(Network::file(i)), i, 300_000 + i);
        share
    }

    fn file(i: usize) -> String {
        format!("song number{i} (live).mp3")
    }

    fn addresses(&self) -> Vec<String> {
        self.doors.iter().map(|(_, contact, _)| contact.clone()).collect()
    }

    /// Fetches the files of all who live, all at once, and runs `then` in the middle.
    fn all_are_fetched(&mut self, name: &str, more: &[&str], then: impl FnOnce(&mut Network)) {
        let out = self.folder.within(name);
        let doors = self.addresses();
        // Those who will be left.
        let doors: Vec<&str> = doors.iter().rev().take(2).map(String::as_str).collect();
        then(self);
        let shared = self.doors.iter().filter_map(|(.., i)| *i);
        let living: Vec<usize> = shared.chain(self.nodes.iter().map(|(_, i)| *i)).collect();
        let under_way: Vec<(usize, Running)> = living
            .into_iter()
            .map(|i| (i, fetch(self.system, &doors, &out, &[&format!("number{i}")], more)))
            .collect();
        for (i, fetching) in under_way {
            let (well, said) = fetching.ends();
            assert!(well, "{} {i}: {said:?}", self.system);
            let file = Network::file(i);
            let there = self.folder.0.join(format!("share {i}")).join(&file);
            assert!(same(&there, &out.join(&file)), "{} {i} differs", self.system);
        }
    }
}

fn processes() -> usize {
    number("P2P_PROCESSES", 8)
}

/// A third of the servents are killed by `kill -9`: the files of all others are still found and fetched.
fn servents_share_and_survive(system: &'static str, door: &[&str], other: &[&str]) {
    let mut network = Network::of_servents(system, processes(), door, other);
    network.all_are_fetched("first", &[], |_| {});
    let dying = network.doors.len().div_ceil(3);
    network.all_are_fetched("second", other, |network| drop(network.doors.drain(..dying)));
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
    let folder = Folder::new("napster");
    let doors = vec![(server, contact.clone(), None)];
    let mut network = Network { system: "napster", folder, doors, nodes: Vec::new() };
    for i in 0..processes() {
        let share = network.share(i);
        let nick = format!("user{i}");
        network.nodes.push((node("napster", &share, &[&contact], &["--nick", &nick]).0, i));
    }
    network.all_are_fetched("first", &[], |_| {});
    network.all_are_fetched("second", &[], |network| {
        network.doors.clear();
        network.doors.push((index(&contact).0, contact.clone(), None));
    });
}

/// Users of three servers, one of which dies for good: its users go to another.
#[test]
fn linked_servers_are_one_index() {
    let folder = Folder::new("linked");
    let mut network = Network { system: "napster", folder, doors: Vec::new(), nodes: Vec::new() };
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
    network.all_are_fetched("first", &[], |_| {});
    network.all_are_fetched("second", &[], |network| drop(network.doors.remove(0)));
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
    noise(&share.join("a song.mp3"), 4, 200_000);
    let (mut giver, _) = node("freenet", &share, &[&contact], &[]);
    assert_eq!(giver.says("shared"), "a song.mp3");
    giver.kill();
    for (i, (_, door)) in network.iter().enumerate().step_by(3) {
        let out = folder.within(&format!("out {i}"));
        let (well, said) = fetch("freenet", &[door], &out, &["a", "song", "mp3"], &[]).ends();
        assert!(well, "{said:?}");
        assert!(same(&share.join("a song.mp3"), &out.join("a song.mp3")));
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
    let folder = Folder::new("skype");
    let data = folder.within("names");
    let (server, login) = login_server(Some(&data), "127.0.0.1:0");
    let mut network = Network { system: "skype", folder, doors: Vec::new(), nodes: Vec::new() };
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
    network.all_are_fetched("first", &more, |_| {});
    let dying = network.doors.len().div_ceil(3);
    let addr = login.rsplit_once('@').unwrap().1.to_owned();
    let mut again = None;
    network.all_are_fetched("second", &more, |network| {
        network.doors.drain(..dying);
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
    noise(&share.join("a rare song.mp3"), 5, 1_000_000);
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
    assert!(same(&share.join("a rare song.mp3"), &out.join("a rare song.mp3")));
    // Whoever accepts connections is connected to instead.
    let open = folder.within("open");
    let (well, said) = fetch("skype", &[&hub], &open, &["ada", "rare"], &["--login", &login]).ends();
    assert!(well && same(&share.join("a rare song.mp3"), &open.join("a rare song.mp3")), "{said:?}");
}

/// Killed in the middle and started again, a download asks for what is missing.
#[test]
fn a_download_that_was_killed_goes_on() {
    let folder = Folder::new("resumed");
    let share = folder.within("share");
    const SIZE: u64 = 40_000_000;
    noise(&share.join("a long song.mp3"), 6, SIZE as usize);
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
    assert!(same(&share.join("a long song.mp3"), &out.join("a long song.mp3")));
    let said: serde_json::Value = serde_json::from_str(said.last().unwrap()).unwrap();
    let (resumed, received) = (said["resumed"].as_u64().unwrap(), said["received"].as_u64().unwrap());
    assert!(resumed >= 39 << 16 && resumed + received == SIZE, "{said}");
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1, "nothing is left beside it");
}

/// Who accepts no connections connects to whoever wants the file.
fn a_firewalled_sharer_is_reached(system: &str, door: &str) {
    let folder = Folder::new(&format!("firewalled {system}"));
    let share = folder.within("share");
    noise(&share.join("a rare song.mp3"), 1, 700_000);
    let (_hidden, contact) = node(system, &share, &[door], &["--firewalled"]);
    assert_eq!(contact, "none");
    let (well, said) = fetch(system, &[door], &folder.0, &["rare"], &[]).ends();
    assert!(well, "{system}: {said:?}");
    assert!(same(&share.join("a rare song.mp3"), &folder.0.join("a rare song.mp3")));
}

#[test]
fn a_firewalled_sharer_is_reached_by_push() {
    let empty = Folder::new("empty");
    let (_server, contact) = index("127.0.0.1:0");
    a_firewalled_sharer_is_reached("napster", &contact);
    for system in ["gnutella04", "gnutella06", "kazaa"] {
        let (_first, first) = node(system, &empty.0, &[], &[]);
        // The push goes over another servent.
        let (_second, second) = node(system, &empty.0, &[&first], &[]);
        a_firewalled_sharer_is_reached(system, &second);
    }
}

/// Three have it, and all of them give a part.
#[test]
fn one_content_comes_from_all_who_have_it() {
    let folder = Folder::new("three");
    let share = folder.within("share");
    noise(&share.join("a long song.mp3"), 2, 6_000_000);
    let (_first, first) = node("gnutella06", &share, &[], &[]);
    let _others = [(); 2].map(|()| node("gnutella06", &share, &[&first], &[]));
    let out = folder.within("out");
    let mut command = search();
    command.args(["get", "--json", "--hits", "3", "--wait", "20", "--join", &first, "--out"]).arg(&out);
    let (well, said) = Running::start(command.arg("long")).ends();
    assert!(well, "{said:?}");
    let said: serde_json::Value = serde_json::from_str(&said[0]).unwrap();
    assert!(said["size"] == 6_000_000 && said["sources"].as_u64() > Some(1), "{said}");
    assert!(same(&share.join("a long song.mp3"), &out.join("a long song.mp3")));
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
    let path = share.join("song.mp3");
    noise(&path, 3, 100_000);
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
        assert!(well && same(&path, &out.join("song.mp3")), "{said:?}");
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
    let (_node, addr) = node("gnutella04", &empty.0, &[], &[]);
    let find =
        |words| ["find", "--system", "gnutella04", "--join", &addr, "--patience", "2", "--wait", "1", words];
    assert!(wrong(&find("nowhere")).contains("nothing was found"));
    assert!(wrong(&find("!?")).contains("the query is empty"));
}
