//! What makes a header count: a trait, with proof of work and proof of authority behind it.
//!
//! A consensus says of a header whether it may follow those before it, and how much it weighs. Which chain is the one
//! is not its business: of valid ones the heaviest ([`HeaderChain`](crate::HeaderChain)).

mod authority;
mod retarget;
mod work;

use p2p_core::Key;
use ruint::aliases::U256;

use crate::header::Header;
use crate::target::Compact;

pub use authority::ProofOfAuthority;
pub use retarget::{Retarget, asert, window};
pub use work::ProofOfWork;

/// How many headers the median time past is taken over, as Bitcoin has it.
pub const MEDIAN_SPAN: u64 = 11;

/// What makes a header count.
pub trait Consensus: Send + 'static {
    /// The headers that it judges.
    type Header: Header;

    /// What can be said of a header alone: that work has gone into it, or that an authority has signed it. Asked first,
    /// for what fails here has cost its sender nothing and may cost us nothing.
    ///
    /// # Errors
    /// Its seal is broken.
    fn check_seal(&self, header: &Self::Header) -> Result<(), Fault>;

    /// Whether a header whose seal is good may follow those before it. `now` is the Unix time in seconds.
    ///
    /// # Errors
    /// It may not, or not yet.
    fn check(&self, header: &Self::Header, past: &Past<'_, Self::Header>, now: u64) -> Result<(), Fault>;

    /// How many headers back [`check`](Consensus::check) looks at most, beside the very first.
    fn reach(&self) -> u64;

    /// How much a valid header adds to its chain.
    fn work(&self, header: &Self::Header) -> U256;

    /// Who has made a header, if it has cost nothing but a signature: then it is bounded how many of a height are kept of each
    /// author, and not how many in all. `None`, if it has cost work.
    fn author(&self, header: &Self::Header) -> Option<u64> {
        let _ = header;
        None
    }

    /// The header after `past` that commits to these transactions, complete but for its seal.
    fn draft(&self, past: &Past<'_, Self::Header>, root: Key, time: u64) -> Self::Header;
}

/// The headers before a header, back to the first.
#[derive(Clone, Copy)]
pub struct Past<'a, H> {
    height: u64,
    at: &'a dyn Fn(u64) -> Option<&'a H>,
}

impl<'a, H: Header> Past<'a, H> {
    /// Those up to `height`, each found by its height. There is one at every height up to this.
    pub fn new(height: u64, at: &'a dyn Fn(u64) -> Option<&'a H>) -> Past<'a, H> {
        Past { height, at }
    }

    /// The height of the last one.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// The one at a height.
    ///
    /// # Panics
    /// If there is none, because it is above [`height`](Past::height).
    pub fn header(&self, height: u64) -> &'a H {
        (self.at)(height).expect("there is one at every height up to the last")
    }

    /// The last one.
    pub fn parent(&self) -> &'a H {
        self.header(self.height)
    }

    /// The median of the last eleven times, or of all, if there are fewer. Times may go back from one header to the next;
    /// this cannot.
    pub fn median_time(&self) -> u64 {
        let first = self.height.saturating_sub(MEDIAN_SPAN - 1);
        let mut times = [0; MEDIAN_SPAN as usize];
        let count = (self.height - first + 1) as usize;
        for (time, height) in times.iter_mut().zip(first..=self.height) {
            *time = self.header(height).time();
        }
        times[..count].sort_unstable();
        times[count / 2]
    }
}

impl<H> std::fmt::Debug for Past<'_, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Past(to height {})", self.height)
    }
}

/// Why a header does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Its hash is above the target it claims, or it claims none, or one above the limit.
    #[error("the header's hash does not meet its target")]
    NoWork,
    /// It claims another target than the rules give it.
    #[error("the header's target is {:08x}; here it must be {:08x}", found.0, expected.0)]
    Bits {
        /// What it must be.
        expected: Compact,
        /// What it is.
        found: Compact,
    },
    /// It says another height than it has.
    #[error("the header says it has height {found}; it has {expected}")]
    Height {
        /// What it has.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// It is not later than what must be before it.
    #[error("the header's time is {found}; it must be at least {earliest}")]
    TooOld {
        /// When it may be.
        earliest: u64,
        /// When it is.
        found: u64,
    },
    /// It is from the future: it may count later.
    #[error("the header's time is {found}, which is not yet to be taken: now at most {latest}")]
    TooNew {
        /// When it may be now.
        latest: u64,
        /// When it is.
        found: u64,
    },
    /// Nobody with this number may sign.
    #[error("signer {0} is none of the authorities")]
    UnknownSigner(u16),
    /// The signature is not the signer's.
    #[error("the signature is not that of signer {0}")]
    Signature(u16),
    /// The signer has signed another header too shortly before.
    #[error("signer {signer} has signed the header at height {last}; its next may be at {next}")]
    TooSoon {
        /// Who.
        signer: u16,
        /// The height of its last.
        last: u64,
        /// From which height on it may sign.
        next: u64,
    },
}

impl Fault {
    /// Whether time alone can mend it: such a header is not invalid.
    pub fn passes(&self) -> bool {
        matches!(self, Fault::TooNew { .. })
    }
}

fn check_height<H: Header>(header: &H, past: &Past<'_, H>) -> Result<(), Fault> {
    let expected = past.height() + 1;
    match header.height() {
        Some(found) if found != expected => Err(Fault::Height { expected, found }),
        _ => Ok(()),
    }
}

fn check_not_ahead<H: Header>(header: &H, now: u64, ahead: u64) -> Result<(), Fault> {
    let (found, latest) = (header.time(), now.saturating_add(ahead));
    (found <= latest).then_some(()).ok_or(Fault::TooNew { latest, found })
}
