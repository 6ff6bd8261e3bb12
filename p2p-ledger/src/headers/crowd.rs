//! How many headers of each height are kept, and whose.
//!
//! Where a header takes work, how many there are of a height is bounded. Where it takes a signature it costs its author nothing:
//! there the bound is each author's own, or one of them would fill the height and shut out the others.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// How many of one height one author has kept. An honest one signs one of each, but may forget that it has.
pub(super) const MOST_OF_ONE_AUTHOR: usize = 2;

#[derive(Clone, Debug, Default)]
pub(super) struct Crowd {
    /// Of those that have no author, by height.
    nobodys: Vec<usize>,
    /// Of the others, by height and author.
    authors: BTreeMap<(u64, u64), usize>,
}

impl Crowd {
    /// How many there are of this height; of this author's, if it has one.
    pub(super) fn count(&self, height: u64, author: Option<u64>) -> usize {
        let count = match author {
            None => self.nobodys.get(height as usize),
            Some(author) => self.authors.get(&(height, author)),
        };
        count.copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, height: u64, author: Option<u64>) {
        match author {
            None => {
                let least = self.nobodys.len().max(height as usize + 1);
                self.nobodys.resize(least, 0);
                self.nobodys[height as usize] += 1;
            }
            Some(author) => *self.authors.entry((height, author)).or_default() += 1,
        }
    }

    pub(super) fn remove(&mut self, height: u64, author: Option<u64>) {
        match author {
            None => self.nobodys[height as usize] -= 1,
            Some(author) => {
                if let Entry::Occupied(mut count) = self.authors.entry((height, author)) {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
            }
        }
    }
}
