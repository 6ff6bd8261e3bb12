//! What travels to an object's root, and what each node on the way does with it.
//!
//! A node accepts an errand at once, and passes it on by what its tables say; whoever does not accept it in time is
//! left out, and the next best is tried. Each hop is nearer to the root, so no way leads in a circle.

use std::time::Duration;

use p2p_core::{Cx, Key, Keyed};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::pointers::Pointer;
use super::{Asked, ObjectMsg, ObjectTimer, TapestryObjects};
use crate::structured::salted;
use crate::structured::{Next, Overlay};

/// Something to be done on the way to one of an object's roots.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Errand<P> {
    /// The object.
    pub(super) object: Key,
    /// Which of its roots.
    pub(super) root: u8,
    /// How often it was passed on.
    pub(super) hops: u16,
    /// Peers found silent on the way, or without the object; the latest last. At most [`AVOIDED`].
    pub(super) avoid: Vec<P>,
    pub(super) task: Task<P>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Task<P> {
    /// Keep a pointer.
    Publish {
        /// Who has the object.
        server: P,
        /// Its number for the question, if it wants to know when the root has a pointer.
        ticket: Option<u64>,
        /// The milliseconds after which the pointer ends.
        lifetime_ms: u32,
        /// How far the server is along the way so far, in microseconds.
        way: u32,
    },
    /// Forget it, if the server says that the object is gone.
    Unpublish {
        /// Who has the object no more.
        server: P,
    },
    /// Find it.
    Locate {
        /// The asker.
        origin: P,
        /// Its number for the question.
        ticket: u64,
    },
}

/// How many silent peers an errand remembers.
const AVOIDED: usize = 32;
/// An errand that was passed on this often is dropped. As many levels as there are, and one may be stood on for several
/// hops where tables are not whole.
const MAX_HOPS: u16 = 128;
/// How far a neighbour is taken to be whose distance nobody has measured.
const UNMEASURED: Duration = Duration::from_millis(50);
/// How many objects are looked at together when ways have changed.
const SLICE: usize = 256;

impl<P: Keyed + Serialize + DeserializeOwned> TapestryObjects<P> {
    /// An errand comes from another node.
    pub(super) fn on_pass(&mut self, cx: &mut Cx<'_, Self>, from: P, id: u32, mut errand: Errand<P>) {
        // Half of the questions are for this node's own errands.
        if !self.overlay.is_joined() || self.asked.len() >= 2 * self.config.capacity {
            return; // The sender will find somebody else.
        }
        cx.send(from, ObjectMsg::Taken { id });
        errand.hops = errand.hops.saturating_add(1);
        errand.avoid.truncate(AVOIDED);
        if errand.hops <= MAX_HOPS && errand.root < 16 {
            self.arrive(cx, from, errand);
        }
    }

    /// Does what is to be done here.
    pub(super) fn arrive(&mut self, cx: &mut Cx<'_, Self>, from: P, errand: Errand<P>) {
        let Errand { object, root, .. } = errand;
        match errand.task {
            Task::Publish { server, ticket, lifetime_ms, way } => {
                let most = self.config.lifetime;
                let until = cx.now() + Duration::from_millis(lifetime_ms.into()).min(most);
                let next = self.next(&errand);
                let known = self.pointers.find(&object, root, server).copied();
                let proved = server == from || server == self.me();
                if !proved && known.is_none() && !self.pointers.has_room_for_hearsay(&object, root) {
                    return self.check(cx, server, errand);
                }
                self.pointers.keep(object, Pointer { root, server, until, way, next, proved });
                // Whoever has passed it on before, and to the same peer, need not again.
                let again = known.is_some_and(|known| known.until >= until && known.next == next);
                if ticket.is_some() || !again {
                    self.go_on(cx, errand);
                }
            }
            Task::Unpublish { server } => {
                let known = self.pointers.find(&object, root, server).is_some();
                match known && server != from && server != self.me() {
                    true => self.check(cx, server, errand),
                    false => self.give_up(cx, server, errand),
                }
            }
            Task::Locate { origin, ticket } => {
                if self.published.contains_key(&object) {
                    return self.here(cx, origin, ticket, errand.hops);
                }
                match self.pointers.nearest(&object, cx.now(), &errand.avoid) {
                    Some(server) if server != self.me() => self.seek(cx, server, origin, ticket, errand),
                    _ => self.go_on(cx, errand),
                }
            }
        }
    }

