//! The simulator's own behaviour, shown on a machine that does a little of everything.

mod asking;
mod disk;
mod faults;
mod network;
mod runs;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::*;
use crate::Lane;
use crate::protocol::{Job, JobError, JobId, Link};

/// Echoes, gossips, keeps time and writes to disk.
#[derive(Default)]
struct Node {
    heard: Vec<(Time, SimPeer, u64)>,
    links: Vec<(SimPeer, Link)>,
    fired: Vec<Time>,
    waiting: BTreeMap<JobId, OpId>,
    stored: Vec<u64>,
    asked: Option<OpId>,
    cancelled: usize,
    feeding: Option<Feeding>,
}

/// Items for one asker, no more of which wait than may.
struct Feeding {
    op: OpId,
    next: u64,
    end: u64,
    unread: usize,
}

impl Node {
    fn feed(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(Feeding { op, next, end, unread }) = &mut self.feeding else { return };
        while *next < *end && *unread < crate::MAX_WAITING {
            cx.item(*op, *next);
            (*next, *unread) = (*next + 1, *unread + 1);
        }
        if next == end {
            cx.finish(*op, Outcome::Done);
        }
    }
}

#[derive(Serialize, Deserialize)]
enum Msg {
    Say(u64),
    Datagram(u64),
    Echo,
    Echoed,
}
impl Wire for Msg {
    fn lane(&self) -> Lane {
        if matches!(self, Msg::Datagram(_)) { Lane::Datagram } else { Lane::Ordered }
    }
}

enum Command {
    Say(SimPeer, u64),
    Datagram(SimPeer, u64),
    Echo(SimPeer),
    Count(u64),
    Feed(u64),
    Write(u64),
    Tick(Duration),
    Hang,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Done,
    Failed(JobError),
}

enum Disk {
    Write(u64),
    Scan,
}
enum DiskDone {
    Wrote,
    Found(Vec<u64>),
    Failed(JobError),
}
impl Job for Disk {
    type Done = DiskDone;
    fn failed(&self, why: JobError) -> DiskDone {
        DiskDone::Failed(why)
    }
}

#[derive(Default)]
struct Platter(Vec<u64>);
impl Worker<Disk> for Platter {
    fn run(&mut self, batch: Vec<Disk>) -> Vec<DiskDone> {
        let mut done = |job| match job {
            Disk::Write(value) => {
                self.0.push(value);
                DiskDone::Wrote
            }
            Disk::Scan => DiskDone::Found(self.0.clone()),
        };
        batch.into_iter().map(&mut done).collect()
    }
}

impl Protocol for Node {
    type Peer = SimPeer;
    type Msg = Msg;
    type Timer = ();
    type Command = Command;
    type Item = u64;
    type Outcome = Outcome;
    type Event = u64;
    type Job = Disk;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        cx.start(Disk::Scan);
    }
    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: SimPeer, msg: Msg) {
        match msg {
            Msg::Say(n) | Msg::Datagram(n) => {
                self.heard.push((cx.now(), from, n));
                cx.emit(n);
            }
            Msg::Echo => cx.send(from, Msg::Echoed),
            Msg::Echoed => {
                if let Some(op) = self.asked.take() {
                    cx.finish(op, Outcome::Done);
                }
            }
        }
    }
    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, (): ()) {
        self.fired.push(cx.now());
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: Command) {
        match command {
            Command::Say(to, n) => cx.send(to, Msg::Say(n)),
            Command::Datagram(to, n) => cx.send(to, Msg::Datagram(n)),
            Command::Echo(to) => {
                self.asked = Some(op);
                return cx.send(to, Msg::Echo);
            }
            Command::Count(n) => (0..n).for_each(|i| cx.item(op, i)),
            Command::Feed(end) => {
                self.feeding = Some(Feeding { op, next: 0, end, unread: 0 });
                return self.feed(cx);
            }
            Command::Write(value) => {
                let job = cx.start(Disk::Write(value));
                self.waiting.insert(job, op);
                return;
            }
            Command::Tick(after) => cx.set_timer(after, ()),
            Command::Hang => return,
        }
        cx.finish(op, Outcome::Done);
    }
    fn on_cancel(&mut self, _: &mut Cx<'_, Self>, _: OpId) {
        self.cancelled += 1;
    }
    fn on_read(&mut self, cx: &mut Cx<'_, Self>, _: OpId, items: usize) {
        if let Some(feeding) = &mut self.feeding {
            feeding.unread -= items;
            self.feed(cx);
        }
    }
    fn on_link(&mut self, _: &mut Cx<'_, Self>, peer: SimPeer, link: Link) {
        self.links.push((peer, link));
    }
    fn on_job(&mut self, cx: &mut Cx<'_, Self>, id: JobId, done: DiskDone) {
        let outcome = match done {
            DiskDone::Found(stored) => {
                self.stored = stored;
                return;
            }
            DiskDone::Wrote => Outcome::Done,
            DiskDone::Failed(why) => Outcome::Failed(why),
        };
        if let Some(op) = self.waiting.remove(&id) {
            cx.finish(op, outcome);
        }
    }
}

const A: SimPeer = SimPeer(0);
const B: SimPeer = SimPeer(1);
const C: SimPeer = SimPeer(2);

fn three(network: Network) -> Sim<Node, Platter> {
    let mut sim = Sim::with_workers(1, network, DiskModel::default(), |_| Platter::default());
    sim.population(|_| Node::default());
    (0..3).for_each(|_| {
        sim.join();
    });
    sim
}

fn heard(sim: &Sim<Node, Platter>, peer: SimPeer) -> Vec<u64> {
    sim.node(peer).unwrap().heard.iter().map(|&(_, _, n)| n).collect()
}

const SECOND: Duration = Duration::from_secs(1);
