//! Presence: what this node says of itself, and what it hears of buddies.

use std::collections::BTreeSet;
use std::time::Duration;

use p2p_core::{Cx, OpId, Time};

use super::certificate::{Certificate, is_user_name};
use super::login::{LoginError, LoginRequest};
use super::presence::{Presence, Whereabouts};
use super::request::{Buddy, CallError};
use super::searching::Why;
use super::{Skype, SkypeEvent, SkypeMsg, SkypeNode, SkypeOutcome, SkypeTimer};
use crate::place::Place;
use crate::promotion::Role;

/// How soon a login is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Who is not there is looked for at least once in as many upkeeps.
const MOST_PAUSES: u32 = 12;

/// Somebody on the buddy list.
#[derive(Debug)]
pub(super) struct Watched<P> {
    /// The newest that was heard.
    latest: Option<Presence>,
    /// Whether this node's user was told that the buddy is there.
    online: bool,
    /// The super-nodes that have said since the last look that they have the buddy.
    confirmed: BTreeSet<P>,
    /// Who is not there is looked for again after this, and then after twice as long,
    pause: Duration,
    /// not before then.
    again: Time,
}

impl<P> Watched<P> {
    pub(super) fn presence(&self) -> Option<&Presence> {
        self.latest.as_ref()
    }
}

impl<P: Place> SkypeNode<P> {
    // ---- login

    /// Has the name certified, and again when half of the certificate's time is over; whoever does not answer is asked
    /// again.
    pub(super) fn log_in(&mut self, cx: &mut Cx<'_, Skype<P>>) {
        cx.set_timer(AGAIN, SkypeTimer::Login);
        let request = LoginRequest::new(&self.user.keypair, &self.user.name, &self.user.server, cx.wall());
        cx.send(P::at(self.user.login, 0), SkypeMsg::Login(request));
    }

    pub(super) fn on_certified(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, certificate: Certificate) {
        let own = certificate.name() == self.user.name && certificate.key() == self.user.keypair.id();
        let known = self.certificate.as_ref().is_some_and(|known| known.expires() >= certificate.expires());
        if !from.may_be(&self.user.login)
            || !own
            || known
            || !self.may_check(cx.now(), true)
            || !certificate.is_genuine(&self.user.server, cx.wall())
        {
            return;
        }
        let left = Duration::from_secs(certificate.expires()).saturating_sub(cx.wall());
        cx.set_timer((left / 2).max(AGAIN), SkypeTimer::Login);
        cx.emit(SkypeEvent::LoggedIn(certificate.clone()));
        self.login_ends(cx, &Ok(certificate.clone()));
        self.certificate = Some(certificate);
        self.present(cx);
    }

    /// A user wants to know when the name is certified.
    pub(super) fn wait_for_login(&mut self, cx: &mut Cx<'_, Skype<P>>, op: OpId) {
        match &self.certificate {
            Some(certificate) => cx.finish(op, SkypeOutcome::LoggedIn(Ok(certificate.clone()))),
            None if self.uncertified.len() < self.config.capacity => drop(self.uncertified.insert(op)),
            None => cx.finish(op, SkypeOutcome::LoggedIn(Err(LoginError::Busy))),
        }
    }

    fn login_ends(&mut self, cx: &mut Cx<'_, Skype<P>>, certified: &Result<Certificate, LoginError>) {
        for op in std::mem::take(&mut self.uncertified) {
            cx.finish(op, SkypeOutcome::LoggedIn(certified.clone()));
        }
    }

    /// Only who has no certificate is told: the one there is stays good.
    pub(super) fn on_refused(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, why: LoginError) {
        if from.may_be(&self.user.login) && self.certificate.is_none() {
            cx.emit(SkypeEvent::Refused(why));
            // Who is told to come later, comes later.
            if why != LoginError::Busy {
                self.login_ends(cx, &Err(why));
            }
        }
    }

    // ---- its own presence

