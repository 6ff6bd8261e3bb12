//! `torrent` as a user runs it: a folder crosses between processes by a link alone, a killed one goes on, and peers are found
//! on a tracker, in the DHT, or in both, of which one may die.
#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it has files, and a clock")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Folder, Running};

fn torrent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_torrent"))
}

const HERE: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// A folder with a song, and a torrent of it; the song, and the torrent's link, in which nobody is named.
fn album(folder: &Folder, bytes: usize, options: &[&str]) -> (Vec<u8>, String) {
    let song = std::fs::read(folder.noise("seed/album/01.ogg", bytes)).unwrap();
    let mut create = torrent();
    create
        .arg("create")
        .arg(folder.join("seed/album"))
        .arg("-o")
        .arg(folder.join("album.torrent"))
        .args(options);
    let made = create.output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let said = String::from_utf8(made.stdout).unwrap();
    let link = said.lines().find_map(|line| line.strip_prefix("magnet: ")).unwrap();
    (song, link.to_owned())
}

fn seed(folder: &Folder, options: &[&str]) -> Running {
    let mut seed = torrent();
    seed.arg("seed").arg(folder.join("album.torrent")).arg(folder.join("seed")).args(HERE).args(options);
    Running::start(&mut seed)
}

fn get(folder: &Folder, what: &str, to: &str, options: &[&str]) -> Running {
    Running::start(torrent().arg("get").arg(what).arg(folder.join(to)).args(HERE).args(options))
}

fn has_come(folder: &Folder, to: &str, song: &[u8]) -> bool {
    std::fs::read(folder.join(to).join("album/01.ogg")).is_ok_and(|copy| copy == song)
}

/// Waits until something of a download is there.
fn begins(folder: &Folder, to: &str, get: &Running) {
    let begun = folder.join(to).join("album/01.ogg");
    for _ in 0..180 {
        if begun.exists() {
            break;
        }
        get.hears_soon();
    }
    assert!(begun.exists());
}

/// Nodes of the DHT: the first, and others that know it.
fn nodes(count: usize) -> Vec<(Running, String)> {
    let mut nodes: Vec<(Running, String)> = Vec::new();
    for _ in 0..count {
        let mut node = Command::new(env!("CARGO_BIN_EXE_mainline"));
        node.arg("node").args(HERE);
        if let Some((_, first)) = nodes.first() {
            node.args(["--bootstrap", first]);
        }
        let node = Running::start(&mut node);
        let address = node.says("address");
        nodes.push((node, address));
    }
    nodes.iter().skip(1).for_each(|(node, _)| _ = node.says("joined"));
    nodes
}

/// Waits until a peer of the link's first swarm is known to the DHT.
fn is_announced(link: &str, node: &str) {
    let hash = link.split("urn:btih:").nth(1).unwrap().get(..40).unwrap();
    for _ in 0..100 {
        let mut peers = Command::new(env!("CARGO_BIN_EXE_mainline"));
        let found = peers.args(["peers", "--bootstrap", node, hash]).output().unwrap();
        if found.status.success() {
            return;
        }
    }
    panic!("nobody has announced {hash}");
}

#[test]
fn a_folder_crosses_by_its_link_and_who_was_killed_goes_on() {
    let folder = Folder::new("folder");
    let songs = [("01.ogg", 24 << 20), ("live/02.ogg", 1_234_567)].map(|(name, size)| {
        let song = folder.noise(&format!("seed/album/{name}"), size);
        (name, std::fs::read(song).unwrap())
    });
    let file = folder.join("album.torrent");
    let made = torrent().arg("create").arg(folder.join("seed/album")).arg("-o").arg(&file).status().unwrap();
    assert!(made.success());
    let check = |at: &str| torrent().arg("check").arg(&file).arg(folder.join(at)).status().unwrap().success();
    assert!(check("seed"));

    // Slowly, so that it can be killed in the middle.
    let seed = seed(&folder, &["--max-up", "8M"]);
    let link = seed.says("magnet");
    let mut first = get(&folder, &link, "copy", &[]);
    // It has begun when its file is there, and is killed then.
    begins(&folder, "copy", &first);
    first.kill();
    assert!(!check("copy"), "it is not whole");
    let (well, said) = get(&folder, &link, "copy", &[]).ends();
    assert!(well, "{said:?}");
    for (name, song) in &songs {
        assert!(std::fs::read(folder.join("copy/album").join(name)).unwrap() == *song, "{name}");
    }
    assert!(check("copy"));
}

