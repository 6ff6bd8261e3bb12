//! A structured overlay made of its maintenance and the shared lookup driver.

use std::sync::Arc;

use p2p_core::{Cx, Job, JobId, Key, Link, OpId, Protocol, Up, Wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::lookup::{LookupConfig, LookupMsg, Lookups, Purpose};
use crate::structured::{
    Answer, Find, Looked, Maintenance, NeighboursChanged, Next, Overlay, Region, Replicas,
};

/// The overlay that `M` keeps the tables of: [`Chord`](crate::Chord) is `Routed<ChordTable>`.
#[derive(Clone, Debug)]
pub struct Routed<M: Maintenance> {
    table: M,
    lookups: Lookups<M::Peer>,
}

/// What nodes of an overlay say to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RoutedMsg<P, M> {
    /// Lookups: the same for every overlay.
    Lookup(LookupMsg<P>),
    /// Join, stabilise, repair: each overlay's own.
    Upkeep(M),
}

impl<P: Serialize + DeserializeOwned, M: Wire> Wire for RoutedMsg<P, M> {
    const MAX_BYTES: usize = if M::MAX_BYTES > 8192 { M::MAX_BYTES } else { 8192 };
}

/// The timers of an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoutedTimer<T> {
    /// A peer that a lookup waits for is late.
    Lookups,
    /// The maintenance's own.
    Upkeep(T),
}

impl<M: Maintenance> Routed<M> {
    /// An overlay over these tables.
    pub fn new(table: M, config: impl Into<Arc<LookupConfig>>) -> Routed<M> {
        Routed { table, lookups: Lookups::new(config.into()) }
    }

    /// The tables.
    pub fn table(&self) -> &M {
        &self.table
    }

    /// The tables, to be changed by hand: experiments do.
    pub fn table_mut(&mut self) -> &mut M {
        &mut self.table
    }

    /// The layer above has asked a peer in vain: as if a lookup had.
    pub fn silent(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        self.table.at(cx.now());
        self.table.silent(cx.now(), peer);
        self.upkeep(cx, |table, cx| table.attend(cx));
    }

    /// Hands the maintenance an input, and sees to the lookups that it wants.
    fn upkeep(&mut self, cx: &mut Cx<'_, Self>, input: impl FnOnce(&mut M, &mut Cx<'_, M>)) {
        let table = &mut self.table;
        let ups = cx.nest(RoutedMsg::Upkeep, RoutedTimer::Upkeep, |job| job, |cx| input(table, cx));
        for up in ups {
            if let Up::Event(want) = up {
                let find = Find::key(want.key).replicas(want.replicas);
                self.lookups.begin(cx, &mut self.table, Purpose::Upkeep(want.tag), find, want.via);
            }
        }
        self.settle(cx);
    }

    /// Hands over the answers of lookups that have ended, and says what has changed.
    fn settle(&mut self, cx: &mut Cx<'_, Self>) {
        while let Some((purpose, looked)) = self.lookups.ended() {
            match purpose {
                Purpose::User(op) => cx.finish(op, looked),
                Purpose::Upkeep(tag) => {
                    let op = cx.op();
                    self.upkeep(cx, |table, cx| table.on_command(cx, op, Answer { tag, looked }));
                }
            }
        }
        if self.table.take_changed() {
            cx.emit(NeighboursChanged);
        }
    }
}

impl<M: Maintenance> Protocol for Routed<M> {
    type Peer = M::Peer;
    type Msg = RoutedMsg<M::Peer, M::Msg>;
    type Timer = RoutedTimer<M::Timer>;
    type Command = Find;
    type Item = ();
    type Outcome = Looked<M::Peer>;
    type Event = NeighboursChanged;
    type Job = M::Job;

    fn warm(&self) {
        self.table.warm();
        self.lookups.warm();
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.table.at(cx.now());
        self.upkeep(cx, |table, cx| table.on_start(cx));
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, msg: Self::Msg) {
        self.table.at(cx.now());
        self.table.heard(cx.now(), from);
        match msg {
            RoutedMsg::Lookup(msg) => {
                self.lookups.on_message(cx, &mut self.table, from, msg);
                self.settle(cx);
            }
            RoutedMsg::Upkeep(msg) => self.upkeep(cx, |table, cx| table.on_message(cx, from, msg)),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: Self::Timer) {
        self.table.at(cx.now());
        match timer {
            RoutedTimer::Lookups => {
                self.lookups.on_timer(cx, &mut self.table);
                self.upkeep(cx, |table, cx| table.attend(cx));
            }
            RoutedTimer::Upkeep(timer) => self.upkeep(cx, |table, cx| table.on_timer(cx, timer)),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, find: Find) {
        self.table.at(cx.now());
        self.lookups.begin(cx, &mut self.table, Purpose::User(op), find, None);
        self.settle(cx);
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.lookups.cancel(cx, op);
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, link: Link) {
        self.table.at(cx.now());
        if let Link::Down(_) = link {
            self.lookups.on_link_down(cx, &mut self.table, peer);
            self.settle(cx);
        }
        self.upkeep(cx, |table, cx| table.on_link(cx, peer, link));
    }

    fn on_job(&mut self, cx: &mut Cx<'_, Self>, id: JobId, done: <M::Job as Job>::Done) {
        self.upkeep(cx, |table, cx| table.on_job(cx, id, done));
    }
}

impl<M: Maintenance> Overlay for Routed<M> {
    fn me(&self) -> M::Peer {
        self.table.me()
    }
    fn is_joined(&self) -> bool {
        self.table.is_joined()
    }
    fn next(&self, key: &Key, avoid: &[M::Peer]) -> Next<M::Peer> {
        self.table.next(key, avoid, false)
    }
    fn replicas(&self, key: &Key, n: usize) -> Replicas<M::Peer> {
        self.table.replicas(key, n, false)
    }
    fn mine(&self) -> Region {
        self.table.mine()
    }
}
