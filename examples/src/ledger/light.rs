//! A program that reads a chain, and adds to it, through a light client of its own.

use std::time::Duration;

use futures::future::join_all;
use p2p_core::net::Node;
use p2p_core::{Contact, Handle};
use p2p_ledger::{Ledger, LedgerError, LightConfig, LightNode, Mark, Scanned};

use super::remote::{Remote, client};
use super::{BlockOf, Founding, LightOf, Pow, Terms};
use crate::Failure;

/// How long a node has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a program's user says whom to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct LightArgs {
    /// Nodes to ask: of several a single honest one is enough.
    #[arg(long, value_name = "CONTACT", required = true)]
    pub join: Vec<Contact>,
}

/// A light client in this process.
pub struct Reader<T: Terms> {
    /// What the chain was founded on, as all nodes say that have answered.
    pub founding: Founding<T>,
    /// The chain, as long as the node is there.
    pub ledger: Handle<LightOf<T>>,
    /// The node that asks.
    pub node: Node,
}

impl<T: Terms> std::fmt::Debug for Reader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({})", self.founding.id())
    }
}

/// The chain behind these nodes: one of them has to answer, and all that do have to agree.
async fn founded<T: Terms>(node: &Node, join: &[Contact]) -> Result<Founding<T>, Failure> {
    let asked = join.iter().map(|contact| async move {
        let remote = Remote::<T>::new(node, *contact);
        let late = |_| Err(LedgerError::Remote(format!("{contact} does not answer")));
        (*contact, tokio::time::timeout(PATIENCE, remote.founding()).await.unwrap_or_else(late))
    });
    let mut found: Option<(Contact, Founding<T>)> = None;
    let mut failed = None;
    for (contact, answer) in join_all(asked).await {
        match (answer, &found) {
            (Ok(founding), Some((first, other))) if founding != *other => {
                return Err(format!("{contact} keeps another chain than {first}: join nodes of one").into());
            }
            (Ok(founding), None) => found = Some((contact, founding)),
            (Ok(_), Some(_)) => {}
            (Err(error), _) => failed = Some(error),
        }
    }
    match (found, failed) {
        (Some((_, founding)), _) => Ok(founding),
        (None, Some(error)) => Err(error.into()),
        (None, None) => Err("name a node to ask, with --join".into()),
    }
}

impl<T: Terms> Reader<T> {
    /// A client of these nodes.
    ///
    /// # Errors
    /// None of them answers, or they keep different chains.
    pub async fn start(args: &LightArgs) -> Result<Reader<T>, Failure> {
        let node = client::<T>().await?;
        let founding = founded(&node, &args.join).await?;
        let config = LightConfig { timeout: PATIENCE, ..LightConfig::default() };
        let machine = LightNode::new(args.join.iter().copied(), founding.headers(), config);
        let ledger = node.spawn(&founding.protocol(), machine)?;
        Ok(Reader { founding, ledger, node })
    }

    /// Reads every block of the chain that is about this, the first one first, as far as it goes by now.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub async fn blocks(&self, about: Vec<u8>) -> Result<Vec<(u64, BlockOf<T>)>, LedgerError> {
        let ledger: &dyn Ledger<Pow, T::State> = &self.ledger;
        let (mut mark, mut blocks) = (Mark::START, Vec::new());
        loop {
            match ledger.scan(mark, &|| vec![about.clone()]).await? {
                Scanned::Found(at, block) => {
                    blocks.push((at.height, *block));
                    mark = at;
                }
                Scanned::End(_) => return Ok(blocks),
                // The chain has gone another way meanwhile.
                Scanned::Gone => (mark, blocks) = (Mark::START, Vec::new()),
            }
        }
    }
}
