//! `torrent stream`: serves a file over HTTP while it comes.
//!
//! What a player asks for is asked of peers before all else, and where it is set to another place that is. The rest comes in
//! order.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use p2p_core::{Events, Handle};
use p2p_examples::{Failure, say};
use p2p_swarm::torrent::{
    Add, Client, Info, Kind, Order, Read, SessionEvent, Source, TorrentConfig, TorrentFile, TorrentId,
};
use tokio::net::TcpListener;

use crate::get::watch;
use crate::online::{Net, Online};
use crate::ranges::{Asked, asked};

#[derive(clap::Args)]
pub(crate) struct Stream {
    /// A `.torrent` file or a magnet link.
    what: String,
    /// The folder that it goes to.
    folder: PathBuf,
    /// How the path of the file in the torrent ends; if it is not given, the longest.
    #[arg(long)]
    file: Option<String>,
    /// Where it is served. Whoever can connect there can read it.
    #[arg(long, default_value = "127.0.0.1:0")]
    http: SocketAddr,
    #[command(flatten)]
    net: Net,
}

impl Stream {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (torrent, peers) = self.net.wanted(&self.what).await?;
        let online = Online::start(&self.net).await?;
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
        let known = match &add.torrent {
            Source::Metainfo(metainfo) => Some(metainfo.info().clone()),
            Source::Magnet(_) => None,
        };
        let torrent = session.handle().ask(add).await??;
        let served = async {
            let info = match known {
                Some(info) => info,
                None => metadata(events).await?,
            };
            let (number, file) = chosen(&info, self.file.as_deref())?;
            let name = file.path.rsplit('/').next().unwrap_or_default().to_owned();
            let length = file.length;
            let served =
                Served { session: session.handle(), torrent, file: number, length, kind: kind_of(&name) };
            let listener = TcpListener::bind(self.http).await?;
            say("stream", format!("http://{}/{}", listener.local_addr()?, escaped(&name)));
            let router = Router::new().route("/{*name}", get(serve)).with_state(served);
            Ok(axum::serve(listener, router).await?)
        };
        // When all is there it goes on being served, to players and to peers.
        tokio::try_join!(served, watch(session, torrent)).map(|_| ())
    }
}

/// What a link stands for, when a peer has sent it.
async fn metadata(mut events: Events<SessionEvent>) -> Result<std::sync::Arc<Info>, Failure> {
    while let Some(event) = events.next().await {
        match event {
            SessionEvent::Metadata(_, metainfo) => return Ok(metainfo.info().clone()),
            SessionEvent::Failed(_, why) => return Err(why.into()),
            _ => {}
        }
    }
    Err("the session has ended".into())
}

/// The file whose path ends so, or the longest, and its place among the torrent's.
fn chosen<'a>(info: &'a Info, end: Option<&str>) -> Result<(u32, &'a TorrentFile), Failure> {
    let files = (0..).zip(info.files()).filter(|(_, file)| file.kind == Kind::File);
    let mut matching = files.filter(|(_, file)| end.is_none_or(|end| file.path.ends_with(end)));
    match end {
        None => matching.max_by_key(|(_, file)| file.length).ok_or_else(|| "the torrent has no files".into()),
        Some(end) => match (matching.next(), matching.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(format!("no file's path ends with {end}: see torrent info").into()),
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
}

async fn serve(State(served): State<Served>, headers: HeaderMap) -> Response {
    let Served { session, torrent, file, length, kind } = served;
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
    // Where it ends too soon there is less than was said, and so it is noticed.
    let read = session.ask(Read { torrent, file, range });
    (status, head, Body::from_stream(read.map(Ok::<_, std::io::Error>))).into_response()
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
