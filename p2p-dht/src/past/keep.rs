//! What a node does that should keep a file: it keeps it, or has another of its leaves do so (§3.3); and it gives it, and lets
//! it go.

use bytes::Bytes;
use p2p_core::{Cx, JobError, Key, Keyed};

use super::certificate::{Certificate, Reclaim};
use super::msg::{Fetched, PastMsg, PastRefusal, Verdict};
use super::node::{Held, JobFor, PastNode, Place, Question};
use super::store::{KeepError, Kept, PastJob};

/// How many bytes of files wait at most for other leaves to keep them.
const MAX_DIVERTING: usize = 64 << 20;
/// How many leaves are asked to keep a file that have it already, in the place of another.
const TRIED: usize = 8;

/// A file that is being written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keeping<P> {
    kept: Kept,
    place: Place<P>,
    answer: Answer<P>,
}

/// Who is told what has become of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer<P> {
    to: P,
    id: u32,
    /// The file, and the hash of its content.
    of: (Key, Key),
    /// Who waits for a receipt.
    client: Option<(P, u32)>,
}

/// A file that another node is asked to keep.
#[derive(Clone, Debug)]
pub(super) struct Diverting<P> {
    certificate: Certificate,
    content: Bytes,
    tried: Vec<P>,
    answer: Answer<P>,
}

impl<P: Keyed> PastNode<P> {
    // ---- as one of the k nearest

    pub(super) fn on_store(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        id: u32,
        certificate: Certificate,
        content: Bytes,
        client: Option<(P, u32)>,
    ) {
        let answer = Answer { to: from, id, of: (certificate.file(), certificate.content()), client };
        let kept = Kept::of(&certificate);
        if self.files.get(&kept.file).is_some_and(|held| held.place == Place::At(from)) {
            // Whom the pointer leads to keeps it for another.
            self.forget(&kept.file);
        }
        if let Some(result) = self.look_at(&kept, &certificate, &content) {
            let diverted = self.files.get(&kept.file).is_some_and(|held| matches!(held.place, Place::At(_)));
            if let (Ok(()), Some(held)) = (result, self.files.get_mut(&kept.file))
                && matches!(held.place, Place::For(_))
            {
                // It is one of the nearest itself now.
                held.place = Place::Here;
            }
            return self.answer(cx, answer, result, diverted);
        }
        let k = certificate.replicas().into();
        if !self.nearest(&kept.file, k).contains(&self.me()) {
            return self.answer(cx, answer, Err(PastRefusal::NotResponsible), false);
        }
        match self.has_room(kept.size, self.config.primary) {
            true => self.keep(cx, Keeping { kept, place: Place::Here, answer }, certificate, content),
            // Nor is it passed on to others by nobody's word.
            false if self.diverting() >= MAX_DIVERTING => {
                self.answer(cx, answer, Err(PastRefusal::Busy), false);
            }
            false => {
                self.writing.insert(kept.file);
                let job = PastJob::Check { certificate: certificate.clone(), content: content.clone() };
                let diverting = Diverting { certificate, content, tried: Vec::new(), answer };
                self.start(cx, job, JobFor::Divert(Box::new(diverting)));
            }
        }
    }

    /// What can be said of a file without writing it.
    fn look_at(
        &self,
        kept: &Kept,
        certificate: &Certificate,
        content: &[u8],
    ) -> Option<Result<(), PastRefusal>> {
        if !certificate.is_plausible(content) {
            return Some(Err(PastRefusal::Invalid));
        }
        match self.files.get(&kept.file) {
            Some(held) if held.tag == kept.tag => Some(Ok(())),
            Some(_) => Some(Err(PastRefusal::Exists)),
            None if !self.scanned || self.is_busy() || self.writing.contains(&kept.file) => {
                Some(Err(PastRefusal::Busy))
            }
            None => None,
        }
    }

    /// Whether a file takes no more than this part of what is free (§3.3.1).
    fn has_room(&self, size: u64, part: f64) -> bool {
        let entries = self.files.len() + self.writing.len();
        let free = self.free();
        entries < self.config.max_files && size <= free && size as f64 <= part * free as f64
    }

    fn keep(&mut self, cx: &mut Cx<'_, Self>, keeping: Keeping<P>, certificate: Certificate, content: Bytes) {
        self.writing.insert(keeping.kept.file);
        self.used += keeping.kept.size;
        self.start(cx, PastJob::Keep { certificate, content }, JobFor::Keep(keeping));
    }

