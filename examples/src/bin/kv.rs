//! `kv`: a hash table whose nodes are processes.
//!
//! ```sh
//! cargo run --bin kv -- node                                     # prints: contact: p2p://…
//! cargo run --bin kv -- node --join p2p://…                      # as many as you like
//! cargo run --bin kv -- node --join p2p://… --data DIR           # its records survive its end, whatever that is
//! cargo run --bin kv -- put --join p2p://… 'a value'             # prints: key: …
//! cargo run --bin kv -- get --join p2p://… KEY                   # through any of them
//! cargo run --bin kv -- find --join p2p://… KEY                  # prints: root: p2p://…
//! cargo run --bin kv -- put --join p2p://… --data me --name greeting 'hello'   # prints: name: …/greeting
//! cargo run --bin kv -- get --join p2p://… NAME
//! ```
//!
//! What is put lasts for a week, unless it is put again.

#![expect(clippy::print_stdout, reason = "a program talks on the terminal")]
#![expect(clippy::disallowed_types, reason = "a program has a clock")]

use std::process::ExitCode;
use std::time::SystemTime;

use bytes::Bytes;
use clap::{Parser, Subcommand};
use p2p_core::net::{Incoming, Node};
use p2p_core::{Contact, Key, PeerId, Wire};
use p2p_dht::{Client, Gateway, Signed};
use p2p_examples::{Failure, LASTS, Part, exit, patiently, say};
use p2p_overlay::{Find, Lookup};
use serde::{Deserialize, Serialize};

/// A hash table whose nodes are processes: values are kept by eight of them, and survive the death of seven.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keeps records, for others and on the behalf of those who ask.
    Node(Part),
    /// Stores a value for a week, and prints the key or the name that it is found under.
    Put {
        #[command(flatten)]
        part: Part,
        /// Store it under this name, signed with the identity in `--data`: to be replaced by the next of that name.
        #[arg(long, requires = "data")]
        name: Option<String>,
        /// The value.
        value: String,
    },
    /// Prints a value.
    Get {
        #[command(flatten)]
        part: Part,
        /// What `put` has printed.
        key: String,
    },
    /// Prints which node is responsible for a key, as another one sees it.
    Find {
        #[command(flatten)]
        part: Part,
        /// 64 hexadecimal digits.
        key: Key,
    },
}

/// The protocol between `put`, `get` or `find` and a node.
const NAME: &str = "kv/1";

/// From `put`, `get` or `find` to a node. Answered by [`Reply`].
#[derive(Serialize, Deserialize)]
enum Ask {
    Put(Bytes),
    Publish(Signed),
    Get(Key),
    Latest(PeerId, Bytes),
    Find(Key),
}

#[derive(Serialize, Deserialize)]
enum Reply {
    Key(Key),
    Value(Bytes),
    Signed(Signed),
    Root(Contact),
    Failed(String),
}

impl Wire for Ask {
    const MAX_BYTES: usize = 80 << 10;
}
impl Wire for Reply {
    const MAX_BYTES: usize = 80 << 10;
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("kv", run(Args::parse().command).await)
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Node(part) => serve(&part).await,
        Command::Put { part, name: None, value } => match ask(&part, &Ask::Put(value.into())).await? {
            Reply::Key(key) => {
                say("key", key);
                Ok(())
            }
            other => Err(unexpected(other)),
        },
        Command::Put { part, name: Some(name), value } => put_named(&part, name, value).await,
        Command::Get { part, key } => {
            let question = match key.split_once('/') {
                Some((publisher, name)) => Ask::Latest(publisher.parse()?, name.to_owned().into()),
                None => Ask::Get(key.parse()?),
            };
            let value = match ask(&part, &question).await? {
                Reply::Value(value) => value,
                Reply::Signed(signed) if signed.is_genuine() => signed.value().clone(),
                other => return Err(unexpected(other)),
            };
            println!("{}", String::from_utf8_lossy(&value));
            Ok(())
        }
        Command::Find { part, key } => match ask(&part, &Ask::Find(key)).await? {
            Reply::Root(root) => {
                say("root", root);
                Ok(())
            }
            other => Err(unexpected(other)),
        },
    }
}

