//! Membership: who is next to whom in a network without structure.
//!
//! A [`Membership`] gives the layer above a few neighbours, both ways: whoever is next to a node has it for a neighbour
//! too, but for moments. All nodes hang together through their neighbours. [`Plumtree`](crate::Plumtree) broadcasts
//! over any of them: [`HyParView`](crate::HyParView) knows few of the members and suits networks of any size;
//! [`Swim`](crate::Swim) knows them all and says who has failed.

use p2p_core::{Down, Keyed, NoJob, Protocol};

/// A machine that keeps neighbours. It says of each when it comes and when it goes, and why.
pub trait Membership:
    Protocol<
        Peer: Keyed,
        Command = MembershipCommand<<Self as Protocol>::Peer>,
        Item = (),
        Outcome = (),
        Event = Neighbour<<Self as Protocol>::Peer>,
        Job = NoJob,
    >
{
    /// This node.
    fn me(&self) -> Self::Peer;

    /// Its neighbours, sorted.
    fn active(&self) -> &[Self::Peer];

    /// Whether the node takes part: it has neighbours, or is the first of its network.
    fn is_joined(&self) -> bool;
}

/// What the layer above asks. Each ends at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipCommand<P> {
    /// A neighbour takes in less than it is sent: it is to be none any more.
    Expel(P),
    /// Says goodbye to all neighbours, and looks for no others.
    Leave,
}

/// A neighbour has come or gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour<P> {
    /// It is one from now on.
    Up(P),
    /// It is one no more.
    Down(P, Parting),
}

/// Why somebody is a neighbour no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Parting {
    /// It said goodbye.
    #[error("it has left")]
    Left,
    /// One of the two made room for another.
    #[error("another took its place")]
    Replaced,
    /// The connection is gone.
    #[error("the connection is gone: {0:?}")]
    Failed(Down),
    /// It gave no sign of life.
    #[error("it gives no sign of life")]
    Silent,
    /// It took in less than it was sent.
    #[error("it takes in less than it is sent")]
    Slow,
}

impl Parting {
    /// What a lost connection means; `None` if nothing.
    pub(crate) fn of(why: Down) -> Option<Parting> {
        match why {
            Down::Idle | Down::Shutdown => None,
            Down::Overflow => Some(Parting::Slow),
            Down::Unreachable | Down::TimedOut | Down::Closed | Down::Misbehaved => {
                Some(Parting::Failed(why))
            }
        }
    }
}
