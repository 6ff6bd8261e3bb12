//! Names: what a user is called, and how that is certified.

use std::fmt;
use std::time::Duration;

use p2p_core::{Keypair, PeerId};
use serde::{Deserialize, Serialize};

use crate::signing::{Signature, Signing};

/// The longest user name, in bytes.
pub const MAX_USER: usize = 32;

/// Whether a user may be called so: 1 to [`MAX_USER`] small letters, digits, dots, hyphens and underscores of ASCII, a
/// letter first. So no two names differ in nothing but how they are written.
pub fn is_user_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    (1..=MAX_USER).contains(&name.len())
        && name.bytes().all(allowed)
        && name.starts_with(|first: char| first.is_ascii_lowercase())
}

/// A login server says that a name belongs to a key, for some time. Whoever knows the server's public key can check it.
///
/// ```
/// use p2p_core::Keypair;
/// use p2p_overlay::Certificate;
/// use std::time::Duration;
///
/// let (server, ada) = (Keypair::generate(), Keypair::generate());
/// let certificate = Certificate::new(&server, "ada", ada.id(), 2_000_000_000);
/// assert!(certificate.is_genuine(&server.id(), Duration::from_secs(1_999_999_999)));
/// assert!(!certificate.is_genuine(&server.id(), Duration::from_secs(2_000_000_000)), "its time is over");
/// assert!(!certificate.is_genuine(&ada.id(), Duration::ZERO), "another server's");
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    name: String,
    key: PeerId,
    expires: u64,
    signature: Signature,
}

impl Certificate {
    /// A server certifies that this user has this key, until so many seconds after the Unix epoch.
    pub fn new(server: &Keypair, name: impl Into<String>, key: PeerId, expires: u64) -> Certificate {
        let unsigned = Certificate { name: name.into(), key, expires, signature: Signature::NONE };
        Certificate { signature: Signature::new(server, unsigned.signing()), ..unsigned }
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The user's key.
    pub fn key(&self) -> PeerId {
        self.key
    }

    /// When it ends, in seconds since the Unix epoch.
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// Whether this server has signed it, and its time is not over.
    pub fn is_genuine(&self, server: &PeerId, wall: Duration) -> bool {
        is_user_name(&self.name)
            && self.expires > wall.as_secs()
            && self.signature.is_by(server, self.signing())
    }

    fn signing(&self) -> Signing {
        Signing::new("skype", "certificate").text(&self.name).key(&self.key).number(self.expires)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} is {:?} until {})", self.name, self.key, self.expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_any_field_breaks_the_signature() {
        let [server, ada, eve] = [1, 2, 3].map(|seed| Keypair::from_seed(&[seed; 32]));
        let good = Certificate::new(&server, "ada", ada.id(), 1000);
        let genuine =
            |certificate: &Certificate| certificate.is_genuine(&server.id(), Duration::from_secs(999));
        assert!(genuine(&good));
        assert!(!genuine(&Certificate { name: "eve".into(), ..good.clone() }));
        assert!(!genuine(&Certificate { key: eve.id(), ..good.clone() }));
        assert!(!genuine(&Certificate { expires: 1001, ..good.clone() }));
        assert!(!genuine(&Certificate::new(&eve, "ada", eve.id(), 1000)));
        assert!(!genuine(&Certificate::new(&server, "Ada", ada.id(), 1000)), "no name, whoever signs it");
    }

    #[test]
    fn names_are_written_in_one_way() {
        for name in ["ada", "a", "ada.lovelace-1_x"] {
            assert!(is_user_name(name), "{name}");
        }
        let long = "a".repeat(MAX_USER + 1);
        for name in ["", "Ada", "1ada", ".ada", "a da", "ädä", "ada\n", &long] {
            assert!(!is_user_name(name), "{name}");
        }
    }
}
