//! What a session can be asked, and what it says.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Protocol, Request};

use super::magnet::Magnet;
use super::metainfo::{Metainfo, MetainfoError, SwarmId};
use super::picker::{Order, Priority};
use super::source::SourceKind;
use super::status::{SessionStats, TorrentStatus};
use super::throttle::RateLimits;
use super::tracker::{Announce, AnnounceReply, TrackerError};
use super::web::{WebError, WebRange, WebSeedStatus};
use crate::job::StoreError;

/// One torrent of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TorrentId(pub(crate) u64);

impl TorrentId {
    /// The first torrent that a session takes on.
    pub const fn first() -> TorrentId {
        TorrentId(1)
    }
}

/// What a torrent is known by when it is added.
#[derive(Clone, Debug)]
pub enum Source {
    /// A `.torrent` file.
    Metainfo(Metainfo),
    /// A link: the rest comes from peers.
    Magnet(Magnet),
}

/// Take a torrent on: hash what is there of it, get what is missing, and serve it.
#[derive(Clone, Debug)]
pub struct Add {
    /// The torrent.
    pub torrent: Source,
    /// The folder that its file, or its folder, lies in. What is there of it is gone on with. A file of which nothing is right,
    /// and that this torrent has not begun, is something else: it is not written over, but the torrent
    /// [fails](crate::StoreError::Exists), also if that file is not wanted, or is room that another program has set aside for it.
    /// So does one a file of which another torrent of the session [has](TorrentError::Taken). But a torrent that has begun one
    /// of its files has begun them all: what is put in place of any of them while it is not worked on is taken for its own, and
    /// written over if that is wanted.
    pub folder: PathBuf,
    /// Who may have it; more can be [added](AddPeers), and are heard of from trackers, other
    /// [sources](super::PeerSource) and peers. Of a private torrent only trackers tell (BEP 27): then these are passed over.
    pub peers: Vec<SocketAddr>,
    /// How it is treated.
    pub config: TorrentConfig,
}

impl Add {
    /// A torrent in a folder, as most are treated; nobody is named who has it.
    pub fn new(torrent: Source, folder: impl Into<PathBuf>) -> Add {
        Add { torrent, folder: folder.into(), peers: Vec::new(), config: TorrentConfig::default() }
    }
}

/// How a torrent is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TorrentConfig {
    /// How fast its blocks come and go, within what [all](super::SessionConfig::rates) may; see [`SetRates`]. As fast as they
    /// can.
    pub rates: RateLimits,
    /// Whether it begins [paused](Pause): what is there is hashed, and nothing else is done. No.
    pub paused: bool,
    /// Which pieces come first. The rarest.
    pub order: Order,
    /// Whether it is super-seeded (BEP 16) where all of it is here: peers are told of its pieces one by one, until all of them
    /// are among the peers. For the first seed, if its line is slow: it has then sent little more than everything once. No.
    pub super_seeding: bool,
    /// Whether all that is there is hashed. Otherwise what has not changed since it was last found right is taken for right:
    /// that is written down beside it, in a file whose name is the torrent's hash. No.
    pub recheck: bool,
}

/// More peers who may have a torrent.
#[derive(Clone, Debug)]
pub struct AddPeers {
    /// The torrent.
    pub torrent: TorrentId,
    /// Where they listen.
    pub peers: Vec<SocketAddr>,
}

/// Wait until all that is wanted of a torrent is there.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// The torrent.
    pub torrent: TorrentId,
    /// How often to say how far it is; `None`: not at all. Whoever sets it must read the items.
    pub progress: Option<Duration>,
}

/// Read bytes of a file, those that are there at once and the others as they come, which are then asked for before all else.
/// The items are what was read, in order, at most 64 KiB each; it ends when the range does. Whoever reads slowly is waited
/// for; to read on from elsewhere drop it and ask again. What is not there and is [not wanted](TorrentError::NotWanted) is
/// not waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The torrent. What a link stands for is waited for.
    pub torrent: TorrentId,
    /// Which of the [files](super::Info::files), by its place among them.
    pub file: u32,
    /// Which of its bytes.
    pub range: Range<u64>,
}

/// Move a torrent's files to another folder, where nothing may lie in their place, or in that of those that have not come yet;
/// it goes on meanwhile. Between file systems they are copied, which takes its time. If that fails they are where they were; if
/// the process ends meanwhile each of them is whole in the one folder or the other.
#[derive(Clone, Debug)]
pub struct Move {
    /// The torrent.
    pub torrent: TorrentId,
    /// The folder that its file, or its folder, is to lie in.
    pub folder: PathBuf,
}

/// Have nothing more to do with a torrent. Its files stay. It ends when nothing more is done with them: what has come is
/// written, and what was to [move](Move) has. Until then they are [taken](TorrentError::Taken).
#[derive(Clone, Copy, Debug)]
pub struct Remove {
    /// The torrent.
    pub torrent: TorrentId,
}

