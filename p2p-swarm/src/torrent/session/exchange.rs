//! What is had, wanted and asked for, both ways.

use std::collections::VecDeque;

use bytes::Bytes;
use p2p_core::{Cx, Time};

use super::pausing::Paused;
use super::{Session, Stage};
use crate::bits::Bits;
use crate::torrent::address::Addressed;
use crate::torrent::job::{Tag, TorrentJob, Work};
use crate::torrent::merkle::BLOCK;
use crate::torrent::picker::Came;
use crate::torrent::wire::{Block, PeerMsg};

/// What a peer may say of its pieces before their number is known here. 4,096 messages.
const MAX_EARLY: usize = 4096;
/// Pieces of which a peer is told one by one. 65,536: 576 KiB, of the 4 MiB that may wait for it
/// ([`Limits::queue_bytes_per_peer`](p2p_core::Limits)).
const MAX_HAVES: usize = 1 << 16;
/// How often a peer may say which pieces it has, all at once. 8: by BEP 3 and 6 once, and some say it again.
const MAX_STATEMENTS: u32 = 8;
/// Rejects in a row from a peer that has unchoked us, before it is left alone. 64.
const MAX_REJECTS: u32 = 64;

impl<P: Addressed> Session<P> {
    /// A peer that has said who it is says something else.
    pub(super) fn heard(&mut self, cx: &mut Cx<'_, Self>, peer: P, msg: PeerMsg) {
        // Only who has said that it knows these may send them (BEP 6).
        if msg.is_fast() && self.conns.get(&peer).is_none_or(|conn| !conn.features.fast) {
            return self.hang_up_on(cx, peer);
        }
        match msg {
            PeerMsg::Have(_) => self.has(cx, peer, msg),
            PeerMsg::Bitfield(_) | PeerMsg::HaveAll | PeerMsg::HaveNone => self.states(cx, peer, msg),
            PeerMsg::Choke => self.choked(cx, peer),
            PeerMsg::Unchoke => {
                // What it owes it owes since it was asked: to say this again buys no time.
                if let Some(conn) = self.conns.get_mut(&peer).filter(|conn| conn.chokes) {
                    conn.chokes = false;
                    conn.rejects = 0;
                    self.fill(cx, peer);
                }
            }
            PeerMsg::Interested => {
                if let Some(conn) = self.conns.get_mut(&peer).filter(|conn| !conn.interested) {
                    conn.interested = true;
                    self.welcome(cx, peer);
                }
            }
            PeerMsg::NotInterested => {
                if let Some(conn) = self.conns.get_mut(&peer) {
                    conn.interested = false;
                }
            }
            PeerMsg::Request(block) => self.asked(cx, peer, block),
            PeerMsg::Cancel(block) => {
                if self.serving.withdraw(peer, block) {
                    self.reject(cx, peer, block);
                }
            }
            PeerMsg::Piece { piece, begin, data } => self.came(cx, peer, piece, begin, data),
            PeerMsg::Reject(block) => self.rejected(cx, peer, block),
            PeerMsg::Extended(extended) => self.extended(cx, peer, extended),
            PeerMsg::Metadata(metadata) => self.metadata(cx, peer, metadata),
            PeerMsg::Pex(pex) => self.heard_of(cx, peer, pex),
            PeerMsg::HashRequest(range) => self.asked_for_hashes(cx, peer, range),
            PeerMsg::Hashes(range, hashes) => self.hashes(cx, peer, range, &hashes),
            PeerMsg::HashReject(range) => self.hashes_rejected(cx, peer, range),
            PeerMsg::Port(port) => self.told_of_node(cx, peer, port),
            PeerMsg::Goodbye => self.gone(cx, peer),
            // What is suggested, and what would be sent to the choked, is not needed.
            PeerMsg::KeepAlive
            | PeerMsg::Encrypt(_)
            | PeerMsg::Suggest(_)
            | PeerMsg::AllowedFast(_)
            | PeerMsg::Handshake(_) => {}
        }
    }

    // ---- what peers have

    /// A peer says all that it has at once.
    fn states(&mut self, cx: &mut Cx<'_, Self>, peer: P, msg: PeerMsg) {
        let Some(conn) = self.conns.get_mut(&peer) else { return };
        conn.statements += 1;
        if conn.statements > MAX_STATEMENTS {
            return self.hang_up_on(cx, peer);
        }
        // It holds in place of what was said before.
        conn.early.clear();
        self.has(cx, peer, msg);
    }

