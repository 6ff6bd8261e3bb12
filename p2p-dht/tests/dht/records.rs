//! What can be stored and read, over each overlay.

use crate::world::{Quick, SECOND, World, config, copies, world};
use bytes::Bytes;
use futures::StreamExt;
use p2p_core::sim::Network;
use p2p_core::{Key, Keypair, SimPeer};
use p2p_dht::{
    Dht, DhtConfig, GetError, GetProviders, InvalidRecord, MAX_VALUE, Publish, Put, PutError, Signed,
    Withdraw,
};
use p2p_overlay::Chord;

fn small<O: Quick>() -> World<O> {
    world(1, 12, Network::default(), config())
}

/// In seconds since the Unix epoch.
fn in_an_hour<O: Quick>(sim: &World<O>) -> u64 {
    sim.wall().as_secs() + 3600
}

fn a_value_is_found_under_its_hash<O: Quick>() {
    let mut sim = small::<O>();
    let (here, there) = (sim.handle(SimPeer(2)), sim.handle(SimPeer(9)));
    for len in [0, 1, 5000, MAX_VALUE] {
        let value = Bytes::from(vec![7; len]);
        let (here, there, sent) = (here.clone(), there.clone(), value.clone());
        let (stored, got) = sim.block_on(async move {
            let stored = here.ask(Put(sent)).await.unwrap().unwrap();
            let got = there.get(stored.key).await.unwrap();
            (stored, got)
        });
        let should = copies(&sim, &stored.key);
        assert_eq!((stored.key, stored.copies), (Key::of(&value), should), "{len} bytes: {stored:?}");
        assert_eq!(got, value);
    }
}

fn what_nobody_stored_is_not_found<O: Quick>() {
    let mut sim = small::<O>();
    let node = sim.handle(SimPeer(2));
    let (value, signed, providers) = sim.block_on(async move {
        let publisher = Keypair::from_seed(&[1; 32]).id();
        (
            node.get(Key::of(b"nothing")).await,
            node.latest(publisher, b"nothing").await,
            node.providers(Key::of(b"nothing")).await,
        )
    });
    let nobody = |error: GetError| matches!(error, GetError::NotFound { answered: 3.., silent: 0 });
    assert!(nobody(value.unwrap_err()) && nobody(signed.unwrap_err()) && nobody(providers.unwrap_err()));
}

fn what_cannot_be_stored_is_refused<O: Quick>() {
    let mut sim = small::<O>();
    let node = sim.handle(SimPeer(2));
    let keypair = Keypair::from_seed(&[1; 32]);
    let ended = Signed::new(&keypair, "", 1, 1, "ended long ago").unwrap();
    let endless = Signed::new(&keypair, "", 1, u64::MAX, "forever").unwrap();
    let errors = sim.block_on(async move {
        [
            node.put(vec![0; MAX_VALUE + 1].into()).await.unwrap_err(),
            node.publish(ended, None).await.unwrap_err(),
            node.publish(endless, None).await.unwrap_err(),
        ]
    });
    let [long, ended, endless] = errors;
    assert_eq!(long, PutError::Invalid(InvalidRecord::TooLong { len: MAX_VALUE + 1 }));
    assert_eq!((ended, endless), (InvalidRecord::Lifetime.into(), InvalidRecord::Lifetime.into()));
}

fn the_newest_signed_value_counts<O: Quick>() {
    let mut sim = small::<O>();
    let (here, there) = (sim.handle(SimPeer(2)), sim.handle(SimPeer(9)));
    let keypair = Keypair::from_seed(&[1; 32]);
    let until = in_an_hour(&sim);
    let sign =
        move |sequence, value: &'static str| Signed::new(&keypair, "name", sequence, until, value).unwrap();
    let publisher = Keypair::from_seed(&[1; 32]).id();
    sim.block_on(async move {
        here.publish(sign(1, "one"), None).await.unwrap();
        assert_eq!(there.latest(publisher, b"name").await.unwrap().value(), "one");
        // Another node may publish what it has the key for; compare-and-swap tells it whether it knew the newest.
        there.publish(sign(2, "two"), Some(1)).await.unwrap();
        assert_eq!(here.latest(publisher, b"name").await.unwrap().value(), "two");
        let conflict = Err(PutError::Conflict { sequence: 2 });
        assert_eq!(here.publish(sign(3, "three"), Some(1)).await, conflict, "it has not seen 2");
        assert_eq!(here.publish(sign(1, "one"), None).await, conflict, "older than what is there");
        assert_eq!(here.publish(sign(2, "deux"), None).await, conflict, "another with the same number");
        assert_eq!(there.latest(publisher, b"name").await.unwrap().value(), "two");
        // The same again is no conflict.
        there.publish(sign(2, "two"), None).await.unwrap();
        assert!(matches!(here.latest(publisher, b"other").await, Err(GetError::NotFound { .. })));
    });
}

