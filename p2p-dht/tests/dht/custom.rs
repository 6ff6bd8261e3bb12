//! Records of an application's own: what a validator lets through is stored and read, and nothing else, whoever holds it.

use crate::world::{Quick, SECOND, config};
use bytes::Bytes;
use p2p_core::sim::{DiskModel, Network, Sim};
use p2p_core::{Key, SimPeer};
use p2p_dht::{
    Custom, GetCustom, GetError, InvalidRecord, MemoryStore, PutCustom, PutError, Refusal, Rejection,
    Replicated, Validator, Withdraw,
};

type World<O> = Sim<Replicated<O>, MemoryStore<SimPeer>>;

/// The sequence number is how long the value is.
struct Measured;
const WRONG: Rejection = Rejection(7);

impl Validator for Measured {
    fn validate(&self, record: &Custom) -> Result<(), Rejection> {
        (record.value.len() as u64 == record.sequence).then_some(()).ok_or(WRONG)
    }
}

/// Whatever it is.
struct Anything;

impl Validator for Anything {
    fn validate(&self, _: &Custom) -> Result<(), Rejection> {
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Strict,
    Lenient,
    Ignorant,
}

const NODES: u32 = 12;

fn namespace() -> Key {
    Key::of(b"measured")
}

fn small<O: Quick>(kind: fn(u32) -> Kind) -> World<O> {
    let workers = |_| MemoryStore::default();
    let mut sim = World::<O>::with_workers(1, Network::default(), DiskModel::default(), workers);
    for i in 0..NODES {
        sim.spawn(|birth| {
            let seeds: Vec<SimPeer> = birth.alive.first().copied().into_iter().collect();
            let node = Replicated::new(O::quick(birth.peer, seeds), config());
            match kind(i) {
                Kind::Strict => node.with_validator(namespace(), Measured),
                Kind::Lenient => node.with_validator(namespace(), Anything),
                Kind::Ignorant => node,
            }
        });
        sim.run_for(SECOND);
    }
    sim.run_for(60 * SECOND);
    sim
}

fn put(value: &'static str, expected: Option<u64>) -> PutCustom {
    let sequence = value.len() as u64;
    PutCustom { namespace: namespace(), key: Key::of(b"here"), sequence, value: value.into(), expected }
}

fn claimed(sequence: u64) -> PutCustom {
    PutCustom { sequence, ..put("short", None) }
}

const GET: fn() -> GetCustom = || GetCustom { namespace: namespace(), key: Key::of(b"here") };

fn what_is_valid_is_stored_and_the_newest_is_read<O: Quick>() {
    let mut sim = small::<O>(|_| Kind::Strict);
    let (here, there) = (sim.handle(SimPeer(2)), sim.handle(SimPeer(9)));
    sim.block_on(async move {
        assert!(here.ask(put("one", None)).await.unwrap().unwrap().copies >= 3);
        assert_eq!(there.ask(GET()).await.unwrap().unwrap().value, "one");
        there.ask(put("three", Some(3))).await.unwrap().unwrap();
        let conflict = Err(PutError::Conflict { sequence: 5 });
        assert_eq!(here.ask(put("twelve", Some(3))).await.unwrap(), conflict, "it has not seen 5");
        assert_eq!(here.ask(put("four", None)).await.unwrap(), conflict, "older than what is there");
        assert_eq!(here.ask(put("other", None)).await.unwrap(), conflict, "another with the same number");
        assert_eq!(here.ask(GET()).await.unwrap().unwrap().value, "three");
        // Of another namespace the same key has nothing; and neither has another key.
        let other = GetCustom { key: Key::of(b"elsewhere"), ..GET() };
        assert!(matches!(here.ask(other).await.unwrap(), Err(GetError::NotFound { .. })));
        here.ask(Withdraw::custom(namespace(), Key::of(b"here"))).await.unwrap().unwrap();
    });
}

/// Its own node says so to whoever puts; where that lets it through, the replicas do.
fn what_is_not_valid_is_refused_with_a_reason<O: Quick>() {
    let mut sim = small::<O>(|i| if i == 2 { Kind::Lenient } else { Kind::Strict });
    let (lenient, strict) = (sim.handle(SimPeer(2)), sim.handle(SimPeer(9)));
    let (refused, own, unknown) = sim.block_on(async move {
        let unknown = PutCustom { namespace: Key::of(b"unknown"), ..put("one", None) };
        (
            lenient.ask(claimed(1000)).await.unwrap().unwrap_err(),
            strict.ask(claimed(1000)).await.unwrap().unwrap_err(),
            strict.ask(unknown).await.unwrap().unwrap_err(),
        )
    });
    let PutError::Quorum { copies, refusals, .. } = refused else { panic!("{refused:?}") };
    assert!(copies <= 1 && refusals.contains(&Refusal::Rejected(WRONG)), "{copies}, {refusals:?}");
    assert_eq!(own, PutError::Invalid(InvalidRecord::Rejected(WRONG)));
    assert_eq!(unknown, PutError::Invalid(InvalidRecord::Namespace));
}

/// A node that knows nothing of a namespace keeps nothing of it, and says why.
fn who_has_no_validator_keeps_nothing<O: Quick>() {
    let mut sim = small::<O>(|i| if i == 2 { Kind::Strict } else { Kind::Ignorant });
    let node = sim.handle(SimPeer(2));
    let refused = sim.block_on(async move { node.ask(put("one", None)).await.unwrap().unwrap_err() });
    let PutError::Quorum { copies, refusals, .. } = refused else { panic!("{refused:?}") };
    assert!(copies <= 1 && refusals.contains(&Refusal::Namespace), "{copies}, {refusals:?}");
    let kept = sim.view().iter().filter(|(_, node)| node.held().len() > 0).count();
    assert!(kept <= 1, "{kept} nodes keep it");
}

/// Two nodes of twelve take anything, and one of them puts a record of the highest number there is: of those who know better nobody
/// takes it for one, neither to read it nor to copy it.
fn what_others_hold_is_not_believed<O: Quick>() {
    let mut sim = small::<O>(|i| if i.is_multiple_of(6) { Kind::Lenient } else { Kind::Strict });
    let (lenient, strict) = (sim.handle(SimPeer(6)), sim.handle(SimPeer(4)));
    sim.block_on(async move {
        strict.ask(put("one", None)).await.unwrap().unwrap();
        let forged = lenient.ask(claimed(u64::MAX)).await.unwrap();
        assert!(forged.is_err(), "{forged:?}");
    });
    // Repairs have come about twice.
    sim.run_for(180 * SECOND);
    for (peer, node) in sim.view().iter() {
        let newest = node.held().map(|(_, version)| version.sequence).max();
        assert!(peer.0.is_multiple_of(6) || newest.is_none_or(|newest| newest == 3), "{peer} has {newest:?}");
    }
    for peer in [1, 2, 4, 5, 7, 8, 11].map(SimPeer) {
        let node = sim.handle(peer);
        let got = sim.block_on(async move { node.ask(GET()).await.unwrap() });
        let value = match got {
            Ok(custom) => custom.value,
            Err(GetError::Partial { newest: Some(newest), .. }) => newest.value().clone(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(value, Bytes::from("one"), "{peer}");
    }
}

over_each_overlay!(
    what_is_valid_is_stored_and_the_newest_is_read,
    what_is_not_valid_is_refused_with_a_reason,
    who_has_no_validator_keeps_nothing,
    what_others_hold_is_not_believed,
);
