//! Servers that are late, silent, or cannot be shown to lie: nobody waits for them for long.

use super::*;

#[test]
fn a_server_that_falls_silent_is_not_waited_for() {
    let (blocks, paying, _) = with_a_payment();
    let silent: Lie = |_, _, _| None;
    let mut client = Client::of(&blocks, &[(&paying, silent), (&paying, honest)]);
    assert_eq!(client.tip().height, blocks.len() as u64);
    client.servers[0].lie = honest;
    client.advance(15);
    assert_eq!(client.script.machine().tip().height, blocks.len() as u64);
    // One that goes is not waited for at all: the other is asked at once.
    (client.servers[0].lie, client.servers[1].lie) = (silent, silent);
    client.script.command(LightCommand::Block(3));
    client.exchange();
    let (asked, ask) = client.asked.pop().unwrap();
    assert!(matches!(ask, LightAsk::Block(_)));
    client.servers[2 - asked as usize].lie = honest;
    client.script.link(SimPeer(asked), Link::Down(p2p_core::Down::Closed));
    client.exchange();
    assert!(client.asked.contains(&(3 - asked, ask)));
    let Some(LightOutcome::Block(Ok(Some(block)))) = client.outcomes.pop() else {
        panic!("the other has it")
    };
    assert_eq!(block, blocks[2]);
}

/// It shows the same headers as often as it is asked, and would be asked for ever for what comes after them.
#[test]
fn a_server_that_repeats_known_headers_keeps_nobody_waiting() {
    let long = branch(&genesis(), 1, 2_010);
    let repeats: Lie = |_, ask, answer| match (ask, answer) {
        (LightAsk::Headers(_), LightAnswer::Headers { tip, .. }) => {
            Some(LightAnswer::Headers { tip, headers: headers(&branch(&genesis(), 1, 2_000)) })
        }
        (_, answer) => Some(answer),
    };
    let mut client = Client::asking(HeaderRules::default(), 0);
    client.add(&long, &long[0], honest);
    let repeater = client.start(&long[..1], &long[0], repeats);
    client.script.command(LightCommand::Enlist(SimPeer(repeater)));
    for _ in 0..8 {
        let sent = client.sent();
        client.answer(sent);
    }
    let asked = |(of, ask): &&(u32, LightAsk)| *of == repeater && matches!(ask, LightAsk::Headers(_));
    assert_eq!(client.asked.iter().filter(asked).count(), 2, "and no third time until its turn");
    client.outcomes.clear();
    assert_eq!(client.tip().height, 2_010);
}

/// It has ever more headers, which are all good, and takes as long as it may for each answer.
#[test]
fn a_server_that_never_comes_to_the_end_of_its_headers_keeps_nobody_waiting_for_long() {
    let (blocks, paying, _) = with_a_payment();
    let slow: Lie = |_, ask, answer| match ask {
        LightAsk::Headers(_) => None,
        _ => Some(answer),
    };
    let config = LightConfig { patience: Duration::from_secs(48), ..LightConfig::default() };
    let mut client = Client::with(HeaderRules::default(), 0, config);
    let servers = [honest, slow].map(|lie| client.start(&blocks, &paying, lie));
    client.enlist(servers);
    let more = branch(&blocks[blocks.len() - 1].header, 5, 6_000);
    for some in more.chunks(2_000) {
        client.advance(9);
        let id = client.unanswered.pop().unwrap();
        let answer = LightAnswer::Headers { tip: some[1_999].header.id(), headers: headers(some) };
        client.script.message(SimPeer(2), LedgerMsg::Light(LightMsg::Answer(id, answer)));
        client.exchange();
    }
    client.advance(5);
    client.script.command(LightCommand::Tip);
    client.exchange();
    let Some(LightOutcome::Tip(Ok(tip))) = client.outcomes.pop() else { panic!("it waits") };
    assert_eq!(tip.height, blocks.len() as u64, "so far there are filters");
}

/// It answers all that it is asked in time, and no answer is late; but there are many, and another server has nothing at all. The
/// first question of a user waits for that, also where nothing of the chain is kept before all of its work was seen.
#[test]
fn a_server_that_gets_on_is_waited_for_however_long_it_takes() {
    let blocks = branch(&genesis(), 1, 4_100);
    let config = LightConfig { patience: Duration::from_secs(4), ..LightConfig::default() };
    for minimum in [0, 4_000] {
        let rules = HeaderRules { minimum_work: U256::from(2 * minimum), ..HeaderRules::default() };
        let mut client = Client::with(rules, 0, config);
        let servers = [client.start(&blocks, &blocks[0], honest), client.start(&[], &blocks[0], honest)];
        for server in servers {
            client.script.command(LightCommand::Enlist(SimPeer(server)));
        }
        client.script.outcomes();
        client.script.command(LightCommand::Tip);
        let mut rounds = 0;
        while client.outcomes.is_empty() {
            let sent = client.sent();
            (0..3).for_each(|_| client.script.advance(Duration::from_millis(500)));
            client.answer(sent);
            rounds += 1;
            assert!(rounds < 100, "it does not get on");
        }
        let outcome = client.outcomes.pop().unwrap();
        assert!(matches!(outcome, LightOutcome::Tip(Ok(Tip { height: 4_100, .. }))), "{outcome:?}");
        assert!(rounds >= 4, "{rounds} rounds of 1.5 s, and a patience is 4 s");
    }
}

