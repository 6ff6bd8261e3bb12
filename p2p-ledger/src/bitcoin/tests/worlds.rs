//! A client in the simulator, among nodes that are made here.

use std::collections::BTreeMap;

use ruint::aliases::U256;

use p2p_core::sim::{Encoding, Latency, Network, Sim, run_seeds};
use p2p_core::{SimPeer, Time};

use super::filters::FilterLie;
use super::*;

/// A node of a regression-test network, or a client of such.
pub(super) enum Machine {
    Client(Box<BitcoinClient<SimPeer>>),
    Server(Server),
}

/// A node, and how it lies.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) blocks: Vec<BitcoinBlock>,
    pub(super) services: u64,
    lie: Lie,
    /// How it lies about the filters of blocks, and from which block on.
    pub(super) about_filters: Option<(FilterLie, u64)>,
    filters: BTreeMap<SimPeer, Bloom>,
    /// Who is told of new blocks.
    told: BTreeMap<SimPeer, BlockId>,
    headers_sent: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Lie {
    None,
    /// Nothing is in its blocks that anybody looks for.
    Withholds,
    /// A transaction that is not in it is said to be in a block.
    Forges,
    /// A header without work.
    NoWork,
    /// It answers no question.
    Silent,
}

impl Server {
    pub(super) fn new(blocks: Vec<BitcoinBlock>, lie: Lie) -> Server {
        let services = NODE_NETWORK | NODE_BLOOM;
        let (filters, told) = (BTreeMap::new(), BTreeMap::new());
        Server { blocks, services, lie, about_filters: None, filters, told, headers_sent: 0 }
    }

    fn tip(&self) -> BlockId {
        self.blocks.last().map_or(BlockId::NONE, |block| block.header.id())
    }

    fn after(&self, locator: &[BlockId]) -> Vec<BitcoinHeader> {
        let known = |block: &BitcoinBlock| locator.contains(&block.header.id());
        let from = self.blocks.iter().rposition(known).map_or(0, |at| at + 1);
        self.blocks[from..].iter().take(2_000).map(|block| block.header).collect()
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Machine>, from: SimPeer, msg: BitcoinMsg) {
        match msg {
            BitcoinMsg::Version(theirs) => {
                let height = self.blocks.len() as u32;
                let version = Version { services: self.services, height, agent: "/test/".into(), ..theirs };
                cx.send(from, BitcoinMsg::Version(version));
                cx.send(from, BitcoinMsg::Verack);
            }
            BitcoinMsg::SendHeaders => drop(self.told.insert(from, self.tip())),
            BitcoinMsg::HangUp => drop(self.told.remove(&from)),
            _ if self.lie == Lie::Silent => {}
            BitcoinMsg::GetHeaders(locator) => {
                let mut headers = self.after(&locator);
                if self.lie == Lie::NoWork {
                    let tip = self.blocks.last().map(|block| block.header).unwrap();
                    let rules = BitcoinNetwork::regtest().rules;
                    let mut forged = BitcoinHeader { previous: tip.id(), time: tip.time + 1, ..tip };
                    while rules.mine(&mut forged, 0, 1) {
                        forged.time += 1;
                    }
                    headers.push(forged);
                }
                self.headers_sent += headers.len();
                cx.send(from, BitcoinMsg::Headers(headers));
            }
            BitcoinMsg::FilterLoad(filter) => drop(self.filters.insert(from, filter)),
            BitcoinMsg::GetData(wanted) => wanted.iter().for_each(|one| self.give(cx, from, one)),
            BitcoinMsg::GetCFilters(_) | BitcoinMsg::GetCFHeaders(_) | BitcoinMsg::GetCFCheckpt(_) => {
                self.answers_about_filters(&msg).into_iter().for_each(|answer| cx.send(from, answer));
            }
            _ => {}
        }
    }

