//! Layouts, and what is made here and read again.

use super::*;
use crate::storage::MemoryFiles;
use crate::torrent::merkle::{BLOCK, leaf, root};
use proptest::prelude::*;
use sha1::{Digest, Sha1};

fn created(files: &[(&str, usize)], format: Format, piece_length: u32) -> (Metainfo, Vec<Vec<u8>>) {
    let mut disk = MemoryFiles::default();
    let mut contents = Vec::new();
    for (i, (name, len)) in files.iter().enumerate() {
        let content: Vec<u8> = (0..*len).map(|at| (at * 7 + at / 251 + i) as u8).collect();
        disk.put(*name, content.clone());
        contents.push(content);
    }
    let options = CreateOptions { format, piece_length: Some(piece_length), ..CreateOptions::default() };
    (Metainfo::create(&mut disk, "t".as_ref(), &options).unwrap(), contents)
}

/// Each piece read by its spans hashes to what is expected of it.
fn check(metainfo: &Metainfo, contents: &[Vec<u8>]) {
    let info = metainfo.info();
    assert_eq!(Some(info.end()), info.files().iter().map(TorrentFile::end).max());
    let real: Vec<usize> = (0..info.files().len()).filter(|i| info.files()[*i].kind == Kind::File).collect();
    let mut read = 0;
    for piece in 0..info.piece_count() {
        let len = info.piece_len(piece);
        let mut data = vec![0; len as usize];
        for span in info.spans(piece, 0, len) {
            let content = &contents[real.iter().position(|file| *file == span.file).unwrap()];
            data[span.within..][..span.len].copy_from_slice(&content[span.at as usize..][..span.len]);
            read += span.len;
        }
        let expected = info.expected(piece, metainfo.layers()).unwrap();
        if let Some((hash, zeros)) = expected.v1 {
            let sha1 = Sha1::new().chain_update(&data).chain_update(vec![0; zeros as usize]);
            assert_eq!(sha1.finalize()[..], hash[..], "piece {piece}");
        }
        if let Some((node, width)) = expected.v2 {
            let leaves = data.chunks(BLOCK as usize).map(leaf).collect();
            assert_eq!(root(leaves, 0, width), node, "piece {piece}");
        }
    }
    assert_eq!(read as u64, info.size(), "every byte is in one piece");
}

#[test]
fn pieces_cover_every_byte_in_every_version() {
    const P: usize = 32 << 10;
    let folder = [
        ("t/a", 0),
        ("t/b", 1),
        ("t/c/d", P),
        ("t/c/e", 3 * P + 17),
        ("t/f", 0),
        ("t/g", 5 * P),
        ("t/h", P - 1),
    ];
    for format in [Format::V1, Format::V2, Format::Hybrid] {
        for files in [&folder[..], &[("t", 1)], &[("t", P)], &[("t", 2 * P + 1)]] {
            let (metainfo, contents) = created(files, format, P as u32);
            check(&metainfo, &contents);
            let again = Metainfo::parse(&metainfo.encode()).unwrap();
            assert_eq!(again, metainfo);
        }
    }
}

#[test]
fn a_hybrid_is_one_content_in_two_swarms() {
    let files = [("t/a", 20_000), ("t/b", 40_000)];
    let [v1, v2, hybrid] =
        [Format::V1, Format::V2, Format::Hybrid].map(|format| created(&files, format, 16 << 10).0);
    assert_eq!(v1.info().hashes().swarms().count(), 1);
    assert_eq!(hybrid.info().hashes().swarms().count(), 2);
    let roots = |metainfo: &Metainfo| -> Vec<_> {
        metainfo.info().files().iter().filter_map(|file| file.root).collect()
    };
    assert_eq!(roots(&v2), roots(&hybrid));
    assert_eq!(hybrid.info().files()[1].kind, Kind::Pad);
    assert_eq!(hybrid.info().piece_count(), 2 + 3, "the second file begins with a piece");
    assert_eq!(v1.info().piece_count(), 4);
    assert_eq!((hybrid.info().size(), v2.info().size()), (60_000, 60_000));
}

