//! Messages, transactions, trees.

use std::collections::BTreeSet;

use bytes::{BufMut, BytesMut};
use data_encoding::HEXLOWER;
use p2p_core::foreign::Codec;
use proptest::prelude::*;

use super::*;
use crate::codec::{Decode, Encode};

/// 150 blocks of a real node's regression-test network.
#[test]
fn blocks_of_a_real_node_are_read_and_written_again() {
    let text = include_str!("../../../tests/vectors/regtest_150_blocks.hex");
    let mut chain = BitcoinNetwork::regtest().headers(HeaderRules::default());
    for line in text.lines() {
        let bytes = HEXLOWER.decode(line.as_bytes()).unwrap();
        let block = BitcoinBlock::from_bytes(&bytes).unwrap();
        assert_eq!(block.to_bytes(), bytes);
        assert!(block.is_whole());
        let time = u64::from(block.header.time);
        assert_eq!(chain.accept(&[block.header], time), Ok(1));
    }
    assert_eq!(chain.tip().height, 150);
}

/// The main network's first block, and the first payment there was, in block 170.
#[test]
fn the_first_payment_has_its_name() {
    let hex = "0100000001c997a5e56e104102fa209c6a852dd90660a20b2d9c352423edce25857fcd3704000000004847304402204e45e16932b8af\
               514961a1d3a1a25fdf3f4f7732e9d624c6c61548ab5fb8cd410220181522ec8eca07de4860a4acdd12909d831cc56cbbac4622082221a876\
               8d1d0901ffffffff0200ca9a3b00000000434104ae1a62fe09c5f51b13905f07f06b99a2f7159b2225f374cd378d71302fa28414e7aab373\
               97f554a7df5f142c21c1b7303b8a0626f1baded5c72a704f7e6cd84cac00286bee0000000043410411db93e1dcdb8a016b49840f8c53bc1e\
               b68a382e97b1482ecad7b148a6909a5cb2e0eaddfb84ccf9744464f82e160bfa9b8b64f9d4c03f999b8643f656b412a3ac00000000";
    let bytes = HEXLOWER.decode(hex.replace(char::is_whitespace, "").as_bytes()).unwrap();
    let payment = BitcoinTransaction::from_bytes(&bytes).unwrap();
    let name = "f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16";
    assert_eq!(payment.id().to_string(), name);
    assert_eq!(payment.to_bytes(), bytes);
    assert_eq!(payment.outputs[0].value, 10 * 100_000_000);
    // Whoever was paid finds it by his key, and whoever paid by the output that was spent.
    let key = payment.outputs[0].script[1..66].to_vec();
    let spent = bytes[5..41].to_vec();
    let id = HEXLOWER.decode(name.as_bytes()).unwrap().into_iter().rev().collect();
    for item in [key, spent, id] {
        assert!(payment.is_about(&BTreeSet::from([vec![1], item])));
    }
    assert!(!payment.is_about(&BTreeSet::from([vec![1], vec![], vec![0xac]])));
    // With a witness it is the same transaction.
    let witness = [1, 2, 0xaa, 0xbb];
    let end = bytes.len() - 4;
    let witnessed = [&bytes[..4], &[0, 1], &bytes[4..end], &[1], &witness[1..], &bytes[end..]].concat();
    assert_eq!(BitcoinTransaction::from_bytes(&witnessed).as_ref(), Ok(&payment));
    let cut = [&bytes[..4], &[0, 1], &bytes[4..end], &witness[..3], &bytes[end..]].concat();
    assert!(BitcoinTransaction::from_bytes(&cut).is_err());
}

#[test]
fn a_tree_shows_what_it_is_asked_for_and_nothing_else() {
    for count in 1..=18u64 {
        let header = block(&BitcoinNetwork::regtest().first, 1, 0, &[]).header;
        let ids: Vec<TxId> = (0..count).map(|i| TxId(Key::of(&i.to_le_bytes()))).collect();
        let keys: Vec<Key> = ids.iter().map(|id| id.0).collect();
        let header = BitcoinHeader { root: root_of(&keys).unwrap(), ..header };
        for shown in (0u32..1 << count.min(9)).chain([u32::MAX]) {
            let wanted: Vec<TxId> =
                ids.iter().enumerate().filter(|(i, _)| shown >> i & 1 == 1).map(|(_, id)| *id).collect();
            let tree = MerkleBlock::new(header, &ids, |id| wanted.contains(id)).unwrap();
            let mut tree = MerkleBlock::from_bytes(&tree.to_bytes()).unwrap();
            assert_eq!(tree.shown(), Ok(wanted));
            tree.header.root = Key::of(b"another");
            assert_eq!(tree.shown(), Err(BrokenProof));
        }
    }
}