    /// Whom to pass it on to.
    fn next(&self, errand: &Errand<P>) -> Option<P> {
        match self.overlay.next(&salted(&errand.object, errand.root), &errand.avoid) {
            Next::Root(peer) | Next::Toward(peer) => Some(peer),
            Next::Mine | Next::Nowhere | Next::Later => None,
        }
    }

    /// Passes an errand on; at the root it ends.
    fn go_on(&mut self, cx: &mut Cx<'_, Self>, errand: Errand<P>) {
        let Some(peer) = self.next(&errand) else { return self.at_root(cx, &errand) };
        let mut passed = errand.clone();
        if let Task::Publish { way, .. } = &mut passed.task {
            let there = self.overlay.table().rtt(peer).map_or(UNMEASURED, |rtt| rtt / 2);
            *way = way.saturating_add(u32::try_from(there.as_micros()).unwrap_or(u32::MAX));
        }
        self.pass(cx, peer, errand, passed);
    }

    /// Passes `passed` on; `errand` is kept as it came, should it have to go another way.
    fn pass(&mut self, cx: &mut Cx<'_, Self>, peer: P, errand: Errand<P>, passed: Errand<P>) {
        let deadline = cx.now() + self.overlay.table().hop_timeout();
        if let Ok(id) = self.asked.insert(peer, deadline, Asked::Pass(errand)) {
            cx.send(peer, ObjectMsg::Pass { id, errand: passed });
        }
    }

    fn at_root(&mut self, cx: &mut Cx<'_, Self>, errand: &Errand<P>) {
        if !self.overlay.is_joined() {
            return; // Whoever waits for it tries again.
        }
        match errand.task {
            Task::Publish { server, ticket: Some(ticket), .. } if server == self.me() => {
                self.on_published(cx, ticket, errand.root);
            }
            Task::Publish { server, ticket: Some(ticket), .. } => {
                // What there was no room for is not known here.
                if self.pointers.find(&errand.object, errand.root, server).is_some() {
                    cx.send(server, ObjectMsg::Published { ticket, root: errand.root });
                }
            }
            Task::Locate { origin, ticket } if origin == self.me() => self.on_missing(cx, ticket),
            Task::Locate { origin, ticket } => cx.send(origin, ObjectMsg::Missing { ticket }),
            Task::Publish { .. } | Task::Unpublish { .. } => {}
        }
    }

    // ---- whoever has the object is asked

    fn seek(&mut self, cx: &mut Cx<'_, Self>, server: P, origin: P, ticket: u64, errand: Errand<P>) {
        let (object, hops) = (errand.object, errand.hops);
        let deadline = cx.now() + self.overlay.table().hop_timeout();
        if let Ok(id) = self.asked.insert(server, deadline, Asked::Seek(errand)) {
            cx.send(server, ObjectMsg::Seek { id, object, origin, ticket, hops });
        }
    }

    /// This node has it: the asker hears from it itself.
    pub(super) fn here(&mut self, cx: &mut Cx<'_, Self>, origin: P, ticket: u64, hops: u16) {
        match origin == self.me() {
            true => self.on_here(cx, origin, ticket, hops),
            false => cx.send(origin, ObjectMsg::Here { ticket, hops }),
        }
    }

    /// Whoever should have it has not, or does not answer: the next is asked, or the way goes on.
    pub(super) fn on_gone(&mut self, cx: &mut Cx<'_, Self>, server: P, errand: Errand<P>) {
        self.pointers.forget(&errand.object, |pointer| pointer.server == server);
        self.go_around(cx, server, errand);
    }

    // ---- whoever is said to have it, or to have it no more

    /// Whether the server has an object is asked of itself.
    fn check(&mut self, cx: &mut Cx<'_, Self>, server: P, errand: Errand<P>) {
        let object = errand.object;
        let deadline = cx.now() + self.overlay.table().hop_timeout();
        if let Ok(id) = self.asked.insert(server, deadline, Asked::Check(errand)) {
            cx.send(server, ObjectMsg::Check { id, object });
        }
    }