    pub(super) fn written(
        &mut self,
        cx: &mut Cx<'_, Self>,
        keeping: Keeping<P>,
        result: Result<(), KeepError>,
    ) {
        let Keeping { kept: Kept { file, size, tag, replicas }, place, answer } = keeping;
        self.writing.remove(&file);
        let result = match result {
            Ok(()) => {
                self.files.insert(file, Held { size, tag, replicas, place });
                Ok(())
            }
            Err(why) => {
                self.used -= size;
                Err(match why {
                    KeepError::Forged => PastRefusal::Invalid,
                    KeepError::Failed(_) => PastRefusal::Failed,
                })
            }
        };
        self.answer(cx, answer, result, false);
    }

    fn answer(
        &mut self,
        cx: &mut Cx<'_, Self>,
        answer: Answer<P>,
        result: Result<(), PastRefusal>,
        diverted: bool,
    ) {
        let Answer { to, id, of: (file, content), client } = answer;
        self.tell(cx, to, PastMsg::Stored { id, result });
        if let (Ok(()), Some((client, ticket))) = (result, client) {
            self.tell(cx, client, PastMsg::Receipt { ticket, file, content, diverted });
        }
    }

    // ---- replica diversion

    /// How many bytes wait for others to keep them.
    fn diverting(&self) -> usize {
        let asked = self.asked.iter().filter_map(|(_, question)| match question {
            Question::Divert(diverting) => Some(diverting),
            _ => None,
        });
        let checked = self.jobs.values().filter_map(|job| match job {
            JobFor::Divert(diverting) => Some(diverting),
            _ => None,
        });
        asked.chain(checked).map(|diverting| diverting.content.len()).sum()
    }

    /// A file for which there is no room here is checked.
    pub(super) fn divert_if(
        &mut self,
        cx: &mut Cx<'_, Self>,
        diverting: Diverting<P>,
        genuine: Result<bool, JobError>,
    ) {
        self.writing.remove(&diverting.certificate.file());
        match genuine {
            Ok(true) => self.divert(cx, diverting),
            Ok(false) => self.answer(cx, diverting.answer, Err(PastRefusal::Invalid), false),
            Err(_) => self.answer(cx, diverting.answer, Err(PastRefusal::Failed), false),
        }
    }

    /// Asks the leaf that has most free, of those that are not to keep the file themselves; there is no use in asking one that
    /// has too little, as far as is known.
    fn divert(&mut self, cx: &mut Cx<'_, Self>, mut diverting: Diverting<P>) {
        let (file, size) = (diverting.certificate.file(), diverting.certificate.size());
        let nearest = self.nearest(&file, diverting.certificate.replicas().into());
        let others =
            self.spaces.iter().filter(|(peer, _)| !nearest.contains(peer) && !diverting.tried.contains(peer));
        let best = others.max_by_key(|(peer, free)| (**free, **peer)).map(|(peer, free)| (*peer, *free));
        let full = self.files.len() + self.writing.len() >= self.config.max_files;
        match best {
            Some((peer, free)) if !full && size as f64 <= self.config.diverted * free as f64 => {
                self.writing.insert(file);
                diverting.tried.push(peer);
                let (certificate, content) = (diverting.certificate.clone(), diverting.content.clone());
                self.ask(cx, peer, Question::Divert(Box::new(diverting)), |id| PastMsg::Divert {
                    id,
                    certificate,
                    content,
                });
            }
            _ => self.answer(cx, diverting.answer, Err(PastRefusal::Full), false),
        }
    }

    /// The leaf keeps it, or does not: then the whole file goes elsewhere, unless it only keeps it for another already.
    pub(super) fn diverted(
        &mut self,
        cx: &mut Cx<'_, Self>,
        by: P,
        diverting: Diverting<P>,
        result: Result<(), PastRefusal>,
    ) {
        let Kept { file, size, tag, replicas } = Kept::of(&diverting.certificate);
        self.writing.remove(&file);
        match result {
            Ok(()) => {
                self.files.insert(file, Held { size, tag, replicas, place: Place::At(by) });
                self.answer(cx, diverting.answer, Ok(()), true);
            }
            Err(PastRefusal::Holds | PastRefusal::Silent | PastRefusal::Busy)
                if diverting.tried.len() < TRIED =>
            {
                self.divert(cx, diverting);
            }
            Err(PastRefusal::Invalid) => self.answer(cx, diverting.answer, Err(PastRefusal::Invalid), false),
            Err(_) => self.answer(cx, diverting.answer, Err(PastRefusal::Full), false),
        }
    }

