//! Bitcoin's own headers and targets.

use data_encoding::HEXLOWER;
use p2p_ledger::{
    BitcoinHeader, BlockId, Compact, Consensus, Decode, Encode, Fault, Header, HeaderChain, HeaderRules,
    Past, ProofOfWork, Refused, Retarget, asert, window,
};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/bitcoin_headers.json")).unwrap()
}

fn header(hex: &str) -> BitcoinHeader {
    BitcoinHeader::from_bytes(&HEXLOWER.decode(hex.as_bytes()).unwrap()).unwrap()
}

fn bits(value: &Value) -> Compact {
    Compact(u32::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap())
}

#[test]
fn the_first_headers_of_the_main_chain_have_their_names_and_connect() {
    let vectors = vectors();
    let headers: Vec<BitcoinHeader> = vectors["headers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|vector| {
            let header = header(vector["header"].as_str().unwrap());
            assert_eq!(header.id().to_string(), vector["hash"].as_str().unwrap());
            assert_eq!(HEXLOWER.encode(&header.to_bytes()), vector["header"].as_str().unwrap());
            header
        })
        .collect();
    let rules = ProofOfWork::bitcoin();
    assert!(headers.iter().all(|header| rules.check_seal(header).is_ok()));
    let mut chain = HeaderChain::new(rules, headers[0], HeaderRules::default());
    assert_eq!(chain.accept(&headers, u64::from(headers[1].time)), Ok(1));
    let changed = BitcoinHeader { nonce: headers[1].nonce ^ 1, ..headers[1] };
    assert_eq!(chain.accept(&[changed], u64::from(changed.time)), Err(Refused::Fault(Fault::NoWork)));
}

#[test]
fn windows_are_retargeted_as_on_the_main_chain() {
    for case in vectors()["retarget"]["cases"].as_array().unwrap() {
        let (first, last) = (case[0].as_u64().unwrap(), case[1].as_u64().unwrap());
        let new = window(bits(&case[2]), first, last, 2016 * 600, Compact(0x1d00_ffff));
        assert_eq!(new, bits(&case[3]), "{case}");
    }
}

/// Headers of these targets, so many seconds apart.
fn spaced(bits: &[Compact], seconds: u32) -> Vec<BitcoinHeader> {
    let header = |(height, bits): (usize, &Compact)| BitcoinHeader {
        version: 1,
        previous: BlockId::NONE,
        root: p2p_core::Key::ZERO,
        time: seconds * height as u32,
        bits: *bits,
        nonce: 0,
    };
    bits.iter().enumerate().map(header).collect()
}

/// The target of what comes so long after the last of these.
fn bits_after(rules: &ProofOfWork<BitcoinHeader>, headers: &[BitcoinHeader], seconds: u64) -> Compact {
    let (height, time) = (headers.len() as u64 - 1, headers[headers.len() - 1].time());
    rules.next_bits(&Past::new(height, &|height| headers.get(height as usize)), time + seconds)
}

/// As Bitcoin Core has it where `fPowAllowMinDifficultyBlocks` is set, in windows of eight.
#[test]
fn the_test_network_takes_an_easy_block_after_twenty_minutes() {
    const EASY: Compact = Compact(0x1d00_ffff);
    const HARD: Compact = Compact(0x1b04_04cb);
    let rules: ProofOfWork<BitcoinHeader> =
        ProofOfWork::new(EASY, 600).retargeted(Retarget::Testnet { blocks: 8 });
    let after = |bits: &[Compact], seconds: u64| bits_after(&rules, &spaced(bits, 600), seconds);
    let mut bits = vec![HARD; 10];
    assert_eq!((after(&bits, 1_200), after(&bits, 1_201)), (HARD, EASY));
    bits.extend([EASY, EASY]);
    assert_eq!((after(&bits, 600), after(&bits, 1_201)), (HARD, EASY), "as before the easy ones");
    // Where a window begins with an easy one nothing before it is looked at.
    bits[8..].fill(EASY);
    assert_eq!(after(&bits, 600), EASY);
    // At its end all goes by the last one, and by no waiting: seven intervals in the time of eight.
    bits.resize(16, HARD);
    assert_eq!(after(&bits, 9_999), window(HARD, 0, 7 * 600, 8 * 600, EASY));
}

