//! `call`: names, who is there, and calls between two, after Skype's design.
//!
//! ```sh
//! cargo run --bin call -- login-server                              # prints: login: p2p://…
//! cargo run --bin call -- node --name hub --login p2p://…           # the first is a super-node; prints: contact: p2p://…
//! cargo run --bin call -- node --name ada --login p2p://… --join p2p://… --buddy bob
//! cargo run --bin call -- node --name bob --login p2p://… --join p2p://… --call ada --seconds 10
//! ```
//!
//! A call is a stream of frames each way, as large and as many as those of uncompressed speech on the telephone; at
//! its end both print how late they came, how evenly, and how many were lost. Delays are by the clocks of both:
//! between two machines they are as right as these. Whoever is `--firewalled` accepts no connections, and is called
//! through super-nodes. A login server with `--data` writes names down before it certifies them.

#![expect(clippy::disallowed_types, reason = "a program has a clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use futures::StreamExt;
use p2p_core::net::{Carrier, Connection, Node, QuicTransport, Transport};
use p2p_core::{Contact, Handle, Keypair, Limits, PeerId};
use p2p_examples::{Failure, exit, identity, patiently, say, skype_config};
use p2p_overlay::{
    Buddy, Call, Called, HangUp, LoggedIn, Role, Search, SendFrame, Skype, SkypeConfig, SkypeEvent,
    SkypeUser, Way, is_user_name,
};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};

/// Names, who is there, and calls between two.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Certifies names.
    LoginServer {
        #[command(flatten)]
        part: Part,
    },
    /// Logs in, is there, and answers calls; or calls somebody.
    Node {
        #[command(flatten)]
        part: Part,
        #[command(flatten)]
        user: User,
    },
}

