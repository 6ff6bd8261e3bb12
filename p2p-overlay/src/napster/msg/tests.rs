use super::*;

fn from() -> SocketAddr {
    "192.0.2.9:5000".parse().unwrap()
}

/// The lines are the specification's own examples.
fn check(kind: u16, text: &str, msg: NapsterMsg) {
    let frame = [&(text.len() as u16).to_le_bytes(), &kind.to_le_bytes(), text.as_bytes()].concat();
    let decoded = NapsterMsg::decode(&mut BytesMut::from(&frame[..]), from());
    assert_eq!(decoded, Ok(Some(msg.clone())), "decoded");
    let mut out = BytesMut::new();
    msg.encode(&mut out);
    assert_eq!(out, frame, "encoded");
    for cut in 0..frame.len() {
        assert_eq!(NapsterMsg::decode(&mut BytesMut::from(&frame[..cut]), from()), Ok(None));
    }
}

fn song(name: &str, checksum: &str, size: u64, seconds: u32) -> NapsterFile {
    NapsterFile { name: name.into(), checksum: checksum.into(), size, music: [128, 44_100, seconds] }
}

#[test]
fn lines_are_the_specifications() {
    let contact = Some(of_address("192.0.2.9:6699".parse().unwrap()));
    let (nick, password) = ("foo".to_owned(), "badpass".to_owned());
    let login = NapsterMsg::Login { nick, password, contact, info: "nap v0.8".into(), link: 3 };
    check(2, "foo badpass 6699 \"nap v0.8\" 3", login);
    let line = "\"generic band - generic song.mp3\" b92870e0d41bc8e698cf2f0a1ddfeac7 443332 128 44100 60";
    let shared = song("generic band - generic song.mp3", "b92870e0d41bc8e698cf2f0a1ddfeac7", 443_332, 60);
    check(100, line, NapsterMsg::Share(shared));
    let line = "\"random band - random song.mp3\" 7d733c1e7419674744768db71bff8bcd 2558199 128 44100 159 \
        lefty 3437166285 4";
    let file = song("random band - random song.mp3", "7d733c1e7419674744768db71bff8bcd", 2_558_199, 159);
    let ip = Ipv4Addr::from(3_437_166_285u32.to_le_bytes());
    check(201, line, NapsterMsg::Result { file, nick: "lefty".into(), ip, link: 4 });
    let name = "C:\\Program Files\\Napster\\generic cowboy song.mp3".to_owned();
    let line = "mred \"C:\\Program Files\\Napster\\generic cowboy song.mp3\"";
    check(203, line, NapsterMsg::Download { nick: "mred".into(), name });
    check(202, "", NapsterMsg::EndOfResults);
    check(205, "ada what a day", NapsterMsg::Private { nick: "ada".into(), text: "what a day".into() });
}

#[test]
fn an_address_has_its_first_octet_lowest() {
    let contact = of_address("192.0.2.9:6699".parse().unwrap());
    let (nick, name) = ("lefty".to_owned(), "a song.mp3".to_owned());
    let ack = NapsterMsg::DownloadAck { nick, contact, name, checksum: "10fe".into(), link: 3 };
    // 192 + 0 * 256 + 2 * 65536 + 9 * 16777216.
    check(204, "lefty 151126208 6699 \"a song.mp3\" 10fe 3", ack);
}

