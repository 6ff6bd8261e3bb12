//! Rings: somebody calls, and says how the call could be made.

use std::time::Duration;

use p2p_core::{Contact, Keypair, PeerId};
use serde::{Deserialize, Serialize};

use super::presence::Presence;
use super::ticket::Ticket;
use crate::signing::{Signature, Signing};

/// How old a ring may be, and how far clocks may differ.
const FRESH: Duration = Duration::from_secs(60);

/// A call, as it comes to whom it is for: from the caller, or through super-nodes, who cannot make one up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    call: u64,
    caller: Presence,
    to: PeerId,
    /// Milliseconds since the Unix epoch.
    made: u64,
    offer: CallOffer,
    signature: Signature,
}

/// How a call could be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallOffer {
    /// The caller has connected.
    Direct,
    /// The other is to connect to the caller.
    Reverse,
    /// Both are to come to a relay.
    Relay {
        /// Which super-node.
        relay: Contact,
        /// What it promises.
        ticket: Box<Ticket>,
    },
}

impl Ring {
    pub(super) fn new(
        keypair: &Keypair,
        call: u64,
        caller: Presence,
        to: PeerId,
        wall: Duration,
        offer: CallOffer,
    ) -> Ring {
        let made = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        let unsigned = Ring { call, caller, to, made, offer, signature: Signature::NONE };
        Ring { signature: Signature::new(keypair, unsigned.signing()), ..unsigned }
    }

    /// Its number.
    pub fn call(&self) -> u64 {
        self.call
    }

    /// Who calls, as far as that is true.
    pub fn caller(&self) -> &Presence {
        &self.caller
    }

    /// How the call could be made.
    pub fn offer(&self) -> &CallOffer {
        &self.offer
    }

    /// Whether it is for this user, and was made just now. Costs nothing.
    pub(super) fn is_for(&self, key: &PeerId, wall: Duration) -> bool {
        self.to == *key && Duration::from_millis(self.made).abs_diff(wall) < FRESH
    }

    /// Whether the caller has signed it; that the caller is who it says, is another question.
    pub(super) fn is_signed(&self) -> bool {
        self.signature.is_by(&self.caller.key(), self.signing())
    }

    fn signing(&self) -> Signing {
        let signing = Signing::new("skype", "ring").number(self.call).key(&self.to).number(self.made);
        match &self.offer {
            CallOffer::Direct => signing.number(0),
            CallOffer::Reverse => signing.number(1),
            CallOffer::Relay { relay, ticket } => signing.number(2).contact(relay).number(ticket.id()),
        }
    }
}
