//! What a fetch knows of one provider: how much to ask of it at once, and when its answer is late.
//!
//! The window follows the time that answers take, in the manner of TCP Vegas (Brakmo & Peterson 1995): while an
//! answer takes no more than twice the shortest time seen, the line has room and the window grows by one with each;
//! above four times, a queue has formed somewhere and it shrinks. It needs no loss to notice that it is too large.

use std::time::Duration;

use p2p_core::{Health, Rtt, Suspicion, Time};

use crate::command::Standing;
use crate::rate::Rate;

/// Below this no queue is worth avoiding.
const SHORT: Duration = Duration::from_millis(20);

/// One provider of one fetch.
#[derive(Debug)]
pub(crate) struct Provider {
    pub standing: Standing,
    /// How many runs it is asked for at once.
    window: usize,
    /// Questions that it owes an answer to.
    pub in_flight: usize,
    rtt: Rtt,
    shortest: Duration,
    /// Nothing is asked of it before.
    not_before: Time,
    suspicion: Suspicion,
    pub bytes: u64,
    pub wasted: u64,
    pub rate: Rate,
}

impl Provider {
    pub(crate) fn new() -> Provider {
        Provider {
            standing: Standing::Good,
            window: 2,
            in_flight: 0,
            rtt: Rtt::default(),
            shortest: Duration::MAX,
            not_before: Time::ZERO,
            suspicion: Suspicion::default(),
            bytes: 0,
            wasted: 0,
            rate: Rate::default(),
        }
    }

    /// Whether it is worth waiting for.
    pub(crate) fn is_usable(&self) -> bool {
        match self.standing {
            Standing::Good | Standing::Slow => true,
            Standing::Without | Standing::Gone | Standing::Liar => false,
        }
    }

    /// How many more runs it may be asked for now.
    pub(crate) fn room(&self, now: Time) -> usize {
        match self.is_usable() && self.not_before <= now {
            true => self.window.saturating_sub(self.in_flight),
            false => 0,
        }
    }

    /// It has answered a question, after this long.
    pub(crate) fn answered(&mut self, took: Duration, most: usize) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.suspicion.heard();
        self.rtt.sample(took);
        self.shortest = self.shortest.min(took);
        if took < SHORT || took <= self.shortest * 2 {
            self.window = (self.window + 1).min(most);
        } else if took > self.shortest * 4 {
            self.window = self.window.saturating_sub(1).max(2);
        }
    }

    /// Something from it was verified and kept.
    pub(crate) fn kept(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.rate.add(bytes);
    }

    /// A question of it will not be answered: nobody there, or nothing said. It gets a pause, longer each time.
    pub(crate) fn failed(&mut self, now: Time) {
        self.in_flight = 0;
        self.window = 2;
        let health = self.suspicion.missed();
        self.not_before = now + Duration::from_millis(500) * (1 << self.suspicion.unanswered().min(8));
        if health == Health::Dead && self.is_usable() {
            self.standing = Standing::Gone;
        }
    }

    /// It has too much to do.
    pub(crate) fn busy(&mut self, now: Time) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.window = (self.window / 2).max(1);
        self.not_before = now + Duration::from_millis(200);
    }

    /// Its answer is late: says whether that is news.
    pub(crate) fn late(&mut self) -> bool {
        self.window = 1;
        let news = self.standing == Standing::Good;
        if news {
            self.standing = Standing::Slow;
        }
        news
    }

    /// It is heard of again: if it could not be reached it is tried again. Who lied is not, nor who had not the blob.
    pub(crate) fn revive(&mut self) {
        if self.standing == Standing::Gone {
            self.standing = Standing::Good;
            self.suspicion.heard();
            self.not_before = Time::ZERO;
        }
    }

    /// How long its answers take.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    /// When an answer of it is late: after what it needs itself (RFC 6298), or eight times what the fastest other
    /// provider needs; at first, two seconds. From half a second up.
    pub(crate) fn patience(&self, fastest_other: Option<Duration>) -> Duration {
        let own = self.rtt.smoothed().map_or(Duration::from_secs(2), |_| self.rtt.timeout());
        let bound = fastest_other.map_or(own, |other| own.min(other * 8));
        bound.max(Duration::from_millis(500))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_while_answers_are_quick_and_shrinks_when_a_queue_forms() {
        let mut provider = Provider::new();
        (0..30).for_each(|_| provider.answered(Duration::from_millis(100), 15));
        assert_eq!(provider.room(Time::ZERO), 15);
        (0..5).for_each(|_| provider.answered(Duration::from_millis(300), 15));
        assert_eq!(provider.room(Time::ZERO), 15, "a little slower is no queue yet");
        (0..5).for_each(|_| provider.answered(Duration::from_millis(500), 15));
        assert_eq!(provider.room(Time::ZERO), 10);
    }

    #[test]
    fn a_slow_providers_bound_follows_the_others() {
        let mut provider = Provider::new();
        assert_eq!(provider.patience(None), Duration::from_secs(2));
        assert_eq!(provider.patience(Some(Duration::from_millis(100))), Duration::from_millis(800));
        provider.answered(Duration::from_millis(300), 15);
        assert_eq!(provider.patience(None), Duration::from_millis(900), "RFC 6298: 300 + 4 * 150");
        assert_eq!(provider.patience(Some(Duration::ZERO)), Duration::from_millis(500));
    }

    #[test]
    fn three_failures_in_a_row_and_it_is_gone() {
        let mut provider = Provider::new();
        provider.failed(Time::ZERO);
        provider.failed(Time::ZERO);
        assert!(provider.is_usable() && provider.room(Time::ZERO) == 0, "it has a pause");
        provider.failed(Time::ZERO);
        assert_eq!(provider.standing, Standing::Gone);
        provider.revive();
        assert_eq!(provider.room(Time::ZERO), 2);
        provider.standing = Standing::Liar;
        provider.revive();
        assert!(!provider.is_usable(), "a liar stays one");
    }
}
