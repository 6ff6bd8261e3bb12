//! A node: what it keeps, and how its inputs are told apart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use p2p_core::{Contact, Cx, Down, HostCache, Learnt, OpId, PeerId, Time};

use super::calling::{Calling, Offered};
use super::directory::Directory;
use super::neighbours::Neighbour;
use super::relay::{Line, Session};
use super::searching::Searching;
use super::users::Watched;
use super::{
    Certificate, HangUp, MAX_PROFILE, MAX_THROUGH, Presence, Skype, SkypeCommand, SkypeConfig, SkypeMsg,
    SkypeOutcome, SkypeTally, SkypeTimer, SkypeUser,
};
use crate::bucket::Bucket;
use crate::gnutella::hosts::Hosts;
use crate::place::Place;
use crate::promotion::{Promotion, Role};
use crate::recent::Recent;

/// The machine of a node.
pub(super) struct SkypeNode<P: Place> {
    pub(super) config: SkypeConfig,
    pub(super) user: SkypeUser,
    pub(super) certificate: Option<Certificate>,
    /// Who waits for it.
    pub(super) uncertified: BTreeSet<OpId>,
    /// What it says of itself, last,
    pub(super) own: Option<Presence>,
    /// and when.
    pub(super) said: Time,
    pub(super) online: bool,
    pub(super) started: Time,
    pub(super) promotion: Promotion,
    pub(super) hosts: Hosts<P>,
    pub(super) neighbours: BTreeMap<P, Neighbour>,
    pub(super) directory: Directory<P>,
    /// How much each sends that is heard.
    pub(super) senders: Recent<P, Bucket>,
    /// How many rings each client was passed.
    pub(super) rings: Recent<P, Bucket>,
    pub(super) checks: Bucket,
    pub(super) checks_of_others: Bucket,
    /// The highest number known of each key, and its certificate, which need not be checked again.
    pub(super) latest: Recent<PeerId, (u64, Certificate)>,
    pub(super) buddies: BTreeMap<String, Watched<P>>,
    pub(super) searches: BTreeMap<u64, Searching<P>>,
    pub(super) calls: BTreeMap<u64, Calling<P>>,
    pub(super) offered: Recent<u64, Offered<P>>,
    pub(super) lines: BTreeMap<u64, Line<P>>,
    pub(super) sessions: BTreeMap<u64, Session<P>>,
    /// The tickets of calls that are over.
    pub(super) spent: Recent<u64, ()>,
    pub(super) tally: SkypeTally,
}

impl<P: Place> SkypeNode<P> {
    pub(super) fn new(
        user: SkypeUser,
        seeds: impl IntoIterator<Item = Contact>,
        role: Role,
        config: SkypeConfig,
    ) -> SkypeNode<P> {
        let mut user = user;
        while user.profile.len() > MAX_PROFILE {
            user.profile.pop();
        }
        let config = SkypeConfig { homes: config.homes.clamp(1, MAX_THROUGH), ..config };
        let mut hosts = Hosts::new(HostCache::new(config.hosts, config.hosts));
        for seed in seeds {
            hosts.note(seed, Learnt::Told, Duration::ZERO, None);
        }
        SkypeNode {
            config,
            user,
            certificate: None,
            uncertified: BTreeSet::new(),
            own: None,
            said: Time::ZERO,
            online: true,
            started: Time::ZERO,
            promotion: Promotion::new(role, Time::ZERO, config.promotion),
            hosts,
            neighbours: BTreeMap::new(),
            // Its clients and itself, and clients that have become super-nodes next to it, whom it still hears of.
            directory: Directory::new(config.clients + config.degree + 1),
            senders: Recent::new(4096),
            rings: Recent::new(1024),
            checks: Bucket::default(),
            checks_of_others: Bucket::default(),
            latest: Recent::new(4096),
            buddies: BTreeMap::new(),
            searches: BTreeMap::new(),
            calls: BTreeMap::new(),
            offered: Recent::new(2 * config.capacity),
            lines: BTreeMap::new(),
            sessions: BTreeMap::new(),
            spent: Recent::new(4096),
            tally: SkypeTally::default(),
        }
    }

    /// The node's own name among its peers.
    pub(super) fn me(&self) -> P {
        P::at(self.user.contact, 0)
    }

    pub(super) fn on_start(&mut self, cx: &mut Cx<'_, Skype<P>>) {
        self.started = cx.now();
        self.promotion = Promotion::new(self.role(), cx.now(), self.config.promotion);
        self.log_in(cx);
        self.look_for_neighbours(cx);
        let first = cx.rng().duration(Duration::ZERO, self.config.upkeep);
        cx.set_timer(first, SkypeTimer::Upkeep);
    }

