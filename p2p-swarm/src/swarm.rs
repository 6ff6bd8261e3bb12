//! The machine: every peer runs one, and it both provides and fetches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use p2p_core::{Cx, JobId, Key, Link, OpId, Peer, Pending, Protocol};

use crate::command::{
    AddProviders, Fetch, FetchError, FetchItem, Share, Shared, SwarmCommand, SwarmEvent, SwarmOutcome,
    Unshare,
};
use crate::download::{Asked, Download, Step};
use crate::job::{Blob, Output, Source, StoreError, SwarmDone, SwarmJob, Tag, Work};
use crate::msg::{Part, QuestionId, Refusal, SwarmMsg};
use crate::runs::run_count;
use crate::serve::Serving;
use crate::ticket::Kind;
use crate::worker::Import;

/// How often a fetch looks after what is late.
const TICK: Duration = Duration::from_millis(100);
/// Fetches at a time.
const MAX_FETCHES: usize = 256;

/// How a swarm's node behaves.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// Runs of 256 KiB that one provider is asked for at once, at most. 15: with their proofs they just fit what a node
    /// lets wait for one peer ([`Limits::queue_bytes_per_peer`](p2p_core::Limits), 4 MiB). At 100 ms round trip that
    /// is 40 MB/s from each provider.
    pub window: usize,
    /// Runs that one fetch has asked for and that are not yet written, at most. 64: 16 MiB.
    pub outstanding: usize,
    /// How long a provider may leave a question unanswered. Three in a row, and it counts as gone. 10 s.
    pub silence: Duration,
    /// How long a fetch waits when there is nobody left to ask. 10 s.
    pub patience: Duration,
    /// What a crash may cost: a fetch syncs when this many bytes were written since it last did. 64 MiB.
    pub sync_bytes: u64,
    /// A fetch syncs this often, too, if anything was written. 1 s.
    pub sync_every: Duration,
    /// Runs being read for others at once, over all peers. 64: 16 MiB.
    pub reads: usize,
    /// Questions of one peer that wait; more are refused as [`Refusal::Busy`]. 64.
    pub questions_per_peer: usize,
}

impl Default for SwarmConfig {
    fn default() -> SwarmConfig {
        SwarmConfig {
            window: 15,
            outstanding: 64,
            silence: Duration::from_secs(10),
            patience: Duration::from_secs(10),
            sync_bytes: 64 << 20,
            sync_every: Duration::from_secs(1),
            reads: 64,
            questions_per_peer: 64,
        }
    }
}

/// A node that shares and fetches blobs.
///
/// What it keeps in memory: for each shared blob the tree above its groups (4 MiB for a GiB), for each fetch one bit
/// for each 256 KiB, at most 64 providers, and at most `outstanding` runs. Remote peers can make nothing of it grow
/// but questions that wait, `questions_per_peer` of each of 1,024.
///
/// ```
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_swarm::{Fetch, MemoryFiles, MemoryWorker, Share, Swarm, Target};
///
/// let files = MemoryFiles::default();
/// files.put("song.ogg", vec![7; 1_000_000]);
/// let disk = files.clone();
/// let mut sim = Sim::<Swarm<SimPeer>, MemoryWorker>::with_workers(
///     1, Network::default(), DiskModel::default(), move |_| MemoryWorker::new(disk.clone()));
/// let provider = sim.spawn(|_| Swarm::default());
/// let fetcher = sim.spawn(|_| Swarm::default());
///
/// let (a, b) = (sim.handle(provider), sim.handle(fetcher));
/// let fetched = sim.block_on(async move {
///     let shared = a.ask(Share { path: "song.ogg".into() }).await.unwrap().unwrap();
///     let to = Target::File("copy.ogg".into());
///     b.ask(Fetch { root: shared.root, to, providers: vec![provider], progress: None }).await.unwrap()
/// });
/// assert_eq!(fetched.unwrap().size, 1_000_000);
/// assert_eq!(files.read("copy.ogg"), files.read("song.ogg"));
/// ```
#[derive(Debug)]
pub struct Swarm<P> {
    config: SwarmConfig,
    /// What is shared. Only this node's users add to it.
    blobs: BTreeMap<Key, Held>,
    imports: BTreeSet<OpId>,
    downloads: BTreeMap<u64, Download<P>>,
    next_fetch: u64,
    asks: Pending<P, Asked>,
    /// Tells the answers to this machine from those to one that ran here before.
    session: u64,
    serving: Serving<P, Question>,
}