    pub(super) fn on_divert(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        id: u32,
        certificate: Certificate,
        content: Bytes,
    ) {
        let answer = Answer { to: from, id, of: (certificate.file(), certificate.content()), client: None };
        let kept = Kept::of(&certificate);
        let result = match self.look_at(&kept, &certificate, &content) {
            // Of one file a node keeps one replica (§3.3.1).
            Some(Ok(())) => match self.files.get(&kept.file).map(|held| held.place) {
                Some(Place::For(peer)) if peer == from => Ok(()),
                _ => Err(PastRefusal::Holds),
            },
            Some(Err(PastRefusal::Busy)) if self.writing.contains(&kept.file) => Err(PastRefusal::Holds),
            Some(refused) => refused,
            None if !self.is_leaf(from) => Err(PastRefusal::NotResponsible),
            None if !self.has_room(kept.size, self.config.diverted) => Err(PastRefusal::Full),
            None => {
                let keeping = Keeping { kept, place: Place::For(from), answer };
                return self.keep(cx, keeping, certificate, content);
            }
        };
        self.answer(cx, answer, result, false);
    }

    // ---- giving

    pub(super) fn on_fetch(&mut self, cx: &mut Cx<'_, Self>, from: P, id: u32, file: Key) {
        if !self.scanned || self.is_busy() {
            return; // It cannot tell: that is not the same as having nothing.
        }
        let found = match self.files.get(&file).map(|held| held.place) {
            Some(Place::Here | Place::For(_)) => {
                return self.start(cx, PastJob::Read(file), JobFor::Fetch { from, id });
            }
            Some(Place::At(peer)) => Fetched::At(peer),
            None => Fetched::Nothing,
        };
        self.tell(cx, from, PastMsg::Fetched { id, found });
    }

    pub(super) fn read(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        id: u32,
        read: Option<(Certificate, Bytes)>,
    ) {
        let found = match read {
            Some((certificate, content)) => Fetched::File { certificate, content },
            None => Fetched::Nothing,
        };
        self.tell(cx, from, PastMsg::Fetched { id, found });
    }

    // ---- letting go

    pub(super) fn on_reclaim(&mut self, cx: &mut Cx<'_, Self>, from: P, id: u32, reclaim: Reclaim) {
        let file = reclaim.file();
        match self.files.get(&file).map(|held| held.place) {
            Some(_) if self.is_busy() => {}
            Some(Place::Here | Place::For(_)) => {
                self.start(cx, PastJob::Reclaim(reclaim), JobFor::Reclaim { from, id, file });
                return;
            }
            // Whoever has it knows whose it is.
            Some(Place::At(peer)) => {
                self.ask(cx, peer, Question::ReclaimAt(from, id, file), |id| PastMsg::Reclaim {
                    id,
                    reclaim,
                });
                return;
            }
            None => {}
        }
        self.tell(cx, from, PastMsg::Reclaimed { id, freed: false });
    }

    /// Whom a pointer leads to has answered a reclaim. If it had nothing to let go, it may have let it go before.
    pub(super) fn reclaimed_at(
        &mut self,
        cx: &mut Cx<'_, Self>,
        at: P,
        (to, id): (P, u32),
        file: Key,
        freed: bool,
    ) {
        if let Some(Held { replicas, place: Place::At(peer), .. }) = self.files.get(&file).copied()
            && peer == at
        {
            match freed {
                true => self.forget(&file),
                false => {
                    let files = vec![(file, replicas)];
                    self.ask(cx, at, Question::Whether(file), |id| PastMsg::Offer { id, files });
                }
            }
        }
        self.tell(cx, to, PastMsg::Reclaimed { id, freed });
    }

    /// And has said whether it is there.
    pub(super) fn is_whether(&mut self, at: P, file: &Key, verdict: Option<Verdict>) {
        let led_there = self.files.get(file).is_some_and(|held| held.place == Place::At(at));
        if led_there && verdict.is_some_and(|verdict| verdict != Verdict::Has) {
            self.forget(file);
        }
    }
}
