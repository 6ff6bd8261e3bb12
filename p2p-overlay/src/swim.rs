//! SWIM: membership in which everybody knows everybody, and a failure is noticed soon.
//!
//! Das, Gupta and Motivala, *SWIM: scalable weakly-consistent infection-style process group membership protocol* (DSN
//! 2002). Every period a node pings one other (§3.1); who does not answer is pinged by some others on its behalf, for
//! it may be the way that is bad. What is learnt travels on these messages, so many times each (§4.1). Who has not
//! answered at all is *suspected*: it can say that it lives, by a higher incarnation of itself, before it counts as
//! dead (§4.2); and all are pinged in turn, in random order, so that none is left out for long (§4.3). In a large group
//! a failure is noticed by somebody within e/(e−1) ≈ 1.58 periods on average (§3.1).
//!
//! From Dadgar, Phillips and Currey, *Lifeguard: local health awareness for more accurate failure detection* (DSN-W
//! 2018): a node whose own pings fail takes its time, for it may be the one that is slow (§IV-A), and who is suspected
//! is the first to hear of it (§IV-C).
//!
//! All members are neighbours, so this suits groups of up to a few hundred. What differs from the papers: the dead are
//! remembered for a while, so that old news does not bring them back; groups that were cut in two find together
//! again, as with [`HyParView`](crate::HyParView); and news of an incarnation that nobody can have come to is not
//! believed, but for what a member says of itself.
//!
//! In this order: [`Swim`] and its configuration, what members say, how inputs are told apart; `members` (what is known
//! of each, and which news is newer), `probe` (pinging and suspecting), `spread` (news, joining, leaving).

mod members;
mod probe;
mod spread;

use std::fmt;
use std::time::Duration;

use p2p_core::{Cx, Keyed, Lane, Link, NoJob, OpId, Peer, Protocol, Wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::doors::Doors;
use crate::membership::{Membership, MembershipCommand, Neighbour, Parting};

use members::Members;
use probe::{Probe, Relayed};
use spread::Rumour;

/// A member of a SWIM group: a [`Protocol`] and a [`Membership`].
///
/// ```
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{Network, Sim};
/// use p2p_overlay::{Membership, Swim};
/// use std::time::Duration;
///
/// let mut sim = Sim::<Swim<SimPeer>>::new(1, Network::default());
/// let first = sim.spawn(|birth| Swim::create(birth.peer));
/// for _ in 0..9 {
///     sim.spawn(|birth| Swim::join(birth.peer, [first]));
/// }
/// sim.run_for(Duration::from_secs(30));
/// assert!(sim.view().iter().all(|(_, member)| member.active().len() == 9));
///
/// sim.crash(first);
/// sim.run_for(Duration::from_secs(30));
/// assert!(sim.view().iter().all(|(_, member)| member.active().len() == 8));
/// ```
///
/// It keeps at most [`SwimConfig::max_members`] others with a rumour of each, and up to 32 peers through whom it finds
/// back.
pub struct Swim<P> {
    me: P,
    config: SwimConfig,
    members: Members<P>,
    /// How often this node had to say that it lives.
    incarnation: u64,
    rumours: Vec<Rumour<P>>,
    /// Whom to ping next, the next last.
    round: Vec<P>,
    probe: Option<Probe<P>>,
    /// Pings for others; at most [`probe::MAX_RELAYED`].
    relayed: Vec<Relayed<P>>,
    /// The number of the last ping.
    sequence: u32,
    /// How badly this node does itself: 0 is well (Lifeguard §IV-A).
    ill: u32,
    doors: Doors<P>,
    was_in: bool,
    left: bool,
}

/// How a member of a SWIM group behaves.
#[derive(Clone, Copy, Debug)]
pub struct SwimConfig {
    /// How often a member pings another, T' (DSN 2002 §3.1: 2 s in the paper's experiments). 1 s.
    pub period: Duration,
    /// How long a ping may take before others are asked; less than a third of the period. 300 ms.
    pub timeout: Duration,
    /// How many others are asked, k (§3.1). 3.
    pub helpers: usize,
    /// How often a piece of news is passed on, times log2 of the group's size, λ (§4.1). 3.
    pub spread: u32,
    /// For how many periods a member is suspected, times log10 of the group's size, and one at least (Lifeguard's α).
    /// 5.
    pub suspicion: u32,
    /// How many others a member knows. 256.
    pub max_members: usize,
}

impl Default for SwimConfig {
    fn default() -> SwimConfig {
        SwimConfig {
            period: Duration::from_secs(1),
            timeout: Duration::from_millis(300),
            helpers: 3,
            spread: 3,
            suspicion: 5,
            max_members: 256,
        }
    }
}

/// What is said of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News<P> {
    /// Of whom.
    pub(super) peer: P,
    /// In which of its incarnations.
    pub(super) incarnation: u64,
    pub(super) state: MemberState,
}

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It does not; unless it says otherwise it is dead.
    Suspect,
    /// It has not said otherwise.
    Dead,
    /// It has said goodbye.
    Left,
}

/// How much news a datagram carries.
const MAX_NEWS: usize = 8;
/// News of an incarnation that is further than this above the known one was made up: nobody is taken for dead so often in
/// between, and who is said to have died in the last one there is could not say that it lives. Nor does a forger get there
/// in steps: they are 2^44.
const MAX_LEAP: u64 = 1 << 20;