#[test]
fn a_tracker_alone_brings_them_together_over_http_and_udp() {
    for (name, scheme, path, utp) in [("http", "http", "/announce", "off"), ("udp", "udp", "", "only")] {
        let folder = Folder::new(name);
        let tracker = Running::start(torrent().arg("tracker").args(HERE));
        let url = format!("{scheme}://{}{path}", tracker.says("listening"));
        // A private torrent has no other peers than its tracker names.
        let (song, _) = album(&folder, 300_000, &["--private", "--tracker", &url]);
        let seed = seed(&folder, &["--utp", utp]);
        seed.says("magnet");
        let (well, said) =
            get(&folder, &folder.join("album.torrent").display().to_string(), "copy", &["--utp", utp]).ends();
        assert!(well, "{said:?}");
        assert!(said.iter().any(|line| line.contains(&url)), "{said:?}");
        assert!(has_come(&folder, "copy", &song));
        let (well, said) = seed.interrupted();
        assert!(well, "{said:?}");
        // Both have said that they go.
        let (_, said) = tracker.interrupted();
        assert!(said.iter().any(|line| line.starts_with("0 peers")), "{said:?}");
    }
}

#[test]
fn an_interrupted_download_has_said_that_it_goes() {
    let folder = Folder::new("interrupted");
    let tracker = Running::start(torrent().arg("tracker").args(HERE));
    let url = format!("udp://{}", tracker.says("listening"));
    let (song, link) = album(&folder, 4 << 20, &["--version", "v1", "--tracker", &url]);
    let seed = seed(&folder, &["--max-up", "500"]);
    seed.says("magnet");
    // Only the tracker knows where it is.
    let get = get(&folder, &link, "copy", &[]);
    begins(&folder, "copy", &get);
    let (well, _) = get.interrupted();
    assert!(!well && !has_come(&folder, "copy", &song));
    let (_, said) = tracker.interrupted();
    assert!(said.iter().any(|line| line.starts_with("1 peers of 1 torrents")), "the seed's alone: {said:?}");
}

#[test]
fn the_dht_alone_brings_them_together() {
    let folder = Folder::new("dht");
    let nodes = nodes(3);
    let through = |i: usize| ["--dht", "--bootstrap", nodes[i].1.as_str()];
    let (song, link) = album(&folder, 300_000, &[]);
    assert!(!link.contains("tr=") && !link.contains("x.pe="), "{link}");
    let _seed = seed(&folder, &through(0));
    is_announced(&link, &nodes[1].1);
    let first = get(&folder, &link, "first", &through(1));
    let second = get(&folder, &link, "second", &through(2));
    for (get, to) in [(first, "first"), (second, "second")] {
        let (well, said) = get.ends();
        assert!(well, "{said:?}");
        assert!(said.iter().any(|line| line.trim_start().starts_with("dht: ")), "{said:?}");
        assert!(has_come(&folder, to, &song));
    }
}

#[test]
fn peers_are_found_though_the_tracker_dies() {
    let folder = Folder::new("dead");
    let nodes = nodes(3);
    let through = |i: usize| ["--dht", "--bootstrap", nodes[i].1.as_str()];
    let mut tracker = Running::start(torrent().arg("tracker").args(HERE));
    let url = format!("http://{}/announce", tracker.says("listening"));
    let (song, link) = album(&folder, 4 << 20, &["--version", "v1", "--tracker", &url]);
    let slowly = ["--max-up", "1M"];
    let mut seed = seed(&folder, &[&slowly[..], &through(0)].concat());
    is_announced(&link, &nodes[1].1);
    let first = get(&folder, &link, "first", &[&slowly[..], &through(1), &["--seed"]].concat());
    begins(&folder, "first", &first);
    tracker.kill();
    // Those who come now hear of the others in the DHT alone, and the last of them when the seed is gone, too.
    let (well, said) = get(&folder, &link, "second", &through(2)).ends();
    assert!(well && has_come(&folder, "second", &song), "{said:?}");
    while !first.hears().contains(" pieces; ") {}
    seed.kill();
    let (well, said) = get(&folder, &link, "third", &through(0)).ends();
    assert!(well && has_come(&folder, "third", &song), "{said:?}");
}

