//! Local service discovery (BEP 14): peers in the same network, told of by multicast.
//!
//! - `packet` is what is said, and its bytes: [`LsdCodec`].
//! - [`Lsd`] is the machine that says it, for `p2p_core::net::udp`: no more than once a minute, as many swarms at a time as
//!   fit a packet.
//! - [`LsdSource`] asks it for a session.
//!
//! Everybody in the network hears what is announced, and anybody can announce anything. So it is off where nobody asks for
//! it; private torrents are never announced (BEP 27), nor those that are known by a link alone while they may be private.

mod packet;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
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
/// Swarms that wait for their packet; more are refused. 1,000.
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
#[derive(Debug, Default)]
pub struct Lsd {
    /// By which it knows its own packets.
    cookie: Vec<u8>,
    /// In the order of their coming.
    waiting: VecDeque<(OpId, LsdAnnounce)>,
    /// When it last said something.
    said: Option<Time>,
    /// How many packets have come since then from whom.
    heard: (Time, BTreeMap<IpAddr, u32>),
}

impl Lsd {
    /// Says as much as there is to be said, if it may be said now.
    fn say(&mut self, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        let Some((_, first)) = self.waiting.front() else { return };
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
        self.said = Some(now);
        cx.send(LSD_GROUP.into(), LsdMsg { port, swarms, cookie: Some(self.cookie.clone()) });
        if !self.waiting.is_empty() {
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
    type Command = LsdAnnounce;
    type Item = ();
    /// Whether it was said; otherwise too much waits.
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

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, announce: LsdAnnounce) {
        if self.waiting.len() >= MAX_WAITING {
            return cx.finish(op, false);
        }
        self.waiting.push_back((op, announce));
        self.say(cx);
    }

    fn on_cancel(&mut self, _: &mut Cx<'_, Self>, op: OpId) {
        self.waiting.retain(|(waiting, _)| *waiting != op);
    }
}

impl Request<Lsd> for LsdAnnounce {
    type Item = ();
    type Reply = bool;

    fn command(self) -> LsdAnnounce {
        self
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
        if port != 0 && wanted.announce.event != Event::Stopped {
            match self.machine.ask(LsdAnnounce { swarm, port }).await {
                Ok(true) => {}
                Ok(false) => return Err(TrackerError::Busy),
                Err(_) => return Err(TrackerError::Stopped),
            }
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

    fn announce(n: u16) -> LsdAnnounce {
        let mut swarm = [7; 20];
        swarm[..2].copy_from_slice(&n.to_be_bytes());
        LsdAnnounce { swarm, port: 6881 }
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
        script.advance(3 * PAUSE);
        assert_eq!(said(&mut script), [MAX_LSD_SWARMS, 58 - 2 * MAX_LSD_SWARMS]);
        // After a pause the next is said at once.
        script.command(LsdAnnounce { port: 1, ..announce(1) });
        script.command(LsdAnnounce { port: 2, ..announce(2) });
        assert_eq!(said(&mut script), [1]);
        script.advance(PAUSE);
        assert_eq!(said(&mut script), [1], "another port is another packet");
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
        assert_eq!(script.events(), [LsdHeard { peer, swarms: vec![announce(1).swarm] }]);
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
