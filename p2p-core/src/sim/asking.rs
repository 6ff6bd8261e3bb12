//! Asking simulated nodes: commands, handles, and `async` code in virtual time.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::world::Rare;
use super::{Ended, Sim, SimPeer};
use crate::handle::Handle;
use crate::handle::desk::{Call, Todo};
use crate::protocol::{OpId, Protocol, Worker};
use crate::time::nanos;
use crate::{Time, Wire};

impl<P: Protocol<Peer = SimPeer>, W: Worker<P::Job>> Sim<P, W>
where
    P::Msg: Wire,
{
    /// Gives a node a command. Its outcome is among [`Sim::take_outcomes`]; if the node is dead there is none.
    pub fn command(&mut self, peer: SimPeer, command: P::Command) -> OpId {
        let op = self.open.op();
        self.input(peer, |machine, cx| machine.on_command(cx, op, command));
        op
    }

    /// The outcomes of commands given by [`Sim::command`] that have come since the last look.
    pub fn take_outcomes(&mut self) -> Vec<Ended<P>> {
        std::mem::take(&mut self.world.outcomes)
    }

    /// Runs until a time, but stops as soon as an outcome waits to be taken; says whether one does.
    pub fn run_to_outcome(&mut self, until: Time) -> bool {
        self.take_calls();
        while self.world.outcomes.is_empty() {
            if !self.step(until) {
                self.world.now = self.world.now.max(until.as_nanos());
                return false;
            }
        }
        true
    }

    /// What machines have said unasked since the last look; kept only from the first call on.
    pub fn take_events(&mut self) -> Vec<(SimPeer, P::Event)> {
        self.world.events.replace(Vec::new()).unwrap_or_default()
    }

    /// A handle to a node, for [`Sim::block_on`].
    pub fn handle(&mut self, peer: SimPeer) -> Handle<P> {
        let calls = self.world.call_sender.clone();
        Handle::new(self.open.clone(), move |call| calls.unbounded_send((peer.0, call)).is_ok())
    }

    /// Runs the world until a future is ready: the same `async` code that runs over QUIC.
    ///
    /// # Panics
    /// If the future waits for something that can never come: nothing is left to happen.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        loop {
            if woken.0.swap(false, Ordering::Relaxed)
                && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return output;
            }
            let called = self.take_calls();
            if !woken.0.load(Ordering::Relaxed) && !called && !self.step(Time::MAX) {
                panic!(
                    "the future waits, but nothing is left to happen (seed {}, {})",
                    self.seed,
                    self.now()
                );
            }
        }
    }

    pub(super) fn take_calls(&mut self) -> bool {
        let mut any = false;
        while let Ok((peer, call)) = self.world.calls.try_recv() {
            any = true;
            self.call(SimPeer(peer), call);
        }
        any
    }

    fn call(&mut self, peer: SimPeer, call: Call<P>) {
        if self.node(peer).is_none() {
            return; // Dropping the call tells its asker.
        }
        let todo = self.world.desks.entry(peer.0).or_default().take(call);
        self.carry_out(peer, todo);
        self.follow_up();
    }

    /// Does what follows from an input or a call.
    pub(super) fn carry_out(&mut self, peer: SimPeer, todo: Todo<P>) {
        match todo {
            Todo::Command(op, command) => {
                self.hand(peer, |machine, cx| machine.on_command(cx, op, command));
            }
            Todo::Cancel(op) => self.hand(peer, |machine, cx| machine.on_cancel(cx, op)),
            Todo::Read(op, items) => self.hand(peer, |machine, cx| machine.on_read(cx, op, items)),
            Todo::Sleep(duration, sender) => self.world.after(nanos(duration), Rare::Wake(sender)),
            Todo::Nothing => {}
        }
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
