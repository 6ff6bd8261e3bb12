//! Encryption before storage: nobody but whoever has the key can read what the network keeps, or change it without its being
//! seen.
//!
//! A file is cut into segments, each sealed by ChaCha20-Poly1305 (RFC 8439) under a key that is the file's own, with its number
//! and whether it is the last for a nonce: so none can be left out, moved, or cut off (Hoang, Reyhanitabar, Rogaway & Vizár,
//! *Online authenticated-encryption and its nonce-reuse misuse-resistance*, CRYPTO 2015, §7: STREAM).

use bytes::{Bytes, BytesMut};
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use p2p_core::Keypair;

use crate::Failure;

/// What a sealed file begins with; then come 32 random bytes, by which its key is another than that of other files.
const MAGIC: &[u8; 8] = b"p2p-seal";
const HEAD: usize = 40;
/// The bytes of a segment, and what sealing adds to it.
const SEGMENT: usize = 64 << 10;
const TAG: usize = 16;

/// The key of somebody's own files: what only who has the identity can make.
pub fn own_key(identity: &Keypair) -> [u8; 32] {
    blake3::derive_key("p2p examples: key of sealed files", &identity.sign(b"p2p examples: seal"))
}

/// A sealed file, as the file comes.
///
/// # Errors
/// The operating system has no random bytes.
pub fn seal(
    key: &[u8; 32],
    file: impl Stream<Item = Result<Bytes, Failure>> + Send + 'static,
) -> Result<BoxStream<'static, Result<Bytes, Failure>>, Failure> {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(MAGIC);
    getrandom::fill(&mut head[8..]).map_err(|error| error.to_string())?;
    let cipher = cipher(key, &head);
    let sealed = segments(file.boxed(), SEGMENT).enumerate().map(move |(number, segment)| {
        let (segment, last) = segment?;
        let sealed =
            cipher.encrypt(&nonce(number, last)?, &segment[..]).map_err(|_| "a segment cannot be sealed")?;
        Ok(Bytes::from(sealed))
    });
    Ok(stream::iter([Ok(Bytes::copy_from_slice(&head))]).chain(sealed).boxed())
}

/// The file that was sealed with this key. What comes before an error is genuine, and not all.
pub fn open(
    key: &[u8; 32],
    sealed: impl Stream<Item = Result<Bytes, Failure>> + Send + 'static,
) -> BoxStream<'static, Result<Bytes, Failure>> {
    let key = *key;
    let opened = async move {
        let mut sealed = sealed.boxed();
        let mut begun = BytesMut::new();
        while begun.len() < HEAD {
            let Some(more) = sealed.next().await else {
                return Err("it is not sealed: it is too short".into());
            };
            begun.extend_from_slice(&more?);
        }
        let head = begun.split_to(HEAD);
        if head[..8] != MAGIC[..] {
            return Err::<_, Failure>("it is not sealed".into());
        }
        let cipher = cipher(&key, &head);
        let rest = stream::iter([Ok(begun.freeze())]).chain(sealed).boxed();
        Ok(segments(rest, SEGMENT + TAG).enumerate().map(move |(number, segment)| {
            let (segment, last) = segment?;
            let opened = cipher.decrypt(&nonce(number, last)?, &segment[..]);
            Ok(Bytes::from(opened.map_err(|_| "it was sealed with another key, or is not all there")?))
        }))
    };
    stream::once(opened)
        .flat_map(|opened| match opened {
            Ok(opened) => opened.boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        })
        .boxed()
}

fn cipher(key: &[u8; 32], head: &[u8]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(blake3::keyed_hash(key, head).as_bytes().into())
}

fn nonce(number: usize, last: bool) -> Result<Nonce, Failure> {
    let mut nonce = [0; 12];
    nonce[4..8].copy_from_slice(
        &u32::try_from(number).map_err(|_| "the file is too long to be sealed")?.to_be_bytes(),
    );
    nonce[11] = last.into();
    Ok(nonce.into())
}

/// So many bytes at a time, and whether they are the last: those may be fewer, or none.
fn segments(
    bytes: BoxStream<'static, Result<Bytes, Failure>>,
    len: usize,
) -> BoxStream<'static, Result<(Bytes, bool), Failure>> {
    let next = move |left: Option<(BoxStream<'static, Result<Bytes, Failure>>, BytesMut)>| async move {
        let Some((mut bytes, mut begun)) = left else { return Ok(None) };
        while begun.len() <= len {
            match bytes.next().await {
                Some(more) => begun.extend_from_slice(&more?),
                None => return Ok(Some(((begun.freeze(), true), None))),
            }
        }
        let segment = begun.split_to(len).freeze();
        Ok(Some(((segment, false), Some((bytes, begun)))))
    };
    stream::try_unfold(Some((bytes, BytesMut::new())), next).boxed()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use futures::{FutureExt, TryStreamExt};

    use super::*;

    fn pieces(bytes: &[u8], piece: usize) -> impl Stream<Item = Result<Bytes, Failure>> + Send + 'static {
        let pieces: Vec<_> = bytes.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        stream::iter(pieces)
    }

    fn all(bytes: BoxStream<'static, Result<Bytes, Failure>>) -> Result<Vec<u8>, Failure> {
        Ok(bytes.try_collect::<Vec<Bytes>>().now_or_never().unwrap()?.concat())
    }

    #[test]
    fn what_was_sealed_is_opened_with_its_key_and_as_a_whole() {
        let (key, other) = ([1; 32], [2; 32]);
        for len in [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT] {
            let file: Vec<u8> = (0..len).map(|i| (i ^ i >> 8) as u8).collect();
            let sealed = all(seal(&key, pieces(&file, 1000)).unwrap()).unwrap();
            assert!(all(open(&key, pieces(&sealed, 777))).unwrap() == file, "{len}");
            assert!(all(open(&other, pieces(&sealed, 777))).is_err(), "{len}: another key");
            // Cut off between segments, within one, or in the head; or a bit changed.
            for cut in [HEAD + SEGMENT + TAG, HEAD, sealed.len() - 1, 20] {
                if cut < sealed.len() {
                    assert!(all(open(&key, pieces(&sealed[..cut], 777))).is_err(), "{len} cut at {cut}");
                }
            }
            for at in [3, 20, HEAD, sealed.len() - 1] {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert!(all(open(&key, pieces(&changed, 777))).is_err(), "{len} changed at {at}");
            }
        }
    }

    #[test]
    fn segments_cannot_change_places() {
        let sealed = all(seal(&[1; 32], pieces(&vec![7; 3 * SEGMENT], SEGMENT)).unwrap()).unwrap();
        let (head, rest) = sealed.split_at(HEAD);
        let (first, rest) = rest.split_at(SEGMENT + TAG);
        let (second, rest) = rest.split_at(SEGMENT + TAG);
        assert!(all(open(&[1; 32], pieces(&[head, second, first, rest].concat(), 777))).is_err());
    }
}
