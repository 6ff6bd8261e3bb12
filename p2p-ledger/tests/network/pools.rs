//! What waits for a block is heard of by all in the end.

use std::time::Duration;

use p2p_core::sim::{DiskModel, Network, Sim};
use p2p_core::{Handle, Key, SimPeer};
use p2p_ledger::{
    Coins, Encode, LedgerCommand, LedgerConfig, LedgerMsg, LedgerNode, MAX_INVENTORY, Mined, PoolRules,
    Template, Transaction, Tx, WtxId,
};
use p2p_overlay::HyParView;

use super::support::{Audited, Lone, MATURITY, Pow, SUBSIDY, books, branch, genesis, list, pay, spend};

type Node = LedgerNode<HyParView<SimPeer>, Pow, Coins>;
type World = Sim<Node, Audited>;

fn mine(sim: &mut World) -> Vec<Transaction> {
    let handle: Handle<Node> = sim.handle(SimPeer(0));
    let to = pay(1, 0).lock.to_bytes();
    sim.block_on(async move {
        let mut block = handle.ask(Template(to)).await.unwrap().unwrap();
        assert!(Pow::regtest().mine(&mut block.header, 0, 1 << 20));
        handle.ask(Mined(block.clone())).await.unwrap().unwrap();
        block.transactions
    })
}

fn submit(sim: &mut World, transaction: Transaction) {
    sim.command(SimPeer(0), LedgerCommand::Submit(transaction));
}

/// More waits than is told at once, and it was told before the newcomer was there, who has a chain to fetch first.
#[test]
fn a_newcomer_hears_of_all_that_waits() {
    let workers = |_| Audited::blind(books(Default::default(), PoolRules::default()));
    let mut sim = World::with_workers(1, Network::default(), DiskModel::default(), workers);
    sim.population(|birth| {
        let seeds: Vec<SimPeer> = birth.alive.first().copied().into_iter().collect();
        Node::new(HyParView::join(birth.peer, seeds), LedgerConfig::default())
    });
    sim.join();
    sim.run_for(Duration::from_secs(1));
    let rich: Vec<_> = (0..2).map(|_| mine(&mut sim)[0].out_point(0)).collect();
    (0..MATURITY).for_each(|_| drop(mine(&mut sim)));
    let coins = 650;
    for coin in rich {
        submit(&mut sim, spend(1, coin, (0..coins).map(|_| pay(1, SUBSIDY / u64::from(coins)))));
    }
    sim.run_for(Duration::from_secs(1));
    let split = mine(&mut sim).split_off(1);
    (0..20).for_each(|_| drop(mine(&mut sim)));
    for index in 0..coins {
        for split in &split {
            submit(&mut sim, spend(1, split.out_point(index), [pay(2, 1)]));
        }
        sim.run_for(Duration::from_millis(50));
    }
    sim.run_for(Duration::from_secs(1));
    let pool = |sim: &World, peer| sim.worker(peer).map_or(0, |worker| worker.books.pool().len());
    let all = 2 * coins as usize;
    assert!(all > MAX_INVENTORY && pool(&sim, SimPeer(0)) == all);

    let newcomer = sim.join();
    let began = sim.now();
    while pool(&sim, newcomer) < all {
        assert!(sim.now().since(began) < Duration::from_secs(120), "{} have come", pool(&sim, newcomer));
        sim.run_for(Duration::from_secs(1));
    }
}

/// Of one neighbour no more are asked for at once than a thousand. The others are not forgotten.
#[test]
fn what_could_not_be_asked_for_is_asked_for_later() {
    let mut lone = Lone::new();
    let names: Vec<WtxId> = (0..1_500u32).map(|n| WtxId(Key::of(&n.to_le_bytes()))).collect();
    lone.sent();
    lone.says(1, LedgerMsg::Have(names[..1_000].to_vec()));
    lone.says(1, LedgerMsg::Have(names[1_000..].to_vec()));
    assert_eq!(lone.sent_to(1), [LedgerMsg::Want(names[..1_000].to_vec())]);
    lone.advance(11);
    let asked = lone.sent().into_iter().find(|(_, msg)| matches!(msg, LedgerMsg::GetPool { .. }));
    let (peer, _) = asked.expect("a neighbour is asked what waits there");
    lone.says(peer.0, LedgerMsg::Have(names[1_000..].to_vec()));
    assert!(lone.sent().contains(&(peer, LedgerMsg::Want(names[1_000..].to_vec()))));
}

/// What waits is told again to whoever asks, from where he says, and what depends on others after them.
#[test]
fn what_waits_is_told_again() {
    let blocks = branch(&genesis(), 1, MATURITY as usize + 4);
    let mut lone = Lone::at(&blocks);
    let mut waits = Vec::new();
    let mut last = spend(1, blocks[0].transactions[0].out_point(0), [pay(2, SUBSIDY)]);
    for _ in 0..8 {
        let next = spend(2, last.out_point(0), [pay(2, SUBSIDY)]);
        waits.push(std::mem::replace(&mut last, next));
    }
    lone.says(1, LedgerMsg::Have(waits.iter().map(Tx::wtxid).collect()));
    lone.says(1, LedgerMsg::Transactions(list(&waits)));
    lone.advance(1);
    lone.sent();
    let all: Vec<WtxId> = waits.iter().map(Tx::wtxid).collect();
    for from in [Key::ZERO, all[3].0, Key::of(b"anywhere")] {
        lone.says(1, LedgerMsg::GetPool { from: WtxId(from) });
        assert_eq!(lone.sent_to(1), [LedgerMsg::Have(all.clone())]);
    }
    assert_eq!(lone.books.pool().witnessed_from(&all[3], 1), [all[3]]);
}
