//! Addresses, as people hand them around, and the scripts that they stand for: of a key's hash or a script's in base 58 with a checksum,
//! and of a witness program in Bech32 (BIP 173), or Bech32m from version 1 on (BIP 350).

use super::codec::checksum_of;
use super::network::BitcoinNetwork;

/// The digits of base 58: no zero, no `O`, no `I`, no `l`.
const BASE58: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// The digits of Bech32.
const BECH32: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// What witness programs begin with, on any network.
const WITNESS: [&str; 3] = ["bc", "tb", "bcrt"];
/// A version, a hash of 20 bytes and a checksum of four.
const BASE58_BYTES: usize = 25;
/// How long a text of Bech32 is at most, and its checksum.
const BECH32_DIGITS: usize = 90;
const BECH32_CHECKSUM: usize = 6;

/// What addresses of a network begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPrefixes {
    /// The version of a key's hash.
    pub key: u8,
    /// The version of a script's hash (BIP 13).
    pub script: u8,
    /// The part that is for people to read (BIP 173).
    pub witness: &'static str,
}

/// What is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddress {
    /// Its letters are not those of an address, or it is too long or too short.
    #[error("it is no address")]
    Malformed,
    /// A letter is wrong, or more.
    #[error("its checksum is wrong: compare it letter by letter")]
    Checksum,
    /// It is of another network, or of a kind that is not known.
    #[error("it is an address of another network")]
    Network,
}

impl BitcoinNetwork {
    /// The script that an address of this network stands for.
    ///
    /// ```
    /// use p2p_ledger::bitcoin::BitcoinNetwork;
    ///
    /// let script = BitcoinNetwork::main().script_of("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4").unwrap();
    /// assert_eq!(script[..2], [0, 20]);
    /// ```
    ///
    /// # Errors
    /// It is no address, or one of another network.
    pub fn script_of(&self, address: &str) -> Result<Vec<u8>, InvalidAddress> {
        let AddressPrefixes { key, script, witness } = self.addresses;
        match address.rsplit_once('1') {
            Some((readable, _)) if readable.eq_ignore_ascii_case(witness) => witness_script(address),
            Some((readable, _)) if WITNESS.iter().any(|other| readable.eq_ignore_ascii_case(other)) => {
                Err(InvalidAddress::Network)
            }
            _ => match base58(address)? {
                [version, hash @ ..] if version == key => {
                    Ok([&[0x76, 0xa9, 0x14][..], &hash, &[0x88, 0xac]].concat())
                }
                [version, hash @ ..] if version == script => Ok([&[0xa9, 0x14][..], &hash, &[0x87]].concat()),
                _ => Err(InvalidAddress::Network),
            },
        }
    }
}

/// The version and the hash of an address in base 58.
fn base58(text: &str) -> Result<[u8; BASE58_BYTES - 4], InvalidAddress> {
    let mut bytes = [0u8; BASE58_BYTES];
    for digit in text.bytes() {
        let digit = BASE58.iter().position(|other| *other == digit).ok_or(InvalidAddress::Malformed)?;
        let mut carry = digit;
        for byte in bytes.iter_mut().rev() {
            carry += usize::from(*byte) * BASE58.len();
            (*byte, carry) = (carry as u8, carry >> 8);
        }
        if carry > 0 {
            return Err(InvalidAddress::Malformed);
        }
    }
    // Each zero byte in front is a digit of its own.
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let ones = text.bytes().take_while(|digit| *digit == BASE58[0]).count();
    if zeros != ones {
        return Err(InvalidAddress::Malformed);
    }
    let (mut versioned, mut checksum) = ([0; BASE58_BYTES - 4], [0; 4]);
    versioned.iter_mut().chain(&mut checksum).zip(bytes).for_each(|(to, byte)| *to = byte);
    match checksum_of(&versioned) == checksum {
        true => Ok(versioned),
        false => Err(InvalidAddress::Checksum),
    }
}

/// The script of a witness program (BIP 141): its version, and what it is.
fn witness_script(text: &str) -> Result<Vec<u8>, InvalidAddress> {
    let mixed = text.bytes().any(|byte| byte.is_ascii_lowercase())
        && text.bytes().any(|byte| byte.is_ascii_uppercase());
    let text = text.to_ascii_lowercase();
    let (readable, data) = text.rsplit_once('1').ok_or(InvalidAddress::Malformed)?;
    let digit = |byte: u8| BECH32.iter().position(|other| *other == byte).map(|digit| digit as u8);
    let digits: Option<Vec<u8>> = data.bytes().map(digit).collect();
    let digits =
        digits.filter(|digits| !mixed && text.len() <= BECH32_DIGITS && digits.len() > BECH32_CHECKSUM);
    let digits = digits.ok_or(InvalidAddress::Malformed)?;
    let version = digits[0];
    let expected = if version == 0 { 1 } else { 0x2bc8_30a3 };
    let high = readable.bytes().map(|byte| byte >> 5);
    let low = readable.bytes().map(|byte| byte & 31);
    if polymod(high.chain([0]).chain(low).chain(digits.iter().copied())) != expected {
        return Err(InvalidAddress::Checksum);
    }
    let program = eights(&digits[1..digits.len() - BECH32_CHECKSUM]).ok_or(InvalidAddress::Malformed)?;
    let fits = match version {
        0 => matches!(program.len(), 20 | 32),
        1..=16 => (2..=40).contains(&program.len()),
        _ => false,
    };
    if !fits {
        return Err(InvalidAddress::Malformed);
    }
    // OP_0, or OP_1 to OP_16.
    let version = if version == 0 { 0 } else { 0x50 + version };
    Ok([&[version, program.len() as u8][..], &program].concat())
}

