//! How a machine of this crate is asked by a typed request: a command in, and which outcome is the reply.

/// `request!(Machine, Outcome: Request, Reply, OutcomeVariant, |self| command)`.
macro_rules! request {
    ($machine:ident, $outcome:ident:
        $request:ty, $reply:ty, $variant:ident, |$this:ident| $make:expr) => {
        impl<M: Membership, C: Consensus, S: State> Request<$machine<M, C, S>> for $request {
            type Item = ();
            type Reply = $reply;

            fn command($this) -> <$machine<M, C, S> as Protocol>::Command {
                $make
            }
            fn item((): ()) -> Option<()> {
                None
            }
            fn reply(outcome: <$machine<M, C, S> as Protocol>::Outcome) -> Option<$reply> {
                match outcome {
                    $outcome::$variant(result) => Some(result),
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use request;
