//! What every driver has in common: one machine, its clock, timers, users and jobs.
//!
//! A [`Runner`] gives its machine one input at a time and carries out all effects but sending, which is the
//! driver's. It keeps the contract that the module text of `protocol` states.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::channel::oneshot;
use tokio::sync::mpsc;
use tokio::time::Sleep;

use super::clock::Clock;
use super::timers::Timers;
use super::worker::Crew;
use crate::handle::OpenCalls;
use crate::handle::desk::{Call, Desk, Todo};
use crate::protocol::{Effect, Job, JobId, Link, OpId, Protocol};
use crate::{Cx, CxState, Handle, Rng, Time};

/// What a machine may be given.
pub(super) enum Input<P: Protocol> {
    Start,
    Message(P::Peer, P::Msg),
    Link(P::Peer, Link),
    Timer(P::Timer),
    Call(Call<P>),
    Cancel(OpId),
    Job(JobId, <P::Job as Job>::Done),
}

/// A machine and everything it needs but a network.
pub(super) struct Runner<P: Protocol> {
    machine: P,
    state: CxState,
    desk: Desk<P>,
    timers: Timers<P::Timer>,
    /// Users who sleep, by when they wake and a number.
    sleeps: BTreeMap<(Time, u64), oneshot::Sender<()>>,
    slept: u64,
    calls: mpsc::UnboundedReceiver<Call<P>>,
    crew: Crew<P::Job>,
    /// What follows from an input.
    again: VecDeque<Input<P>>,
    clock: Clock,
    alarm: Option<(Time, Pin<Box<Sleep>>)>,
    turn: usize,
}

impl<P: Protocol> Runner<P> {
    pub(super) fn new(machine: P, clock: Clock, crew: Crew<P::Job>) -> (Runner<P>, Handle<P>) {
        let (sender, calls) = mpsc::unbounded_channel();
        let handle = Handle::new(Arc::new(OpenCalls::default()), move |call| sender.send(call).is_ok());
        let mut seed = [0; 8];
        // Without the system's random numbers a node has no key either: see `Keypair::generate`.
        let _ = getrandom::fill(&mut seed);
        let runner = Runner {
            machine,
            state: CxState::new(Rng::new(u64::from_le_bytes(seed))),
            desk: Desk::default(),
            timers: Timers::default(),
            sleeps: BTreeMap::new(),
            slept: 0,
            calls,
            crew,
            again: VecDeque::new(),
            clock,
            alarm: None,
            turn: 0,
        };
        (runner, handle)
    }

    /// Gives the machine an input; its messages are added to `out`.
    pub(super) fn feed(&mut self, input: Input<P>, out: &mut Vec<(P::Peer, P::Msg)>) {
        match input {
            Input::Start => self.step(out, |machine, cx| machine.on_start(cx)),
            Input::Message(from, msg) => self.step(out, |machine, cx| machine.on_message(cx, from, msg)),
            Input::Link(peer, link) => self.step(out, |machine, cx| machine.on_link(cx, peer, link)),
            Input::Timer(timer) => self.step(out, |machine, cx| machine.on_timer(cx, timer)),
            Input::Job(id, done) => self.step(out, |machine, cx| machine.on_job(cx, id, done)),
            Input::Cancel(op) => self.step(out, |machine, cx| machine.on_cancel(cx, op)),
            Input::Call(call) => match self.desk.take(call) {
                Todo::Command(op, command) => {
                    self.step(out, |machine, cx| machine.on_command(cx, op, command));
                }
                Todo::Cancel(op) => self.step(out, |machine, cx| machine.on_cancel(cx, op)),
                Todo::Read(op, items) => self.step(out, |machine, cx| machine.on_read(cx, op, items)),
                Todo::Sleep(duration, waker) => {
                    self.slept += 1;
                    self.sleeps.insert((self.clock.now() + duration, self.slept), waker);
                }
                Todo::Nothing => {}
            },
        }
    }

    fn step(&mut self, out: &mut Vec<(P::Peer, P::Msg)>, run: impl FnOnce(&mut P, &mut Cx<'_, P>)) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let Runner { machine, state, desk, timers, crew, again, .. } = self;
        let mut sink = |effect: Effect<P>| match effect {
            Effect::Send(to, msg) => out.push((to, msg)),
            Effect::SetTimer(after, timer) => timers.set(now + after, timer),
            Effect::ClearTimer(timer) => timers.clear(&timer),
            Effect::Item(op, item) => {
                if let Todo::Cancel(op) = desk.item(op, item) {
                    again.push_back(Input::Cancel(op));
                }
            }
            Effect::Finish(op, outcome) => {
                let _ = desk.finish(op, outcome);
            }
            Effect::Emit(event) => desk.event(&event),
            Effect::Start(id, job) => {
                if let Err(done) = crew.begin(id, job) {
                    again.push_back(Input::Job(id, done));
                }
            }
        };
        run(machine, &mut Cx::new(now, wall, state, &mut sink));
    }

    /// The next input that does not come from the network. The sources take turns.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Input<P>> {
        self.turn = self.turn.wrapping_add(1);
        for source in 0..4 {
            match self.turn.wrapping_add(source) % 4 {
                0 => {
                    if let Some(input) = self.again.pop_front() {
                        return Poll::Ready(input);
                    }
                }
                1 => {
                    if let Poll::Ready((id, done)) = self.crew.poll(cx) {
                        return Poll::Ready(Input::Job(id, done));
                    }
                }
                2 => {
                    // `None`: there is no handle any more. The machine goes on.
                    if let Poll::Ready(Some(call)) = self.calls.poll_recv(cx) {
                        return Poll::Ready(Input::Call(call));
                    }
                }
                _ => {
                    if let Poll::Ready(timer) = self.poll_timers(cx) {
                        return Poll::Ready(Input::Timer(timer));
                    }
                }
            }
        }
        Poll::Pending
    }

    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<P::Timer> {
        loop {
            let now = self.clock.now();
            while let Some(sleeper) = self.sleeps.first_entry().filter(|sleeper| sleeper.key().0 <= now) {
                let _ = sleeper.remove().send(());
            }
            if let Some(timer) = self.timers.pop(now) {
                return Poll::Ready(timer);
            }
            let wakes = self.sleeps.first_key_value().map(|((wakes, _), _)| *wakes);
            let Some(next) = self.timers.next().into_iter().chain(wakes).min() else {
                self.alarm = None;
                return Poll::Pending;
            };
            let Some(instant) = self.clock.instant(next) else { return Poll::Pending };
            let (at, alarm) = match &mut self.alarm {
                Some((at, alarm)) => (at, alarm),
                None => {
                    let alarm = (next, Box::pin(tokio::time::sleep_until(instant)));
                    let (at, alarm) = self.alarm.insert(alarm);
                    (at, alarm)
                }
            };
            if *at != next {
                *at = next;
                alarm.as_mut().reset(instant);
            }
            std::task::ready!(alarm.as_mut().poll(cx));
            self.alarm = None;
        }
    }

    /// Ends the machine: its users hear that it has stopped, its jobs are done to the last.
    pub(super) async fn finish(self) {
        let Runner { desk, calls, crew, sleeps, machine, .. } = self;
        drop((desk, calls, sleeps, machine));
        crew.finish().await;
    }
}
