//! One member at a time: which news it believes, and what it does about those who do not answer.

use p2p_core::{Rng, Script, SimPeer};

use super::*;

type Node = Script<Swim<SimPeer>>;
type Msg = SwimMsg<SimPeer>;

const SECOND: Duration = Duration::from_secs(1);

fn news(peer: u32, incarnation: u64, state: MemberState) -> News<SimPeer> {
    News { peer: SimPeer(peer), incarnation, state }
}

/// Member 0 of a group of five.
fn member() -> Node {
    let peers: Vec<SimPeer> = (0..5).map(SimPeer).collect();
    Script::new(Swim::converged(&peers, SwimConfig::default()).remove(0))
}

fn says(script: &mut Node, news: News<SimPeer>) {
    script.message(SimPeer(1), Msg::Ping { sequence: 1, incarnation: 0, news: vec![news] });
}

fn down(script: &mut Node) -> Vec<(SimPeer, Parting)> {
    let events = script.events().into_iter();
    events
        .filter_map(|event| if let Neighbour::Down(peer, why) = event { Some((peer, why)) } else { None })
        .collect()
}

#[test]
fn newer_news_is_believed_and_older_is_not() {
    let mut script = member();
    says(&mut script, news(2, 0, MemberState::Suspect));
    assert!(script.machine().is_suspected(SimPeer(2)));
    says(&mut script, news(2, 0, MemberState::Alive));
    assert!(script.machine().is_suspected(SimPeer(2)), "that is what it was before");
    says(&mut script, news(2, 1, MemberState::Alive));
    assert!(!script.machine().is_suspected(SimPeer(2)), "it says so itself");
    says(&mut script, news(2, 0, MemberState::Suspect));
    assert!(!script.machine().is_suspected(SimPeer(2)));
    says(&mut script, news(2, 1, MemberState::Dead));
    assert_eq!(down(&mut script), [(SimPeer(2), Parting::Silent)]);
    says(&mut script, news(2, 1, MemberState::Alive));
    assert_eq!(script.machine().active().len(), 3, "the dead do not come back by old news");
    says(&mut script, news(2, 2, MemberState::Alive));
    assert_eq!(script.events(), [Neighbour::Up(SimPeer(2))]);
}

#[test]
fn who_is_taken_for_dead_says_that_it_lives() {
    let mut script = member();
    says(&mut script, news(0, 0, MemberState::Suspect));
    let told = script.sent().into_iter().find_map(|(_, msg)| match msg {
        Msg::Ack { news, .. } => Some(news),
        _ => None,
    });
    assert_eq!(told.expect("an answer"), [news(0, 1, MemberState::Alive)]);
}

/// Nobody could say that it lives after the last of all incarnations.
#[test]
fn news_of_an_incarnation_that_is_far_too_high_is_not_believed() {
    let mut script = member();
    for peer in [0, 2] {
        for incarnation in [MAX_LEAP + 1, u64::MAX] {
            says(&mut script, news(peer, incarnation, MemberState::Dead));
        }
    }
    assert_eq!((script.machine().incarnation, script.machine().active().len()), (0, 4));
    // As far as it may be.
    says(&mut script, news(0, MAX_LEAP, MemberState::Dead));
    assert_eq!(script.machine().incarnation, MAX_LEAP + 1);
    says(&mut script, news(2, MAX_LEAP, MemberState::Dead));
    assert_eq!(script.machine().active().len(), 3);
    says(&mut script, news(2, MAX_LEAP + 1, MemberState::Alive));
    assert_eq!(script.machine().active().len(), 4, "and it says that it lives");
}

#[test]
fn what_a_member_says_of_itself_outweighs_what_was_made_up() {
    let mut script = member();
    for state in [MemberState::Alive, MemberState::Dead] {
        says(&mut script, news(9, u64::MAX, state));
    }
    assert!(!script.machine().active().contains(&SimPeer(9)), "nobody knew better");
    script.message(SimPeer(9), Msg::Join { incarnation: 1 });
    assert!(script.machine().active().contains(&SimPeer(9)));
    // Somebody has had it say that it lives, again and again, and this member has not heard of that.
    script.message(SimPeer(9), Msg::Ping { sequence: 1, incarnation: 5 * MAX_LEAP, news: Vec::new() });
    says(&mut script, news(9, 5 * MAX_LEAP, MemberState::Dead));
    assert!(!script.machine().active().contains(&SimPeer(9)));
}

