//! Proof of work (Nakamoto 2008, §4, after Back's Hashcash).

use std::marker::PhantomData;

use p2p_core::Key;
use ruint::aliases::U256;

use super::{Consensus, Fault, MEDIAN_SPAN, Past, Retarget, check_height, check_not_ahead};
use crate::header::{Header, WorkHeader};
use crate::target::Compact;

/// By how many seconds the clocks of honest nodes may differ.
const CLOCKS_DIFFER: u64 = 5;

/// Proof of work in headers of format `H`, which decides the hash: BLAKE3 for [`BlockHeader`](crate::BlockHeader), SHA-256
/// twice for [`BitcoinHeader`](crate::BitcoinHeader).
#[derive(Debug)]
pub struct ProofOfWork<H> {
    /// The highest target, and the first header's.
    pub limit: Compact,
    /// How many seconds are to be between headers.
    pub spacing: u64,
    /// How the target follows the work that is put in.
    pub retarget: Retarget,
    /// How many seconds a header's time may be ahead of ours. What this allows a miner can take off the work of the headers after
    /// his: with ASERT, as much as if his had been so late, so it is to be small beside the half-life.
    pub ahead: u64,
    format: PhantomData<fn() -> H>,
}

// By hand: it needs nothing of `H`.
impl<H> Clone for ProofOfWork<H> {
    fn clone(&self) -> Self {
        ProofOfWork { format: PhantomData, ..*self }
    }
}

impl<H: WorkHeader> ProofOfWork<H> {
    /// With this limit and spacing, by ASERT with a half-life of 288 spacings, two days of Bitcoin's, as Bitcoin Cash has
    /// it; times may be twelve spacings ahead, two hours of Bitcoin's.
    pub fn new(limit: Compact, spacing: u64) -> ProofOfWork<H> {
        let retarget = Retarget::Asert { half_life: spacing.saturating_mul(288) };
        ProofOfWork { limit, spacing, retarget, ahead: spacing.saturating_mul(12), format: PhantomData }
    }

    /// Bitcoin's: a limit of 2^224, ten minutes, every 2,016 blocks. Of its rules for headers only that of BIP 34, 65 and
    /// 66, which old versions are refused from certain heights on, is not here.
    pub fn bitcoin() -> ProofOfWork<H> {
        ProofOfWork::new(Compact(0x1d00_ffff), 600).retargeted(Retarget::Bitcoin { blocks: 2016 })
    }

    /// Those of Bitcoin's test network, the third: the same, but for a block of the least work when there is none for 20 minutes.
    pub fn testnet() -> ProofOfWork<H> {
        ProofOfWork::bitcoin().retargeted(Retarget::Testnet { blocks: 2016 })
    }

    /// Those of the fourth (BIP 94): such blocks make no others easy, and there is no time warp. What BIP 94 says of anything but
    /// headers is not here.
    pub fn testnet4() -> ProofOfWork<H> {
        ProofOfWork::bitcoin().retargeted(Retarget::Testnet4 { blocks: 2016 })
    }

    /// Those of Bitcoin's regression tests: one hash of two is enough, for ever.
    pub fn regtest() -> ProofOfWork<H> {
        ProofOfWork::new(Compact(0x207f_ffff), 600).retargeted(Retarget::Never)
    }

    /// The same with another way to follow the work that is put in. With ASERT times may then be ahead by an eighth of the half-life
    /// at most, which makes what follows 9 % easier; but always by 5 s, for clocks differ.
    pub fn retargeted(self, retarget: Retarget) -> ProofOfWork<H> {
        let ahead = match retarget {
            Retarget::Asert { half_life } => self.ahead.min((half_life / 8).max(CLOCKS_DIFFER)),
            Retarget::Never
            | Retarget::Bitcoin { .. }
            | Retarget::Testnet { .. }
            | Retarget::Testnet4 { .. }
            | Retarget::Window { .. } => self.ahead,
        };
        ProofOfWork { retarget, ahead, ..self }
    }

    /// The target of whatever comes next, if that has this time.
    pub fn next_bits(&self, past: &Past<'_, H>, time: u64) -> Compact {
        self.retarget.next(self.limit, self.spacing, past, time)
    }

    /// Tries up to `attempts` nonces from `from` on; whether one of them is good, which is then in the header.
    pub fn mine(&self, header: &mut H, from: u64, attempts: u64) -> bool {
        let Some(target) = header.bits().target() else { return false };
        (0..attempts).any(|attempt| {
            header.set_nonce(from.wrapping_add(attempt));
            number(header) <= target
        })
    }
}

/// A header's hash as a number.
fn number<H: Header>(header: &H) -> U256 {
    U256::from_be_bytes(*header.id().0.as_bytes())
}

impl<H: WorkHeader> Consensus for ProofOfWork<H> {
    type Header = H;

    fn check_seal(&self, header: &H) -> Result<(), Fault> {
        let (target, limit) = (header.bits().target(), self.limit.target());
        let good = target.is_some_and(|target| Some(target) <= limit && number(header) <= target);
        good.then_some(()).ok_or(Fault::NoWork)
    }

    fn check(&self, header: &H, past: &Past<'_, H>, now: u64) -> Result<(), Fault> {
        check_height(header, past)?;
        let (expected, found) = (self.next_bits(past, header.time()), header.bits());
        if found != expected {
            return Err(Fault::Bits { expected, found });
        }
        let earliest = past.median_time().saturating_add(1).max(self.retarget.earliest(past));
        if header.time() < earliest {
            return Err(Fault::TooOld { earliest, found: header.time() });
        }
        check_not_ahead(header, now, self.ahead)
    }

    fn reach(&self) -> u64 {
        self.retarget.reach().max(MEDIAN_SPAN)
    }

    fn work(&self, header: &H) -> U256 {
        header.bits().work()
    }

    fn draft(&self, past: &Past<'_, H>, root: Key, time: u64) -> H {
        H::draft(past.height() + 1, past.parent().id(), root, time, self.next_bits(past, time))
    }
}