/// A question of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    id: QuestionId,
    root: Key,
    part: Part,
}

/// A blob, how many times it is shared, and the blobs that are shared along with it.
#[derive(Debug)]
struct Held {
    blob: Blob,
    count: usize,
    files: Vec<Key>,
}

/// The timers of a swarm's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SwarmTimer {
    /// A fetch, by its number, looks after what is late.
    Tick(u64),
}

impl<P: Peer> Default for Swarm<P> {
    fn default() -> Self {
        Swarm::new(SwarmConfig::default())
    }
}

impl<P: Peer> Swarm<P> {
    /// A node that shares nothing yet.
    pub fn new(config: SwarmConfig) -> Swarm<P> {
        Swarm {
            serving: Serving::new(config.reads.max(1), config.questions_per_peer.max(1)),
            config,
            blobs: BTreeMap::new(),
            imports: BTreeSet::new(),
            downloads: BTreeMap::new(),
            next_fetch: 0,
            asks: Pending::with_capacity(1024),
            session: 0,
        }
    }

    /// The roots of what is shared.
    pub fn shared(&self) -> impl ExactSizeIterator<Item = Key> {
        self.blobs.keys().copied()
    }

    // ---- sharing

    fn import(cx: &mut Cx<'_, Self>, op: OpId, import: Box<Import>) {
        cx.start(SwarmJob { tag: Tag::Import(op), lane: None, work: Work::Import(import) });
    }

    fn imported(&mut self, cx: &mut Cx<'_, Self>, op: OpId, result: Result<Output, StoreError>) {
        if !self.imports.contains(&op) {
            return;
        }
        let shared = match result {
            Ok(Output::Importing(import)) => return Self::import(cx, op, import),
            Ok(Output::Imported(blobs)) => self.share(blobs),
            Ok(_) => Err(StoreError::NotOpen),
            Err(error) => Err(error),
        };
        self.imports.remove(&op);
        cx.finish(op, SwarmOutcome::Shared(shared));
    }

    /// Shares blobs: one, or the files of a folder and then its manifest.
    fn share(&mut self, mut blobs: Vec<Blob>) -> Result<Shared, StoreError> {
        let whole = blobs.pop().ok_or(StoreError::NotOpen)?;
        let root = whole.outboard.root();
        let kind = match &whole.source {
            Source::File(_) => Kind::File,
            Source::Memory(_) => Kind::Folder,
        };
        let (size, files) = match kind {
            Kind::File => (whole.outboard.size(), 1),
            Kind::Folder => (blobs.iter().map(|blob| blob.outboard.size()).sum(), blobs.len()),
        };
        let roots: Vec<Key> = blobs.iter().map(|blob| blob.outboard.root()).collect();
        blobs.into_iter().for_each(|blob| self.hold(blob, Vec::new()));
        self.hold(whole, roots);
        Ok(Shared { root, kind, size, files })
    }

    fn hold(&mut self, blob: Blob, files: Vec<Key>) {
        let root = blob.outboard.root();
        match self.blobs.get_mut(&root) {
            // The newer place is the surer one.
            Some(held) => {
                held.count += 1;
                held.blob = blob;
                if !files.is_empty() {
                    held.files = files;
                }
            }
            None => _ = self.blobs.insert(root, Held { blob, count: 1, files }),
        }
    }

    fn unshare(&mut self, root: Key) -> bool {
        let Some(held) = self.blobs.get_mut(&root) else { return false };
        held.count -= 1;
        let files = held.files.clone();
        if held.count == 0 {
            self.blobs.remove(&root);
        }
        for file in files {
            self.unshare(file);
        }
        true
    }

    // ---- providing

    fn asked(&mut self, cx: &mut Cx<'_, Self>, peer: P, question: Question) {
        let Question { id, .. } = question;
        if self.run_of(&question).is_none() {
            return cx.send(peer, SwarmMsg::Refused { id, why: Refusal::NotShared });
        }
        if !self.serving.ask(peer, question) {
            return cx.send(peer, SwarmMsg::Refused { id, why: Refusal::Busy });
        }
        self.read(cx);
    }

