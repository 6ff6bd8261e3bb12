//! What a tracker knows: who is in which swarm, where, and whether it has everything.
//!
//! All of it has bounds: swarms, peers in all and of one swarm, and peers of one host, in one swarm and in all, so that
//! nobody fills the tables, or a swarm with addresses that are nobody's. Who finds no room is told of others and is not
//! told of.
//!
//! A peer is an address, and what it calls itself (BEP 3's peer id): who says another's name from elsewhere is somebody else,
//! beside it; and who speaks from where another does, as hosts behind one address do, cannot say that it goes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use p2p_core::{Rng, Time};

use super::{Announce, AnnounceReply, Event, Scraped};
use crate::torrent::address::account;
use crate::torrent::metainfo::SwarmId;
use crate::torrent::wire::PeerName;

/// How a tracker behaves.
#[derive(Clone, Debug)]
pub struct TrackerConfig {
    /// How often peers are to announce themselves. Who does not for twice as long is forgotten. 30 minutes.
    pub interval: Duration,
    /// Swarms, at most; others are refused. 100,000.
    pub swarms: usize,
    /// Peers of all swarms that are remembered, at most. 1,000,000.
    pub peers: usize,
    /// Peers of one swarm. 10,000.
    pub peers_per_swarm: usize,
    /// Peers of one host, or one /64 of IPv6, in one swarm; this machine may have as many as there are. 8.
    pub peers_per_host: usize,
    /// The same in all swarms. 5,000.
    pub peers_per_host_in_all: usize,
    /// Peers in one answer over HTTP, at most; over UDP as many as fit a packet of 1,280 bytes. 200.
    pub answer: usize,
}

impl Default for TrackerConfig {
    fn default() -> TrackerConfig {
        TrackerConfig {
            interval: Duration::from_secs(1800),
            swarms: 100_000,
            peers: 1_000_000,
            peers_per_swarm: 10_000,
            peers_per_host: 8,
            peers_per_host_in_all: 5000,
            answer: 200,
        }
    }
}

/// How much a tracker knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackerCounts {
    /// Swarms.
    pub swarms: usize,
    /// Peers of all of them.
    pub peers: usize,
}

#[derive(Debug)]
struct Member {
    addr: SocketAddr,
    name: PeerName,
    seed: bool,
    until: Time,
}

#[derive(Debug, Default)]
struct Swarm {
    members: Vec<Member>,
    /// Where each stands in the list.
    places: BTreeMap<SocketAddr, usize>,
    seeds: usize,
    completed: u32,
}

impl Swarm {
    fn member(&self, addr: &SocketAddr) -> Option<&Member> {
        self.members.get(*self.places.get(addr)?)
    }

    fn remove(&mut self, addr: &SocketAddr) -> bool {
        let Some(at) = self.places.remove(addr) else { return false };
        let gone = self.members.swap_remove(at);
        self.seeds -= usize::from(gone.seed);
        if let Some(moved) = self.members.get(at) {
            self.places.insert(moved.addr, at);
        }
        true
    }

