//! Local service discovery (BEP 14): peers in the same network, told of by multicast.
//!
//! - `packet` is what is said, and its bytes: [`LsdCodec`].
//! - [`Lsd`] is the machine that says it, for `p2p_core::net::udp`: no more than once a minute, as many swarms at a time as
//!   fit a packet, and each once more in a later one, since packets are lost.
//! - [`LsdSource`] asks it for a session.
//!
//! Everybody in the network hears what is announced, and anybody can announce anything. So it is off where nobody asks for
//! it; private torrents are never announced (BEP 27), nor those that are known by a link alone while they may be private.

mod packet;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use async_trait::async_trait;
use data_encoding::HEXLOWER;
use futures::StreamExt;
use p2p_core::{Cx, Handle, NoJob, OpId, Protocol, Request, Time};

use super::command::ToAnnounce;
use super::metainfo::SwarmId;
use super::source::{Found, PeerSource, SourceKind};
use super::tracker::{AnnounceReply, Event, TrackerError};

pub use packet::{LSD_GROUP, LsdCodec, LsdMsg, MAX_LSD_SWARMS};

/// Time between two packets. A minute (BEP 14).
const PAUSE: Duration = Duration::from_secs(60);
/// Time between two announces of a swarm. 5 minutes (BEP 14).
const EVERY: Duration = Duration::from_secs(5 * 60);
/// Swarms that wait for their packet; more are refused. As many wait for being said once more. 1,000.
const MAX_WAITING: usize = 1000;
/// Hosts that are listened to within a minute. 1,000.
const MAX_HOSTS: usize = 1000;
/// Packets of one host that are listened to within a minute: there may be several programs. 10.
const MAX_OF_HOST: u32 = 10;

/// Announce a swarm in the local network, when its turn comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LsdAnnounce {
    /// The swarm.
    pub swarm: SwarmId,
    /// The port at which this host's client listens.
    pub port: u16,
}

/// A swarm is left: nothing of it that waits is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LsdForget(pub SwarmId);

/// What is asked of an [`Lsd`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LsdCommand {
    /// See [`LsdAnnounce`].
    Announce(LsdAnnounce),
    /// See [`LsdForget`].
    Forget(LsdForget),
}

/// Somebody in the local network has announced swarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LsdHeard {
    /// Where that one's client listens.
    pub peer: SocketAddr,
    /// The swarms.
    pub swarms: Vec<SwarmId>,
}

/// The machine that announces and listens in the local network; its peers are addresses, of which it sends to the group's
/// alone. At most 1,000 swarms wait for their packet; of what comes ten packets of a host are heard in a minute, of a
/// thousand hosts at most.
#[derive(Debug)]
pub struct Lsd {
    group: SocketAddrV4,
    /// By which it knows its own packets.
    cookie: Vec<u8>,
    /// In the order of their coming.
    waiting: VecDeque<(OpId, LsdAnnounce)>,
    /// What was said once, and is said again where a packet has room for it.
    again: VecDeque<LsdAnnounce>,
    /// When it last said something.
    said: Option<Time>,
    /// How many packets have come since then from whom.
    heard: (Time, BTreeMap<IpAddr, u32>),
}

impl Default for Lsd {
    fn default() -> Lsd {
        Lsd::new(LSD_GROUP)
    }
}

impl Lsd {
    /// One that speaks to this group; the others of the network do to [`LSD_GROUP`].
    pub fn new(group: SocketAddrV4) -> Lsd {
        let (waiting, again) = (VecDeque::new(), VecDeque::new());
        Lsd { group, cookie: Vec::new(), waiting, again, said: None, heard: (Time::ZERO, BTreeMap::new()) }
    }

    /// Says as much as there is to be said, if it may be said now.
    fn say(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        let Some(first) = self.waiting.front().map(|(_, first)| first).or(self.again.front()) else { return };
        if let Some(may) = self.said.map(|said| said + PAUSE).filter(|may| *may > now) {
            return cx.set_timer(may - now, ());
        }
        // A session has one port.
        let port = first.port;
        let (mut swarms, mut later) = (Vec::new(), VecDeque::new());
        for (op, announce) in self.waiting.drain(..) {
            if announce.port == port && swarms.len() < MAX_LSD_SWARMS {
                swarms.push(announce.swarm);
                cx.finish(op, true);
            } else {
                later.push_back((op, announce));
            }
        }
        self.waiting = later;
        let fresh = swarms.clone();
        self.again.retain(|announce| {
            let fits = announce.port == port && swarms.len() < MAX_LSD_SWARMS;
            swarms.extend(fits.then_some(announce.swarm));
            !fits
        });
        self.again.extend(fresh.into_iter().map(|swarm| LsdAnnounce { swarm, port }));
        self.again.truncate(MAX_WAITING);
        self.said = Some(now);
        cx.send(self.group.into(), LsdMsg { port, swarms, cookie: Some(self.cookie.clone()) });
        if !self.waiting.is_empty() || !self.again.is_empty() {
            cx.set_timer(PAUSE, ());
        }
    }

