//! HyParView: membership of which no node knows more than a small part.
//!
//! Leitão, Pereira and Rodrigues, *HyParView: a membership protocol for reliable gossip-based broadcast* (DSN 2007).
//! Each node has two lists. The *active view* (§4.1) holds its neighbours: few, so that the network can be flooded,
//! both ways, and watched, so that a dead one is noticed and replaced at once. The *passive view* holds more, whom it
//! only knows of: those to replace neighbours by. Newcomers are made known by random walks (§4.2), passive views are
//! mixed by shuffles (§4.4). So a broadcast survives the failure of most nodes at once (§5).
//!
//! What differs from the paper:
//!
//! - nobody is a neighbour by somebody else's word: whoever a walk ends at asks the newcomer, and both agree;
//! - a neighbour that says nothing for a while is asked for a sign of life, for connections do not tell everything;
//! - whoever has to go is told of others to go on with;
//! - a network that was cut in two finds together again: nodes remember whom they have lost, and one of these that
//!   answers again becomes a neighbour. So does a node that was alone;
//! - who has few neighbours, and is refused by others, insists; and rarely a node changes a neighbour for one of the
//!   passive view. Groups whose nodes have no room but for each other, which small networks fall into by chance, would
//!   stay apart for ever;
//! - a stranger in whose favour others have to go, or who names others, does so now and then only, and so do all strangers
//!   together: whoever comes without end does not have a node change its neighbours without end.
//!
//! In this order: [`HyParView`] and its configuration, what nodes say to each other, how inputs are told apart. Then
//! `views` (the two lists), `join` (into the network, and back into it), `neighbours` (agreeing, parting, replacing)
//! and `shuffle`. `converged` makes networks at rest, for experiments.

