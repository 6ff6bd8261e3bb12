//! A long chain of headers from one peer, who may be making it up, in next to no memory.
//!
//! A new node needs all headers and has none to compare them with. Easy headers cost nothing: were they kept as they come,
//! a peer could fill the memory before it shows that its chain never gets anywhere. So they come twice, as in Bitcoin
//! Core (24.0, `headerssync`). The first time each is checked and forgotten, but for the last few, which the rules look
//! at, and one bit of every [`period`](HeaderSync::period)th's hash under a secret. If they reach the work that a chain
//! must have, they come again, and are kept once [`ahead`](HeaderSync::ahead) of those after them have had the right bits:
//! who shows another chain the second time has to guess as many.
//!
//! Unlike there, the first time already checks all rules, for our rules look back no farther than
//! [`Consensus::reach`].

use std::collections::VecDeque;

use ruint::aliases::U256;

use super::{HeaderChain, Refused, Tip};
use crate::consensus::{Consensus, Past};
use crate::header::Header;
use crate::id::BlockId;

/// How many headers a second there can be: of eleven in a row the sixth is later than the median before.
const PER_SECOND: u64 = 6;

/// The headers of one peer, from a header that is known to the end of its chain.
#[derive(Clone, Debug)]
pub struct HeaderSync<C: Consensus> {
    /// Every how many headers a bit is kept. 512.
    pub period: u64,
    /// After how many more headers with the right bits one is kept: 32 bits' worth, and 1.5 MB of our headers. 16,384.
    pub ahead: usize,
    secret: [u8; 32],
    /// The work that the chain must have: as it was when this began, so that both times the same is needed.
    needed: U256,
    start: Tip,
    bits: VecDeque<bool>,
    /// Where it has come to, the first or the second time.
    last: Tip,
    again: bool,
    /// The first time those that the rules still look at; the second time those that are not kept yet.
    held: VecDeque<C::Header>,
}

/// What is to be asked of the peer next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncStep {
    /// The headers after this one.
    After(BlockId),
    /// Nothing: the chain has all of them that it needed to see twice. What follows may go to it directly.
    Done,
}

/// Why a peer's headers are not followed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// One of them is refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// They end before they have the work that a chain must have.
    #[error("the peer's chain ends with {found} work; a chain must have {needed}")]
    LowWork {
        /// What it must have.
        needed: U256,
        /// What it has.
        found: U256,
    },
    /// There are more than time allows.
    #[error("the peer's chain is longer than there was time for")]
    TooLong,
    /// The second time there came others than the first.
    #[error("the peer shows another chain than before")]
    Changed,
}

impl<C: Consensus> HeaderSync<C> {
    /// Follows a peer from a header that the chain has; the end of the chain, if it has not this one. The secret is any 32
    /// bytes that the peer does not know.
    pub fn new(chain: &HeaderChain<C>, from: &BlockId, secret: [u8; 32]) -> HeaderSync<C> {
        let start = chain.place(from).unwrap_or(chain.tip());
        let (bits, held) = (VecDeque::new(), VecDeque::new());
        let needed = chain.rules.minimum_work.max(chain.tip().work);
        HeaderSync {
            period: 512,
            ahead: 16_384,
            secret,
            needed,
            start,
            bits,
            last: start,
            again: false,
            held,
        }
    }

    /// What is to be asked of the peer now.
    pub fn step(&self) -> SyncStep {
        SyncStep::After(self.last.id)
    }

    /// Takes in what the peer has sent, at Unix time `now`; nothing, if it has no more.
    ///
    /// # Errors
    /// It is not followed any more. What the chain has taken in by then has been seen twice.
    pub fn accept(
        &mut self,
        chain: &mut HeaderChain<C>,
        headers: &[C::Header],
        now: u64,
    ) -> Result<SyncStep, SyncError> {
        if headers.is_empty() {
            return Err(SyncError::LowWork { needed: self.needed, found: self.last.work });
        }
        for header in headers {
            match self.again {
                false => self.first_time(chain, header, now)?,
                true => self.second_time(chain, header)?,
            }
            if self.last.work < self.needed {
                continue;
            }
            if self.again {
                let rest = Vec::from(std::mem::take(&mut self.held));
                chain.take(&rest, now, false)?;
                return Ok(SyncStep::Done);
            }
            // What is left of these comes again too.
            self.held.clear();
            (self.again, self.last) = (true, self.start);
            return Ok(self.step());
        }
        if self.again && self.held.len() > self.ahead {
            let sure: Vec<C::Header> = self.held.drain(..self.held.len() - self.ahead).collect();
            chain.take(&sure, now, false)?;
        }
        Ok(self.step())
    }

    fn first_time(&mut self, chain: &HeaderChain<C>, header: &C::Header, now: u64) -> Result<(), SyncError> {
        self.check_follows(header)?;
        let consensus = &chain.consensus;
        consensus.check_seal(header).map_err(Refused::Fault)?;
        // `held` ends at the last height.
        let below = self.last.height - self.held.len() as u64;
        // It may have been found invalid, and forgotten.
        let start = chain.index.find(&self.start.id).ok_or(Refused::Unconnected(self.start.id))?;
        let at = |height: u64| match height.checked_sub(below + 1) {
            Some(i) if height > self.start.height => self.held.get(i as usize),
            _ => chain.index.ancestor(start, height).map(|entry| &entry.header),
        };
        consensus.check(header, &Past::new(self.last.height, &at), now).map_err(Refused::Fault)?;
        let seconds = now.saturating_sub(chain.header(&self.start.id).map_or(0, Header::time));
        let most = seconds.saturating_add(24 * 3600).saturating_mul(PER_SECOND);
        if self.last.height - self.start.height >= most {
            return Err(SyncError::TooLong);
        }
        self.advance(consensus, header);
        if self.is_marked() {
            self.bits.push_back(self.bit());
        }
        self.held.push_back(header.clone());
        if self.held.len() as u64 > consensus.reach() {
            self.held.pop_front();
        }
        Ok(())
    }

    fn second_time(&mut self, chain: &HeaderChain<C>, header: &C::Header) -> Result<(), SyncError> {
        self.check_follows(header)?;
        // Or it could claim any work.
        chain.consensus.check_seal(header).map_err(Refused::Fault)?;
        self.advance(&chain.consensus, header);
        if self.is_marked() && self.bits.pop_front() != Some(self.bit()) {
            return Err(SyncError::Changed);
        }
        self.held.push_back(header.clone());
        Ok(())
    }

    fn check_follows(&self, header: &C::Header) -> Result<(), Refused> {
        let previous = header.previous();
        (previous == self.last.id).then_some(()).ok_or(Refused::Unconnected(previous))
    }

    fn advance(&mut self, consensus: &C, header: &C::Header) {
        let work = self.last.work.saturating_add(consensus.work(header));
        self.last = Tip { id: header.id(), height: self.last.height + 1, work };
    }

    /// Whether of the last header a bit is kept: which those are is part of the secret.
    fn is_marked(&self) -> bool {
        let offset = u64::from(self.secret[0]) << 8 | u64::from(self.secret[1]);
        (self.last.height + offset).is_multiple_of(self.period.max(1))
    }

    fn bit(&self) -> bool {
        blake3::keyed_hash(&self.secret, self.last.id.0.as_bytes()).as_bytes()[0] & 1 == 1
    }
}
