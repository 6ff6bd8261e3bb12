//! Iterative lookups for a root that knows that it is one: the asker asks each node itself.

use p2p_core::{Cx, Key, Keyed, Peer, Time};

use super::{AVOIDED, Asking, Hint, LookupMsg, Lookups, Question, hint};
use crate::routed::{Routed, RoutedMsg};
use crate::structured::{LookupError, Maintenance};

/// The peers that an iterative lookup knows of. At most [`MAX_KNOWN`].
#[derive(Clone, Debug)]
pub(super) struct Shortlist<P> {
    parallel: u8,
    known: Vec<Known<P>>,
    /// Who is not asked. At most [`AVOIDED`].
    left_out: Vec<P>,
}

const MAX_KNOWN: usize = 128;

#[derive(Clone, Debug)]
struct Known<P> {
    peer: P,
    /// How far it has yet to go; nothing, if it is said to be the root.
    distance: Key,
    claimed: bool,
    /// How many steps led to it.
    depth: u16,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Asked,
    /// It could not say who is responsible: it is asked again then.
    Held(Time),
    Answered,
    Silent,
}

impl<P: Peer> Shortlist<P> {
    fn add(&mut self, peer: P, distance: Key, claimed: bool, depth: u16) {
        if self.left_out.contains(&peer) {
            return;
        }
        let same = self.known.iter_mut().find(|known| known.peer == peer && known.claimed == claimed);
        if same.is_some() {
            return;
        }
        if self.known.len() >= MAX_KNOWN {
            // Long paths: whoever has answered furthest from the key is of no more use.
            let answered = self.known.iter().enumerate().filter(|(_, known)| known.state == State::Answered);
            let Some((furthest, _)) = answered.max_by_key(|(_, known)| known.distance) else { return };
            self.known.swap_remove(furthest);
        }
        self.known.push(Known { peer, distance, claimed, depth, state: State::New });
    }

    fn waiting(&self, claimed: bool) -> usize {
        let awaited = |known: &&Known<P>| matches!(known.state, State::Asked | State::Held(_));
        self.known.iter().filter(awaited).filter(|known| known.claimed == claimed).count()
    }

    /// When the next that is held is to be asked again.
    pub(super) fn next_held(&self) -> Option<Time> {
        let held = self.known.iter().filter_map(|known| match known.state {
            State::Held(until) => Some(until),
            State::New | State::Asked | State::Answered | State::Silent => None,
        });
        held.min()
    }

    /// Those that were held for long enough may be asked again.
    pub(super) fn wake(&mut self, now: Time) {
        let due = |known: &&mut Known<P>| matches!(known.state, State::Held(until) if until <= now);
        self.known.iter_mut().filter(due).for_each(|known| known.state = State::New);
    }

    /// Whom to ask next: of the peers said to be the root the first, one at a time; else the nearest.
    fn next(&mut self) -> Option<&mut Known<P>> {
        let may_claim = self.waiting(true) == 0;
        let may_ask = self.waiting(false) < usize::from(self.parallel.max(1));
        let new = self.known.iter_mut().filter(|known| known.state == State::New);
        let may = new.filter(|known| if known.claimed { may_claim } else { may_ask });
        may.min_by_key(|known| (!known.claimed, known.distance))
    }

    /// The peers that are left out, and those that did not answer, the nearest to the key first.
    fn silent(&self) -> Vec<P> {
        let silent = self.known.iter().filter(|known| known.state == State::Silent);
        let mut silent: Vec<&Known<P>> = silent.collect();
        silent.sort_by_key(|known| (!known.claimed, known.distance));
        let silent = silent.iter().map(|known| known.peer);
        self.left_out.iter().copied().chain(silent).take(AVOIDED).collect()
    }

    /// Somebody was silent: the nearest peer that has answered may know another way.
    fn ask_again(&mut self) {
        let answered = self.known.iter_mut().filter(|known| known.state == State::Answered && !known.claimed);
        if let Some(nearest) = answered.min_by_key(|known| known.distance) {
            nearest.state = State::New;
        }
    }

    fn settle(&mut self, peer: P, state: State) -> u16 {
        let asked = self.known.iter_mut().find(|known| known.peer == peer && known.state == State::Asked);
        let Some(known) = asked else { return 0 };
        known.state = state;
        known.depth
    }
}

