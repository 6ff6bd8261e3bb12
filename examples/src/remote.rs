//! A hash table and a store of files at another node: whoever only stores and reads need not keep anything for others.
//! The node keeps nothing for good: what is put through it lasts as long as it was asked for.
//!
//! What is signed is signed here, and what is read is verified here: the other node can refuse, or answer with
//! what was newest at some time and has not ended. It can do no more.

use async_trait::async_trait;
use bytes::Bytes;
use p2p_core::net::{Incoming, Node};
use p2p_core::{AskError, Contact, Handle, Key, PeerId, Wire, payload};
use p2p_dht::past::{Certificate, Fetch, Insert, InsertError, MAX_FILE, PastNode, Reclaim, ReclaimFile};
use p2p_dht::{Client, Dht, Gateway, GetError, PutError, Signed};
use p2p_overlay::{Find, Found, Looked, Lookup, LookupError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::{Failure, LASTS};

/// The protocol between those who store or read and a node.
pub const NAME: &str = "fs/1";

/// Which of a node's hash tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Table {
    /// Each record has as many copies as the table makes.
    Blocks,
    /// One copy of each: for an archive.
    Fragments,
}

/// From whoever stores or reads to a node. Answered by [`Reply`].
#[derive(Debug, Serialize, Deserialize)]
enum Ask {
    Put(Table, #[serde(with = "payload")] Bytes),
    Get(Table, Key),
    Publish(Table, Signed, Option<u64>),
    Latest(Table, PeerId, Bytes),
    Root(Table, Key),
    Insert(Certificate, #[serde(with = "payload")] Bytes),
    Fetch(Key),
    Reclaim(Reclaim),
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Key(Key),
    Value(#[serde(with = "payload")] Bytes),
    Signed(Signed),
    Root(Contact),
    Conflict(u64),
    NotFound,
    /// So many nodes keep a file.
    Kept(u32),
    Full,
    File(Certificate, #[serde(with = "payload")] Bytes),
    Freed(u32),
    Failed(String),
}

impl Wire for Ask {
    const MAX_BYTES: usize = MAX_FILE + (4 << 10);
}
impl Wire for Reply {
    const MAX_BYTES: usize = MAX_FILE + (4 << 10);
}

/// What a node answers from.
#[derive(Clone)]
pub struct Stores {
    /// See [`Table::Blocks`].
    pub blocks: Arc<dyn Gateway<Contact>>,
    /// See [`Table::Fragments`].
    pub fragments: Arc<dyn Gateway<Contact>>,
    /// Who keeps which fragment.
    pub lookup: Arc<dyn Lookup<Contact>>,
    /// The store of files.
    pub past: Handle<PastNode<Contact>>,
}

impl std::fmt::Debug for Stores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stores").finish_non_exhaustive()
    }
}

impl Stores {
    /// Answers whoever asks a node.
    ///
    /// # Errors
    /// The node serves this already.
    pub fn serve(self, node: &Node) -> Result<(), Failure> {
        node.serve(NAME, move |request: Incoming| {
            let stores = self.clone();
            async move { Ok(stores.answer(request).await.to_bytes().into()) }
        })?;
        Ok(())
    }

    fn table(&self, table: Table) -> &dyn Gateway<Contact> {
        match table {
            Table::Blocks => &*self.blocks,
            Table::Fragments => &*self.fragments,
        }
    }

    async fn answer(&self, Incoming { from, body }: Incoming) -> Reply {
        // What strangers put is theirs: this node does not go on publishing it.
        let client = Client::at(from, LASTS);
        let put = |done: Result<Key, PutError>| match done {
            Ok(key) => Reply::Key(key),
            Err(PutError::Conflict { sequence }) => Reply::Conflict(sequence),
            Err(error) => Reply::Failed(error.to_string()),
        };
        let missing = |error: GetError| match error {
            GetError::NotFound { .. } => Reply::NotFound,
            error => Reply::Failed(error.to_string()),
        };
        match Ask::from_frame(&body) {
            Err(error) => Reply::Failed(error.to_string()),
            Ok(Ask::Put(table, value)) => put(self.table(table).put_for(client, value).await),
            Ok(Ask::Get(table, key)) => self.table(table).get(key).await.map_or_else(missing, Reply::Value),
            Ok(Ask::Publish(table, signed, expected)) => {
                put(self.table(table).publish_for(client, signed, expected).await)
            }
            Ok(Ask::Latest(table, publisher, salt)) => {
                self.table(table).latest(publisher, &salt).await.map_or_else(missing, Reply::Signed)
            }
            Ok(Ask::Root(Table::Blocks, _)) => Reply::Failed("nobody asks for that".into()),
            Ok(Ask::Root(Table::Fragments, key)) => match self.lookup.lookup(Find::key(key)).await {
                Ok(found) => Reply::Root(found.root()),
                Err(error) => Reply::Failed(error.to_string()),
            },
            Ok(Ask::Insert(certificate, content)) => {
                match self.past.ask(Insert { certificate, content }).await {
                    Ok(Ok(receipts)) => Reply::Kept(receipts.copies as u32),
                    Ok(Err(InsertError::Full)) => Reply::Full,
                    Ok(Err(error)) => Reply::Failed(error.to_string()),
                    Err(error) => Reply::Failed(error.to_string()),
                }
            }
            Ok(Ask::Fetch(file)) => match self.past.ask(Fetch(file)).await {
                Ok(Ok(file)) => Reply::File(file.certificate, file.content),
                Ok(Err(p2p_dht::past::FetchError::NotFound { .. })) => Reply::NotFound,
                Ok(Err(error)) => Reply::Failed(error.to_string()),
                Err(error) => Reply::Failed(error.to_string()),
            },
            Ok(Ask::Reclaim(reclaim)) => match self.past.ask(ReclaimFile(reclaim)).await {
                Ok(Ok(freed)) => Reply::Freed(freed as u32),
                Ok(Err(error)) => Reply::Failed(error.to_string()),
                Err(error) => Reply::Failed(error.to_string()),
            },
        }
    }
}

/// What another node has of a table, and its store of files.
#[derive(Clone, Debug)]
pub struct Remote {
    node: Node,
    /// Any of them will do: the next is asked where one does not answer.
    through: Vec<Contact>,
    table: Table,
}

impl Remote {
    /// Asks the first of some nodes that answers.
    pub fn new(node: Node, through: Vec<Contact>, table: Table) -> Remote {
        Remote { node, through, table }
    }

    async fn ask(&self, ask: Ask) -> Reply {
        let body = Bytes::from(ask.to_bytes());
        let mut last = "name a node to ask: --join p2p://…".to_owned();
        for contact in &self.through {
            match self.node.request(*contact, NAME, body.clone()).await {
                Ok(reply) => {
                    return Reply::from_frame(&reply)
                        .unwrap_or_else(|error| Reply::Failed(error.to_string()));
                }
                Err(error) => last = format!("{contact}: {error}"),
            }
        }
        Reply::Failed(last)
    }

    /// Has a file kept; whether there is room for it.
    ///
    /// # Errors
    /// Why it is not kept, where that is not it.
    pub async fn insert(&self, certificate: Certificate, content: Bytes) -> Result<bool, Failure> {
        match self.ask(Ask::Insert(certificate, content)).await {
            Reply::Kept(_) => Ok(true),
            Reply::Full => Ok(false),
            other => Err(unexpected(other).into()),
        }
    }

    /// The file with this id, if there is one.
    ///
    /// # Errors
    /// It could not be looked for, or what came is not it.
    pub async fn fetch(&self, file: Key) -> Result<Option<Bytes>, Failure> {
        match self.ask(Ask::Fetch(file)).await {
            Reply::File(certificate, content)
                if certificate.file() == file && certificate.is_genuine(&content) =>
            {
                Ok(Some(content))
            }
            Reply::NotFound => Ok(None),
            other => Err(unexpected(other).into()),
        }
    }

    /// Gives the room of a file back; says how many nodes had it.
    ///
    /// # Errors
    /// It could not be asked for.
    pub async fn reclaim(&self, reclaim: Reclaim) -> Result<u32, Failure> {
        match self.ask(Ask::Reclaim(reclaim)).await {
            Reply::Freed(freed) => Ok(freed),
            other => Err(unexpected(other).into()),
        }
    }
}

/// In seconds since the Unix epoch.
#[expect(clippy::disallowed_types, reason = "a program has a clock")]
fn now() -> u64 {
    use std::time::SystemTime;
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn unexpected(reply: Reply) -> String {
    match reply {
        Reply::Failed(why) => why,
        Reply::NotFound => "not found".into(),
        _ => "the node's answer does not belong to the question".into(),
    }
}

/// The traits' errors have no room for another node's words: they are said where they come.
fn complain(reply: Reply) -> AskError {
    crate::warn(&unexpected(reply));
    AskError::Stopped
}

#[async_trait]
impl Dht<Contact> for Remote {
    async fn put(&self, value: Bytes) -> Result<Key, PutError> {
        let expected = Key::of(&value);
        match self.ask(Ask::Put(self.table, value)).await {
            Reply::Key(key) if key == expected => Ok(key),
            other => Err(complain(other).into()),
        }
    }

    async fn get(&self, key: Key) -> Result<Bytes, GetError> {
        match self.ask(Ask::Get(self.table, key)).await {
            Reply::Value(value) if Key::of(&value) == key => Ok(value),
            Reply::NotFound => Err(GetError::NotFound { answered: 0, silent: 0 }),
            other => Err(complain(other).into()),
        }
    }

    async fn publish(&self, signed: Signed, expected: Option<u64>) -> Result<Key, PutError> {
        match self.ask(Ask::Publish(self.table, signed, expected)).await {
            Reply::Key(key) => Ok(key),
            Reply::Conflict(sequence) => Err(PutError::Conflict { sequence }),
            other => Err(complain(other).into()),
        }
    }

    async fn latest(&self, publisher: PeerId, salt: &[u8]) -> Result<Signed, GetError> {
        match self.ask(Ask::Latest(self.table, publisher, Bytes::copy_from_slice(salt))).await {
            Reply::Signed(signed) => {
                let is_it = signed.publisher() == publisher && signed.salt() == salt && signed.is_genuine();
                match is_it && signed.expires() > now() {
                    true => Ok(signed),
                    false => Err(complain(Reply::Failed(
                        "the node's answer is not what the owner has signed for this, or has ended".into(),
                    ))
                    .into()),
                }
            }
            Reply::NotFound => Err(GetError::NotFound { answered: 0, silent: 0 }),
            other => Err(complain(other).into()),
        }
    }

    async fn provide(&self, _: Key) -> Result<(), PutError> {
        Err(complain(Reply::Failed("only a member of the network provides something".into())).into())
    }

    async fn providers(&self, _: Key) -> Result<Vec<Contact>, GetError> {
        Err(complain(Reply::Failed("providers are not asked for".into())).into())
    }
}

#[async_trait]
impl Lookup<Contact> for Remote {
    async fn lookup(&self, find: Find) -> Looked<Contact> {
        match self.ask(Ask::Root(self.table, find.key)).await {
            Reply::Root(root) => Ok(Found { peers: vec![root], hops: 0, timeouts: 0, implausible: None }),
            other => Err(LookupError::Ask(complain(other))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use p2p_core::{Keypair, Worker};
    use p2p_dht::{MemoryStore, StoreDone, StoreJob};

    use super::*;
    use crate::{Kind, Part};

    /// Counts the records that its node has written, and those of them that are the node's own.
    #[derive(Clone, Default)]
    struct Counts {
        written: Arc<AtomicUsize>,
        own: Arc<AtomicUsize>,
    }

    struct Counting(MemoryStore<Contact>, Counts);

    impl Worker<StoreJob<Contact>> for Counting {
        fn run(&mut self, batch: Vec<StoreJob<Contact>>) -> Vec<StoreDone<Contact>> {
            for job in &batch {
                if let StoreJob::Write { own, .. } = job {
                    self.1.written.fetch_add(1, Ordering::Relaxed);
                    self.1.own.fetch_add(usize::from(*own), Ordering::Relaxed);
                }
            }
            self.0.run(batch)
        }
    }

    /// Else it would publish them again for ever, and give them room that is bounded by nobody's share.
    #[tokio::test]
    async fn what_strangers_put_through_a_node_is_not_its_own() {
        let listen = "127.0.0.1:0".parse().unwrap();
        let part = Part { overlay: Kind::Kademlia, listen, join: Vec::new(), data: None };
        let counts = Counts::default();
        let store = Counting(MemoryStore::default(), counts.clone());
        let member = part.keeping(Keypair::generate(), store).await.unwrap();
        part.stores(&member).unwrap().serve(&member.node).unwrap();
        let node = Node::builder().bind(listen).await.unwrap();
        let remote = Remote::new(node.clone(), vec![member.node.contact()], Table::Blocks);

        let key = remote.put("a stranger's value".into()).await.unwrap();
        let signed = Signed::new(&Keypair::generate(), "name", 1, now() + 3600, "another").unwrap();
        remote.publish(signed.clone(), None).await.unwrap();
        assert_eq!(remote.get(key).await.unwrap(), "a stranger's value");
        assert_eq!(remote.latest(signed.publisher(), b"name").await.unwrap(), signed);
        assert_eq!(counts.written.load(Ordering::Relaxed), 2, "the node is the only replica");
        assert_eq!(counts.own.load(Ordering::Relaxed), 0);

        member.dht.put("the node's own value".into()).await.unwrap();
        while counts.own.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        member.node.shutdown().await;
        node.shutdown().await;
    }
}
