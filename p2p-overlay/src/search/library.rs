//! What is shared, by one node or by all that an index knows of, found by words or by hash.

use std::collections::{BTreeMap, BTreeSet};

use super::SearchError;
use super::item::{ContentHash, Item, Query};

/// The items that one node shares, or, with an owner `O` of each, those of several: an index server's, a super-node's.
/// Each has a number that stays its own while it is shared. As many items as the library was made for, and at most 64
/// words of each.
///
/// ```
/// use p2p_overlay::{Item, Library, Query};
///
/// let mut library = Library::new(100);
/// let index = library.insert(Item::new("Blue Monday.mp3", 7_000_000)).unwrap();
/// let found: Vec<u32> = library.find(&Query::text("monday")).map(|(index, _)| index).collect();
/// assert_eq!(found, [index]);
/// ```
#[derive(Clone, Debug)]
pub struct Library<O = ()> {
    most: usize,
    /// The number of the next item.
    next: u32,
    items: BTreeMap<u32, (O, Item)>,
    /// The items of each owner, by name.
    names: BTreeMap<O, BTreeMap<String, u32>>,
    words: BTreeMap<String, BTreeSet<u32>>,
    hashes: BTreeMap<ContentHash, BTreeSet<u32>>,
    bytes: u64,
}

impl Library {
    /// Shares an item, in the place of one of the same name. Its number.
    ///
    /// # Errors
    /// [`SearchError::BadItem`] or [`SearchError::TooManyItems`].
    pub fn insert(&mut self, item: Item) -> Result<u32, SearchError> {
        self.insert_of((), item)
    }

    /// Shares the item of this name no longer.
    pub fn remove(&mut self, name: &str) -> Option<Item> {
        self.remove_of(&(), name)
    }

    /// The items that match, by their numbers. None matches an empty query.
    pub fn find(&self, query: &Query) -> impl Iterator<Item = (u32, &Item)> + use<'_> {
        self.find_of(query).map(|(index, (), item)| (index, item))
    }

    /// The item of this number.
    pub fn get(&self, index: u32) -> Option<&Item> {
        self.items.get(&index).map(|(_, item)| item)
    }
}

impl<O: Ord + Clone> Library<O> {
    /// An empty one of at most `most` items.
    pub fn new(most: usize) -> Library<O> {
        Library {
            most,
            next: 0,
            items: BTreeMap::new(),
            names: BTreeMap::new(),
            words: BTreeMap::new(),
            hashes: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Notes an item of an owner's, in the place of one of the same name. Its number.
    ///
    /// # Errors
    /// [`SearchError::BadItem`] or [`SearchError::TooManyItems`].
    pub fn insert_of(&mut self, owner: O, item: Item) -> Result<u32, SearchError> {
        item.check()?;
        let before = self.names.get(&owner).and_then(|names| names.get(&item.name)).copied();
        if before.is_none() && self.items.len() >= self.most {
            return Err(SearchError::TooManyItems { max: self.most });
        }
        let index = before.unwrap_or(self.next);
        match before {
            Some(_) => drop(self.remove_of(&owner, &item.name)),
            None => self.next = self.next.wrapping_add(1),
        }
        for word in item.words() {
            self.words.entry(word).or_default().insert(index);
        }
        for hash in &item.hashes {
            self.hashes.entry(*hash).or_default().insert(index);
        }
        self.bytes = self.bytes.saturating_add(item.size);
        self.names.entry(owner.clone()).or_default().insert(item.name.clone(), index);
        self.items.insert(index, (owner, item));
        Ok(index)
    }

    /// Forgets an owner's item of this name.
    pub fn remove_of(&mut self, owner: &O, name: &str) -> Option<Item> {
        let names = self.names.get_mut(owner)?;
        let index = names.remove(name)?;
        if names.is_empty() {
            self.names.remove(owner);
        }
        let (_, item) = self.items.remove(&index)?;
        for word in item.words() {
            forget(&mut self.words, &word, index);
        }
        for hash in &item.hashes {
            forget(&mut self.hashes, hash, index);
        }
        self.bytes = self.bytes.saturating_sub(item.size);
        Some(item)
    }

    /// Forgets all items of an owner.
    pub fn remove_all_of(&mut self, owner: &O) {
        let names = self.names.get(owner).map(|names| names.keys().cloned().collect::<Vec<String>>());
        for name in names.unwrap_or_default() {
            self.remove_of(owner, &name);
        }
    }

    /// An owner's item of this name.
    pub fn get_of(&self, owner: &O, name: &str) -> Option<&Item> {
        let index = self.names.get(owner)?.get(name)?;
        self.items.get(index).map(|(_, item)| item)
    }

    /// How many items an owner has.
    pub fn count_of(&self, owner: &O) -> usize {
        self.names.get(owner).map_or(0, BTreeMap::len)
    }

    /// An owner's items, by their names.
    pub fn items_of(&self, owner: &O) -> impl Iterator<Item = &Item> + use<'_, O> {
        let names = self.names.get(owner).into_iter().flatten();
        names.filter_map(|(_, index)| self.items.get(index).map(|(_, item)| item))
    }

    /// The items that match, by their numbers, with their owners. None matches an empty query.
    pub fn find_of(&self, query: &Query) -> impl Iterator<Item = (u32, &O, &Item)> + use<'_, O> {
        let word_sets = query.words().iter().map(|word| self.words.get(word));
        let hash_set = query.hash().map(|hash| self.hashes.get(&hash));
        let sets: Option<Vec<&BTreeSet<u32>>> = word_sets.chain(hash_set).collect();
        let mut sets = sets.unwrap_or_default();
        // The rarest word has the fewest candidates.
        sets.sort_by_key(|set| set.len());
        let mut sets = sets.into_iter();
        let rarest = sets.next();
        let others: Vec<_> = sets.collect();
        let all = rarest.into_iter().flatten().copied();
        all.filter(move |index| others.iter().all(|set| set.contains(index))).filter_map(|index| {
            let (owner, item) = self.items.get(&index)?;
            Some((index, owner, item))
        })
    }

