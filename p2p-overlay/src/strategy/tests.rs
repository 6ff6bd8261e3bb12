use p2p_core::{Script, SimPeer};

use super::*;

#[derive(Debug)]
struct Node(Vec<SimPeer>, bool);

impl Graph for Node {
    type Peer = SimPeer;
    type Query = u32;
    fn neighbours(&self) -> &[SimPeer] {
        &self.0
    }
    fn holds(&self, _: &u32) -> bool {
        self.1
    }
}

const ME: SimPeer = SimPeer(0);

fn node(neighbours: u32, holds: bool) -> Script<Seeker<Node>> {
    let neighbours = (1..=neighbours).map(SimPeer).collect();
    Script::new(Seeker::new(ME, Node(neighbours, holds), SeekerConfig::default()))
}

fn flood(question: u32, ttl: u8) -> SeekerMsg<SimPeer, u32> {
    SeekerMsg::Flood { origin: SimPeer(9), question, ttl, query: 7 }
}

fn walker(origin: SimPeer, question: u32, steps: u16, left: u32) -> Walker<SimPeer, u32> {
    Walker { origin, question, check_every: 4, steps, fresh: 0, left, query: 7 }
}

fn search(script: &mut Script<Seeker<Node>>, reach: Reach, hits: u32) -> OpId {
    let scope = Scope { hits, reach, deadline: Duration::from_secs(60) };
    script.command(Seek { query: 7, scope })
}

#[test]
fn a_flood_is_passed_on_once_and_not_back() {
    let mut script = node(3, false);
    script.message(SimPeer(2), flood(1, 3));
    let to: Vec<SimPeer> = script.sent().iter().map(|(to, _)| *to).collect();
    assert_eq!(to, [SimPeer(1), SimPeer(3)]);
    script.message(SimPeer(1), flood(1, 3));
    assert!(script.sent().is_empty(), "it has been here");
    script.message(SimPeer(1), flood(2, 0));
    assert!(script.sent().is_empty(), "it has gone far enough");
    let tally = script.machine().tally();
    assert_eq!((tally.probes, tally.reached, tally.duplicates), (2, 2, 1));
}

#[test]
fn a_holder_answers_and_does_not_pass_the_question_on() {
    let mut script = node(3, true);
    script.message(SimPeer(2), flood(1, 3));
    let sent = script.sent();
    assert!(matches!(sent[..], [(SimPeer(9), SeekerMsg::Found { question: 1 })]), "{sent:?}");
}

#[test]
fn a_hostile_radius_is_cut() {
    let mut script = node(2, false);
    script.message(SimPeer(2), flood(1, 255));
    assert!(matches!(script.sent()[..], [(_, SeekerMsg::Flood { ttl: 15, .. })]));
}

#[test]
fn rings_grow_until_something_is_found() {
    let mut script = node(1, false);
    search(&mut script, Reach::Ring { first: 1, step: 2, last: 4 }, 1);
    let mut radii = Vec::new();
    let mut radius = |script: &mut Script<Seeker<Node>>| match script.sent()[..] {
        [(_, SeekerMsg::Flood { ttl, question, .. })] => {
            radii.push(ttl + 1);
            question
        }
        ref sent => panic!("{sent:?}"),
    };
    radius(&mut script);
    script.advance(Duration::from_secs(1));
    radius(&mut script);
    script.advance(Duration::from_secs(2));
    let question = radius(&mut script);
    script.message(SimPeer(5), SeekerMsg::Found { question: question - 1 });
    assert!(script.outcomes().is_empty(), "an answer to an older question");
    script.message(SimPeer(5), SeekerMsg::Found { question });
    assert_eq!(radii, [1, 3, 4]);
    let outcomes = script.outcomes();
    let sought = outcomes[0].1.as_ref().unwrap();
    assert_eq!((&sought.holders[..], sought.searched.end), (&[SimPeer(5)][..], End::Enough));
    assert_eq!((sought.searched.cost.messages, sought.searched.cost.whole), (4, false));
    assert_eq!(script.timers().count(), 0);
}

#[test]
fn a_search_ends_when_the_widest_ring_has_had_its_time() {
    let mut script = node(1, false);
    search(&mut script, Reach::Ttl(3), 1);
    script.advance(Duration::from_secs(2));
    assert_eq!(script.outcomes()[0].1.as_ref().unwrap().searched.end, End::Exhausted);
}

