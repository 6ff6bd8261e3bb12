//! When to announce a swarm, and to which of its trackers (BEP 12); another source of peers is a tracker by itself.
//!
//! Tiers come in order, trackers within one as they were shuffled at first. An announce goes to the first that is not
//! resting; one that answers goes to the front of its tier, and is announced to again when it says; one that does not
//! rests, longer each time, and the next is tried at once. What each was told is kept, so that each hears of a start
//! once, of an end once, and of a completion only if it has heard of the start.

use std::time::Duration;

use p2p_core::{Rng, Time};

use super::tracker::{AnnounceReply, Event, TrackerError};

/// Trackers of one torrent that are asked; the others are passed over. 64.
const MAX_TRACKERS: usize = 64;
/// How long a tracker rests that failed once; doubled with each failure. 30 s.
const REST: Duration = Duration::from_secs(30);
/// How long it rests at most. An hour.
const LONGEST_REST: Duration = Duration::from_secs(3600);
/// How long another source than a tracker does, which is no one's server to be spared. 5 minutes.
const OPEN_REST: Duration = Duration::from_secs(300);
/// Shortest time between two announces, whatever a tracker says. A minute.
const SHORTEST: Duration = Duration::from_secs(60);

/// How a tracker stands, or another source of peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerStatus {
    /// Its URL; another source's name.
    pub url: String,
    /// What it said last, but for the peers; `None` if it was not asked yet.
    pub said: Option<Result<AnnounceReply, TrackerError>>,
    /// How many peers it has named, the last time.
    pub peers: usize,
}

/// What is to be told to a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub url: String,
    pub event: Event,
    pub tracker_id: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Tracker {
    status: TrackerStatus,
    /// It knows that this client is there.
    started: bool,
    /// It may know that this client is there: another source than a tracker tells others before it answers, or fails.
    may_know: bool,
    /// It knows that this client has everything, or need not hear of it.
    completed: bool,
    failures: u32,
    rests_until: Time,
    id: Option<Vec<u8>>,
}

/// The trackers of one swarm.
#[derive(Debug)]
pub(super) struct Tiers {
    tiers: Vec<Vec<Tracker>>,
    next: Time,
    /// Who is asked now, by tier and URL, and what it is told.
    asking: Option<(usize, Due, bool)>,
    /// What it is told is out of date: it is told again when it has answered.
    again: bool,
    /// It is another source than a tracker.
    open: bool,
}

impl Tiers {
    /// Of a source that is no tracker.
    pub(super) fn of_source(name: &str, rng: &mut Rng) -> Tiers {
        Tiers { open: true, ..Tiers::new(&[vec![name.into()]], rng) }
    }

    pub(super) fn new(urls: &[Vec<String>], rng: &mut Rng) -> Tiers {
        let (mut tiers, mut seen) = (Vec::new(), Vec::new());
        for tier in urls {
            let mut trackers: Vec<Tracker> = Vec::new();
            for url in tier {
                if seen.len() < MAX_TRACKERS && !seen.contains(&url) {
                    seen.push(url);
                    trackers.push(Tracker {
                        status: TrackerStatus { url: url.clone(), said: None, peers: 0 },
                        started: false,
                        may_know: false,
                        completed: false,
                        failures: 0,
                        rests_until: Time::ZERO,
                        id: None,
                    });
                }
            }
            rng.shuffle(&mut trackers);
            if !trackers.is_empty() {
                tiers.push(trackers);
            }
        }
        Tiers { tiers, next: Time::ZERO, asking: None, again: false, open: false }
    }

    pub(super) fn status(&self) -> impl Iterator<Item = &TrackerStatus> {
        self.tiers.iter().flatten().map(|tracker| &tracker.status)
    }

    /// Whether something may be to be announced.
    pub(super) fn is_due(&self, now: Time) -> bool {
        self.asking.is_none() && now >= self.next
    }

    /// What is to be announced now, if anything is; it counts as being asked then.
    pub(super) fn due(&mut self, now: Time, done: bool) -> Option<Due> {
        if !self.is_due(now) {
            return None;
        }
        let awake = |tracker: &&mut Tracker| tracker.rests_until <= now;
        let first =
            self.tiers.iter_mut().enumerate().find_map(|(i, tier)| Some((i, tier.iter_mut().find(awake)?)));
        let Some((tier, tracker)) = first else {
            let wakes = self.tiers.iter().flatten().map(|tracker| tracker.rests_until).min();
            self.next = wakes.unwrap_or(Time::MAX);
            return None;
        };
        let event = match (tracker.started, tracker.completed) {
            (false, _) => Event::Started,
            (true, false) if done => Event::Completed,
            (true, _) => Event::Regular,
        };
        tracker.may_know |= self.open;
        let due = Due { url: tracker.status.url.clone(), event, tracker_id: tracker.id.clone() };
        self.again = false;
        self.asking = Some((tier, due.clone(), done));
        Some(due)
    }

