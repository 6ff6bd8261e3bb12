//! What nodes say to each other.

use p2p_core::{Contact, Key, PeerId, Wire};
use serde::{Deserialize, Serialize};

use super::word::Word;
use crate::search::{ContentHash, Item, Query};

/// How many items or hits one message has at most: whatever they are, it stays below [`Wire::MAX_BYTES`].
pub(super) const BATCH: usize = 32;

/// A message. Numbers called `nonce` and `id` are random, and an answer repeats them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KazaaMsg {
    /// To a super-node that might become a neighbour, or is one: is it there, and how full? Answered by
    /// [`KazaaMsg::Room`], or by [`KazaaMsg::Refuse`] if the receiver is no super-node.
    Probe {
        /// The answer repeats it, and so proves that it took a way there and back.
        nonce: u64,
    },
    /// The answer.
    Room {
        /// Of the probe.
        nonce: u64,
        /// For how many more.
        room: Places,
        /// Whether the one who probes is a neighbour of the sender.
        neighbour: bool,
    },
    /// The sender would be a neighbour; a super-node that is one wants the refresh list. Answered by
    /// [`KazaaMsg::Welcome`] or [`KazaaMsg::Refuse`].
    Join {
        /// As a super-node among others, or as an ordinary node.
        as_super: bool,
        /// Where others reach it; `None` if they do not.
        listen: Option<Contact>,
        /// The hash of what it would share: who has been handed it already need not get it again.
        digest: Option<Key>,
    },
    /// Neighbours from now on.
    Welcome {
        /// For how many more there is room.
        room: Places,
        /// Whether the receiver's metadata is there already.
        entrusted: bool,
        /// Super-nodes that the sender knows: the refresh list.
        known: Vec<Known>,
    },
    /// No.
    Refuse {
        /// Others, to try instead.
        known: Vec<Known>,
    },
    /// Neighbours no longer.
    Bye {
        /// To whom to go instead, the best first.
        known: Vec<Known>,
    },
    /// From an ordinary node to its super-node: it shares these.
    Share(Vec<Shared>),
    /// And this no longer, by its name.
    Unshare(String),
    /// From a super-node that retires to another: one of its ordinary nodes may come, which shares these.
    Entrust {
        /// The node.
        who: PeerId,
        /// Some of what it shares.
        items: Vec<Shared>,
    },
    /// To a super-node, from one of its own or from a visitor: who has this? Answered by [`KazaaMsg::Results`], at once
    /// if with nothing, and then as others answer.
    Ask {
        /// Of the search.
        id: u64,
        /// What is looked for.
        query: Query,
        /// How many hits are wanted.
        wanted: u16,
        /// How far to pass it on among super-nodes; 0 is not at all.
        ttl: u8,
    },
    /// From super-node to super-node. Who has something tells it the one that began it: by [`KazaaMsg::Results`] if it
    /// has this from there, else by [`KazaaMsg::Offer`].
    Query {
        /// Of the search.
        id: u64,
        /// The super-node that began it.
        origin: Contact,
        /// What is looked for.
        query: Query,
        /// How much further to pass it on.
        ttl: u8,
    },
    /// From a super-node that a query has come to from a third: so many hits are to be had. Whoever did begin the
    /// search asks for them with a [`KazaaMsg::Query`] that goes no further.
    Offer {
        /// Of the search.
        id: u64,
        /// How many.
        hits: u16,
    },
    /// Some hits.
    Results {
        /// Of the search.
        id: u64,
        /// The super-node in whose index they are.
        via: Contact,
        /// At most 32.
        hits: Vec<Source>,
    },
    /// To the super-node of a source that accepts no connections: it shall connect. Answered by [`KazaaMsg::Unreached`]
    /// if it cannot be told.
    Push {
        /// The source.
        source: PeerId,
        /// What it is asked for, by the sender: somebody else's address is not passed on.
        wish: Wish,
    },
    /// The source is not there.
    Unreached {
        /// Of the wish.
        nonce: u64,
    },
    /// From a super-node to its own: somebody wants this and cannot connect.
    Dial(Wish),
    /// From a source that was asked to connect: here it is.
    Give {
        /// Of the wish.
        nonce: u64,
    },
}

/// How much room a super-node says it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// How full it is, in thousandths. More counts as full.
    pub load: u16,
    /// How many more ordinary nodes it would have,
    pub ordinary: u16,
    /// and super-nodes.
    pub supers: u16,
}

/// A super-node in a refresh list, which the sender has met itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Where it is.
    pub contact: Contact,
    /// How full it was, in thousandths.
    pub load: u16,
    /// How long ago that was, in seconds.
    pub age: u32,
}

/// Who has what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Who.
    pub id: PeerId,
    /// Where it is reached; `None` if it has to be asked to connect.
    pub listen: Option<Contact>,
    /// What.
    pub item: Item,
    /// What shows that the source says so itself, in networks of keys.
    pub word: Option<Word>,
}

/// What a source that accepts no connections is asked for: to connect, and to give something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// What the source has to say then.
    pub nonce: u64,
    /// The item's name.
    pub name: String,
    /// Where whoever asks is reached.
    pub to: Contact,
    /// What shows that it asks itself, in networks of keys.
    pub word: Option<Word>,
}

/// An item as its source tells a super-node of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// What.
    pub item: Item,
    /// What shows that it says so, to others.
    pub word: Option<Word>,
}

/// Nobody's word.
impl From<Item> for Shared {
    fn from(item: Item) -> Shared {
        Shared { item, word: None }
    }
}

impl Wire for KazaaMsg {}

/// What a hit refers to, for [`Search::reach`](crate::Search::reach).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reference {
    /// In whose index it is.
    pub via: Contact,
    pub source: PeerId,
    pub name: String,
}

