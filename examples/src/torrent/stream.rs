//! `torrent stream`: serves a file over HTTP while it comes.
//!
//! What a player asks for is asked of peers before all else, and where it is set to another place that is. The rest comes in
//! order.

use std::future::ready;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, RANGE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::{StreamExt, stream};
use p2p_core::Handle;
use p2p_examples::{Failure, say};
use p2p_swarm::torrent::{
    Add, Client, Info, Kind, Order, Read, Source, TorrentConfig, TorrentError, TorrentFile, TorrentId,
};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::choice::metadata;
use crate::get::watch;
use crate::online::{Net, Online};
use crate::ranges::{Asked, asked};

/// Answers under way at a time, each of which has 6 MiB of its file in memory at the most. 32.
const MAX_ANSWERS: usize = 32;

#[derive(clap::Args)]
pub(crate) struct Stream {
    /// A `.torrent` file or a magnet link.
    what: String,
    /// The folder that it goes to.
    folder: PathBuf,
    /// How the path of the file in the torrent ends; if it is not given, the longest.
    #[arg(long)]
    file: Option<String>,
    /// Where it is served. Whoever can connect there can read it, by an address or as localhost.
    #[arg(long, default_value = "127.0.0.1:0")]
    http: SocketAddr,
    #[command(flatten)]
    net: Net,
}

impl Stream {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (torrent, peers) = self.net.wanted(&self.what).await?;
        let online = Online::start(&self.net, false).await?;
        let config = TorrentConfig { order: Order::Sequential, ..TorrentConfig::default() };
        let add = Add { peers, config, ..Add::new(torrent, &self.folder) };
        // However it ends the trackers hear of it.
        let done = tokio::select! {
            biased;
            interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::from),
            done = self.stream(&online, add) => done,
        };
        online.stop().await;
        done
    }

    async fn stream(&self, online: &Online, add: Add) -> Result<(), Failure> {
        let session = &online.session;
        let events = session.handle().events();
        session.local_addr().iter().for_each(|addr| say("listening", addr));
        let (known, link) = match &add.torrent {
            Source::Metainfo(metainfo) => (Some(metainfo.info().clone()), None),
            Source::Magnet(magnet) => (None, Some(magnet.clone())),
        };
        let torrent = session.handle().ask(add).await??;
        let served = async {
            let info = match known {
                Some(info) => info,
                None => metadata(events).await?,
            };
            let selects = |file| link.as_ref().is_none_or(|link| link.selects(file));
            let (number, file) = chosen(&info, self.file.as_deref(), selects)?;
            let name = file.path.rsplit('/').next().unwrap_or_default().to_owned();
            let listener = TcpListener::bind(self.http).await?;
            let addr = listener.local_addr()?;
            let served = Served {
                session: session.handle(),
                torrent,
                file: number,
                length: file.length,
                kind: kind_of(&name),
                port: addr.port(),
                answers: Arc::new(Semaphore::new(MAX_ANSWERS)),
            };
            say("stream", format!("http://{addr}/{}", escaped(&name)));
            let router = Router::new().route("/{*name}", get(serve)).with_state(served);
            Ok(axum::serve(listener, router).await?)
        };
        // When all is there it goes on being served, to players and to peers.
        tokio::try_join!(served, watch(session, torrent, false)).map(|_| ())
    }
}

/// The file whose path ends so, or the longest, and its place among the torrent's; of those that the link selects.
fn chosen<'a>(
    info: &'a Info,
    end: Option<&str>,
    selects: impl Fn(u32) -> bool,
) -> Result<(u32, &'a TorrentFile), Failure> {
    let files = (0..).zip(info.files()).filter(|(number, file)| file.kind == Kind::File && selects(*number));
    let mut matching = files.filter(|(_, file)| end.is_none_or(|end| file.path.ends_with(end)));
    match end {
        None => matching
            .max_by_key(|(_, file)| file.length)
            .ok_or_else(|| "the torrent has no files that are wanted".into()),
        Some(end) => match (matching.next(), matching.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => {
                Err(format!("the path of no file that is wanted ends with {end}: see torrent info").into())
            }
            (Some(_), Some(_)) => {
                Err(format!("the paths of several files end with {end}: say more of it").into())
            }
        },
    }
}

