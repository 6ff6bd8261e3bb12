//! Web seeds (BEP 19): files of a torrent that lie on the web, and whoever fetches stretches of them.
//!
//! The session says which stretch of which file it wants next, and checks what comes as all blocks are checked;
//! [`WebSeeds`] asks for it by HTTP's ranges (RFC 9110, section 14).

use std::net::SocketAddr;

use bytes::Bytes;
use futures::StreamExt;
use p2p_core::Handle;

use super::command::{Fetched, Fetching, TakesCommands};
use super::http::{Fetch, HttpClient, HttpError, Reach, Resolve, escape};
use super::metainfo::Info;
use super::url::Url;

/// A stretch of a file on the web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebRange {
    /// Where the file is.
    pub url: String,
    /// Its first byte.
    pub from: u64,
    /// How many bytes.
    pub length: u64,
}

/// How a web seed stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSeedStatus {
    /// Its URL, as the torrent has it.
    pub url: String,
    /// Bytes that came from it.
    pub downloaded: u64,
    /// What went wrong the last time, if anything did.
    pub failed: Option<WebError>,
    /// Whether it is asked for nothing more.
    pub dropped: bool,
}

/// Why a web seed has not sent what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// It cannot be asked, or does not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A status that is no success.
    #[error("the web seed answers with HTTP status {0}, expected 206")]
    Status(u16),
    /// It sends the whole file, or another part of it.
    #[error("the web seed does not send the range that it was asked for")]
    NoRange,
    /// What it sends is shorter or longer.
    #[error("the web seed sends another number of bytes than it was asked for")]
    Length,
    /// A block lies in so many files that it would take too many requests.
    #[error("a block lies in more files than a web seed is asked for")]
    Scattered,
    /// What it has sent is not what the torrent stands for.
    #[error("the web seed sends what is not true")]
    Lied,
}

impl WebError {
    /// Whether it is certain that no bytes of a file have come.
    pub(super) fn is_without_bytes(&self) -> bool {
        match self {
            WebError::Status(_) | WebError::Scattered => true,
            WebError::NoRange | WebError::Length | WebError::Lied => false,
            WebError::Http(why) => match why {
                HttpError::TimedOut | HttpError::Malformed(_) => false,
                HttpError::Url(_)
                | HttpError::Location(_)
                | HttpError::Resolve { .. }
                | HttpError::Unreachable
                | HttpError::NoTls
                | HttpError::Moved
                | HttpError::Stopped
                | HttpError::Busy => true,
            },
        }
    }

    /// Whether it is of no use to ask again.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            WebError::Http(HttpError::Url(_) | HttpError::NoTls)
            | WebError::NoRange
            | WebError::Length
            | WebError::Scattered
            | WebError::Lied => true,
            // It is busy, or will be there again.
            WebError::Http(_) => false,
            WebError::Status(status) => (400..500).contains(status) && ![408, 425, 429].contains(status),
        }
    }
}

/// Where a torrent's file lies: the URL itself, of a torrent that is one file, unless it ends in a slash; otherwise the
/// folder in which the torrent's path leads there.
pub(super) fn file_url(base: &str, info: &Info, file: usize) -> String {
    let path = &info.files()[file].path;
    let alone = !path.contains('/');
    let mut url = base.to_owned();
    if alone && !base.ends_with('/') {
        return url;
    }
    if !base.ends_with('/') {
        url.push('/');
    }
    for (at, part) in path.split('/').enumerate() {
        if at > 0 {
            url.push('/');
        }
        escape(part.as_bytes(), &mut url);
    }
    url
}

/// Fetches from web seeds what sessions want.
///
/// ```no_run
/// # async fn example(session: p2p_core::Handle<p2p_swarm::torrent::Session<p2p_core::foreign::TcpPeer>>) -> std::io::Result<()> {
/// use std::net::SocketAddr;
///
/// use p2p_core::net::tcp;
/// use p2p_core::{Limits, NoWorker};
/// use p2p_swarm::torrent::WebSeeds;
/// use p2p_swarm::torrent::http::{HttpClient, HttpCodec, Resolve};
///
/// struct System;
///
/// #[async_trait::async_trait]
/// impl Resolve for System {
///     async fn resolve(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
///         Ok(tokio::net::lookup_host((host, port)).await?.collect())
///     }
/// }
///
/// let http = tcp::spawn(HttpClient::default(), |_| HttpCodec::client(), None, Limits::default(), [NoWorker]).await?;
/// WebSeeds::new(http.handle(), System).serve(&session).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WebSeeds<R> {
    web: Fetch<R>,
}

