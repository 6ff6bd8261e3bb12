//! What a client does with a server's headers: they go to the chain, or are followed by themselves.

use super::{HeaderChain, HeaderSync, Refused, SyncError, SyncStep};
use crate::consensus::Consensus;
use crate::header::Header;
use crate::id::BlockId;

/// What is to be done next with whoever has sent headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Followed {
    /// It has more: what comes after this one, or after what the chain has.
    More(Option<BlockId>),
    /// It has shown all that it has, or all that is of any use.
    All,
    /// They follow what is not known here.
    Unconnected,
    /// It has provably lied.
    Lied(String),
}

/// Takes in headers that a server was asked for, those after a height, or has said by itself. `full` is how many come at most:
/// who sends as many has more. A secret is any 32 bytes that it does not know.
pub(crate) fn follow<C: Consensus>(
    chain: &mut HeaderChain<C>,
    syncing: &mut Option<HeaderSync<C>>,
    headers: &[C::Header],
    (after, full): (u64, usize),
    now: u64,
    secret: [u8; 32],
) -> Followed {
    let is_full = headers.len() == full;
    if let Some(sync) = syncing.take() {
        return by_themselves(chain, syncing, sync, headers, is_full, now);
    }
    let refused = chain.accept(headers, now).err();
    let last = headers.last().and_then(|last| chain.place(&last.id()));
    match refused {
        Some(refused) if refused.is_misbehaviour() => Followed::Lied(refused.to_string()),
        // Who says the same again has no more, or has gone over to another branch: it is asked again in its time.
        None if is_full && last.is_some_and(|last| last.height > after) => {
            Followed::More(last.map(|last| last.id))
        }
        Some(Refused::LowWork { .. }) if is_full => {
            let first = headers.first().map_or(BlockId::NONE, Header::previous);
            let sync = HeaderSync::new(chain, &first, secret);
            by_themselves(chain, syncing, sync, headers, is_full, now)
        }
        Some(Refused::Unconnected(_)) => Followed::Unconnected,
        None | Some(_) => Followed::All,
    }
}

/// Follows headers that are too little work so far.
fn by_themselves<C: Consensus>(
    chain: &mut HeaderChain<C>,
    syncing: &mut Option<HeaderSync<C>>,
    mut sync: HeaderSync<C>,
    headers: &[C::Header],
    is_full: bool,
    now: u64,
) -> Followed {
    match sync.accept(chain, headers, now) {
        Ok(SyncStep::Done) => Followed::More(None),
        // The second time begins anew.
        Ok(SyncStep::After(id)) if is_full || headers.last().map(Header::id) != Some(id) => {
            *syncing = Some(sync);
            Followed::More(Some(id))
        }
        Err(SyncError::Refused(refused)) if refused.is_misbehaviour() => Followed::Lied(refused.to_string()),
        Err(why @ SyncError::TooLong) => Followed::Lied(why.to_string()),
        Ok(SyncStep::After(_)) | Err(_) => Followed::All,
    }
}
