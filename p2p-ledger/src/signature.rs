//! Signatures that every node judges alike.
//!
//! RFC 8032 lets implementations differ: on keys and points of small order, on encodings that are not canonical, and
//! between checking one signature and checking many together, by an equation with or without the cofactor. On a chain
//! such a difference splits it (Chalkias, Garillot, Nikolaenko 2020). ZIP 215 fixes one rule, with the cofactor, under
//! which a batch is good if and only if each of its signatures is.
//!
//! - [`Checks`] are what a transaction or block needs checked; whoever walks it only collects them.
//! - A [`Verifier`] checks them, in batches, on as many threads as it is given, and remembers good ones: a block's
//!   transactions have mostly been seen before. It never remembers bad ones, so nothing can be slandered.
//!
//! A batch needs numbers that whoever wrote the signatures could not foresee. There is no random source here: they are
//! drawn from a hash of the whole batch under the verifier's own secret, as if from a random oracle.

use std::collections::BTreeSet;
use std::convert::Infallible;

use ed25519_zebra::{Signature, VerificationKey, VerificationKeyBytes, batch};
use p2p_core::Key;
use rand_core::{TryCryptoRng, TryRng};

use crate::id::{Kind, PublicKey, TxId};

/// How many bytes are signed, at most: a tag and a hash.
const MESSAGE: usize = 48;

/// What a spender signs.
pub(crate) fn spend_message(id: TxId) -> [u8; MESSAGE] {
    message(b"p2p-ledger spend", &id.0)
}

/// What anybody signs: which kind of thing, and its hash.
pub(crate) fn message(what: &[u8; 16], hash: &Key) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    message[..16].copy_from_slice(what);
    message[16..].copy_from_slice(hash.as_bytes());
    message
}

/// A signature to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// By whom.
    pub key: PublicKey,
    /// The signature.
    pub signature: [u8; 64],
    message: [u8; MESSAGE],
}

impl Check {
    /// Whether it is good, checked alone.
    pub fn verify(&self) -> bool {
        let signature = Signature::from_bytes(&self.signature);
        VerificationKey::try_from(self.key.0).is_ok_and(|key| key.verify(&signature, &self.message).is_ok())
    }

    fn digest(&self, secret: &[u8; 32]) -> Key {
        let mut bytes = [0; 32 + 64 + MESSAGE];
        bytes[..32].copy_from_slice(&self.key.0);
        bytes[32..96].copy_from_slice(&self.signature);
        bytes[96..].copy_from_slice(&self.message);
        Key::new(*blake3::keyed_hash(secret, &bytes).as_bytes())
    }
}

/// Signatures that something needs checked. How many there can be is bounded by the size of a block.
#[derive(Clone, Debug, Default)]
pub struct Checks(Vec<Check>);

impl Checks {
    /// A signature by `key` of the transaction `id`.
    pub(crate) fn spend(&mut self, key: PublicKey, id: TxId, signature: [u8; 64]) {
        self.add(key, spend_message(id), signature);
    }

    pub(crate) fn add(&mut self, key: PublicKey, message: [u8; MESSAGE], signature: [u8; 64]) {
        self.0.push(Check { key, signature, message });
    }

    /// A signature by `key` of the hash of a thing of an application's own kind, which `what` names: for state machines
    /// that are written elsewhere.
    pub fn of(&mut self, key: PublicKey, what: &[u8; 16], hash: &Key, signature: [u8; 64]) {
        self.add(key, message(what, hash), signature);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A hash of them all.
    pub(crate) fn digest(&self) -> Key {
        let mut hasher = blake3::Hasher::new();
        for Check { key, signature, message } in &self.0 {
            hasher.update(&key.0).update(signature).update(message);
        }
        Key::new(*hasher.finalize().as_bytes())
    }

    /// Whether all are good, each checked alone.
    pub fn verify_each(&self) -> bool {
        self.0.iter().all(Check::verify)
    }
}

/// Checks signatures, many at a time.
#[derive(Clone, Debug)]
pub struct Verifier {
    secret: [u8; 32],
    threads: usize,
    good: [BTreeSet<Key>; 2],
    half: usize,
    checked: u64,
}

/// Below this a batch is not worth another thread.
const PER_THREAD: usize = 32;

impl Verifier {
    /// One that checks on the caller's thread and remembers the last 65,536 good signatures, or half of them: 4 MiB.
    /// The secret is any 32 bytes that others do not know.
    pub fn new(secret: [u8; 32]) -> Verifier {
        Verifier { secret, threads: 1, good: Default::default(), half: 1 << 15, checked: 0 }
    }

    /// With so many threads for large batches.
    pub fn threads(self, threads: usize) -> Verifier {
        Verifier { threads: threads.max(1), ..self }
    }

    /// Remembering at most so many good signatures.
    pub fn remembering(self, most: usize) -> Verifier {
        Verifier { half: most.div_ceil(2), ..self }
    }

    /// How many signatures it has checked: those that it remembered do not count.
    pub fn checked(&self) -> u64 {
        self.checked
    }

    /// Something that others cannot know; it is no part of a batch, whose digests are of other lengths.
    pub(crate) fn secret(&self, of: &[u8]) -> [u8; 32] {
        let key = blake3::keyed_hash(&self.secret, b"what others cannot know");
        *blake3::keyed_hash(key.as_bytes(), of).as_bytes()
    }

    /// Whether all are good. Then they are remembered.
    pub fn verify(&mut self, checks: &Checks) -> bool {
        let known = |digest: &Key| self.good.iter().any(|good| good.contains(digest));
        let digests = checks.0.iter().map(|check| (check.digest(&self.secret), check));
        let new: Vec<(Key, &Check)> = digests.filter(|(digest, _)| !known(digest)).collect();
        let good = self.verify_new(&new);
        self.checked += new.len() as u64;
        if good {
            new.iter().for_each(|(digest, _)| self.remember(*digest));
        }
        good
    }

    fn verify_new(&self, new: &[(Key, &Check)]) -> bool {
        let threads = self.threads.min(new.len() / PER_THREAD).max(1);
        if threads == 1 {
            return verify_batch(&self.secret, new);
        }
        std::thread::scope(|scope| {
            let parts = new.chunks(new.len().div_ceil(threads));
            let running: Vec<_> =
                parts.map(|part| scope.spawn(|| verify_batch(&self.secret, part))).collect();
            running.into_iter().all(|part| part.join().unwrap_or(false))
        })
    }

    fn remember(&mut self, digest: Key) {
        if self.half == 0 {
            return;
        }
        if self.good[0].len() >= self.half {
            self.good[1] = std::mem::take(&mut self.good[0]);
        }
        self.good[0].insert(digest);
    }
}

fn verify_batch(secret: &[u8; 32], new: &[(Key, &Check)]) -> bool {
    if let [(_, alone)] = new {
        return alone.verify();
    }
    let mut coefficients = Kind::Signatures.hasher();
    coefficients.update(secret);
    let mut batch = batch::Verifier::new();
    for (digest, check) in new {
        coefficients.update(digest.as_bytes());
        let key = VerificationKeyBytes::from(check.key.0);
        batch.queue((key, Signature::from_bytes(&check.signature), &check.message));
    }
    batch.verify(Drawn(coefficients.finalize_xof())).is_ok()
}

/// The numbers of one batch.
struct Drawn(blake3::OutputReader);

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

impl TryCryptoRng for Drawn {}

#[cfg(test)]
mod tests;
