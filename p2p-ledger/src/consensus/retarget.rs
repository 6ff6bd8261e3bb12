//! How the target follows the work that is put in (Nakamoto 2008, §4: "a moving average targeting an average number of
//! blocks per hour").
//!
//! - [`Retarget::Bitcoin`]: every 2,016 blocks by the time that the last 2,016 took, but measured over 2,015 intervals,
//!   so that two windows share no interval. Whoever has most of the work can let the times of each window's last header
//!   run ahead and take the next window's first back, and drive the target up as he likes: the *time warp*.
//! - [`Retarget::Testnet`]: the same, but that a block may come with the least work when none has for twice the time that one should
//!   take; those after it go on with the target before it.
//! - [`Retarget::Testnet4`]: the same (BIP 94), but that a window's target follows from that of the first block of the one before,
//!   which is no easy one, so that an easy one at its end makes no others easy; and the first block of a window may be at most ten
//!   minutes older than the one before it, which leaves no room for a time warp.
//! - [`Retarget::Window`]: Bitcoin's with all intervals, each window beginning with the header that the last ended with.
//! - [`Retarget::Asert`]: at every block, by how far the chain is ahead of an ideal schedule; twice as hard for each
//!   half-life that it is. Nothing but the last header's time and height matters, so there is no window to play with; but a time
//!   that is a half-life ahead makes the next target twice as easy, so times may be ahead by a small part of it alone
//!   ([`ProofOfWork::ahead`](super::ProofOfWork::ahead)). The arithmetic is that of aserti3-2d (Bitcoin Cash, 2020), bit for bit.

use ruint::Uint;
use ruint::aliases::U256;

use super::Past;
use crate::header::WorkHeader;
use crate::target::Compact;

/// How many seconds the first header of a window may be older than the one before it, where there is to be no time warp (BIP 94).
const MAX_TIMEWARP: u64 = 600;

/// How the target follows the work that is put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retarget {
    /// It does not.
    Never,
    /// As Bitcoin does it.
    Bitcoin {
        /// How many blocks a window has. 2,016.
        blocks: u64,
    },
    /// As Bitcoin's test network does it, the third.
    Testnet {
        /// How many blocks a window has. 2,016.
        blocks: u64,
    },
    /// As the fourth does it (BIP 94).
    Testnet4 {
        /// How many blocks a window has. 2,016.
        blocks: u64,
    },
    /// Every so many blocks, by the time that they took; at most by a factor of four.
    Window {
        /// How many blocks a window has.
        blocks: u64,
    },
    /// At every block, on an exponential schedule that begins with the first header.
    Asert {
        /// How many seconds late or early halve or double the work.
        half_life: u64,
    },
}

impl Retarget {
    /// How many headers back it looks, beside the first.
    pub(crate) fn reach(self) -> u64 {
        match self {
            Retarget::Never | Retarget::Asert { .. } => 1,
            Retarget::Bitcoin { blocks } | Retarget::Testnet { blocks } | Retarget::Testnet4 { blocks } => {
                blocks
            }
            Retarget::Window { blocks } => blocks.saturating_add(1),
        }
    }

    /// When what follows `past` may be at the earliest, beside what the median of times says.
    pub(crate) fn earliest<H: WorkHeader>(self, past: &Past<'_, H>) -> u64 {
        match self {
            Retarget::Testnet4 { blocks } if (past.height() + 1).is_multiple_of(blocks.max(1)) => {
                past.parent().time().saturating_sub(MAX_TIMEWARP)
            }
            Retarget::Never
            | Retarget::Bitcoin { .. }
            | Retarget::Testnet { .. }
            | Retarget::Testnet4 { .. }
            | Retarget::Window { .. }
            | Retarget::Asert { .. } => 0,
        }
    }

