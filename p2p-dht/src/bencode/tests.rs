use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

/// A value as a tree, to compare with.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Dict(BTreeMap<Vec<u8>, Tree>),
}

impl Tree {
    fn of(value: Value<'_>) -> Tree {
        match value.kind() {
            Kind::Int => Tree::Int(value.as_int().unwrap()),
            Kind::Bytes => Tree::Bytes(value.as_bytes().unwrap().to_vec()),
            Kind::List => Tree::List(value.items().map(Tree::of).collect()),
            Kind::Dict => Tree::Dict(value.entries().map(|(k, v)| (k.to_vec(), Tree::of(v))).collect()),
        }
    }

    /// The encoding by the book, with the standard library's maps and numbers.
    fn encoded(&self) -> Vec<u8> {
        let string = |bytes: &[u8]| [bytes.len().to_string().as_bytes(), b":", bytes].concat();
        match self {
            Tree::Int(int) => format!("i{int}e").into_bytes(),
            Tree::Bytes(bytes) => string(bytes),
            Tree::List(items) => {
                let items: Vec<u8> = items.iter().flat_map(Tree::encoded).collect();
                [b"l", items.as_slice(), b"e"].concat()
            }
            Tree::Dict(entries) => {
                let entries: Vec<u8> =
                    entries.iter().flat_map(|(k, v)| [string(k), v.encoded()].concat()).collect();
                [b"d", entries.as_slice(), b"e"].concat()
            }
        }
    }

    fn put_in(&self, l: &mut ListWriter<'_>) {
        match self {
            Tree::Int(int) => l.int(*int),
            Tree::Bytes(bytes) => l.bytes(bytes),
            Tree::List(items) => l.list(|l| items.iter().for_each(|item| item.put_in(l))),
            Tree::Dict(entries) => l.dict(|d| entries.iter().rev().for_each(|(k, v)| v.put_under(k, d))),
        }
    }

    fn put_under(&self, key: &[u8], d: &mut DictWriter<'_>) {
        match self {
            Tree::Int(int) => d.int(key, *int),
            Tree::Bytes(bytes) => d.bytes(key, bytes),
            Tree::List(items) => d.list(key, |l| items.iter().for_each(|item| item.put_in(l))),
            Tree::Dict(entries) => d.dict(key, |d| entries.iter().for_each(|(k, v)| v.put_under(k, d))),
        }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![any::<i64>().prop_map(Tree::Int), vec(any::<u8>(), 0..12).prop_map(Tree::Bytes)];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Tree::List),
            btree_map(vec(any::<u8>(), 0..4), inner, 0..6).prop_map(Tree::Dict),
        ]
    })
}

proptest! {
    #[test]
    fn every_value_is_read_as_it_was_written_and_written_in_order(tree in trees()) {
        let canonical = tree.encoded();
        let written = list(|l| tree.put_in(l));
        prop_assert_eq!(&written[1..written.len() - 1], canonical.as_slice());
        let value = Value::decode(&canonical).unwrap();
        prop_assert_eq!(Tree::of(value), tree);
    }

    #[test]
    fn a_prefix_ends_where_the_value_ends(tree in trees(), behind in vec(any::<u8>(), 1..8)) {
        let encoded = tree.encoded();
        let both = [encoded.as_slice(), &behind].concat();
        prop_assert_eq!(Value::decode_prefix(&both).unwrap().raw(), encoded.as_slice());
        let error = Value::decode(&both).unwrap_err();
        prop_assert_eq!(error, Malformed { at: encoded.len(), flaw: Flaw::Trailing });
    }

    #[test]
    fn whatever_is_cut_off_says_so(tree in trees(), cut in any::<proptest::sample::Index>()) {
        let encoded = tree.encoded();
        let error = Value::decode(&encoded[..cut.index(encoded.len())]).unwrap_err();
        prop_assert_eq!(error.flaw, Flaw::Truncated);
    }

    /// Nearly all bytes are no value, so these come from bencode's own alphabet.
    #[test]
    fn whatever_is_accepted_is_the_only_encoding(bytes in "[ilde0-3:ab-]{0,24}") {
        if let Ok(value) = Value::decode(bytes.as_bytes()) {
            prop_assert_eq!(Tree::of(value).encoded(), bytes.as_bytes());
        }
        if let Ok(value) = Value::decode_unsorted(bytes.as_bytes()) {
            prop_assert_eq!(value.raw(), bytes.as_bytes());
        }
    }
}

