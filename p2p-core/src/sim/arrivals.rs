//! When the last ordered message between two peers arrives, so that the next does not overtake it.

use super::SimPeer;
use crate::prefetch;

/// The last arrivals of what one node has sent, as long as it is under way. They are kept with the node, whose memory is
/// at hand when it sends.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// Sorted by whom it goes to.
    under_way: Vec<Last>,
    /// When nothing is under way any more.
    until: u64,
}

#[derive(Debug)]
struct Last {
    to: SimPeer,
    at: u64,
}

/// A list that is empty keeps room for so many.
const FEW: usize = 4;

impl Outbound {
    /// When an ordered message that could arrive at `at` does, not before the ones sent to the same peer earlier.
    pub(super) fn next(&mut self, now: u64, to: SimPeer, at: u64) -> u64 {
        if self.until <= now {
            self.under_way.clear();
            self.under_way.shrink_to(FEW);
        } else if self.under_way.len() == self.under_way.capacity() {
            self.under_way.retain(|last| last.at > now);
        }
        let at = match self.under_way.binary_search_by_key(&to, |last| last.to) {
            Ok(place) => {
                let last = &mut self.under_way[place];
                last.at = last.at.max(at);
                last.at
            }
            Err(place) => {
                self.under_way.insert(place, Last { to, at });
                at
            }
        };
        self.until = self.until.max(at);
        at
    }

    pub(super) fn warm(&self) {
        prefetch(&self.under_way[..]);
    }
}
