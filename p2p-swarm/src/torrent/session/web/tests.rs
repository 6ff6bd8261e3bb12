use super::*;
use crate::storage::MemoryFiles;
use crate::torrent::command::{Add, Remove, SessionCommand, Source};
use crate::torrent::http::HttpError;
use crate::torrent::session::tests::work;
use crate::torrent::status::{TorrentStage, TorrentStatus};
use crate::torrent::worker::MemoryTorrents;
use crate::torrent::{
    CreateOptions, Features, Format, Handshake, Metainfo, PeerMsg, PeerName, RateLimits, SessionConfig,
};
use p2p_core::Script;
use p2p_core::foreign::TcpPeer;

const PIECE: usize = 64 << 10;
const FILES: [(&str, usize); 4] = [("a b", 3 * PIECE + 7), ("c", 0), ("d/e", 100), ("f", 5 * PIECE)];

fn content(name: &str, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 3) as u8 ^ name.as_bytes()[0]).collect()
}

struct Fetching {
    script: Script<Session<TcpPeer>>,
    worker: MemoryTorrents,
    files: MemoryFiles,
    served: Vec<(String, usize)>,
    fetcher: OpId,
}

impl Fetching {
    /// A session with a torrent of which nothing is there, and somebody who fetches for it.
    fn new(format: Format, web_seeds: &[&str]) -> Fetching {
        Fetching::of(FILES.map(|(name, length)| (name.into(), length)).into(), format, web_seeds)
    }

    fn of(served: Vec<(String, usize)>, format: Format, web_seeds: &[&str]) -> Fetching {
        Fetching::with(SessionConfig::default(), served, format, web_seeds)
    }

    fn with(
        config: SessionConfig,
        served: Vec<(String, usize)>,
        format: Format,
        web_seeds: &[&str],
    ) -> Fetching {
        let mut seed = MemoryFiles::default();
        served.iter().for_each(|(name, length)| seed.put(format!("t/{name}"), content(name, *length)));
        let web_seeds = web_seeds.iter().map(|url| (*url).into()).collect();
        let piece_length = Some(PIECE as u32);
        let options = CreateOptions { format, piece_length, web_seeds, ..CreateOptions::default() };
        let metainfo = Metainfo::create(&mut seed, "t".as_ref(), &options).unwrap();
        let files = MemoryFiles::default();
        let mut script = Script::new(Session::new(config, None));
        let fetcher = script.command(SessionCommand::Fetching);
        let torrent = Source::Metainfo(metainfo);
        script.command(SessionCommand::Add(Add::new(torrent, "")));
        let worker = MemoryTorrents::new(files.clone());
        let mut fetching = Fetching { script, worker, files, served, fetcher };
        fetching.work();
        fetching
    }

    fn work(&mut self) {
        work(&mut self.script, &mut self.worker);
    }

    /// What is to be fetched.
    fn wanted(&mut self) -> Vec<ToFetch> {
        let items = self.script.items().into_iter();
        let wanted = items.map(|(op, item)| match item {
            SessionItem::Fetch(wanted) if op == self.fetcher => wanted,
            other => panic!("{other:?}"),
        });
        wanted.collect()
    }

    fn answer(&mut self, number: u64, result: Result<Vec<Bytes>, WebError>) {
        self.script.command(SessionCommand::Fetched(Fetched { number, result }));
        self.work();
    }

    fn status(&self) -> TorrentStatus {
        self.script.machine().status(TorrentId::first()).unwrap()
    }

    /// Servers send all that is wanted of them until nothing more is; these requests were needed.
    fn serve(&mut self, spoil: impl Fn(&str) -> bool) -> Vec<WebRange> {
        let mut ranges = Vec::new();
        loop {
            let wanted = self.wanted();
            if wanted.is_empty() {
                return ranges;
            }
            for ToFetch { number, ranges: wanted } in wanted {
                assert!(wanted.len() <= MAX_RANGES);
                let parts = wanted.iter().map(|range| {
                    let (name, length) = self
                        .served
                        .iter()
                        .find(|(name, _)| range.url.ends_with(&name.replace(' ', "%20")))
                        .unwrap();
                    let mut part =
                        content(name, *length)[range.from as usize..][..range.length as usize].to_vec();
                    part[0] ^= u8::from(spoil(&range.url));
                    Bytes::from(part)
                });
                let parts = parts.collect();
                ranges.extend(wanted);
                self.answer(number, Ok(parts));
            }
        }
    }
}

