//! A file or folder being fetched: one blob, or a manifest and then its files, a few at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, SelectAll, Stream, StreamExt};
use p2p_core::{Ask, AskError, Handle, Key, Peer};
use p2p_dht::Dht;

use super::{ContentError, Received};
use crate::command::{AddProviders, Fetch, FetchError, FetchItem, Fetched, PeerReport, Progress};
use crate::job::Target;
use crate::manifest::{Entry, MAX_MANIFEST, Manifest};
use crate::swarm::Swarm;
use crate::ticket::{Kind, Ticket};

/// Files of a folder that are fetched side by side.
const AT_ONCE: usize = 8;
/// How often providers are looked up in one fetch: at its beginning, and when nobody is left.
const LOOKUPS: usize = 4;
/// How often progress is told.
const PROGRESS: Duration = Duration::from_millis(200);
/// How many items wait for a slow reader; what goes beyond is not told.
const WAITING: usize = 256;

/// Something being fetched, from [`ContentStore::fetch`](super::ContentStore::fetch). As a future it gives what was
/// received; as a stream it tells how it goes, and ends when all is there or cannot be: then await it. Nothing happens
/// unless it is polled as either. Dropping it cancels, and what was received stays for the next time.
#[must_use = "nothing is fetched unless it is awaited"]
pub struct Fetching<P> {
    items: mpsc::Receiver<FetchItem<P>>,
    work: BoxFuture<'static, Outcome<P>>,
    outcome: Option<Outcome<P>>,
}

type Outcome<P> = Result<Received<P>, ContentError<P>>;

impl<P: Peer + Sync> Fetching<P> {
    pub(super) fn new(
        swarm: Handle<Swarm<P>>,
        dht: Option<Arc<dyn Dht<P>>>,
        ticket: Ticket<P>,
        to: PathBuf,
    ) -> Fetching<P> {
        let (tell, items) = mpsc::channel(WAITING);
        let run = Run {
            swarm,
            dht,
            root: ticket.root,
            known: ticket.contacts.into_iter().collect(),
            lookups: 0,
            work: SelectAll::new(),
            open: BTreeMap::new(),
            peers: BTreeMap::new(),
            tell,
        };
        Fetching { items, work: Box::pin(run.run(ticket.kind, to)), outcome: None }
    }
}

impl<P> Fetching<P> {
    /// Goes on with the work, until it is done.
    fn advance(&mut self, cx: &mut Context<'_>) {
        if self.outcome.is_none()
            && let Poll::Ready(outcome) = self.work.as_mut().poll(cx)
        {
            self.outcome = Some(outcome);
        }
    }
}

// Nothing in it is pinned in place.
impl<P> Unpin for Fetching<P> {}

impl<P> Future for Fetching<P> {
    type Output = Outcome<P>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.advance(cx);
        self.outcome.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<P> Stream for Fetching<P> {
    type Item = FetchItem<P>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<FetchItem<P>>> {
        self.advance(cx);
        Pin::new(&mut self.items).poll_next(cx)
    }
}

impl<P> fmt::Debug for Fetching<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetching(done: {})", self.outcome.is_some())
    }
}

/// What happens in a fetch.
enum Step<P> {
    /// Providers were looked up.
    Found(Vec<P>),
    /// One of the blobs says something.
    Item(usize, FetchItem<P>),
    /// One of the blobs is over.
    Done(usize, Result<Result<Fetched<P>, FetchError<P>>, AskError>),
}

/// The blob that a folder's manifest is; its files are numbered from 0.
const MANIFEST: usize = usize::MAX;

struct Run<P: Peer> {
    swarm: Handle<Swarm<P>>,
    dht: Option<Arc<dyn Dht<P>>>,
    root: Key,
    /// Who may have it.
    known: BTreeSet<P>,
    lookups: usize,
    work: SelectAll<BoxStream<'static, Step<P>>>,
    /// The blobs being fetched, and how far each is.
    open: BTreeMap<usize, (Key, Progress<P>)>,
    peers: BTreeMap<P, PeerReport<P>>,
    tell: mpsc::Sender<FetchItem<P>>,
}

