//! [`Cx`]: a machine's only way out, and its only source of time and chance.

use std::fmt;
use std::time::Duration;

use crate::protocol::{Effect, JobId, OpId, Protocol};
use crate::{Rng, Time};

/// What a runner keeps for one node between inputs, for the next [`Cx`] to go on from.
#[derive(Debug)]
pub struct CxState {
    rng: Rng,
    next_op: u64,
    next_job: u64,
}

impl CxState {
    /// A node's state at its start, drawing its randomness from `rng`.
    pub fn new(rng: Rng) -> CxState {
        CxState { rng, next_op: 0, next_job: 0 }
    }
}

/// Handed to a machine with every input. Effects take place after the method returns, in order.
pub struct Cx<'a, P: Protocol> {
    now: Time,
    wall: Duration,
    state: &'a mut CxState,
    sink: &'a mut dyn FnMut(Effect<P>),
}

/// What a child machine said while it was [nested](Cx::nest): its answers to its parent.
#[expect(missing_debug_implementations, reason = "its parts need not be Debug")]
pub enum Up<P: Protocol> {
    /// One of its commands yields something on the way.
    Item(OpId, P::Item),
    /// One of its commands is over.
    Finished(OpId, P::Outcome),
    /// It says something unasked.
    Event(P::Event),
}

impl<'a, P: Protocol> Cx<'a, P> {
    /// For runners: `wall` is the time since the Unix epoch, `sink` takes the effects in order.
    pub fn new(
        now: Time,
        wall: Duration,
        state: &'a mut CxState,
        sink: &'a mut dyn FnMut(Effect<P>),
    ) -> Cx<'a, P> {
        Cx { now, wall, state, sink }
    }

    /// The time on this node's monotonic clock.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The time of day by this node's clock, since the Unix epoch: for lifetimes that other nodes must agree on.
    pub fn wall(&self) -> Duration {
        self.wall
    }

    /// This node's random numbers.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.state.rng
    }

    /// A fresh number for a command that this machine gives a child.
    pub fn op(&mut self) -> OpId {
        self.state.next_op += 1;
        OpId(self.state.next_op)
    }

    /// Sends a message to a peer.
    #[inline]
    pub fn send(&mut self, to: P::Peer, msg: P::Msg) {
        (self.sink)(Effect::Send(to, msg));
    }

    /// Fires `timer` once, `after` this long; an equal timer that is set already is replaced.
    #[inline]
    pub fn set_timer(&mut self, after: Duration, timer: P::Timer) {
        (self.sink)(Effect::SetTimer(after, timer));
    }

    /// Forgets a timer; nothing happens if it is not set.
    #[inline]
    pub fn clear_timer(&mut self, timer: P::Timer) {
        (self.sink)(Effect::ClearTimer(timer));
    }

    /// Yields something on the way to a command's end.
    pub fn item(&mut self, op: OpId, item: P::Item) {
        (self.sink)(Effect::Item(op, item));
    }

    /// Ends a command.
    pub fn finish(&mut self, op: OpId, outcome: P::Outcome) {
        (self.sink)(Effect::Finish(op, outcome));
    }

    /// Tells whoever listens.
    pub fn emit(&mut self, event: P::Event) {
        (self.sink)(Effect::Emit(event));
    }

    /// Has a job done elsewhere. It always comes back through [`Protocol::on_job`]; where the queue of jobs is
    /// full, at once and as a failure.
    pub fn start(&mut self, job: P::Job) -> JobId {
        self.state.next_job += 1;
        let id = JobId(self.state.next_job);
        (self.sink)(Effect::Start(id, job));
        id
    }

    /// Runs a child machine: its messages, timers and jobs are wrapped by the three functions and go out as this
    /// machine's own, its answers come back as a list. Functions and not `From`, because a machine may have
    /// several children, or several of one kind. Nothing is allocated unless the child answers.
    pub fn nest<C: Protocol<Peer = P::Peer>>(
        &mut self,
        msg: impl Fn(C::Msg) -> P::Msg,
        timer: impl Fn(C::Timer) -> P::Timer,
        job: impl Fn(C::Job) -> P::Job,
        run: impl FnOnce(&mut Cx<'_, C>),
    ) -> Vec<Up<C>> {
        self.nest_as(|to, m| (to, msg(m)), timer, job, run)
    }

    /// As [`Cx::nest`], for a child that names peers in its own way: `send` gives the peer that a message goes
    /// to as well.
    pub fn nest_as<C: Protocol>(
        &mut self,
        send: impl Fn(C::Peer, C::Msg) -> (P::Peer, P::Msg),
        timer: impl Fn(C::Timer) -> P::Timer,
        job: impl Fn(C::Job) -> P::Job,
        run: impl FnOnce(&mut Cx<'_, C>),
    ) -> Vec<Up<C>> {
        let mut ups = Vec::new();
        let sink = &mut *self.sink;
        let mut child = |effect: Effect<C>| match effect {
            Effect::Send(to, m) => {
                let (to, m) = send(to, m);
                sink(Effect::Send(to, m));
            }
            Effect::SetTimer(after, t) => sink(Effect::SetTimer(after, timer(t))),
            Effect::ClearTimer(t) => sink(Effect::ClearTimer(timer(t))),
            Effect::Start(id, j) => sink(Effect::Start(id, job(j))),
            Effect::Item(op, item) => ups.push(Up::Item(op, item)),
            Effect::Finish(op, outcome) => ups.push(Up::Finished(op, outcome)),
            Effect::Emit(event) => ups.push(Up::Event(event)),
        };
        run(&mut Cx { now: self.now, wall: self.wall, state: &mut *self.state, sink: &mut child });
        ups
    }

    /// Runs a machine that this one is a shell of: it answers commands under the same numbers, in the same words. Its
    /// timers are wrapped, and every message that it sends is put before `each_send`, which sends it, or does
    /// otherwise.
    pub fn wrap<C>(
        &mut self,
        run: impl FnOnce(&mut Cx<'_, C>),
        timer: impl Fn(C::Timer) -> P::Timer,
        mut each_send: impl FnMut(&mut Cx<'_, P>, C::Peer, C::Msg),
    ) where
        C: Protocol<Item = P::Item, Outcome = P::Outcome, Event = P::Event, Job = P::Job>,
    {
        let mut effects = Vec::new();
        let mut child = |effect: Effect<C>| effects.push(effect);
        run(&mut Cx { now: self.now, wall: self.wall, state: &mut *self.state, sink: &mut child });
        for effect in effects {
            match effect {
                Effect::Send(to, msg) => each_send(self, to, msg),
                Effect::SetTimer(after, set) => self.set_timer(after, timer(set)),
                Effect::ClearTimer(set) => self.clear_timer(timer(set)),
                Effect::Item(op, item) => self.item(op, item),
                Effect::Finish(op, outcome) => self.finish(op, outcome),
                Effect::Emit(event) => self.emit(event),
                Effect::Start(id, job) => (self.sink)(Effect::Start(id, job)),
            }
        }
    }
}

impl<P: Protocol> fmt::Debug for Cx<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx").field("now", &self.now).finish_non_exhaustive()
    }
}
