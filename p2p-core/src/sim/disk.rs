//! A simulated node's worker: jobs take time, may fail, and what was not synced is lost in a crash.

use std::fmt;
use std::time::Duration;

use super::SimPeer;
use super::world::{Rare, World};
use crate::Rng;
use crate::protocol::{Job, JobError, JobId, Protocol, Worker};
use crate::time::nanos;

/// How a worker behaves.
#[derive(Clone, Copy, Debug)]
pub struct DiskModel {
    /// A batch, with its sync, takes from half of this to one and a half. 2 ms.
    pub sync: Duration,
    /// The share of jobs that fail. 0.
    pub failures: f64,
    /// How many jobs wait; one more fails at once. 4096.
    pub queue: usize,
}

impl Default for DiskModel {
    fn default() -> DiskModel {
        DiskModel { sync: Duration::from_millis(2), failures: 0.0, queue: 4096 }
    }
}

pub(super) struct Disk<J: Job, W> {
    pub worker: W,
    /// Changes with each crash, so that a batch under way then is not reported.
    pub epoch: u32,
    /// What the worker does now.
    batch: Vec<(JobId, J)>,
    waiting: Vec<(JobId, J)>,
}

impl<J: Job, W> Disk<J, W> {
    pub(super) fn new(worker: W) -> Self {
        Disk { worker, epoch: 0, batch: Vec::new(), waiting: Vec::new() }
    }

    /// Takes a job on.
    pub(super) fn start<P>(&mut self, world: &mut World<P>, node: SimPeer, id: JobId, job: J)
    where
        P: Protocol<Peer = SimPeer, Job = J>,
    {
        if self.waiting.len() + self.batch.len() >= world.disk.queue {
            world.stats.jobs_failed += 1;
            world.after(0, Rare::JobRefused(node, id, job.failed(JobError::QueueFull)));
            return;
        }
        self.waiting.push((id, job));
        if self.batch.is_empty() {
            self.begin(world, node);
        }
    }

    fn begin<P: Protocol<Peer = SimPeer>>(&mut self, world: &mut World<P>, node: SimPeer) {
        self.batch = std::mem::take(&mut self.waiting);
        let sync = nanos(world.disk.sync);
        let takes = sync / 2 + world.disk_rng.below(sync.max(1));
        world.after(takes, Rare::DiskDone(node, self.epoch));
    }

    /// The batch is synced: what came of each job.
    pub(super) fn finish<P>(&mut self, world: &mut World<P>, node: SimPeer) -> Vec<(JobId, J::Done)>
    where
        P: Protocol<Peer = SimPeer, Job = J>,
        W: Worker<J>,
    {
        let mut reports = Vec::new();
        let (mut ids, mut jobs) = (Vec::new(), Vec::new());
        for (id, job) in std::mem::take(&mut self.batch) {
            match world.disk_rng.chance(world.disk.failures) {
                true => reports.push((id, job.failed(JobError::Storage))),
                false => {
                    ids.push(id);
                    jobs.push(job);
                }
            }
        }
        world.stats.jobs_failed += reports.len() as u64;
        world.stats.jobs += jobs.len() as u64;
        reports.extend(ids.into_iter().zip(self.worker.run(jobs)));
        reports.sort_by_key(|&(id, _)| id);
        if !self.waiting.is_empty() {
            self.begin(world, node);
        }
        reports
    }

    /// Power fails: the batch under way is the worker's to lose or to keep, and nobody has been told; what waited is lost.
    pub(super) fn crash(&mut self, rng: &mut Rng)
    where
        W: Worker<J>,
    {
        self.epoch += 1;
        self.waiting.clear();
        let batch = std::mem::take(&mut self.batch);
        self.worker.crash(batch.into_iter().map(|(_, job)| job).collect(), rng);
    }
}

impl<J: Job, W> fmt::Debug for Disk<J, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({} under way, {} waiting)", self.batch.len(), self.waiting.len())
    }
}
