//! What simulated attacks on networks that search have in common: lines that can be filled, and a flood.

use std::ops::Range;
use std::time::Duration;

use p2p_core::sim::{Bandwidth, Encoding, Liar, Network, Sim};
use p2p_core::{NoJob, Protocol, SimPeer, Wire};

use super::{End, Query, Reach, Scope, SearchCommand, SearchOutcome, Searcher};
use crate::bucket::Rate;

/// As many as anybody wants.
pub(crate) const ANY: Rate = Rate { every: Duration::from_nanos(1), burst: u32::MAX };

/// Lines of 240 kbit/s.
pub(crate) fn slow_lines() -> Network {
    let line = Bandwidth { up: 30_000, down: 30_000, queue: 30_000 };
    Network { encoding: Encoding::Measure, bandwidth: Some(line), ..Network::default() }
}

/// Honest nodes look for each other's songs, one a second, while each attacker asks for 200 things a second that nobody
/// has.
#[derive(Clone, Debug)]
pub(crate) struct Flood {
    /// Those who look.
    pub askers: Range<u32>,
    /// Those who have a song, of their own number.
    pub singers: Range<u32>,
    pub attackers: Range<u32>,
    /// How far the attackers' questions go.
    pub reach: Reach,
}

impl Flood {
    /// The share of what honest nodes look for that is found, within five seconds each.
    pub(crate) fn run<M>(self, sim: &mut Sim<M>) -> f64
    where
        M: Searcher + Protocol<Peer = SimPeer, Msg: Wire, Job = NoJob>,
    {
        const SEARCHES: u32 = 12;
        let Flood { askers, singers, attackers, reach } = self;
        let search = |words: String, reach| {
            let scope = Scope { hits: 1, deadline: Duration::from_secs(5), reach };
            M::command(SearchCommand::Search(Query::text(&words), scope))
        };
        for second in 0..SEARCHES {
            let rng = sim.workload_rng();
            let mut one_of = |all: &Range<u32>| all.start + rng.below((all.end - all.start).into()) as u32;
            let (from, song) = (one_of(&askers), one_of(&singers));
            // Nobody is told of its own.
            let song = if song != from {
                song
            } else if song > singers.start {
                song - 1
            } else {
                song + 1
            };
            sim.command(SimPeer(from), search(format!("song {song}"), Reach::Auto));
            for tick in 0..50u32 {
                for attacker in attackers.clone() {
                    for i in 0..4 {
                        sim.command(SimPeer(attacker), search(format!("nothing {second} {tick} {i}"), reach));
                    }
                }
                sim.run_for(Duration::from_millis(20));
            }
        }
        sim.run_for(Duration::from_secs(10));
        let found = sim.take_outcomes().into_iter().filter(|ended| !attackers.contains(&ended.peer.0));
        let found = found.filter_map(|ended| M::outcome(ended.outcome)).filter(
            |outcome| matches!(outcome, SearchOutcome::Searched(Ok(searched)) if searched.end == End::Enough),
        );
        found.count() as f64 / f64::from(SEARCHES)
    }
}

impl<M: Searcher> Searcher for Liar<M> {
    fn command(command: SearchCommand<M::Peer>) -> M::Command {
        M::command(command)
    }
    fn outcome(outcome: M::Outcome) -> Option<SearchOutcome<M::Peer>> {
        M::outcome(outcome)
    }
}