impl<R: Resolve> WebSeeds<R> {
    /// Asks by this machine.
    pub fn new(http: Handle<HttpClient>, resolve: R) -> WebSeeds<R> {
        WebSeeds { web: Fetch::new(http, resolve) }
    }

    /// Fetches whatever a session wants, until that ends.
    pub async fn serve<M: TakesCommands>(&self, session: &Handle<M>) {
        let each = session.ask(Fetching).for_each_concurrent(None, |wanted| async move {
            let mut parts = Vec::with_capacity(wanted.ranges.len());
            let mut result = Ok(());
            for range in &wanted.ranges {
                match self.range(range).await {
                    Ok(part) => parts.push(part),
                    Err(error) => result = Err(error),
                }
                if result.is_err() {
                    break;
                }
            }
            // If it has ended nobody needs to know.
            let _ = session.ask(Fetched { number: wanted.number, result: result.map(|()| parts) }).await;
        });
        each.await;
    }

    async fn range(&self, range: &WebRange) -> Result<Bytes, WebError> {
        let url: Url = range.url.parse().map_err(HttpError::Url)?;
        let wanted = range.from..range.from + range.length;
        let first = url.clone();
        let may = |url: &Url, addr: &SocketAddr| may_be_asked(&first, url, addr);
        let (_, reply) = self.web.get(url, Some(wanted.clone()), &may).await?;
        let whole = reply.body.len() as u64 == range.length;
        match reply.status {
            206 if reply.gzip || reply.range.as_ref() != Some(&wanted) => Err(WebError::NoRange),
            206 if !whole => Err(WebError::Length),
            // All of the file, and all of it was wanted.
            200 if reply.gzip || wanted.start > 0 || !whole => Err(WebError::NoRange),
            200 | 206 => Ok(reply.body.into()),
            status => Err(WebError::Status(status)),
        }
    }
}

/// Whether a file may be asked for there. A torrent could have us ask this machine's and its neighbours' own services for
/// anything: they are asked for files alone, and by the name that the torrent has.
fn may_be_asked(first: &Url, url: &Url, addr: &SocketAddr) -> bool {
    match Reach::of(addr.ip()) {
        Some(Reach::World) => true,
        Some(Reach::Machine | Reach::Network) => first.host == url.host && !url.path.contains('?'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryFiles;
    use crate::torrent::{CreateOptions, Metainfo};

    /// BEP 19.
    #[test]
    fn a_file_lies_at_the_url_or_in_the_folder_there() {
        let mut files = MemoryFiles::default();
        files.put("song 1.ogg", vec![1; 5]);
        files.put("album/live/ü?.ogg", vec![1; 5]);
        let info = |files: &mut MemoryFiles, name: &str| {
            let made = Metainfo::create(files, name.as_ref(), &CreateOptions::default());
            made.unwrap().info().clone()
        };
        let (alone, many) = (info(&mut files, "song 1.ogg"), info(&mut files, "album"));
        for (info, base, url) in [
            (&alone, "http://a/x.ogg", "http://a/x.ogg"),
            (&alone, "http://a/x/", "http://a/x/song%201.ogg"),
            (&many, "http://a/x", "http://a/x/album/live/%C3%BC%3F.ogg"),
            (&many, "http://a/x/", "http://a/x/album/live/%C3%BC%3F.ogg"),
        ] {
            assert_eq!(file_url(base, info, 0), url);
        }
    }

    #[test]
    fn of_what_is_near_no_more_is_asked_than_a_torrent_has_named() {
        for (first, url, addr, may) in [
            ("http://a/f", "http://a/f", "192.0.2.1:80", true),
            ("http://a/f", "http://b/f?x", "192.0.2.1:80", true),
            ("http://a/f", "http://a/f", "127.0.0.1:80", true),
            ("http://a/f", "http://a/f?x", "[::1]:80", false),
            ("http://a/f", "http://b/f", "127.0.0.1:80", false),
            ("http://a/f", "http://a/f", "192.168.1.1:80", true),
            ("http://a/f", "http://a/apply?x=1", "192.168.1.1:80", false),
            ("http://a/f", "http://b/f", "169.254.169.254:80", false),
            ("http://a/f", "http://b/f", "[fd00::1]:80", false),
            ("http://a/f", "http://a/f", "0.0.0.0:80", false),
            ("http://a/f", "http://a/f?x", "[::ffff:127.0.0.1]:80", false),
        ] {
            let (first, asked) = (first.parse().unwrap(), url.parse().unwrap());
            assert_eq!(may_be_asked(&first, &asked, &addr.parse().unwrap()), may, "{url} at {addr}");
        }
    }
}
