//! What users ask beside what they ask of the searching machine, and the object-safe [`Fetcher`].

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{self, BoxStream, Stream, StreamExt};
use p2p_core::{Ask, AskError, Handle, NoJob, Peer, Protocol, Request};

use super::job::FolderError;
use super::msg::Wanted;
use super::{Sharing, SharingCommand, SharingOutcome};
use crate::place::Place;
use crate::search::{
    Blame, ContentHash, Hit, Item, Search, SearchCommand, SearchItem, SearchOutcome, Searcher,
};

/// A searching machine whose items its own peers can be asked for, by [`Sharing`].
pub trait Sharer:
    Searcher<Peer: Place, Job = NoJob> + Protocol<Item = SearchItem<<Self as Protocol>::Peer>>
{
    /// How its source is asked for what a hit stands for; `None` if it is no hit of this network.
    fn wanted(hit: &Hit<Self::Peer>) -> Option<Wanted>;
    /// The item of this node that somebody asks for.
    fn shared(&self, wanted: &Wanted) -> Option<&Item>;
}

/// Fetches one content from several sources, and puts it in the folder that the machine's worker has. What is left there
/// of this content, by a program that was killed or a download that found no source, is not fetched again; a download
/// that is cancelled leaves nothing.
#[derive(Clone, Debug)]
pub struct Download<P> {
    /// The sources: hits of the same content. The first says which; others that share no hash with it are left out. 64
    /// count at most.
    pub hits: Vec<Hit<P>>,
    /// What the file is to be called; as the first hit says, if it is not said.
    pub name: Option<String>,
}

/// What comes of a command on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharingItem<P> {
    /// Of a search.
    Found(SearchItem<P>),
    /// Of a download.
    Progress(Progress),
}

impl<P> TryFrom<SharingItem<P>> for SearchItem<P> {
    type Error = Progress;

    fn try_from(item: SharingItem<P>) -> Result<SearchItem<P>, Progress> {
        match item {
            SharingItem::Found(found) => Ok(found),
            SharingItem::Progress(progress) => Err(progress),
        }
    }
}

/// How far a download is. It comes 256 times at most for each time that the download begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that have come.
    pub bytes: u64,
    /// Of so many.
    pub size: u64,
    /// Sources that are asked right now.
    pub sources: usize,
}

/// A file was fetched, and is what its hashes say, if it has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded<P> {
    /// What it is called here.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// What it hashes to.
    pub hashes: Vec<ContentHash>,
    /// Bytes of it that an earlier attempt had left, and that did not have to come again.
    pub resumed: u64,
    /// Who was asked.
    pub sources: Vec<SourceReport<P>>,
}

/// What a source was good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceReport<P> {
    /// Who it is, if it was reached.
    pub peer: Option<P>,
    /// Bytes that it has given.
    pub bytes: u64,
    /// What is known of it at the end.
    pub standing: SourceStanding,
}

/// What is known of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceStanding {
    /// Nothing bad, or nothing at all.
    Good,
    /// It is busy, slow, gone, or does not have it.
    Gone,
    /// It alone has given what is not the content.
    Liar,
}

/// Why a file was not fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError<P: fmt::Debug> {
    /// No hits, or hits of another network, or a name that leads elsewhere.
    #[error(
        "not a hit of this network, or no name for a file: give hits back as they came, and a plain name"
    )]
    BadHit,
    /// Longer than this node takes in.
    #[error("{size} bytes are more than the {max} that are taken in: raise the configured bound")]
    TooLong {
        /// Its bytes.
        size: u64,
        /// The bound.
        max: u64,
    },
    /// Too many downloads of this node are under way.
    #[error("too many downloads at once: wait for some to end")]
    Busy,
    /// No source is left: busy, gone, slow, or without the file.
    #[error("no source is left that gives it: {bytes} of {size} bytes had come; search again")]
    NoSource {
        /// Bytes that had come.
        bytes: u64,
        /// Of so many.
        size: u64,
    },
    /// No source is left, and these gave what is not the content.
    #[error("what came is not what was asked for, by {peers:?}: search again for other sources")]
    Lies {
        /// Who.
        peers: Vec<P>,
    },
    /// The folder failed.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// No answer from the machine itself.
    #[error(transparent)]
    Ask(#[from] AskError),
}

impl<P: fmt::Debug> DownloadError<P> {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            DownloadError::BadHit
            | DownloadError::TooLong { .. }
            | DownloadError::Folder(FolderError::BadName(_) | FolderError::Exists(_))
            | DownloadError::Ask(AskError::Lagged | AskError::Mismatch) => Blame::Caller,
            DownloadError::Lies { .. } => Blame::Peer,
            DownloadError::Busy
            | DownloadError::NoSource { .. }
            | DownloadError::Folder(_)
            | DownloadError::Ask(_) => Blame::World,
        }
    }
}

