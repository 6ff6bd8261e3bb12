//! Whom to connect to, handshakes, who else is there, and who goes.

use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::{Cx, Time};

use super::{Carriers, MAX_BANNED, Session, Stage, Torrent, TorrentId};
use crate::bits::Bits;
use crate::torrent::address::{Addressed, Carrier, account};
use crate::torrent::candidates::Origin;
use crate::torrent::command::SessionEvent;
use crate::torrent::metainfo::SwarmId;
use crate::torrent::mse::Encryption;
use crate::torrent::peer::Conn;
use crate::torrent::picker::Picker;
use crate::torrent::wire::{ExtendedHandshake, Features, Handshake, PeerMsg, PexMsg, PexPeer};

/// Connections of one torrent that are being made at a time. 8.
const HALF_OPEN: usize = 8;
/// Connections that one host may have to one torrent; this machine has as many as there are. 4.
const MAX_OF_HOST: usize = 4;
/// How long a connection may last on which nobody says who they are. 20 s.
const NAMELESS: Duration = Duration::from_secs(20);
/// How often a peer is told who has come and gone (BEP 11). A minute.
const PEX_EVERY: Duration = Duration::from_secs(60);
/// How many are named at a time, of each kind (BEP 11). 50.
const PEX_AT_ONCE: usize = 50;
/// How long to leave a peer alone of which nothing is wanted, and which wants nothing. 10 minutes.
const REST: Duration = Duration::from_secs(600);

impl<P: Addressed> Session<P> {
    // ---- dialling

    /// Connects to as many peers as there may be.
    pub(super) fn dial(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let now = cx.now();
        let encryption = self.encryption();
        let encrypts = |in_the_clear: bool| match encryption {
            Encryption::Off => false,
            Encryption::Preferred => !in_the_clear,
            Encryption::Required => true,
        };
        loop {
            let Some(torrent) = self.torrents.get(&number) else { return };
            let ready = !torrent.held && !matches!(torrent.stage, Stage::Opening(_) | Stage::Failed(_));
            let may = ready && torrent.strangers < HALF_OPEN && torrent.candidates.has_any(now);
            if !may || !self.has_room_to_dial(cx, number) {
                return;
            }
            let Some(torrent) = self.torrents.get_mut(&number) else { return };
            let here = self.here;
            let Some(addr) = torrent.candidates.take(now, |addr| here.priority(addr)) else { return };
            let Some(swarm) = torrent.hashes.swarms().next() else { return };
            let pieces = torrent.pieces();
            self.next_dial += 1;
            let carrier = match (self.config.carriers, torrent.candidates.utp(&addr)) {
                (Carriers::Tcp, _) | (Carriers::Both, Some(false)) => Carrier::Tcp,
                (Carriers::Utp, _) | (Carriers::Both, None | Some(true)) => Carrier::Utp,
            };
            let peer = P::dial(carrier, addr, self.next_dial);
            let banned = self.banned.contains_key(&Self::account(&peer, Some(addr)));
            if banned {
                torrent.candidates.forget(addr);
                continue;
            }
            if self.conns.contains_key(&peer) {
                continue;
            }
            torrent.strangers += 1;
            let mut conn = Conn::new(number, swarm, Some(addr), pieces, now);
            // In a simulation there is no codec that could encrypt.
            conn.encrypted = peer.dialled().is_some() && encrypts(torrent.candidates.in_the_clear(&addr));
            if conn.encrypted {
                cx.send(peer, PeerMsg::Encrypt(swarm));
            }
            self.conns.insert(peer, conn);
            self.greet(cx, peer, swarm);
        }
    }

    fn greet(&self, cx: &mut Cx<'_, Self>, peer: P, swarm: SwarmId) {
        let torrent = self.swarms.get(&swarm).and_then(|number| self.torrents.get(number));
        let hybrid = torrent.is_some_and(|torrent| torrent.hashes.swarms().count() == 2);
        let dht = self.config.dht_port.is_some() && torrent.is_some_and(|torrent| !torrent.private());
        let features = Features { extended: true, dht, fast: true, v2: hybrid };
        cx.send(peer, PeerMsg::Handshake(Handshake { swarm, peer: self.name, features }));
    }

    // ---- handshakes

