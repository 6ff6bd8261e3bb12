//! Canonical peer priority (BEP 40): a number that both ends of a connection come to, and nobody can choose.
//!
//! Where there is no room for all, everybody prefers whom it has the highest with. So there is always somebody who lets a
//! newcomer in, and whoever has many connections to make gets no further than by its share of the addresses.

use std::net::{IpAddr, SocketAddr};

/// CRC-32C of each byte (Castagnoli's polynomial, its bits the other way round).
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc32c(bytes: impl IntoIterator<Item = u8>) -> u32 {
    let next = |crc: u32, byte: u8| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8);
    !bytes.into_iter().fold(!0, next)
}

/// The lower first.
fn sorted<const N: usize>(one: [u8; N], other: [u8; N]) -> u32 {
    crc32c(one.min(other).into_iter().chain(one.max(other)))
}

/// Addresses count whole up to the first byte in which they differ, or up to `least` bytes; of the rest half of the bits do.
fn masked<const N: usize>(one: [u8; N], other: [u8; N], least: usize) -> u32 {
    let common = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
    let whole = least.max(common + 1);
    let mask = |ip: [u8; N]| -> [u8; N] {
        std::array::from_fn(|at| if at < whole { ip[at] } else { ip[at] & 0x55 })
    };
    sorted(mask(one), mask(other))
}

/// The priority of a connection between these two, as each sees the other; `None` if one has IPv4 and the other IPv6. The ports
/// at which they listen count if they are one host.
pub(super) fn priority(one: SocketAddr, other: SocketAddr) -> Option<u32> {
    Some(match (one.ip().to_canonical(), other.ip().to_canonical()) {
        (ip, same) if ip == same => sorted(one.port().to_be_bytes(), other.port().to_be_bytes()),
        (IpAddr::V4(one), IpAddr::V4(other)) => masked(one.octets(), other.octets(), 2),
        (IpAddr::V6(one), IpAddr::V6(other)) => masked(one.octets(), other.octets(), 6),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(one: &str, other: &str) -> Option<u32> {
        let addr = |text: &str| SocketAddr::new(text.parse().unwrap(), 6881);
        assert_eq!(priority(addr(one), addr(other)), priority(addr(other), addr(one)), "both come to it");
        priority(addr(one), addr(other))
    }

    /// CRC-32C as RFC 3720 (B.4) has it, and what BEP 40 gives for examples.
    #[test]
    fn it_is_what_others_come_to() {
        assert_eq!(crc32c([0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(0..32), 0x46dd_794e);
        assert_eq!(of("123.213.32.10", "98.76.54.32"), Some(0xec2d_7224));
        assert_eq!(of("123.213.32.10", "123.213.32.234"), Some(0x9956_8189));
    }

    #[test]
    fn the_nearer_two_are_the_more_of_their_addresses_counts() {
        // Of bytes that count by half of their bits 0xaa is nothing.
        for (one, other, alike) in [
            ("192.0.0.0", "198.51.100.1", "192.0.170.170"),
            ("192.0.0.0", "192.0.2.1", "192.0.0.170"),
            ("2001:db8:1::", "2001:db8:2::", "2001:db8:1:aaaa:aaaa:aaaa:aaaa:aaaa"),
            ("2001:db8:1:100::", "2001:db8:1:200::", "2001:db8:1:1aa:aaaa:aaaa:aaaa:aaaa"),
            ("2001:db8:1:101::", "2001:db8:1:102::", "2001:db8:1:101:aaaa:aaaa:aaaa:aaaa"),
        ] {
            assert_eq!(of(one, other), of(alike, other), "{one} {other}");
        }
        assert_ne!(of("192.0.0.0", "192.0.2.1"), of("192.0.170.0", "192.0.2.1"));
        assert_eq!(of("192.0.2.1", "2001:db8::1"), None);
        let port = |port| SocketAddr::from(([192, 0, 2, 1], port));
        assert_ne!(priority(port(1), port(2)), priority(port(1), port(3)));
    }
}
