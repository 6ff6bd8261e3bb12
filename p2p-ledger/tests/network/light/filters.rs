//! Filters: what is found by them, and who lies about them.

use super::*;

#[test]
fn what_is_looked_for_is_found_by_filters_and_nobody_is_told_what_it_is() {
    let (blocks, paying, payment) = with_a_payment();
    let mut client = Client::of(&blocks, &[(&paying, honest), (&paying, honest)]);
    assert_eq!(client.tip().id, blocks[blocks.len() - 1].header.id());
    let Scanned::Found(mark, found) = client.scan(Mark::START, &nines()).unwrap() else {
        panic!("it is there")
    };
    assert_eq!((mark.height, mark.id, *found), (paying.header.height, paying.header.id(), paying.clone()));
    let Scanned::End(end) = client.scan(mark, &nines()).unwrap() else { panic!("there is nothing more") };
    assert_eq!(end.height, blocks.len() as u64);
    let coin = payment.out_point(0).to_bytes();
    assert!(matches!(client.scan(mark, &[coin]), Ok(Scanned::End(_))), "nobody has spent it");
    let fetched = client.asked.iter().filter(|(_, ask)| matches!(ask, LightAsk::Block(_)));
    assert_eq!(fetched.count(), 1, "one block of {}", blocks.len());
    assert_eq!(client.liars(), []);
}

/// Three servers of four hide the block, and agree with each other.
#[test]
fn one_honest_server_is_enough_to_find_out_who_lies_about_a_filter() {
    let (blocks, paying, _) = with_a_payment();
    let lies: [(&CoinBlock, Lie); 4] =
        [(&paying, hides_a_block), (&paying, hides_a_block), (&paying, honest), (&paying, hides_a_block)];
    let mut client = Client::of(&[], &[]);
    let servers = lies.map(|(about, lie)| client.start(&blocks, about, lie));
    client.enlist(servers);
    assert!(matches!(client.scan(Mark::START, &nines()), Ok(Scanned::Found(..))));
    assert_eq!(client.liars(), [1, 2, 4]);
    client.advance(30);
    let later = client.asked.len();
    client.advance(30);
    assert!(client.asked[later..].iter().all(|(server, _)| *server == 3), "liars are not asked any more");
}

/// There is nobody but a liar at first, and what it hides is skipped. Then there is an honest one.
#[test]
fn what_was_skipped_by_a_lie_is_found_when_an_honest_server_comes() {
    let (blocks, paying, _) = with_a_payment();
    let mut client = Client::of(&blocks, &[(&paying, hides_a_block)]);
    let Scanned::End(end) = client.scan(Mark::START, &nines()).unwrap() else { panic!("it is hidden") };
    assert_eq!(end.height, blocks.len() as u64);
    client.add(&blocks, &paying, honest);
    assert_eq!(client.liars(), [1]);
    assert_eq!(client.scan(end, &nines()), Ok(Scanned::Gone), "what was gone by was a lie");
    assert!(matches!(client.scan(Mark::START, &nines()), Ok(Scanned::Found(..))));
    let undone = client.events.iter().find_map(|event| match event {
        LightEvent::Changed(change) if !change.disconnected.is_empty() => Some(change.disconnected.clone()),
        _ => None,
    });
    assert_eq!(undone.unwrap().last(), Some(&paying.header.id()), "users are told from where on");
}

/// It names the right filter, and gives another.
#[test]
fn a_server_that_gives_another_filter_than_it_has_named_is_found_out() {
    let (blocks, paying, _) = with_a_payment();
    let gives_nothing: Lie = |about, ask, answer| match answer {
        LightAnswer::Filters(_) => hides_a_block(about, ask, answer),
        _ => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, gives_nothing)]);
    client.script.command(LightCommand::Scan(Scan { after: Mark::START, about: nines() }));
    client.exchange();
    assert_eq!(client.liars(), [1]);
    client.add(&blocks, &paying, honest);
    assert!(matches!(client.scan(Mark::START, &nines()), Ok(Scanned::Found(..))));
}

/// Filters of a block's own transactions, whatever those are.
#[test]
fn a_filter_follows_from_the_block_alone() {
    let (_, paying, payment) = with_a_payment();
    let filter = Filter::of(&paying.header.id(), &paying.transactions);
    let key = Filter::key(&paying.header.id());
    for item in paying.transactions.iter().flat_map(Tx::about) {
        assert!(filter.has_any(&key, [&item[..]]));
    }
    let spent = payment.inputs[0].previous.to_bytes();
    assert!(filter.has_any(&key, [&spent[..]]), "who had the coin sees that it is spent");
    let other = whole(&genesis(), vec![paying.transactions[0].clone()]);
    assert_ne!(Filter::of(&other.header.id(), &other.transactions), filter);
}

/// Two servers of three agree on a lie about an old block that nobody has any more: they are believed. Then on one about a new
/// block, which the third has.
#[test]
fn who_was_overruled_is_heard_when_somebody_has_the_block() {
    let (blocks, paying, _) = with_a_payment();
    let pruned: Lie = |about, ask, answer| match ask {
        LightAsk::Block(id) if *id == about.header.id() => Some(LightAnswer::Missing),
        _ => Some(answer),
    };
    let lies: Lie = |about, ask, answer| match ask {
        LightAsk::Block(_) => Some(LightAnswer::Missing),
        _ => hides_a_block(about, ask, answer),
    };
    let mut client = Client::of(&[], &[]);
    let servers = [lies, pruned, lies].map(|lie| client.start(&blocks, &paying, lie));
    client.enlist(servers);
    assert_eq!(client.tip_now(), None, "it may be that there was no room for the question");
    client.advance(12);
    assert_eq!(client.tip_now().unwrap().height, blocks.len() as u64);
    assert_eq!(client.liars(), [], "nothing shows who they are");

    let payment = spend(1, blocks[1].transactions[0].out_point(0), [pay(8, 7)]);
    let next = block(&blocks[blocks.len() - 1].header, 1, &[payment]);
    client.servers[0].about.push(next.clone());
    client.servers[2].about.push(next.clone());
    client.all_mine(&next);
    client.advance(30);
    assert_eq!(client.liars(), [1, 3]);
    // What was believed of the old block was their word alone.
    let eights = [pay(8, 0).lock.to_bytes()];
    let Ok(Scanned::Found(mark, found)) = client.scan(Mark::START, &eights) else { panic!("it is there") };
    assert_eq!((mark.height, *found), (next.header.height, next));
    let asked = client.scan(Mark::START, &nines());
    assert!(matches!(asked, Err(LedgerError::Remote(_))), "the block may be about it, and nobody has it");
}