#[test]
fn neighbours_find_each_other() {
    let folder = Folder::new("lsd");
    let (song, _) = album(&folder, 300_000, &[]);
    let file = folder.join("album.torrent").display().to_string();
    let seed = seed(&folder, &["--lsd"]);
    seed.says("magnet");
    let (well, said) = get(&folder, &file, "copy", &["--lsd"]).ends();
    assert!(well && has_come(&folder, "copy", &song), "{said:?}");
}

/// Serves stretches of one file by HTTP, as long as the test lasts; its URL.
fn web_server(file: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/01.ogg", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head =
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            let range =
                head.filter_map(|line| Some(line.strip_prefix("Range: bytes=")?.to_owned())).last().unwrap();
            let (first, last) = range.split_once('-').unwrap();
            let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
            let length = last + 1 - first;
            let head = format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {range}/{}", file.len());
            let _ = stream.write_all(format!("{head}\r\nContent-Length: {length}\r\n\r\n").as_bytes());
            let _ = stream.write_all(&file[first..=last]);
        }
    });
    url
}

#[test]
fn a_web_server_alone_is_enough() {
    let folder = Folder::new("web");
    let (song, _) = album(&folder, 3_000_000, &[]);
    let url = web_server(song.clone());
    let (file, torrent_file) = (folder.join("seed/album/01.ogg"), folder.join("one.torrent"));
    let mut create = torrent();
    create.arg("create").arg(&file).arg("-o").arg(&torrent_file).args(["--web-seed", &url]);
    assert!(create.output().unwrap().status.success());
    let (well, said) = get(&folder, &torrent_file.display().to_string(), "copy", &[]).ends();
    assert!(well && std::fs::read(folder.join("copy/01.ogg")).unwrap() == song, "{said:?}");
    assert!(said.iter().any(|line| line.contains(&format!("{url}: 3000000 down"))), "{said:?}");
}

#[test]
fn rates_are_kept_at_both_ends() {
    let folder = Folder::new("rates");
    let (song, _) = album(&folder, 3 << 20, &[]);
    let file = folder.join("album.torrent").display().to_string();
    for (name, up, down) in [("up", "1.5M", "100M"), ("down", "100M", "1536")] {
        let seed = seed(&folder, &["--max-up", up]);
        let peer = seed.says("listening");
        let begun = Instant::now();
        let (well, said) = get(&folder, &file, name, &["--peer", &peer, "--max-down", down]).ends();
        assert!(well && has_come(&folder, name, &song), "{said:?}");
        // 3 MiB at 1.5 MiB/s take 2 s, but for a quarter of a second's worth and a block.
        assert!(begun.elapsed() >= Duration::from_millis(1700), "{name}: {:?}", begun.elapsed());
    }
}

#[test]
fn what_is_chosen_comes_alone_and_what_is_to_be_first_comes_first() {
    let folder = Folder::new("chosen");
    let sizes = [("01.ogg", 2 << 20), ("live/02.ogg", 2 << 20), ("live/03.ogg", 256 << 10)];
    let songs =
        sizes.map(|(name, size)| std::fs::read(folder.noise(&format!("seed/album/{name}"), size)).unwrap());
    let (album, file) = (folder.join("seed/album"), folder.text("album.torrent"));
    assert!(torrent().arg("create").arg(album).args(["-o", &file]).output().unwrap().status.success());
    let seed = seed(&folder, &[]);
    let peer = seed.says("listening");
    let link = seed.says("magnet");
    let there = |to: &str| {
        let came = |name| std::fs::read(folder.join(to).join("album").join(name)).unwrap_or_default();
        [0, 1, 2].map(|song| came(sizes[song].0) == songs[song])
    };
    for (to, what) in [("file", &file), ("link", &link)] {
        let options =
            ["--peer", &peer, "--max-down", "1M", "--only", "album/live", "--first", "03.ogg", "--json"];
        let get = get(&folder, what, to, &options);
        // It has 16 of the 144 pieces, and as many may have been asked for before it was known which are first.
        let pieces =
            || serde_json::from_str::<serde_json::Value>(&get.hears()).unwrap()["pieces"].as_u64().unwrap();
        while pieces() < 48 {}
        assert!(there(to)[2], "{to}");
        let (well, said) = get.ends();
        assert!(well && there(to) == [false, true, true], "{to}: {said:?}");
    }
    let (well, _) = get(&folder, &file, "none", &["--peer", &peer, "--only", "02"]).ends();
    assert!(!well, "there is no file of that name");
}

