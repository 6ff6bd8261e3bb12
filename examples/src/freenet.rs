//! Files in Freenet: blocks of 32 KiB under their hashes, an index of these, and the item that names the index.
//!
//! The paper splits long files and leaves the form open (§3.1). Here one block has the keys of all others, one behind
//! the other, and the item says its key beside the hashes of the whole, so that what comes is checked twice. A block
//! has room for 1,024 keys: 32 MiB. Whoever shares a file gives it to the network; it need not stay.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use p2p_core::net::Node;
use p2p_core::{Contact, Handle, Key};
use p2p_overlay::{
    Download, DownloadError, Downloaded, Fetcher, Fetching, FolderError, Freenet, FreenetBlock,
    FreenetConfig, FreenetError, Hit, Hits, Insert, Item, MAX_BLOCK, Query, Retrieve, Scope, Search,
    SearchError, hashes_of, is_plain_name,
};
use tokio::io::AsyncWriteExt;

use crate::Failure;

/// The item's metadata that has the index's key.
const INDEX: &str = "index";
/// How many blocks are asked for, or inserted, at once.
const AT_ONCE: usize = 8;
/// How often a block is asked for.
const TRIES: usize = 5;
/// The longest file, in bytes.
const LONGEST: usize = MAX_BLOCK / 32 * MAX_BLOCK;

/// A node of Freenet, for files.
#[derive(Clone)]
pub struct FreenetFiles {
    node: Node,
    freenet: Handle<Freenet<Contact>>,
    /// Where what is fetched goes.
    out: PathBuf,
}

impl fmt::Debug for FreenetFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FreenetFiles({:?})", self.node)
    }
}

impl FreenetFiles {
    /// A node that joins through these.
    ///
    /// # Errors
    /// The protocol runs on this node already.
    pub fn start(node: Node, seeds: Vec<Contact>, out: PathBuf) -> Result<FreenetFiles, Failure> {
        let machine = Freenet::new(node.contact(), seeds, FreenetConfig::default());
        let freenet = node.spawn("freenet/1", machine)?;
        Ok(FreenetFiles { node, freenet, out })
    }

    /// Gives a file to the network. What is there already stays.
    ///
    /// # Errors
    /// It is too long, or nobody takes it.
    pub async fn share(&self, item: Item, content: Vec<u8>) -> Result<(), Failure> {
        if content.len() > LONGEST {
            return Err(format!("{:?} has more than {LONGEST} bytes", item.name).into());
        }
        let (index, blocks) = split(&content)?;
        let inserted = stream::iter(blocks).map(|block| self.insert(block)).buffer_unordered(AT_ONCE);
        inserted.try_collect::<Vec<()>>().await?;
        let mut item = item;
        item.metadata.push((INDEX.to_owned(), index.to_string()));
        Ok(self.freenet.publish(item).await?)
    }

    async fn insert(&self, block: FreenetBlock) -> Result<(), Failure> {
        self.freenet.ask(Insert(block)).await??;
        Ok(())
    }

    /// The data of a key, as soon as somebody has it.
    async fn retrieve(&self, key: Key) -> Option<bytes::Bytes> {
        for _ in 0..TRIES {
            match self.freenet.ask(Retrieve { key, htl: None }).await {
                Ok(Ok(data)) => return Some(data),
                Ok(Err(FreenetError::Busy | FreenetError::NotFound | FreenetError::NotConnected)) => {
                    let _ = self.freenet.sleep(std::time::Duration::from_millis(500)).await;
                }
                Ok(Err(_)) | Err(_) => return None,
            }
        }
        None
    }

    /// Ends it.
    pub async fn stop(self) {
        self.node.shutdown().await;
    }
}

/// The blocks of a file, the index among them, and the index's key.
fn split(content: &[u8]) -> Result<(Key, Vec<FreenetBlock>), FreenetError> {
    let blocks: Result<Vec<FreenetBlock>, _> =
        content.chunks(MAX_BLOCK).map(|chunk| FreenetBlock::content(chunk.to_vec())).collect();
    let mut blocks = blocks?;
    let keys: Vec<u8> = blocks.iter().flat_map(|block| *block.key().as_bytes()).collect();
    let index = FreenetBlock::content(keys)?;
    let key = index.key();
    blocks.push(index);
    Ok((key, blocks))
}

