//! What a few hostile peers among the replicas cannot do.

use crate::world::{Quick, SECOND, config};
use p2p_core::sim::{DiskModel, Liar, Network, Sim};
use p2p_core::{Key, Keypair, Protocol, SimPeer};
use p2p_dht::{
    DhtCommand, DhtMsg, DhtOutcome, MemoryStore, PutError, Refusal, Replicated, Signed, Stored, Wanted,
};
use p2p_overlay::{Kademlia, LookupMsg, RoutedMsg};

pub(crate) type Msg<O> = DhtMsg<SimPeer, <O as Protocol>::Msg>;
pub(crate) type World<O> = Sim<Liar<Replicated<O>>, MemoryStore<SimPeer>>;

/// Twelve nodes, two of which rewrite what they send.
pub(crate) fn world_with_liars<O: Quick>(seed: u64, rewrite: fn(Msg<O>) -> Msg<O>) -> World<O> {
    let workers = |_| MemoryStore::default();
    let mut sim = World::<O>::with_workers(seed, Network::default(), DiskModel::default(), workers);
    for i in 0..12 {
        sim.spawn(|birth| {
            let seeds: Vec<SimPeer> = birth.alive.first().copied().into_iter().collect();
            let node = Replicated::new(O::quick(birth.peer, seeds), config());
            match i % 6 == 5 {
                true => Liar::new(node, move |_, to, msg| vec![(to, rewrite(msg))]),
                false => Liar::honest(node),
            }
        });
        sim.run_for(SECOND);
    }
    sim.run_for(60 * SECOND);
    sim
}

pub(crate) fn ask<O: Quick>(
    sim: &mut World<O>,
    peer: u32,
    command: DhtCommand<SimPeer>,
) -> DhtOutcome<SimPeer> {
    sim.command(SimPeer(peer), command);
    let until = sim.now() + 60 * SECOND;
    assert!(sim.run_to_outcome(until), "no outcome in a minute");
    sim.take_outcomes().pop().unwrap().outcome
}

fn put<O: Quick>(sim: &mut World<O>, peer: u32, value: &'static str) -> Result<Stored, PutError> {
    match ask(sim, peer, DhtCommand::Put { value: value.into() }) {
        DhtOutcome::Stored(stored) => stored,
        other => panic!("{other:?}"),
    }
}

fn of_the_wrong_kind<M>(msg: DhtMsg<SimPeer, M>) -> DhtMsg<SimPeer, M> {
    match msg {
        DhtMsg::Stored { id, .. } => DhtMsg::Loaded { id, records: Vec::new() },
        DhtMsg::Loaded { id, .. } | DhtMsg::Compared { id, .. } | DhtMsg::Summed { id, .. } => {
            DhtMsg::Stored { id, result: Ok(()) }
        }
        other => other,
    }
}

/// Every question is answered, but by an answer to another kind of question: it counts as silence.
fn an_answer_of_the_wrong_kind_is_none<O: Quick>() {
    values_are_kept(world_with_liars::<O>(1, of_the_wrong_kind), 3);
}

/// In Kademlia liars are passed over: others among the closest take their place.
#[test]
fn lookups_are_answered_wrongly_too() {
    let rewrite = |msg| match of_the_wrong_kind(msg) {
        DhtMsg::Overlay(RoutedMsg::Lookup(LookupMsg::Answer { id, .. })) => {
            DhtMsg::Overlay(RoutedMsg::Lookup(LookupMsg::Accepted { hop: id }))
        }
        other => other,
    };
    values_are_kept(world_with_liars::<Kademlia<SimPeer>>(1, rewrite), 5);
}

/// Values are stored at so many nodes at least, read, and copied again when a node has died.
fn values_are_kept<O: Quick>(mut sim: World<O>, least: usize) {
    for (i, value) in ["one", "two", "three", "four", "five", "six"].into_iter().enumerate() {
        let began = sim.now();
        let stored = put(&mut sim, i as u32 % 5, value).unwrap();
        assert!((least..=5).contains(&stored.copies), "{value}: {stored:?}");
        let key = Key::of(value.as_bytes());
        let got = ask(&mut sim, (i as u32 + 2) % 5, DhtCommand::Get { key, wanted: Wanted::Immutable });
        assert!(matches!(got, DhtOutcome::Value(Ok(got)) if got == value));
        assert!(sim.now() - began < 10 * SECOND, "the liars hold everything up: {:?}", sim.now() - began);
    }
    // Repairs go on: of the honest nodes one dies, and there are five honest copies again, as far as there can be.
    sim.crash(SimPeer(0));
    sim.run_for(300 * SECOND);
    let honest = |sim: &World<O>| {
        let view = sim.view();
        let holds = |key: Key| {
            let honest = view.iter().filter(|(_, node)| !node.lies());
            honest.filter(|(_, node)| node.machine().held().any(|(slot, _)| slot.key == key)).count()
        };
        ["one", "two", "three", "four", "five", "six"].map(|value| holds(Key::of(value.as_bytes())))
    };
    assert!(honest(&sim).iter().all(|copies| *copies >= 3), "{:?}", honest(&sim));
}

/// Liars that report a conflict where there is none do not keep a record from being stored.
fn a_conflict_that_few_report_is_none<O: Quick>() {
    let mut sim = world_with_liars::<O>(2, |msg| match msg {
        DhtMsg::Stored { id, .. } => DhtMsg::Stored { id, result: Err(Refusal::Conflict(u64::MAX)) },
        other => other,
    });
    put(&mut sim, 0, "a value").unwrap();
    let until = sim.wall().as_secs() + 3600;
    for sequence in 1..5 {
        let signed = Signed::new(&Keypair::from_seed(&[3; 32]), "name", sequence, until, "value").unwrap();
        let DhtOutcome::Stored(stored) = ask(&mut sim, 1, DhtCommand::Publish { signed, expected: None })
        else {
            panic!("not stored");
        };
        assert!(stored.unwrap().copies >= 3);
    }
}

/// A record that ends is not to be had from those who go on handing it out.
fn what_has_ended_is_not_read<O: Quick>() {
    let keep_on = |msg| match msg {
        DhtMsg::Loaded { id, .. } => {
            let signed = Signed::new(&Keypair::from_seed(&[3; 32]), "name", 1, 1_600_000_000, "old").unwrap();
            DhtMsg::Loaded { id, records: vec![p2p_dht::Record::Mutable(signed)] }
        }
        other => other,
    };
    let mut sim = world_with_liars::<O>(3, keep_on);
    let key = Signed::key_of(&Keypair::from_seed(&[3; 32]).id(), b"name");
    for peer in [0, 1, 2, 3, 4] {
        let got = ask(&mut sim, peer, DhtCommand::Get { key, wanted: Wanted::Mutable });
        assert!(matches!(got, DhtOutcome::Signed(Err(_))), "{got:?}");
    }
}

over_each_overlay!(
    an_answer_of_the_wrong_kind_is_none,
    a_conflict_that_few_report_is_none,
    what_has_ended_is_not_read,
);
