//! What swarms do by the papers (FIGURES, *Swarm*), and with as many peers as `P2P_SWARM_PEERS` says.

use super::PIECE;
use p2p_swarm::torrent::Order;
use p2p_swarm::torrent::measure::{Crowd, CrowdReport, Leecher};

/// How many peers there are at full size: set by the environment, for the second tier.
fn peers(few: u32) -> u32 {
    std::env::var("P2P_SWARM_PEERS").ok().and_then(|peers| peers.parse().ok()).unwrap_or(few)
}

fn seconds(leecher: &Leecher) -> f64 {
    leecher.took.as_secs_f64()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// Values in order, of which this share does not exceed the one that is returned.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

fn run(crowd: &Crowd) -> CrowdReport {
    let report = crowd.run();
    let left = report.leechers.iter().filter(|leecher| !leecher.done).count();
    assert_eq!(left, 0, "of {} are not done", report.leechers.len());
    report
}

/// When the last of a crowd is done whose lines all send 200 kB/s, and who stay; the mean of three.
fn last(leechers: u32) -> f64 {
    mean((1..=3).map(|seed| {
        let crowd = Crowd {
            peers: leechers + 1,
            uplinks: vec![200_000],
            pieces: 32,
            piece_length: PIECE,
            stay: true,
            seed,
            ..Crowd::default()
        };
        run(&crowd).leechers.iter().map(seconds).fold(0.0, f64::max)
    }))
}

/// What the straight line that goes best by the points leaves: the sum of the squares.
fn left_by_a_line(points: &[(f64, f64)]) -> f64 {
    let (x, y) = (mean(points.iter().map(|at| at.0)), mean(points.iter().map(|at| at.1)));
    let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|at| of(at.0 - x, at.1 - y)).sum::<f64>();
    let rise = sum(&|x, y| x * y) / sum(&|x, _| x * x);
    sum(&|x, y| (y - rise * x).powi(2))
}

/// Completion time grows as log n, not n.
#[test]
fn a_flash_crowd_takes_log_n_and_not_n() {
    let doublings: Vec<u32> = (3..=peers(64).ilog2()).collect();
    let took: Vec<f64> = doublings.iter().map(|doublings| last(1 << doublings)).collect();
    println!("8 leechers, 16, and so on: {took:.1?} s");
    for (doublings, took_then) in doublings.iter().zip(&took) {
        let most = took[0] * f64::from(*doublings) / 3.0;
        assert!(*took_then <= most, "{} leechers: {took_then} s, log n gives {most}", 1 << doublings);
    }
    // Over a few doublings nobody can tell the one from the other.
    if doublings.len() > 6 {
        let by = |x: fn(u32) -> f64| {
            let points: Vec<(f64, f64)> =
                doublings.iter().map(|at| x(*at)).zip(took.iter().copied()).collect();
            left_by_a_line(&points)
        };
        let (by_log, by_size) = (by(f64::from), by(|doublings| f64::from(1 << doublings)));
        println!("a line over log n leaves {by_log:.2}, over n {by_size:.2}");
        assert!(by_log < by_size);
    }
}

/// No piece gets rare while the seed is up, and nearly everybody always has something for everybody: the entropy, that is
/// the mean ratio a/b of Legout et al. (2006, §IV.A.1), is 0.9 at the least. Beside it a crowd that asks for pieces in order,
/// in which that is not so.
#[test]
fn pieces_spread_evenly_and_none_gets_rare() {
    let crowd = Crowd { peers: peers(41), ..Crowd::default() };
    let report = run(&crowd);
    let copies = |report: &CrowdReport| {
        report.seeded().map(|bytes| bytes as f64 / f64::from(crowd.pieces * crowd.piece_length))
    };
    println!(
        "all pieces had left the seed after {:.0?}, when it had sent {:.2?} copies; {} were rare again; entropy {:.4}, of \
         four in five pairs {:.4} at the least",
        report.spread,
        copies(&report),
        report.rare_again(),
        report.entropy(),
        quantile(&report.interest, 0.2),
    );
    assert_eq!(report.rare_again(), 0);
    assert!(report.interest.len() > 1000 && report.entropy() >= 0.9, "{}", report.entropy());
    // Where all are connected and so know who has what, it was asked for hardly anything that others had.
    let known = crowd.peers <= 50;
    assert!(copies(&report).is_some_and(|copies| !known || copies < 1.25), "{:?}", copies(&report));

    let in_order = Crowd { order: Order::Sequential, pieces: 100, ..Crowd::default() }.run();
    println!("in order: entropy {:.4}", in_order.entropy());
    assert!(in_order.entropy() < 0.8);
}