    /// Says where it is, to the super-nodes that it is next to; as one of them, to itself first. The others have what it
    /// says only if it was a client of theirs before, so that those who watch it there learn where to go.
    pub(super) fn present(&mut self, cx: &mut Cx<'_, Skype<P>>) {
        let Some(certificate) = &self.certificate else { return };
        let through = if self.is_super() { vec![self.user.contact] } else { self.hubs() };
        let profile = self.user.profile.clone();
        let whereabouts = Whereabouts {
            contact: self.user.contact,
            open: self.user.open,
            through,
            online: self.online,
            profile,
        };
        // By the clock, so that a node that has started anew goes on where it was.
        let clock = u64::try_from(cx.wall().as_micros()).unwrap_or(u64::MAX);
        let last = self.own.as_ref().map_or(0, Presence::sequence);
        let sequence = clock.max(last.saturating_add(1));
        let expires = cx.wall().saturating_add(self.config.lifetime).as_secs();
        let own = Presence::new(&self.user.keypair, certificate.clone(), whereabouts, sequence, expires);
        self.said = cx.now();
        self.own = Some(own.clone());
        if self.is_super() {
            let me = self.me();
            self.keep(cx, me, own.clone());
        }
        for hub in self.super_nodes().collect::<Vec<P>>() {
            cx.send(hub, SkypeMsg::Register(Box::new(own.clone())));
        }
    }

    /// Says whether the user is there.
    pub(super) fn set_online(&mut self, cx: &mut Cx<'_, Skype<P>>, online: bool) -> bool {
        let was = std::mem::replace(&mut self.online, online);
        if was != online {
            self.present(cx);
        }
        was
    }

    pub(super) fn look_after_users(&mut self, cx: &mut Cx<'_, Skype<P>>) {
        for (name, watchers) in self.directory.expire(cx.wall()) {
            for watcher in watchers {
                cx.send(watcher, SkypeMsg::Told { name: name.clone(), presence: None });
            }
        }
        if cx.now().since(self.said) >= self.config.lifetime / 3 {
            self.present(cx);
        }
    }

    // ---- as a super-node

    /// A client says where it is, or a super-node that was a client before.
    pub(super) fn on_register(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, presence: Presence) {
        let Some(neighbour) = self.neighbours.get(&from).filter(|one| one.up) else { return };
        let concerns = neighbour.role == Role::Leaf || self.directory.get(presence.name()).is_some();
        if !concerns || !self.is_super() || !self.directory.is_news(&presence) {
            return;
        }
        if from.may_be(&presence.whereabouts().contact) && self.believes(cx, &presence, true) {
            self.keep(cx, from, presence);
        }
    }

    /// Notes what a client, or this node itself, says, and tells those who watch it.
    fn keep(&mut self, cx: &mut Cx<'_, Skype<P>>, by: P, presence: Presence) {
        let (me, neighbours) = (self.me(), &self.neighbours);
        let is_client = |peer: &P| neighbours.get(peer).is_some_and(|one| one.up && one.role == Role::Leaf);
        let is_connected = |peer: &P| *peer == me || is_client(peer);
        for watcher in self.directory.insert(by, presence.clone(), cx.now(), is_connected) {
            let (name, presence) = (presence.name().to_owned(), Some(Box::new(presence.clone())));
            cx.send(watcher, SkypeMsg::Told { name, presence });
        }
    }

    pub(super) fn on_watch(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, name: String) {
        if !is_user_name(&name) {
            return;
        }
        let until = cx.now() + 4 * self.config.upkeep;
        self.directory.watch(&name, from, cx.now(), until);
        let presence = self.directory.get(&name).cloned().map(Box::new);
        cx.send(from, SkypeMsg::Told { name, presence });
    }

    // ---- buddies

    pub(super) fn set_buddy(&mut self, cx: &mut Cx<'_, Skype<P>>, buddy: Buddy) -> Result<(), CallError> {
        let Buddy { name, on } = buddy;
        if !on {
            self.buddies.remove(&name);
            return Ok(());
        }
        if self.buddies.contains_key(&name) {
            return Ok(());
        }
        if self.buddies.len() >= self.config.buddies {
            return Err(CallError::Busy);
        }
        let (pause, again) = (self.config.upkeep, cx.now());
        let watched = Watched { latest: None, online: false, confirmed: BTreeSet::new(), pause, again };
        self.buddies.insert(name.clone(), watched);
        self.seek(cx, &name, Why::Buddy);
        Ok(())
    }

