//! What others want: so many ranges at once, those first who have given something.

use std::collections::BTreeMap;
use std::fmt;

use p2p_core::{Cx, PeerId};

use super::job::{FolderError, ShareOutput, SharingJob};
use super::msg::{MAX_PART, Refusal, SharingMsg, Transfer, Wanted};
use super::{JobOf, Sharer, Sharing, SharingTimer};
use crate::place::Place;
use crate::search::ContentHash;

/// How much of a range goes out as fast as it is read, in bytes.
const AT_ONCE: u64 = 256 << 10;

/// The ranges that are sent, and those that wait, by whose they are and their number.
pub(super) struct Uploads<P> {
    active: BTreeMap<(P, u32), Upload>,
    /// The oldest first.
    waiting: Vec<(P, u32, Upload)>,
}

impl<P> Default for Uploads<P> {
    fn default() -> Uploads<P> {
        Uploads { active: BTreeMap::new(), waiting: Vec::new() }
    }
}

impl<P> fmt::Debug for Uploads<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} uploads, {} wait", self.active.len(), self.waiting.len())
    }
}

/// A range of a file on its way.
#[derive(Clone, Debug)]
struct Upload {
    account: PeerId,
    name: String,
    size: u64,
    hash: Option<ContentHash>,
    start: u64,
    at: u64,
    end: u64,
}

impl<S: Sharer> Sharing<S> {
    fn say(&self, cx: &mut Cx<'_, Self>, to: S::Peer, msg: Transfer) {
        cx.send(to, SharingMsg::Transfer(msg));
    }

    /// Somebody wants a range of a file.
    pub(super) fn on_get(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: S::Peer,
        id: u32,
        wanted: &Wanted,
        start: u64,
        end: u64,
    ) {
        let Some(item) = self.search.shared(wanted) else {
            return self.say(cx, from, Transfer::No { id, why: Refusal::Missing });
        };
        let (size, end) = (item.size, end.min(item.size));
        if start >= end {
            return self.say(cx, from, Transfer::No { id, why: Refusal::Range { size } });
        }
        let sha1 = item.hashes.iter().find(|hash| matches!(hash, ContentHash::Sha1(_)));
        let upload = Upload {
            account: from.account(),
            name: item.name.clone(),
            size,
            hash: wanted.hash.filter(|hash| item.hashes.contains(hash)).or(sha1.copied()),
            start,
            at: start,
            end,
        };
        if self.uploads.active.contains_key(&(from, id)) {
            return;
        }
        if self.has_room(&upload.account) {
            return self.begin_upload(cx, from, id, upload);
        }
        let theirs = self.uploads.waiting.iter().filter(|(.., other)| other.account == upload.account);
        if theirs.count() >= self.config.queue_each {
            return self.turn_away(cx, from, id);
        }
        let given = self.received_from(from);
        if self.uploads.waiting.len() >= self.config.queue {
            // The youngest of those who have given least makes room for who has given more.
            let waiting = self.uploads.waiting.iter().enumerate().rev();
            let each = waiting.map(|(at, (peer, ..))| (self.received_from(*peer), at));
            let least = each.min_by_key(|(theirs, _)| *theirs);
            match least {
                Some((theirs, at)) if theirs < given => {
                    let (peer, number, _) = self.uploads.waiting.remove(at);
                    self.turn_away(cx, peer, number);
                }
                _ => return self.turn_away(cx, from, id),
            }
        }
        self.uploads.waiting.push((from, id, upload));
        cx.set_timer(self.config.queue_wait, SharingTimer::Upload(from, id));
    }

    fn turn_away(&mut self, cx: &mut Cx<'_, Self>, peer: S::Peer, id: u32) {
        self.tally.busy += 1;
        cx.clear_timer(SharingTimer::Upload(peer, id));
        let seconds = self.config.come_again.as_secs().clamp(1, 60) as u16;
        self.say(cx, peer, Transfer::No { id, why: Refusal::Busy { seconds } });
    }

    fn has_room(&self, account: &PeerId) -> bool {
        let active = &self.uploads.active;
        let theirs = active.values().filter(|upload| upload.account == *account).count();
        active.len() < self.config.slots && theirs < self.config.slots_each
    }

    fn begin_upload(&mut self, cx: &mut Cx<'_, Self>, peer: S::Peer, id: u32, upload: Upload) {
        self.uploads.active.insert((peer, id), upload);
        self.read_next(cx, peer, id);
    }

    fn read_next(&mut self, cx: &mut Cx<'_, Self>, peer: S::Peer, id: u32) {
        let Some(upload) = self.uploads.active.get(&(peer, id)) else { return };
        let len = (upload.end - upload.at).min(MAX_PART as u64) as usize;
        let job = cx.start(SharingJob::Read { name: upload.name.clone(), at: upload.at, len });
        self.jobs.insert(job, JobOf::Upload(peer, id));
    }

