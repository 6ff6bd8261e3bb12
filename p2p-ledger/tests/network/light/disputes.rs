//! Disputes about the filter of a block that an honest server has, and does not give at once.

use super::*;

/// Lies about a block, and gives none.
fn hides_all(about: &CoinBlock, ask: &LightAsk, answer: LightAnswer) -> Option<LightAnswer> {
    match ask {
        LightAsk::Block(_) => Some(LightAnswer::Missing),
        _ => hides_a_block(about, ask, answer),
    }
}

/// Has no block, or no room for such a question.
fn no_blocks(_: &CoinBlock, ask: &LightAsk, answer: LightAnswer) -> Option<LightAnswer> {
    match ask {
        LightAsk::Block(_) => Some(LightAnswer::Missing),
        _ => Some(answer),
    }
}

fn of_three(blocks: &[CoinBlock], paying: &CoinBlock, lies: [Lie; 3]) -> Client {
    let mut client = Client::of(&[], &[]);
    let servers = lies.map(|lie| client.start(blocks, paying, lie));
    client.enlist(servers);
    client
}

/// Two liars, and an honest server that has no room for the question at first: as long as users wait for it, or for longer.
#[test]
fn an_honest_server_that_has_no_room_now_is_asked_again() {
    let (blocks, paying, _) = with_a_payment();
    for busy in [5, 90] {
        let mut client = of_three(&blocks, &paying, [hides_all, no_blocks, hides_all]);
        client.advance(busy);
        assert_eq!(client.liars(), []);
        let answered = client.tip_now();
        assert_eq!(answered.is_some(), busy > 30, "users wait for a while: {answered:?}");
        client.servers[1].lie = honest;
        client.advance(11);
        assert_eq!(client.liars(), [1, 3], "busy for {busy} s");
        assert!(
            matches!(client.scan(Mark::START, &nines()), Ok(Scanned::Found(_, found)) if *found == paying)
        );
    }
}

/// They answer when it is nearly too late, and there are more of them than could be asked one after the other.
#[test]
fn liars_that_answer_slowly_do_not_keep_the_honest_server_from_being_asked() {
    let (blocks, paying, _) = with_a_payment();
    let stalls: Lie = |about, ask, answer| match ask {
        LightAsk::Block(_) => None,
        _ => hides_a_block(about, ask, answer),
    };
    for honest_one in 0..5 {
        let mut client = Client::of(&[], &[]);
        let mut lies = [stalls; 5];
        lies[honest_one] = honest;
        let servers = lies.map(|lie| client.start(&blocks, &paying, lie));
        client.enlist(servers);
        let liars: Vec<u32> = (1..=5).filter(|server| *server != honest_one as u32 + 1).collect();
        assert_eq!(client.liars(), liars, "at once");
    }
}

/// It gives no filters, and what users have asked it for stays open.
#[test]
fn questions_of_users_take_no_room_from_a_dispute() {
    let (blocks, paying, _) = with_a_payment();
    let no_filters: Lie = |_, ask, answer| match ask {
        LightAsk::Filters { .. } => None,
        _ => Some(answer),
    };
    let mut client = Client::of(&blocks, &[(&paying, no_filters)]);
    for _ in 0..4 {
        client.script.command(LightCommand::Scan(Scan { after: Mark::START, about: nines() }));
    }
    client.exchange();
    assert_eq!(client.unanswered.len(), 2);
    let liars = [hides_all, hides_all].map(|lie| client.start(&blocks, &paying, lie));
    client.enlist(liars);
    assert_eq!(client.liars(), [2, 3]);
}

/// Of two servers each says something else, and neither gives the block. The liar's name is the lower one.
#[test]
fn where_there_is_no_majority_no_name_decides() {
    let (blocks, paying, _) = with_a_payment();
    let believed = (0..10).map(|polls| {
        let mut client = Client::of(&[], &[]);
        let servers = [hides_all, no_blocks].map(|lie| client.start(&blocks, &paying, lie));
        // Chance goes on meanwhile.
        client.add(&[], &paying, honest);
        client.advance(10 * polls);
        client.enlist(servers);
        client.advance(30);
        assert_eq!(client.tip_now().unwrap().height, blocks.len() as u64);
        matches!(client.scan(Mark::START, &nines()), Ok(Scanned::End(_)))
    });
    let believed: Vec<bool> = believed.collect();
    assert!(
        believed.contains(&true) && believed.contains(&false),
        "the lie is believed, or not: {believed:?}"
    );
}

/// The liars were believed for a while. A new one lies about the next block.
#[test]
fn who_was_overruled_and_is_proven_right_is_waited_for_again() {
    let (blocks, paying, _) = with_a_payment();
    let mut client = of_three(&blocks, &paying, [hides_all, no_blocks, hides_all]);
    client.advance(15);
    assert_eq!(client.tip_now().unwrap().height, blocks.len() as u64, "the liars are believed");
    let payment = spend(1, blocks[1].transactions[0].out_point(0), [pay(8, 7)]);
    let next = block(&blocks[blocks.len() - 1].header, 1, &[payment]);
    client.add(&blocks, &next, hides_a_block);
    client.servers[1].lie = honest;
    client.script.command(LightCommand::Block(paying.header.height));
    client.exchange();
    client.advance(12);
    assert_eq!(client.liars(), [1, 3]);
    client.events.clear();
    client.all_mine(&next);
    assert_eq!(client.liars(), [1, 3, 4]);
    let undone = client.events.iter().any(|event| match event {
        LightEvent::Changed(change) => !change.disconnected.is_empty(),
        LightEvent::Lied(..) => false,
    });
    assert!(!undone, "nobody was told of what the liar alone says: {:?}", client.events);
}
