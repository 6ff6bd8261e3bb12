//! What crashes and failing disks leave of what was written.

use super::*;

#[test]
fn a_crash_loses_memory_and_keeps_what_was_synced() {
    let mut sim = three(Network::default());
    sim.command(A, Command::Write(1));
    sim.run_until_quiet();
    assert_eq!(sim.take_outcomes().len(), 1);
    sim.command(A, Command::Write(2));
    sim.crash(A);
    sim.restart(A);
    sim.run_until_quiet();
    assert!(sim.take_outcomes().is_empty(), "nobody was told of the second write");
    let stored = &sim.node(A).unwrap().stored;
    assert!(*stored == [1] || *stored == [1, 2], "{stored:?}");
}

#[test]
fn an_unsynced_write_sometimes_survives_a_crash_and_sometimes_does_not() {
    let survived = (0..40).filter(|&seed| {
        let mut sim: Sim<Node, Platter> =
            Sim::with_workers(seed, Network::default(), DiskModel::default(), |_| Platter::default());
        sim.population(|_| Node::default());
        sim.join();
        sim.run_until_quiet();
        sim.command(A, Command::Write(2));
        sim.crash(A);
        !sim.worker(A).unwrap().0.is_empty()
    });
    assert!((8..32).contains(&survived.count()));
}

#[test]
fn a_full_queue_of_jobs_fails_at_once() {
    let disk = DiskModel { queue: 3, ..DiskModel::default() };
    let mut sim = Sim::<Node, _>::with_workers(1, Network::default(), disk, |_| Platter::default());
    sim.spawn(|_| Node::default());
    (0..5).for_each(|i| {
        sim.command(A, Command::Write(i));
    });
    sim.run_until_quiet();
    let outcomes: Vec<_> = sim.take_outcomes().into_iter().map(|ended| ended.outcome).collect();
    let full = outcomes.iter().filter(|outcome| **outcome == Outcome::Failed(JobError::QueueFull)).count();
    assert_eq!((outcomes.len(), full), (5, 3), "the scan and two writes fit");
}

#[test]
fn a_failing_disk_says_so() {
    let disk = DiskModel { failures: 1.0, ..DiskModel::default() };
    let mut sim = Sim::<Node, _>::with_workers(1, Network::default(), disk, |_| Platter::default());
    sim.spawn(|_| Node::default());
    sim.command(A, Command::Write(1));
    sim.run_until_quiet();
    assert_eq!(sim.take_outcomes().pop().unwrap().outcome, Outcome::Failed(JobError::Storage));
}
