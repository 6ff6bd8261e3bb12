//! What is known of each member, and which news is newer (DSN 2002 §4.2).

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::{Peer, Time};

use super::{MAX_LEAP, MemberState, News};

/// The members, and those that were: no more than may be.
#[derive(Clone, Debug)]
pub(super) struct Members<P> {
    all: BTreeMap<P, Member>,
    /// Those who live, as far as is known, the suspected too; sorted.
    alive: Vec<P>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    incarnation: u64,
    state: MemberState,
    since: Time,
}

impl<P> Default for Members<P> {
    fn default() -> Members<P> {
        Members { all: BTreeMap::new(), alive: Vec::new() }
    }
}

/// What news has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing: it is old.
    None,
    /// A member that counted as dead, or was not known, lives.
    Up,
    /// A member is dead, or has left.
    Down,
    /// Whether a member is suspected, or its incarnation.
    Other,
}

fn lives(state: MemberState) -> bool {
    matches!(state, MemberState::Alive | MemberState::Suspect)
}

impl<P: Peer> Members<P> {
    pub(super) fn alive(&self) -> &[P] {
        &self.alive
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn state(&self, peer: P) -> Option<MemberState> {
        self.all.get(&peer).map(|member| member.state)
    }

    /// What is known of a member.
    pub(super) fn news_of(&self, peer: P) -> Option<News<P>> {
        let Member { incarnation, state, .. } = *self.all.get(&peer)?;
        Some(News { peer, incarnation, state })
    }

    /// What is known of those who live.
    pub(super) fn news(&self) -> impl Iterator<Item = News<P>> {
        self.alive.iter().filter_map(|peer| self.news_of(*peer))
    }

    /// Takes in news. A higher incarnation is newer, unless it is far too high; of the same incarnation, the worse. The
    /// dead live again by a higher one only.
    pub(super) fn apply(&mut self, news: News<P>, now: Time) -> Change {
        let News { peer, incarnation, state } = news;
        let known = self.all.get(&peer).copied();
        let newer = match known {
            None => lives(state),
            Some(known) if incarnation.saturating_sub(known.incarnation) > MAX_LEAP => false,
            Some(known) if lives(known.state) && !lives(state) => incarnation >= known.incarnation,
            Some(known) => (incarnation, state) > (known.incarnation, known.state),
        };
        if !newer {
            return Change::None;
        }
        self.all.insert(peer, Member { incarnation, state, since: now });
        match (known.is_some_and(|known| lives(known.state)), lives(state)) {
            (false, true) => {
                if let Err(at) = self.alive.binary_search(&peer) {
                    self.alive.insert(at, peer);
                }
                Change::Up
            }
            (true, false) => {
                self.alive.retain(|alive| *alive != peer);
                Change::Down
            }
            (false, false) => Change::None,
            (true, true) => Change::Other,
        }
    }

    /// A member itself says which incarnation it is in: from what is far from that, nothing follows.
    pub(super) fn correct(&mut self, peer: P, incarnation: u64) {
        let known = self.all.get_mut(&peer);
        if let Some(known) = known.filter(|known| known.incarnation.abs_diff(incarnation) > MAX_LEAP) {
            known.incarnation = incarnation.saturating_sub(1);
        }
    }

    /// Forgets those who have been dead for so long.
    pub(super) fn forget(&mut self, now: Time, after: Duration) {
        self.all.retain(|_, member| lives(member.state) || member.since + after > now);
    }
}
