//! A process that is killed with `kill -9` and started again: its peers come back by themselves.
//!
//! The process is this test program itself: it has no harness, and serves if it is told where.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and may talk")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::StreamExt;
use p2p_core::net::{Incoming, Node};
use p2p_core::{
    Contact, Cx, Events, Keypair, Lane, Limits, Link, NoJob, OpId, PeerId, Protocol, Request, Wire,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

const AT: &str = "P2P_CORE_TEST_SERVE_AT";

async fn patient<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.expect("this test's step takes far too long")
}

fn keypair() -> Keypair {
    Keypair::from_seed(&[9; 32])
}

/// Answers each number with the next; says what comes.
struct Counter;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Number(u32);

impl Wire for Number {
    const MAX_BYTES: usize = 16;
    fn lane(&self) -> Lane {
        Lane::Ordered
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Got(PeerId, Number),
    Link(PeerId, Link),
}

struct Say(Contact, Number);

impl Protocol for Counter {
    type Peer = Contact;
    type Msg = Number;
    type Timer = ();
    type Command = Say;
    type Item = ();
    type Outcome = ();
    type Event = Event;
    type Job = NoJob;

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: Contact, number: Number) {
        if number.0.is_multiple_of(2) {
            cx.send(from, Number(number.0 + 1));
        }
        cx.emit(Event::Got(from.id, number));
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, say: Say) {
        cx.send(say.0, say.1);
        cx.finish(op, ());
    }
    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: Contact, link: Link) {
        cx.emit(Event::Link(peer.id, link));
    }
}

impl Request<Counter> for Say {
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

fn main() {
    match std::env::var(AT) {
        Ok(at) => serve(at),
        Err(_) => {
            let name = "a_killed_process_that_starts_again_is_found_again";
            tokio::runtime::Runtime::new()
                .unwrap()
                .block_on(a_killed_process_that_starts_again_is_found_again());
            println!("test {name} ... ok");
        }
    }
}

fn serve(at: String) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let node = Node::builder().identity(keypair()).bind(at).await.unwrap();
        node.serve("echo/1", |request: Incoming| async move { Ok(request.body) }).unwrap();
        let _counter = node.spawn("count/1", Counter).unwrap();
        println!("ready at {}", node.contact().addr);
        // Ends with the process that started it.
        let _ = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await;
    });
}

/// A process that serves at `at`, and where that is.
fn start(at: SocketAddr) -> (Killed, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(AT, at.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready =
        lines.map_while(Result::ok).find_map(|line| line.strip_prefix("ready at ").map(str::to_owned));
    let at = ready.expect("the process ended before it was ready").parse().unwrap();
    (Killed(child), at)
}

/// A process that is killed by SIGKILL when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn next(events: &mut Events<Event>) -> Event {
    patient(events.next()).await.expect("the machine has stopped")
}

async fn a_killed_process_that_starts_again_is_found_again() {
    let (first, at) = start("127.0.0.1:0".parse().unwrap());
    let server = Contact::new(keypair().id(), at);
    // Silence would be noticed by the end of the world only: it is the restarted process that tells.
    let limits = Limits { silence_timeout: Duration::from_secs(3600), ..Limits::default() };
    let node = Node::builder().limits(limits).bind("127.0.0.1:0").await.unwrap();
    let counter = node.spawn("count/1", Counter).unwrap();
    let mut events = counter.events();

    assert_eq!(patient(node.request(server, "echo/1", "x")).await.unwrap(), "x");
    patient(counter.ask(Say(server, Number(0)))).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Link(server.id, Link::Up));
    assert_eq!(next(&mut events).await, Event::Got(server.id, Number(1)));

    drop(first);
    let (second, again_at) = start(at);
    assert_eq!(again_at, at);
    // What goes out on the old connection is lost, and that is told.
    patient(counter.ask(Say(server, Number(2)))).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Link(server.id, Link::Down(p2p_core::Down::Closed)));
    patient(counter.ask(Say(server, Number(4)))).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Link(server.id, Link::Up));
    assert_eq!(next(&mut events).await, Event::Got(server.id, Number(5)));
    assert_eq!(patient(node.request(server, "echo/1", "y")).await.unwrap(), "y");
    assert_eq!(node.stats().dialled, 2);

    // The same for requests alone: one fails at the most, by name.
    drop(second);
    let (_third, _) = start(at);
    let mut lost = 0;
    while let Err(error) = patient(node.request(server, "echo/1", "z")).await {
        assert!(matches!(error, p2p_core::net::RequestError::Lost(_)), "{error:?}");
        lost += 1;
    }
    assert!(lost <= 1, "{lost} requests were lost");
}
