//! What a session knows of one connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use p2p_core::Time;

use super::merkle::BLOCK;
use super::metainfo::SwarmId;
use super::wire::{Block, Features, PeerMsg, PeerName};
use crate::bits::Bits;
use crate::rate::Rate;

/// Requests that a peer may be sent before its speed is known. 8: half of what fits 256 KiB.
const FEWEST: u32 = 8;
/// The most requests that wait at one peer. 500: 8 MiB.
const MOST: u32 = 500;
/// What a peer that does not say takes. 250: what most programs do.
const UNTOLD: u32 = 250;
/// So much more than the way there and back takes is asked for, so that no peer runs dry between two looks. 250 ms.
const SLACK: Duration = Duration::from_millis(250);
/// Bytes of blocks that a peer may send unasked that does not know BEP 6: what it sends of what it was asked for before it
/// choked this end cannot be told from that. Of others each request has one answer. 1 MiB.
const MAX_UNASKED: u64 = 1 << 20;
/// So many times as long as a peer may be silent it may owe one block. 6.
const LONGEST: u32 = 6;

/// How many requests wait at a peer: as much as it sends while one goes there and its answer comes back, twice over, and
/// what it sends in a quarter of a second. At first one more with each block, while that makes it faster.
#[derive(Debug)]
pub(super) struct Pipeline {
    size: u32,
    growing: bool,
    rate: u64,
    shortest: Duration,
    pub most: u32,
}

impl Pipeline {
    fn new() -> Pipeline {
        Pipeline { size: FEWEST, growing: true, rate: 0, shortest: Duration::MAX, most: UNTOLD }
    }

    /// A block has come, so long after it was asked for.
    pub(super) fn came(&mut self, took: Duration) {
        self.shortest = self.shortest.min(took);
        if self.growing {
            self.size += 1;
        }
    }

    /// A second is over, in which blocks came at this rate.
    pub(super) fn measure(&mut self, rate: u64) {
        self.growing &= self.rate == 0 || rate > self.rate + self.rate / 4;
        self.rate = rate;
        if !self.growing && rate > 0 && self.shortest < Duration::MAX {
            let bytes = (self.shortest * 2 + SLACK).as_secs_f64() * rate as f64;
            self.size = ((bytes / f64::from(BLOCK)) as u32).max(FEWEST);
        }
    }

    /// It does not answer: one request at a time will do to find out when it does.
    pub(super) fn stalled(&mut self) {
        self.growing = false;
        self.size = 1;
        self.rate = 0;
    }

    pub(super) fn size(&self) -> usize {
        self.size.min(self.most.max(1)).min(MOST) as usize
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub torrent: u64,
    pub swarm: SwarmId,
    /// The address that it was dialled at, or that it says it listens at.
    pub listens: Option<SocketAddr>,
    pub dialled: bool,
    /// Whether this end has begun to encrypt it.
    pub encrypted: bool,
    /// Whether somebody has taken it.
    pub reached: bool,
    /// Whether both have said who they are.
    pub name: Option<PeerName>,
    pub features: Features,
    pub wants_metadata: bool,
    pub wants_pex: bool,
    /// Whether it says that it would rather have connections encrypted.
    pub encrypts: bool,
    pub metadata_size: Option<u32>,
    /// Whether it was asked for metadata.
    pub metadata_asked: bool,
    pub client: Option<String>,
    /// What it has; of no pieces while their number is not known.
    pub have: Bits,
    /// What it said of that while their number was not known.
    pub early: Vec<PeerMsg>,
    /// How often it has said all that it has.
    pub statements: u32,
    /// How many of its pieces are wanted.
    pub wanted: u32,
    /// Whether it sends nothing.
    pub chokes: bool,
    /// Whether it wants something.
    pub interested: bool,
    /// Whether it says that it wants nothing, whatever it lacks (BEP 21).
    pub upload_only: bool,
    /// Since when it is sent what it asks for.
    pub unchoked: Option<Time>,
    /// Whether it was told that it has something that is wanted.
    pub interesting: bool,
    /// What it was asked for, and when; at most as the pipeline says.
    pub asked: VecDeque<(Block, Time)>,
    /// What it was asked for and need not send any more, but may have sent; the last of it, no more than may be asked for.
    pub withdrawn: VecDeque<Block>,
    /// Bytes that it has sent of what it never was asked for.
    pub unasked: u64,
    pub pipeline: Pipeline,
    pub last_piece: Option<u32>,
    /// Rejects since the last block.
    pub rejects: u32,
    pub down: Rate,
    pub up: Rate,
    pub downloaded: u64,
    pub uploaded: u64,
    pub wasted: u64,
    /// When it last sent a block, or began to owe one.
    pub progress: Time,
    /// When a block last went over it, either way, or it began.
    pub traded: Time,
    pub since: Time,
    pub heard: Time,
    pub told: Time,
    /// Whether no optimistic unchoke was drawn since it came.
    pub newcomer: bool,
    /// Whether it has said where its node of the DHT is.
    pub dht_told: bool,
    /// Who it was told of, and when.
    pub pex: BTreeSet<SocketAddr>,
    pub pex_at: Option<Time>,
    /// When it last told of others.
    pub pex_heard: Option<Time>,
    /// Where it is super-seeded: the pieces that it is to pass on, each since it was told of it or has it; and all of which
    /// it was told.
    pub offered: BTreeMap<u32, Time>,
    pub told_of: BTreeSet<u32>,
}

impl Conn {
    pub(super) fn new(
        torrent: u64,
        swarm: SwarmId,
        dialled: Option<SocketAddr>,
        pieces: u64,
        now: Time,
    ) -> Conn {
        Conn {
            torrent,
            swarm,
            listens: dialled,
            dialled: dialled.is_some(),
            encrypted: false,
            reached: false,
            name: None,
            features: Features::default(),
            wants_metadata: false,
            wants_pex: false,
            encrypts: false,
            metadata_size: None,
            metadata_asked: false,
            client: None,
            have: Bits::new(pieces),
            early: Vec::new(),
            statements: 0,
            wanted: 0,
            chokes: true,
            interested: false,
            upload_only: false,
            unchoked: None,
            interesting: false,
            asked: VecDeque::new(),
            withdrawn: VecDeque::new(),
            unasked: 0,
            pipeline: Pipeline::new(),
            last_piece: None,
            rejects: 0,
            down: Rate::default(),
            up: Rate::default(),
            downloaded: 0,
            uploaded: 0,
            wasted: 0,
            progress: now,
            traded: now,
            since: now,
            heard: now,
            told: now,
            newcomer: true,
            dht_told: false,
            pex: BTreeSet::new(),
            pex_at: None,
            pex_heard: None,
            offered: BTreeMap::new(),
            told_of: BTreeSet::new(),
        }
    }

