//! A node that lies: an honest machine whose messages somebody else rewrites.

use std::fmt;

use crate::protocol::{JobId, Link, OpId, Protocol};
use crate::{Cx, Job, Rng};

/// Wraps a machine. Each message it sends goes through a function that may change it, send it elsewhere, send
/// several instead, or send nothing; all else is the machine's own. An honest node in the same simulation is a
/// [`Liar::honest`].
pub struct Liar<P: Protocol> {
    machine: P,
    rewrite: Option<Rewrite<P>>,
}

/// What a [`Liar`] makes of a message to a peer: the messages that are sent instead.
pub type Rewrite<P> = Box<
    dyn FnMut(
            &mut Rng,
            <P as Protocol>::Peer,
            <P as Protocol>::Msg,
        ) -> Vec<(<P as Protocol>::Peer, <P as Protocol>::Msg)>
        + Send,
>;

impl<P: Protocol> Liar<P> {
    /// A machine that sends what it means.
    pub fn honest(machine: P) -> Liar<P> {
        Liar { machine, rewrite: None }
    }

    /// A machine whose messages are rewritten.
    pub fn new(
        machine: P,
        rewrite: impl FnMut(&mut Rng, P::Peer, P::Msg) -> Vec<(P::Peer, P::Msg)> + Send + 'static,
    ) -> Liar<P> {
        Liar { machine, rewrite: Some(Box::new(rewrite)) }
    }

    /// The machine inside.
    pub fn machine(&self) -> &P {
        &self.machine
    }

    /// Whether this one lies.
    pub fn lies(&self) -> bool {
        self.rewrite.is_some()
    }

    fn run(&mut self, cx: &mut Cx<'_, Self>, input: impl FnOnce(&mut P, &mut Cx<'_, P>)) {
        let machine = &mut self.machine;
        match &mut self.rewrite {
            None => cx.wrap(|cx| input(machine, cx), |timer| timer, |cx, to, msg| cx.send(to, msg)),
            Some(rewrite) => cx.wrap(
                |cx| input(machine, cx),
                |timer| timer,
                |cx, to, msg| {
                    let instead = rewrite(cx.rng(), to, msg);
                    instead.into_iter().for_each(|(to, msg)| cx.send(to, msg));
                },
            ),
        }
    }
}

impl<P: Protocol> Protocol for Liar<P> {
    type Peer = P::Peer;
    type Msg = P::Msg;
    type Timer = P::Timer;
    type Command = P::Command;
    type Item = P::Item;
    type Outcome = P::Outcome;
    type Event = P::Event;
    type Job = P::Job;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.run(cx, |machine, cx| machine.on_start(cx));
    }
    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P::Peer, msg: P::Msg) {
        self.run(cx, |machine, cx| machine.on_message(cx, from, msg));
    }
    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: P::Timer) {
        self.run(cx, |machine, cx| machine.on_timer(cx, timer));
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: P::Command) {
        self.run(cx, |machine, cx| machine.on_command(cx, op, command));
    }
    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.run(cx, |machine, cx| machine.on_cancel(cx, op));
    }
    fn on_read(&mut self, cx: &mut Cx<'_, Self>, op: OpId, items: usize) {
        self.run(cx, |machine, cx| machine.on_read(cx, op, items));
    }
    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P::Peer, link: Link) {
        self.run(cx, |machine, cx| machine.on_link(cx, peer, link));
    }
    fn on_job(&mut self, cx: &mut Cx<'_, Self>, id: JobId, done: <P::Job as Job>::Done) {
        self.run(cx, |machine, cx| machine.on_job(cx, id, done));
    }
}

impl<P: Protocol> fmt::Debug for Liar<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Liar(lies: {})", self.lies())
    }
}