#[test]
fn a_walker_does_not_turn_back_unless_it_has_to() {
    let mut script = node(3, false);
    for question in 0..50 {
        script.message(SimPeer(2), SeekerMsg::Walk(walker(SimPeer(9), question, 1, 10)));
        let [(to, SeekerMsg::Walk(walker))] = &script.sent()[..] else { panic!() };
        assert!(*to != SimPeer(2) && walker.steps == 2 && walker.left == 9);
    }
    let mut alone = node(1, false);
    alone.message(SimPeer(1), SeekerMsg::Walk(walker(SimPeer(9), 0, 1, 10)));
    assert_eq!(alone.sent()[0].0, SimPeer(1));
}

#[test]
fn a_walker_asks_back_and_goes_on_from_where_it_stands() {
    let mut script = node(3, false);
    script.message(SimPeer(2), SeekerMsg::Walk(walker(SimPeer(9), 0, 4, 10)));
    let [(SimPeer(9), SeekerMsg::Check { walker: stands, found: false })] = &script.sent()[..] else {
        panic!()
    };
    assert_eq!((stands.steps, stands.fresh), (4, 1));
    script.message(SimPeer(9), SeekerMsg::Walk(walker(SimPeer(9), 0, 0, 10)));
    assert!(matches!(script.sent()[..], [(_, SeekerMsg::Walk(Walker { steps: 1, left: 9, .. }))]));
}

#[test]
fn a_walker_that_never_asks_back_is_made_to() {
    let mut script = node(3, false);
    let hostile = Walker { check_every: u16::MAX, ..walker(SimPeer(9), 0, 64, u32::MAX) };
    script.message(SimPeer(2), SeekerMsg::Walk(hostile));
    assert!(matches!(script.sent()[..], [(SimPeer(9), SeekerMsg::Check { .. })]));
}

#[test]
fn what_walkers_cost_is_known_when_they_have_all_come_back() {
    let mut script = node(3, false);
    search(&mut script, Reach::Walk { walkers: 2, check_every: 4, steps: 4 }, 1);
    let walkers = script.sent().into_iter().filter_map(|(_, msg)| match msg {
        SeekerMsg::Walk(walker) => Some(walker),
        _ => None,
    });
    let walkers: Vec<_> = walkers.collect();
    assert_eq!(walkers.len(), 2);
    for walker in walkers {
        let walker = Walker { steps: 4, fresh: 3, left: 0, ..walker };
        script.message(SimPeer(7), SeekerMsg::Check { walker, found: false });
    }
    let outcomes = script.outcomes();
    let Searched { end, cost } = outcomes[0].1.as_ref().unwrap().searched;
    assert_eq!((end, cost.whole), (End::Exhausted, true));
    assert_eq!((cost.messages, cost.peers, cost.duplicates), (10, 6, 2));
}

#[test]
fn whoever_makes_up_answers_ends_nothing_twice() {
    let mut script = node(3, false);
    search(&mut script, Reach::Walk { walkers: 1, check_every: 1, steps: 9 }, 5);
    let [(_, SeekerMsg::Walk(sent))] = &script.sent()[..] else { panic!() };
    for _ in 0..100 {
        let walker = Walker { steps: 1, left: 0, ..sent.clone() };
        script.message(SimPeer(7), SeekerMsg::Check { walker, found: true });
    }
    let outcomes = script.outcomes();
    assert_eq!((outcomes.len(), outcomes[0].1.as_ref().unwrap().holders.len()), (1, 1));
}

#[test]
fn a_search_that_is_taken_back_leaves_nothing() {
    let mut script = node(3, false);
    let op = search(&mut script, Reach::Auto, 1);
    script.cancel(op);
    assert_eq!(script.timers().count(), 0);
    assert!(script.machine().searches.is_empty() && script.machine().questions.is_empty());
    let [(_, SeekerMsg::Walk(walker)), ..] = &script.sent()[..] else { panic!() };
    script.message(SimPeer(7), SeekerMsg::Check { walker: walker.clone(), found: true });
    assert!(script.sent().is_empty(), "its walkers end where they stand");
}

#[test]
fn who_has_no_neighbours_is_told_so() {
    let mut script = node(0, false);
    search(&mut script, Reach::Auto, 1);
    assert_eq!(script.outcomes()[0].1, Err(SearchError::NotConnected));
}
