//! Limits of what comes and goes: never passed, nearly all used, and shared; also when they change.

use super::*;
use p2p_swarm::torrent::{SetRates, TorrentConfig, TorrentStatus};

/// Bytes per second that a limit lets through; lines carry a hundred times as much.
const LIMIT: u64 = 100_000;
const LINE: u64 = 100 * LIMIT;
/// How often is looked, and for how long, once all know each other.
const LOOK: Duration = Duration::from_millis(50);
const SPAN: Duration = Duration::from_secs(40);

fn limited(up: Option<u64>, down: Option<u64>) -> SessionConfig {
    // Who has no slots sends nothing, so that all comes from whoever has it.
    SessionConfig { rates: RateLimits { up, down }, slots: 0, ..SessionConfig::default() }
}

fn status(swarm: &Swarm, peer: SimPeer, torrent: TorrentId) -> TorrentStatus {
    swarm.session(peer).unwrap().status(torrent).unwrap()
}

/// How many bytes had gone at each look.
fn watch<T>(swarm: &mut Swarm, gone: impl Fn(&Swarm) -> T) -> Vec<T> {
    let looks = SPAN.as_millis() / LOOK.as_millis();
    let look = |_| {
        swarm.sim.run_for(LOOK);
        gone(swarm)
    };
    (0..looks).map(look).collect()
}

/// In no time more goes than the limit, the burst that [`RateLimits`] states (a quarter of a second, and a block) and `more`
/// bytes let through, and in all nine tenths of the limit at the least.
fn keeps(gone: &[u64], limit: u64, more: u64) {
    let burst = limit / 4 + (16 << 10) + more;
    for (from, before) in gone.iter().enumerate() {
        for (looks, after) in gone[from..].iter().enumerate() {
            let most = (limit as f64 * LOOK.as_secs_f64() * looks as f64) as u64 + burst;
            assert!(
                after - before <= most,
                "{} bytes in {looks} looks of {LOOK:?} from {from} on",
                after - before
            );
        }
    }
    let all = gone[gone.len() - 1] - gone[0];
    let least = limit as f64 * LOOK.as_secs_f64() * (gone.len() - 1) as f64 * 0.9;
    assert!(all as f64 >= least, "{all} bytes, of {least} at the least");
}

/// All have had nearly the same: nobody has less than four fifths of what they would have in equal shares.
fn is_shared(parts: &[u64]) {
    let fair = parts.iter().sum::<u64>() / parts.len() as u64;
    assert!(parts.iter().all(|part| *part * 5 >= fair * 4), "{parts:?}");
}

#[test]
fn what_goes_keeps_its_limit_and_all_have_their_share() {
    let make = |peer| match peer {
        SEED => {
            Liar::honest(Session::new(SessionConfig { slots: 4, ..limited(Some(LIMIT), None) }, Some(6881)))
        }
        _ => Liar::honest(Session::new(limited(None, None), Some(6881))),
    };
    let mut swarm = Swarm::with(1, 5, LINE, 200 * PIECE as usize, Format::V1, make);
    swarm.begin(1, 0);
    swarm.sim.run_for(Duration::from_secs(5));
    let gone = watch(&mut swarm, |swarm| status(swarm, SEED, TorrentId::first()).uploaded);
    keeps(&gone, LIMIT, 0);
    let parts = status(&swarm, SEED, TorrentId::first()).peers;
    is_shared(&parts.iter().map(|peer| peer.uploaded).collect::<Vec<_>>());
}

#[test]
fn what_comes_keeps_its_limit_and_all_have_their_share() {
    let leecher = SimPeer(4);
    let make = move |peer| {
        let down = (peer == leecher).then_some(LIMIT);
        Liar::honest(Session::new(SessionConfig { slots: 4, ..limited(None, down) }, Some(6881)))
    };
    let mut swarm = Swarm::with(2, 5, LINE, 200 * PIECE as usize, Format::V2, make);
    (1..4).for_each(|seed| swarm.disks[seed].put("t", swarm.content.clone()));
    swarm.begin(1, 20);
    swarm.sim.run_for(Duration::from_secs(5));
    let gone = watch(&mut swarm, |swarm| status(swarm, leecher, TorrentId::first()).downloaded);
    // The way back and forth takes 80 ms more at one time than at another.
    keeps(&gone, LIMIT, LIMIT * 8 / 100);
    let parts = status(&swarm, leecher, TorrentId::first()).peers;
    assert_eq!(parts.len(), 4);
    is_shared(&parts.iter().map(|peer| peer.downloaded).collect::<Vec<_>>());
}