    /// Whoever was asked has answered, or not.
    pub(super) fn answered(
        &mut self,
        now: Time,
        result: Result<&AnnounceReply, TrackerError>,
        rng: &mut Rng,
    ) {
        let Some((tier, due, done)) = self.asking.take() else { return };
        let tier = &mut self.tiers[tier];
        let Some(at) = tier.iter().position(|tracker| tracker.status.url == due.url) else { return };
        let tracker = &mut tier[at];
        match result {
            Ok(reply) => {
                tracker.failures = 0;
                (tracker.started, tracker.may_know) = (true, true);
                // Who had everything at the start has completed nothing.
                tracker.completed |= done;
                tracker.id = reply.tracker_id.clone().or(tracker.id.take());
                tracker.status.peers = reply.peers.len();
                tracker.status.said =
                    Some(Ok(AnnounceReply { peers: Vec::new(), names: Vec::new(), ..reply.clone() }));
                let interval = reply.interval.max(reply.min_interval.unwrap_or_default()).max(SHORTEST);
                self.next = if std::mem::take(&mut self.again) { now } else { now + interval };
                tier[..=at].rotate_right(1);
            }
            Err(why) => {
                let longest = if self.open { OPEN_REST } else { LONGEST_REST };
                let rest = REST.saturating_mul(1 << tracker.failures.min(16)).min(longest);
                tracker.failures += 1;
                // Those whose tracker went down at once do not come back at once.
                tracker.rests_until = now + rng.duration(rest.mul_f64(0.75), rest.mul_f64(1.25));
                tracker.status.said = Some(Err(why));
            }
        }
    }

    /// Nobody is asked any more: it will be announced again.
    pub(super) fn forget(&mut self) {
        self.asking = None;
    }

    /// All is there: who knows of this client is told now.
    pub(super) fn completed(&mut self, now: Time) {
        if self.tiers.iter().flatten().any(|tracker| tracker.started && !tracker.completed) {
            self.next = now;
        }
        self.again = matches!(self.asking, Some((_, _, false)));
    }

    /// All was there before, though that was not known: trackers hear that nothing is missing, and of no completion.
    pub(super) fn had_all(&mut self, now: Time) {
        self.completed(now);
        self.tiers.iter_mut().flatten().for_each(|tracker| tracker.completed = true);
    }

