use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::gnutella::{GnutellaCodec, GnutellaMsg, Guid};

type Http = HttpCodec<GnutellaCodec>;
type Msg = SharingMsg<GnutellaMsg>;

fn codec(dialled: bool) -> Http {
    let addr = "192.0.2.1:6346".parse().unwrap();
    let peer = match dialled {
        true => TcpPeer::Dialled { addr, number: 1 },
        false => TcpPeer::Accepted { addr, number: 1 },
    };
    HttpCodec::new(peer, GnutellaCodec::new(peer))
}

fn decode(codec: &mut Http, bytes: &[u8]) -> Result<Vec<Msg>, Malformed> {
    let mut input = BytesMut::from(bytes);
    let mut came = Vec::new();
    while let Some(msg) = codec.decode(&mut input, &mut BytesMut::new())? {
        came.push(msg);
    }
    Ok(came)
}

fn encode(codec: &mut Http, msg: Transfer) -> (String, After) {
    let mut out = BytesMut::new();
    let after = codec.encode(SharingMsg::Transfer(msg), &mut out);
    (String::from_utf8(out.to_vec()).unwrap(), after)
}

fn by_number(index: u32, name: &str) -> Wanted {
    Wanted { hash: None, index, name: name.into(), size: 0 }
}

const URN: &str = "urn:sha1:PLSTHIPQGSSZTS5FJUPAKUZWUGYQYPFB";

fn by_hash() -> Wanted {
    Wanted { hash: Some(URN.parse().unwrap()), index: 0, name: String::new(), size: 0 }
}

fn got(wanted: Wanted, start: u64, end: u64) -> Msg {
    SharingMsg::Transfer(Transfer::Get { id: 1, wanted, start, end })
}

/// The example of RFC-Gnutella 0.6 §2.8.1.
#[test]
fn a_request_is_read_as_the_specification_has_it() {
    let request = b"GET /get/2468/Foobar.mp3 HTTP/1.1\r\nUser-Agent: Gnutella\r\n\
        Host: 123.123.123.123:6346\r\nConnection: Keep-Alive\r\nRange: bytes=0-\r\n\r\n";
    let mut server = codec(false);
    assert_eq!(decode(&mut server, request), Ok(vec![got(by_number(2468, "Foobar.mp3"), 0, u64::MAX)]));
    let data = Bytes::from_static(b"abcdef");
    let part = Transfer::Part { id: 1, at: 0, end: 6, size: 6, hash: Some(URN.parse().unwrap()), data };
    let (answer, after) = encode(&mut server, part);
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nServer: {AGENT}\r\nConnection: Keep-Alive\r\n\
         Content-Type: application/binary\r\nContent-Length: 6\r\nContent-Range: bytes 0-5/6\r\n\
         X-Gnutella-Content-URN: {URN}\r\n\r\nabcdef"
    );
    assert_eq!((answer, after), (head, After::Open));
}

/// HUGE 0.94's form; and a client of HTTP/1.0 that wants all of it.
#[test]
fn a_request_may_name_the_content() {
    let mut server = codec(false);
    let request = format!("GET /uri-res/N2R?{URN} HTTP/1.0\r\n\r\n");
    assert_eq!(decode(&mut server, request.as_bytes()), Ok(vec![got(by_hash(), 0, u64::MAX)]));
    let data = Bytes::from_static(b"abc");
    let part = |at, data| Transfer::Part { id: 1, at, end: 6, size: 6, hash: None, data };
    let (first, after) = encode(&mut server, part(0, data.clone()));
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n") && first.ends_with("\r\n\r\nabc"), "{first}");
    assert!(!first.contains("Content-Range") && after == After::Open);
    assert_eq!(encode(&mut server, part(3, data)), ("abc".into(), After::Close));
}

#[test]
fn whoever_asks_for_the_head_gets_that_of_the_whole() {
    let mut server = codec(false);
    let request = b"HEAD /get/1/a HTTP/1.1\r\nRange: bytes=5-\r\n\r\n";
    assert_eq!(decode(&mut server, request), Ok(vec![got(by_number(1, "a"), 0, 1)]));
    let data = Bytes::from_static(b"a");
    let part = Transfer::Part { id: 1, at: 0, end: 1, size: 600, hash: None, data };
    let (head, after) = encode(&mut server, part);
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nContent-Length: 600\r\n"),
        "{head}"
    );
    assert!(head.ends_with("\r\n\r\n") && after == After::Open, "no body, and the next request may come");
    let next = decode(&mut server, b"GET /get/1/a HTTP/1.1\r\n\r\n").unwrap();
    assert!(matches!(next[..], [SharingMsg::Transfer(Transfer::Get { id: 2, .. })]), "{next:?}");
}