/// A list that repeats its end has the same root in Bitcoin's tree (CVE-2012-2459).
#[test]
fn a_block_that_repeats_its_last_transactions_is_none() {
    let parent = BitcoinNetwork::regtest().first;
    let spends = |i| OutPoint { id: TxId(Key::of(b"some")), index: i };
    let honest = block(&parent, 1, 0, &[paying([1; 20], 1, spends(0)), paying([2; 20], 2, spends(1))]);
    assert!(honest.is_whole());
    let mut mutated = honest.clone();
    mutated.transactions.push(honest.transactions[2].clone());
    assert!(!mutated.is_whole());
    // Without a coinbase they may be nodes of a tree (CVE-2017-12842).
    let header = BitcoinHeader { root: honest.transactions[1].id().0, ..honest.header };
    assert!(!BitcoinBlock { header, transactions: vec![honest.transactions[1].clone()] }.is_whole());
    let ids: Vec<TxId> = mutated.transactions.iter().map(BitcoinTransaction::id).collect();
    let tree = MerkleBlock::new(mutated.header, &ids, |id| *id == ids[3]).unwrap();
    assert_eq!(tree.shown(), Err(BrokenProof));
}

#[test]
fn what_is_too_long_or_of_another_network_is_refused_before_it_comes() {
    let network = BitcoinNetwork::regtest();
    let read = |bytes: &[u8]| network.codec().decode(&mut bytes.into(), &mut BytesMut::new());
    let mut head = BytesMut::from(&network.magic[..]);
    head.put_slice(b"headers\0\0\0\0\0");
    head.put_u32_le(4_000_001);
    assert!(read(&head).is_ok_and(|msg| msg.is_none()));
    head.put_u32_le(0);
    assert!(read(&head).unwrap_err().to_string().contains("4000001 bytes"));
    assert!(read(&BitcoinNetwork::main().magic).is_err());
    assert!(read(b"\xfa\xbf\xb5G").is_err());
    let mut ping = BytesMut::new();
    network.codec().encode(BitcoinMsg::Ping(7), &mut ping);
    assert_eq!(read(&ping).unwrap(), Some(BitcoinMsg::Ping(7)));
    let last = ping.len() - 1;
    ping[last] ^= 1;
    assert!(read(&ping).unwrap_err().to_string().contains("checksum"));
}

/// As BIP 157 lays them out: the kind of filters, heights with the lowest byte first, hashes the other way round than they are shown.
#[test]
fn what_is_said_of_filters_travels_as_bip_157_has_it() {
    let key = |byte: u8| Key::new(std::array::from_fn(|at| byte + at as u8));
    let reversed = |byte: u8| -> Vec<u8> { (0..32).rev().map(|at| byte + at).collect() };
    let (stop, start) = (BlockId(key(1)), 0x0102_0304);
    let hashes = || vec![key(2), key(3)];
    let range = [&[0, 4, 3, 2, 1][..], &reversed(1)].concat();
    let of = |rest: &[&[u8]]| [&[0][..], &reversed(1), &rest.concat()].concat();
    let listed = [reversed(2), reversed(3)].concat();
    let cases = [
        (BitcoinMsg::GetCFilters(FilterRange { start, stop }), "getcfilters", range.clone()),
        (BitcoinMsg::GetCFHeaders(FilterRange { start, stop }), "getcfheaders", range),
        (BitcoinMsg::GetCFCheckpt(stop), "getcfcheckpt", of(&[])),
        (BitcoinMsg::CFilter(stop, vec![7, 8, 9]), "cfilter", of(&[&[3, 7, 8, 9]])),
        (BitcoinMsg::CFHeaders(stop, key(4), hashes()), "cfheaders", of(&[&reversed(4), &[2], &listed])),
        (BitcoinMsg::CFCheckpt(stop, hashes()), "cfcheckpt", of(&[&[2], &listed])),
    ];
    for (msg, name, payload) in cases {
        let mut bytes = BytesMut::new();
        BitcoinNetwork::main().codec().encode(msg.clone(), &mut bytes);
        assert_eq!(String::from_utf8_lossy(&bytes[4..16]).trim_end_matches('\0'), name);
        assert_eq!(bytes[24..], payload, "{name}");
        // Of another kind of filters nothing is known.
        let mut other = payload;
        other[0] = 1;
        assert_eq!(decoded(name, &other), Ok(Some(BitcoinMsg::Other)), "{name}");
    }
}

