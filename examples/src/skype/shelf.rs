//! What a user shares, put up on each node that others come to: a list, and the files on it.

use p2p_core::net::{Node, Refused};
use p2p_core::{Contact, Handle, Wire};
use p2p_overlay::{DiskFolder, Item, Library, Query, ShareWorker, Sharing, SharingConfig, Shelf, words};
use serde::{Deserialize, Serialize};

use super::lines::Line;
use crate::Failure;

/// How many items one answer names at most: whatever they are, it stays below [`Wire::MAX_BYTES`].
pub(super) const LISTED: usize = 32;
/// How many files are shared.
const MOST: usize = 10_000;

const LIST: &str = "list/1";
const FILES: &str = "files/1";

/// To a user: what is there that has these words, or to be had at all?
#[derive(Serialize, Deserialize)]
struct Wanted(Query);

impl Wire for Wanted {
    const MAX_BYTES: usize = 8 << 10;
}

#[derive(Serialize, Deserialize)]
struct Listed(Vec<Item>);

impl Wire for Listed {}

/// What this user shares.
#[derive(Clone)]
pub(super) struct Shelves {
    library: Library,
    /// The words that the user is found by.
    own: Vec<String>,
    folder: DiskFolder,
}

impl Shelves {
    pub(super) fn new(
        user: &str,
        profile: &str,
        items: Vec<Item>,
        folder: DiskFolder,
    ) -> Result<Shelves, Failure> {
        let mut library = Library::new(MOST);
        for item in items {
            let name = item.name.clone();
            library.insert(item).map_err(|error| format!("cannot share {name:?}: {error}"))?;
        }
        let own = words(user).into_iter().chain(words(profile)).collect();
        Ok(Shelves { library, own, folder })
    }

    /// What is asked for; all of it by whoever asks for nothing but the user.
    fn matching(&self, query: &Query) -> Vec<Item> {
        let left: Vec<&str> = query
            .words()
            .iter()
            .map(String::as_str)
            .filter(|word| !self.own.iter().any(|own| own == word))
            .collect();
        match left.is_empty() {
            true => self.library.iter().take(LISTED).map(|(_, item)| item.clone()).collect(),
            false => {
                let found = Query::text(&left.join(" "));
                self.library.find(&found).take(LISTED).map(|(_, item)| item.clone()).collect()
            }
        }
    }

    /// Answers whoever comes to this node.
    pub(super) fn put_up(&self, node: &Node) -> Result<Handle<Sharing<Shelf<Contact>>>, Failure> {
        let shelves = self.clone();
        node.serve(LIST, move |asked| {
            let wanted = Wanted::from_bytes(&asked.body).map_err(|_| Refused(1));
            let listed = wanted.map(|Wanted(query)| Listed(shelves.matching(&query)).to_bytes().into());
            async move { listed }
        })?;
        let mut shelf = Shelf::new(MOST);
        *shelf.library_mut() = self.library.clone();
        let workers = [ShareWorker::new(self.folder.clone()), ShareWorker::new(self.folder.clone())];
        Ok(node.spawn_with_workers(FILES, Sharing::new(shelf, SharingConfig::default()), workers)?)
    }
}

/// Asks a user what there is.
pub(super) async fn list(line: &Line, query: &Query) -> Result<Vec<Item>, Failure> {
    let asked = Wanted(query.clone()).to_bytes();
    let answer = line.node.request(line.called.contact, LIST, asked).await?;
    let Listed(mut items) = Listed::from_bytes(&answer)?;
    items.truncate(LISTED);
    // What is not what was asked for is nothing that was found.
    items.retain(|item| item.check().is_ok());
    Ok(items)
}
