//! A protocol is a pure machine.
//!
//! A [`Protocol`] is a state machine that learns of the world through the methods below and acts on it through
//! the [`Cx`] they are handed; it touches no clock, no socket, no file and no thread. A *runner* owns the
//! machine: the simulator, or the driver of the live world, or a test that feeds it by hand. All keep the same
//! contract:
//!
//! - one input at a time; effects take place after the method returns, in the order they were made;
//! - a timer fires once, not before its time; setting an equal one again replaces it;
//! - every command ends in exactly one [`Effect::Finish`], unless its asker went away first;
//! - of the items of a command [`MAX_WAITING`](crate::MAX_WAITING) wait for their asker, and the next ends the command in
//!   place of the machine; as the asker reads the machine is told, by [`Protocol::on_read`];
//! - every job comes back exactly once through [`Protocol::on_job`], unless the node dies first;
//! - a message may be lost, and in [`Lane::Datagram`](crate::Lane) also doubled or late; who sent it is proved. Live,
//!   an ordered or bulk message that is lost on its way takes the link down, with a reason. One that has arrived may
//!   still be lost without a word, if the peer has no room for it or ends: only an answer shows that it was taken in.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Cx, Key, Rng, Subnet};

/// A state machine that runs in every world: see the module's text for the contract.
///
/// This one answers every ping:
///
/// ```
/// use p2p_core::{Cx, NoJob, OpId, Protocol, Script, SimPeer};
///
/// #[derive(Default)]
/// struct Pong;
///
/// impl Protocol for Pong {
///     type Peer = SimPeer;
///     type Msg = &'static str;
///     type Timer = ();
///     type Command = ();
///     type Item = ();
///     type Outcome = ();
///     type Event = ();
///     type Job = NoJob;
///
///     fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: SimPeer, msg: &'static str) {
///         if msg == "ping" {
///             cx.send(from, "pong");
///         }
///     }
///
///     fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, _: ()) {
///         cx.finish(op, ());
///     }
/// }
///
/// let mut script = Script::new(Pong);
/// script.message(SimPeer(2), "ping");
/// assert_eq!(script.sent(), [(SimPeer(2), "pong")]);
/// ```
pub trait Protocol: Sized + Send + 'static {
    /// A name for a peer: `Contact` live, `SimPeer` in the simulator.
    type Peer: Peer;
    /// What travels between peers.
    type Msg: Send + 'static;
    /// A timer's name: setting it again replaces it. How many there can be at once is bounded by the machine.
    type Timer: Ord + Send + 'static;
    /// What a user, or the layer above, asks.
    type Command: Send + 'static;
    /// What a command may yield on the way: hits, progress.
    type Item: Send + 'static;
    /// How a command ends, exactly once.
    type Outcome: Send + 'static;
    /// What the machine says unasked.
    type Event: Clone + Send + 'static;
    /// Slow work done elsewhere: disk, hashing, signatures. [`NoJob`] if there is none.
    type Job: Job;

    /// The first input, before any other.
    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        let _ = cx;
    }
    /// [Prefetches](crate::prefetch) what the machine points to and its next input is likely to need; the machine itself
    /// is in the caches. A simulation too large for them calls this shortly before the input, and so waits for less
    /// memory. Never needed; by default nothing.
    #[inline]
    fn warm(&self) {}
    /// A message came from a peer that has proved its name.
    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: Self::Peer, msg: Self::Msg);
    /// A timer that was set has run out.
    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: Self::Timer) {
        let _ = (cx, timer);
    }
    /// Somebody asks for something; the answer is [`Cx::finish`] with the same `op`.
    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: Self::Command);
    /// Whoever asked is gone: forget the operation. Finishing it still is harmless.
    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        let _ = (cx, op);
    }
    /// Whoever asked has read so many more of the items: a machine that counts what it has sent knows how much room is
    /// left, and can wait for more. It is told of [`READ_EVERY`](crate::READ_EVERY) or more at a time, so up to one less
    /// have been read without its knowing.
    fn on_read(&mut self, cx: &mut Cx<'_, Self>, op: OpId, items: usize) {
        let _ = (cx, op, items);
    }
    /// The connection to a peer came or went.
    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: Self::Peer, link: Link) {
        let _ = (cx, peer, link);
    }
    /// A job is done, or failed.
    fn on_job(&mut self, cx: &mut Cx<'_, Self>, id: JobId, done: <Self::Job as Job>::Done) {
        let _ = (cx, id, done);
    }
}

