//! A light client among servers, some of which lie.

use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Key, Link, Script, SimPeer, Worker};
use p2p_ledger::{
    Coins, Encode, Filter, Header, HeaderChain, HeaderRules, Inclusion, LedgerDone, LedgerError, LedgerJob,
    LedgerMsg, LightAnswer, LightAsk, LightCommand, LightConfig, LightEvent, LightMsg, LightNode,
    LightOutcome, Mark, PoolRules, Prove, Scan, Scanned, Tip, Transaction, Tx, TxId, put_blob, put_count,
};

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

/// A server, and the block that it lies about.
struct Server {
    books: Books,
    about: CoinBlock,
    lie: Lie,
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
        let machine = Machine::new((1..=servers).map(SimPeer), headers_alone(rules), LightConfig::default());
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
        self.script.command(LightCommand::Enlist(SimPeer(server)));
        self.exchange();
        self.outcomes.clear();
    }

    /// One server more.
    fn start(&mut self, blocks: &[CoinBlock], about: &CoinBlock, lie: Lie) -> u32 {
        let books = books(HeaderRules::default(), PoolRules::default());
        self.servers.push(Server { books, about: about.clone(), lie });
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
            let done = server.books.run(vec![LedgerJob::Serve { ask: ask.clone(), now: 1_000 }]).remove(0);
            let LedgerDone::Served(done) = done else { panic!("{done:?}") };
            match (server.lie)(&server.about, &ask, done.answer) {
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
            // A header after the hidden block's would show that there is another one before.
            assert_eq!(*from, 1, "these chains are short");
            if let Some(hash) = hashes.get_mut((height - from) as usize) {
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

#[test]
fn what_is_looked_for_is_found_by_filters_and_nobody_is_told_what_it_is() {
    let (blocks, paying, payment) = with_a_payment();
    let mut client = Client::of(&blocks, &[(&paying, honest), (&paying, honest)]);
    assert_eq!(client.tip().id, blocks[blocks.len() - 1].header.id());
    let Scanned::Found(mark, found) = client.scan(Mark::START, &nines()).unwrap() else {
        panic!("it is there")
    };
    assert_eq!((mark.height, mark.id, *found), (paying.header.height, paying.header.id(), paying.clone()));
    let Scanned::End(end) = client.scan(mark, &nines()).unwrap() else { panic!("there is nothing more") };
    assert_eq!(end.height, blocks.len() as u64);
    let coin = payment.out_point(0).to_bytes();
    assert!(matches!(client.scan(mark, &[coin]), Ok(Scanned::End(_))), "nobody has spent it");
    let fetched = client.asked.iter().filter(|(_, ask)| matches!(ask, LightAsk::Block(_)));
    assert_eq!(fetched.count(), 1, "one block of {}", blocks.len());
    assert_eq!(client.liars(), []);
}

/// Three servers of four hide the block, and agree with each other.
#[test]
fn one_honest_server_is_enough_to_find_out_who_lies_about_a_filter() {
    let (blocks, paying, _) = with_a_payment();
    let lies: [(&CoinBlock, Lie); 4] =
        [(&paying, hides_a_block), (&paying, hides_a_block), (&paying, honest), (&paying, hides_a_block)];
    let mut client = Client::of(&[], &[]);
    for (about, lie) in lies {
        let books = books(HeaderRules::default(), PoolRules::default());
        client.servers.push(Server { books, about: about.clone(), lie });
        client.mine(client.servers.len() as u32, &blocks);
    }
    for server in 1..=4 {
        client.script.command(LightCommand::Enlist(SimPeer(server)));
    }
    client.exchange();
    client.outcomes.clear();
    assert!(matches!(client.scan(Mark::START, &nines()), Ok(Scanned::Found(..))));
    assert_eq!(client.liars(), [1, 2, 4]);
    client.advance(30);
    let later = client.asked.len();
    client.advance(30);
    assert!(client.asked[later..].iter().all(|(server, _)| *server == 3), "liars are not asked any more");
}

/// There is nobody but a liar at first, and what it hides is skipped. Then there is an honest one.
#[test]
fn what_was_skipped_by_a_lie_is_found_when_an_honest_server_comes() {
    let (blocks, paying, _) = with_a_payment();
    let mut client = Client::of(&blocks, &[(&paying, hides_a_block)]);
    let Scanned::End(end) = client.scan(Mark::START, &nines()).unwrap() else { panic!("it is hidden") };
    assert_eq!(end.height, blocks.len() as u64);
    client.add(&blocks, &paying, honest);
    assert_eq!(client.liars(), [1]);
    assert_eq!(client.scan(end, &nines()), Ok(Scanned::Gone), "what was gone by was a lie");
    assert!(matches!(client.scan(Mark::START, &nines()), Ok(Scanned::Found(..))));
    let undone = client.events.iter().find_map(|event| match event {
        LightEvent::Changed(change) if !change.disconnected.is_empty() => Some(change.disconnected.clone()),
        _ => None,
    });
    assert_eq!(undone.unwrap().last(), Some(&paying.header.id()), "users are told from where on");
}

/// It names the right filter, and gives another.
#[test]
fn a_server_that_gives_another_filter_than_it_has_named_is_found_out() {
    let (blocks, paying, _) = with_a_payment();
    let gives_nothing: Lie = |about, ask, answer| match answer {
        LightAnswer::Filters(_) => hides_a_block(about, ask, answer),
        _ => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, gives_nothing)]);
    client.script.command(LightCommand::Scan(Scan { after: Mark::START, about: nines() }));
    client.exchange();
    assert_eq!(client.liars(), [1]);
    client.add(&blocks, &paying, honest);
    assert!(matches!(client.scan(Mark::START, &nines()), Ok(Scanned::Found(..))));
}

#[test]
fn a_proof_that_one_server_withholds_comes_from_the_block() {
    let (blocks, paying, payment) = with_a_payment();
    let withholds: Lie = |_, ask, answer| match ask {
        LightAsk::Proof { .. } => Some(LightAnswer::Missing),
        _ => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, withholds), (&paying, withholds)]);
    let shown = client.prove(paying.header.height, payment.id()).unwrap();
    assert!(shown.holds() && shown.transaction == payment && shown.header == paying.header);
    assert_eq!(client.prove(paying.header.height, TxId(Key::of(b"another"))), None);
    assert_eq!(client.prove(1_000, payment.id()), None, "there is no such block");

    // And who says nothing at all holds it up, but does not keep it.
    let silent: Lie = |_, ask, answer| match ask {
        LightAsk::Proof { .. } | LightAsk::Block(_) => None,
        _ => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, silent), (&paying, honest)]);
    for _ in 0..8 {
        assert!(client.prove(paying.header.height, payment.id()).is_some());
    }
}

