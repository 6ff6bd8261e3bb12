//! A node's word: what it shares and where it is reached, or what it wants of whom, signed, so that nobody else says so in
//! its name.
//!
//! Of a hit only the content proves what it is, once it is there. But who is said to have it is dialled before that,
//! and is the one who is blamed: so hits name nobody who has not said so itself. And who is said to want something is
//! dialled by whoever has it. FastTrack had nothing like it.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::{Contact, Keypair, PeerId};
use serde::{Deserialize, Serialize};

use super::Kazaa;
use super::msg::{Shared, Source, Wish};
use crate::place::{Place, is_somewhere};
use crate::recent::Recent;
use crate::search::{ContentHash, Item};
use crate::signing::{Signature, Signing};

/// How far clocks may differ.
const SKEW: Duration = Duration::from_secs(300);
/// How many wishes a source remembers, the last half at least: more than it may grant while the word for one is good.
const GRANTED: usize = 2048;

/// What shows that a source itself says what a hit says: good for [`KazaaConfig::lifetime`](super::KazaaConfig). Or that
/// whoever is said to want something does: good for five minutes, as far as clocks agree, and once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Seconds since the Unix epoch.
    made: u64,
    signature: Signature,
}

/// What becomes of a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    Good,
    /// It was true once, or is of a time to come: then a clock is wrong, and nobody knows whose.
    Over,
    Forged,
}

impl Word {
    pub(super) fn new(keypair: &Keypair, listen: Option<&Contact>, item: &Item, wall: Duration) -> Word {
        let unsigned = Word { made: wall.as_secs(), signature: Signature::NONE };
        Word { signature: Signature::new(keypair, unsigned.signing(&keypair.id(), listen, item)), ..unsigned }
    }

    fn age(&self, wall: Duration) -> Option<Duration> {
        let made = Duration::from_secs(self.made);
        (made <= wall.saturating_add(SKEW)).then(|| wall.saturating_sub(made))
    }

    /// What it is worth as the word of this key for a hit.
    pub(super) fn worth(self, key: &PeerId, hit: &Source, wall: Duration, lifetime: Duration) -> Worth {
        match self.age(wall) {
            None => Worth::Over,
            Some(age) if age > lifetime => Worth::Over,
            Some(_) => {
                let signing = self.signing(key, hit.listen.as_ref(), &hit.item);
                if self.signature.is_by(key, signing) { Worth::Good } else { Worth::Forged }
            }
        }
    }

    /// The word of somebody who wants this of the source of this key.
    pub(super) fn wishing(keypair: &Keypair, source: &PeerId, wish: &Wish, wall: Duration) -> Word {
        let unsigned = Word { made: wall.as_secs(), signature: Signature::NONE };
        Word { signature: Signature::new(keypair, unsigned.signing_wish(source, wish)), ..unsigned }
    }

    /// Whether it is that, of this key, and new.
    fn wishes(self, key: &PeerId, source: &PeerId, wish: &Wish, wall: Duration) -> bool {
        let new = self.age(wall).is_some_and(|age| age <= SKEW);
        new && self.signature.is_by(key, self.signing_wish(source, wish))
    }

    fn signing_wish(&self, source: &PeerId, wish: &Wish) -> Signing {
        let signing = Signing::new("kazaa", "wish").number(self.made).key(source);
        signing.number(wish.nonce).text(&wish.name).contact(&wish.to)
    }

    fn signing(&self, key: &PeerId, listen: Option<&Contact>, item: &Item) -> Signing {
        let Item { name, size, hashes, metadata } = item;
        let signing = Signing::new("kazaa", "hit").number(self.made).key(key);
        let signing = match listen {
            Some(listen) => signing.number(1).contact(listen),
            None => signing.number(0),
        };
        let signing = signing.text(name).number(*size).number(hashes.len() as u64);
        let signing = hashes.iter().fold(signing, |signing, hash| match hash {
            ContentHash::Blake3(hash) => signing.number(3).bytes(hash),
            ContentHash::Sha1(hash) => signing.number(1).bytes(hash),
        });
        let signing = signing.number(metadata.len() as u64);
        metadata.iter().fold(signing, |signing, (key, value)| signing.text(key).text(value))
    }
}

/// Gives this node's own word: each item is signed once, and again when a half of its time is over. And remembers the
/// wishes of others that it has granted.
pub(super) struct Signer {
    keypair: Keypair,
    /// By the item's name, of those who are shared.
    words: BTreeMap<String, Word>,
    granted: Recent<u64, ()>,
}

impl Signer {
    pub(super) fn new(keypair: Keypair) -> Signer {
        Signer { keypair, words: BTreeMap::new(), granted: Recent::new(GRANTED) }
    }

    /// An item has changed, or is shared no longer.
    pub(super) fn forget(&mut self, name: &str) {
        self.words.remove(name);
    }

    pub(super) fn forget_all(&mut self) {
        self.words.clear();
    }

    fn word(&mut self, listen: Option<&Contact>, item: &Item, wall: Duration, lifetime: Duration) -> Word {
        let known = self.words.get(&item.name).copied();
        if let Some(known) = known.filter(|known| known.age(wall).is_some_and(|age| age < lifetime / 2)) {
            return known;
        }
        let word = Word::new(&self.keypair, listen, item, wall);
        self.words.insert(item.name.clone(), word);
        word
    }

    /// This node's word for what it wants of the source of this key.
    pub(super) fn wish(&self, source: &PeerId, wish: &Wish, wall: Duration) -> Word {
        Word::wishing(&self.keypair, source, wish, wall)
    }

