//! Files, from those who were found to have them: any searching machine, and transfers between its peers.
//!
//! [`Sharing<S>`] runs the searching machine `S` inside itself and adds what is the same in all these networks: a range
//! of a file is asked for and sent. Between our own nodes that is [`Transfer`], over any transport; over TCP it is what
//! each network's programs say: HTTP for Gnutella ([`HttpCodec`]).
//!
//! - **Many sources at once.** Hits of one content are asked for different pieces of it. A source that is slow, busy or
//!   gone is replaced, and what it has given is kept.
//! - **Only the content proves itself.** It is compared with all hashes that its hit has, in a job, before the file
//!   gets its name. Hashes of whole files do not say which piece is wrong: after a lie the sources are tried one by
//!   one, and who alone gives what is not the content is a liar.
//! - **Downloads resume.** What has come of a content outlives the program; it is read and verified when somebody wants
//!   this content again, and not fetched twice.
//! - **Uploads are bounded.** So many at once, so many wait, and everybody else is told to come again. Who has given
//!   this node data is served before who has not, by the bytes that it has received itself: nobody can tell it more.
//! - **Names are names.** What a peer calls a file never leads out of the folder ([`is_plain_name`]).
//!
//! In this order: [`SharingConfig`], [`Sharing`], how inputs are told apart. Then `request` (users), `msg` (what peers
//! say), `fetch`, `download` and `sources` (what comes), `upload`, `job`, `worker` and `folder` (files), `http` (bytes).

mod download;
mod fetch;
mod folder;
mod http;
mod job;
mod msg;
mod request;
mod shelf;
mod sources;
mod upload;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use p2p_core::{Cx, Down, JobId, Link, NoJob, OpId, PeerId, Protocol, Up};

use crate::place::Place;
use crate::recent::Recent;

use fetch::{Fetch, Part};
use upload::Uploads;

pub use folder::{DiskFile, DiskFolder, items_in};
pub use http::{ForeignSearch, HttpCodec};
pub use job::{FolderError, ShareOutput, SharingJob};
pub use msg::{MAX_PART, Refusal, SharingMsg, Transfer, Wanted};
pub use request::{
    Below, Download, DownloadError, Downloaded, Fetcher, Fetching, Progress, Sharer, SharingItem,
    SourceReport, SourceStanding,
};
pub use shelf::{Shelf, ShelfMsg};
pub use worker::{Folder, MemoryFile, MemoryFolder, ShareWorker, Written, hashes_of, is_plain_name};

/// How a node gives and takes files. All values are ours.
#[derive(Clone, Copy, Debug)]
pub struct SharingConfig {
    /// How many downloads of its users are under way. 64.
    pub downloads: usize,
    /// How many sources of one download are asked at once. 6.
    pub sources: usize,
    /// How many bytes one source is asked for at a time; more of files so long that they would have more than 65,536
    /// pieces. 256 KiB.
    pub piece: u64,
    /// The longest file that is fetched, in bytes. 1 TiB.
    pub most: u64,
    /// How long a source may give nothing at all, or be slower than others who wait for a piece. 15 s.
    pub patience: Duration,
    /// How often a source may fail in a row before it is given up. 4.
    pub tries: u8,
    /// How many ranges are sent at once. 8.
    pub slots: usize,
    /// How many of one host's, or one key's. 2.
    pub slots_each: usize,
    /// How many others wait. 64.
    pub queue: usize,
    /// How many of one host's, or one key's. 8.
    pub queue_each: usize,
    /// How long they wait before they are told to come again. 10 s.
    pub queue_wait: Duration,
    /// After how long those who are turned away may come again. 5 s.
    pub come_again: Duration,
    /// How fast one upload is after its first 256 KiB, in bytes a second: nobody says whether the receiver keeps up,
    /// and who does not is cut off. 8 MiB/s.
    pub rate: u64,
    /// How many peers' accounts are kept. 1,024.
    pub accounts: usize,
}

impl Default for SharingConfig {
    fn default() -> SharingConfig {
        SharingConfig {
            downloads: 64,
            sources: 6,
            piece: 256 << 10,
            most: 1 << 40,
            patience: Duration::from_secs(15),
            tries: 4,
            slots: 8,
            slots_each: 2,
            queue: 64,
            queue_each: 8,
            queue_wait: Duration::from_secs(10),
            come_again: Duration::from_secs(5),
            rate: 8 << 20,
            accounts: 1024,
        }
    }
}

/// What a node has done; an experiment adds them up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharingTally {
    /// Bytes of files that it has sent,
    pub sent: u64,
    /// and received.
    pub received: u64,
    /// Requests that it has turned away because there was no room.
    pub busy: u64,
    /// Sources that it has given up.
    pub given_up: u64,
}