    /// Whether a host may say one more thing in this minute.
    fn listens_to(&mut self, now: Time, host: IpAddr) -> bool {
        let (since, hosts) = &mut self.heard;
        if now - *since >= PAUSE {
            (*since, *hosts) = (now, BTreeMap::new());
        }
        if hosts.len() >= MAX_HOSTS && !hosts.contains_key(&host) {
            return false;
        }
        let count = hosts.entry(host).or_default();
        *count += 1;
        *count <= MAX_OF_HOST
    }
}

impl Protocol for Lsd {
    type Peer = SocketAddr;
    type Msg = LsdMsg;
    /// It may say something again.
    type Timer = ();
    type Command = LsdCommand;
    type Item = ();
    /// Whether it was said, or forgotten; otherwise too much waits, or the swarm was left.
    type Outcome = bool;
    type Event = LsdHeard;
    type Job = NoJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.cookie = HEXLOWER.encode(&cx.rng().next_u64().to_be_bytes()).into();
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: SocketAddr, msg: LsdMsg) {
        let LsdMsg { port, swarms, cookie } = msg;
        if cookie.as_ref() != Some(&self.cookie) && self.listens_to(cx.now(), from.ip()) {
            cx.emit(LsdHeard { peer: SocketAddr::new(from.ip().to_canonical(), port), swarms });
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, (): ()) {
        self.say(cx);
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: LsdCommand) {
        match command {
            LsdCommand::Announce(_) if self.waiting.len() >= MAX_WAITING => cx.finish(op, false),
            LsdCommand::Announce(announce) => {
                self.again.retain(|again| *again != announce);
                self.waiting.push_back((op, announce));
                self.say(cx);
            }
            LsdCommand::Forget(LsdForget(swarm)) => {
                self.again.retain(|again| again.swarm != swarm);
                self.waiting.retain(|(waits, announce)| {
                    if announce.swarm == swarm {
                        cx.finish(*waits, false);
                    }
                    announce.swarm != swarm
                });
                cx.finish(op, true);
            }
        }
    }

    fn on_cancel(&mut self, _: &mut Cx<'_, Self>, op: OpId) {
        self.waiting.retain(|(waiting, _)| *waiting != op);
    }
}

impl Request<Lsd> for LsdAnnounce {
    type Item = ();
    type Reply = bool;

    fn command(self) -> LsdCommand {
        LsdCommand::Announce(self)
    }
    fn item(_: ()) -> Option<()> {
        None
    }
    fn reply(outcome: bool) -> Option<bool> {
        Some(outcome)
    }
}

impl Request<Lsd> for LsdForget {
    type Item = ();
    type Reply = bool;

    fn command(self) -> LsdCommand {
        LsdCommand::Forget(self)
    }
    fn item(_: ()) -> Option<()> {
        None
    }
    fn reply(outcome: bool) -> Option<bool> {
        Some(outcome)
    }
}

/// The local network as a source of peers.
///
/// ```no_run
/// # async fn example(session: p2p_core::Handle<p2p_swarm::torrent::Session<p2p_core::foreign::TcpPeer>>) -> std::io::Result<()> {
/// use p2p_core::net::udp::{self, Group};
/// use p2p_core::{Limits, NoWorker};
/// use p2p_swarm::torrent::{LSD_GROUP, Lsd, LsdCodec, LsdSource, find_peers};
///
/// let group = Group { addr: LSD_GROUP, interface: "192.0.2.7".parse().unwrap() };
/// let lsd = udp::spawn_in(group, Lsd::default(), LsdCodec, Limits::default(), [NoWorker]).await?;
/// find_peers(&session, &LsdSource::new(lsd.handle())).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LsdSource {
    machine: Handle<Lsd>,
}

impl LsdSource {
    /// Announces by this machine.
    pub fn new(machine: Handle<Lsd>) -> LsdSource {
        LsdSource { machine }
    }
}

