//! The nodes: dialled, greeted, asked whether they are there, and left for good if they have lied.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use p2p_core::{Cx, Down, Key, Time};
use p2p_overlay::{Place, of_address};

use super::codec::{BitcoinMsg, NODE_NETWORK, VERSION, Version};
use super::filters::FilterAsk;
use super::tasks::Fetch;
use super::{BitcoinClient, BitcoinEvent};
use crate::consensus::ProofOfWork;
use crate::filter::Said;
use crate::header::BitcoinHeader;
use crate::headers::HeaderSync;
use crate::id::BlockId;

/// How many nodes there are.
pub(super) const MOST: usize = 16;
/// The first version in which nodes say new blocks by their headers.
const OLDEST: u32 = 70_012;
/// How soon a node is dialled again that was lost; and how late, after it was lost again and again.
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(60);
/// How this program calls itself (BIP 14).
const AGENT: &str = concat!("/p2p-ledger:", env!("CARGO_PKG_VERSION"), "/");

/// Why a node is of no use now. It is dialled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Useless {
    /// Nobody is there.
    #[error("it cannot be reached")]
    Unreachable,
    /// It does not greet.
    #[error("it does not say who it is")]
    Silent,
    /// It does not want this client.
    #[error("it closes the connection before it has said who it is: it may be of another network")]
    Closed,
    /// It is of another network, or no node at all.
    #[error("what it says is no message of this network")]
    Stranger,
    /// It has not all blocks, or is too old.
    #[error("it does not serve all blocks, or speaks too old a version of the protocol")]
    Unable,
}

/// What is known of a node.
#[derive(Debug)]
pub(super) struct Node<P> {
    pub(super) addr: SocketAddr,
    /// The connection, if there is one, or one is being made.
    pub(super) link: Option<LinkTo<P>>,
    /// When it is dialled.
    next: Time,
    /// How often in a row it was lost before it had shown its headers.
    failures: u32,
    /// It was asked for its headers and has not sent them, or not come to their end: nobody waits for it until it has shown them all.
    pub(super) is_late: bool,
    /// Until when others wait for it while its headers are followed by themselves: no longer, once they have ended with too little work.
    pub(super) syncing_until: Option<Time>,
    /// How many blocks it was asked for in vain since it last gave one.
    pub(super) withheld: u32,
    /// What it says of filters.
    pub(super) said: Said,
    /// The filter headers that it has named of every 1,000th block up to this one.
    pub(super) checkpoints: Option<(BlockId, Vec<Key>)>,
    /// How often it said something else of a filter than was believed in the end, and nothing showed who was right.
    pub(super) overruled: u32,
    /// It is not heard about filters any more.
    pub(super) is_mute: bool,
    /// It was of no use when it was dialled last.
    useless: Option<Useless>,
    /// How it has provably lied.
    pub(super) lied: Option<Arc<str>>,
}

/// A connection to a node.
#[derive(Debug)]
pub(super) struct LinkTo<P> {
    pub(super) peer: P,
    /// What it says of itself.
    pub(super) version: Option<Version>,
    /// Both have greeted.
    is_ready: bool,
    /// When it was dialled; since both have greeted, when it has said something last.
    heard: Time,
    /// It was asked whether it is there.
    pinged: bool,
    /// Until when it has to send the headers that it was asked for, and after which height those are.
    pub(super) asked: Option<(Time, u64)>,
    /// Until when no other node is asked for headers, while the chain does not grow by this one's.
    pub(super) turn: Time,
    /// The height that its chain has, as far as it has said.
    pub(super) height: u64,
    /// The last header that it has shown.
    pub(super) shown: Option<BlockId>,
    /// It has shown all headers that it has.
    pub(super) is_done: bool,
    /// Its headers are followed by themselves.
    pub(super) sync: Option<HeaderSync<ProofOfWork<BitcoinHeader>>>,
    /// What it was asked about filter headers.
    pub(super) asked_filters: Option<FilterAsk>,
    /// What it was asked for.
    pub(super) fetch: Option<Fetch>,
}