    /// Whether it has every piece of a torrent whose pieces are known.
    pub(super) fn is_seed(&self) -> bool {
        self.have.len() > 0 && self.have.is_full()
    }

    /// Whether it owes what it was asked for too long: all of it, or one block while it sends others.
    pub(super) fn is_late(&self, now: Time, timeout: Duration) -> bool {
        // The first was asked for first.
        let oldest = self.asked.front().map(|(_, at)| now - *at);
        oldest.is_some_and(|oldest| now - self.progress > timeout || oldest > timeout * LONGEST)
    }

    /// Whether it wants nothing of a torrent whose pieces are known.
    pub(super) fn wants_nothing(&self) -> bool {
        self.upload_only || self.is_seed()
    }

    /// It does not owe a block any more: when it was asked for it.
    pub(super) fn settled(&mut self, block: &Block) -> Option<Time> {
        let at = self.asked.iter().position(|(asked, _)| asked == block)?;
        self.asked.remove(at).map(|(_, when)| when)
    }

    /// It need not send a block any more.
    pub(super) fn withdrawn(&mut self, block: Block) {
        if self.withdrawn.len() >= MOST as usize {
            self.withdrawn.pop_front();
        }
        self.withdrawn.push_back(block);
    }

    /// It has answered what it need not any more; whether it was that.
    pub(super) fn answered(&mut self, block: &Block) -> bool {
        let at = self.withdrawn.iter().position(|withdrawn| withdrawn == block);
        at.and_then(|at| self.withdrawn.remove(at)).is_some()
    }

    /// A block has come that it does not owe: whether that may be. What it need not have sent crosses with the news.
    pub(super) fn may_send(&mut self, block: &Block) -> bool {
        if !self.answered(block) {
            self.unasked += u64::from(block.length);
        }
        self.unasked <= if self.features.fast { 0 } else { MAX_UNASKED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_withdrawn_may_come_once_and_a_mebibyte_besides() {
        let swarm = [1; 20];
        let mut conn = Conn::new(1, swarm, None, 100, Time::ZERO);
        let block = |piece| Block { piece, begin: 0, length: BLOCK };
        (0..600).for_each(|piece| conn.withdrawn(block(piece)));
        assert_eq!(conn.withdrawn.len(), 500, "the last are remembered");
        assert!((100..600).all(|piece| conn.may_send(&block(piece))) && conn.unasked == 0);
        assert!((0..64).all(|_| conn.may_send(&block(599))));
        assert!(!conn.may_send(&block(599)));
        let mut conn = Conn::new(1, swarm, None, 100, Time::ZERO);
        conn.features.fast = true;
        conn.withdrawn(block(1));
        assert!(conn.may_send(&block(1)) && !conn.may_send(&block(1)), "each request has one answer");
    }

    #[test]
    fn the_pipeline_grows_while_that_helps_and_then_follows_the_rate() {
        let mut pipeline = Pipeline::new();
        for second in 1..=4 {
            (0..20).for_each(|_| pipeline.came(Duration::from_millis(100)));
            pipeline.measure(second * 400_000);
        }
        assert_eq!(pipeline.size(), 88);
        pipeline.measure(1_700_000);
        // 1.7 MB/s for 0.45 s.
        assert_eq!(pipeline.size(), 46);
        pipeline.measure(20_000);
        assert_eq!(pipeline.size(), FEWEST as usize);
        pipeline.measure(1 << 40);
        assert_eq!(pipeline.size(), UNTOLD as usize);
        pipeline.most = 20;
        assert_eq!(pipeline.size(), 20, "no more than it takes");
        pipeline.stalled();
        pipeline.measure(0);
        assert_eq!(pipeline.size(), 1, "until something comes");
        pipeline.measure(100_000);
        assert_eq!(pipeline.size(), FEWEST as usize);
    }
}