    fn give(&self, cx: &mut Cx<'_, Machine>, to: SimPeer, wanted: &Inventory) {
        let Some(block) = self.blocks.iter().find(|block| block.header.id().0 == wanted.hash) else {
            return cx.send(to, BitcoinMsg::NotFound(vec![*wanted]));
        };
        let mut block = block.clone();
        if self.lie == Lie::Forges {
            block.transactions.push(paying([66; 20], 1 << 40, OutPoint { id: TxId(Key::ZERO), index: 0 }));
        }
        if wanted.kind == Inventory::BLOCK {
            if self.lie == Lie::Withholds {
                block.transactions.truncate(1);
            }
            return cx.send(to, BitcoinMsg::Block(block));
        }
        let filter = &self.filters[&to];
        let id = |one: &BitcoinTransaction| one.id().0.as_bytes().iter().rev().copied().collect::<Vec<u8>>();
        let pushed =
            |one: &BitcoinTransaction| one.outputs.iter().any(|output| filter.has(&output.script[3..23]));
        let has = |one: &BitcoinTransaction| filter.has(&id(one)) || pushed(one);
        let shown: Vec<BitcoinTransaction> =
            block.transactions.iter().filter(|one| has(one) && self.lie != Lie::Withholds).cloned().collect();
        let ids: Vec<TxId> = block.transactions.iter().map(BitcoinTransaction::id).collect();
        let is_shown = |id: &TxId| shown.iter().any(|one| one.id() == *id);
        cx.send(to, BitcoinMsg::MerkleBlock(MerkleBlock::new(block.header, &ids, is_shown).unwrap()));
        shown.into_iter().for_each(|one| cx.send(to, BitcoinMsg::Tx(one)));
    }
}

impl Protocol for Machine {
    type Peer = SimPeer;
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

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: SimPeer, msg: BitcoinMsg) {
        match self {
            Machine::Server(server) => server.on_message(cx, from, msg),
            Machine::Client(client) => within(cx, |cx| client.on_message(cx, from, msg)),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, (): ()) {
        match self {
            Machine::Client(client) => within(cx, |cx| client.on_timer(cx, ())),
            Machine::Server(server) => {
                cx.set_timer(Duration::from_secs(1), ());
                let tip = server.tip();
                let news: Vec<BitcoinHeader> =
                    server.blocks.last().map(|block| block.header).into_iter().collect();
                for (peer, told) in server.told.iter_mut().filter(|(_, told)| **told != tip) {
                    *told = tip;
                    cx.send(*peer, BitcoinMsg::Headers(news.clone()));
                }
            }
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: BitcoinCommand) {
        if let Machine::Client(client) = self {
            within(cx, |cx| client.on_command(cx, op, command));
        }
    }
}

fn within(cx: &mut Cx<'_, Machine>, run: impl FnOnce(&mut Cx<'_, BitcoinClient<SimPeer>>)) {
    cx.wrap(run, |()| (), |cx, to, msg| cx.send(to, msg));
}

/// A client and its nodes, which are numbered from 0 on.
pub(super) struct World {
    pub(super) sim: Sim<Machine>,
    client: SimPeer,
}

impl World {
    pub(super) fn new(seed: u64, servers: Vec<Server>, config: BitcoinConfig) -> World {
        World::with(seed, servers, config, HeaderRules::default())
    }

    fn with(seed: u64, servers: Vec<Server>, config: BitcoinConfig, rules: HeaderRules) -> World {
        let latency = Latency::Uniform(Duration::from_millis(10), Duration::from_millis(200));
        let network = Network { latency, encoding: Encoding::RoundTrip, ..Network::default() };
        World::over(network, seed, servers, config, rules)
    }

    fn over(
        network: Network,
        seed: u64,
        servers: Vec<Server>,
        config: BitcoinConfig,
        rules: HeaderRules,
    ) -> World {
        let mut sim = Sim::new(seed, network);
        let again = servers.clone();
        sim.population(move |birth| Machine::Server(again[birth.peer.0 as usize].clone()));
        let nodes: Vec<SimPeer> =
            servers.into_iter().map(|server| sim.spawn(|_| Machine::Server(server))).collect();
        let addrs: Vec<SocketAddr> = nodes.iter().map(|peer| peer.contact().unwrap().addr).collect();
        let network = BitcoinNetwork::regtest();
        let client = BitcoinClient::new(&network, addrs, network.headers(rules), config);
        let client = sim.spawn(|_| Machine::Client(Box::new(client)));
        World { sim, client }
    }

