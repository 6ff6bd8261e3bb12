use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::scalar::Scalar;
use p2p_core::{Keypair, Rng};

use super::*;

fn good(seed: u8, text: u8) -> Check {
    let keypair = Keypair::from_seed(&[seed; 32]);
    let message = spend_message(TxId(Key::of(&[text])));
    Check { key: keypair.id().into(), signature: keypair.sign(&message), message }
}

fn batch(checks: &[Check]) -> bool {
    Verifier::new([7; 32]).verify(&Checks(checks.to_vec()))
}

fn scalar(rng: &mut Rng) -> Scalar {
    let mut wide = [0; 64];
    rng.fill(&mut wide);
    Scalar::from_bytes_mod_order_wide(&wide)
}

/// A signature by a key, and with a commitment, that may both have a part of small order.
fn crafted(rng: &mut Rng, key_torsion: usize, point_torsion: usize) -> Check {
    use sha2::Digest;
    let (secret, nonce) = (scalar(rng), scalar(rng));
    let key = (ED25519_BASEPOINT_POINT * secret + EIGHT_TORSION[key_torsion]).compress().0;
    let point = (ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[point_torsion]).compress().0;
    let message = spend_message(TxId(rng.key()));
    let hash = sha2::Sha512::new().chain_update(point).chain_update(key).chain_update(message).finalize();
    let challenge = Scalar::from_bytes_mod_order_wide(&hash.into());
    let answer = nonce + challenge * secret;
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&point);
    signature[32..].copy_from_slice(answer.as_bytes());
    Check { key: PublicKey(key), signature, message }
}

#[test]
fn torsion_key_signatures_are_good_alone_and_in_every_batch() {
    let mut rng = Rng::new(1);
    let mut by_the_other_rule = 0;
    for key_torsion in 0..8 {
        for point_torsion in 0..8 {
            let check = crafted(&mut rng, key_torsion, point_torsion);
            assert!(check.verify(), "torsion {key_torsion} and {point_torsion}");
            assert!(batch(&[check, good(1, 1)]) && batch(&[good(2, 2), check, check]));
            // The rule without the cofactor, which p2p-core's identities use, says otherwise of most.
            let id = p2p_core::PeerId::from_bytes(check.key.0);
            by_the_other_rule += usize::from(id.verify(&check.message, &check.signature));
        }
    }
    assert!(by_the_other_rule < 32, "{by_the_other_rule} of 64: these keys would split a chain");
}

/// ZIP 215's own table: keys and commitments of small order, canonical or not, all with s = 0.
#[test]
fn points_of_small_order_are_judged_alike_alone_and_in_a_batch() {
    let mut encodings: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().0).collect();
    // The identity and the point of order two with the sign bit set, and y = 1 and y = 0 with p added.
    for (first, inner, last) in [(1, 0, 0x80), (0xec, 0xff, 0xff), (0xee, 0xff, 0x7f), (0xee, 0xff, 0xff)] {
        let mut bytes = [inner; 32];
        (bytes[0], bytes[31]) = (first, last);
        encodings.push(bytes);
    }
    for (last, sign) in [(0x7f, 0), (0xff, 0)] {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (0xed + sign, last);
        encodings.push(bytes);
    }
    for key in &encodings {
        assert!(CompressedEdwardsY(*key).decompress().is_some());
        for point in &encodings {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(point);
            let check = Check { key: PublicKey(*key), signature, message: spend_message(TxId(Key::ZERO)) };
            assert!(check.verify() && batch(&[check, good(1, 1)]));
        }
    }
}

#[test]
fn one_bad_signature_spoils_a_batch_wherever_it_is() {
    let all: Vec<Check> = (0..100).map(|i| good(i % 7, i)).collect();
    assert!(batch(&all));
    for at in [0, 1, 50, 99] {
        for byte in [0, 31, 32, 63] {
            let mut spoilt = all.clone();
            spoilt[at].signature[byte] ^= 1;
            assert!(!spoilt[at].verify() && !batch(&spoilt));
            let threads = &mut Verifier::new([7; 32]).threads(3);
            assert!(!threads.verify(&Checks(spoilt)));
        }
    }
    assert!(Verifier::new([7; 32]).threads(3).verify(&Checks(all)));
}

#[test]
fn the_second_half_of_a_signature_has_one_spelling() {
    let check = good(1, 1);
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0u16;
    let mut other = check;
    for (byte, add) in other.signature[32..].iter_mut().zip(order) {
        carry += u16::from(*byte) + add;
        *byte = carry as u8;
        carry >>= 8;
    }
    assert!(!other.verify() && !batch(&[other, check]), "s plus the group's order");
}

#[test]
fn good_ones_are_remembered_and_bad_ones_never() {
    let mut verifier = Verifier::new([7; 32]).remembering(8);
    let (first, mut bad) = (good(1, 1), good(1, 2));
    bad.signature[40] ^= 1;
    assert!(!verifier.verify(&Checks(vec![first, bad])));
    assert_eq!(verifier.good[0].len(), 0, "nothing of a spoilt batch");
    assert!(verifier.verify(&Checks(vec![first])));
    assert!(verifier.good[0].contains(&first.digest(&verifier.secret)));
    assert!(!verifier.verify(&Checks(vec![bad])) && !verifier.verify(&Checks(vec![first, bad])));
    for text in 0..40 {
        assert!(verifier.verify(&Checks(vec![good(2, text)])));
        assert!(verifier.good[0].len() + verifier.good[1].len() <= 8);
    }
}
