//! How fast something goes, of late.

use std::time::Duration;

/// Bytes per second: each look counts three tenths, what was before the rest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    /// Bytes since the last look.
    recent: u64,
    smoothed: f64,
}

impl Rate {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.recent += bytes;
    }

    /// Brings it up to date, after so much time.
    pub(crate) fn measure(&mut self, elapsed: Duration) {
        let now = std::mem::take(&mut self.recent) as f64 / elapsed.as_secs_f64().max(1e-3);
        self.smoothed = if self.smoothed == 0.0 { now } else { 0.7 * self.smoothed + 0.3 * now };
    }

    pub(crate) fn per_second(&self) -> u64 {
        self.smoothed as u64
    }
}