    /// What is said when this client goes, to each that knows of it, or may. If it comes back that is said at once.
    pub(super) fn stop(&mut self) -> Vec<Due> {
        let asking = self.asking.take().map(|(_, due, _)| due.url);
        (self.next, self.again) = (Time::ZERO, false);
        let mut due = Vec::new();
        for tracker in self.tiers.iter_mut().flatten() {
            if tracker.may_know || asking.as_ref() == Some(&tracker.status.url) {
                (tracker.started, tracker.may_know) = (false, false);
                let url = tracker.status.url.clone();
                due.push(Due { url, event: Event::Stopped, tracker_id: tracker.id.clone() });
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiers(urls: &[&[&str]]) -> Tiers {
        let urls: Vec<Vec<String>> =
            urls.iter().map(|tier| tier.iter().map(|url| (*url).into()).collect()).collect();
        Tiers::new(&urls, &mut Rng::new(1))
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn asks(tiers: &mut Tiers, now: u64, done: bool) -> Option<(String, Event)> {
        tiers.due(at(now), done).map(|due| (due.url, due.event))
    }

    fn answers(tiers: &mut Tiers, now: u64, interval: u64) {
        let reply = AnnounceReply { interval: Duration::from_secs(interval), ..AnnounceReply::default() };
        tiers.answered(at(now), Ok(&reply), &mut Rng::new(2));
    }

    fn fails(tiers: &mut Tiers, now: u64) {
        tiers.answered(at(now), Err(TrackerError::TimedOut), &mut Rng::new(now));
    }

    fn order(tiers: &Tiers) -> Vec<&str> {
        tiers.status().map(|status| status.url.as_str()).collect()
    }

    #[test]
    fn tiers_come_in_order_and_who_answers_moves_to_the_front_of_its_own() {
        let mut tiers = tiers(&[&["a", "b", "c"], &["d"]]);
        let shuffled: Vec<String> = order(&tiers).into_iter().map(Into::into).collect();
        assert_eq!(shuffled[3], "d");
        for failed in &shuffled[..2] {
            assert_eq!(asks(&mut tiers, 0, false), Some((failed.clone(), Event::Started)));
            assert_eq!(asks(&mut tiers, 0, false), None, "one is asked at a time");
            fails(&mut tiers, 0);
        }
        assert_eq!(asks(&mut tiers, 0, false).unwrap().0, shuffled[2]);
        answers(&mut tiers, 0, 1800);
        assert_eq!(order(&tiers), [&shuffled[2], &shuffled[0], &shuffled[1], "d"]);
        assert_eq!(asks(&mut tiers, 1799, false), None);
        assert_eq!(asks(&mut tiers, 1800, false), Some((shuffled[2].clone(), Event::Regular)));
        [1, 2, 3].into_iter().for_each(|_| {
            fails(&mut tiers, 1800);
            asks(&mut tiers, 1800, false);
        });
        assert_eq!(tiers.asking.as_ref().unwrap().1.url, "d", "the next tier, when all of the first fail");
    }

    #[test]
    fn who_fails_rests_longer_each_time() {
        let mut tiers = tiers(&[&["a"]]);
        let mut now = 0;
        for failure in 0..12 {
            assert!(asks(&mut tiers, now, false).is_some());
            fails(&mut tiers, now);
            let rest = (30 << failure).min(3600);
            assert_eq!(asks(&mut tiers, now + rest * 3 / 4 - 1, false), None, "failure {failure}");
            now += rest * 5 / 4 + 1;
        }
    }

    #[test]
    fn each_tracker_hears_of_a_start_a_completion_and_an_end_once() {
        let mut tiers = tiers(&[&["a"], &["b"]]);
        asks(&mut tiers, 0, false);
        answers(&mut tiers, 0, 600);
        tiers.completed(at(100));
        assert_eq!(asks(&mut tiers, 100, true), Some(("a".into(), Event::Completed)));
        fails(&mut tiers, 100);
        // The other has never heard of it, and need not hear of a completion.
        assert_eq!(asks(&mut tiers, 100, true), Some(("b".into(), Event::Started)));
        answers(&mut tiers, 100, 600);
        assert_eq!(asks(&mut tiers, 700, true), Some(("a".into(), Event::Completed)), "it was not heard");
        answers(&mut tiers, 700, 1);
        tiers.completed(at(700));
        assert_eq!(asks(&mut tiers, 700 + 59, true), None, "no tracker can have itself asked all the time");
        assert_eq!(asks(&mut tiers, 700 + 60, true), Some(("a".into(), Event::Regular)));
        tiers.forget();
        let stopped: Vec<(String, Event)> =
            tiers.stop().into_iter().map(|due| (due.url, due.event)).collect();
        assert_eq!(stopped, [("a".into(), Event::Stopped), ("b".into(), Event::Stopped)]);
        assert_eq!(tiers.stop(), []);
    }

    #[test]
    fn what_is_complete_while_a_tracker_is_asked_is_told_when_it_has_answered() {
        let mut tiers = tiers(&[&["a"]]);
        assert_eq!(asks(&mut tiers, 0, false), Some(("a".into(), Event::Started)));
        tiers.completed(at(1));
        assert_eq!(asks(&mut tiers, 1, true), None, "one at a time");
        answers(&mut tiers, 2, 1800);
        assert_eq!(asks(&mut tiers, 2, true), Some(("a".into(), Event::Completed)));
        tiers.completed(at(3));
        answers(&mut tiers, 3, 1800);
        assert_eq!(asks(&mut tiers, 1802, true), None, "it has heard it");
        assert_eq!(asks(&mut tiers, 1803, true), Some(("a".into(), Event::Regular)));
    }

    #[test]
    fn what_was_there_before_it_was_known_completes_nothing() {
        for answered in [true, false] {
            let mut tiers = tiers(&[&["a"]]);
            asks(&mut tiers, 0, false);
            if answered {
                answers(&mut tiers, 0, 1800);
            }
            tiers.had_all(at(1));
            if !answered {
                answers(&mut tiers, 1, 1800);
            }
            assert_eq!(asks(&mut tiers, 1, true), Some(("a".into(), Event::Regular)));
            answers(&mut tiers, 1, 1800);
            tiers.completed(at(2));
            assert_eq!(asks(&mut tiers, 2, true), None);
        }
    }

    #[test]
    fn who_may_have_heard_of_a_start_hears_of_the_end() {
        let mut tiers = tiers(&[&["a", "a"], &[], &["a", "b"]]);
        assert_eq!(order(&tiers), ["a", "b"], "each once");
        asks(&mut tiers, 0, true);
        assert_eq!(tiers.stop().len(), 1);
        tiers.answered(at(1), Err(TrackerError::TimedOut), &mut Rng::new(1));
        assert!(Tiers::new(&[], &mut Rng::new(1)).due(at(0), true).is_none());
    }

    #[test]
    fn who_comes_back_says_so_at_once_and_has_completed_nothing() {
        for done in [false, true] {
            let mut tiers = tiers(&[&["a"]]);
            asks(&mut tiers, 0, done);
            answers(&mut tiers, 0, 1800);
            assert_eq!(asks(&mut tiers, 100, done), None);
            assert_eq!(tiers.stop().len(), 1);
            assert_eq!(asks(&mut tiers, 101, done), Some(("a".into(), Event::Started)));
            answers(&mut tiers, 101, 1800);
            assert_eq!(asks(&mut tiers, 1900, done), None);
            assert_eq!(asks(&mut tiers, 1901, done), Some(("a".into(), Event::Regular)));
        }
    }

    #[test]
    fn another_source_that_has_failed_hears_of_the_end_and_a_tracker_does_not() {
        for (mut tiers, hear) in [(Tiers::of_source("dht", &mut Rng::new(1)), 1), (tiers(&[&["a"]]), 0)] {
            assert_eq!(tiers.stop().len(), 0, "it was told nothing");
            asks(&mut tiers, 0, false).unwrap();
            fails(&mut tiers, 0);
            assert_eq!(tiers.stop().len(), hear);
            assert_eq!(tiers.stop().len(), 0, "once");
        }
    }
}
