//! How long Freenet's routes are: Clarke et al. (2000), §5, with the paper's shape of network and stores.

use p2p_overlay::measure::freenet::Routing;

#[test]
fn routes_become_short() {
    let mut network = Routing::default().start();
    let mut done = 0;
    for steps in [100, 500, 1000, 2000, 5000] {
        network.steps(steps - done);
        done = steps;
        let paths = network.paths(100);
        println!(
            "{steps}: {} {} {} routes {:.0}",
            paths.percentile(25.0),
            paths.percentile(50.0),
            paths.percentile(75.0),
            network.routes()
        );
    }
    for _ in 0..4 {
        network.fail(0.1);
        let paths = network.paths(100);
        println!("failed: {} {} {}", paths.percentile(25.0), paths.percentile(50.0), paths.percentile(75.0));
    }
}
