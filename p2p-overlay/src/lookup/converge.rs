//! Iterative lookups for the closest nodes, none of which can tell that it is one (Kademlia §2.3).
//!
//! The asker keeps the nodes it has heard of in order of their distance, and asks the nearest it has not asked yet,
//! until the nearest that are alive have all answered: as many as are wanted, and as many more as are asked at a time
//! (asked for k, it is the paper's lookup). On several paths (S/Kademlia §4.4) each node belongs to the path that
//! heard of it first; the paths go on by themselves, and what they found is put together.

use p2p_core::{Cx, Key, Keyed, Peer, Time};

use super::{Asking, LookupMsg, Lookups, Question};
use crate::routed::{Routed, RoutedMsg};
use crate::structured::{LookupError, MAX_REPLICAS, Maintenance};

/// The peers that such a lookup knows of: at most [`MAX_KNOWN`] on each of at most [`MAX_PATHS`] paths.
#[derive(Clone, Debug)]
pub(super) struct Closest<P> {
    /// How many must have answered on each path.
    width: usize,
    parallel: usize,
    paths: Vec<Path<P>>,
}

/// Whoever has not answered after this part of the timeout does not keep others from being asked.
const PATIENCE: u32 = 3;
const MAX_KNOWN: usize = 96;
const MAX_PATHS: usize = 16;

/// The nearest first.
type Path<P> = Vec<Known<P>>;

#[derive(Clone, Copy, Debug)]
struct Known<P> {
    distance: Key,
    peer: P,
    /// How many steps led to it.
    depth: u16,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    /// Until this time others wait for its answer; then it is late, and one more may be asked.
    Asked(Time),
    Answered,
    Silent,
}

impl State {
    fn is_asked(self) -> bool {
        matches!(self, State::Asked(_))
    }
}

impl<P: Peer> Closest<P> {
    fn new(replicas: u8, parallel: u8, paths: u8) -> Closest<P> {
        let parallel = parallel.max(1);
        let width = replicas.saturating_add(parallel).min(MAX_REPLICAS);
        let paths = vec![Path::new(); usize::from(paths).clamp(1, MAX_PATHS)];
        Closest { width: width.into(), parallel: parallel.into(), paths }
    }

    fn knows(&self, peer: P) -> bool {
        self.paths.iter().flatten().any(|known| known.peer == peer)
    }

    /// Notes a peer; where a path knows too many, the furthest is forgotten.
    fn add(&mut self, path: usize, peer: P, distance: Key, depth: u16, state: State) {
        let path = &mut self.paths[path];
        let at = path.partition_point(|known| known.distance < distance);
        path.insert(at, Known { distance, peer, depth, state });
        path.truncate(MAX_KNOWN);
    }

    /// Whom to ask next: on each path the nearest that is new, if it is among the nearest that may be alive.
    fn next(&mut self, now: Time) -> Option<&mut Known<P>> {
        let (width, parallel) = (self.width, self.parallel);
        self.paths.iter_mut().find_map(|path| {
            let awaited = |known: &&Known<P>| matches!(known.state, State::Asked(late) if late > now);
            let asked = path.iter().filter(awaited).count();
            let mut near = path.iter_mut().filter(|known| known.state != State::Silent).take(width);
            near.find(|known| known.state == State::New && asked < parallel)
        })
    }

    /// When the next of those asked is late.
    pub(super) fn next_late(&self, now: Time) -> Option<Time> {
        let late = self.paths.iter().flatten().filter_map(|known| match known.state {
            State::Asked(late) => Some(late),
            State::New | State::Answered | State::Silent => None,
        });
        late.filter(|late| *late > now).min()
    }

    /// Whether the nearest on each path have answered.
    fn is_done(&self) -> bool {
        self.paths.iter().all(|path| {
            let alive = path.iter().filter(|known| known.state != State::Silent);
            alive.take(self.width).all(|known| known.state == State::Answered)
        })
    }

    /// Notes what became of a question: on which path it was, and how many steps had led there.
    fn settle(&mut self, peer: P, state: State) -> Option<(usize, u16)> {
        self.paths.iter_mut().enumerate().find_map(|(path, known)| {
            let asked = known.iter_mut().find(|known| known.peer == peer && known.state.is_asked())?;
            asked.state = state;
            Some((path, asked.depth))
        })
    }