/// Puts a file in its place as a whole, over nothing: whoever is killed before that leaves none of its name.
async fn keep(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    tokio::fs::create_dir_all(folder).await?;
    let part = folder.join(format!(".p2p-{}-{number}.part", std::process::id()));
    // What a process of this number has left may be another name of a file that is whole.
    if let Err(error) = tokio::fs::remove_file(&part).await
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = tokio::fs::File::options().write(true).create_new(true).open(&part).await?;
    let written = async {
        file.write_all(content).await?;
        file.sync_all().await?;
        // A hard link does not replace what is there, as a new name would.
        tokio::fs::hard_link(&part, folder.join(name)).await
    };
    let written = written.await;
    // A part that stays is in nobody's way.
    drop(tokio::fs::remove_file(&part).await);
    written
}

type Fetched = Result<Downloaded<Contact>, DownloadError<Contact>>;

async fn fetch(node: FreenetFiles, Download { hits, name }: Download<Contact>) -> Fetched {
    let hit = hits.into_iter().next().ok_or(DownloadError::BadHit)?;
    let Item { name: theirs, size, hashes, metadata } = hit.item;
    let name = name.unwrap_or(theirs);
    let index =
        metadata.iter().find(|(key, _)| key == INDEX).and_then(|(_, value)| value.parse::<Key>().ok());
    let index = index.filter(|_| is_plain_name(&name)).ok_or(DownloadError::BadHit)?;
    if size > LONGEST as u64 {
        return Err(DownloadError::TooLong { size, max: LONGEST as u64 });
    }
    let gone = |bytes: u64| DownloadError::NoSource { bytes, size };
    let keys = node.retrieve(index).await.ok_or(gone(0))?;
    let keys = keys.chunks_exact(32).filter_map(|key| Some(Key::new(key.try_into().ok()?)));
    let parts = stream::iter(keys.collect::<Vec<Key>>()).map(|key| node.retrieve(key)).buffered(AT_ONCE);
    let mut content = Vec::new();
    let mut parts = std::pin::pin!(parts);
    while let Some(part) = parts.next().await {
        content.extend_from_slice(&part.ok_or(gone(content.len() as u64))?);
    }
    let right = hashes_of(&content);
    if content.len() as u64 != size || !hashes.iter().all(|hash| right.contains(hash)) {
        return Err(DownloadError::Lies { peers: Vec::new() });
    }
    keep(&node.out, &name, &content).await.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => FolderError::Exists(name.clone()),
        _ => FolderError::Io(error.to_string()),
    })?;
    Ok(Downloaded { name, size, hashes: right.to_vec(), resumed: 0, sources: Vec::new() })
}

#[async_trait]
impl Search<Contact> for FreenetFiles {
    async fn publish(&self, item: Item) -> Result<(), SearchError> {
        self.freenet.publish(item).await
    }
    async fn unpublish(&self, name: &str) -> Result<bool, SearchError> {
        self.freenet.unpublish(name).await
    }
    fn search(&self, query: Query, scope: Scope) -> Hits<Contact> {
        self.freenet.search(query, scope)
    }
    async fn reach(&self, hit: &Hit<Contact>) -> Result<Contact, SearchError> {
        self.freenet.reach(hit).await
    }
}

impl Fetcher<Contact> for FreenetFiles {
    fn fetch(&self, download: Download<Contact>) -> Fetching<Contact> {
        let node = self.clone();
        Fetching::new(stream::once(async move { Err(fetch(node, download).await) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is there stays, and what is not put in its place leaves nothing.
    #[tokio::test]
    async fn a_file_is_kept_as_a_whole_and_over_nothing() {
        let folder = std::env::temp_dir().join(format!("p2p-freenet-{}", std::process::id()));
        let all = || std::fs::read_dir(&folder).map(|all| all.count());
        keep(&folder, "song", b"first").await.unwrap();
        let again = keep(&folder, "song", b"second").await.map_err(|error| error.kind());
        assert_eq!(again, Err(ErrorKind::AlreadyExists));
        assert_eq!(std::fs::read(folder.join("song")).unwrap(), b"first");
        assert!(keep(&folder, "no/folder", b"third").await.is_err());
        assert_eq!(all().unwrap(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
