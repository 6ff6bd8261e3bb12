//! The parser of raw public keys, which is p2p-core's own: taken in from its source, not made public for this.

use p2p_core::PeerId;

#[allow(dead_code, unreachable_pub, reason = "the parser is a part of it")]
#[path = "../../p2p-core/src/net/tls.rs"]
mod tls;

/// A `SubjectPublicKeyInfo` from a handshake: 44 bytes of one shape, or nobody's.
pub fn spki(bytes: &[u8]) {
    if let Some(id) = tls::peer_of(bytes) {
        assert_eq!(bytes.len(), 44);
        assert_eq!(PeerId::as_bytes(&id)[..], bytes[12..]);
    }
}
