//! The servers: what each is asked, who is late, and who has lied.

use std::sync::Arc;

use p2p_core::{Cx, Keyed, Time};
use p2p_overlay::Membership;

use super::belief::Said;
use super::{LightAnswer, LightAsk, LightEvent, LightMsg, LightNode};
use crate::consensus::Consensus;
use crate::id::BlockId;
use crate::node::LedgerMsg;
use crate::state::State;

/// How many servers there are, and how many that have lied are remembered.
const MOST: usize = 16;
/// How many servers of one subnet there are.
const MOST_OF_SUBNET: usize = 4;
const MOST_LIARS: usize = 1_024;

/// What is known of a server.
#[derive(Debug)]
pub(super) struct Server {
    /// The end of the best chain that it has shown.
    pub(super) shown: Option<BlockId>,
    /// It has shown all that it had.
    pub(super) is_done: bool,
    /// Until when it has to show what it has not shown yet, of its headers or of the hashes of filters.
    until: Option<Time>,
    /// It has not, and is not waited for until it has.
    is_overdue: bool,
    /// It was asked for filter hashes and has not given them: while there are some that it has not, it is not waited for.
    pub(super) withholds: bool,
    /// It was late with an answer, and has given none since: nobody waits for it.
    pub(super) is_silent: bool,
    /// When it is asked what it has.
    pub(super) next: Time,
    /// What it says of filters.
    pub(super) said: Said,
}

/// A question that is open.
#[derive(Debug)]
pub(super) struct Open<P> {
    pub(super) of: P,
    until: Time,
    pub(super) what: What,
}

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// For those after this height.
    Headers {
        after: u64,
    },
    FilterHashes {
        from: u64,
        to: BlockId,
    },
    Task(u64),
}

impl What {
    fn is_of_filters(&self) -> bool {
        matches!(self, What::FilterHashes { .. })
    }
}

impl<M: Membership, C: Consensus, S: State> LightNode<M, C, S> {
    /// Asks one server more from now on; says whether it will.
    pub(super) fn enlist(&mut self, peer: M::Peer) -> bool {
        let is_near = |other: &&M::Peer| peer.subnet().is_some() && peer.subnet() == other.subnet();
        let near = self.servers.keys().filter(is_near).count();
        if self.liars.contains_key(&peer) || self.servers.len() >= MOST || near >= MOST_OF_SUBNET {
            return self.servers.contains_key(&peer);
        }
        self.servers.entry(peer).or_insert_with(|| Server {
            shown: None,
            is_done: false,
            until: None,
            is_overdue: false,
            withholds: false,
            is_silent: false,
            next: Time::ZERO,
            said: Said::default(),
        });
        true
    }

    /// Those that answer.
    pub(super) fn live(&self) -> impl Iterator<Item = (M::Peer, &Server)> {
        self.servers.iter().filter(|(_, server)| !server.is_silent).map(|(peer, server)| (*peer, server))
    }

    /// Those that are waited for: they answer what everybody is asked, in time. Who was overruled is one of them only where
    /// there is nobody else.
    pub(super) fn timely(&self) -> impl Iterator<Item = (M::Peer, &Server)> {
        let withholds = |server: &Server| server.withholds && !self.has_said_all(server);
        let in_time = move || self.live().filter(move |(_, server)| !server.is_overdue && !withholds(server));
        let any = in_time().any(|(_, server)| !server.said.is_overruled());
        in_time().filter(move |(_, server)| !any || !server.said.is_overruled())
    }

    /// Whether it has said something of the filters of all blocks that it has shown.
    fn has_said_all(&self, server: &Server) -> bool {
        server.said.height() >= self.reach(server)
    }

    /// How many questions of this kind a server has open.
    pub(super) fn open_of(&self, peer: M::Peer, kind: impl Fn(&What) -> bool) -> usize {
        self.open.values().filter(|open| open.of == peer && kind(&open.what)).count()
    }

