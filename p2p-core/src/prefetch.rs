//! Asking for memory before it is needed.

/// Asks the processor to fetch a value, or all of a slice, into its second cache, and waits for nothing: what
/// [`Protocol::warm`](crate::Protocol::warm) is made of. The first one is so small that what some events need would push out
/// what others do. What the value points to is not fetched. Without the feature `prefetch` this does nothing.
///
/// ```
/// let table = vec![7_u64; 1000];
/// p2p_core::prefetch(&table[500..510]);
/// assert_eq!(table[505], 7);
/// ```
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(feature = "prefetch")]
    {
        /// The length of a line of a cache, in bytes.
        const LINE: usize = 64;
        let start = std::ptr::from_ref(value).cast::<u8>();
        let lines = (start.addr() % LINE + size_of_val(value)).div_ceil(LINE);
        for line in 0..lines {
            branches::prefetch_read_data::<u8, 1>(start.wrapping_add(line * LINE));
        }
    }
    #[cfg(not(feature = "prefetch"))]
    let _ = value;
}