/// It gives the hashes of filters, but takes as long as it may for each answer; another gives them at once.
#[test]
fn a_server_that_gives_filter_hashes_slowly_keeps_nobody_waiting_for_long() {
    let blocks = branch(&genesis(), 1, 4_100);
    let slow: Lie = |_, ask, answer| match ask {
        LightAsk::FilterHashes { .. } => None,
        _ => Some(answer),
    };
    let config = LightConfig { patience: Duration::from_secs(16), ..LightConfig::default() };
    let mut client = Client::with(HeaderRules::default(), 0, config);
    let servers = [honest, slow].map(|lie| client.start(&blocks, &blocks[0], lie));
    client.enlist(servers);
    let answers = |client: &mut Client| {
        let id = client.unanswered.pop().expect("it is asked");
        let is_of_filters =
            |(of, ask): &&(u32, LightAsk)| *of == 2 && matches!(ask, LightAsk::FilterHashes { .. });
        let (_, ask) = client.asked.iter().rev().find(is_of_filters).unwrap().clone();
        let answer = client.servers[1].serve(&ask);
        client.script.message(SimPeer(2), LedgerMsg::Light(LightMsg::Answer(id, answer)));
        client.exchange();
    };
    client.advance(9);
    answers(&mut client);
    assert_eq!(client.tip_now(), None, "it may be in time yet");
    client.advance(4);
    let tip = client.outcomes.pop();
    assert!(matches!(tip, Some(LightOutcome::Tip(Ok(Tip { height: 4_100, .. })))), "{tip:?}");
    assert_eq!(client.tip_now().unwrap().height, 4_100);
    // It goes on meanwhile, and is waited for again once it has said all.
    for _ in 0..2 {
        client.advance(5);
        answers(&mut client);
    }
    client.advance(1);
    let next = block(&blocks[4_099].header, 1, &[]);
    client.all_mine(&next);
    assert_eq!(client.tip_now(), None);
    answers(&mut client);
    assert!(matches!(client.outcomes.pop(), Some(LightOutcome::Tip(Ok(tip))) if tip.id == next.header.id()));
}

/// It answers whatever it is asked but for filter hashes: not at all, or that it has none.
#[test]
fn a_server_that_withholds_filter_hashes_is_not_waited_for() {
    let silent: Lie = |_, ask, answer| match ask {
        LightAsk::FilterHashes { .. } => None,
        _ => Some(answer),
    };
    let missing: Lie = |_, ask, answer| match ask {
        LightAsk::FilterHashes { .. } => Some(LightAnswer::Missing),
        _ => Some(answer),
    };
    let (blocks, paying, _) = with_a_payment();
    for withholds in [silent, missing] {
        let mut client = Client::of(&blocks, &[(&paying, honest), (&paying, withholds)]);
        client.advance(15);
        // From now on every new block is there at once.
        let mut chain = blocks.clone();
        for _ in 0..4 {
            client.advance(11);
            let next = block(&chain[chain.len() - 1].header, 9, &[]);
            (1..=2).for_each(|server| client.mine(server, std::slice::from_ref(&next)));
            for server in [2, 1] {
                let new = LightMsg::New(headers(std::slice::from_ref(&next)));
                client.script.message(SimPeer(server), LedgerMsg::Light(new));
            }
            client.exchange();
            client.script.command(LightCommand::Tip);
            client.exchange();
            let Some(LightOutcome::Tip(Ok(tip))) = client.outcomes.pop() else { panic!("it waits") };
            assert_eq!(tip.id, next.header.id());
            chain.push(next);
        }
        // Once it gives them it counts again.
        client.servers[1].lie = hides_a_block;
        client.servers[1].about = vec![paying.clone()];
        client.advance(30);
        assert_eq!(client.liars(), [2]);
    }
}

/// A server that falls silent after it has named another filter for an old block.
#[test]
fn a_lie_of_a_server_that_is_silent_holds_nobody_up() {
    let (blocks, paying, _) = with_a_payment();
    let no_blocks: Lie = |_, ask, answer| match ask {
        LightAsk::Block(_) => Some(LightAnswer::Missing),
        _ => Some(answer),
    };
    let lies: Lie = |about, ask, answer| match ask {
        LightAsk::Block(_) => None,
        _ => hides_a_block(about, ask, answer),
    };
    let silent: Lie = |_, _, _| None;
    let mut client = Client::of(&blocks, &[(&paying, no_blocks)]);
    assert_eq!(client.tip().height, blocks.len() as u64);
    client.add(&blocks, &paying, lies);
    client.servers[1].lie = silent;
    client.advance(25);
    client.script.command(LightCommand::Tip);
    client.exchange();
    let Some(LightOutcome::Tip(Ok(tip))) = client.outcomes.pop() else { panic!("it waits") };
    assert_eq!(tip.height, blocks.len() as u64);
}

