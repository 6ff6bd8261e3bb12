//! What a node does by itself: it joins, keeps its table fresh, publishes again, and takes an id that its address allows.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use p2p_core::{Cx, Key, Time};

use super::asked::Asked;
use super::id::{is_secure_id, secure_id};
use super::krpc::{PutItem, Query, Response};
use super::lookup::Lookup;
use super::secret::Secret;
use super::size::Sizes;
use super::store::Store;
use super::table::{FRESH, K, Table};
use super::token::Tokens;
use super::votes::Votes;
use super::{Endpoint, Mainline, MainlineConfig, MainlineEvent, MainlineTimer, Question, Side};

/// How often there is upkeep, and how often while nobody is known.
const EVERY: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(5);
/// Questionable nodes that are asked in one round.
const PINGS: usize = 8;
/// Things that are published again in one round, or one in so many, if that is more: a mass restart is spread over
/// minutes, but all have their turn before the first is due again.
const AGAIN: usize = 16;
const ROUNDS: usize = 12;
/// Nodes from the last run that are asked at the start, beside those that the first lookup asks.
const SAVED_PINGS: usize = 64;

/// Something that is published until it is taken back.
#[derive(Clone, Debug)]
pub(super) enum Published {
    /// This node's BitTorrent client has a torrent.
    Peer {
        port: Option<u16>,
        next: Time,
    },
    Item {
        item: PutItem,
        next: Time,
    },
}

impl Published {
    pub(super) fn announced(now: Time, config: &MainlineConfig, port: Option<u16>) -> Published {
        Published::Peer { port, next: now + config.announce_every }
    }

    /// What was compared at the first time is not compared again: it is here since it was exchanged.
    pub(super) fn put(now: Time, config: &MainlineConfig, item: PutItem) -> Published {
        let item = match item {
            PutItem::Mutable { item, .. } => PutItem::Mutable { item, cas: None },
            PutItem::Immutable(value) => PutItem::Immutable(value),
        };
        Published::Item { item, next: now + config.put_every }
    }

    /// The sequence number of a signed item.
    pub(super) fn sequence(&self) -> Option<i64> {
        match self {
            Published::Peer { .. } => None,
            Published::Item { item, .. } => item.sequence(),
        }
    }

    /// When it is due.
    fn next(&self) -> Time {
        match self {
            Published::Peer { next, .. } | Published::Item { next, .. } => *next,
        }
    }

    fn put_off(&mut self, until: Time) {
        match self {
            Published::Peer { next, .. } | Published::Item { next, .. } => *next = until,
        }
    }
}

impl<P: Endpoint> Mainline<P> {
    pub(super) fn start(&mut self, cx: &mut Cx<'_, Self>) {
        let mut drawn = [0; 32];
        cx.rng().fill(&mut drawn);
        let secret = self.config.secret.clone().unwrap_or(Secret::new(drawn));
        (self.tokens, self.asked) = (Some(Tokens::new(&secret)), Asked::new(&secret));
        self.store = Store::new(self.config.store);
        for v6 in [false, true] {
            if !(if v6 { self.config.ipv6 } else { self.config.ipv4 }) {
                continue;
            }
            let external = self.config.external.filter(|ip| ip.is_ipv6() == v6);
            let saved = self.config.saved.as_ref().and_then(|saved| saved.ids[usize::from(v6)]);
            let saved = saved.filter(|id| external.is_none_or(|ip| is_secure_id(id, ip)));
            let id = saved.unwrap_or_else(|| match external {
                Some(ip) => secure_id(ip, cx.rng()),
                None => cx.rng().key(),
            });
            let table = Table::new(id, self.config.subnets);
            let (sizes, votes) = (Sizes::default(), Votes::default());
            let side = Side { table, sizes, votes, external, joined: false, sought: None };
            self.sides[usize::from(v6)] = Some(side);
        }
        let saved = self.config.saved.iter().flat_map(|saved| &saved.nodes).take(SAVED_PINGS);
        let saved: Vec<P> = saved.map(|node| self.peer_at(node.addr)).collect();
        for peer in saved {
            self.ask(cx, peer, Query::Ping, Question::Ping);
        }
        self.seek_self(cx);
        cx.set_timer(SOON, MainlineTimer::Upkeep);
    }

