//! What users of a node publish and look for, and `impl Protocol`.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::{Cx, Down, Key, Keyed, Link, NoJob, OpId, Protocol, Time};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::errand::{Errand, Task};
use super::{
    Asked, LocateError, Located, ObjectCommand, ObjectMsg, ObjectOutcome, ObjectTimer, PublishError,
    TapestryObjects,
};

/// Somebody waits until an object's roots know of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publishing {
    pub(super) op: OpId,
    /// Which roots have answered, as bits.
    reached: u16,
    pub(super) deadline: Time,
}

/// Somebody waits for an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Locating {
    op: OpId,
    object: Key,
    /// The root that is asked.
    root: u8,
    /// How many more are asked if that knows nothing.
    roots_left: u8,
    /// A root has answered.
    answered: bool,
    pub(super) deadline: Time,
}

/// What is due within this time is published again together.
const TOGETHER: Duration = Duration::from_secs(1);

impl<P: Keyed + Serialize + DeserializeOwned> TapestryObjects<P> {
    // ---- publish

    fn publish(&mut self, cx: &mut Cx<'_, Self>, op: OpId, object: Key) {
        let known = self.published.contains_key(&object);
        let full = !known && self.published.len() >= self.config.objects;
        if full || self.publishing.len() >= self.config.capacity {
            return cx.finish(op, ObjectOutcome::Published(Err(PublishError::Full)));
        }
        let ticket = cx.rng().next_u64();
        let deadline = cx.now() + self.config.timeout;
        self.publishing.insert(ticket, Publishing { op, reached: 0, deadline });
        self.send_out(cx, object, Some(ticket));
        self.keep_later(cx);
    }

    /// Sends a pointer to each root, and notes when that is to be done again.
    fn send_out(&mut self, cx: &mut Cx<'_, Self>, object: Key, ticket: Option<u64>) {
        let period = self.config.republish;
        let again = cx.now() + cx.rng().duration(period / 2, period * 3 / 2);
        self.published.insert(object, again);
        let server = self.me();
        let lifetime_ms = u32::try_from(self.config.lifetime.as_millis()).unwrap_or(u32::MAX);
        for root in 0..self.config.roots {
            let task = Task::Publish { server, ticket, lifetime_ms, way: 0 };
            self.arrive(cx, server, Errand { object, root, hops: 0, avoid: Vec::new(), task });
        }
    }

    /// A root has a pointer.
    pub(super) fn on_published(&mut self, cx: &mut Cx<'_, Self>, ticket: u64, root: u8) {
        let roots = self.config.roots;
        let Some(publishing) = self.publishing.get_mut(&ticket).filter(|_| root < roots) else { return };
        publishing.reached |= 1 << root;
        if publishing.reached.count_ones() == roots.into() {
            self.end_publishing(cx, ticket);
        }
    }

    fn end_publishing(&mut self, cx: &mut Cx<'_, Self>, ticket: u64) {
        let Some(Publishing { op, reached, .. }) = self.publishing.remove(&ticket) else { return };
        let result = match reached.count_ones() as usize {
            0 => Err(PublishError::NoRoot),
            roots => Ok(roots),
        };
        cx.finish(op, ObjectOutcome::Published(result));
    }

    fn unpublish(&mut self, cx: &mut Cx<'_, Self>, op: OpId, object: Key) {
        if self.published.remove(&object).is_some() {
            let server = self.me();
            for root in 0..self.config.roots {
                let task = Task::Unpublish { server };
                self.arrive(cx, server, Errand { object, root, hops: 0, avoid: Vec::new(), task });
            }
        }
        cx.finish(op, ObjectOutcome::Unpublished);
    }

    /// Publishes again what is due.
    fn keep(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        let due = self.published.iter().filter(|(_, again)| **again <= now).map(|(object, _)| *object);
        for object in due.collect::<Vec<Key>>() {
            self.send_out(cx, object, None);
        }
        self.keep_later(cx);
    }

    fn keep_later(&self, cx: &mut Cx<'_, Self>) {
        if let Some(next) = self.published.values().min() {
            cx.set_timer(next.since(cx.now()).max(TOGETHER), ObjectTimer::Keep);
        }
    }

    // ---- locate

    fn locate(&mut self, cx: &mut Cx<'_, Self>, op: OpId, object: Key) {
        if self.locating.len() >= self.config.capacity {
            return cx.finish(op, ObjectOutcome::Located(Err(LocateError::Busy)));
        }
        // Any of them first: so each has its share, and a bad one is met by few.
        let root = cx.rng().below(self.config.roots.into()) as u8;
        let deadline = cx.now() + self.config.timeout;
        let roots_left = self.config.roots - 1;
        self.ask_root(cx, Locating { op, object, root, roots_left, answered: false, deadline });
    }

    fn ask_root(&mut self, cx: &mut Cx<'_, Self>, locating: Locating) {
        let ticket = cx.rng().next_u64();
        let Locating { object, root, .. } = locating;
        self.locating.insert(ticket, locating);
        let origin = self.me();
        let task = Task::Locate { origin, ticket };
        self.arrive(cx, origin, Errand { object, root, hops: 0, avoid: Vec::new(), task });
    }

    /// The root that was asked knows nobody.
    pub(super) fn on_missing(&mut self, cx: &mut Cx<'_, Self>, ticket: u64) {
        if let Some(locating) = self.locating.remove(&ticket) {
            self.ask_next_root(cx, Locating { answered: true, ..locating });
        }
    }

