//! A process that keeps a chain together with others.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use p2p_core::net::Node;
use p2p_core::{Contact, Handle, Keypair, Wire};
use p2p_ledger::{Keeper, LedgerConfig, LedgerNode, MemoryStore, Pool, PoolRules, RedbStore, Store};
use p2p_overlay::{HyParView, HyParViewConfig, SubnetLimits};

use super::remote::{Remote, serve};
use super::{Effort, Founding, NodeOf, Pit, Terms, mine};
use crate::{Failure, identity, patiently, say};

/// How a program's user says how a node takes part.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeArgs {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Nodes to join through.
    #[arg(long, value_name = "CONTACT")]
    pub join: Vec<Contact>,
    /// Where the identity and the chain are kept; otherwise both are new every time.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Keep the bodies of so many last blocks alone: what is deeper is final, here. Headers, and filters for light clients, are
    /// kept in any case.
    #[arg(long, value_name = "BLOCKS", value_parser = clap::value_parser!(u64).range(100..))]
    pub keep: Option<u64>,
    /// Of a new chain: how many seconds are to be between blocks.
    #[arg(long, default_value_t = 10)]
    pub spacing: u64,
}

/// A node that keeps a chain.
pub struct Member<T: Terms> {
    node: Node,
    /// What it was founded on.
    pub founding: Founding<T>,
    /// The chain.
    pub ledger: Handle<NodeOf<T>>,
}

impl<T: Terms> std::fmt::Debug for Member<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Member({:?})", self.node)
    }
}

impl<T: Terms> Member<T> {
    /// Starts one; without others, and without a chain in its folder, it founds one on these terms.
    ///
    /// # Errors
    /// It cannot listen, reach the others, or use its folder.
    pub async fn start(args: NodeArgs, terms: T) -> Result<Member<T>, Failure> {
        let NodeArgs { listen, join, data, keep, spacing } = args;
        let identity = identity(data.as_deref())?;
        let bound = Node::builder().network(T::NAME).identity(identity).bind(listen).await;
        let node = bound.map_err(|error| format!("cannot listen at {listen}: {error}"))?;
        let founding = founding(&node, &join, data.as_deref(), || Founding::new(spacing, terms)).await?;
        let ledger = match &data {
            Some(data) => start(&node, &founding, join, keep, RedbStore::open(data.join("chain.redb"))?)?,
            None => start(&node, &founding, join, keep, MemoryStore::default())?,
        };
        serve(&node, &founding, &ledger)?;
        Ok(Member { node, founding, ledger })
    }

    /// Runs until it is interrupted, and mines meanwhile, if it is to.
    ///
    /// # Errors
    /// It can mine no more.
    pub async fn stay(self, mining: Option<(Vec<u8>, Effort)>) -> Result<(), Failure> {
        say("chain", self.founding.id());
        say("contact", self.node.contact());
        match mining {
            None => tokio::signal::ctrl_c().await?,
            Some((to, effort)) => {
                let rules = self.founding.rules();
                let pit: &dyn Pit<T> = &self.ledger;
                tokio::select! {
                    done = mine(pit, &rules, &to, effort, |block| say("mined", block.header.height)) => done?,
                    stopped = tokio::signal::ctrl_c() => stopped?,
                }
            }
        }
        self.node.shutdown().await;
        Ok(())
    }
}

/// What the chain was founded on: as it is written down, as others say, or anew.
async fn founding<T: Terms>(
    node: &Node,
    join: &[Contact],
    data: Option<&Path>,
    new: impl FnOnce() -> Result<Founding<T>, Failure>,
) -> Result<Founding<T>, Failure> {
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
        write(&file, &founding.to_bytes())?;
    }
    Ok(founding)
}

/// All of it or nothing, whenever the process dies or the machine does.
#[expect(clippy::disallowed_methods, reason = "a program has files")]
fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = file.with_extension("new");
    let mut written = File::create(&new)?;
    written.write_all(bytes)?;
    written.sync_all()?;
    std::fs::rename(new, file)?;
    // The new name is safe when the folder is. Where folders cannot be opened, renaming is safe by itself.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).map_or(Ok(()), |folder| folder.sync_all())
}

/// Starts the machine and its keeper.
fn start<T: Terms, D: Store + Send + 'static>(
    node: &Node,
    founding: &Founding<T>,
    join: Vec<Contact>,
    keep: Option<u64>,
    store: D,
) -> Result<Handle<NodeOf<T>>, Failure> {
    // What others must not know: that of a key which nobody is told.
    let secret = *p2p_core::Key::of(&Keypair::generate().sign(b"what others must not know")).as_bytes();
    let chain = founding.chain(store, keep, secret)?;
    say("height", chain.tip().height);
    let second = Duration::from_secs(1);
    let subnets = Some(SubnetLimits::default());
    let membership =
        HyParViewConfig { shuffle: 5 * second, upkeep: second, subnets, ..HyParViewConfig::default() };
    let config = LedgerConfig { poll: 5 * second, ..LedgerConfig::default() };
    let machine = LedgerNode::new(HyParView::with(node.contact(), join, membership), config);
    let pool = PoolRules { relay_fee: T::RELAY_FEE, ..PoolRules::default() };
    let keeper = Keeper::new(chain, Pool::new(pool));
    Ok(node.spawn_with_workers(&founding.protocol(), machine, [keeper])?)
}
