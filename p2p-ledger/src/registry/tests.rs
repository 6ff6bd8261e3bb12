use super::*;
use crate::store::{MemoryStore, View};

const REGISTRY: Registry = Registry { chain: 3, delay: 12 };

fn keypair(seed: u8) -> Keypair {
    Keypair::from_seed(&[seed; 32])
}

fn apply(view: &mut View<'_>, height: u64, done: &NameMove) -> Result<bool, NameError> {
    let mut checks = Checks::default();
    REGISTRY.apply(view, &Place { height, median_time: 0 }, done, &mut checks)?;
    Ok(checks.verify_each())
}

fn commit(by: &Keypair, name: &[u8]) -> NameMove {
    REGISTRY.sign(by, Move::Commit(Registry::commitment(&by.id().into(), name, &[5; 32])))
}

fn claim(by: &Keypair, name: &[u8]) -> NameMove {
    REGISTRY.sign(by, Move::Claim { name: name.to_vec(), secret: [5; 32] })
}

#[test]
fn a_name_has_one_owner_who_gives_it_away_for_good() {
    let store = MemoryStore::default();
    let mut view = View::new(&store);
    let (ada, bob) = (keypair(1), keypair(2));
    assert_eq!(apply(&mut view, 1, &commit(&ada, b"ada")), Ok(true));
    assert_eq!(apply(&mut view, 12, &claim(&ada, b"ada")), Err(NameError::TooSoon { from: 13 }));
    assert_eq!(apply(&mut view, 13, &claim(&ada, b"ada")), Ok(true));
    let set = |by, number, value: &[u8]| {
        REGISTRY.sign(by, Move::Set { name: b"ada".to_vec(), number, value: Key::of(value) })
    };
    assert_eq!(apply(&mut view, 14, &set(&bob, 0, b"bob's")), Err(NameError::NotOwner));
    assert_eq!(apply(&mut view, 14, &set(&ada, 0, b"here")), Ok(true));
    let repeated = NameError::Number { expected: 1, found: 0 };
    assert_eq!(apply(&mut view, 15, &set(&ada, 0, b"here")), Err(repeated));
    let to = bob.id().into();
    let transfer = REGISTRY.sign(&ada, Move::Transfer { name: b"ada".to_vec(), number: 1, to });
    assert_eq!(apply(&mut view, 16, &transfer), Ok(true));
    assert_eq!(apply(&mut view, 17, &set(&ada, 2, b"still here")), Err(NameError::NotOwner));
    assert_eq!(apply(&mut view, 17, &set(&bob, 2, b"there")), Ok(true));
    let name = REGISTRY.name(&view, b"ada").unwrap();
    assert_eq!(name, Name { owner: to, moves: 3, value: Key::of(b"there") });
}

#[test]
fn who_sees_a_name_claimed_cannot_claim_it_first() {
    let store = MemoryStore::default();
    let mut view = View::new(&store);
    let (ada, thief) = (keypair(1), keypair(2));
    apply(&mut view, 1, &commit(&ada, b"gold")).unwrap();
    // The thief sees the commitment and makes the same; and later sees the name.
    let Move::Commit(seen) = commit(&ada, b"gold").step else { panic!("a commitment") };
    assert_eq!(apply(&mut view, 2, &REGISTRY.sign(&thief, Move::Commit(seen))), Ok(true));
    assert_eq!(apply(&mut view, 20, &claim(&thief, b"gold")), Err(NameError::NotCommitted));
    assert_eq!(apply(&mut view, 20, &commit(&thief, b"gold")), Ok(true));
    assert_eq!(apply(&mut view, 21, &claim(&thief, b"gold")), Err(NameError::TooSoon { from: 32 }));
    assert_eq!(apply(&mut view, 21, &claim(&ada, b"gold")), Ok(true));
    assert_eq!(apply(&mut view, 32, &claim(&thief, b"gold")), Err(NameError::Taken));
    let mut forged = claim(&ada, b"gold");
    forged.signature[0] ^= 1;
    apply(&mut view, 33, &commit(&ada, b"silver")).unwrap();
    let mut forged_other = claim(&ada, b"silver");
    forged_other.signature = forged.signature;
    assert_eq!(apply(&mut view, 45, &forged_other), Ok(false));
}

#[test]
fn no_two_names_share_what_a_move_uses_up() {
    let ada = keypair(1);
    let set = |name: &[u8], number| {
        let step = Move::Set { name: name.to_vec(), number, value: Key::ZERO };
        REGISTRY.footprint(&REGISTRY.sign(&ada, step)).uses
    };
    // One name, a zero byte and the number of a move: the name of another.
    let longer = [b"ada".as_slice(), &[0], &5u64.to_le_bytes()].concat();
    let claimed = REGISTRY.footprint(&claim(&ada, &longer)).uses;
    assert!(set(b"ada", 5).iter().all(|slot| !claimed.contains(slot)));
    assert!(set(b"ada", 5) != set(&longer, 5) && set(b"ada", 5) == set(b"ada", 5));
}

#[test]
fn names_of_no_length_or_too_much_are_refused_and_moves_come_back() {
    let store = MemoryStore::default();
    let mut view = View::new(&store);
    let ada = keypair(1);
    for name in [vec![], vec![b'a'; MAX_NAME + 1]] {
        apply(&mut view, 1, &commit(&ada, &name)).unwrap();
        assert_eq!(apply(&mut view, 20, &claim(&ada, &name)), Err(NameError::Length(name.len())));
    }
    let name = b"name".to_vec();
    let moves = [
        Move::Commit(Key::of(b"x")),
        Move::Claim { name: name.clone(), secret: [1; 32] },
        Move::Set { name: name.clone(), number: 3, value: Key::of(b"y") },
        Move::Transfer { name, number: 4, to: keypair(2).id().into() },
    ];
    for step in moves {
        let done = REGISTRY.sign(&ada, step);
        assert_eq!(NameMove::from_bytes(&done.to_bytes()).unwrap(), done);
        assert!(NameMove::from_bytes(&[&done.to_bytes()[..], &[0]].concat()).is_err());
    }
}
