//! Threads that do machines' jobs.
//!
//! Each [`Worker`] has a thread of its own and takes what waits for it as one batch, so that many writes share one
//! sync. Jobs of one lane go to one worker, in order. A full queue is told at once. When a worker panics, or
//! answers for more or fewer jobs than it was given, that batch and all it is given from then on come back as
//! failed: the machine never waits for a job in vain, and goes on.
#![allow(clippy::disallowed_types, reason = "the runner owns the threads")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc as threads;
use std::task::{Context, Poll};

use tokio::sync::mpsc;

use crate::protocol::{Job, JobError, JobId, Worker};

type Done<J> = (JobId, <J as Job>::Done);

/// One protocol's workers.
pub(super) struct Crew<J: Job> {
    queues: Vec<threads::Sender<(JobId, J)>>,
    done: mpsc::UnboundedReceiver<Done<J>>,
    open: usize,
    most: usize,
    turn: usize,
}

impl<J: Job> Crew<J> {
    /// Starts a thread for each worker. At most `most` jobs are open at a time, in batches of `batch` or fewer.
    pub(super) fn start<W: Worker<J> + 'static>(
        name: &str,
        workers: impl IntoIterator<Item = W>,
        most: usize,
        batch: usize,
    ) -> std::io::Result<Crew<J>> {
        let (sender, done) = mpsc::unbounded_channel();
        let mut queues = Vec::new();
        for worker in workers {
            let (queue, jobs) = threads::channel();
            let done = sender.clone();
            let thread = std::thread::Builder::new().name(format!("p2p {name}"));
            thread.spawn(move || work(worker, &jobs, &done, batch.max(1)))?;
            queues.push(queue);
        }
        Ok(Crew { queues, done, open: 0, most, turn: 0 })
    }

    /// Has a job done; where that cannot be, gives what comes back instead.
    pub(super) fn begin(&mut self, id: JobId, job: J) -> Result<(), J::Done> {
        if self.open >= self.most || self.queues.is_empty() {
            return Err(job.failed(JobError::QueueFull));
        }
        let which = job.lane().unwrap_or_else(|| {
            self.turn = self.turn.wrapping_add(1);
            self.turn as u64
        });
        let queue = &self.queues[(which % self.queues.len() as u64) as usize];
        queue.send((id, job)).map_err(|threads::SendError((_, job))| job.failed(JobError::Panicked))?;
        self.open += 1;
        Ok(())
    }

    /// The next job that is done.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done<J>> {
        match self.done.poll_recv(cx) {
            Poll::Ready(Some(done)) => {
                self.open -= 1;
                Poll::Ready(done)
            }
            // `None`: there are no workers.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Gives no more jobs and waits until the last is done and the workers are dropped.
    pub(super) async fn finish(mut self) {
        self.queues.clear();
        while self.done.recv().await.is_some() {}
    }
}

fn work<J: Job, W: Worker<J>>(
    mut worker: W,
    jobs: &threads::Receiver<(JobId, J)>,
    done: &mpsc::UnboundedSender<Done<J>>,
    most: usize,
) {
    while let Ok(first) = jobs.recv() {
        let (mut ids, mut batch, mut spare) = (Vec::new(), Vec::new(), Vec::new());
        let more = std::iter::from_fn(|| jobs.try_recv().ok());
        for (id, job) in std::iter::once(first).chain(more).take(most) {
            ids.push(id);
            spare.push(job.failed(JobError::Panicked));
            batch.push(job);
        }
        let results = catch_unwind(AssertUnwindSafe(|| worker.run(batch)));
        let results = results.ok().filter(|results| results.len() == ids.len());
        let broken = results.is_none();
        for result in ids.into_iter().zip(results.unwrap_or(spare)) {
            let _ = done.send(result);
        }
        if broken {
            break;
        }
    }
    // Only a broken worker leaves jobs. What it holds may be half done: it is not run again.
    while let Ok((id, job)) = jobs.recv() {
        let _ = done.send((id, job.failed(JobError::Panicked)));
    }
}
