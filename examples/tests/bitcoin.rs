//! `bitcoin` as users run it: it follows nodes that have a real node's blocks, through a reorganisation and `kill -9`, shows where
//! transactions are, and finds what pays to scripts.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use p2p_core::foreign::TcpPeer;
use p2p_core::net::tcp;
use p2p_core::{Cx, Key, Limits, Link, NoJob, NoWorker, OpId, Protocol, Request};
use p2p_ledger::bitcoin::{
    BitcoinBlock, BitcoinInput, BitcoinMsg, BitcoinNetwork, BitcoinOutput, BitcoinTransaction, FilterRange,
    Inventory, MerkleBlock, NODE_COMPACT_FILTERS, NODE_NETWORK, Version,
};
use p2p_ledger::{BitcoinHeader, BlockId, Decode, Encode, Filter, Header, OutPoint, TxId, WorkHeader};
use support::{Running, run, said};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bitcoin");

/// A node that has some blocks, and gives them.
struct Server {
    blocks: Vec<BitcoinBlock>,
    /// Who is told of new ones.
    told: BTreeSet<TcpPeer>,
    /// It says that nothing is in any block.
    hides: bool,
}

impl Server {
    /// The filter of each block: nothing is spent in them.
    fn filters(&self) -> impl Iterator<Item = Filter> {
        self.blocks.iter().map(|block| {
            let outputs = block.transactions.iter().flat_map(|one| &one.outputs).filter(|_| !self.hides);
            let scripts = outputs.map(|output| &output.script[..]);
            Filter::new(&Filter::key(&block.header.id()), scripts.filter(|script| script[0] != 0x6a))
        })
    }

    /// The last of some blocks, as how manieth.
    fn height_of(&self, id: &BlockId) -> usize {
        self.blocks.iter().position(|block| block.header.id() == *id).unwrap() + 1
    }
}

/// It has these blocks from now on.
struct Has(Vec<BitcoinBlock>);

impl Request<Server> for Has {
    type Item = ();
    type Reply = ();

    fn command(self) -> Vec<BitcoinBlock> {
        self.0
    }
    fn item((): ()) -> Option<()> {
        None
    }
    fn reply((): ()) -> Option<()> {
        Some(())
    }
}

impl Protocol for Server {
    type Peer = TcpPeer;
    type Msg = BitcoinMsg;
    type Timer = ();
    type Command = Vec<BitcoinBlock>;
    type Item = ();
    type Outcome = ();
    type Event = ();
    type Job = NoJob;

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: TcpPeer, msg: BitcoinMsg) {
        match msg {
            BitcoinMsg::Version(theirs) => {
                let height = self.blocks.len() as u32;
                let services = NODE_NETWORK | NODE_COMPACT_FILTERS;
                let version = Version { services, height, agent: "/test/".into(), ..theirs };
                cx.send(from, BitcoinMsg::Version(version));
                cx.send(from, BitcoinMsg::Verack);
            }
            BitcoinMsg::SendHeaders => drop(self.told.insert(from)),
            BitcoinMsg::GetHeaders(locator) => {
                let known = |block: &BitcoinBlock| locator.contains(&block.header.id());
                let from_height = self.blocks.iter().rposition(known).map_or(0, |at| at + 1);
                let headers = self.blocks[from_height..].iter().map(|block| block.header).collect();
                cx.send(from, BitcoinMsg::Headers(headers));
            }
            BitcoinMsg::GetData(wanted) => {
                for one in wanted {
                    let has = |block: &&BitcoinBlock| block.header.id().0 == one.hash;
                    let found = self.blocks.iter().find(has).filter(|_| one.kind == Inventory::BLOCK);
                    let answer = found.cloned().map(BitcoinMsg::Block);
                    cx.send(from, answer.unwrap_or_else(|| BitcoinMsg::NotFound(vec![one])));
                }
            }
            BitcoinMsg::GetCFHeaders(FilterRange { start, stop }) => {
                let (start, last) = (start as usize, self.height_of(&stop));
                let previous = self.filters().take(start - 1);
                let first = BitcoinNetwork::regtest().first_filter;
                let previous = previous.fold(first, |previous, filter| filter.header(&previous));
                let hashes = self.filters().take(last).skip(start - 1).map(|filter| filter.hash());
                cx.send(from, BitcoinMsg::CFHeaders(stop, previous, hashes.collect()));
            }
            BitcoinMsg::GetCFilters(FilterRange { start, stop }) => {
                let (start, last) = (start as usize, self.height_of(&stop));
                for (filter, block) in self.filters().zip(&self.blocks).take(last).skip(start - 1) {
                    cx.send(from, BitcoinMsg::CFilter(block.header.id(), filter.as_bytes().to_vec()));
                }
            }
            _ => {}
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, blocks: Vec<BitcoinBlock>) {
        self.blocks = blocks;
        let last: Vec<BitcoinHeader> = self.blocks.last().map(|block| block.header).into_iter().collect();
        self.told.iter().for_each(|peer| cx.send(*peer, BitcoinMsg::Headers(last.clone())));
        cx.finish(op, ());
    }

    fn on_link(&mut self, _: &mut Cx<'_, Self>, peer: TcpPeer, link: Link) {
        if let Link::Down(_) = link {
            self.told.remove(&peer);
        }
    }
}

