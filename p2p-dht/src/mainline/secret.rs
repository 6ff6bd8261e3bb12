//! What others must not guess: the tokens that they have to show, and the numbers that an answer has to repeat.
//!
//! A machine's own random source is made for runs that can be repeated. Live it begins with 64 bits, and what it gives after
//! that is the node's id, which everybody sees: whoever tries all beginnings knows what it has given before. So a live
//! node has 32 bytes of the operating system's, and a key from them for each purpose.

use std::fmt;

/// 32 bytes that nobody else knows. They are not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// From the operating system's random source.
    ///
    /// # Panics
    /// If the operating system has no random numbers to give.
    pub fn generate() -> Secret {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the operating system gives no random numbers");
        Secret(secret)
    }

    /// These bytes.
    pub const fn new(secret: [u8; 32]) -> Secret {
        Secret(secret)
    }

    /// A key for one purpose: it says nothing of the secret, nor of other keys.
    pub fn key(&self, purpose: &'static str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