    pub(super) fn ask(&mut self, cx: &mut Cx<'_, Self>, of: M::Peer, ask: LightAsk, what: What) {
        self.asked = self.asked.wrapping_add(1);
        let until = cx.now() + self.config.timeout;
        self.open.insert(self.asked, Open { of, until, what });
        cx.send(of, LedgerMsg::Light(LightMsg::Ask(self.asked, ask)));
    }

    pub(super) fn answered(&mut self, cx: &mut Cx<'_, Self>, open: Open<M::Peer>, answer: LightAnswer) {
        let of = open.of;
        let Some(server) = self.servers.get_mut(&of) else { return };
        server.is_silent = false;
        match (open.what, answer) {
            (What::Headers { after }, LightAnswer::Headers { tip, headers }) => {
                self.headers_came(cx, of, after, tip, &headers);
            }
            (What::FilterHashes { from, to }, LightAnswer::FilterHashes { previous, hashes }) => {
                self.filter_hashes_came(cx, of, (from, to), previous, &hashes);
            }
            (what @ (What::Headers { .. } | What::FilterHashes { .. }), LightAnswer::Missing) => {
                // Its disk has failed, it has too much to do, or has gone over to another branch: it is asked again in its time.
                (server.shown, server.is_done) = (None, true);
                server.withholds |= what.is_of_filters();
            }
            (What::Task(task), answer) => self.task_answered(cx, task, of, Some(answer)),
            (What::Headers { .. } | What::FilterHashes { .. }, _) => self.strayed(cx, of),
        }
    }

    /// It has answered another question than it was asked.
    pub(super) fn strayed(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        self.lied(cx, peer, "its answer does not belong to the question");
    }

    /// It does not answer: others are asked instead.
    pub(super) fn silent(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        let Some(server) = self.servers.get_mut(&peer) else { return };
        if !server.is_silent {
            // It may only have been a message that was lost.
            (server.is_silent, server.next) = (true, cx.now());
        }
        self.forget_questions(cx, peer);
    }

    /// It has provably lied.
    pub(super) fn lied(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, how: &str) {
        if self.servers.remove(&peer).is_none() {
            return;
        }
        let how: Arc<str> = Arc::from(how);
        if self.liars.len() >= MOST_LIARS {
            self.liars.pop_first();
        }
        self.liars.insert(peer, how.clone());
        cx.emit(LightEvent::Lied(peer, how));
        self.forget_questions(cx, peer);
    }

    fn forget_questions(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer) {
        self.syncing.remove(&peer);
        let open: Vec<u32> =
            self.open.iter().filter(|(_, open)| open.of == peer).map(|(id, _)| *id).collect();
        for id in open {
            if let Some(Open { what: What::Task(task), .. }) = self.open.remove(&id) {
                self.task_answered(cx, task, peer, None);
            }
        }
    }

    pub(super) fn see_who_is_late(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        let late = self.open.values().filter(|open| open.until <= now);
        let late: Vec<(M::Peer, What)> = late.map(|open| (open.of, open.what)).collect();
        for (peer, what) in late {
            if let Some(server) = self.servers.get_mut(&peer) {
                server.withholds |= what.is_of_filters();
            }
            self.silent(cx, peer);
        }
        let has_shown_all = |server: &Server| server.is_done && self.has_said_all(server);
        let all: Vec<bool> = self.servers.values().map(has_shown_all).collect();
        let late = now + self.config.patience / 2;
        for (server, has_shown_all) in self.servers.values_mut().zip(all) {
            server.until = (!has_shown_all).then(|| server.until.unwrap_or(late));
            server.is_overdue = server.until.is_some_and(|until| until <= now);
        }
    }

    /// Asks those whose turn it is what they have.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        let due = self.servers.iter().filter(|(_, server)| server.next <= now);
        let due: Vec<M::Peer> = due.map(|(peer, _)| *peer).collect();
        due.into_iter().for_each(|peer| self.ask_headers(cx, peer, None));
    }
}