impl<P: Keyed> Lookups<P> {
    pub(super) fn begin_iterative<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        index: usize,
        parallel: u8,
    ) {
        let lookup = &mut self.begun[index];
        let find = lookup.find;
        let left_out = lookup.left_out().to_vec();
        let mut list = Shortlist { parallel, known: Vec::new(), left_out };
        if let Some(first) = lookup.via {
            list.add(first, Key::MAX, false, 1);
        } else {
            match hint(table, &find.key, find.replicas, false, &list.left_out) {
                Hint::Mine(peers) => return self.found(cx, table, index, (peers, 0, 0)),
                Hint::Later => {
                    lookup.asking = Asking::Later(cx.now() + self.config.hop_timeout);
                    return;
                }
                own => add_hint::<M>(&mut list, own, table.me(), &find.key, 1),
            }
        }
        if list.known.is_empty() {
            return self.end(index, Err(LookupError::NotJoined));
        }
        lookup.asking = Asking::Root(Box::new(list));
        self.ask_more(cx, table, index);
    }

    /// Asks as many as may be asked at a time; starts over if nobody is left.
    pub(super) fn ask_more<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        index: usize,
    ) {
        let lookup = &mut self.begun[index];
        let Asking::Root(list) = &mut lookup.asking else { return };
        let (key, replicas) = (lookup.find.key, lookup.find.replicas);
        let deadline = cx.now() + self.config.hop_timeout;
        let avoid = list.silent();
        while let Some(known) = list.next() {
            let avoid = avoid.clone();
            let Ok(id) = self.asked.insert(known.peer, deadline, Question::Ask(lookup.ticket)) else { break };
            known.state = State::Asked;
            let ask = LookupMsg::Ask { id, key, replicas, claimed: known.claimed, avoid };
            cx.send(known.peer, RoutedMsg::Lookup(ask));
        }
        if list.waiting(true) + list.waiting(false) == 0 {
            lookup.asking = Asking::Nobody;
            self.got_nowhere(cx, table, index);
        }
    }

    pub(super) fn on_hint<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        from: P,
        index: usize,
        mut hint: Hint<P>,
    ) {
        let lookup = &mut self.begun[index];
        let Asking::Root(list) = &mut lookup.asking else { return };
        let again = cx.now() + self.config.hop_timeout;
        if let Hint::Later = hint {
            list.settle(from, State::Held(again));
            return;
        }
        let depth = list.settle(from, State::Answered);
        if let Hint::Mine(peers) = hint {
            if peers.first() == Some(&from) {
                return self.found(cx, table, index, (peers, depth, 0));
            }
            return self.ask_more(cx, table, index);
        }
        let (key, replicas) = (lookup.find.key, lookup.find.replicas);
        if let Hint::Root(peers) = &hint {
            let silent = list.silent();
            if peers.iter().find(|peer| !silent.contains(peer)) == Some(&table.me()) {
                // It is for this node to say whether it is the root.
                hint = super::hint(table, &key, replicas, true, &silent);
            }
        }
        match hint {
            Hint::Mine(peers) => return self.found(cx, table, index, (peers, depth, 0)),
            Hint::Later => {
                lookup.asking = Asking::Later(again);
                return;
            }
            Hint::Root(_) | Hint::Toward(_) => {}
        }
        add_hint::<M>(list, hint, table.me(), &key, depth.saturating_add(1));
        self.ask_more(cx, table, index);
    }

    pub(super) fn on_silent_hint<M: Maintenance<Peer = P>>(
        &mut self,
        cx: &mut Cx<'_, Routed<M>>,
        table: &mut M,
        peer: P,
        index: usize,
    ) {
        if let Asking::Root(list) = &mut self.begun[index].asking {
            list.settle(peer, State::Silent);
            list.ask_again();
        }
        self.ask_more(cx, table, index);
    }
}

fn add_hint<M: Maintenance>(
    list: &mut Shortlist<M::Peer>,
    hint: Hint<M::Peer>,
    me: M::Peer,
    key: &Key,
    depth: u16,
) {
    let (peers, claimed) = match hint {
        Hint::Root(peers) => (peers, true),
        Hint::Toward(peers) => (peers, false),
        Hint::Mine(_) | Hint::Later => return,
    };
    for (rank, peer) in peers.into_iter().filter(|peer| *peer != me).take(super::HINTS).enumerate() {
        let distance = match claimed {
            true => rank_key(0, rank),
            false => M::distance(&peer.key(), key).unwrap_or_else(|| rank_key(u16::MAX - depth, rank)),
        };
        list.add(peer, distance, claimed, depth);
    }
}

/// Orders peers as they were named, after another measure. Those said to be the root; and where only whoever names a
/// peer can tell how near it is, all of them: the more steps led to it the nearer it is.
fn rank_key(first: u16, rank: usize) -> Key {
    let mut bytes = [0; 32];
    bytes[29..31].copy_from_slice(&first.to_be_bytes());
    bytes[31] = rank as u8;
    Key::new(bytes)
}
