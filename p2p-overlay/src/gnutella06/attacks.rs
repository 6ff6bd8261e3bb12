//! What honest leaves lose to a flood of queries, by leaves or among ultrapeers, with the defences and without.
//!
//! In this world nine attackers have each of ten ultrapeers pass on some 14,500 queries in 22 s if they are leaves, 22,600
//! if they are ultrapeers, and half of what the others look for is found. With the defences it is 407 and 1,929, and three
//! quarters, or all, is found: what is still lost is what finds the ultrapeers' lines full of what the attackers send them.

use p2p_core::SimPeer;
use p2p_core::sim::Sim;

use super::*;
use crate::search::Reach;
use crate::search::attacks::{ANY, Flood, slow_lines};

/// Ultrapeers first, then leaves, then those who attack.
const ULTRAPEERS: u32 = 10;
const HONEST: u32 = 50;
const ATTACKERS: u32 = 9;

fn config(defended: bool) -> Gnutella06Config {
    // Nobody changes its role.
    let promotion = PromotionConfig { stay: Duration::from_secs(1 << 40), ..PromotionConfig::default() };
    let config = Gnutella06Config {
        capacity: 100_000,
        wanted: 6,
        degree: 16,
        table_bits: 12,
        promotion,
        ..Gnutella06Config::default()
    };
    match defended {
        true => config,
        false => Gnutella06Config {
            descriptors: ANY,
            queries: ANY,
            passing: ANY,
            answers: ANY,
            tables: ANY,
            guided: usize::MAX,
            hits_per_query: u16::MAX,
            ..config
        },
    }
}

/// The share of what honest leaves look for that is found while those who attack, in this role, flood all their
/// neighbours, and the queries that each honest ultrapeer has passed on.
fn under_a_flood(defended: bool, role: Role, attackers: u32) -> (f64, u64) {
    let mut sim = Sim::<Gnutella06<SimPeer>>::new(1, slow_lines());
    for peer in 0..HONEST + ATTACKERS {
        let role = match peer {
            0..ULTRAPEERS => Role::Ultrapeer,
            ULTRAPEERS..HONEST => Role::Leaf,
            _ => role,
        };
        let seeds = (0..ULTRAPEERS.min(peer)).filter_map(|seed| SimPeer(seed).contact());
        // What the attackers' own leaves get is up to them: they have none.
        let leaves = if peer < HONEST { 30 } else { 0 };
        let config = Gnutella06Config { leaves, ..config(defended) };
        let mut servent = Gnutella06::new(SimPeer(peer).contact(), seeds, role, config);
        if peer < HONEST {
            servent.library_mut().insert(Item::new(format!("song {peer}"), 1000)).unwrap();
        }
        sim.spawn(|_| servent);
    }
    sim.run_for(Duration::from_secs(120));
    let queries = |sim: &Sim<Gnutella06<SimPeer>>| -> u64 {
        let ultrapeers = sim.view().iter().filter(|(peer, _)| peer.0 < ULTRAPEERS);
        ultrapeers.map(|(_, servent)| servent.tally().queries).sum()
    };
    let before = queries(&sim);
    let attackers = HONEST..HONEST + attackers;
    let flood = Flood { askers: ULTRAPEERS..HONEST, singers: 0..HONEST, attackers, reach: Reach::Auto };
    (flood.run(&mut sim), (queries(&sim) - before) / u64::from(ULTRAPEERS))
}

#[test]
fn a_flood_of_leaves_or_ultrapeers_leaves_other_leaves_their_share() {
    for role in [Role::Leaf, Role::Ultrapeer] {
        let quiet = under_a_flood(true, role, 0);
        let (defended, open) = (under_a_flood(true, role, ATTACKERS), under_a_flood(false, role, ATTACKERS));
        println!(
            "found, and queries passed on by each: {role:?}s, quiet {quiet:?}, defended {defended:?}, open {open:?}"
        );
        assert!(quiet.0 > 0.95, "{quiet:?}");
        assert!(defended.0 > open.0 + 0.2, "{role:?}: defended {defended:?}, open {open:?}");
        assert!(defended.1 * 5 < open.1, "{role:?}: defended {defended:?}, open {open:?}");
    }
}
