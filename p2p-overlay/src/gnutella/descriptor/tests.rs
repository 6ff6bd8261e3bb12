use super::*;
use p2p_core::PeerId;
use proptest::prelude::*;

/// Captures, written by hand after Clip2's tables: 16 bytes of identifier, kind, TTL, hops, length, payload.
fn capture(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

const ID: &str = "0102030405060708 FF0A0B0C0D0E0F00";

fn id() -> Guid {
    Guid([1, 2, 3, 4, 5, 6, 7, 8, 0xff, 10, 11, 12, 13, 14, 15, 0])
}

fn check(hex: &str, ttl: u8, hops: u8, payload: Payload) {
    let bytes = capture(&format!("{ID} {hex}"));
    let descriptor = Descriptor { id: id(), ttl, hops, payload };
    let mut out = BytesMut::new();
    descriptor.encode(&mut out);
    assert_eq!(out, bytes, "encoded");
    assert_eq!(descriptor.wire_size(), bytes.len());
    let mut input = BytesMut::from(&bytes[..]);
    let decoded = Descriptor::decode(&mut input).unwrap().unwrap();
    assert_eq!((&decoded, input.len()), (&descriptor, 0), "decoded");
    if let (Payload::Pong(a), Payload::Pong(b)) = (&decoded.payload, &descriptor.payload) {
        assert_eq!(a.contact.addr, b.contact.addr, "contacts are equal by their ids");
    }
    for cut in 0..bytes.len() {
        assert_eq!(Descriptor::decode(&mut BytesMut::from(&bytes[..cut])), Ok(None), "{cut}");
    }
}

#[test]
fn a_ping_is_a_header() {
    check("00 07 00 00000000", 7, 0, Payload::Ping { extension: Bytes::new() });
}

#[test]
fn a_pong_names_an_address() {
    // Port 6346 is 0x18CA, and comes little-endian; 208.17.50.4 is the specification's example (§3, note 2).
    let contact = foreign(Ipv4Addr::new(208, 17, 50, 4), 6346);
    let pong = Pong { contact, files: 258, kilobytes: 70_000, extension: Bytes::new() };
    check("01 03 04 0E000000 CA18 D0113204 02010000 70110100", 3, 4, Payload::Pong(pong));
}

#[test]
fn a_query_is_a_speed_and_a_text() {
    let query = Payload::Query { min_speed: 56, criteria: "foo bar".into(), extension: Bytes::new() };
    check("80 07 00 0A000000 3800 666F6F20626172 00", 7, 0, query);
}

#[test]
fn what_follows_a_query_is_kept() {
    let query =
        Payload::Query { min_speed: 0, criteria: "a".into(), extension: Bytes::from_static(b"urn:\0") };
    check("80 01 06 09000000 0000 61 00 75726E3A00", 1, 6, query);
}

#[test]
fn a_query_hit_lists_files() {
    // The result is the specification's own (§5): 2468 is 0x9A4, 4,356,789 is 0x427AB5.
    let results = vec![
        Shared { index: 2468, size: 4_356_789, name: "Foobar.mp3".into(), extension: Bytes::new() },
        Shared { index: 1, size: 2, name: "b".into(), extension: "urn:".into() },
    ];
    let contact = foreign(Ipv4Addr::new(10, 0, 0, 1), 6346);
    let servent = Guid([0xaa; 16]);
    let extension = Bytes::from_static(b"TEST\x02\x01\x01");
    let hit = QueryHit { contact, speed: 300, results, extension, servent };
    let hex = "81 02 00 45000000 02 CA18 0A000001 2C010000 \
        A4090000 B57A4200 466F6F6261722E6D7033 00 00 \
        01000000 02000000 62 00 75726E3A 00 \
        54455354020101 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    check(hex, 2, 0, Payload::QueryHit(hit));
}

#[test]
fn a_push_says_where_to() {
    let contact = foreign(Ipv4Addr::new(192, 0, 2, 7), 80);
    let push = Payload::Push { servent: Guid([0xaa; 16]), index: 2468, contact, extension: Bytes::new() };
    check("40 03 00 1A000000 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA A4090000 C0000207 5000", 3, 0, push);
}

#[test]
fn a_bye_has_a_reason() {
    check("02 01 00 03000000 627965", 1, 0, Payload::Bye { reason: "bye".into() });
}

#[test]
fn extensions_that_nobody_has_to_know_are_passed_over() {
    let bytes = capture(&format!("{ID} 31 01 00 04000000 01020304 {ID} 00 01 00 00000000"));
    let mut input = BytesMut::from(&bytes[..]);
    let ping = Descriptor::decode(&mut input).unwrap().unwrap();
    assert_eq!((ping.payload, input.len()), (Payload::Ping { extension: Bytes::new() }, 0));
}

#[test]
fn bytes_that_are_no_descriptor_are_refused() {
    let refused = [
        ("an unknown kind", "55 07 00 00000000"),
        ("a payload of 64 KiB and one", "00 07 00 01000100"),
        ("a short pong", "01 07 00 0D000000 CA18 D0113204 02010000 701101"),
        ("a query without an end", "80 07 00 04000000 0000 6161"),
        (
            "a hit that claims more results than there are",
            "81 07 00 1B000000 05 CA18 0A000001 00000000 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ),
        ("a hit without a servent", "81 07 00 0B000000 00 CA18 0A000001 00000000"),
        ("a short push", "40 03 00 04000000 00000000"),
    ];
    for (what, hex) in refused {
        let bytes = capture(&format!("{ID} {hex}"));
        assert!(Descriptor::decode(&mut BytesMut::from(&bytes[..])).is_err(), "{what}");
    }
}

#[test]
fn who_is_not_on_ipv4_is_nowhere() {
    let contact = Contact::new(PeerId::from_bytes([7; 32]), "[2001:db8::1]:6346".parse().unwrap());
    assert_eq!(address(&contact), (Ipv4Addr::UNSPECIFIED, 0));
}

fn any_text() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(1u8..=255, 0..40).prop_map(Bytes::from)
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn any_contact() -> impl Strategy<Value = Contact> {
    (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| foreign(ip.into(), port))
}

fn any_payload() -> impl Strategy<Value = Payload> {
    let guid = || any::<[u8; 16]>().prop_map(Guid);
    let shared = (any::<u32>(), any::<u32>(), any_text(), any_text())
        .prop_map(|(index, size, name, extension)| Shared { index, size, name, extension });
    prop_oneof![
        any_bytes().prop_map(|extension| Payload::Ping { extension }),
        (any_contact(), any::<u32>(), any::<u32>(), any_bytes()).prop_map(
            |(contact, files, kilobytes, extension)| Payload::Pong(Pong {
                contact,
                files,
                kilobytes,
                extension
            })
        ),
        (any::<u16>(), any_text(), any_bytes()).prop_map(|(min_speed, criteria, extension)| Payload::Query {
            min_speed,
            criteria,
            extension
        }),
        (any_contact(), any::<u32>(), prop::collection::vec(shared, 0..5), any_bytes(), guid()).prop_map(
            |(contact, speed, results, extension, servent)| {
                Payload::QueryHit(QueryHit { contact, speed, results, extension, servent })
            }
        ),
        (guid(), any::<u32>(), any_contact(), any_bytes()).prop_map(
            |(servent, index, contact, extension)| Payload::Push { servent, index, contact, extension }
        ),
        any_bytes().prop_map(|reason| Payload::Bye { reason }),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(payload in any_payload(), ttl in any::<u8>(), hops in any::<u8>()) {
        let descriptor = Descriptor { id: id(), ttl, hops, payload };
        prop_assert!(descriptor.is_sound());
        let mut bytes = BytesMut::new();
        descriptor.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), descriptor.wire_size());
        bytes.put_u8(9);
        prop_assert_eq!(Descriptor::decode(&mut bytes), Ok(Some(descriptor)));
        prop_assert_eq!(bytes.len(), 1);
    }

    #[test]
    fn any_bytes_are_decoded_to_what_encodes_to_them(
        kind in prop::sample::select(vec![PING, PONG, QUERY, QUERY_HIT, PUSH, BYE]),
        payload in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&[7; 16]);
        bytes.put_slice(&[kind, 1, 2]);
        bytes.put_u32_le(payload.len() as u32);
        bytes.put_slice(&payload);
        if let Ok(Some(descriptor)) = Descriptor::decode(&mut bytes.clone()) {
            let mut again = BytesMut::new();
            descriptor.encode(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}