#[test]
fn a_proof_of_what_is_not_there_is_a_lie() {
    let (blocks, paying, payment) = with_a_payment();
    let forges: Lie = |about, ask, answer| match (ask, answer) {
        (LightAsk::Proof { .. }, LightAnswer::Proof(_)) => {
            let mut shown = Inclusion::of(about, about.transactions[1].id()).unwrap();
            shown.transaction.outputs[0].value += 1;
            Some(LightAnswer::Proof(shown.to_bytes().into()))
        }
        (_, answer) => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, forges), (&paying, honest)]);
    for _ in 0..20 {
        let shown = client.prove(paying.header.height, payment.id()).unwrap();
        assert_eq!(shown.transaction, payment);
    }
    assert_eq!(client.liars(), [1], "it is asked at least once in twenty times");
}

/// One server keeps the newest blocks to itself, and then shows a branch of its own with less work.
#[test]
fn a_server_that_hides_the_best_chain_hides_nothing_while_there_is_another() {
    let (blocks, paying, payment) = with_a_payment();
    let fork = paying.header.height as usize - 3;
    let own = branch(&blocks[fork - 1].header, 5, 4);
    let mut client = Client::of(&[], &[]);
    client.add(&[&blocks[..fork], &own[..]].concat(), &paying, honest);
    assert_eq!(client.tip().id, own[3].header.id());
    client.add(&blocks, &paying, honest);
    assert_eq!(client.tip().id, blocks[blocks.len() - 1].header.id());
    assert!(client.prove(paying.header.height, payment.id()).is_some());
    assert_eq!(client.liars(), [], "it may only be behind");
    let undone = client.events.iter().any(|event| match event {
        LightEvent::Changed(change) => change.disconnected.len() == own.len(),
        LightEvent::Lied(..) => false,
    });
    assert!(undone, "its branch was the chain before");
}

