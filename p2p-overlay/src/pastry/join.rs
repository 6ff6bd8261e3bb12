//! How a newcomer becomes a Pastry node (§2.4).
//!
//! It asks its way to its own key, takes a row of the routing table from each node on it, and the leaves from the
//! last. It says hello to all who would be its leaves, and to those whom they name, until everybody who is alive has
//! answered: then all know it, and take it for alive for a while, and it takes part (DSN 2004, *consistent routing*). It
//! asks some in its routing table for the same row, and keeps of each place the nearest (the second stage, §2.5).

use p2p_core::{Cx, Keyed, Time};

use super::upkeep::Asked;
use super::{PastryMsg, PastryTable};
use crate::structured::Next;

/// How far a newcomer has come.
#[derive(Clone, Debug)]
pub(super) struct Joining<P> {
    /// The nodes on the way, the first asked first. At most [`MAX_PATH`].
    pub(super) path: Vec<P>,
    /// Found silent on the way.
    pub(super) avoid: Vec<P>,
    /// The leaves are being told, since then.
    pub(super) greeting: Option<Time>,
}

/// How long the way to the own key may be, and how many on it may be silent.
const MAX_PATH: usize = 40;
pub(super) const MAX_AVOIDED: usize = 16;
/// How many in each row a newcomer asks for theirs.
const SECOND_STAGE: usize = 3;

impl<P: Keyed> PastryTable<P> {
    pub(super) fn try_to_join(&mut self, cx: &mut Cx<'_, Self>) {
        if self.joining.is_some() && !self.asked.is_empty() {
            return; // It is getting on.
        }
        let Some(door) = self.doors.next() else {
            // Nobody whom it has met can be reached: it goes on alone.
            self.joining = None;
            self.joined = true;
            return;
        };
        self.joining = Some(Joining { path: vec![door], avoid: Vec::new(), greeting: None });
        self.ask_the_way(cx);
    }

    /// Asks the last on the way; if nobody is left, the timer tries the next door.
    pub(super) fn ask_the_way(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(Joining { path, avoid, .. }) = &self.joining else { return };
        let Some(&last) = path.last() else { return };
        let avoid = avoid.clone();
        self.ask(cx, last, Asked::Path, |id| PastryMsg::Join { id, avoid });
    }

    /// A newcomer asks its way here.
    pub(super) fn on_join(&mut self, cx: &mut Cx<'_, Self>, from: P, id: u32, mut avoid: Vec<P>) {
        if !self.joined {
            return;
        }
        avoid.truncate(MAX_AVOIDED);
        avoid.push(from);
        let key = from.key();
        let row = self.rows.row(self.rows.shared(&key)).filter(|peer| *peer != from).collect();
        let next = match self.route(&key, &avoid) {
            Next::Root(peer) | Next::Toward(peer) => Some(peer),
            Next::Mine | Next::Nowhere | Next::Later => None,
        };
        let leaves = if next.is_none() { self.leaves_but(from) } else { Vec::new() };
        cx.send(from, PastryMsg::Path { id, row, next, leaves });
    }

    pub(super) fn leaves_but(&self, peer: P) -> Vec<P> {
        self.leaves.peers().filter(|leaf| *leaf != peer).collect()
    }

    pub(super) fn on_path(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        row: &[P],
        next: Option<P>,
        leaves: &[P],
    ) {
        let me = self.me;
        let Some(joining) = self.joining.as_mut().filter(|joining| joining.greeting.is_none()) else {
            return;
        };
        let next = next.filter(|next| *next != me && !joining.path.contains(next));
        match next {
            Some(next) if joining.path.len() < MAX_PATH => {
                joining.path.push(next);
                self.ask_the_way(cx);
            }
            _ => {
                joining.greeting = Some(cx.now());
                self.rows.offer(&from.key(), from, None);
                leaves.iter().chain([&from]).for_each(|leaf| self.greet(cx, *leaf));
            }
        }
        row.iter().for_each(|peer| self.consider(cx, *peer, true));
    }

    /// Says hello to a peer that would be a leaf and does not know of this node yet, unless it has just been silent. Half of a
    /// lease is the time for that: whoever goes on naming others, or comes himself, does not keep it out, and those who
    /// have answered know of it still.
    pub(super) fn greet(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let asked = |(to, what): (P, &Asked)| to == peer && matches!(what, Asked::Hello { .. });
        let is_unheard = self.unheard.iter().any(|(other, until)| *other == peer && *until > cx.now());
        if peer == self.me || is_unheard || self.leaves.holds(peer) || self.asked.iter().any(asked) {
            return;
        }
        let is_late = self.greeting().is_some_and(|since| cx.now() >= since + self.config.lease / 2);
        if !is_late && self.leaves.wants(&self.spot(peer)) {
            self.hello(cx, peer, 0);
        }
    }

    pub(super) fn hello(&mut self, cx: &mut Cx<'_, Self>, peer: P, tries: u32) {
        // A newcomer knows nobody who would not say hello too.
        let leaves = if self.joined { self.leaves_but(peer) } else { Vec::new() };
        let since = cx.now();
        self.ask(cx, peer, Asked::Hello { since, tries }, |id| PastryMsg::Hello { id, leaves });
    }

    pub(super) fn is_greeting(&self) -> bool {
        self.greeting().is_some()
    }

    fn greeting(&self) -> Option<Time> {
        self.joining.as_ref().and_then(|joining| joining.greeting)
    }

    /// Everybody has answered: this node takes part. If nobody has, the timer tries again.
    pub(super) fn join_if_known(&mut self, cx: &mut Cx<'_, Self>) {
        let waits = self.asked.iter().any(|(_, what)| matches!(what, Asked::Hello { .. }));
        let Some(since) = self.greeting().filter(|_| !self.leaves.is_empty() && !waits) else { return };
        self.joining = None;
        // Those who answered first may have forgotten it, if it stood still since: then it says hello again.
        self.known_until = since + self.config.lease;
        let was_joined = std::mem::replace(&mut self.joined, true);
        self.renew(cx);
        if was_joined {
            return; // It was only out of touch.
        }
        self.changed = true;
        self.doors.found();
        for row in 0..self.rows.len() {
            let mut some: Vec<P> = self.rows.row(row).collect();
            cx.rng().shuffle(&mut some);
            let row = row as u8;
            for peer in some.into_iter().take(SECOND_STAGE) {
                self.ask(cx, peer, Asked::Peers, |id| PastryMsg::GetRow { id, row });
            }
        }
        let nearest = self.neighbours.peers().next();
        if let Some(nearest) = nearest {
            self.ask(cx, nearest, Asked::Peers, |id| PastryMsg::GetNeighbours { id });
        }
    }
}
