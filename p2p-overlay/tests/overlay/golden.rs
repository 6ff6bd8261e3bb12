//! One seed, one run: the same on every machine, in debug and in release.

use std::time::Duration;

use p2p_core::SimPeer;
use p2p_core::sim::{Encoding, Network, Session, Sim, churn};
use p2p_overlay::measure::{Experiment, Simulated};
use p2p_overlay::{Can, Chord, Gossip, Kademlia, Pastry, PlumtreeCommand, Tapestry, Topic};

/// An overlay under churn, every message through bytes. A change of the protocol or the simulator changes the hash;
/// then commit the new one, from a release build.
fn trace<O: Simulated<Config: Default>>() -> String {
    let experiment = Experiment {
        nodes: 200,
        lookups: 1000,
        rate: 10.0,
        churn: Some(Session::Pareto { median: Duration::from_secs(600), shape: 1.2 }),
        network: Network { encoding: Encoding::RoundTrip, ..Experiment::default().network },
        ..Experiment::default()
    };
    let run = || experiment.run::<O>(O::Config::default()).trace;
    assert_eq!(run(), run());
    format!("{:016x}", run())
}

/// Gossip under churn: somebody joins or leaves about every half second, and somebody publishes.
fn gossip() -> String {
    let network = Network { encoding: Encoding::RoundTrip, ..Experiment::default().network };
    let mut sim = Sim::<Gossip<SimPeer>>::new(1, network);
    sim.population(|birth| Gossip::join(birth.peer, birth.rng.choose(birth.alive).copied()));
    for _ in 0..50 {
        sim.join();
        sim.run_for(Duration::from_millis(100));
    }
    let minute = Duration::from_secs(60);
    let schedule = churn(sim.workload_rng(), 50, 50, Session::Exponential { median: minute / 3 }, minute);
    sim.inject(schedule);
    let topic = Topic::named("golden");
    for number in 0..60 {
        let publisher = sim.alive()[number % 7];
        sim.command(publisher, PlumtreeCommand::Subscribe { topic });
        for _ in 0..5 {
            sim.command(publisher, PlumtreeCommand::Publish { topic, bytes: vec![7; 100 * number].into() });
        }
        sim.run_for(Duration::from_secs(1));
    }
    format!("{:016x}", sim.trace())
}

#[test]
fn gossip_under_churn() {
    assert_eq!(gossip(), gossip());
    assert_eq!(gossip(), "536bba5bb8812ee9");
}

#[test]
fn can_under_churn() {
    assert_eq!(trace::<Can<SimPeer>>(), "b97e9302ad0f7693");
}

#[test]
fn chord_under_churn() {
    assert_eq!(trace::<Chord<SimPeer>>(), "73714a63d56cbc3c");
}

#[test]
fn kademlia_under_churn() {
    assert_eq!(trace::<Kademlia<SimPeer>>(), "99e8ecfceb75878b");
}

#[test]
fn pastry_under_churn() {
    assert_eq!(trace::<Pastry<SimPeer>>(), "9ef113058ab19e76");
}

#[test]
fn tapestry_under_churn() {
    assert_eq!(trace::<Tapestry<SimPeer>>(), "1b57f651da583d24");
}
