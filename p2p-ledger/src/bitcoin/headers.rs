//! Headers: the first are asked of one node after the other, lest all send the same; then each says what is new.

use p2p_core::Cx;
use p2p_overlay::Place;

use super::BitcoinClient;
use super::codec::{BitcoinMsg, Inventory, MAX_HEADERS};
use crate::header::BitcoinHeader;
use crate::headers::{Followed, follow};
use crate::id::BlockId;

impl<P: Place> BitcoinClient<P> {
    /// Whether a node has shown what it has, and so have all others that are there and answer.
    pub(super) fn is_synced(&self) -> bool {
        let ready =
            || self.nodes.iter().filter_map(|node| node.ready().map(|link| (link.is_done, node.is_late)));
        ready().any(|(is_done, _)| is_done) && ready().all(|(is_done, is_late)| is_done || is_late)
    }

    /// Asks the next node that has not shown all of its headers; those that were late as well, and nobody waits for them.
    pub(super) fn ask_for_headers(&mut self, cx: &mut Cx<'_, Self>) {
        for late in [false, true] {
            let of = |asked: bool| {
                self.nodes.iter().position(|node| {
                    let link = node.ready().filter(|link| !link.is_done && link.asked.is_some() == asked);
                    node.is_late == late && link.is_some()
                })
            };
            if let (None, Some(next)) = (of(true), of(false)) {
                self.ask_headers(cx, next, None);
            }
        }
    }

    /// Asks a node for the headers after this one, or after what is known here.
    fn ask_headers(&mut self, cx: &mut Cx<'_, Self>, at: usize, after: Option<BlockId>) {
        let height = after.and_then(|after| self.chain.place(&after)).map_or(0, |place| place.height);
        let locator = after.map_or_else(|| self.chain.locator(), |after| vec![after]);
        if let Some(link) = &mut self.nodes[at].link {
            link.asked = Some((cx.now() + self.config.timeout, height));
            cx.send(link.peer, BitcoinMsg::GetHeaders(locator));
        }
    }

    pub(super) fn headers_came(&mut self, cx: &mut Cx<'_, Self>, at: usize, headers: &[BitcoinHeader]) {
        let mut secret = [0; 32];
        cx.rng().fill(&mut secret);
        let now = cx.wall().as_secs();
        let Some(link) = &mut self.nodes[at].link else { return };
        let asked = link.asked.take();
        let after = asked.map_or(0, |(_, after)| after);
        match follow(&mut self.chain, &mut link.sync, headers, (after, MAX_HEADERS), now, secret) {
            Followed::More(after) => self.ask_headers(cx, at, after),
            // Unasked: what lies between is asked for. That it has said something else than it was asked is let be.
            Followed::Unconnected if asked.is_none() => self.ask_headers(cx, at, None),
            Followed::All | Followed::Unconnected => self.nodes[at].done(),
            Followed::Lied(how) => self.lied(cx, at, &how),
        }
    }

    /// A node says that it has something.
    pub(super) fn heard_of(&mut self, cx: &mut Cx<'_, Self>, at: usize, all: &[Inventory]) {
        let is_new =
            |one: &Inventory| one.kind == Inventory::BLOCK && self.chain.place(&BlockId(one.hash)).is_none();
        let asked = self.nodes[at].ready().is_some_and(|link| link.asked.is_some());
        if !asked && all.iter().any(is_new) {
            self.ask_headers(cx, at, None);
        }
    }
}
