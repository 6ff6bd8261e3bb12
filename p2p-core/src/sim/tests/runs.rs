//! Time, invariants, and that a seed gives one run.

use super::*;

#[test]
fn a_timer_set_again_is_replaced_by_the_later_and_by_the_earlier() {
    let mut sim = three(Network::default());
    for secs in [5, 9, 3] {
        sim.command(A, Command::Tick(Duration::from_secs(secs)));
    }
    sim.command(B, Command::Tick(Duration::from_secs(5)));
    sim.command(B, Command::Tick(Duration::from_secs(9)));
    sim.run_until_quiet();
    let fired = |sim: &Sim<Node, Platter>, peer| sim.node(peer).unwrap().fired.clone();
    assert_eq!(fired(&sim, A), [Time::ZERO + 3 * SECOND]);
    assert_eq!(fired(&sim, B), [Time::ZERO + 9 * SECOND]);
    assert_eq!(sim.stats().timers, 2, "replaced timers are not events");
}

#[test]
#[should_panic(expected = "#1 at 0.050000s (seed 1): heard a seven")]
fn a_broken_invariant_names_the_node_the_time_and_the_seed() {
    let mut sim = three(Network::default());
    sim.check_each_step(|_, node| match node.heard.iter().any(|&(_, _, n)| n == 7) {
        true => Err("heard a seven".into()),
        false => Ok(()),
    });
    sim.command(A, Command::Say(B, 7));
    sim.run_until_quiet();
}

#[test]
#[should_panic(expected = "two have heard")]
fn a_broken_invariant_of_the_world_is_found() {
    let mut sim = three(Network::default());
    sim.check_world(1, |view| match view.iter().filter(|(_, node)| !node.heard.is_empty()).count() {
        0 | 1 => Ok(()),
        _ => Err("two have heard".into()),
    });
    sim.command(A, Command::Say(B, 1));
    sim.command(A, Command::Say(C, 1));
    sim.run_until_quiet();
}

/// A workload with everything in it; what must not differ between two runs.
fn busy(seed: u64) -> (u64, Stats) {
    let network = Network {
        latency: Latency::Exponential(Duration::from_millis(30)),
        jitter: Duration::from_millis(5),
        loss: Loss::GilbertElliott { to_bad: 0.05, to_good: 0.3, good: 0.01, bad: 0.5 },
        duplicate: 0.05,
        reorder: 0.1,
        bandwidth: Some(Bandwidth { up: 10_000, down: 10_000, queue: 2_000 }),
        links: Some(SECOND),
        encoding: Encoding::RoundTrip,
        ..Network::default()
    };
    let disk = DiskModel { failures: 0.05, ..DiskModel::default() };
    let mut sim = Sim::<Node, Platter>::with_workers(seed, network, disk, |_| Platter::default());
    sim.population(|_| Node::default());
    let peers: Vec<_> = (0..20).map(|_| sim.join()).collect();
    let mut rng = Rng::stream(seed, 99);
    let mix = FaultMix { crashes: 8, pauses: 5, cuts: 3, clogs: 5, drifts: 5 };
    sim.inject(random_faults(&mut rng, &peers, 30 * SECOND, mix));
    let session = Session::Weibull { median: 20 * SECOND, shape: 0.5 };
    sim.inject(churn(&mut rng, 20, 20, session, 30 * SECOND));
    for i in 0..2000 {
        let from = peers[sim.workload_rng().index(peers.len())];
        let to = peers[sim.workload_rng().index(peers.len())];
        let command = match i % 4 {
            0 => Command::Say(to, i),
            1 => Command::Datagram(to, i),
            2 => Command::Write(i),
            _ => Command::Tick(Duration::from_millis(i)),
        };
        sim.command(from, command);
        sim.run_for(Duration::from_millis(15));
    }
    sim.run_until_quiet();
    (sim.trace(), sim.stats())
}

#[test]
fn one_seed_gives_one_run() {
    run_seeds(5, busy);
    assert_ne!(busy(1).0, busy(2).0);
}

/// The same on every machine, in debug and in release: committed once, from a release build.
#[test]
fn the_golden_trace() {
    assert_eq!(format!("{:016x}", busy(1).0), "9c3fac761bc5fe1c");
}