    /// Somebody has made a connection to this end, and has not said what for. Those that wait longest make room.
    pub(super) fn accepted(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        if self.torrents.is_empty() {
            return cx.send(peer, PeerMsg::Goodbye);
        }
        if self.nameless.len() >= self.config.connections.max(1) {
            let oldest = self.nameless.iter().min_by_key(|(_, since)| **since).map(|(peer, _)| *peer);
            oldest.into_iter().for_each(|oldest| self.send_away(cx, oldest));
        }
        self.nameless.insert(peer, cx.now());
    }

    /// Closes connections on which nobody has said who they are for too long, or all of them.
    pub(super) fn send_nameless_away(&mut self, cx: &mut Cx<'_, Self>, all: bool) {
        let now = cx.now();
        let late = self.nameless.iter().filter(|(_, since)| all || now - **since > NAMELESS);
        let late: Vec<P> = late.map(|(peer, _)| *peer).collect();
        late.into_iter().for_each(|peer| self.send_away(cx, peer));
    }

    fn send_away(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        self.nameless.remove(&peer);
        cx.send(peer, PeerMsg::Goodbye);
    }

    /// A peer says which swarm it means, and who it is.
    pub(super) fn greeted(&mut self, cx: &mut Cx<'_, Self>, peer: P, handshake: Handshake) {
        let now = cx.now();
        let Handshake { swarm, peer: name, features } = handshake;
        self.nameless.remove(&peer);
        let number = self.swarms.get(&swarm).copied();
        match self.conns.get_mut(&peer) {
            // What this end has dialled, and closed again before there was an answer.
            None if peer.dialled() == Some(true) => return,
            None => {
                let Some(number) = number.filter(|number| self.lets_in(cx, *number, &peer)) else {
                    return cx.send(peer, PeerMsg::Goodbye);
                };
                let Some(torrent) = self.torrents.get_mut(&number) else { return };
                torrent.strangers += 1;
                self.conns.insert(peer, Conn::new(number, swarm, None, torrent.pieces(), now));
                self.greet(cx, peer, swarm);
            }
            // It answers, perhaps with the other name of a hybrid (BEP 52).
            Some(conn) if conn.name.is_none() && number == Some(conn.torrent) => conn.swarm = swarm,
            Some(_) => return self.hang_up_on(cx, peer),
        }
        if self.is_double(cx, peer, name) {
            return self.hang_up_on(cx, peer);
        }
        let Some((torrent, conn)) = self.pair(peer) else { return };
        // It may have been dialled before there was metadata.
        if conn.have.len() != torrent.pieces() {
            conn.have = Bits::new(torrent.pieces());
        }
        conn.name = Some(name);
        conn.features = features;
        conn.heard = now;
        torrent.strangers -= 1;
        torrent.peers.insert(peer);
        // What connections have no two ends of listens where it is.
        if peer.dialled().is_none() {
            conn.listens = Some(peer.addr());
        }
        if let Some(addr) = conn.listens {
            torrent.meet(addr, peer.carrier());
        }
        self.introduce(cx, peer);
    }

    /// Whether a torrent takes somebody in who has connected.
    fn lets_in(&mut self, cx: &mut Cx<'_, Self>, number: u64, peer: &P) -> bool {
        let host = account(peer.addr().ip());
        let of_host =
            |(other, conn): &(&P, &Conn)| conn.torrent == number && account(other.addr().ip()) == host;
        let many = !host.is_loopback() && self.conns.iter().filter(of_host).count() >= MAX_OF_HOST;
        let open = self.torrents.get(&number).is_some_and(|torrent| {
            !torrent.held && !matches!(torrent.stage, Stage::Opening(_) | Stage::Failed(_))
        });
        let banned = self.banned.contains_key(&Self::account(peer, None));
        open && !many && !banned && self.has_room_for(cx, number, peer.addr())
    }

    /// Whether it is this session itself, or a peer that is connected already. Of two connections that two peers have
    /// made to each other at once both keep the same: that of whoever has the lower name. Names are told to everybody, so
    /// they are one peer's only if they are one host's.
    fn is_double(&mut self, cx: &mut Cx<'_, Self>, peer: P, name: crate::torrent::PeerName) -> bool {
        if name == self.name {
            if let Some((torrent, conn)) = self.pair(peer)
                && let Some(addr) = conn.listens
            {
                torrent.candidates.forget(addr);
            }
            return true;
        }
        let Some(conn) = self.conns.get(&peer) else { return true };
        let same = |(other, twin): &(&P, &Conn)| {
            let host = account(other.addr().ip()) == account(peer.addr().ip());
            host && **other != peer && twin.name == Some(name) && twin.torrent == conn.torrent
        };
        let Some((other, twin)) = self.conns.iter().find(same) else { return false };
        let keep_new = conn.dialled != twin.dialled && conn.dialled == (self.name < name);
        if keep_new {
            let other = *other;
            self.hang_up_on(cx, other);
        }
        !keep_new
    }