impl<P: Place> Node<P> {
    pub(super) fn new(addr: SocketAddr) -> Node<P> {
        Node {
            addr,
            link: None,
            next: Time::ZERO,
            failures: 0,
            is_late: false,
            syncing_until: None,
            withheld: 0,
            said: Said::from(0),
            checkpoints: None,
            overruled: 0,
            is_mute: false,
            useless: None,
            lied: None,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready().is_some()
    }

    /// The connection, if both have greeted.
    pub(super) fn ready(&self) -> Option<&LinkTo<P>> {
        self.link.as_ref().filter(|link| link.is_ready)
    }

    pub(super) fn heard(&mut self, now: Time) {
        if let Some(link) = self.link.as_mut().filter(|link| link.is_ready) {
            (link.heard, link.pinged) = (now, false);
        }
    }

    /// It has shown all headers that it has.
    pub(super) fn done(&mut self) {
        (self.failures, self.is_late) = (0, false);
        if let Some(link) = &mut self.link {
            link.is_done = true;
        }
    }

    /// Whether it may yet show headers, and somebody waits for that: it was dialled for the first time and has not greeted.
    pub(super) fn is_expected(&self) -> bool {
        self.failures == 0 && self.link.as_ref().is_some_and(|link| !link.is_ready)
    }

    /// The filter header that it has named of the block that is this many times the 1,000th.
    pub(super) fn checkpoint(&self, number: u64) -> Option<Key> {
        let (_, headers) = self.checkpoints.as_ref()?;
        headers.get(usize::try_from(number.checked_sub(1)?).ok()?).copied()
    }

    /// Whether it is there, and nothing is to be expected of it.
    pub(super) fn is_hopeless(&self) -> bool {
        let useless = matches!(self.useless, Some(Useless::Closed | Useless::Stranger | Useless::Unable));
        self.lied.is_some() || useless
    }

    /// What it does for others.
    pub(super) fn services(&self) -> u64 {
        let version = self.ready().and_then(|link| link.version.as_ref());
        version.map_or(0, |version| version.services)
    }
}

impl<P: Place> BitcoinClient<P> {
    pub(super) fn node_of(&self, peer: P) -> Option<usize> {
        self.nodes.iter().position(|node| node.link.as_ref().is_some_and(|link| link.peer == peer))
    }

    /// Dials those that are not there, and leaves those that do not answer.
    pub(super) fn look_after_nodes(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        for at in 0..self.nodes.len() {
            let Some(link) = &mut self.nodes[at].link else {
                self.dial(cx, at);
                continue;
            };
            let late = |until: Option<Time>| until.is_some_and(|until| until <= now);
            let (asked, fetch) = (link.asked.map(|(until, _)| until), link.fetch.as_ref().map(Fetch::until));
            let asked_filters = link.asked_filters.as_ref().map(|asked| asked.until);
            let (silent, is_ready) = (now.since(link.heard), link.is_ready);
            let gone = match link.is_ready {
                false => silent >= self.config.timeout,
                true => silent >= self.config.silence.saturating_add(self.config.timeout),
            };
            if gone || late(asked) || late(asked_filters) || late(fetch) {
                self.nodes[at].is_late |= late(asked);
                self.nodes[at].is_mute |= late(asked_filters);
                if !is_ready {
                    self.useless(cx, at, Useless::Silent);
                }
                self.part(cx, at);
            } else if link.is_ready && silent >= self.config.silence && !link.pinged {
                link.pinged = true;
                let (peer, nonce) = (link.peer, cx.rng().next_u64());
                cx.send(peer, BitcoinMsg::Ping(nonce));
            }
        }
    }

