//! Several spaces at once (§3.2): each node has a zone in each of them, its place in that reality.
//!
//! A key is the same point in all realities, and the nodes that own it in each keep its copies. A question goes on in
//! whichever reality has the neighbour nearest to the point, and ends at the owner in any of them: so it has further
//! neighbours to choose from, and a shorter way.
//!
//! Each reality is a [`CanTable`] of its own, which knows nothing of the others. What only one of them can answer,
//! where to join and who is in a gap, and where one copy lies, is asked by a key that leads to that reality alone: a
//! point takes up to half of a key, and the other half says which it is ([`lead`]).
//!
//! In this order: [`CanRealities`], how keys lead, how inputs are handed to the tables, what the tables say together.

use p2p_core::{Cx, Key, Keyed, Link, NoJob, OpId, Protocol, Time, Up, Wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::protocol::CanTimer;
use super::{CanConfig, CanMsg, CanTable};
use crate::routed::Routed;
use crate::structured::{Answer, Maintenance, Next, Region, Replicas, Want};

/// A CAN node with a zone in each of several realities: a [`Protocol`] and an [`Overlay`](crate::Overlay).
///
/// ```
/// use p2p_core::sim::{Network, Sim};
/// use p2p_core::{Key, SimPeer};
/// use p2p_overlay::{CanConfig, CanRealities, Find, Lookup};
/// use std::time::Duration;
///
/// let mut sim = Sim::<CanRealities<SimPeer>>::new(1, Network::default());
/// let config = CanConfig { realities: 2, ..CanConfig::default() };
/// let first = sim.spawn(|birth| CanRealities::with(birth.peer, [], config));
/// let second = sim.spawn(|birth| CanRealities::with(birth.peer, [first], config));
/// sim.run_for(Duration::from_secs(10));
///
/// let handle = sim.handle(second);
/// let found = sim.block_on(async { handle.lookup(Find::key(Key::of(b"song.ogg"))).await });
/// assert!([first, second].contains(&found.unwrap().root()));
/// ```
pub type CanRealities<P> = Routed<Realities<P>>;

impl<P: Keyed> CanRealities<P> {
    /// A node; without seeds it starts a network.
    pub fn with(me: P, seeds: impl IntoIterator<Item = P>, config: CanConfig) -> CanRealities<P> {
        let seeds: Vec<P> = seeds.into_iter().collect();
        let config = Realities::<P>::bounded(config);
        let shared = std::sync::Arc::new(config);
        let table = |_| CanTable::new(me, seeds.iter().copied(), shared.clone());
        Routed::new(Realities { me, tables: (0..config.realities).map(table).collect() }, config.lookup)
    }
}

/// What a node knows in all realities: at most 8 tables.
#[derive(Clone, Debug)]
pub struct Realities<P> {
    pub(super) me: P,
    pub(super) tables: Vec<CanTable<P>>,
}

/// What nodes say to keep their zones in one reality.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RealityMsg<P> {
    /// Which.
    reality: u8,
    /// What is said there.
    msg: CanMsg<P>,
}

impl<P: Serialize + DeserializeOwned> Wire for RealityMsg<P> {
    const MAX_BYTES: usize = CanMsg::<P>::MAX_BYTES + 1;
}

/// A timer of one reality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RealityTimer(u8, CanTimer);

/// How many dimensions there are at most: a point takes four bytes of a key for each.
const MAX_DIMENSIONS: u8 = 4;
const MAX_REALITIES: u8 = 8;

/// The key of the same point that leads to one reality alone.
fn lead(key: &Key, reality: u8) -> Key {
    let mut bytes = *key.as_bytes();
    bytes[16..].copy_from_slice(&sign(reality));
    Key::new(bytes)
}

/// What such a key ends with. No other does but by a chance of 2^-128.
fn sign(reality: u8) -> [u8; 16] {
    let mut sign = [0; 16];
    sign.copy_from_slice(&Key::<32>::of(&[b"CAN reality ".as_slice(), &[reality]].concat()).as_bytes()[..16]);
    sign
}

impl<P: Keyed> Realities<P> {
    /// With as many realities and dimensions as there can be.
    pub(super) fn bounded(config: CanConfig) -> CanConfig {
        CanConfig {
            realities: config.realities.clamp(1, MAX_REALITIES),
            dimensions: config.dimensions.clamp(1, MAX_DIMENSIONS),
            ..config
        }
    }

    /// The tables, by reality.
    pub fn tables(&self) -> &[CanTable<P>] {
        &self.tables
    }

    /// The realities in which a key has an owner here, or is on its way: the one to which it leads, or all.
    fn of(&self, key: &Key) -> impl Iterator<Item = &CanTable<P>> {
        let sign_of = |i: usize| sign(i as u8);
        let only = (0..self.tables.len()).find(|i| key.as_bytes()[16..] == sign_of(*i));
        let tables = self.tables.iter().enumerate();
        tables.filter(move |(i, _)| only.is_none_or(|only| only == *i)).map(|(_, table)| table)
    }

