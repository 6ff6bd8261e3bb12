//! How what is passed from node to node finds its way around the silent, and out of dead ends.
//!
//! Greedy routing gets nowhere at a node none of whose neighbours is nearer and alive. From there a message takes a
//! detour, to a neighbour that is no nearer. It leaves the dead end out from then on, so that nobody sends it back there;
//! if the detour leads nowhere it goes back to whoever sent it on that, and from there another way: depth first.

use p2p_core::Peer;
use serde::{Deserialize, Serialize};

/// What a message on its way remembers. Each protocol says how many peers that are at most.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trail<P> {
    /// Peers found silent on the way, and dead ends, the latest last.
    pub(crate) avoid: Vec<P>,
    /// Who has sent it on a detour, the latest last.
    detours: Vec<P>,
}

impl<P: Peer> Trail<P> {
    /// That of a message that begins its way, and leaves these out.
    pub(crate) fn new(avoid: Vec<P>) -> Trail<P> {
        Trail { avoid, detours: Vec::new() }
    }

    /// What is believed of a message from another node.
    pub(crate) fn truncate(&mut self, most: usize) {
        self.avoid.truncate(most);
        self.detours.truncate(most);
    }

    /// Leaves a peer out from now on; of `most` the oldest is forgotten.
    pub(crate) fn avoid(&mut self, peer: P, most: usize) {
        if self.avoid.len() >= most {
            self.avoid.remove(0);
        }
        self.avoid.push(peer);
    }

    /// Where the message goes from this node, a dead end: on a detour if there is one, or back. Nowhere once it cannot
    /// remember more dead ends: it would only go in circles, for long, and where messages are lost in ever more copies, for
    /// whoever did not hear that one was accepted passes it on once more.
    pub(crate) fn around(&mut self, me: P, detour: Option<P>, most: usize) -> Option<P> {
        if self.avoid.len() >= most {
            return None;
        }
        // It may have been sent on a detour from here before, to somebody who was silent.
        self.detours.retain(|peer| *peer != me);
        let to = match detour {
            Some(_) => {
                self.detours.truncate(most - 1);
                self.detours.push(me);
                detour
            }
            None => self.detours.pop(),
        };
        if to.is_some() && !self.avoid.contains(&me) {
            self.avoid.push(me);
        }
        to
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use p2p_core::{Rng, SimPeer};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whoever_was_silent_on_a_detour_does_not_have_it_come_back_to_where_it_is() {
        let [before, me, silent] = [1, 2, 3].map(SimPeer);
        let mut trail = Trail::new(Vec::new());
        assert_eq!(trail.around(before, Some(me), 8), Some(me));
        assert_eq!(trail.around(me, Some(silent), 8), Some(silent));
        trail.avoid(silent, 8);
        assert_eq!(trail.around(me, None, 8), Some(before));
        assert_eq!(trail.avoid, [before, me, silent]);
        assert_eq!(trail.around(before, None, 8), None, "there it began");
    }

    proptest! {
        /// In any graph in which every node is a dead end, a message that remembers enough gets to every node that there is
        /// a way to, once, and back each time.
        #[test]
        fn whatever_can_be_reached_is(seed in any::<u64>(), nodes in 2u32..40, edges in 0u64..80) {
            let mut rng = Rng::new(seed);
            let mut around: BTreeMap<SimPeer, BTreeSet<SimPeer>> = BTreeMap::new();
            for _ in 0..edges {
                let [a, b] = [0; 2].map(|_| SimPeer(rng.below(nodes.into()) as u32));
                around.entry(a).or_default().insert(b);
                around.entry(b).or_default().insert(a);
            }
            let next = |at: &SimPeer, avoid: &[SimPeer]| {
                around.get(at)?.iter().find(|peer| *peer != at && !avoid.contains(peer)).copied()
            };
            let mut reached = vec![SimPeer(0)];
            let mut i = 0;
            while let Some(peer) = reached.get(i).copied() {
                let new = around.get(&peer).into_iter().flatten().copied().filter(|peer| !reached.contains(peer));
                reached.extend(new.collect::<Vec<_>>());
                i += 1;
            }
            let (mut at, mut trail) = (SimPeer(0), Trail::new(Vec::new()));
            let mut visited = BTreeSet::from([at]);
            let mut steps = 0;
            while let Some(to) = trail.around(at, next(&at, &trail.avoid), 1000) {
                visited.insert(to);
                at = to;
                steps += 1;
            }
            prop_assert_eq!(visited, reached.iter().copied().collect());
            prop_assert_eq!((at, steps), (SimPeer(0), 2 * (reached.len() - 1)));
        }
    }
}
