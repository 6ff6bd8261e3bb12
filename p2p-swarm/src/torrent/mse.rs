//! Message Stream Encryption: a connection whose bytes look like any other bytes.
//!
//! It has no BEP; what there is to know stands in the Azureus project's description, and in what programs do. It hides
//! from a network what goes through it, and proves nothing: whoever knows a swarm's name and sits between two peers can
//! read along.
//!
//! - `handshake` is the exchange: two public keys of Diffie and Hellman's, each followed by up to 512 bytes of nothing;
//!   the name of the swarm, hashed with the secret; what to use from then on.
//! - [`Rc4`] is the cipher, keyed by the secret and the swarm's name; its first 1,024 bytes are not used.
//! - [`Mse`] is what the codecs of one session know together.

mod handshake;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use p2p_dht::mainline::Secret;
use ruint::Uint;
use sha1::{Digest, Sha1};

use super::address::Addressed;
use super::metainfo::SwarmId;
use super::wire::PeerCodec;

pub(super) use handshake::{Accepting, Done, Initiating};

/// A number of 768 bits.
type Number = Uint<768, 12>;

/// How long a public key is, in bytes.
pub(super) const KEY: usize = 96;
/// The most bytes of nothing that may follow a key.
pub(super) const MAX_PAD: usize = 512;

/// The prime, of 768 bits: RFC 2409's first, but for its end.
const PRIME: [u64; 12] = [
    0x0000_0000_0009_0563,
    0xf44c_42e9_a63a_3621,
    0xe485_b576_625e_7ec6,
    0x4fe1_356d_6d51_c245,
    0x302b_0a6d_f25f_1437,
    0xef95_19b3_cd3a_431b,
    0x514a_0879_8e34_04dd,
    0x020b_bea6_3b13_9b22,
    0x2902_4e08_8a67_cc74,
    0xc4c6_628b_80dc_1cd1,
    0xc90f_daa2_2168_c234,
    0xffff_ffff_ffff_ffff,
];

/// Whether connections are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// None is, and those that others have encrypted are refused.
    Off,
    /// This end encrypts those that it makes, and makes them anew in the clear where the other end cannot; both kinds are
    /// let in.
    #[default]
    Preferred,
    /// All are, or they are closed.
    Required,
}

/// What is agreed to follow the handshake; each is a bit.
pub(super) mod method {
    pub(in super::super) const PLAIN: u32 = 1;
    pub(in super::super) const RC4: u32 = 2;
}

/// What the codecs of a session's connections know together: whether to encrypt, which swarms there are, and a secret from
/// which their keys come. Clones are the same one.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use p2p_core::Limits;
/// use p2p_core::net::tcp;
/// use p2p_dht::mainline::Secret;
/// use p2p_swarm::Files;
/// use p2p_swarm::torrent::{Encryption, FileTorrents, Mse, Session, SessionConfig};
///
/// let mse = Mse::new(Encryption::Preferred, &Secret::generate());
/// let codecs = mse.clone();
/// let session = tcp::spawn_at(
///     move |local| Session::encrypted(SessionConfig::default(), local.map(|addr| addr.port()), mse),
///     move |peer| codecs.codec(peer),
///     Some("0.0.0.0:6881".parse().unwrap()),
///     Limits::default(),
///     [FileTorrents::new(Files)],
/// )
/// .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Mse {
    policy: Encryption,
    key: [u8; 32],
    /// The session's swarms, by what a peer says of one: as many as it has.
    swarms: Arc<RwLock<BTreeMap<[u8; 20], SwarmId>>>,
}

