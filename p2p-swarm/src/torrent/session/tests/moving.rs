//! A torrent's files go to another folder while it goes on.

use super::*;
use crate::job::StoreError;
use crate::torrent::{Move, Pause};

const ID: TorrentId = TorrentId(1);
const BLOCK: u32 = 16384;

fn to(folder: &str) -> SessionCommand {
    SessionCommand::Move(Move { torrent: ID, folder: folder.into() })
}

const DONE: SessionOutcome = SessionOutcome::Done(Ok(()));

impl Alone {
    /// A peer sends whatever it is asked for, until all is there.
    fn gives_the_rest(&mut self, peer: SimPeer) {
        while let Some((block, _)) = self.conn(peer).asked.front().copied() {
            self.say(peer, answer(BLOCK, block));
        }
        assert_eq!(self.stage(), TorrentStage::Seeding);
    }
}

#[test]
fn a_download_goes_on_where_its_files_are_moved_to() {
    let mut alone = Alone::new(Format::V1, 3, false);
    let asked = alone.gives_all(A);
    alone.say(A, answer(BLOCK, asked[0]));
    alone.script.outcomes();
    let op = alone.script.command(to("x"));
    assert_eq!(alone.asks(to("y")), SessionOutcome::Done(Err(TorrentError::Moving)));
    // What comes meanwhile waits for its turn.
    alone.script.message(A, answer(BLOCK, asked[1]));
    assert_eq!(alone.script.outcomes(), []);
    alone.work();
    assert_eq!(alone.script.outcomes(), [(op, DONE)]);
    assert_eq!(alone.script.machine().status(ID).unwrap().folder, std::path::Path::new("x"));
    alone.gives_the_rest(A);
    assert_eq!(alone.disk.read("x/t"), Some(content()));
    assert_eq!(alone.disk.read("t"), None);
    let op = alone.script.command(to("./x"));
    alone.work();
    assert_eq!(alone.script.outcomes(), [(op, DONE)], "there it is");
    assert_eq!(alone.disk.read("x/t"), Some(content()));
    // Something else lies where it should go: it stays.
    alone.disk.put("y/t", *b"mine");
    let op = alone.script.command(to("y"));
    alone.work();
    let exists = StoreError::Exists("y/t".into());
    assert_eq!(alone.script.outcomes(), [(op, SessionOutcome::Done(Err(exists.into())))]);
    assert_eq!((alone.stage(), alone.disk.read("x/t")), (TorrentStage::Seeding, Some(content())));
}

#[test]
fn what_is_being_looked_at_goes_when_it_is_known_and_a_link_has_nothing_to_move() {
    let mut alone = Alone::with_pieces(BLOCK, Format::V1, 3, false);
    alone.script.outcomes();
    let op = alone.script.command(to("x"));
    assert_eq!(alone.script.outcomes(), []);
    alone.work();
    assert_eq!(alone.script.outcomes(), [(op, DONE)]);
    assert_eq!(
        (alone.disk.read("t"), alone.disk.read("x/t").map(|t| t.len())),
        (None, Some(3 * BLOCK as usize))
    );
    let mut alone = Alone::new(Format::V1, 0, true);
    assert_eq!(alone.asks(to("x")), DONE);
    alone.greet(A);
    alone.tell_metadata(A);
    [PeerMsg::HaveAll, PeerMsg::Unchoke].into_iter().for_each(|msg| _ = alone.say(A, msg));
    alone.gives_the_rest(A);
    assert_eq!(alone.disk.read("x/t"), Some(content()));
}

#[test]
fn what_failed_is_looked_at_and_then_goes() {
    for held in [false, true] {
        let mut alone = Alone::with_pieces(BLOCK, Format::V1, 3, false);
        let full = || StoreError::Io { path: "t".into(), what: "full".into() };
        alone.work_but(|work| matches!(work, Work::Open { .. }).then(full));
        assert_eq!(alone.stage(), TorrentStage::Paused);
        if held {
            alone.script.command(SessionCommand::Pause(Pause { torrent: ID }));
        }
        alone.script.outcomes();
        let op = alone.script.command(to("x"));
        alone.script.advance(Duration::from_secs(6));
        alone.work();
        assert_eq!(alone.script.outcomes(), [(op, DONE)]);
        let status = alone.script.machine().status(ID).unwrap();
        let stage = if held { TorrentStage::Paused } else { TorrentStage::Downloading };
        assert_eq!((status.stage, status.trouble), (stage, None));
    }
}

#[test]
fn who_waits_for_a_move_hears_of_the_end() {
    let mut alone = Alone::new(Format::V1, 3, false);
    alone.script.outcomes();
    let op = alone.script.command(to("x"));
    let gone = alone.script.command(SessionCommand::Remove(Remove { torrent: ID }));
    let unknown = || SessionOutcome::Done(Err(TorrentError::Unknown));
    assert_eq!(alone.script.outcomes(), [(op, unknown())]);
    alone.work();
    assert_eq!(alone.script.outcomes(), [(gone, SessionOutcome::Known(true))], "when it is over");
    assert_eq!(alone.asks(to("x")), unknown());
    assert_eq!((alone.disk.read("t"), alone.script.outcomes()), (None, vec![]), "it was on its way");
}