impl<P: Peer + Sync> Run<P> {
    async fn run(mut self, kind: Kind, to: PathBuf) -> Outcome<P> {
        self.look_up();
        let entries = match kind {
            Kind::File => None,
            Kind::Folder => {
                self.begin(MANIFEST, self.root, Target::Memory { max: MAX_MANIFEST });
                let (_, manifest) = self.next(0, None).await?;
                Some(Manifest::decode(&manifest.content.unwrap_or_default())?)
            }
        };
        let Some(entries) = entries else {
            self.begin(0, self.root, Target::File(to));
            let (_, file) = self.next(0, None).await?;
            let (size, resumed) = (file.size, file.resumed);
            return Ok(Received { size, resumed, files: 1, peers: self.peers.into_values().collect() });
        };
        let total = entries.size();
        let (mut size, mut resumed, mut next) = (0, 0, 0);
        loop {
            while self.open.len() < AT_ONCE
                && let Some(Entry { name, root, .. }) = entries.entries().get(next)
            {
                // The name has been checked: it leads nowhere but into the folder.
                self.begin(next, *root, Target::File(to.join(name)));
                next += 1;
            }
            if self.open.is_empty() {
                break;
            }
            let (number, file) = self.next(size, Some(total)).await?;
            if let Some(entry) = entries.entries().get(number).filter(|entry| entry.size != file.size) {
                let (name, listed, found) = (entry.name.clone(), entry.size, file.size);
                return Err(ContentError::Size { name, listed, found });
            }
            size += file.size;
            resumed += file.resumed;
        }
        let files = entries.entries().len();
        Ok(Received { size, resumed, files, peers: self.peers.into_values().collect() })
    }

    fn begin(&mut self, number: usize, root: Key, to: Target) {
        let providers = self.known.iter().copied().collect();
        let ask = self.swarm.ask(Fetch { root, to, providers, progress: Some(PROGRESS) });
        let steps = stream::unfold(Some(ask), move |ask: Option<Ask<Swarm<P>, Fetch<P>>>| async move {
            let mut ask = ask?;
            Some(match ask.next().await {
                Some(item) => (Step::Item(number, item), Some(ask)),
                None => (Step::Done(number, ask.await), None),
            })
        });
        self.work.push(steps.boxed());
        self.open.insert(number, (root, Progress { bytes: 0, total: None, rates: Vec::new() }));
    }

    fn look_up(&mut self) {
        if let Some(dht) = self.dht.clone()
            && self.lookups < LOOKUPS
        {
            self.lookups += 1;
            let root = self.root;
            // A lookup that fails finds nobody: the fetch says so when it ends.
            let found = async move { Step::Found(dht.providers(root).await.unwrap_or_default()) };
            self.work.push(stream::once(found).boxed());
        }
    }

    /// Goes on until a blob is there, which counts on top of `done` bytes of `total`.
    async fn next(&mut self, done: u64, total: Option<u64>) -> Result<(usize, Fetched<P>), ContentError<P>> {
        while let Some(step) = self.work.next().await {
            match step {
                Step::Found(peers) => {
                    self.known.extend(&peers);
                    let roots: BTreeSet<Key> = self.open.values().map(|(root, _)| *root).collect();
                    for root in roots {
                        self.swarm.ask(AddProviders { root, providers: peers.clone() }).await?;
                    }
                }
                Step::Item(number, item) => self.item(number, item, done, total),
                Step::Done(number, outcome) => {
                    self.open.remove(&number);
                    let outcome = outcome?;
                    let peers = match &outcome {
                        Ok(fetched) => fetched.peers.as_slice(),
                        Err(FetchError::NoProvider { peers } | FetchError::AllLied { peers }) => peers,
                        Err(FetchError::Store(_) | FetchError::Busy) => &[],
                    };
                    peers.iter().for_each(|report| self.report(*report));
                    return Ok((number, outcome?));
                }
            }
        }
        Err(AskError::Stopped.into())
    }

    fn report(&mut self, report: PeerReport<P>) {
        let sum = self.peers.entry(report.peer).or_insert(PeerReport { bytes: 0, wasted: 0, ..report });
        sum.standing = sum.standing.max(report.standing);
        sum.bytes += report.bytes;
        sum.wasted += report.wasted;
    }

    fn item(&mut self, number: usize, item: FetchItem<P>, done: u64, total: Option<u64>) {
        let item = match item {
            FetchItem::Progress(progress) => {
                let total = total.or(progress.total);
                if let Some((_, open)) = self.open.get_mut(&number) {
                    *open = progress;
                }
                let mut rates = BTreeMap::new();
                for (peer, rate) in self.open.values().flat_map(|(_, open)| &open.rates) {
                    *rates.entry(*peer).or_insert(0) += rate;
                }
                let bytes = done + self.open.values().map(|(_, open)| open.bytes).sum::<u64>();
                FetchItem::Progress(Progress { bytes, total, rates: rates.into_iter().collect() })
            }
            FetchItem::Lied(peer) => {
                self.known.remove(&peer);
                item
            }
            FetchItem::Starving => {
                self.look_up();
                item
            }
            FetchItem::Slow(_) => item,
        };
        let _ = self.tell.try_send(item);
    }
}
