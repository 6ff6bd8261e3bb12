//! One fetch: which runs are there, which were asked of whom, and what to ask next.
//!
//! Runs are asked for in order, each of one provider, as each has room. If all that is left is asked for and somebody
//! has nothing to do, the oldest question is put to them too (the endgame); so is a question whose answer is late.
//! What comes first counts. Before anything else, the last run is asked for: it proves the size.
//!
//! Bounds: at most 64 providers, and as many runs asked for and not yet written as the configuration says.

mod asking;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blake3::hazmat::ChainingValue;
use bytes::Bytes;
use p2p_core::{Cx, Key, OpId, Peer, Pending, Time};

use crate::bits::Bits;
use crate::command::{FetchError, FetchItem, Fetched, PeerReport, Progress, Standing};
use crate::job::{SwarmJob, Tag, Target, Work};
use crate::msg::{Part, Refusal};
use crate::provider::Provider;
use crate::runs::{bytes_of, run_count};
use crate::swarm::{Swarm, SwarmConfig};

/// Providers that one fetch keeps an eye on. 64.
pub(crate) const MAX_PROVIDERS: usize = 64;

/// A question to a provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub fetch: u64,
    pub part: Part,
    pub at: Time,
}

/// What a step needs besides the fetch itself.
pub(crate) struct Step<'a, 'b, P: Peer> {
    pub cx: &'a mut Cx<'b, Swarm<P>>,
    pub asks: &'a mut Pending<P, Asked>,
    pub config: &'a SwarmConfig,
    pub session: u64,
}

/// A fetch in progress.
#[derive(Debug)]
pub(crate) struct Download<P> {
    number: u64,
    pub op: OpId,
    pub root: Key,
    pub target: Target,
    lane: u64,
    every: Option<Duration>,
    stage: Stage,
    size: Option<u64>,
    have: Bits,
    /// Runs below it are there, asked for, or to be asked for again.
    cursor: u64,
    again: BTreeSet<u64>,
    flights: BTreeMap<Part, Flight<P>>,
    providers: BTreeMap<P, Provider>,
    bytes: u64,
    resumed: u64,
    /// Bytes written since the last sync began, and when that was.
    dirty: u64,
    synced: Time,
    syncing: bool,
    told: Time,
    measured: Time,
    starving: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The worker looks what is there.
    Opening,
    /// Runs are asked for.
    Running,
    /// All is there; the worker puts it in its place.
    Finishing,
}

/// A part that was asked for.
#[derive(Debug)]
struct Flight<P> {
    asked: Vec<(P, Time)>,
    /// What was sent, while the worker verifies and writes it.
    writing: Option<Sent<P>>,
}

#[derive(Clone, Copy, Debug)]
struct Sent<P> {
    from: P,
    /// What the sender says the blob's size is.
    size: u64,
    bytes: u64,
}

impl<P: Peer> Download<P> {
    /// A fetch that begins: its target is to be opened.
    pub(crate) fn begin(
        cx: &mut Cx<'_, Swarm<P>>,
        number: u64,
        op: OpId,
        fetch: crate::Fetch<P>,
    ) -> Download<P> {
        let now = cx.now();
        let lane = match &fetch.to {
            Target::File(path) => {
                let hash = Key::of(path.as_os_str().as_encoded_bytes());
                hash.as_bytes()[..8].iter().fold(0, |lane, byte| lane << 8 | u64::from(*byte))
            }
            Target::Memory { .. } => number,
        };
        let mut download = Download {
            number,
            op,
            root: fetch.root,
            target: fetch.to,
            lane,
            every: fetch.progress,
            stage: Stage::Opening,
            size: None,
            have: Bits::default(),
            cursor: 0,
            again: BTreeSet::new(),
            flights: BTreeMap::new(),
            providers: BTreeMap::new(),
            bytes: 0,
            resumed: 0,
            dirty: 0,
            synced: now,
            syncing: false,
            told: now,
            measured: now,
            starving: None,
        };
        download.add(fetch.providers);
        let open = Work::Open { fetch: number, root: download.root, target: download.target.clone() };
        download.start(cx, open);
        download
    }

    /// More providers; those given up are tried again.
    pub(crate) fn add(&mut self, peers: Vec<P>) {
        for peer in peers {
            match self.providers.get_mut(&peer) {
                Some(provider) => provider.revive(),
                None => {
                    if self.providers.len() >= MAX_PROVIDERS {
                        let useless = self.providers.iter().find(|(_, p)| !p.is_usable() && p.bytes == 0);
                        let Some(useless) = useless.map(|(peer, _)| *peer) else { return };
                        self.providers.remove(&useless);
                    }
                    self.providers.insert(peer, Provider::new());
                }
            }
        }
    }