/// A searching machine whose peers give each other files. It has at most [`SharingConfig::downloads`] downloads of 64
/// sources each, [`SharingConfig::slots`] uploads with a part of 64 KiB each, and [`SharingConfig::queue`] that wait;
/// it keeps [`SharingConfig::accounts`] accounts. Its workers are [`ShareWorker`]s.
///
/// Its handle is a [`Search`](crate::Search) and a [`Fetcher`]:
///
/// ```
/// use futures::StreamExt;
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_overlay::{
///     Download, Fetcher, Gnutella, GnutellaConfig, Item, MemoryFolder, Place, Query, Scope, Search, ShareWorker,
///     Sharing, SharingConfig, hashes_of,
/// };
/// use std::time::Duration;
///
/// let folders: Vec<MemoryFolder> = (0..10).map(|_| MemoryFolder::default()).collect();
/// let theirs = folders.clone();
/// let worker = move |peer: SimPeer| ShareWorker::new(theirs[peer.0 as usize].clone());
/// let mut sim = Sim::<Sharing<Gnutella<SimPeer>>, _>::with_workers(
///     1, Network::default(), DiskModel::default(), worker,
/// );
/// let song = vec![7u8; 1_000_000];
/// for i in 0..10 {
///     sim.spawn(|birth| {
///         let seed = birth.alive.first().and_then(SimPeer::contact);
///         let mut gnutella = Gnutella::new(birth.peer.contact(), seed, GnutellaConfig::default());
///         if i >= 8 {
///             folders[i].put("Blue Monday.mp3", song.clone());
///             let item = Item::new("Blue Monday.mp3", song.len() as u64);
///             gnutella.library_mut().insert(hashes_of(&song).into_iter().fold(item, Item::hash)).unwrap();
///         }
///         Sharing::new(gnutella, SharingConfig::default())
///     });
/// }
/// sim.run_for(Duration::from_secs(60));
///
/// let here = sim.handle(SimPeer(3));
/// let downloaded = sim.block_on(async move {
///     let scope = Scope { hits: 2, ..Scope::default() };
///     let hits: Vec<_> = here.search(Query::text("monday"), scope).collect().await;
///     here.fetch(Download { hits, name: None }).await.unwrap()
/// });
/// assert_eq!(downloaded.name, "Blue Monday.mp3");
/// assert!(downloaded.sources.iter().all(|source| source.bytes > 0), "both have given something");
/// assert_eq!(folders[3].get("Blue Monday.mp3").unwrap(), song);
/// ```
pub struct Sharing<S: Sharer> {
    config: SharingConfig,
    search: S,
    /// What the searching machine was asked, and for whom.
    asked: BTreeMap<OpId, Asker>,
    downloads: BTreeMap<OpId, Fetch<S::Peer>>,
    /// The questions that sources have not answered: which download's, which source's.
    questions: BTreeMap<u32, (OpId, usize)>,
    uploads: Uploads<S::Peer>,
    jobs: BTreeMap<JobId, JobOf<S::Peer>>,
    /// Bytes that each has given this node.
    accounts: Recent<PeerId, u64>,
    /// The numbers of the last question and the last download.
    question: u32,
    number: u64,
    tally: SharingTally,
}

/// For whom the searching machine works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    User(OpId),
    /// To reach this source of a download.
    Source(OpId, usize),
}

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobOf<P> {
    Upload(P, u32),
    Open(OpId),
    /// So many bytes of a download.
    Write(OpId),
    Finish(OpId),
    Drop,
}

/// The timers of a node: the searching machine's; one for each source of a download, and one for each upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SharingTimer<P, T> {
    /// The searching machine's.
    Search(T),
    /// A source has not answered, or has rested.
    Source(OpId, usize),
    /// Time for the next part of an upload; or it has waited long enough to begin.
    Upload(P, u32),
}

/// A command.
#[expect(missing_debug_implementations, reason = "its parts need not be Debug")]
pub enum SharingCommand<S: Sharer> {
    /// To the searching machine.
    Search(S::Command),
    /// See [`Download`].
    Download(Download<S::Peer>),
}

/// How a command ended.
#[expect(missing_debug_implementations, reason = "its parts need not be Debug")]
pub enum SharingOutcome<S: Sharer> {
    /// The searching machine's.
    Search(S::Outcome),
    /// Of a [`Download`].
    Download(Result<Downloaded<S::Peer>, DownloadError<S::Peer>>),
}

impl<S: Sharer> Sharing<S> {
    /// Files for the peers of this searching machine.
    pub fn new(search: S, config: SharingConfig) -> Sharing<S> {
        Sharing {
            config: SharingConfig { piece: config.piece.max(1), rate: config.rate.max(1), ..config },
            search,
            asked: BTreeMap::new(),
            downloads: BTreeMap::new(),
            questions: BTreeMap::new(),
            uploads: Uploads::default(),
            jobs: BTreeMap::new(),
            accounts: Recent::new(config.accounts),
            question: 0,
            number: 0,
            tally: SharingTally::default(),
        }
    }

    /// The searching machine.
    pub fn search(&self) -> &S {
        &self.search
    }

    /// What it has done.
    pub fn tally(&self) -> SharingTally {
        self.tally
    }

