//! Wallets over light clients, among full nodes some of whose keepers lie to them.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use p2p_core::sim::{DiskModel, Latency, Loss, Network, Sim, run_seeds};
use p2p_core::{Handle, SimPeer, Worker};
use p2p_ledger::measure::{Party, ToFull, ToLight};
use p2p_ledger::{
    Address, BlockAt, Change, Coins, Encode, Filter, HeaderAt, HeaderChain, HeaderRules, Ledger,
    LedgerConfig, LedgerDone, LedgerError, LedgerJob, LedgerNode, LightAnswer, LightAsk, LightConfig,
    LightNode, Mark, Mined, PoolRules, Prove, Scan, Scanned, ServeDone, Status, Submit, Template, Tip,
    Transaction, Tx, TxId, Wallet, put_blob, put_count,
};
use p2p_overlay::HyParView;

use super::support::{Books, CHAIN, CoinBlock, Light, MATURITY, Pow, SUBSIDY, books, genesis};

type Members = HyParView<SimPeer>;
type Full = LedgerNode<Members, Pow, Coins>;
type Thin = LightNode<Members, Pow, Coins>;

type Net = Party<Members, Pow, Coins>;

/// A light client as a ledger: what a program has in its handle.
struct ThroughThin(Handle<Net>);

#[async_trait]
impl Ledger<Pow, Coins> for ThroughThin {
    async fn submit(&self, transaction: Transaction) -> Result<TxId, LedgerError> {
        self.0.ask(ToLight(Submit(transaction))).await?
    }
    async fn tip(&self) -> Result<Tip, LedgerError> {
        self.0.ask(ToLight(Status)).await?
    }
    async fn block(&self, height: u64) -> Result<Option<CoinBlock>, LedgerError> {
        self.0.ask(ToLight(BlockAt(height))).await?
    }
    async fn header(&self, height: u64) -> Result<Option<Light>, LedgerError> {
        self.0.ask(ToLight(HeaderAt(height))).await?
    }
    async fn scan(
        &self,
        after: Mark,
        about: &(dyn Fn() -> Vec<Vec<u8>> + Sync),
    ) -> Result<Scanned<CoinBlock>, LedgerError> {
        let about = about();
        self.0.ask(ToLight(Scan { after, about })).await?
    }
    fn follow(&self) -> BoxStream<'static, Change> {
        Box::pin(futures::stream::pending())
    }
}

/// A keeper that shows light clients no transaction in the blocks since it has begun to lie, or an honest one.
struct Clerk {
    books: Books,
    lies_from: Option<u64>,
}

impl Clerk {
    fn lie(&self, from: u64, ask: &LightAsk, answer: LightAnswer) -> LightAnswer {
        let chain = self.books.chain();
        let empty = |height: u64| chain.at(height).map(|id| Filter::of::<Transaction>(&id, &[]));
        match (ask, answer) {
            (LightAsk::FilterHashes { from: first, .. }, LightAnswer::FilterHashes { mut hashes, .. }) => {
                for (height, hash) in (*first..).zip(&mut hashes) {
                    if let Some(filter) = empty(height).filter(|_| height >= from) {
                        *hash = filter.hash();
                    }
                }
                // It goes on from its own lie.
                let mut header =
                    Filter::of::<Transaction>(&chain.at(0).unwrap(), &[]).header(&p2p_core::Key::ZERO);
                for height in 1..*first {
                    let id = chain.at(height).unwrap();
                    let (_, honest) = chain.filter_hashes(height, &id, 1).unwrap().unwrap();
                    let hash = if height >= from { empty(height).unwrap().hash() } else { honest[0] };
                    header = Filter::header_of(&hash, &header);
                }
                LightAnswer::FilterHashes { previous: header, hashes }
            }
            (LightAsk::Filters { from: first, .. }, LightAnswer::Filters(_)) => {
                let filters: Vec<Vec<u8>> = (*first..=chain.tip().height)
                    .filter_map(|height| {
                        let id = chain.at(height)?;
                        match height >= from {
                            true => Some(empty(height)?.as_bytes().to_vec()),
                            false => chain.filters(height, &id, 1, 1).ok()??.pop(),
                        }
                    })
                    .collect();
                let mut out = Vec::new();
                put_count(&mut out, filters.len());
                filters.iter().for_each(|filter| put_blob(&mut out, filter));
                LightAnswer::Filters(out.into())
            }
            (LightAsk::Proof { .. }, _) => LightAnswer::Missing,
            (_, answer) => answer,
        }
    }
}