    fn start(&self, cx: &mut Cx<'_, Swarm<P>>, work: Work) {
        cx.start(SwarmJob { tag: Tag::Fetch(self.number), lane: Some(self.lane), work });
    }

    /// Has the worker go on with what it does.
    pub(crate) fn check(&self, cx: &mut Cx<'_, Swarm<P>>) {
        self.start(cx, Work::Check { fetch: self.number });
    }

    /// Has the worker close the files.
    pub(crate) fn close(&self, cx: &mut Cx<'_, Swarm<P>>) {
        self.start(cx, Work::Close { fetch: self.number });
    }

    /// The target is open, and this much of it is there.
    pub(crate) fn opened(&mut self, step: &mut Step<'_, '_, P>, there: Option<(u64, Bits)>) {
        self.stage = Stage::Running;
        if let Some((size, have)) = there {
            self.resumed = have.iter().map(|run| len(size, run)).sum();
            self.bytes = self.resumed;
            self.size = Some(size);
            self.have = have;
        }
        self.go_on(step);
    }

    // ---- answers

    /// A provider has sent what it was asked for, or something else.
    pub(crate) fn data(
        &mut self,
        step: &mut Step<'_, '_, P>,
        from: P,
        asked: Asked,
        size: u64,
        proof: Vec<ChainingValue>,
        bytes: Bytes,
    ) {
        let Some(provider) = self.providers.get_mut(&from) else { return };
        provider.answered(step.cx.now() - asked.at, step.config.window);
        let Some(flight) = self.flights.get_mut(&asked.part).filter(|flight| flight.writing.is_none()) else {
            provider.wasted += bytes.len() as u64;
            return self.go_on(step);
        };
        if provider.standing == Standing::Liar {
            provider.wasted += bytes.len() as u64;
            self.unasked(from, asked.part);
            return self.go_on(step);
        }
        flight.asked.retain(|(peer, _)| *peer != from);
        flight.writing = Some(Sent { from, size, bytes: bytes.len() as u64 });
        let run = match asked.part {
            Part::Last => run_count(size) - 1,
            Part::Run(run) => run,
        };
        let plausible = self.size.is_none_or(|known| known == size) && bytes.len() as u64 == len(size, run);
        if !plausible {
            return self.not_proved(step, asked.part);
        }
        let tag = Tag::Write { fetch: self.number, run };
        let work = Work::Write { fetch: self.number, run, size, data: bytes, proof };
        step.cx.start(SwarmJob { tag, lane: Some(self.lane), work });
        // Its place with the provider is free, though the run is not written yet.
        self.go_on(step);
    }

    /// A provider will not send what it was asked for.
    pub(crate) fn refused(&mut self, step: &mut Step<'_, '_, P>, from: P, asked: Asked, why: Refusal) {
        let Some(provider) = self.providers.get_mut(&from) else { return };
        match why {
            Refusal::Busy => {
                provider.busy(step.cx.now());
                self.unasked(from, asked.part);
            }
            Refusal::NotShared => {
                if provider.is_usable() {
                    provider.standing = Standing::Without;
                }
                provider.in_flight = 0;
                self.unasked_all(from);
            }
        }
        self.go_on(step);
    }

    /// A provider is out of reach, or has been silent for too long.
    pub(crate) fn lost(&mut self, step: &mut Step<'_, '_, P>, peer: P) {
        let Some(provider) = self.providers.get_mut(&peer) else { return };
        if provider.in_flight > 0 {
            provider.failed(step.cx.now());
            self.unasked_all(peer);
            self.go_on(step);
        }
    }

    /// The worker has verified a run and written it.
    pub(crate) fn written(&mut self, step: &mut Step<'_, '_, P>, run: u64) {
        let part = self.part(run);
        let sent = self.flights.remove(&part).and_then(|flight| flight.writing);
        let Some(Sent { from, size, .. }) = sent else { return };
        if self.size.is_none() {
            self.size = Some(size);
            self.have = Bits::new(run_count(size));
        }
        self.have.insert(run);
        self.bytes += len(size, run);
        self.dirty += len(size, run);
        if let Some(provider) = self.providers.get_mut(&from) {
            provider.kept(len(size, run));
        }
        self.sync(step);
        self.go_on(step);
    }

