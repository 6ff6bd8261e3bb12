//! What is signed, and by whom: bytes that cannot be taken for others, and a signature that travels in a message.

use std::fmt;
use std::net::SocketAddr;

use p2p_core::{Contact, Keypair, PeerId};
use serde::{Deserialize, Serialize};

/// An ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature(
    /// Serde knows arrays of up to 32 bytes.
    [[u8; 32]; 2],
);

impl Signature {
    /// What stands in its place while the rest is put together.
    pub(crate) const NONE: Signature = Signature([[0; 32]; 2]);

    pub(crate) fn new(keypair: &Keypair, signing: Signing) -> Signature {
        let signature = keypair.sign(&signing.0);
        let mut halves = [[0; 32]; 2];
        for (half, bytes) in halves.iter_mut().zip(signature.chunks_exact(32)) {
            half.copy_from_slice(bytes);
        }
        Signature(halves)
    }

    pub(crate) fn is_by(&self, key: &PeerId, signing: Signing) -> bool {
        let mut signature = [0; 64];
        for (half, bytes) in self.0.iter().zip(signature.chunks_exact_mut(32)) {
            bytes.copy_from_slice(half);
        }
        key.verify(&signing.0, &signature)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

/// Bytes to be signed: a tag that says what they are, then the fields, each of known length or behind its length. So no
/// two things have the same bytes.
pub(crate) struct Signing(Vec<u8>);

impl Signing {
    /// What somebody signs in this network.
    pub(crate) fn new(network: &str, tag: &str) -> Signing {
        Signing(Vec::with_capacity(256)).text("p2p-overlay").text(network).text(tag)
    }

    pub(crate) fn text(self, text: &str) -> Signing {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Signing {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn number(mut self, number: u64) -> Signing {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(crate) fn key(mut self, key: &PeerId) -> Signing {
        self.0.extend_from_slice(key.as_bytes());
        self
    }

    pub(crate) fn contact(mut self, contact: &Contact) -> Signing {
        self = self.key(&contact.id).number(contact.addr.port().into());
        match contact.addr {
            SocketAddr::V4(addr) => {
                self.0.push(4);
                self.0.extend_from_slice(&addr.ip().octets());
            }
            SocketAddr::V6(addr) => {
                self.0.push(6);
                self.0.extend_from_slice(&addr.ip().octets());
            }
        }
        self
    }

    /// Something that is signed itself.
    pub(crate) fn signature(mut self, signature: &Signature) -> Signing {
        signature.0.iter().for_each(|half| self.0.extend_from_slice(half));
        self
    }
}
