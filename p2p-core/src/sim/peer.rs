//! A simulated peer's name.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::rng::mix;
use crate::{Contact, Key, Keyed, PeerId, Subnet};

/// A peer of the simulator, numbered from 0 as they are spawned. On the wire it is as long as a [`Contact`], so
/// that simulated bandwidth is real.
///
/// Its key is as good as chance, unless it [crowds](SimPeer::crowding): an adversary has tried ids until one was where it
/// wanted to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimPeer(pub u32);

impl SimPeer {
    /// The first of those that share their [subnet](Keyed::subnet) with others.
    pub const FIRST_IN_SHARED_SUBNET: SimPeer = SimPeer(1 << 14);

    /// The key around which some crowd.
    pub const CROWDED: Key = Key::new([0x5a; 32]);

    /// The peer with this number, below 2^31, if its key has the first 24 bits of [`SimPeer::CROWDED`]: an id takes 16.8 million
    /// tries for that. In a network of 10,000 nobody else's has, in 1,669 cases of 1,670.
    pub const fn crowding(number: u32) -> SimPeer {
        SimPeer(number | CROWDS)
    }

    /// Its place in the simulator's tables: its number.
    pub fn index(self) -> usize {
        (self.0 & !CROWDS) as usize
    }
}

/// The bit that tells those who crowd.
const CROWDS: u32 = 1 << 31;
/// How many bytes of their keys are the crowded one's.
const TRIED: usize = 3;

impl Keyed for SimPeer {
    /// Scattered as if by a hash, and no two alike, but cheaper: a simulation asks for keys more often than for anything
    /// else.
    #[inline]
    fn key(&self) -> Key {
        let mut key = [0; 32];
        for (i, word) in (1..).zip(key.chunks_exact_mut(8)) {
            word.copy_from_slice(&mix(WEYL.wrapping_mul(4 * u64::from(self.0) + i)).to_be_bytes());
        }
        if self.0 & CROWDS != 0 {
            key[..TRIED].copy_from_slice(&SimPeer::CROWDED.as_bytes()[..TRIED]);
        }
        Key::new(key)
    }

    /// Each of the first 16,384 has one of its own; of those after them 256 share one.
    fn subnet(&self) -> Option<Subnet> {
        let number = self.index() as u32;
        let shared = number.checked_sub(SimPeer::FIRST_IN_SHARED_SUBNET.0);
        let address = shared.map_or(number << 8, |i| i.wrapping_add(1 << 24));
        Some(Subnet::of(Ipv4Addr::from_bits(address).into()))
    }
}

/// SplitMix64's step: keys are what that generator gives, four words each.
const WEYL: u64 = 0x9e37_79b9_7f4a_7c15;

impl fmt::Display for SimPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Debug for SimPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SimPeer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.0.serialize(serializer);
        }
        let mut id = [0; 32];
        id[..4].copy_from_slice(&self.0.to_be_bytes());
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Contact::new(PeerId::from_bytes(id), nowhere).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SimPeer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SimPeer, D::Error> {
        if deserializer.is_human_readable() {
            return u32::deserialize(deserializer).map(SimPeer);
        }
        let contact = Contact::deserialize(deserializer)?;
        let [a, b, c, d, ..] = *contact.id.as_bytes();
        Ok(SimPeer(u32::from_be_bytes([a, b, c, d])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_crowds_is_near_the_crowded_key_and_has_a_place_and_an_address_as_others_do() {
        for number in [0, 7, 20_000] {
            let (plain, crowding) = (SimPeer(number), SimPeer::crowding(number));
            assert_eq!((crowding.index(), crowding.subnet()), (plain.index(), plain.subnet()));
            assert!(crowding.key().common_prefix(&SimPeer::CROWDED) >= 24);
            assert!(plain.key().common_prefix(&SimPeer::CROWDED) < 24);
        }
        assert_ne!(SimPeer::crowding(1).key(), SimPeer::crowding(2).key());
    }
}