    /// The worker says that a run is not what the root says.
    pub(crate) fn disproved(&mut self, step: &mut Step<'_, '_, P>, run: u64) {
        self.not_proved(step, self.part(run));
    }

    fn not_proved(&mut self, step: &mut Step<'_, '_, P>, part: Part) {
        let sent = self.flights.get_mut(&part).and_then(|flight| flight.writing.take());
        let Some(Sent { from, bytes, .. }) = sent else { return };
        if let Some(provider) = self.providers.get_mut(&from) {
            provider.wasted += bytes;
            if provider.standing != Standing::Liar {
                provider.standing = Standing::Liar;
                step.cx.item(self.op, FetchItem::Lied(from));
            }
        }
        self.unasked_all(from);
        self.unasked(from, part);
        self.go_on(step);
    }

    fn part(&self, run: u64) -> Part {
        self.size.map_or(Part::Last, |_| Part::Run(run))
    }

    /// A provider will not answer for a part: if nobody else will, it is asked for again.
    fn unasked(&mut self, peer: P, part: Part) {
        let Some(flight) = self.flights.get_mut(&part) else { return };
        flight.asked.retain(|(other, _)| *other != peer);
        if flight.asked.is_empty() && flight.writing.is_none() {
            self.flights.remove(&part);
            if let Part::Run(run) = part {
                self.again.insert(run);
            }
        }
    }

    fn unasked_all(&mut self, peer: P) {
        let parts: Vec<Part> = self.flights.keys().copied().collect();
        parts.into_iter().for_each(|part| self.unasked(peer, part));
    }

    // ---- time

    /// Looks after what is late, unsynced or to be told. Gives the error if there is nobody left to wait for.
    pub(crate) fn tick(&mut self, step: &mut Step<'_, '_, P>) -> Option<FetchError<P>> {
        let now = step.cx.now();
        if self.stage != Stage::Running {
            return None;
        }
        let elapsed = now - self.measured;
        self.measured = now;
        self.providers.values_mut().for_each(|provider| provider.rate.measure(elapsed));
        self.chase(step);
        self.go_on(step);
        self.sync(step);
        if self.every.is_some_and(|every| now - self.told >= every) {
            self.told = now;
            let usable = self.providers.iter().filter(|(_, p)| p.is_usable());
            let rates = usable.map(|(peer, p)| (*peer, p.rate.per_second())).collect();
            let progress = Progress { bytes: self.bytes, total: self.size, rates };
            step.cx.item(self.op, FetchItem::Progress(progress));
        }
        let hope = self.stage != Stage::Running
            || self.providers.values().any(Provider::is_usable)
            || self.flights.values().any(|flight| flight.writing.is_some());
        match (hope, self.starving) {
            (true, _) => self.starving = None,
            (false, None) => {
                self.starving = Some(now);
                step.cx.item(self.op, FetchItem::Starving);
            }
            (false, Some(since)) if now - since >= step.config.patience => {
                let peers = self.report();
                let lied = |report: &PeerReport<P>| report.standing == Standing::Liar;
                return Some(match !peers.is_empty() && peers.iter().all(lied) {
                    true => FetchError::AllLied { peers },
                    false => FetchError::NoProvider { peers },
                });
            }
            (false, Some(_)) => {}
        }
        None
    }

    fn sync(&mut self, step: &mut Step<'_, '_, P>) {
        let now = step.cx.now();
        let due = self.dirty >= step.config.sync_bytes || now - self.synced >= step.config.sync_every;
        if self.dirty > 0 && due && !self.syncing {
            self.dirty = 0;
            self.synced = now;
            self.syncing = true;
            self.start(step.cx, Work::Sync { fetch: self.number });
        }
    }

    /// What was written before the sync began is safe.
    pub(crate) fn synced(&mut self) {
        self.syncing = false;
    }

    // ---- the end

    fn report(&self) -> Vec<PeerReport<P>> {
        let report = |(peer, p): (&P, &Provider)| PeerReport {
            peer: *peer,
            standing: p.standing,
            bytes: p.bytes,
            wasted: p.wasted,
        };
        self.providers.iter().map(report).collect()
    }

    /// The blob is there, with this many bytes.
    pub(crate) fn fetched(&self, size: u64, content: Option<Bytes>) -> Fetched<P> {
        let resumed = if self.size.is_none() { size } else { self.resumed };
        Fetched { size, resumed, peers: self.report(), content }
    }
}

fn len(size: u64, run: u64) -> u64 {
    let bytes = bytes_of(size, run);
    bytes.end.saturating_sub(bytes.start)
}
