//! How a message becomes bytes.
//!
//! Our own messages are serde types in postcard's encoding, behind one version byte. What is hashed or
//! signed has a canonical encoding of its own, and foreign networks have their codecs; neither goes through
//! here. Decoding is total: any bytes give a message or a [`DecodeError`], never a panic, and never an
//! allocation beyond a small multiple of the input. Long [payloads](payload) cross without a copy.

pub mod payload;
#[cfg(feature = "net")]
mod pieces;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[cfg(feature = "net")]
pub(crate) use pieces::Pieces;

/// How a message travels between two peers. A message type names its own lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// At most once, in any order, one packet: for what is worthless when late.
    Datagram,
    /// In order with all else this protocol sends this peer on the lane, while the connection lives.
    Ordered,
    /// On a stream of its own: a large message holds nothing else up. A peer that refuses it while it comes takes the
    /// link down ([`Down::Overflow`](crate::Down::Overflow) if it has no room for this node, else
    /// [`Down::Closed`](crate::Down::Closed)). Once it is all there the transport has acknowledged it, and then
    /// nobody tells the sender that it was refused: whoever has to know asks for an answer.
    Bulk,
}

/// A message between peers: a serde type with a size limit and a lane.
///
/// ```
/// use p2p_core::Wire;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// enum Greeting {
///     Hello { name: String },
///     Bye,
/// }
/// impl Wire for Greeting {
///     const MAX_BYTES: usize = 256;
/// }
///
/// let bytes = Greeting::Hello { name: "ada".into() }.to_bytes();
/// assert_eq!(Greeting::from_bytes(&bytes).unwrap(), Greeting::Hello { name: "ada".into() });
/// assert!(Greeting::from_bytes(&bytes[1..]).is_err());
/// ```
pub trait Wire: Serialize + DeserializeOwned {
    /// The longest encoding that is sent or accepted, in bytes, with the version byte. 64 KiB.
    const MAX_BYTES: usize = 64 << 10;
    /// The first byte of every message: raise it when old and new cannot read each other. 1.
    const VERSION: u8 = 1;

    /// The lane this message travels in. [`Lane::Ordered`].
    fn lane(&self) -> Lane {
        Lane::Ordered
    }

    /// Appends the encoding to a buffer.
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(Self::VERSION);
        let buffer = postcard::to_extend(self, std::mem::take(out));
        // Postcard fails on sequences of unknown length and on full buffers: our types have neither.
        *out = buffer.expect(UNREPRESENTABLE);
    }

    /// The encoding.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// The message that is all of `frame`, with [marked](payload) fields for slices of it. For a frame of its own:
    /// such a field keeps everything alive that `frame` is a part of.
    ///
    /// # Errors
    /// As [`Wire::from_bytes`].
    fn from_frame(frame: &Bytes) -> Result<Self, DecodeError> {
        payload::decoding(frame, || Self::from_bytes(frame))
    }

    /// How many bytes the encoding has, without making it.
    fn wire_len(&self) -> usize {
        1 + postcard::experimental::serialized_size(self).expect(UNREPRESENTABLE)
    }

    /// The message these bytes encode, all of them.
    ///
    /// # Errors
    /// Why they do not: see [`DecodeError`].
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(DecodeError::TooLong { len: bytes.len(), max: Self::MAX_BYTES });
        }
        let (&version, body) = bytes.split_first().ok_or(DecodeError::Truncated)?;
        if version != Self::VERSION {
            return Err(DecodeError::Version { found: version, expected: Self::VERSION });
        }
        let (message, rest) = postcard::take_from_bytes(body).map_err(|error| match error {
            postcard::Error::DeserializeUnexpectedEnd => DecodeError::Truncated,
            other => DecodeError::Malformed(other.to_string()),
        })?;
        match rest.len() {
            0 => Ok(message),
            extra => Err(DecodeError::Trailing { extra }),
        }
    }
}

const UNREPRESENTABLE: &str = "a message type that postcard cannot represent";

/// The encoding behind what is in `first`, its payloads not copied.
#[cfg(feature = "net")]
pub(crate) fn pieces<M: Wire>(message: &M, mut first: Vec<u8>) -> Pieces {
    first.push(M::VERSION);
    let pieces = Pieces::after(first).add(|pieces| postcard::serialize_with_flavor(message, pieces));
    pieces.expect(UNREPRESENTABLE)
}

/// For a machine that sends nothing.
impl Wire for () {}

/// Why bytes are not a message. Always the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than the type allows.
    #[error("a message of {len} bytes; this type has at most {max}")]
    TooLong {
        /// Bytes received.
        len: usize,
        /// The type's [`Wire::MAX_BYTES`].
        max: usize,
    },
    /// It ends before the message does.
    #[error("the message ends too early")]
    Truncated,
    /// Another version of the protocol.
    #[error("version {found} of the protocol; this end speaks {expected}")]
    Version {
        /// The version byte received.
        found: u8,
        /// The type's [`Wire::VERSION`].
        expected: u8,
    },
    /// A tag, a length or a text that cannot be.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Bytes after the end of the message.
    #[error("{extra} bytes follow the message")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Sample {
        Unit,
        Text(String),
        Keys(Vec<crate::Key>),
        Nested { map: std::collections::BTreeMap<u32, Option<bytes::Bytes>>, flag: bool },
    }
    impl Wire for Sample {
        const MAX_BYTES: usize = 4096;
    }

    fn sample() -> impl Strategy<Value = Sample> {
        let map = prop::collection::btree_map(any::<u32>(), any::<Option<Vec<u8>>>(), 0..8);
        prop_oneof![
            Just(Sample::Unit),
            ".{0,40}".prop_map(Sample::Text),
            prop::collection::vec(any::<[u8; 32]>().prop_map(crate::Key::new), 0..20).prop_map(Sample::Keys),
            (map, any::<bool>()).prop_map(|(map, flag)| Sample::Nested {
                map: map.into_iter().map(|(k, v)| (k, v.map(Into::into))).collect(),
                flag
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(message in sample()) {
            let bytes = message.to_bytes();
            prop_assert_eq!(bytes.len(), message.wire_len());
            prop_assert_eq!(Sample::from_bytes(&bytes), Ok(message));
        }

        #[test]
        fn a_truncated_message_is_an_error(message in sample(), cut in any::<prop::sample::Index>()) {
            let bytes = message.to_bytes();
            prop_assert!(Sample::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            if let Ok(message) = Sample::from_bytes(&bytes) {
                prop_assert!(Sample::from_bytes(&message.to_bytes()).is_ok());
            }
        }
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        // A sequence of 2^63 keys, and not one of them there.
        let bytes = [1, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(Sample::from_bytes(&bytes), Err(DecodeError::Truncated));
    }

    #[test]
    fn each_fault_has_its_name() {
        let good = Sample::Text("x".into()).to_bytes();
        let with = |edit: fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            edit(&mut bytes);
            Sample::from_bytes(&bytes).unwrap_err()
        };
        assert_eq!(with(Vec::clear), DecodeError::Truncated);
        assert_eq!(with(|b| b[0] = 9), DecodeError::Version { found: 9, expected: 1 });
        assert_eq!(with(|b| b.push(0)), DecodeError::Trailing { extra: 1 });
        assert_eq!(with(|b| b.resize(5000, 0)), DecodeError::TooLong { len: 5000, max: 4096 });
        assert!(matches!(with(|b| b[1] = 200), DecodeError::Malformed(_)));
    }
}