    fn of_host(&self, host: IpAddr) -> usize {
        self.members.iter().filter(|member| account(member.addr.ip()) == host).count()
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Swarms {
    config: TrackerConfig,
    swarms: BTreeMap<SwarmId, Swarm>,
    hosts: BTreeMap<IpAddr, usize>,
    peers: usize,
}

impl Swarms {
    pub(super) fn new(config: TrackerConfig) -> Swarms {
        Swarms { config, swarms: BTreeMap::new(), hosts: BTreeMap::new(), peers: 0 }
    }

    pub(super) fn counts(&self) -> TrackerCounts {
        TrackerCounts { swarms: self.swarms.len(), peers: self.peers }
    }

    /// A peer at this address announces itself: what it is told, or why nothing. Others are named at most `most`, only
    /// those that `fits`.
    pub(super) fn announce(
        &mut self,
        now: Time,
        ip: IpAddr,
        announce: &Announce,
        fits: impl Fn(&SocketAddr) -> bool,
        most: usize,
        rng: &mut Rng,
    ) -> Result<AnnounceReply, &'static str> {
        let ip = ip.to_canonical();
        let addr = SocketAddr::new(ip, announce.port);
        let seed = announce.left == 0;
        if announce.event == Event::Stopped {
            let swarm = self.swarms.get(&announce.swarm);
            if swarm.and_then(|swarm| swarm.member(&addr)).is_some_and(|known| known.name == announce.peer) {
                self.forget(&announce.swarm, &addr);
            }
        } else {
            self.remember(now, announce, addr, seed)?;
        }
        let most = if announce.event == Event::Stopped { 0 } else { most };
        let want = announce.want.map_or(50, |want| want as usize).min(most).min(self.config.answer);
        let Some(swarm) = self.swarms.get(&announce.swarm) else {
            return Ok(self.reply(ip, 0, 0));
        };
        let members = &swarm.members;
        let begin = if members.is_empty() { 0 } else { rng.index(members.len()) };
        // From a random place on: the list is in no order of its own. Seeds have nothing to do with seeds.
        let of_use = |member: &&Member| {
            member.addr != addr && member.until > now && !(seed && member.seed) && fits(&member.addr)
        };
        let around = members[begin..].iter().chain(&members[..begin]);
        let told = around.filter(of_use).take(want).map(|member| (member.addr, member.name));
        let (peers, names) = told.unzip();
        Ok(AnnounceReply { peers, names, ..self.reply(ip, swarm.seeds, members.len() - swarm.seeds) })
    }

    fn reply(&self, ip: IpAddr, seeds: usize, leechers: usize) -> AnnounceReply {
        AnnounceReply {
            interval: self.config.interval,
            seeders: Some(seeds as u32),
            leechers: Some(leechers as u32),
            external: Some(ip),
            ..AnnounceReply::default()
        }
    }

    fn remember(
        &mut self,
        now: Time,
        announce: &Announce,
        addr: SocketAddr,
        seed: bool,
    ) -> Result<(), &'static str> {
        let until = now + self.config.interval * 2;
        let known = self.swarms.get_mut(&announce.swarm);
        if let Some((swarm, at)) =
            known.and_then(|swarm| swarm.places.get(&addr).copied().map(|at| (swarm, at)))
        {
            let member = &mut swarm.members[at];
            swarm.seeds = swarm.seeds + usize::from(seed) - usize::from(member.seed);
            if seed && !member.seed && announce.event == Event::Completed {
                swarm.completed = swarm.completed.saturating_add(1);
            }
            (member.name, member.seed, member.until) = (announce.peer, seed, until);
            return Ok(());
        }
        if !self.swarms.contains_key(&announce.swarm) && self.swarms.len() >= self.config.swarms {
            return Err("this tracker has no room for another torrent");
        }
        let host = account(addr.ip());
        let in_all = self.hosts.get(&host).copied().unwrap_or_default();
        let swarm = self.swarms.get(&announce.swarm);
        let (members, of_host) = swarm.map_or((0, 0), |swarm| (swarm.members.len(), swarm.of_host(host)));
        let own = host.is_loopback();
        let room = self.peers < self.config.peers && members < self.config.peers_per_swarm;
        let fair =
            own || (of_host < self.config.peers_per_host && in_all < self.config.peers_per_host_in_all);
        // Who listens nowhere is told of others, too.
        if !room || !fair || announce.port == 0 {
            return Ok(());
        }
        let swarm = self.swarms.entry(announce.swarm).or_default();
        swarm.places.insert(addr, swarm.members.len());
        swarm.members.push(Member { addr, name: announce.peer, seed, until });
        swarm.seeds += usize::from(seed);
        *self.hosts.entry(host).or_default() += 1;
        self.peers += 1;
        Ok(())
    }

    fn forget(&mut self, id: &SwarmId, addr: &SocketAddr) {
        let Some(swarm) = self.swarms.get_mut(id) else { return };
        if swarm.remove(addr) {
            self.peers -= 1;
            let host = account(addr.ip());
            if let Some(count) = self.hosts.get_mut(&host) {
                *count -= 1;
                if *count == 0 {
                    self.hosts.remove(&host);
                }
            }
        }
        // At once: who starts and stops in one swarm after the other fills no table.
        if swarm.members.is_empty() {
            self.swarms.remove(id);
        }
    }

    /// How a swarm stands.
    pub(super) fn scrape(&self, id: &SwarmId) -> Option<Scraped> {
        let swarm = self.swarms.get(id)?;
        Some(Scraped {
            seeders: swarm.seeds as u32,
            leechers: (swarm.members.len() - swarm.seeds) as u32,
            completed: swarm.completed,
        })
    }

