//! What the network does to messages.

use super::*;
use crate::protocol::Down;

#[test]
fn a_message_takes_the_networks_time() {
    let mut sim = three(Network::default());
    sim.command(A, Command::Say(B, 7));
    sim.run_until_quiet();
    assert_eq!(sim.node(B).unwrap().heard, [(Time::from_nanos(50_000_000), A, 7)]);
}

#[test]
fn what_is_sent_together_arrives_in_order() {
    let mut sim = three(Network::default());
    (0..100).for_each(|i| {
        sim.command(A, Command::Say(B, i));
    });
    sim.run_until_quiet();
    assert_eq!(heard(&sim, B), (0..100).collect::<Vec<_>>());
}

#[test]
fn datagrams_are_doubled_and_overtake() {
    let mut sim = three(Network { duplicate: 0.5, reorder: 0.5, ..Network::default() });
    (0..100).for_each(|i| {
        sim.command(A, Command::Datagram(B, i));
    });
    sim.run_until_quiet();
    let heard = heard(&sim, B);
    assert!((130..170).contains(&heard.len()), "{}", heard.len());
    assert!(!heard.is_sorted());
}

#[test]
fn links_come_up_and_a_crash_takes_them_down() {
    let mut sim = three(Network { links: Some(2 * SECOND), ..Network::default() });
    sim.command(A, Command::Say(B, 1));
    sim.run_for(SECOND);
    sim.crash(B);
    sim.run_until_quiet();
    let links = &sim.node(A).unwrap().links;
    assert_eq!(*links, [(B, Link::Up), (B, Link::Down(Down::TimedOut))]);
    sim.command(A, Command::Say(B, 2));
    sim.run_until_quiet();
    let links = &sim.node(A).unwrap().links;
    assert_eq!(links[2..], [(B, Link::Up), (B, Link::Down(Down::Unreachable))]);
}

#[test]
fn a_slow_line_takes_its_time_and_overflows() {
    let line = Bandwidth { up: 1000, down: 1_000_000, queue: 40 };
    let network = Network {
        bandwidth: Some(line),
        encoding: Encoding::RoundTrip,
        links: Some(SECOND),
        ..Default::default()
    };
    let mut sim = three(network);
    (0..30).for_each(|i| {
        sim.command(A, Command::Say(B, i));
    });
    sim.run_until_quiet();
    let first = sim.node(B).unwrap().heard[0].0;
    // Three bytes at 1,000 a second, 50 ms, and three bytes at a million a second.
    assert_eq!(first, Time::from_nanos(3_000_000 + 50_000_000 + 3_000));
    assert!(heard(&sim, B).len() < 20 && sim.stats().overflowed > 10);
    assert!(sim.node(A).unwrap().links.contains(&(B, Link::Down(Down::Overflow))));
}