/// What a message with this name and payload is.
fn decoded(name: &str, payload: &[u8]) -> Result<Option<BitcoinMsg>, p2p_core::foreign::Malformed> {
    let network = BitcoinNetwork::regtest();
    let mut bytes = BytesMut::from(&network.magic[..]);
    bytes.put_slice(name.as_bytes());
    bytes.put_bytes(0, 12 - name.len());
    bytes.put_u32_le(payload.len() as u32);
    let mut hash = *crate::id::twice(payload).as_bytes();
    hash.reverse();
    bytes.put_slice(&hash[..4]);
    bytes.put_slice(payload);
    network.codec().decode(&mut bytes, &mut BytesMut::new())
}

/// A count says how many follow, and costs nothing until they do.
#[test]
fn a_claimed_count_costs_nothing() {
    let huge = [&[0xff][..], &[0xff; 8]].concat();
    let transaction = [&2u32.to_le_bytes()[..], &huge].concat();
    assert!(BitcoinTransaction::from_bytes(&transaction).is_err());
    let tree = [&BitcoinNetwork::regtest().first.to_bytes()[..], &u32::MAX.to_le_bytes()].concat();
    assert!(MerkleBlock::from_bytes(&tree).is_err());
    let network = BitcoinNetwork::regtest();
    let header = network.first.to_bytes();
    let to_outputs = [&[2, 0, 0, 0, 1][..], &[0; 36], &[0; 5]].concat();
    // What is about filters begins with their kind.
    let of_filters = [0; 65];
    let messages: [(&str, &[u8]); 11] = [
        ("inv", &[]),
        ("getdata", &[]),
        ("headers", &[]),
        ("getheaders", &[1, 0, 0, 0]),
        ("tx", &[2, 0, 0, 0]),
        ("tx", &to_outputs),
        ("block", &header),
        ("filterload", &[]),
        ("cfilter", &of_filters[..33]),
        ("cfheaders", &of_filters),
        ("cfcheckpt", &of_filters[..33]),
    ];
    for (name, head) in messages {
        // More than enough for one of them.
        let payload = [head, &huge, &[0; 100]].concat();
        let why = decoded(name, &payload).unwrap_err().to_string();
        assert!(why.contains(&u64::MAX.to_string()), "{name}: {why}");
    }
}

fn transactions() -> impl Strategy<Value = BitcoinTransaction> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
    let input = (any::<[u8; 32]>(), any::<u32>(), bytes(), any::<u32>());
    let input = input.prop_map(|(id, index, script, sequence)| {
        let previous = OutPoint { id: TxId(Key::new(id)), index };
        BitcoinInput { previous, script, sequence }
    });
    let output = (any::<u64>(), bytes()).prop_map(|(value, script)| BitcoinOutput { value, script });
    let lists = (proptest::collection::vec(input, 1..4), proptest::collection::vec(output, 0..4));
    (any::<u32>(), lists, any::<u32>()).prop_map(|(version, (inputs, outputs), lock_time)| {
        BitcoinTransaction { version, inputs, outputs, lock_time }
    })
}

