//! A node that notes what it receives: what tests and measurements of broadcast look at.

use std::collections::BTreeMap;
use std::fmt;

use p2p_core::{Cx, Link, NoJob, OpId, Protocol, Time, Up};

use crate::can::{CanMulticast, CanMulticastCommand};
use crate::pubsub::{Delivery, Message, Topic};
use crate::scribe::{Scribe, ScribeCommand};
use crate::structured::SingleRoot;

/// A machine that carries messages to subscribers.
pub trait Carrier: Protocol<Item = Delivery<<Self as Protocol>::Peer>, Event = (), Job = NoJob> {
    /// The topic whose messages a command is to receive.
    fn listens(command: &Self::Command) -> Option<Topic>;
}

impl<O: SingleRoot<Job = NoJob>> Carrier for Scribe<O> {
    fn listens(command: &ScribeCommand) -> Option<Topic> {
        match command {
            ScribeCommand::Subscribe { topic } | ScribeCommand::Offer { topic, .. } => Some(*topic),
            _ => None,
        }
    }
}

impl<P: p2p_core::Keyed> Carrier for CanMulticast<P> {
    fn listens(command: &CanMulticastCommand) -> Option<Topic> {
        match command {
            CanMulticastCommand::Subscribe { topic } => Some(*topic),
            _ => None,
        }
    }
}

/// A node that notes what it receives, and when. All else is the node's own.
pub struct Recorder<N: Protocol> {
    machine: N,
    topics: BTreeMap<OpId, Topic>,
    received: Vec<Receipt<N::Peer>>,
}

/// Something was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt<P> {
    /// When.
    pub at: Time,
    /// On which topic.
    pub topic: Topic,
    /// What; `None` when the node was told that it would from then on.
    pub message: Option<Message<P>>,
}

impl<N: Carrier> Recorder<N> {
    /// A node that has received nothing.
    pub fn new(machine: N) -> Recorder<N> {
        Recorder { machine, topics: BTreeMap::new(), received: Vec::new() }
    }

    /// The node.
    pub fn machine(&self) -> &N {
        &self.machine
    }

    /// What it has received, in order.
    pub fn received(&self) -> &[Receipt<N::Peer>] {
        &self.received
    }

    fn run(&mut self, cx: &mut Cx<'_, Self>, input: impl FnOnce(&mut N, &mut Cx<'_, N>)) {
        let machine = &mut self.machine;
        for up in cx.nest(|msg| msg, |timer| timer, |job| job, |cx| input(machine, cx)) {
            match up {
                Up::Item(op, item) => {
                    let message = match &item {
                        Delivery::Message(message) => Some(message.clone()),
                        Delivery::Joined => None,
                    };
                    if let Some(&topic) = self.topics.get(&op) {
                        self.received.push(Receipt { at: cx.now(), topic, message });
                    }
                    cx.item(op, item);
                }
                Up::Finished(op, outcome) => {
                    self.topics.remove(&op);
                    cx.finish(op, outcome);
                }
                Up::Event(()) => {}
            }
        }
    }
}

impl<N: Carrier> Protocol for Recorder<N> {
    type Peer = N::Peer;
    type Msg = N::Msg;
    type Timer = N::Timer;
    type Command = N::Command;
    type Item = N::Item;
    type Outcome = N::Outcome;
    type Event = ();
    type Job = NoJob;

    fn warm(&self) {
        self.machine.warm();
    }
    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.run(cx, |machine, cx| machine.on_start(cx));
    }
    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: N::Peer, msg: N::Msg) {
        self.run(cx, |machine, cx| machine.on_message(cx, from, msg));
    }
    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: N::Timer) {
        self.run(cx, |machine, cx| machine.on_timer(cx, timer));
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: N::Command) {
        if let Some(topic) = N::listens(&command) {
            self.topics.insert(op, topic);
        }
        self.run(cx, |machine, cx| machine.on_command(cx, op, command));
    }
    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.topics.remove(&op);
        self.run(cx, |machine, cx| machine.on_cancel(cx, op));
    }
    fn on_read(&mut self, cx: &mut Cx<'_, Self>, op: OpId, items: usize) {
        self.run(cx, |machine, cx| machine.on_read(cx, op, items));
    }
    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: N::Peer, link: Link) {
        self.run(cx, |machine, cx| machine.on_link(cx, peer, link));
    }
}

impl<N: Carrier + fmt::Debug> fmt::Debug for Recorder<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorder({:?}, {} received)", self.machine, self.received.len())
    }
}
