//! `bitcoin`: the chain of Bitcoin's own network, by its headers alone.
//!
//! ```sh
//! cargo run --release --bin bitcoin -- follow --connect HOST:8333 --data me       # prints: tip: …, work: …, and what comes
//! cargo run --release --bin bitcoin -- prove TXID --connect HOST:8333 --data me   # prints: block: …, confirmations: …, proof: …
//! cargo run --release --bin bitcoin -- prove TXID --connect HOST:8333 --block 170 --json
//! cargo run --release --bin bitcoin -- scan ADDRESS --connect HOST:8333 --from 800000   # prints: paid: …, spent: …, scanned: …
//! cargo run --release --bin bitcoin -- follow --connect 127.0.0.1:18444 --network regtest
//! ```
//!
//! No node is believed: the chain is the one with the most work that any of those shows which are named with `--connect`, and a
//! transaction is looked for in whole blocks, whose headers commit to what is in them. What pays to an address is found by the
//! filters of blocks, of which one honest node tells which are right, and no node learns the address. There is no default node.

#![expect(clippy::print_stdout, reason = "a program talks on the terminal")]
#![expect(clippy::disallowed_types, reason = "a program has a clock")]

mod kept;
mod scan;

use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use clap::{Parser, Subcommand, ValueEnum};
use futures::{FutureExt, StreamExt};
use p2p_core::net::tcp::{self, Running, TcpPeer};
use p2p_core::{Events, Handle, Key, Limits, NoWorker};
use p2p_examples::{Failure, exit, say, warn};
use p2p_ledger::bitcoin::{
    BitcoinClient, BitcoinConfig, BitcoinEvent, BitcoinNetwork, HeaderAt, Prove, Proved, Status, Synced,
};
use p2p_ledger::{BlockId, Change, Encode, Header, HeaderRules, Tip, TxId};
use serde_json::json;

use kept::Kept;
use scan::scan;

/// The chain of Bitcoin's own network, by its headers alone.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints where the chain ends, and where it goes, until it is interrupted.
    Follow {
        #[command(flatten)]
        part: Part,
    },
    /// Shows that a transaction is in the chain. The proof that is printed is what Bitcoin Core's `verifytxoutproof` takes.
    Prove {
        #[command(flatten)]
        part: Part,
        /// Its name, in 64 hexadecimal digits.
        transaction: Key,
        /// The block that it is in. If that is not said, it is looked for in the last blocks.
        #[arg(long, value_name = "HEIGHT or ID")]
        block: Option<Which>,
        /// In how many of them; each is up to 1 MB.
        #[arg(long, default_value_t = 144, conflicts_with = "block")]
        last: u64,
    },
    /// Finds what pays to addresses, and what spends that, by the filters of blocks (BIP 157): no node learns the addresses.
    Scan {
        #[command(flatten)]
        part: Part,
        /// Addresses, or scripts of outputs in hexadecimal digits.
        #[arg(required = true, value_name = "ADDRESS or SCRIPT")]
        scripts: Vec<String>,
        /// The first block that is looked at.
        #[arg(long, default_value_t = 1, value_name = "HEIGHT")]
        from: u64,
    },
}

/// Which chain, and whom to ask.
#[derive(Clone, Debug, clap::Args)]
struct Part {
    /// A node, by name or address; repeat for more, of which a single honest one is enough.
    #[arg(long, value_name = "HOST:PORT", required = true)]
    connect: Vec<String>,
    /// Which network.
    #[arg(long, value_enum, default_value_t = Network::Main)]
    network: Network,
    /// Where the headers are kept; otherwise they are fetched anew every time.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON, an object in each line.
    #[arg(long)]
    json: bool,
}

/// One of Bitcoin's networks.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Network {
    /// The one with money in it.
    Main,
    /// The third for tests.
    Testnet,
    /// The fourth.
    Testnet4,
    /// One's own, for regression tests.
    Regtest,
}

impl Network {
    /// It, and the file where its headers are kept.
    fn details(self) -> (BitcoinNetwork, &'static str) {
        match self {
            Network::Main => (BitcoinNetwork::main(), "main.headers"),
            Network::Testnet => (BitcoinNetwork::testnet(), "testnet.headers"),
            Network::Testnet4 => (BitcoinNetwork::testnet4(), "testnet4.headers"),
            Network::Regtest => (BitcoinNetwork::regtest(), "regtest.headers"),
        }
    }
}

/// A block, as a user says which.
#[derive(Clone, Copy, Debug)]
enum Which {
    At(u64),
    Named(BlockId),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Which, String> {
        let named = || text.parse().map(|id| Which::Named(BlockId(id)));
        let neither =
            |_| format!("{text} is neither a height nor the 64 hexadecimal digits of a block's name");
        text.parse().map(Which::At).or_else(|_| named()).map_err(neither)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("bitcoin", run(Args::parse().command).await)
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Follow { part } => follow(&part).await,
        Command::Prove { part, transaction, block, last } => {
            prove(&part, TxId(transaction), block, last).await
        }
        Command::Scan { part, scripts, from } => scan(&part, &scripts, from).await,
    }
}

/// A client in this process, and the file of its headers, if they are kept.
struct Session {
    running: Running<BitcoinClient<TcpPeer>>,
    client: Handle<BitcoinClient<TcpPeer>>,
    events: Events<BitcoinEvent>,
    kept: Option<Kept>,
}