    /// Says what is here.
    fn introduce(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let dht_port = self.config.dht_port;
        let torrent = self.conns.get(&peer).and_then(|conn| self.torrents.get(&conn.torrent));
        let Some(abilities) = torrent.map(|torrent| self.abilities(torrent)) else { return };
        let Some((torrent, conn)) = self.pair(peer) else { return };
        let have = torrent.picker().map(Picker::have).filter(|_| !torrent.is_super_seeding());
        match have {
            Some(have) if have.is_full() && conn.features.fast => cx.send(peer, PeerMsg::HaveAll),
            Some(have) if have.count() > 0 => cx.send(peer, PeerMsg::Bitfield(have.to_bitfield().into())),
            _ if conn.features.fast => cx.send(peer, PeerMsg::HaveNone),
            _ => {}
        }
        if conn.features.extended {
            cx.send(peer, PeerMsg::Extended(abilities));
        }
        if let Some(port) = dht_port.filter(|_| conn.features.dht && !torrent.private()) {
            cx.send(peer, PeerMsg::Port(port));
        }
        conn.told = cx.now();
    }

    /// What this end can do for a torrent's peers beyond the handshake, and knows (BEP 10).
    fn abilities(&self, torrent: &Torrent<P>) -> ExtendedHandshake {
        ExtendedHandshake {
            metadata: Some(true),
            pex: (!torrent.private()).then_some(true),
            metadata_size: torrent.info.as_ref().map(|info| info.raw().len() as u32),
            port: self.listens,
            request_queue: Some(self.config.requests_per_peer as u32),
            client: Some(self.config.client.clone()),
            upload_only: Some(torrent.done && !torrent.is_super_seeding()),
            encrypts: self.encryption() != Encryption::Off,
        }
    }

    /// Whether this end wants something of a torrent has changed: its peers hear of it (BEP 21). All else is said again, for some
    /// programs take what is not said for what is not any more.
    pub(super) fn say_what_is_wanted(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get(&number) else { return };
        let abilities = self.abilities(torrent);
        let extended = |peer: &&P| self.conns.get(*peer).is_some_and(|conn| conn.features.extended);
        for peer in torrent.peers.iter().filter(extended) {
            cx.send(*peer, PeerMsg::Extended(abilities.clone()));
        }
    }

    /// A peer says at which port its node of the DHT listens (BEP 5). It has one, and says so once.
    pub(super) fn told_of_node(&mut self, cx: &mut Cx<'_, Self>, peer: P, port: u16) {
        let Some((torrent, conn)) = self.pair(peer) else { return };
        let news = port != 0 && conn.features.dht && !torrent.private();
        if news && !std::mem::replace(&mut conn.dht_told, true) && self.config.dht_port.is_some() {
            cx.emit(SessionEvent::DhtNode(SocketAddr::new(peer.addr().ip().to_canonical(), port)));
        }
    }

    /// What a peer can do beyond the handshake.
    pub(super) fn extended(&mut self, cx: &mut Cx<'_, Self>, peer: P, extended: ExtendedHandshake) {
        let Some((torrent, conn)) = self.pair(peer) else { return };
        conn.wants_metadata = extended.metadata.unwrap_or(conn.wants_metadata);
        conn.wants_pex = extended.pex.unwrap_or(conn.wants_pex);
        conn.metadata_size = extended.metadata_size.or(conn.metadata_size);
        conn.client = extended.client.or(conn.client.take());
        conn.encrypts = extended.encrypts;
        conn.upload_only = extended.upload_only.unwrap_or(conn.upload_only);
        if let Some(requests) = extended.request_queue {
            conn.pipeline.most = requests.max(1);
        }
        if let Some(port) = extended.port
            && conn.listens.is_none()
        {
            // Who listens by both versions sees an address of IPv4 as one of IPv6.
            let addr = SocketAddr::new(peer.addr().ip().to_canonical(), port);
            conn.listens = Some(addr);
            torrent.meet(addr, peer.carrier());
        }
        // Who was asked already waits until others were.
        if !matches!(&torrent.stage, Stage::Metadata(metadata) if metadata.was_asked(peer)) {
            self.gather(cx, peer);
        }
    }

