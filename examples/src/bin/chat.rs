//! `chat`: everybody hears what anybody types. The smallest custom application: a protocol of its own, forty lines
//! long.
//!
//! ```sh
//! cargo run --bin chat                               # prints: contact: p2p://…
//! cargo run --bin chat -- --join p2p://…             # in another terminal
//! ```

#![expect(clippy::print_stdout, reason = "a program talks on the terminal")]

use std::collections::BTreeSet;
use std::error::Error;

use clap::Parser;
use futures::StreamExt;
use p2p_core::net::Node;
use p2p_core::{Contact, Cx, Link, NoJob, OpId, Protocol, Request, Wire};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Floods each line to all it knows; whoever joins is told of everybody.
struct Chat {
    me: Contact,
    known: BTreeSet<Contact>,
}

/// The most people in one room.
const ROOM: usize = 64;

#[derive(Serialize, Deserialize)]
enum Msg {
    /// From a newcomer to each one it hears of. Answered by `Room`.
    Hello,
    /// Who is here.
    Room(Vec<Contact>),
    /// To everybody.
    Line(String),
}

impl Wire for Msg {
    const MAX_BYTES: usize = 8 << 10;
}

impl Chat {
    fn greet(&mut self, cx: &mut Cx<'_, Self>, peer: Contact) {
        if peer != self.me && self.known.len() < ROOM && self.known.insert(peer) {
            cx.send(peer, Msg::Hello);
        }
    }
}

impl Protocol for Chat {
    type Peer = Contact;
    type Msg = Msg;
    type Timer = ();
    type Command = String;
    type Item = ();
    type Outcome = usize;
    type Event = String;
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.known.iter().for_each(|peer| cx.send(*peer, Msg::Hello));
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: Contact, msg: Msg) {
        match msg {
            Msg::Hello => {
                cx.send(from, Msg::Room(self.known.iter().copied().collect()));
                self.greet(cx, from);
            }
            Msg::Room(peers) => peers.into_iter().take(ROOM).for_each(|peer| self.greet(cx, peer)),
            Msg::Line(line) => cx.emit(format!("{:?}: {line}", from.id)),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, line: String) {
        self.known.iter().for_each(|peer| cx.send(*peer, Msg::Line(line.clone())));
        cx.finish(op, self.known.len());
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: Contact, link: Link) {
        match link {
            Link::Up | Link::Down(p2p_core::Down::Idle) => {}
            Link::Down(_) if self.known.remove(&peer) => cx.emit(format!("{:?} has left", peer.id)),
            Link::Down(_) => {}
        }
    }
}

/// Says a line; the reply is how many it was sent to.
struct Say(String);

impl Request<Chat> for Say {
    type Item = ();
    type Reply = usize;

    fn command(self) -> String {
        self.0
    }
    fn item((): ()) -> Option<()> {
        None
    }
    fn reply(sent_to: usize) -> Option<usize> {
        Some(sent_to)
    }
}

/// Everybody hears what anybody types.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Somebody who is there already.
    #[arg(long)]
    join: Option<Contact>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let node = Node::builder().network("chat").bind(args.listen).await?;
    println!("contact: {}", node.contact());
    let chat = Chat { me: node.contact(), known: args.join.into_iter().collect() };
    let chat = node.spawn("chat/1", chat)?;
    let mut events = chat.events();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            Some(event) = events.next() => println!("{event}"),
            line = lines.next_line() => match line? {
                Some(line) if line.is_empty() => {}
                Some(line) => println!("(to {})", chat.ask(Say(line)).await?),
                None => break,
            },
        }
    }
    node.shutdown().await;
    Ok(())
}