impl Session {
    async fn start(part: &Part) -> Result<Session, Failure> {
        let mut nodes = Vec::new();
        for host in &part.connect {
            nodes.extend(host.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?);
        }
        let (network, file) = part.network.details();
        let mut headers = network.headers(HeaderRules::default());
        let kept = match &part.data {
            None => None,
            Some(data) => {
                std::fs::create_dir_all(data).map_err(|error| format!("{}: {error}", data.display()))?;
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
                Some(Kept::open(&data.join(file), &mut headers, now)?)
            }
        };
        if let Some(kept) = &kept {
            part.tell("kept", kept.height());
        }
        let machine = BitcoinClient::new(&network, nodes, headers, BitcoinConfig::default());
        let limits = Limits::default();
        let running = tcp::spawn(machine, move |_| network.codec(), None, limits, [NoWorker]).await?;
        let client = running.handle();
        Ok(Session { events: client.events(), client, running, kept })
    }

    /// Waits until all nodes that are there have shown what they have.
    async fn synced(&mut self) -> Result<Tip, Failure> {
        let client = self.client.clone();
        Ok(self.meanwhile(client.ask(Synced)).await???)
    }

    /// Waits for something; what comes meanwhile is kept.
    async fn meanwhile<T>(&mut self, wanted: impl Future<Output = T>) -> Result<T, Failure> {
        let mut wanted = pin!(wanted);
        let done = loop {
            tokio::select! {
                done = &mut wanted => break done,
                Some(event) = self.events.next() => {
                    if change_of(event).is_some() {
                        self.keep().await?;
                    }
                }
            }
        };
        // What was said meanwhile.
        while let Some(Some(event)) = self.events.next().now_or_never() {
            change_of(event);
        }
        self.keep().await?;
        Ok(done)
    }

    async fn keep(&mut self) -> Result<(), Failure> {
        match &mut self.kept {
            Some(kept) => kept.catch_up(&self.client).await,
            None => Ok(()),
        }
    }
}

/// What has changed; who lies, or is of no use, is named instead.
fn change_of(event: BitcoinEvent) -> Option<Arc<Change>> {
    match event {
        BitcoinEvent::Changed(change) => Some(change),
        BitcoinEvent::Lied(node, how) => {
            warn(&format!("{node} lies: {how}"));
            None
        }
        BitcoinEvent::Useless(node, why) => {
            warn(&format!("{node}: {why}"));
            None
        }
    }
}

impl Part {
    /// Prints something that is one number.
    fn tell(&self, name: &str, value: u64) {
        match self.json {
            true => println!("{}", json!({ name: value })),
            false => say(name, value),
        }
    }

    /// Prints where the chain ends, and how many blocks are none of it any more.
    fn tell_tip(&self, tip: &Tip, undone: usize) {
        let work = format!("{:#x}", tip.work);
        if self.json {
            let id = tip.id.to_string();
            println!("{}", json!({ "height": tip.height, "id": id, "work": work, "undone": undone }));
            return;
        }
        if undone > 0 {
            say("undone", undone);
        }
        say("tip", format_args!("{} {}", tip.height, tip.id));
        say("work", work);
    }

    fn tell_proof(&self, block: BlockId, shown: &Proved) {
        let transaction = shown.transaction.id().to_string();
        let proof: String = shown.proof.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let Proved { height, confirmations, .. } = shown;
        if self.json {
            let said = json!({
                "transaction": transaction,
                "block": block.to_string(),
                "height": height,
                "confirmations": confirmations,
                "proof": proof,
            });
            println!("{said}");
            return;
        }
        say("transaction", transaction);
        say("block", block);
        say("height", height);
        say("confirmations", confirmations);
        say("proof", proof);
    }
}

async fn follow(part: &Part) -> Result<(), Failure> {
    let mut session = Session::start(part).await?;
    session.synced().await?;
    let status = session.client.ask(Status).await?;
    session.keep().await?;
    part.tell_tip(&status.tip, 0);
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            event = session.events.next() => {
                let event = event.ok_or("the client has stopped")?;
                if let Some(change) = change_of(event) {
                    session.keep().await?;
                    part.tell_tip(&change.tip, change.disconnected.len());
                }
            }
            stopped = &mut interrupted => {
                stopped?;
                break;
            }
        }
    }
    session.running.shutdown().await;
    Ok(())
}

async fn prove(part: &Part, transaction: TxId, which: Option<Which>, last: u64) -> Result<(), Failure> {
    let mut session = Session::start(part).await?;
    let tip = session.synced().await?;
    let client = &session.client;
    let at = async |height: u64| -> Result<BlockId, Failure> {
        let header = client.ask(HeaderAt(height)).await?;
        Ok(header.map(|header| header.id()).ok_or_else(|| format!("there is no block {height} yet"))?)
    };
    let (blocks, place) = match which {
        Some(Which::Named(id)) => (vec![id], format!("block {id}")),
        Some(Which::At(height)) => (vec![at(height).await?], format!("block {height}")),
        None => {
            let mut blocks = Vec::new();
            for height in (1..=tip.height).rev().take(usize::try_from(last)?) {
                blocks.push(at(height).await?);
            }
            (blocks, format!("any of the last {last} blocks: say in which, with --block"))
        }
    };
    for block in blocks {
        if let Some(shown) = client.ask(Prove { block, transaction }).await?? {
            part.tell_proof(block, &shown);
            return Ok(());
        }
    }
    Err(format!("{transaction} is not in {place}").into())
}
