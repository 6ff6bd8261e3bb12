//! Which of Bitcoin's networks is spoken with.

use p2p_core::Key;

use super::codec::BitcoinCodec;
use crate::consensus::ProofOfWork;
use crate::header::BitcoinHeader;
use crate::headers::{HeaderChain, HeaderRules};
use crate::id::BlockId;
use crate::target::Compact;

/// The headers of one of Bitcoin's networks.
pub type BitcoinHeaders = HeaderChain<ProofOfWork<BitcoinHeader>>;

/// One of Bitcoin's networks, or of those that were made after it.
#[derive(Clone, Debug)]
pub struct BitcoinNetwork {
    /// What every message begins with.
    pub magic: [u8; 4],
    /// The port where nodes are usually reached.
    pub port: u16,
    /// The first header.
    pub first: BitcoinHeader,
    /// What makes the next ones count.
    pub rules: ProofOfWork<BitcoinHeader>,
}

impl BitcoinNetwork {
    /// The one with money in it.
    pub fn main() -> BitcoinNetwork {
        BitcoinNetwork {
            magic: [0xf9, 0xbe, 0xb4, 0xd9],
            port: 8333,
            first: first(1_231_006_505, 0x1d00_ffff, 2_083_236_893),
            rules: ProofOfWork::bitcoin(),
        }
    }

    /// The one for tests, the third: its money is worth nothing.
    pub fn testnet() -> BitcoinNetwork {
        BitcoinNetwork {
            magic: [0x0b, 0x11, 0x09, 0x07],
            port: 18333,
            first: first(1_296_688_602, 0x1d00_ffff, 414_098_458),
            rules: ProofOfWork::testnet(),
        }
    }

    /// The one for regression tests, which everybody has for himself.
    pub fn regtest() -> BitcoinNetwork {
        BitcoinNetwork {
            magic: [0xfa, 0xbf, 0xb5, 0xda],
            port: 18444,
            first: first(1_296_688_602, 0x207f_ffff, 2),
            rules: ProofOfWork::regtest(),
        }
    }

    /// The first header alone.
    pub fn headers(&self, rules: HeaderRules) -> BitcoinHeaders {
        HeaderChain::new(self.rules.clone(), self.first, rules)
    }

    /// A codec for one connection.
    pub fn codec(&self) -> BitcoinCodec {
        BitcoinCodec::new(self.magic)
    }
}

/// All first blocks pay the same: "The Times 03/Jan/2009 Chancellor on brink of second bailout for banks".
fn first(time: u32, bits: u32, nonce: u32) -> BitcoinHeader {
    let root = [
        0x4a, 0x5e, 0x1e, 0x4b, 0xaa, 0xb8, 0x9f, 0x3a, 0x32, 0x51, 0x8a, 0x88, 0xc3, 0x1b, 0xc8, 0x7f, 0x61,
        0x8f, 0x76, 0x67, 0x3e, 0x2c, 0xc7, 0x7a, 0xb2, 0x12, 0x7b, 0x7a, 0xfd, 0xed, 0xa3, 0x3b,
    ];
    let (previous, root) = (BlockId::NONE, Key::new(root));
    BitcoinHeader { version: 1, previous, root, time, bits: Compact(bits), nonce }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Header;

    #[test]
    fn the_first_headers_have_their_names() {
        let names = [
            (BitcoinNetwork::main(), "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"),
            (BitcoinNetwork::testnet(), "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943"),
            (BitcoinNetwork::regtest(), "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"),
        ];
        for (network, name) in names {
            assert_eq!(network.first.id().to_string(), name);
        }
    }
}
