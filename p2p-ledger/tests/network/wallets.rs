//! Wallets over full nodes.

use std::time::Duration;

use p2p_core::sim::{DiskModel, Network, Sim};
use p2p_core::{Handle, SimPeer};
use p2p_ledger::{
    Address, Balance, Coins, Encode, Ledger, LedgerConfig, LedgerNode, Mined, PoolRules, Template, Wallet,
};
use p2p_overlay::HyParView;

use super::support::{Audited, CHAIN, MATURITY, Pow, SUBSIDY, books};

type Node = LedgerNode<HyParView<SimPeer>, Pow, Coins>;
type World = Sim<Node, Audited>;

fn world(nodes: u32) -> World {
    let workers = |_| Audited::new(books(Default::default(), PoolRules::default()));
    let mut sim = World::with_workers(1, Network::default(), DiskModel::default(), workers);
    sim.population(|birth| {
        let seeds: Vec<SimPeer> = birth.alive.first().copied().into_iter().collect();
        Node::new(HyParView::join(birth.peer, seeds), LedgerConfig::default())
    });
    for _ in 0..nodes {
        sim.join();
    }
    sim.run_for(Duration::from_secs(10));
    sim
}

fn mine(sim: &mut World, at: u32, to: Address) {
    let handle: Handle<Node> = sim.handle(SimPeer(at));
    sim.block_on(async move {
        let mut block = handle.ask(Template(to.lock().to_bytes())).await.unwrap().unwrap();
        assert!(Pow::regtest().mine(&mut block.header, 0, 1 << 20));
        handle.ask(Mined(block)).await.unwrap().unwrap();
    });
    sim.run_for(Duration::from_secs(2));
}

fn follow(sim: &mut World, at: u32, wallet: &mut Wallet) -> Balance {
    let handle: Handle<Node> = sim.handle(SimPeer(at));
    let ledger: &dyn Ledger<Pow, Coins> = &handle;
    sim.block_on(wallet.catch_up(ledger)).unwrap();
    wallet.balance()
}

/// Pays at one node; the payment is submitted there.
fn pay(sim: &mut World, at: u32, wallet: &mut Wallet, to: Address, value: u64) {
    follow(sim, at, wallet);
    let payment = wallet.pay(to, value, 10).unwrap();
    let handle: Handle<Node> = sim.handle(SimPeer(at));
    sim.block_on(async move { Ledger::<Pow, Coins>::submit(&handle, payment).await }).unwrap();
    sim.run_for(Duration::from_secs(3));
}

/// Two people, who follow different nodes; a third mines. What they have adds up to what was made.
#[test]
fn what_wallets_have_adds_up_to_what_was_made() {
    let mut sim = world(5);
    let new = |seed| Wallet::new([seed; 32], CHAIN, MATURITY);
    let (mut alice, mut bob, mut miner) = (new(1), new(2), new(3));
    for _ in 0..6 {
        let to = alice.receive();
        mine(&mut sim, 0, to);
    }
    assert_eq!(follow(&mut sim, 1, &mut alice).ready, 4 * SUBSIDY);

    let to = bob.receive();
    pay(&mut sim, 1, &mut alice, to, 1_500);
    // Again, before there is a block: with other coins, or its own change.
    let to = bob.receive();
    pay(&mut sim, 1, &mut alice, to, 2_000);
    assert_eq!(follow(&mut sim, 2, &mut bob), Balance::default(), "not yet");
    let to = miner.receive();
    mine(&mut sim, 4, to);
    assert_eq!(follow(&mut sim, 2, &mut bob).ready, 3_500);

    let to = alice.receive();
    pay(&mut sim, 3, &mut bob, to, 1_234);
    for _ in 0..MATURITY {
        let to = miner.receive();
        mine(&mut sim, 3, to);
    }
    let balances =
        [(1, &mut alice), (2, &mut bob), (4, &mut miner)].map(|(at, wallet)| follow(&mut sim, at, wallet));
    let sum: u64 = balances.iter().map(|balance| balance.ready + balance.new + balance.pending).sum();
    assert_eq!(sum, 10 * SUBSIDY);
    assert!(balances[2].ready + balances[2].new > 4 * SUBSIDY, "the miner has the fees");

    // The secrets alone lead to the same.
    for (seed, balance) in (1..=3).zip(balances) {
        let mut again = new(seed);
        assert_eq!(follow(&mut sim, 0, &mut again), balance);
    }
}

/// The later keys were paid first: nothing is passed over for that.
#[test]
fn a_wallet_is_found_again_in_whatever_order_its_keys_were_paid() {
    let mut sim = world(2);
    let new = || Wallet::new([1; 32], CHAIN, MATURITY);
    let mut before = new();
    let keys: Vec<Address> = (0..70).map(|_| before.receive()).collect();
    // Each is within twenty of another that was paid, or of the first.
    for at in [60, 50, 35, 25, 19, 10] {
        mine(&mut sim, 0, keys[at]);
    }
    let (known, mut again) = (follow(&mut sim, 1, &mut before), new());
    assert_eq!(known.ready + known.new, 6 * SUBSIDY);
    assert_eq!(follow(&mut sim, 1, &mut again), known);
    assert_eq!((again.given(), again.history().count()), (61, 6));
}

/// A node that was cut off has gone another way; a wallet that has followed it finds back.
#[test]
fn a_wallet_goes_over_to_the_better_chain() {
    let mut sim = world(4);
    let new = |seed| Wallet::new([seed; 32], CHAIN, MATURITY);
    let (mut here, mut there) = (new(1), new(2));
    let apart = p2p_core::sim::Cut::between([SimPeer(0)], (1..4).map(SimPeer));
    sim.inject(vec![(Duration::ZERO, p2p_core::sim::Fault::Cut(apart))]);
    for _ in 0..2 {
        let to = here.receive();
        mine(&mut sim, 0, to);
    }
    assert_eq!(follow(&mut sim, 0, &mut here).new, 2 * SUBSIDY);
    for _ in 0..5 {
        let to = there.receive();
        mine(&mut sim, 1, to);
    }
    sim.inject(vec![(Duration::ZERO, p2p_core::sim::Fault::Heal)]);
    sim.run_for(Duration::from_secs(60));
    assert_eq!(follow(&mut sim, 0, &mut here), Balance::default());
    let found = follow(&mut sim, 0, &mut there);
    assert_eq!(found.ready + found.new, 5 * SUBSIDY);
    assert_eq!(here.height(), 5);
}
