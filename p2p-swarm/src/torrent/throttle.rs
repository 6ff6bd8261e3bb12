//! How fast blocks come and go, at the most.
//!
//! What a peer sends cannot be slowed down but by asking it for less. So a limit of what comes is one of what is asked for,
//! and a limit of what goes one of what is read for peers; of each there is a token bucket for the session, and one for
//! each torrent. Only the bytes of blocks count: whatever else is said is little, and must not wait behind them.

use std::time::Duration;

use p2p_core::Time;

use crate::bucket::Bucket;

/// How much may be made up for after a pause, in seconds of the rate: a quarter.
const BURST: f64 = 0.25;
/// How long what nobody asked for holds up what is asked for, at the most. 5 s.
const UNASKED: f64 = 5.0;

/// Bytes of blocks per second, at most; `None`: as many as go. In any time no more go than the rate gives, a quarter of a
/// second more, and a block; and no more are asked for than that, or where a web seed is asked, half a second more. Peers
/// take turns, a block each, so however many there are each has its share.
///
/// Limits can be [changed](super::SetRates) at any time, and hold at once. Of what peers were asked for before, as much as
/// comes in a second at the new rate still comes, and a block of each; the rest is taken back, the last first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// That are sent. `None`.
    pub up: Option<u64>,
    /// That are asked for. `None`.
    pub down: Option<u64>,
}

/// One direction of a session, or of a torrent.
#[derive(Debug)]
pub(crate) struct Throttle(Option<(u64, Bucket)>);

impl Throttle {
    pub(crate) fn new(rate: Option<u64>) -> Throttle {
        Throttle(rate.map(|rate| {
            let per_second = rate as f64;
            (rate, Bucket::new(per_second, per_second * BURST, Time::ZERO))
        }))
    }

    /// Another limit holds from now on.
    pub(crate) fn set(&mut self, rate: Option<u64>, now: Time) {
        self.0 = match (self.0.take(), rate) {
            (Some((_, mut bucket)), Some(rate)) => {
                let per_second = rate as f64;
                bucket.set_rate(per_second, per_second * BURST, now);
                Some((rate, bucket))
            }
            (_, rate) => Throttle::new(rate).0,
        };
    }

    /// The limit, if there is one.
    pub(crate) fn rate(&self) -> Option<u64> {
        self.0.as_ref().map(|(rate, _)| *rate)
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.0.is_some()
    }

    /// How long until the next block may go: no time if it may now, for ever if none ever may.
    pub(crate) fn wait(&mut self, now: Time) -> Duration {
        self.0.as_mut().map_or(Duration::ZERO, |(_, bucket)| bucket.wait(now))
    }

    /// As many bytes as may go at once.
    pub(crate) fn burst(&self) -> u64 {
        self.0.as_ref().map_or(u64::MAX, |(rate, _)| (*rate as f64 * BURST) as u64)
    }

    /// So many bytes go.
    pub(crate) fn spend(&mut self, bytes: u64) {
        if let Some((_, bucket)) = &mut self.0 {
            bucket.spend(bytes as f64);
        }
    }

    /// So many bytes have come that nobody asked for.
    pub(crate) fn spend_unasked(&mut self, bytes: u64) {
        if let Some((rate, bucket)) = &mut self.0 {
            bucket.spend_at_most(bytes as f64, *rate as f64 * UNASKED);
        }
    }

    /// So many bytes will not go after all.
    pub(crate) fn give_back(&mut self, bytes: u64) {
        if let Some((_, bucket)) = &mut self.0 {
            bucket.give_back(bytes as f64);
        }
    }
}