#[test]
fn who_does_not_answer_is_asked_through_others_then_suspected_then_dead() {
    let mut script = member();
    let mut pinged = None;
    while pinged.is_none() {
        script.advance(SECOND / 10);
        pinged =
            script.sent().into_iter().find_map(|(to, msg)| matches!(msg, Msg::Ping { .. }).then_some(to));
    }
    let pinged = pinged.unwrap();
    script.advance(SECOND / 2);
    let helpers: Vec<_> = script.sent();
    assert_eq!(helpers.len(), 3);
    assert!(
        helpers.iter().all(
            |(to, msg)| matches!(msg, Msg::PingFor { target, .. } if *target == pinged && *to != pinged)
        )
    );
    assert!(!script.machine().is_suspected(pinged));
    script.advance(SECOND);
    assert!(script.machine().is_suspected(pinged) && down(&mut script).is_empty());
    script.advance(6 * SECOND);
    assert!(down(&mut script).contains(&(pinged, Parting::Silent)));
}

#[test]
fn an_answer_through_a_helper_will_do() {
    let mut script = member();
    for _ in 0..200 {
        script.advance(SECOND / 10);
        for (_, msg) in script.sent() {
            if let Msg::PingFor { sequence, .. } = msg {
                script.message(SimPeer(4), Msg::Ack { sequence, news: Vec::new() });
            }
        }
    }
    assert_eq!(script.machine().active().len(), 4);
}

#[test]
fn pings_for_others_are_answered_to_them() {
    let mut script = member();
    script.message(SimPeer(1), Msg::PingFor { sequence: 42, target: SimPeer(2), news: Vec::new() });
    let [(SimPeer(2), Msg::Ping { sequence, .. })] = script.sent()[..] else { panic!("a ping") };
    script.message(SimPeer(2), Msg::Ack { sequence, news: Vec::new() });
    assert!(matches!(script.sent()[..], [(SimPeer(1), Msg::Ack { sequence: 42, .. })]));
    script.message(SimPeer(9), Msg::PingFor { sequence: 1, target: SimPeer(2), news: Vec::new() });
    script.message(SimPeer(1), Msg::PingFor { sequence: 1, target: SimPeer(9), news: Vec::new() });
    assert!(script.sent().is_empty(), "members ping members, for members");
}

/// Anything from anybody: the tables keep their bounds, and what it sends fits.
#[test]
fn tables_keep_their_bounds_whatever_is_said() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let config = SwimConfig { max_members: 6, ..SwimConfig::default() };
        let mut script = Script::new(Swim::with(SimPeer(0), [SimPeer(1)], config));
        for _ in 0..2000 {
            let from = SimPeer(rng.below(12) as u32);
            let sequence = rng.below(5) as u32;
            let states = [MemberState::Alive, MemberState::Suspect, MemberState::Dead, MemberState::Left];
            let mut list: Vec<_> = (0..rng.index(12))
                .map(|_| news(rng.below(12) as u32, rng.below(4), states[rng.index(4)]))
                .collect();
            list.extend(rng.chance(0.01).then(|| news(0, u64::MAX, MemberState::Dead)));
            let msg = match rng.below(7) {
                0 => Msg::Ping { sequence, incarnation: rng.below(4), news: list },
                1 => Msg::Ack { sequence, news: list },
                2 => Msg::PingFor { sequence, target: SimPeer(rng.below(12) as u32), news: list },
                3 => Msg::Join { incarnation: rng.below(4) },
                4 => Msg::Group(list),
                _ => {
                    script.advance(rng.duration(Duration::ZERO, 3 * SECOND));
                    continue;
                }
            };
            script.message(from, msg);
            let node = script.machine();
            assert!(node.active().len() <= 6 && node.active().is_sorted(), "{node:?}");
            assert!(!node.active().contains(&SimPeer(0)));
            assert!(node.rumours.len() <= 7 && script.timers().count() <= 3 + 6);
            for (_, msg) in script.sent() {
                assert!(msg.lane() != Lane::Datagram || msg.to_bytes().len() <= 1200);
            }
        }
    }
}
