//! The servers: what each is asked, who is late, and who has lied.

use std::sync::Arc;
use std::time::Duration;

use p2p_core::{Cx, Keyed, Time};
use p2p_overlay::Membership;

use super::{LightAnswer, LightAsk, LightEvent, LightMsg, LightNode};
use crate::consensus::Consensus;
use crate::filter::Said;
use crate::id::BlockId;
use crate::node::{LedgerMsg, WINDOW_BYTES};
use crate::state::State;

/// How many servers there are, and how many that have lied are remembered.
const MOST: usize = 16;
/// How many servers of one subnet there are.
const MOST_OF_SUBNET: usize = 4;
const MOST_LIARS: usize = 1_024;
/// An answer is prompt in this part of the time in which it has to come at all. What is longer adds up.
const PROMPT: u32 = 5;
/// How many times the patience all answers together may take until a server has shown all that it has: 1,000 of 300 ms.
const MOST_PATIENCE: u32 = 5;

/// What is known of a server.
#[derive(Debug)]
pub(super) struct Server {
    /// The end of the best chain that it has shown.
    pub(super) shown: Option<BlockId>,
    /// It has shown all that it had.
    pub(super) is_done: bool,
    /// How long its answers have taken since it last had shown all its headers and hashes of filters: what was too long of that,
    /// and all together.
    late: Duration,
    took: Duration,
    /// They have taken too long, and it is not waited for until it has shown all.
    pub(super) is_overdue: bool,
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Open<P> {
    pub(super) of: P,
    since: Time,
    pub(super) what: What,
    /// The answer is a whole block.
    is_block: bool,
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
    /// For a block of which servers say different things.
    Disputed(BlockId),
    Task(u64),
}

impl What {
    /// Whether the answer is what the server has: its headers, or the hashes of their filters.
    fn is_of_chain(&self) -> bool {
        matches!(self, What::Headers { .. } | What::FilterHashes { .. })
    }

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
            late: Duration::ZERO,
            took: Duration::ZERO,
            is_overdue: false,
            withholds: false,
            is_silent: false,
            next: Time::ZERO,
            said: Said::from(0),
        });
        true
    }

    /// All but liars.
    pub(super) fn everybody(&self) -> impl Iterator<Item = (M::Peer, &Server)> {
        self.servers.iter().map(|(peer, server)| (*peer, server))
    }

    /// Those that answer.
    pub(super) fn live(&self) -> impl Iterator<Item = (M::Peer, &Server)> {
        self.everybody().filter(|(_, server)| !server.is_silent)
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

    /// Whether a server may be asked this, too: it is no block, or one that has room on its link.
    pub(super) fn fits(&self, peer: M::Peer, ask: &LightAsk) -> bool {
        let window = (WINDOW_BYTES / self.config.block_bytes.max(1)).max(1);
        let blocks = self.open.values().filter(|open| open.of == peer && open.is_block);
        !is_block(ask) || blocks.count() < window
    }

    pub(super) fn ask(&mut self, cx: &mut Cx<'_, Self>, of: M::Peer, ask: LightAsk, what: What) {
        self.asked = self.asked.wrapping_add(1);
        self.open.insert(self.asked, Open { of, since: cx.now(), what, is_block: is_block(&ask) });
        cx.send(of, LedgerMsg::Light(LightMsg::Ask(self.asked, ask)));
    }

    pub(super) fn answered(&mut self, cx: &mut Cx<'_, Self>, open: Open<M::Peer>, answer: LightAnswer) {
        let of = open.of;
        self.has_taken(&open, cx.now());
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
            (What::Disputed(block), answer) => self.disputed_answered(cx, block, of, Some(answer)),
            (What::Task(task), answer) => self.task_answered(cx, task, of, Some(answer)),
            (What::Headers { .. } | What::FilterHashes { .. }, _) => self.strayed(cx, of),
        }
    }

    /// A question about a server's chain is open no more.
    fn has_taken(&mut self, open: &Open<M::Peer>, now: Time) {
        let (took, prompt) = (now.since(open.since), self.config.timeout / PROMPT);
        if let Some(server) = self.servers.get_mut(&open.of).filter(|_| open.what.is_of_chain()) {
            server.late += took.saturating_sub(prompt);
            server.took += took;
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
            match self.open.remove(&id).map(|open| open.what) {
                Some(What::Task(task)) => self.task_answered(cx, task, peer, None),
                Some(What::Disputed(block)) => self.disputed_answered(cx, block, peer, None),
                Some(What::Headers { .. } | What::FilterHashes { .. }) | None => {}
            }
        }
    }

    pub(super) fn see_who_is_late(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        let is_late = |open: &&Open<M::Peer>| now.since(open.since) >= self.config.timeout;
        let late: Vec<Open<M::Peer>> = self.open.values().filter(is_late).copied().collect();
        for open in late {
            self.has_taken(&open, now);
            if let Some(server) = self.servers.get_mut(&open.of) {
                server.withholds |= open.what.is_of_filters();
            }
            self.silent(cx, open.of);
        }
        let has_shown_all = |server: &Server| server.is_done && self.has_said_all(server);
        let all =
            self.servers.iter().map(|(peer, server)| (has_shown_all(server), self.waits_for(*peer, now)));
        let all: Vec<(bool, Duration)> = all.collect();
        let (prompt, patience) = (self.config.timeout / PROMPT, self.config.patience);
        for (server, (has_shown_all, waits)) in self.servers.values_mut().zip(all) {
            if has_shown_all {
                (server.late, server.took) = (Duration::ZERO, Duration::ZERO);
            }
            let is_late = server.late + waits.saturating_sub(prompt) >= patience / 2;
            let is_too_long = server.took + waits >= patience.saturating_mul(MOST_PATIENCE);
            server.is_overdue = !has_shown_all && (is_late || is_too_long);
        }
    }

    /// How long a question about a server's chain has been open.
    fn waits_for(&self, peer: M::Peer, now: Time) -> Duration {
        let open = self.open.values().filter(|open| open.of == peer && open.what.is_of_chain());
        open.map(|open| now.since(open.since)).max().unwrap_or_default()
    }

    /// Asks those whose turn it is what they have.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        let due = self.servers.iter().filter(|(_, server)| server.next <= now);
        let due: Vec<M::Peer> = due.map(|(peer, _)| *peer).collect();
        due.into_iter().for_each(|peer| self.ask_headers(cx, peer, None));
    }
}

fn is_block(ask: &LightAsk) -> bool {
    matches!(ask, LightAsk::Block(_))
}