#[derive(clap::Args)]
struct Part {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where the identity is kept, and a login server's names; all is new every time otherwise.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(clap::Args)]
struct User {
    /// The user's name: small letters, digits, dots, hyphens and underscores, a letter first.
    #[arg(long)]
    name: String,
    /// What else the user is found by: a full name, a town.
    #[arg(long, value_name = "TEXT")]
    profile: Option<String>,
    /// The login server.
    #[arg(long, value_name = "CONTACT")]
    login: Contact,
    /// Super-nodes to join through; without any the node is the first super-node.
    #[arg(long, value_name = "CONTACT")]
    join: Vec<Contact>,
    /// Begin as a super-node.
    #[arg(long)]
    super_node: bool,
    /// Accept no connections.
    #[arg(long)]
    firewalled: bool,
    /// Users whose coming and going is told.
    #[arg(long, value_name = "NAME")]
    buddy: Vec<String>,
    /// Call this user, and end.
    #[arg(long, value_name = "NAME")]
    call: Option<String>,
    /// How long the call lasts.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

/// What super-nodes speak, and what is spoken.
const NAME: &str = "skype/1";
const VOICE: &str = "voice/1";
/// Fifty frames a second of 160 bytes each: 64 kbit/s, as G.711 in packets of 20 ms.
const PACE: Duration = Duration::from_millis(20);
const FRAME: usize = 160;
/// How long a call lasts at most, in frames: an hour.
const LONGEST: u32 = 3600 * 50;
/// How long the other's first frame may take, and the last.
const FIRST: Duration = Duration::from_secs(10);
const LAST: Duration = Duration::from_secs(1);
/// How many frames wait to be heard, and from how many who are not in a call.
const WAITING: usize = 1024;
const STRANGERS: usize = 64;

/// A relay carries speech, and no more.
fn config() -> SkypeConfig {
    let SkypeConfig { relay_rate, relay_total, .. } = SkypeConfig::default();
    SkypeConfig { relay_rate, relay_total, ..skype_config() }
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::LoginServer { part } => login_server(&part).await,
        Command::Node { part, user } => node(&part, user).await,
    };
    exit("call", done)
}

impl Part {
    async fn bind(&self, keypair: &Keypair, limits: Limits) -> Result<Node, Failure> {
        let builder = Node::builder().network("call").identity(keypair.clone()).limits(limits);
        let bound = builder.bind(self.listen).await;
        Ok(bound.map_err(|error| format!("cannot listen at {}: {error}", self.listen))?)
    }
}

/// Runs until it is interrupted.
async fn login_server(part: &Part) -> Result<(), Failure> {
    let keypair = identity(part.data.as_deref())?;
    let node = part.bind(&keypair, Limits::default()).await?;
    p2p_examples::login_server(&node, keypair, part.data.as_deref())?;
    say("login", node.contact());
    tokio::signal::ctrl_c().await?;
    node.shutdown().await;
    Ok(())
}

/// Runs until it is interrupted, or its own call is over.
async fn node(part: &Part, user: User) -> Result<(), Failure> {
    if !is_user_name(&user.name) {
        return Err(
            format!("{:?} is no user name: small letters, digits, .-_, a letter first", user.name).into()
        );
    }
    let keypair = identity(part.data.as_deref())?;
    let limits = match user.firewalled {
        true => Limits { handshakes_at_once: 0, ..Limits::default() },
        false => Limits::default(),
    };
    let node = part.bind(&keypair, limits).await?;
    let voices = Voices::default();
    let heard = voices.clone();
    node.serve_datagrams(VOICE, move |from, frame| heard.came(from.id, frame))?;
    let role = if user.super_node || user.join.is_empty() { Role::Ultrapeer } else { Role::Leaf };
    let speaks_for = SkypeUser {
        keypair: keypair.clone(),
        name: user.name.clone(),
        profile: user.profile.unwrap_or_default(),
        server: user.login.id,
        login: user.login,
        contact: node.contact(),
        open: !user.firewalled,
    };
    let skype = node.spawn(NAME, Skype::node(speaks_for, user.join, role, config()))?;
    let phone =
        Phone { node: node.clone(), skype: skype.clone(), keypair, voices, carriers: Carriers::default() };
    say("contact", node.contact());
    let mut events = skype.events();
    for name in user.buddy {
        skype.ask(Buddy { name, on: true }).await??;
    }
    let own = async {
        say("logged in", skype.ask(LoggedIn).await??.name());
        match &user.call {
            Some(name) => phone.call(name, user.seconds).await,
            None => futures::future::pending().await,
        }
    };
    let mut own = std::pin::pin!(own);
    let done = loop {
        tokio::select! {
            done = &mut own => break done,
            interrupted = tokio::signal::ctrl_c() => break interrupted.map_err(Failure::from),
            event = events.next() => match event {
                Some(event) => phone.on_event(event),
                None => break Err("events came faster than they were read".into()),
            },
        }
    };
    // Who goes, says so.
    let _ = timeout(LAST, skype.unpublish(&user.name)).await;
    node.shutdown().await;
    done
}

type Carriers = Arc<Mutex<BTreeMap<u64, Arc<Carrier>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What calls need.
#[derive(Clone)]
struct Phone {
    node: Node,
    skype: Handle<Skype<Contact>>,
    keypair: Keypair,
    voices: Voices,
    /// The way in of each relayed call, by its ticket.
    carriers: Carriers,
}

impl Phone {
    fn on_event(&self, event: SkypeEvent<Contact>) {
        match event {
            SkypeEvent::LoggedIn(_) | SkypeEvent::Refused(_) => {}
            SkypeEvent::Role(Role::Leaf) => say("role", "ordinary"),
            SkypeEvent::Role(Role::Ultrapeer) => say("role", "super-node"),
            SkypeEvent::Up(peer) => say("up", peer.id),
            SkypeEvent::Down(peer) => say("down", peer.id),
            SkypeEvent::Presence { name, online } => {
                say(&name, if online { "online" } else { "offline" });
            }
            SkypeEvent::Call(called) => {
                let phone = self.clone();
                tokio::spawn(async move {
                    if let Err(error) = phone.talk(called, None).await {
                        say("failed", error);
                    }
                });
            }
            SkypeEvent::Frame { ticket, bytes } => {
                if let Some(carrier) = lock(&self.carriers).get(&ticket) {
                    carrier.came(bytes);
                }
            }
        }
    }

    async fn reach(&self, name: &str) -> Result<Called, Failure> {
        Ok(self.skype.ask(Call { name: name.to_owned() }).await??)
    }

    async fn call(&self, name: &str, seconds: u32) -> Result<(), Failure> {
        let called = patiently(|| self.reach(name)).await?;
        let frames = seconds.saturating_mul(50).clamp(1, LONGEST);
        self.talk(called, Some(frames)).await
    }