    /// A part was read.
    pub(super) fn on_read(
        &mut self,
        cx: &mut Cx<'_, Self>,
        peer: S::Peer,
        id: u32,
        read: Result<ShareOutput, FolderError>,
    ) {
        let Some(upload) = self.uploads.active.get_mut(&(peer, id)) else { return };
        let wanted = (upload.end - upload.at).min(MAX_PART as u64);
        let first = upload.at == upload.start;
        match read {
            Ok(ShareOutput::Read(data)) if data.len() as u64 == wanted => {
                let (at, hash) = (upload.at, upload.hash.filter(|_| first));
                let (end, size) = (upload.end, upload.size);
                upload.at += wanted;
                let (begun, whole) = (upload.at - upload.start, upload.at == upload.end);
                self.tally.sent += wanted;
                self.say(cx, peer, Transfer::Part { id, at, end, size, hash, data });
                if whole {
                    self.upload_over(cx, peer, id);
                } else if begun < AT_ONCE {
                    self.read_next(cx, peer, id);
                } else {
                    let nanos = wanted.saturating_mul(1_000_000_000) / self.config.rate;
                    let wait = std::time::Duration::from_nanos(nanos);
                    cx.set_timer(wait, SharingTimer::Upload(peer, id));
                }
            }
            // The file is gone, or is shorter now: what was promised cannot be kept.
            _ => {
                let why = Refusal::Missing;
                self.say(
                    cx,
                    peer,
                    if first { Transfer::No { id, why } } else { Transfer::End { id: Some(id) } },
                );
                self.upload_over(cx, peer, id);
            }
        }
    }

    /// Time for the next part, or whoever waits has waited long enough.
    pub(super) fn on_pace(&mut self, cx: &mut Cx<'_, Self>, peer: S::Peer, id: u32) {
        if self.uploads.active.contains_key(&(peer, id)) {
            return self.read_next(cx, peer, id);
        }
        let waits =
            self.uploads.waiting.iter().position(|(other, number, _)| (*other, *number) == (peer, id));
        if let Some(at) = waits {
            self.uploads.waiting.remove(at);
            self.turn_away(cx, peer, id);
        }
    }

    fn upload_over(&mut self, cx: &mut Cx<'_, Self>, peer: S::Peer, id: u32) {
        self.uploads.active.remove(&(peer, id));
        cx.clear_timer(SharingTimer::Upload(peer, id));
        self.next_uploads(cx);
    }

    /// Lets those begin who wait, as far as there is room: who has given most first, and of those the oldest.
    fn next_uploads(&mut self, cx: &mut Cx<'_, Self>) {
        loop {
            let waiting = self.uploads.waiting.iter().enumerate();
            let may = waiting.filter(|(_, (_, _, upload))| self.has_room(&upload.account));
            let best = may.map(|(at, (peer, ..))| (std::cmp::Reverse(self.received_from(*peer)), at)).min();
            let Some((_, at)) = best else { return };
            let (peer, id, upload) = self.uploads.waiting.remove(at);
            cx.clear_timer(SharingTimer::Upload(peer, id));
            self.begin_upload(cx, peer, id, upload);
        }
    }

    /// Whoever has asked wants it no more, or whoever was asked gives no more.
    pub(super) fn on_end(&mut self, cx: &mut Cx<'_, Self>, from: S::Peer, id: u32) {
        self.uploads.waiting.retain(|(other, number, _)| (*other, *number) != (from, id));
        self.upload_over(cx, from, id);
        self.on_broken_off(cx, from, id);
    }

    /// A peer is gone.
    pub(super) fn forget_uploads(&mut self, cx: &mut Cx<'_, Self>, peer: S::Peer) {
        let theirs = self.uploads.active.range((peer, 0)..=(peer, u32::MAX));
        let active: Vec<u32> = theirs.map(|((_, id), _)| *id).collect();
        for id in &active {
            self.uploads.active.remove(&(peer, *id));
            cx.clear_timer(SharingTimer::Upload(peer, *id));
        }
        self.uploads.waiting.retain(|(other, id, _)| {
            if *other == peer {
                cx.clear_timer(SharingTimer::Upload(peer, *id));
            }
            *other != peer
        });
        if !active.is_empty() {
            self.next_uploads(cx);
        }
    }

    /// A peer has given so much.
    pub(super) fn credit(&mut self, peer: S::Peer, bytes: u64) {
        self.tally.received += bytes;
        let account = peer.account();
        // What was given long ago moves to the newer half, and is not forgotten while more comes.
        let before = self.accounts.remove(&account).unwrap_or(0);
        self.accounts.insert(account, before.saturating_add(bytes));
    }
}
