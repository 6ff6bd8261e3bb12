use std::collections::BTreeSet;
use std::time::Duration;

use p2p_core::sim::{Loss, Network, Sim, run_seeds};
use p2p_core::{Key, Keyed, Rng, Script, SimPeer, Time};
use proptest::prelude::*;

use super::buckets::Buckets;
use super::{Kademlia, KademliaConfig, KademliaMsg, converged, whole};
use crate::lookup::{Hint, LookupMsg};
use crate::routed::RoutedMsg;
use crate::structured::{Find, Mode, Overlay};
use crate::trouble::{IN_PIECES, comes_back, troubled};

const K: usize = 4;

fn buckets(bits: u8) -> Buckets<SimPeer> {
    Buckets::new(SimPeer(0).key(), K, 2, bits)
}

/// Silences further apart than this count.
const APART: Duration = Duration::from_secs(1);

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
    buckets.contacts().map(|contact| contact.seat.spot.peer).collect()
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
    assert_eq!(table.silent(at(16), APART, far[0]), None, "a message may be lost");
    let told = |table: &Buckets<SimPeer>| {
        let closest = table.closest(&far[0].key(), 32, &[]).into_iter();
        closest.map(|spot| spot.peer).filter(|peer| far.contains(peer)).collect::<BTreeSet<_>>()
    };
    assert_eq!(
        told(&table),
        BTreeSet::from([far[1], far[2], far[3], far[K + 1]]),
        "who waits and was heard last"
    );
    table.heard(at(20), far[0]);
    assert_eq!(told(&table), far[..K].iter().copied().collect(), "the long-lived is back");
    let lost: Vec<_> = (20..25).map(|second| table.silent(at(second), APART, far[0])).collect();
    assert_eq!(lost, [None, None, None, None, Some(far[0])], "five in a row are not lost");
    assert_eq!(told(&table), BTreeSet::from([far[1], far[2], far[3], far[K + 1]]));
}

#[test]
fn a_newcomer_does_not_take_the_place_of_one_that_was_silent_once() {
    let (mut table, far) = full();
    table.silent(at(10), APART, far[0]);
    table.heard(at(10), far[K]);
    assert!(contacts(&table).contains(&far[0]) && contacts(&table).contains(&far[K]), "it stands in for it");
    table.heard(at(11), far[0]);
    assert!(contacts(&table).contains(&far[0]) && !contacts(&table).contains(&far[K]));
}

/// A newcomer to the neighbourhood fills its bucket beyond k: the long-lived stay, also those that were heard from
/// just now.
#[test]
fn whoever_came_last_makes_room_for_a_neighbour() {
    let mut table = buckets(1);
    near().take(2).for_each(|peer| table.heard(at(1), peer));
    let mut far: Vec<SimPeer> = far().take(K + 1).collect();
    far.sort_by_key(|peer| peer.key().xor(&SimPeer(0).key()));
    let neighbour = far.remove(0);
    // Two of them are among the nearest, until the newcomer is.
    far.iter().zip(2..).for_each(|(peer, second)| table.heard(at(second), *peer));
    table.heard(at(9), far[1]);
    table.heard(at(10), neighbour);
    let now = contacts(&table);
    assert!(!now.contains(&far[K - 1]), "the one that came last stays: {now:?}");
    assert!([neighbour, far[0], far[1], far[2]].iter().all(|peer| now.contains(peer)), "{now:?}");
}

#[test]
fn every_mode_finds_the_closest() {
    let modes = [Mode::SemiRecursive, Mode::Recursive, Mode::iterative(1), Mode::iterative(3)];
    for (mode, paths) in modes.map(|mode| (mode, 1)).into_iter().chain([(Mode::iterative(3), 8)]) {
        let config = KademliaConfig { upkeep: Duration::ZERO, paths, ..KademliaConfig::default() };
        let peers: Vec<SimPeer> = (0..100).map(SimPeer).collect();
        let mut sim = Sim::<Kademlia<SimPeer>>::new(3, Network::default());
        for node in Kademlia::converged(&peers, config) {
            sim.spawn(|_| node);
        }
        let mut rng = Rng::new(9);
        for _ in 0..50 {
            let key = rng.key();
            let closest = peers.iter().copied().min_by_key(|peer| peer.key().xor(&key));
            let handle = sim.handle(*rng.choose(&peers).unwrap());
            let found = sim.block_on(async move { handle.ask(Find::key(key).mode(mode)).await }).unwrap();
            assert_eq!(found.ok().map(|found| found.root()), closest, "{mode:?} on {paths} paths");
        }
    }
}

#[test]
fn what_was_looked_up_needs_no_refresh_for_a_while() {
    let hour = Duration::from_secs(3600);
    let mut table = buckets(1);
    table.heard(at(1), far().next().unwrap());
    table.looked_up(at(5000), &far().next().unwrap().key());
    assert_eq!(table.stalest(at(5010), hour), None, "looked up before anybody asked");
    // A nearer contact splits the last bucket: until now what was looked up was in the range of both halves.
    table.heard(at(5020), near().next().unwrap());
    assert_eq!(table.stalest(at(5030), hour), None);
    assert_eq!(table.stalest(at(8600), hour), Some(0));
}