/// Limit how fast blocks come and go from now on; what was said before holds no more.
#[derive(Clone, Copy, Debug)]
pub struct SetRates {
    /// Of which torrent, within what all may; `None`: of all together.
    pub torrent: Option<TorrentId>,
    /// How fast.
    pub rates: RateLimits,
}

/// Say how much files of a torrent are wanted, at any time. When all that is wanted is there the torrent is done; if more is
/// wanted then it is not, and done again later.
#[derive(Clone, Debug)]
pub struct SetPriorities {
    /// The torrent. While what a link stands for is not known no file is refused.
    pub torrent: TorrentId,
    /// Some of its [files](super::Info::files), by their places among them. The others stay as they were: as the link
    /// [selects](super::Magnet::select), or as others are.
    pub files: Vec<(u32, Priority)>,
}

/// Pause a torrent. It leaves its swarms: connections are closed, nobody is let in, nothing is asked for or sent, and its
/// trackers hear that it stops. All that is known of it stays, and what has come is made safe. What is there of it can be
/// [read](Read) still; whoever [waits](Wait) goes on waiting. It is paused until it is [resumed](Resume).
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// The torrent.
    pub torrent: TorrentId,
}

/// Let a torrent that was [paused](Pause) go on from where it was; nothing is hashed again. What is paused since its files
/// failed is tried again at once.
#[derive(Clone, Copy, Debug)]
pub struct Resume {
    /// The torrent.
    pub torrent: TorrentId,
}

/// Speak with a source of peers for a session: the items are what is to be announced there, and what comes of each is said
/// by [`Announced`]. Of each kind whoever asks last does it alone. It ends with the session, or at once if there are eight
/// kinds already; [`find_peers`](super::find_peers) does it all.
#[derive(Clone, Copy, Debug)]
pub struct Announcing(pub SourceKind);

/// What came of an announce.
#[derive(Clone, Debug)]
pub struct Announced {
    /// Its number.
    pub number: u64,
    /// The tracker's answer, or what another source has found.
    pub result: Result<AnnounceReply, TrackerError>,
}

/// A source names peers that nobody waits for: unasked, or before its answer is whole.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Which source.
    pub source: SourceKind,
    /// The swarm that they are in.
    pub swarm: SwarmId,
    /// Where they listen.
    pub peers: Vec<SocketAddr>,
}

/// What is to be announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToAnnounce {
    /// Its number.
    pub number: u64,
    /// To what kind of source.
    pub source: SourceKind,
    /// To which tracker; the name of another source.
    pub url: String,
    /// What it is told. At another source than a tracker the port is 0 while it is not known whether the torrent is private:
    /// then others are sought, and nobody is told of this one.
    pub announce: Announce,
}

/// Ask web seeds for a session: the items are what is to be fetched, and what comes of each is said by [`Fetched`]. Whoever
/// asks last does it alone. It ends with the session; [`WebSeeds`](super::WebSeeds) do it all.
#[derive(Clone, Copy, Debug)]
pub struct Fetching;

/// What is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToFetch {
    /// Its number.
    pub number: u64,
    /// Stretches of files, one after the other; some 4 MiB in all at the most.
    pub ranges: Vec<WebRange>,
}

/// What came of a fetch.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its number.
    pub number: u64,
    /// The bytes of each range.
    pub result: Result<Vec<Bytes>, WebError>,
}

/// Have nothing more to do with any torrent, and tell the trackers. It ends when they have heard it, 3 s later at the
/// latest: then the session can be shut down.
#[derive(Clone, Copy, Debug)]
pub struct Stop;

/// Tell how a torrent stands.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// The torrent.
    pub torrent: TorrentId,
}

/// Tell how the session stands.
#[derive(Clone, Copy, Debug)]
pub struct Stats;

/// Why a torrent is not, or no more, worked on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TorrentError {
    /// The files failed, or something else is where they should be. What is there stays; adding it again goes on from there.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metadata that the link stands for is none that is taken.
    #[error(transparent)]
    Metainfo(#[from] MetainfoError),
    /// It is here already.
    #[error("this torrent is here already")]
    Twice,
    /// There are as many as the session takes.
    #[error("there are too many torrents: remove one")]
    Full,
    /// It has no such file.
    #[error("the torrent has no file of that number")]
    NoFile,
    /// It is not there, and not wanted: the link selects other files (BEP 53), or its [priority](SetPriorities) says so.
    #[error("it is not there, and not wanted: read what is, or give its file another priority")]
    NotWanted,
    /// The file is shorter.
    #[error("the file has {length} bytes: read a range of those")]
    Range {
        /// Its length.
        length: u64,
    },
    /// A file of another torrent lies where one of this would; also of one that is being [removed](Remove).
    #[error("{} is another torrent's: take another folder, or remove that torrent", .0.display())]
    Taken(PathBuf),
    /// Its files are on their way to another folder.
    #[error("it is being moved already: wait until that is over")]
    Moving,
    /// There are as many readers as the session takes.
    #[error("64 files are being read already: end one")]
    Readers,
    /// There is none of that name, or no more.
    #[error("there is no such torrent, or it was removed")]
    Unknown,
}