    /// How many bytes a peer has given this node.
    pub fn received_from(&self, peer: S::Peer) -> u64 {
        self.accounts.get(&peer.account()).copied().unwrap_or(0)
    }

    /// Hands an input to the searching machine, and sees to what it says.
    fn below(&mut self, cx: &mut Cx<'_, Self>, input: impl FnOnce(&mut S, &mut Cx<'_, S>)) {
        let search = &mut self.search;
        let no_job = |job: NoJob| match job {};
        let ups = cx.nest(SharingMsg::Search, SharingTimer::Search, no_job, |cx| input(search, cx));
        for up in ups {
            match up {
                Up::Item(op, item) => {
                    if let Some(Asker::User(user)) = self.asked.get(&op) {
                        cx.item(*user, SharingItem::Found(item));
                    }
                }
                Up::Finished(op, outcome) => match self.asked.remove(&op) {
                    Some(Asker::User(user)) => cx.finish(user, SharingOutcome::Search(outcome)),
                    Some(Asker::Source(download, source)) => {
                        self.on_reached(cx, download, source, S::outcome(outcome));
                    }
                    None => {}
                },
                Up::Event(event) => cx.emit(event),
            }
        }
    }

    /// Asks the searching machine something.
    fn ask_below(&mut self, cx: &mut Cx<'_, Self>, asker: Asker, command: S::Command) -> OpId {
        let op = cx.op();
        self.asked.insert(op, asker);
        self.below(cx, |search, cx| search.on_command(cx, op, command));
        op
    }

    /// Nobody waits for what the searching machine was asked.
    fn cancel_below(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        if self.asked.remove(&op).is_some() {
            self.below(cx, |search, cx| search.on_cancel(cx, op));
        }
    }
}

impl<S: Sharer> Protocol for Sharing<S> {
    type Peer = S::Peer;
    type Msg = SharingMsg<S::Msg>;
    type Timer = SharingTimer<S::Peer, S::Timer>;
    type Command = SharingCommand<S>;
    type Item = SharingItem<S::Peer>;
    type Outcome = SharingOutcome<S>;
    type Event = S::Event;
    type Job = SharingJob;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        // Answers of an earlier run of this node are not taken for this one's.
        self.question = cx.rng().next_u64() as u32;
        self.below(cx, S::on_start);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: S::Peer, msg: SharingMsg<S::Msg>) {
        match msg {
            SharingMsg::Search(msg) => self.below(cx, |search, cx| search.on_message(cx, from, msg)),
            SharingMsg::Transfer(Transfer::Get { id, wanted, start, end }) => {
                self.on_get(cx, from, id, &wanted, start, end);
            }
            SharingMsg::Transfer(Transfer::Part { id, at, end, size, hash, data }) => {
                self.on_part(cx, from, id, Part { at, end, size, hash, data });
            }
            SharingMsg::Transfer(Transfer::No { id, why }) => self.on_no(cx, from, id, why),
            SharingMsg::Transfer(Transfer::End { id: Some(id) }) => self.on_end(cx, from, id),
            SharingMsg::Transfer(Transfer::End { id: None }) => {}
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: Self::Timer) {
        match timer {
            SharingTimer::Search(timer) => self.below(cx, |search, cx| search.on_timer(cx, timer)),
            SharingTimer::Source(op, source) => self.on_silence(cx, op, source),
            SharingTimer::Upload(peer, id) => self.on_pace(cx, peer, id),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: SharingCommand<S>) {
        match command {
            SharingCommand::Search(command) => {
                self.ask_below(cx, Asker::User(op), command);
            }
            SharingCommand::Download(download) => self.begin_download(cx, op, download),
        }
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let below = self.asked.iter().find(|(_, asker)| **asker == Asker::User(op)).map(|(below, _)| *below);
        if let Some(below) = below {
            self.cancel_below(cx, below);
        }
        self.drop_download(cx, op, Some(false));
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: S::Peer, link: Link) {
        self.below(cx, |search, cx| search.on_link(cx, peer, link));
        if let Link::Down(why) = link {
            // A connection that only rests comes back with the next message.
            if why != Down::Idle {
                self.forget_uploads(cx, peer);
                self.source_gone(cx, peer);
            }
        }
    }

    fn on_job(&mut self, cx: &mut Cx<'_, Self>, id: JobId, done: Result<ShareOutput, FolderError>) {
        match self.jobs.remove(&id) {
            Some(JobOf::Upload(peer, id)) => self.on_read(cx, peer, id, done),
            Some(JobOf::Open(op)) => self.on_open(cx, op, done),
            Some(JobOf::Write(op)) => self.on_written(cx, op, done),
            Some(JobOf::Finish(op)) => self.on_finished(cx, op, done),
            Some(JobOf::Drop) | None => {}
        }
    }
}

impl<S: Sharer> fmt::Debug for Sharing<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sharing({} downloads, {:?})", self.downloads.len(), self.uploads)
    }
}

#[cfg(test)]
mod tests;
