//! Machines on nodes: lanes, links, bounds, workers.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use futures::StreamExt;
use p2p_core::net::{MemoryNetwork, Node, QuicTransport, Transport};
use p2p_core::{
    Contact, Cx, Down, Job, JobError, JobId, Keypair, Limits, Link, OpId, Protocol, Request, Wire, Worker,
};
use support::talker::{End, Event, Msg};
use support::{Barrier, patient};
use tokio::time::timeout;

async fn converse(mut a: End, mut b: End) {
    a.say(b.node.contact(), (0..100).map(|i| Msg::Ordered(i, vec![i as u8; 100]))).await;
    assert_eq!(b.next().await, Event::Link(a.node.contact(), Link::Up));
    for i in 0..100 {
        assert_eq!(b.next().await, Event::Got(a.node.contact(), Msg::Ordered(i, vec![i as u8; 100])));
    }
    assert_eq!(a.next().await, Event::Link(b.node.contact(), Link::Up));
    b.say(a.node.contact(), [Msg::Datagram(1)]).await;
    assert_eq!(a.next().await, Event::Got(b.node.contact(), Msg::Datagram(1)));
    b.say(a.node.contact(), [Msg::Bulk(2, vec![2; 900_000])]).await;
    assert_eq!(a.next().await, Event::Got(b.node.contact(), Msg::Bulk(2, vec![2; 900_000])));
    b.say(b.node.contact(), [Msg::Ordered(3, vec![])]).await;
    assert_eq!(b.next().await, Event::Got(b.node.contact(), Msg::Ordered(3, vec![])), "to itself");
    assert_eq!(a.node.stats().protocols["talk/1"].received, 2);
    a.say(b.node.contact(), [Msg::Ordered(4, vec![4])]).await;
    a.node.shutdown().await;
    assert_eq!(b.next().await, Event::Got(a.node.contact(), Msg::Ordered(4, vec![4])), "sent before the end");
    assert_eq!(b.next().await, Event::Link(a.node.contact(), Link::Down(Down::Closed)));
}

#[tokio::test]
async fn machines_talk_over_quic() {
    converse(End::over_quic(Limits::default()).await, End::over_quic(Limits::default()).await).await;
}

#[tokio::test]
async fn machines_talk_in_memory() {
    let network = MemoryNetwork::default();
    let end = || End::new(Node::builder().bind_on(network.join(Keypair::generate().id())));
    converse(end(), end()).await;
}

#[tokio::test]
async fn nobody_there_is_told() {
    let limits = Limits { dial_timeout: Duration::from_millis(200), ..Limits::default() };
    let mut a = End::over_quic(limits).await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = Contact::new(Keypair::generate().id(), socket.local_addr().unwrap());
    a.say(nobody, [Msg::Datagram(1)]).await;
    assert_eq!(a.next().await, Event::Link(nobody, Link::Down(Down::Unreachable)));
}

#[tokio::test]
async fn a_peer_that_never_reads_overflows_and_nothing_grows() {
    let limits = Limits { queue_bytes_per_peer: 256 << 10, ..Limits::default() };
    let mut a = End::over_quic(limits.clone()).await;
    // It accepts the stream and leaves it unread.
    let small = Limits { stream_window: 64 << 10, ..limits };
    let deaf =
        QuicTransport::bind(Keypair::generate(), "p2p", "127.0.0.1:0".parse().unwrap(), &small).unwrap();
    let contact = Contact::new(deaf.id(), deaf.local_addr());
    let held = tokio::spawn(async move {
        let connection = deaf.accept().await.unwrap();
        let stream = connection.accept_uni().await.unwrap();
        std::future::pending::<()>().await;
        drop((connection, stream));
    });
    let mut sent = 0;
    let why = loop {
        a.say(contact, [Msg::Ordered(sent, vec![0; 60_000])]).await;
        sent += 1;
        assert!(sent < 1000, "60 MB went to a peer that reads nothing");
        if let Ok(Some(Event::Link(_, Link::Down(why)))) = timeout(Duration::ZERO, a.events.next()).await {
            break why;
        }
    };
    assert_eq!(why, Down::Overflow);
    assert!(a.node.stats().drops[&p2p_core::net::Drop::Overflow] >= 1);
    held.abort();
}

#[tokio::test]
async fn what_a_machine_sends_to_its_own_node_is_bounded_in_bytes() {
    let long = |number| Msg::Bulk(number, vec![0; 10_000]);
    let limits = Limits { inbox_bytes: 5 * long(0).wire_len(), ..Limits::default() };
    let mut a = End::over_quic(limits).await;
    let me = a.node.contact();
    a.say(me, (0..20).map(long)).await;
    for number in 0..5 {
        assert_eq!(a.next().await, Event::Got(me, long(number)));
    }
    assert_eq!(a.node.stats().drops[&p2p_core::net::Drop::Overflow], 15);
    a.say(me, [long(20)]).await;
    assert_eq!(a.next().await, Event::Got(me, long(20)));
}

