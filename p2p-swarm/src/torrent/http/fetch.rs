//! Asks for what lies at a URL: finds the host, tries its addresses, follows where it is sent.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use async_trait::async_trait;
use p2p_core::{AskError, Handle};

use super::{HttpClient, HttpError, HttpGet, HttpReply, Reach};
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

    /// The addresses of a URL's host that may be asked, by whoever was sent there from an address, if from any: a server
    /// sends its clients to nobody whom fewer can reach than itself.
    pub(in crate::torrent) async fn addresses(
        &self,
        url: &Url,
        from: Option<SocketAddr>,
        may: &May<'_>,
    ) -> Result<Vec<SocketAddr>, HttpError> {
        let wrong = |why: String| HttpError::Resolve { host: url.host.clone(), why };
        let found = self.resolve.resolve(&url.host, url.port).await;
        let mut found = found.map_err(|error| wrong(error.to_string()))?;
        let at_least = from.and_then(|from| Reach::of(from.ip()));
        found.retain(|addr| {
            Reach::of(addr.ip()).is_some_and(|reach| Some(reach) >= at_least) && may(url, addr)
        });
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
        let (mut others, mut from) = (MAX_OTHERS, None);
        for _ in 0..=MAX_MOVES {
            let proves = match url.scheme {
                Scheme::Http => None,
                Scheme::Https => Some(url.host.clone()),
                Scheme::Udp => return Err(ParseUrlError(url.to_string()).into()),
            };
            let found = self.addresses(&url, from, may).await?;
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
                    let next = url.join(location).map_err(HttpError::Location)?;
                    // What was said in secret is not said in the clear then.
                    let secret = proves.is_some() && next.scheme != Scheme::Https;
                    if secret || next.scheme == Scheme::Udp {
                        return Err(HttpError::Location(ParseUrlError(next.to_string())));
                    }
                    (url, from) = (next, Some(addr));
                }
                _ => return Ok((addr, reply)),
            }
        }
        Err(HttpError::Moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::net::tcp;
    use p2p_core::{Limits, NoWorker};

    use super::super::HttpCodec;

    /// Hosts are called by their addresses, one after another.
    struct Numbers;

    #[async_trait]
    impl Resolve for Numbers {
        async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
            Ok(host.split('_').map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect())
        }
    }

    #[tokio::test]
    async fn nobody_sends_a_client_to_what_fewer_can_reach() {
        let codec = |_| HttpCodec::client();
        let http =
            tcp::spawn(HttpClient::default(), codec, None, Limits::default(), [NoWorker]).await.unwrap();
        let fetch = Fetch::new(http.handle(), Numbers);
        for (from, host, may) in [
            (None, "127.0.0.1", "127.0.0.1"),
            (None, "10.0.0.1", "10.0.0.1"),
            (Some("192.0.2.1"), "192.0.2.2_10.0.0.1_127.0.0.1_169.254.169.254", "192.0.2.2"),
            (Some("192.0.2.1"), "192.168.1.1", ""),
            (Some("10.0.0.1"), "192.0.2.2_10.0.0.2_127.0.0.1", "192.0.2.2_10.0.0.2"),
            (Some("127.0.0.1"), "127.0.0.1_192.0.2.2", "127.0.0.1_192.0.2.2"),
            (None, "0.0.0.0", ""),
        ] {
            let url: Url = format!("http://{host}/x").parse().unwrap();
            let from = from.map(|ip| SocketAddr::new(ip.parse().unwrap(), 80));
            let found = fetch.addresses(&url, from, &|_, _| true).await.unwrap_or_default();
            let found: Vec<String> = found.iter().map(|addr| addr.ip().to_string()).collect();
            assert_eq!(found.join("_"), may, "{from:?} to {host}");
        }
    }

    #[tokio::test]
    async fn where_an_answer_sends_a_client_it_is_asked_whether_it_may_go() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let moved = "HTTP/1.1 302 Found\r\nLocation: other?x\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(moved.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
        });
        let codec = |_| HttpCodec::client();
        let http =
            tcp::spawn(HttpClient::default(), codec, None, Limits::default(), [NoWorker]).await.unwrap();
        let fetch = Fetch::new(http.handle(), Numbers);
        let asked = std::sync::Mutex::new(Vec::new());
        let may = |url: &Url, _: &SocketAddr| {
            let mut asked = asked.lock().unwrap();
            asked.push(url.path.clone());
            asked.len() < 2
        };
        let url = format!("http://127.0.0.1:{port}/folder/file").parse().unwrap();
        let refused = fetch.get(url, None, &may).await;
        assert!(matches!(refused, Err(HttpError::Resolve { .. })), "{refused:?}");
        assert_eq!(*asked.lock().unwrap(), ["/folder/file", "/folder/other?x"]);
    }
}