/// The fields are those that OpenNap's servers print and split.
#[test]
fn what_servers_say_to_each_other_is_read_as_they_write_it() {
    let id = *b"ABCDEFGH";
    let contact = Some(of_address("192.0.2.9:6699".parse().unwrap()));
    let (nick, name) = ("ada".to_owned(), "one".to_owned());
    let lines = [
        (10_010, "one nonce 0", NapsterLinkMsg::Login { name: name.clone(), nonce: "nonce".into() }),
        (10_011, "00ff", NapsterLinkMsg::Ack { digest: "00ff".into() }),
        (
            2,
            "ada none 6699 \"p2p\" 3 unknown 0 151126208 one 0",
            NapsterLinkMsg::User { nick: nick.clone(), contact, link: 3, server: name.clone() },
        ),
        (10_000, "ada", NapsterLinkMsg::Quit { nick: nick.clone() }),
        (10_019, "two 0 one 0 2", NapsterLinkMsg::Server { name: name.clone(), to: "two".into(), hops: 2 }),
        (10_101, ":two one \"\"", NapsterLinkMsg::Gone { name, from: "two".into() }),
        (
            10_015,
            "ada ABCDEFGH FILENAME CONTAINS \"blue monday\" MAX_RESULTS 9",
            NapsterLinkMsg::Search { nick: nick.clone(), id, words: "blue monday".into(), most: 9 },
        ),
        (
            10_016,
            "ABCDEFGH ada \"a song.mp3\" 10fe 7 128 44100 60",
            NapsterLinkMsg::Result { id, nick: nick.clone(), file: song("a song.mp3", "10fe", 7, 60) },
        ),
        (10_017, "ABCDEFGH", NapsterLinkMsg::End { id }),
        (
            205,
            ":bob ada what a day",
            NapsterLinkMsg::Private { from: "bob".into(), nick: nick.clone(), text: "what a day".into() },
        ),
        (
            500,
            ":bob ada \"a song.mp3\"",
            NapsterLinkMsg::Push { from: "bob".into(), nick, name: "a song.mp3".into() },
        ),
    ];
    for (kind, line, msg) in lines {
        check(kind, line, NapsterMsg::Link(msg));
    }
}

#[test]
fn a_search_is_read_in_any_order() {
    let read = |text: &str| {
        let mut frame = BytesMut::new();
        frame.put_u16_le(text.len() as u16);
        frame.put_u16_le(200);
        frame.put_slice(text.as_bytes());
        NapsterMsg::decode(&mut frame, from()).unwrap().unwrap()
    };
    let asked = |words: &str, most, local_only| NapsterMsg::Search { words: words.into(), most, local_only };
    let line = "FILENAME CONTAINS \"Sneaker Pimps\" MAX_RESULTS 75 FILENAME CONTAINS \"tesko suicide\" \
        BITRATE \"AT LEAST\" \"128\"";
    assert_eq!(read(line), asked("Sneaker Pimps tesko suicide", 75, false));
    let line = "MAX_RESULTS 100 FILENAME CONTAINS \"Ventolin\" LINESPEED \"EQUAL TO\" 10 LOCAL_ONLY";
    assert_eq!(read(line), asked("Ventolin", 100, true));
}

#[test]
fn what_nobody_has_to_know_is_passed_over_and_what_is_wrong_is_refused() {
    let frame =
        |kind: u16, text: &str| [&[text.len() as u8, 0][..], &kind.to_le_bytes(), text.as_bytes()].concat();
    let both = [frame(600, "ada"), frame(202, "")].concat();
    assert_eq!(
        NapsterMsg::decode(&mut BytesMut::from(&both[..]), from()),
        Ok(Some(NapsterMsg::EndOfResults))
    );
    for wrong in [frame(2, "foo bar"), frame(100, "\"name"), frame(201, "\"a\" b 1 2 3 4 nick x 5")] {
        assert!(NapsterMsg::decode(&mut BytesMut::from(&wrong[..]), from()).is_err());
    }
    assert!(NapsterMsg::decode(&mut BytesMut::from(&[1, 8, 0, 0][..]), from()).is_err(), "2,049 bytes");
}

use proptest::prelude::*;

proptest! {
    #[test]
    fn any_frame_is_survived(kind in prop_oneof![0u16..700, 10_000u16..10_110], text in "[a-z0-9\" ]{0,80}") {
        let mut input = BytesMut::new();
        input.put_u16_le(text.len() as u16);
        input.put_u16_le(kind);
        input.put_slice(text.as_bytes());
        if let Ok(Some(msg)) = NapsterMsg::decode(&mut input, from()) {
            let mut again = BytesMut::new();
            msg.encode(&mut again);
            prop_assert!(again.len() >= 4);
        }
    }
}
