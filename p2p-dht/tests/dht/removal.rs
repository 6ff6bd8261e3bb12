//! Values under any key, and their removal by a secret.

use crate::liars::{ask, world_with_liars};
use crate::world::{Quick, SECOND, config, world};
use bytes::Bytes;
use p2p_core::sim::Network;
use p2p_core::{Key, SimPeer};
use p2p_dht::{
    DhtCommand, DhtMsg, DhtOutcome, GetAt, GetError, InvalidRecord, MAX_REMOVABLE, PutAt, PutError, Record,
    Remove, Wanted,
};

fn put(key: Key, value: &str, secret: u8) -> PutAt {
    PutAt { key, value: value.to_owned().into(), owner: Key::of(&[secret; 32]) }
}

fn remove(key: Key, value: &str, secret: u8) -> Remove {
    Remove { key, secret: [secret; 32], value: Key::of(value.as_bytes()) }
}

fn sorted(values: Result<Vec<Bytes>, GetError>) -> Vec<Bytes> {
    let mut values = values.unwrap();
    values.sort_unstable();
    values
}

/// Values of several owners lie under one key; each goes with its secret alone, stays gone while replicas die and come
/// back with what they had, and cannot be put again.
fn a_value_goes_with_its_secret_alone<O: Quick>() {
    let mut sim = world::<O>(1, 12, Network::default(), config());
    let key = Key::of(b"guests");
    let (here, there) = (sim.handle(SimPeer(2)), sim.handle(SimPeer(9)));
    // Some who keep it hear nothing of the removal.
    let read = there.clone();
    sim.block_on(async move {
        for (value, secret) in [("ada", 1), ("bob", 2), ("cleo", 3)] {
            here.ask(put(key, value, secret)).await.unwrap().unwrap();
        }
        assert_eq!(sorted(there.ask(GetAt(key)).await.unwrap()), ["ada", "bob", "cleo"]);
        // Another secret removes nothing, nor does a secret remove another value.
        there.ask(remove(key, "ada", 9)).await.unwrap().unwrap();
        there.ask(remove(key, "ada", 3)).await.unwrap().unwrap();
        assert_eq!(sorted(there.ask(GetAt(key)).await.unwrap()).len(), 3);
    });
    let holders: Vec<SimPeer> =
        sim.view().iter().filter(|(_, node)| node.held().len() > 1).map(|(peer, _)| peer).collect();
    let away: Vec<SimPeer> =
        holders.into_iter().filter(|peer| ![SimPeer(2), SimPeer(9)].contains(peer)).take(2).collect();
    away.iter().for_each(|peer| sim.crash(*peer));
    sim.run_for(60 * SECOND);
    let remover = sim.handle(SimPeer(2));
    let reader = read.clone();
    sim.block_on(async move {
        remover.ask(remove(key, "bob", 2)).await.unwrap().unwrap();
        assert_eq!(sorted(reader.ask(GetAt(key)).await.unwrap()), ["ada", "cleo"]);
        assert_eq!(remover.ask(put(key, "bob", 2)).await.unwrap(), Err(PutError::Removed));
    });
    away.iter().for_each(|peer| sim.restart(*peer));
    sim.run_for(200 * SECOND);
    let values = sim.block_on(async move { read.ask(GetAt(key)).await.unwrap() });
    assert_eq!(sorted(values), ["ada", "cleo"], "whoever was away has heard of it");
}

/// A stranger who has read a value puts another with its owner, which every reader is told, and that ends later; then one
/// removes his own. No put takes another's place, and a removal is that of one value.
fn nobody_takes_the_place_of_anothers_value<O: Quick>() {
    let mut sim = world::<O>(1, 12, Network::default(), config());
    let key = Key::of(b"guests");
    let (owner, stranger, reader) = (sim.handle(SimPeer(2)), sim.handle(SimPeer(9)), sim.handle(SimPeer(5)));
    let put_his = stranger.clone();
    sim.block_on(async move { owner.ask(put(key, "ada", 1)).await.unwrap().unwrap() });
    sim.run_for(5 * SECOND);
    sim.block_on(async move { put_his.ask(put(key, "eve", 1)).await.unwrap().unwrap() });
    // Replicas compare what they have.
    sim.run_for(100 * SECOND);
    sim.block_on(async move {
        assert_eq!(sorted(reader.ask(GetAt(key)).await.unwrap()), ["ada", "eve"]);
        stranger.ask(remove(key, "eve", 1)).await.unwrap().unwrap();
        assert_eq!(sorted(reader.ask(GetAt(key)).await.unwrap()), ["ada"]);
    });
}