/// A command to a [`Session`](super::Session).
#[derive(Clone, Debug)]
pub enum SessionCommand {
    /// See [`Add`].
    Add(Add),
    /// See [`AddPeers`].
    AddPeers(AddPeers),
    /// See [`Wait`].
    Wait(Wait),
    /// See [`Read`].
    Read(Read),
    /// See [`SetRates`].
    SetRates(SetRates),
    /// See [`SetPriorities`].
    SetPriorities(SetPriorities),
    /// See [`Pause`].
    Pause(Pause),
    /// See [`Resume`].
    Resume(Resume),
    /// See [`Move`].
    Move(Move),
    /// See [`Remove`].
    Remove(Remove),
    /// See [`Status`].
    Status(Status),
    /// See [`Stats`].
    Stats,
    /// See [`Announcing`].
    Announcing(Announcing),
    /// See [`Announced`].
    Announced(Announced),
    /// See [`Heard`].
    Heard(Heard),
    /// See [`Fetching`].
    Fetching,
    /// See [`Fetched`].
    Fetched(Fetched),
    /// See [`Stop`].
    Stop,
}

/// What a command to a [`Session`](super::Session) yields on the way.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionItem {
    /// Of [`Wait`]: how the torrent stands.
    Status(TorrentStatus),
    /// Of [`Read`]: what comes next.
    Read(Bytes),
    /// Of [`Announcing`]: what is to be announced.
    Announce(ToAnnounce),
    /// Of [`Fetching`]: what is to be fetched.
    Fetch(ToFetch),
}

/// How a command to a [`Session`](super::Session) ended.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionOutcome {
    /// Of [`Add`].
    Added(Result<TorrentId, TorrentError>),
    /// Of [`Wait`], [`Read`], [`SetPriorities`] and [`Move`].
    Done(Result<(), TorrentError>),
    /// Of [`AddPeers`], [`SetRates`], [`Pause`], [`Resume`], [`Remove`], [`Announced`], [`Heard`] and [`Fetched`]: whether
    /// there is such a torrent, announce or fetch.
    Known(bool),
    /// Of [`Status`].
    Status(Option<Box<TorrentStatus>>),
    /// Of [`Stats`].
    Stats(SessionStats),
    /// Of [`Stop`], and of [`Announcing`] and [`Fetching`] when somebody else does it, or nobody may.
    Stopped,
}

/// What a [`Session`](super::Session) says unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// A link's metadata is there: it can be saved as a file. If nobody sends the hashes that a hybrid's file must have it
    /// goes on with SHA-1 alone, and [`Metainfo::parse`](super::Metainfo::parse) would not take what is saved: ask for it
    /// by its link again.
    Metadata(TorrentId, Metainfo),
    /// What was there is hashed: so many pieces are good.
    Checked(TorrentId, u32),
    /// All that is wanted is there, and safe.
    Done(TorrentId),
    /// This peer sent what is not true. It is asked for nothing more.
    Lied(TorrentId, SocketAddr),
    /// A web seed is asked for nothing more, since it has not got what it should, or has sent what is not true.
    WebSeedDropped(TorrentId, WebSeedStatus),
    /// A peer says that its node of the Mainline DHT is there (BEP 5).
    DhtNode(SocketAddr),
    /// A torrent is paused: since that was [asked](Pause) for, or for a reason: its files could not be written or read, since
    /// there is no room perhaps. Then it is tried again after 5 s, and after longer each time, up to a minute; nothing of it
    /// is lost.
    Paused(TorrentId, Option<TorrentError>),
    /// It goes on, with nothing that would keep it from that.
    Resumed(TorrentId),
    /// A torrent is worked on no more.
    Failed(TorrentId, TorrentError),
}

/// A machine that takes a session's commands: a [`Session`](super::Session), or one around it.
pub trait TakesCommands:
    Protocol<Command = SessionCommand, Item = SessionItem, Outcome = SessionOutcome, Event = SessionEvent>
{
}

impl<M> TakesCommands for M where
    M: Protocol<Command = SessionCommand, Item = SessionItem, Outcome = SessionOutcome, Event = SessionEvent>
{
}