    /// Hands one table an input, and leads the lookups that it wants to its reality.
    fn upkeep(
        &mut self,
        cx: &mut Cx<'_, Self>,
        reality: u8,
        input: impl FnOnce(&mut CanTable<P>, &mut Cx<'_, CanTable<P>>),
    ) {
        let Some(table) = self.tables.get_mut(usize::from(reality)) else { return };
        let msg = move |msg| RealityMsg { reality, msg };
        let timer = move |timer| RealityTimer(reality, timer);
        for up in cx.nest(msg, timer, |job: NoJob| job, |cx| input(table, cx)) {
            if let Up::Event(want) = up {
                let tag = want.tag << 3 | u32::from(reality);
                cx.emit(Want { tag, key: lead(&want.key, reality), ..want });
            }
        }
    }

    fn each(&mut self, cx: &mut Cx<'_, Self>, input: impl Fn(&mut CanTable<P>, &mut Cx<'_, CanTable<P>>)) {
        (0..self.tables.len() as u8).for_each(|reality| self.upkeep(cx, reality, &input));
    }
}

impl<P: Keyed> Protocol for Realities<P> {
    type Peer = P;
    type Msg = RealityMsg<P>;
    type Timer = RealityTimer;
    type Command = Answer<P>;
    type Item = ();
    type Outcome = ();
    type Event = Want<P>;
    type Job = NoJob;

    fn warm(&self) {
        self.tables.iter().for_each(CanTable::warm);
    }
    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.each(cx, |table, cx| table.on_start(cx));
    }
    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, RealityMsg { reality, msg }: RealityMsg<P>) {
        self.upkeep(cx, reality, |table, cx| table.on_message(cx, from, msg));
    }
    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, RealityTimer(reality, timer): RealityTimer) {
        self.upkeep(cx, reality, |table, cx| table.on_timer(cx, timer));
    }
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, answer: Answer<P>) {
        cx.finish(op, ());
        let (reality, tag) = ((answer.tag & 7) as u8, answer.tag >> 3);
        let own = cx.op();
        self.upkeep(cx, reality, |table, cx| table.on_command(cx, own, Answer { tag, ..answer }));
    }
    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        self.each(cx, |table, cx| table.on_link(cx, peer, link));
    }
}

impl<P: Keyed> Maintenance for Realities<P> {
    const CONVERGES: bool = false;

    fn me(&self) -> P {
        self.me
    }
    /// It takes part where it has a zone.
    fn is_joined(&self) -> bool {
        self.tables.iter().any(Maintenance::is_joined)
    }
    fn next(&self, key: &Key, avoid: &[P], claimed: bool) -> Next<P> {
        let mut nearest: Option<(u128, Next<P>)> = None;
        for table in self.of(key) {
            let next = table.next(key, avoid, claimed);
            let left = match next {
                Next::Mine => return Next::Mine,
                Next::Root(_) => 0,
                Next::Toward(peer) => table.distance_of(peer, key),
                Next::Nowhere | Next::Later => continue,
            };
            if nearest.is_none_or(|(least, _)| left < least) {
                nearest = Some((left, next));
            }
        }
        nearest.map_or(Next::Nowhere, |(_, next)| next)
    }
    fn candidates(&self, key: &Key, n: usize, avoid: &[P]) -> Vec<P> {
        let near = |table: &CanTable<P>| {
            let peers = table.candidates(key, n, avoid).into_iter();
            peers.map(|peer| (table.distance_of(peer, key), peer)).collect::<Vec<_>>()
        };
        let mut all: Vec<(u128, P)> = self.of(key).flat_map(near).collect();
        all.sort_unstable();
        let mut peers = Vec::with_capacity(n);
        for (_, peer) in all {
            if peers.len() < n && !peers.contains(&peer) {
                peers.push(peer);
            }
        }
        peers
    }
    fn distance(_peer: &Key, _key: &Key) -> Option<Key> {
        None
    }
    fn detour(&self, key: &Key, avoid: &[P]) -> Option<P> {
        self.of(key).find_map(|table| table.detour(key, avoid))
    }
    /// The copies of an object lie at its point in each reality; further ones at other points.
    fn replicas(&self, key: &Key, n: usize, _claimed: bool) -> Replicas<P> {
        let realities = self.tables.len();
        let Replicas::Keys(points) = Replicas::<P>::at_salted(key, n.div_ceil(realities)) else {
            return Replicas::Peers(Vec::new());
        };
        let at = |point: Key| (0..realities as u8).map(move |reality| lead(&point, reality));
        Replicas::Keys(points.into_iter().flat_map(at).take(n).collect())
    }
    fn mine(&self) -> Region {
        let claims = self.tables.iter().flat_map(|table| table.claims());
        let zones: Vec<super::Zone> = claims.map(|claim| claim.zone).collect();
        if zones.is_empty() { Region::Nothing } else { Region::Boxes(zones) }
    }
    fn silent(&mut self, now: Time, peer: P) {
        self.tables.iter_mut().for_each(|table| table.silent(now, peer));
    }
    fn attend(&mut self, cx: &mut Cx<'_, Self>) {
        self.each(cx, |table, cx| table.attend(cx));
    }
    fn heard(&mut self, now: Time, peer: P) {
        self.tables.iter_mut().for_each(|table| table.heard(now, peer));
    }
    fn take_changed(&mut self) -> bool {
        self.tables.iter_mut().fold(false, |changed, table| table.take_changed() | changed)
    }
}