#[test]
fn nothing_is_asked_for_that_is_only_padding() {
    let (hybrid, _) = created(&[("t/a", 20_000), ("t/b", 1)], Format::Hybrid, 32 << 10);
    assert_eq!((0..2).map(|piece| hybrid.info().piece_len(piece)).collect::<Vec<_>>(), [20_000, 1]);
}

#[test]
fn what_holds_nothing_is_no_torrent() {
    let mut disk = MemoryFiles::default();
    disk.put("t/a", Vec::new());
    let none = Metainfo::create(&mut disk, "t".as_ref(), &CreateOptions::default());
    assert!(matches!(none, Err(CreateError::Metainfo(MetainfoError::Field { field: "length", .. }))));
    disk.put("t/b", vec![1]);
    let odd = CreateOptions { piece_length: Some(100), ..CreateOptions::default() };
    assert!(matches!(Metainfo::create(&mut disk, "t".as_ref(), &odd), Err(CreateError::PieceLength(100))));
}

fn single(info: impl Fn(&mut bencode::DictWriter<'_>)) -> Result<Info, MetainfoError> {
    Info::parse(Bytes::from(bencode::dict(|d| {
        d.bytes("name", "t");
        d.int("length", 5);
        d.int("piece length", 16384);
        d.bytes("pieces", [0; 20]);
        info(d);
    })))
}

#[test]
fn numbers_that_could_do_harm_are_refused() {
    assert!(single(|_| {}).is_ok());
    for (key, value) in [
        ("piece length", 0),
        ("piece length", -1),
        ("piece length", 1 << 40),
        ("length", -1),
        ("length", i64::MAX),
        ("length", 1 << 50),
        ("length", 0),
        ("length", 16385),
        ("meta version", 3),
        ("name", 7),
        ("pieces", 7),
    ] {
        assert!(single(|d| d.int(key, value)).is_err(), "{key} = {value}");
    }
    let too_deep = format!("d4:info{}{}e", "d1:a".repeat(200), "e".repeat(200));
    assert!(matches!(Metainfo::parse(too_deep.as_bytes()), Err(MetainfoError::Bencode(_))));
}

#[test]
fn no_file_is_named_like_what_is_written_down_of_a_torrent() {
    let named = |name: &str| {
        let info = bencode::dict(|d| {
            d.int("length", 5);
            d.bytes("name", name);
            d.int("piece length", 16384);
            d.bytes("pieces", [1; 20]);
        });
        Info::parse(info.into())
    };
    for hash in ["a1".repeat(20), "B2".repeat(32)] {
        for end in ["resume", "new", "RESUME"] {
            let name = format!(".{hash}.{end}");
            assert!(matches!(named(&name), Err(MetainfoError::Path { .. })), "{name}");
        }
        assert!(named(&format!("{hash}.resume")).is_ok());
        assert!(named(&format!(".{hash}0.new")).is_ok());
        assert!(named(&format!(".{hash}.old")).is_ok());
    }
    assert!(named(&format!(".{}.resume", "g1".repeat(20))).is_ok());
}

#[test]
fn a_newer_version_is_named_before_anything_else_is_missed() {
    let newer = bencode::dict(|d| d.int("meta version", 3));
    assert_eq!(Info::parse(newer.into()), Err(MetainfoError::Version(3)));
}

proptest! {
    #[test]
    fn any_folder_is_whole(lens in prop::collection::vec(0usize..100_000, 1..6), format in 0..3, length in 14u32..17) {
        prop_assume!(lens.iter().any(|len| *len > 0));
        let names: Vec<String> = (0..lens.len()).map(|i| format!("t/{i}")).collect();
        let files: Vec<(&str, usize)> = names.iter().map(String::as_str).zip(lens).collect();
        let format = [Format::V1, Format::V2, Format::Hybrid][format as usize];
        let (metainfo, contents) = created(&files, format, 1 << length);
        check(&metainfo, &contents);
    }

    #[test]
    fn any_bytes_are_a_torrent_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Metainfo::parse(&bytes);
        let _ = Info::parse(bytes.into());
    }
}