impl<S: Sharer> Searcher for Sharing<S> {
    fn command(command: SearchCommand<S::Peer>) -> SharingCommand<S> {
        SharingCommand::Search(S::command(command))
    }
    fn outcome(outcome: SharingOutcome<S>) -> Option<SearchOutcome<S::Peer>> {
        match outcome {
            SharingOutcome::Search(outcome) => S::outcome(outcome),
            SharingOutcome::Download(_) => None,
        }
    }
}

impl<S: Sharer> Request<Sharing<S>> for Download<S::Peer> {
    type Item = Progress;
    type Reply = Result<Downloaded<S::Peer>, DownloadError<S::Peer>>;

    fn command(self) -> SharingCommand<S> {
        SharingCommand::Download(self)
    }
    fn item(item: SharingItem<S::Peer>) -> Option<Progress> {
        match item {
            SharingItem::Progress(progress) => Some(progress),
            SharingItem::Found(_) => None,
        }
    }
    fn reply(outcome: SharingOutcome<S>) -> Option<Self::Reply> {
        match outcome {
            SharingOutcome::Download(downloaded) => Some(downloaded),
            SharingOutcome::Search(_) => None,
        }
    }
}

/// A request to the searching machine below, asked of the [`Sharing`] above it.
#[derive(Clone, Debug)]
pub struct Below<R>(pub R);

impl<S: Sharer, R: Request<S>> Request<Sharing<S>> for Below<R> {
    type Item = R::Item;
    type Reply = R::Reply;

    fn command(self) -> SharingCommand<S> {
        SharingCommand::Search(self.0.command())
    }
    fn item(item: SharingItem<S::Peer>) -> Option<R::Item> {
        match item {
            SharingItem::Found(found) => R::item(found),
            SharingItem::Progress(_) => None,
        }
    }
    fn reply(outcome: SharingOutcome<S>) -> Option<R::Reply> {
        match outcome {
            SharingOutcome::Search(outcome) => R::reply(outcome),
            SharingOutcome::Download(_) => None,
        }
    }
}

/// Searches, and fetches what is found. Take an `Arc<dyn Fetcher<TcpPeer>>`.
pub trait Fetcher<P: Peer>: Search<P> {
    /// Fetches the content of these hits, from all of them at once. Read the progress as it comes, then await the
    /// end, or do so at once; to drop it is to cancel.
    fn fetch(&self, download: Download<P>) -> Fetching<P>;
}

impl<P: Peer + Sync, S: Sharer + Protocol<Peer = P>> Fetcher<P> for Handle<Sharing<S>> {
    fn fetch(&self, download: Download<P>) -> Fetching<P> {
        Fetching::new(stream::unfold(Some(self.ask(download)), next::<S>))
    }
}

type Asked<S> = Ask<Sharing<S>, Download<<S as Protocol>::Peer>>;
/// What comes of a download: its end last.
type Step<P> = Result<Progress, Result<Downloaded<P>, DownloadError<P>>>;

async fn next<S: Sharer>(asked: Option<Asked<S>>) -> Option<(Step<S::Peer>, Option<Asked<S>>)> {
    let mut asked = asked?;
    if let Some(progress) = asked.next().await {
        return Some((Ok(progress), Some(asked)));
    }
    Some((Err(asked.await.unwrap_or_else(|error| Err(error.into()))), None))
}

/// A download: how far it is as a stream, its end as a future.
#[must_use = "dropping Fetching cancels the download"]
pub struct Fetching<P: fmt::Debug> {
    steps: BoxStream<'static, Step<P>>,
    end: Option<Result<Downloaded<P>, DownloadError<P>>>,
}

impl<P: fmt::Debug> Fetching<P> {
    /// For those who implement [`Fetcher`]: `steps` ends with an `Err`, which says how it ended, and dropping it
    /// cancels.
    pub fn new(
        steps: impl Stream<Item = Result<Progress, Result<Downloaded<P>, DownloadError<P>>>> + Send + 'static,
    ) -> Fetching<P> {
        Fetching { steps: steps.boxed(), end: None }
    }
}

/// Nothing in it is pinned in its place.
impl<P: fmt::Debug> Unpin for Fetching<P> {}

impl<P: fmt::Debug> Stream for Fetching<P> {
    type Item = Progress;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Progress>> {
        if self.end.is_some() {
            return Poll::Ready(None);
        }
        match ready!(self.steps.as_mut().poll_next(cx)) {
            Some(Ok(progress)) => Poll::Ready(Some(progress)),
            Some(Err(end)) => {
                self.end = Some(end);
                Poll::Ready(None)
            }
            None => {
                self.end = Some(Err(AskError::Stopped.into()));
                Poll::Ready(None)
            }
        }
    }
}

impl<P: fmt::Debug> Future for Fetching<P> {
    type Output = Result<Downloaded<P>, DownloadError<P>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        while ready!(self.as_mut().poll_next(cx)).is_some() {}
        Poll::Ready(self.end.take().unwrap_or(Err(AskError::Stopped.into())))
    }
}

impl<P: fmt::Debug> fmt::Debug for Fetching<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetching").field("end", &self.end).finish_non_exhaustive()
    }
}
