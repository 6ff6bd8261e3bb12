//! The program `bitcoin` finds payments by filters that rust-bitcoin has made, in messages that it has written: no full node that can
//! be installed here serves them (BIP 157).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "it serves on threads")]

#[path = "../../examples/tests/support/mod.rs"]
mod programs;

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use bitcoin::absolute::LockTime;
use bitcoin::bip158::{BlockFilter, Error, FilterHash, FilterHeader};
use bitcoin::block::Header;
use bitcoin::consensus::{Decodable, serialize};
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_filter::{CFCheckpt, CFHeaders, CFilter};
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::p2p::{Magic, ServiceFlags};
use bitcoin::{
    Address, Amount, Block, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn,
    TxMerkleNode, TxOut, WPubkeyHash, Witness, transaction,
};
use programs::{run, said};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bitcoin-program");

/// A chain, the first block included, and of each block the filter and its header.
struct Node {
    blocks: Vec<Block>,
    filters: Vec<BlockFilter>,
    headers: Vec<FilterHeader>,
}

impl Node {
    fn new(blocks: Vec<Block>) -> Node {
        let (mut filters, mut headers, mut scripts) = (Vec::new(), Vec::new(), BTreeMap::new());
        for block in &blocks {
            for one in &block.txdata {
                for (output, vout) in one.output.iter().zip(0..) {
                    scripts.insert(OutPoint { txid: one.compute_txid(), vout }, output.script_pubkey.clone());
                }
            }
            let script = |spent: &OutPoint| scripts.get(spent).cloned().ok_or(Error::UtxoMissing(*spent));
            let filter = BlockFilter::new_script_filter(block, script).unwrap();
            headers.push(filter.filter_header(headers.last().unwrap_or(&FilterHeader::all_zeros())));
            filters.push(filter);
        }
        Node { blocks, filters, headers }
    }

    fn height(&self, id: &BlockHash) -> usize {
        self.blocks.iter().position(|block| block.block_hash() == *id).unwrap()
    }

    fn answers(&self, msg: &NetworkMessage) -> Vec<NetworkMessage> {
        match msg {
            NetworkMessage::Version(theirs) => {
                let services = ServiceFlags::NETWORK | ServiceFlags::COMPACT_FILTERS;
                let (receiver, sender) = (theirs.sender.clone(), theirs.receiver.clone());
                let (agent, height) = ("/rust-bitcoin/".to_owned(), self.blocks.len() as i32 - 1);
                let ours = VersionMessage::new(services, 0, receiver, sender, 1, agent, height);
                vec![
                    NetworkMessage::Version(VersionMessage { version: 70_015, ..ours }),
                    NetworkMessage::Verack,
                ]
            }
            NetworkMessage::Ping(nonce) => vec![NetworkMessage::Pong(*nonce)],
            NetworkMessage::GetHeaders(asked) => {
                let known = |block: &Block| asked.locator_hashes.contains(&block.block_hash());
                let from = self.blocks.iter().rposition(known).unwrap() + 1;
                let headers = self.blocks[from..].iter().map(|block| block.header).take(2_000);
                vec![NetworkMessage::Headers(headers.collect())]
            }
            NetworkMessage::GetData(wanted) => {
                let block = |one: &Inventory| match one {
                    Inventory::Block(id) => self.blocks[self.height(id)].clone(),
                    other => panic!("{other:?} is asked for"),
                };
                wanted.iter().map(block).map(NetworkMessage::Block).collect()
            }
            NetworkMessage::GetCFHeaders(asked) => {
                let (start, last) = (asked.start_height as usize, self.height(&asked.stop_hash));
                let hashes =
                    self.filters[start..=last].iter().map(|filter| FilterHash::hash(&filter.content));
                vec![NetworkMessage::CFHeaders(CFHeaders {
                    filter_type: asked.filter_type,
                    stop_hash: asked.stop_hash,
                    previous_filter_header: self.headers[start - 1],
                    filter_hashes: hashes.collect(),
                })]
            }
            NetworkMessage::GetCFCheckpt(asked) => {
                let all = self.headers[..=self.height(&asked.stop_hash)].iter().step_by(1_000).skip(1);
                vec![NetworkMessage::CFCheckpt(CFCheckpt {
                    filter_type: asked.filter_type,
                    stop_hash: asked.stop_hash,
                    filter_headers: all.copied().collect(),
                })]
            }
            NetworkMessage::GetCFilters(asked) => {
                let filter = |height: usize| CFilter {
                    filter_type: asked.filter_type,
                    block_hash: self.blocks[height].block_hash(),
                    filter: self.filters[height].content.clone(),
                };
                let heights = asked.start_height as usize..=self.height(&asked.stop_hash);
                heights.map(filter).map(NetworkMessage::CFilter).collect()
            }
            _ => vec![],
        }
    }

