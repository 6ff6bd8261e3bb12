//! What the drivers for foreign protocols have in common: a [`Network`] each, and the loop that runs a machine on it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::clock::Clock;
use super::runner::{Input, Runner};
use super::worker::Crew;
pub use crate::foreign::Malformed;
use crate::protocol::Link;
use crate::{Handle, Limits, Peer, Protocol, Worker};

/// Where a machine's messages go, and where others' come from.
pub(super) trait Network: Send + 'static {
    /// What peers are called.
    type Peer: Peer;
    /// What travels.
    type Msg: Send + 'static;

    /// Sends a message, or keeps it until it is polled.
    fn send(&mut self, to: Self::Peer, msg: Self::Msg);
    /// What comes next; and what was kept goes, as far as it can.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Came<Self::Peer, Self::Msg>>;
    /// Sends what waits, and ends.
    fn finish(self) -> impl Future<Output = ()> + Send;
}

/// What comes from a network.
pub(super) enum Came<P, M> {
    Message(P, M),
    Link(P, Link),
}

/// Runs a machine on a network, with workers for its jobs.
pub(super) fn spawn<P, N, W>(
    name: &'static str,
    machine: P,
    network: N,
    local: Option<SocketAddr>,
    limits: Limits,
    workers: impl IntoIterator<Item = W>,
) -> std::io::Result<Running<P>>
where
    P: Protocol<Peer = N::Peer, Msg = N::Msg>,
    N: Network,
    W: Worker<P::Job> + 'static,
{
    let crew = Crew::start(name, workers, limits.jobs, limits.jobs_per_batch)?;
    let (runner, handle) = Runner::new(machine, Clock::start(), crew);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(run(name, runner, network, stopped));
    Ok(Running { handle, local, stop, task, limits })
}

async fn run<P, N>(
    name: &'static str,
    mut runner: Runner<P>,
    mut network: N,
    mut stopped: watch::Receiver<bool>,
) where
    P: Protocol<Peer = N::Peer, Msg = N::Msg>,
    N: Network,
{
    let _alarm = Alarm(name);
    let mut stopped = pin!(async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    });
    let mut out = Vec::new();
    runner.feed(Input::Start, &mut out);
    let mut network_first = false;
    loop {
        out.drain(..).for_each(|(to, msg)| network.send(to, msg));
        network_first = !network_first;
        let next = poll_fn(|cx| {
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            for of_network in [network_first, !network_first] {
                let next = match of_network {
                    true => network.poll(cx).map(|came| match came {
                        Came::Message(peer, msg) => Input::Message(peer, msg),
                        Came::Link(peer, link) => Input::Link(peer, link),
                    }),
                    false => runner.poll(cx),
                };
                if next.is_ready() {
                    return next.map(Some);
                }
            }
            Poll::Pending
        });
        let Some(input) = next.await else { break };
        runner.feed(input, &mut out);
    }
    network.finish().await;
    runner.finish().await;
}

/// A machine that runs on a plain socket. Dropping it ends the machine.
///
/// A machine that panics is stopped: its connections are closed, its address is free again, and whoever asks it gets
/// [`AskError::Stopped`](crate::AskError::Stopped).
pub struct Running<P: Protocol> {
    handle: Handle<P>,
    local: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    limits: Limits,
}

impl<P: Protocol> Running<P> {
    /// To ask it.
    pub fn handle(&self) -> Handle<P> {
        self.handle.clone()
    }

    /// Where it is bound, with the port that the system chose; `None` if it does not listen.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local
    }

    /// Ends it within [`Limits::shutdown_deadline`]: what waits to be sent is sent, jobs are done.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if timeout(self.limits.shutdown_deadline, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl<P: Protocol> fmt::Debug for Running<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("local", &self.local).finish_non_exhaustive()
    }
}

/// Tells of a panic of the machine in whose task it lives.
struct Alarm(&'static str);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(driver = self.0, "a machine has panicked: it is stopped");
        }
    }
}
