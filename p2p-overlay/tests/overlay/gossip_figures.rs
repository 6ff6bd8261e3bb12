//! What the authors of HyParView, Plumtree and SWIM measured or proved, by the code that runs on the wire. At full size
//! by `lab gossip`.

#![allow(clippy::print_stdout, reason = "what was measured is worth seeing")]

use p2p_overlay::measure::gossip::{Broadcasts, Detections};

/// DSN 2007 §5.2: with 80% of 10,000 nodes failed at once, broadcasts reach almost all survivors again after a few
/// shuffles; with less, sooner. Here 1,000 nodes, by three shuffles at the latest (90 s); at 40% by one.
#[test]
fn broadcasts_reach_the_survivors_of_a_mass_failure() {
    for (fail, by) in [(0.4, 30), (0.8, 90)] {
        let report =
            Broadcasts { nodes: 1000, warm: 10, fail, after: by / 2 + 5, ..Broadcasts::default() }.run();
        let reached = |from: usize| report.after[from..].iter().map(|reach| reach.reached());
        println!("{fail}: {:?}; neighbours {:?}", reached(0).collect::<Vec<f64>>(), report.active);
        let worst = reached(by as usize / 2).fold(1.0, f64::min);
        assert!(worst > 0.99, "{worst} of the survivors of {fail}");
    }
}

/// SRDS 2007 §4: no more than one copy in ten is redundant once the tree is stable; by flooding each would come to a
/// node over every other link. Any node publishes, all over one tree.
#[test]
fn a_stable_tree_has_no_copies_to_spare() {
    let report = Broadcasts { nodes: 1000, warm: 30, after: 0, ..Broadcasts::default() }.run();
    let (first, stable) = (report.before[0], report.stable(20));
    println!("first {first:?}; stable {stable:.4}; {:?}", report.before.last());
    assert!(report.before.iter().all(|reach| reach.reached() == 1.0), "{:?}", report.before);
    // As many as there are links, but those that it first came by: 5 · 1000 / 2 - 999, each both ways at most.
    assert!(first.redundancy() > 1.0, "{first:?}");
    assert!(stable <= 0.1, "{stable}");
}

/// DSN 2002 §3.1: somebody pings who has failed in the e/(e−1) ≈ 1.58th period after that, on average. The
/// standard deviation is 0.96 periods: of 60 failures three standard errors are 0.37.
#[test]
fn a_failure_is_noticed_in_the_second_period() {
    let periods = Detections { members: 300, rounds: 60, at_once: 1, seed: 1 }.run();
    println!("{periods:?}");
    let expected = std::f64::consts::E / (std::f64::consts::E - 1.0);
    assert!(periods.len() == 60 && (periods.mean() - expected).abs() < 0.37, "{periods:?}");
}
