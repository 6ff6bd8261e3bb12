//! Torrents that others made, valid and broken, and what libtorrent 2.1.1 makes of each (`torrents/expected.json`).
//! Where a file is hostile and tolerated there, it is refused here, and the reason stands below.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use p2p_swarm::torrent::{Kind, Metainfo, MetainfoError};
use serde_json::Value;

/// What libtorrent mends and we refuse: a name is either harmless or not a name.
const STRICTER: [(&str, &str); 11] = [
    ("absolute_filename.torrent", "a name that begins with a slash"),
    ("backslash_path.torrent", "a part that is a backslash"),
    ("duplicate_files.torrent", "two files of one name: one would be written over the other"),
    ("invalid_directory_name.torrent", "a part that is a slash"),
    ("invalid_filename.torrent", "the torrent's name has a backslash"),
    ("invalid_filename2.torrent", "the torrent's name has a backslash"),
    ("invalid_name2.torrent", "the torrent's name leads out of its folder"),
    ("slash_path.torrent", "a part that is a slash"),
    ("slash_path2.torrent", "a part that leads out of its folder"),
    ("slash_path3.torrent", "a name that leads out of its folder"),
    ("v2_invalid_filename2.torrent", "a part that is two slashes"),
];

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "torrents"].iter().collect()
}

fn expected() -> BTreeMap<String, Value> {
    serde_json::from_slice(&std::fs::read(folder().join("expected.json")).unwrap()).unwrap()
}

fn parse(name: &str) -> Result<Metainfo, MetainfoError> {
    Metainfo::parse(&std::fs::read(folder().join(name)).unwrap())
}

#[test]
fn every_torrent_is_parsed_or_refused() {
    let expected = expected();
    let mut files = 0;
    for (name, expected) in &expected {
        files += 1;
        let parsed = parse(name);
        if STRICTER.iter().any(|(stricter, _)| stricter == name) {
            assert!(parsed.is_err(), "{name}: it is tolerated elsewhere, and is to be refused here");
            continue;
        }
        if expected["valid"] == false {
            assert!(parsed.is_err(), "{name} is to be refused: {}", expected["why"]);
            continue;
        }
        let parsed = parsed.unwrap_or_else(|error| panic!("{name}: {error}"));
        let info = parsed.info();
        let hex = |bytes: Option<&[u8]>| bytes.map_or(Value::Null, |bytes| HEXLOWER.encode(bytes).into());
        assert_eq!(hex(info.hashes().v1.as_ref().map(|hash| &hash[..])), expected["v1"], "{name}");
        assert_eq!(hex(info.hashes().v2.as_ref().map(|hash| &hash[..])), expected["v2"], "{name}");
        assert_eq!(info.name(), expected["name"], "{name}");
        assert_eq!(info.piece_length(), expected["piece_length"], "{name}");
        assert_eq!(info.piece_count(), expected["pieces"], "{name}");
        assert_eq!(info.private(), expected["private"], "{name}");
        let trackers: Vec<&String> = parsed.trackers.iter().flatten().collect();
        assert_eq!(serde_json::json!(trackers), expected["trackers"], "{name}");
        let files = info.files().iter().filter(|file| file.kind == Kind::File);
        let files: Vec<Value> = files
            .map(|file| serde_json::json!({ "path": file.path, "size": file.length, "pad": false }))
            .collect();
        // libtorrent lists pad files of its own between the files of the second version.
        let theirs: Vec<&Value> =
            expected["files"].as_array().unwrap().iter().filter(|file| file["pad"] == false).collect();
        assert_eq!(files.iter().collect::<Vec<_>>(), theirs, "{name}");
        assert_eq!(
            Metainfo::parse(&parsed.encode()).as_ref(),
            Ok(&parsed),
            "{name}: what is written is read"
        );
    }
    assert_eq!(files, 53);
}

#[test]
fn what_is_refused_is_refused_for_a_reason() {
    let why = |name: &str| parse(name).unwrap_err().to_string();
    for (name, reason) in [
        ("v2_zero_root.torrent", "not all zero"),
        ("v2_no_power2_piece.torrent", "a power of two"),
        ("v2_invalid_piece_layer.torrent", "is not a string"),
        ("v2_invalid_root_hash.torrent", "does not have the root"),
        ("v2_non_multiple_piece_layer.torrent", "not one hash for each piece"),
        ("v2_mismatching_metadata.torrent", "slash"),
        ("v2_large_offset.torrent", "2^21"),
        ("negative_size.torrent", "zero or more"),
        ("missing_piece_len.torrent", "piece length"),
        ("string.torrent", "dictionary"),
        ("duplicate_files.torrent", "two files have this name"),
        ("slash_path3.torrent", "slash"),
        ("invalid_name2.torrent", "leads elsewhere"),
    ] {
        assert!(why(name).contains(reason), "{name}: {}", why(name));
    }
}

/// What is left of a file that is cut off, or has one byte changed, is no torrent or another; nothing panics.
#[test]
fn damaged_torrents_do_no_harm() {
    for name in expected().keys() {
        let bytes = std::fs::read(folder().join(name)).unwrap();
        if bytes.len() > 1000 {
            continue;
        }
        for at in 0..bytes.len() {
            let _ = Metainfo::parse(&bytes[..at]);
            for other in [b'0', b'e', b'd', 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] = other;
                let _ = Metainfo::parse(&damaged);
            }
        }
    }
}
