use super::*;
use crate::codec::Encode;
use crate::header::{BlockHeader, Work};
use crate::id::BlockId;
use crate::target::Compact;
use crate::transaction::Output;
use crate::transactions_root;
use p2p_core::Rng;
use proptest::prelude::*;

type Light = BlockHeader<Work>;

const CHAIN: u32 = 7;
const MATURITY: u64 = 2;

fn wallet(seed: u8) -> Wallet {
    Wallet::new([seed; 32], CHAIN, MATURITY)
}

fn block(height: u64, time: u64, transactions: Vec<Transaction>) -> Block<Light, Transaction> {
    let seal = Work { bits: Compact(0x207f_ffff), nonce: 0 };
    let root = transactions_root(&transactions);
    Block { header: Light { height, previous: BlockId::NONE, root, time, seal }, transactions }
}

fn paid(wallet: &mut Wallet, values: &[u64]) {
    let height = wallet.height() + 1;
    let outputs: Vec<Output> =
        values.iter().map(|value| Output { value: *value, lock: wallet.receive().lock() }).collect();
    // Somebody else's payment: no coinbase, so that nothing has to wait.
    let from = OutPoint { id: TxId(p2p_core::Key::of(&height.to_le_bytes())), index: 0 };
    wallet.connect(&block(height, height, vec![Transaction::new(CHAIN, [from], outputs)]));
}

fn elsewhere() -> Address {
    wallet(99).receive()
}

#[test]
fn every_receipt_has_a_key_of_its_own_and_the_same_secret_gives_the_same_keys() {
    let (mut one, mut again) = (wallet(1), wallet(1));
    let keys: Vec<Address> = (0..50).map(|_| one.receive()).collect();
    assert!((0..50).map(|_| again.receive()).eq(keys.iter().copied()));
    let different: std::collections::BTreeSet<&Address> = keys.iter().collect();
    assert_eq!(different.len(), 50);
    assert_ne!(wallet(2).receive(), keys[0]);
}

/// It was given out keys that it does not remember, twenty of them unused.
#[test]
fn a_wallet_is_found_again_from_its_secret_alone() {
    let mut before = wallet(1);
    let keys: Vec<Address> = (0..41).map(|_| before.receive()).collect();
    let mut again = wallet(1);
    for (height, at) in [(1, 19), (2, 39)] {
        let coinbase = Transaction::coinbase(CHAIN, height, [Output { value: 5, lock: keys[at].lock() }]);
        again.connect(&block(height, height, vec![coinbase]));
    }
    assert_eq!(again.balance(), Balance { ready: 5, new: 5, pending: 0 });
    assert_eq!(again.given(), 40, "none of those comes again");
    assert!(!keys[..40].contains(&again.receive()));
}

#[test]
fn what_can_be_paid_exactly_needs_no_change() {
    let mut wallet = wallet(1);
    paid(&mut wallet, &[1_000, 700, 300, 90]);
    let payment = wallet.pay(elsewhere(), 1_000, 0).unwrap();
    assert_eq!(payment.outputs.len(), 1);
    assert_eq!(wallet.balance().ready, 1_090);
    // The next takes a fee, and a coin with change.
    let payment = wallet.pay(elsewhere(), 500, 10).unwrap();
    let fee = (payment.to_bytes().len() as u64 * 10).div_ceil(1_000);
    assert_eq!((payment.inputs.len(), payment.outputs.len()), (1, 2));
    assert_eq!(wallet.balance().ready + wallet.balance().pending, 1_090 - 500 - fee);
    let most = wallet.balance().ready;
    let refused = wallet.pay(elsewhere(), 1_000_000, 10);
    assert!(matches!(refused, Err(PayError::TooLittle { .. })), "{refused:?}");
    assert_eq!(wallet.balance().ready, most);
}

/// What twenty inputs cost, rounded up together, is more than what each costs rounded down.
#[test]
fn many_small_coins_pay_for_themselves() {
    let mut wallet = wallet(1);
    paid(&mut wallet, &[101; 20]);
    let payment = wallet.pay(elsewhere(), 999, 10).unwrap();
    assert!(fee(&payment, 101) >= (payment.to_bytes().len() as u64 * 10).div_ceil(1_000));
}