/// The checksum of Bech32: the remainder of a polynomial over digits of five bits.
fn polymod(digits: impl Iterator<Item = u8>) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    digits.fold(1, |checksum, digit| {
        let top = checksum >> 25;
        let next = (checksum & 0x01ff_ffff) << 5 ^ u32::from(digit);
        GENERATOR.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1).fold(next, |sum, (_, g)| sum ^ g)
    })
}

/// Digits of five bits as bytes; what is left is at most four bits, and zero.
fn eights(digits: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for digit in digits {
        held = held << 5 | u32::from(*digit);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    (bits < 5 && held == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    fn script_of(address: &str) -> Result<String, InvalidAddress> {
        let network = match address.to_ascii_lowercase().starts_with("tb1") {
            true => BitcoinNetwork::testnet(),
            false => BitcoinNetwork::main(),
        };
        network.script_of(address).map(|script| HEXLOWER.encode(&script))
    }

    /// The vectors of BIP 350, all of them.
    #[test]
    fn witness_programs_are_those_of_bip_350() {
        let valid = [
            ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
            (
                "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
                "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
            ),
            (
                "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
                "5128751e76e8199196d454941c45d1b3a323f1433bd6751e76e8199196d454941c45d1b3a323f1433bd6",
            ),
            ("BC1SW50QGDZ25J", "6002751e"),
            ("bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", "5210751e76e8199196d454941c45d1b3a323"),
            (
                "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy",
                "0020000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
            ),
            (
                "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c",
                "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
            ),
            (
                "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
                "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
            ),
        ];
        for (address, script) in valid {
            assert_eq!(script_of(address).as_deref(), Ok(script), "{address}");
        }
        let invalid = [
            ("tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut", InvalidAddress::Malformed),
            ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd", InvalidAddress::Checksum),
            ("tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf", InvalidAddress::Checksum),
            ("BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL", InvalidAddress::Checksum),
            ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh", InvalidAddress::Checksum),
            ("tb1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq24jc47", InvalidAddress::Checksum),
            ("bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4", InvalidAddress::Malformed),
            ("BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R", InvalidAddress::Malformed),
            ("bc1pw5dgrnzv", InvalidAddress::Malformed),
            (
                "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav",
                InvalidAddress::Malformed,
            ),
            ("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P", InvalidAddress::Malformed),
            ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq", InvalidAddress::Malformed),
            ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf", InvalidAddress::Malformed),
            ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j", InvalidAddress::Malformed),
            ("bc1gmk9yu", InvalidAddress::Malformed),
        ];
        for (address, why) in invalid {
            assert_eq!(script_of(address), Err(why), "{address}");
        }
    }

    /// The first block's key, the address that Bitcoin Core's alternative main chain is mined for, and one of a script.
    #[test]
    fn hashes_of_keys_and_scripts_are_those_of_base_58() {
        for (address, script) in [
            ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac"),
            ("1NQpH6Nf8QtR2HphLRcvuVqfhXBXsiWn8r", "76a914eadbac7f36c37e39361168b7aaee3cb24a25312d88ac"),
            ("33iFwdLuRpW1uK1RTRqsoi8rR4NpDzk66k", "a914162c5ea71c0b23f5b9022ef047c4a86470a5b07087"),
        ] {
            assert_eq!(script_of(address).as_deref(), Ok(script));
            let elsewhere = BitcoinNetwork::regtest().script_of(address);
            assert_eq!(elsewhere, Err(InvalidAddress::Network));
        }
        let witness = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
        assert_eq!(BitcoinNetwork::regtest().script_of(witness), Err(InvalidAddress::Network));
        let wrong = [
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNaa",
            "11A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        ];
        let whys = [InvalidAddress::Checksum, InvalidAddress::Malformed, InvalidAddress::Malformed];
        for (address, why) in wrong.into_iter().zip(whys) {
            assert_eq!(script_of(address), Err(why), "{address}");
        }
        for nothing in ["", "1", "0", "bc1", "é"] {
            assert_eq!(script_of(nothing), Err(InvalidAddress::Malformed), "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(text: String, rest in "[02-9ac-hj-np-z]{0,80}") {
            let _ = BitcoinNetwork::main().script_of(&text);
            let _ = BitcoinNetwork::main().script_of(&format!("bc1{rest}"));
            let _ = BitcoinNetwork::main().script_of(&rest);
        }
    }
}
