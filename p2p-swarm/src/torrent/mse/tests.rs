//! Two ends that meet in every way, and what comes from neither.

use bytes::BytesMut;
use p2p_core::foreign::{Codec, Malformed, TcpPeer};
use proptest::prelude::*;

use super::*;
use crate::torrent::{Block, Features, Handshake, PeerMsg, PeerName};

const SWARM: SwarmId = [7; 20];

fn mse(policy: Encryption) -> Mse {
    let mse = Mse::new(policy, &Secret::new([policy as u8; 32]));
    mse.add([9; 20]);
    mse.add(SWARM);
    mse
}

fn ends(dials: Encryption, accepts: Encryption) -> [PeerCodec; 2] {
    let addr = "192.0.2.1:1".parse().unwrap();
    let dialled = TcpPeer::Dialled { addr, number: 1 };
    [mse(dials).codec(dialled), mse(accepts).codec(TcpPeer::Accepted { addr, number: 1 })]
}

fn hello(swarm: SwarmId) -> PeerMsg {
    PeerMsg::Handshake(Handshake { swarm, peer: PeerName([1; 20]), features: Features::default() })
}

fn said(who: u32) -> Vec<PeerMsg> {
    let block = Block { piece: who, begin: 0, length: 16384 };
    let data = vec![who as u8; 16384].into();
    vec![PeerMsg::Request(block), PeerMsg::Piece { piece: who, begin: 0, data }, PeerMsg::Have(who)]
}

/// What the two ends hear of each other, in pieces of so many bytes, and all bytes that went between them.
fn meet(
    [mut a, mut b]: [PeerCodec; 2],
    encrypt: bool,
    cut: usize,
) -> Result<([Vec<PeerMsg>; 2], Vec<u8>), Malformed> {
    let (mut heard, mut seen) = ([Vec::new(), Vec::new()], Vec::new());
    let (mut to_b, mut to_a) = (BytesMut::new(), BytesMut::new());
    if encrypt {
        a.encode(PeerMsg::Encrypt(SWARM), &mut to_b);
    }
    a.encode(hello(SWARM), &mut to_b);
    let (mut at_a, mut at_b) = (BytesMut::new(), BytesMut::new());
    while !to_a.is_empty() || !to_b.is_empty() {
        let piece = to_b.split_to(to_b.len().min(cut));
        seen.extend_from_slice(&piece);
        at_b.extend_from_slice(&piece);
        while let Some(msg) = b.decode(&mut at_b, &mut to_a)? {
            if let PeerMsg::Handshake(_) = msg {
                b.encode(hello(SWARM), &mut to_a);
                said(2).into_iter().for_each(|msg| _ = b.encode(msg, &mut to_a));
            }
            heard[1].push(msg);
        }
        let piece = to_a.split_to(to_a.len().min(cut));
        seen.extend_from_slice(&piece);
        at_a.extend_from_slice(&piece);
        while let Some(msg) = a.decode(&mut at_a, &mut to_b)? {
            if let PeerMsg::Handshake(_) = msg {
                said(1).into_iter().for_each(|msg| _ = a.encode(msg, &mut to_b));
            }
            heard[0].push(msg);
        }
    }
    assert!(at_a.is_empty() && at_b.is_empty());
    Ok((heard, seen))
}

fn is_in_the_clear(seen: &[u8]) -> bool {
    seen.windows(20).any(|window| window == b"\x13BitTorrent protocol" || window == [1; 20])
}

use Encryption::{Off, Preferred, Required};

#[test]
fn what_is_said_arrives_encrypted_however_it_is_cut() {
    for dials in [Preferred, Required] {
        for accepts in [Preferred, Required] {
            for cut in [1, 7, 100, 1 << 20] {
                let (heard, seen) = meet(ends(dials, accepts), true, cut).unwrap();
                for (heard, who) in heard.into_iter().zip([2, 1]) {
                    assert_eq!(
                        heard,
                        [vec![hello(SWARM)], said(who)].concat(),
                        "{dials:?} {accepts:?} {cut}"
                    );
                }
                assert!(!is_in_the_clear(&seen));
            }
        }
    }
}

#[test]
fn the_clear_is_understood_where_it_may_be() {
    for accepts in [Off, Preferred] {
        for cut in [1, 1 << 20] {
            let (heard, seen) = meet(ends(Off, accepts), false, cut).unwrap();
            assert_eq!((heard[0].len(), heard[1].len()), (4, 4));
            assert!(is_in_the_clear(&seen));
        }
    }
    assert!(meet(ends(Off, Required), false, 1 << 20).is_err());
    assert!(meet(ends(Required, Off), true, 1 << 20).is_err());
}

