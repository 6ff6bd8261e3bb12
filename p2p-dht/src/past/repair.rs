//! When leaves come and go, other nodes are nearest to a file (§3.5): whoever has one offers it to those who should, and lets it
//! go when all of them have it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use p2p_core::{Cx, Key, Keyed, OpId, Protocol};
use p2p_overlay::{Find, Looked, Overlay};

use super::certificate::Certificate;
use super::msg::{OFFERED_FILES, PastMsg, PastRefusal, Verdict};
use super::node::{Held, JobFor, PastNode, PastTimer, Place, Question};
use super::store::PastJob;

/// How many offers, and how many copies, are on their way at once.
const AT_ONCE: usize = 8;

/// One look at all files: what is to be offered to whom, and what to be copied. No more than there are files and replicas.
#[derive(Clone, Debug)]
pub(super) struct Repair<P> {
    offers: VecDeque<(P, Vec<Key>)>,
    copies: VecDeque<(P, Key)>,
    /// Files far from here, and the lookups that say who should have them.
    far: Vec<(Key, u8)>,
    looking: BTreeMap<OpId, Key>,
    offering: usize,
    copying: usize,
    /// Files that others should keep, and how many of those have not said that they do.
    spare: BTreeMap<Key, usize>,
    /// Leaves have changed meanwhile.
    again: bool,
    /// [`PastNode::repair_on`] runs, and was called by what it has begun.
    running: bool,
    more: bool,
}

impl<P> Default for Repair<P> {
    fn default() -> Self {
        let (offers, copies, far, looking, offering, copying, spare) = Default::default();
        let (again, running, more) = Default::default();
        Repair { offers, copies, far, looking, offering, copying, spare, again, running, more }
    }
}

impl<P: Keyed> PastNode<P> {
    pub(super) fn repair_later(&mut self, cx: &mut Cx<'_, Self>) {
        let period = self.config.repair;
        if !period.is_zero() {
            let after = cx.rng().duration(period / 2, period * 3 / 2);
            cx.set_timer(after, PastTimer::Repair);
        }
    }

    pub(super) fn settle_later(&mut self, cx: &mut Cx<'_, Self>) {
        let settle = self.config.settle;
        let after = cx.rng().duration(settle / 2, settle * 3 / 2);
        cx.set_timer(after, PastTimer::Settled);
    }

    pub(super) fn begin_repair(&mut self, cx: &mut Cx<'_, Self>) {
        if !self.scanned {
            if !self.jobs.values().any(|job| matches!(job, JobFor::Scan)) {
                self.start(cx, PastJob::Scan, JobFor::Scan);
            }
            return self.settle_later(cx);
        }
        if !self.pastry.is_joined() {
            return self.settle_later(cx); // It cannot tell who should have what.
        }
        let repair = &self.repair;
        if repair.offering + repair.copying + repair.looking.len() > 0 {
            self.repair.again = true;
            return;
        }
        self.repair = Repair::default();
        let me = self.me();
        let mut offers: BTreeMap<P, Vec<Key>> = BTreeMap::new();
        let (mut lost, mut own) = (Vec::new(), Vec::new());
        for (file, held) in &self.files {
            let nearest = self.nearest(file, held.replicas.into());
            match held.place {
                Place::At(peer) if !self.is_leaf(peer) => {
                    lost.push(*file);
                    continue;
                }
                // Is it there?
                Place::At(peer) if nearest.contains(&me) => {
                    offers.entry(peer).or_default().push(*file);
                    continue;
                }
                Place::At(_) | Place::Here | Place::For(_) => {}
            }
            // From far away some of them are not seen.
            if nearest.len() < held.replicas.into() && !nearest.contains(&me) {
                self.repair.far.push((*file, held.replicas));
                continue;
            }
            if matches!(held.place, Place::For(_)) && nearest.contains(&me) {
                own.push(*file);
            }
            // One that is kept in another's place is spare, too, when that one says that it has it itself.
            if !nearest.contains(&me) {
                self.repair.spare.insert(*file, nearest.len());
            }
            for peer in nearest.into_iter().filter(|peer| *peer != me) {
                offers.entry(peer).or_default().push(*file);
            }
        }
        // Whoever it was kept for has a pointer here, and gets one of its own.
        for file in own {
            if let Some(held) = self.files.get_mut(&file) {
                held.place = Place::Here;
            }
        }
        for file in lost {
            self.forget(&file);
        }
        for (peer, files) in offers {
            self.repair.offers.extend(files.chunks(OFFERED_FILES).map(|files| (peer, files.to_vec())));
        }
        self.repair_on(cx);
    }

    /// Who should have a file that is far from here.
    pub(super) fn found(&mut self, cx: &mut Cx<'_, Self>, find: OpId, looked: Looked<P>) {
        let Some(file) = self.repair.looking.remove(&find) else { return };
        let me = self.me();
        if let Ok(found) = looked
            && !found.peers.contains(&me)
        {
            self.repair.spare.insert(file, found.peers.len());
            self.repair.offers.extend(found.peers.into_iter().map(|peer| (peer, vec![file])));
        }
        self.repair_on(cx);
    }

    /// Begins as much as may be under way. What ends at once, as a lookup that cannot be made, calls this again: it is not nested
    /// then, but done once more.
    fn repair_on(&mut self, cx: &mut Cx<'_, Self>) {
        self.repair.more = true;
        if std::mem::replace(&mut self.repair.running, true) {
            return;
        }
        while std::mem::take(&mut self.repair.more) {
            self.repair_step(cx);
        }
        self.repair.running = false;
    }

