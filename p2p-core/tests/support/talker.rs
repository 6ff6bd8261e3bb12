//! A machine that sends what it is told to and says what comes.

use futures::StreamExt;
use p2p_core::net::Node;
use p2p_core::{Contact, Cx, Down, Events, Handle, Lane, Limits, Link, NoJob, OpId, Protocol, Request, Wire};
use serde::{Deserialize, Serialize};

use super::{node, patient};

type Answer = dyn FnMut(Contact, &Msg) -> Option<Msg> + Send;

/// Says what comes, after it has done with a message what it was made for.
pub struct Talker(Box<Answer>);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Msg {
    Ordered(u32, Vec<u8>),
    Bulk(u32, Vec<u8>),
    Datagram(u32),
}

impl Wire for Msg {
    const MAX_BYTES: usize = 1 << 20;
    fn lane(&self) -> Lane {
        match self {
            Msg::Ordered(..) => Lane::Ordered,
            Msg::Bulk(..) => Lane::Bulk,
            Msg::Datagram(_) => Lane::Datagram,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Got(Contact, Msg),
    Link(Contact, Link),
}

/// Send all these to a peer.
pub struct Say(pub Contact, pub Vec<Msg>);

impl Default for Talker {
    /// Answers nothing.
    fn default() -> Self {
        Talker::answering(|_, _| None)
    }
}

impl Talker {
    /// Answers a message with what this gives.
    pub fn answering(answer: impl FnMut(Contact, &Msg) -> Option<Msg> + Send + 'static) -> Talker {
        Talker(Box::new(answer))
    }
}

impl Protocol for Talker {
    type Peer = Contact;
    type Msg = Msg;
    type Timer = ();
    type Command = Say;
    type Item = ();
    type Outcome = ();
    type Event = Event;
    type Job = NoJob;

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: Contact, msg: Msg) {
        if let Some(answer) = (self.0)(from, &msg) {
            cx.send(from, answer);
        }
        cx.emit(Event::Got(from, msg));
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, say: Say) {
        for msg in say.1 {
            cx.send(say.0, msg);
        }
        cx.finish(op, ());
    }
    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: Contact, link: Link) {
        cx.emit(Event::Link(peer, link));
    }
}

impl Request<Talker> for Say {
    type Item = ();
    type Reply = ();
    fn command(self) -> Say {
        self
    }
    fn item((): ()) -> Option<()> {
        None
    }
    fn reply((): ()) -> Option<()> {
        Some(())
    }
}

/// A node that runs one.
pub struct End {
    pub node: Node,
    pub talker: Handle<Talker>,
    pub events: Events<Event>,
}

impl End {
    pub fn new(node: Node) -> End {
        End::with(node, Talker::default())
    }

    pub fn with(node: Node, talker: Talker) -> End {
        let talker = node.spawn("talk/1", talker).unwrap();
        let events = talker.events();
        End { node, talker, events }
    }

    pub async fn over_quic(limits: Limits) -> End {
        End::new(node(limits).await)
    }

    pub async fn say(&self, to: Contact, messages: impl IntoIterator<Item = Msg>) {
        patient(self.talker.ask(Say(to, messages.into_iter().collect()))).await.unwrap();
    }

    pub async fn next(&mut self) -> Event {
        patient(self.events.next()).await.expect("the machine has stopped")
    }

    pub async fn until_down(&mut self) -> Down {
        loop {
            if let Event::Link(_, Link::Down(why)) = self.next().await {
                return why;
            }
        }
    }
}
