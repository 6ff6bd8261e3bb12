//! What needs a process of its own: one that is killed with `kill -9` and starts again, and one whose memory is watched
//! while it is beset.
//!
//! The process is this test program itself: it has no harness, and serves if it is told where.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking, and may talk")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::future::join_all;
use p2p_core::net::{Incoming, Node, Refusal, RequestError};
use p2p_core::{Contact, Down, Keypair, Limits, Link};
use support::talker::{End, Event, Msg, Talker};
use support::{is_echoed, node, patient};

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
    if let Ok(at) = std::env::var(AT) {
        return serve(at);
    }
    run(
        "a_killed_process_that_starts_again_is_found_again",
        a_killed_process_that_starts_again_is_found_again(),
    );
    run(
        "connection_attempts_without_end_are_bounded_and_counted",
        connection_attempts_without_end_are_bounded_and_counted(),
    );
}

fn run(name: &str, test: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(test);
    println!("test {name} ... ok");
}

/// How many connections a process takes from this machine.
const CONNECTIONS: usize = 50;

fn serve(at: String) {
    let limits = Limits {
        count_loopback: true,
        connections_per_address: CONNECTIONS,
        handshakes_per_address: 100_000,
        handshakes_per_subnet: 100_000,
        idle_timeout: Duration::from_secs(3600),
        ..Limits::default()
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let node = Node::builder().identity(keypair()).limits(limits).bind(at).await.unwrap();
        node.serve("echo/1", |request: Incoming| async move { Ok(request.body) }).unwrap();
        let _counter = node.spawn("talk/1", counter()).unwrap();
        // How many connections it has, has refused, and how many bytes of memory.
        let counted = node.clone();
        let stats = move |_| {
            let stats = counted.stats();
            let refused = stats.refusals.of(Refusal::AddressConnections);
            async move { Ok(format!("{} {refused} {}", stats.connections, resident_bytes()).into()) }
        };
        node.serve("stats/1", stats).unwrap();
        println!("ready at {}", node.contact().addr);
        // Ends with the process that started it.
        let _ = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await;
    });
}

/// This process's memory (Linux: proc(5)); elsewhere it never grows.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10)
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

async fn connection_attempts_without_end_are_bounded_and_counted() {
    let attempts: usize = std::env::var("P2P_ATTEMPTS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let (_process, at) = start("127.0.0.1:0".parse().unwrap());
    let server = Contact::new(keypair().id(), at);
    // Small packets need small buffers, and these are many.
    let limits = Limits { udp_payload: 1200, idle_timeout: Duration::from_secs(3600), ..Limits::default() };
    let mut outside = join_all((0..CONNECTIONS + 10).map(|_| node(limits.clone()))).await;
    let mut inside = Vec::new();
    let (mut tried, mut resident) = (0, None);
    while tried < attempts {
        tried += outside.len();
        // Side by side, so that handshakes overtake each other.
        let round = outside.drain(..).map(|one| async {
            let served = patient(one.request(server, "echo/1", "x")).await.is_ok();
            (one, served)
        });
        let round = join_all(round.collect::<Vec<_>>()).await;
        let (served, refused): (Vec<_>, Vec<_>) = round.into_iter().partition(|(_, served)| *served);
        inside.extend(served.into_iter().map(|(one, _)| one));
        outside.extend(refused.into_iter().map(|(one, _)| one));
        assert_eq!(inside.len(), CONNECTIONS);
        let stats = patient(inside[0].request(server, "stats/1", "")).await.unwrap();
        let stats: Vec<usize> =
            std::str::from_utf8(&stats).unwrap().split(' ').map(|n| n.parse().unwrap()).collect();
        assert_eq!(stats[..2], [CONNECTIONS, tried - CONNECTIONS]);
        let grown = stats[2].saturating_sub(*resident.get_or_insert(stats[2]));
        assert!(grown < 16 << 20, "{grown} bytes more after {tried} attempts than after the first");
    }
    // When one goes another may come.
    patient(inside.pop().unwrap().shutdown()).await;
    while patient(outside[0].request(server, "echo/1", "x")).await.is_err() {}
}