#[test]
fn names_may_be_encoded_or_not() {
    for path in ["/get/1/a%20b%c3%A9.mp3", "/get/1/a bé.mp3", "/get/1/a%20bé.mp3"] {
        let request = format!("GET {path} HTTP/1.1\r\n\r\n");
        assert_eq!(
            decode(&mut codec(false), request.as_bytes()),
            Ok(vec![got(by_number(1, "a bé.mp3"), 0, u64::MAX)]),
            "{path}"
        );
    }
}

#[test]
fn a_refusal_says_why() {
    let cases = [
        (Refusal::Missing, "404 Not Found", "Content-Length: 0\r\n\r\n"),
        (Refusal::Busy { seconds: 7 }, "503 Busy", "Retry-After: 7\r\n\r\n"),
        (
            Refusal::Range { size: 9 },
            "416 Requested Range Not Satisfiable",
            "Content-Range: bytes */9\r\n\r\n",
        ),
    ];
    for (why, status, end) in cases {
        let mut server = codec(false);
        decode(&mut server, b"GET /get/1/x HTTP/1.1\r\nRange: bytes=5-\r\n\r\n").unwrap();
        let (answer, after) = encode(&mut server, Transfer::No { id: 1, why });
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")) && answer.ends_with(end), "{answer}");
        assert_eq!(after, After::Open, "the connection is kept");
        // Another request may follow.
        assert_eq!(decode(&mut server, b"GET /get/1/x HTTP/1.1\r\n\r\n").unwrap().len(), 1);
    }
}

#[test]
fn a_client_asks_for_a_range_and_takes_what_comes() {
    let mut client = codec(true);
    let wanted = Wanted { name: "a b&.mp3".into(), ..by_number(3, "") };
    let (request, _) = encode(&mut client, Transfer::Get { id: 77, wanted, start: 10, end: 20 });
    let expected = format!(
        "GET /get/3/a%20b%26.mp3 HTTP/1.1\r\nHost: 192.0.2.1:6346\r\nUser-Agent: {AGENT}\r\n\
         Connection: Keep-Alive\r\nRange: bytes=10-19\r\n\r\n"
    );
    assert_eq!(request, expected);
    let answer = b"HTTP/1.1 206 Partial Content\r\nServer: Gnutella\r\nContent-length: 10\r\n\
        Content-range: bytes=10-19/4356789\r\n\r\n0123456789";
    let part = |id, at, end, size, data: &'static [u8]| {
        SharingMsg::Transfer(Transfer::Part { id, at, end, size, hash: None, data: Bytes::from_static(data) })
    };
    assert_eq!(decode(&mut client, answer), Ok(vec![part(77, 10, 20, 4_356_789, b"0123456789")]));
    // The next request on the same connection, by content; the answer is that of one who knows no ranges.
    let (request, _) = encode(&mut client, Transfer::Get { id: 78, wanted: by_hash(), start: 0, end: 3 });
    assert!(request.starts_with(&format!("GET /uri-res/N2R?{URN} HTTP/1.1\r\n")), "{request}");
    let answer = b"HTTP 200 OK\r\nContent-Length: 5\r\n\r\nabcde";
    assert_eq!(decode(&mut client, answer), Ok(vec![part(78, 0, 5, 5, b"abcde")]));
}

#[test]
fn what_a_client_is_refused_is_told_after_the_explanation() {
    let cases: [(&[u8], Refusal); 4] = [
        (
            b"HTTP/1.1 503 Busy\r\nRetry-After: 30\r\nContent-Length: 4\r\n\r\nbusy",
            Refusal::Busy { seconds: 30 },
        ),
        (b"HTTP/1.0 503 Upload slots full\r\n\r\n", Refusal::Busy { seconds: 5 }),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", Refusal::Missing),
        (b"HTTP/1.1 416 No\r\nContent-Range: bytes */7\r\n\r\n", Refusal::Range { size: 0 }),
    ];
    for (answer, why) in cases {
        let mut client = codec(true);
        encode(&mut client, Transfer::Get { id: 5, wanted: by_hash(), start: 0, end: 3 });
        let no = SharingMsg::Transfer(Transfer::No { id: 5, why });
        assert_eq!(decode(&mut client, answer), Ok(vec![no]), "{:?}", String::from_utf8_lossy(answer));
    }
}

