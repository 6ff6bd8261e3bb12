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

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::{Parser, Subcommand};
use futures::StreamExt;
use p2p_core::net::{Carrier, Node, QuicTransport, Transport};
use p2p_core::{Contact, Handle, Keypair, Limits};
use p2p_examples::{Failure, exit, identity, patiently, say, skype_config};
use p2p_overlay::{
    Buddy, Call, Called, HangUp, LoggedIn, Role, Search, SendFrame, Skype, SkypeConfig, SkypeEvent,
    SkypeUser, Way, is_user_name,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

mod voice;

use voice::{FIRST, Frame, LAST, LONGEST, Line, Quality, VOICE, Voices, WAITING, talk};

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