/// An end that offers or chooses what it likes, played by hand.
#[test]
fn a_handshake_alone_may_be_encrypted() {
    let mut chance = Chance(blake3::Hasher::new_keyed(&[5; 32]).finalize_xof());
    let [_, mut b] = ends(Preferred, Preferred);
    let (mut to_b, mut to_a) = (BytesMut::new(), BytesMut::new());
    // `Off` offers both; the bit of RC4 is taken away while that is encrypted.
    let mut a = Initiating::new(SWARM, Off, &mut chance, &mut to_b);
    a.provides = method::PLAIN;
    assert_eq!(b.decode(&mut to_b, &mut to_a), Ok(None));
    to_b.clear();
    assert!(a.advance(&mut to_a, &mut to_b, &mut chance).unwrap().is_none());
    to_a.clear();
    assert_eq!(b.decode(&mut to_b, &mut to_a), Ok(None));
    let done = a.advance(&mut to_a, &mut to_b, &mut chance).unwrap().expect("it is agreed on");
    assert!(done.ciphers.is_none());
    let mut plain = BytesMut::new();
    PeerCodec::default().encode(hello(SWARM), &mut plain);
    assert_eq!(b.decode(&mut plain, &mut to_a), Ok(Some(hello(SWARM))));
    to_a.clear();
    b.encode(hello(SWARM), &mut to_a);
    assert!(is_in_the_clear(&to_a));
}

#[test]
fn who_means_no_swarm_that_is_here_gets_no_answer() {
    let [mut a, _] = ends(Preferred, Preferred);
    let addr = "192.0.2.1:1".parse().unwrap();
    let gone = mse(Preferred);
    gone.remove(&SWARM);
    let mut b = gone.codec(TcpPeer::Accepted { addr, number: 1 });
    let (mut to_b, mut to_a) = (BytesMut::new(), BytesMut::new());
    a.encode(PeerMsg::Encrypt(SWARM), &mut to_b);
    assert_eq!(b.decode(&mut to_b, &mut to_a), Ok(None));
    assert_eq!(a.decode(&mut to_a, &mut to_b), Ok(None));
    assert!(b.decode(&mut to_b, &mut to_a).is_err());
}

#[test]
fn nobody_is_listened_to_for_longer_than_a_pad_reaches() {
    let [mut a, mut b] = ends(Required, Required);
    let (mut output, garbage) = (BytesMut::new(), vec![0x55; KEY + MAX_PAD + 20]);
    let mut input = BytesMut::from(&garbage[..garbage.len() - 1]);
    assert_eq!(b.decode(&mut input, &mut output), Ok(None));
    input.extend_from_slice(&[0x55]);
    assert!(b.decode(&mut input, &mut output).is_err());
    a.encode(PeerMsg::Encrypt(SWARM), &mut output);
    let mut input = BytesMut::from(&garbage[..]);
    assert!(a.decode(&mut input, &mut output).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..1500), dialled in any::<bool>(), cut in 1usize..600) {
        let [mut a, mut b] = ends(Preferred, Preferred);
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        let codec = if dialled { &mut a } else { &mut b };
        if dialled {
            codec.encode(PeerMsg::Encrypt(SWARM), &mut output);
        }
        for piece in bytes.chunks(cut) {
            input.extend_from_slice(piece);
            if codec.decode(&mut input, &mut output).is_err() {
                break;
            }
            prop_assert!(input.len() <= MAX_PAD + 20 + cut);
        }
    }
}

/// RFC 6229, the key of 40 bits.
#[test]
fn rc4_is_rc4() {
    let mut rc4 = Rc4::from_key(&[1, 2, 3, 4, 5]);
    let mut stream = vec![0; 1040];
    rc4.apply(&mut stream);
    assert_eq!(data_encoding::HEXLOWER.encode(&stream[..16]), "b2396305f03dc027ccc3524a0a1118a8");
    assert_eq!(data_encoding::HEXLOWER.encode(&stream[1024..]), "30abbcc7c20b01609f23ee2d5f6bb7df");
}

#[test]
fn both_ends_know_the_same_secret() {
    let secret = Secret::new([3; 32]);
    let mse = Mse::new(Encryption::Preferred, &secret);
    let chance = |n: u8| Chance(blake3::Hasher::new_keyed(&[n; 32]).finalize_xof());
    let [a, b] = [chance(1), chance(2)].map(|mut chance| chance.private());
    assert_eq!(shared(a, public(b)), shared(b, public(a)));
    assert_ne!(public(a), public(b));
    assert!(a > Number::ZERO && a < Number::from(1) << 160);
    // Fermat: the prime is one, so its digits are right, as far as this can tell.
    assert_eq!(Number::from(2).pow_mod(prime() - Number::from(1), prime()), Number::from(1));
    assert_eq!(prime().bit_len(), 768);
    assert!((0..100).all(|n| chance(n).pad().len() <= MAX_PAD));
    assert!(!format!("{mse:?}").contains('['));
}