    /// Talks with one client until that has gone.
    fn serve(&self, mut stream: TcpStream) {
        let mut input = BufReader::new(stream.try_clone().unwrap());
        while let Ok(msg) = RawNetworkMessage::consensus_decode(&mut input) {
            for answer in self.answers(msg.payload()) {
                if stream.write_all(&serialize(&RawNetworkMessage::new(Magic::REGTEST, answer))).is_err() {
                    return;
                }
            }
        }
    }
}

fn script(key: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([key; 20]))
}

/// Spends an output, or makes money at a height.
fn spend(previous_output: OutPoint, height: u64, to: u8) -> Transaction {
    let script_sig = match previous_output == OutPoint::null() {
        true => ScriptBuf::from([&[8][..], &height.to_le_bytes()].concat()),
        false => ScriptBuf::new(),
    };
    let witness = Witness::from_slice(&[[7; 64]]);
    let input = vec![TxIn { previous_output, script_sig, sequence: Sequence::MAX, witness }];
    let output = vec![TxOut { value: Amount::from_sat(1_000), script_pubkey: script(to) }];
    Transaction { version: transaction::Version::TWO, lock_time: LockTime::ZERO, input, output }
}

fn block(parent: &Header, height: u64, more: &[Transaction]) -> Block {
    let coinbase = spend(OutPoint::null(), height, 1);
    let header = Header {
        prev_blockhash: parent.block_hash(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: parent.time + 1,
        nonce: 0,
        ..*parent
    };
    let mut block = Block { header, txdata: [&[coinbase], more].concat() };
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    while block.header.validate_pow(block.header.target()).is_err() {
        block.header.nonce += 1;
    }
    block
}

/// 1,200 blocks. Key 9 is paid in block 1,100 and pays in block 1,150.
fn chain() -> Vec<Block> {
    let mut blocks = vec![genesis_block(Network::Regtest)];
    for height in 1..=1_200 {
        let first = |block: &Block, at: usize| OutPoint { txid: block.txdata[at].compute_txid(), vout: 0 };
        let more = match height {
            1_100 => vec![spend(first(&blocks[5], 0), height, 9)],
            1_150 => vec![spend(first(&blocks[1_100], 1), height, 8)],
            _ => vec![],
        };
        blocks.push(block(&blocks[blocks.len() - 1].header, height, &more));
    }
    blocks
}

#[test]
fn payments_are_found_by_rust_bitcoins_filters() {
    let blocks = chain();
    let id = |height: usize| blocks[height].txdata[1].compute_txid();
    let (paid, spent) = (id(1_100), id(1_150));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let node = Arc::new(Node::new(blocks.clone()));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (node, stream) = (node.clone(), stream.unwrap());
            thread::spawn(move || node.serve(stream));
        }
    });
    let scan = |key: u8, from: &str| {
        let address = Address::from_script(&script(key), Network::Regtest).unwrap().to_string();
        run(PROGRAM, &["scan", &address, "--network", "regtest", "--connect", &at, "--from", from]).unwrap()
    };
    let end = format!("1200 {}", blocks[1_200].block_hash());
    for from in ["1", "1050"] {
        let found = scan(9, from);
        assert_eq!(said(&found, "paid"), format!("1000 {paid}:0 at 1100"), "{found}");
        assert_eq!(said(&found, "spent"), format!("1000 {paid}:0 at 1150 by {spent}"));
        assert_eq!((said(&found, "unspent"), said(&found, "scanned")), ("0".into(), end.clone()));
    }
    let found = scan(7, "1");
    assert_eq!(found, format!("unspent: 0\nscanned: {end}"));
}
