//! Sources that are no trackers.

use super::*;

const DHT: SourceKind = SourceKind::Open("dht");

impl Tracked {
    /// Somebody announces in the open, too.
    fn open(&mut self) -> OpId {
        let op = self.script.command(SessionCommand::Announcing(Announcing(DHT)));
        self.dht = Some(op);
        op
    }

    fn hears(&mut self, peers: &[SimPeer]) {
        let swarm = self.metainfo.info().hashes().swarms().next().unwrap();
        let peers = peers.iter().map(Addressed::addr).collect();
        self.script.command(SessionCommand::Heard(Heard { source: DHT, swarm, peers }));
    }
}

#[test]
fn an_open_source_is_announced_to_beside_the_trackers() {
    let mut tracked = Tracked::new(&["udp://a:1"], 1, Format::V1, false);
    let first = tracked.one();
    tracked.answer(&first, &[]);
    tracked.open();
    let started = tracked.one();
    assert_eq!((started.source, started.url.as_str()), (DHT, "dht"));
    assert_eq!((started.announce.event, started.announce.port), (Event::Started, 7000));
    tracked.dialled();
    tracked.hears(&[SimPeer(1)]);
    assert_eq!(tracked.dialled(), [SimPeer(1)], "before the answer is whole");
    tracked.answer(&started, &[SimPeer(1), SimPeer(2)]);
    assert_eq!(tracked.dialled(), [SimPeer(2)]);
    let status = tracked.script.machine().status(TorrentId::first()).unwrap().trackers;
    let named: Vec<(&str, usize)> = status.iter().map(|status| (status.url.as_str(), status.peers)).collect();
    assert_eq!(named, [("udp://a:1", 0), ("dht", 2)]);

    // What fails rests for a minute or so, and then longer, but never as long as somebody's tracker.
    tracked.script.advance(Duration::from_secs(1800));
    let mut wanted = tracked.wanted();
    wanted.sort_by_key(|wanted| wanted.source);
    let [tracker, regular] = &wanted[..] else { panic!("{wanted:?}") };
    assert_eq!((regular.source, regular.announce.event), (DHT, Event::Regular));
    tracked.answer(tracker, &[]);
    let mut failing = regular.clone();
    for _ in 0..8 {
        tracked.fail(&failing);
        tracked.script.advance(Duration::from_secs(375));
        let mut again = tracked.wanted();
        again.retain(|wanted| wanted.source == DHT);
        failing = again.pop().unwrap();
    }
    // Whoever stops need not wait for what is still being looked for: it is told of the end at once.
    let stop = tracked.script.command(SessionCommand::Stop);
    let gone = tracked.wanted();
    assert!(gone.len() == 2 && gone.iter().all(|wanted| wanted.announce.event == Event::Stopped), "{gone:?}");
    tracked.script.outcomes();
    gone.iter().for_each(|gone| tracked.answer(gone, &[]));
    let over = tracked.script.outcomes();
    assert!(over.contains(&(stop, SessionOutcome::Stopped)), "{over:?}");
    tracked.dialled();
    tracked.answer(&failing, &[SimPeer(3)]);
    assert_eq!(tracked.dialled(), []);
}

/// BEP 27.
#[test]
fn of_a_private_torrent_nothing_is_said_in_the_open_and_nothing_believed() {
    let mut tracked = Tracked::new(&["udp://a:1"], 1, Format::V1, true);
    let started = tracked.one();
    assert_eq!(started.source, SourceKind::Trackers);
    tracked.open();
    assert_eq!(tracked.wanted(), []);
    tracked.hears(&[SimPeer(1)]);
    assert_eq!(tracked.dialled(), []);
    tracked.script.advance(Duration::from_secs(60));
    assert_eq!(tracked.wanted(), []);
}

#[test]
fn who_seeks_a_link_is_told_of_in_the_open_when_it_is_known_not_to_be_private() {
    for private in [false, true] {
        let mut tracked = Tracked::new(&["udp://a:1"], 0, Format::V1, private);
        tracked.leave();
        tracked.open();
        tracked.by_link();
        let mut wanted = tracked.wanted();
        wanted.sort_by_key(|wanted| wanted.source);
        let ports: Vec<_> = wanted.iter().map(|wanted| (wanted.source, wanted.announce.port)).collect();
        assert_eq!(ports, [(SourceKind::Trackers, 7000), (DHT, 0)], "it only looks");
        tracked.answer(&wanted[0], &[]);
        tracked.dialled();
        tracked.hears(&[SimPeer(1)]);
        assert_eq!(tracked.dialled(), [SimPeer(1)]);
        tracked.sends_metadata(SimPeer(1));
        let told = tracked.wanted();
        let says = |wanted: &ToAnnounce| (wanted.announce.event, wanted.announce.port);
        match private {
            false => assert_eq!(told.iter().map(says).collect::<Vec<_>>(), [(Event::Started, 7000)]),
            true => assert_eq!(told, []),
        }
        // What it was asked before is answered now: that says nothing of what it is told since.
        tracked.dialled();
        tracked.answer(&wanted[1], &[SimPeer(2)]);
        assert_eq!(tracked.dialled(), []);
        told.iter().for_each(|told| tracked.fail(told));
        tracked.script.advance(Duration::from_secs(60));
        let again = tracked.wanted();
        assert_eq!(again.iter().map(says).collect::<Vec<_>>(), told.iter().map(says).collect::<Vec<_>>());
    }
}

#[test]
fn another_source_of_a_kind_hears_of_the_start_as_the_first_did() {
    let mut tracked = Tracked::new(&["udp://a:1"], 1, Format::V1, false);
    let first = tracked.one();
    tracked.answer(&first, &[]);
    for gone in [false, false, true] {
        if gone {
            tracked.script.cancel(tracked.dht.unwrap());
        }
        tracked.open();
        let started = tracked.one();
        assert_eq!((started.source, started.announce.event), (DHT, Event::Started));
        tracked.answer(&started, &[]);
    }
}

#[test]
fn an_open_source_that_has_failed_hears_of_the_end_all_the_same() {
    let mut tracked = Tracked::new(&[], 1, Format::V1, false);
    tracked.open();
    let started = tracked.one();
    tracked.fail(&started);
    tracked.script.command(SessionCommand::Remove(Remove { torrent: TorrentId::first() }));
    assert_eq!(tracked.one().announce.event, Event::Stopped);
}

#[test]
fn no_more_than_eight_kinds_of_sources_are_asked() {
    let mut tracked = Tracked::new(&[], 1, Format::V1, false);
    tracked.script.outcomes();
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        tracked.script.command(SessionCommand::Announcing(Announcing(SourceKind::Open(name))));
    }
    assert_eq!(tracked.script.outcomes(), []);
    let ninth = tracked.open();
    assert_eq!(tracked.script.outcomes(), [(ninth, SessionOutcome::Stopped)]);
}