    /// Forgets who was not heard of for too long.
    pub(super) fn sweep(&mut self, now: Time) {
        let gone = self.swarms.iter().flat_map(|(id, swarm)| {
            swarm.members.iter().filter(|member| member.until <= now).map(move |member| (*id, member.addr))
        });
        let gone: Vec<(SwarmId, SocketAddr)> = gone.collect();
        gone.iter().for_each(|(id, addr)| self.forget(id, addr));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announce(swarm: u8, port: u16, left: u64, event: Event) -> Announce {
        Announce {
            swarm: [swarm; 20],
            peer: PeerName([0; 20]),
            port,
            uploaded: 0,
            downloaded: 0,
            left,
            event,
            key: 0,
            want: None,
            tracker_id: None,
        }
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn host(n: u16) -> IpAddr {
        IpAddr::from([10, 0, (n / 256) as u8, n as u8])
    }

    fn tell(
        swarms: &mut Swarms,
        now: u64,
        ip: IpAddr,
        said: &Announce,
    ) -> Result<AnnounceReply, &'static str> {
        swarms.announce(at(now), ip, said, |_| true, 200, &mut Rng::new(now))
    }

    #[test]
    fn peers_hear_of_each_other_and_seeds_of_those_who_lack_something() {
        let mut swarms = Swarms::new(TrackerConfig::default());
        let first = tell(&mut swarms, 0, host(1), &announce(1, 1, 0, Event::Started)).unwrap();
        assert_eq!((first.peers.len(), first.external), (0, Some(host(1))), "it is not told of itself");
        tell(&mut swarms, 0, host(2), &announce(1, 1, 0, Event::Started)).unwrap();
        let leecher = tell(&mut swarms, 1, host(3), &announce(1, 1, 5, Event::Started)).unwrap();
        assert_eq!((leecher.peers.len(), leecher.seeders, leecher.leechers), (2, Some(2), Some(1)));
        let seed = tell(&mut swarms, 1, host(1), &announce(1, 1, 0, Event::Regular)).unwrap();
        assert_eq!(seed.peers, [SocketAddr::new(host(3), 1)]);
        tell(&mut swarms, 2, host(3), &announce(1, 1, 0, Event::Completed)).unwrap();
        tell(&mut swarms, 2, host(3), &announce(1, 1, 0, Event::Completed)).unwrap();
        let stands = Scraped { seeders: 3, leechers: 0, completed: 1 };
        assert_eq!(swarms.scrape(&[1; 20]), Some(stands));
        // Nobody but itself can take a peer away: what counts is where the packet is from.
        tell(&mut swarms, 3, host(9), &announce(1, 1, 0, Event::Stopped)).unwrap();
        assert_eq!(swarms.counts().peers, 3);
        tell(&mut swarms, 3, host(3), &announce(1, 1, 0, Event::Stopped)).unwrap();
        assert_eq!((swarms.counts().peers, swarms.scrape(&[2; 20])), (2, None));
    }

    #[test]
    fn a_peer_is_an_address_and_a_name() {
        let mut swarms = Swarms::new(TrackerConfig::default());
        let named = |name: u8, event| Announce { peer: PeerName([name; 20]), ..announce(1, 1, 1, event) };
        let told = |swarms: &mut Swarms| {
            let reply = tell(swarms, 0, host(9), &announce(1, 9, 1, Event::Regular)).unwrap();
            let mut told: Vec<_> = reply.peers.into_iter().zip(reply.names).collect();
            told.sort_unstable();
            told
        };
        let at = |n| SocketAddr::new(host(n), 1);
        tell(&mut swarms, 0, host(1), &named(1, Event::Started)).unwrap();
        // Its name from elsewhere is somebody else's.
        tell(&mut swarms, 0, host(2), &named(1, Event::Started)).unwrap();
        tell(&mut swarms, 0, host(2), &named(1, Event::Stopped)).unwrap();
        // Another behind the same address says that it goes.
        tell(&mut swarms, 0, host(1), &named(3, Event::Stopped)).unwrap();
        assert_eq!(told(&mut swarms), [(at(1), PeerName([1; 20]))]);
        // It has begun anew, by another name.
        tell(&mut swarms, 0, host(1), &named(4, Event::Started)).unwrap();
        assert_eq!(told(&mut swarms), [(at(1), PeerName([4; 20]))]);
        tell(&mut swarms, 0, host(1), &named(4, Event::Stopped)).unwrap();
        assert_eq!(told(&mut swarms), []);
    }

    #[test]
    fn who_is_silent_is_forgotten() {
        let mut swarms = Swarms::new(TrackerConfig::default());
        for n in 1..=3 {
            tell(&mut swarms, 0, host(n), &announce(1, n, 1, Event::Started)).unwrap();
        }
        tell(&mut swarms, 1800, host(2), &announce(1, 2, 1, Event::Regular)).unwrap();
        swarms.sweep(at(3599));
        assert_eq!(swarms.counts(), TrackerCounts { swarms: 1, peers: 3 });
        let told = tell(&mut swarms, 3600, host(4), &announce(1, 4, 1, Event::Started)).unwrap();
        assert_eq!(told.peers, [SocketAddr::new(host(2), 2)], "even before they are");
        swarms.sweep(at(3600));
        assert_eq!(swarms.counts(), TrackerCounts { swarms: 1, peers: 2 });
        swarms.sweep(at(9000));
        assert_eq!((swarms.counts(), swarms.hosts.len()), (TrackerCounts::default(), 0));
    }

    #[test]
    fn nobody_fills_the_tables() {
        let config = TrackerConfig {
            swarms: 5,
            peers: 30,
            peers_per_swarm: 20,
            peers_per_host: 2,
            peers_per_host_in_all: 6,
            answer: 10,
            ..TrackerConfig::default()
        };
        let mut swarms = Swarms::new(config);
        for swarm in 0..10 {
            for port in 1..10 {
                let said = tell(&mut swarms, 0, host(1), &announce(swarm, port, 1, Event::Started));
                assert!(said.is_ok(), "it is told of others all the same");
            }
        }
        assert_eq!(swarms.counts().peers, 6, "of one host in all");
        assert!(swarms.swarms.values().all(|swarm| swarm.members.len() <= 2), "of one host in each");
        for n in 10..100 {
            let told = tell(&mut swarms, 0, host(n), &announce(1, 1, 1, Event::Started)).unwrap();
            assert!(told.peers.len() <= 10);
        }
        assert_eq!(swarms.scrape(&[1; 20]).unwrap().leechers, 20, "of one swarm");
        for n in 200..300 {
            tell(&mut swarms, 0, host(n), &announce(2, 1, 1, Event::Started)).unwrap();
        }
        assert_eq!(swarms.counts().peers, 30, "in all");
        let six = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, n, n, n, n]);
        let mut swarms = Swarms::new(TrackerConfig { peers_per_host: 2, ..TrackerConfig::default() });
        (0..10).for_each(|n| _ = tell(&mut swarms, 0, six(n), &announce(1, 1, 1, Event::Started)));
        assert_eq!(swarms.counts().peers, 2, "a /64 is one host");
        tell(&mut swarms, 0, host(1), &announce(1, 0, 1, Event::Started)).unwrap();
        assert_eq!(swarms.counts().peers, 2, "port 0 is nobody's");
    }

    #[test]
    fn a_swarm_that_is_full_is_refused_and_the_others_go_on() {
        let mut swarms = Swarms::new(TrackerConfig { swarms: 2, ..TrackerConfig::default() });
        for swarm in 0..2 {
            tell(&mut swarms, 0, host(1), &announce(swarm, 1, 1, Event::Started)).unwrap();
        }
        assert!(tell(&mut swarms, 0, host(2), &announce(3, 1, 1, Event::Started)).is_err());
        assert_eq!(tell(&mut swarms, 0, host(2), &announce(1, 1, 1, Event::Started)).unwrap().peers.len(), 1);
        swarms.sweep(at(4000));
        assert!(tell(&mut swarms, 4000, host(2), &announce(3, 1, 1, Event::Started)).is_ok());
    }

    #[test]
    fn who_comes_and_goes_leaves_no_swarm_behind() {
        let mut swarms = Swarms::new(TrackerConfig { swarms: 2, ..TrackerConfig::default() });
        for swarm in 0..10 {
            for event in [Event::Started, Event::Stopped] {
                assert!(tell(&mut swarms, 0, host(1), &announce(swarm, 1, 1, event)).is_ok(), "{swarm}");
            }
        }
        assert_eq!((swarms.counts(), swarms.hosts.len()), (TrackerCounts::default(), 0));
    }
}
