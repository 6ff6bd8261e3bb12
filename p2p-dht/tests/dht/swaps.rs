//! What may be relied on of compare-and-swap while the nodes that keep a value stay the same: see `Publish`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::world::{Quick, SECOND, World, config, world};
use p2p_core::sim::{Latency, Network, run_seeds};
use p2p_core::{Key, Keypair, OpId, Rng, SimPeer};
use p2p_dht::{Dht, DhtCommand, DhtOutcome, GetError, Signed, Wanted};

const NODES: u32 = 12;

/// Which number is swapped for which; nothing is while it is read.
type Swap = Option<(u64, u64)>;

fn keypair() -> Keypair {
    Keypair::from_seed(&[9; 32])
}

fn key() -> Key {
    Signed::key_of(&keypair().id(), b"")
}

fn signed<O: Quick>(sim: &World<O>, sequence: u64) -> Signed {
    Signed::new(&keypair(), "", sequence, sim.wall().as_secs() + 3600, sequence.to_string()).unwrap()
}

fn read() -> DhtCommand<SimPeer> {
    DhtCommand::Get { key: key(), wanted: Wanted::Mutable }
}

/// The sequence number that was read; `None` if it is not known.
fn seen(outcome: DhtOutcome<SimPeer>) -> Option<u64> {
    match outcome {
        DhtOutcome::Signed(Ok(signed)) => Some(signed.sequence()),
        DhtOutcome::Signed(Err(GetError::NotFound { .. })) => Some(0),
        DhtOutcome::Signed(Err(_)) => None,
        other => panic!("{other:?}"),
    }
}

fn is_acknowledged(outcome: DhtOutcome<SimPeer>) -> bool {
    match outcome {
        DhtOutcome::Stored(stored) => stored.is_ok(),
        other => panic!("{other:?}"),
    }
}

/// Five read and swap what they have read, all at once, over links of very different lengths: what one was acknowledged to
/// have swapped no other was, and nobody reads an older value from then on.
fn of_those_who_swap_a_value_one_does<O: Quick>() {
    run_seeds(5, |seed| {
        let latency = Latency::Uniform(Duration::from_millis(5), Duration::from_millis(200));
        let mut sim = world::<O>(seed, NODES, Network { latency, ..Network::default() }, config());
        let mut rng = Rng::stream(seed, 6);
        let (node, first) = (sim.handle(SimPeer(0)), signed(&sim, 1));
        sim.block_on(async move { node.publish(first, None).await.unwrap() });
        // What was swapped for what, and the highest number that was acknowledged.
        let (mut swapped, mut acknowledged) = (BTreeMap::new(), 1);
        // Who is about what, and what had been acknowledged when it began.
        let mut open: BTreeMap<OpId, (u32, Swap, u64)> = BTreeMap::new();
        for client in 0..5 {
            open.insert(sim.command(SimPeer(client), read()), (client, None, 1));
        }
        for _ in 0..200 {
            assert!(sim.run_to_outcome(sim.now() + 60 * SECOND), "everything ends");
            for ended in sim.take_outcomes() {
                let Some((client, swap, least)) = open.remove(&ended.op) else { continue };
                let at = SimPeer(rng.below(NODES.into()) as u32);
                let (command, swap) = match swap {
                    Some((expected, new)) => {
                        if is_acknowledged(ended.outcome) {
                            assert_eq!(swapped.insert(expected, new), None, "{expected} was swapped twice");
                            acknowledged = acknowledged.max(new);
                        }
                        (read(), None)
                    }
                    None => match seen(ended.outcome) {
                        None => (read(), None),
                        Some(seen) => {
                            assert!(seen >= least, "{seen} was read when {least} had been acknowledged");
                            // Numbers of its own.
                            let new = (seen / 5 + 1) * 5 + u64::from(client);
                            let publish =
                                DhtCommand::Publish { signed: signed(&sim, new), expected: Some(seen) };
                            (publish, Some((seen, new)))
                        }
                    },
                };
                open.insert(sim.command(at, command), (client, swap, acknowledged));
            }
        }
        assert!(swapped.len() >= 5, "they get on: {swapped:?}");
        format!("{swapped:?}")
    });
}

over_each_overlay!(of_those_who_swap_a_value_one_does);
