//! How a machine of this crate is asked by a typed request: a command in, and which outcome is the reply.

/// `request!([generics] Machine, Request, Reply, |self| command, Outcome::Variant)`.
macro_rules! request {
    ([$($generics:tt)*] $machine:ty, $request:ty, $reply:ty, |$this:ident| $command:expr, $outcome:path) => {
        impl<$($generics)*> p2p_core::Request<$machine> for $request {
            type Item = ();
            type Reply = $reply;

            fn command($this) -> <$machine as p2p_core::Protocol>::Command {
                $command
            }
            fn item((): ()) -> Option<()> {
                None
            }
            fn reply(outcome: <$machine as p2p_core::Protocol>::Outcome) -> Option<$reply> {
                match outcome {
                    $outcome(result) => Some(result),
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use request;