    // ---- who else is there

    /// A peer tells who else it is connected to. What it says more often than it may is passed over.
    pub(super) fn heard_of(&mut self, cx: &mut Cx<'_, Self>, peer: P, pex: PexMsg) {
        let now = cx.now();
        let Some((torrent, conn)) = self.pair(peer) else { return };
        if torrent.private() || conn.pex_heard.is_some_and(|at| now - at < PEX_EVERY / 2) {
            return;
        }
        conn.pex_heard = Some(now);
        let number = torrent.number;
        let loopback = peer.addr().ip().to_canonical().is_loopback();
        for PexPeer { addr, utp, .. } in pex.added {
            // What is told by somebody far away of this machine itself is not true.
            if loopback || !addr.ip().to_canonical().is_loopback() {
                torrent.candidates.hear(addr, Origin::Peer);
                if utp {
                    torrent.candidates.speaks_utp(&addr);
                }
            }
        }
        self.dial(cx, number);
    }

    /// Tells peers who has come and gone.
    pub(super) fn tell_who(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let now = cx.now();
        let Some(torrent) = self.torrents.get(&number) else { return };
        if torrent.info.as_ref().is_none_or(|info| info.private()) {
            return;
        }
        let there = |peer: &P| {
            let conn = self.conns.get(peer)?;
            let (addr, seed) = (conn.listens?, conn.wants_nothing());
            let utp = torrent.candidates.utp(&addr) == Some(true);
            Some(PexPeer { addr, seed, reachable: conn.dialled, encrypts: conn.encrypts, utp })
        };
        let there: Vec<PexPeer> = torrent.peers.iter().filter_map(there).collect();
        for peer in &torrent.peers {
            let Some(conn) = self.conns.get_mut(peer).filter(|conn| conn.wants_pex) else { continue };
            if conn.pex_at.is_some_and(|at| now - at < PEX_EVERY) {
                continue;
            }
            let is_new = |peer: &&PexPeer| Some(peer.addr) != conn.listens && !conn.pex.contains(&peer.addr);
            let added: Vec<PexPeer> = there.iter().filter(is_new).take(PEX_AT_ONCE).copied().collect();
            let left = conn.pex.iter().filter(|addr| !there.iter().any(|other| other.addr == **addr));
            let dropped: Vec<SocketAddr> = left.take(PEX_AT_ONCE).copied().collect();
            if added.is_empty() && dropped.is_empty() {
                continue;
            }
            conn.pex.extend(added.iter().map(|peer| peer.addr));
            dropped.iter().for_each(|addr| _ = conn.pex.remove(addr));
            conn.pex_at = Some(now);
            cx.send(*peer, PeerMsg::Pex(PexMsg { added, dropped }));
        }
    }

    // ---- going

    /// Closes a connection.
    pub(super) fn hang_up_on(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        cx.send(peer, PeerMsg::Goodbye);
        self.gone(cx, peer);
    }

    /// Closes a torrent's connections.
    pub(super) fn hang_up(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let all: Vec<P> =
            self.conns.iter().filter(|(_, conn)| conn.torrent == number).map(|(peer, _)| *peer).collect();
        all.into_iter().for_each(|peer| self.hang_up_on(cx, peer));
    }

    /// A connection that has no use for either end is closed.
    pub(super) fn part(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let until = cx.now() + REST;
        let addr = self.conns.get(&peer).and_then(|conn| conn.listens);
        let number = self.conns.get(&peer).map(|conn| conn.torrent);
        self.hang_up_on(cx, peer);
        if let Some(torrent) = number.and_then(|number| self.torrents.get_mut(&number))
            && let Some(addr) = addr
        {
            torrent.candidates.rest(addr, until);
        }
    }

