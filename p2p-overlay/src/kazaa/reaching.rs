//! Connections to sources: to those that accept one, and from those that do not.

use std::net::SocketAddr;

use p2p_core::{Cx, OpId, PeerId, Wire};

use super::msg::{Reference, Wish};
use super::neighbours::Kind;
use super::{Kazaa, KazaaEvent, KazaaMsg, KazaaTimer, id_of};
use crate::bucket::Bucket;
use crate::place::{Place, is_somewhere};
use crate::search::{Fetch, Hit, Item, Query, SearchError, SearchOutcome};
use crate::sharing::{Sharer, Wanted};

/// A source that was asked to connect.
#[derive(Debug)]
pub(super) struct Reaching {
    nonce: u64,
    source: PeerId,
}

impl<P: Place> Sharer for Kazaa<P> {
    fn wanted(hit: &Hit<P>) -> Option<Wanted> {
        let Reference { name, .. } = Reference::from_bytes(&hit.reference).ok()?;
        Some(Wanted { hash: hit.item.hashes.first().copied(), index: 0, name, size: hit.item.size })
    }
    fn shared(&self, wanted: &Wanted) -> Option<&Item> {
        match wanted.hash {
            Some(hash) => self.library.find(&Query::content(hash)).next().map(|(_, item)| item),
            None => self.library.get_of(&(), &wanted.name),
        }
    }
}

impl<P: Place> Kazaa<P> {
    pub(super) fn begin_reach(&mut self, cx: &mut Cx<'_, Self>, op: OpId, hit: &Hit<P>) {
        let reached = |reached| SearchOutcome::Reached(reached);
        let Ok(Reference { via, source, name }) = Reference::from_bytes(&hit.reference) else {
            return cx.finish(op, reached(Err(SearchError::BadHit)));
        };
        match hit.fetch {
            Fetch::Direct(peer) => {
                self.number += 1;
                let own = peer.contact().map(|contact| P::at(contact, self.number));
                cx.finish(op, reached(own.ok_or(SearchError::BadHit)));
            }
            Fetch::Ask | Fetch::Relay(_) => cx.finish(op, reached(Err(SearchError::BadHit))),
            Fetch::Push => {
                // Two that accept no connections do not meet.
                let Some(listen) = self.listen else {
                    return cx.finish(op, reached(Err(SearchError::Unreachable)));
                };
                if self.reaches.len() >= self.config.capacity {
                    return cx.finish(op, reached(Err(SearchError::Busy)));
                }
                let nonce = cx.rng().next_u64();
                self.reaches.insert(op, Reaching { nonce, source });
                cx.set_timer(self.config.push_timeout, KazaaTimer::Reach(op));
                let wish = Wish { nonce, name, to: listen, word: None };
                let signer = self.signer.as_ref();
                let word = signer.map(|signer| signer.wish(&P::signer(source), &wish, cx.wall()));
                let wish = Wish { word, ..wish };
                // In this node's own index, or somebody else's.
                if via.id == listen.id {
                    if !self.have_dial(cx, source, wish) {
                        self.end_reach(cx, op, Err(SearchError::Unreachable));
                    }
                    return;
                }
                let peer = self.dial(via);
                cx.send(peer, KazaaMsg::Push { source, wish });
            }
        }
    }

    /// Somebody wants an ordinary node to connect.
    pub(super) fn on_push(&mut self, cx: &mut Cx<'_, Self>, from: P, source: PeerId, wish: Wish) {
        let nonce = wish.nonce;
        // To itself, and to nobody else.
        let own = from.may_be(&wish.to) && is_somewhere(&wish.to);
        if !own || !self.have_dial(cx, source, wish) {
            self.tally.dropped += 1;
            cx.send(from, KazaaMsg::Unreached { nonce });
        }
    }

    /// Tells one of its own to connect; whether there is one that has this.
    fn have_dial(&mut self, cx: &mut Cx<'_, Self>, source: PeerId, wish: Wish) -> bool {
        let peer = self.ordinary_nodes().find(|peer| id_of(peer) == source);
        let Some(peer) = peer.filter(|peer| self.index.items.get_of(peer, &wish.name).is_some()) else {
            return false;
        };
        cx.send(peer, KazaaMsg::Dial(wish));
        true
    }

    /// The super-node says that somebody wants something and cannot connect.
    pub(super) fn on_dial(&mut self, cx: &mut Cx<'_, Self>, from: &P, wish: Wish) {
        let shared = self.library.get_of(&(), &wish.name).is_some();
        let takes = self.kind_of(from) == Some(Kind::Parent) && shared && is_somewhere(&wish.to);
        if !takes || !self.pushes.take(cx.now(), self.config.push) || !self.grants(cx, &wish) {
            self.tally.dropped += 1;
            return;
        }
        let Wish { nonce, name, to, .. } = wish;
        let peer = self.dial(to);
        cx.send(peer, KazaaMsg::Give { nonce });
        cx.emit(KazaaEvent::Sends { to: peer, name });
    }

    /// Whether it is right to connect there: who is said to be there has signed that it wants this, where nodes have
    /// keys. Nobody can sign that it is where it says, so no host is connected to often.
    fn grants(&mut self, cx: &mut Cx<'_, Self>, wish: &Wish) -> bool {
        let wanted = match &mut self.signer {
            Some(signer) => signer.grants(&P::signer(wish.to.id), wish, cx.wall()),
            None => true,
        };
        let ip = wish.to.addr.ip().to_canonical();
        // Loopback is one machine's own, and may be many nodes.
        let host = if ip.is_loopback() { wish.to.addr } else { SocketAddr::new(ip, 0) };
        self.pushed.insert(host, Bucket::default());
        let pushed = self.pushed.get_mut(&host).filter(|_| wanted);
        pushed.is_some_and(|pushed| pushed.take(cx.now(), self.config.push_each))
    }

    /// A source has connected.
    pub(super) fn on_give(&mut self, cx: &mut Cx<'_, Self>, from: P, nonce: u64) {
        let asked = self.reaches.iter().find(|(_, one)| one.nonce == nonce && one.source == id_of(&from));
        match asked.map(|(op, _)| *op) {
            Some(op) => self.end_reach(cx, op, Ok(from)),
            None => self.tally.dropped += 1,
        }
    }

    /// A source is not there. Nobody knows the number but whom this node has asked.
    pub(super) fn on_unreached(&mut self, cx: &mut Cx<'_, Self>, nonce: u64) {
        let asked = self.reaches.iter().find(|(_, one)| one.nonce == nonce);
        if let Some(op) = asked.map(|(op, _)| *op) {
            self.end_reach(cx, op, Err(SearchError::Unreachable));
        }
    }

    /// A source has not connected.
    pub(super) fn not_reached(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.end_reach(cx, op, Err(SearchError::Unreachable));
    }

    fn end_reach(&mut self, cx: &mut Cx<'_, Self>, op: OpId, reached: Result<P, SearchError>) {
        if self.forget_reach(cx, op) {
            cx.finish(op, SearchOutcome::Reached(reached));
        }
    }

    /// Nobody waits for a source any more; whether somebody did.
    pub(super) fn forget_reach(&mut self, cx: &mut Cx<'_, Self>, op: OpId) -> bool {
        cx.clear_timer(KazaaTimer::Reach(op));
        self.reaches.remove(&op).is_some()
    }
}