/// A file that is served.
#[derive(Clone)]
struct Served {
    session: Handle<Client>,
    torrent: TorrentId,
    file: u32,
    length: u64,
    kind: &'static str,
    /// Where it is served.
    port: u16,
    answers: Arc<Semaphore>,
}

async fn serve(State(served): State<Served>, method: Method, headers: HeaderMap) -> Response {
    let Served { session, torrent, file, length, kind, port, answers } = served;
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| is_here(host, port)) {
        return (StatusCode::FORBIDDEN, "ask for it by an address, or at localhost").into_response();
    }
    let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let (status, range) = match asked(range, length) {
        Asked::All => (StatusCode::OK, 0..length),
        Asked::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Asked::Beyond => {
            let all = [(CONTENT_RANGE, format!("bytes */{length}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, all).into_response();
        }
    };
    let mut head = HeaderMap::new();
    let mut say = |name, value: String| {
        if let Ok(value) = value.parse() {
            head.insert(name, value);
        }
    };
    say(ACCEPT_RANGES, "bytes".into());
    say(CONTENT_TYPE, kind.into());
    say(CONTENT_LENGTH, (range.end - range.start).to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        say(CONTENT_RANGE, format!("bytes {}-{}/{length}", range.start, range.end - 1));
    }
    if method == Method::HEAD {
        return (status, head).into_response();
    }
    let Ok(answer) = answers.try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many are reading it: end one").into_response();
    };
    let mut read = session.ask(Read { torrent, file, range });
    // Something of it is there before it is said that it comes.
    let Some(first) = read.next().await else {
        let (status, why) = match read.await {
            // The file has no bytes.
            Ok(Ok(())) => return (status, head).into_response(),
            Ok(Err(why @ TorrentError::Readers)) => (StatusCode::SERVICE_UNAVAILABLE, why.to_string()),
            Ok(Err(why)) => (StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why.to_string()),
        };
        return (status, why).into_response();
    };
    // Where it ends too soon there is less than was said, and so it is noticed.
    let rest = stream::unfold((read, answer), |(mut read, answer)| async move {
        let part = read.next().await?;
        Some((part, (read, answer)))
    });
    let body = stream::once(ready(first)).chain(rest).map(Ok::<_, std::io::Error>);
    (status, head, Body::from_stream(body)).into_response()
}

/// Whether somebody asks this host by an address, or as localhost. By any other name it may be a page of a stranger's in the
/// user's browser, whose name has come to stand for this host (DNS rebinding): that page could read all that it is sent.
fn is_here(host: &str, port: u16) -> bool {
    let Ok(host) = host.parse::<Authority>() else {
        return false;
    };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    let is_name = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok();
    is_name && host.port_u16().unwrap_or(80) == port
}

/// What players are told that a file is, by the end of its name.
fn kind_of(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase().as_str() {
        "mp4" | "m4v" => "video/mp4",
        "webm" => "video/webm",
        "mkv" => "video/x-matroska",
        "ogv" => "video/ogg",
        "mp3" => "audio/mpeg",
        "m4a" => "audio/mp4",
        "ogg" | "oga" | "opus" => "audio/ogg",
        "flac" => "audio/flac",
        "wav" => "audio/wav",
        _ => "application/octet-stream",
    }
}

/// A name as part of a URL (RFC 3986, section 2).
fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::is_here;

    #[test]
    fn strangers_names_for_this_host_are_refused() {
        for host in ["127.0.0.1:8080", "192.0.2.7:8080", "[::1]:8080", "localhost:8080", "LocalHost:8080"] {
            assert!(is_here(host, 8080), "{host}");
        }
        assert!(is_here("localhost", 80) && is_here("127.0.0.1", 80), "the port may be left out");
        for host in [
            "",
            "localhost",
            "127.0.0.1:8081",
            "evil.example:8080",
            "127.0.0.1.evil.example:8080",
            "localhost.evil.example:8080",
            "evil.example:8080@localhost",
            "localhost:8080:8080",
            "http://localhost:8080",
        ] {
            assert!(!is_here(host, 8080), "{host}");
        }
    }
}