#[test]
fn what_is_said_can_be_read_by_programs() {
    let folder = Folder::new("json");
    let (song, _) = album(&folder, 3 << 20, &[]);
    let json = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let seed = seed(&folder, &["--json"]);
    let begun = json(&seed.hears());
    let magnet = begun["magnet"].as_str().unwrap();
    assert!(magnet.contains(begun["listening"].as_str().unwrap()), "{begun}");
    let (well, said) = get(&folder, magnet, "copy", &["--json", "--max-down", "1M"]).ends();
    assert!(well && has_come(&folder, "copy", &song), "{said:?}");
    let said: Vec<_> = said.iter().map(|line| json(line)).collect();
    let coming =
        said.iter().find(|status| status["stage"] == "downloading" && status["peers"][0].is_object());
    let peer = &coming.unwrap()["peers"][0];
    assert_eq!((&peer["addr"], &peer["carrier"]), (&begun["listening"], &"uTP".into()));
    let last = said.last().unwrap();
    assert_eq!(
        (&last["stage"], &last["name"], &last["trouble"]),
        (&"seeding".into(), &"album".into(), &().into())
    );
    assert_eq!((&last["pieces"], last["size"].as_u64()), (&last["wanted"], Some(3 << 20)));
    assert!(magnet.contains(last["info_hash"].as_str().unwrap().split(' ').next().unwrap()), "{last}");
    assert!(last["downloaded"].as_u64().unwrap() >= 3 << 20, "{last}");
    let mut check = torrent();
    check.args(["check", "--json"]).arg(folder.join("album.torrent")).arg(folder.join("copy"));
    let checked = json(&String::from_utf8(check.output().unwrap().stdout).unwrap());
    assert!(checked["right"] == checked["pieces"] && checked["right"] == last["pieces"], "{checked}");
    let (well, said) = seed.interrupted();
    let [end] = &said[..] else { panic!("{said:?}") };
    assert!(well && json(end)["uploaded"].as_u64().unwrap() >= 3 << 20, "{end}");
}

/// Asks for a file over HTTP, by this name for its host, or by its address if it is empty.
fn ask(url: &str, method: &str, range: &str, name: &str) -> TcpStream {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let name = if name.is_empty() { host } else { name };
    let range = if range.is_empty() { String::new() } else { format!("Range: bytes={range}\r\n") };
    write!(stream, "{method} /{path} HTTP/1.1\r\nHost: {name}\r\n{range}Connection: close\r\n\r\n").unwrap();
    stream
}

/// The head of an answer, and its body.
fn answer(mut stream: TcpStream) -> (String, Vec<u8>) {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let body = answer.split_off(end);
    (String::from_utf8(answer).unwrap().to_ascii_lowercase(), body)
}

fn fetch(url: &str, method: &str, range: &str) -> (String, Vec<u8>) {
    answer(ask(url, method, range, ""))
}

