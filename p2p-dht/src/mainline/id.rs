//! Which ids a node may have (BEP 42): the first 21 bits follow from its address, so that whoever wants to stand near a key
//! needs addresses, not patience. Nodes in private networks are exempt.

use std::net::{IpAddr, Ipv4Addr};

use p2p_core::{Key, Rng};

/// How many bits of an address count, byte by byte: the fewer, the more significant the byte is.
const V4_MASK: [u8; 4] = [0x03, 0x0f, 0x3f, 0xff];
const V6_MASK: [u8; 8] = [0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff];

/// Whether a node with this address may have this id.
///
/// ```
/// use p2p_core::Key;
/// use p2p_dht::mainline::is_secure_id;
///
/// // From the specification.
/// let id: Key<20> = "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401".parse().unwrap();
/// assert!(is_secure_id(&id, "124.31.75.21".parse().unwrap()));
/// assert!(!is_secure_id(&id, "124.31.75.22".parse().unwrap()));
/// assert!(is_secure_id(&id, "192.168.1.7".parse().unwrap()), "private networks are exempt");
/// ```
pub fn is_secure_id(id: &Key<20>, ip: IpAddr) -> bool {
    let bytes = id.as_bytes();
    let expected = prefix(ip, bytes[19]);
    is_local(ip) || bytes[..2] == expected[..2] && (bytes[2] ^ expected[2]) & 0xf8 == 0
}

/// A random id of those that a node with this address may have.
pub fn secure_id(ip: IpAddr, rng: &mut Rng) -> Key<20> {
    let mut id = *rng.key::<20>().as_bytes();
    if !is_local(ip) {
        let [first, second, third] = prefix(ip, id[19]);
        (id[0], id[1], id[2]) = (first, second, third & 0xf8 | id[2] & 0x07);
    }
    Key::new(id)
}

/// Addresses that say nothing to the rest of the world: loopback, link-local, private networks.
pub(super) fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local(),
    }
}

/// The first three bytes, of which 21 bits count.
fn prefix(ip: IpAddr, random: u8) -> [u8; 3] {
    let mut masked = [0; 8];
    let len = match ip.to_canonical() {
        IpAddr::V4(ip) => mask(&ip.octets(), &V4_MASK, &mut masked),
        IpAddr::V6(ip) => mask(&ip.octets(), &V6_MASK, &mut masked),
    };
    masked[0] |= random << 5;
    let [first, second, third, _] = crc32c(&masked[..len]).to_be_bytes();
    [first, second, third]
}

fn mask(ip: &[u8], mask: &[u8], out: &mut [u8; 8]) -> usize {
    out.iter_mut().zip(ip.iter().zip(mask)).for_each(|(out, (byte, mask))| *out = byte & mask);
    mask.len()
}

/// CRC-32C (Castagnoli), of at most eight bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// Whether somebody can be there, as far as the address says.
pub(super) fn is_somewhere(ip: IpAddr, port: u16) -> bool {
    port != 0 && !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720 §B.4 has the first; the second is the check value of the CRC catalogues.
    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_made_id_is_a_valid_one_and_of_no_other_address() {
        let mut rng = Rng::new(1);
        for ip in ["203.0.113.9", "2001:db8:1:2:3:4:5:6"] {
            let ip: IpAddr = ip.parse().unwrap();
            let ids: Vec<Key<20>> = (0..200).map(|_| secure_id(ip, &mut rng)).collect();
            assert!(ids.iter().all(|id| is_secure_id(id, ip)));
            let other = "198.51.100.77".parse().unwrap();
            assert!(ids.iter().all(|id| !is_secure_id(id, other)));
        }
    }

    /// Eight ids of the top 21 bits, one for each value of three random bits: nobody with one address has more choice.
    #[test]
    fn an_address_has_eight_places() {
        let mut rng = Rng::new(2);
        let ip = "203.0.113.9".parse().unwrap();
        let places: std::collections::BTreeSet<u32> = (0..400)
            .map(|_| secure_id(ip, &mut rng))
            .map(|id| u32::from_be_bytes(*id.as_bytes().first_chunk().unwrap()) >> 11)
            .collect();
        assert_eq!(places.len(), 8);
    }
}