    fn repair_step(&mut self, cx: &mut Cx<'_, Self>) {
        while self.repair.copying < AT_ONCE
            && !self.is_busy()
            && let Some((to, file)) = self.repair.copies.pop_front()
        {
            self.repair.copying += 1;
            self.start(cx, PastJob::Read(file), JobFor::Copy { to, file });
        }
        while self.repair.looking.len() < AT_ONCE
            && let Some((file, replicas)) = self.repair.far.pop()
        {
            let find = cx.op();
            self.repair.looking.insert(find, file);
            self.below(cx, |pastry, cx| pastry.on_command(cx, find, Find::key(file).replicas(replicas)));
        }
        while self.repair.offering < AT_ONCE
            && self.repair.copies.is_empty()
            && let Some((peer, files)) = self.repair.offers.pop_front()
        {
            self.repair.offering += 1;
            let of = |file: Key| (file, self.files.get(&file).map_or(1, |held| held.replicas));
            let offer = files.iter().copied().map(of).collect();
            self.ask(cx, peer, Question::Offer(files), |id| PastMsg::Offer { id, files: offer });
        }
        let over = self.repair.offering + self.repair.copying + self.repair.looking.len() == 0;
        if over && std::mem::take(&mut self.repair.again) {
            self.settle_later(cx);
        }
    }

    pub(super) fn on_offer(&mut self, cx: &mut Cx<'_, Self>, from: P, id: u32, files: &[(Key, u8)]) {
        if !self.scanned {
            return; // It cannot tell.
        }
        let verdict = |(file, replicas): &(Key, u8)| match self.files.get(file).map(|held| held.place) {
            Some(Place::At(peer)) if peer == from => Verdict::Points,
            Some(_) => Verdict::Has,
            None if self.writing.contains(file) => Verdict::Not,
            None => match self.nearest(file, (*replicas).into()).contains(&self.me()) {
                true => Verdict::Wants,
                false => Verdict::Not,
            },
        };
        let verdicts = files.iter().take(OFFERED_FILES).map(verdict).collect();
        self.tell(cx, from, PastMsg::Wanted { id, verdicts });
    }

    /// A peer has answered an offer; with nothing, if it has not.
    pub(super) fn wanted(&mut self, cx: &mut Cx<'_, Self>, peer: P, files: &[Key], verdicts: &[Verdict]) {
        self.repair.offering = self.repair.offering.saturating_sub(1);
        for (file, verdict) in files.iter().zip(verdicts) {
            let led_here = self.files.get(file).is_some_and(|held| held.place == Place::At(peer));
            match verdict {
                // A pointer that leads nowhere; whoever has the file offers it then.
                Verdict::Wants | Verdict::Not | Verdict::Points if led_here => self.forget(file),
                Verdict::Has => self.is_there(cx, file),
                Verdict::Points => self.is_pointed_at(peer, file),
                Verdict::Wants => self.repair.copies.push_back((peer, *file)),
                Verdict::Not => {}
            }
        }
        self.repair_on(cx);
    }

    /// One who should keep a file has a pointer to this node. It may have this replica for its own if it is nobody's any more;
    /// otherwise it needs one.
    fn is_pointed_at(&mut self, peer: P, file: &Key) {
        let Some(Held { replicas, place, .. }) = self.files.get(file).copied() else { return };
        match place {
            Place::For(of) if of == peer => drop(self.repair.spare.remove(file)),
            Place::For(of) if !self.nearest(file, replicas.into()).contains(&of) => {
                self.repair.spare.remove(file);
                if let Some(held) = self.files.get_mut(file) {
                    held.place = Place::For(peer);
                }
            }
            Place::Here | Place::For(_) => self.repair.copies.push_back((peer, *file)),
            Place::At(_) => {}
        }
    }

    /// One more of those who should keep a file does. If all do, and this node is none of them, it lets it go.
    fn is_there(&mut self, cx: &mut Cx<'_, Self>, file: &Key) {
        let Some(left) = self.repair.spare.get_mut(file) else { return };
        *left -= 1;
        if *left > 0 {
            return;
        }
        self.repair.spare.remove(file);
        let Some(held) = self.files.get(file) else { return };
        if matches!(held.place, Place::At(_)) {
            return self.forget(file);
        }
        if !self.nearest(file, held.replicas.into()).contains(&self.me()) && !self.is_busy() {
            self.forget(file);
            // Nothing is written under this id before it is gone.
            self.writing.insert(*file);
            self.start(cx, PastJob::Drop(*file), JobFor::Drop(*file));
        }
    }

    /// A file was read that a peer wants.
    pub(super) fn copy(
        &mut self,
        cx: &mut Cx<'_, Self>,
        to: P,
        file: Key,
        read: Option<(Certificate, Bytes)>,
    ) {
        match read {
            Some((certificate, content)) => {
                self.ask(cx, to, Question::Copy(file), |id| PastMsg::Store {
                    id,
                    certificate,
                    content,
                    client: None,
                });
            }
            None => self.copied(cx, to, file, Err(PastRefusal::Failed)),
        }
    }

    pub(super) fn copied(&mut self, cx: &mut Cx<'_, Self>, _: P, file: Key, result: Result<(), PastRefusal>) {
        self.repair.copying = self.repair.copying.saturating_sub(1);
        if result.is_ok() {
            self.is_there(cx, &file);
        }
        self.repair_on(cx);
    }
}