    /// Those that have answered, the nearest first.
    fn answered(&self) -> Vec<Known<P>> {
        let all = self.paths.iter().flatten();
        let mut answered: Vec<Known<P>> =
            all.filter(|known| known.state == State::Answered).copied().collect();
        answered.sort_unstable_by_key(|known| known.distance);
        answered
    }
}

fn distance<M: Maintenance>(peer: M::Peer, key: &Key) -> Key {
    M::distance(&peer.key(), key).unwrap_or(Key::MAX)
}

impl<P: Keyed> Lookups<P> {
    pub(super) fn begin_converging<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        index: usize,
        parallel: u8,
    ) {
        let lookup = &mut self.begun[index];
        let (key, me) = (lookup.find.key, table.me());
        let mut closest = Closest::new(lookup.find.replicas, parallel, lookup.paths);
        let first = match lookup.via {
            Some(first) => vec![first],
            None => table.candidates(&key, closest.width * closest.paths.len(), lookup.left_out()),
        };
        if first.is_empty() && !table.is_joined() {
            return self.end(index, Err(LookupError::NotJoined));
        }
        for (i, &peer) in first.iter().enumerate() {
            closest.add(i % closest.paths.len(), peer, distance::<M>(peer, &key), 1, State::New);
        }
        if table.is_joined() {
            closest.add(0, me, distance::<M>(me, &key), 0, State::Answered);
        }
        lookup.asking = Asking::Closest(Box::new(closest));
        self.ask_closer(cx, table, index);
    }

    /// Asks as many as may be asked at a time, and ends the lookup when there is nobody left.
    pub(super) fn ask_closer<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        index: usize,
    ) {
        let lookup = &mut self.begun[index];
        let Asking::Closest(closest) = &mut lookup.asking else { return };
        let (key, replicas) = (lookup.find.key, usize::from(lookup.find.replicas));
        let wanted = closest.width as u8;
        let deadline = cx.now() + self.config.hop_timeout;
        let late = cx.now() + self.config.hop_timeout / PATIENCE;
        let left_out: &[P] = lookup.suspect.as_ref().map_or(&[], |suspect| suspect.left_out());
        while let Some(known) = closest.next(cx.now()) {
            let Ok(id) = self.asked.insert(known.peer, deadline, Question::Ask(lookup.ticket)) else { break };
            known.state = State::Asked(late);
            let ask = LookupMsg::Ask { id, key, replicas: wanted, claimed: false, avoid: left_out.to_vec() };
            cx.send(known.peer, RoutedMsg::Lookup(ask));
        }
        if !closest.is_done() {
            return;
        }
        let mut answered = closest.answered();
        // Whoever has heard from nobody but itself, though it knows others, has not found anything out.
        let alone = answered.iter().all(|known| known.depth == 0) && lookup.timeouts > 0;
        answered.truncate(replicas);
        let hops = answered.iter().map(|known| known.depth).max();
        let peers: Vec<P> = answered.iter().map(|known| known.peer).collect();
        match hops {
            Some(hops) if !alone => self.found(cx, table, index, (peers, hops, 0)),
            _ => {
                lookup.asking = Asking::Nobody;
                self.try_again(cx, table, index);
            }
        }
    }

    /// An asked node names nodes that are closer.
    pub(super) fn on_closer<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        from: P,
        index: usize,
        peers: &[P],
    ) {
        let lookup = &mut self.begun[index];
        let Asking::Closest(closest) = &mut lookup.asking else { return };
        let Some((path, depth)) = closest.settle(from, State::Answered) else { return };
        let left_out: &[P] = lookup.suspect.as_ref().map_or(&[], |suspect| suspect.left_out());
        for &peer in peers.iter().take(closest.width) {
            if peer != table.me() && !closest.knows(peer) && !left_out.contains(&peer) {
                let distance = distance::<M>(peer, &lookup.find.key);
                closest.add(path, peer, distance, depth.saturating_add(1), State::New);
            }
        }
        self.ask_closer(cx, table, index);
    }

    pub(super) fn on_silent_closest<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        peer: P,
        index: usize,
    ) {
        if let Asking::Closest(closest) = &mut self.begun[index].asking {
            closest.settle(peer, State::Silent);
        }
        self.ask_closer(cx, table, index);
    }
}