    /// A connection is gone: what it owed is asked of others.
    pub(super) fn gone(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let now = cx.now();
        let encryption = self.encryption();
        let Some(conn) = self.conns.remove(&peer) else { return };
        self.serving.gone(peer);
        self.line.remove(&peer);
        self.give_back_down(conn.torrent, conn.asked.iter().map(|(block, _)| u64::from(block.length)).sum());
        let Some(torrent) = self.torrents.get_mut(&conn.torrent) else { return };
        match conn.name {
            None => torrent.strangers -= 1,
            Some(_) => _ = torrent.peers.remove(&peer),
        }
        let same = |other: &Conn| other.torrent == conn.torrent && other.listens == conn.listens;
        let twin = self.conns.values().any(same);
        let preferred = encryption == Encryption::Preferred;
        let both = self.config.carriers == Carriers::Both;
        let idle = conn.wants_nothing() && torrent.done;
        match conn.listens.filter(|_| !twin) {
            // That it goes says nothing of it.
            Some(addr) if torrent.held => torrent.candidates.rest(addr, now),
            // Whoever of two that want nothing goes first: neither has a reason to call again soon.
            Some(addr) if idle => torrent.candidates.rest(addr, now + REST),
            Some(addr) if conn.dialled && !conn.reached && both => {
                torrent.candidates.was_not_reached(addr, now, peer.carrier());
            }
            // It does not know what to make of what was encrypted, or of what was not.
            Some(addr) if conn.dialled && conn.reached && conn.name.is_none() && preferred => {
                torrent.candidates.did_not_answer(addr, now, conn.encrypted);
            }
            Some(addr) => torrent.candidates.lost(addr, now, conn.downloaded + conn.uploaded > 0),
            None => {}
        }
        if torrent.optimistic == Some(peer) {
            torrent.optimistic = None;
        }
        torrent.paused.iter_mut().for_each(|paused| paused.released(&conn.asked));
        match &mut torrent.stage {
            Stage::Metadata(metadata) => metadata.refused(peer),
            Stage::Hashes(hashes) => hashes.reclaim(now, Some(peer)),
            Stage::Running(picker) => {
                conn.asked.iter().for_each(|(block, _)| picker.unasked(*block));
                conn.have.iter().for_each(|piece| picker.unseen(piece as u32));
                picker.gone(peer);
            }
            Stage::Opening(_) | Stage::Failed(_) => {}
        }
        let number = torrent.number;
        if !conn.asked.is_empty() {
            self.fill_all(cx, number);
        }
        self.gather_all(cx, number);
    }

    // ---- liars

    /// Where what is said against somebody is remembered: a host, which by IPv6 is a /64, but of this machine only one port.
    fn account(peer: &P, listens: Option<SocketAddr>) -> SocketAddr {
        let ip = peer.addr().ip().to_canonical();
        match ip.is_loopback() {
            true => listens.unwrap_or_else(|| peer.addr()),
            false => SocketAddr::new(account(ip), 0),
        }
    }

    /// A peer has sent what is not true, or a web seed: nothing comes from there any more.
    pub(super) fn ban(&mut self, cx: &mut Cx<'_, Self>, number: u64, peer: P) {
        if self.drop_web_seed(cx, number, peer) {
            return;
        }
        let conn = self.conns.get(&peer);
        let account = Self::account(&peer, conn.and_then(|conn| conn.listens));
        let known = self.banned.insert(account, cx.now()).is_some();
        if known && conn.is_none() {
            return;
        }
        if self.banned.len() > MAX_BANNED {
            let oldest = self.banned.iter().min_by_key(|(_, since)| **since).map(|(account, _)| *account);
            oldest.into_iter().for_each(|oldest| _ = self.banned.remove(&oldest));
        }
        cx.emit(SessionEvent::Lied(TorrentId(number), account));
        let same = |(other, conn): &(&P, &Conn)| Self::account(other, conn.listens) == account;
        let all: Vec<P> = self.conns.iter().filter(same).map(|(peer, _)| *peer).collect();
        for peer in all {
            let conn = self.conns.get(&peer);
            let (of, listens) = conn.map_or((number, None), |conn| (conn.torrent, conn.listens));
            self.hang_up_on(cx, peer);
            if let Some(torrent) = self.torrents.get_mut(&of)
                && let Some(addr) = listens
            {
                torrent.candidates.forget(addr);
            }
        }
    }

    /// Whether a peer has been silent for too long.
    pub(super) fn is_silent(conn: &Conn, now: Time) -> bool {
        match conn.name {
            None => now - conn.since > NAMELESS,
            Some(_) => now - conn.heard > Duration::from_secs(180),
        }
    }
}

#[cfg(test)]
mod tests;