fn messages() -> impl Strategy<Value = BitcoinMsg> {
    let keys = || proptest::collection::vec(any::<[u8; 32]>(), 0..20);
    let inventory = proptest::collection::vec((any::<u32>(), any::<[u8; 32]>()), 0..20).prop_map(|all| {
        all.into_iter().map(|(kind, hash)| Inventory { kind, hash: Key::new(hash) }).collect::<Vec<_>>()
    });
    let version = (any::<(u32, u64, u64, u64)>(), "[ -~]{0,200}", any::<(u32, bool)>()).prop_map(
        |((version, services, time, nonce), agent, (height, relay))| {
            BitcoinMsg::Version(Version { version, services, time, nonce, agent, height, relay })
        },
    );
    let header = BitcoinNetwork::main().first;
    let key = || any::<[u8; 32]>().prop_map(Key::new);
    let id = move || key().prop_map(BlockId);
    let hashes = move || proptest::collection::vec(key(), 0..20);
    let range = (any::<u32>(), id()).prop_map(|(start, stop)| FilterRange { start, stop });
    prop_oneof![
        range.clone().prop_map(BitcoinMsg::GetCFilters),
        range.prop_map(BitcoinMsg::GetCFHeaders),
        id().prop_map(BitcoinMsg::GetCFCheckpt),
        (id(), any::<Vec<u8>>()).prop_map(|(block, filter)| BitcoinMsg::CFilter(block, filter)),
        (id(), key(), hashes())
            .prop_map(|(stop, previous, hashes)| BitcoinMsg::CFHeaders(stop, previous, hashes)),
        (id(), hashes()).prop_map(|(stop, headers)| BitcoinMsg::CFCheckpt(stop, headers)),
        version,
        any::<u64>().prop_map(BitcoinMsg::Ping),
        any::<u64>().prop_map(BitcoinMsg::Pong),
        Just(BitcoinMsg::Verack),
        Just(BitcoinMsg::SendHeaders),
        keys().prop_map(|ids| BitcoinMsg::GetHeaders(
            ids.into_iter().map(|id| BlockId(Key::new(id))).collect()
        )),
        (0..20usize).prop_map(move |count| BitcoinMsg::Headers(vec![header; count])),
        inventory.clone().prop_map(BitcoinMsg::Inv),
        inventory.clone().prop_map(BitcoinMsg::GetData),
        inventory.prop_map(BitcoinMsg::NotFound),
        (proptest::collection::vec(any::<Vec<u8>>(), 0..9), any::<u32>())
            .prop_map(|(items, tweak)| BitcoinMsg::FilterLoad(Bloom::new(&items, 0.001, tweak))),
        transactions().prop_map(BitcoinMsg::Tx),
        (1..20u8, any::<u32>()).prop_map(move |(count, shown)| {
            let ids: Vec<TxId> = (0..count).map(|i| TxId(Key::of(&[i]))).collect();
            let is_shown =
                |id: &TxId| ids.iter().position(|one| one == id).is_some_and(|i| shown >> i & 1 == 1);
            // Whole bytes of flags, as they come.
            let tree = MerkleBlock::new(header, &ids, is_shown).unwrap();
            BitcoinMsg::MerkleBlock(MerkleBlock::from_bytes(&tree.to_bytes()).unwrap())
        }),
        proptest::collection::vec(transactions(), 0..4)
            .prop_map(move |transactions| BitcoinMsg::Block(BitcoinBlock { header, transactions })),
    ]
}

proptest! {
    #[test]
    fn messages_come_back_however_their_bytes_come(sent in proptest::collection::vec(messages(), 0..5), step in 1..200usize) {
        let mut codec = BitcoinNetwork::main().codec();
        let mut bytes = BytesMut::new();
        sent.iter().for_each(|msg| { codec.encode(msg.clone(), &mut bytes); });
        let (mut came, mut input) = (Vec::new(), BytesMut::new());
        for part in bytes.chunks(step) {
            input.put_slice(part);
            while let Some(msg) = codec.decode(&mut input, &mut BytesMut::new()).unwrap() {
                came.push(msg);
            }
        }
        prop_assert_eq!(came, sent);
        prop_assert!(input.is_empty());
    }

    #[test]
    fn garbage_is_refused_without_a_panic(bytes: Vec<u8>) {
        let _ = BitcoinTransaction::from_bytes(&bytes);
        let _ = BitcoinBlock::from_bytes(&bytes);
        let tree = [&BitcoinNetwork::main().first.to_bytes()[..], &[9, 0, 0, 0], &bytes].concat();
        if let Ok(tree) = MerkleBlock::from_bytes(&tree) {
            let _ = tree.shown();
        }
    }
}
