//! The tree against BLAKE3 itself, `bao` and `bao-tree`, and against whoever lies.

use bao_tree::BlockSize;
use bao_tree::io::outboard::PostOrderMemOutboard;
use proptest::prelude::*;

use super::*;

fn blob(len: usize) -> Vec<u8> {
    let mut rng = p2p_core::Rng::new(len as u64);
    let mut blob = vec![0; len];
    rng.fill(&mut blob);
    blob
}

fn outboard(blob: &[u8]) -> Outboard {
    let mut builder = TreeBuilder::default();
    builder.update(blob);
    builder.finish()
}

/// The pairs of the tree in the order in which `bao-tree` keeps them: below, below, then above.
fn post_order(tree: &Outboard) -> Vec<u8> {
    fn visit(levels: &[&[ChainingValue]], level: usize, i: usize, out: &mut Vec<u8>) {
        let Some(below) = level.checked_sub(1) else { return };
        visit(levels, below, 2 * i, out);
        if let Some(right) = levels[below].get(2 * i + 1) {
            visit(levels, below, 2 * i + 1, out);
            out.extend_from_slice(&levels[below][2 * i]);
            out.extend_from_slice(right);
        }
    }
    let (mut levels, mut rest, mut count) =
        (Vec::new(), tree.nodes.as_slice(), group_count(tree.size) as usize);
    while !rest.is_empty() {
        let (level, after) = rest.split_at(count);
        levels.push(level);
        (rest, count) = (after, count.div_ceil(2));
    }
    let mut out = Vec::new();
    visit(&levels, levels.len() - 1, 0, &mut out);
    out
}

fn lengths() -> impl Strategy<Value = usize> {
    let edges =
        (0usize..40, -2i64..3).prop_map(|(groups, off)| (groups as i64 * GROUP as i64 + off).max(0) as usize);
    let chunks =
        (0usize..40, -1i64..2).prop_map(|(chunks, off)| (chunks as i64 * 1024 + off).max(0) as usize);
    prop_oneof![edges, chunks, 0usize..700_000]
}

/// A length and a run of its groups.
fn runs() -> impl Strategy<Value = (usize, Range<u64>)> {
    (lengths(), any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(len, a, b)| {
        let count = group_count(len as u64) as usize;
        let (a, b) = (a.index(count) as u64, b.index(count) as u64);
        (len, a.min(b)..a.max(b) + 1)
    })
}

fn bytes(blob: &[u8], groups: &Range<u64>) -> Vec<u8> {
    let span = span(blob.len() as u64, groups);
    blob[span.start as usize..span.end as usize].to_vec()
}

