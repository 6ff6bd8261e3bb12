//! A light client among servers, some of which lie.

mod answers;
mod chains;
mod disputes;
mod filters;
mod proofs;
mod transactions;
mod waiting;

use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Key, Link, Script, SimPeer, Worker};
use p2p_ledger::{
    Coins, Encode, Filter, Header, HeaderChain, HeaderRules, Inclusion, LedgerDone, LedgerError, LedgerJob,
    LedgerMsg, LightAnswer, LightAsk, LightCommand, LightConfig, LightEvent, LightMsg, LightNode,
    LightOutcome, Mark, PoolRules, Prove, Scan, Scanned, Tip, Transaction, Tx, TxId, put_blob, put_count,
};
use ruint::aliases::U256;

use super::support::{
    Books, CoinBlock, Fixed, Light, MATURITY, Msg, Pow, SUBSIDY, block, books, branch, genesis, headers, pay,
    spend, whole,
};

type Machine = LightNode<Fixed, Pow, Coins>;
type Outcome = LightOutcome<Pow, Coins>;

/// What a server makes of an honest answer; `None`: nothing.
type Lie = fn(&CoinBlock, &LightAsk, LightAnswer) -> Option<LightAnswer>;

fn honest(_: &CoinBlock, _: &LightAsk, answer: LightAnswer) -> Option<LightAnswer> {
    Some(answer)
}

/// A server, and the blocks that it lies about.
struct Server {
    books: Books,
    about: Vec<CoinBlock>,
    lie: Lie,
}

impl Server {
    fn serve(&mut self, ask: &LightAsk) -> LightAnswer {
        let done = self.books.run(vec![LedgerJob::Serve { ask: ask.clone(), now: 1_000 }]).remove(0);
        let LedgerDone::Served(done) = done else { panic!("{done:?}") };
        done.answer
    }

    /// What it says. Of hashes of filters always as if it was asked for all, so that each fits what it has said before.
    fn answer(&mut self, ask: &LightAsk) -> Option<LightAnswer> {
        let (mut asked, mut before) = (ask.clone(), 0);
        let mut answer = self.serve(ask);
        if let LightAsk::FilterHashes { from, to } = *ask {
            let all = LightAsk::FilterHashes { from: 1, to };
            if let of_all @ LightAnswer::FilterHashes { .. } = self.serve(&all) {
                (asked, before, answer) = (all, from as usize - 1, of_all);
            }
        }
        let mut said =
            self.about.iter().try_fold(answer, |answer, about| (self.lie)(about, &asked, answer))?;
        if let LightAnswer::FilterHashes { previous, hashes } = &mut said {
            let before: Vec<Key> = hashes.drain(..before.min(hashes.len())).collect();
            *previous = before.iter().fold(*previous, |header, hash| Filter::header_of(hash, &header));
        }
        Some(said)
    }
}

/// A light client whose servers, 1 and so on, are asked by hand.
struct Client {
    script: Script<Machine>,
    servers: Vec<Server>,
    events: Vec<LightEvent<SimPeer>>,
    outcomes: Vec<Outcome>,
    /// What was asked of whom.
    asked: Vec<(u32, LightAsk)>,
    /// The numbers of questions that were not answered.
    unanswered: Vec<u32>,
}

fn headers_alone(rules: HeaderRules) -> HeaderChain<Pow> {
    HeaderChain::new(Pow::regtest(), genesis(), rules)
}

impl Client {
    /// With servers that all have these blocks.
    fn of(blocks: &[CoinBlock], lies: &[(&CoinBlock, Lie)]) -> Client {
        let mut client = Client::asking(HeaderRules::default(), 0);
        for (about, lie) in lies {
            client.add(blocks, about, *lie);
        }
        client
    }

    fn asking(rules: HeaderRules, servers: u32) -> Client {
        Client::with(rules, servers, LightConfig::default())
    }

    fn with(rules: HeaderRules, servers: u32, config: LightConfig) -> Client {
        let machine = Machine::new((1..=servers).map(SimPeer), headers_alone(rules), config);
        let script = Script::new(machine);
        Client {
            script,
            servers: Vec::new(),
            events: Vec::new(),
            outcomes: Vec::new(),
            asked: Vec::new(),
            unanswered: Vec::new(),
        }
    }

    /// One server more, which the client is told of.
    fn add(&mut self, blocks: &[CoinBlock], about: &CoinBlock, lie: Lie) {
        let server = self.start(blocks, about, lie);
        self.enlist([server]);
    }

    /// The client is told of these.
    fn enlist(&mut self, servers: impl IntoIterator<Item = u32>) {
        for server in servers {
            self.script.command(LightCommand::Enlist(SimPeer(server)));
        }
        self.exchange();
        self.outcomes.clear();
    }

    /// One server more.
    fn start(&mut self, blocks: &[CoinBlock], about: &CoinBlock, lie: Lie) -> u32 {
        let books = books(HeaderRules::default(), PoolRules::default());
        self.servers.push(Server { books, about: vec![about.clone()], lie });
        let server = self.servers.len() as u32;
        self.mine(server, blocks);
        server
    }

    /// A server has these blocks, and does not say so.
    fn mine(&mut self, server: u32, blocks: &[CoinBlock]) {
        let books = &mut self.servers[server as usize - 1].books;
        // Of another branch the bodies are worth their room only if the headers say so.
        for some in blocks.chunks(2_000) {
            books.run(vec![LedgerJob::Headers { headers: headers(some), now: 1_000 }]);
        }
        for block in blocks {
            let job = LedgerJob::Mined { block: block.clone(), now: 1_000 };
            books.run(vec![job]);
        }
    }