#[test]
fn questions_that_meet_one_stall_are_one_silence() {
    let (mut table, far) = full();
    assert!((0..9).all(|_| table.silent(at(10), APART, far[1]).is_none()));
    assert!((11..14).all(|second| table.silent(at(second), APART, far[1]).is_none()));
    assert_eq!(table.silent(at(14), APART, far[1]), Some(far[1]));
}

#[test]
fn a_silent_contact_stays_while_nobody_could_take_its_place() {
    let (mut table, far) = full();
    table.silent(at(8), APART, far[1]);
    assert!(contacts(&table).contains(&far[1]));
    let told: Vec<SimPeer> =
        table.closest(&far[1].key(), 32, &[]).into_iter().map(|spot| spot.peer).collect();
    assert!(!told.contains(&far[1]), "but it is told to nobody");
    table.heard(at(9), far[1]);
    assert_eq!(table.closest(&far[1].key(), 1, &[])[0].peer, far[1], "until it is heard from again");
    let lost: Vec<_> = (20..25).map(|second| table.silent(at(second), APART, far[1])).collect();
    assert_eq!(lost, [None, None, None, None, Some(far[1])]);
    assert!(!contacts(&table).contains(&far[1]), "five times silent is too often");
}

#[test]
fn a_node_whose_line_is_down_keeps_its_contacts() {
    let (mut table, _) = full();
    let all = contacts(&table);
    for second in 20..25 {
        assert!(all.iter().all(|peer| table.silent(at(second), APART, *peer).is_none()));
    }
    assert!(!table.are_all_gone());
    assert!(!table.closest(&Key::ZERO, 3, &[]).is_empty(), "and asks them when it has no others");
}

/// The contacts stand in order of their distance, each once, and beyond the k nearest no bucket has more than k that are
/// not in doubt.
fn hold_their_prefix(table: &Buckets<SimPeer>, k: usize, bits: u8) -> Result<(), String> {
    let me = table.me();
    let contacts: Vec<_> = table.contacts().map(|contact| contact.seat).collect();
    if !contacts.is_sorted_by(|a, b| a.spot.distance(&me) < b.spot.distance(&me)) {
        return Err(format!("not in order: {contacts:?}"));
    }
    let living: Vec<_> = contacts.iter().filter(|contact| contact.silent == 0).collect();
    let level = |contact: &&super::seats::Seat<SimPeer>| {
        let level = contact.spot.distance(&me).leading_zeros() / usize::from(bits);
        (level, contact.spot.distance(&me).digit(level, bits.into()))
    };
    let mut buckets = living[living.len().min(k)..].chunk_by(|a, b| level(a) == level(b));
    match buckets.find(|bucket| bucket.len() > k) {
        Some(bucket) => Err(format!("a bucket of {}", bucket.len())),
        None => Ok(()),
    }
}

/// A contact that dies where nothing is looked up is found out when its bucket is refreshed, and not before (§2.3): that
/// has to come round within the time that the network has.
#[test]
fn buckets_hold_their_prefix_whatever_goes_wrong_and_the_neighbourhood_is_whole_afterwards() {
    run_seeds(3, |seed| {
        let refresh = Duration::from_secs(300);
        let config = KademliaConfig { k: K, refresh, ..KademliaConfig::default() };
        troubled::<Kademlia<SimPeer>>(seed, config, IN_PIECES, Duration::from_secs(900), |sim| {
            sim.check_each_step(|_, node| hold_their_prefix(&node.table().buckets, K, 1));
        })
    });
}

#[test]
fn who_is_back_joins_through_whoever_speaks_to_it() {
    comes_back::<Kademlia<SimPeer>>(KademliaConfig::default());
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
                    table.silent(at(second as u64), APART, SimPeer(peer));
                    alive.remove(&(me.xor(&SimPeer(peer).key()), SimPeer(peer)));
                }
            }
            prop_assert_eq!(hold_their_prefix(&table, K, bits), Ok(()));
        }
        // The dead make room for whoever was pushed out only when they are heard from again.
        for (_, peer) in &alive {
            table.heard(at(1000), *peer);
        }
        let near: Vec<SimPeer> = alive.iter().take(K).map(|(_, peer)| *peer).collect();
        prop_assert_eq!(table.near(), near);
    }

    /// The closest to any key, of a node's contacts and of all nodes, are those that sorting them gives.
    #[test]
    fn the_closest_are_the_closest(
        bits in 1u8..=5,
        peers in prop::collection::btree_set(1u32..2000, 1..200),
        key: [u8; 32],
    ) {
        let mut table = buckets(bits);
        peers.iter().for_each(|peer| table.heard(at(1), SimPeer(*peer)));
        let key = Key::new(key);
        let mut sorted = contacts(&table);
        sorted.sort_by_key(|peer| peer.key().xor(&key));
        let closest: Vec<SimPeer> = table.closest(&key, 9, &[]).into_iter().map(|spot| spot.peer).collect();
        prop_assert_eq!(&closest[..], &sorted[..sorted.len().min(9)]);
        let mut nodes: Vec<(Key, SimPeer)> = peers.iter().map(|i| (SimPeer(*i).key(), SimPeer(*i))).collect();
        nodes.sort();
        for (key, n) in [(key, 9), (key, 0), (nodes[0].0, 1), (nodes[0].0, 300)] {
            let closest = converged::closest(&nodes, &key, n);
            let mut sorted = nodes.clone();
            sorted.sort_by_key(|(node, _)| node.xor(&key));
            sorted.truncate(n);
            prop_assert_eq!(closest, sorted);
        }
    }
}

