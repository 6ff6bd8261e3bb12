//! `registry`: names that are owned, each by one key at a time, kept by processes.
//!
//! ```sh
//! cargo run --bin registry -- node                                     # founds one; prints: contact: p2p://…
//! cargo run --bin registry -- node --join p2p://… --mine --data DIR    # as many as you like
//! cargo run --bin registry -- key --key mine                           # prints: key: …
//! cargo run --bin registry -- claim --key mine --join p2p://… alice    # takes some blocks; prints: owner: …
//! cargo run --bin registry -- set --key mine --join p2p://… alice page.html
//! cargo run --bin registry -- transfer --key mine --join p2p://… alice KEY
//! cargo run --bin registry -- look --join p2p://… alice                # prints: owner: … and value: …
//! ```
//!
//! Who sees a name on its way to the chain comes too late to claim it: its hash is there first (`Move::Commit`). Everybody but
//! the nodes is a light client, and believes none of the nodes that it names, as long as one of them is honest.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use futures::StreamExt;
use p2p_core::{Contact, Key, Keypair, PeerId};
use p2p_examples::ledger::{LightArgs, Member, Mining, NodeArgs, Pow, Reader, Terms, print_status};
use p2p_examples::{Failure, exit, keypair, say};
use p2p_ledger::{Ledger, MAX_NAME, Move, Name, NameMove, PublicKey, Registry, TxId};
use serde::{Deserialize, Serialize};

/// A registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Names {
    /// How many blocks are between a commitment and its claim.
    delay: u64,
}

impl Terms for Names {
    const NAME: &'static str = "registry";
    type State = Registry;

    fn state(&self, chain: u32) -> Registry {
        Registry { chain, delay: self.delay }
    }

    fn is_sound(&self) -> bool {
        self.delay <= 10_000
    }
}

/// Names that are owned.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keeps the registry together with others; without --join, and without one in --data, founds a new one.
    Node {
        #[command(flatten)]
        node: NodeArgs,
        /// Mine: nothing is paid for it, and nothing happens without it.
        #[arg(long)]
        mine: bool,
        #[command(flatten)]
        effort: Mining,
        /// Of a new registry: how many blocks are between the hash of a name and its claim.
        #[arg(long, default_value_t = 12)]
        delay: u64,
    },
    /// Prints where a node's chain stands.
    Status {
        /// The node.
        #[arg(long, value_name = "CONTACT")]
        join: Contact,
    },
    /// Prints the public key of an owner, and makes the key file if there is none.
    Key {
        /// The key file.
        #[arg(long, value_name = "PATH")]
        key: PathBuf,
    },
    /// Makes a name one's own, if nobody has it.
    Claim {
        #[command(flatten)]
        owner: Owner,
        /// The name.
        name: String,
    },
    /// Says what a name stands for: the hash of a file. The owner's to do.
    Set {
        #[command(flatten)]
        owner: Owner,
        /// The name.
        name: String,
        /// The file.
        value: PathBuf,
    },
    /// Gives a name away. The owner's to do.
    Transfer {
        #[command(flatten)]
        owner: Owner,
        /// The name.
        name: String,
        /// To whom: what `key` has printed.
        to: PeerId,
    },
    /// Prints whose a name is, and what it stands for.
    Look {
        #[command(flatten)]
        nodes: LightArgs,
        /// The name.
        name: String,
        /// A file: whether it is what the name stands for.
        value: Option<PathBuf>,
    },
}

/// Who acts, and through whom.
#[derive(clap::Args)]
struct Owner {
    /// The key file.
    #[arg(long, value_name = "PATH")]
    key: PathBuf,
    #[command(flatten)]
    nodes: LightArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    exit("registry", run(Args::parse().command).await)
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Node { node, mine, effort, delay } => {
            let member = Member::start(node, Names { delay }).await?;
            member.stay(mine.then(|| (Vec::new(), effort.effort()))).await
        }
        Command::Status { join } => print_status::<Names>(join).await,
        Command::Key { key } => {
            say("key", keypair(&key)?.id());
            Ok(())
        }
        Command::Claim { owner, name } => claim(&owner, &name).await,
        Command::Set { owner, name, value } => {
            let (reader, who) = owner.begin().await?;
            let (value, there) = (hash(&value)?, owned(&reader, &name).await?);
            let step = Move::Set { name: name.into_bytes(), number: there.moves, value };
            submit(&reader, &who, step).await.map(drop)
        }
        Command::Transfer { owner, name, to } => {
            let (reader, who) = owner.begin().await?;
            let there = owned(&reader, &name).await?;
            let step = Move::Transfer { name: name.into_bytes(), number: there.moves, to: to.into() };
            submit(&reader, &who, step).await.map(drop)
        }
        Command::Look { nodes, name, value } => {
            let reader = Reader::start(&nodes).await?;
            let there = owned(&reader, &name).await?;
            say("owner", PeerId::from_bytes(there.owner.0));
            say("moves", there.moves);
            say("value", there.value);
            match value.map(|file| Ok::<_, Failure>((hash(&file)?, file))).transpose()? {
                Some((value, file)) if value != there.value => {
                    Err(format!("{} is not what {name} stands for", file.display()).into())
                }
                Some(_) | None => Ok(()),
            }
        }
    }
}

