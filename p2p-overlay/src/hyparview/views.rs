//! The two lists: neighbours, and those to replace them by.

use p2p_core::{Health, Peer, Rng, Suspicion, prefetch};

/// The active view, sorted, and the passive view, in no order. Nobody is in both.
#[derive(Clone, Debug)]
pub(super) struct Views<P> {
    active: Vec<P>,
    /// What is known of each neighbour, in the same order.
    signs: Vec<Signs>,
    passive: Vec<P>,
}

/// Whether a neighbour lives.
#[derive(Clone, Copy, Debug, Default)]
struct Signs {
    /// It has said something since it was looked after.
    heard: bool,
    suspicion: Suspicion,
}

impl<P> Default for Views<P> {
    fn default() -> Views<P> {
        Views { active: Vec::new(), signs: Vec::new(), passive: Vec::new() }
    }
}

impl<P: Peer> Views<P> {
    pub(super) fn active(&self) -> &[P] {
        &self.active
    }

    pub(super) fn passive(&self) -> &[P] {
        &self.passive
    }

    pub(super) fn is_active(&self, peer: P) -> bool {
        self.active.binary_search(&peer).is_ok()
    }

    pub(super) fn warm(&self) {
        prefetch(&self.active[..]);
        prefetch(&self.signs[..]);
    }

    /// Adds a neighbour. Says whether it was none.
    pub(super) fn insert(&mut self, peer: P) -> bool {
        let Err(at) = self.active.binary_search(&peer) else { return false };
        self.active.insert(at, peer);
        self.signs.insert(at, Signs { heard: true, ..Signs::default() });
        self.forget(peer);
        true
    }

    /// Removes a neighbour. Says whether it was one.
    pub(super) fn remove(&mut self, peer: P) -> bool {
        let Ok(at) = self.active.binary_search(&peer) else { return false };
        self.active.remove(at);
        self.signs.remove(at);
        true
    }

    /// Notes one who is no neighbour; if there is no room, one of `instead` has to go, or any.
    pub(super) fn note(&mut self, rng: &mut Rng, peer: P, most: usize, instead: &mut Vec<P>) {
        if self.is_active(peer) || self.passive.contains(&peer) {
            return;
        }
        while self.passive.len() >= most {
            let known = |peer| self.passive.iter().position(|known| *known == peer);
            let at = instead.pop().map_or_else(|| Some(rng.index(self.passive.len())), known);
            if let Some(at) = at {
                self.passive.swap_remove(at);
            }
        }
        self.passive.push(peer);
    }

    /// Forgets one who is no neighbour.
    pub(super) fn forget(&mut self, peer: P) {
        self.passive.retain(|known| *known != peer);
    }

    /// A neighbour has said something.
    pub(super) fn heard(&mut self, peer: P) {
        if let Ok(at) = self.active.binary_search(&peer) {
            self.signs[at].heard = true;
        }
    }

    /// Looks at all neighbours: calls `ask` with those who have said nothing since the last time, and `lose` with those
    /// who have not for long.
    pub(super) fn look_after(&mut self, mut ask: impl FnMut(P), mut lose: impl FnMut(P)) {
        for (peer, signs) in self.active.iter().zip(&mut self.signs) {
            if std::mem::take(&mut signs.heard) {
                signs.suspicion.heard();
                continue;
            }
            if signs.suspicion.health() == Health::Dead {
                lose(*peer);
                continue;
            }
            signs.suspicion.missed();
            ask(*peer);
        }
    }

    /// A random neighbour that suits.
    pub(super) fn any_active(&self, rng: &mut Rng, suits: impl Fn(P) -> bool) -> Option<P> {
        pick(rng, &self.active, suits)
    }

    /// A random one of the others that suits.
    pub(super) fn any_passive(&self, rng: &mut Rng, suits: impl Fn(P) -> bool) -> Option<P> {
        pick(rng, &self.passive, suits)
    }

    /// Some of each, at random, without one.
    pub(super) fn some(&self, rng: &mut Rng, active: usize, passive: usize, but: P) -> Vec<P> {
        let mut some = sample(rng, &self.active, active, but);
        some.extend(sample(rng, &self.passive, passive, but));
        some
    }
}

fn pick<P: Peer>(rng: &mut Rng, from: &[P], suits: impl Fn(P) -> bool) -> Option<P> {
    let count = from.iter().filter(|peer| suits(**peer)).count();
    let at = rng.index(count);
    from.iter().copied().filter(|peer| suits(*peer)).nth(at)
}

fn sample<P: Peer>(rng: &mut Rng, from: &[P], most: usize, but: P) -> Vec<P> {
    let mut all: Vec<P> = from.iter().copied().filter(|peer| *peer != but).collect();
    rng.shuffle(&mut all);
    all.truncate(most);
    all
}
