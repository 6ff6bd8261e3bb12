//! Messages on a stream: 4 bytes of length, little-endian, then the message.

use bytes::{Buf, Bytes};

use crate::Wire;

/// What has come of a frame that is not all there.
#[derive(Debug, Default)]
pub(super) struct Frame(Vec<u8>);

impl Frame {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that are kept.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes from `chunk` up to the end of a message, and gives that; `None` when the chunk is used up.
    pub(super) fn next<M: Wire>(&mut self, chunk: &mut Bytes) -> Result<Option<Encoded>, String> {
        // Most chunks are whole frames: these are decoded in place.
        if self.is_empty()
            && let Some(len) = len_of::<M>(chunk)?
            && chunk.len() >= 4 + len
        {
            chunk.advance(4);
            return Ok(Some(Encoded::Part(chunk.split_to(len))));
        }
        while !chunk.is_empty() {
            let whole = 4 + len_of::<M>(&self.0)?.unwrap_or(0);
            // Room for all of it, so that it is not moved again and again; but not for a mere claim: an eighth must be
            // there.
            if self.len() + chunk.len() >= whole / 8 {
                self.0.reserve_exact(whole - self.len());
            }
            let next = chunk.split_to(chunk.len().min(whole - self.len()));
            self.0.extend_from_slice(&next);
            if let Some(len) = len_of::<M>(&self.0)?
                && self.len() == 4 + len
            {
                return Ok(Some(Encoded::Whole(Bytes::from(std::mem::take(&mut self.0)).slice(4..))));
            }
        }
        Ok(None)
    }
}

/// A message that is all there.
#[derive(Debug)]
pub(super) enum Encoded {
    /// As it lay in what was received. Its payloads are copied, for that may be many times as long.
    Part(Bytes),
    /// With memory of its own.
    Whole(Bytes),
}

impl Encoded {
    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Encoded::Part(bytes) | Encoded::Whole(bytes) => bytes.len(),
        }
    }

    pub(super) fn decode<M: Wire>(&self) -> Result<M, String> {
        let message = match self {
            Encoded::Part(bytes) => M::from_bytes(bytes),
            Encoded::Whole(bytes) => M::from_frame(bytes),
        };
        message.map_err(|error| error.to_string())
    }
}

/// The length of the message that begins there, as soon as it can be told.
fn len_of<M: Wire>(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(len) = bytes.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize) else {
        return Ok(None);
    };
    match len <= M::MAX_BYTES {
        true => Ok(Some(len)),
        false => Err(format!("a message of {len} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Piece(u8, #[serde(with = "crate::payload")] Bytes);
    impl Wire for Piece {
        const MAX_BYTES: usize = 100_000;
    }

    fn framed(messages: &[Piece]) -> Bytes {
        let frame =
            |message: &Piece| [&(message.wire_len() as u32).to_le_bytes()[..], &message.to_bytes()].concat();
        messages.iter().flat_map(frame).collect()
    }

    fn read(stream: &Bytes, cuts: &[usize]) -> Result<(Vec<Piece>, usize), String> {
        let (mut frame, mut messages, mut rest) = (Frame::default(), Vec::new(), stream.clone());
        for cut in cuts.iter().chain([&usize::MAX]) {
            let mut chunk = rest.split_to(rest.len().min(*cut));
            while let Some(message) = frame.next::<Piece>(&mut chunk)? {
                messages.push(message.decode()?);
            }
        }
        Ok((messages, frame.len()))
    }

    fn messages() -> impl Strategy<Value = Vec<Piece>> {
        let len = prop_oneof![0usize..300, 0usize..90_000];
        let piece = (any::<u8>(), len).prop_map(|(number, len)| Piece(number, vec![number; len].into()));
        prop::collection::vec(piece, 0..5)
    }

    proptest! {
        #[test]
        fn messages_come_whole_however_the_stream_is_cut(
            messages in messages(),
            cuts in prop::collection::vec(prop_oneof![0usize..10, 0usize..20_000], 0..60),
        ) {
            prop_assert_eq!(read(&framed(&messages), &cuts), Ok((messages, 0)));
        }

        #[test]
        fn a_stream_that_ends_early_leaves_the_last_unfinished(
            messages in messages(),
            cuts in prop::collection::vec(0usize..20_000, 0..10),
            end in any::<prop::sample::Index>(),
        ) {
            let whole = framed(&messages);
            prop_assume!(!whole.is_empty());
            let (read, left) = read(&whole.slice(..end.index(whole.len())), &cuts).unwrap();
            prop_assert_eq!(&read[..], &messages[..read.len()]);
            prop_assert_eq!(framed(&read).len() + left, end.index(whole.len()));
        }

        #[test]
        fn random_bytes_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..500),
            cuts in prop::collection::vec(0usize..100, 0..10),
        ) {
            let _ = read(&bytes.into(), &cuts);
        }
    }

    #[test]
    fn a_claim_gets_no_room() {
        let mut frame = Frame::default();
        let claim = [&90_000u32.to_le_bytes()[..], &[1; 1000]].concat();
        assert!(frame.next::<Piece>(&mut claim.into()).unwrap().is_none());
        assert!(frame.0.capacity() < 4000);
        assert!(frame.next::<Piece>(&mut Bytes::from(vec![1; 20_000])).unwrap().is_none());
        assert_eq!(frame.0.capacity(), 90_004, "an eighth of it is there: room for all, and no more");
    }
}
