//! Tokens: whoever writes must have received something at its address, and lately (BEP 5).
//!
//! A token is a keyed hash of the address. The key changes every five minutes and the one before is good still, so a
//! token lives for five to ten; nothing is kept for it.

use std::net::IpAddr;
use std::time::Duration;

use p2p_core::Time;

use super::secret::Secret;

/// How often the key changes (BEP 5).
const ROTATE: Duration = Duration::from_secs(5 * 60);
/// How long a token is, in bytes.
const LEN: usize = 8;

/// See the module's text.
#[derive(Clone)]
pub(super) struct Tokens {
    key: [u8; 32],
}

impl Tokens {
    pub(super) fn new(secret: &Secret) -> Tokens {
        Tokens { key: secret.key("p2p-dht mainline: tokens") }
    }

    /// What a node at this address shows when it writes.
    pub(super) fn token(&self, now: Time, ip: IpAddr) -> [u8; LEN] {
        self.of_age(now, 0, ip)
    }

    /// Whether such a token was given to that address, and not too long ago.
    pub(super) fn accepts(&self, now: Time, ip: IpAddr, token: &[u8]) -> bool {
        (0..2).any(|age| {
            let differences =
                token.iter().zip(self.of_age(now, age, ip)).fold(0, |all, (a, b)| all | (a ^ b));
            token.len() == LEN && differences == 0
        })
    }

    fn of_age(&self, now: Time, age: u64, ip: IpAddr) -> [u8; LEN] {
        // One more than it is, so that there is one before the first.
        let period = 1 + now.as_nanos() / ROTATE.as_nanos() as u64 - age;
        let mut hash = blake3::Hasher::new_keyed(&self.key);
        hash.update(&period.to_be_bytes());
        match ip.to_canonical() {
            IpAddr::V4(ip) => hash.update(&ip.octets()),
            IpAddr::V6(ip) => hash.update(&ip.octets()),
        };
        let mut token = [0; LEN];
        hash.finalize_xof().fill(&mut token);
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_for_five_to_ten_minutes_at_one_address() {
        let tokens = Tokens::new(&Secret::new([1; 32]));
        let (here, there): (IpAddr, IpAddr) =
            ("203.0.113.1".parse().unwrap(), "203.0.113.2".parse().unwrap());
        let minutes = |minutes: u64| Time::ZERO + Duration::from_secs(minutes * 60);
        for given in 0..10 {
            let token = tokens.token(minutes(given), here);
            let lives = (given..).take_while(|at| tokens.accepts(minutes(*at), here, &token)).count();
            assert!((6..=10).contains(&lives), "{lives} minutes");
            assert!(!tokens.accepts(minutes(given), there, &token));
            assert!(!tokens.accepts(minutes(given), here, &token[1..]));
        }
        assert!(!tokens.accepts(Time::ZERO, here, b""));
    }
}
