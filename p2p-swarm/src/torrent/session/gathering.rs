//! Metadata and hashes: for a link here, and for peers that have only a link.

use std::sync::Arc;

use bytes::Bytes;
use p2p_core::Cx;
use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::{Session, Stage, TorrentId};
use crate::torrent::address::Addressed;
use crate::torrent::command::{SessionEvent, TorrentError};
use crate::torrent::gather::{Hashes, Metadata};
use crate::torrent::merkle::{BLOCK, Node, answer};
use crate::torrent::metainfo::{Info, InfoHashes, Metainfo};
use crate::torrent::peer::Conn;
use crate::torrent::wire::{HashRange, MetadataMsg, PeerMsg};

/// Hashes that are computed in a second to prove others to peers, over all of them; more requests are rejected. 2^17: some
/// 20 ms.
pub(super) const HASH_BUDGET: usize = 1 << 17;

/// Whether bytes are the dictionary that these names are hashes of.
fn is_named(raw: &[u8], hashes: &InfoHashes) -> bool {
    let v1 = hashes.v1.is_none_or(|hash| Sha1::digest(raw)[..] == hash[..]);
    v1 && hashes.v2.is_none_or(|hash| Sha256::digest(raw)[..] == hash[..])
}

/// Whether a peer answers hash requests: it speaks of the second version's swarm, or says that it could.
fn knows_hashes(conn: &Conn, hashes: &InfoHashes) -> bool {
    let v2 = hashes.v2.and_then(|hash| hash.first_chunk::<20>().copied());
    conn.features.v2 || v2 == Some(conn.swarm)
}

impl<P: Addressed> Session<P> {
    /// Asks a peer for what a link leaves out, as far as it is missing.
    pub(super) fn gather(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let now = cx.now();
        let Some((torrent, conn)) = self.pair(peer) else { return };
        match &mut torrent.stage {
            Stage::Metadata(metadata) => {
                let Some(size) = conn.metadata_size.filter(|_| conn.wants_metadata) else { return };
                if metadata.from(now).is_none() {
                    conn.metadata_asked = true;
                    for piece in metadata.ask(peer, size, now).unwrap_or_default() {
                        cx.send(peer, PeerMsg::Metadata(MetadataMsg::Request(piece)));
                    }
                } else if !conn.metadata_asked {
                    metadata.others_claim(size);
                }
            }
            Stage::Hashes(hashes) if conn.name.is_some() && knows_hashes(conn, &torrent.hashes) => {
                while let Some(range) = hashes.ask(peer, now) {
                    cx.send(peer, PeerMsg::HashRequest(range));
                }
            }
            Stage::Hashes(_) | Stage::Opening(_) | Stage::Running(_) | Stage::Failed(_) => {}
        }
    }

    /// As [`Session::gather`], of every peer of a torrent.
    pub(super) fn gather_all(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        self.layered(cx, number);
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        match &mut torrent.stage {
            Stage::Metadata(_) => {}
            Stage::Hashes(hashes) => hashes.reclaim(cx.now(), None),
            Stage::Opening(_) | Stage::Running(_) | Stage::Failed(_) => return,
        }
        let mut peers: Vec<P> = torrent.peers.iter().copied().collect();
        if !peers.is_empty() {
            let turn = cx.rng().index(peers.len());
            peers.rotate_left(turn);
        }
        // Whoever was asked last and did not answer comes last.
        if let Stage::Metadata(metadata) = &torrent.stage {
            peers.sort_by_key(|peer| metadata.was_asked(*peer));
        }
        peers.into_iter().for_each(|peer| self.gather(cx, peer));
    }

    // ---- metadata

    /// A peer asks for metadata, or sends some.
    pub(super) fn metadata(&mut self, cx: &mut Cx<'_, Self>, peer: P, msg: MetadataMsg) {
        let now = cx.now();
        let Some((torrent, conn)) = self.pair(peer) else { return };
        match msg {
            MetadataMsg::Request(piece) => {
                if !conn.wants_metadata {
                    return;
                }
                let raw = torrent.info.as_ref().map(|info| info.raw());
                let begin = piece as usize * BLOCK as usize;
                let answer = match raw.filter(|raw| begin < raw.len()) {
                    Some(raw) => MetadataMsg::Data {
                        piece,
                        total: raw.len() as u32,
                        data: raw.slice(begin..raw.len().min(begin + BLOCK as usize)),
                    },
                    None => MetadataMsg::Reject(piece),
                };
                cx.send(peer, PeerMsg::Metadata(answer));
            }
            MetadataMsg::Data { piece, data, .. } => {
                let Stage::Metadata(metadata) = &mut torrent.stage else { return };
                let (next, whole) = metadata.came(peer, piece, data, now);
                if let Some(next) = next {
                    cx.send(peer, PeerMsg::Metadata(MetadataMsg::Request(next)));
                }
                if let Some(raw) = whole {
                    self.gathered(cx, peer, raw);
                }
            }
            MetadataMsg::Reject(_) => {
                if let Stage::Metadata(metadata) = &mut torrent.stage {
                    metadata.refused(peer);
                    conn.metadata_size = None;
                }
                let number = torrent.number;
                self.gather_all(cx, number);
            }
        }
    }

