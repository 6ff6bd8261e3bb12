//! Records of an application's own: values under any key, of which a [`Validator`] says which may stand there.
//!
//! The other kinds prove themselves: by a hash, a signature, a secret. What proves a value of an application's, the application
//! alone knows: a signature by one of a group, the inclusion in a log, work that was done. It says so as a [`Validator`], which
//! each node has for each [namespace](Custom::namespace) that it keeps records of. A node applies it to its own puts, before it
//! keeps what others store, before it gives or copies what it keeps, and before it believes what it is given: so whoever lies can
//! withhold a record, but nobody who has the validator takes a false one from it. Of a namespace without a validator nothing is
//! kept, given or believed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use p2p_core::{Key, payload};
use serde::{Deserialize, Serialize};

use crate::record::{InvalidRecord, Record};

/// A record of an application's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custom {
    /// Whose rules it follows: a hash of the application's name for them, so that no two take the same.
    pub namespace: Key,
    /// Where it is kept. Of each namespace there is one under a key.
    pub key: Key,
    /// The higher one replaces the lower. Whatever anybody may claim here the validator has to let through: as a rule it is in
    /// the value too, under whatever proves that.
    pub sequence: u64,
    /// At most [`MAX_VALUE`](crate::MAX_VALUE) bytes.
    #[serde(with = "payload")]
    pub value: Bytes,
    /// Seconds since the Unix epoch, at most [`DhtConfig::lifetime`](crate::DhtConfig) from now. Whoever has the record may put it
    /// again with a later end: what must end for good says so in its value.
    pub expires: u64,
}

/// Which records of a namespace are valid. It should take no longer than the check of a signature, for it is asked wherever a
/// record comes from or goes to.
///
/// The answer must be the same on all nodes, always: it depends on the record's key, sequence number and value, and neither on the
/// time nor on when the record ends, which changes from copy to copy.
///
/// ```
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_core::{Key, SimPeer};
/// use p2p_dht::{Custom, DhtConfig, GetCustom, MemoryStore, PutCustom, Rejection, Replicated, Validator};
/// use p2p_overlay::Kademlia;
///
/// /// The longest sentence about a subject, which is its key.
/// struct Longest;
///
/// impl Validator for Longest {
///     fn validate(&self, record: &Custom) -> Result<(), Rejection> {
///         match record.value.len() as u64 == record.sequence {
///             true => Ok(()),
///             false => Err(Rejection(1)),
///         }
///     }
/// }
///
/// type Node = Replicated<Kademlia<SimPeer>>;
/// let namespace = Key::of(b"longest sentences");
/// let node = move |overlay| Node::new(overlay, DhtConfig::default()).with_validator(namespace, Longest);
/// let mut sim = Sim::<Node, MemoryStore<SimPeer>>::with_workers(
///     1, Network::default(), DiskModel::default(), |_| MemoryStore::default(),
/// );
/// let first = sim.spawn(|birth| node(Kademlia::create(birth.peer)));
/// for _ in 0..9 {
///     sim.spawn(|birth| node(Kademlia::join(birth.peer, [first])));
/// }
/// sim.run_for(std::time::Duration::from_secs(30));
///
/// let (here, there, key) = (sim.handle(SimPeer(3)), sim.handle(SimPeer(7)), Key::of(b"rain"));
/// sim.block_on(async move {
///     for sentence in ["It rains.", "It rains all day."] {
///         let sequence = sentence.len() as u64;
///         here.ask(PutCustom { namespace, key, sequence, value: sentence.into(), expected: None }).await.unwrap().unwrap();
///     }
///     let longest = there.ask(GetCustom { namespace, key }).await.unwrap().unwrap();
///     assert_eq!(longest.value, "It rains all day.");
/// });
/// ```
pub trait Validator: Send + Sync {
    /// Whether this may be kept, and believed.
    ///
    /// # Errors
    /// Why not, as a number of the application's own: publishers are told it.
    fn validate(&self, record: &Custom) -> Result<(), Rejection>;
}

/// Why a [`Validator`] does not let a record through: a number of the application's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rejection(pub u16);

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rejection {}", self.0)
    }
}

/// What a node has validators for.
#[derive(Clone, Default)]
pub(crate) struct Validators {
    of: BTreeMap<Key, Arc<dyn Validator>>,
}

impl Validators {
    pub(crate) fn insert(&mut self, namespace: Key, validator: impl Validator + 'static) {
        self.of.insert(namespace, Arc::new(validator));
    }

    /// Whether a record may be kept, given or believed, as far as that is its namespace's to say.
    pub(crate) fn check<P>(&self, record: &Record<P>) -> Result<(), InvalidRecord> {
        match record {
            Record::Custom(custom) => self.check_custom(custom),
            Record::Immutable { .. }
            | Record::Mutable(_)
            | Record::Provider { .. }
            | Record::Removable { .. }
            | Record::Removed { .. } => Ok(()),
        }
    }

    pub(crate) fn check_custom(&self, custom: &Custom) -> Result<(), InvalidRecord> {
        let validator = self.of.get(&custom.namespace).ok_or(InvalidRecord::Namespace)?;
        validator.validate(custom).map_err(InvalidRecord::Rejected)
    }
}
