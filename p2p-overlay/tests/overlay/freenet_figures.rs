//! How long Freenet's routes are: Clarke et al. (2000), §5, in the paper's network of 1,000 nodes with 50 blocks and 250
//! routes each. What differs is said at `Routing::request_htl`, and paths are counted in requests sent, those in vain
//! among them.

use std::sync::Mutex;

use p2p_core::SimPeer;
use p2p_core::sim::{Histogram, run_seeds};
use p2p_overlay::measure::freenet::Routing;

/// §5.1: from more than 50 at first to about 6 hops (at most twice as many). §5.3: below 20 while up to 30% die. At first
/// there are five keys or so, each known to as many as its insert has reached, and the paths of one network depend on
/// which: so it is half of all networks that must have long ones.
#[test]
fn routes_become_short_and_stay_so_when_nodes_die() {
    let first = Mutex::new(Vec::new());
    run_seeds(2, |seed| {
        let mut network = Routing { seed, ..Routing::default() }.start();
        network.steps(10);
        let mut medians = vec![network.paths(300).percentile(50.0)];
        network.steps(4990);
        medians.push(network.paths(300).percentile(50.0));
        for dead in [10, 20, 30] {
            network.fail(10.0 / f64::from(110 - dead));
            medians.push(network.paths(300).percentile(50.0));
        }
        println!("seed {seed}: median path after 10 and 5,000 steps, with 10, 20 and 30% dead: {medians:?}");
        first.lock().unwrap().push(medians[0]);
        assert!(medians[1] <= 12.min(medians[0]), "{medians:?}");
        assert!(medians[2..].iter().all(|median| *median < 20), "{medians:?}");
        network.trace()
    });
    let first: Histogram = first.into_inner().unwrap().into_iter().collect();
    assert!(first.percentile(50.0) > 50, "{:?}", first.iter().collect::<Vec<_>>());
}

/// Paths are measured by a look at all nodes: true requests take as many.
#[test]
fn a_measured_path_is_what_a_request_takes() {
    let mut network = Routing::default().start();
    network.steps(500);
    let mut found = 0;
    for i in 0..40 {
        let (from, key) = (SimPeer(i * 24), network.keys()[3 * i as usize]);
        let path = network.path(from, key);
        if path < 490 {
            assert_eq!(network.request(from, key), Some(path.into()));
            found += u32::from(path > 1);
        }
    }
    assert!(found > 10, "{found} paths");
}
