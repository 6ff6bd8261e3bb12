//! Every input that is kept runs through its target, without a fuzzer.

use p2p_fuzz::TARGETS;

#[test]
fn every_kept_input_is_survived() {
    for (name, target) in TARGETS {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut inputs = 0;
        for entry in
            std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
        {
            target(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "no input in {}", corpus.display());
    }
}
