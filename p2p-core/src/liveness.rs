//! How long a peer may take to answer, and when its silence means something.
//!
//! [`Rtt`] is TCP's estimator (RFC 6298): a smoothed round-trip time and its deviation give a timeout that backs off
//! with every loss. [`Proximity`] is the smoothed time alone, for tables that prefer who is near. [`Suspicion`] counts unanswered probes: a peer is first suspected, and dead only when further
//! probes have gone unanswered too, so that one lost packet costs nobody its neighbour. What is a probe is up to each
//! protocol. Live, QUIC also asks silent connections for a sign of life ([`Limits::silence_timeout`](crate::Limits))
//! and estimates the round-trip time of each (`net::Node::rtt`).

use std::num::NonZeroU32;
use std::time::Duration;

/// A round-trip time estimate (RFC 6298).
///
/// ```
/// use p2p_core::Rtt;
/// use std::time::Duration;
///
/// let mut rtt = Rtt::default();
/// assert_eq!(rtt.timeout(), Duration::from_secs(1));
/// rtt.sample(Duration::from_millis(100));
/// assert_eq!(rtt.timeout(), Duration::from_millis(300));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rtt {
    /// Smoothed time and deviation, once there is a sample.
    estimate: Option<(Duration, Duration)>,
    /// How often the timeout was doubled since the last sample.
    backoff: u32,
}

impl Rtt {
    /// The timeout before the first sample (RFC 6298 §2.1).
    pub const INITIAL: Duration = Duration::from_secs(1);
    /// The shortest timeout. RFC 6298 says a second, for TCP's delayed acknowledgements; ours come at once.
    pub const MIN: Duration = Duration::from_millis(50);
    /// The longest timeout (RFC 6298 §2.5).
    pub const MAX: Duration = Duration::from_secs(60);

    /// Takes in one measured round trip, of a question that was asked only once (Karn's algorithm, §3).
    pub fn sample(&mut self, measured: Duration) {
        let measured = measured.min(Rtt::MAX);
        self.backoff = 0;
        self.estimate = Some(match self.estimate {
            None => (measured, measured / 2),
            Some((smoothed, deviation)) => {
                let error = smoothed.abs_diff(measured);
                (smoothed * 7 / 8 + measured / 8, deviation * 3 / 4 + error / 4)
            }
        });
    }

    /// Notes that an answer did not come in time: the timeout doubles (§5.5).
    pub fn lost(&mut self) {
        self.backoff = (self.backoff + 1).min(16);
    }

    /// The smoothed round-trip time, once there is a sample.
    pub fn smoothed(&self) -> Option<Duration> {
        self.estimate.map(|(smoothed, _)| smoothed)
    }

    /// How long to wait for an answer (§2.3).
    pub fn timeout(&self) -> Duration {
        let base = self.estimate.map_or(Rtt::INITIAL, |(smoothed, deviation)| smoothed + deviation * 4);
        base.max(Rtt::MIN).saturating_mul(1 << self.backoff).min(Rtt::MAX)
    }
}

/// How near a peer is: its round trip, smoothed as [`Rtt`] does, in the four bytes that a table of hundreds of thousands
/// has room for. It compares: who is nearer is less, and nobody is further than who was never measured.
///
/// ```
/// use p2p_core::Proximity;
/// use std::time::Duration;
///
/// let mut proximity = Proximity::UNKNOWN;
/// assert_eq!(proximity.rtt(), None);
/// proximity.sample(Duration::from_millis(80));
/// proximity.sample(Duration::from_millis(160));
/// assert_eq!(proximity.rtt(), Some(Duration::from_millis(90)));
/// assert!(proximity < Proximity::UNKNOWN);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proximity(NonZeroU32);

impl Proximity {
    /// Of whom no round trip has been measured.
    pub const UNKNOWN: Proximity = Proximity(NonZeroU32::MAX);

    /// After one round trip.
    pub fn of(measured: Duration) -> Proximity {
        let micros = measured.as_micros().clamp(1, u128::from(u32::MAX) - 1) as u32;
        NonZeroU32::new(micros).map_or(Proximity::UNKNOWN, Proximity)
    }

    /// Takes in one measured round trip.
    pub fn sample(&mut self, measured: Duration) {
        let new = Proximity::of(measured);
        *self = match self.micros() {
            None => new,
            Some(smoothed) => {
                let smoothed = smoothed - smoothed / 8 + new.0.get() / 8;
                Proximity(NonZeroU32::new(smoothed.clamp(1, u32::MAX - 1)).unwrap_or(new.0))
            }
        };
    }