    /// Asks the super-nodes of each buddy what they know; who has none that answers is looked for.
    pub(super) fn look_after_buddies(&mut self, cx: &mut Cx<'_, Skype<P>>) {
        for name in self.buddies.keys().cloned().collect::<Vec<String>>() {
            let Some(watched) = self.buddies.get_mut(&name) else { continue };
            let is_over = watched.latest.as_ref().is_none_or(|latest| latest.is_over(cx.wall()));
            if is_over {
                watched.latest = None;
            }
            let confirmed = !std::mem::take(&mut watched.confirmed).is_empty();
            if confirmed {
                watched.pause = self.config.upkeep;
            } else if cx.now() >= watched.again {
                watched.again = cx.now() + watched.pause;
                watched.pause = (2 * watched.pause).min(MOST_PAUSES * self.config.upkeep);
                self.seek(cx, &name, Why::Buddy);
            }
            self.watch(cx, &name);
            self.tell_user(cx, &name);
        }
    }

    fn watch(&self, cx: &mut Cx<'_, Skype<P>>, name: &str) {
        let latest = self.buddies.get(name).and_then(|watched| watched.latest.as_ref());
        for hub in latest.into_iter().flat_map(|latest| &latest.whereabouts().through) {
            cx.send(P::at(*hub, 0), SkypeMsg::Watch { name: name.to_owned() });
        }
    }

    /// A super-node says what it knows of a buddy.
    pub(super) fn on_told(
        &mut self,
        cx: &mut Cx<'_, Skype<P>>,
        from: P,
        name: &str,
        presence: Option<Box<Presence>>,
    ) {
        let Some(watched) = self.buddies.get(name) else { return };
        let Some(presence) = presence.filter(|presence| presence.name() == name) else { return };
        let named = |known: &Presence| known.whereabouts().through.iter().any(|hub| from.may_be(hub));
        // Only those whom the user has named speak of it unasked.
        if !watched.latest.as_ref().is_some_and(named) {
            self.tally.dropped += 1;
            return;
        }
        self.hear(cx, &presence, from);
        // Who tells something else is behind, or lies: it does not count as one who has the buddy.
        if let Some(watched) =
            self.buddies.get_mut(name).filter(|one| one.latest.as_ref() == Some(&*presence))
        {
            watched.confirmed.insert(from);
        }
    }

    /// Somebody says where a buddy is. What is newer than what is known is believed if it is genuine, and its super-nodes
    /// are asked to go on telling.
    fn hear(&mut self, cx: &mut Cx<'_, Skype<P>>, presence: &Presence, from: P) {
        let Some(watched) = self.buddies.get(presence.name()) else { return };
        if watched.latest.as_ref().is_some_and(|latest| latest.sequence() >= presence.sequence()) {
            return;
        }
        let near = self.is_near(from);
        if self.believes(cx, presence, near) {
            self.learn(cx, presence.clone());
        }
    }

    /// Where a buddy is, who is to be believed.
    pub(super) fn learn(&mut self, cx: &mut Cx<'_, Skype<P>>, presence: Presence) {
        let name = presence.name().to_owned();
        let moved = |latest: &Presence| latest.whereabouts().through != presence.whereabouts().through;
        let Some(watched) = self.buddies.get_mut(&name) else { return };
        if watched.latest.as_ref().is_some_and(|latest| latest.sequence() >= presence.sequence()) {
            return;
        }
        let moved = watched.latest.as_ref().is_none_or(moved);
        watched.latest = Some(presence);
        if moved {
            self.watch(cx, &name);
        }
        self.tell_user(cx, &name);
    }

    /// Tells the user that a buddy has come or gone, if so.
    fn tell_user(&mut self, cx: &mut Cx<'_, Skype<P>>, name: &str) {
        let Some(watched) = self.buddies.get_mut(name) else { return };
        let online = watched.latest.as_ref().is_some_and(|latest| latest.whereabouts().online);
        if std::mem::replace(&mut watched.online, online) != online {
            cx.emit(SkypeEvent::Presence { name: name.to_owned(), online });
        }
    }
}
