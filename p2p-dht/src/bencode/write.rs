//! Writing bencode. What comes out is always canonical: a dictionary whose keys did not come in order is sorted when it is
//! closed, and of two entries with one key the later stays.

use super::{Items, Value};

/// Writes a dictionary's entries: see [`dict`].
#[derive(Debug)]
pub struct DictWriter<'o> {
    out: &'o mut Vec<u8>,
    /// Where the entries begin.
    start: usize,
    /// Where the last entry begins.
    last: Option<usize>,
    sorted: bool,
}

/// Writes a list's items: see [`list`].
#[derive(Debug)]
pub struct ListWriter<'o> {
    out: &'o mut Vec<u8>,
}

/// An integer.
pub fn int(value: i64) -> Vec<u8> {
    let mut out = Vec::new();
    put_int(&mut out, value);
    out
}

/// A byte string.
pub fn bytes(value: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, value.as_ref());
    out
}

/// A list.
pub fn list(write: impl FnOnce(&mut ListWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    put_list(&mut out, write);
    out
}

/// A dictionary.
pub fn dict(write: impl FnOnce(&mut DictWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    dict_into(&mut out, write);
    out
}

/// A dictionary, after what is in `out` already.
pub fn dict_into(out: &mut Vec<u8>, write: impl FnOnce(&mut DictWriter<'_>)) {
    out.push(b'd');
    let start = out.len();
    let mut writer = DictWriter { out, start, last: None, sorted: true };
    write(&mut writer);
    if !writer.sorted {
        writer.sort();
    }
    out.push(b'e');
}

impl DictWriter<'_> {
    /// An integer.
    pub fn int(&mut self, key: impl AsRef<[u8]>, value: i64) {
        self.key(key.as_ref());
        put_int(self.out, value);
    }

    /// A byte string.
    pub fn bytes(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.key(key.as_ref());
        put_bytes(self.out, value.as_ref());
    }

    /// A value as it was read.
    pub fn value(&mut self, key: impl AsRef<[u8]>, value: Value<'_>) {
        self.key(key.as_ref());
        self.out.extend_from_slice(value.raw());
    }

    /// A list.
    pub fn list(&mut self, key: impl AsRef<[u8]>, write: impl FnOnce(&mut ListWriter<'_>)) {
        self.key(key.as_ref());
        put_list(self.out, write);
    }

    /// A dictionary.
    pub fn dict(&mut self, key: impl AsRef<[u8]>, write: impl FnOnce(&mut DictWriter<'_>)) {
        self.key(key.as_ref());
        dict_into(self.out, write);
    }

    fn key(&mut self, key: &[u8]) {
        let last = self.last.and_then(|last| Items(&self.out[last..]).next()?.as_bytes());
        self.sorted &= last.is_none_or(|last| last < key);
        self.last = Some(self.out.len());
        put_bytes(self.out, key);
    }

    fn sort(self) {
        let written = self.out.split_off(self.start);
        let mut items = Items(&written);
        let mut entries = Vec::new();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            entries.push((key.as_bytes(), key.raw(), value.raw()));
        }
        // Stable: of equal keys the later comes last.
        entries.sort_by_key(|(key, ..)| *key);
        for (i, (key, raw, value)) in entries.iter().enumerate() {
            if entries.get(i + 1).is_none_or(|(next, ..)| next != key) {
                self.out.extend_from_slice(raw);
                self.out.extend_from_slice(value);
            }
        }
    }
}

impl ListWriter<'_> {
    /// An integer.
    pub fn int(&mut self, value: i64) {
        put_int(self.out, value);
    }

    /// A byte string.
    pub fn bytes(&mut self, value: impl AsRef<[u8]>) {
        put_bytes(self.out, value.as_ref());
    }

    /// A value as it was read.
    pub fn value(&mut self, value: Value<'_>) {
        self.out.extend_from_slice(value.raw());
    }

    /// A list.
    pub fn list(&mut self, write: impl FnOnce(&mut ListWriter<'_>)) {
        put_list(self.out, write);
    }

    /// A dictionary.
    pub fn dict(&mut self, write: impl FnOnce(&mut DictWriter<'_>)) {
        dict_into(self.out, write);
    }
}

fn put_int(out: &mut Vec<u8>, value: i64) {
    out.push(b'i');
    put_decimal(out, value.unsigned_abs(), value < 0);
    out.push(b'e');
}

fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_decimal(out, value.len() as u64, false);
    out.push(b':');
    out.extend_from_slice(value);
}

fn put_list(out: &mut Vec<u8>, write: impl FnOnce(&mut ListWriter<'_>)) {
    out.push(b'l');
    write(&mut ListWriter { out });
    out.push(b'e');
}

fn put_decimal(out: &mut Vec<u8>, mut value: u64, negative: bool) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    if negative {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[first..]);
}
