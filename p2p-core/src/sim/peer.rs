//! A simulated peer's name.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::rng::mix;
use crate::{Contact, Key, Keyed, PeerId, Subnet};

/// A peer of the simulator, numbered from 0 as they are spawned. On the wire it is as long as a [`Contact`], so
/// that simulated bandwidth is real.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimPeer(pub u32);

impl SimPeer {
    /// The first of those that share their [subnet](Keyed::subnet) with others.
    pub const FIRST_IN_SHARED_SUBNET: SimPeer = SimPeer(1 << 14);

    /// Its place in the simulator's tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl Keyed for SimPeer {
    /// Scattered as if by a hash, and no two alike, but cheaper: a simulation asks for keys more often than for anything
    /// else.
    #[inline]
    fn key(&self) -> Key {
        let mut key = [0; 32];
        for (i, word) in (1..).zip(key.chunks_exact_mut(8)) {
            word.copy_from_slice(&mix(WEYL.wrapping_mul(4 * u64::from(self.0) + i)).to_be_bytes());
        }
        Key::new(key)
    }

    /// Each of the first 16,384 has one of its own; of those after them 256 share one.
    fn subnet(&self) -> Option<Subnet> {
        let shared = self.0.checked_sub(SimPeer::FIRST_IN_SHARED_SUBNET.0);
        let address = shared.map_or(self.0 << 8, |i| i.wrapping_add(1 << 24));
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