/// However many siblings a node has, all that are silent are asked; and whom others name takes half of the questions.
#[test]
fn all_neighbours_are_asked_and_names_leave_room_for_them() {
    let peers: Vec<SimPeer> = (0..200).map(SimPeer).collect();
    let config = KademliaConfig { siblings: 16, ..KademliaConfig::default() };
    let mut script = Script::new(Kademlia::converged(&peers, config).swap_remove(0));
    let (mut most, mut named, mut stranger) = (0, 0, 1000);
    for _ in 0..600 {
        script.advance(Duration::from_millis(100));
        let (mut pings, mut strangers) = (0, 0);
        for (to, msg) in script.sent() {
            match msg {
                RoutedMsg::Upkeep(KademliaMsg::Ping { .. }) if to.0 < 200 => pings += 1,
                RoutedMsg::Upkeep(KademliaMsg::Ping { .. }) => strangers += 1,
                RoutedMsg::Upkeep(KademliaMsg::GetNeighbours { id }) => {
                    let peers = (stranger..stranger + 5000).map(SimPeer).collect();
                    stranger += 5000;
                    script.message(to, RoutedMsg::Upkeep(KademliaMsg::Neighbours { id, peers }));
                }
                _ => {}
            }
        }
        (most, named) = (most.max(pings), named.max(strangers));
    }
    assert!(most > 63, "at most {most} neighbours are asked at once");
    assert!((1..=super::MAX_ASKED / 2).contains(&named), "{named} strangers are asked at once");
}

/// The user's own lookup of a key counts as the refresh of its bucket (§2.3).
#[test]
fn what_its_user_has_looked_up_a_node_does_not_look_up_again() {
    let asks = |refreshed: bool| {
        let minute = Duration::from_secs(60);
        let config = KademliaConfig { upkeep: minute, refresh: 10 * minute, ..KademliaConfig::default() };
        let mut script = Script::new(Kademlia::with(SimPeer(0), [], config));
        script.advance(100 * minute);
        let other = far().next().unwrap();
        script.message(other, RoutedMsg::Upkeep(KademliaMsg::Ping { id: 0 }));
        if refreshed {
            script.command(Find::key(other.key()));
        }
        for (to, msg) in script.sent() {
            if let RoutedMsg::Lookup(LookupMsg::Ask { id, .. }) = msg {
                let answer = LookupMsg::Answer { id, hint: Hint::Toward(Vec::new()) };
                script.message(to, RoutedMsg::Lookup(answer));
            }
        }
        assert_eq!(script.outcomes().len(), usize::from(refreshed));
        script.advance(2 * minute);
        script
            .sent()
            .iter()
            .filter(|(_, msg)| matches!(msg, RoutedMsg::Lookup(LookupMsg::Ask { .. })))
            .count()
    };
    assert_eq!((asks(false) > 0, asks(true)), (true, 0));
}

/// One message in ten is lost and nobody dies: who is a contact stays one, though others wait in its place.
#[test]
fn no_live_contact_is_lost_with_messages() {
    run_seeds(3, |seed| {
        let network = Network { loss: Loss::Uniform(0.1), ..Network::default() };
        let mut sim = Sim::<Kademlia<SimPeer>>::new(seed, network);
        let config = KademliaConfig { k: 8, ..KademliaConfig::default() };
        sim.population(move |birth| {
            let seeds = birth.some(3);
            Kademlia::with(birth.peer, seeds, config)
        });
        for _ in 0..80 {
            sim.join();
            sim.run_for(Duration::from_millis(200));
        }
        sim.run_for(Duration::from_secs(600));
        let tables = |sim: &Sim<Kademlia<SimPeer>>| -> BTreeSet<(SimPeer, SimPeer)> {
            let view = sim.view();
            let of = |(peer, node): (SimPeer, &Kademlia<SimPeer>)| {
                node.table().contacts().map(move |contact| (peer, contact)).collect::<Vec<_>>()
            };
            view.iter().flat_map(of).collect()
        };
        // Whoever stands in for somebody silent comes and goes.
        let mut before = tables(&sim);
        for _ in 0..10 {
            sim.run_for(Duration::from_secs(60));
            before = &before & &tables(&sim);
        }
        sim.run_for(Duration::from_secs(1800));
        let after = tables(&sim);
        let lost = before.difference(&after).count();
        assert!(lost * 100 < before.len(), "{lost} of {} contacts lost", before.len());
        sim.trace()
    });
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
        assert_eq!(whole::is_whole(&sim.view()), Ok(()));
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
