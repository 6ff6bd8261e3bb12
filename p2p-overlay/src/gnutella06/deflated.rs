//! Connections whose bytes are deflated after the handshake, each way for itself (RFC-Gnutella 0.6, §4.6, after *Gnutella
//! Traffic Compression*, Manfredi, 2003): one zlib stream (RFC 1950) for all descriptors, flushed after each of them.
//!
//! Each end says in its part of the handshake that it takes such a stream in (`Accept-Encoding`), and whether it sends one
//! (`Content-Encoding`). Ultrapeers of today want no leaves that do not.

use std::fmt;

use bytes::{Buf, BytesMut};
use miniz_oxide::deflate::core::CompressorOxide;
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};
use p2p_core::foreign::Malformed;

/// How many bytes are made at a time.
const CHUNK: usize = 4 << 10;
/// How much longer inflated bytes may be than what has come, on the whole and beside that. Descriptors are seldom more
/// than ten times as long; zeros are a thousand times.
const MOST_RATIO: u64 = 100;
const SLACK: u64 = 1 << 20;

/// What is sent; some 350 KiB.
#[derive(Default)]
pub(super) struct Deflater(Box<CompressorOxide>);

impl Deflater {
    /// Appends these bytes, so that the other end has all of them.
    pub(super) fn put(&mut self, bytes: &[u8], output: &mut BytesMut) {
        let (mut chunk, mut left) = ([0; CHUNK], bytes);
        loop {
            let done = deflate(&mut self.0, left, &mut chunk, MZFlush::Sync);
            output.extend_from_slice(&chunk[..done.bytes_written]);
            left = &left[done.bytes_consumed..];
            // Where there is room all has been flushed.
            if done.status.is_err() || done.bytes_written < CHUNK {
                return;
            }
        }
    }
}

/// What comes; some 45 KiB, and the inflated bytes that are not read yet.
pub(super) struct Inflater {
    state: Box<InflateState>,
    plain: BytesMut,
    /// How many bytes have come, and what they have become.
    came: u64,
    made: u64,
    ended: bool,
}

impl Inflater {
    pub(super) fn new() -> Inflater {
        let state = InflateState::new_boxed(DataFormat::Zlib);
        Inflater { state, plain: BytesMut::new(), came: 0, made: 0, ended: false }
    }

    /// The inflated bytes that are not read yet.
    pub(super) fn plain(&mut self) -> &mut BytesMut {
        &mut self.plain
    }

    /// Inflates some more, 4 KiB at most; `false` if there is nothing more yet.
    ///
    /// # Errors
    /// The bytes are no zlib stream, go on after its end, or become far too many.
    pub(super) fn more(&mut self, input: &mut BytesMut) -> Result<bool, Malformed> {
        if self.ended && input.is_empty() {
            return Ok(false);
        }
        if self.ended {
            return Err(Malformed("bytes after the end of a deflated stream".into()));
        }
        let mut chunk = [0; CHUNK];
        let done = inflate(&mut self.state, input, &mut chunk, MZFlush::None);
        input.advance(done.bytes_consumed);
        self.plain.extend_from_slice(&chunk[..done.bytes_written]);
        self.came += done.bytes_consumed as u64;
        self.made += done.bytes_written as u64;
        if self.made > SLACK + MOST_RATIO * self.came {
            return Err(Malformed(format!("{} bytes that inflate to {} and more", self.came, self.made)));
        }
        match done.status {
            Ok(status) => self.ended = status == MZStatus::StreamEnd,
            // It waits for more.
            Err(MZError::Buf) => {}
            Err(_) => return Err(Malformed("expected a deflated stream, as was said".into())),
        }
        Ok(done.bytes_written > 0)
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Deflater")
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inflater({} bytes)", self.plain.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All that comes of these bytes.
    fn inflated(inflater: &mut Inflater, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut input = BytesMut::from(bytes);
        while inflater.more(&mut input)? {}
        Ok(inflater.plain().split().to_vec())
    }

    proptest! {
        #[test]
        fn each_part_is_there_as_soon_as_it_was_sent(
            parts in prop::collection::vec(prop::collection::vec(0u8..20, 0..9000), 1..6),
        ) {
            let (mut deflater, mut inflater) = (Deflater::default(), Inflater::new());
            for part in parts {
                let mut output = BytesMut::new();
                deflater.put(&part, &mut output);
                prop_assert_eq!(inflated(&mut inflater, &output), Ok(part));
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut stream = vec![0x78, 0x9c];
            stream.extend(bytes);
            let _: Result<Vec<u8>, Malformed> = inflated(&mut Inflater::new(), &stream);
        }
    }

    #[test]
    fn what_becomes_far_too_much_is_refused() {
        let mut bomb = BytesMut::new();
        Deflater::default().put(&vec![0; 16 << 20], &mut bomb);
        let (mut inflater, mut input) = (Inflater::new(), bomb);
        let mut most = 0;
        let refused = loop {
            match inflater.more(&mut input) {
                Ok(_) => most += std::mem::take(inflater.plain()).len() as u64,
                Err(refused) => break refused,
            }
        };
        assert!(most <= SLACK + MOST_RATIO * inflater.came + CHUNK as u64, "{most}: {refused}");
    }

    #[test]
    fn what_was_not_deflated_is_refused() {
        assert!(inflated(&mut Inflater::new(), b"GNUTELLA").is_err());
    }
}
