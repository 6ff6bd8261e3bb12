//! Driving one machine by hand: inputs in, effects out, no world around it.

use std::fmt;
use std::time::Duration;

use crate::handle::OpenCalls;
use crate::protocol::{Effect, Job, JobId, Link, OpId, Protocol};
use crate::time::nanos;
use crate::{Cx, CxState, Rng, Time};

/// One machine and what it has done. Its clock stands still but for [`Script::advance`], which fires the timers
/// that fall due.
///
/// See [`Protocol`] for an example.
pub struct Script<P: Protocol> {
    machine: P,
    state: CxState,
    now: u64,
    calls: OpenCalls,
    timers: Vec<(P::Timer, u64)>,
    sent: Vec<(P::Peer, P::Msg)>,
    items: Vec<(OpId, P::Item)>,
    outcomes: Vec<(OpId, P::Outcome)>,
    events: Vec<P::Event>,
    jobs: Vec<(JobId, P::Job)>,
}

impl<P: Protocol> Script<P> {
    /// Starts a machine.
    pub fn new(machine: P) -> Script<P> {
        let mut script = Script {
            machine,
            state: CxState::new(Rng::new(0)),
            now: 0,
            calls: OpenCalls::default(),
            timers: Vec::new(),
            sent: Vec::new(),
            items: Vec::new(),
            outcomes: Vec::new(),
            events: Vec::new(),
            jobs: Vec::new(),
        };
        script.input(|machine, cx| machine.on_start(cx));
        script
    }

    fn input(&mut self, input: impl FnOnce(&mut P, &mut Cx<'_, P>)) {
        let mut effects = Vec::new();
        let mut sink = |effect| effects.push(effect);
        let now = Time::from_nanos(self.now);
        input(&mut self.machine, &mut Cx::new(now, now.since(Time::ZERO), &mut self.state, &mut sink));
        for effect in effects {
            match effect {
                Effect::Send(to, msg) => self.sent.push((to, msg)),
                Effect::SetTimer(after, timer) => {
                    self.timers.retain(|(set, _)| *set != timer);
                    self.timers.push((timer, self.now.saturating_add(nanos(after))));
                }
                Effect::ClearTimer(timer) => self.timers.retain(|(set, _)| *set != timer),
                Effect::Item(op, item) => self.items.push((op, item)),
                Effect::Finish(op, outcome) => self.outcomes.push((op, outcome)),
                Effect::Emit(event) => self.events.push(event),
                Effect::Start(id, job) => self.jobs.push((id, job)),
            }
        }
    }

    /// A message comes.
    pub fn message(&mut self, from: P::Peer, msg: P::Msg) {
        self.input(|machine, cx| machine.on_message(cx, from, msg));
    }

    /// A command is given.
    pub fn command(&mut self, command: P::Command) -> OpId {
        let op = self.calls.op();
        self.input(|machine, cx| machine.on_command(cx, op, command));
        op
    }

    /// Whoever gave a command is gone.
    pub fn cancel(&mut self, op: OpId) {
        self.input(|machine, cx| machine.on_cancel(cx, op));
    }

    /// Whoever gave a command has read so many of its items.
    pub fn read(&mut self, op: OpId, items: usize) {
        self.input(|machine, cx| machine.on_read(cx, op, items));
    }

    /// A connection comes or goes.
    pub fn link(&mut self, peer: P::Peer, link: Link) {
        self.input(|machine, cx| machine.on_link(cx, peer, link));
    }

    /// A job is done.
    pub fn done(&mut self, id: JobId, done: <P::Job as Job>::Done) {
        self.input(|machine, cx| machine.on_job(cx, id, done));
    }

    /// Lets time pass, and fires each timer that falls due at its time.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now.saturating_add(nanos(by));
        let due = |timers: &[(P::Timer, u64)]| {
            let first = timers.iter().enumerate().min_by(|(_, a), (_, b)| (a.1, &a.0).cmp(&(b.1, &b.0)));
            first.filter(|(_, (_, at))| *at <= until).map(|(i, _)| i)
        };
        while let Some(i) = due(&self.timers) {
            let (timer, at) = self.timers.remove(i);
            self.now = self.now.max(at);
            self.input(|machine, cx| machine.on_timer(cx, timer));
        }
        self.now = until;
    }

    /// The machine.
    pub fn machine(&self) -> &P {
        &self.machine
    }

    /// The messages sent since the last look.
    pub fn sent(&mut self) -> Vec<(P::Peer, P::Msg)> {
        std::mem::take(&mut self.sent)
    }

    /// The items of commands since the last look.
    pub fn items(&mut self) -> Vec<(OpId, P::Item)> {
        std::mem::take(&mut self.items)
    }

    /// The outcomes of commands since the last look.
    pub fn outcomes(&mut self) -> Vec<(OpId, P::Outcome)> {
        std::mem::take(&mut self.outcomes)
    }

    /// What it said unasked since the last look.
    pub fn events(&mut self) -> Vec<P::Event> {
        std::mem::take(&mut self.events)
    }

    /// The jobs started since the last look.
    pub fn jobs(&mut self) -> Vec<(JobId, P::Job)> {
        std::mem::take(&mut self.jobs)
    }

    /// The timers that are set.
    pub fn timers(&self) -> impl Iterator<Item = &P::Timer> {
        self.timers.iter().map(|(timer, _)| timer)
    }
}

impl<P: Protocol> fmt::Debug for Script<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Script({} sent, {} timers)", self.sent.len(), self.timers.len())
    }
}