    fn has(&mut self, cx: &mut Cx<'_, Self>, peer: P, msg: PeerMsg) {
        let Some((torrent, conn)) = self.pair(peer) else { return };
        let pieces = torrent.pieces();
        let Stage::Running(picker) = &mut torrent.stage else {
            // Later, when it can be understood.
            if conn.early.len() < MAX_EARLY {
                conn.early.push(msg);
            }
            return;
        };
        let have = match msg {
            PeerMsg::Have(piece) if u64::from(piece) < pieces => {
                if conn.have.insert(piece.into()) {
                    picker.seen(piece);
                    conn.wanted += u32::from(picker.wants(piece));
                    let number = torrent.number;
                    // It is waited for by nobody yet who is unchoked already.
                    if conn.wanted == 1 || (conn.asked.is_empty() && !conn.chokes) {
                        self.interest(cx, peer);
                        self.fill(cx, peer);
                    }
                    self.was_passed_on(cx, number, peer, piece);
                }
                return;
            }
            PeerMsg::HaveAll => Some(Bits::full(pieces)),
            PeerMsg::HaveNone => Some(Bits::new(pieces)),
            PeerMsg::Bitfield(field) => Bits::from_bitfield(&field, pieces),
            _ => None,
        };
        let Some(have) = have else { return self.hang_up_on(cx, peer) };
        conn.have.iter().for_each(|piece| picker.unseen(piece as u32));
        have.iter().for_each(|piece| picker.seen(piece as u32));
        conn.wanted = picker.wanted_of(&have);
        conn.have = have;
        picker.gone(peer);
        let number = torrent.number;
        self.interest(cx, peer);
        self.fill_all(cx, number);
    }

    /// Tells a peer of pieces that are here. If these are too many to be told one by one it is left: when it comes back it
    /// hears of all of them at once.
    pub(super) fn tell_of(&mut self, cx: &mut Cx<'_, Self>, peer: P, pieces: &[u32]) {
        if pieces.len() > MAX_HAVES {
            return self.hang_up_on(cx, peer);
        }
        pieces.iter().for_each(|piece| cx.send(peer, PeerMsg::Have(*piece)));
    }

    /// Understands what a peer said before the number of pieces was known.
    pub(super) fn catch_up(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let Some((torrent, conn)) = self.pair(peer) else { return };
        conn.have = Bits::new(torrent.pieces());
        for msg in std::mem::take(&mut conn.early) {
            self.has(cx, peer, msg);
        }
    }

    /// Tells a peer whether it has what is wanted, if that is news.
    pub(super) fn interest(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let Some(conn) = self.conns.get_mut(&peer) else { return };
        let interesting = conn.wanted > 0;
        if conn.interesting != interesting {
            conn.interesting = interesting;
            cx.send(peer, if interesting { PeerMsg::Interested } else { PeerMsg::NotInterested });
        }
    }

    // ---- asking

    /// Asks a peer for as much as it is good for.
    pub(super) fn fill(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let Some(number) = self.conns.get(&peer).map(|conn| conn.torrent) else { return };
        if self.is_limited(number) {
            return self.stand_in_line(cx, peer, number);
        }
        while self.ask(cx, peer) {}
    }

    /// Asks a peer for one block more, if it is good for that.
    pub(super) fn ask(&mut self, cx: &mut Cx<'_, Self>, peer: P) -> bool {
        let (now, unwritten) = (cx.now(), self.config.unwritten);
        let Some((torrent, conn)) = self.pair(peer) else { return false };
        let full = torrent.writing >= unwritten || conn.asked.len() >= conn.pipeline.size();
        let paused = torrent.paused.as_ref().is_some_and(|paused| !paused.tries(now));
        if conn.chokes || conn.wanted == 0 || full || paused {
            return false;
        }
        let Stage::Running(picker) = &mut torrent.stage else { return false };
        let asked = &conn.asked;
        let mine = |block: &Block| asked.iter().any(|(other, _)| other == block);
        let Some(block) = picker.pick(peer, &conn.have, conn.last_piece, mine, now, cx.rng()) else {
            return false;
        };
        if conn.asked.is_empty() {
            conn.progress = now;
        }
        conn.last_piece = Some(block.piece);
        conn.asked.push_back((block, now));
        conn.told = now;
        torrent.paused.iter_mut().for_each(|paused| {
            paused.asked(block, now);
            paused.asked_of(peer);
        });
        let number = torrent.number;
        self.spend_down(number, block.length.into());
        cx.send(peer, PeerMsg::Request(block));
        true
    }

    /// As [`Session::fill`], for every peer of a torrent. If it is paused whoever comes behind the one that was asked last
    /// is the first.
    pub(super) fn fill_all(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get(&number) else { return };
        let mut peers: Vec<P> = torrent.peers.iter().copied().collect();
        if let Some(last) = torrent.paused.as_ref().and_then(Paused::last) {
            let next = peers.partition_point(|peer| *peer <= last);
            peers.rotate_left(next);
        }
        peers.into_iter().for_each(|peer| self.fill(cx, peer));
    }

