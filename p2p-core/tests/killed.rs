//! A process that is killed with `kill -9` and started again: its peers come back by themselves.
//!
//! The process is this test program itself: it has no harness, and serves if it is told where.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and may talk")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use p2p_core::net::{Incoming, Node, RequestError};
use p2p_core::{Contact, Down, Keypair, Limits, Link};
use support::talker::{End, Event, Msg, Talker};
use support::{is_echoed, patient};

const AT: &str = "P2P_CORE_TEST_SERVE_AT";

fn keypair() -> Keypair {
    Keypair::from_seed(&[9; 32])
}

/// Answers each even number with the next.
fn counter() -> Talker {
    Talker::answering(|_, msg| match msg {
        Msg::Ordered(number, _) if number.is_multiple_of(2) => Some(Msg::Ordered(number + 1, vec![])),
        _ => None,
    })
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
        let _counter = node.spawn("talk/1", counter()).unwrap();
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

async fn a_killed_process_that_starts_again_is_found_again() {
    let (first, at) = start("127.0.0.1:0".parse().unwrap());
    let server = Contact::new(keypair().id(), at);
    // Silence would be noticed by the end of the world only: it is the restarted process that tells.
    let limits = Limits { silence_timeout: Duration::from_secs(3600), ..Limits::default() };
    let mut client = End::over_quic(limits).await;

    is_echoed(&client.node, server).await;
    client.say(server, [Msg::Ordered(0, vec![])]).await;
    assert_eq!(client.next().await, Event::Link(server, Link::Up));
    assert_eq!(client.next().await, Event::Got(server, Msg::Ordered(1, vec![])));

    drop(first);
    let (second, again_at) = start(at);
    assert_eq!(again_at, at);
    // What goes out on the old connection is lost, and that is told.
    client.say(server, [Msg::Ordered(2, vec![])]).await;
    assert_eq!(client.next().await, Event::Link(server, Link::Down(Down::Closed)));
    client.say(server, [Msg::Ordered(4, vec![])]).await;
    assert_eq!(client.next().await, Event::Link(server, Link::Up));
    assert_eq!(client.next().await, Event::Got(server, Msg::Ordered(5, vec![])));
    is_echoed(&client.node, server).await;
    assert_eq!(client.node.stats().dialled, 2);

    // The same for requests alone: one fails at the most, by name.
    drop(second);
    let (_third, _) = start(at);
    let mut lost = 0;
    while let Err(error) = patient(client.node.request(server, "echo/1", "z")).await {
        assert!(matches!(error, RequestError::Lost(_)), "{error:?}");
        lost += 1;
    }
    assert!(lost <= 1, "{lost} requests were lost");
}