/// There is nobody else: it can keep blocks to itself, and show none that has no work.
#[test]
fn a_client_that_has_only_a_liar_is_shown_no_payment_without_work() {
    let (blocks, paying, _) = with_a_payment();
    let before = &blocks[..paying.header.height as usize - 1];
    let forged = {
        let payment = spend(1, before[1].transactions[0].out_point(0), [pay(9, 1 << 40)]);
        let mut block = block(&before[before.len() - 1].header, 1, &[payment]);
        while p2p_ledger::Consensus::check_seal(&Pow::regtest(), &block.header).is_ok() {
            block.header.seal.nonce += 1;
        }
        block
    };
    let shows: Lie = |about, ask, answer| match (ask, answer) {
        (LightAsk::Headers(_), LightAnswer::Headers { .. }) => Some(LightAnswer::Headers {
            tip: about.header.id(),
            headers: headers(std::slice::from_ref(about)),
        }),
        (_, answer) => Some(answer),
    };
    let mut client = Client::of(before, &[(&forged, honest)]);
    assert_eq!(client.tip().height, before.len() as u64);
    client.servers[0].lie = shows;
    client.advance(15);
    assert_eq!(client.liars(), [1]);
    assert_eq!(client.script.machine().tip().height, before.len() as u64);
}

/// The block is really there, with work, and the server gives other bodies for it.
#[test]
fn a_block_that_is_not_its_headers_is_a_lie() {
    let (blocks, paying, _) = with_a_payment();
    let mutates: Lie = |about, ask, answer| match (ask, answer) {
        (LightAsk::Block(_), LightAnswer::Block(_)) => {
            let mut block = about.clone();
            block.transactions[1].outputs[0].value += 1;
            Some(LightAnswer::Block(block.to_bytes().into()))
        }
        (_, answer) => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, mutates)]);
    client.script.command(LightCommand::Block(paying.header.height));
    client.exchange();
    assert_eq!(client.liars(), [1]);
    client.add(&blocks, &paying, honest);
    let LightOutcome::Block(Ok(Some(block))) = client.does(LightCommand::Block(paying.header.height)) else {
        panic!("the other has it")
    };
    assert_eq!(block, paying);
}

/// The chain goes over to another branch, in which the payment is in another block.
#[test]
fn a_reorganisation_is_followed() {
    let (blocks, paying, payment) = with_a_payment();
    let mut client = Client::of(&blocks, &[(&paying, honest), (&paying, honest)]);
    let Scanned::Found(mark, _) = client.scan(Mark::START, &nines()).unwrap() else { panic!("it is there") };
    let fork = &blocks[paying.header.height as usize - 2].header;
    let mut other = vec![block(fork, 2, &[])];
    other.push(block(&other[0].header, 2, &[payment]));
    other.extend(branch(&other[1].header, 2, 6));
    client.mine(1, &other);
    client.advance(15);
    assert_eq!(client.tip().id, other[7].header.id(), "one of them has it");
    assert_eq!(client.scan(mark, &nines()), Ok(Scanned::Gone));
    let Scanned::Found(mark, found) = client.scan(Mark::START, &nines()).unwrap() else {
        panic!("it is there")
    };
    assert_eq!((mark.height, *found), (paying.header.height + 1, other[1].clone()));
    assert_eq!(client.liars(), []);
    client.mine(2, &other);
    client.advance(15);
    assert_eq!(client.liars(), []);
}