    /// Talks for as many frames, or as many as the caller says, and prints what was heard.
    async fn talk(&self, called: Called, frames: Option<u32>) -> Result<(), Failure> {
        let (name, way) = (called.name.clone(), Spoken(called.way));
        say("call", format_args!("{name} {way}"));
        let quality = match called.way {
            Way::Direct | Way::Reversed => {
                let line = Line::Own { node: self.node.clone(), to: called.contact };
                let heard = self.voices.of(called.contact.id);
                let quality = talk(&line, heard, frames).await;
                self.voices.forget(&called.contact.id);
                quality?
            }
            Way::Relayed { ticket } => self.talk_through(&called, ticket, frames).await?,
        };
        say("heard", format_args!("{name} {way}: {quality}"));
        Ok(())
    }

    /// Talks in a connection of our own that a super-node carries, and cannot read.
    async fn talk_through(
        &self,
        called: &Called,
        ticket: u64,
        frames: Option<u32>,
    ) -> Result<Quality, Failure> {
        let (transport, carrier) = QuicTransport::carried(self.keypair.clone(), "call", &Limits::default())?;
        let carrier = Arc::new(carrier);
        lock(&self.carriers).insert(ticket, carrier.clone());
        let skype = self.skype.clone();
        let carries = tokio::spawn(async move {
            while let Some(bytes) = carrier.next().await {
                if !matches!(skype.ask(SendFrame { ticket, bytes }).await, Ok(Ok(()))) {
                    break;
                }
            }
        });
        let quality = self.talk_over(&transport, called.contact, frames).await;
        transport.close().await;
        carries.abort();
        lock(&self.carriers).remove(&ticket);
        // The other may have been first.
        let _ = self.skype.ask(HangUp { ticket }).await;
        quality
    }

    async fn talk_over(
        &self,
        transport: &QuicTransport,
        other: Contact,
        frames: Option<u32>,
    ) -> Result<Quality, Failure> {
        // The caller dials. The other proves the key that its user has signed, or it is nobody to talk to.
        let connection = match frames {
            Some(_) => transport.dial(other).await?,
            None => {
                let accepted =
                    timeout(FIRST, transport.accept()).await.map_err(|_| "the caller did not come")?;
                accepted.ok_or("the transport is closed")?
            }
        };
        if connection.peer() != other.id {
            return Err(format!("{} came instead of {}", connection.peer(), other.id).into());
        }
        let (sender, heard) = mpsc::channel(WAITING);
        let listening = connection.clone();
        let listens = tokio::spawn(async move {
            while let Ok(frame) = listening.recv_datagram().await {
                let _ = sender.try_send(Frame::read(&frame));
            }
        });
        let quality = talk(&Line::Relayed(connection), heard, frames).await;
        listens.abort();
        quality
    }
}

/// What comes as datagrams of our own node, by who has sent it: the first frames may come before the call is known.
#[derive(Clone, Default)]
struct Voices(Arc<Mutex<BTreeMap<PeerId, Voice>>>);

struct Voice {
    sender: mpsc::Sender<Option<Frame>>,
    receiver: Option<mpsc::Receiver<Option<Frame>>>,
}

impl Default for Voice {
    fn default() -> Voice {
        let (sender, receiver) = mpsc::channel(WAITING);
        Voice { sender, receiver: Some(receiver) }
    }
}

impl Voices {
    fn came(&self, from: PeerId, frame: Bytes) {
        let mut voices = lock(&self.0);
        if voices.len() < STRANGERS || voices.contains_key(&from) {
            let _ = voices.entry(from).or_default().sender.try_send(Frame::read(&frame));
        }
    }

    /// What has come from a peer, and comes.
    fn of(&self, peer: PeerId) -> mpsc::Receiver<Option<Frame>> {
        let mut voices = lock(&self.0);
        if let Some(receiver) = voices.entry(peer).or_default().receiver.take() {
            return receiver;
        }
        // A call after another, which has not come to its end.
        let (sender, receiver) = mpsc::channel(WAITING);
        voices.insert(peer, Voice { sender, receiver: None });
        receiver
    }

