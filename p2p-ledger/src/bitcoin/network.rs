//! Which of Bitcoin's networks is spoken with.

use p2p_core::Key;
use ruint::aliases::U256;

use super::address::AddressPrefixes;
use super::codec::BitcoinCodec;
use crate::consensus::ProofOfWork;
use crate::filter::Filter;
use crate::header::{BitcoinHeader, Header};
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
    /// What addresses begin with.
    pub addresses: AddressPrefixes,
    /// The first header.
    pub first: BitcoinHeader,
    /// The header of the first block's filter (BIP 157), which the others follow.
    pub first_filter: Key,
    /// What makes the next ones count.
    pub rules: ProofOfWork<BitcoinHeader>,
    /// Work that its chain is known to have: less is shown by liars alone, and costs no memory.
    pub minimum_work: U256,
}

impl BitcoinNetwork {
    /// The one with money in it.
    pub fn main() -> BitcoinNetwork {
        let first = first(1_231_006_505, 0x1d00_ffff, 2_083_236_893);
        let magic = [0xf9, 0xbe, 0xb4, 0xd9];
        let addresses = AddressPrefixes { key: 0, script: 5, witness: "bc" };
        let network =
            BitcoinNetwork::new(magic, 8333, addresses, first, &FIRST_SCRIPT, ProofOfWork::bitcoin());
        BitcoinNetwork { minimum_work: MAIN_WORK, ..network }
    }

    /// The one for tests, the third: its money is worth nothing.
    pub fn testnet() -> BitcoinNetwork {
        let first = first(1_296_688_602, 0x1d00_ffff, 414_098_458);
        let magic = [0x0b, 0x11, 0x09, 0x07];
        let network =
            BitcoinNetwork::new(magic, 18333, of_tests("tb"), first, &FIRST_SCRIPT, ProofOfWork::testnet());
        BitcoinNetwork { minimum_work: TESTNET_WORK, ..network }
    }

    /// The fourth (BIP 94), where easy blocks make no others easy.
    pub fn testnet4() -> BitcoinNetwork {
        let root = [
            0x7a, 0xa0, 0xa7, 0xae, 0x1e, 0x22, 0x34, 0x14, 0xcb, 0x80, 0x7e, 0x40, 0xcd, 0x57, 0xe6, 0x67,
            0xb7, 0x18, 0xe4, 0x2a, 0xaf, 0x93, 0x06, 0xdb, 0x91, 0x02, 0xfe, 0x28, 0x91, 0x2b, 0x7b, 0x4e,
        ];
        let first = first(1_714_777_860, 0x1d00_ffff, 393_743_547);
        let first = BitcoinHeader { root: Key::new(root), ..first };
        // A key of 33 zeros, which is nobody's.
        let mut script = [0; 35];
        (script[0], script[34]) = (33, CHECKSIG);
        let magic = [0x1c, 0x16, 0x3f, 0x28];
        BitcoinNetwork::new(magic, 48333, of_tests("tb"), first, &script, ProofOfWork::testnet4())
    }

    /// The one for regression tests, which everybody has for himself.
    pub fn regtest() -> BitcoinNetwork {
        let first = first(1_296_688_602, 0x207f_ffff, 2);
        let magic = [0xfa, 0xbf, 0xb5, 0xda];
        BitcoinNetwork::new(magic, 18444, of_tests("bcrt"), first, &FIRST_SCRIPT, ProofOfWork::regtest())
    }

    /// A network whose first block pays to a script.
    fn new(
        magic: [u8; 4],
        port: u16,
        addresses: AddressPrefixes,
        first: BitcoinHeader,
        script: &[u8],
        rules: ProofOfWork<BitcoinHeader>,
    ) -> BitcoinNetwork {
        let first_filter = Filter::new(&Filter::key(&first.id()), [script]).header(&Key::ZERO);
        BitcoinNetwork { magic, port, addresses, first, first_filter, rules, minimum_work: U256::ZERO }
    }

    /// The first header alone. The least work of its chain is the network's, unless the rules want more.
    pub fn headers(&self, rules: HeaderRules) -> BitcoinHeaders {
        let minimum_work = rules.minimum_work.max(self.minimum_work);
        HeaderChain::new(self.rules.clone(), self.first, HeaderRules { minimum_work, ..rules })
    }

    /// A codec for one connection.
    pub fn codec(&self) -> BitcoinCodec {
        BitcoinCodec::new(self.magic)
    }
}

/// The work in the main network's chain of block 824,000, at the beginning of 2024 (Bitcoin Core 27, `nMinimumChainWork`).
const MAIN_WORK: U256 = U256::from_limbs([0x98db_40af_5754_1800, 0x63c4_ebd2, 0, 0]);
/// The same of the third test network's, of block 2,550,000.
const TESTNET_WORK: U256 = U256::from_limbs([0xb14e_264b_a6c1_5db9, 0x0c59, 0, 0]);

/// What addresses of networks for tests begin with.
fn of_tests(witness: &'static str) -> AddressPrefixes {
    AddressPrefixes { key: 111, script: 196, witness }
}

/// What ends a script that pays to a key.
const CHECKSIG: u8 = 0xac;