#[tokio::test]
async fn what_is_no_message_is_misbehaviour() {
    let mut a = End::over_quic(Limits::default()).await;
    let mut b = End::over_quic(Limits::default()).await;
    a.say(b.node.contact(), [Msg::Ordered(1, vec![])]).await;
    assert_eq!(b.next().await, Event::Link(a.node.contact(), Link::Up));
    assert_eq!(b.next().await, Event::Got(a.node.contact(), Msg::Ordered(1, vec![])));
    // The same node sends what the protocol does not know.
    patient(a.node.datagram(b.node.contact(), "talk/1", [1, 99, 99])).await.unwrap();
    assert_eq!(b.next().await, Event::Link(a.node.contact(), Link::Down(Down::Misbehaved)));
    assert_eq!(a.until_down().await, Down::Closed);
    assert_eq!(b.node.stats().drops[&p2p_core::net::Drop::Undecodable], 1);
    // And the two can speak again.
    b.say(a.node.contact(), [Msg::Ordered(2, vec![])]).await;
    assert_eq!(a.next().await, Event::Link(b.node.contact(), Link::Up));
    assert_eq!(a.next().await, Event::Got(b.node.contact(), Msg::Ordered(2, vec![])));
}

/// Has numbers squared elsewhere.
struct Squarer(Vec<(JobId, OpId)>);
struct Square(u64);
impl Job for Square {
    type Done = Result<u64, JobError>;
    fn lane(&self) -> Option<u64> {
        Some(self.0 % 2)
    }
    fn failed(&self, why: JobError) -> Self::Done {
        Err(why)
    }
}
struct Squares(Barrier);
impl Worker<Square> for Squares {
    fn run(&mut self, batch: Vec<Square>) -> Vec<Result<u64, JobError>> {
        self.0.wait();
        batch.into_iter().map(|Square(n)| Ok(n * n)).collect()
    }
}
impl Protocol for Squarer {
    type Peer = Contact;
    type Msg = ();
    type Timer = ();
    type Command = u64;
    type Item = ();
    type Outcome = Result<u64, JobError>;
    type Event = ();
    type Job = Square;
    fn on_message(&mut self, _: &mut Cx<'_, Self>, _: Contact, (): ()) {}
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, number: u64) {
        let id = cx.start(Square(number));
        self.0.push((id, op));
    }
    fn on_job(&mut self, cx: &mut Cx<'_, Self>, id: JobId, done: Result<u64, JobError>) {
        let place = self.0.iter().position(|(job, _)| *job == id).unwrap();
        let (_, op) = self.0.remove(place);
        cx.finish(op, done);
    }
}
struct Of(u64);
impl Request<Squarer> for Of {
    type Item = ();
    type Reply = Result<u64, JobError>;
    fn command(self) -> u64 {
        self.0
    }
    fn item((): ()) -> Option<()> {
        None
    }
    fn reply(outcome: Result<u64, JobError>) -> Option<Result<u64, JobError>> {
        Some(outcome)
    }
}

#[tokio::test]
async fn workers_do_jobs_and_a_full_queue_is_told() {
    let node =
        Node::builder().limits(Limits { jobs: 10, ..Limits::default() }).bind("127.0.0.1:0").await.unwrap();
    let barrier = Barrier::default();
    let workers = [Squares(barrier.clone()), Squares(barrier.clone())];
    let squarer = node.spawn_with_workers("square/1", Squarer(Vec::new()), workers).unwrap();
    let asked: Vec<_> = (0..15).map(|n| squarer.ask(Of(n))).collect();
    let (done, refused) = asked.into_iter().enumerate().partition::<Vec<_>, _>(|(n, _)| *n < 10);
    for (_, refused) in refused {
        assert_eq!(patient(refused).await, Ok(Err(JobError::QueueFull)));
    }
    barrier.open();
    for (n, done) in done {
        assert_eq!(patient(done).await, Ok(Ok((n * n) as u64)));
    }
    patient(node.shutdown()).await;
    assert_eq!(patient(squarer.ask(Of(1))).await, Err(p2p_core::AskError::Stopped));
}

/// Squares numbers until it is given a zero.
struct Fragile;
impl Worker<Square> for Fragile {
    fn run(&mut self, batch: Vec<Square>) -> Vec<Result<u64, JobError>> {
        assert!(batch.iter().all(|Square(n)| *n > 0), "a worker may do that");
        // A job too few, which is as bad.
        batch.into_iter().filter(|Square(n)| *n != 1).map(|Square(n)| Ok(n * n)).collect()
    }
}

#[tokio::test]
async fn a_worker_that_panics_or_loses_a_job_fails_its_jobs_and_the_node_lives_on() {
    let node = Node::builder().bind("127.0.0.1:0").await.unwrap();
    let squarer = node.spawn_with_workers("square/1", Squarer(Vec::new()), [Fragile, Fragile]).unwrap();
    let ask = |n| patient(squarer.ask(Of(n)));
    assert_eq!([ask(2).await, ask(3).await], [Ok(Ok(4)), Ok(Ok(9))]);
    assert_eq!(ask(0).await, Ok(Err(JobError::Panicked)));
    assert_eq!(ask(2).await, Ok(Err(JobError::Panicked)), "the broken worker is given nothing more");
    assert_eq!(ask(3).await, Ok(Ok(9)), "the other's lane goes on");
    assert_eq!(ask(1).await, Ok(Err(JobError::Panicked)));
    node.serve("echo/1", |request: p2p_core::net::Incoming| async move { Ok(request.body) }).unwrap();
    let other = Node::builder().bind("127.0.0.1:0").await.unwrap();
    assert_eq!(patient(other.request(node.contact(), "echo/1", "x")).await.unwrap(), "x");
    patient(node.shutdown()).await;
}