#[test]
fn a_torrent_has_its_own_limit_and_leaves_the_rest_to_others() {
    let make = |peer| match peer {
        SEED => {
            Liar::honest(Session::new(SessionConfig { slots: 4, ..limited(Some(LIMIT), None) }, Some(6881)))
        }
        _ => Liar::honest(Session::new(limited(None, None), Some(6881))),
    };
    let mut swarm = Swarm::with(3, 3, LINE, 200 * PIECE as usize, Format::V1, make);
    swarm.disks[0].put("u", content(199 * PIECE as usize));
    let options = CreateOptions { piece_length: Some(PIECE), ..CreateOptions::default() };
    let other = Metainfo::create(&mut swarm.disks[0].clone(), "u".as_ref(), &options).unwrap();
    let rates = RateLimits { up: Some(LIMIT / 4), down: None };
    let slow = Add {
        config: TorrentConfig { rates, ..TorrentConfig::default() },
        ..Add::new(Source::Metainfo(swarm.metainfo.clone()), "")
    };
    swarm.sim.command(SEED, SessionCommand::Add(slow));
    let slow = swarm.id(SEED);
    swarm.add(SEED, Source::Metainfo(other.clone()), []);
    let fast = swarm.id(SEED);
    // In the simulator two have one connection, and that is one torrent's.
    swarm.add(SimPeer(1), Source::Metainfo(swarm.metainfo.clone()), [SEED]);
    swarm.add(SimPeer(2), Source::Metainfo(other.clone()), [SEED]);
    swarm.sim.run_for(Duration::from_secs(5));
    let gone = watch(&mut swarm, |swarm| [slow, fast].map(|torrent| status(swarm, SEED, torrent).uploaded));
    keeps(&gone.iter().map(|[slow, _]| *slow).collect::<Vec<_>>(), LIMIT / 4, 0);
    keeps(&gone.iter().map(|[slow, fast]| slow + fast).collect::<Vec<_>>(), LIMIT, 0);
}

/// Other limits hold, of a torrent or of all.
fn set(swarm: &mut Swarm, peer: SimPeer, torrent: Option<TorrentId>, rates: RateLimits) {
    swarm.sim.take_outcomes();
    swarm.sim.command(peer, SessionCommand::SetRates(SetRates { torrent, rates }));
    assert!(swarm.sim.run_to_outcome(Time::MAX));
    let ended = swarm.sim.take_outcomes().pop().unwrap();
    assert_eq!((ended.peer, ended.outcome), (peer, SessionOutcome::Known(true)));
}

#[test]
fn what_goes_keeps_each_limit_from_the_moment_it_is_set() {
    let make = |peer| {
        let up = (peer == SEED).then_some(10 * LIMIT);
        let slots = if peer == SEED { 4 } else { 0 };
        Liar::honest(Session::new(SessionConfig { slots, ..limited(up, None) }, Some(6881)))
    };
    let mut swarm = Swarm::with(4, 5, LINE, 300 * PIECE as usize, Format::V1, make);
    swarm.begin(1, 0);
    swarm.sim.run_for(Duration::from_secs(5));
    let torrent = Some(TorrentId::first());
    let of_all = |up| (None, RateLimits { up: Some(up), down: None });
    let of_it = |up| (torrent, RateLimits { up: Some(up), down: None });
    // Of two the lower holds.
    for ((of, rates), holds) in [
        (of_all(LIMIT), LIMIT),
        (of_all(LIMIT / 4), LIMIT / 4),
        (of_it(LIMIT / 8), LIMIT / 8),
        (of_it(LIMIT), LIMIT / 4),
        (of_all(2 * LIMIT), LIMIT),
    ] {
        set(&mut swarm, SEED, of, rates);
        let gone = watch(&mut swarm, |swarm| status(swarm, SEED, TorrentId::first()).uploaded);
        keeps(&gone, holds, 0);
    }
    [None, torrent].into_iter().for_each(|of| set(&mut swarm, SEED, of, RateLimits::default()));
    swarm.finish(4, Duration::from_secs(60));
}

#[test]
fn what_comes_keeps_each_limit_from_the_moment_it_is_set() {
    let leecher = SimPeer(4);
    let make = move |peer| {
        let down = (peer == leecher).then_some(10 * LIMIT);
        Liar::honest(Session::new(SessionConfig { slots: 4, ..limited(None, down) }, Some(6881)))
    };
    let mut swarm = Swarm::with(6, 5, LINE, 400 * PIECE as usize, Format::V2, make);
    (1..4).for_each(|seed| swarm.disks[seed].put("t", swarm.content.clone()));
    swarm.begin(1, 20);
    swarm.sim.run_for(Duration::from_secs(3));
    let torrent = Some(TorrentId::first());
    for (of, limit) in [(None, LIMIT), (torrent, LIMIT / 4), (torrent, LIMIT / 2)] {
        let before = status(&swarm, leecher, TorrentId::first()).downloaded;
        set(&mut swarm, leecher, of, RateLimits { up: None, down: Some(limit) });
        swarm.sim.run_for(Duration::from_secs(6));
        let came = status(&swarm, leecher, TorrentId::first()).downloaded - before;
        // As much as comes in a second was asked for before, and a block of each.
        let most = limit * 6 + limit / 4 + (16 << 10) + limit + 4 * (16 << 10);
        assert!(came <= most, "{came} bytes in 6 s, of {most}");
        let gone = watch(&mut swarm, |swarm| status(swarm, leecher, TorrentId::first()).downloaded);
        keeps(&gone, limit, limit * 8 / 100);
    }
    [None, torrent].into_iter().for_each(|of| set(&mut swarm, leecher, of, RateLimits::default()));
    swarm.finish(1, Duration::from_secs(60));
}
