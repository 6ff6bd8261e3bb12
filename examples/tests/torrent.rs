//! `torrent` as a user runs it: a folder crosses between processes by a link alone, and a killed one goes on.
#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(clippy::disallowed_methods, reason = "it has files")]

mod support;

use std::path::PathBuf;
use std::process::Command;

use p2p_core::Rng;
use support::Running;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("p2p-torrent-{}-{name}", std::process::id()));
        std::fs::create_dir_all(path.join("seed/album/live")).unwrap();
        Folder(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn torrent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_torrent"))
}

#[test]
fn a_folder_crosses_by_its_link_and_who_was_killed_goes_on() {
    let folder = Folder::new("folder");
    let mut songs = [("01.ogg", vec![0; 24 << 20]), ("live/02.ogg", vec![0; 1_234_567])];
    for (i, (name, song)) in songs.iter_mut().enumerate() {
        Rng::new(i as u64).fill(song);
        std::fs::write(folder.at("seed/album").join(name), song).unwrap();
    }
    let file = folder.at("album.torrent");
    let made = torrent().arg("create").arg(folder.at("seed/album")).arg("-o").arg(&file).status().unwrap();
    assert!(made.success());
    let check = |at: &str| torrent().arg("check").arg(&file).arg(folder.at(at)).status().unwrap().success();
    assert!(check("seed"));

    // Slowly, so that it can be killed in the middle.
    let slowly = ["--listen", "127.0.0.1:0", "--upload-rate", "8000000"];
    let seed = Running::start(torrent().arg("seed").arg(&file).arg(folder.at("seed")).args(slowly));
    let link = seed.says("magnet");
    let get = || {
        let mut get = torrent();
        get.arg("get").arg(&link).arg(folder.at("copy")).args(["--listen", "127.0.0.1:0"]);
        Running::start(&mut get)
    };
    let mut first = get();
    // It has begun when its file is there, and is killed then.
    let begun = folder.at("copy/album/01.ogg");
    for _ in 0..900 {
        if begun.exists() || first.hears_soon().is_some() {
            break;
        }
    }
    assert!(begun.exists());
    first.kill();
    assert!(!check("copy"), "it is not whole");
    let (well, said) = get().ends();
    assert!(well, "{said:?}");
    for (name, song) in &songs {
        assert!(std::fs::read(folder.at("copy/album").join(name)).unwrap() == *song, "{name}");
    }
    assert!(check("copy"));
}

#[test]
fn a_tracker_alone_brings_them_together_over_http_and_udp() {
    for (name, scheme, path, utp) in [("http", "http", "/announce", "off"), ("udp", "udp", "", "only")] {
        let folder = Folder::new(name);
        let song: Vec<u8> = (0..300_000_u32).map(|at| (at / 7) as u8).collect();
        std::fs::write(folder.at("seed/album/01.ogg"), &song).unwrap();
        let file = folder.at("album.torrent");
        let tracker = Running::start(torrent().args(["tracker", "--listen", "127.0.0.1:0"]));
        let url = format!("{scheme}://{}{path}", tracker.says("listening"));
        let mut create = torrent();
        create.arg("create").arg(folder.at("seed/album")).arg("-o").arg(&file);
        // A private torrent has no other peers than its tracker names.
        let made = create.arg("--private").arg("--tracker").arg(&url).status().unwrap();
        assert!(made.success());
        let listen = ["--listen", "127.0.0.1:0", "--utp", utp];
        let seed = Running::start(torrent().arg("seed").arg(&file).arg(folder.at("seed")).args(listen));
        seed.says("magnet");
        let get = Running::start(torrent().arg("get").arg(&file).arg(folder.at("copy")).args(listen));
        let (well, said) = get.ends();
        assert!(well, "{said:?}");
        assert!(said.iter().any(|line| line.contains(&url)), "{said:?}");
        assert!(std::fs::read(folder.at("copy/album/01.ogg")).unwrap() == song);
        let (well, said) = seed.interrupted();
        assert!(well, "{said:?}");
        // Both have said that they go.
        let (_, said) = tracker.interrupted();
        assert!(said.iter().any(|line| line.starts_with("0 peers")), "{said:?}");
    }
}