#[test]
fn a_new_block_that_is_announced_needs_no_poll() {
    let (blocks, paying, _) = with_a_payment();
    let mut client = Client::of(&blocks, &[(&paying, honest)]);
    let before = client.tip();
    let next = block(&blocks[blocks.len() - 1].header, 9, &[]);
    client.mine(1, std::slice::from_ref(&next));
    let stranger = LightMsg::New(headers(std::slice::from_ref(&next)));
    client.script.message(SimPeer(7), LedgerMsg::Light(stranger.clone()));
    client.exchange();
    assert_eq!(client.script.machine().tip(), before, "whoever that is");
    client.script.message(SimPeer(1), LedgerMsg::Light(stranger));
    client.exchange();
    assert_eq!(client.script.machine().tip().id, next.header.id());
}

#[test]
fn a_transaction_is_given_to_all_and_refused_only_if_all_refuse_it() {
    let (blocks, paying, payment) = with_a_payment();
    let swallows: Lie = |_, ask, answer| match ask {
        LightAsk::Submit(_) => Some(LightAnswer::Submitted(Some("no".into()))),
        _ => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, swallows), (&paying, honest)]);
    let onward = spend(9, payment.out_point(0), [pay(3, 900)]);
    let LightOutcome::Submitted(done) = client.does(LightCommand::Submit(onward.clone())) else { panic!() };
    assert_eq!(done, Ok(onward.id()));
    assert_eq!(client.servers[1].books.pool().len(), 1);
    let asked = client.asked.iter().filter(|(_, ask)| matches!(ask, LightAsk::Submit(_)));
    assert_eq!(asked.count(), 2);
    let twice = spend(1, blocks[0].transactions[0].out_point(0), [pay(3, 900)]);
    let LightOutcome::Submitted(done) = client.does(LightCommand::Submit(twice)) else { panic!() };
    assert!(matches!(&done, Err(LedgerError::Refused(why)) if why == "no"), "{done:?}");
}

#[test]
fn a_server_that_falls_silent_is_not_waited_for() {
    let (blocks, paying, _) = with_a_payment();
    let silent: Lie = |_, _, _| None;
    let mut client = Client::of(&blocks, &[(&paying, silent), (&paying, honest)]);
    assert_eq!(client.tip().height, blocks.len() as u64);
    client.servers[0].lie = honest;
    client.advance(15);
    assert_eq!(client.script.machine().tip().height, blocks.len() as u64);
    // One that goes is not waited for at all: the other is asked at once.
    (client.servers[0].lie, client.servers[1].lie) = (silent, silent);
    client.script.command(LightCommand::Block(3));
    client.exchange();
    let (asked, ask) = client.asked.pop().unwrap();
    assert!(matches!(ask, LightAsk::Block(_)));
    client.servers[2 - asked as usize].lie = honest;
    client.script.link(SimPeer(asked), Link::Down(p2p_core::Down::Closed));
    client.exchange();
    assert!(client.asked.contains(&(3 - asked, ask)));
    let Some(LightOutcome::Block(Ok(Some(block)))) = client.outcomes.pop() else {
        panic!("the other has it")
    };
    assert_eq!(block, blocks[2]);
}

/// It shows the same headers as often as it is asked, and would be asked for ever for what comes after them.
#[test]
fn a_server_that_repeats_known_headers_keeps_nobody_waiting() {
    let long = branch(&genesis(), 1, 2_010);
    let repeats: Lie = |_, ask, answer| match (ask, answer) {
        (LightAsk::Headers(_), LightAnswer::Headers { tip, .. }) => {
            Some(LightAnswer::Headers { tip, headers: headers(&branch(&genesis(), 1, 2_000)) })
        }
        (_, answer) => Some(answer),
    };
    let mut client = Client::asking(HeaderRules::default(), 0);
    client.add(&long, &long[0], honest);
    let repeater = client.start(&long[..1], &long[0], repeats);
    client.script.command(LightCommand::Enlist(SimPeer(repeater)));
    for _ in 0..8 {
        let sent = client.sent();
        client.answer(sent);
    }
    let asked = |(of, ask): &&(u32, LightAsk)| *of == repeater && matches!(ask, LightAsk::Headers(_));
    assert_eq!(client.asked.iter().filter(asked).count(), 2, "and no third time until its turn");
    client.outcomes.clear();
    assert_eq!(client.tip().height, 2_010);
}