#[test]
fn all_files_come_from_a_server_each_in_few_requests_and_with_no_pad() {
    for format in [Format::V1, Format::V2, Format::Hybrid] {
        let mut fetching = Fetching::new(format, &["http://a/pub"]);
        let ranges = fetching.serve(|_| false);
        let urls: Vec<&str> = ranges.iter().map(|range| range.url.as_str()).collect();
        assert_eq!(urls, ["http://a/pub/t/a%20b", "http://a/pub/t/d/e", "http://a/pub/t/f"], "{format:?}");
        let lengths: Vec<(u64, u64)> = ranges.iter().map(|range| (range.from, range.length)).collect();
        assert_eq!(lengths, [(0, 3 * PIECE as u64 + 7), (0, 100), (0, 5 * PIECE as u64)]);
        let status = fetching.status();
        assert_eq!((status.stage, status.wasted), (TorrentStage::Seeding, 0), "{format:?}");
        assert!(!status.web_seeds[0].dropped && status.web_seeds[0].failed.is_none());
        for (name, length) in FILES {
            assert_eq!(fetching.files.read(format!("t/{name}")), Some(content(name, length)), "{name}");
        }
    }
}

#[test]
fn a_server_that_lies_is_found_out_and_the_other_goes_on() {
    let mut fetching = Fetching::new(Format::Hybrid, &["http://liar/", "http://honest/", "http://liar/"]);
    assert_eq!(fetching.status().web_seeds.len(), 2, "each is asked once");
    fetching.serve(|url| url.starts_with("http://liar/"));
    // The honest one had nothing to do for a moment.
    fetching.script.advance(Duration::from_secs(1));
    let later = fetching.serve(|url| url.starts_with("http://liar/"));
    assert!(later.iter().all(|range| range.url.starts_with("http://honest/")));
    let status = fetching.status();
    assert_eq!(status.stage, TorrentStage::Seeding);
    assert_eq!((status.web_seeds[0].dropped, status.web_seeds[1].dropped), (true, false));
    assert_eq!(status.web_seeds[0].failed, Some(WebError::Lied));
    let dropped = |event: &SessionEvent| matches!(event, SessionEvent::WebSeedDropped(_, seed) if seed.url == "http://liar/");
    assert_eq!(fetching.script.events().iter().filter(|event| dropped(event)).count(), 1);
}

#[test]
fn who_does_not_answer_rests_and_who_has_nothing_is_dropped() {
    let mut fetching = Fetching::new(Format::V1, &["http://a/"]);
    for failure in 0..4 {
        let [wanted] = &fetching.wanted()[..] else { panic!() };
        fetching.answer(wanted.number, Err(HttpError::TimedOut.into()));
        let rest = REST * (1 << failure);
        fetching.script.advance(rest - Duration::from_secs(1));
        assert_eq!(fetching.wanted(), []);
        fetching.script.advance(Duration::from_secs(2));
    }
    let [wanted] = &fetching.wanted()[..] else { panic!() };
    // It sends less than it was asked for.
    let parts = wanted.ranges.iter().map(|_| Bytes::from_static(b"x")).collect();
    fetching.answer(wanted.number, Ok(parts));
    fetching.script.advance(Duration::from_secs(3600));
    assert_eq!(fetching.wanted(), []);
    let seed = &fetching.status().web_seeds[0];
    assert_eq!((seed.dropped, &seed.failed), (true, &Some(WebError::Length)));
    for (status, lasts) in [(404, true), (416, true), (403, true), (429, false), (503, false)] {
        assert_eq!(WebError::Status(status).is_lasting(), lasts, "{status}");
    }
    let nowhere = "nowhere".parse::<Url>().unwrap_err();
    for (error, lasts) in [
        (HttpError::NoTls, true),
        (HttpError::Url(nowhere.clone()), true),
        (HttpError::Location(nowhere), false),
    ] {
        assert_eq!(WebError::Http(error.clone()).is_lasting(), lasts, "{error}");
    }
}

