//! What a validator does not let through is neither given nor copied, though it is there: another program kept it, or the same one
//! by other rules.

use super::*;
use crate::custom::{Custom, Rejection, Validator};
use crate::store::{StoreJob, Writer};

struct Even;

impl Validator for Even {
    fn validate(&self, record: &Custom) -> Result<(), Rejection> {
        record.sequence.is_multiple_of(2).then_some(()).ok_or(Rejection(1))
    }
}

fn custom(key: u32, sequence: u64) -> Record<SimPeer> {
    let (namespace, key) = (Key::of(b"even"), Key::of(&key.to_be_bytes()));
    Record::Custom(Custom { namespace, key, sequence, value: "value".into(), expires: 5000 })
}

/// A node of three, all of which keep everything, with these in its store.
fn with(records: Vec<Record<SimPeer>>) -> Bench {
    let peers: Vec<SimPeer> = (0..3).map(SimPeer).collect();
    let quiet = ChordConfig { stabilize: 3600 * SECOND, ..ChordConfig::default() };
    let node = Chord::converged(&peers, quiet).swap_remove(0);
    let config = DhtConfig { replicas: 3, repair: 100 * SECOND, ..DhtConfig::default() };
    let node = Replicated::new(node, config).with_validator(Key::of(b"even"), Even);
    let mut bench = Bench { script: Script::new(node), store: MemoryStore::default(), next: 0 };
    let write = |record: Record<SimPeer>| StoreJob::Write {
        slot: record.slot(),
        record,
        by: Writer::Replica,
        own: false,
        account: 0,
    };
    bench.store.run(records.into_iter().map(write).collect());
    bench.work();
    bench
}

#[test]
fn what_is_not_valid_is_not_given() {
    let mut bench = with(vec![custom(1, 1), custom(2, 2)]);
    for key in [1, 2] {
        let wanted = Wanted::Custom(Key::of(b"even"));
        let key = Key::of(&u32::to_be_bytes(key));
        bench.script.message(PEER, DhtMsg::Load { id: 0, key, wanted });
        bench.work();
    }
    let given = bench.script.sent().into_iter().filter_map(|(_, msg)| match msg {
        DhtMsg::Loaded { records, .. } => Some(records),
        _ => None,
    });
    assert_eq!(given.collect::<Vec<_>>(), [vec![], vec![custom(2, 2)]]);
}

#[test]
fn what_is_not_valid_is_not_copied() {
    let mut bench = with(vec![custom(1, 1), custom(2, 2), custom(3, 3), custom(4, 4)]);
    let (mut offered, mut copied) = (Vec::new(), Vec::new());
    for _ in 0..400 {
        bench.script.advance(SECOND);
        bench.work();
        for (to, msg) in bench.script.sent() {
            match msg {
                // The other has nothing of it.
                DhtMsg::Sum { id, .. } => {
                    let parts = vec![Part { upto: u64::MAX, sum: [1; 16] }];
                    bench.script.message(to, DhtMsg::Summed { id, parts });
                }
                DhtMsg::Offer { id, copies } => {
                    let verdicts = vec![Verdict::Wants; copies.len()];
                    offered.extend(copies.iter().map(|copy| copy.slot));
                    bench.script.message(to, DhtMsg::Compared { id, verdicts });
                }
                DhtMsg::Store { id, record, .. } => {
                    copied.push(record);
                    bench.script.message(to, DhtMsg::Stored { id, result: Ok(()) });
                }
                _ => {}
            }
        }
    }
    assert!((1..=4).all(|i| offered.contains(&custom(i, 0).slot())), "{offered:?}");
    assert!(copied.contains(&custom(2, 2)) && copied.contains(&custom(4, 4)), "{copied:?}");
    assert!(!copied.contains(&custom(1, 1)) && !copied.contains(&custom(3, 3)), "{copied:?}");
}