/// It has ever more headers, which are all good, and takes as long as it may for each answer.
#[test]
fn a_server_that_never_comes_to_the_end_of_its_headers_keeps_nobody_waiting_for_long() {
    let (blocks, paying, _) = with_a_payment();
    let slow: Lie = |_, ask, answer| match ask {
        LightAsk::Headers(_) => None,
        _ => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, honest), (&paying, slow)]);
    let more = branch(&blocks[blocks.len() - 1].header, 5, 6_000);
    for some in more.chunks(2_000) {
        client.advance(9);
        let id = client.unanswered.pop().unwrap();
        let answer = LightAnswer::Headers { tip: some[1_999].header.id(), headers: headers(some) };
        client.script.message(SimPeer(2), LedgerMsg::Light(LightMsg::Answer(id, answer)));
        client.exchange();
    }
    client.advance(5);
    client.script.command(LightCommand::Tip);
    client.exchange();
    let Some(LightOutcome::Tip(Ok(tip))) = client.outcomes.pop() else { panic!("it waits") };
    assert_eq!(tip.height, blocks.len() as u64, "so far there are filters");
}

/// It answers whatever it is asked but for filter hashes: not at all, or that it has none.
#[test]
fn a_server_that_withholds_filter_hashes_is_not_waited_for() {
    let silent: Lie = |_, ask, answer| match ask {
        LightAsk::FilterHashes { .. } => None,
        _ => Some(answer),
    };
    let missing: Lie = |_, ask, answer| match ask {
        LightAsk::FilterHashes { .. } => Some(LightAnswer::Missing),
        _ => Some(answer),
    };
    let (blocks, paying, _) = with_a_payment();
    for withholds in [silent, missing] {
        let mut client = Client::of(&blocks, &[(&paying, honest), (&paying, withholds)]);
        client.advance(15);
        // From now on every new block is there at once.
        let mut chain = blocks.clone();
        for _ in 0..4 {
            client.advance(11);
            let next = block(&chain[chain.len() - 1].header, 9, &[]);
            (1..=2).for_each(|server| client.mine(server, std::slice::from_ref(&next)));
            for server in [2, 1] {
                let new = LightMsg::New(headers(std::slice::from_ref(&next)));
                client.script.message(SimPeer(server), LedgerMsg::Light(new));
            }
            client.exchange();
            client.script.command(LightCommand::Tip);
            client.exchange();
            let Some(LightOutcome::Tip(Ok(tip))) = client.outcomes.pop() else { panic!("it waits") };
            assert_eq!(tip.id, next.header.id());
            chain.push(next);
        }
        // Once it gives them it counts again.
        client.servers[1].lie = hides_a_block;
        client.servers[1].about = paying.clone();
        client.advance(30);
        assert_eq!(client.liars(), [2]);
    }
}

/// The first to answer shows an easy branch that is longer than what is final is deep.
#[test]
fn nothing_is_final_before_servers_are_agreed() {
    let rules = HeaderRules { finality: Some(6), ..HeaderRules::default() };
    let (blocks, paying, _) = with_a_payment();
    let easy = branch(&genesis(), 5, 8);
    let mut client = Client::asking(rules, 2);
    client.start(&easy, &paying, honest);
    client.start(&blocks, &paying, honest);
    client.advance(2);
    assert_eq!(client.tip().id, blocks[blocks.len() - 1].header.id());
    // From then on it is.
    let fork = blocks.len() - 7;
    let other = branch(&blocks[fork - 1].header, 6, 12);
    client.mine(1, &[&blocks[..fork], &other[..]].concat());
    client.advance(15);
    assert_eq!(client.tip().id, blocks[blocks.len() - 1].header.id());
    assert_eq!(client.liars(), [], "it may have seen nothing else");
}