    /// The smoothed round trip in microseconds, at least 1, once there is a sample.
    #[inline]
    pub fn micros(self) -> Option<u32> {
        (self != Proximity::UNKNOWN).then(|| self.0.get())
    }

    /// The smoothed round trip, once there is a sample.
    pub fn rtt(self) -> Option<Duration> {
        self.micros().map(|micros| Duration::from_micros(micros.into()))
    }
}

impl Default for Proximity {
    fn default() -> Proximity {
        Proximity::UNKNOWN
    }
}

/// What a peer's silence means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It has answered.
    Alive,
    /// Some probes went unanswered: route around it, and probe on.
    Suspected,
    /// As many went unanswered as it takes.
    Dead,
}

/// Unanswered probes of one peer.
///
/// ```
/// use p2p_core::{Health, Suspicion};
///
/// let mut suspicion = Suspicion::default();
/// assert_eq!(suspicion.missed(), Health::Suspected);
/// suspicion.heard();
/// assert_eq!(suspicion.health(), Health::Alive);
/// suspicion.missed();
/// suspicion.missed();
/// assert_eq!(suspicion.missed(), Health::Dead);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suspicion {
    unanswered: u32,
}

impl Suspicion {
    /// Probes in a row that must go unanswered. At 5% loss each way three in a row are lost once in a thousand.
    pub const DEAD_AFTER: u32 = 3;

    /// A sign of life.
    pub fn heard(&mut self) {
        self.unanswered = 0;
    }

    /// A probe was not answered in time. Says how things stand now.
    pub fn missed(&mut self) -> Health {
        self.unanswered = self.unanswered.saturating_add(1);
        self.health()
    }

    /// Probes that went unanswered since the last sign of life.
    #[inline]
    pub fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// How things stand.
    #[inline]
    pub fn health(&self) -> Health {
        match self.unanswered {
            0 => Health::Alive,
            n if n < Suspicion::DEAD_AFTER => Health::Suspected,
            _ => Health::Dead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_estimate_follows_rfc_6298() {
        let mut rtt = Rtt::default();
        rtt.sample(Duration::from_millis(800));
        assert_eq!(
            (rtt.smoothed(), rtt.timeout()),
            (Some(Duration::from_millis(800)), Duration::from_millis(2400))
        );
        rtt.sample(Duration::from_millis(1600));
        // SRTT = 7/8 800 + 1/8 1600 = 900; RTTVAR = 3/4 400 + 1/4 800 = 500.
        assert_eq!(
            (rtt.smoothed(), rtt.timeout()),
            (Some(Duration::from_millis(900)), Duration::from_millis(2900))
        );
        rtt.lost();
        assert_eq!(rtt.timeout(), Duration::from_millis(5800));
        rtt.sample(Duration::from_millis(900));
        assert!(rtt.timeout() < Duration::from_millis(2900), "an answer ends the backing off");
    }

    #[test]
    fn a_lost_probe_is_no_death() {
        let mut suspicion = Suspicion::default();
        assert_eq!([suspicion.missed(), suspicion.missed()], [Health::Suspected; 2]);
        suspicion.heard();
        assert_eq!(suspicion.health(), Health::Alive);
        let missed: Vec<_> = (0..3).map(|_| suspicion.missed()).collect();
        assert_eq!(missed[2], Health::Dead);
    }

    proptest! {
        #[test]
        fn proximity_is_the_smoothed_time(samples in prop::collection::vec(0..60_000_000u32, 1..50)) {
            let (mut proximity, mut rtt) = (Proximity::UNKNOWN, Rtt::default());
            for micros in samples {
                proximity.sample(Duration::from_micros(micros.into()));
                rtt.sample(Duration::from_micros(micros.into()));
            }
            let (one, other) = (proximity.rtt().unwrap(), rtt.smoothed().unwrap());
            prop_assert!(one.abs_diff(other) < Duration::from_micros(20), "{one:?} and {other:?}");
        }

        #[test]
        fn a_measured_peer_is_nearer_than_an_unknown_one(samples in prop::collection::vec(any::<Duration>(), 1..9)) {
            let mut proximity = Proximity::default();
            samples.into_iter().for_each(|sample| proximity.sample(sample));
            prop_assert!(proximity < Proximity::UNKNOWN);
        }

        #[test]
        fn the_timeout_stays_in_bounds(samples in prop::collection::vec(prop::option::of(any::<Duration>()), 0..50)) {
            let mut rtt = Rtt::default();
            for sample in samples {
                match sample {
                    Some(sample) => rtt.sample(sample),
                    None => rtt.lost(),
                }
                prop_assert!((Rtt::MIN..=Rtt::MAX).contains(&rtt.timeout()));
            }
        }
    }
}
