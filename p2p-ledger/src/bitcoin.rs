//! Bitcoin's own network, for whoever has the headers alone (Nakamoto 2008, §8): a client that follows the chain of real nodes
//! over TCP, shows that a transaction is in one of its blocks, and finds what pays to somebody. Feature `bitcoin`.
//!
//! - **Headers** come from every node that it was given, and are checked: the chain is the one with the most work that any of them
//!   shows. New ones are said unasked (BIP 130). Where a chain must have a least work ([`BitcoinNetwork::minimum_work`]) a long one
//!   comes twice ([`HeaderSync`](crate::HeaderSync)): what has not shown that work yet is followed, and not kept.
//! - **Transactions** are looked for in whole blocks, of which nothing can be left out. That costs up to 1 MB for each, for they come
//!   without witnesses; or by filters (BIP 37), if [`BitcoinConfig::filters`] says so: then the node learns, roughly, what is looked
//!   for, may keep it to itself, and sends no more than that.
//! - **Payments** are found by the filters of blocks (BIP 157, 158; [`Scan`]), which are the same for everybody: no node learns what is
//!   looked for. All nodes that serve filters name them all, and where they differ the block tells who lies. What one honest node
//!   that answers in time says is found, whatever the others do; unless as many others or more leave out of the filters of nine blocks
//!   what these spend, which no block shows: then it is not heard any more.
//! - **Proofs** ([`MerkleBlock`]) are Bitcoin Core's own: what `gettxoutproof` gives, and `verifytxoutproof` takes.
//!
//! What nodes say is bounded: a message by 4,000,000 bytes, and by what [`Limits`](p2p_core::Limits) let wait; there are at most 16
//! nodes, and nothing that was not asked for is kept; of each node while its headers are followed by themselves some 18,000 of them, 2 MB; at most 2,000 filter headers that are not believed yet, 32 bytes
//! for every 1,000th block, and while nodes name several filters of a block the filter that it has named, and the block once for all. What is
//! believed of filters takes 64 bytes for each block from a little before where somebody scans. A node that has provably lied is
//! not dialled again. Addresses that nodes tell are not looked at: whom to trust with being one honest node among some is for the
//! application to say.
//!
//! ```no_run
//! use std::time::Duration;
//! use p2p_core::Limits;
//! use p2p_core::foreign::TcpPeer;
//! use p2p_ledger::bitcoin::{BitcoinClient, BitcoinConfig, BitcoinNetwork, Prove, Synced};
//! use p2p_ledger::{HeaderRules, TxId};
//! # async fn run<R>(spawn: impl AsyncFn(BitcoinClient<TcpPeer>) -> p2p_core::Handle<BitcoinClient<TcpPeer>>)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let network = BitcoinNetwork::main();
//! let headers = network.headers(HeaderRules::default());
//! let nodes = ["127.0.0.1:8333".parse()?];
//! let client = BitcoinClient::<TcpPeer>::new(&network, nodes, headers, BitcoinConfig::default());
//! // In a program: p2p_core::net::tcp::spawn(client, move |_| network.codec(), None, Limits::default(), [])
//! let client = spawn(client).await;
//! let tip = client.ask(Synced).await??;
//! println!("{} blocks", tip.height);
//! let (block, transaction) = (tip.id, TxId("4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b".parse()?));
//! if let Some(found) = client.ask(Prove { block, transaction }).await?? {
//!     println!("paid, {} blocks deep", found.confirmations);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! In this order: [`BitcoinClient`], `network`, `address`, `codec` (what is said), `transaction`, `merkle`, `bloom`, `nodes` (who is dialled,
//! and greeted), `headers`, `filters` (which are believed), `dispute` (who lies about them), `tasks` (what users want), `scan`, `request`.

mod address;
mod bloom;
mod codec;
mod dispute;
mod filters;
mod headers;
mod merkle;
mod network;
mod nodes;
mod request;
mod scan;
mod tasks;
mod transaction;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use p2p_core::{Cx, Link, NoJob, OpId, Protocol};
use p2p_overlay::Place;

use crate::header::Header;
use crate::headers::Tip;
use crate::ledger::Change;

use filters::Filters;
use nodes::Node;
use tasks::Task;

pub use address::{AddressPrefixes, InvalidAddress};
pub use bloom::Bloom;
pub use codec::{
    BitcoinCodec, BitcoinMsg, FilterRange, Inventory, NODE_BLOOM, NODE_COMPACT_FILTERS, NODE_NETWORK, Version,
};
pub use merkle::{BrokenProof, MerkleBlock};
pub use network::{BitcoinHeaders, BitcoinNetwork};
pub use nodes::Useless;
pub use request::{
    BitcoinCommand, BitcoinError, BitcoinOutcome, BitcoinStatus, HeaderAt, HeadersAfter, Matching, Prove,
    Proved, Scan, Status, Synced,
};
pub use transaction::{BitcoinBlock, BitcoinInput, BitcoinOutput, BitcoinTransaction};

/// A client of nodes of one of Bitcoin's networks. It runs over TCP, each connection with a codec of
/// [`BitcoinNetwork::codec`]; users ask by [`Synced`], [`Status`], [`HeaderAt`], [`HeadersAfter`], [`Prove`],
/// [`Matching`] and [`Scan`].
pub struct BitcoinClient<P> {
    config: BitcoinConfig,
    chain: BitcoinHeaders,
    /// Where the chain ended when that was said last.
    told: Tip,
    nodes: Vec<Node<P>>,
    filters: Filters,
    /// The number of the last connection.
    number: u64,
    tasks: BTreeMap<OpId, Task>,
}

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct BitcoinConfig {
    /// Whether transactions are looked for by filters (BIP 37), where nodes take them. No: in whole blocks.
    pub filters: bool,
    /// How long a node has to greet, or to answer, before it is dialled anew and another is asked. 30 s.
    pub timeout: Duration,
    /// After how much silence a node is asked whether it is there. 60 s.
    pub silence: Duration,
    /// How long a user's question waits while no node answers it and the chain does not grow. A node whose headers have too little
    /// work yet is waited for up to ten times as long, one after the other. 120 s.
    pub patience: Duration,
}

