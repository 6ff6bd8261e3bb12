//! HTTP/1.1 (RFC 9112), as much as trackers and web seeds need of it.
//!
//! - `codec` is a connection's bytes: one GET, and one answer.
//! - [`HttpClient`] is the machine that asks, for `p2p_core::net::tcp`; over TLS, too, if that is given the codecs for it.
//! - `fetch` takes a URL to it: it finds the host, and follows where it is sent. [`Resolve`] is how.
//! - `reach` is what keeps servers far away from having us ask what is near.

mod client;
mod codec;
mod fetch;
mod reach;

pub use client::{HttpClient, HttpGet, HttpReply};
pub use codec::{HttpCodec, HttpMsg, MAX_BODY};
pub use fetch::Resolve;

pub(super) use codec::{escape, gunzip};
pub(super) use fetch::Fetch;
pub(super) use reach::Reach;

use super::url::ParseUrlError;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// What was to be asked is no URL of HTTP.
    #[error(transparent)]
    Url(#[from] ParseUrlError),
    /// An answer sends its client to no URL of HTTP, or from TLS to one in the clear.
    #[error("the server sends its clients nowhere: {0}")]
    Location(ParseUrlError),
    /// The host's name stands for no address that can be asked.
    #[error("{host} was not found: {why}")]
    Resolve {
        /// The name.
        host: String,
        /// What the system says.
        why: String,
    },
    /// There is no connection to it.
    #[error("the server cannot be reached")]
    Unreachable,
    /// It does not answer.
    #[error("the server does not answer")]
    TimedOut,
    /// It is asked over TLS, and the machine that asks has none.
    #[error("the server is asked over TLS: expected a machine made by HttpClient::secured")]
    NoTls,
    /// Its answer is none.
    #[error("the server's answer is malformed: {0}")]
    Malformed(String),
    /// It sends a client elsewhere again and again.
    #[error("the server sends its clients elsewhere too often")]
    Moved,
    /// The machine that asks has stopped.
    #[error("the machine that asks servers has stopped: keep it as long as its client")]
    Stopped,
    /// More is asked at once than may be.
    #[error("too much is asked of servers already: ask again later")]
    Busy,
}