async fn serve(blocks: &[BitcoinBlock], hides: bool) -> (tcp::Running<Server>, String) {
    let server = Server { blocks: blocks.to_vec(), told: BTreeSet::new(), hides };
    let codec = |_| BitcoinNetwork::regtest().codec();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let running = tcp::spawn(server, codec, Some(listen), Limits::default(), [NoWorker]).await.unwrap();
    let addr = running.local_addr().unwrap().to_string();
    (running, addr)
}

/// 150 blocks of a real node's regression-test network.
fn real_blocks() -> Vec<BitcoinBlock> {
    let text = include_str!("../../p2p-ledger/tests/vectors/regtest_150_blocks.hex");
    text.lines().map(|line| BitcoinBlock::from_bytes(&from_hex(line)).unwrap()).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// A block after this one, of a coinbase alone.
fn block_after(parent: &BitcoinBlock, height: u64) -> BitcoinBlock {
    let nothing = OutPoint { id: TxId(Key::ZERO), index: u32::MAX };
    let script = [&[8][..], &height.to_le_bytes()].concat();
    let coinbase = BitcoinTransaction {
        version: 2,
        inputs: vec![BitcoinInput { previous: nothing, script, sequence: u32::MAX }],
        outputs: vec![BitcoinOutput { value: 50, script: vec![0x51] }],
        lock_time: 0,
    };
    let rules = BitcoinNetwork::regtest().rules;
    let (previous, time) = (parent.header.id(), parent.header.time() + 1);
    // Of one transaction the root is its name.
    let mut header = BitcoinHeader::draft(height, previous, coinbase.id().0, time, rules.limit);
    assert!(rules.mine(&mut header, 0, 1 << 20));
    BitcoinBlock { header, transactions: vec![coinbase] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_is_followed_and_kept_and_transactions_are_found_in_it() {
    let blocks = real_blocks();
    let id = |block: &BitcoinBlock| block.header.id().to_string();
    let (_behind, behind) = serve(&blocks[..100], false).await;
    let (whole, at) = serve(&blocks, false).await;
    let data = std::env::temp_dir().join(format!("p2p-bitcoin-{}", std::process::id()));
    let (file, data) = (data.join("regtest.headers"), data.to_str().unwrap().to_owned());
    let part = ["--network", "regtest", "--connect", &behind, "--connect", &at, "--data", &data];
    let start = |more: &[&str]| Running::start(Command::new(PROGRAM).arg("follow").args(part).args(more));
    let prove = |more: &[&str]| run(PROGRAM, &[&["prove"][..], &part, more].concat());

    let mut follow = start(&[]);
    assert_eq!(follow.says("kept"), "0");
    assert_eq!(follow.says("tip"), format!("150 {}", id(&blocks[149])));
    // Two hashes for each block, on the average.
    assert_eq!(follow.says("work"), "0x12c");
    let second = prove(&["--block", "1", &blocks[0].transactions[0].id().to_string()]).unwrap_err();
    assert!(second.contains("another process"), "{second}");

    // The last two blocks are undone.
    let mut branch = blocks[..148].to_vec();
    for height in 149..=151 {
        branch.push(block_after(&branch[branch.len() - 1], height));
    }
    whole.handle().ask(Has(branch.clone())).await.unwrap();
    assert_eq!(follow.says("undone"), "2");
    assert_eq!(follow.says("tip"), format!("151 {}", id(&branch[150])));
    follow.kill();

    // What was printed is kept; what was torn at the end, or is something else, is fetched again.
    let headers = std::fs::read(&file).unwrap();
    assert_eq!(headers.len(), 151 * 80);
    let mut garbled = headers.clone();
    garbled[100 * 80 + 4] ^= 1;
    for (there, kept) in [(&headers[..], 151), (&headers[..150 * 80 + 30], 150), (&garbled, 100)] {
        std::fs::write(&file, there).unwrap();
        let mut follow = start(&["--json"]);
        let said = |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap();
        assert_eq!(said(follow.hears())["kept"], kept);
        let tip = said(follow.hears());
        assert_eq!((&tip["height"], &tip["id"]), (&151.into(), &id(&branch[150]).into()));
        follow.kill();
        assert_eq!(std::fs::read(&file).unwrap(), headers);
    }

    // What is too new by this clock may have been written by another, and stays.
    let rules = BitcoinNetwork::regtest().rules;
    let in_2100 = 4_102_444_800;
    let mut early = BitcoinHeader::draft(152, branch[150].header.id(), Key::ZERO, in_2100, rules.limit);
    assert!(rules.mine(&mut early, 0, 1 << 20));
    let with_it = [&headers[..], &early.to_bytes()].concat();
    std::fs::write(&file, &with_it).unwrap();
    let mut follow = start(&[]);
    assert_eq!(follow.says("kept"), "151");
    assert_eq!(follow.says("tip"), format!("151 {}", id(&branch[150])));
    follow.kill();
    assert_eq!(std::fs::read(&file).unwrap(), with_it);

    // What is in the chain is shown, and where.
    let paid = &blocks[99].transactions[0].id();
    let name = paid.to_string();
    let shown = prove(&[&name]).unwrap();
    assert_eq!((said(&shown, "height"), said(&shown, "confirmations")), ("100".into(), "52".into()));
    let proof = MerkleBlock::from_bytes(&from_hex(&said(&shown, "proof"))).unwrap();
    assert_eq!((proof.header, proof.shown().unwrap()), (blocks[99].header, vec![*paid]));
    let json = prove(&["--json", "--block", &id(&blocks[99]), &name]).unwrap();
    let json: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!((&json["block"], &json["confirmations"]), (&id(&blocks[99]).into(), &52.into()));
    for (more, why) in [
        (&["--block", "99"][..], "is not in block 99"),
        (&["--block", "152"], "there is no block 152"),
        (&["--block", &id(&blocks[149])], "is not on the chain"),
        (&["--last", "20"], "any of the last 20 blocks"),
    ] {
        let refused = prove(&[more, &[&name]].concat()).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    std::fs::remove_dir_all(data).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_pays_to_a_script_is_found_among_liars_and_no_script_is_told() {
    let mut blocks = real_blocks();
    for height in [151, 152] {
        blocks.push(block_after(&blocks[blocks.len() - 1], height));
    }
    let (_honest, honest) = serve(&blocks, false).await;
    let (_liar, liar) = serve(&blocks, true).await;
    let scan = |scripts: &[&str], more: &[&str]| {
        let part = ["--network", "regtest", "--connect", &liar, "--connect", &honest];
        run(PROGRAM, &[&["scan"][..], scripts, &part, more].concat())
    };
    // Those two pay to anybody.
    let found = scan(&["51"], &[]).unwrap();
    let paid: Vec<&str> = found.lines().filter_map(|line| line.strip_prefix("paid: ")).collect();
    let pays = |at: usize| format!("50 {}:0 at {}", blocks[at].transactions[0].id(), at + 1);
    assert_eq!(paid, [pays(150), pays(151)]);
    assert_eq!(
        (said(&found, "unspent"), said(&found, "scanned")),
        ("100".into(), format!("152 {}", blocks[151].header.id()))
    );
    // All others pay to one key.
    let script: String =
        blocks[9].transactions[0].outputs[0].script.iter().map(|byte| format!("{byte:02x}")).collect();
    let found = scan(&[&script], &["--from", "140", "--json"]).unwrap();
    let found: Vec<serde_json::Value> =
        found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let heights: Vec<u64> = found.iter().filter_map(|line| line["height"].as_u64()).collect();
    assert_eq!(heights, (140..=150).collect::<Vec<u64>>());
    assert_eq!(found.last().unwrap()["scanned"], 152);
    for (scripts, more, why) in [
        (&["5x"], &[][..], "5x: it is no address"),
        (&["bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"], &[], "another network"),
        (&["51"], &["--from", "154"], "there is no block 153 yet"),
    ] {
        let refused = scan(scripts, more).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}