    /// Looks up this node's own id, where it knows few: so it gets to know its neighbours, and they it (BEP 5).
    fn seek_self(&mut self, cx: &mut Cx<'_, Self>) {
        for v6 in [false, true] {
            let now = cx.now();
            let Some(side) = self.side(v6) else { continue };
            let is_due = side.sought.is_none_or(|at| now - at >= FRESH) || side.table.alive() < K;
            let me = side.table.me();
            // Where nobody answers the last one takes longer than until the next.
            let is_seeking = |lookup: &Lookup<P>| (lookup.target, lookup.v6, lookup.task) == (me, v6, None);
            if is_due && !self.lookups.values().any(is_seeking) {
                if let Some(side) = self.side_mut(v6) {
                    side.sought = Some(now);
                }
                self.look_up(cx, me, v6, None);
            }
        }
    }

    pub(super) fn upkeep(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        self.store.expire(now);
        self.sources.expire(now);
        self.seek_self(cx);
        let mut few = false;
        for v6 in [false, true] {
            let Some(side) = self.side_mut(v6) else { continue };
            few |= side.table.alive() == 0;
            let questionable = side.table.questionable(now, PINGS);
            let stale = side.table.stale(now, cx.rng());
            for peer in questionable {
                if !self.asked.waits_for(peer) {
                    self.ask(cx, peer, Query::Ping, Question::Ping);
                }
            }
            if let Some(target) = stale {
                self.look_up(cx, target, v6, None);
            }
        }
        self.publish_due(cx);
        let every = if few { SOON } else { EVERY };
        // Not all at the same time, where many were started at once.
        let after = cx.rng().duration(every * 3 / 4, every * 5 / 4);
        cx.set_timer(after, MainlineTimer::Upkeep);
    }

    /// Publishes again what is due, the longest overdue first. Half of what may be under way is left to users.
    fn publish_due(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        let due = self.published.iter().map(|(target, published)| (published.next(), *target));
        let mut due: Vec<(Time, Key<20>)> = due.filter(|(next, _)| *next <= now).collect();
        due.sort_unstable();
        due.truncate(AGAIN.max(self.published.len() / ROUNDS));
        for (_, target) in due {
            let Some(published) = self.published.get_mut(&target) else { continue };
            if self.tasks.len() * 2 >= self.config.tasks {
                return;
            }
            let every = match published {
                Published::Peer { .. } => self.config.announce_every,
                Published::Item { .. } => self.config.put_every,
            };
            published.put_off(now + cx.rng().duration(every * 9 / 10, every));
            let published = published.clone();
            self.publish_again(cx, target, &published);
        }
    }

    /// Tells once that there are nodes.
    pub(super) fn announce_joining(&mut self, cx: &mut Cx<'_, Self>, v6: bool) {
        let Some(side) = self.side_mut(v6) else { return };
        if !side.joined && side.table.alive() > 0 {
            side.joined = true;
            cx.emit(MainlineEvent::Joined { v6 });
        }
    }

    /// Nodes of the other network that an answer names, where nobody is known there (BEP 32).
    pub(super) fn meet_other_network(&mut self, cx: &mut Cx<'_, Self>, response: &Response, v6: bool) {
        if self.side(!v6).is_none_or(|side| side.table.alive() > 0) {
            return;
        }
        let named = if v6 { &response.nodes } else { &response.nodes6 };
        let peers: Vec<P> = named.iter().flatten().take(K).map(|node| self.peer_at(node.addr)).collect();
        for peer in peers {
            if !self.asked.waits_for(peer) {
                self.ask(cx, peer, Query::Ping, Question::Ping);
            }
        }
    }

    /// A node that has answered says where it sees this one.
    pub(super) fn on_vote(&mut self, cx: &mut Cx<'_, Self>, from: SocketAddr, ip: IpAddr) {
        if self.config.external.is_some() || ip.to_canonical().is_ipv6() != from.is_ipv6() {
            return;
        }
        let (now, subnets) = (cx.now(), self.config.subnets);
        let Some(side) = self.side_mut(from.is_ipv6()) else { return };
        let Some(ip) = side.votes.count(from, ip) else { return };
        side.external = Some(ip);
        if is_secure_id(&side.table.me(), ip) {
            return;
        }
        let id: Key<20> = secure_id(ip, cx.rng());
        let mut table = Table::new(id, subnets);
        for entry in side.table.entries() {
            table.answered(now, entry.id, entry.peer, entry.addr);
        }
        (side.table, side.sought) = (table, Some(now));
        cx.emit(MainlineEvent::Address { ip, id });
        self.look_up(cx, id, from.is_ipv6(), None);
    }
}