impl Wire for Reference {}

/// A query as it would have been asked here: what comes from outside may have any number of words.
pub(super) fn sound(query: &Query) -> Option<Query> {
    let mut sound = Query::text(&query.words().join(" "));
    if let Some(hash) = query.hash() {
        sound = sound.of(hash);
    }
    (!sound.is_empty()).then_some(sound)
}

/// The hash of what somebody shares, in whatever order.
pub(super) fn digest(mut items: Vec<Shared>) -> Key {
    items.sort_by(|one, other| one.item.name.cmp(&other.item.name));
    Key::of(&KazaaMsg::Share(items).to_bytes())
}

/// A query that nobody has an answer to: two words, or a hash, made of random numbers.
pub(super) fn decoy(rng: &mut p2p_core::Rng) -> Query {
    if rng.chance(0.5) {
        return Query::content(ContentHash::Blake3(*rng.key::<32>().as_bytes()));
    }
    let mut word = || -> String {
        let letter = |rng: &mut p2p_core::Rng, of: &[u8]| char::from(of[rng.index(of.len())]);
        (0..4).flat_map(|_| [letter(rng, b"bcdfgklmnprstvz"), letter(rng, b"aeiou")]).collect()
    };
    Query::text(&format!("{} {}", word(), word()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;
    use p2p_core::{Keypair, Rng, SimPeer};
    use proptest::prelude::*;
    use std::time::Duration;

    fn item() -> impl Strategy<Value = Item> {
        let metadata = prop::collection::vec(("[a-z]{0,9}", "\\PC{0,20}"), 0..4);
        (".{0,60}", any::<u64>(), any::<[u8; 20]>(), metadata).prop_map(|(name, size, hash, metadata)| Item {
            metadata: metadata.into_iter().collect(),
            ..Item::new(name, size).hash(ContentHash::Sha1(hash))
        })
    }

    fn word(item: &Item) -> Word {
        Word::new(&Keypair::from_seed(&[7; 32]), None, item, Duration::MAX)
    }

    fn message() -> impl Strategy<Value = KazaaMsg> {
        let contact = (0u32..1 << 20).prop_map(|peer| SimPeer(peer).contact().unwrap());
        let known = (contact.clone(), any::<u16>(), any::<u32>()).prop_map(|(contact, load, age)| Known {
            contact,
            load,
            age,
        });
        let known = prop::collection::vec(known, 0..20);
        let source = (contact.clone(), any::<bool>(), item()).prop_map(|(contact, open, item)| Source {
            id: contact.id,
            listen: open.then_some(contact),
            word: open.then(|| word(&item)),
            item,
        });
        let id = any::<u64>();
        prop_oneof![
            (id, any::<[u16; 3]>(), any::<bool>()).prop_map(
                |(nonce, [load, ordinary, supers], neighbour)| {
                    KazaaMsg::Room { nonce, room: Places { load, ordinary, supers }, neighbour }
                }
            ),
            known.prop_map(|known| KazaaMsg::Bye { known }),
            prop::collection::vec(item().prop_map(Shared::from), 0..8).prop_map(KazaaMsg::Share),
            (id, "\\PC{0,60}", any::<u16>(), any::<u8>()).prop_map(|(id, text, wanted, ttl)| {
                KazaaMsg::Ask { id, query: Query::text(&text), wanted, ttl }
            }),
            (id, contact.clone(), prop::collection::vec(source, 0..8))
                .prop_map(|(id, via, hits)| KazaaMsg::Results { id, via, hits }),
            (id, contact, "\\PC{0,60}", any::<bool>()).prop_map(|(nonce, to, name, signed)| KazaaMsg::Push {
                source: to.id,
                wish: Wish { nonce, word: signed.then(|| word(&Item::new("song", 1))), name, to }
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(message in message()) {
            prop_assert_eq!(KazaaMsg::from_bytes(&message.to_bytes()), Ok(message));
        }
    }

    #[test]
    fn the_largest_batch_is_a_message() {
        let largest = Item {
            name: "n".repeat(crate::search::MAX_NAME),
            size: u64::MAX,
            hashes: vec![ContentHash::Blake3([7; 32]); crate::search::MAX_HASHES],
            metadata: vec![(String::new(), String::new()); crate::search::MAX_METADATA / 2],
        };
        assert_eq!(largest.check(), Ok(()));
        let contact = Contact::new(PeerId::from_bytes([7; 32]), "[2001:db8::1]:65535".parse().unwrap());
        let word = Some(word(&largest));
        let source = Source { id: contact.id, listen: Some(contact), item: largest, word };
        let results = KazaaMsg::Results { id: u64::MAX, via: contact, hits: vec![source; BATCH] };
        assert!(results.to_bytes().len() < KazaaMsg::MAX_BYTES);
        let known = vec![Known { contact, load: 1000, age: 3600 }; 200];
        let room = Places { load: 1000, ordinary: 150, supers: 50 };
        let welcome = KazaaMsg::Welcome { room, entrusted: false, known };
        assert!(welcome.to_bytes().len() < KazaaMsg::MAX_BYTES);
    }

    #[test]
    fn a_query_of_any_length_is_bounded() {
        let words: String = (0..500).map(|i| format!("{i} ")).collect();
        let query = Query::text(&words);
        assert!(sound(&query).unwrap().words().len() <= 32);
        assert_eq!(sound(&Query::text("")), None);
    }

    #[test]
    fn no_two_decoys_are_alike() {
        let mut rng = Rng::new(1);
        let (one, other) = (decoy(&mut rng), decoy(&mut rng));
        assert!(one != other && !one.is_empty() && sound(&one) == Some(one));
    }
}
