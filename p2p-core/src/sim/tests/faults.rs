//! What faults do, and a node that lies.

use super::*;

#[test]
fn a_one_way_cut_stops_one_way_until_it_heals() {
    let mut sim = three(Network::default());
    sim.inject(vec![(Duration::ZERO, Fault::Cut(Cut::one_way([A], [B, C]))), (SECOND, Fault::Heal)]);
    sim.run_for(Duration::from_millis(1));
    sim.command(A, Command::Say(B, 1));
    sim.command(B, Command::Say(A, 2));
    sim.run_for(2 * SECOND);
    sim.command(A, Command::Say(B, 3));
    sim.run_until_quiet();
    assert_eq!((heard(&sim, A), heard(&sim, B)), (vec![2], vec![3]));
    assert_eq!(sim.stats().cut, 1);
}

#[test]
fn a_paused_node_catches_up_and_a_clogged_link_lets_go() {
    let mut sim = three(Network::default());
    let clog = Fault::Clog(A, C, 5 * SECOND);
    sim.inject(vec![(Duration::ZERO, Fault::Pause(B, 3 * SECOND)), (Duration::ZERO, clog)]);
    sim.run_for(Duration::from_millis(1));
    (0..3).for_each(|i| {
        sim.command(A, Command::Say(B, i));
    });
    sim.command(A, Command::Say(C, 9));
    sim.run_until_quiet();
    assert_eq!(heard(&sim, B), [0, 1, 2]);
    assert!(sim.node(B).unwrap().heard.iter().all(|&(at, _, _)| at == Time::ZERO + 3 * SECOND));
    assert_eq!(sim.node(C).unwrap().heard[0].0, Time::ZERO + 5 * SECOND);
}

#[test]
fn a_clock_that_drifts_fires_timers_early_and_tells_the_wrong_time() {
    let mut sim = three(Network::default());
    sim.inject(vec![(Duration::ZERO, Fault::Drift(A, 250_000))]);
    sim.run_for(Duration::ZERO);
    sim.command(A, Command::Tick(10 * SECOND));
    sim.run_until_quiet();
    assert_eq!(sim.now(), Time::ZERO + 8 * SECOND + Duration::from_nanos(1), "a clock 25% too fast");
    assert_eq!(sim.node(A).unwrap().fired, [Time::ZERO + 10 * SECOND + Duration::from_nanos(1)]);
}

#[test]
fn no_drift_makes_a_timer_fire_before_its_time() {
    for ppm in [-900_000, -10_001, -7, 0, 3, 9_999, 900_000] {
        let mut sim = three(Network::default());
        sim.inject(vec![(Duration::from_nanos(12_345), Fault::Drift(A, ppm))]);
        for nanos in [1, 2, 999, 1_000_003] {
            sim.run_for(Duration::from_nanos(777_777));
            let due = Time::from_nanos(sim.world.clock(A).0.as_nanos() + nanos);
            sim.command(A, Command::Tick(Duration::from_nanos(nanos)));
            sim.run_for(SECOND);
            let fired = *sim.node(A).unwrap().fired.last().unwrap();
            assert!(
                fired >= due && fired.since(due) <= Duration::from_nanos(3),
                "{ppm} ppm, {nanos} ns: {fired:?}"
            );
        }
    }
}

#[test]
fn a_liar_rewrites_what_it_sends() {
    let mut sim: Sim<Liar<Node>, Platter> =
        Sim::with_workers(1, Network::default(), DiskModel::default(), |_| Platter::default());
    sim.spawn(|_| {
        Liar::new(Node::default(), |rng, to, msg| match msg {
            Msg::Say(n) if rng.chance(0.5) => vec![(to, Msg::Say(n + 1000)), (C, Msg::Say(n))],
            other => vec![(to, other)],
        })
    });
    (1..3).for_each(|_| {
        sim.spawn(|_| Liar::honest(Node::default()));
    });
    (0..100).for_each(|i| {
        sim.command(A, Command::Say(B, i));
    });
    sim.run_until_quiet();
    let lied = |peer, from| sim.node(peer).unwrap().machine().heard.iter().filter(|h| h.2 >= from).count();
    assert!(lied(B, 1000) > 30 && lied(B, 1000) == lied(C, 0));
    assert_eq!(lied(B, 0), 100);
}