    fn choked(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let Some((torrent, conn)) = self.pair(peer).filter(|(_, conn)| !conn.chokes) else { return };
        conn.chokes = true;
        let number = torrent.number;
        let freed = match conn.features.fast {
            // Each request is answered all the same (BEP 6); but what it alone was to be asked for, others are.
            true => torrent.running().is_some_and(|picker| picker.gone(peer)),
            false => !self.release(peer, |_| false).is_empty(),
        };
        if freed {
            self.fill_all(cx, number);
        }
    }

    /// What a peer was asked for, but for what it keeps, is to be asked of others: what that is.
    pub(super) fn release(
        &mut self,
        peer: P,
        mut keeps: impl FnMut(&Block) -> bool,
    ) -> VecDeque<(Block, Time)> {
        let Some((torrent, conn)) = self.pair(peer) else { return VecDeque::new() };
        let all = std::mem::take(&mut conn.asked).into_iter();
        let (kept, asked): (VecDeque<_>, VecDeque<_>) = all.partition(|(block, _)| keeps(block));
        conn.asked = kept;
        asked.iter().for_each(|(block, _)| conn.withdrawn(*block));
        let owes_nothing = conn.asked.is_empty();
        if let Some(picker) = torrent.running() {
            asked.iter().for_each(|(block, _)| picker.unasked(*block));
            if owes_nothing {
                picker.gone(peer);
            }
        }
        torrent.paused.iter_mut().for_each(|paused| paused.released(&asked));
        let number = torrent.number;
        self.give_back_down(number, asked.iter().map(|(block, _)| u64::from(block.length)).sum());
        asked
    }

    /// A peer has not sent what it was asked for: it need not any more.
    pub(super) fn late(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let Some(number) = self.conns.get(&peer).map(|conn| conn.torrent) else { return };
        for (block, _) in self.release(peer, |_| false) {
            cx.send(peer, PeerMsg::Cancel(block));
        }
        self.fill_all(cx, number);
    }

    fn rejected(&mut self, cx: &mut Cx<'_, Self>, peer: P, block: Block) {
        let Some((torrent, conn)) = self.pair(peer) else { return };
        if conn.settled(&block).is_none() {
            conn.answered(&block);
            return;
        }
        if let Some(picker) = torrent.running() {
            picker.unasked(block);
            picker.gone(peer);
        }
        let (number, chokes) = (torrent.number, conn.chokes);
        conn.rejects += u32::from(!chokes);
        let many = conn.rejects > MAX_REJECTS;
        self.give_back_down(number, block.length.into());
        match (chokes, many) {
            (true, _) => self.fill_all(cx, number),
            (false, true) => self.part(cx, peer),
            (false, false) => self.fill(cx, peer),
        }
    }

    /// A block has come.
    fn came(&mut self, cx: &mut Cx<'_, Self>, peer: P, piece: u32, begin: u32, data: Bytes) {
        let now = cx.now();
        let Some((torrent, conn)) = self.pair(peer) else { return };
        let bytes = data.len() as u64;
        let block = Block { piece, begin, length: data.len() as u32 };
        let Some(at) = conn.settled(&block) else {
            // It was asked of others meanwhile, or never.
            conn.wasted += bytes;
            torrent.wasted += bytes;
            let (number, may) = (torrent.number, conn.may_send(&block));
            self.spend_unasked(number, bytes);
            if !may {
                self.part(cx, peer);
            }
            return;
        };
        conn.pipeline.came(now - at);
        (conn.progress, conn.traded) = (now, now);
        conn.rejects = 0;
        conn.down.add(bytes);
        conn.downloaded += bytes;
        let number = torrent.number;
        if !self.take_in(cx, number, peer, block, data)
            && let Some(conn) = self.conns.get_mut(&peer)
        {
            conn.wasted += bytes;
        }
        self.fill(cx, peer);
    }

    /// A block is there that somebody was asked for; whether it is needed.
    pub(super) fn take_in(
        &mut self,
        cx: &mut Cx<'_, Self>,
        number: u64,
        from: P,
        block: Block,
        data: Bytes,
    ) -> bool {
        let Some(torrent) = self.torrents.get_mut(&number) else { return false };
        let bytes = data.len() as u64;
        torrent.down.add(bytes);
        torrent.downloaded += bytes;
        match torrent.running().map(|picker| picker.came(from, block)) {
            Some(Came::New { others }) => {
                let Block { piece, begin, .. } = block;
                torrent.writing += 1;
                torrent.start(cx, Tag::Block(block), Work::Write { piece, begin, data });
                if others > 0 {
                    self.cancel(cx, number, from, block);
                }
                true
            }
            Some(Came::Again) | None => {
                torrent.wasted += bytes;
                false
            }
        }
    }