/// What the first blocks pay to, but for that of the fourth test network: a key of 65 bytes.
const FIRST_SCRIPT: [u8; 67] = [
    0x41, 0x04, 0x67, 0x8a, 0xfd, 0xb0, 0xfe, 0x55, 0x48, 0x27, 0x19, 0x67, 0xf1, 0xa6, 0x71, 0x30, 0xb7,
    0x10, 0x5c, 0xd6, 0xa8, 0x28, 0xe0, 0x39, 0x09, 0xa6, 0x79, 0x62, 0xe0, 0xea, 0x1f, 0x61, 0xde, 0xb6,
    0x49, 0xf6, 0xbc, 0x3f, 0x4c, 0xef, 0x38, 0xc4, 0xf3, 0x55, 0x04, 0xe5, 0x1e, 0xc1, 0x12, 0xde, 0x5c,
    0x38, 0x4d, 0xf7, 0xba, 0x0b, 0x8d, 0x57, 0x8a, 0x4c, 0x70, 0x2b, 0x6b, 0xf1, 0x1d, 0x5f, CHECKSIG,
];

/// They pay the same: "The Times 03/Jan/2009 Chancellor on brink of second bailout for banks".
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
    use data_encoding::HEXLOWER;

    use super::*;
    use crate::bitcoin::BitcoinBlock;
    use crate::codec::{Decode, Encode};
    use crate::headers::Refused;

    /// As Bitcoin Core's parameters and BIP 94 have them.
    #[test]
    fn the_first_headers_have_their_names() {
        let names = [
            (BitcoinNetwork::main(), "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"),
            (BitcoinNetwork::testnet(), "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943"),
            (BitcoinNetwork::testnet4(), "00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043"),
            (BitcoinNetwork::regtest(), "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"),
        ];
        for (network, name) in names {
            assert_eq!(network.first.id().to_string(), name);
        }
    }

    /// As Bitcoin Core prints it. Of the main network's chain the first header after the first, alone, is what anybody can show.
    #[test]
    fn a_chain_with_less_work_than_the_network_has_is_not_kept() {
        let works = [
            (BitcoinNetwork::main(), "63c4ebd298db40af57541800"),
            (BitcoinNetwork::testnet(), "c59b14e264ba6c15db9"),
            (BitcoinNetwork::testnet4(), "0"),
            (BitcoinNetwork::regtest(), "0"),
        ];
        for (network, work) in works {
            assert_eq!(network.minimum_work, U256::from_str_radix(work, 16).unwrap());
        }
        let hex =
            b"010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bb\
                    be680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299";
        let second = BitcoinHeader::from_bytes(&HEXLOWER.decode(hex).unwrap()).unwrap();
        let now = second.time();
        let headers = |minimum_work| {
            BitcoinNetwork::main().headers(HeaderRules { minimum_work, ..HeaderRules::default() })
        };
        for (wanted, needed) in [(U256::ZERO, MAIN_WORK), (U256::MAX, U256::MAX)] {
            let refused = headers(wanted).accept(&[second], now);
            assert_eq!(refused, Err(Refused::LowWork { needed, found: U256::from(0x1_0001_0001_u64) }));
        }
        assert_eq!(headers(U256::ZERO).restore(&[second], now), Ok(1), "what was kept may go on");
    }

    /// The main network's is in the tests of rust-bitcoin's users, the third test network's among BIP 158's vectors.
    #[test]
    fn the_first_filters_have_their_headers() {
        let headers = [
            (BitcoinNetwork::main(), "02c2392180d0ce2b5b6f8b08d39a11ffe831c673311a3ecf77b97fc3f0303c9f"),
            (BitcoinNetwork::testnet(), "21584579b7eb08997773e5aeff3a7f932700042d0ed2a6129012b7d7ae81b750"),
        ];
        for (network, header) in headers {
            assert_eq!(network.first_filter.to_string(), header);
        }
    }

    /// The first block of the fourth test network, as BIP 94 prints it.
    #[test]
    fn the_fourth_test_networks_first_block_is_that_of_bip_94() {
        let hex = "0100000000000000000000000000000000000000000000000000000000000000000000004e7b2b9128fe0291\
                   db0693af2ae418b767e657cd407e80cb1434221eaea7a07a046f3566ffff001dbb0c78170101000000010000\
                   000000000000000000000000000000000000000000000000000000000000ffffffff5504ffff001d01044c4c\
                   30332f4d61792f32303234203030303030303030303030303030303030303030316562643538633234343937\
                   3062336161396437383362623030313031316662653865613865393865303065ffffffff0100f2052a010000\
                   002321000000000000000000000000000000000000000000000000000000000000000000ac00000000";
        let block = BitcoinBlock::from_bytes(&HEXLOWER.decode(hex.as_bytes()).unwrap()).unwrap();
        let network = BitcoinNetwork::testnet4();
        assert_eq!(block.header.to_bytes(), network.first.to_bytes());
        assert!(block.is_whole());
        let script = &block.transactions[0].outputs[0].script[..];
        let filter = Filter::new(&Filter::key(&block.header.id()), [script]);
        assert_eq!(network.first_filter, filter.header(&Key::ZERO));
    }
}
