//! An attacker who has one subnet, and in it as many ids as he likes, wants to be all that somebody hears (Heilman et al., *Eclipse
//! attacks on Bitcoin's peer-to-peer network*, 2015).

use p2p_core::{Script, SimPeer, Worker};
use p2p_ledger::{
    Coins, HeaderRules, LedgerConfig, LedgerMsg, LedgerNode, LightCommand, LightConfig, LightNode,
    LightOutcome, PoolRules,
};
use p2p_overlay::{HyParView, HyParViewConfig, HyParViewMsg, Membership, SubnetLimits};

use super::support::{Books, Pow, block, books, genesis, headers, sent_block};

type Full = LedgerNode<HyParView<SimPeer>, Pow, Coins>;
type Thin = LightNode<HyParView<SimPeer>, Pow, Coins>;

fn attackers() -> impl Iterator<Item = SimPeer> {
    (0..200).map(|number| SimPeer(SimPeer::FIRST_IN_SHARED_SUBNET.0 + number))
}

/// A node with five honest neighbours, 1 to 5, of whom some are left when the attacker has done what he can.
fn attacked(subnets: Option<SubnetLimits>) -> (Script<Full>, Books, Vec<SimPeer>) {
    let config = HyParViewConfig { subnets, ..HyParViewConfig::default() };
    let membership = HyParView::with(SimPeer(0), [], config);
    let mut script = Script::new(Full::new(membership, LedgerConfig::default()));
    let mut books = books(HeaderRules::default(), PoolRules::default());
    for peer in (1..=5).map(SimPeer).chain(attackers()) {
        script.message(peer, LedgerMsg::Membership(HyParViewMsg::Join));
        work(&mut script, &mut books);
    }
    let active = script.machine().membership().active();
    let left = active.iter().copied().filter(|peer| *peer < SimPeer::FIRST_IN_SHARED_SUBNET).collect();
    (script, books, left)
}

fn work(script: &mut Script<Full>, books: &mut Books) {
    loop {
        let jobs = script.jobs();
        if jobs.is_empty() {
            return;
        }
        for (id, job) in jobs {
            let done = books.run(vec![job]).remove(0);
            script.done(id, done);
        }
    }
}

#[test]
fn a_node_hears_others_than_an_attacker_with_one_subnet() {
    let (_, _, left) = attacked(None);
    assert_eq!(left, [], "without limits he is all that it hears");
    let (mut script, mut books, left) = attacked(Some(SubnetLimits::default()));
    assert_eq!(left.len(), 3);
    // One of them has a block.
    let new = block(&genesis(), 1, &[]);
    let announced = LedgerMsg::Headers { answers: None, headers: headers(std::slice::from_ref(&new)) };
    script.message(left[0], announced);
    work(&mut script, &mut books);
    let LedgerMsg::Block { id, block } = sent_block(&new) else { unreachable!() };
    script.message(left[0], LedgerMsg::Block { id, block });
    work(&mut script, &mut books);
    assert_eq!(books.chain().tip().id, id);
}

/// A program that enlists whomever it hears of hears of the attacker first.
#[test]
fn a_light_client_has_room_for_others_than_an_attacker_with_one_subnet() {
    let headers = books(HeaderRules::default(), PoolRules::default()).chain().headers().clone();
    let mut script = Script::new(Thin::new(attackers(), headers, LightConfig::default()));
    let mut enlists = |peer: SimPeer| {
        script.command(LightCommand::Enlist(peer));
        match script.outcomes().pop() {
            Some((_, LightOutcome::Enlisted(is_asked))) => is_asked,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(attackers().filter(|peer| enlists(*peer)).count(), 4, "those that it has");
    assert_eq!((1..100).filter(|number| enlists(SimPeer(*number))).count(), 12);
}
