//! Half of all work is cut off for an hour, and two wallets with it, each on its side.

use std::time::Duration;

use p2p_core::sim::{Cut, Fault, run_seeds};
use p2p_core::{Handle, SimPeer};
use p2p_ledger::{Address, Balance, Coins, Encode, Ledger, Mined, Template, Wallet};

use super::convergence::{Node, World, all_agree, rough, tips, world};
use super::support::{CHAIN, MATURITY, Pow, SUBSIDY, pay as person};

/// How many nodes: twelve, or `P2P_LEDGER_NODES`.
fn size() -> u32 {
    std::env::var("P2P_LEDGER_NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

/// It may fail, as disks do.
fn mine(sim: &mut World, at: SimPeer, to: Address) {
    let handle: Handle<Node> = sim.handle(at);
    let _ = sim.block_on(async move {
        let mut block = handle.ask(Template(to.lock().to_bytes())).await.ok()?.ok()?;
        assert!(Pow::regtest().mine(&mut block.header, 0, 1 << 20));
        handle.ask(Mined(block)).await.ok()
    });
}

/// Follows a node, unless its disk fails just then.
fn follow(sim: &mut World, at: SimPeer, wallet: &mut Wallet) -> bool {
    let handle: Handle<Node> = sim.handle(at);
    let ledger: &dyn Ledger<Pow, Coins> = &handle;
    sim.block_on(wallet.catch_up(ledger)).is_ok()
}

/// Pays the other, if it has enough; the payment is submitted where it is known.
fn pay(sim: &mut World, at: SimPeer, from: &mut Wallet, to: Address) {
    let value = 1 + sim.workload_rng().below(SUBSIDY);
    if !follow(sim, at, from) {
        return;
    }
    // What was in a block that is undone waits again, at nodes that have heard of it and at others.
    let mut payments: Vec<_> = from.pending().cloned().collect();
    payments.extend(from.pay(to, value, 10));
    for payment in payments {
        let handle: Handle<Node> = sim.handle(at);
        let _ = sim.block_on(async move { Ledger::<Pow, Coins>::submit(&handle, payment).await });
    }
}

/// For so long blocks are found every minute, by whoever, and on each side of the cut payments are made to the other.
fn a_time(sim: &mut World, minutes: u64, wallets: &mut [Wallet; 2]) -> u32 {
    let (nodes, until) = (sim.alive().len() as u64, sim.now() + Duration::from_secs(60 * minutes));
    let mut apart = 0;
    while sim.now() < until {
        let gap = sim.workload_rng().exponential() * 60.0;
        sim.run_for(Duration::from_secs_f64(gap.clamp(0.1, 600.0)));
        let peer = sim.workload_rng().below(nodes);
        // The nodes of the second half know the second wallet.
        let side = usize::from(peer >= nodes / 2);
        let to = wallets[side].receive();
        mine(sim, SimPeer(peer as u32), to);
        let to = wallets[1 - side].receive();
        pay(sim, SimPeer(peer as u32), &mut wallets[side], to);
        let tips = tips(sim);
        apart += u32::from(tips.first() != tips.last());
    }
    apart
}

fn an_hour_apart(seed: u64, nodes: u32) -> (u64, Vec<Balance>) {
    let mut sim = world(seed, nodes, rough());
    let mut wallets = [1, 2].map(|seed| Wallet::new([seed; 32], CHAIN, MATURITY));
    a_time(&mut sim, 10, &mut wallets);

    let half = nodes / 2;
    let apart = Cut::between((0..half).map(SimPeer), (half..nodes).map(SimPeer));
    sim.inject(vec![(Duration::ZERO, Fault::Cut(apart))]);
    let differed = a_time(&mut sim, 60, &mut wallets);
    assert!(differed > 10, "each side went its own way: {differed}");
    sim.inject(vec![(Duration::ZERO, Fault::Heal)]);
    a_time(&mut sim, 10, &mut wallets);
    let tip = all_agree(&mut sim, SimPeer(0));

    // What there is belongs to the two, and to whom the last blocks were paid; wherever they ask, they are told the same, and
    // so is who has a secret alone.
    let supply = {
        let chain = sim.worker(SimPeer(1)).unwrap().books.chain();
        assert_eq!(chain.tip(), tip);
        chain.state().supply(&chain.view())
    };
    let mut balances = Vec::new();
    for (wallet, seed) in wallets.iter_mut().zip([1, 2]) {
        for at in [SimPeer(0), SimPeer(nodes - 1)] {
            while !follow(&mut sim, at, wallet) {}
            let mut anew = Wallet::new([seed; 32], CHAIN, MATURITY);
            while !follow(&mut sim, SimPeer(half), &mut anew) {}
            let in_blocks = |wallet: &Wallet| {
                let entries = wallet.history().filter(|entry| entry.height.is_some());
                entries.map(|entry| i128::from(entry.received) - i128::from(entry.spent)).sum::<i128>()
            };
            assert_eq!(in_blocks(wallet), in_blocks(&anew));
            let has = anew.balance();
            assert_eq!(i128::from(has.ready + has.new), in_blocks(&anew));
        }
        let mut anew = Wallet::new([seed; 32], CHAIN, MATURITY);
        while !follow(&mut sim, SimPeer(0), &mut anew) {}
        balances.push(anew.balance());
    }
    // Two blocks at least, by which all have come to agree, are person 1's, and so may some of the fees be.
    let theirs: u64 = balances.iter().map(|balance| balance.ready + balance.new).sum();
    let ones = {
        let coins =
            Coins::<p2p_ledger::NoPredicate>::all(sim.worker(SimPeer(0)).unwrap().books.chain().store());
        coins
            .filter(|(_, coin)| coin.output.lock == person(1, 0).lock)
            .map(|(_, coin)| coin.output.value)
            .sum::<u64>()
    };
    assert_eq!(theirs + ones, supply);
    (sim.trace(), balances)
}

#[test]
fn half_of_the_work_is_cut_off_for_an_hour_and_no_balance_is_wrong() {
    // Not so much larger for each of many seeds.
    run_seeds(1, |seed| an_hour_apart(seed, size().min(30)));
    if size() > 30 {
        an_hour_apart(1, size());
    }
}
