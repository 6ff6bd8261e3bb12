//! Asks for what lies at a URL: finds the host, tries its addresses, follows where it is sent.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use async_trait::async_trait;
use p2p_core::{AskError, Handle};

use super::{HttpClient, HttpError, HttpGet, HttpReply};
use crate::torrent::url::{ParseUrlError, Scheme, Url};

/// How often an answer may send a client elsewhere. 3.
const MAX_MOVES: usize = 3;
/// How many more addresses are tried, of all hosts together, where one cannot be reached. 2.
const MAX_OTHERS: usize = 2;

/// Finds the addresses of a host.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// The addresses that a name stands for, with this port.
    ///
    /// # Errors
    /// The system finds none.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// Whether a URL may be asked for at an address that its host has.
pub(super) type May<'a> = dyn Fn(&Url, &SocketAddr) -> bool + Sync + 'a;

/// A machine that asks, and whoever finds hosts for it.
#[derive(Debug)]
pub(in crate::torrent) struct Fetch<R> {
    http: Handle<HttpClient>,
    resolve: R,
}

fn ended(error: AskError) -> HttpError {
    match error {
        AskError::Busy => HttpError::Busy,
        _ => HttpError::Stopped,
    }
}

impl<R: Resolve> Fetch<R> {
    pub(in crate::torrent) fn new(http: Handle<HttpClient>, resolve: R) -> Fetch<R> {
        Fetch { http, resolve }
    }

    /// The addresses of a URL's host that may be asked.
    pub(in crate::torrent) async fn addresses(
        &self,
        url: &Url,
        may: &May<'_>,
    ) -> Result<Vec<SocketAddr>, HttpError> {
        let wrong = |why: String| HttpError::Resolve { host: url.host.clone(), why };
        let found = self.resolve.resolve(&url.host, url.port).await;
        let mut found = found.map_err(|error| wrong(error.to_string()))?;
        found.retain(|addr| may(url, addr));
        match found.is_empty() {
            true => Err(wrong("it has no address that may be asked for this".into())),
            false => Ok(found),
        }
    }

    /// The answer to a question, wherever it may be, and where it is from. Of a range its bytes are asked for alone.
    pub(in crate::torrent) async fn get(
        &self,
        mut url: Url,
        range: Option<Range<u64>>,
        may: &May<'_>,
    ) -> Result<(SocketAddr, HttpReply), HttpError> {
        let mut others = MAX_OTHERS;
        for _ in 0..=MAX_MOVES {
            let proves = match url.scheme {
                Scheme::Http => None,
                Scheme::Https => Some(url.host.clone()),
                Scheme::Udp => return Err(ParseUrlError(url.to_string()).into()),
            };
            let found = self.addresses(&url, may).await?;
            let mut at = 0;
            let (addr, reply) = loop {
                let (addr, range) = (found[at], range.clone());
                let (host, target, proves) = (url.authority(), url.target(), proves.clone());
                let get = HttpGet { addr, host, target, range, proves };
                match self.http.ask(get).await.map_err(ended)? {
                    Err(HttpError::Unreachable) if others > 0 && at + 1 < found.len() => {
                        (others, at) = (others - 1, at + 1);
                    }
                    reply => break (addr, reply?),
                }
            };
            match (reply.status, &reply.location) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => {
                    let next = url.join(location)?;
                    // What was said in secret is not said in the clear then.
                    if proves.is_some() && next.scheme != Scheme::Https {
                        return Err(ParseUrlError(next.to_string()).into());
                    }
                    url = next;
                }
                _ => return Ok((addr, reply)),
            }
        }
        Err(HttpError::Moved)
    }
}
