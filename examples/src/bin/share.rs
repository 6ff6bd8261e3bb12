//! `share`: files and folders from whoever has them.
//!
//! ```sh
//! cargo run --release --bin share -- serve album/                # prints: ticket: p2p-folder:…
//! cargo run --release --bin share -- get p2p-folder:… copy/      # on another machine
//! ```
//!
//! A second provider joins the first, `serve --join CONTACT`, with the same content; a hash alone is enough for `get`
//! then, with `--join`.

#![expect(clippy::print_stdout, reason = "a program talks on the terminal")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use p2p_core::net::Node;
use p2p_core::{Contact, Key};
use p2p_examples::{Failure, Part, exit, patiently, say};
use p2p_swarm::{
    ContentStore, FetchItem, FileWorker, Files, Kind, PeerReport, Received, Standing, Store, Swarm, Ticket,
};

/// Shares files and folders under their BLAKE3 root, and fetches them from several providers at once.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shares a file or folder until it is interrupted, and prints its ticket.
    Serve {
        /// The file or folder.
        path: PathBuf,
        #[command(flatten)]
        part: Part,
    },
    /// Fetches what a ticket stands for. What is there already, whole or in part, is not fetched again.
    Get {
        /// The ticket, or the root of a file with `--join`.
        what: String,
        /// Where it goes.
        out: PathBuf,
        #[command(flatten)]
        part: Part,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::Serve { path, part } => serve(path, &part).await,
        Command::Get { what, out, part } => get(&what, out, &part).await,
    };
    exit("share", done)
}

fn store(node: &Node) -> Result<Store<Contact>, Failure> {
    let workers = [FileWorker::new(Files), FileWorker::new(Files)];
    Ok(Store::new(node.spawn_with_workers("swarm/1", Swarm::default(), workers)?))
}

async fn serve(path: PathBuf, part: &Part) -> Result<(), Failure> {
    let member = part.member().await?;
    let shared = store(&member.node)?.share(&path).await?;
    patiently(|| member.dht.provide(shared.root)).await?;
    let contact = member.node.contact();
    say("ticket", Ticket::new(shared.root, shared.kind).with([contact]));
    say("contact", contact);
    say("root", shared.root);
    tokio::signal::ctrl_c().await?;
    member.node.shutdown().await;
    Ok(())
}

async fn get(what: &str, out: PathBuf, part: &Part) -> Result<(), Failure> {
    let ticket: Ticket = match what.parse::<Key>() {
        Ok(root) => Ticket::new(root, Kind::File),
        Err(_) => what.parse()?,
    };
    if ticket.contacts.is_empty() && part.join.is_empty() {
        return Err("the ticket names nobody: name a member of the network, --join p2p://…".into());
    }
    let member = match part.join.is_empty() {
        true => None,
        false => Some(part.member().await?),
    };
    let node = match &member {
        Some(member) => member.node.clone(),
        None => Node::builder().bind(part.listen).await?,
    };
    let store = match &member {
        Some(member) => {
            patiently(|| member.dht.providers(ticket.root)).await?;
            store(&node)?.with_dht(member.dht.clone())
        }
        None => store(&node)?,
    };
    let mut fetching = store.fetch(&ticket, &out);
    let bar = bar();
    while let Some(item) = fetching.next().await {
        match item {
            FetchItem::Progress(progress) => {
                bar.set_length(progress.total.unwrap_or_default());
                bar.set_position(progress.bytes);
                bar.set_message(format!("{} peers", progress.rates.len()));
            }
            FetchItem::Lied(peer) => bar.suspend(|| say("liar", peer)),
            FetchItem::Slow(peer) => bar.suspend(|| say("slow", peer)),
            FetchItem::Starving => bar.set_message("nobody has it"),
        }
    }
    let received = fetching.await?;
    bar.finish_and_clear();
    report(&received);
    node.shutdown().await;
    Ok(())
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    let look = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}";
    if let Ok(style) = ProgressStyle::with_template(look) {
        bar.set_style(style);
    }
    bar
}

fn report(received: &Received<Contact>) {
    let Received { size, resumed, files, peers } = received;
    println!("{size} bytes in {files} files, {resumed} of them were there");
    for PeerReport { peer, standing, bytes, wasted } in peers {
        let what = match standing {
            Standing::Good => "",
            Standing::Slow => ", slow",
            Standing::Without => ", does not have it all",
            Standing::Gone => ", gone",
            Standing::Liar => ", a liar",
        };
        println!("  {bytes} bytes from {peer}{what}; {wasted} in vain");
    }
}
