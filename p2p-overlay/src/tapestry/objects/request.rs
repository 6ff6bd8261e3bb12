//! What users ask, and what comes back.

use p2p_core::{AskError, Key, Keyed, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TapestryObjects;

/// A command to [`TapestryObjects`]: see the typed requests.
#[derive(Clone, Copy, Debug)]
pub enum ObjectCommand {
    /// See [`PublishObject`].
    Publish(Key),
    /// See [`UnpublishObject`].
    Unpublish(Key),
    /// See [`LocateObject`].
    Locate(Key),
}

/// How a command ended.
#[derive(Clone, Debug)]
pub enum ObjectOutcome<P> {
    /// Of [`PublishObject`].
    Published(Result<usize, PublishError>),
    /// Of [`UnpublishObject`].
    Unpublished,
    /// Of [`LocateObject`].
    Located(Result<Located<P>, LocateError>),
}

/// This node has an object: see [`Locate::publish`](super::Locate::publish).
#[derive(Clone, Copy, Debug)]
pub struct PublishObject(pub Key);

/// It has not any more: see [`Locate::unpublish`](super::Locate::unpublish).
#[derive(Clone, Copy, Debug)]
pub struct UnpublishObject(pub Key);

/// Who has an object: see [`Locate::locate`](super::Locate::locate).
#[derive(Clone, Copy, Debug)]
pub struct LocateObject(pub Key);

/// A node has an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located<P> {
    /// Which.
    pub server: P,
    /// How often the question was passed on until it came there.
    pub hops: u32,
}

/// Why an object is not published. What the node was told to publish it goes on publishing, unless it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The node publishes as many objects as it may, or too many questions wait.
    #[error("this node publishes as much as it may at once: unpublish something, or wait")]
    Full,
    /// None of the object's roots has answered in time; the node tries again by itself.
    #[error("none of the object's roots has answered: the node has not joined, or is cut off")]
    NoRoot,
    /// No answer from the protocol itself.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// Why an object is not located.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocateError {
    /// A root that has answered knows nobody who has it, and no other knows more.
    #[error("nobody is known to have this object")]
    NotFound,
    /// None of the object's roots has answered.
    #[error("none of the object's roots has answered: the node has not joined, or is cut off")]
    NoRoot,
    /// The caller has too many questions open at this node.
    #[error("too many questions at once: wait for some to end")]
    Busy,
    /// No answer from the protocol itself.
    #[error(transparent)]
    Ask(#[from] AskError),
}

impl<P: Keyed + Serialize + DeserializeOwned> Request<TapestryObjects<P>> for PublishObject {
    type Item = ();
    type Reply = Result<usize, PublishError>;

    fn command(self) -> ObjectCommand {
        ObjectCommand::Publish(self.0)
    }
    fn item((): ()) -> Option<()> {
        None
    }
    fn reply(outcome: ObjectOutcome<P>) -> Option<Self::Reply> {
        match outcome {
            ObjectOutcome::Published(result) => Some(result),
            ObjectOutcome::Unpublished | ObjectOutcome::Located(_) => None,
        }
    }
}

impl<P: Keyed + Serialize + DeserializeOwned> Request<TapestryObjects<P>> for UnpublishObject {
    type Item = ();
    type Reply = ();

    fn command(self) -> ObjectCommand {
        ObjectCommand::Unpublish(self.0)
    }
    fn item((): ()) -> Option<()> {
        None
    }
    fn reply(outcome: ObjectOutcome<P>) -> Option<()> {
        match outcome {
            ObjectOutcome::Unpublished => Some(()),
            ObjectOutcome::Published(_) | ObjectOutcome::Located(_) => None,
        }
    }
}

impl<P: Keyed + Serialize + DeserializeOwned> Request<TapestryObjects<P>> for LocateObject {
    type Item = ();
    type Reply = Result<Located<P>, LocateError>;

    fn command(self) -> ObjectCommand {
        ObjectCommand::Locate(self.0)
    }
    fn item((): ()) -> Option<()> {
        None
    }
    fn reply(outcome: ObjectOutcome<P>) -> Option<Self::Reply> {
        match outcome {
            ObjectOutcome::Located(result) => Some(result),
            ObjectOutcome::Published(_) | ObjectOutcome::Unpublished => None,
        }
    }
}