/// After GIV the file goes from who has dialled to who was dialled.
#[test]
fn after_giv_the_other_side_asks() {
    let (mut giver, mut asker) = (codec(true), codec(false));
    let give = GnutellaMsg::Give { index: 36, servent: Guid([0x81; 16]), name: "Foobar.mp3".into() };
    let mut line = BytesMut::new();
    giver.encode(SharingMsg::Search(give.clone()), &mut line);
    assert_eq!(&line[..], b"GIV 36:81818181818181818181818181818181/Foobar.mp3\n\n");
    assert_eq!(decode(&mut asker, &line), Ok(vec![SharingMsg::Search(give)]));
    let wanted = by_number(36, "Foobar.mp3");
    let (request, _) = encode(&mut asker, Transfer::Get { id: 9, wanted: wanted.clone(), start: 0, end: 2 });
    assert_eq!(decode(&mut giver, request.as_bytes()), Ok(vec![got(wanted, 0, 2)]));
    let data = Bytes::from_static(b"ab");
    let part = |id| Transfer::Part { id, at: 0, end: 2, size: 7, hash: None, data: data.clone() };
    let (answer, _) = encode(&mut giver, part(1));
    assert_eq!(decode(&mut asker, answer.as_bytes()), Ok(vec![SharingMsg::Transfer(part(9))]));
}

#[test]
fn one_port_serves_greetings_and_requests() {
    let greeting = decode(&mut codec(false), b"GNUTELLA CONNECT/0.4\n\n");
    assert_eq!(greeting, Ok(vec![SharingMsg::Search(GnutellaMsg::Connect)]));
}

#[test]
fn what_is_no_request_or_answer_is_refused() {
    let endless = [b"GET /get/1/".to_vec(), vec![b'x'; MAX_HEAD]].concat();
    let wrong: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"HEAD / HTTP/1.1\r\n\r\n",
        b"GET /get/-1/x HTTP/1.1\r\n\r\n",
        b"GET /get/1/x\r\n\r\n",
        b"GET /uri-res/N2R?urn:sha1:x HTTP/1.1\r\n\r\n",
        b"GET /get/1/x HTTP/1.1\r\n\r\nGET /get/1/x HTTP/1.1\r\n\r\n",
        &endless,
    ];
    for bytes in wrong {
        assert!(decode(&mut codec(false), bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
    }
    let wrong: [&[u8]; 6] = [
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nContent-Range: bytes 5-3/9\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nContent-Length: 1\r\nContent-Range: bytes 0-3/9\r\n\r\n",
        b"HTTP/1.1 404 No\r\nContent-Length: 99999999\r\n\r\n",
    ];
    for bytes in wrong {
        let mut client = codec(true);
        encode(&mut client, Transfer::Get { id: 5, wanted: by_hash(), start: 0, end: 3 });
        assert!(decode(&mut client, bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
    }
    assert!(decode(&mut codec(false), b"GIV 1:short/x\n\n").is_err());
}

proptest! {
    /// A request and its answer arrive as they were, wherever the stream is cut.
    #[test]
    fn requests_and_answers_arrive(
        name in "[^\\p{C}]{1,60}",
        index: u32,
        start in 0u64..1000,
        data in prop::collection::vec(any::<u8>(), 1..300),
        more in 0u64..500,
        cut in 0usize..400,
    ) {
        let (mut client, mut server) = (codec(true), codec(false));
        let wanted = by_number(index, &name);
        let end = start + data.len() as u64;
        let (request, _) = encode(&mut client, Transfer::Get { id: 4, wanted: wanted.clone(), start, end });
        prop_assert_eq!(decode(&mut server, request.as_bytes()), Ok(vec![got(wanted, start, end)]));
        let part = |id| Transfer::Part {
            id, at: start, end, size: end + more, hash: None, data: data.clone().into(),
        };
        let mut out = BytesMut::new();
        server.encode(SharingMsg::Transfer(part(1)), &mut out);
        let (mut came, mut input) = (Vec::new(), BytesMut::new());
        let cut = cut.min(out.len());
        for bytes in [&out[..cut], &out[cut..]] {
            input.extend_from_slice(bytes);
            while let Some(msg) = client.decode(&mut input, &mut BytesMut::new()).unwrap() {
                came.push(msg);
            }
        }
        prop_assert_eq!(came, vec![SharingMsg::Transfer(part(4))]);
    }

    #[test]
    fn any_bytes_are_survived(
        begin in prop::sample::select(vec!["", "GET /get/", "HTTP/1.1 206 ", "GIV 1:"]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        dialled: bool,
    ) {
        let mut codec = codec(dialled);
        if dialled {
            encode(&mut codec, Transfer::Get { id: 5, wanted: by_hash(), start: 0, end: 3 });
        }
        let _ = decode(&mut codec, &[begin.as_bytes(), &bytes].concat());
    }
}