    /// All metadata has come from one peer.
    fn gathered(&mut self, cx: &mut Cx<'_, Self>, peer: P, raw: Bytes) {
        let Some((torrent, _)) = self.pair(peer) else { return };
        let number = torrent.number;
        if !is_named(&raw, &torrent.hashes) {
            torrent.stage = Stage::Metadata(Metadata::default());
            self.ban(cx, number, peer);
            return self.gather_all(cx, number);
        }
        let folder = torrent.folder.clone();
        let info = match Info::parse(raw) {
            Ok(info) => Arc::new(info),
            // It is what the link stands for, and nobody else would send anything better.
            Err(error) => return self.give_up(cx, number, error.into()),
        };
        if let Some(path) = self.taken(Some(number), &info, &folder) {
            return self.give_up(cx, number, TorrentError::Taken(path));
        }
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        torrent.name = Some(info.name().into());
        torrent.info = Some(info.clone());
        // A link may have named one of two swarms, and another link the other: they are one torrent, which this one is.
        let hashes = info.hashes();
        torrent.hashes = hashes;
        let named = hashes.swarms().filter_map(|swarm| self.swarms.get(&swarm).copied());
        let others: Vec<u64> = named.filter(|other| *other != number).collect();
        others.into_iter().for_each(|other| self.give_up(cx, other, TorrentError::Twice));
        self.learn_swarms(&hashes, number);
        self.forget_open_sources(number);
        self.leave_strangers_to_trackers(cx, number);
        if let Some(torrent) = self.torrents.get_mut(&number) {
            torrent.find_sources(&self.announcers, cx.rng());
            torrent.stage = Stage::Hashes(Hashes::new(info, cx.now()));
        }
        self.gather_all(cx, number);
    }

    /// Nobody but trackers may tell of a private torrent's peers (BEP 27): whom this end has dialled since somebody else has is
    /// left alone. Who has connected has heard of it from a tracker: nobody else was told of this end while it was not known.
    fn leave_strangers_to_trackers(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get_mut(&number).filter(|torrent| torrent.private()) else {
            return;
        };
        torrent.candidates.only_from_trackers();
        let tracked = |conn: &Conn| conn.listens.is_some_and(|addr| torrent.candidates.knows(&addr));
        let of = self.conns.iter().filter(|(_, conn)| conn.torrent == number && conn.dialled);
        let strangers: Vec<P> = of.filter(|(_, conn)| !tracked(conn)).map(|(peer, _)| *peer).collect();
        strangers.into_iter().for_each(|peer| self.hang_up_on(cx, peer));
    }

    /// If no hashes are missing, or none that the torrent cannot do without, the files are opened.
    fn layered(&mut self, cx: &mut Cx<'_, Self>, number: u64) {
        let Some(torrent) = self.torrents.get_mut(&number) else { return };
        let Stage::Hashes(hashes) = &torrent.stage else { return };
        let Some(layers) = hashes.whole().or_else(|| hashes.spared(cx.now())) else { return };
        let Some(info) = torrent.info.clone() else { return };
        torrent.layers = Arc::new(layers.clone());
        torrent.open(cx);
        cx.emit(SessionEvent::Metadata(TorrentId(number), Metainfo::bare(info, layers)));
    }

    // ---- hashes

    /// A peer asks for part of a tree. Only layers of pieces are kept here.
    pub(super) fn asked_for_hashes(&mut self, cx: &mut Cx<'_, Self>, peer: P, range: HashRange) {
        let budget = self.hash_budget;
        let Some((torrent, _)) = self.pair(peer) else { return };
        let mut cost = 0;
        let nodes = torrent.info.as_ref().and_then(|info| {
            let layer = torrent.layers.get(&range.root).filter(|_| range.base == info.piece_level())?;
            // One answer is always given, however long the layer is.
            if layer.len() > budget && budget < HASH_BUDGET {
                return None;
            }
            cost = layer.len();
            answer(layer, info.tree_height(layer.len()), range.range())
        });
        self.hash_budget = budget.saturating_sub(cost);
        cx.send(
            peer,
            match nodes {
                Some(nodes) => PeerMsg::Hashes(range, nodes),
                None => PeerMsg::HashReject(range),
            },
        );
    }

    pub(super) fn hashes(&mut self, cx: &mut Cx<'_, Self>, peer: P, range: HashRange, nodes: &[Node]) {
        let Some((torrent, _)) = self.pair(peer) else { return };
        let number = torrent.number;
        let Stage::Hashes(hashes) = &mut torrent.stage else { return };
        if !hashes.came(peer, range, nodes, cx.now()) {
            self.ban(cx, number, peer);
            return self.gather_all(cx, number);
        }
        self.layered(cx, number);
        self.gather(cx, peer);
    }

    pub(super) fn hashes_rejected(&mut self, cx: &mut Cx<'_, Self>, peer: P, range: HashRange) {
        let Some((torrent, _)) = self.pair(peer) else { return };
        if let Stage::Hashes(hashes) = &mut torrent.stage {
            hashes.refused(peer, range);
            // It has none, or does not want to: others are asked, and it again in the end.
            let others: Vec<P> = torrent.peers.iter().copied().filter(|other| *other != peer).collect();
            others.into_iter().for_each(|other| self.gather(cx, other));
        }
    }
}
