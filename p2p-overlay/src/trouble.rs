//! Everything that can go wrong, at once, for the tests of each overlay.

use std::time::Duration;

use p2p_core::sim::{Encoding, FaultMix, Latency, Loss, Network, Session, Sim, churn, random_faults};
use p2p_core::{Rng, SimPeer};

use crate::measure::{Experiment, Simulated};

const SECOND: Duration = Duration::from_secs(1);
const NODES: u32 = 30;
const SPAN: Duration = Duration::from_secs(120);

/// Trouble of every kind that leaves the network in one piece.
pub(crate) const IN_ONE_PIECE: FaultMix = FaultMix { crashes: 5, pauses: 5, cuts: 0, clogs: 8, drifts: 5 };
/// It is cut in two besides, one way or both.
pub(crate) const IN_PIECES: FaultMix = FaultMix { cuts: 3, ..IN_ONE_PIECE };

/// For two minutes nodes of a small network come and go, one every six seconds or so, crash and come back, stand still,
/// their clocks run fast or slow, and messages are lost, repeated, overtaken and held up. `checked` has the simulation
/// check what must hold all the while. Then all is quiet, and the network has to be whole within some time.
pub(crate) fn troubled<O: Simulated>(
    seed: u64,
    config: O::Config,
    mix: FaultMix,
    within: Duration,
    checked: impl FnOnce(&mut Sim<O>),
) -> u64 {
    let latency = Latency::Uniform(Duration::from_millis(10), Duration::from_millis(80));
    let calm = Network { latency, encoding: Encoding::RoundTrip, ..Network::default() };
    let rough = Network { loss: Loss::Uniform(0.05), duplicate: 0.02, reorder: 0.02, ..calm.clone() };
    let experiment = Experiment { nodes: NODES, seed, network: rough, ..Experiment::default() };
    let mut sim: Sim<O> = experiment.build(config);
    checked(&mut sim);
    let peers: Vec<SimPeer> = sim.alive().to_vec();
    let mut rng = Rng::stream(seed, 79);
    sim.inject(random_faults(&mut rng, &peers, SPAN, mix));
    let session = Session::Exponential { median: SPAN };
    sim.inject(churn(&mut rng, NODES, NODES, session, SPAN));
    sim.run_for(SPAN);
    *sim.network_mut() = calm;
    let from = sim.now();
    while let Err(why) = O::is_whole(&sim.view()) {
        assert!(sim.now().since(from) < within, "not whole after {within:?}: {why}");
        sim.run_for(SECOND);
    }
    sim.trace()
}

/// A node is back before the others have missed it, and was told of nobody but a dead peer, while twenty newcomers were
/// told of nobody but it: it joins through those who speak to it and take part, and so do they.
pub(crate) fn comes_back<O: Simulated>(config: O::Config) {
    let mut sim: Sim<O> = Experiment { nodes: NODES, ..Experiment::default() }.build(config);
    let back = SimPeer(7);
    sim.population(move |birth| {
        let seed = if birth.peer == back { SimPeer(1000) } else { back };
        O::newcomer(birth.peer, vec![seed], config)
    });
    sim.run_for(SECOND);
    sim.crash(back);
    for _ in 0..20 {
        sim.join();
    }
    sim.run_for(SECOND);
    sim.restart(back);
    sim.run_for(SPAN);
    assert_eq!(O::is_whole(&sim.view()), Ok(()));
}
