//! Values that others keep, for a while, so that those who ask for them on the way need not go further.
//!
//! Only values under their hash: they are what they are, whoever gives them, and never outdated. A cache is no store. It is not
//! written down, nobody counts on it, and no copy in it lasts longer than the record, nor than the time for which it was
//! given.

use std::collections::BTreeMap;

use bytes::Bytes;
use p2p_core::{Key, Time};

/// What a value takes beside its own bytes.
const OVERHEAD: usize = 128;

/// The values that were asked for last: at most so many bytes of them.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    room: u64,
    bytes: u64,
    values: BTreeMap<Key, Cached>,
    /// When each was wanted last: the first goes first.
    wanted: BTreeMap<u64, Key>,
    turn: u64,
}

/// A value in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cached {
    pub(super) value: Bytes,
    /// When the record ends, in seconds since the Unix epoch.
    pub(super) expires: u64,
    /// When it leaves the cache.
    pub(super) until: Time,
    turn: u64,
}

fn size(value: &Bytes) -> u64 {
    (value.len() + OVERHEAD) as u64
}

impl Cache {
    /// With room for so many bytes.
    pub(super) fn new(room: u64) -> Cache {
        Cache { room, bytes: 0, values: BTreeMap::new(), wanted: BTreeMap::new(), turn: 0 }
    }

    /// Whether there is room for anything at all.
    pub(super) fn is_on(&self) -> bool {
        self.room > 0
    }

    /// The value with this hash, if it is here and has not ended.
    pub(super) fn get(&mut self, key: &Key, now: Time, wall: u64) -> Option<&Cached> {
        let cached = self.values.get(key)?;
        if cached.until <= now || cached.expires <= wall {
            self.remove(key);
            return None;
        }
        let cached = self.values.get_mut(key)?;
        self.wanted.remove(&cached.turn);
        self.turn += 1;
        cached.turn = self.turn;
        self.wanted.insert(self.turn, *key);
        Some(cached)
    }

    /// Keeps a value; those that nobody has asked for longest make room. Whatever was known of it before, what is said last
    /// counts, but it never stays longer.
    pub(super) fn put(&mut self, key: Key, value: Bytes, expires: u64, until: Time) {
        let size = size(&value);
        if size > self.room || self.values.get(&key).is_some_and(|cached| cached.until >= until) {
            return;
        }
        self.remove(&key);
        while self.bytes + size > self.room
            && let Some((_, oldest)) = self.wanted.first_key_value()
        {
            let oldest = *oldest;
            self.remove(&oldest);
        }
        self.turn += 1;
        self.wanted.insert(self.turn, key);
        self.values.insert(key, Cached { value, expires, until, turn: self.turn });
        self.bytes += size;
    }

    fn remove(&mut self, key: &Key) {
        if let Some(cached) = self.values.remove(key) {
            self.wanted.remove(&cached.turn);
            self.bytes -= size(&cached.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use p2p_core::Rng;
    use proptest::prelude::*;

    use super::*;

    const HOUR: Time = Time::from_nanos(3_600_000_000_000);

    fn value(len: usize) -> Bytes {
        vec![0; len].into()
    }

    #[test]
    fn what_was_not_asked_for_longest_makes_room() {
        let mut cache = Cache::new(3 * (100 + OVERHEAD as u64));
        let keys = [1, 2, 3, 4].map(|i: u8| Key::of(&[i]));
        keys[..3].iter().for_each(|key| cache.put(*key, value(100), 10, HOUR));
        assert!(cache.get(&keys[0], Time::ZERO, 0).is_some());
        cache.put(keys[3], value(100), 10, HOUR);
        let there = keys.map(|key| cache.get(&key, Time::ZERO, 0).is_some());
        assert_eq!(there, [true, false, true, true]);
        // What is larger than all the room drives nothing out.
        cache.put(Key::of(b"large"), value(1000), 10, HOUR);
        assert_eq!(cache.values.len(), 3);
    }

    #[test]
    fn it_leaves_at_its_time_and_when_the_record_ends() {
        let key = Key::of(b"key");
        for (now, wall, there) in [(Time::ZERO, 9, true), (HOUR, 9, false), (Time::ZERO, 10, false)] {
            let mut cache = Cache::new(1000);
            cache.put(key, value(1), 10, HOUR);
            assert_eq!(cache.get(&key, now, wall).is_some(), there);
            assert_eq!(cache.bytes == 0, !there, "what has ended takes no room");
        }
    }

    proptest! {
        #[test]
        fn it_takes_no_more_than_its_room(seed: u64, room in 0u64..2000) {
            let (mut cache, mut rng) = (Cache::new(room), Rng::new(seed));
            for _ in 0..200 {
                let key = Key::of(&[rng.below(20) as u8]);
                let until = Time::ZERO + Duration::from_secs(rng.below(100));
                cache.put(key, value(rng.index(400)), rng.below(100), until);
                let _ = cache.get(&key, Time::ZERO + Duration::from_secs(rng.below(100)), rng.below(100));
                let bytes: u64 = cache.values.values().map(|cached| size(&cached.value)).sum();
                prop_assert!(bytes == cache.bytes && bytes <= room);
                prop_assert_eq!(cache.wanted.len(), cache.values.len());
            }
        }
    }
}