#[test]
fn what_was_fetched_for_a_torrent_that_is_gone_or_by_one_who_is_is_passed_over() {
    let mut fetching = Fetching::new(Format::V1, &["http://a/"]);
    let [first] = &fetching.wanted()[..] else { panic!() };
    let before = fetching.fetcher;
    fetching.fetcher = fetching.script.command(SessionCommand::Fetching);
    assert!(fetching.script.outcomes().contains(&(before, SessionOutcome::Stopped)));
    let [second] = &fetching.wanted()[..] else { panic!() };
    let begins = |wanted: &ToFetch| (wanted.ranges[0].url.clone(), wanted.ranges[0].from);
    assert_eq!(begins(first), begins(second), "it is asked for again");
    fetching.answer(first.number, Ok(Vec::new()));
    assert_eq!(fetching.status().web_seeds[0].failed, None);
    fetching.script.command(SessionCommand::Remove(Remove { torrent: TorrentId::first() }));
    fetching.answer(second.number, Ok(Vec::new()));
    assert_eq!(fetching.wanted(), []);
}

#[test]
fn urls_that_cannot_be_asked_are_passed_over() {
    let long = format!("http://a/{}", "x".repeat(1 << 20));
    let fetching = Fetching::new(Format::V1, &[&long, "udp://a:1", "ftp://a/", "a", "http://a/"]);
    let urls: Vec<String> = fetching.status().web_seeds.into_iter().map(|seed| seed.url).collect();
    assert_eq!(urls, ["http://a/"]);
}

#[test]
fn of_many_small_files_a_few_are_fetched_at_a_time() {
    let served = |count: usize, length| (0..count).map(|n| (format!("{n:04}"), length)).collect();
    let mut fetching = Fetching::of(served(100, 3000), Format::V1, &["http://a/"]);
    assert!(fetching.serve(|_| false).len() >= 100);
    assert_eq!(fetching.status().stage, TorrentStage::Seeding);
    // A block is in 328 of them.
    let mut fetching = Fetching::of(served(400, 50), Format::V1, &["http://a/"]);
    assert_eq!(fetching.wanted(), []);
    let seed = &fetching.status().web_seeds[0];
    assert_eq!((seed.dropped, &seed.failed), (true, &Some(WebError::Scattered)));
}

#[test]
fn what_takes_too_long_is_asked_for_again_and_comes_in_vain_later() {
    let mut fetching = Fetching::new(Format::V1, &["http://a/"]);
    let [late] = &fetching.wanted()[..] else { panic!() };
    fetching.script.advance(PATIENCE);
    assert_eq!(fetching.wanted(), []);
    fetching.script.advance(REST + Duration::from_secs(2));
    let [again] = &fetching.wanted()[..] else { panic!() };
    assert_eq!(again.ranges[0].url, late.ranges[0].url);
    assert_eq!(fetching.status().web_seeds[0].failed, Some(HttpError::TimedOut.into()));
    fetching.answer(
        late.number,
        Ok(late.ranges.iter().map(|range| vec![0; range.length as usize].into()).collect()),
    );
    assert_eq!(fetching.status().downloaded, 0);
}

