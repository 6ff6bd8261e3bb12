//! Presence: what users say of themselves, signed.

use std::fmt;
use std::time::Duration;

use p2p_core::{Contact, Keypair, PeerId, Wire};
use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use crate::search::Item;
use crate::signing::{Signature, Signing};

/// How many super-nodes a user names at most.
pub const MAX_THROUGH: usize = 3;
/// The longest profile, in bytes.
pub const MAX_PROFILE: usize = 256;
/// How far clocks may differ, in seconds.
const SKEW: u64 = 60;

/// Where and how a user is reached, for a while. Of two with one key the one with the higher sequence number counts.
/// Only the user can make one, or make it last longer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    certificate: Certificate,
    whereabouts: Whereabouts,
    sequence: u64,
    expires: u64,
    signature: Signature,
}

/// What a user says in a [`Presence`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// The user's node: who it is, and where it is dialled if it accepts connections.
    pub contact: Contact,
    /// Whether it accepts connections.
    pub open: bool,
    /// The super-nodes that are connected to it, at most [`MAX_THROUGH`].
    pub through: Vec<Contact>,
    /// Whether the user is there. Who goes says so.
    pub online: bool,
    /// What else the user is found by, beside the name: a full name, a town, what there is to be had. At most
    /// [`MAX_PROFILE`] bytes.
    pub profile: String,
}

impl Wire for Presence {
    const MAX_BYTES: usize = 2048;
}

impl Presence {
    /// The user of this certificate says so, until so many seconds after the Unix epoch.
    pub fn new(
        keypair: &Keypair,
        certificate: Certificate,
        mut whereabouts: Whereabouts,
        sequence: u64,
        expires: u64,
    ) -> Presence {
        whereabouts.through.truncate(MAX_THROUGH);
        let unsigned = Presence { certificate, whereabouts, sequence, expires, signature: Signature::NONE };
        Presence { signature: Signature::new(keypair, unsigned.signing()), ..unsigned }
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        self.certificate.name()
    }

    /// The user's key.
    pub fn key(&self) -> PeerId {
        self.certificate.key()
    }

    /// What the user says.
    pub fn whereabouts(&self) -> &Whereabouts {
        &self.whereabouts
    }

    /// The higher, the newer.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// When it ends, in seconds since the Unix epoch.
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// Whether its time is over.
    pub fn is_over(&self, wall: Duration) -> bool {
        self.expires <= wall.as_secs()
    }

    /// The user as an item: found by the words of the name, and of the profile.
    pub(super) fn item(&self) -> Item {
        let metadata = vec![("profile".to_owned(), self.whereabouts.profile.clone())];
        Item { metadata, ..Item::new(self.name(), 0) }
    }

    /// The user's certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Whether this server certifies the user, the user has signed all this, and it neither is over nor lasts longer
    /// than it may. Two signatures are checked.
    pub fn is_genuine(&self, server: &PeerId, wall: Duration, lifetime: Duration) -> bool {
        self.certificate.is_genuine(server, wall) && self.is_sound(wall, lifetime)
    }

    /// The same for who has checked the certificate before.
    pub(super) fn is_sound(&self, wall: Duration, lifetime: Duration) -> bool {
        let latest = wall.as_secs().saturating_add(lifetime.as_secs()).saturating_add(SKEW);
        !self.is_over(wall)
            && self.expires <= latest
            && self.certificate.expires() > wall.as_secs()
            && self.whereabouts.through.len() <= MAX_THROUGH
            && self.whereabouts.profile.len() <= MAX_PROFILE
            && self.signature.is_by(&self.key(), self.signing())
    }

    fn signing(&self) -> Signing {
        let Whereabouts { contact, open, through, online, profile } = &self.whereabouts;
        let signing = Signing::new("skype", "presence")
            .text(self.name())
            .key(&self.key())
            .contact(contact)
            .number((*open).into())
            .number((*online).into())
            .text(profile)
            .number(self.sequence)
            .number(self.expires)
            .number(through.len() as u64);
        through.iter().fold(signing, |signing, contact| signing.contact(contact))
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Whereabouts { contact, online, .. } = &self.whereabouts;
        let there = if *online { "at" } else { "gone from" };
        write!(f, "Presence({} {there} {contact:?}, {} until {})", self.name(), self.sequence, self.expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::SimPeer;

    use crate::place::Place;

    const LIFE: Duration = Duration::from_secs(100);

    #[test]
    fn nobody_else_says_where_a_user_is() {
        let [server, ada, eve] = [1, 2, 3].map(|seed| Keypair::from_seed(&[seed; 32]));
        let certificate = Certificate::new(&server, "ada", ada.id(), 5000);
        let contact = |peer: u32| SimPeer(peer).contact().unwrap();
        let there = |peer| Whereabouts {
            contact: contact(peer),
            open: true,
            through: vec![],
            online: true,
            profile: "Ada, London".into(),
        };
        let good = Presence::new(&ada, certificate.clone(), there(1), 7, 1000);
        let genuine = |presence: &Presence| presence.is_genuine(&server.id(), Duration::from_secs(950), LIFE);
        assert!(genuine(&good));
        assert!(!good.is_genuine(&server.id(), Duration::from_secs(1000), LIFE), "it is over");
        assert!(!good.is_genuine(&server.id(), Duration::from_secs(839), LIFE), "it lasts too long");
        let hidden = Whereabouts { open: false, ..there(1) };
        let elsewhere = Whereabouts { through: vec![contact(9)], ..there(1) };
        let gone = Whereabouts { online: false, ..there(1) };
        let renamed = Whereabouts { profile: "Ada, Paris".into(), ..there(1) };
        for whereabouts in [there(2), hidden, elsewhere, gone, renamed] {
            assert!(!genuine(&Presence { whereabouts, ..good.clone() }));
        }
        assert!(!genuine(&Presence { sequence: 8, ..good.clone() }));
        assert!(!genuine(&Presence { expires: 1001, ..good.clone() }));
        assert!(!genuine(&Presence::new(&eve, certificate, there(3), 8, 1000)));
    }
}
