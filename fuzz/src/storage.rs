//! What hash tables and the storage systems in them say and keep.

use p2p_core::{Contact, Wire};
use p2p_dht::archive::Version;
use p2p_dht::bencode::{self, Kind, Value};
use p2p_dht::cfs::Directory;
use p2p_dht::mainline::KrpcMsg;
use p2p_dht::past::PastMsg;
use p2p_dht::{DhtMsg, Record};
use p2p_overlay::{ChordMsg, PastryMsg, RoutedMsg};

use crate::decoded;

/// `Wire` of what the nodes of a hash table say to each other; and what is a record may be checked.
pub fn dht(bytes: &[u8]) {
    decoded::<DhtMsg<Contact, RoutedMsg<Contact, ChordMsg<Contact>>>>(bytes);
    if let Ok(DhtMsg::<Contact, ()>::Store { record, .. }) = DhtMsg::from_bytes(bytes) {
        let _: (Result<(), _>, _, _) = (Record::check(&record), record.slot(), record.version());
    }
}

/// A directory of CFS: what is accepted is written to the same directory.
pub fn cfs(bytes: &[u8]) {
    if let Ok(directory) = Directory::decode(bytes) {
        let again = directory.encode().expect("it is no longer than it was");
        assert_eq!(Directory::decode(&again).expect("what was encoded is a directory"), directory);
    }
}

/// `Wire` of what the nodes of PAST say to each other.
pub fn past(bytes: &[u8]) {
    decoded::<PastMsg<Contact, RoutedMsg<Contact, PastryMsg<Contact>>>>(bytes);
    if let Ok(PastMsg::<Contact, ()>::Store { certificate, content, .. }) = PastMsg::from_bytes(bytes) {
        let _ = (certificate.is_genuine(&content), certificate.file());
    }
}

/// A head of an archive.
pub fn archive(bytes: &[u8]) {
    decoded::<Version>(bytes);
    if let Ok(version) = Version::from_bytes(bytes) {
        let _ = (version.check().is_ok(), version.name());
    }
}

/// Bencode: what is accepted is written to the same bytes, and every value in it stands where it says.
pub fn bencode(bytes: &[u8]) {
    fn written(value: Value<'_>, l: &mut bencode::ListWriter<'_>) {
        match value.kind() {
            Kind::Int => l.int(value.as_int().expect("it is one")),
            Kind::Bytes => l.bytes(value.as_bytes().expect("it is one")),
            Kind::List => l.list(|l| value.items().for_each(|item| written(item, l))),
            Kind::Dict => l.dict(|d| value.entries().for_each(|(key, value)| d.value(key, value))),
        }
    }
    if let Ok(value) = Value::decode_prefix(bytes) {
        assert!(bytes.starts_with(value.raw()));
        let again = bencode::list(|l| written(value, l));
        assert_eq!(&again[1..again.len() - 1], value.raw());
    }
    if let Ok(value) = Value::decode_unsorted(bytes) {
        assert_eq!(value.raw(), bytes);
        let inside: usize = value.items().map(|item| item.raw().len()).sum();
        assert!(inside <= bytes.len());
    }
}

/// KRPC: what is read is written and read alike.
pub fn krpc(bytes: &[u8]) {
    if let Ok(msg) = KrpcMsg::decode(bytes) {
        let again = msg.to_bytes();
        let second = KrpcMsg::decode(&again).expect("what was written is a message");
        assert_eq!(second.to_bytes(), again);
    }
}
