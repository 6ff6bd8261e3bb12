//! Nodes of a currency with next to no work.

use p2p_core::{Cx, Key, NoJob, OpId, Protocol, Rng, Script, SimPeer, Wire, Worker};
use p2p_ledger::{
    Block, BlockHeader, BlockId, Chain, ChainRules, Coins, Encode, Header, HeaderChain, HeaderRules, Keeper,
    LedgerConfig, LedgerDone, LedgerEvent, LedgerJob, LedgerMsg, LedgerNode, MemoryStore, Pool, PoolRules,
    ProofOfWork, Tip, Transaction, Verifier, Work, put_list, transactions_root,
};
use p2p_overlay::{Membership, MembershipCommand, Neighbour, Parting};
use serde::{Deserialize, Serialize};

#[path = "../support/people.rs"]
mod people;

pub(crate) use people::{CHAIN, MATURITY, SUBSIDY, keypair, pay, spend};

pub(crate) type Light = BlockHeader<Work>;
pub(crate) type CoinBlock = Block<Light, Transaction>;
pub(crate) type Pow = ProofOfWork<Light>;
pub(crate) type Books = Keeper<Pow, Coins, MemoryStore>;

/// Made when the clocks of [`Script`] begin.
pub(crate) fn genesis() -> Light {
    let seal = Work { bits: Pow::regtest().limit, nonce: 0 };
    BlockHeader { height: 0, previous: BlockId::NONE, root: Key::ZERO, time: 0, seal }
}

/// Whoever keeps the chain.
pub(crate) fn books(headers: HeaderRules, pool: PoolRules) -> Books {
    books_with(headers, pool, ChainRules::default())
}

/// The same, but for bodies that are not among the last.
pub(crate) fn pruned_books(keep: u64) -> Books {
    let headers = HeaderRules { finality: Some(keep), ..HeaderRules::default() };
    books_with(headers, PoolRules::default(), ChainRules { keep: Some(keep), ..ChainRules::default() })
}

/// The same, of blocks that have at most so many bytes.
pub(crate) fn long_books(block_bytes: usize) -> Books {
    let rules = ChainRules { block_bytes, ..ChainRules::default() };
    books_with(HeaderRules::default(), PoolRules::default(), rules)
}

fn books_with(headers: HeaderRules, pool: PoolRules, rules: ChainRules) -> Books {
    let coins = Coins { halving: 0, maturity: MATURITY, ..Coins::new(CHAIN, SUBSIDY) };
    let headers = HeaderChain::new(Pow::regtest(), genesis(), headers);
    let store = MemoryStore::default();
    let chain = Chain::new(headers, coins, store, Verifier::new([9; 32]), rules);
    Keeper::new(chain, Pool::new(pool))
}

/// A block after this header, of just these transactions.
pub(crate) fn whole(parent: &Light, transactions: Vec<Transaction>) -> CoinBlock {
    let root = transactions_root(&transactions);
    let Light { height, time, seal, .. } = *parent;
    let mut header = Light { height: height + 1, previous: parent.id(), root, time: time + 1, seal };
    assert!(Pow::regtest().mine(&mut header, 0, 1 << 20));
    Block { header, transactions }
}

/// A block after this header, with what its miner takes.
pub(crate) fn block(parent: &Light, miner: u8, transactions: &[Transaction]) -> CoinBlock {
    let coinbase = Transaction::coinbase(CHAIN, parent.height + 1, [pay(miner, SUBSIDY)]);
    whole(parent, [&[coinbase], transactions].concat())
}

/// So many blocks after this header.
pub(crate) fn branch(parent: &Light, miner: u8, length: usize) -> Vec<CoinBlock> {
    let mut blocks: Vec<CoinBlock> = Vec::new();
    for _ in 0..length {
        let parent = blocks.last().map_or(parent, |block| &block.header);
        blocks.push(block(parent, miner, &[]));
    }
    blocks
}

