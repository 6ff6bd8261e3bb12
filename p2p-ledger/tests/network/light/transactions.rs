//! Transactions that a client gives to its servers.

use super::*;

#[test]
fn a_transaction_is_given_to_all_and_refused_only_if_all_refuse_it() {
    let (blocks, paying, payment) = with_a_payment();
    let swallows: Lie = |_, ask, answer| match ask {
        LightAsk::Submit(_) => Some(LightAnswer::Submitted(Some("no".into()))),
        _ => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, swallows), (&paying, honest)]);
    let onward = spend(9, payment.out_point(0), [pay(3, 900)]);
    let LightOutcome::Submitted(done) = client.does(LightCommand::Submit(onward.clone())) else { panic!() };
    assert_eq!(done, Ok(onward.id()));
    assert_eq!(client.servers[1].books.pool().len(), 1);
    let asked = client.asked.iter().filter(|(_, ask)| matches!(ask, LightAsk::Submit(_)));
    assert_eq!(asked.count(), 2);
    let twice = spend(1, blocks[0].transactions[0].out_point(0), [pay(3, 900)]);
    let LightOutcome::Submitted(done) = client.does(LightCommand::Submit(twice)) else { panic!() };
    assert!(matches!(&done, Err(LedgerError::Refused(why)) if why == "no"), "{done:?}");
}

/// A server takes few questions at a time, and is asked no more: each of these comes to every server.
#[test]
fn many_transactions_at_once_come_to_all_servers_a_few_at_a_time() {
    let count = 20;
    let blocks = branch(&genesis(), 1, MATURITY as usize + count);
    let mut client = Client::of(&blocks, &[(&blocks[0], honest), (&blocks[0], honest)]);
    for block in &blocks[..count] {
        let payment = spend(1, block.transactions[0].out_point(0), [pay(3, 900)]);
        client.script.command(LightCommand::Submit(payment));
    }
    loop {
        let sent = client.sent();
        if sent.is_empty() {
            break;
        }
        for server in 1..=2 {
            let is_submit =
                |msg: &LedgerMsg<_>| matches!(msg, LedgerMsg::Light(LightMsg::Ask(_, LightAsk::Submit(_))));
            let open = sent.iter().filter(|(to, msg)| to.0 == server && is_submit(msg)).count();
            assert!(open <= 2, "{open} at once");
        }
        client.answer(sent);
    }
    assert_eq!(client.outcomes.len(), count);
    for outcome in &client.outcomes {
        assert!(matches!(outcome, LightOutcome::Submitted(Ok(_))), "{outcome:?}");
    }
    assert!(client.servers.iter().all(|server| server.books.pool().len() == count));
}