/// Stores the value with the sequence number after that of the value which is there.
async fn put_named(part: &Part, name: String, value: String) -> Result<(), Failure> {
    let keypair = part.identity()?;
    let salt = Bytes::from(name.clone());
    let sequence = match ask(part, &Ask::Latest(keypair.id(), salt.clone())).await? {
        Reply::Signed(signed) => signed.sequence() + 1,
        _ => 1,
    };
    let expires = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)? + LASTS;
    let signed = Signed::new(&keypair, salt, sequence, expires.as_secs(), value)?;
    match ask(part, &Ask::Publish(signed)).await? {
        Reply::Key(_) => {
            say("name", format_args!("{}/{name}", keypair.id()));
            Ok(())
        }
        other => Err(unexpected(other)),
    }
}

fn unexpected(reply: Reply) -> Failure {
    match reply {
        Reply::Failed(why) => why.into(),
        Reply::Key(_) | Reply::Value(_) | Reply::Signed(_) | Reply::Root(_) => {
            "the node's answer does not belong to the question".into()
        }
    }
}

/// Asks the first of the nodes that answers.
async fn ask(part: &Part, question: &Ask) -> Result<Reply, Failure> {
    let node = Node::builder().bind(part.listen).await?;
    let mut last: Failure = "name a node to ask: --join p2p://…".into();
    for contact in &part.join {
        match node.request(*contact, NAME, question.to_bytes()).await {
            Ok(reply) => {
                node.shutdown().await;
                return Ok(Reply::from_bytes(&reply)?);
            }
            Err(error) => last = format!("{contact}: {error}").into(),
        }
    }
    Err(last)
}

/// Runs until it is interrupted.
async fn serve(part: &Part) -> Result<(), Failure> {
    let member = part.member().await?;
    let (dht, lookup) = (member.dht.clone(), member.lookup.clone());
    member.node.serve(NAME, move |request: Incoming| {
        let (dht, lookup) = (dht.clone(), lookup.clone());
        async move { Ok(answer(&*dht, &*lookup, request).await.to_bytes().into()) }
    })?;
    if !part.join.is_empty() {
        // Once anybody is found the node has joined.
        patiently(|| member.lookup.lookup(Find::key(Key::of(b"kv")))).await?;
    }
    say("contact", member.node.contact());
    tokio::signal::ctrl_c().await?;
    member.node.shutdown().await;
    Ok(())
}

async fn answer(
    dht: &dyn Gateway<Contact>,
    lookup: &dyn Lookup<Contact>,
    Incoming { from, body }: Incoming,
) -> Reply {
    let client = Client::at(from, LASTS);
    let done = match Ask::from_bytes(&body) {
        Err(error) => return Reply::Failed(error.to_string()),
        Ok(Ask::Put(value)) => {
            dht.put_for(client, value).await.map(Reply::Key).map_err(|error| error.to_string())
        }
        Ok(Ask::Publish(signed)) => {
            dht.publish_for(client, signed, None).await.map(Reply::Key).map_err(|error| error.to_string())
        }
        Ok(Ask::Get(key)) => dht.get(key).await.map(Reply::Value).map_err(|error| error.to_string()),
        Ok(Ask::Latest(publisher, salt)) => {
            dht.latest(publisher, &salt).await.map(Reply::Signed).map_err(|error| error.to_string())
        }
        Ok(Ask::Find(key)) => {
            let found = lookup.lookup(Find::key(key)).await;
            found.map(|found| Reply::Root(found.root())).map_err(|error| error.to_string())
        }
    };
    done.unwrap_or_else(Reply::Failed)
}
