//! How a program talks to a node that keeps a chain: what it was founded on, where it stands, and what is mined elsewhere.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, unfold};
use p2p_core::net::{Incoming, Node};
use p2p_core::{Contact, Handle, Wire};
use p2p_ledger::{
    BlockId, Change, Decode, Encode, Ledger, LedgerError, Mined, State, Template, Tip, TxId, View, inspect,
};
use serde::{Deserialize, Serialize};

use super::{BlockOf, Founding, NodeOf, Pit, Pow, Terms, TxOf};
use crate::{Failure, say};

/// From a program to a node. Answered by [`Reply`].
#[derive(Serialize, Deserialize)]
enum Ask {
    Founding,
    Status,
    /// The same once the tip is another one, or after a while.
    StatusAfter(BlockId),
    Block(u64),
    Submit(Bytes),
    Template(Bytes),
    Mined(Bytes),
}

#[derive(Serialize, Deserialize)]
enum Reply {
    /// A [`Founding`].
    Founding(Bytes),
    Status {
        height: u64,
        id: BlockId,
        work: [u8; 32],
        supply: Option<u64>,
    },
    /// A block; nothing, if there is none.
    Block(Bytes),
    Submitted(TxId),
    /// The node has not taken the transaction in.
    Refused(String),
    Failed(String),
}

impl Wire for Ask {
    const MAX_BYTES: usize = 2 << 20;
}
impl Wire for Reply {
    const MAX_BYTES: usize = 2 << 20;
}

/// How long a node has a program wait for another tip.
const PATIENCE: Duration = Duration::from_secs(5);

/// The protocol between a program and a node.
fn protocol<T: Terms>() -> String {
    format!("{}/1", T::NAME)
}

/// A node of this process that only asks.
///
/// # Errors
/// It cannot have a port.
pub async fn client<T: Terms>() -> Result<Node, Failure> {
    Ok(Node::builder().network(T::NAME).bind("127.0.0.1:0").await?)
}

/// Answers programs.
pub(super) fn serve<T: Terms>(
    node: &Node,
    founding: &Founding<T>,
    ledger: &Handle<NodeOf<T>>,
) -> Result<(), Failure> {
    let (founding, ledger) = (founding.clone(), ledger.clone());
    node.serve(&protocol::<T>(), move |Incoming { body, .. }: Incoming| {
        let (founding, ledger) = (founding.clone(), ledger.clone());
        async move {
            let reply = match Ask::from_bytes(&body) {
                Ok(ask) => {
                    answer(&founding, &ledger, ask).await.unwrap_or_else(|why| Reply::Failed(why.to_string()))
                }
                Err(error) => Reply::Failed(error.to_string()),
            };
            Ok(reply.to_bytes().into())
        }
    })?;
    Ok(())
}

async fn answer<T: Terms>(
    founding: &Founding<T>,
    ledger: &Handle<NodeOf<T>>,
    ask: Ask,
) -> Result<Reply, Failure> {
    let block = |block: Option<BlockOf<T>>| {
        Reply::Block(block.map_or_else(Bytes::new, |block| Encode::to_bytes(&block).into()))
    };
    Ok(match ask {
        Ask::Founding => Reply::Founding(founding.to_bytes().into()),
        Ask::Status => status::<T>(ledger).await?,
        Ask::StatusAfter(id) => {
            let mut changes = Ledger::<Pow, T::State>::follow(ledger);
            if Ledger::<Pow, T::State>::tip(ledger).await?.id == id {
                let _ = tokio::time::timeout(PATIENCE, changes.next()).await;
            }
            status::<T>(ledger).await?
        }
        Ask::Block(height) => block(Ledger::<Pow, T::State>::block(ledger, height).await?),
        Ask::Submit(bytes) => {
            let transaction: TxOf<T> = Decode::from_bytes(&bytes)?;
            match Ledger::<Pow, T::State>::submit(ledger, transaction).await {
                Ok(id) => Reply::Submitted(id),
                Err(LedgerError::Refused(why) | LedgerError::Invalid(why)) => Reply::Refused(why),
                Err(error) => return Err(error.into()),
            }
        }
        Ask::Template(to) => block(Some(ledger.ask(Template(to.to_vec())).await??)),
        Ask::Mined(bytes) => {
            let mined: BlockOf<T> = Decode::from_bytes(&bytes)?;
            ledger.ask(Mined(mined)).await??;
            status::<T>(ledger).await?
        }
    })
}

async fn status<T: Terms>(ledger: &Handle<NodeOf<T>>) -> Result<Reply, LedgerError> {
    let look = |state: &T::State, view: &View<'_>, tip: Tip| (tip, T::supply(state, view));
    let (Tip { id, height, work }, supply) = inspect(ledger, look).await?;
    Ok(Reply::Status { height, id, work: work.to_be_bytes(), supply })
}