mod converged;
mod join;
mod neighbours;
mod shuffle;
mod views;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use p2p_core::{Cx, Keyed, Link, NoJob, OpId, Protocol, Wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::doors::Doors;
use crate::membership::{Membership, MembershipCommand, Neighbour, Parting};
use crate::subnets::SubnetLimits;

use neighbours::{Asked, Strangers};
use shuffle::Shuffling;
use views::Views;

/// A node of HyParView: a [`Protocol`] and a [`Membership`].
///
/// ```
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{Network, Sim};
/// use p2p_overlay::{HyParView, Membership};
/// use std::time::Duration;
///
/// let mut sim = Sim::<HyParView<SimPeer>>::new(1, Network::default());
/// let first = sim.spawn(|birth| HyParView::create(birth.peer));
/// for _ in 0..19 {
///     sim.spawn(|birth| HyParView::join(birth.peer, [first]));
/// }
/// sim.run_for(Duration::from_secs(60));
/// for (peer, node) in sim.view().iter() {
///     assert!((1..=5).contains(&node.active().len()));
///     assert!(!node.active().contains(&peer) && !node.passive().is_empty());
/// }
/// ```
///
/// It keeps as many peers as [`HyParViewConfig::active`] and [`HyParViewConfig::passive`] say, as many questions as the
/// former, and up to 32 peers through whom it finds back; it remembers how often the last 256 strangers have come.
pub struct HyParView<P> {
    me: P,
    config: Arc<HyParViewConfig>,
    views: Views<P>,
    /// Who was asked to be a neighbour.
    asked: Vec<Asked<P>>,
    /// Who has refused since the last shuffle; at most as many as the passive view.
    refused: Vec<P>,
    shuffling: Option<Shuffling<P>>,
    doors: Doors<P>,
    strangers: Strangers<P>,
    /// It knows nobody, and tries the doors.
    joining: bool,
    /// It has had neighbours.
    was_in: bool,
    /// It has left for good.
    left: bool,
}

/// How a node of HyParView behaves. The sizes are the paper's (§5.1), which gives no times; those are ours.
#[derive(Clone, Copy, Debug)]
pub struct HyParViewConfig {
    /// How many neighbours a node has at most. 5; at most 32.
    pub active: usize,
    /// How many others it knows. 30; at most 256.
    pub passive: usize,
    /// How many steps a newcomer's walk takes, ARWL. 6.
    pub active_walk: u8,
    /// With how many steps left those on the way note the newcomer, PRWL. 3.
    pub passive_walk: u8,
    /// How many steps a shuffle takes. 6, as a newcomer's walk.
    pub shuffle_walk: u8,
    /// How many neighbours a shuffle names, ka. 3.
    pub shuffle_active: usize,
    /// How many others it names, kp. 4.
    pub shuffle_passive: usize,
    /// How often a node shuffles. 30 s.
    pub shuffle: Duration,
    /// How often neighbours are looked after: who has said nothing for so long is asked for a sign of life. 5 s. Zero:
    /// never, nor does the node shuffle: for experiments on a network at rest.
    pub upkeep: Duration,
    /// How long to wait for an answer. 2 s.
    pub timeout: Duration,
    /// How many peers of one subnet a node knows (`table`), and how many of those are its neighbours (`group`): who comes when
    /// these are as many takes the place of one of them, and of nobody else. At least one, and `table` no fewer than
    /// `group`. `None`: as many as there are.
    ///
    /// With such limits an attacker who has one subnet, and in it as many ids as he likes, gets no more than his share of
    /// anybody's neighbours. A network most of whose honest nodes are in few subnets falls apart by them.
    pub subnets: Option<SubnetLimits>,
}

impl Default for HyParViewConfig {
    fn default() -> HyParViewConfig {
        HyParViewConfig {
            active: 5,
            passive: 30,
            active_walk: 6,
            passive_walk: 3,
            shuffle_walk: 6,
            shuffle_active: 3,
            shuffle_passive: 4,
            shuffle: Duration::from_secs(30),
            upkeep: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            subnets: None,
        }
    }
}

/// How many peers of a list are believed.
const MAX_NAMED: usize = 32;

/// What nodes of HyParView say to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum HyParViewMsg<P> {
    /// From a newcomer to somebody in the network, who takes it for a neighbour whatever that costs, and makes it
    /// known. Answered by [`HyParViewMsg::Accepted`]; by [`HyParViewMsg::Disconnect`] if strangers come too often.
    Join,
    /// From whoever was joined to its neighbours, and on at random: somebody has come. Whoever it ends at asks the
    /// newcomer to be its neighbour.
    ForwardJoin {
        /// Who.
        newcomer: P,
        /// How many steps are left.
        steps: u8,
    },
    /// The sender wants to be a neighbour. Answered by [`HyParViewMsg::Accepted`] or [`HyParViewMsg::Refused`].
    Neighbour {
        /// It has none, or brings a newcomer in: somebody else may have to go.
        urgent: bool,
    },
    /// To whoever asked to be a neighbour: it is one.
    Accepted,
    /// There is no room.
    Refused,
    /// The sender is a neighbour no more, or never was.
    Disconnect {
        /// It stays in the network.
        stays: bool,
        /// Others whom it knows.
        others: Vec<P>,
    },
    /// On at random; whoever it ends at answers the origin by [`HyParViewMsg::Shuffled`].
    Shuffle {
        /// Who has begun it.
        origin: P,
        /// Its number for it.
        ticket: u64,
        /// How many steps are left.
        steps: u8,
        /// Some whom the origin knows.
        peers: Vec<P>,
    },
    /// Some whom the sender knows.
    Shuffled {
        /// The origin's number for the shuffle.
        ticket: u64,
        /// They.
        peers: Vec<P>,
    },
    /// To a neighbour that has said nothing for a while. Answered by [`HyParViewMsg::Pong`], or by
    /// [`HyParViewMsg::Disconnect`] of who is none.
    Ping,
    /// A sign of life.
    Pong,
}

impl<P: Serialize + DeserializeOwned> Wire for HyParViewMsg<P> {
    const MAX_BYTES: usize = 8 << 10;
}

/// The timers of a node of HyParView: three, and one for each who was asked to be a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HyParViewTimer<P> {
    /// Time to try the next door.
    Join,
    /// Time to look after the neighbours.
    Upkeep,
    /// Time to shuffle.
    Shuffle,
    /// Somebody has not answered.
    Asked(P),
}

impl<P: Keyed> HyParView<P> {
    /// A node that starts a network of its own, for others to join.
    pub fn create(me: P) -> HyParView<P> {
        HyParView::with(me, [], HyParViewConfig::default())
    }

    /// A node that joins the network of any of these peers, and tries again until it has.
    pub fn join(me: P, seeds: impl IntoIterator<Item = P>) -> HyParView<P> {
        HyParView::with(me, seeds, HyParViewConfig::default())
    }