fn providers_are_found_as_they_come<O: Quick>() {
    let mut sim = small::<O>();
    let key = Key::of(b"a film");
    let handles: Vec<_> = [1, 4, 8].map(|i| sim.handle(SimPeer(i))).into();
    let reader = sim.handle(SimPeer(5));
    let (on_the_way, all) = sim.block_on(async move {
        for handle in &handles {
            handle.provide(key).await.unwrap();
        }
        let mut ask = reader.ask(GetProviders(key));
        let mut on_the_way: Vec<SimPeer> = Vec::new();
        while let Some(peer) = ask.next().await {
            on_the_way.push(peer);
        }
        (on_the_way, ask.await.unwrap().unwrap())
    });
    let mut sorted = all.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [1, 4, 8].map(SimPeer));
    assert_eq!(on_the_way, all);
}

/// What is published again lasts; what is withdrawn, or whose publisher is gone, ends at its time and not later,
/// however often it is copied.
fn records_end<O: Quick>() {
    let config = DhtConfig { lifetime: 600 * SECOND, republish: 200 * SECOND, ..config() };
    let mut sim = world::<O>(3, 12, Network::default(), config);
    let (stays, withdraws, dies, reader) =
        (sim.handle(SimPeer(1)), sim.handle(SimPeer(2)), sim.handle(SimPeer(3)), sim.handle(SimPeer(4)));
    let (kept, withdrawn, orphaned) = sim.block_on(async move {
        let kept = stays.put("kept".into()).await.unwrap();
        let withdrawn = withdraws.put("withdrawn".into()).await.unwrap();
        withdraws.ask(Withdraw::value(withdrawn)).await.unwrap().unwrap();
        let orphaned = dies.put("orphaned".into()).await.unwrap();
        dies.provide(kept).await.unwrap();
        (kept, withdrawn, orphaned)
    });
    sim.crash(SimPeer(3));
    let read = |sim: &mut World<O>| {
        let reader = reader.clone();
        sim.block_on(async move {
            let mut there = Vec::new();
            for key in [kept, withdrawn, orphaned] {
                there.push(reader.get(key).await.is_ok());
            }
            there.push(reader.providers(kept).await.is_ok());
            there
        })
    };
    sim.run_for(400 * SECOND);
    assert_eq!(read(&mut sim), [true, true, true, true], "after 400 of 600 seconds");
    sim.run_for(300 * SECOND);
    assert_eq!(read(&mut sim), [true, false, false, false], "after 700 of 600 seconds");
    let kept_by = |sim: &World<O>| sim.view().iter().map(|(_, node)| node.held().len()).max();
    assert_eq!(kept_by(&sim), Some(1), "nothing stays of what has ended");
}

/// What its publisher withdraws at once, while its own copy is being written, ends too, also if the publisher comes
/// back with what it has.
fn what_is_withdrawn_at_once_ends<O: Quick>() {
    let config = DhtConfig { lifetime: 600 * SECOND, republish: 200 * SECOND, ..config() };
    let mut sim = world::<O>(4, 12, Network::default(), config);
    let handles: Vec<_> = (0..12).map(|i| sim.handle(SimPeer(i))).collect();
    let keys = sim.block_on(async move {
        let mut keys = Vec::new();
        for (i, handle) in handles.iter().enumerate() {
            let key = handle.put(format!("value {i}").into()).await.unwrap();
            handle.ask(Withdraw::value(key)).await.unwrap().unwrap();
            keys.push(key);
        }
        keys
    });
    sim.run_for(SECOND);
    for peer in (1..12).map(SimPeer) {
        sim.crash(peer);
        sim.restart(peer);
        sim.run_for(10 * SECOND);
    }
    sim.run_for(800 * SECOND);
    let reader = sim.handle(SimPeer(0));
    let found = sim.block_on(async move {
        let mut found = Vec::new();
        for key in keys {
            found.push(reader.get(key).await.is_ok());
        }
        found
    });
    assert_eq!(found, [false; 12]);
}

