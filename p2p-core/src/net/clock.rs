//! The live world's clocks: the one place that reads them for machines.
#![allow(clippy::disallowed_types, reason = "a runner gives its machines the time")]

use std::time::{Duration, Instant, SystemTime};

use crate::Time;

/// A monotonic clock since its node started, and the time of day.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(super) fn now(&self) -> Time {
        Time::from_nanos(crate::time::nanos(self.0.elapsed()))
    }

    /// Since the Unix epoch; zero if the system's clock stands before it.
    pub(super) fn wall(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// The instant of a time, for a timer; `None` if it is too far away to come.
    pub(super) fn instant(&self, time: Time) -> Option<tokio::time::Instant> {
        self.0.checked_add(Duration::from_nanos(time.as_nanos())).map(tokio::time::Instant::from_std)
    }
}