/// A name for a peer, small and copied freely; lists of them may be shared.
pub trait Peer: Copy + Ord + Hash + Debug + Send + Sync + 'static {}

impl<T: Copy + Ord + Hash + Debug + Send + Sync + 'static> Peer for T {}

/// A peer with a place in the key space: what structured overlays ask for. Computing it may cost a hash, so
/// keep the key beside the peer wherever keys are compared.
pub trait Keyed<const N: usize = 32>: Peer {
    /// Where it stands.
    fn key(&self) -> Key<N>;
    /// The subnet that it is in, for tables that bound how many of one subnet they take; `None` where that says
    /// nothing of who is behind it: such a peer is not counted.
    fn subnet(&self) -> Option<Subnet> {
        None
    }
}

/// One command in progress. The runner numbers its users' commands, a machine those it gives its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub(crate) u64);

/// One job in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub(crate) u64);

/// What became of the connection to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link {
    /// It is there.
    Up,
    /// It is gone, and what was on the way may be lost.
    Down(Down),
}

/// Why a connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Down {
    /// It could not be made: nobody answers there, or somebody else does.
    Unreachable,
    /// It was silent for too long: the peer may be dead.
    TimedOut,
    /// Nobody had used it for a while. The peer is well; the next message brings the connection back.
    Idle,
    /// The peer closed it or does not serve this protocol.
    Closed,
    /// A queue went over its bound: the peer takes in less than it is sent, or sends more than it may.
    Overflow,
    /// The peer sent what is not a message.
    Misbehaved,
    /// This end is shutting down.
    Shutdown,
}

/// Slow work that leaves the machine and comes back as an input.
pub trait Job: Send + 'static {
    /// What comes back.
    type Done: Send + 'static;

    /// Jobs of one lane are done in the order they were started; other jobs in any order.
    fn lane(&self) -> Option<u64> {
        None
    }

    /// What comes back when the job was not done. It is asked of every job before a worker gets it, because a
    /// worker that panics takes its jobs along: keep it cheap.
    fn failed(&self, why: JobError) -> Self::Done;
}

/// Why a job was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Too many are waiting already: ask for less at once.
    #[error("the queue of jobs is full")]
    QueueFull,
    /// The disk, or what else the worker works on, failed.
    #[error("the storage failed")]
    Storage,
    /// The worker panicked, in this batch or before: it does nothing any more. Whether the job was done is
    /// unknown.
    #[error("the worker has panicked")]
    Panicked,
}

/// The job of a machine that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoJob {}

impl Job for NoJob {
    type Done = NoJob;
    fn failed(&self, _: JobError) -> NoJob {
        *self
    }
}

/// Whoever does jobs: the runner owns it and hands it batches, so that many writes share one sync.
pub trait Worker<J: Job>: Send {
    /// Does a batch and says what came of each, in the same order. What it reports as done survives a crash.
    fn run(&mut self, batch: Vec<J>) -> Vec<J::Done>;

    /// A simulation's power fails during this batch, or, if it is empty, between two. What was reported as done must be
    /// there afterwards; of the batch, of which nobody is told, what a disk may have of it. By default that is all or
    /// nothing.
    fn crash(&mut self, batch: Vec<J>, rng: &mut Rng) {
        if !batch.is_empty() && rng.chance(0.5) {
            self.run(batch);
        }
    }
}

/// The worker of a machine that has no jobs.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWorker;

impl Worker<NoJob> for NoWorker {
    fn run(&mut self, batch: Vec<NoJob>) -> Vec<NoJob> {
        batch
    }
}

/// What a machine did, for its runner to carry out.
#[expect(missing_debug_implementations, reason = "its parts need not be Debug")]
pub enum Effect<P: Protocol> {
    /// Send a message to a peer.
    Send(P::Peer, P::Msg),
    /// Fire a timer after a while, replacing an equal one.
    SetTimer(Duration, P::Timer),
    /// Forget a timer.
    ClearTimer(P::Timer),
    /// A command's asker gets something on the way.
    Item(OpId, P::Item),
    /// A command is over.
    Finish(OpId, P::Outcome),
    /// Whoever listens hears this.
    Emit(P::Event),
    /// Have a job done.
    Start(JobId, P::Job),
}