    /// Everybody answers until nothing is asked.
    fn exchange(&mut self) {
        loop {
            let sent = self.sent();
            if sent.is_empty() {
                return;
            }
            self.answer(sent);
        }
    }

    /// What it asks now.
    fn sent(&mut self) -> Vec<(SimPeer, Msg)> {
        self.events.extend(self.script.events());
        self.outcomes.extend(self.script.outcomes().into_iter().map(|(_, outcome)| outcome));
        self.script.sent()
    }

    fn answer(&mut self, sent: Vec<(SimPeer, Msg)>) {
        for (to, msg) in sent {
            let LedgerMsg::Light(LightMsg::Ask(id, ask)) = msg else { panic!("{msg:?}") };
            self.asked.push((to.0, ask.clone()));
            let Some(server) = self.servers.get_mut(to.0 as usize - 1) else { continue };
            match server.answer(&ask) {
                Some(answer) => self.script.message(to, LedgerMsg::Light(LightMsg::Answer(id, answer))),
                None => self.unanswered.push(id),
            }
        }
    }

    fn advance(&mut self, seconds: u64) {
        for _ in 0..2 * seconds {
            self.script.advance(Duration::from_millis(500));
            self.exchange();
        }
    }

    /// All servers have a block more, and say so one after the other.
    fn all_mine(&mut self, block: &CoinBlock) {
        let all = 1..=self.servers.len() as u32;
        all.clone().for_each(|server| self.mine(server, std::slice::from_ref(block)));
        for server in all {
            let new = LightMsg::New(headers(std::slice::from_ref(block)));
            self.script.message(SimPeer(server), LedgerMsg::Light(new));
        }
        self.exchange();
    }

    /// What it says at once of where the chain ends.
    fn tip_now(&mut self) -> Option<Tip> {
        self.script.command(LightCommand::Tip);
        self.exchange();
        let LightOutcome::Tip(tip) = self.outcomes.pop()? else { panic!("another question's") };
        tip.ok()
    }

    fn does(&mut self, command: LightCommand<SimPeer, Coins>) -> Outcome {
        self.script.command(command);
        self.exchange();
        for _ in 0..120 {
            if let Some(outcome) = self.outcomes.pop() {
                return outcome;
            }
            self.advance(1);
        }
        panic!("nothing comes of it in two minutes");
    }

    fn tip(&mut self) -> Tip {
        match self.does(LightCommand::Tip) {
            LightOutcome::Tip(Ok(tip)) => tip,
            other => panic!("{other:?}"),
        }
    }

    fn scan(&mut self, after: Mark, about: &[Vec<u8>]) -> Result<Scanned<CoinBlock>, LedgerError> {
        match self.does(LightCommand::Scan(Scan { after, about: about.to_vec() })) {
            LightOutcome::Scanned(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn prove(&mut self, height: u64, transaction: TxId) -> Option<Inclusion<Light, Transaction>> {
        match self.does(LightCommand::Prove(Prove { height, transaction })) {
            LightOutcome::Proved(result) => result.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn liars(&self) -> Vec<u32> {
        self.script.machine().liars().map(|(peer, _)| peer.0).collect()
    }
}

/// A chain of some length in whose middle person 1 pays person 9; that block, and the payment.
fn with_a_payment() -> (Vec<CoinBlock>, CoinBlock, Transaction) {
    let mut blocks = branch(&genesis(), 1, MATURITY as usize + 4);
    let payment = spend(1, blocks[0].transactions[0].out_point(0), [pay(9, SUBSIDY - 10)]);
    let paying = block(&blocks[blocks.len() - 1].header, 1, std::slice::from_ref(&payment));
    blocks.push(paying.clone());
    let rest = branch(&paying.header, 1, 5);
    blocks.extend(rest);
    (blocks, paying, payment)
}

/// What person 9 looks for.
fn nines() -> Vec<Vec<u8>> {
    vec![pay(9, 0).lock.to_bytes()]
}

/// Says that a block is about nothing, and that all along.
fn hides_a_block(about: &CoinBlock, ask: &LightAsk, answer: LightAnswer) -> Option<LightAnswer> {
    let empty = Filter::of::<Transaction>(&about.header.id(), &[]);
    let height = about.header.height;
    Some(match (ask, answer) {
        (LightAsk::FilterHashes { from, .. }, LightAnswer::FilterHashes { previous, mut hashes }) => {
            if let Some(hash) = height.checked_sub(*from).and_then(|at| hashes.get_mut(at as usize)) {
                *hash = empty.hash();
            }
            LightAnswer::FilterHashes { previous, hashes }
        }
        (LightAsk::Filters { from, .. }, LightAnswer::Filters(filters)) => {
            let mut filters = read_filters(&filters);
            if let Some(filter) = height.checked_sub(*from).and_then(|at| filters.get_mut(at as usize)) {
                *filter = empty.as_bytes().to_vec();
            }
            LightAnswer::Filters(sent_filters(&filters))
        }
        (_, answer) => answer,
    })
}

fn read_filters(bytes: &Bytes) -> Vec<Vec<u8>> {
    let mut input = p2p_ledger::Reader::new(bytes);
    let count = input.count(1_000).unwrap();
    (0..count).map(|_| input.blob(1 << 20).unwrap()).collect()
}

fn sent_filters(filters: &[Vec<u8>]) -> Bytes {
    let mut out = Vec::new();
    put_count(&mut out, filters.len());
    filters.iter().for_each(|filter| put_blob(&mut out, filter));
    out.into()
}