    pub(super) fn on_message(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, msg: SkypeMsg) {
        // Frames have a limit of their own.
        if let SkypeMsg::Frame { ticket, bytes } = msg {
            return self.on_frame(cx, from, ticket, bytes);
        }
        self.senders.insert(from, Bucket::default());
        let rate = self.config.messages;
        if !self.senders.get_mut(&from).is_some_and(|bucket| bucket.take(cx.now(), rate)) {
            self.tally.dropped += 1;
            return;
        }
        match msg {
            SkypeMsg::Certified(certificate) => self.on_certified(cx, from, certificate),
            SkypeMsg::Refused(why) => self.on_refused(cx, from, why),
            SkypeMsg::Attach { contact, super_node } => self.on_attach(cx, from, contact, super_node),
            SkypeMsg::Welcome { room, others } => self.on_welcome(cx, from, room, others),
            SkypeMsg::Away { others } => self.on_away(cx, from, others),
            SkypeMsg::Ping => self.on_ping(cx, from),
            SkypeMsg::Pong { room, others } => self.on_pong(cx, from, room, others),
            SkypeMsg::Register(presence) => self.on_register(cx, from, *presence),
            SkypeMsg::Find { id, text } => self.on_find(cx, from, id, &text),
            found @ SkypeMsg::Found { .. } => self.on_found(cx, from, found),
            SkypeMsg::Watch { name } => self.on_watch(cx, from, name),
            SkypeMsg::Told { name, presence } => self.on_told(cx, from, &name, presence),
            SkypeMsg::Forward { to, ring } => self.on_forward(cx, from, &to, ring),
            SkypeMsg::Ring(ring) => self.on_ring(cx, from, *ring),
            SkypeMsg::Accept { call, reversed } => self.on_accept(cx, from, call, reversed),
            SkypeMsg::Confirm { call } => self.on_confirm(cx, from, call),
            SkypeMsg::Lease { call, ends } => self.on_lease(cx, from, call, ends),
            SkypeMsg::Leased { call, ticket } => self.on_leased(cx, from, call, ticket),
            SkypeMsg::Join(join) => self.on_join(cx, from, &join),
            SkypeMsg::Joined { ticket } => self.on_joined(cx, from, ticket),
            SkypeMsg::Part { ticket } => self.on_part(cx, from, ticket),
            // For servers only, or taken above.
            SkypeMsg::Login(_) | SkypeMsg::Frame { .. } => self.tally.dropped += 1,
        }
    }

    pub(super) fn on_command(&mut self, cx: &mut Cx<'_, Skype<P>>, op: OpId, command: SkypeCommand<P>) {
        match command {
            SkypeCommand::Search(command) => self.on_search(cx, op, command),
            SkypeCommand::LoggedIn => self.wait_for_login(cx, op),
            SkypeCommand::Buddy(buddy) => {
                let done = self.set_buddy(cx, buddy);
                cx.finish(op, SkypeOutcome::Done(done));
            }
            SkypeCommand::Call(call) => self.call(cx, op, call),
            SkypeCommand::Frame(frame) => {
                let done = self.send_frame(cx, frame);
                cx.finish(op, SkypeOutcome::Done(done));
            }
            SkypeCommand::HangUp(HangUp { ticket }) => {
                let done = self.hang_up(cx, ticket);
                cx.finish(op, SkypeOutcome::Done(done));
            }
        }
    }

    pub(super) fn on_cancel(&mut self, cx: &mut Cx<'_, Skype<P>>, op: OpId) {
        self.uncertified.remove(&op);
        self.forget_search(cx, op);
        self.forget_call(cx, op);
    }

    pub(super) fn gone(&mut self, cx: &mut Cx<'_, Skype<P>>, peer: P, why: Down) {
        self.lost(cx, peer, Some(why));
        self.not_reached(cx, peer);
    }

    /// Time to look after everything.
    pub(super) fn upkeep(&mut self, cx: &mut Cx<'_, Skype<P>>) {
        cx.set_timer(self.config.upkeep, SkypeTimer::Upkeep);
        self.look_after_neighbours(cx);
        self.look_after_users(cx);
        self.look_after_buddies(cx);
        self.look_after_relays(cx);
    }

    /// Whether a presence is to be believed: it is not older than what is known, and genuine. `near` is whether it
    /// comes from a client or from a super-node of this node's own.
    pub(super) fn believes(&mut self, cx: &mut Cx<'_, Skype<P>>, presence: &Presence, near: bool) -> bool {
        let known = self.latest.get(&presence.key());
        if known.is_some_and(|(known, _)| presence.sequence() < *known) {
            self.tally.disbelieved += 1;
            return false;
        }
        let is_certified = known.is_some_and(|(_, known)| known == presence.certificate());
        if !self.may_check(cx.now(), near) {
            return false;
        }
        let is_genuine = match is_certified {
            true => presence.is_sound(cx.wall(), self.config.lifetime),
            false => presence.is_genuine(&self.user.server, cx.wall(), self.config.lifetime),
        };
        if !is_genuine {
            self.tally.disbelieved += 1;
            return false;
        }
        self.latest.remove(&presence.key());
        self.latest.insert(presence.key(), (presence.sequence(), presence.certificate().clone()));
        true
    }

    pub(super) fn may_check(&mut self, now: Time, near: bool) -> bool {
        let passes = match near {
            true => self.checks.take(now, self.config.checks),
            false => self.checks_of_others.take(now, self.config.checks_of_others),
        };
        match passes {
            true => self.tally.checked += 1,
            false => self.tally.dropped += 1,
        }
        passes
    }
}
