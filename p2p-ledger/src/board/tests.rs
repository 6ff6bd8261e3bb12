use super::*;
use crate::store::{MemoryStore, View};

const BOARD: Board = Board { chain: 3 };

fn keypair(seed: u8) -> Keypair {
    Keypair::from_seed(&[seed; 32])
}

fn apply(view: &mut View<'_>, notice: &Notice) -> Result<bool, BoardError> {
    let mut checks = Checks::default();
    BOARD.apply(view, &Place { height: 9, median_time: 0 }, notice, &mut checks)?;
    Ok(checks.verify_each())
}

#[test]
fn writers_append_and_others_do_not() {
    let store = MemoryStore::default();
    let mut view = View::new(&store);
    let (refinery, carrier, stranger) = (keypair(1), keypair(2), keypair(3));
    let topic = Board::topic(&refinery.id().into(), b"cargo 17");
    let post = |by: &Keypair, number, text: &[u8]| {
        BOARD.notice(by, topic, number, Act::Post { content: Key::of(text) })
    };
    assert_eq!(apply(&mut view, &post(&refinery, 0, b"early")), Err(BoardError::Missing));
    assert_eq!(apply(&mut view, &BOARD.open(&refinery, b"cargo 17")), Ok(true));
    assert_eq!(apply(&mut view, &post(&carrier, 0, b"loaded")), Err(BoardError::NotWriter));
    let admit = BOARD.notice(&refinery, topic, 1, Act::Admit(carrier.id().into()));
    assert_eq!(apply(&mut view, &admit), Ok(true));
    assert_eq!(apply(&mut view, &post(&carrier, 0, b"loaded")), Ok(true));
    assert_eq!(apply(&mut view, &post(&refinery, 2, b"arrived")), Ok(true));
    let repeated = BoardError::Number { expected: 1, found: 0 };
    assert_eq!(apply(&mut view, &post(&carrier, 0, b"loaded")), Err(repeated));
    let usurp = BOARD.notice(&carrier, topic, 1, Act::Remove(refinery.id().into()));
    assert_eq!(apply(&mut view, &usurp), Err(BoardError::NotOwner));
    let remove = BOARD.notice(&refinery, topic, 3, Act::Remove(carrier.id().into()));
    assert_eq!(apply(&mut view, &remove), Ok(true));
    assert_eq!(apply(&mut view, &post(&carrier, 1, b"gone")), Err(BoardError::NotWriter));
    assert_eq!(apply(&mut view, &post(&stranger, 0, b"hello")), Err(BoardError::NotWriter));
    let read = |number| BOARD.post(&view, &topic, number).map(|post| (post.content, post.by, post.height));
    assert_eq!(read(0), Some((Key::of(b"loaded"), carrier.id().into(), 9)));
    assert_eq!(read(1), Some((Key::of(b"arrived"), refinery.id().into(), 9)));
    assert_eq!((read(2), BOARD.read(&view, &topic).unwrap().posts), (None, 2));
}

#[test]
fn a_forged_notice_fails_its_check_and_a_topic_is_opened_by_its_owner_once() {
    let store = MemoryStore::default();
    let mut view = View::new(&store);
    let (owner, thief) = (keypair(1), keypair(2));
    let mut forged = BOARD.open(&thief, b"news");
    forged.by = owner.id().into();
    forged.topic = Board::topic(&forged.by, b"news");
    let mut aside = View::new(&store);
    assert_eq!(apply(&mut aside, &forged), Ok(false), "signed by somebody else");
    let opened = BOARD.open(&owner, b"news");
    let stolen = BOARD.notice(&thief, opened.topic, 0, opened.act);
    assert_eq!(apply(&mut view, &stolen), Err(BoardError::Name));
    assert_eq!(apply(&mut view, &opened), Ok(true));
    let again = BOARD.notice(&owner, opened.topic, 1, opened.act);
    assert_eq!(apply(&mut view, &again), Err(BoardError::Exists));
    let elsewhere = Board { chain: 4 }.open(&owner, b"more");
    assert_eq!(apply(&mut view, &elsewhere), Err(BoardError::Chain { expected: 3, found: 4 }));
}

#[test]
fn notices_come_back() {
    let (by, topic) = (keypair(1), Key::of(b"topic"));
    let other = keypair(2).id().into();
    for act in
        [Act::Open { name: topic }, Act::Admit(other), Act::Remove(other), Act::Post { content: topic }]
    {
        let notice = BOARD.notice(&by, topic, 5, act);
        assert_eq!(Notice::from_bytes(&notice.to_bytes()).unwrap(), notice);
        assert!(Notice::from_bytes(&notice.to_bytes()[1..]).is_err());
    }
}