    fn dial(&mut self, cx: &mut Cx<'_, Self>, at: usize) {
        let node = &mut self.nodes[at];
        if node.lied.is_some() || node.next > cx.now() {
            return;
        }
        self.number += 1;
        let peer = P::at(of_address(node.addr), self.number);
        node.link = Some(LinkTo {
            peer,
            version: None,
            is_ready: false,
            heard: cx.now(),
            pinged: false,
            asked: None,
            turn: Time::ZERO,
            height: 0,
            shown: None,
            is_done: false,
            sync: None,
            asked_filters: None,
            fetch: None,
        });
        let version = Version {
            version: VERSION,
            services: 0,
            time: cx.wall().as_secs(),
            nonce: cx.rng().next_u64(),
            agent: AGENT.into(),
            height: u32::try_from(self.chain.tip().height).unwrap_or(u32::MAX),
            relay: false,
        };
        cx.send(peer, BitcoinMsg::Version(version));
    }

    /// A node says who it is.
    pub(super) fn greeted(&mut self, cx: &mut Cx<'_, Self>, at: usize, version: Version) {
        let Some(link) = self.nodes[at].link.as_mut().filter(|link| link.version.is_none()) else { return };
        if version.version < OLDEST || version.services & NODE_NETWORK == 0 {
            // It has not what is wanted here, and may have it one day.
            self.useless(cx, at, Useless::Unable);
            self.part(cx, at);
            self.nodes[at].next = cx.now() + LATE;
            return;
        }
        link.height = version.height.into();
        link.version = Some(version);
        cx.send(link.peer, BitcoinMsg::Verack);
    }

    /// A node has heard who this is.
    pub(super) fn welcomed(&mut self, cx: &mut Cx<'_, Self>, at: usize) {
        let node = &mut self.nodes[at];
        let Some(link) = &mut node.link else { return };
        if link.version.is_none() || link.is_ready {
            return;
        }
        (link.is_ready, link.heard, node.useless) = (true, cx.now(), None);
        cx.send(link.peer, BitcoinMsg::SendHeaders);
    }

    /// Leaves a node, to dial it anew.
    pub(super) fn part(&mut self, cx: &mut Cx<'_, Self>, at: usize) {
        if let Some(link) = &self.nodes[at].link {
            cx.send(link.peer, BitcoinMsg::HangUp);
        }
        self.forget(cx, at);
    }

    /// A connection has ended.
    pub(super) fn lost(&mut self, cx: &mut Cx<'_, Self>, at: usize, why: Down) {
        let useless = match why {
            Down::Unreachable => Some(Useless::Unreachable),
            Down::TimedOut => Some(Useless::Silent),
            Down::Closed => Some(Useless::Closed),
            Down::Misbehaved => Some(Useless::Stranger),
            Down::Idle | Down::Overflow | Down::Shutdown => None,
        };
        if let Some(useless) = useless.filter(|_| !self.nodes[at].is_ready()) {
            self.useless(cx, at, useless);
        }
        self.forget(cx, at);
        if why == Down::Misbehaved {
            // It may be somebody on the way who speaks: nothing proves who it is.
            self.nodes[at].next = cx.now() + LATE;
        }
    }

    fn forget(&mut self, cx: &mut Cx<'_, Self>, at: usize) {
        let node = &mut self.nodes[at];
        let Some(link) = node.link.take() else { return };
        let wait = SOON.saturating_mul(1 << node.failures.min(6)).min(LATE);
        node.failures = node.failures.saturating_add(1);
        node.next = cx.now() + cx.rng().duration(wait, wait * 3 / 2);
        if let Some(fetch) = link.fetch {
            self.in_vain(&fetch, at);
        }
        self.leaves_dispute(at);
    }

    /// A node is of no use, as it was before, or not.
    fn useless(&mut self, cx: &mut Cx<'_, Self>, at: usize, why: Useless) {
        let node = &mut self.nodes[at];
        if node.useless.replace(why) != Some(why) {
            cx.emit(BitcoinEvent::Useless(node.addr, why));
        }
    }

    /// A node has provably lied.
    pub(super) fn lied(&mut self, cx: &mut Cx<'_, Self>, at: usize, how: &str) {
        self.part(cx, at);
        let node = &mut self.nodes[at];
        let how: Arc<str> = how.into();
        node.lied = Some(how.clone());
        cx.emit(BitcoinEvent::Lied(node.addr, how));
    }
}