/// What a payment of coins of this value leaves to the miner.
fn fee(payment: &Transaction, coin: u64) -> u64 {
    let paid: u64 = payment.outputs.iter().map(|output| output.value).sum();
    payment.inputs.len() as u64 * coin - paid
}

#[test]
fn a_payment_to_another_chain_is_refused() {
    let mut wallet = wallet(1);
    paid(&mut wallet, &[1_000]);
    let refused = wallet.pay(Address { chain: 8, ..elsewhere() }, 5, 0);
    assert_eq!(refused, Err(PayError::Chain { expected: CHAIN, found: 8 }));
}

/// A payment waits, is in a block, the block is undone, and another takes its place with something that spends the same.
#[test]
fn a_payment_goes_through_a_reorganisation_and_gives_up_when_it_was_overtaken() {
    let mut wallet = wallet(1);
    paid(&mut wallet, &[1_000]);
    let payment = wallet.pay(elsewhere(), 400, 0).unwrap();
    assert_eq!(wallet.balance(), Balance { ready: 0, new: 0, pending: 600 });
    wallet.connect(&block(2, 2, vec![payment.clone()]));
    assert_eq!(wallet.balance(), Balance { ready: 600, new: 0, pending: 0 });
    assert_eq!(wallet.pending().count(), 0);
    wallet.disconnect().unwrap();
    assert_eq!(wallet.balance(), Balance { ready: 0, new: 0, pending: 600 });
    assert!(wallet.pending().eq([&payment]));
    let after = wallet.pay(elsewhere(), 100, 0).unwrap();
    assert_eq!(wallet.pending().count(), 2, "its change is spent already");

    // The same secret elsewhere has paid somebody else with that coin.
    let mut other = Transaction::new(
        CHAIN,
        [payment.inputs[0].previous],
        [Output { value: 1_000, lock: elsewhere().lock() }],
    );
    other.sign(0, &wallet.keypair(0));
    wallet.connect(&block(2, 3, vec![other]));
    assert_eq!(wallet.balance(), Balance::default());
    assert_eq!(wallet.pending().count(), 0, "{after:?} depended on it");
    assert_eq!(wallet.history().map(|entry| entry.spent).sum::<u64>(), 1_000);
}

/// What it spends is not there for a while, as at a node that is behind; then a block has the same coin again.
#[test]
fn a_payment_of_a_coin_that_is_gone_for_a_while_is_not_forgotten() {
    let mut wallet = wallet(1);
    let from = OutPoint { id: TxId(p2p_core::Key::of(b"somebody's")), index: 0 };
    let paid = Transaction::new(CHAIN, [from], [Output { value: 1_000, lock: wallet.receive().lock() }]);
    wallet.connect(&block(1, 1, vec![paid.clone()]));
    let payment = wallet.pay(elsewhere(), 400, 0).unwrap();
    let after = wallet.pay(elsewhere(), 100, 0).unwrap();
    wallet.disconnect().unwrap();
    assert_eq!((wallet.balance(), wallet.pending().count()), (Balance::default(), 0));
    wallet.note_earlier();
    // It is in its file as well.
    let path = std::env::temp_dir().join(format!("p2p-ledger-earlier-{}", std::process::id()));
    drop(WalletFile::make(path.clone(), "a password", &wallet, [64, 1, 1]).unwrap());
    let (file, mut again) = WalletFile::open(&path, "a password", CHAIN, MATURITY).unwrap();
    drop(file);
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(path.with_extension("lock")).unwrap();
    for wallet in [&mut wallet, &mut again] {
        wallet.connect(&block(1, 2, vec![paid.clone()]));
        wallet.note_earlier();
        assert!(wallet.pending().eq([&payment, &after]));
        assert_eq!(wallet.balance(), Balance { ready: 0, new: 0, pending: 500 });
    }
    // Something else that spends the same is in a block: it never will be.
    wallet.disconnect().unwrap();
    assert_eq!(wallet.earlier.len(), 2);
    let mut other =
        Transaction::new(CHAIN, [paid.out_point(0)], [Output { value: 1_000, lock: elsewhere().lock() }]);
    other.sign(0, &wallet.keypair(0));
    wallet.connect(&block(1, 3, vec![paid, other]));
    wallet.note_earlier();
    assert_eq!(wallet.pending().count(), 0);
    assert!(wallet.earlier.iter().all(|one| *one == after), "what depends on it cannot be told apart");
}

