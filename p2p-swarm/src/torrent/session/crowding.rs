//! Room for one more connection: who gives way where there are as many as there may be.
//!
//! Whoever connects and does nothing could keep everybody else out, for ever. So a connection over which no block has gone for
//! a minute gives way:
//!
//! - to somebody who connects, if there are more of its subnet (a /24 of IPv4, a /48 of IPv6) than of that one's, who is
//!   counted with them; or as many, and that one has the higher [canonical priority](priority) (BEP 40). So a subnet keeps no
//!   more than its share, however many connections it makes, and whoever has many subnets no more than its share of those;
//! - to somebody who is dialled, if others have made it, and they have made more than three quarters of all. So whoever
//!   connects, this end has peers of its own choice.
//!
//! It is of the torrent, if that has as many as it may, and otherwise of any.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use p2p_core::{Cx, Subnet, Time};

use super::Session;
use crate::torrent::address::Addressed;
use crate::torrent::peer::Conn;
use crate::torrent::priority::priority;

/// How long no block has gone over a connection that gives way. A minute.
const IDLE: Duration = Duration::from_secs(60);

/// The connections of which one has to go before there is another.
struct Crowd<'a, P> {
    conns: Vec<(P, &'a Conn)>,
    subnets: BTreeMap<Subnet, usize>,
    here: Here,
    now: Time,
}

/// How much there is against a connection: how many there are of its subnet, and then how low its priority is.
type Against = (usize, Reverse<Option<u32>>);

impl<P: Addressed> Crowd<'_, P> {
    /// How many there are of a subnet.
    fn of(&self, ip: IpAddr) -> usize {
        self.subnets.get(&Subnet::of(ip)).copied().unwrap_or_default()
    }

    /// Of those that are idle and may have to go the one against which there is most, or that is idle for longest; and how much
    /// that is.
    fn idle(&self, may: impl Fn(&Conn) -> bool) -> Option<(P, Against)> {
        let idle = |conn: &Conn| conn.name.is_some() && self.now - conn.traded >= IDLE;
        let idle = self.conns.iter().filter(|(_, conn)| idle(conn) && may(conn));
        let ranked = idle.map(|(peer, conn)| {
            let addr = conn.listens.unwrap_or_else(|| peer.addr());
            let against = (self.of(addr.ip()), Reverse(self.here.priority(addr)));
            (against, self.now - conn.traded, *peer)
        });
        ranked.max().map(|(against, _, peer)| (peer, against))
    }
}

/// Where this end is as others see it: by IPv4, and by IPv6, as far as trackers have told it (BEP 24), and at what port.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Here {
    four: Option<IpAddr>,
    six: Option<IpAddr>,
    port: u16,
}

impl Here {
    pub(super) fn new(port: Option<u16>) -> Here {
        Here { port: port.unwrap_or_default(), ..Here::default() }
    }

    /// A tracker sees it there.
    pub(super) fn seen(&mut self, ip: IpAddr) {
        let ip = ip.to_canonical();
        let place = if ip.is_ipv4() { &mut self.four } else { &mut self.six };
        *place = Some(ip);
    }

    /// The priority of a connection with somebody there, if it is known.
    pub(super) fn priority(&self, addr: SocketAddr) -> Option<u32> {
        let own = if addr.ip().to_canonical().is_ipv4() { self.four } else { self.six };
        priority(SocketAddr::new(own?, self.port), addr)
    }
}

impl<P: Addressed> Session<P> {
    /// `None` if there is room for another connection of a torrent.
    fn crowd(&self, number: u64, now: Time) -> Option<Crowd<'_, P>> {
        let of_torrent =
            self.torrents.get(&number).map_or(0, |torrent| torrent.peers.len() + torrent.strangers);
        let crowded = of_torrent >= self.config.peers;
        if !crowded && self.conns.len() < self.config.connections {
            return None;
        }
        let conns = self.conns.iter().filter(|(_, conn)| !crowded || conn.torrent == number);
        let conns: Vec<(P, &Conn)> = conns.map(|(peer, conn)| (*peer, conn)).collect();
        let mut subnets = BTreeMap::new();
        for (peer, _) in &conns {
            *subnets.entry(Subnet::of(peer.addr().ip())).or_default() += 1;
        }
        Some(Crowd { conns, subnets, here: self.here, now })
    }

    /// Somebody connects to a torrent: whether there is room. Another may have given way.
    pub(super) fn has_room_for(&mut self, cx: &mut Cx<'_, Self>, number: u64, addr: SocketAddr) -> bool {
        let Some(crowd) = self.crowd(number, cx.now()) else { return true };
        let against_it = (crowd.of(addr.ip()) + 1, Reverse(crowd.here.priority(addr)));
        let gives_way = crowd.idle(|_| true).filter(|(_, against)| *against > against_it);
        gives_way.inspect(|(peer, _)| self.part(cx, *peer)).is_some()
    }

    /// Somebody is to be dialled for a torrent: whether there is room. Another may have given way.
    pub(super) fn has_room_to_dial(&mut self, cx: &mut Cx<'_, Self>, number: u64) -> bool {
        let Some(crowd) = self.crowd(number, cx.now()) else { return true };
        let accepted = crowd.conns.iter().filter(|(_, conn)| !conn.dialled).count();
        let many = 4 * accepted > 3 * crowd.conns.len();
        let gives_way = crowd.idle(|conn| many && !conn.dialled);
        gives_way.inspect(|(peer, _)| self.part(cx, *peer)).is_some()
    }
}

#[cfg(test)]
mod tests;