/// A server that falls silent after it has named another filter for an old block.
#[test]
fn a_lie_of_a_server_that_is_silent_holds_nobody_up() {
    let (blocks, paying, _) = with_a_payment();
    let no_blocks: Lie = |_, ask, answer| match ask {
        LightAsk::Block(_) => Some(LightAnswer::Missing),
        _ => Some(answer),
    };
    let lies: Lie = |about, ask, answer| match ask {
        LightAsk::Block(_) => None,
        _ => hides_a_block(about, ask, answer),
    };
    let silent: Lie = |_, _, _| None;
    let mut client = Client::of(&blocks, &[(&paying, no_blocks)]);
    assert_eq!(client.tip().height, blocks.len() as u64);
    client.add(&blocks, &paying, lies);
    client.servers[1].lie = silent;
    client.advance(25);
    client.script.command(LightCommand::Tip);
    client.exchange();
    let Some(LightOutcome::Tip(Ok(tip))) = client.outcomes.pop() else { panic!("it waits") };
    assert_eq!(tip.height, blocks.len() as u64);
}

/// A server takes few questions at a time, and is asked no more: each of these comes to every server.
#[test]
fn many_transactions_at_once_come_to_all_servers_a_few_at_a_time() {
    let count = 20;
    let blocks = branch(&genesis(), 1, MATURITY as usize + count);
    let mut client = Client::of(&blocks, &[(&blocks[0], honest), (&blocks[0], honest)]);
    for block in &blocks[..count] {
        let payment = spend(1, block.transactions[0].out_point(0), [pay(3, 900)]);
        client.script.command(LightCommand::Submit(payment));
    }
    loop {
        let sent = client.sent();
        if sent.is_empty() {
            break;
        }
        for server in 1..=2 {
            let is_submit =
                |msg: &LedgerMsg<_>| matches!(msg, LedgerMsg::Light(LightMsg::Ask(_, LightAsk::Submit(_))));
            let open = sent.iter().filter(|(to, msg)| to.0 == server && is_submit(msg)).count();
            assert!(open <= 2, "{open} at once");
        }
        client.answer(sent);
    }
    assert_eq!(client.outcomes.len(), count);
    for outcome in &client.outcomes {
        assert!(matches!(outcome, LightOutcome::Submitted(Ok(_))), "{outcome:?}");
    }
    assert!(client.servers.iter().all(|server| server.books.pool().len() == count));
}

#[test]
fn where_nobody_answers_users_are_told_so_after_a_while() {
    let mut client = Client::asking(HeaderRules::default(), 3);
    let LightOutcome::Tip(tip) = client.does(LightCommand::Tip) else { panic!() };
    assert_eq!(tip, Err(LedgerError::Remote("no server answers".into())));
    for _ in 0..64 {
        client.script.command(LightCommand::Tip);
    }
    let LightOutcome::Tip(tip) = client.does(LightCommand::Tip) else { panic!() };
    assert!(matches!(tip, Err(LedgerError::Refused(_))), "{tip:?}");
}

/// A chain that is too long to be told by its first headers whether it is worth anything.
#[test]
fn a_long_chain_with_enough_work_is_followed_and_one_without_is_not() {
    let minimum_work = ruint::aliases::U256::from(2 * 2_500);
    let rules = || HeaderRules { minimum_work, ..HeaderRules::default() };
    let long = branch(&genesis(), 1, 2_600);
    let mut client = Client::asking(rules(), 0);
    client.add(&long, &long[0], honest);
    assert_eq!(client.tip().height, 2_600);
    let mut client = Client::asking(rules(), 0);
    client.add(&long[..2_400], &long[0], honest);
    assert_eq!(client.tip().height, 0);
    assert_eq!(client.script.machine().headers().len(), 1, "none of them is kept");
}

