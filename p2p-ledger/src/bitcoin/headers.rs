//! Headers: the first are asked of one node after the other, lest all send the same; then each says what is new.

use p2p_core::{Cx, Time};
use p2p_overlay::Place;

use super::BitcoinClient;
use super::codec::{BitcoinMsg, Inventory, MAX_HEADERS};
use crate::header::{BitcoinHeader, Header};
use crate::headers::{Followed, SyncStep, follow};
use crate::id::BlockId;

/// Which part of the timeout a node has for itself that does not make the chain grow.
const TURN: u32 = 6;
/// For how many times the patience others wait for a node whose headers are followed by themselves, and make nothing grow yet: of a
/// long chain without end nobody knows that it has none. 20 minutes; Bitcoin Core gives its first node 15, and 1 ms for each header.
const MOST_PATIENCE: u32 = 10;

impl<P: Place> BitcoinClient<P> {
    /// Whether a node has shown what it has, and so have all others that are there and answer, or are dialled for the first time.
    pub(super) fn is_synced(&self) -> bool {
        let pending = |(is_done, is_late): (bool, bool)| !is_done && !is_late;
        let ready =
            || self.nodes.iter().filter_map(|node| node.ready().map(|link| (link.is_done, node.is_late)));
        self.chain.has_enough_work()
            && ready().any(|(is_done, _)| is_done)
            && !ready().any(pending)
            && !self.nodes.iter().any(|node| node.is_expected())
    }

    /// Asks the next node that has not shown all of its headers; those that were late as well, and nobody waits for them.
    pub(super) fn ask_for_headers(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        for late in [false, true] {
            let of = |asked: bool| {
                self.nodes.iter().position(|node| {
                    let link = node.ready().filter(|link| !link.is_done && link.asked.is_some() == asked);
                    node.is_late == late && link.is_some_and(|link| !asked || link.turn > now)
                })
            };
            if let (None, Some(next)) = (of(true), of(false)) {
                if let Some(link) = &mut self.nodes[next].link {
                    link.turn = now + self.config.timeout / TURN;
                }
                self.ask_headers(cx, next, None);
            }
        }
    }

    /// Asks a node for the headers after this one, or after what is known here.
    fn ask_headers(&mut self, cx: &mut Cx<'_, Self>, at: usize, after: Option<BlockId>) {
        let height = after.and_then(|after| self.chain.place(&after)).map_or(0, |place| place.height);
        // It may have gone over to another branch, where this one is not. And not after the last one that is known, but with it:
        // some nodes, bcoin's among them, say nothing where there is nothing more.
        let known = self.chain.locator();
        let before_last = known.len().min(2) - 1;
        let locator = after.into_iter().chain(known.into_iter().skip(before_last)).collect();
        if let Some(link) = &mut self.nodes[at].link {
            link.asked = Some((cx.now() + self.config.timeout, height));
            cx.send(link.peer, BitcoinMsg::GetHeaders(locator));
        }
    }

    pub(super) fn headers_came(&mut self, cx: &mut Cx<'_, Self>, at: usize, headers: &[BitcoinHeader]) {
        let node = &mut self.nodes[at];
        let Some(link) = &mut node.link else { return };
        let connects = |first: &BitcoinHeader| match &link.sync {
            Some(sync) => sync.step() == SyncStep::After(first.previous()),
            None => self.chain.place(&first.previous()).is_some(),
        };
        if !headers.first().is_none_or(connects) {
            // Said unasked: what lies between is asked for, or has been.
            if link.asked.is_none() {
                self.ask_headers(cx, at, None);
            }
            return;
        }
        let mut secret = [0; 32];
        cx.rng().fill(&mut secret);
        let (work, now) = (self.chain.tip().work, cx.wall().as_secs());
        let after = link.asked.take().map_or(0, |(_, after)| after);
        let was_syncing = link.sync.is_some();
        let followed = follow(&mut self.chain, &mut link.sync, headers, (after, MAX_HEADERS), now, secret);
        let is_syncing = link.sync.is_some();
        let end = cx.now() + self.config.patience.saturating_mul(MOST_PATIENCE);
        node.syncing_until = match (&followed, was_syncing) {
            _ if is_syncing => node.syncing_until.or(Some(end)),
            // They have all the work that was needed.
            (Followed::More(_), true) => None,
            (_, true) => Some(Time::ZERO),
            (_, false) => node.syncing_until,
        };
        // What is seen for the first time gets on, too.
        let gets_on = is_syncing && node.syncing_until > Some(cx.now());
        node.is_late |= is_syncing && !gets_on;
        if gets_on || self.chain.tip().work > work {
            link.turn = cx.now() + self.config.timeout / TURN;
        }
        let shown = headers.last().and_then(|last| self.chain.place(&last.id()));
        link.height = link.height.max(shown.map_or(0, |place| place.height));
        link.shown = shown.map(|place| place.id).or(link.shown);
        if gets_on {
            self.be_patient(cx.now());
        }
        match followed {
            Followed::More(after) => self.ask_headers(cx, at, after),
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
