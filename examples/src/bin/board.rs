//! `board`: a public bulletin board whose nodes are processes. Parties who do not trust each other post what they have done, and
//! anybody audits it: oil, say, from its producer over carriers to a refinery.
//!
//! ```sh
//! cargo run --bin board -- node                                          # founds one; prints: contact: p2p://…
//! cargo run --bin board -- node --join p2p://… --mine --data DIR         # as many as you like
//! cargo run --bin board -- key --key producer                            # prints: key: …
//! cargo run --bin board -- open --key producer --join p2p://… 'cargo 17' # prints: topic: …
//! cargo run --bin board -- admit --key producer --join p2p://… TOPIC KEY
//! cargo run --bin board -- post --key carrier --join p2p://… TOPIC bill-of-lading.txt
//! cargo run --bin board -- audit --join p2p://… TOPIC *.txt              # who has posted what, and which papers are forged
//! cargo run --bin board -- prove --join p2p://… TOPIC bill-of-lading.txt proof
//! cargo run --bin board -- check --join p2p://… proof bill-of-lading.txt # by somebody who has only that, and asks other nodes
//! ```
//!
//! On the chain there are hashes alone: whoever has a paper can see whether it was posted, and nobody else learns what is in it.
//! Everybody but the nodes is a light client, and believes none of the nodes that it names, as long as one of them is honest.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use p2p_core::{Contact, Key, Keypair, PeerId};
use p2p_examples::ledger::{LightArgs, Member, Mining, NodeArgs, Pow, Reader, Terms, print_status};
use p2p_examples::{Failure, exit, keypair, say, warn};
use p2p_ledger::{Act, BlockHeader, Board, Decode, Encode, Inclusion, Ledger, Notice, PublicKey, Tx, Work};
use serde::{Deserialize, Serialize};

/// A board: there is nothing to agree on beside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Public;

impl Terms for Public {
    const NAME: &'static str = "board";
    type State = Board;

    fn state(&self, chain: u32) -> Board {
        Board { chain }
    }
}

/// A public bulletin board whose nodes are processes.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keeps the board together with others; without --join, and without one in --data, founds a new one.
    Node {
        #[command(flatten)]
        node: NodeArgs,
        /// Mine: nothing is paid for it, and nothing is posted without it.
        #[arg(long)]
        mine: bool,
        #[command(flatten)]
        effort: Mining,
    },
    /// Prints where a node's chain stands.
    Status {
        /// The node.
        #[arg(long, value_name = "CONTACT")]
        join: Contact,
    },
    /// Prints the public key of a party, and makes its key file if there is none.
    Key {
        /// The key file.
        #[arg(long, value_name = "PATH")]
        key: PathBuf,
    },
    /// Opens a topic, whose owner says who writes in it.
    Open {
        #[command(flatten)]
        party: Party,
        /// What it is called.
        name: String,
    },
    /// Lets somebody write. The owner's to do.
    Admit {
        #[command(flatten)]
        party: Party,
        /// What `open` has printed.
        topic: Key,
        /// What `key` has printed.
        who: PeerId,
    },
    /// Lets somebody write no more. The owner's to do.
    Remove {
        #[command(flatten)]
        party: Party,
        /// The topic.
        topic: Key,
        /// Whom.
        who: PeerId,
    },
    /// Posts the hash of a paper.
    Post {
        #[command(flatten)]
        party: Party,
        /// The topic.
        topic: Key,
        /// The paper.
        paper: PathBuf,
    },
    /// Prints everything that was done in a topic, and says of papers whether they are what was posted.
    Audit {
        #[command(flatten)]
        nodes: LightArgs,
        /// The topic.
        topic: Key,
        /// Papers.
        papers: Vec<PathBuf>,
    },
    /// Writes down what shows anybody that a paper was posted, by whom and when.
    Prove {
        #[command(flatten)]
        nodes: LightArgs,
        /// The topic.
        topic: Key,
        /// The paper.
        paper: PathBuf,
        /// Where to.
        proof: PathBuf,
    },
    /// Checks what `prove` has written, for somebody who knows nodes of the board and nothing else.
    Check {
        #[command(flatten)]
        nodes: LightArgs,
        /// What `prove` has written.
        proof: PathBuf,
        /// The paper.
        paper: PathBuf,
    },
}

/// Who acts, and through whom.
#[derive(clap::Args)]
struct Party {
    /// The key file.
    #[arg(long, value_name = "PATH")]
    key: PathBuf,
    #[command(flatten)]
    nodes: LightArgs,
}

type Shown = Inclusion<BlockHeader<Work>, Notice>;

#[tokio::main]
async fn main() -> ExitCode {
    exit("board", run(Args::parse().command).await)
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Node { node, mine, effort } => {
            let member = Member::start(node, Public).await?;
            member.stay(mine.then(|| (Vec::new(), effort.effort()))).await
        }
        Command::Status { join } => print_status::<Public>(join).await,
        Command::Key { key } => {
            say("key", keypair(&key)?.id());
            Ok(())
        }
        Command::Open { party, name } => {
            let (reader, who) = party.begin().await?;
            let notice = reader.founding.state().open(&who, name.as_bytes());
            say("topic", notice.topic);
            submit(&reader, notice).await
        }
        Command::Admit { party, topic, who } => party.does(topic, Act::Admit(who.into())).await,
        Command::Remove { party, topic, who } => party.does(topic, Act::Remove(who.into())).await,
        Command::Post { party, topic, paper } => {
            let content = content(&paper)?;
            say("content", content);
            party.does(topic, Act::Post { content }).await
        }
        Command::Audit { nodes, topic, papers } => audit(&nodes, topic, &papers).await,
        Command::Prove { nodes, topic, paper, proof } => prove(&nodes, topic, &paper, &proof).await,
        Command::Check { nodes, proof, paper } => check(&nodes, &proof, &paper).await,
    }
}

