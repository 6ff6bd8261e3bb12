//! What an adversary makes of lookups, for experiments.
//!
//! It keeps its tables as everybody does, so that it is asked, and answers with itself and its accomplices.

use p2p_core::Keyed;

use super::{Hint, LookupMsg};

/// For simulations: what `me` sends instead of a message that it means for `to`, and to whom. Where lookups converge it names its
/// accomplices as nearer; elsewhere it says that it is the root, and stops the question that it should pass on.
pub fn mislead<P: Keyed>(
    (me, to): (P, P),
    msg: LookupMsg<P>,
    accomplices: &[P],
    converges: bool,
) -> (P, LookupMsg<P>) {
    let mut named = accomplices.to_vec();
    if !converges {
        named.retain(|peer| *peer != me);
        named.insert(0, me);
    }
    match msg {
        LookupMsg::Answer { id, .. } if converges => {
            (to, LookupMsg::Answer { id, hint: Hint::Toward(named) })
        }
        LookupMsg::Answer { id, .. } => (to, LookupMsg::Answer { id, hint: Hint::Mine(named) }),
        LookupMsg::Forward { task, .. } if task.origin != me => {
            let (ticket, hops, timeouts) = (task.ticket, task.hops, task.timeouts);
            (task.origin, LookupMsg::Found { ticket, peers: named, hops, timeouts })
        }
        LookupMsg::Found { ticket, hops, timeouts, .. } => {
            (to, LookupMsg::Found { ticket, peers: named, hops, timeouts })
        }
        honest => (to, honest),
    }
}
