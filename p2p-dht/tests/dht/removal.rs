//! Values under any key, and their removal by a secret.

use crate::world::{Quick, SECOND, config, world};
use bytes::Bytes;
use p2p_core::sim::Network;
use p2p_core::{Key, SimPeer};
use p2p_dht::{GetAt, GetError, InvalidRecord, MAX_REMOVABLE, PutAt, PutError, Remove};

fn put(key: Key, value: &str, secret: u8) -> PutAt {
    PutAt { key, value: value.to_owned().into(), owner: Key::of(&[secret; 32]) }
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
        // Another secret removes nothing.
        there.ask(Remove { key, secret: [9; 32] }).await.unwrap().unwrap();
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
        remover.ask(Remove { key, secret: [2; 32] }).await.unwrap().unwrap();
        assert_eq!(sorted(reader.ask(GetAt(key)).await.unwrap()), ["ada", "cleo"]);
        assert_eq!(remover.ask(put(key, "bob", 2)).await.unwrap(), Err(PutError::Removed));
    });
    away.iter().for_each(|peer| sim.restart(*peer));
    sim.run_for(200 * SECOND);
    let values = sim.block_on(async move { read.ask(GetAt(key)).await.unwrap() });
    assert_eq!(sorted(values), ["ada", "cleo"], "whoever was away has heard of it");
}

/// Values of one owner take the place of one another: what was acknowledged is there.
fn a_value_that_is_not_there_is_not_acknowledged<O: Quick>() {
    let mut sim = world::<O>(1, 12, Network::default(), config());
    let key = Key::of(b"guests");
    let (here, there) = (sim.handle(SimPeer(2)), sim.handle(SimPeer(9)));
    let (mut stored, mut taken) = (0, 0);
    for i in 0..20 {
        let (here, there, value) = (here.clone(), there.clone(), format!("value {i}"));
        match sim.block_on({
            let put = put(key, &value, 1);
            async move { here.ask(put).await.unwrap() }
        }) {
            Ok(_) => {
                let values = sim.block_on(async move { there.ask(GetAt(key)).await.unwrap() });
                assert_eq!(values.unwrap(), [value]);
                stored += 1;
            }
            Err(PutError::Taken) => taken += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(stored > 0 && taken > 0, "{stored} stored, {taken} taken");
}

fn values_end_and_are_bounded<O: Quick>() {
    let mut sim =
        world::<O>(1, 12, Network::default(), p2p_dht::DhtConfig { lifetime: 300 * SECOND, ..config() });
    let key = Key::of(b"guests");
    let (here, there) = (sim.handle(SimPeer(2)), sim.handle(SimPeer(9)));
    sim.block_on(async move {
        let long = "x".repeat(MAX_REMOVABLE + 1);
        let refused = here.ask(put(key, &long, 1)).await.unwrap();
        let too_long = InvalidRecord::TooLongToRemove { len: MAX_REMOVABLE + 1 };
        assert_eq!(refused, Err(PutError::Invalid(too_long)));
        for secret in 0..64 {
            here.ask(put(key, &long[1..], secret)).await.unwrap().unwrap();
        }
        let full = here.ask(put(key, "one too many", 99)).await.unwrap();
        assert!(matches!(full, Err(PutError::Quorum { copies: 0, .. })), "{full:?}");
    });
    let read = there.clone();
    let all = sim.block_on(async move { read.ask(GetAt(key)).await.unwrap() });
    assert_eq!(all.unwrap().len(), 64, "they fit into one answer");
    sim.run_for(400 * SECOND);
    let ended = sim.block_on(async move { there.ask(GetAt(key)).await.unwrap() });
    assert!(matches!(ended, Err(GetError::NotFound { .. })), "{ended:?}");
}

over_each_overlay!(
    a_value_goes_with_its_secret_alone,
    a_value_that_is_not_there_is_not_acknowledged,
    values_end_and_are_bounded,
);