/// A leecher's download rate follows its upload rate (Cohen 2003; Legout et al. 2006, §IV.B). One in ten is a free rider: one of
/// these is the last to be done, and what the seed gives apart they get less, on average, than any contributor. To whom
/// optimistic unchokes go is chance, so where there are few it is three crowds.
#[test]
fn who_gives_more_gets_more_and_a_free_rider_least() {
    let all = peers(41);
    let seeds = if all > 100 { 1..=1 } else { 1..=3 };
    let crowds =
        seeds.map(|seed| run(&Crowd { peers: all, free_riders: all / 10, seed, ..Crowd::default() }));
    let reports: Vec<CrowdReport> = crowds.collect();
    let of = |uplink: u64, value: fn(&Leecher) -> f64| {
        let values = reports.iter().flat_map(move |report| report.of_uplink(uplink).map(value));
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let tell = |uplink: u64, name: &str, value: fn(&Leecher) -> f64, unit: f64| {
        let of = of(uplink, value);
        let [least, median, most] = [0.0, 0.5, 1.0].map(|share| quantile(&of, share) / unit);
        println!(
            "    {name:<24} {least:>7.1} {median:>7.1} {most:>7.1}, {:>7.1} on average",
            mean(of.into_iter()) / unit
        );
    };
    for uplink in [200_000, 50_000, 20_000, 0] {
        println!("lines of {uplink} bytes/s, {} leechers:", of(uplink, seconds).len());
        tell(uplink, "took, s", seconds, 1.0);
        tell(uplink, "gave, kB/s", Leecher::up, 1e3);
        tell(uplink, "got, kB/s", Leecher::down, 1e3);
        tell(uplink, "got of others, kB/s", Leecher::traded, 1e3);
    }
    let reciprocity = mean(reports.iter().map(CrowdReport::reciprocity));
    println!("reciprocity {reciprocity:.3}");
    assert!(reciprocity > 0.7, "{reciprocity}");
    let took = [200_000, 50_000, 20_000, 0].map(|uplink| mean(of(uplink, seconds).into_iter()));
    assert!(took.is_sorted(), "{took:?}");
    for report in &reports {
        let (riders, others): (Vec<&Leecher>, Vec<&Leecher>) =
            report.leechers.iter().partition(|leecher| leecher.uplink == 0);
        let last = |of: &[&Leecher]| of.iter().map(|leecher| seconds(leecher)).fold(0.0, f64::max);
        assert!(last(&riders) > last(&others), "a free rider is the last");
        let got = mean(riders.iter().map(|leecher| leecher.traded()));
        let least = others.iter().map(|leecher| leecher.traded()).fold(f64::MAX, f64::min);
        assert!(got < least, "free riders got {got:.0} bytes/s of others, a contributor {least:.0}");
    }
}

/// The last hundredth of the pieces takes less than three hundredths of the time, where all lines are the same: of nine in
/// ten, and on average.
#[test]
fn the_endgame_leaves_no_tail() {
    let crowd = Crowd { peers: peers(41), uplinks: vec![100_000], ..Crowd::default() };
    let mut tails: Vec<f64> = run(&crowd).leechers.iter().filter_map(Leecher::tail_share).collect();
    tails.sort_by(f64::total_cmp);
    let [median, nine_in_ten, most] = [0.5, 0.9, 1.0].map(|share| quantile(&tails, share));
    let mean = mean(tails.into_iter());
    println!(
        "the tail: {:.2}% on average, {:.2}% of half, {:.2}% of nine in ten, {:.2}% at the most",
        mean * 100.0,
        median * 100.0,
        nine_in_ten * 100.0,
        most * 100.0
    );
    assert!(mean < 0.03 && nine_in_ten < 0.03);
}
