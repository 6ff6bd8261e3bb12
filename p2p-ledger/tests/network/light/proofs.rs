//! Blocks, and proofs of what is in them.

use super::*;

#[test]
fn a_proof_that_one_server_withholds_comes_from_the_block() {
    let (blocks, paying, payment) = with_a_payment();
    let withholds: Lie = |_, ask, answer| match ask {
        LightAsk::Proof { .. } => Some(LightAnswer::Missing),
        _ => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, withholds), (&paying, withholds)]);
    let shown = client.prove(paying.header.height, payment.id()).unwrap();
    assert!(shown.holds() && shown.transaction == payment && shown.header == paying.header);
    assert_eq!(client.prove(paying.header.height, TxId(Key::of(b"another"))), None);
    assert_eq!(client.prove(1_000, payment.id()), None, "there is no such block");

    // And who says nothing at all holds it up, but does not keep it.
    let silent: Lie = |_, ask, answer| match ask {
        LightAsk::Proof { .. } | LightAsk::Block(_) => None,
        _ => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, silent), (&paying, honest)]);
    for _ in 0..8 {
        assert!(client.prove(paying.header.height, payment.id()).is_some());
    }
}

#[test]
fn a_proof_of_what_is_not_there_is_a_lie() {
    let (blocks, paying, payment) = with_a_payment();
    let forges: Lie = |about, ask, answer| match (ask, answer) {
        (LightAsk::Proof { .. }, LightAnswer::Proof(_)) => {
            let mut shown = Inclusion::of(about, about.transactions[1].id()).unwrap();
            shown.transaction.outputs[0].value += 1;
            Some(LightAnswer::Proof(shown.to_bytes().into()))
        }
        (_, answer) => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, forges), (&paying, honest)]);
    for _ in 0..20 {
        let shown = client.prove(paying.header.height, payment.id()).unwrap();
        assert_eq!(shown.transaction, payment);
    }
    assert_eq!(client.liars(), [1], "it is asked at least once in twenty times");
}

/// The block is really there, with work, and the server gives other bodies for it.
#[test]
fn a_block_that_is_not_its_headers_is_a_lie() {
    let (blocks, paying, _) = with_a_payment();
    let mutates: Lie = |about, ask, answer| match (ask, answer) {
        (LightAsk::Block(_), LightAnswer::Block(_)) => {
            let mut block = about.clone();
            block.transactions[1].outputs[0].value += 1;
            Some(LightAnswer::Block(block.to_bytes().into()))
        }
        (_, answer) => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, mutates)]);
    client.script.command(LightCommand::Block(paying.header.height));
    client.exchange();
    assert_eq!(client.liars(), [1]);
    client.add(&blocks, &paying, honest);
    let LightOutcome::Block(Ok(Some(block))) = client.does(LightCommand::Block(paying.header.height)) else {
        panic!("the other has it")
    };
    assert_eq!(block, paying);
}