    /// The run that is asked for, if it is there.
    fn run_of(&self, question: &Question) -> Option<(&Blob, u64)> {
        let blob = &self.blobs.get(&question.root)?.blob;
        let runs = run_count(blob.outboard.size());
        match question.part {
            Part::Last => Some((blob, runs - 1)),
            Part::Run(run) => Some((blob, run)).filter(|_| run < runs),
        }
    }

    /// Begins as many reads as there may be.
    fn read(&mut self, cx: &mut Cx<'_, Self>) {
        while let Some((number, peer, question)) = self.serving.turn() {
            let Some((blob, run)) = self.run_of(&question) else {
                self.serving.read(number);
                cx.send(peer, SwarmMsg::Refused { id: question.id, why: Refusal::NotShared });
                continue;
            };
            let Blob { source, outboard } = blob.clone();
            let work = Work::Read { source, outboard, run };
            cx.start(SwarmJob { tag: Tag::Serve(number), lane: None, work });
        }
    }

    fn served(&mut self, cx: &mut Cx<'_, Self>, number: u64, result: Result<Output, StoreError>) {
        let Some((peer, Question { id, root, .. })) = self.serving.read(number) else { return };
        match result {
            Ok(Output::Read { size, data, proof }) => {
                cx.send(peer, SwarmMsg::Data { id, size, proof, bytes: data });
            }
            Err(StoreError::Job(_)) | Ok(_) => cx.send(peer, SwarmMsg::Refused { id, why: Refusal::Busy }),
            Err(why) => {
                if self.blobs.remove(&root).is_some() {
                    cx.emit(SwarmEvent::Lost { root, why });
                }
                cx.send(peer, SwarmMsg::Refused { id, why: Refusal::NotShared });
            }
        }
        self.read(cx);
    }

    // ---- fetching

    fn fetch(&mut self, cx: &mut Cx<'_, Self>, op: OpId, fetch: Fetch<P>) {
        let taken = |download: &Download<P>| {
            matches!(fetch.to, crate::Target::File(_)) && download.target == fetch.to
        };
        if self.downloads.len() >= MAX_FETCHES || self.downloads.values().any(taken) {
            return cx.finish(op, SwarmOutcome::Fetched(Err(FetchError::Busy)));
        }
        self.next_fetch += 1;
        let number = self.next_fetch;
        self.downloads.insert(number, Download::begin(cx, number, op, fetch));
        cx.set_timer(TICK, SwarmTimer::Tick(number));
    }

    fn add_providers(&mut self, cx: &mut Cx<'_, Self>, root: Key, providers: &[P]) -> usize {
        let of_root = self.downloads.iter().filter(|(_, download)| download.root == root);
        let numbers: Vec<u64> = of_root.map(|(number, _)| *number).collect();
        for number in &numbers {
            self.step(cx, *number, |download, step| {
                download.add(providers.to_vec());
                download.go_on(step);
            });
        }
        numbers.len()
    }

    /// Runs a step of a fetch, if it is still under way.
    fn step<T>(
        &mut self,
        cx: &mut Cx<'_, Self>,
        number: u64,
        run: impl FnOnce(&mut Download<P>, &mut Step<'_, '_, P>) -> T,
    ) -> Option<T> {
        let Swarm { downloads, asks, config, session, .. } = self;
        Some(run(downloads.get_mut(&number)?, &mut Step { cx, asks, config, session: *session }))
    }

    /// A provider owes no answer any more that it could give.
    fn lost(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        while self.asks.give_up(peer).is_some() {}
        let numbers: Vec<u64> = self.downloads.keys().copied().collect();
        for number in numbers {
            self.step(cx, number, |download, step| download.lost(step, peer));
        }
    }

    /// The question that a peer answers, if it was asked that and has not answered yet.
    fn answered(&mut self, from: P, id: QuestionId) -> Option<Asked> {
        if id.session != self.session {
            return None;
        }
        self.asks.answer(id.number, from)
    }

    fn worked(&mut self, cx: &mut Cx<'_, Self>, number: u64, result: Result<Output, StoreError>) {
        match result {
            Ok(Output::Checking) => {
                self.step(cx, number, |download, step| download.check(step.cx));
            }
            Ok(Output::Opened(there)) => {
                self.step(cx, number, |download, step| download.opened(step, there));
            }
            Ok(Output::Synced) => {
                self.step(cx, number, |download, _| download.synced());
            }
            Ok(Output::Finished(blob)) => {
                if let Some(download) = self.downloads.remove(&number) {
                    let content = match &blob.source {
                        Source::File(_) => None,
                        Source::Memory(bytes) => Some(bytes.clone()),
                    };
                    let fetched = download.fetched(blob.outboard.size(), content);
                    self.hold(blob, Vec::new());
                    cx.clear_timer(SwarmTimer::Tick(number));
                    cx.finish(download.op, SwarmOutcome::Fetched(Ok(fetched)));
                }
            }
            Ok(_) => {}
            Err(error) => self.give_up(cx, number, error.into()),
        }
    }