#[test]
fn a_payment_that_is_given_up_gives_its_coins_back() {
    let mut wallet = wallet(1);
    paid(&mut wallet, &[1_000, 50]);
    let before = wallet.balance();
    let payment = wallet.pay(elsewhere(), 400, 0).unwrap();
    wallet.pay(elsewhere(), 600, 0).unwrap();
    wallet.abandon(payment.id());
    assert_eq!(wallet.balance(), before);
    assert_eq!(wallet.pending().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    /// Blocks with receipts and payments are followed and undone: what there is is always what the blocks that are left say.
    #[test]
    fn undoing_blocks_leads_back_to_what_there_was(seed: u64) {
        let (mut rng, mut wallet) = (Rng::new(seed), wallet(1));
        let mut blocks: Vec<Block<Light, Transaction>> = Vec::new();
        for time in 0..60u64 {
            if rng.chance(0.3) && !blocks.is_empty() {
                blocks.pop();
                wallet.disconnect().unwrap();
            } else {
                let height = wallet.height() + 1;
                let mut transactions = vec![Transaction::coinbase(
                    CHAIN, height, [Output { value: 100 + rng.below(100), lock: wallet.receive().lock() }],
                )];
                if rng.chance(0.6) {
                    let _ = wallet.pay(elsewhere(), 1 + rng.below(300), 0);
                }
                let mut there = wallet.pending().cloned().collect::<Vec<_>>();
                there.truncate(rng.index(3));
                transactions.extend(there);
                let block = block(height, time, transactions);
                wallet.connect(&block);
                blocks.push(block);
            }
            let mut anew = Wallet::with_given(wallet.secret.clone(), CHAIN, MATURITY, wallet.given());
            blocks.iter().for_each(|block| anew.connect(block));
            let (now, theirs) = (wallet.balance(), anew.balance());
            let open: u64 = wallet.pending().flat_map(|one| &one.inputs)
                .filter_map(|input| anew.coins.get(&input.previous)).map(|coin| coin.value).sum();
            prop_assert_eq!(now.ready + now.new + open, theirs.ready + theirs.new);
            let ours: Vec<Entry> = wallet.history().filter(|entry| entry.height.is_some()).collect();
            prop_assert_eq!(ours, anew.history().collect::<Vec<_>>());
            let mut spent = std::collections::BTreeSet::new();
            prop_assert!(wallet.pending().flat_map(|one| &one.inputs).all(|input| spent.insert(input.previous)));
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whoever has coins that are enough, with what inputs of their number cost and next to nothing to spare, pays: a little more
    /// than some of them are worth.
    #[test]
    fn who_has_enough_pays(
        (count, some) in (2usize..40).prop_flat_map(|count| (Just(count), 1..count as u64)),
        coin in 20u64..500, more in 0u64..9, rate in 0u64..400,
    ) {
        let mut wallet = wallet(1);
        paid(&mut wallet, &vec![coin; count]);
        let value = 1 + more + (some * coin).saturating_sub(((58 + 107 * some) * rate).div_ceil(1_000));
        // An input has 107 bytes, all else with one output less than 110.
        let input = (107 * rate).div_ceil(1_000);
        let is_enough = (1..=count as u64).any(|n| n * coin >= value + n * input + (110 * rate).div_ceil(1_000));
        match wallet.pay(elsewhere(), value, rate) {
            Ok(payment) => {
                let bytes = payment.to_bytes().len() as u64;
                prop_assert!(fee(&payment, coin) >= (bytes * rate).div_ceil(1_000));
            }
            Err(PayError::TooLittle { needed, ready }) => prop_assert!(!is_enough && needed > ready),
            Err(why) => prop_assert!(false, "{}", why),
        }
    }
}

proptest! {
    #[test]
    fn an_address_comes_back_and_a_mistyped_one_does_not(chain: u32, key: [u8; 32], at in 0usize..64, to in 0u8..31) {
        let address = Address { chain, key: PublicKey(key) };
        let text = address.to_string();
        prop_assert_eq!(text.len(), 64);
        prop_assert_eq!(text.parse(), Ok(address));
        let mut wrong = text.clone().into_bytes();
        let letters = b"abcdefghijklmnopqrstuvwxyz234567";
        let now = letters.iter().position(|letter| *letter == wrong[at]).unwrap();
        wrong[at] = letters[(now + 1 + usize::from(to)) % 32];
        prop_assert!(String::from_utf8(wrong).unwrap().parse::<Address>().is_err());
    }

    #[test]
    fn what_is_no_address_is_refused_without_a_panic(text: String) {
        let _ = text.parse::<Address>();
    }
}

#[test]
fn a_file_that_was_changed_anywhere_is_refused() {
    let path = std::env::temp_dir().join(format!("p2p-ledger-wallet-{}", std::process::id()));
    let mut before = wallet(1);
    let file = WalletFile::make(path.clone(), "a password", &before, [64, 1, 1]).unwrap();
    let again = WalletFile::make(path.clone(), "a password", &before, [64, 1, 1]);
    assert!(matches!(again, Err(WalletFileError::Io { .. })), "it is not written over");
    let last = before.receive();
    file.save(&before).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(32).any(|some| some == [1; 32]), "the secret is not in it");
    let twice = WalletFile::open(&path, "a password", CHAIN, MATURITY);
    assert!(matches!(twice, Err(WalletFileError::InUse(_))), "one at a time");
    drop(file);
    let (file, mut after) = WalletFile::open(&path, "a password", CHAIN, MATURITY).unwrap();
    assert_ne!(after.receive(), last);
    drop(file);
    assert!(matches!(
        WalletFile::open(&path, "a password", 8, MATURITY),
        Err(WalletFileError::Chain { expected: 8, found: CHAIN, .. })
    ));
    // One place in each part of it: magic, costs, salt, nonce, secret, seal.
    for at in [0, 24, 33, 50, 80, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        std::fs::write(&path, changed).unwrap();
        assert!(WalletFile::open(&path, "a password", CHAIN, MATURITY).is_err(), "at {at}");
    }
    std::fs::write(&path, &bytes[..70]).unwrap();
    assert!(WalletFile::open(&path, "a password", CHAIN, MATURITY).is_err());
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(path.with_extension("lock")).unwrap();
}

/// Whoever dies while the password is stretched leaves no file that is no wallet.
#[test]
fn a_file_is_there_once_it_is_whole() {
    let path = std::env::temp_dir().join(format!("p2p-ledger-whole-{}", std::process::id()));
    let made = std::thread::scope(|scope| {
        let making =
            scope.spawn(|| WalletFile::make(path.clone(), "a password", &wallet(1), [8 << 10, 4, 1]));
        while !making.is_finished() {
            assert!(std::fs::read(&path).map_or(true, |bytes| !bytes.is_empty()), "an empty file");
        }
        making.join().unwrap()
    });
    drop(made.unwrap());
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(path.with_extension("lock")).unwrap();
}

/// Blocks that are not about it come one by one: when the last is undone, it goes back a little, and not to its last own one.
#[test]
fn when_a_skipped_block_is_undone_few_are_gone_through_again() {
    let mut wallet = wallet(1);
    paid(&mut wallet, &[1_000]);
    let filters = p2p_core::Key::of(b"filters");
    let mark = |height: u64| {
        let id = BlockId(p2p_core::Key::of(&height.to_le_bytes()));
        Mark { height, id, filters }
    };
    for height in std::iter::once(5_000).chain(5_001..=5_350) {
        wallet.skip_to(mark(height));
        assert_eq!(wallet.mark(), mark(height));
        let mut undone = wallet.last.clone();
        undone.pop_back();
        let before = undone.back().unwrap().mark.height;
        assert!(
            height == 5_000 || before + SKIPPED >= height && before < height,
            "from {height} to {before}"
        );
    }
    assert_eq!(wallet.last.len(), 6, "its own block, and one in a hundred");
    wallet.disconnect();
    assert_eq!((wallet.height(), wallet.balance().ready), (5_300, 1_000));
    // There are never more of them than can be undone.
    (6_000..600_000).step_by(200).for_each(|height| wallet.skip_to(mark(height)));
    assert_eq!(wallet.last.len(), UNDOABLE);
}
