//! Super-seeding (BEP 16): the first seed, whose line is slow, sends each piece once and lets its peers do the rest.
//!
//! It does not say what it has. Each peer is told of a piece that nobody else has or was told of, and of another when somebody
//! else has that: so whoever passes on what it gets is given more. Where nobody is left to pass it on to, or nobody takes it for
//! some seconds, it is enough that it has it itself; and whatever it asks for meanwhile it does not keep a piece from others
//! for long. When all pieces are among the peers this seed is one like others, and says that it has everything.

use std::collections::BTreeSet;
use std::time::Duration;

use p2p_core::{Cx, Peer};

use super::{Session, Stage};
use crate::torrent::address::Addressed;
use crate::torrent::peer::Conn;
use crate::torrent::picker::Picker;
use crate::torrent::wire::PeerMsg;

/// Pieces of which a peer was told and that nobody else has, at most. 2: it gets one while it passes on another.
const AT_ONCE: usize = 2;
/// How long somebody may lack what it was told of before others are told of that, too: 60 s, and as long as the piece takes
/// at 4 KiB a second.
const PATIENCE: Duration = Duration::from_secs(60);
const SLOWEST: u32 = 4 << 10;
/// How long what it has is left to others to take from it. 5 s.
const PASSING: Duration = Duration::from_secs(5);

impl<P: Addressed> Session<P> {
    /// Tells a torrent's peers what they are to have next, if it is super-seeded.
    pub(super) fn offer(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let now = cx.now();
        let Some(torrent) = self.torrents.get_mut(&number).filter(|torrent| torrent.is_super_seeding())
        else {
            return;
        };
        let (Stage::Running(picker), Some(info)) = (&torrent.stage, &torrent.info) else { return };
        if picker.is_spread() {
            torrent.super_seeding = false;
            return self.say_all(cx, number);
        }
        let patience = PATIENCE + Duration::from_secs((info.piece_length() / SLOWEST).into());
        let lacking =
            torrent.peers.iter().filter_map(|peer| self.conns.get(peer)).filter(|conn| lacks(conn)).count();
        for peer in &torrent.peers {
            let Some(conn) = self.conns.get_mut(peer) else { continue };
            let alone = lacking == usize::from(lacks(conn));
            let Conn { offered, have, .. } = conn;
            offered.retain(|piece, since| {
                let itself = have.contains((*piece).into());
                let passed_on = picker.copies(*piece) > u16::from(itself);
                let over = now - *since > if itself { PASSING } else { patience };
                !(passed_on || over || (alone && itself))
            });
        }
        let conns = || torrent.peers.iter().filter_map(|peer| Some((*peer, self.conns.get(peer)?)));
        let mut out: BTreeSet<u32> = conns().flat_map(|(_, conn)| conn.offered.keys().copied()).collect();
        let mut order: Vec<(usize, P)> = conns().map(|(peer, conn)| (conn.offered.len(), peer)).collect();
        // Who has nothing to do is first.
        order.sort_unstable();
        for (_, peer) in order {
            let Some(conn) = self.conns.get_mut(&peer) else { continue };
            while conn.offered.len() < AT_ONCE
                && let Some(piece) = next(picker, conn, &out)
            {
                out.insert(piece);
                conn.offered.insert(piece, now);
                conn.told_of.insert(piece);
                cx.send(peer, PeerMsg::Have(piece));
            }
        }
    }

    /// A peer has got a piece: it is to pass it on, or if somebody else was told of it that one hears of another.
    pub(super) fn was_passed_on(&mut self, cx: &mut Cx<'_, Self>, number: u64, peer: P, piece: u32) {
        let Some(torrent) = self.torrents.get(&number).filter(|torrent| torrent.is_super_seeding()) else {
            return;
        };
        let its = self.conns.get_mut(&peer).and_then(|conn| conn.offered.get_mut(&piece));
        its.into_iter().for_each(|since| *since = cx.now());
        let mut conns = torrent.peers.iter().filter_map(|peer| self.conns.get(peer));
        if conns.any(|conn| conn.offered.contains_key(&piece)) {
            self.offer(cx, number);
        }
    }

    /// Tells all peers of what they were not told of.
    fn say_all(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get(&number) else { return };
        let (pieces, peers) = (torrent.pieces() as u32, torrent.peers.clone());
        for peer in peers {
            let Some(conn) = self.conns.get_mut(&peer) else { continue };
            conn.offered.clear();
            let told_of = std::mem::take(&mut conn.told_of);
            let others: Vec<u32> = (0..pieces).filter(|piece| !told_of.contains(piece)).collect();
            self.tell_of(cx, peer, &others);
        }
        self.say_what_is_wanted(cx, number);
    }
}

/// Whether somebody has not got everything.
fn lacks(conn: &Conn) -> bool {
    !conn.is_seed()
}

/// A piece that nobody has and nobody was told of.
fn next<P: Peer>(picker: &Picker<P>, conn: &Conn, out: &BTreeSet<u32>) -> Option<u32> {
    picker.unseen_by_all().find(|piece| !out.contains(piece) && !conn.told_of.contains(piece))
}
