//! The floods that a node has had, so as to take each once.

use std::collections::{BTreeMap, VecDeque};

use p2p_core::Peer;

use super::spread::Ways;

/// The last so many floods: the publisher of each and its number, and which ways this node has passed it on.
#[derive(Clone, Debug)]
pub(super) struct Seen<P> {
    floods: BTreeMap<(P, u64), Ways>,
    /// In the order in which they came.
    order: VecDeque<(P, u64)>,
    most: usize,
}

impl<P: Peer> Seen<P> {
    pub(super) fn new(most: usize) -> Seen<P> {
        Seen { floods: BTreeMap::new(), order: VecDeque::new(), most: most.max(1) }
    }

    /// Notes that a flood is passed on these ways. Gives those that are new, and says whether all of it is.
    pub(super) fn insert(&mut self, publisher: P, sequence: u64, ways: Ways) -> (Ways, bool) {
        let flood = (publisher, sequence);
        if let Some(done) = self.floods.get_mut(&flood) {
            let new = ways.without(*done);
            *done = done.with(ways);
            return (new, false);
        }
        if self.order.len() >= self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.floods.remove(&oldest);
        }
        self.floods.insert(flood, ways);
        self.order.push_back(flood);
        (ways, true)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}