    /// A block that several were asked for is there.
    fn cancel(&mut self, cx: &mut Cx<'_, Self>, number: u64, from: P, block: Block) {
        self.came_elsewhere(number, from, block);
        let Some(torrent) = self.torrents.get(&number) else { return };
        let others: Vec<P> = torrent.peers.iter().copied().filter(|peer| *peer != from).collect();
        for peer in others {
            let Some(conn) = self.conns.get_mut(&peer) else { continue };
            if conn.settled(&block).is_some() {
                conn.withdrawn(block);
                cx.send(peer, PeerMsg::Cancel(block));
                self.give_back_down(number, block.length.into());
                self.fill(cx, peer);
            }
        }
    }

    // ---- answering

    /// A peer asks for a block.
    fn asked(&mut self, cx: &mut Cx<'_, Self>, peer: P, block: Block) {
        let Some((torrent, conn)) = self.pair(peer) else { return };
        let whole = torrent.info.as_ref().map_or(0, |info| {
            // Pad files may be asked for (BEP 47).
            (info.start_of(block.piece) + u64::from(info.piece_length())).min(info.end())
                - info.start_of(block.piece).min(info.end())
        });
        let end = u64::from(block.begin) + u64::from(block.length);
        let has = torrent.picker().is_some_and(|picker| picker.have().contains(block.piece.into()));
        if !has || block.length == 0 || block.length > BLOCK || end > whole {
            // Nobody honest asks for what was not offered.
            return self.hang_up_on(cx, peer);
        }
        if conn.unchoked.is_none() || !self.serving.ask(peer, block) {
            return self.reject(cx, peer, block);
        }
        self.serve(cx);
    }

    /// Tells a peer that it will not get a block, if it wants to hear so.
    fn reject(&mut self, cx: &mut Cx<'_, Self>, peer: P, block: Block) {
        if self.conns.get(&peer).is_some_and(|conn| conn.features.fast) {
            cx.send(peer, PeerMsg::Reject(block));
        }
    }

    /// Begins as many reads as there may be, and as the rates allow.
    pub(super) fn serve(&mut self, cx: &mut Cx<'_, Self>) {
        while let Some((number, peer, block)) = self.next_read(cx) {
            let Some(torrent) = self.conns.get(&peer).map(|conn| conn.torrent) else { continue };
            self.spend_up(torrent, block.length.into());
            cx.start(TorrentJob { torrent, tag: Tag::Serve(number), work: Work::Read(block) });
        }
    }

    /// A block was read for a peer, or could not be; which it was.
    pub(super) fn served(
        &mut self,
        cx: &mut Cx<'_, Self>,
        number: u64,
        data: Option<Bytes>,
    ) -> Option<Block> {
        let (peer, block) = self.serving.read(number)?;
        if let Some((torrent, conn)) = self.pair(peer) {
            let of = torrent.number;
            match data.filter(|_| conn.unchoked.is_some()) {
                Some(data) => {
                    let bytes = data.len() as u64;
                    conn.up.add(bytes);
                    conn.uploaded += bytes;
                    (conn.told, conn.traded) = (cx.now(), cx.now());
                    torrent.up.add(bytes);
                    torrent.uploaded += bytes;
                    cx.send(peer, PeerMsg::Piece { piece: block.piece, begin: block.begin, data });
                }
                None => {
                    self.give_back_up(of, block.length.into());
                    self.reject(cx, peer, block);
                }
            }
        }
        self.serve(cx);
        Some(block)
    }

    // ---- choking

    /// Lets a peer ask from now on.
    pub(super) fn unchoke(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let now = cx.now();
        if let Some(conn) = self.conns.get_mut(&peer).filter(|conn| conn.unchoked.is_none()) {
            conn.unchoked = Some(now);
            cx.send(peer, PeerMsg::Unchoke);
        }
    }

    /// Lets a peer ask for nothing more.
    pub(super) fn choke(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        if let Some(conn) = self.conns.get_mut(&peer).filter(|conn| conn.unchoked.is_some()) {
            conn.unchoked = None;
            cx.send(peer, PeerMsg::Choke);
            for block in self.serving.gone(peer) {
                self.reject(cx, peer, block);
            }
        }
    }

    /// A peer wants something: while a slot is free it need not wait for the next round.
    fn welcome(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let slots = self.config.slots;
        let Some((torrent, _)) = self.pair(peer).filter(|(torrent, _)| torrent.serves()) else { return };
        let peers: Vec<P> = torrent.peers.iter().copied().collect();
        let takes =
            |peer: &P| self.conns.get(peer).is_some_and(|conn| conn.unchoked.is_some() && conn.interested);
        if peers.iter().filter(|peer| takes(peer)).count() < slots {
            self.unchoke(cx, peer);
        }
    }
}