impl Default for BitcoinConfig {
    fn default() -> BitcoinConfig {
        BitcoinConfig {
            filters: false,
            timeout: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            patience: Duration::from_secs(120),
        }
    }
}

/// What a client says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BitcoinEvent {
    /// The chain has changed.
    Changed(Arc<Change>),
    /// A node has provably lied, in this way, and is not dialled any more.
    Lied(SocketAddr, Arc<str>),
    /// A node is of no use now, for another reason than before.
    Useless(SocketAddr, Useless),
}

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);

impl<P: Place> BitcoinClient<P> {
    /// A client of a network that begins with the first header of `chain`, or with what else is in it, and dials these nodes: at
    /// most 16.
    pub fn new(
        network: &BitcoinNetwork,
        nodes: impl IntoIterator<Item = SocketAddr>,
        chain: BitcoinHeaders,
        config: BitcoinConfig,
    ) -> BitcoinClient<P> {
        let mut once: Vec<SocketAddr> = Vec::new();
        for node in nodes {
            if once.len() < nodes::MOST && !once.contains(&node) {
                once.push(node);
            }
        }
        let nodes = once.into_iter().map(Node::new).collect();
        let filters = Filters::new(network.first.id(), network.first_filter);
        BitcoinClient { config, told: chain.tip(), chain, nodes, filters, number: 0, tasks: BTreeMap::new() }
    }

    /// The headers: to be kept for the next time, say.
    pub fn headers(&self) -> &BitcoinHeaders {
        &self.chain
    }

    /// Which nodes have lied, and how.
    pub fn liars(&self) -> impl Iterator<Item = (SocketAddr, &str)> {
        self.nodes.iter().filter_map(|node| node.lied.as_deref().map(|how| (node.addr, how)))
    }

    /// Does all that can be done now.
    fn go_on(&mut self, cx: &mut Cx<'_, Self>) {
        self.ask_for_headers(cx);
        if self.told != self.chain.tip() {
            let change = self.chain.since(&self.told);
            self.told = change.tip;
            self.be_patient(cx.now());
            cx.emit(BitcoinEvent::Changed(Arc::new(change)));
        }
        self.learn_filters(cx);
        for task in self.tasks.keys().copied().collect::<Vec<OpId>>() {
            self.step(cx, task);
        }
    }
}

impl<P: Place> Protocol for BitcoinClient<P> {
    type Peer = P;
    type Msg = BitcoinMsg;
    type Timer = ();
    type Command = BitcoinCommand;
    type Item = ();
    type Outcome = BitcoinOutcome;
    type Event = BitcoinEvent;
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.on_timer(cx, ());
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: BitcoinMsg) {
        let Some(at) = self.node_of(from) else { return };
        self.nodes[at].heard(cx.now());
        match msg {
            BitcoinMsg::Version(version) => self.greeted(cx, at, version),
            BitcoinMsg::Verack => self.welcomed(cx, at),
            _ if !self.nodes[at].is_ready() => {}
            BitcoinMsg::Ping(nonce) => cx.send(from, BitcoinMsg::Pong(nonce)),
            BitcoinMsg::Headers(headers) => self.headers_came(cx, at, &headers),
            BitcoinMsg::Inv(all) => self.heard_of(cx, at, &all),
            BitcoinMsg::Block(block) => self.block_came(cx, at, block),
            BitcoinMsg::MerkleBlock(tree) => self.tree_came(cx, at, tree),
            BitcoinMsg::Tx(transaction) => self.transaction_came(cx, at, transaction),
            BitcoinMsg::NotFound(all) => self.missing(at, &all),
            BitcoinMsg::CFHeaders(stop, previous, hashes) => {
                self.filter_headers_came(cx, at, stop, previous, &hashes);
            }
            BitcoinMsg::CFCheckpt(stop, headers) => self.checkpoints_came(cx, at, stop, headers),
            BitcoinMsg::CFilter(block, bytes) => {
                self.disputed_filter_came(cx, at, block, &bytes);
                self.filter_came(cx, at, block, bytes);
            }
            // This one serves nobody, and what is unknown says nothing to it.
            BitcoinMsg::GetHeaders(_)
            | BitcoinMsg::GetData(_)
            | BitcoinMsg::FilterLoad(_)
            | BitcoinMsg::GetCFilters(_)
            | BitcoinMsg::GetCFHeaders(_)
            | BitcoinMsg::GetCFCheckpt(_)
            | BitcoinMsg::SendHeaders
            | BitcoinMsg::Pong(_)
            | BitcoinMsg::Other
            | BitcoinMsg::HangUp => {}
        }
        self.go_on(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, (): ()) {
        cx.set_timer(TICK, ());
        self.look_after_nodes(cx);
        self.go_on(cx);
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: BitcoinCommand) {
        self.begin(cx, op, command);
        self.go_on(cx);
    }

    fn on_cancel(&mut self, _: &mut Cx<'_, Self>, op: OpId) {
        self.tasks.remove(&op);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        if let (Link::Down(why), Some(at)) = (link, self.node_of(peer)) {
            self.lost(cx, at, why);
            self.go_on(cx);
        }
    }
}

impl<P> fmt::Debug for BitcoinClient<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BitcoinClient({} nodes, {:?})", self.nodes.len(), self.told)
    }
}

#[cfg(test)]
mod tests;