    /// Whether this key has signed that it wants this of this node, for the first time.
    pub(super) fn grants(&mut self, key: &PeerId, wish: &Wish, wall: Duration) -> bool {
        let own = self.keypair.id();
        wish.word.is_some_and(|word| word.wishes(key, &own, wish, wall))
            && self.granted.insert(wish.nonce, ())
    }
}

impl<P: Place> Kazaa<P> {
    /// An item as this node says that it shares it.
    pub(super) fn give_word(&mut self, item: Item, wall: Duration) -> Shared {
        let lifetime = self.config.lifetime;
        // Nobody is told of another.
        let listen = self.listen.filter(is_somewhere);
        let signer = self.signer.as_mut();
        let word = signer.map(|signer| signer.word(listen.as_ref(), &item, wall, lifetime));
        Shared { item, word }
    }

    /// What a hit is worth: without keys of its own a node believes everybody.
    pub(super) fn worth(signer: Option<&Signer>, hit: &Source, wall: Duration, lifetime: Duration) -> Worth {
        match (signer, &hit.word) {
            (None, _) => Worth::Good,
            (Some(_), Some(word)) => word.worth(&P::signer(hit.id), hit, wall, lifetime),
            (Some(_), None) => Worth::Forged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::simulated_keypair;
    use p2p_core::SimPeer;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const NOW: Duration = Duration::from_secs(1_000_000_000);

    fn hit(by: u32) -> Source {
        let contact = SimPeer(1).contact().unwrap();
        let item = Item {
            metadata: vec![("artist".into(), "New Order".into())],
            ..Item::new("Blue Monday", 7).hash(ContentHash::Sha1([3; 20]))
        };
        let word = Some(Word::new(&simulated_keypair(SimPeer(by)), Some(&contact), &item, NOW));
        Source { id: contact.id, listen: Some(contact), item, word }
    }

    fn worth(hit: &Source, wall: Duration) -> Worth {
        hit.word.unwrap().worth(&SimPeer::signer(hit.id), hit, wall, DAY)
    }

    #[test]
    fn only_the_source_itself_says_what_it_has_and_where_it_is() {
        let good = hit(1);
        assert_eq!(worth(&good, NOW), Worth::Good);
        assert_eq!(worth(&hit(2), NOW), Worth::Forged, "another's word");
        let elsewhere = SimPeer(2).contact();
        let item = &good.item;
        let other_content = Item { hashes: vec![ContentHash::Sha1([4; 20])], ..item.clone() };
        let longer = vec![("artist".into(), "New Order, live".into())];
        for forged in [
            Source { listen: elsewhere, ..good.clone() },
            Source { listen: None, ..good.clone() },
            Source { id: elsewhere.unwrap().id, ..good.clone() },
            Source { item: Item { name: "Blue Tuesday".into(), ..item.clone() }, ..good.clone() },
            Source { item: Item { size: 8, ..item.clone() }, ..good.clone() },
            Source { item: Item { metadata: longer, ..item.clone() }, ..good.clone() },
            Source { item: Item { hashes: vec![], ..item.clone() }, ..good.clone() },
            Source { item: other_content, ..good.clone() },
        ] {
            assert_eq!(worth(&forged, NOW), Worth::Forged, "{forged:?}");
        }
    }

    #[test]
    fn a_word_is_good_for_a_while() {
        let good = hit(1);
        let second = Duration::from_secs(1);
        assert_eq!(worth(&good, NOW + DAY), Worth::Good);
        assert_eq!(worth(&good, NOW + DAY + second), Worth::Over);
        assert_eq!(worth(&good, NOW - SKEW), Worth::Good, "clocks differ");
        assert_eq!(worth(&good, NOW - SKEW - second), Worth::Over, "nobody signs for later");
        let later = Word { made: good.word.unwrap().made + 5, ..good.word.unwrap() };
        assert_eq!(worth(&Source { word: Some(later), ..good }, NOW), Worth::Forged);
    }

    #[test]
    fn a_word_for_a_wish_is_good_for_a_few_minutes() {
        let [asker, source] = [1, 2].map(|peer| simulated_keypair(SimPeer(peer)));
        let to = SimPeer(1).contact().unwrap();
        let wish = Wish { nonce: 7, name: "Blue Monday".into(), to, word: None };
        let word = Word::wishing(&asker, &source.id(), &wish, NOW);
        let at = |wall| word.wishes(&asker.id(), &source.id(), &wish, wall);
        let second = Duration::from_secs(1);
        assert!(at(NOW) && at(NOW + SKEW) && at(NOW - SKEW));
        assert!(!at(NOW + SKEW + second) && !at(NOW - SKEW - second));
        assert!(!word.wishes(&asker.id(), &asker.id(), &wish, NOW), "of another source");
        let another = Wish { name: "Blue Tuesday".into(), ..wish.clone() };
        assert!(!word.wishes(&asker.id(), &source.id(), &another, NOW));
    }

    #[test]
    fn an_item_is_signed_once_in_half_its_time() {
        let mut signer = Signer::new(simulated_keypair(SimPeer(1)));
        let item = hit(1).item;
        let mut at = |wall| signer.word(None, &item, wall, DAY);
        let first = at(NOW);
        assert_eq!(at(NOW + DAY / 2 - Duration::from_secs(1)), first);
        assert_ne!(at(NOW + DAY / 2), first);
    }
}