#[test]
fn what_came_from_a_peer_meanwhile_is_no_more_waited_for() {
    let mut fetching = Fetching::of(vec![("f".into(), PIECE)], Format::V1, &["http://a/"]);
    let [wanted] = &fetching.wanted()[..] else { panic!() };
    let swarm = fetching.status().hashes.swarms().next().unwrap();
    let peer = TcpPeer::Accepted { addr: "192.0.2.1:1".parse().unwrap(), number: 1 };
    let hello = Handshake {
        swarm,
        peer: PeerName([9; 20]),
        features: Features { fast: true, ..Features::default() },
    };
    for msg in [PeerMsg::Handshake(hello), PeerMsg::HaveAll, PeerMsg::Unchoke] {
        fetching.script.message(peer, msg);
    }
    let sent = fetching.script.sent().into_iter();
    let asked =
        sent.filter_map(|(_, msg)| if let PeerMsg::Request(block) = msg { Some(block) } else { None });
    let block = asked.last().expect("all was asked for: it is the endgame");
    let data = Bytes::copy_from_slice(&content("f", PIECE)[block.begin as usize..][..block.length as usize]);
    fetching.script.message(peer, PeerMsg::Piece { piece: block.piece, begin: block.begin, data });
    fetching.work();
    let awaited = |fetching: &Fetching| -> Vec<Block> {
        fetching.script.machine().fetches.values().flat_map(Fetch::awaited).collect()
    };
    let left = awaited(&fetching);
    assert!(left.len() == PIECE / 16384 - 1 && !left.contains(&block));
    fetching.answer(wanted.number, Ok(vec![content("f", PIECE).into()]));
    let status = fetching.status();
    assert_eq!((status.stage, status.wasted), (TorrentStage::Seeding, block.length.into()));
}

#[test]
fn a_failure_after_which_something_may_have_come_counts_for_the_limit() {
    let timed_out = WebError::Http(HttpError::TimedOut);
    for (why, next) in
        [(WebError::Http(HttpError::Unreachable), 1), (WebError::Length, 0), (timed_out.clone(), 0)]
    {
        // A block takes 16 s.
        let rates = RateLimits { up: None, down: Some(1000) };
        let config = SessionConfig { rates, ..SessionConfig::default() };
        let served = vec![("a".into(), 5 * PIECE)];
        let mut fetching = Fetching::with(config, served, Format::V1, &["http://a/pub", "http://b/pub"]);
        let wanted = fetching.wanted();
        assert_eq!(wanted.len(), 1);
        fetching.answer(wanted[0].number, Err(why.clone()));
        assert_eq!(fetching.wanted().len(), next, "{why:?}");
    }
}

#[test]
fn what_servers_send_keeps_the_limit_and_nearly_all_of_it_is_used() {
    const LIMIT: u64 = 100_000;
    let rates = RateLimits { up: None, down: Some(LIMIT) };
    let config = SessionConfig { rates, ..SessionConfig::default() };
    let served = FILES.map(|(name, length)| (name.into(), length)).into();
    let mut fetching = Fetching::with(config, served, Format::V1, &["http://a/pub", "http://b/pub"]);
    let step = Duration::from_millis(20);
    let mut asked: Vec<u64> = Vec::new();
    for _ in 0..200 {
        let mut bytes = 0;
        for ToFetch { number, ranges } in fetching.wanted() {
            let part = |range: &WebRange| {
                let (name, length) =
                    FILES.iter().find(|(name, _)| range.url.ends_with(&name.replace(' ', "%20"))).unwrap();
                Bytes::from(content(name, *length)[range.from as usize..][..range.length as usize].to_vec())
            };
            bytes += ranges.iter().map(|range| range.length).sum::<u64>();
            fetching.answer(number, Ok(ranges.iter().map(part).collect()));
        }
        asked.push(bytes);
        fetching.script.advance(step);
        fetching.work();
    }
    // As is stated: half a second more at the most, and no less than nine tenths.
    for from in 0..asked.len() {
        let mut sum = 0;
        for (steps, bytes) in asked[from..].iter().enumerate() {
            sum += bytes;
            let most = LIMIT as f64 * (step.as_secs_f64() * steps as f64 + 0.5) + 16384.0;
            assert!(sum as f64 <= most, "{sum} bytes in {steps} steps from {from} on");
        }
    }
    let all: u64 = asked.iter().sum();
    assert!(all as f64 >= LIMIT as f64 * 4.0 * 0.9, "{all}");
}