    fn ask_next_root(&mut self, cx: &mut Cx<'_, Self>, locating: Locating) {
        let Some(roots_left) = locating.roots_left.checked_sub(1) else {
            let why = if locating.answered { LocateError::NotFound } else { LocateError::NoRoot };
            return cx.finish(locating.op, ObjectOutcome::Located(Err(why)));
        };
        let root = (locating.root + 1) % self.config.roots;
        let deadline = cx.now() + self.config.timeout;
        self.ask_root(cx, Locating { root, roots_left, deadline, ..locating });
    }

    /// Somebody has the object.
    pub(super) fn on_here(&mut self, cx: &mut Cx<'_, Self>, server: P, ticket: u64, hops: u16) {
        if let Some(Locating { op, .. }) = self.locating.remove(&ticket) {
            cx.finish(op, ObjectOutcome::Located(Ok(Located { server, hops: hops.into() })));
        }
    }

    // ---- who is late

    fn on_late(&mut self, cx: &mut Cx<'_, Self>) {
        self.late = None;
        let now = cx.now();
        while let Some((peer, question)) = self.asked.expire(now) {
            self.on_silence(cx, peer, question);
        }
        for ticket in late(&self.publishing, |publishing| publishing.deadline <= now) {
            self.end_publishing(cx, ticket);
        }
        for ticket in late(&self.locating, |locating| locating.deadline <= now) {
            if let Some(locating) = self.locating.remove(&ticket) {
                self.ask_next_root(cx, locating);
            }
        }
    }

    fn on_peer(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: ObjectMsg<P>) {
        match msg {
            ObjectMsg::Overlay(msg) => self.below(cx, |overlay, cx| overlay.on_message(cx, from, msg)),
            ObjectMsg::Pass { id, errand } => self.on_pass(cx, from, id, errand),
            // Whoever takes it over answers the asker, and has the object still if that is what it was asked.
            ObjectMsg::Taken { id } => match self.asked.answer(id, from) {
                Some(Asked::Check(errand)) => self.on_there(cx, from, errand),
                Some(Asked::Seek(errand)) => self.pointers.prove(&errand.object, from),
                Some(Asked::Pass(_)) | None => {}
            },
            ObjectMsg::Published { ticket, root } => self.on_published(cx, ticket, root),
            ObjectMsg::Seek { id, object, origin, ticket, hops } => {
                match self.published.contains_key(&object) {
                    true => {
                        cx.send(from, ObjectMsg::Taken { id });
                        self.here(cx, origin, ticket, hops.saturating_add(1));
                    }
                    false => cx.send(from, ObjectMsg::Gone { id }),
                }
            }
            ObjectMsg::Here { ticket, hops } => self.on_here(cx, from, ticket, hops),
            ObjectMsg::Check { id, object } => match self.published.contains_key(&object) {
                true => cx.send(from, ObjectMsg::Taken { id }),
                false => cx.send(from, ObjectMsg::Gone { id }),
            },
            ObjectMsg::Gone { id } => match self.asked.answer(id, from) {
                Some(Asked::Seek(errand)) => self.on_gone(cx, from, errand),
                Some(Asked::Check(errand)) => self.on_not_there(cx, from, errand),
                // An answer to something else is none.
                Some(pass @ Asked::Pass(_)) => self.on_silence(cx, from, pass),
                None => {}
            },
            ObjectMsg::Missing { ticket } => self.on_missing(cx, ticket),
        }
    }
}

fn late<T>(waiting: &BTreeMap<u64, T>, is_late: impl Fn(&T) -> bool) -> Vec<u64> {
    waiting.iter().filter(|(_, what)| is_late(what)).map(|(ticket, _)| *ticket).collect()
}

impl<P: Keyed + Serialize + DeserializeOwned> Protocol for TapestryObjects<P> {
    type Peer = P;
    type Msg = ObjectMsg<P>;
    type Timer = ObjectTimer;
    type Command = ObjectCommand;
    type Item = ();
    type Outcome = ObjectOutcome<P>;
    type Event = ();
    type Job = NoJob;

    fn warm(&self) {
        self.overlay.warm();
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        cx.set_timer(self.config.republish, ObjectTimer::Forget);
        self.below(cx, |overlay, cx| overlay.on_start(cx));
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: ObjectMsg<P>) {
        self.on_peer(cx, from, msg);
        self.arm(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: ObjectTimer) {
        match timer {
            ObjectTimer::Overlay(timer) => self.below(cx, |overlay, cx| overlay.on_timer(cx, timer)),
            ObjectTimer::Late => self.on_late(cx),
            ObjectTimer::Keep => self.keep(cx),
            ObjectTimer::Reroute => self.reroute(cx),
            ObjectTimer::Forget => {
                self.pointers.expire(cx.now());
                cx.set_timer(self.config.republish, ObjectTimer::Forget);
            }
        }
        self.arm(cx);
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: ObjectCommand) {
        match command {
            ObjectCommand::Publish(object) => self.publish(cx, op, object),
            ObjectCommand::Unpublish(object) => self.unpublish(cx, op, object),
            ObjectCommand::Locate(object) => self.locate(cx, op, object),
        }
        self.arm(cx);
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.publishing.retain(|_, publishing| publishing.op != op);
        self.locating.retain(|_, locating| locating.op != op);
        self.arm(cx);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        self.below(cx, |overlay, cx| overlay.on_link(cx, peer, link));
        if let Link::Down(Down::Unreachable | Down::TimedOut) = link {
            while let Some(question) = self.asked.give_up(peer) {
                self.on_silence(cx, peer, question);
            }
        }
        self.arm(cx);
    }
}