/// Where a node's chain stands, and how much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where it stands.
    pub tip: Tip,
    /// How much there is, where there is such a thing.
    pub supply: Option<u64>,
}

/// Says where a node's chain stands.
///
/// # Errors
/// It does not answer.
pub async fn print_status<T: Terms>(join: Contact) -> Result<(), Failure> {
    let status = Remote::<T>::new(&client::<T>().await?, join).status(None).await?;
    say("tip", format_args!("{} {}", status.tip.height, status.tip.id));
    if let Some(supply) = status.supply {
        say("supply", supply);
    }
    Ok(())
}

/// A node at the other end of a connection.
pub struct Remote<T> {
    node: Node,
    contact: Contact,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T> Clone for Remote<T> {
    fn clone(&self) -> Remote<T> {
        Remote { node: self.node.clone(), contact: self.contact, of: self.of }
    }
}

impl<T> std::fmt::Debug for Remote<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Remote({})", self.contact)
    }
}

impl<T: Terms> Remote<T> {
    /// The node there, asked through a node of this process.
    pub fn new(node: &Node, contact: Contact) -> Remote<T> {
        Remote { node: node.clone(), contact, of: std::marker::PhantomData }
    }

    async fn ask(&self, ask: &Ask) -> Result<Reply, LedgerError> {
        let failed = |why: &dyn std::fmt::Display| LedgerError::Remote(format!("{}: {why}", self.contact));
        let reply = self.node.request(self.contact, &protocol::<T>(), ask.to_bytes()).await;
        let reply = reply.map_err(|error| failed(&error))?;
        match Reply::from_bytes(&reply).map_err(|error| failed(&error))? {
            Reply::Failed(why) => Err(failed(&why)),
            reply => Ok(reply),
        }
    }

    fn unexpected(&self) -> LedgerError {
        LedgerError::Remote(format!("{}: the answer does not belong to the question", self.contact))
    }

    /// What its chain was founded on.
    ///
    /// # Errors
    /// It does not answer, or with what no node can follow.
    pub async fn founding(&self) -> Result<Founding<T>, LedgerError> {
        let Reply::Founding(bytes) = self.ask(&Ask::Founding).await? else { return Err(self.unexpected()) };
        let founding = Founding::from_bytes(&bytes).ok().filter(Founding::is_sound);
        founding.ok_or_else(|| self.unexpected())
    }

    /// Where its chain stands; if a block is given, once that is another one, or after a while.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status(&self, after: Option<BlockId>) -> Result<Status, LedgerError> {
        match self.ask(&after.map_or(Ask::Status, Ask::StatusAfter)).await? {
            Reply::Status { height, id, work, supply } => {
                let work = ruint::aliases::U256::from_be_bytes(work);
                Ok(Status { tip: Tip { id, height, work }, supply })
            }
            _ => Err(self.unexpected()),
        }
    }

    async fn read(&self, ask: &Ask) -> Result<Option<BlockOf<T>>, LedgerError> {
        match self.ask(ask).await? {
            Reply::Block(bytes) if bytes.is_empty() => Ok(None),
            Reply::Block(bytes) => Decode::from_bytes(&bytes).map(Some).map_err(|_| self.unexpected()),
            _ => Err(self.unexpected()),
        }
    }
}

#[async_trait]
impl<T: Terms> Ledger<Pow, T::State> for Remote<T> {
    async fn submit(&self, transaction: <T::State as State>::Tx) -> Result<TxId, LedgerError> {
        match self.ask(&Ask::Submit(Encode::to_bytes(&transaction).into())).await? {
            Reply::Submitted(id) => Ok(id),
            Reply::Refused(why) => Err(LedgerError::Refused(why)),
            _ => Err(self.unexpected()),
        }
    }

    async fn tip(&self) -> Result<Tip, LedgerError> {
        Ok(self.status(None).await?.tip)
    }

    async fn block(&self, height: u64) -> Result<Option<BlockOf<T>>, LedgerError> {
        self.read(&Ask::Block(height)).await
    }

    /// Tips as they come; which blocks led there the other end does not say.
    fn follow(&self) -> BoxStream<'static, Change> {
        let changes = unfold((self.clone(), None), |(remote, last)| async move {
            loop {
                let tip = remote.status(last).await.ok()?.tip;
                if last != Some(tip.id) {
                    let change = Change { tip, disconnected: Vec::new(), connected: vec![tip.id] };
                    return Some((change, (remote, Some(tip.id))));
                }
            }
        });
        changes.boxed()
    }
}

#[async_trait]
impl<T: Terms> Pit<T> for Remote<T> {
    async fn template(&self, to: Vec<u8>) -> Result<BlockOf<T>, LedgerError> {
        self.read(&Ask::Template(to.into())).await?.ok_or_else(|| self.unexpected())
    }

    async fn mined(&self, block: BlockOf<T>) -> Result<(), LedgerError> {
        self.ask(&Ask::Mined(Encode::to_bytes(&block).into())).await.map(drop)
    }
}