/// What members say to each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum SwimMsg<P> {
    /// Answered by [`SwimMsg::Ack`].
    Ping {
        /// Numbers the question.
        sequence: u32,
        /// The sender's.
        incarnation: u64,
        /// What the sender has learnt.
        news: Vec<News<P>>,
    },
    /// The sender lives, or whom it has pinged on the receiver's behalf.
    Ack {
        /// The number of the question.
        sequence: u32,
        /// What the sender has learnt.
        news: Vec<News<P>>,
    },
    /// To some others when a ping was not answered: they are to ping. Answered by [`SwimMsg::Ack`], if they get an
    /// answer.
    PingFor {
        /// Numbers the question.
        sequence: u32,
        /// Whom.
        target: P,
        /// What the sender has learnt.
        news: Vec<News<P>>,
    },
    /// From a newcomer to a member. Answered by [`SwimMsg::Group`].
    Join {
        /// The newcomer's.
        incarnation: u64,
    },
    /// All whom the sender knows.
    Group(Vec<News<P>>),
}

impl<P: Serialize + DeserializeOwned> Wire for SwimMsg<P> {
    const MAX_BYTES: usize = 512 << 10;

    fn lane(&self) -> Lane {
        match self {
            SwimMsg::Ping { .. } | SwimMsg::Ack { .. } | SwimMsg::PingFor { .. } => Lane::Datagram,
            SwimMsg::Join { .. } | SwimMsg::Group(_) => Lane::Ordered,
        }
    }
}

/// The timers of a member: three, and one for each member that is suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SwimTimer<P> {
    /// Time to ping.
    Period,
    /// The ping was not answered: time to ask others.
    Late,
    /// Time to join again.
    Join,
    /// Somebody has been suspected for long.
    Suspect(P),
}

impl<P: Peer> Swim<P> {
    /// The first member of a group.
    pub fn create(me: P) -> Swim<P> {
        Swim::with(me, [], SwimConfig::default())
    }

    /// A member that joins the group of any of these peers, and tries again until it has.
    pub fn join(me: P, seeds: impl IntoIterator<Item = P>) -> Swim<P> {
        Swim::with(me, seeds, SwimConfig::default())
    }

    /// A member with a configuration of its own; without seeds it is the first of its group.
    pub fn with(me: P, seeds: impl IntoIterator<Item = P>, config: SwimConfig) -> Swim<P> {
        Swim {
            me,
            config: SwimConfig { max_members: config.max_members.clamp(1, 4096), ..config },
            members: Members::default(),
            incarnation: 0,
            rumours: Vec::new(),
            round: Vec::new(),
            probe: None,
            relayed: Vec::new(),
            sequence: 0,
            ill: 0,
            doors: Doors::new(me, seeds),
            was_in: false,
            left: false,
        }
    }

    /// A group whose members all know each other.
    pub fn converged(peers: &[P], config: SwimConfig) -> Vec<Swim<P>> {
        let seed = |at: usize| peers.get(at.wrapping_sub(1)).copied();
        let mut group: Vec<Swim<P>> =
            peers.iter().enumerate().map(|(at, peer)| Swim::with(*peer, seed(at), config)).collect();
        for member in &mut group {
            member.was_in = true;
            member.doors.found();
            for peer in peers.iter().filter(|peer| **peer != member.me).take(member.config.max_members) {
                member.members.apply(
                    News { peer: *peer, incarnation: 0, state: MemberState::Alive },
                    p2p_core::Time::ZERO,
                );
            }
        }
        group
    }

    /// Whether a member is suspected here.
    pub fn is_suspected(&self, peer: P) -> bool {
        self.members.state(peer) == Some(MemberState::Suspect)
    }
}

impl<P: Keyed> Membership for Swim<P> {
    fn me(&self) -> P {
        self.me
    }

    fn active(&self) -> &[P] {
        self.members.alive()
    }

    fn is_joined(&self) -> bool {
        !self.members.alive().is_empty() || (self.doors.is_founder() && !self.was_in && !self.left)
    }
}

impl<P: Peer> Protocol for Swim<P> {
    type Peer = P;
    type Msg = SwimMsg<P>;
    type Timer = SwimTimer<P>;
    type Command = MembershipCommand<P>;
    type Item = ();
    type Outcome = ();
    type Event = Neighbour<P>;
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        let first = cx.rng().duration(Duration::ZERO, self.config.period);
        cx.set_timer(first, SwimTimer::Period);
        if self.members.alive().is_empty() {
            self.seek(cx);
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: SwimMsg<P>) {
        if from == self.me || self.left {
            return;
        }
        match msg {
            SwimMsg::Ping { sequence, incarnation, news } => {
                self.on_ping(cx, from, sequence, incarnation, news);
            }
            SwimMsg::Ack { sequence, news } => self.on_ack(cx, from, sequence, news),
            SwimMsg::PingFor { sequence, target, news } => self.on_ping_for(cx, from, sequence, target, news),
            SwimMsg::Join { incarnation } => self.on_join(cx, from, incarnation),
            SwimMsg::Group(news) => self.on_group(cx, from, news),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: SwimTimer<P>) {
        match timer {
            SwimTimer::Period => self.begin_period(cx),
            SwimTimer::Late => self.ask_helpers(cx),
            SwimTimer::Join => self.seek(cx),
            SwimTimer::Suspect(peer) => self.confirm(cx, peer),
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
            && let Some(Parting::Failed(_)) = Parting::of(why)
            && !self.left
        {
            self.suspect(cx, peer);
        }
    }
}

impl<P: Peer> fmt::Debug for Swim<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Swim({} members)", self.members.alive().len())
    }
}

#[cfg(test)]
mod tests;