/// Requests that end in one way and say nothing before.
macro_rules! plain {
    ($request:ident, $outcome:ident, $reply:ty) => {
        impl<M: TakesCommands> Request<M> for $request {
            type Item = ();
            type Reply = $reply;

            fn command(self) -> SessionCommand {
                SessionCommand::$request(self)
            }
            fn item(_: SessionItem) -> Option<()> {
                None
            }
            fn reply(outcome: SessionOutcome) -> Option<$reply> {
                match outcome {
                    SessionOutcome::$outcome(reply) => Some(reply),
                    _ => None,
                }
            }
        }
    };
}

plain!(Add, Added, Result<TorrentId, TorrentError>);
plain!(AddPeers, Known, bool);
plain!(SetRates, Known, bool);
plain!(SetPriorities, Done, Result<(), TorrentError>);
plain!(Move, Done, Result<(), TorrentError>);
plain!(Pause, Known, bool);
plain!(Resume, Known, bool);
plain!(Remove, Known, bool);
plain!(Announced, Known, bool);
plain!(Heard, Known, bool);
plain!(Fetched, Known, bool);

impl<M: TakesCommands> Request<M> for Status {
    type Item = ();
    type Reply = Option<TorrentStatus>;

    fn command(self) -> SessionCommand {
        SessionCommand::Status(self)
    }
    fn item(_: SessionItem) -> Option<()> {
        None
    }
    fn reply(outcome: SessionOutcome) -> Option<Self::Reply> {
        match outcome {
            SessionOutcome::Status(status) => Some(status.map(|status| *status)),
            _ => None,
        }
    }
}

impl<M: TakesCommands> Request<M> for Stats {
    type Item = ();
    type Reply = SessionStats;

    fn command(self) -> SessionCommand {
        SessionCommand::Stats
    }
    fn item(_: SessionItem) -> Option<()> {
        None
    }
    fn reply(outcome: SessionOutcome) -> Option<SessionStats> {
        match outcome {
            SessionOutcome::Stats(stats) => Some(stats),
            _ => None,
        }
    }
}

impl<M: TakesCommands> Request<M> for Wait {
    type Item = TorrentStatus;
    type Reply = Result<(), TorrentError>;

    fn command(self) -> SessionCommand {
        SessionCommand::Wait(self)
    }
    fn item(item: SessionItem) -> Option<TorrentStatus> {
        match item {
            SessionItem::Status(status) => Some(status),
            SessionItem::Read(_) | SessionItem::Announce(_) | SessionItem::Fetch(_) => None,
        }
    }
    fn reply(outcome: SessionOutcome) -> Option<Self::Reply> {
        match outcome {
            SessionOutcome::Done(done) => Some(done),
            _ => None,
        }
    }
}

impl<M: TakesCommands> Request<M> for Read {
    type Item = Bytes;
    type Reply = Result<(), TorrentError>;

    fn command(self) -> SessionCommand {
        SessionCommand::Read(self)
    }
    fn item(item: SessionItem) -> Option<Bytes> {
        match item {
            SessionItem::Read(data) => Some(data),
            SessionItem::Status(_) | SessionItem::Announce(_) | SessionItem::Fetch(_) => None,
        }
    }
    fn reply(outcome: SessionOutcome) -> Option<Self::Reply> {
        match outcome {
            SessionOutcome::Done(done) => Some(done),
            _ => None,
        }
    }
}

impl<M: TakesCommands> Request<M> for Announcing {
    type Item = ToAnnounce;
    type Reply = ();

    fn command(self) -> SessionCommand {
        SessionCommand::Announcing(self)
    }
    fn item(item: SessionItem) -> Option<ToAnnounce> {
        match item {
            SessionItem::Announce(wanted) => Some(wanted),
            SessionItem::Status(_) | SessionItem::Read(_) | SessionItem::Fetch(_) => None,
        }
    }
    fn reply(outcome: SessionOutcome) -> Option<()> {
        (outcome == SessionOutcome::Stopped).then_some(())
    }
}

impl<M: TakesCommands> Request<M> for Fetching {
    type Item = ToFetch;
    type Reply = ();

    fn command(self) -> SessionCommand {
        SessionCommand::Fetching
    }
    fn item(item: SessionItem) -> Option<ToFetch> {
        match item {
            SessionItem::Fetch(wanted) => Some(wanted),
            SessionItem::Status(_) | SessionItem::Read(_) | SessionItem::Announce(_) => None,
        }
    }
    fn reply(outcome: SessionOutcome) -> Option<()> {
        (outcome == SessionOutcome::Stopped).then_some(())
    }
}

impl<M: TakesCommands> Request<M> for Stop {
    type Item = ();
    type Reply = ();

    fn command(self) -> SessionCommand {
        SessionCommand::Stop
    }
    fn item(_: SessionItem) -> Option<()> {
        None
    }
    fn reply(outcome: SessionOutcome) -> Option<()> {
        (outcome == SessionOutcome::Stopped).then_some(())
    }
}
