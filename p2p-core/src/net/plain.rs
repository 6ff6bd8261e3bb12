//! What the drivers for foreign protocols have in common.

use std::fmt;
use std::net::SocketAddr;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use crate::foreign::Malformed;
use crate::{Handle, Limits, Protocol};

/// A machine that runs on a plain socket. Dropping it ends the machine.
///
/// A machine that panics is stopped: its connections are closed, its address is free again, and whoever asks it gets
/// [`AskError::Stopped`](crate::AskError::Stopped).
pub struct Running<P: Protocol> {
    pub(super) handle: Handle<P>,
    pub(super) local: Option<SocketAddr>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) task: JoinHandle<()>,
    pub(super) limits: Limits,
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
pub(super) struct Alarm(pub &'static str);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(driver = self.0, "a machine has panicked: it is stopped");
        }
    }
}