#[test]
fn the_edges_have_blake3s_root() {
    for len in
        [0, 1, 1023, 1024, 1025, 16_383, 16_384, 16_385, 32_767, 32_768, 32_769, 49_152, 49_153, 163_840]
    {
        let blob = blob(len);
        assert_eq!(outboard(&blob).root(), Key::of(&blob), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn the_root_is_that_of_blake3_and_bao(len in lengths(), cut in any::<prop::sample::Index>()) {
        let blob = blob(len);
        let mut builder = TreeBuilder::default();
        let (head, tail) = blob.split_at(cut.index(len + 1));
        builder.update(head);
        builder.update(tail);
        let tree = builder.finish();
        prop_assert_eq!(tree.size(), len as u64);
        prop_assert_eq!(tree.root(), Key::of(&blob));
        let (_, bao) = bao::encode::outboard(&blob);
        prop_assert_eq!(tree.root(), Key::new(*bao.as_bytes()));
    }

    #[test]
    fn the_tree_is_that_of_bao_tree(len in lengths()) {
        let blob = blob(len);
        let ours = outboard(&blob);
        let theirs = PostOrderMemOutboard::create(&blob, BlockSize::from_chunk_log(4));
        prop_assert_eq!(ours.root(), Key::new(*theirs.root.as_bytes()));
        prop_assert_eq!(post_order(&ours), theirs.data);
    }

    #[test]
    fn every_run_is_proved((len, run) in runs()) {
        let blob = blob(len);
        let tree = outboard(&blob);
        let proof = tree.proof(run.clone()).unwrap();
        let leaves = verify(&tree.root(), len as u64, run.clone(), &bytes(&blob, &run), &proof).unwrap();
        prop_assert_eq!(leaves.as_slice(), tree.groups(run));
    }

    #[test]
    fn a_changed_bit_is_not_proved((len, run) in runs(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let blob = blob(len);
        let tree = outboard(&blob);
        let (mut data, mut proof) = (bytes(&blob, &run), tree.proof(run.clone()).unwrap());
        let all = data.len() + 32 * proof.len();
        prop_assume!(all > 0);
        let at = at.index(all);
        match at.checked_sub(data.len()) {
            None => data[at] ^= 1 << bit,
            Some(at) => proof[at / 32][at % 32] ^= 1 << bit,
        }
        prop_assert_eq!(verify(&tree.root(), len as u64, run, &data, &proof), Err(NotProved));
    }

    #[test]
    fn a_proof_of_other_length_is_refused((len, run) in runs(), extra: bool) {
        let blob = blob(len);
        let tree = outboard(&blob);
        let mut proof = tree.proof(run.clone()).unwrap();
        prop_assume!(extra || !proof.is_empty());
        if extra { proof.push([0; 32]) } else { proof.truncate(proof.len() - 1) }
        prop_assert!(verify(&tree.root(), len as u64, run.clone(), &bytes(&blob, &run), &proof).is_err());
    }

    /// The last group proves the size: whatever part of the true blob is passed off as the last group of a blob of
    /// another size, it is refused, with the best proof there is.
    #[test]
    fn the_last_group_proves_the_size(len in lengths(), claimed in lengths()) {
        prop_assume!(len != claimed);
        let blob = blob(len);
        let tree = outboard(&blob);
        let count = group_count(claimed as u64);
        let last = count - 1..count;
        let data: Vec<u8> = {
            let span = span(claimed as u64, &last);
            (span.start..span.end).map(|i| blob.get(i as usize).copied().unwrap_or(0)).collect()
        };
        let last_true = group_count(len as u64) - 1;
        let mut proofs = vec![tree.proof(last_true..last_true + 1).unwrap()];
        proofs.extend(tree.proof(last.clone()));
        for mut proof in proofs {
            // Cut and fill the proof to the length that the claimed shape wants.
            let mut wanted = 0;
            climb(count, last.clone(), |step| wanted += usize::from(matches!(step, Step::Sibling(_))));
            for keep_top in [true, false] {
                if keep_top { proof.reverse(); }
                proof.resize(wanted, tree.root().as_bytes().to_owned());
                if keep_top { proof.reverse(); }
                prop_assert!(verify(&tree.root(), claimed as u64, last.clone(), &data, &proof).is_err());
            }
        }
    }

    #[test]
    fn nonsense_is_refused(
        size: u64, start: u64, end: u64,
        data in prop::collection::vec(any::<u8>(), 0..40_000),
        proof in prop::collection::vec(any::<[u8; 32]>(), 0..60),
    ) {
        prop_assert!(verify(&Key::ZERO, size, start..end, &data, &proof).is_err());
        let last = group_count(size);
        prop_assert!(verify(&Key::ZERO, size, last - 1..last, &data, &proof).is_err());
    }
}

#[test]
fn a_run_that_is_not_there_has_no_proof() {
    let tree = outboard(&blob(40_000));
    let empty = Range { start: 1, end: 1 };
    let backwards = Range { start: 2, end: 1 };
    for run in [empty, backwards, 0..4, 3..4, u64::MAX - 1..u64::MAX] {
        assert_eq!(tree.proof(run), None);
    }
}

#[test]
fn a_run_before_the_last_does_not_prove_the_size() {
    // Why the last group comes first: five groups or six look the same from the first.
    let five = blob(5 * GROUP);
    let tree = outboard(&five);
    let proof = tree.proof(0..1).unwrap();
    assert!(verify(&tree.root(), 6 * GROUP as u64, 0..1, &five[..GROUP], &proof).is_ok());
}