    fn forget(&self, peer: &PeerId) {
        lock(&self.0).remove(peer);
    }
}

/// A frame that has come.
struct Frame {
    number: u32,
    /// Of how many.
    of: u32,
    /// How long it was on its way, by both clocks, in microseconds.
    delay: i64,
}

fn clock() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

impl Frame {
    fn write(number: u32, of: u32) -> Bytes {
        let mut bytes = Vec::with_capacity(FRAME);
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&of.to_be_bytes());
        bytes.extend_from_slice(&clock().to_be_bytes());
        // Silence, as G.711 has it.
        bytes.resize(FRAME, 0xd5);
        bytes.into()
    }

    /// `None` if it is none.
    fn read(bytes: &[u8]) -> Option<Frame> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (of, rest) = rest.split_first_chunk()?;
        let (sent, _) = rest.split_first_chunk()?;
        let (number, of) = (u32::from_be_bytes(*number), u32::from_be_bytes(*of));
        let delay = clock().saturating_sub(i64::from_be_bytes(*sent));
        (bytes.len() == FRAME && number < of && of <= LONGEST).then_some(Frame { number, of, delay })
    }
}

/// How frames go to the other.
enum Line {
    /// By our node's own connection, on which the other has proved its id.
    Own { node: Node, to: Contact },
    /// By a connection that a super-node carries.
    Relayed(Arc<dyn Connection>),
}

impl Line {
    /// Frames may be lost.
    async fn send(&self, frame: Bytes) {
        match self {
            Line::Own { node, to } => drop(node.datagram(*to, VOICE, frame).await),
            Line::Relayed(connection) => drop(connection.send_datagram(frame)),
        }
    }
}

/// Sends so many frames, or as many as the other, and hears those of the other.
async fn talk(
    line: &Line,
    mut heard: mpsc::Receiver<Option<Frame>>,
    frames: Option<u32>,
) -> Result<Quality, Failure> {
    let mut quality = Quality::default();
    let of = match frames {
        Some(frames) => frames,
        None => loop {
            let first = timeout(FIRST, heard.recv()).await.map_err(|_| "nothing is heard")?;
            if let Some(first) = first.ok_or("nothing is heard")? {
                let of = first.of;
                quality.add(&first);
                break of;
            }
        },
    };
    quality.of = of;
    let mut pace = interval(PACE);
    let mut end = std::pin::pin!(sleep(PACE * of + LAST));
    let mut number = 0;
    loop {
        tokio::select! {
            _ = pace.tick(), if number < of => {
                line.send(Frame::write(number, of)).await;
                number += 1;
            }
            Some(frame) = heard.recv() => if let Some(frame) = frame {
                quality.add(&frame);
            },
            () = &mut end => return Ok(quality),
        }
    }
}

/// How a call was heard.
#[derive(Default)]
struct Quality {
    /// How many frames the other has sent.
    of: u32,
    numbers: BTreeSet<u32>,
    /// In microseconds.
    delays: Vec<i64>,
    /// How much delays differ from one frame to the next, smoothed (RFC 3550 §6.4.1); in microseconds.
    jitter: f64,
}

impl Quality {
    fn add(&mut self, frame: &Frame) {
        if !self.numbers.insert(frame.number) {
            return;
        }
        if let Some(last) = self.delays.last() {
            let differs = frame.delay.abs_diff(*last) as f64;
            self.jitter += (differs - self.jitter) / 16.0;
        }
        self.delays.push(frame.delay);
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, of) = (self.delays.len(), self.of.max(1));
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        let ms = |micros: f64| micros / 1000.0;
        let mean = delays.iter().sum::<i64>() as f64 / count.max(1) as f64;
        let late = delays.get(count * 95 / 100).or(delays.last()).copied().unwrap_or(0) as f64;
        let lost = 100.0 * f64::from(of.saturating_sub(count as u32)) / f64::from(of);
        write!(
            f,
            "{count} of {of} frames, delay {:.2} ms mean, {:.2} ms 95%, jitter {:.2} ms, loss {lost:.1}%",
            ms(mean),
            ms(late),
            ms(self.jitter)
        )
    }
}

/// A way in a word.
#[derive(Clone, Copy)]
struct Spoken(Way);

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Way::Direct => "direct",
            Way::Reversed => "reversed",
            Way::Relayed { .. } => "relayed",
        })
    }
}