impl Worker<LedgerJob<Pow, Coins>> for Clerk {
    fn run(&mut self, batch: Vec<LedgerJob<Pow, Coins>>) -> Vec<LedgerDone<Pow, Coins>> {
        let asked = |job: &LedgerJob<Pow, Coins>| match job {
            LedgerJob::Serve { ask, .. } => Some(ask.clone()),
            _ => None,
        };
        let asks: Vec<Option<LightAsk>> = batch.iter().map(asked).collect();
        let done = self.books.run(batch);
        let lie = |(done, ask): (LedgerDone<Pow, Coins>, Option<LightAsk>)| match (done, ask, self.lies_from)
        {
            (LedgerDone::Served(done), Some(ask), Some(from)) => {
                LedgerDone::Served(ServeDone { answer: self.lie(from, &ask, done.answer), ..done })
            }
            (done, ..) => done,
        };
        done.into_iter().zip(asks).map(lie).collect()
    }

    fn crash(&mut self, batch: Vec<LedgerJob<Pow, Coins>>, rng: &mut p2p_core::Rng) {
        self.books.crash(batch, rng);
    }
}

type World = Sim<Net, Clerk>;

const FULL: u32 = 6;

/// Full nodes, of which these lie to light clients from a height on.
fn world(seed: u64, network: Network, liars: &'static [u32], from: u64) -> World {
    let clerk = move |peer: SimPeer| {
        let books = books(HeaderRules::default(), PoolRules::default());
        Clerk { books, lies_from: liars.contains(&peer.0).then_some(from) }
    };
    let mut sim = World::with_workers(seed, network, DiskModel::default(), clerk);
    for peer in 0..FULL {
        let seeds: Vec<SimPeer> = (peer > 0).then_some(SimPeer(0)).into_iter().collect();
        sim.spawn(move |birth| {
            Party::full(Full::new(Members::join(birth.peer, seeds), LedgerConfig::default()))
        });
    }
    sim.run_for(Duration::from_secs(10));
    sim
}

fn thin(sim: &mut World, servers: &[u32]) -> SimPeer {
    let chain = HeaderChain::new(Pow::regtest(), genesis(), HeaderRules::default());
    let servers: Vec<SimPeer> = servers.iter().copied().map(SimPeer).collect();
    sim.spawn(move |_| Party::light(Thin::new(servers, chain, LightConfig::default())))
}

fn mine(sim: &mut World, at: u32, to: Address) {
    let handle = sim.handle(SimPeer(at));
    sim.block_on(async move {
        let mut block = handle.ask(ToFull(Template(to.lock().to_bytes()))).await.unwrap().unwrap();
        assert!(Pow::regtest().mine(&mut block.header, 0, 1 << 20));
        handle.ask(ToFull(Mined(block))).await.unwrap().unwrap();
    });
    sim.run_for(Duration::from_secs(3));
}

fn follow(sim: &mut World, at: SimPeer, wallet: &mut Wallet) -> p2p_ledger::Balance {
    let ledger = ThroughThin(sim.handle(at));
    sim.block_on(wallet.catch_up::<Pow, _>(&ledger)).unwrap();
    wallet.balance()
}

fn pay(sim: &mut World, at: SimPeer, wallet: &mut Wallet, to: Address, value: u64) -> TxId {
    let payment = wallet.pay(to, value, 10).unwrap();
    let ledger = ThroughThin(sim.handle(at));
    let id = payment.id();
    assert_eq!(sim.block_on(async move { ledger.submit(payment).await }), Ok(id));
    sim.run_for(Duration::from_secs(3));
    id
}

fn liars(sim: &World, at: SimPeer) -> Vec<u32> {
    match sim.node(at) {
        Some(Party::Light(node)) => node.liars().map(|(peer, _)| peer.0).collect(),
        _ => panic!("{at} is no light client"),
    }
}