    fn wrote(&mut self, cx: &mut Cx<'_, Self>, number: u64, run: u64, result: Result<Output, StoreError>) {
        match result {
            Ok(Output::Written) => {
                self.step(cx, number, |download, step| download.written(step, run));
            }
            Ok(_) => {
                self.step(cx, number, |download, step| download.disproved(step, run));
            }
            Err(error) => self.give_up(cx, number, error.into()),
        }
    }

    /// Ends a fetch without the blob. What is there of it stays.
    fn give_up(&mut self, cx: &mut Cx<'_, Self>, number: u64, error: FetchError<P>) {
        if let Some(download) = self.downloads.remove(&number) {
            download.close(cx);
            cx.clear_timer(SwarmTimer::Tick(number));
            cx.finish(download.op, SwarmOutcome::Fetched(Err(error)));
        }
    }
}

impl<P: Peer> Protocol for Swarm<P> {
    type Peer = P;
    type Msg = SwarmMsg;
    type Timer = SwarmTimer;
    type Command = SwarmCommand<P>;
    type Item = FetchItem<P>;
    type Outcome = SwarmOutcome<P>;
    type Event = SwarmEvent;
    type Job = SwarmJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.session = cx.rng().next_u64();
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: SwarmMsg) {
        match msg {
            SwarmMsg::Ask { id, root, part } => self.asked(cx, from, Question { id, root, part }),
            SwarmMsg::Data { id, size, proof, bytes } => {
                let Some(asked) = self.answered(from, id) else { return };
                self.step(cx, asked.fetch, |d, step| d.data(step, from, asked, size, proof, bytes));
            }
            SwarmMsg::Refused { id, why } => {
                let Some(asked) = self.answered(from, id) else { return };
                self.step(cx, asked.fetch, |d, step| d.refused(step, from, asked, why));
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, SwarmTimer::Tick(number): SwarmTimer) {
        while let Some((peer, _)) = self.asks.expire(cx.now()) {
            self.lost(cx, peer);
        }
        let Some(verdict) = self.step(cx, number, |download, step| download.tick(step)) else { return };
        match verdict {
            Some(error) => self.give_up(cx, number, error),
            None => cx.set_timer(TICK, SwarmTimer::Tick(number)),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: SwarmCommand<P>) {
        match command {
            SwarmCommand::Share(Share { path }) => {
                self.imports.insert(op);
                Self::import(cx, op, Box::new(Import::new(path)));
            }
            SwarmCommand::Unshare(Unshare { root }) => {
                let was = self.unshare(root);
                cx.finish(op, SwarmOutcome::Unshared(was));
            }
            SwarmCommand::Fetch(fetch) => self.fetch(cx, op, fetch),
            SwarmCommand::AddProviders(AddProviders { root, providers }) => {
                let fetches = self.add_providers(cx, root, &providers);
                cx.finish(op, SwarmOutcome::Added(fetches));
            }
        }
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.imports.remove(&op);
        let number = self.downloads.iter().find(|(_, download)| download.op == op).map(|(number, _)| *number);
        if let Some((number, download)) = number.and_then(|number| self.downloads.remove_entry(&number)) {
            download.close(cx);
            cx.clear_timer(SwarmTimer::Tick(number));
        }
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: P, link: Link) {
        if let Link::Down(_) = link {
            self.serving.gone(peer);
            self.lost(cx, peer);
        }
    }

    fn on_job(&mut self, cx: &mut Cx<'_, Self>, _: JobId, done: SwarmDone) {
        match done.tag {
            Tag::Import(op) => self.imported(cx, op, done.result),
            Tag::Serve(number) => self.served(cx, number, done.result),
            Tag::Fetch(number) => self.worked(cx, number, done.result),
            Tag::Write { fetch, run } => self.wrote(cx, fetch, run, done.result),
        }
    }
}

#[cfg(test)]
mod tests;