    /// The target of what follows `past` and has this time.
    pub(crate) fn next<H: WorkHeader>(
        self,
        limit: Compact,
        spacing: u64,
        past: &Past<'_, H>,
        time: u64,
    ) -> Compact {
        let (parent, height) = (past.parent(), past.height() + 1);
        let over = |blocks: u64, intervals: u64| {
            if blocks == 0 || !height.is_multiple_of(blocks) || intervals > past.height() {
                return parent.bits();
            }
            let first = past.header(past.height() - intervals);
            let old = if matches!(self, Retarget::Testnet4 { .. }) { first.bits() } else { parent.bits() };
            window(old, first.time(), parent.time(), spacing.saturating_mul(blocks), limit)
        };
        match self {
            Retarget::Never => parent.bits(),
            Retarget::Bitcoin { blocks } => over(blocks, blocks.saturating_sub(1)),
            Retarget::Testnet { blocks } | Retarget::Testnet4 { blocks }
                if height.is_multiple_of(blocks.max(1)) =>
            {
                over(blocks, blocks.saturating_sub(1))
            }
            Retarget::Testnet { .. } | Retarget::Testnet4 { .. }
                if time > parent.time().saturating_add(spacing.saturating_mul(2)) =>
            {
                limit
            }
            Retarget::Testnet { blocks } | Retarget::Testnet4 { blocks } => {
                let of_window = (0..=past.height()).rev().map(|at| (at, past.header(at).bits()));
                let mut ends = of_window
                    .skip_while(|(at, bits)| *at > 0 && !at.is_multiple_of(blocks) && *bits == limit);
                ends.next().map_or(limit, |(_, bits)| bits)
            }
            // The first window has one interval less than the others: nothing is before the first header.
            Retarget::Window { blocks } => over(blocks, blocks.min(past.height())),
            Retarget::Asert { half_life } => {
                let first = past.header(0);
                let before_first = i128::from(first.time()) - i128::from(spacing);
                let passed = i128::from(parent.time()) - before_first;
                asert(first.bits(), spacing, half_life, passed, i128::from(past.height()), limit)
            }
        }
    }
}

/// The target after a window that took from `first` to `last`, both in seconds, and should have taken `span`: in
/// proportion, at most by four, never above the limit.
pub fn window(old: Compact, first: u64, last: u64, span: u64, limit: Compact) -> Compact {
    let highest = limit.target().unwrap_or(U256::MAX);
    let took = last.saturating_sub(first).clamp(span / 4, span.saturating_mul(4));
    let old = old.target().unwrap_or(highest);
    let new = Uint::<320, 5>::from(old) * Uint::from(took) / Uint::from(span.max(1));
    Compact::of(U256::saturating_from(new).min(highest))
}

/// The target of aserti3-2d: that of the anchor times two to the power of `(passed - spacing * (blocks + 1)) /
/// half_life`. `passed` is from the time of the header before the anchor to that of the last header, in seconds, `blocks`
/// from the anchor's height to its height.
pub fn asert(
    anchor: Compact,
    spacing: u64,
    half_life: u64,
    passed: i128,
    blocks: i128,
    limit: Compact,
) -> Compact {
    let highest = limit.target().unwrap_or(U256::MAX);
    let anchor = anchor.target().unwrap_or(highest);
    let late = passed.saturating_sub(i128::from(spacing).saturating_mul(blocks.saturating_add(1)));
    // Towards zero, in units of 2^-16.
    let exponent = late.saturating_mul(1 << 16) / i128::from(half_life.max(1));
    let (shift, fraction) = (exponent >> 16, (exponent & 0xffff) as u128);
    // 2^x for 0 <= x < 1, in units of 2^-16, by a cubic.
    let cubic = 195_766_423_245_049 * fraction + 971_821_376 * fraction.pow(2) + 5_127 * fraction.pow(3);
    let factor = ((cubic + (1 << 47)) >> 48) + (1 << 16);
    let scaled = Uint::<320, 5>::from(anchor) * Uint::from(factor);
    let new = match shift {
        ..0 => scaled >> usize::try_from(-shift).unwrap_or(usize::MAX).min(320),
        _ => scaled.saturating_shl(usize::try_from(shift).unwrap_or(usize::MAX).min(320)),
    } >> 16usize;
    Compact::of(U256::saturating_from(new.max(Uint::ONE)).min(highest))
}