/// A membership whose neighbours are there from the beginning and stay, unless they are expelled.
#[derive(Debug)]
pub(crate) struct Fixed {
    me: SimPeer,
    active: Vec<SimPeer>,
}

impl Fixed {
    pub(crate) fn new(me: SimPeer, active: impl IntoIterator<Item = SimPeer>) -> Fixed {
        Fixed { me, active: active.into_iter().collect() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Never {}
impl Wire for Never {}

impl Protocol for Fixed {
    type Peer = SimPeer;
    type Msg = Never;
    type Timer = ();
    type Command = MembershipCommand<SimPeer>;
    type Item = ();
    type Outcome = ();
    type Event = Neighbour<SimPeer>;
    type Job = NoJob;

    fn on_message(&mut self, _: &mut Cx<'_, Self>, _: SimPeer, msg: Never) {
        match msg {}
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: MembershipCommand<SimPeer>) {
        if let MembershipCommand::Expel(peer) = command
            && let Some(at) = self.active.iter().position(|one| *one == peer)
        {
            self.active.remove(at);
            cx.emit(Neighbour::Down(peer, Parting::Slow));
        }
        cx.finish(op, ());
    }
}

impl Membership for Fixed {
    fn me(&self) -> SimPeer {
        self.me
    }

    fn active(&self) -> &[SimPeer] {
        &self.active
    }

    fn is_joined(&self) -> bool {
        true
    }
}

pub(crate) type Machine = LedgerNode<Fixed, Pow, Coins>;
pub(crate) type Msg = LedgerMsg<Never>;

/// One node, whose neighbours are whoever writes the test: peers 1 to 4.
pub(crate) struct Lone {
    pub(crate) script: Script<Machine>,
    pub(crate) books: Books,
    sent: Vec<(SimPeer, Msg)>,
    events: Vec<LedgerEvent<SimPeer>>,
}

impl Lone {
    pub(crate) fn new() -> Lone {
        Lone::with(HeaderRules::default())
    }

    pub(crate) fn with(headers: HeaderRules) -> Lone {
        Lone::keeping(books(headers, PoolRules::default()))
    }

    pub(crate) fn keeping(books: Books) -> Lone {
        Lone::configured(books, LedgerConfig::default())
    }

    pub(crate) fn configured(books: Books, config: LedgerConfig) -> Lone {
        let membership = Fixed::new(SimPeer(0), (1..=4).map(SimPeer));
        let script = Script::new(Machine::new(membership, config));
        let mut lone = Lone { script, books, sent: Vec::new(), events: Vec::new() };
        lone.work();
        lone
    }

    /// A node with a chain of these blocks, of which its user has told it.
    pub(crate) fn at(blocks: &[CoinBlock]) -> Lone {
        let mut lone = Lone::new();
        for block in blocks {
            lone.mined(block.clone());
        }
        for (peer, msg) in lone.sent() {
            if let LedgerMsg::GetHeaders { id, .. } = msg {
                lone.says(peer.0, LedgerMsg::Headers { answers: Some(id), headers: headers(&[]) });
            }
        }
        lone.sent();
        lone
    }

    pub(crate) fn mined(&mut self, block: CoinBlock) {
        self.script.command(p2p_ledger::LedgerCommand::Mined(block));
        self.work();
    }

    /// Does all jobs.
    fn work(&mut self) {
        loop {
            let jobs = self.script.jobs();
            self.sent.extend(self.script.sent());
            self.events.extend(self.script.events());
            if jobs.is_empty() {
                return;
            }
            for (id, job) in jobs {
                let done = self.books.run(vec![job]).remove(0);
                self.script.done(id, done);
            }
        }
    }

    pub(crate) fn says(&mut self, from: u32, msg: Msg) {
        self.script.message(SimPeer(from), msg);
        self.work();
    }

    pub(crate) fn advance(&mut self, seconds: u64) {
        for _ in 0..2 * seconds {
            self.script.advance(std::time::Duration::from_millis(500));
            self.work();
        }
    }

    /// What it has said since the last look.
    pub(crate) fn sent(&mut self) -> Vec<(SimPeer, Msg)> {
        std::mem::take(&mut self.sent)
    }

    /// What it has said to this peer since the last look at anything.
    pub(crate) fn sent_to(&mut self, to: u32) -> Vec<Msg> {
        self.sent().into_iter().filter(|(peer, _)| peer.0 == to).map(|(_, msg)| msg).collect()
    }

    pub(crate) fn tip(&self) -> Tip {
        self.books.chain().tip()
    }

    /// Who is banned, and why.
    pub(crate) fn banned(&mut self) -> Vec<(u32, String)> {
        let events = std::mem::take(&mut self.events).into_iter();
        let banned = events.filter_map(|event| match event {
            LedgerEvent::Banned(peer, why) => Some((peer.0, why.to_string())),
            _ => None,
        });
        banned.collect()
    }

    /// The number of the last question for headers that it has asked this peer.
    pub(crate) fn question(&mut self, to: u32) -> u32 {
        let asked = self.sent_to(to).into_iter().filter_map(|msg| match msg {
            LedgerMsg::GetHeaders { id, .. } => Some(id),
            _ => None,
        });
        asked.last().expect("it asks for headers")
    }

    /// Announces headers.
    pub(crate) fn announces(&mut self, from: u32, blocks: &[CoinBlock]) {
        self.says(from, LedgerMsg::Headers { answers: None, headers: headers(blocks) });
    }
}

/// The headers of blocks as they travel.
pub(crate) fn headers(blocks: &[CoinBlock]) -> bytes::Bytes {
    list(&blocks.iter().map(|block| block.header.clone()).collect::<Vec<_>>())
}

/// Values as they travel.
pub(crate) fn list<T: Encode>(values: &[T]) -> bytes::Bytes {
    let mut out = Vec::new();
    put_list(&mut out, values);
    out.into()
}

/// A block as it travels.
pub(crate) fn sent_block(block: &CoinBlock) -> Msg {
    LedgerMsg::Block { id: block.header.id(), block: block.to_bytes().into() }
}

/// A keeper that looks after each batch whether all coins add up to what was made, and nothing is undone for less work.
pub(crate) struct Audited {
    pub(crate) books: Books,
    last: Tip,
    /// It looks: for long chains that takes longest of all.
    looks: bool,
}

impl Audited {
    pub(crate) fn new(books: Books) -> Audited {
        let last = books.chain().tip();
        Audited { books, last, looks: true }
    }

    pub(crate) fn blind(books: Books) -> Audited {
        Audited { looks: false, ..Audited::new(books) }
    }

    fn audit(&mut self) {
        let (chain, before) = (self.books.chain(), self.last);
        let tip = chain.tip();
        if tip == before || !self.looks {
            return;
        }
        assert!(tip.work > before.work, "from {before:?} to {tip:?}");
        let supply = chain.state().supply(&chain.view());
        let coins = Coins::<p2p_ledger::NoPredicate>::all(chain.store());
        assert_eq!(coins.map(|(_, coin)| coin.output.value).sum::<u64>(), supply, "at {tip:?}");
        assert!(supply <= tip.height * SUBSIDY);
        self.last = tip;
    }
}

impl Worker<LedgerJob<Pow, Coins>> for Audited {
    fn run(&mut self, batch: Vec<LedgerJob<Pow, Coins>>) -> Vec<LedgerDone<Pow, Coins>> {
        let done = self.books.run(batch);
        self.audit();
        done
    }

    fn crash(&mut self, batch: Vec<LedgerJob<Pow, Coins>>, rng: &mut Rng) {
        self.books.crash(batch, rng);
        self.audit();
    }
}