    /// It has.
    pub(super) fn on_there(&mut self, cx: &mut Cx<'_, Self>, server: P, errand: Errand<P>) {
        if let Task::Publish { .. } = errand.task {
            self.arrive(cx, server, errand);
        }
    }

    /// It has not.
    pub(super) fn on_not_there(&mut self, cx: &mut Cx<'_, Self>, server: P, errand: Errand<P>) {
        if let Task::Unpublish { .. } = errand.task {
            self.give_up(cx, server, errand);
        }
    }

    /// It does not answer: no pointer is kept, and others on the way may hear from it.
    fn on_no_word(&mut self, cx: &mut Cx<'_, Self>, server: P, errand: Errand<P>) {
        match errand.task {
            Task::Publish { .. } => self.go_on(cx, errand),
            Task::Unpublish { .. } | Task::Locate { .. } => self.give_up(cx, server, errand),
        }
    }

    /// The pointer is forgotten here, and wherever this node has passed it on.
    fn give_up(&mut self, cx: &mut Cx<'_, Self>, server: P, errand: Errand<P>) {
        let (object, root) = (errand.object, errand.root);
        let known = self.pointers.find(&object, root, server).copied();
        self.pointers.forget(&object, |other| other.root == root && other.server == server);
        match known.map(|known| known.next) {
            Some(Some(next)) => self.pass(cx, next, errand.clone(), errand),
            Some(None) => {}
            None => self.go_on(cx, errand),
        }
    }

    // ---- the silent

    /// A peer did not accept what it was sent.
    pub(super) fn on_silence(&mut self, cx: &mut Cx<'_, Self>, peer: P, question: Asked<P>) {
        self.below(cx, |overlay, cx| overlay.silent(cx, peer));
        match question {
            Asked::Pass(errand) => self.go_around(cx, peer, errand),
            Asked::Seek(errand) => self.on_gone(cx, peer, errand),
            Asked::Check(errand) => self.on_no_word(cx, peer, errand),
        }
    }

    fn go_around(&mut self, cx: &mut Cx<'_, Self>, peer: P, mut errand: Errand<P>) {
        if errand.avoid.len() >= AVOIDED {
            errand.avoid.remove(0);
        }
        errand.avoid.push(peer);
        match errand.task {
            Task::Locate { .. } => {
                let me = self.me();
                self.arrive(cx, me, errand);
            }
            Task::Publish { server, .. } => {
                let next = self.next(&errand);
                let known = self.pointers.find(&errand.object, errand.root, server).copied();
                if let Some(known) = known {
                    self.pointers.keep(errand.object, Pointer { next, ..known });
                }
                self.go_on(cx, errand);
            }
            // What is left of that way ends by itself.
            Task::Unpublish { .. } => {}
        }
    }

    // ---- ways that have changed

    /// Passes pointers on whose way to the root is another than when they were passed on, a few objects at a time.
    pub(super) fn reroute(&mut self, cx: &mut Cx<'_, Self>) {
        let objects = self.pointers.after(self.rerouted, SLICE);
        self.rerouted = objects.last().copied().filter(|_| objects.len() == SLICE);
        self.rerouting = self.rerouted.is_some();
        if self.rerouting {
            cx.set_timer(Duration::ZERO, ObjectTimer::Reroute);
        }
        for object in objects {
            for pointer in self.pointers.of(&object).to_vec() {
                self.reroute_one(cx, object, pointer);
            }
        }
    }

    fn reroute_one(&mut self, cx: &mut Cx<'_, Self>, object: Key, pointer: Pointer<P>) {
        let left = pointer.until.since(cx.now());
        let Pointer { root, server, way, .. } = pointer;
        let lifetime_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let task = Task::Publish { server, ticket: None, lifetime_ms, way };
        let errand = Errand { object, root, hops: 0, avoid: Vec::new(), task };
        let next = self.next(&errand);
        if next != pointer.next && self.overlay.is_joined() && lifetime_ms > 0 {
            self.pointers.keep(object, Pointer { next, ..pointer });
            self.go_on(cx, errand);
        }
    }
}