/// Most servers have pruned an old block. One names another filter for it, answers whatever it is asked, and does not give the
/// block: not at all, or it says that it has none.
#[test]
fn a_live_liar_about_a_block_that_nobody_has_keeps_nobody_waiting_for_long() {
    let pruned: Lie = |_, ask, answer| match ask {
        LightAsk::Block(_) => Some(LightAnswer::Missing),
        _ => Some(answer),
    };
    let has_none: Lie = |about, ask, answer| match ask {
        LightAsk::Block(_) => Some(LightAnswer::Missing),
        _ => hides_a_block(about, ask, answer),
    };
    let silent: Lie = |about, ask, answer| match ask {
        LightAsk::Block(_) => None,
        _ => hides_a_block(about, ask, answer),
    };
    let (blocks, paying, _) = with_a_payment();
    for (lie, comes_late) in [(has_none, false), (has_none, true), (silent, false), (silent, true)] {
        let mut client = Client::of(&[], &[]);
        let servers = [lie, pruned, pruned].map(|lie| client.start(&blocks, &paying, lie));
        if comes_late {
            client.enlist(servers[1..].iter().copied());
            assert_eq!(client.tip_now().unwrap().height, blocks.len() as u64);
        }
        client.enlist(servers);
        // Two answers that do not come, and half of its patience.
        client.advance(50);
        let mut chain = blocks.clone();
        for _ in 0..60 {
            let next = block(&chain[chain.len() - 1].header, 9, &[]);
            client.all_mine(&next);
            let tip = client.tip_now().map(|tip| tip.id);
            assert_eq!(tip, Some(next.header.id()), "it waits: {comes_late}, {:?}", client.asked.last());
            chain.push(next);
            client.advance(1);
        }
        assert_eq!(client.liars(), [], "nothing shows that it is one");
        // Once somebody has the block it is found by the right filter.
        client.add(&chain, &paying, honest);
        assert!(
            matches!(client.scan(Mark::START, &nines()), Ok(Scanned::Found(_, found)) if *found == paying)
        );
    }
}

/// A link holds 4 MiB: whole blocks for users, and those of which servers say different things, have room there together. What is
/// disputed comes first.
#[test]
fn no_more_blocks_are_asked_for_at_once_than_a_link_holds() {
    let (blocks, paying, _) = with_a_payment();
    let no_blocks: Lie = |_, ask, answer| match ask {
        LightAsk::Block(_) => None,
        _ => Some(answer),
    };
    let lies: Lie = |about, ask, answer| match ask {
        LightAsk::Block(_) => None,
        _ => hides_a_block(about, ask, answer),
    };
    for (block_bytes, window) in [(1 << 20, 3), (3 << 19, 2), (3 << 20, 1)] {
        let config = LightConfig { block_bytes, ..LightConfig::default() };
        let mut client = Client::with(HeaderRules::default(), 0, config);
        let servers = [no_blocks, lies].map(|lie| client.start(&blocks, &paying, lie));
        client.enlist([servers[0]]);
        for height in 1..=3 {
            client.script.command(LightCommand::Block(height));
        }
        client.exchange();
        client.enlist([servers[1]]);
        let asked = |client: &Client| -> Vec<LightAsk> {
            let of_it = client.asked.iter().filter(|(of, ask)| *of == 1 && matches!(ask, LightAsk::Block(_)));
            of_it.map(|(_, ask)| ask.clone()).collect()
        };
        let first = asked(&client);
        assert_eq!(first.len(), window, "of {block_bytes} bytes");
        assert!(window * block_bytes <= 3 << 20);
        let answer = client.servers[0].serve(&first[0]);
        let id = client.unanswered[0];
        client.script.message(SimPeer(1), LedgerMsg::Light(LightMsg::Answer(id, answer)));
        client.exchange();
        let disputed = LightAsk::Block(paying.header.id());
        assert_eq!(asked(&client)[window.min(2)], disputed, "of {block_bytes} bytes");
    }
}

#[test]
fn where_nobody_answers_users_are_told_so_after_a_while() {
    let mut client = Client::asking(HeaderRules::default(), 3);
    let LightOutcome::Tip(tip) = client.does(LightCommand::Tip) else { panic!() };
    assert_eq!(tip, Err(LedgerError::Remote("no server answers".into())));
    for _ in 0..64 {
        client.script.command(LightCommand::Tip);
    }
    let LightOutcome::Tip(tip) = client.does(LightCommand::Tip) else { panic!() };
    assert!(matches!(tip, Err(LedgerError::Refused(_))), "{tip:?}");
}