impl fmt::Debug for Mse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mse").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Mse {
    /// For one session.
    pub fn new(policy: Encryption, secret: &Secret) -> Mse {
        Mse { policy, key: secret.key("p2p-swarm MSE"), swarms: Arc::default() }
    }

    /// Whether connections are encrypted.
    pub fn policy(&self) -> Encryption {
        self.policy
    }

    /// The codec of one connection.
    pub fn codec<P: Addressed>(&self, peer: P) -> PeerCodec {
        let mut hash = blake3::Hasher::new_keyed(&self.key);
        // A connection's name is never used again.
        hash.update(format!("{peer:?}").as_bytes());
        PeerCodec::with_encryption(self.clone(), Chance(hash.finalize_xof()), peer.dialled() == Some(true))
    }

    /// The session has a swarm now.
    pub(super) fn add(&self, swarm: SwarmId) {
        let mut swarms = self.swarms.write().unwrap_or_else(PoisonError::into_inner);
        swarms.insert(hash([b"req2", &swarm]), swarm);
    }

    /// It has it no more.
    pub(super) fn remove(&self, swarm: &SwarmId) {
        self.swarms.write().unwrap_or_else(PoisonError::into_inner).remove(&hash([b"req2", swarm]));
    }

    /// The swarm that a peer means.
    fn swarm(&self, hashed: &[u8; 20]) -> Option<SwarmId> {
        self.swarms.read().unwrap_or_else(PoisonError::into_inner).get(hashed).copied()
    }
}

/// One connection's random bytes.
pub(super) struct Chance(blake3::OutputReader);

impl fmt::Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chance(..)")
    }
}

impl Chance {
    /// A private key, of 160 bits.
    fn private(&mut self) -> Number {
        let mut bytes = [0; KEY];
        self.0.fill(&mut bytes[KEY - 20..]);
        Number::from_be_bytes(bytes)
    }

    /// Up to 512 bytes of nothing.
    fn pad(&mut self) -> Vec<u8> {
        let mut length = [0; 2];
        self.0.fill(&mut length);
        let mut pad = vec![0; usize::from(u16::from_be_bytes(length)) % (MAX_PAD + 1)];
        self.0.fill(&mut pad);
        pad
    }
}

/// What is sent of a private key.
fn public(private: Number) -> [u8; KEY] {
    Number::from(2).pow_mod(private, prime()).to_be_bytes()
}

/// What both ends know then.
fn shared(private: Number, theirs: [u8; KEY]) -> [u8; KEY] {
    Number::from_be_bytes(theirs).pow_mod(private, prime()).to_be_bytes()
}

fn prime() -> Number {
    Number::from_limbs(PRIME)
}

fn hash<const N: usize>(parts: [&[u8]; N]) -> [u8; 20] {
    let mut sha1 = Sha1::new();
    parts.iter().for_each(|part| sha1.update(part));
    sha1.finalize().into()
}

/// The cipher RC4, past its first 1,024 bytes.
#[derive(Clone)]
pub(super) struct Rc4 {
    state: [u8; 256],
    i: u8,
    j: u8,
}

impl fmt::Debug for Rc4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rc4(..)")
    }
}

impl Rc4 {
    fn from_key(key: &[u8]) -> Rc4 {
        let mut state: [u8; 256] = std::array::from_fn(|i| i as u8);
        let mut j = 0_u8;
        for i in 0..256 {
            j = j.wrapping_add(state[i]).wrapping_add(key[i % key.len()]);
            state.swap(i, j.into());
        }
        Rc4 { state, i: 0, j: 0 }
    }

    fn new(direction: &[u8], secret: &[u8; KEY], swarm: &SwarmId) -> Rc4 {
        let mut rc4 = Rc4::from_key(&hash([direction, secret, swarm]));
        rc4.apply(&mut [0; 1024]);
        rc4
    }

    /// Encrypts, or decrypts.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        let Rc4 { state, i, j } = self;
        for byte in bytes {
            *i = i.wrapping_add(1);
            let a = state[usize::from(*i)];
            *j = j.wrapping_add(a);
            let b = state[usize::from(*j)];
            state[usize::from(*i)] = b;
            state[usize::from(*j)] = a;
            *byte ^= state[usize::from(a.wrapping_add(b))];
        }
    }
}

#[cfg(test)]
mod tests;
