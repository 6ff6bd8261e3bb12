//! Handles and `async` code in virtual time.

use futures::StreamExt;

use super::*;
use crate::{AskError, Request};

struct Echo(SimPeer);
impl Request<Node> for Echo {
    type Item = ();
    type Reply = ();
    fn command(self) -> Command {
        Command::Echo(self.0)
    }
    fn item(_: u64) -> Option<()> {
        None
    }
    fn reply(outcome: Outcome) -> Option<()> {
        (outcome == Outcome::Done).then_some(())
    }
}

struct Count(u64);
impl Request<Node> for Count {
    type Item = u64;
    type Reply = ();
    fn command(self) -> Command {
        Command::Count(self.0)
    }
    fn item(item: u64) -> Option<u64> {
        Some(item)
    }
    fn reply(_: Outcome) -> Option<()> {
        Some(())
    }
}

struct Feed(u64);
impl Request<Node> for Feed {
    type Item = u64;
    type Reply = ();
    fn command(self) -> Command {
        Command::Feed(self.0)
    }
    fn item(item: u64) -> Option<u64> {
        Some(item)
    }
    fn reply(_: Outcome) -> Option<()> {
        Some(())
    }
}

struct Hang;
impl Request<Node> for Hang {
    type Item = ();
    type Reply = ();
    fn command(self) -> Command {
        Command::Hang
    }
    fn item(_: u64) -> Option<()> {
        None
    }
    fn reply(_: Outcome) -> Option<()> {
        None
    }
}

#[test]
fn async_code_runs_in_virtual_time() {
    let mut sim = three(Network::default());
    let a = sim.handle(A);
    sim.block_on(async {
        a.ask(Echo(B)).await.unwrap();
        a.sleep(3 * SECOND).await.unwrap();
        assert_eq!(a.timeout(SECOND, a.ask(Hang)).await, Err(crate::TimedOut));
        assert_eq!(a.timeout(SECOND, a.ask(Echo(C))).await, Ok(Ok(())));
    });
    assert_eq!(sim.now(), Time::ZERO + Duration::from_millis(100 + 3000 + 1000 + 100));
    sim.run_until_quiet();
    assert_eq!(sim.node(A).unwrap().cancelled, 1, "the hanging question was taken back");
}

#[test]
fn items_stream_and_a_reader_too_slow_is_told() {
    let mut sim = three(Network::default());
    let a = sim.handle(A);
    let (items, reply) = sim.block_on(async {
        let mut ask = a.ask(Count(50));
        let items: Vec<u64> = ask.by_ref().collect().await;
        (items, ask.await)
    });
    assert_eq!((items, reply), ((0..50).collect(), Ok(())));
    assert_eq!(sim.block_on(a.ask(Count(5000))), Err(AskError::Lagged));
}

#[test]
fn a_machine_that_waits_for_its_reader_loses_nothing() {
    let mut sim = three(Network::default());
    let a = sim.handle(A);
    let mut ask = a.ask(Feed(5000));
    let first: Vec<u64> = sim.block_on(ask.by_ref().take(10).collect());
    sim.run_for(SECOND);
    let unread = |sim: &Sim<Node, Platter>| sim.node(A).unwrap().feeding.as_ref().unwrap().unread;
    assert_eq!(unread(&sim), crate::MAX_WAITING, "few were read: it is not told of them");
    let (rest, reply) = sim.block_on(async {
        let rest: Vec<u64> = ask.by_ref().collect().await;
        (rest, ask.await)
    });
    assert_eq!(([first, rest].concat(), reply), ((0..5000).collect(), Ok(())));
    // Nobody waits for what is asked without a handle.
    let op = sim.command(A, Command::Feed(5000));
    assert!(sim.take_outcomes().iter().any(|ended| ended.op == op));
}

#[test]
fn an_asker_learns_that_the_node_died() {
    let mut sim = three(Network::default());
    let a = sim.handle(A);
    let mut events = a.events();
    sim.inject(vec![(SECOND, Fault::Crash(A))]);
    sim.command(B, Command::Say(A, 5));
    let (reply, heard) = sim.block_on(async { (a.ask(Hang).await, events.next().await) });
    assert_eq!((reply, heard), (Err(AskError::Stopped), Some(5)));
    assert_eq!(sim.block_on(events.next()), None);
    assert_eq!(sim.block_on(a.ask(Hang)), Err(AskError::Stopped));
}

#[test]
#[should_panic(expected = "nothing is left to happen")]
fn waiting_for_what_never_comes_is_an_error() {
    let mut sim = three(Network::default());
    let a = sim.handle(A);
    let _ = sim.block_on(a.ask(Hang));
}

#[test]
fn too_many_open_calls_are_refused() {
    let mut sim = three(Network::default());
    let a = sim.handle(A);
    let open: Vec<_> = (0..crate::MAX_OPEN_CALLS).map(|_| a.ask(Hang)).collect();
    assert_eq!(sim.block_on(a.ask(Echo(B))), Err(AskError::Busy));
    drop(open);
    assert_eq!(sim.block_on(a.ask(Echo(B))), Ok(()));
}