/// Two wallets over light clients, each with a liar among its servers; messages get lost.
fn wallets_see_and_pay(seed: u64) -> (u64, Vec<p2p_ledger::Balance>) {
    let network = Network {
        latency: Latency::Uniform(Duration::from_millis(20), Duration::from_millis(150)),
        loss: Loss::Uniform(0.01),
        ..Network::default()
    };
    let mut sim = world(seed, network, &[1, 4], 2);
    let new = |seed| Wallet::new([seed; 32], CHAIN, MATURITY);
    let (mut alice, mut bob, mut miner) = (new(1), new(2), new(3));
    let (hers, his) = (thin(&mut sim, &[1, 2, 3]), thin(&mut sim, &[4, 5]));
    for _ in 0..6 {
        let to = alice.receive();
        mine(&mut sim, 0, to);
    }
    sim.run_for(Duration::from_secs(15));
    assert_eq!(follow(&mut sim, hers, &mut alice).ready, 4 * SUBSIDY);
    let to = bob.receive();
    let paid = pay(&mut sim, hers, &mut alice, to, 1_500);
    let to = miner.receive();
    mine(&mut sim, 2, to);
    sim.run_for(Duration::from_secs(15));
    assert_eq!(follow(&mut sim, his, &mut bob).ready, 1_500);
    let to = alice.receive();
    pay(&mut sim, his, &mut bob, to, 700);
    for _ in 0..MATURITY {
        let to = miner.receive();
        mine(&mut sim, 3, to);
    }
    sim.run_for(Duration::from_secs(15));
    let balances = vec![
        follow(&mut sim, hers, &mut alice),
        follow(&mut sim, his, &mut bob),
        follow(&mut sim, his, &mut miner),
    ];
    let sum: u64 = balances.iter().map(|balance| balance.ready + balance.new + balance.pending).sum();
    assert_eq!(sum, 10 * SUBSIDY, "what they have is what was made: {balances:?}");
    assert_eq!(alice.history().filter(|entry| entry.height.is_some()).count(), 8);
    assert_eq!((liars(&sim, hers), liars(&sim, his)), (vec![1], vec![4]));

    // The proof of the payment, from servers of which one withholds it.
    let asks = sim.handle(hers);
    let shown = sim.block_on(async move { asks.ask(ToLight(Prove { height: 7, transaction: paid })).await });
    let shown = shown.unwrap().unwrap().expect("it is there");
    let ledger = ThroughThin(sim.handle(his));
    let sure = sim.block_on(async move { ledger.confirmations(&shown).await });
    assert_eq!(sure, Ok(Some(1 + MATURITY)), "and whoever has the headers believes it");

    // The secrets alone lead to the same.
    for (seed, balance) in (1..=3).zip(&balances) {
        assert_eq!(follow(&mut sim, hers, &mut new(seed)), *balance);
    }
    (sim.trace(), balances)
}

#[test]
fn wallets_over_light_clients_see_payments_and_pay() {
    run_seeds(2, wallets_see_and_pay);
}

/// All that a wallet knows is a liar. Then it hears of an honest one, and what it has skipped comes back.
#[test]
fn a_wallet_that_was_eclipsed_by_one_server_has_its_coins_once_it_knows_another() {
    let mut sim = world(1, Network::default(), &[1], 1);
    let mut wallet = Wallet::new([1; 32], CHAIN, MATURITY);
    let client = thin(&mut sim, &[1]);
    for _ in 0..6 {
        let to = wallet.receive();
        mine(&mut sim, 0, to);
    }
    sim.run_for(Duration::from_secs(15));
    // What it was given out is hidden from it, and it does not know.
    assert_eq!(follow(&mut sim, client, &mut wallet), p2p_ledger::Balance::default());
    assert_eq!(wallet.height(), 6);
    let handle = sim.handle(client);
    assert_eq!(
        sim.block_on(async move { handle.ask(ToLight(p2p_ledger::Enlist(SimPeer(3)))).await }),
        Ok(true)
    );
    sim.run_for(Duration::from_secs(5));
    assert_eq!(follow(&mut sim, client, &mut wallet).ready, 4 * SUBSIDY);
    assert_eq!(liars(&sim, client), [1]);
}
