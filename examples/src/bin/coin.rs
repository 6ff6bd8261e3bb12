//! `coin`: a currency whose nodes are processes.
//!
//! ```sh
//! cargo run --bin coin -- node                                    # founds one; prints: contact: p2p://…
//! cargo run --bin coin -- wallet --file mine --join p2p://… new   # asks for a password; prints: address: …
//! cargo run --bin coin -- node --join p2p://… --mine ADDRESS      # as many as you like
//! cargo run --bin coin -- node --join p2p://… --data DIR          # its chain survives its end, whatever that is
//! cargo run --bin coin -- mine --join p2p://… ADDRESS             # for a node elsewhere
//! cargo run --bin coin -- wallet --file mine --join p2p://… balance
//! cargo run --bin coin -- wallet --file mine --join p2p://… send ADDRESS 1000
//! cargo run --bin coin -- wallet --file mine --join p2p://… history
//! ```
//!
//! A wallet goes through the whole chain each time, block by block, at a node that it believes: it learns nothing of what is
//! in the wallet, but could show it another chain.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks on the terminal")]

use std::io::{BufRead, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use p2p_core::net::Node;
use p2p_core::{Contact, Handle, Keypair, Wire};
use p2p_examples::coin::{CoinNode, Effort, Founding, Remote, mine, serve};
use p2p_examples::{Failure, exit, identity, patiently, say};
use p2p_ledger::{
    Address, Encode, Keeper, Ledger, LedgerConfig, LedgerError, LedgerNode, MemoryStore, Pool, PoolRules,
    RedbStore, Store, Wallet, WalletFile,
};
use p2p_overlay::{HyParView, HyParViewConfig};

/// A currency whose nodes are processes.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keeps the chain together with others; without --join, and without a chain in --data, founds a new currency.
    Node {
        /// Where to listen.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Nodes to join through.
        #[arg(long, value_name = "CONTACT")]
        join: Vec<Contact>,
        /// Where the identity and the chain are kept; otherwise both are new every time.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Mine, for this address.
        #[arg(long, value_name = "ADDRESS")]
        mine: Option<Address>,
        #[command(flatten)]
        effort: Mining,
        /// Of a new currency: how many seconds are to be between blocks.
        #[arg(long, default_value_t = 10)]
        spacing: u64,
        /// Of a new currency: how many blocks new coins wait until they can be spent.
        #[arg(long, default_value_t = 100)]
        maturity: u64,
    },
    /// Mines at a node elsewhere.
    Mine {
        /// The node.
        #[arg(long, value_name = "CONTACT")]
        join: Contact,
        #[command(flatten)]
        effort: Mining,
        /// For whom.
        address: Address,
    },
    /// Prints where a node's chain stands.
    Status {
        /// The node.
        #[arg(long, value_name = "CONTACT")]
        join: Contact,
    },
    /// Receives and pays.
    Wallet {
        /// Its file. The password is the first line of the standard input.
        #[arg(long, value_name = "PATH")]
        file: PathBuf,
        /// A node of the currency.
        #[arg(long, value_name = "CONTACT")]
        join: Contact,
        #[command(subcommand)]
        deed: Deed,
    },
}

#[derive(clap::Args)]
struct Mining {
    /// Mine on so many threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Mine for so much of the time, in percent.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    effort: u32,
}

impl Mining {
    fn effort(&self) -> Effort {
        Effort { threads: self.threads.max(1), percent: self.effort }
    }
}

#[derive(Subcommand)]
enum Deed {
    /// Makes the wallet, and prints an address.
    New,
    /// Prints an address that nobody was given before.
    Address,
    /// Prints how much there is.
    Balance,
    /// Pays.
    Send {
        /// Whom.
        address: Address,
        /// How much, in the smallest unit.
        amount: u64,
        /// The fee for each 1,000 bytes.
        #[arg(long, default_value_t = 1_000)]
        rate: u64,
    },
    /// Prints what has changed what there is.
    History,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("coin", run(Args::parse().command).await)
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Node { listen, join, data, mine, effort, spacing, maturity } => {
            let identity = identity(data.as_deref())?;
            let bound = Node::builder().network("coin").identity(identity).bind(listen).await;
            let node = bound.map_err(|error| format!("cannot listen at {listen}: {error}"))?;
            let founding =
                founding(&node, &join, data.as_deref(), || Founding::new(spacing, maturity)).await?;
            let ledger = match &data {
                Some(data) => keep(&node, &founding, join, RedbStore::open(data.join("chain.redb"))?)?,
                None => keep(&node, &founding, join, MemoryStore::default())?,
            };
            stay(&node, &founding, ledger, mine, effort.effort()).await
        }
        Command::Mine { join, effort, address } => {
            let remote = Remote::new(&client().await?, join);
            let founding = remote.founding().await?;
            check_chain(&founding, address)?;
            let to = address.lock().to_bytes();
            let found = |block: &p2p_examples::coin::CoinBlock| say("mined", block.header.height);
            Ok(mine(&remote, &founding.rules(), &to, effort.effort(), found).await?)
        }
        Command::Status { join } => {
            let status = Remote::new(&client().await?, join).status(None).await?;
            say("tip", format_args!("{} {}", status.tip.height, status.tip.id));
            say("supply", status.supply);
            Ok(())
        }
        Command::Wallet { file, join, deed } => wallet(&file, join, deed).await,
    }
}

