//! What a super-node knows of its clients' users, and who wants to be told.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::Time;

use super::msg::MAX_NAMED;
use super::presence::Presence;
use crate::place::Place;
use crate::search::{Library, Query};

/// How many watch one user at most.
const WATCHERS: usize = 64;

/// At most as many users as it was made for, each with at most 64 watchers. Who comes when it is full takes the place of
/// one who has left: of whoever has said so, or is connected no more, the one whose time is over first.
pub(super) struct Directory<P> {
    users: BTreeMap<String, User<P>>,
    /// The same, by the words of their names and profiles.
    index: Library,
    most: usize,
}

struct User<P> {
    presence: Presence,
    /// Who has brought it.
    by: P,
    /// Until when each is told.
    watchers: BTreeMap<P, Time>,
}

impl<P: Place> Directory<P> {
    pub(super) fn new(most: usize) -> Directory<P> {
        Directory { users: BTreeMap::new(), index: Library::new(most), most }
    }

    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Presence> {
        self.users.get(name).map(|user| &user.presence)
    }

    /// Who has brought what is known of a user.
    pub(super) fn client(&self, name: &str) -> Option<P> {
        self.users.get(name).map(|user| user.by)
    }

    /// The users whose names and profiles have all words of a text, as many as one answer has room for.
    pub(super) fn find(&self, text: &str) -> Vec<Presence> {
        let query = Query::text(text);
        let items = self.index.find(&query).filter_map(|(_, item)| self.get(&item.name));
        items.filter(|user| user.whereabouts().online).take(MAX_NAMED).cloned().collect()
    }

    /// Whether this would replace what is known.
    pub(super) fn is_news(&self, presence: &Presence) -> bool {
        self.get(presence.name()).is_none_or(|known| known.sequence() < presence.sequence())
    }

    /// Notes what a client says, which is genuine and news, in the place of another user that it had; others are there
    /// if they are connected. Who is to be told.
    pub(super) fn insert(
        &mut self,
        by: P,
        presence: Presence,
        now: Time,
        is_connected: impl Fn(&P) -> bool,
    ) -> Vec<P> {
        let name = presence.name().to_owned();
        let former = self.users.iter().find(|(other, user)| user.by == by && **other != name);
        if let Some(former) = former.map(|(former, _)| former.clone()) {
            self.remove(&former);
        }
        if let Some(user) = self.users.get_mut(&name) {
            if user.presence.whereabouts().profile != presence.whereabouts().profile {
                // One that is no item any more is found no more.
                let _: Result<u32, _> = self.index.insert(presence.item());
            }
            user.presence = presence;
            user.by = by;
            let watchers = user.watchers.iter().filter(|(_, until)| **until > now);
            return watchers.map(|(peer, _)| *peer).collect();
        }
        if self.users.len() >= self.most {
            let rank = |user: &User<P>| {
                let is_there = user.presence.whereabouts().online && is_connected(&user.by);
                (is_there, user.presence.expires())
            };
            let first = self.users.iter().min_by_key(|(_, user)| rank(user));
            if let Some(first) = first.map(|(name, _)| name.clone()) {
                self.remove(&first);
            }
        }
        if self.index.insert(presence.item()).is_ok() {
            self.users.insert(name, User { presence, by, watchers: BTreeMap::new() });
        }
        Vec::new()
    }

    /// Somebody wants to be told of a user until then.
    pub(super) fn watch(&mut self, name: &str, watcher: P, now: Time, until: Time) {
        let Some(user) = self.users.get_mut(name) else { return };
        user.watchers.retain(|_, until| *until > now);
        if user.watchers.contains_key(&watcher) || user.watchers.len() < WATCHERS {
            user.watchers.insert(watcher, until);
        }
    }

    /// Forgets whose time is over; whom that concerns.
    pub(super) fn expire(&mut self, wall: Duration) -> Vec<(String, Vec<P>)> {
        let over = self.users.iter().filter(|(_, user)| user.presence.is_over(wall));
        let over: Vec<String> = over.map(|(name, _)| name.clone()).collect();
        let watchers = over.into_iter().map(|name| {
            let watchers = self.remove(&name);
            (name, watchers)
        });
        watchers.collect()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Directory::new(self.most);
    }

    fn remove(&mut self, name: &str) -> Vec<P> {
        self.index.remove(name);
        self.users.remove(name).map(|user| user.watchers.into_keys().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use p2p_core::{Keypair, SimPeer};

    use super::super::certificate::Certificate;
    use super::super::presence::Whereabouts;
    use super::*;

    fn presence(peer: u32, expires: u64) -> Presence {
        let (keypair, contact) = (Keypair::from_seed(&[peer as u8; 32]), SimPeer(peer).contact().unwrap());
        let certificate = Certificate::new(&keypair, format!("user{peer}"), keypair.id(), 1000);
        let whereabouts = Whereabouts {
            contact,
            open: true,
            through: Vec::new(),
            online: true,
            profile: "somewhere".to_owned(),
        };
        Presence::new(&keypair, certificate, whereabouts, 1, expires)
    }

    /// Those who have left stay known for a while, and keep out nobody who has come; nor do they make those leave who are
    /// there, though they have said so later.
    #[test]
    fn who_comes_has_a_place_and_who_has_left_makes_room() {
        let mut directory = Directory::new(3);
        let there = [1, 4, 5].map(SimPeer);
        for (peer, expires) in [(1, 50), (2, 60), (3, 80), (4, 95), (5, 99)] {
            let is_connected = |peer: &SimPeer| there.contains(peer);
            directory.insert(SimPeer(peer), presence(peer, expires), Time::ZERO, is_connected);
        }
        let known = (1..=5).filter(|peer| directory.get(&format!("user{peer}")).is_some());
        assert_eq!((known.collect::<Vec<_>>(), directory.len()), (vec![1, 4, 5], 3));
        assert_eq!(directory.find("somewhere").len(), 3);
    }
}
