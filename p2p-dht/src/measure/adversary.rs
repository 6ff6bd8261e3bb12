//! What adversaries send instead of what they should.

use p2p_core::Keyed;
use p2p_overlay::RoutedMsg;
use p2p_overlay::measure::mislead;

use crate::replicated::{DhtMsg, Verdict};

/// How an adversary behaves. Either way it looks after its tables as everybody does, so that it is in those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malice {
    /// It drops whatever else it should say.
    Drops,
    /// It leads lookups to its accomplices, says that it keeps what it does not keep, and has nothing.
    Lies,
}

type Msg<P, M> = DhtMsg<P, RoutedMsg<P, M>>;

/// What `me` sends instead of a message that it means for `to`, and to whom, if anything.
pub(super) fn instead<P: Keyed, M>(
    malice: Malice,
    (me, to): (P, P),
    msg: Msg<P, M>,
    accomplices: &[P],
    converges: bool,
) -> Option<(P, Msg<P, M>)> {
    match msg {
        upkeep @ DhtMsg::Overlay(RoutedMsg::Upkeep(_)) => Some((to, upkeep)),
        _ if malice == Malice::Drops => None,
        DhtMsg::Overlay(RoutedMsg::Lookup(msg)) => {
            let (to, msg) = mislead((me, to), msg, accomplices, converges);
            Some((to, DhtMsg::Overlay(RoutedMsg::Lookup(msg))))
        }
        DhtMsg::Stored { id, .. } => Some((to, DhtMsg::Stored { id, result: Ok(()) })),
        DhtMsg::Loaded { id, .. } => Some((to, DhtMsg::Loaded { id, records: Vec::new() })),
        DhtMsg::Fetched { id, .. } => Some((to, DhtMsg::Fetched { id, found: None })),
        DhtMsg::Compared { id, verdicts } => {
            let verdicts = verdicts.iter().map(|_| Verdict::Has).collect();
            Some((to, DhtMsg::Compared { id, verdicts }))
        }
        DhtMsg::Summed { id, .. } => Some((to, DhtMsg::Summed { id, parts: Vec::new() })),
        DhtMsg::Store { .. }
        | DhtMsg::Provide { .. }
        | DhtMsg::Load { .. }
        | DhtMsg::Fetch { .. }
        | DhtMsg::Offer { .. }
        | DhtMsg::Sum { .. } => None,
    }
}