    /// The same, but of each owner the first `each` only: whoever has more leaves the others room.
    pub fn find_some_of(
        &self,
        query: &Query,
        each: usize,
    ) -> impl Iterator<Item = (u32, &O, &Item)> + use<'_, O> {
        let mut given: BTreeMap<&O, usize> = BTreeMap::new();
        self.find_of(query).filter(move |(_, owner, _)| {
            let given = given.entry(*owner).or_default();
            *given += 1;
            *given <= each
        })
    }

    /// All items, by their numbers.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, &Item)> {
        self.items.iter().map(|(index, (_, item))| (*index, item))
    }

    /// The words that items are found by.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.keys().map(String::as_str)
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The bytes of all items.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn forget<K: Ord>(index_of: &mut BTreeMap<K, BTreeSet<u32>>, key: &K, index: u32) {
    if let Some(set) = index_of.get_mut(key) {
        set.remove(&index);
        if set.is_empty() {
            index_of.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_removed_leaves_nothing_behind() {
        let mut library = Library::new(2);
        let hash = ContentHash::Sha1([7; 20]);
        library.insert(Item::new("one song", 5).hash(hash)).unwrap();
        library.insert(Item::new("two songs", 6)).unwrap();
        assert_eq!(library.insert(Item::new("three", 1)), Err(SearchError::TooManyItems { max: 2 }));
        assert_eq!(library.insert(Item::new("two songs", 8)), Ok(1), "the same name is the same item");
        assert_eq!(library.bytes(), 13);
        assert!(library.remove("one song").is_some() && library.remove("one song").is_none());
        library.remove("two songs");
        assert!(library.words.is_empty() && library.hashes.is_empty() && library.names.is_empty());
        assert_eq!((library.len(), library.bytes()), (0, 0));
    }

    #[test]
    fn each_owner_has_names_of_its_own() {
        let mut index = Library::new(10);
        for owner in ["ada", "bob"] {
            index.insert_of(owner, Item::new("song", 1)).unwrap();
        }
        let query = Query::text("song");
        assert_eq!(index.find_of(&query).map(|(_, owner, _)| *owner).collect::<Vec<_>>(), ["ada", "bob"]);
        index.insert_of("ada", Item::new("another song", 1)).unwrap();
        let first: Vec<u32> = index.find_some_of(&query, 1).map(|(number, _, _)| number).collect();
        assert_eq!(first, [0, 1], "one of each");
        index.remove_of(&"ada", "another song");
        assert_eq!(index.items_of(&"ada").map(|item| &item.name[..]).collect::<Vec<_>>(), ["song"]);
        index.remove_all_of(&"ada");
        assert_eq!(index.items_of(&"ada").count(), 0);
        assert_eq!((index.len(), index.count_of(&"ada"), index.count_of(&"bob")), (1, 0, 1));
        assert!(index.get_of(&"bob", "song").is_some() && index.get_of(&"ada", "song").is_none());
    }

    proptest! {
        /// The index finds what a look at all items finds.
        #[test]
        fn the_index_finds_what_matches(
            names in prop::collection::vec("[abc]( [abc]){0,3}", 0..20),
            asked in "[abcd]( [abcd]){0,2}",
        ) {
            let mut library = Library::new(100);
            for name in names {
                library.insert(Item::new(name, 1)).unwrap();
            }
            let query = Query::text(&asked);
            let found: Vec<u32> = library.find(&query).map(|(index, _)| index).collect();
            let matching = library.iter().filter(|(_, item)| item.matches(&query));
            prop_assert_eq!(found, matching.map(|(index, _)| index).collect::<Vec<u32>>());
        }
    }
}