/// Of two who share a key and swap the same value at once, one at most is told that it has; the other hears of a conflict.
fn of_two_who_swap_at_once_one_at_most_does<O: Quick>() {
    let mut sim = small::<O>();
    let until = in_an_hour(&sim);
    let sign = move |sequence, value: &str| {
        Signed::new(&Keypair::from_seed(&[1; 32]), "", sequence, until, value.to_owned()).unwrap()
    };
    let (here, there) = (sim.handle(SimPeer(2)), sim.handle(SimPeer(9)));
    let swaps = sim.block_on(async move {
        here.publish(sign(1, "first"), None).await.unwrap();
        let mut swaps = 0;
        for sequence in 2..12 {
            let one = here.publish(sign(sequence, "one"), Some(sequence - 1));
            let other = there.publish(sign(sequence, "other"), Some(sequence - 1));
            let (one, other) = futures::future::join(one, other).await;
            assert!(one.is_err() || other.is_err(), "both have swapped {sequence}");
            for failed in [&one, &other].into_iter().filter_map(|swap| swap.as_ref().err()) {
                assert_eq!(*failed, PutError::Conflict { sequence });
            }
            swaps += usize::from(one.is_ok() || other.is_ok());
        }
        swaps
    });
    assert!(swaps > 3, "only {swaps} of 10 pairs had a winner");
}

/// With half of the replicas gone at once, and not yet noticed, reading goes on; writing that reaches too few says so.
fn quorums_tell_the_truth<O: Quick>() {
    let mut sim = world::<O>(5, 6, Network::default(), config());
    let keypair = Keypair::from_seed(&[1; 32]);
    let until = in_an_hour(&sim);
    let publisher = keypair.id();
    let (writer, reader) = (sim.handle(SimPeer(0)), sim.handle(SimPeer(1)));
    let value = Signed::new(&keypair, "", 1, until, "one").unwrap();
    let stored = {
        let writer = writer.clone();
        sim.block_on(
            async move { writer.ask(Publish { signed: value, expected: None }).await.unwrap().unwrap() },
        )
    };
    assert_eq!(stored.copies, copies(&sim, &stored.key));
    for peer in [2, 3, 4, 5] {
        sim.crash(SimPeer(peer));
    }
    let (read, write) = sim.block_on(async move {
        let next = Signed::new(&keypair, "", 2, until, "two").unwrap();
        (reader.latest(publisher, b"").await, writer.publish(next, None).await)
    });
    // Whoever asks must not take what few have for the newest, unless it has come to know that there are only few.
    match read {
        Ok(signed) => assert_eq!(signed.value(), "one"),
        Err(GetError::Partial { answered, needed, newest, .. }) => {
            assert!(answered < needed && newest.is_some_and(|newest| newest.value() == "one"));
        }
        Err(error) => panic!("{error}"),
    }
    match write {
        Ok(_) => {}
        Err(PutError::Quorum { copies, needed, refusals }) => {
            assert!(copies < needed && !refusals.is_empty());
        }
        Err(error) => panic!("{error}"),
    }
}

over_each_overlay!(
    a_value_is_found_under_its_hash,
    what_nobody_stored_is_not_found,
    what_cannot_be_stored_is_refused,
    the_newest_signed_value_counts,
    providers_are_found_as_they_come,
    records_end,
    what_is_withdrawn_at_once_ends,
    of_two_who_swap_at_once_one_at_most_does,
    quorums_tell_the_truth,
);

/// An application holds the trait, and does not know what is under it.
#[test]
fn the_trait_is_object_safe() {
    let mut sim = small::<Chord<SimPeer>>();
    let node: std::sync::Arc<dyn Dht<SimPeer>> = std::sync::Arc::new(sim.handle(SimPeer(1)));
    let value = sim.block_on(async move {
        let key = node.put("value".into()).await.unwrap();
        node.get(key).await.unwrap()
    });
    assert_eq!(value, "value");
}
