//! Targets and work (Nakamoto 2008, §4): a header's hash, as a number, must not be above its target; the lower the target,
//! the more hashes it takes to meet it, and that is what chains are compared by.

use ruint::aliases::U256;

/// Bitcoin's 32-bit form of a target: a byte that says how many bytes the number has, and its first three with a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Compact(pub u32);

impl Compact {
    /// The target; `None` if it is zero, negative or above 2^256, which no header may claim.
    pub fn target(self) -> Option<U256> {
        let (size, mantissa) = (self.0 >> 24, self.0 & 0x007f_ffff);
        let negative = self.0 & 0x0080_0000 != 0;
        let mantissa = U256::from(mantissa);
        let target = match size {
            0..=3 => mantissa >> (8 * (3 - size as usize)),
            _ => mantissa.checked_shl(8 * (size as usize - 3)).filter(|_| size <= 34)?,
        };
        (!negative && !target.is_zero()).then_some(target)
    }

    /// The form of a target, rounded down to what it can say.
    pub fn of(target: U256) -> Compact {
        let mut size = target.byte_len();
        let mut mantissa: u32 = match size {
            0..=3 => target.wrapping_to::<u32>() << (8 * (3 - size)),
            _ => (target >> (8 * (size - 3))).wrapping_to::<u32>() & 0x00ff_ffff,
        };
        if mantissa & 0x0080_0000 != 0 {
            mantissa >>= 8;
            size += 1;
        }
        Compact((size as u32) << 24 | mantissa)
    }

    /// How many hashes it takes on average to meet it: 2^256 / (target + 1). 0 if it is no target.
    pub fn work(self) -> U256 {
        let Some(target) = self.target() else { return U256::ZERO };
        match target.checked_add(U256::ONE) {
            // 2^256 does not fit, so: (2^256 - (t + 1)) / (t + 1) + 1.
            Some(next) => !target / next + U256::ONE,
            None => U256::ONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From Bitcoin's own tests of this form (arith_uint256): which are zero, negative or too large.
    #[test]
    fn forms_that_are_no_target_have_none() {
        for bits in [0, 0x0012_3456, 0x0100_3456, 0x0200_0056, 0x0300_0000, 0x0400_0000, 0x2000_0000] {
            assert_eq!(Compact(bits).target(), None, "{bits:08x} is zero");
        }
        for bits in [0x01fe_dcba, 0x04923456, 0x0480_0001] {
            assert_eq!(Compact(bits).target(), None, "{bits:08x} is negative");
        }
        for bits in [0xff12_3456, 0x2312_3456, 0x2201_0000, 0x2101_0000] {
            assert_eq!(Compact(bits).target(), None, "{bits:08x} is too large");
        }
        assert_eq!(Compact(0x0112_3456).target(), Some(U256::from(0x12)));
        assert_eq!(Compact(0x0212_3456).target(), Some(U256::from(0x1234)));
        assert_eq!(Compact(0x0312_3456).target(), Some(U256::from(0x12_3456)));
        assert_eq!(Compact(0x0412_3456).target(), Some(U256::from(0x1234_5600)));
        assert_eq!(Compact(0x0500_9234).target(), Some(U256::from(0x9234_0000u64)));
        assert_eq!(Compact::of(U256::from(0x80)), Compact(0x0200_8000));
        assert_eq!(Compact::of(U256::ZERO), Compact(0));
    }

    #[test]
    fn the_first_blocks_of_bitcoin_took_two_to_the_32_hashes_and_a_bit() {
        assert_eq!(Compact(0x1d00_ffff).work(), U256::from(0x1_0001_0001u64));
        assert_eq!(Compact(0x207f_ffff).work(), U256::from(2), "and those of its regtest two");
    }

    proptest! {
        #[test]
        fn a_target_comes_back_rounded_down(limbs: [u64; 4], shift in 0usize..256) {
            let target = U256::from_limbs(limbs) >> shift;
            prop_assume!(!target.is_zero());
            let again = Compact::of(target).target().unwrap();
            prop_assert!(again <= target && target - again <= target >> 15);
            prop_assert_eq!(Compact::of(again), Compact::of(target));
        }

        #[test]
        fn lower_targets_are_more_work(a in 1u128.., b in 1u128..) {
            let (a, b) = (Compact::of(U256::from(a)), Compact::of(U256::from(b)));
            prop_assume!(a.target() < b.target());
            prop_assert!(a.work() >= b.work());
        }
    }
}