/// BIP 94: "the base difficulty value must be taken from the first block of the previous difficulty period", which is no easy one.
/// The target of difficulty 4 after a window that was too quick is that of Bitcoin Core's `mining_testnet.py`.
#[test]
fn the_fourth_test_network_makes_no_blocks_easy_because_of_an_easy_one() {
    const EASY: Compact = Compact(0x1d00_ffff);
    const HARD: Compact = Compact(0x1b04_04cb);
    let (third, fourth) = (ProofOfWork::testnet(), ProofOfWork::testnet4());
    let quick = spaced(&[EASY; 2016], 60);
    assert_eq!(bits_after(&fourth, &quick, 600), Compact(0x1c3f_ffc0));
    // Only the last one is easy: the third network's window is, too.
    let mut bits = vec![HARD; 2016];
    bits[2015] = EASY;
    let headers = spaced(&bits, 600);
    let on_time = |old| window(old, 0, 2015 * 600, 2016 * 600, EASY);
    assert_eq!(bits_after(&third, &headers, 600), on_time(EASY));
    assert_eq!(bits_after(&fourth, &headers, 600), on_time(HARD));
    // The first of a window is never easy; any other is after twenty minutes, and those after it are as hard as before.
    assert_eq!(bits_after(&fourth, &headers, 9_999), on_time(HARD));
    let (begun, easy) = (spaced(&[HARD; 2], 600), spaced(&[HARD, EASY], 600));
    assert_eq!((bits_after(&fourth, &begun, 1_200), bits_after(&fourth, &begun, 1_201)), (HARD, EASY));
    assert_eq!(bits_after(&fourth, &easy, 600), HARD);
}

/// BIP 94: the first block of a window is at most 600 seconds older than the one before it; any other may be older.
#[test]
fn the_fourth_test_network_leaves_no_room_for_a_time_warp() {
    let bits = Compact(0x207f_ffff);
    let rules = |retarget| ProofOfWork::<BitcoinHeader>::new(bits, 600).retargeted(retarget);
    let (third, fourth) = (rules(Retarget::Testnet { blocks: 20 }), rules(Retarget::Testnet4 { blocks: 20 }));
    for (count, is_first) in [(20, true), (19, false), (21, false)] {
        let mut headers = spaced(&vec![bits; count], 1);
        let last = headers.last_mut().unwrap();
        last.time = 10_000;
        let (height, last) = (count as u64 - 1, last.time());
        let past = |height: u64| headers.get(height as usize);
        let past = Past::new(height, &past);
        let check = |rules: &ProofOfWork<BitcoinHeader>, time: u64| {
            let header = rules.draft(&past, p2p_core::Key::ZERO, time);
            rules.check(&header, &past, 20_000)
        };
        assert_eq!(check(&fourth, last - 600), Ok(()));
        let too_old = Err(Fault::TooOld { earliest: last - 600, found: last - 601 });
        assert_eq!(check(&fourth, last - 601), if is_first { too_old } else { Ok(()) }, "after {count}");
        assert_eq!(check(&third, last - 601), Ok(()));
    }
}

/// The vectors of aserti3-2d that Bitcoin Cash Node publishes; of the three random runs the first 201 lines.
#[test]
fn asert_is_that_of_bitcoin_cash_bit_for_bit() {
    let runs = [
        include_str!("../vectors/asert/run01"),
        include_str!("../vectors/asert/run02"),
        include_str!("../vectors/asert/run03"),
        include_str!("../vectors/asert/run04"),
        include_str!("../vectors/asert/run05"),
        include_str!("../vectors/asert/run06"),
        include_str!("../vectors/asert/run07"),
        include_str!("../vectors/asert/run08"),
        include_str!("../vectors/asert/run09"),
        include_str!("../vectors/asert/run10"),
    ];
    let mut checked = 0;
    for run in runs {
        let field = |name: &str| {
            let line = run.lines().find(|line| line.contains(name)).unwrap();
            line.rsplit(' ').find(|word| !word.is_empty()).unwrap()
        };
        let number = |word: &str| word.parse::<i128>().unwrap();
        let target = |word: &str| Compact(u32::from_str_radix(word.trim_start_matches("0x"), 16).unwrap());
        let anchor = target(field("anchor nBits"));
        let (height, time) = (number(field("anchor height")), number(field("anchor ancestor time")));
        for line in run.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let words: Vec<&str> = line.split(' ').collect();
            let (passed, blocks) = (number(words[2]) - time, number(words[1]) - height);
            let next = asert(anchor, 600, 2 * 24 * 3600, passed, blocks, Compact(0x1d00_ffff));
            assert_eq!(next, target(words[3]), "{line}");
            checked += 1;
        }
    }
    assert_eq!(checked, 5 * 10 + 2 * 225 + 3 * 201);
}

/// 150 blocks of a real node's regression-test network.
#[test]
fn a_regtest_chain_of_a_real_node_is_followed() {
    let headers: Vec<BitcoinHeader> =
        include_str!("../vectors/regtest_headers.hex").lines().map(header).collect();
    let first = BitcoinHeader {
        version: 1,
        previous: BlockId::NONE,
        root: "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b".parse().unwrap(),
        time: 1_296_688_602,
        bits: Compact(0x207f_ffff),
        nonce: 2,
    };
    let mut chain = HeaderChain::new(ProofOfWork::regtest(), first, HeaderRules::default());
    let last = headers.last().unwrap();
    assert_eq!(chain.accept(&headers, u64::from(last.time)), Ok(headers.len()));
    assert_eq!((chain.tip().id, chain.tip().height), (last.id(), 150));
}
