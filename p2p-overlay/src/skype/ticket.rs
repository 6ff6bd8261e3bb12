//! Tickets: what a super-node promises to relay, and for whom.

use std::fmt;
use std::time::Duration;

use p2p_core::{Keypair, PeerId};
use serde::{Deserialize, Serialize};

use crate::signing::{Signature, Signing};

/// A super-node relays frames between these two, so many bytes a second and in all, until its time is over. It signs
/// that itself, and so keeps nothing before both have come.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    id: u64,
    ends: [PeerId; 2],
    rate: u32,
    total: u64,
    expires: u64,
    signature: Signature,
}

impl Ticket {
    pub(super) fn new(
        relay: &Keypair,
        id: u64,
        ends: [PeerId; 2],
        rate: u32,
        total: u64,
        expires: u64,
    ) -> Ticket {
        let unsigned = Ticket { id, ends, rate, total, expires, signature: Signature::NONE };
        Ticket { signature: Signature::new(relay, unsigned.signing()), ..unsigned }
    }

    /// Its number, by which frames name it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The keys of the users between whom is relayed.
    pub fn ends(&self) -> [PeerId; 2] {
        self.ends
    }

    /// How many bytes a second each may send.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// How many bytes both may send in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// When it ends, in seconds since the Unix epoch.
    pub fn expires(&self) -> u64 {
        self.expires
    }

    fn signing(&self) -> Signing {
        let Ticket { id, ends, rate, total, expires, .. } = self;
        let signing = Signing::new("skype", "ticket").number(*id).key(&ends[0]).key(&ends[1]);
        signing.number((*rate).into()).number(*total).number(*expires)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ticket { id, rate, total, expires, .. } = self;
        write!(f, "Ticket({id:x}, {rate} bytes/s, {total} in all, until {expires})")
    }
}

/// One of the two that a ticket names comes to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayJoin {
    ticket: Ticket,
    key: PeerId,
    signature: Signature,
}

impl RelayJoin {
    pub(super) fn new(keypair: &Keypair, ticket: Ticket) -> RelayJoin {
        let unsigned = RelayJoin { ticket, key: keypair.id(), signature: Signature::NONE };
        RelayJoin { signature: Signature::new(keypair, unsigned.signing()), ..unsigned }
    }

    /// The ticket.
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Which of the two it is, if this relay has made the ticket, its time is not over, and it is one of them. Two
    /// signatures are checked.
    pub(super) fn end(&self, relay: &PeerId, wall: Duration) -> Option<usize> {
        let end = self.ticket.ends.iter().position(|key| *key == self.key)?;
        let genuine = self.ticket.expires > wall.as_secs()
            && self.ticket.signature.is_by(relay, self.ticket.signing())
            && self.signature.is_by(&self.key, self.signing());
        genuine.then_some(end)
    }

    fn signing(&self) -> Signing {
        Signing::new("skype", "join").signature(&self.ticket.signature).key(&self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_named_comes_in_with_what_the_relay_has_signed() {
        let [relay, ada, bob, eve] = [1, 2, 3, 4].map(|seed| Keypair::from_seed(&[seed; 32]));
        let ticket = Ticket::new(&relay, 7, [ada.id(), bob.id()], 1000, 5000, 100);
        let end = |join: &RelayJoin| join.end(&relay.id(), Duration::from_secs(99));
        assert_eq!(
            [&ada, &bob, &eve].map(|who| end(&RelayJoin::new(who, ticket.clone()))),
            [Some(0), Some(1), None]
        );
        let good = RelayJoin::new(&ada, ticket.clone());
        assert_eq!(good.end(&relay.id(), Duration::from_secs(100)), None, "its time is over");
        assert_eq!(good.end(&eve.id(), Duration::from_secs(99)), None, "another relay's");
        for forged in [
            Ticket { rate: 2000, ..ticket.clone() },
            Ticket { total: 6000, ..ticket.clone() },
            Ticket { expires: 101, ..ticket.clone() },
            Ticket { id: 8, ..ticket.clone() },
            Ticket { ends: [ada.id(), eve.id()], ..ticket.clone() },
        ] {
            assert_eq!(end(&RelayJoin::new(&ada, forged.clone())), None, "{forged:?}");
        }
        assert_eq!(end(&RelayJoin { key: bob.id(), ..good }), None, "with another's signature");
    }
}
