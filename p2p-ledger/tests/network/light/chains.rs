//! Which chain a client follows.

use super::*;

/// One server keeps the newest blocks to itself, and then shows a branch of its own with less work.
#[test]
fn a_server_that_hides_the_best_chain_hides_nothing_while_there_is_another() {
    let (blocks, paying, payment) = with_a_payment();
    let fork = paying.header.height as usize - 3;
    let own = branch(&blocks[fork - 1].header, 5, 4);
    let mut client = Client::of(&[], &[]);
    client.add(&[&blocks[..fork], &own[..]].concat(), &paying, honest);
    assert_eq!(client.tip().id, own[3].header.id());
    client.add(&blocks, &paying, honest);
    assert_eq!(client.tip().id, blocks[blocks.len() - 1].header.id());
    assert!(client.prove(paying.header.height, payment.id()).is_some());
    assert_eq!(client.liars(), [], "it may only be behind");
    let undone = client.events.iter().any(|event| match event {
        LightEvent::Changed(change) => change.disconnected.len() == own.len(),
        LightEvent::Lied(..) => false,
    });
    assert!(undone, "its branch was the chain before");
}

/// There is nobody else: it can keep blocks to itself, and show none that has no work.
#[test]
fn a_client_that_has_only_a_liar_is_shown_no_payment_without_work() {
    let (blocks, paying, _) = with_a_payment();
    let before = &blocks[..paying.header.height as usize - 1];
    let forged = {
        let payment = spend(1, before[1].transactions[0].out_point(0), [pay(9, 1 << 40)]);
        let mut block = block(&before[before.len() - 1].header, 1, &[payment]);
        while p2p_ledger::Consensus::check_seal(&Pow::regtest(), &block.header).is_ok() {
            block.header.seal.nonce += 1;
        }
        block
    };
    let shows: Lie = |about, ask, answer| match (ask, answer) {
        (LightAsk::Headers(_), LightAnswer::Headers { .. }) => Some(LightAnswer::Headers {
            tip: about.header.id(),
            headers: headers(std::slice::from_ref(about)),
        }),
        (_, answer) => Some(answer),
    };
    let mut client = Client::of(before, &[(&forged, honest)]);
    assert_eq!(client.tip().height, before.len() as u64);
    client.servers[0].lie = shows;
    client.advance(15);
    assert_eq!(client.liars(), [1]);
    assert_eq!(client.script.machine().tip().height, before.len() as u64);
}

/// The chain goes over to another branch, in which the payment is in another block.
#[test]
fn a_reorganisation_is_followed() {
    let (blocks, paying, payment) = with_a_payment();
    let mut client = Client::of(&blocks, &[(&paying, honest), (&paying, honest)]);
    let Scanned::Found(mark, _) = client.scan(Mark::START, &nines()).unwrap() else { panic!("it is there") };
    let fork = &blocks[paying.header.height as usize - 2].header;
    let mut other = vec![block(fork, 2, &[])];
    other.push(block(&other[0].header, 2, &[payment]));
    other.extend(branch(&other[1].header, 2, 6));
    client.mine(1, &other);
    client.advance(15);
    assert_eq!(client.tip().id, other[7].header.id(), "one of them has it");
    assert_eq!(client.scan(mark, &nines()), Ok(Scanned::Gone));
    let Scanned::Found(mark, found) = client.scan(Mark::START, &nines()).unwrap() else {
        panic!("it is there")
    };
    assert_eq!((mark.height, *found), (paying.header.height + 1, other[1].clone()));
    assert_eq!(client.liars(), []);
    client.mine(2, &other);
    client.advance(15);
    assert_eq!(client.liars(), []);
}

#[test]
fn a_new_block_that_is_announced_needs_no_poll() {
    let (blocks, paying, _) = with_a_payment();
    let mut client = Client::of(&blocks, &[(&paying, honest)]);
    let before = client.tip();
    let next = block(&blocks[blocks.len() - 1].header, 9, &[]);
    client.mine(1, std::slice::from_ref(&next));
    let stranger = LightMsg::New(headers(std::slice::from_ref(&next)));
    client.script.message(SimPeer(7), LedgerMsg::Light(stranger.clone()));
    client.exchange();
    assert_eq!(client.script.machine().tip(), before, "whoever that is");
    client.script.message(SimPeer(1), LedgerMsg::Light(stranger));
    client.exchange();
    assert_eq!(client.script.machine().tip().id, next.header.id());
}

/// The first to answer shows an easy branch that is longer than what is final is deep.
#[test]
fn nothing_is_final_before_servers_are_agreed() {
    let rules = HeaderRules { finality: Some(6), ..HeaderRules::default() };
    let (blocks, paying, _) = with_a_payment();
    let easy = branch(&genesis(), 5, 8);
    let mut client = Client::asking(rules, 2);
    client.start(&easy, &paying, honest);
    client.start(&blocks, &paying, honest);
    client.advance(2);
    assert_eq!(client.tip().id, blocks[blocks.len() - 1].header.id());
    // From then on it is.
    let fork = blocks.len() - 7;
    let other = branch(&blocks[fork - 1].header, 6, 12);
    client.mine(1, &[&blocks[..fork], &other[..]].concat());
    client.advance(15);
    assert_eq!(client.tip().id, blocks[blocks.len() - 1].header.id());
    assert_eq!(client.liars(), [], "it may have seen nothing else");
}

/// A chain that is too long to be told by its first headers whether it is worth anything.
#[test]
fn a_long_chain_with_enough_work_is_followed_and_one_without_is_not() {
    let minimum_work = ruint::aliases::U256::from(2 * 2_500);
    let rules = || HeaderRules { minimum_work, ..HeaderRules::default() };
    let long = branch(&genesis(), 1, 2_600);
    let mut client = Client::asking(rules(), 0);
    client.add(&long, &long[0], honest);
    assert_eq!(client.tip().height, 2_600);
    let mut client = Client::asking(rules(), 0);
    client.add(&long[..2_400], &long[0], honest);
    assert_eq!(client.tip().height, 0);
    assert_eq!(client.script.machine().headers().len(), 1, "none of them is kept");
}