#[test]
fn a_file_is_streamed_while_it_comes() {
    let folder = Folder::new("stream");
    let (song, _) = album(&folder, 12 << 20, &[]);
    // So slowly that all of it takes two minutes.
    let slow = seed(&folder, &["--max-up", "100K"]);
    let link = slow.says("magnet");
    let mut stream = torrent();
    stream.args(["stream", &link]).arg(folder.join("copy")).args(HERE).args(["--file", "01.ogg"]);
    let stream = Running::start(&mut stream);
    let listening = stream.says("listening");
    let url = stream.says("stream");
    // From the middle, and then from elsewhere.
    for (asked, range) in
        [("6000000-6099999", 6_000_000..6_100_000), ("-50000", song.len() - 50_000..song.len())]
    {
        let (head, body) = fetch(&url, "GET", asked);
        assert!(head.starts_with("http/1.1 206"), "{head}");
        let said = format!("content-range: bytes {}-{}/{}", range.start, range.end - 1, song.len());
        assert!(head.contains(&said) && head.contains("audio/ogg"), "{head}");
        assert!(body == song[range], "{asked}");
        assert!(!has_come(&folder, "copy", &song), "it is not all there yet");
    }
    let (head, body) = fetch(&url, "HEAD", "");
    assert!(
        head.starts_with("http/1.1 200") && head.contains("content-length: 12582912") && body.is_empty(),
        "{head}"
    );
    let (head, _) = fetch(&url, "GET", "12582912-");
    assert!(head.starts_with("http/1.1 416") && head.contains("bytes */12582912"), "{head}");
    // All of it, as it comes: from somebody who is as fast as can be.
    let _fast = seed(&folder, &["--peer", &listening]);
    let (head, body) = fetch(&url, "GET", "0-");
    assert!(head.starts_with("http/1.1 206") && body == song, "{head}");
    assert!(has_come(&folder, "copy", &song));
    let (well, said) = stream.interrupted();
    assert!(well, "{said:?}");
}

#[test]
fn what_is_streamed_is_not_for_strangers_pages_nor_for_any_number_at_a_time() {
    let folder = Folder::new("readers");
    // More than sockets hold that nobody reads from.
    let (song, _) = album(&folder, 16 << 20, &[]);
    let seed = seed(&folder, &[]);
    let mut stream = torrent();
    stream.args(["stream", &seed.says("magnet")]).arg(folder.join("copy")).args(HERE);
    let stream = Running::start(&mut stream);
    let url = stream.says("stream");
    let (head, body) = answer(ask(&url, "GET", "", "evil.example"));
    assert!(head.starts_with("http/1.1 403") && body.len() < 100, "{head}");
    // They get something, and leave the rest.
    let begins = |_| {
        let mut reader = ask(&url, "GET", "", "");
        let mut begun = [0; 12];
        reader.read_exact(&mut begun).unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200");
        reader
    };
    let mut readers: Vec<TcpStream> = (0..32).map(begins).collect();
    let (head, _) = fetch(&url, "GET", "0-9");
    assert!(head.starts_with("http/1.1 503"), "{head}");
    readers.pop();
    support::eventually("one is gone, so there is room for another", || {
        let (head, body) = fetch(&url, "GET", "0-9");
        if head.starts_with("http/1.1 206") && body == song[..10] { Ok(()) } else { Err(head) }
    });
}

/// A process may have no files longer than its limit; that is raised as it runs.
#[test]
fn a_download_without_room_waits_for_it_and_goes_on() {
    let folder = Folder::new("room");
    let (song, _) = album(&folder, 3 << 20, &[]);
    let file = folder.join("album.torrent").display().to_string();
    let seed = seed(&folder, &[]);
    let peer = seed.says("listening");
    // Who would be killed for a file too long is told so instead.
    let mut limited = Command::new("sh");
    limited.args([
        "-c",
        "trap '' XFSZ; ulimit -S -f 1024; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_torrent"),
        "get",
    ]);
    limited.arg(&file).arg(folder.join("copy")).args(HERE).args(["--peer", &peer]);
    let get = Running::start(&mut limited);
    let why = get.says("paused");
    assert!(why.contains("01.ogg") && why.contains("too large"), "{why}");
    let raised = Command::new("prlimit").args(["--fsize=unlimited", "--pid", &get.id().to_string()]).status();
    assert!(raised.unwrap().success());
    get.says("resumed");
    let (well, said) = get.ends();
    assert!(well && has_come(&folder, "copy", &song), "{said:?}");
}

#[test]
fn what_a_torrent_says_does_not_command_the_terminal() {
    let folder = Folder::new("escape");
    album(&folder, 1000, &["--comment", "\u{1b}[31mred"]);
    for what in [
        folder.join("album.torrent").display().to_string(),
        format!("magnet:?xt=urn:btih:{}&dn=%1b%5b31mred&x.pe=%1b%5b31mred", "a".repeat(40)),
    ] {
        let said = torrent().args(["info", &what]).output().unwrap().stdout;
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("[31mred") && !said.contains('\u{1b}'), "{said:?}");
    }
}
