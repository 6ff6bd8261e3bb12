//! Payloads: the bytes in a message that are worth no copy.
//!
//! A message with 256 KiB in it is copied when it is encoded and once more when it is decoded, unless its bytes are
//! marked:
//!
//! ```
//! use bytes::Bytes;
//! use p2p_core::{Wire, payload};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Piece {
//!     number: u64,
//!     #[serde(with = "payload")]
//!     bytes: Bytes,
//! }
//! impl Wire for Piece {
//!     const MAX_BYTES: usize = 1 << 20;
//! }
//!
//! let received = Bytes::from(Piece { number: 1, bytes: vec![7; 100_000].into() }.to_bytes());
//! let piece = Piece::from_frame(&received).unwrap();
//! assert!(received.as_ptr_range().contains(&piece.bytes.as_ptr()), "not copied");
//! ```
//!
//! The encoding is what it would be without the mark, so either end may do without, and a message that wraps others
//! need not know of it. serde hands bytes on as a slice and knows no owner; so who encodes or decodes leaves word of
//! the owner for this thread, and the marked field finds it. What is short is copied all the same, and so is what
//! would keep far more in memory than itself.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Shorter payloads are copied: below it a copy costs no more than to count owners.
pub(super) const SHORT: usize = 4 << 10;

thread_local! {
    /// The payload that is being encoded: put there by the field that holds it, taken by `Pieces`. It is empty, unless
    /// somebody encodes in pieces.
    pub(super) static SENT: RefCell<Option<Option<Bytes>>> = const { RefCell::new(None) };
    /// What is being decoded.
    static RECEIVED: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// Serializes bytes; for `#[serde(with = "p2p_core::payload")]`.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    if bytes.len() >= SHORT {
        SENT.with_borrow_mut(|sent| {
            if let Some(payload) = sent {
                *payload = Some(bytes.clone());
            }
        });
    }
    serializer.serialize_bytes(bytes)
}

/// Deserializes bytes; for `#[serde(with = "p2p_core::payload")]`.
///
/// # Errors
/// The deserializer's.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    deserializer.deserialize_bytes(Payload)
}

struct Payload;

impl<'de> Visitor<'de> for Payload {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Bytes, E> {
        let part = RECEIVED.with_borrow(|received| {
            let whole = received.as_ref().filter(|whole| bytes.len() >= whole.len() / 2)?;
            let (outer, inner) = (whole.as_ptr_range(), bytes.as_ptr_range());
            let within = outer.start <= inner.start && inner.end <= outer.end;
            within.then(|| whole.slice_ref(bytes))
        });
        Ok(part.unwrap_or_else(|| Bytes::copy_from_slice(bytes)))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(bytes.into())
    }
}

/// Has marked fields be slices of `whole` while `decode` runs, if it is long enough to matter.
pub(super) fn decoding<T>(whole: &Bytes, decode: impl FnOnce() -> T) -> T {
    /// Ends it, also by a panic of somebody's `Deserialize`.
    struct Over;
    impl Drop for Over {
        fn drop(&mut self) {
            RECEIVED.set(None);
        }
    }
    if whole.len() < SHORT {
        return decode();
    }
    let _over = Over;
    RECEIVED.set(Some(whole.clone()));
    decode()
}

#[cfg(all(test, feature = "net"))]
mod tests {
    use super::*;
    use crate::{DecodeError, Wire, wire};
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Inner {
        None,
        One {
            number: u32,
            #[serde(with = "super")]
            bytes: Bytes,
        },
        /// As it is encoded without a mark.
        Plain(u32, Bytes),
    }

    /// It wraps messages with payloads, and knows nothing of them.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Outer(Vec<Inner>, String);
    impl Wire for Outer {
        const MAX_BYTES: usize = 1 << 20;
    }

