use std::collections::BTreeSet;
use std::time::Duration;

use p2p_core::sim::{Network, Sim, run_seeds};
use p2p_core::{Key, Keyed, Rng, SimPeer, Time};
use proptest::prelude::*;

use super::buckets::Buckets;
use super::{Kademlia, KademliaConfig};
use crate::structured::Overlay;

const K: usize = 4;

fn buckets(bits: u8) -> Buckets<SimPeer> {
    Buckets::new(SimPeer(0).key(), K, 2, bits)
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

/// Peers that share no bit with peer 0: they all belong in its furthest bucket.
fn far() -> impl Iterator<Item = SimPeer> {
    (1..).map(SimPeer).filter(|peer| peer.key().common_prefix(&SimPeer(0).key()) == 0)
}

/// Peers that share some bits with peer 0: enough of them, and the far ones are not its neighbourhood.
fn near() -> impl Iterator<Item = SimPeer> {
    (1..).map(SimPeer).filter(|peer| peer.key().common_prefix(&SimPeer(0).key()) >= 3)
}

fn contacts(buckets: &Buckets<SimPeer>) -> Vec<SimPeer> {
    buckets.contacts().map(|contact| contact.peer).collect()
}

/// A table with a full neighbourhood and a full far bucket, and the peers of that in the order they came.
fn full() -> (Buckets<SimPeer>, Vec<SimPeer>) {
    let mut table = buckets(1);
    near().take(K).for_each(|peer| table.heard(at(5), peer));
    let far: Vec<SimPeer> = far().take(K + 3).collect();
    far.iter().take(K).zip(1..).for_each(|(peer, second)| table.heard(at(second), *peer));
    (table, far)
}

#[test]
fn a_newcomer_to_a_full_bucket_waits_until_a_contact_is_silent() {
    let (mut table, far) = full();
    table.heard(at(10), far[K]);
    table.heard(at(11), far[K + 1]);
    assert!(!contacts(&table).contains(&far[K]), "the long-lived stay");
    assert_eq!(
        table.doubtful(at(16), Duration::from_secs(12)),
        [far[0]],
        "the one not heard from for longest"
    );
    assert_eq!(table.silent(far[0]), Some(far[0]));
    let now = contacts(&table);
    assert!(
        !now.contains(&far[0]) && now.contains(&far[K + 1]),
        "who waits and was heard last takes its place"
    );
}

#[test]
fn a_silent_contact_stays_while_nobody_could_take_its_place() {
    let (mut table, far) = full();
    table.silent(far[1]);
    assert!(contacts(&table).contains(&far[1]));
    let told: Vec<SimPeer> =
        table.closest(&far[1].key(), 32, &[]).into_iter().map(|(_, peer)| peer).collect();
    assert!(!told.contains(&far[1]), "but it is told to nobody");
    table.heard(at(9), far[1]);
    assert_eq!(table.closest(&far[1].key(), 1, &[])[0].1, far[1], "until it is heard from again");
    let lost: Vec<_> = (0..3).map(|_| table.silent(far[1])).collect();
    assert_eq!(lost, [None, None, Some(far[1])]);
    assert!(!contacts(&table).contains(&far[1]), "three times silent is too often");
}

#[test]
fn a_node_whose_line_is_down_keeps_its_contacts() {
    let (mut table, _) = full();
    let all = contacts(&table);
    for _ in 0..5 {
        assert!(all.iter().all(|peer| table.silent(*peer).is_none()));
    }
    assert!(!table.are_all_gone());
    assert!(!table.closest(&Key::ZERO, 3, &[]).is_empty(), "and asks them when it has no others");
}

proptest! {
    /// Whatever is heard and whoever is silent: the list is sorted, no bucket beyond the neighbourhood has more than k
    /// contacts, and whoever lives and is among the k nearest ever heard of is a contact.
    #[test]
    fn buckets_hold_their_prefix_and_the_neighbourhood_is_whole(
        bits in 1u8..=5, events in prop::collection::vec((1u32..400, any::<bool>()), 1..400)
    ) {
        let me = SimPeer(0).key();
        let mut table = buckets(bits);
        let mut alive = BTreeSet::new();
        for (second, (peer, speaks)) in events.into_iter().enumerate() {
            match speaks {
                true => {
                    table.heard(at(second as u64), SimPeer(peer));
                    alive.insert((me.xor(&SimPeer(peer).key()), SimPeer(peer)));
                }
                false => {
                    table.silent(SimPeer(peer));
                    alive.remove(&(me.xor(&SimPeer(peer).key()), SimPeer(peer)));
                }
            }
            let contacts: Vec<_> = table.contacts().copied().collect();
            prop_assert!(contacts.is_sorted_by(|a, b| a.distance < b.distance));
            let living: Vec<_> = contacts.iter().filter(|contact| contact.is_alive()).collect();
            let level = |contact: &&super::buckets::Contact<SimPeer>| {
                let level = contact.distance.leading_zeros() / usize::from(bits);
                (level, contact.distance.digit(level, bits.into()))
            };
            for bucket in living[living.len().min(K)..].chunk_by(|a, b| level(a) == level(b)) {
                prop_assert!(bucket.len() <= K, "a bucket of {}", bucket.len());
            }
        }
        // The dead make room for whoever was pushed out only when they are heard from again.
        for (_, peer) in &alive {
            table.heard(at(1000), *peer);
        }
        let near: Vec<SimPeer> = alive.iter().take(K).map(|(_, peer)| *peer).collect();
        prop_assert_eq!(table.near(), near);
    }

    /// The closest contacts to any key are those that sorting all of them gives.
    #[test]
    fn the_closest_are_the_closest(bits in 1u8..=5, peers in prop::collection::btree_set(1u32..2000, 1..200), key: [u8; 32]) {
        let mut table = buckets(bits);
        peers.iter().for_each(|peer| table.heard(at(1), SimPeer(*peer)));
        let key = Key::new(key);
        let mut sorted = contacts(&table);
        sorted.sort_by_key(|peer| peer.key().xor(&key));
        let closest: Vec<SimPeer> = table.closest(&key, 9, &[]).into_iter().map(|(_, peer)| peer).collect();
        prop_assert_eq!(&closest[..], &sorted[..sorted.len().min(9)]);
    }
}

/// Nodes join one another, some die: when all is quiet again every node has its neighbourhood, and each key is
/// somebody's, and nobody else's.
#[test]
fn the_neighbourhood_is_complete_when_quiet() {
    run_seeds(5, |seed| {
        let mut sim = Sim::<Kademlia<SimPeer>>::new(seed, Network::default());
        let config = KademliaConfig { k: 8, ..KademliaConfig::default() };
        sim.population(move |birth| {
            let seeds: Vec<SimPeer> = birth.rng.choose(birth.alive).copied().into_iter().collect();
            Kademlia::with(birth.peer, seeds, config)
        });
        for _ in 0..120 {
            sim.join();
            sim.run_for(Duration::from_millis(50));
        }
        sim.run_for(Duration::from_secs(60));
        for peer in (0..20).map(SimPeer) {
            sim.crash(peer);
        }
        sim.run_for(Duration::from_secs(1800));
        let nodes: Vec<SimPeer> = sim.alive().to_vec();
        for (peer, node) in sim.view().iter() {
            let mut others: Vec<SimPeer> = nodes.iter().copied().filter(|other| *other != peer).collect();
            others.sort_by_key(|other| other.key().xor(&peer.key()));
            let known: Vec<SimPeer> = node.table().contacts().take(8).collect();
            assert_eq!(known, others[..8], "the neighbours of {peer}");
        }
        let mut rng = Rng::new(seed);
        for _ in 0..200 {
            let key = rng.key();
            let mut owners =
                sim.view().iter().filter(|(_, node)| node.mine().contains(&key)).map(|(peer, _)| peer);
            let closest = nodes.iter().copied().min_by_key(|peer| peer.key().xor(&key));
            assert_eq!((owners.next(), owners.next()), (closest, None), "{key}");
        }
        sim.trace()
    });
}
