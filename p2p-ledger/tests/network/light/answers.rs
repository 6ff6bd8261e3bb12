//! Answers that are none.

use super::*;

/// What no honest server says, whatever it believes.
#[test]
fn answers_that_are_none_make_a_liar_of_their_sender() {
    let (blocks, paying, _) = with_a_payment();
    let garbage = || Bytes::from_static(b"\xff\xff\xff garbage");
    type Attack = (&'static str, Lie);
    let attacks: [Attack; 9] = [
        ("headers that cannot be read", |_, ask, answer| match ask {
            LightAsk::Headers(_) => {
                let headers = Bytes::from_static(b"\xff\xff\xff garbage");
                Some(LightAnswer::Headers { tip: genesis().id(), headers })
            }
            _ => Some(answer),
        }),
        ("another kind of answer to a question for headers", |_, ask, answer| match ask {
            LightAsk::Headers(_) => Some(LightAnswer::Submitted(None)),
            _ => Some(answer),
        }),
        ("too few filter hashes", |_, ask, answer| match (ask, answer) {
            (LightAsk::FilterHashes { .. }, LightAnswer::FilterHashes { previous, .. }) => {
                Some(LightAnswer::FilterHashes { previous, hashes: Vec::new() })
            }
            (_, answer) => Some(answer),
        }),
        ("another first filter", |_, ask, answer| match (ask, answer) {
            (LightAsk::FilterHashes { .. }, LightAnswer::FilterHashes { hashes, .. }) => {
                Some(LightAnswer::FilterHashes { previous: Key::ZERO, hashes })
            }
            (_, answer) => Some(answer),
        }),
        ("no filters", |_, ask, answer| match ask {
            LightAsk::Filters { .. } => Some(LightAnswer::Filters(sent_filters(&[]))),
            _ => Some(answer),
        }),
        ("filters that cannot be read", |_, ask, answer| match ask {
            LightAsk::Filters { .. } => Some(LightAnswer::Filters(Bytes::from_static(b"\xff\xff\xff"))),
            _ => Some(answer),
        }),
        ("more filters than were asked for", |_, ask, answer| match (ask, answer) {
            (LightAsk::Filters { .. }, LightAnswer::Filters(filters)) => {
                let mut filters = read_filters(&filters);
                filters.push(vec![0]);
                Some(LightAnswer::Filters(sent_filters(&filters)))
            }
            (_, answer) => Some(answer),
        }),
        ("a block that cannot be read", |_, ask, answer| match ask {
            LightAsk::Block(_) => Some(LightAnswer::Block(Bytes::from_static(b"\xff\xff\xff"))),
            _ => Some(answer),
        }),
        ("a block where filters were asked for", |about, ask, answer| match ask {
            LightAsk::Filters { .. } => Some(LightAnswer::Block(about.to_bytes().into())),
            _ => Some(answer),
        }),
    ];
    for (what, attack) in attacks {
        let mut client = Client::of(&blocks, &[(&paying, attack)]);
        // What is nowhere, and what is somewhere.
        client
            .script
            .command(LightCommand::Scan(Scan { after: Mark::START, about: vec![b"nothing".to_vec()] }));
        client.exchange();
        client.script.command(LightCommand::Scan(Scan { after: Mark::START, about: nines() }));
        client.exchange();
        assert_eq!(client.liars(), [1], "{what}");
    }
    // What nobody asked for is nothing at all.
    let mut client = Client::of(&blocks, &[(&paying, honest)]);
    let tip = client.tip();
    for id in 0..100 {
        client
            .script
            .message(SimPeer(1), LedgerMsg::Light(LightMsg::Answer(id, LightAnswer::Block(garbage()))));
    }
    assert_eq!((client.tip(), client.liars()), (tip, Vec::new()));
    let unread = LedgerMsg::Light(LightMsg::New(garbage()));
    client.script.message(SimPeer(1), unread);
    assert_eq!(client.liars(), [1]);
}