impl Party {
    async fn begin(&self) -> Result<(Reader<Public>, Keypair), Failure> {
        Ok((Reader::start(&self.nodes).await?, keypair(&self.key)?))
    }

    /// Signs what is done as the next thing that this party does in the topic.
    async fn does(&self, topic: Key, act: Act) -> Result<(), Failure> {
        let (reader, who) = self.begin().await?;
        let me = PublicKey::from(who.id());
        let number = notices(&reader, topic).await?.iter().filter(|(_, notice)| notice.by == me).count();
        let notice = reader.founding.state().notice(&who, topic, number as u64, act);
        submit(&reader, notice).await
    }
}

async fn submit(reader: &Reader<Public>, notice: Notice) -> Result<(), Failure> {
    let ledger: &dyn Ledger<Pow, Board> = &reader.ledger;
    say("transaction", ledger.submit(notice).await?);
    Ok(())
}

/// The hash of a paper.
fn content(paper: &Path) -> Result<Key, Failure> {
    Ok(Key::of(&std::fs::read(paper).map_err(|error| format!("{}: {error}", paper.display()))?))
}

/// All that was done in a topic, and in which block. That they were allowed to do it those have looked at who have worked on
/// the blocks.
async fn notices(reader: &Reader<Public>, topic: Key) -> Result<Vec<(u64, Notice)>, Failure> {
    let blocks = reader.blocks(Encode::to_bytes(&topic)).await?;
    let all = blocks.into_iter().flat_map(|(height, block)| {
        let notices = block.transactions.into_iter().filter(|notice| notice.topic == topic);
        notices.map(|notice| (height, notice)).collect::<Vec<_>>()
    });
    Ok(all.collect())
}

async fn audit(nodes: &LightArgs, topic: Key, papers: &[PathBuf]) -> Result<(), Failure> {
    let reader = Reader::start(nodes).await?;
    let notices = notices(&reader, topic).await?;
    if notices.is_empty() {
        return Err(format!("there is no topic {topic}, or not yet").into());
    }
    let mut posted = Vec::new();
    for (height, notice) in &notices {
        let by = PeerId::from_bytes(notice.by.0);
        match notice.act {
            Act::Open { .. } => say("opened", format_args!("{height} {by}")),
            Act::Admit(who) => say("admitted", format_args!("{height} {}", PeerId::from_bytes(who.0))),
            Act::Remove(who) => say("removed", format_args!("{height} {}", PeerId::from_bytes(who.0))),
            Act::Post { content } => {
                say("posted", format_args!("{height} {by} {content}"));
                posted.push((content, by));
            }
        }
    }
    let mut forged = 0;
    for paper in papers {
        let content = content(paper)?;
        match posted.iter().find(|(there, _)| *there == content) {
            Some((_, by)) => say("genuine", format_args!("{} {by}", paper.display())),
            None => {
                forged += 1;
                warn(&format!("{} is not what anybody has posted", paper.display()));
            }
        }
    }
    match forged {
        0 => Ok(()),
        1 => Err("one paper was not posted".into()),
        forged => Err(format!("{forged} papers were not posted").into()),
    }
}

async fn prove(nodes: &LightArgs, topic: Key, paper: &Path, proof: &Path) -> Result<(), Failure> {
    let reader = Reader::start(nodes).await?;
    let content = content(paper)?;
    let all = notices(&reader, topic).await?;
    let found = all.iter().find(|(_, notice)| notice.act == Act::Post { content });
    let Some((height, notice)) = found else {
        return Err(format!("{} was not posted there, or is not in a block yet", paper.display()).into());
    };
    let ledger: &dyn Ledger<Pow, Board> = &reader.ledger;
    let shown = ledger
        .prove(*height, notice.id())
        .await?
        .ok_or("its block is not on the chain any more: try again")?;
    std::fs::write(proof, shown.to_bytes()).map_err(|error| format!("{}: {error}", proof.display()))?;
    say("height", height);
    Ok(())
}

async fn check(nodes: &LightArgs, proof: &Path, paper: &Path) -> Result<(), Failure> {
    let bytes = std::fs::read(proof).map_err(|error| format!("{}: {error}", proof.display()))?;
    let shown =
        Shown::from_bytes(&bytes).map_err(|error| format!("{} is no proof: {error}", proof.display()))?;
    let Act::Post { content: posted } = shown.transaction.act else {
        return Err(format!("{} shows no post", proof.display()).into());
    };
    if posted != content(paper)? {
        return Err(format!("{} shows that something else was posted", proof.display()).into());
    }
    let reader = Reader::<Public>::start(nodes).await?;
    let ledger: &dyn Ledger<Pow, Board> = &reader.ledger;
    match ledger.confirmations(&shown).await? {
        None => {
            Err(format!("{} shows a block that is not on the chain of these nodes", proof.display()).into())
        }
        Some(confirmations) => {
            say("topic", shown.transaction.topic);
            say("posted", PeerId::from_bytes(shown.transaction.by.0));
            say("time", shown.header.time);
            say("confirmations", confirmations);
            Ok(())
        }
    }
}