    fn outer() -> impl Strategy<Value = Outer> {
        let len = prop_oneof![0usize..20, SHORT - 2..SHORT + 2, 0usize..100_000];
        let bytes = (any::<u8>(), len).prop_map(|(byte, len)| Bytes::from(vec![byte; len]));
        let inner = prop_oneof![
            Just(Inner::None),
            (any::<u32>(), bytes.clone()).prop_map(|(number, bytes)| Inner::One { number, bytes }),
            (any::<u32>(), bytes).prop_map(|(number, bytes)| Inner::Plain(number, bytes)),
        ];
        (prop::collection::vec(inner, 0..4), ".{0,20}").prop_map(|(inner, text)| Outer(inner, text))
    }

    proptest! {
        #[test]
        fn pieces_are_the_encoding_and_a_frame_gives_the_message(message in outer()) {
            let bytes = message.to_bytes();
            prop_assert_eq!(message.wire_len(), bytes.len());
            let pieces = wire::pieces(&message, b"head".to_vec());
            prop_assert_eq!(pieces.len(), 4 + bytes.len());
            let whole = pieces.into_chunks().concat();
            prop_assert_eq!(&whole[..4], b"head");
            prop_assert_eq!(&whole[4..], &bytes[..]);
            prop_assert_eq!(Outer::from_bytes(&bytes), Ok(message.clone()));
            prop_assert_eq!(Outer::from_frame(&bytes.into()), Ok(message));
        }

        #[test]
        fn a_truncated_frame_is_an_error(message in outer(), cut in any::<prop::sample::Index>()) {
            let bytes = Bytes::from(message.to_bytes());
            let cut = bytes.slice(..cut.index(bytes.len()));
            prop_assert_eq!(Outer::from_frame(&cut), Outer::from_bytes(&cut));
            prop_assert!(Outer::from_frame(&cut).is_err());
        }

        #[test]
        fn random_frames_never_panic(head in prop::collection::vec(any::<u8>(), 0..20), len in 0usize..9000) {
            let mut bytes = head;
            bytes.resize(len, 1);
            prop_assert_eq!(Outer::from_frame(&bytes.clone().into()), Outer::from_bytes(&bytes));
        }
    }

    fn one(bytes: &Bytes) -> Outer {
        Outer(vec![Inner::One { number: 1, bytes: bytes.clone() }], String::new())
    }

    #[test]
    fn a_long_payload_is_not_copied() {
        let payload = Bytes::from(vec![7; 2 * SHORT]);
        let chunks = wire::pieces(&one(&payload), Vec::new()).into_chunks();
        assert!(chunks.iter().any(|chunk| chunk.as_ptr() == payload.as_ptr()));
        let frame = Bytes::from(chunks.concat());
        let Ok(Outer(inner, _)) = Outer::from_frame(&frame) else { panic!("a message") };
        let Inner::One { bytes, .. } = &inner[0] else { panic!("with a payload") };
        assert!(frame.as_ptr_range().contains(&bytes.as_ptr()));
    }

    #[test]
    fn a_payload_keeps_no_frame_alive_that_is_far_longer() {
        let mut message = one(&vec![7; SHORT].into());
        message.0.push(Inner::Plain(1, vec![8; 2 * SHORT].into()));
        let frame = Bytes::from(message.to_bytes());
        let Ok(Outer(inner, _)) = Outer::from_frame(&frame) else { panic!("a message") };
        let Inner::One { bytes, .. } = &inner[0] else { panic!("with a payload") };
        assert!(!frame.as_ptr_range().contains(&bytes.as_ptr()));
    }

    #[test]
    fn nothing_is_left_behind() {
        let payload = Bytes::from(vec![7; 2 * SHORT]);
        let _ = wire::pieces(&one(&payload), Vec::new()).into_chunks();
        let _ = one(&payload).to_bytes();
        assert!(payload.is_unique(), "no word of it is left in this thread");
        let frame = Bytes::from(one(&payload).to_bytes());
        assert_eq!(Outer::from_frame(&frame.slice(..9000.min(frame.len() - 1))), Err(DecodeError::Truncated));
        assert!(frame.is_unique());
    }
}