#[async_trait]
impl PeerSource for LsdSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Open("lsd")
    }

    async fn announce(&self, wanted: &ToAnnounce, _: &Found<'_>) -> Result<AnnounceReply, TrackerError> {
        let (swarm, port) = (wanted.announce.swarm, wanted.announce.port);
        // There is no word for a question, nor for an end.
        let done = match (wanted.announce.event, port) {
            (Event::Stopped, _) => self.machine.ask(LsdForget(swarm)).await,
            (_, 0) => Ok(true),
            _ => self.machine.ask(LsdAnnounce { swarm, port }).await,
        };
        match done {
            Ok(true) => {}
            Ok(false) => return Err(TrackerError::Busy),
            Err(_) => return Err(TrackerError::Stopped),
        }
        Ok(AnnounceReply { interval: EVERY, ..AnnounceReply::default() })
    }

    async fn listen(&self, found: &Found<'_>) {
        let heard = self.machine.events();
        heard
            .for_each(async |LsdHeard { peer, swarms }| {
                swarms.into_iter().for_each(|swarm| found(swarm, vec![peer]));
            })
            .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::Script;

    const HOST: &str = "192.0.2.1:6771";

    fn machine() -> Script<Lsd> {
        Script::new(Lsd::default())
    }

    fn swarm(n: u16) -> SwarmId {
        let mut swarm = [7; 20];
        swarm[..2].copy_from_slice(&n.to_be_bytes());
        swarm
    }

    fn announce_at(n: u16, port: u16) -> LsdCommand {
        LsdCommand::Announce(LsdAnnounce { swarm: swarm(n), port })
    }

    fn announce(n: u16) -> LsdCommand {
        announce_at(n, 6881)
    }

    fn forget(n: u16) -> LsdCommand {
        LsdCommand::Forget(LsdForget(swarm(n)))
    }

    fn said(script: &mut Script<Lsd>) -> Vec<usize> {
        let sent = script.sent().into_iter();
        sent.map(|(to, msg)| (assert_eq!(to, SocketAddr::from(LSD_GROUP)), msg.swarms.len()).1).collect()
    }

    #[test]
    fn no_more_than_a_packet_a_minute_is_sent_and_as_much_in_it_as_fits() {
        let mut script = machine();
        let first = script.command(announce(0));
        assert_eq!((said(&mut script), script.outcomes()), (vec![1], vec![(first, true)]), "at once");
        let ops: Vec<OpId> = (1..60).map(|n| script.command(announce(n))).collect();
        script.cancel(ops[0]);
        script.advance(PAUSE - Duration::from_secs(1));
        assert_eq!(said(&mut script), []);
        script.advance(Duration::from_secs(1));
        assert_eq!((said(&mut script), script.outcomes().len()), (vec![MAX_LSD_SWARMS], MAX_LSD_SWARMS));
        // 58 in all are said for the first time, with what fits of what was said, and then the rest of that.
        script.advance(10 * PAUSE);
        assert_eq!(
            said(&mut script),
            [MAX_LSD_SWARMS, MAX_LSD_SWARMS, MAX_LSD_SWARMS, 2 * 59 - 1 - 4 * MAX_LSD_SWARMS]
        );
        // After a pause the next is said at once.
        script.command(announce_at(1, 1));
        script.command(announce_at(2, 2));
        assert_eq!(said(&mut script), [1]);
        script.advance(PAUSE);
        assert_eq!(said(&mut script), [1], "another port is another packet");
    }

    #[test]
    fn each_swarm_is_said_twice_and_one_that_was_left_no_more() {
        let mut script = machine();
        let swarms = |script: &mut Script<Lsd>| -> Vec<Vec<SwarmId>> {
            script.sent().into_iter().map(|(_, msg)| msg.swarms).collect()
        };
        script.command(announce(1));
        let left = script.command(announce(2));
        script.command(announce(3));
        script.outcomes();
        let forgotten = script.command(forget(2));
        assert_eq!(script.outcomes(), [(left, false), (forgotten, true)]);
        script.advance(10 * PAUSE);
        assert_eq!(swarms(&mut script), [vec![swarm(1)], vec![swarm(3), swarm(1)], vec![swarm(3)]]);
        script.command(announce(4));
        script.command(forget(4));
        script.advance(10 * PAUSE);
        assert_eq!(swarms(&mut script), [[swarm(4)]], "it was said once before it was left");
        script.command(announce(5));
        script.command(announce(5));
        script.advance(10 * PAUSE);
        assert_eq!(swarms(&mut script).len(), 3, "it is announced twice, and not said four times");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut script = machine();
        (0..=MAX_WAITING as u16).for_each(|n| _ = script.command(announce(n)));
        script.outcomes();
        let more = script.command(announce(5000));
        assert_eq!(script.outcomes(), [(more, false)]);
    }

    #[test]
    fn others_are_heard_but_not_this_one_itself_and_nobody_without_end() {
        let mut script = machine();
        script.command(announce(1));
        let (_, own) = script.sent().pop().unwrap();
        script.message(HOST.parse().unwrap(), own.clone());
        assert_eq!(script.events(), []);
        let other = LsdMsg { cookie: Some(b"other".to_vec()), ..own.clone() };
        script.message(HOST.parse().unwrap(), other.clone());
        let peer = "192.0.2.1:6881".parse().unwrap();
        assert_eq!(script.events(), [LsdHeard { peer, swarms: vec![swarm(1)] }]);
        let without = LsdMsg { cookie: None, ..own };
        (0..100).for_each(|_| script.message(HOST.parse().unwrap(), without.clone()));
        assert_eq!(script.events().len() as u32, MAX_OF_HOST - 1);
        for n in 0..5000_u32 {
            let host = SocketAddr::from(((10 << 24 | n).to_be_bytes(), 6771));
            script.message(host, without.clone());
        }
        assert_eq!(script.events().len(), MAX_HOSTS - 1);
        script.advance(PAUSE);
        script.message(HOST.parse().unwrap(), without);
        assert_eq!(script.events().len(), 1);
    }
}
