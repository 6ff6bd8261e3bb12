//! What can go wrong with a request, a stream or a datagram, told apart by whose fault it is.

use super::stream::{StreamError, code};
use super::transport::{DatagramError, DialError, Lost};

/// Why a stream could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The caller: a protocol's name has 1 to 255 bytes.
    #[error("a protocol's name has 1 to 255 bytes; {0:?} has not")]
    Name(String),
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The world: the connection was lost.
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request was not sent.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The caller: the body is longer than `Limits::request_bytes`.
    #[error("a request of {len} bytes; at most {max} are allowed (Limits::request_bytes)")]
    TooLong {
        /// Its bytes.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The world: the connection was lost. Whether the request was handled is unknown.
    #[error("the connection was lost before the reply: {0}")]
    Lost(Lost),
    /// The world: no reply within `Limits::request_timeout`. Whether the request was handled is unknown.
    #[error("no reply in time")]
    TimedOut,
    /// The peer does not serve this protocol.
    #[error("the peer does not serve this protocol")]
    NotServed,
    /// The peer has too much to do: try later.
    #[error("the peer is busy")]
    Busy,
    /// The peer takes no request as long as this.
    #[error("the request is longer than the peer allows")]
    Refused,
    /// The peer's handler refused, with a number of its own.
    #[error("the peer's handler refused (code {0})")]
    Application(u32),
    /// The peer's handler ended without an answer.
    #[error("the peer gave the request up")]
    Abandoned,
    /// The peer: its reply is longer than `Limits::request_bytes`.
    #[error("the reply is longer than {max} bytes (Limits::request_bytes)")]
    ReplyTooLong {
        /// The bound.
        max: usize,
    },
}

impl From<StreamError> for RequestError {
    fn from(error: StreamError) -> RequestError {
        match error {
            StreamError::Lost(lost) => RequestError::Lost(lost),
            StreamError::TooLong(max) => RequestError::ReplyTooLong { max },
            StreamError::Finished => RequestError::Abandoned,
            StreamError::Abandoned(number) => match u32::try_from(number).unwrap_or(0) {
                code::NOT_SERVED => RequestError::NotServed,
                code::BUSY => RequestError::Busy,
                code::TOO_LONG => RequestError::Refused,
                code::TIMED_OUT => RequestError::TimedOut,
                own if own >= code::APPLICATION => RequestError::Application(own - code::APPLICATION),
                _ => RequestError::Abandoned,
            },
        }
    }
}

/// Why a datagram was not sent. That it was does not mean that it arrives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It does not fit, or the connection is lost.
    #[error(transparent)]
    Datagram(#[from] DatagramError),
}

/// Why a protocol cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// The caller: a protocol's name has 1 to 255 bytes.
    #[error("a protocol's name has 1 to 255 bytes; {0:?} has not")]
    Name(String),
    /// The caller: the node serves this name already.
    #[error("{0:?} is served already: end the first, or choose another name")]
    Taken(String),
    /// The caller: the node is shut down.
    #[error("this node is shut down")]
    Shutdown,
    /// The world: the system gave no thread for a worker.
    #[error("no thread for a worker: {0}")]
    Thread(String),
}