impl Owner {
    async fn begin(&self) -> Result<(Reader<Names>, Keypair), Failure> {
        Ok((Reader::start(&self.nodes).await?, keypair(&self.key)?))
    }
}

/// The hash of a file.
fn hash(file: &Path) -> Result<Key, Failure> {
    Ok(Key::of(&std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?))
}

async fn submit(reader: &Reader<Names>, by: &Keypair, step: Move) -> Result<TxId, Failure> {
    let ledger: &dyn Ledger<Pow, Registry> = &reader.ledger;
    let id = ledger.submit(reader.founding.state().sign(by, step)).await?;
    say("transaction", id);
    Ok(id)
}

/// A name as it is, if somebody has it.
async fn look(reader: &Reader<Names>, name: &str) -> Result<Option<Name>, Failure> {
    let blocks = reader.blocks(name.as_bytes().to_vec()).await?;
    let moves = blocks.into_iter().flat_map(|(_, block)| block.transactions);
    Ok(moves.fold(None, |there, done| follow(there, &done, name.as_bytes())))
}

/// What a move that is on the chain makes of a name. That it was allowed those have looked at who have worked on the blocks.
fn follow(there: Option<Name>, done: &NameMove, wanted: &[u8]) -> Option<Name> {
    match &done.step {
        Move::Claim { name, .. } if name == wanted => {
            Some(Name { owner: done.by, moves: 0, value: Key::ZERO })
        }
        Move::Set { name, value, .. } if name == wanted => {
            there.map(|there| Name { value: *value, moves: there.moves + 1, ..there })
        }
        Move::Transfer { name, to, .. } if name == wanted => {
            there.map(|there| Name { owner: *to, moves: there.moves + 1, ..there })
        }
        Move::Commit(_) | Move::Claim { .. } | Move::Set { .. } | Move::Transfer { .. } => there,
    }
}

async fn owned(reader: &Reader<Names>, name: &str) -> Result<Name, Failure> {
    Ok(look(reader, name).await?.ok_or_else(|| format!("nobody has claimed {name}, or not yet"))?)
}

/// In two steps, some blocks apart. It is the caller's when this ends well.
async fn claim(owner: &Owner, name: &str) -> Result<(), Failure> {
    let (reader, who) = owner.begin().await?;
    if !(1..=MAX_NAME).contains(&name.len()) {
        return Err(format!("a name has 1 to {MAX_NAME} bytes; this has {}", name.len()).into());
    }
    if look(&reader, name).await?.is_some() {
        return Err(format!("somebody has {name}").into());
    }
    let ledger: &dyn Ledger<Pow, Registry> = &reader.ledger;
    let mut changes = ledger.follow();
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)?;
    let me = PublicKey::from(who.id());
    let commitment = Registry::commitment(&me, name.as_bytes(), &secret);
    submit(&reader, &who, Move::Commit(commitment)).await?;
    let (delay, mut claimed) = (reader.founding.terms.delay, false);
    loop {
        // The commitment's block, as the chain goes now.
        let mine = reader.blocks(p2p_ledger::Encode::to_bytes(&me)).await?;
        let committed = mine.iter().find(|(_, block)| {
            block.transactions.iter().any(|done| done.step == Move::Commit(commitment) && done.by == me)
        });
        let height = ledger.tip().await?.height;
        match (look(&reader, name).await?, committed) {
            (Some(there), _) if there.owner == me => {
                say("owner", PeerId::from_bytes(me.0));
                return Ok(());
            }
            (Some(_), _) => return Err(format!("somebody was faster with {name}").into()),
            (None, Some((at, _))) if !claimed && height + 1 >= at.saturating_add(delay) => {
                let step = Move::Claim { name: name.as_bytes().to_vec(), secret };
                submit(&reader, &who, step).await?;
                claimed = true;
            }
            (None, _) => {}
        }
        changes.next().await.ok_or("the light client has ended")?;
    }
}
