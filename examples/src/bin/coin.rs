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
//! cargo run --bin coin -- wallet --file mine --light --join p2p://… --join p2p://… balance
//! ```
//!
//! A wallet goes through the whole chain each time, block by block, at a node that it believes: it learns nothing of what is
//! in the wallet, but could show it another chain. With `--light` it believes none, and fetches little: it is a light client of
//! all nodes that are named, one of which has to be honest, and fetches headers, filters, and the blocks that are about it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks on the terminal")]

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use p2p_core::Contact;
use p2p_core::net::Node;
use p2p_examples::ledger::{
    Founding, LightArgs, Member, Mining, NodeArgs, Pow, Reader, Remote, Terms, client, mine, print_status,
};
use p2p_examples::{Failure, exit, say};
use p2p_ledger::{Address, Coins, Encode, Ledger, LedgerError, Tx, View, Wallet, WalletFile};
use serde::{Deserialize, Serialize};

/// A currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Currency {
    /// How much a block makes at first.
    subsidy: u64,
    /// How many blocks new coins wait.
    maturity: u64,
}

impl Terms for Currency {
    const NAME: &'static str = "coin";
    const RELAY_FEE: u64 = 1_000;
    type State = Coins;

    fn state(&self, chain: u32) -> Coins {
        Coins { maturity: self.maturity, ..Coins::new(chain, self.subsidy) }
    }

    fn is_sound(&self) -> bool {
        self.subsidy <= 1 << 40
    }

    fn supply(coins: &Coins, view: &View<'_>) -> Option<u64> {
        Some(coins.supply(view))
    }
}

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
        #[command(flatten)]
        node: NodeArgs,
        /// Mine, for this address.
        #[arg(long, value_name = "ADDRESS")]
        mine: Option<Address>,
        #[command(flatten)]
        effort: Mining,
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
        #[command(flatten)]
        nodes: LightArgs,
        /// Believe no node: check headers, and go by filters. If not, the first node is believed.
        #[arg(long)]
        light: bool,
        #[command(subcommand)]
        deed: Deed,
    },
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
        Command::Node { node, mine, effort, maturity } => {
            let member = Member::start(node, Currency { subsidy: 5_000_000_000, maturity }).await?;
            if let Some(to) = mine {
                check_chain(&member.founding, to)?;
            }
            let mining = mine.map(|to| (to.lock().to_bytes(), effort.effort()));
            member.stay(mining).await
        }
        Command::Mine { join, effort, address } => {
            let remote = Remote::<Currency>::new(&client::<Currency>().await?, join);
            let founding = remote.founding().await?;
            check_chain(&founding, address)?;
            let to = address.lock().to_bytes();
            let found = |block: &p2p_examples::ledger::BlockOf<Currency>| say("mined", block.header.height);
            Ok(mine(&remote, &founding.rules(), &to, effort.effort(), found).await?)
        }
        Command::Status { join } => print_status::<Currency>(join).await,
        Command::Wallet { file, nodes, light, deed } => wallet(&file, &nodes, light, deed).await,
    }
}

fn check_chain(founding: &Founding<Currency>, address: Address) -> Result<(), Failure> {
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

/// What the chain was founded on, and the chain: through a light client, or as the first node says. And the node that asks.
async fn ledger(
    nodes: &LightArgs,
    light: bool,
) -> Result<(Founding<Currency>, Arc<dyn Ledger<Pow, Coins>>, Node), Failure> {
    if light {
        let Reader { founding, ledger, node } = Reader::<Currency>::start(nodes).await?;
        return Ok((founding, Arc::new(ledger), node));
    }
    let first = nodes.join.first().ok_or("name a node to ask, with --join")?;
    let node = client::<Currency>().await?;
    let remote = Remote::<Currency>::new(&node, *first);
    Ok((remote.founding().await?, Arc::new(remote), node))
}

async fn wallet(file: &Path, nodes: &LightArgs, light: bool, deed: Deed) -> Result<(), Failure> {
    let (founding, ledger, _node) = ledger(nodes, light).await?;
    let (number, maturity) = (founding.number(), founding.terms.maturity);
    if let Deed::New = deed {
        let mut wallet = Wallet::generate(number, maturity);
        let address = wallet.receive();
        WalletFile::create(file, &password()?, &wallet)?;
        say("address", address);
        return Ok(());
    }
    let (file, mut wallet) = WalletFile::open(file, &password()?, number, maturity)?;
    wallet.catch_up(&*ledger).await?;
    // They may have been forgotten, or never heard of.
    for payment in wallet.pending() {
        match ledger.submit(payment.clone()).await {
            Ok(_) | Err(LedgerError::Refused(_)) => {}
            Err(error) => return Err(error.into()),
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
            match ledger.submit(payment.clone()).await {
                Ok(id) => say("transaction", id),
                Err(error @ LedgerError::Refused(_)) => {
                    wallet.abandon(payment.id());
                    file.save(&wallet)?;
                    return Err(error.into());
                }
                Err(error) => {
                    let id = payment.id();
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