/// Two of twelve answer each reader with values of their own, as the owner's, that never end.
fn who_lies_about_a_value_hides_none<O: Quick>() {
    let instead = |msg| match msg {
        DhtMsg::Loaded { id, .. } => {
            let (key, owner) = (Key::of(b"guests"), Key::of(&[1; 32]));
            let eves = Record::Removable { key, value: "eve".into(), owner, expires: u64::MAX };
            DhtMsg::Loaded { id, records: vec![eves] }
        }
        other => other,
    };
    let mut sim = world_with_liars::<O>(1, instead);
    let (key, owner) = (Key::of(b"guests"), Key::of(&[1; 32]));
    let stored = ask(&mut sim, 0, DhtCommand::PutAt { key, value: "ada".into(), owner });
    assert!(matches!(stored, DhtOutcome::Stored(Ok(_))), "{stored:?}");
    for peer in [1, 2, 3, 4] {
        match ask(&mut sim, peer, DhtCommand::Get { key, wanted: Wanted::Values }) {
            DhtOutcome::Values(Ok(values)) => assert!(values.contains(&Bytes::from("ada")), "{values:?}"),
            other => panic!("{other:?}"),
        }
    }
}

/// A node that keeps nothing under the key puts what it may there, and another the most of what is left; then a third has a place
/// yet.
fn values_end_and_are_bounded<O: Quick>() {
    let mut sim =
        world::<O>(1, 12, Network::default(), p2p_dht::DhtConfig { lifetime: 300 * SECOND, ..config() });
    let key = Key::of(b"guests");
    let long = "x".repeat(MAX_REMOVABLE + 1);
    let first = sim.handle(SimPeer(2));
    let too_long = put(key, &long, 1);
    sim.block_on(async move {
        let refused = first.ask(too_long).await.unwrap();
        let error = InvalidRecord::TooLongToRemove { len: MAX_REMOVABLE + 1 };
        assert_eq!(refused, Err(PutError::Invalid(error)));
        first.ask(put(key, "first", 99)).await.unwrap().unwrap();
    });
    let keeps = |peer: &SimPeer| sim.node(*peer).is_some_and(|node| node.held().len() > 0);
    let others: Vec<SimPeer> = (0..12).map(SimPeer).filter(|peer| !keeps(peer)).collect();
    let values: Vec<Bytes> = (0..64u8).map(|i| format!("{i:0>1024}").into()).collect();
    let (mut left, mut stored) = (values.iter(), Vec::new());
    for peer in &others[..3] {
        let before = stored.len();
        for value in left.by_ref() {
            let (node, value, owner) = (sim.handle(*peer), value.clone(), Key::of(&[1; 32]));
            let put = PutAt { key, value: value.clone(), owner };
            match sim.block_on(async move { node.ask(put).await.unwrap() }) {
                Ok(_) => stored.push(value),
                Err(PutError::Quorum { copies: 0, .. }) => break,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(stored.len() > before, "{peer:?} has no place");
    }
    assert!(stored.len() >= 60, "{}", stored.len());
    let read = sim.handle(others[3]);
    let all = sim.block_on(async move { read.ask(GetAt(key)).await.unwrap().unwrap() });
    assert!(stored.iter().all(|value| all.contains(value)), "they fit into one answer");
    sim.run_for(400 * SECOND);
    let there = sim.handle(SimPeer(9));
    let ended = sim.block_on(async move { there.ask(GetAt(key)).await.unwrap() });
    assert!(matches!(ended, Err(GetError::NotFound { .. })), "{ended:?}");
}

over_each_overlay!(
    a_value_goes_with_its_secret_alone,
    nobody_takes_the_place_of_anothers_value,
    who_lies_about_a_value_hides_none,
    values_end_and_are_bounded,
);