fn flaw(bytes: &str) -> Flaw {
    Value::decode(bytes.as_bytes()).unwrap_err().flaw
}

#[test]
fn a_number_has_one_form() {
    for wrong in ["ie", "i-e", "i-0e", "i01e", "i-01e", "i+1e", "i1.0e", "i 1e", "i9223372036854775808e"] {
        assert_eq!(flaw(wrong), Flaw::Int, "{wrong}");
    }
    for right in [i64::MIN, -1, 0, 1, i64::MAX] {
        assert_eq!(Value::decode(&int(right)).unwrap().as_int(), Some(right));
    }
    for wrong in ["01:a", "00:", "1a", "99999999999999999999999:a", "9223372036854775808:a"] {
        assert_eq!(flaw(wrong), Flaw::Length, "{wrong}");
    }
    // A length that no memory has is a string that is cut off, not an allocation.
    assert_eq!(flaw("9223372036854775807:a"), Flaw::Truncated);
}

#[test]
fn keys_are_strings_in_order_each_once() {
    assert_eq!(flaw("di1ei2ee"), Flaw::Key);
    assert_eq!(flaw("dle0:e"), Flaw::Key);
    assert_eq!(flaw("d1:b0:1:a0:e"), Flaw::KeyOrder);
    assert_eq!(flaw("d1:a0:1:a0:e"), Flaw::KeyOrder);
    assert_eq!(flaw("d1:ae"), Flaw::NoValue { byte: b'e' });
    assert_eq!(flaw("e"), Flaw::NoValue { byte: b'e' });
    let unsorted = Value::decode_unsorted(b"d1:b1:x1:a1:y1:b1:ze").unwrap();
    assert_eq!(unsorted.get("b").unwrap().as_bytes(), Some(b"x".as_slice()));
    assert_eq!(unsorted.get("a").unwrap().as_bytes(), Some(b"y".as_slice()));
}

#[test]
fn a_key_that_is_written_twice_has_the_later_value() {
    let written = dict(|d| {
        d.int("b", 1);
        d.int("a", 2);
        d.int("b", 3);
    });
    assert_eq!(written, b"d1:ai2e1:bi3ee");
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    let nested = |depth| [vec![b'l'; depth], vec![b'e'; depth]].concat();
    assert!(Value::decode(&nested(MAX_DEPTH)).is_ok());
    let error = Value::decode(&nested(MAX_DEPTH + 1)).unwrap_err();
    assert_eq!(error, Malformed { at: MAX_DEPTH, flaw: Flaw::TooDeep });
    assert_eq!(Value::decode(&vec![b'd'; 1 << 20]).unwrap_err().flaw, Flaw::Key);
    assert_eq!(Value::decode(&vec![b'l'; 1 << 20]).unwrap_err().flaw, Flaw::TooDeep);
}

#[test]
fn questions_to_the_wrong_kind_have_no_answer() {
    let value = Value::decode(b"l1:ae").unwrap();
    assert_eq!((value.as_int(), value.as_bytes(), value.get("a")), (None, None, None));
    assert_eq!(value.entries().count(), 0);
    assert_eq!(Value::decode(b"i1e").unwrap().items().count(), 0);
    assert_eq!(Value::decode(b"3:abc").unwrap().as_array::<2>(), None);
    assert_eq!(Value::decode(b"3:abc").unwrap().as_array::<3>(), Some(b"abc"));
}