    pub(super) fn ask(&mut self, command: BitcoinCommand) -> BitcoinOutcome {
        self.sim.command(self.client, command);
        assert!(self.sim.run_to_outcome(Time::from_nanos(u64::MAX)), "it never ends");
        self.sim.take_outcomes().pop().unwrap().outcome
    }

    pub(super) fn synced(&mut self) -> Tip {
        match self.ask(BitcoinCommand::Synced) {
            BitcoinOutcome::Synced(tip) => tip.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn prove(&mut self, block: BlockId, transaction: TxId) -> Result<Option<Proved>, BitcoinError> {
        match self.ask(BitcoinCommand::Prove(Prove { block, transaction })) {
            BitcoinOutcome::Proved(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn matching(
        &mut self,
        block: BlockId,
        items: Vec<Vec<u8>>,
    ) -> Result<Vec<BitcoinTransaction>, BitcoinError> {
        match self.ask(BitcoinCommand::Matching(Matching { block, items })) {
            BitcoinOutcome::Matched(result) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn client(&self) -> &BitcoinClient<SimPeer> {
        match self.sim.node(self.client).unwrap() {
            Machine::Client(client) => client,
            Machine::Server(_) => unreachable!(),
        }
    }

    pub(super) fn server(&mut self, number: u32) -> &mut Server {
        match self.sim.node_mut(SimPeer(number)).unwrap() {
            Machine::Server(server) => server,
            Machine::Client(_) => unreachable!(),
        }
    }

    pub(super) fn liars(&self) -> Vec<String> {
        self.client().liars().map(|(addr, how)| format!("{addr} {how}")).collect()
    }
}

/// A chain with a payment in its last block but two.
fn chain() -> (Vec<BitcoinBlock>, BlockId, BitcoinTransaction) {
    let mut all = blocks(20, 1);
    let payment = paying([9; 20], 7, OutPoint { id: all[3].transactions[0].id(), index: 0 });
    for transactions in [&[payment.clone()][..], &[], &[]] {
        let parent = all.last().unwrap().header;
        all.push(block(&parent, all.len() as u64 + 1, 1, transactions));
    }
    let paid = all[20].header.id();
    (all, paid, payment)
}

fn configs() -> [BitcoinConfig; 2] {
    [false, true].map(|filters| BitcoinConfig { filters, ..BitcoinConfig::default() })
}

#[test]
fn a_payment_is_shown_whichever_way_it_is_looked_for() {
    run_seeds(10, |seed| {
        let (blocks, paid, payment) = chain();
        for config in configs() {
            let servers =
                vec![Server::new(blocks.clone(), Lie::None), Server::new(blocks.clone(), Lie::None)];
            let mut world = World::new(seed, servers, config);
            assert_eq!(world.synced().id, blocks[22].header.id());
            let proved = world.prove(paid, payment.id()).unwrap().unwrap();
            assert_eq!((proved.height, proved.confirmations), (21, 3));
            assert_eq!(proved.transaction, payment);
            assert!(proved.proof.shown().unwrap().contains(&payment.id()));
            assert_eq!(world.prove(paid, TxId(Key::of(b"none"))), Ok(None));
            assert_eq!(world.matching(paid, vec![vec![9; 20]]), Ok(vec![payment.clone()]));
            assert_eq!(world.matching(paid, vec![vec![8; 20]]), Ok(vec![]));
            let nowhere = BlockId(Key::of(b"nowhere"));
            assert_eq!(world.prove(nowhere, payment.id()), Err(BitcoinError::NotOnChain(nowhere)));
            assert!(world.liars().is_empty());
        }
    });
}

/// One honest node is enough, whatever the others do.
#[test]
fn a_liar_is_left_and_another_asked() {
    run_seeds(10, |seed| {
        let (blocks, paid, payment) = chain();
        for config in configs() {
            for lie in [Lie::Withholds, Lie::Forges, Lie::NoWork, Lie::Silent] {
                let servers = vec![
                    Server::new(blocks.clone(), lie),
                    Server::new(blocks.clone(), lie),
                    Server::new(blocks.clone(), Lie::None),
                ];
                let mut world = World::new(seed, servers, config);
                world.synced();
                let proved = world.prove(paid, payment.id());
                assert_eq!(proved.unwrap().unwrap().transaction, payment, "{lie:?}");
                let forged = paying([66; 20], 1 << 40, OutPoint { id: TxId(Key::ZERO), index: 0 });
                assert_eq!(world.prove(paid, forged.id()), Ok(None), "{lie:?}");
                assert_eq!(world.client().headers().tip().id, blocks[22].header.id());
                // Whoever greets last is asked last.
                world.sim.run_for(Duration::from_secs(60));
                let liars = world.liars();
                let honest = SimPeer(2).contact().unwrap().addr;
                assert!(!liars.iter().any(|liar| liar.starts_with(&honest.to_string())), "{liars:?}");
                match lie {
                    Lie::NoWork => assert_eq!(liars.len(), 2, "{liars:?}"),
                    Lie::Silent | Lie::None => assert!(liars.is_empty(), "{liars:?}"),
                    // Whom it asked for a block, or for a proof, is found out.
                    Lie::Forges => assert!((1..=2).contains(&liars.len()), "{liars:?}"),
                    Lie::Withholds => assert!(!liars.is_empty(), "{liars:?}"),
                }
            }
        }
    });
}

/// Where a filter is all that is asked for a liar may keep a payment to itself; a proof is looked for in the whole block then.
#[test]
fn what_a_filter_does_not_find_is_looked_for_in_the_block() {
    let (blocks, paid, payment) = chain();
    let servers = vec![Server::new(blocks, Lie::Withholds)];
    let config = BitcoinConfig { filters: true, ..BitcoinConfig::default() };
    let mut world = World::new(1, servers, config);
    world.synced();
    assert_eq!(world.matching(paid, vec![vec![9; 20]]), Ok(vec![]));
    // The block without it is not the header's: the only node has lied.
    assert_eq!(world.prove(paid, payment.id()), Err(BitcoinError::NoNode));
    assert_eq!(world.liars().len(), 1);
}

/// Who has few blocks and is quick does not speak for all.
#[test]
fn the_first_to_answer_is_not_believed_alone() {
    run_seeds(10, |seed| {
        let (blocks, paid, payment) = chain();
        let mut servers = vec![Server::new(blocks[..3].to_vec(), Lie::None); 5];
        servers.push(Server::new(blocks.clone(), Lie::None));
        let mut world = World::new(seed, servers, BitcoinConfig::default());
        // Before anybody has greeted.
        assert!(world.prove(paid, payment.id()).unwrap().is_some());
        assert_eq!(world.synced().height, 23);
    });
}

/// More headers than one message holds, of which the first are too little work to be kept; and the last is said in between.
#[test]
fn a_long_chain_is_followed_by_itself_until_it_has_the_work() {
    let blocks = blocks(4_500, 1);
    let tip = blocks.last().unwrap().header;
    let needed = |blocks: u64| HeaderRules { minimum_work: U256::from(2 * blocks), ..HeaderRules::default() };
    run_seeds(5, |seed| {
        let servers = vec![Server::new(blocks.clone(), Lie::None)];
        let mut world = World::with(seed, servers, BitcoinConfig::default(), needed(4_000));
        world.sim.run_for(Duration::from_millis(400 + 100 * seed));
        let next = block(&tip, 4_501, 1, &[]);
        world.server(0).blocks.push(next.clone());
        world.synced();
        world.sim.run_for(Duration::from_secs(5));
        assert_eq!((world.client().headers().tip().height, world.liars().len()), (4_501, 0));

        let servers = vec![Server::new(blocks.clone(), Lie::None)];
        let mut world = World::with(seed, servers, BitcoinConfig::default(), needed(5_000));
        let synced = world.ask(BitcoinCommand::Synced);
        assert!(matches!(synced, BitcoinOutcome::Synced(Err(BitcoinError::LowWork))), "{synced:?}");
    });
}

/// It takes longer than anybody is patient until a chain has shown the work that it must have, and until then none of it is kept: it
/// is waited for, and asked of one node.
#[test]
fn a_long_chain_is_waited_for_before_it_has_the_work() {
    let blocks = blocks(9_000, 1);
    let rules = HeaderRules { minimum_work: U256::from(2 * 8_000), ..HeaderRules::default() };
    let config = BitcoinConfig { patience: Duration::from_secs(10), ..BitcoinConfig::default() };
    let servers = vec![Server::new(blocks.clone(), Lie::None); 3];
    let slow = Network { latency: Latency::Constant(Duration::from_secs(2)), ..Network::default() };
    let mut world = World::over(slow, 1, servers, config, rules);
    assert_eq!(world.synced().height, 9_000);
    let sent: Vec<usize> = (0..3).map(|i| world.server(i).headers_sent).collect();
    assert!(sent.iter().sum::<usize>() < 2 * 9_000 + 3 * 2_000, "{sent:?}");
}

/// A node shows ever more headers that have too little work, each message in time.
#[test]
fn a_chain_without_end_keeps_nobody_waiting_for_ever() {
    let config = BitcoinConfig { patience: Duration::from_secs(2), ..BitcoinConfig::default() };
    let rules = HeaderRules { minimum_work: U256::from(1_000_000), ..HeaderRules::default() };
    let servers = vec![Server::new(blocks(30_000, 1), Lie::None)];
    let slow = Network { latency: Latency::Constant(Duration::from_millis(900)), ..Network::default() };
    let mut world = World::over(slow, 1, servers, config, rules);
    world.sim.run_for(Duration::from_secs(4));
    let synced = world.ask(BitcoinCommand::Synced);
    assert!(matches!(synced, BitcoinOutcome::Synced(Err(BitcoinError::NoNode))), "{synced:?}");
    let waited = world.sim.now().since(Time::ZERO).as_secs();
    assert!((20..30).contains(&waited), "ten times its patience, and not {waited} s");
}

#[test]
fn new_blocks_come_by_themselves_and_a_longer_branch_takes_over() {
    run_seeds(10, |seed| {
        let (blocks, paid, payment) = chain();
        let servers = vec![Server::new(blocks.clone(), Lie::None), Server::new(blocks.clone(), Lie::None)];
        let mut world = World::new(seed, servers, BitcoinConfig::default());
        world.synced();
        let next = block(&blocks[22].header, 24, 1, &[]);
        world.server(0).blocks.push(next.clone());
        world.sim.run_for(Duration::from_secs(5));
        assert_eq!(world.client().headers().tip().id, next.header.id());
        world.sim.take_events();

        // The other node has another branch from block 20 on, longer by one, without the payment.
        let mut branch = blocks[..20].to_vec();
        for height in 21..=25 {
            branch.push(block(&branch.last().unwrap().header, height, 2, &[]));
        }
        world.server(1).blocks = branch.clone();
        world.sim.run_for(Duration::from_secs(5));
        let changes: Vec<Arc<Change>> = world
            .sim
            .take_events()
            .into_iter()
            .map(|(_, event)| match event {
                BitcoinEvent::Changed(change) => change,
                BitcoinEvent::Lied(..) | BitcoinEvent::Useless(..) => panic!("{event:?}"),
            })
            .collect();
        let gone: Vec<BlockId> = changes.iter().flat_map(|change| change.disconnected.clone()).collect();
        let expected: Vec<BlockId> =
            [&blocks[20..], &[next]].concat().iter().rev().map(|block| block.header.id()).collect();
        assert_eq!(gone, expected);
        let came: Vec<BlockId> = changes.iter().flat_map(|change| change.connected.clone()).collect();
        assert_eq!(came, branch[20..].iter().map(|block| block.header.id()).collect::<Vec<_>>());
        assert_eq!(world.prove(paid, payment.id()), Err(BitcoinError::NotOnChain(paid)));
    });
}

/// Nodes crash and come back, and one is never there.
#[test]
fn nodes_that_go_are_dialled_again() {
    run_seeds(10, |seed| {
        let (blocks, paid, payment) = chain();
        let mut servers: Vec<Server> = (0..3).map(|_| Server::new(blocks.clone(), Lie::None)).collect();
        servers[2].services = 0;
        let mut world = World::new(seed, servers, BitcoinConfig::default());
        world.sim.take_events();
        world.synced();
        for _ in 0..3 {
            world.sim.crash(SimPeer(0));
            world.sim.run_for(Duration::from_secs(1));
            // It may be asked first: it does not answer.
            assert!(world.prove(paid, payment.id()).unwrap().is_some());
            world.sim.crash(SimPeer(1));
            world.sim.run_for(Duration::from_secs(200));
            assert_eq!(world.prove(paid, payment.id()), Err(BitcoinError::NoNode));
            for peer in [SimPeer(0), SimPeer(1)] {
                world.sim.restart(peer);
            }
            world.sim.run_for(Duration::from_secs(120));
            assert!(world.prove(paid, payment.id()).unwrap().is_some());
        }
        assert!(world.liars().is_empty());
        // It was said once each time that they were not there, and all along of the one that has no blocks.
        let mut useless = [0; 3];
        for (_, event) in world.sim.take_events() {
            if let BitcoinEvent::Useless(addr, why) = event {
                let at = (0..3).find(|at| SimPeer(*at).contact().unwrap().addr == addr).unwrap() as usize;
                useless[at] += 1;
                assert_eq!(why == Useless::Unable, at == 2, "{at}: {why}");
            }
        }
        assert_eq!((useless[0] <= 6, useless[1] <= 6, useless[2]), (true, true, 1), "{useless:?}");
    });
}

/// Where all nodes are there, and none is of use, nobody is kept waiting.
#[test]
fn nodes_of_no_use_are_named_at_once() {
    let mut server = Server::new(blocks(3, 1), Lie::None);
    server.services = 0;
    let mut world = World::new(1, vec![server; 2], BitcoinConfig::default());
    world.sim.take_events();
    let synced = world.ask(BitcoinCommand::Synced);
    assert!(matches!(synced, BitcoinOutcome::Synced(Err(BitcoinError::NoNode))), "{synced:?}");
    assert!(world.sim.now() < Time::ZERO + Duration::from_secs(5));
    let events = world.sim.take_events();
    assert!(events.iter().all(|(_, event)| matches!(event, BitcoinEvent::Useless(_, Useless::Unable))));
    assert_eq!(events.len(), 2);
}

/// Nothing is looked at that comes from somebody whom nobody knows, or from a node that has not greeted.
#[test]
fn who_has_not_greeted_is_not_heard() {
    let (blocks, _, payment) = chain();
    let addr = SimPeer(0).contact().unwrap().addr;
    let network = BitcoinNetwork::regtest();
    let headers = network.headers(HeaderRules::default());
    let client = BitcoinClient::<SimPeer>::new(&network, [addr], headers, BitcoinConfig::default());
    let mut script = p2p_core::Script::new(client);
    assert!(matches!(script.sent()[..], [(SimPeer(0), BitcoinMsg::Version(_))]));
    let stray = [
        BitcoinMsg::Block(blocks[20].clone()),
        BitcoinMsg::Tx(payment),
        BitcoinMsg::Headers(blocks.iter().map(|block| block.header).collect()),
        BitcoinMsg::CFHeaders(blocks[20].header.id(), Key::ZERO, vec![Key::ZERO; 21]),
        BitcoinMsg::CFCheckpt(blocks[20].header.id(), vec![]),
        BitcoinMsg::CFilter(blocks[20].header.id(), vec![0]),
        BitcoinMsg::Ping(1),
        BitcoinMsg::Verack,
    ];
    for from in [SimPeer(0), SimPeer(7)] {
        stray.iter().for_each(|msg| script.message(from, msg.clone()));
    }
    assert!(script.sent().is_empty());
    assert_eq!(script.machine().headers().len(), 1);
}
