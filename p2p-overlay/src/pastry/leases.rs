//! That no two nodes take a key for theirs.
//!
//! Between two neighbours on the ring the border of what is whose is in the middle. Each asks the other, three times
//! in the time of a lease, whether it may go on; it is granted if each takes the other for its neighbour. Without the
//! lease a node answers for nothing on that side, and whoever has granted one does not take the other for dead before
//! it has run out, by its own clock and an eighth more; nor a leaf that has said hello to it, for as long.
//!
//! A node that nobody has told to go on for so long, because it stood still, say, may have been forgotten, and others
//! have taken its keys: it says hello to all again before it asks. Who does not answer a hello may have a lease all
//! the same, and not know of whoever said it: nobody is granted one before that has run out. (A network that is cut
//! in two has two nodes for a key until it is mended: no lease can help that.)

use p2p_core::{Cx, Keyed, Time};

use super::join::Joining;
use super::leaves::Side;
use super::upkeep::Asked;
use super::{PastryMsg, PastryTable};

impl<P: Keyed> PastryTable<P> {
    /// Asks the neighbours on both sides.
    pub(super) fn renew(&mut self, cx: &mut Cx<'_, Self>) {
        self.renew_on(cx, Side::Behind);
        self.renew_on(cx, Side::Ahead);
    }

    pub(super) fn renew_on(&mut self, cx: &mut Cx<'_, Self>, side: Side) {
        if self.is_greeting() {
            return;
        }
        if self.is_out_of_touch(cx.now()) {
            let greeting = Some(cx.now());
            self.joining = Some(Joining { path: Vec::new(), avoid: Vec::new(), greeting });
            let leaves: Vec<P> = self.leaves.peers().collect();
            return leaves.into_iter().for_each(|leaf| self.hello(cx, leaf, 0));
        }
        if let Some(peer) = self.leaves.first(side) {
            let since = cx.now();
            self.unheard.retain(|(_, until)| *until > since);
            let unheard = self.unheard.iter().map(|(peer, _)| *peer).collect();
            self.ask(cx, peer, Asked::Renew { side, since }, |id| PastryMsg::Renew { id, side, unheard });
        }
    }

    /// Whether others may take this node for dead by now.
    fn is_out_of_touch(&self, now: Time) -> bool {
        self.joined && !self.leaves.is_empty() && self.known_until <= now
    }

    pub(super) fn on_renew(&mut self, cx: &mut Cx<'_, Self>, from: P, id: u32, side: Side, unheard: &[P]) {
        if !self.joined && !self.is_greeting() {
            return;
        }
        self.meet(cx, from, None);
        let side = side.other();
        let neighbour = self.leaves.first(side);
        let may_grant = self.joined && !self.is_greeting() && !self.is_out_of_touch(cx.now());
        // Whoever may have a lease and not know of the sender, by this node or by somebody between it and this node.
        let leased = self.leases[side as usize].to.into_iter().chain(self.unheard.iter().copied());
        let is_unsafe = leased.into_iter().any(|(peer, until)| until > cx.now() && unheard.contains(&peer));
        let granted = may_grant && neighbour == Some(from) && !is_unsafe;
        if granted {
            let until = cx.now() + self.config.lease * 9 / 8;
            self.leases[side as usize].to = Some((from, until));
        }
        let between = neighbour.filter(|peer| *peer != from);
        cx.send(from, PastryMsg::Lease { id, granted, between });
        if granted && !self.has_lease(side, cx.now()) {
            self.renew_on(cx, side);
        }
    }

    pub(super) fn on_lease(&mut self, from: P, side: Side, since: Time, granted: bool) {
        if granted && self.leaves.first(side) == Some(from) {
            let until = since + self.config.lease;
            self.leases[side as usize].from = Some((from, until));
            self.known_until = self.known_until.max(until);
        }
    }

    /// Whether the neighbour on a side leaves this node what is nearer to it.
    pub(super) fn has_lease(&self, side: Side, now: Time) -> bool {
        self.leases[side as usize].from.is_some_and(|(_, until)| until > now)
    }

    /// A leaf says hello: it counts on being known for the time of a lease.
    pub(super) fn promise(&mut self, now: Time, peer: P) {
        let leaves = &self.leaves;
        self.greeted.retain(|(other, until)| *until > now && *other != peer && leaves.holds(*other));
        if self.leaves.holds(peer) {
            self.greeted.push((peer, now + self.config.lease * 9 / 8));
        }
    }

    /// Whether this node has promised not to take a peer for dead.
    pub(super) fn has_promised(&self, now: Time, peer: P) -> bool {
        let mut promises =
            self.leases.iter().filter_map(|lease| lease.to).chain(self.greeted.iter().copied());
        promises.any(|(to, until)| to == peer && until > now)
    }
}
