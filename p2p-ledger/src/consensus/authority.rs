//! Proof of authority: named signers in rotation, for a chain among parties who know each other. The rules are Clique's
//! (EIP-225): at each height one signer is in turn, and its header weighs two; where it is silent any other's weighs one.
//! Having signed, a signer waits until more than half of all have had their chance, so a minority never makes the
//! heavier chain.

use p2p_core::Key;
use ruint::aliases::U256;

use super::{Consensus, Fault, Past, check_height, check_not_ahead};
use crate::header::{BlockHeader, Endorsement, Header};
use crate::id::PublicKey;
use crate::signature::{Checks, message};

/// Named signers in rotation.
#[derive(Clone, Debug)]
pub struct ProofOfAuthority {
    /// The signers, in the order of their turns; at most 65,536.
    pub signers: Vec<PublicKey>,
    /// How many seconds at least are between headers.
    pub period: u64,
    /// How many seconds a header's time may be ahead of ours.
    pub ahead: u64,
}

impl ProofOfAuthority {
    /// These signers, a header every `period` seconds; times may be 15 seconds ahead.
    pub fn new(signers: impl IntoIterator<Item = PublicKey>, period: u64) -> ProofOfAuthority {
        ProofOfAuthority { signers: signers.into_iter().collect(), period, ahead: 15 }
    }

    /// Who is in turn at a height.
    pub fn in_turn(&self, height: u64) -> u16 {
        (height % self.signers.len().max(1) as u64) as u16
    }

    /// Signs a header that is complete but for its seal.
    pub fn sign(&self, header: &mut BlockHeader<Endorsement>, signer: u16, keypair: &p2p_core::Keypair) {
        header.seal.signer = signer;
        header.seal.signature = keypair.sign(&message(WHAT, &header.signed_hash()));
    }

    /// How many headers a signer waits from one of its own to the next: it signs at most one of so many.
    fn wait(&self) -> u64 {
        self.signers.len() as u64 / 2 + 1
    }
}

const WHAT: &[u8; 16] = b"p2p-ledger block";

impl Consensus for ProofOfAuthority {
    type Header = BlockHeader<Endorsement>;

    fn check_seal(&self, header: &Self::Header) -> Result<(), Fault> {
        let Endorsement { signer, signature } = header.seal;
        let key = self.signers.get(usize::from(signer)).ok_or(Fault::UnknownSigner(signer))?;
        let mut checks = Checks::default();
        checks.add(*key, message(WHAT, &header.signed_hash()), signature);
        checks.verify_each().then_some(()).ok_or(Fault::Signature(signer))
    }

    fn check(&self, header: &Self::Header, past: &Past<'_, Self::Header>, now: u64) -> Result<(), Fault> {
        check_height(header, past)?;
        let earliest = past.parent().time.saturating_add(self.period.max(1));
        if header.time < earliest {
            return Err(Fault::TooOld { earliest, found: header.time });
        }
        // The first header is nobody's.
        let first = (past.height() + 2).saturating_sub(self.wait()).max(1);
        let signer = header.seal.signer;
        let own = (first..=past.height()).rev().find(|height| past.header(*height).seal.signer == signer);
        if let Some(last) = own {
            return Err(Fault::TooSoon { signer, last, next: last + self.wait() });
        }
        check_not_ahead(header, now, self.ahead)
    }

    fn reach(&self) -> u64 {
        self.wait()
    }

    fn work(&self, header: &Self::Header) -> U256 {
        U256::from(1 + u8::from(self.in_turn(header.height) == header.seal.signer))
    }

    /// The signer.
    fn author(&self, header: &Self::Header) -> Option<u64> {
        Some(header.seal.signer.into())
    }

    /// To be [signed](ProofOfAuthority::sign).
    fn draft(&self, past: &Past<'_, Self::Header>, root: Key, time: u64) -> Self::Header {
        let height = past.height() + 1;
        let time = time.max(past.parent().time.saturating_add(self.period.max(1)));
        let seal = Endorsement { signer: self.in_turn(height), signature: [0; 64] };
        BlockHeader { height, previous: past.parent().id(), root, time, seal }
    }
}