/// A node of this process that only asks.
async fn client() -> Result<Node, Failure> {
    Ok(Node::builder().network("coin").bind("127.0.0.1:0").await?)
}

/// What the currency is: as it is written down, as others say, or a new one.
async fn founding(
    node: &Node,
    join: &[Contact],
    data: Option<&Path>,
    new: impl FnOnce() -> Result<Founding, Failure>,
) -> Result<Founding, Failure> {
    let file = data.map(|data| data.join("founding"));
    let kept = match file.as_ref().map(std::fs::read) {
        Some(Ok(bytes)) => Some(Founding::from_bytes(&bytes)?),
        Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Some(Err(_)) | None => None,
    };
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let founding = match join.first() {
        Some(first) => patiently(|| async { Remote::new(node, *first).founding().await }).await?,
        None => new()?,
    };
    if let Some(file) = file {
        std::fs::write(file, founding.to_bytes())?;
    }
    Ok(founding)
}

/// Starts the machine and its keeper.
fn keep<D: Store + Send + 'static>(
    node: &Node,
    founding: &Founding,
    join: Vec<Contact>,
    store: D,
) -> Result<Handle<CoinNode>, Failure> {
    // What others must not know: that of a key which nobody is told.
    let secret = *p2p_core::Key::of(&Keypair::generate().sign(b"coin: what others must not know")).as_bytes();
    let chain = founding.chain(store, secret)?;
    say("height", chain.tip().height);
    let second = Duration::from_secs(1);
    let membership = HyParViewConfig { shuffle: 5 * second, upkeep: second, ..HyParViewConfig::default() };
    let config = LedgerConfig { poll: 5 * second, ..LedgerConfig::default() };
    let machine = LedgerNode::new(HyParView::with(node.contact(), join, membership), config);
    // Nodes of another currency are no neighbours.
    let name = format!("coin-{:08x}/1", founding.number());
    let keeper = Keeper::new(chain, Pool::new(PoolRules::default()));
    Ok(node.spawn_with_workers(&name, machine, [keeper])?)
}

/// Runs until it is interrupted.
async fn stay(
    node: &Node,
    founding: &Founding,
    ledger: Handle<CoinNode>,
    to: Option<Address>,
    effort: Effort,
) -> Result<(), Failure> {
    serve(node, founding, &ledger)?;
    say("currency", founding.id());
    say("contact", node.contact());
    match to {
        None => tokio::signal::ctrl_c().await?,
        Some(to) => {
            check_chain(founding, to)?;
            let (rules, to) = (founding.rules(), to.lock().to_bytes());
            let found = |block: &p2p_examples::coin::CoinBlock| say("mined", block.header.height);
            tokio::select! {
                done = mine(&ledger, &rules, &to, effort, found) => done?,
                stopped = tokio::signal::ctrl_c() => stopped?,
            }
        }
    }
    node.shutdown().await;
    Ok(())
}

fn check_chain(founding: &Founding, address: Address) -> Result<(), Failure> {
    match address.chain == founding.number() {
        true => Ok(()),
        false => Err(format!("{address} is an address of another currency").into()),
    }
}

/// The first line of the standard input.
fn password() -> Result<String, Failure> {
    let input = std::io::stdin();
    if input.is_terminal() {
        eprint!("password: ");
    }
    let mut line = String::new();
    input.lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

async fn wallet(file: &Path, join: Contact, deed: Deed) -> Result<(), Failure> {
    let remote = Remote::new(&client().await?, join);
    let founding = remote.founding().await?;
    let (number, maturity) = (founding.number(), founding.maturity);
    if let Deed::New = deed {
        let mut wallet = Wallet::generate(number, maturity);
        let address = wallet.receive();
        WalletFile::create(file, &password()?, &wallet)?;
        say("address", address);
        return Ok(());
    }
    let (file, mut wallet) = WalletFile::open(file, &password()?, number, maturity)?;
    if !matches!(deed, Deed::New) {
        let ledger: &dyn Ledger<_, _> = &remote;
        wallet.catch_up(ledger).await?;
        // They may have been forgotten, or never heard of.
        for payment in wallet.pending() {
            match remote.submit(payment.clone()).await {
                Ok(_) | Err(LedgerError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    match deed {
        Deed::New => {}
        Deed::Address => {
            let address = wallet.receive();
            file.save(&wallet)?;
            say("address", address);
        }
        Deed::Balance => {
            file.save(&wallet)?;
            let balance = wallet.balance();
            say("height", wallet.height());
            say("ready", balance.ready);
            say("new", balance.new);
            say("pending", balance.pending);
        }
        Deed::Send { address, amount, rate } => {
            let payment = wallet.pay(address, amount, rate)?;
            file.save(&wallet)?;
            match remote.submit(payment.clone()).await {
                Ok(id) => say("transaction", id),
                Err(error @ LedgerError::Refused(_)) => {
                    wallet.abandon(p2p_ledger::Tx::id(&payment));
                    file.save(&wallet)?;
                    return Err(error.into());
                }
                Err(error) => {
                    let id = p2p_ledger::Tx::id(&payment);
                    let kept = "it is not known whether the payment was heard of: it is kept, and told again next time";
                    return Err(format!("{error}; {kept} (transaction {id})").into());
                }
            }
        }
        Deed::History => {
            for entry in wallet.history() {
                let height = entry.height.map_or_else(|| "-".to_owned(), |height| height.to_string());
                println!("{height} {} +{} -{}", entry.id, entry.received, entry.spent);
            }
        }
    }
    Ok(())
}