    /// A node with a configuration of its own; without seeds it starts a network.
    pub fn with(me: P, seeds: impl IntoIterator<Item = P>, config: HyParViewConfig) -> HyParView<P> {
        let (active, passive) = (config.active.clamp(1, 32), config.passive.clamp(1, 256));
        let subnets = config.subnets.map(|SubnetLimits { table, group }| {
            let group = group.max(1);
            SubnetLimits { table: table.max(group), group }
        });
        let config = HyParViewConfig { active, passive, subnets, ..config };
        HyParView::shared(me, seeds, Arc::new(config))
    }

    fn shared(me: P, seeds: impl IntoIterator<Item = P>, config: Arc<HyParViewConfig>) -> HyParView<P> {
        HyParView {
            me,
            config,
            views: Views::default(),
            asked: Vec::new(),
            refused: Vec::new(),
            shuffling: None,
            doors: Doors::new(me, seeds),
            strangers: Strangers::default(),
            joining: false,
            was_in: false,
            left: false,
        }
    }

    /// Those whom it knows beside its neighbours.
    pub fn passive(&self) -> &[P] {
        self.views.passive()
    }
}

impl<P: Keyed> Membership for HyParView<P> {
    fn me(&self) -> P {
        self.me
    }

    fn active(&self) -> &[P] {
        self.views.active()
    }

    fn is_joined(&self) -> bool {
        !self.views.active().is_empty() || (self.doors.is_founder() && !self.was_in && !self.left)
    }
}

impl<P: Keyed> Protocol for HyParView<P> {
    type Peer = P;
    type Msg = HyParViewMsg<P>;
    type Timer = HyParViewTimer<P>;
    type Command = MembershipCommand<P>;
    type Item = ();
    type Outcome = ();
    type Event = Neighbour<P>;
    type Job = NoJob;

    fn warm(&self) {
        self.views.warm();
    }

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        if !self.config.upkeep.is_zero() {
            let upkeep = cx.rng().duration(Duration::ZERO, self.config.upkeep);
            cx.set_timer(upkeep, HyParViewTimer::Upkeep);
            let shuffle = cx.rng().duration(Duration::ZERO, self.config.shuffle);
            cx.set_timer(shuffle, HyParViewTimer::Shuffle);
        }
        if self.views.active().is_empty() && !self.doors.is_founder() {
            self.begin_join(cx);
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: HyParViewMsg<P>) {
        if from == self.me {
            return;
        }
        if self.left {
            if let HyParViewMsg::Join | HyParViewMsg::Neighbour { .. } | HyParViewMsg::Ping = msg {
                cx.send(from, HyParViewMsg::Disconnect { stays: false, others: Vec::new() });
            }
            return;
        }
        self.views.heard(from);
        match msg {
            HyParViewMsg::Join => self.on_join(cx, from),
            HyParViewMsg::ForwardJoin { newcomer, steps } => self.on_forward_join(cx, from, newcomer, steps),
            HyParViewMsg::Neighbour { urgent } => self.on_neighbour(cx, from, urgent),
            HyParViewMsg::Accepted => self.on_accepted(cx, from),
            HyParViewMsg::Refused => self.on_refused(cx, from),
            HyParViewMsg::Disconnect { stays, others } => self.on_disconnect(cx, from, stays, others),
            HyParViewMsg::Shuffle { origin, ticket, steps, peers } => {
                self.on_shuffle(cx, from, origin, ticket, steps, peers);
            }
            HyParViewMsg::Shuffled { ticket, peers } => self.on_shuffled(cx, from, ticket, peers),
            HyParViewMsg::Ping => match self.views.is_active(from) {
                true => cx.send(from, HyParViewMsg::Pong),
                false => self.disconnect(cx, from),
            },
            HyParViewMsg::Pong => {}
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: HyParViewTimer<P>) {
        match timer {
            HyParViewTimer::Join => self.try_door(cx),
            HyParViewTimer::Upkeep => self.look_after(cx),
            HyParViewTimer::Shuffle => self.shuffle(cx),
            HyParViewTimer::Asked(peer) => self.lose(cx, peer, Parting::Silent),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: MembershipCommand<P>) {
        match command {
            MembershipCommand::Expel(peer) => self.expel(cx, peer),
            MembershipCommand::Leave => self.leave(cx),
        }
        cx.finish(op, ());
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        if let Link::Down(why) = link
            && let Some(parting) = Parting::of(why)
            && !self.left
        {
            self.lose(cx, peer, parting);
        }
    }
}

impl<P: Keyed> fmt::Debug for HyParView<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HyParView({:?}, {} passive)", self.views.active(), self.views.passive().len())
    }
}

#[cfg(test)]
mod tests;