/// What no honest server says, whatever it believes.
#[test]
fn answers_that_are_none_make_a_liar_of_their_sender() {
    let (blocks, paying, _) = with_a_payment();
    let garbage = || Bytes::from_static(b"\xff\xff\xff garbage");
    type Attack = (&'static str, Lie);
    let attacks: [Attack; 9] = [
        ("headers that cannot be read", |_, ask, answer| match ask {
            LightAsk::Headers(_) => {
                let headers = Bytes::from_static(b"\xff\xff\xff garbage");
                Some(LightAnswer::Headers { tip: genesis().id(), headers })
            }
            _ => Some(answer),
        }),
        ("another kind of answer to a question for headers", |_, ask, answer| match ask {
            LightAsk::Headers(_) => Some(LightAnswer::Submitted(None)),
            _ => Some(answer),
        }),
        ("too few filter hashes", |_, ask, answer| match (ask, answer) {
            (LightAsk::FilterHashes { .. }, LightAnswer::FilterHashes { previous, .. }) => {
                Some(LightAnswer::FilterHashes { previous, hashes: Vec::new() })
            }
            (_, answer) => Some(answer),
        }),
        ("another first filter", |_, ask, answer| match (ask, answer) {
            (LightAsk::FilterHashes { .. }, LightAnswer::FilterHashes { hashes, .. }) => {
                Some(LightAnswer::FilterHashes { previous: Key::ZERO, hashes })
            }
            (_, answer) => Some(answer),
        }),
        ("no filters", |_, ask, answer| match ask {
            LightAsk::Filters { .. } => Some(LightAnswer::Filters(sent_filters(&[]))),
            _ => Some(answer),
        }),
        ("filters that cannot be read", |_, ask, answer| match ask {
            LightAsk::Filters { .. } => Some(LightAnswer::Filters(Bytes::from_static(b"\xff\xff\xff"))),
            _ => Some(answer),
        }),
        ("more filters than were asked for", |_, ask, answer| match (ask, answer) {
            (LightAsk::Filters { .. }, LightAnswer::Filters(filters)) => {
                let mut filters = read_filters(&filters);
                filters.push(vec![0]);
                Some(LightAnswer::Filters(sent_filters(&filters)))
            }
            (_, answer) => Some(answer),
        }),
        ("a block that cannot be read", |_, ask, answer| match ask {
            LightAsk::Block(_) => Some(LightAnswer::Block(Bytes::from_static(b"\xff\xff\xff"))),
            _ => Some(answer),
        }),
        ("a block where filters were asked for", |about, ask, answer| match ask {
            LightAsk::Filters { .. } => Some(LightAnswer::Block(about.to_bytes().into())),
            _ => Some(answer),
        }),
    ];
    for (what, attack) in attacks {
        let mut client = Client::of(&blocks, &[(&paying, attack)]);
        // What is nowhere, and what is somewhere.
        client
            .script
            .command(LightCommand::Scan(Scan { after: Mark::START, about: vec![b"nothing".to_vec()] }));
        client.exchange();
        client.script.command(LightCommand::Scan(Scan { after: Mark::START, about: nines() }));
        client.exchange();
        assert_eq!(client.liars(), [1], "{what}");
    }
    // What nobody asked for is nothing at all.
    let mut client = Client::of(&blocks, &[(&paying, honest)]);
    let tip = client.tip();
    for id in 0..100 {
        client
            .script
            .message(SimPeer(1), LedgerMsg::Light(LightMsg::Answer(id, LightAnswer::Block(garbage()))));
    }
    assert_eq!((client.tip(), client.liars()), (tip, Vec::new()));
    let unread = LedgerMsg::Light(LightMsg::New(garbage()));
    client.script.message(SimPeer(1), unread);
    assert_eq!(client.liars(), [1]);
}

/// Filters of a block's own transactions, whatever those are.
#[test]
fn a_filter_follows_from_the_block_alone() {
    let (_, paying, payment) = with_a_payment();
    let filter = Filter::of(&paying.header.id(), &paying.transactions);
    let key = Filter::key(&paying.header.id());
    for item in paying.transactions.iter().flat_map(Tx::about) {
        assert!(filter.has_any(&key, [&item[..]]));
    }
    let spent = payment.inputs[0].previous.to_bytes();
    assert!(filter.has_any(&key, [&spent[..]]), "who had the coin sees that it is spent");
    let other = whole(&genesis(), vec![paying.transactions[0].clone()]);
    assert_ne!(Filter::of(&other.header.id(), &other.transactions), filter);
}
