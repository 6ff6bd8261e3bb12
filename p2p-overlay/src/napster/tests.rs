use futures::StreamExt;
use p2p_core::sim::{Encoding, Network, Sim, run_seeds};
use p2p_core::{Script, SimPeer};

use super::*;
use crate::search::{ContentHash, End, Fetch, Hit, Item, Query, Reach, Scope, Search};

type Machine = Script<Napster<SimPeer>>;

fn server() -> Machine {
    Script::new(Napster::server(NapsterConfig { files_each: 3, hot: 2, ..NapsterConfig::default() }))
}

fn log_in(server: &mut Machine, peer: u32, nick: &str) -> Vec<(SimPeer, NapsterMsg)> {
    let contact = SimPeer(peer).contact();
    let (nick, password) = (nick.to_owned(), "x".to_owned());
    server.message(SimPeer(peer), NapsterMsg::Login { nick, password, contact, info: "t".into(), link: 3 });
    server.sent()
}

fn is_let_in(answer: &[(SimPeer, NapsterMsg)]) -> bool {
    matches!(answer, [(_, NapsterMsg::LoginAck { .. })])
}

fn share(server: &mut Machine, peer: u32, name: &str) {
    let file = NapsterFile { name: name.into(), checksum: "ab".into(), size: 7, music: [128, 44_100, 60] };
    server.message(SimPeer(peer), NapsterMsg::Share(file));
}

fn results(server: &mut Machine, peer: u32, words: &str) -> Vec<String> {
    server.message(SimPeer(peer), NapsterMsg::Search { words: words.into(), most: 100, local_only: false });
    let mut sent = server.sent();
    assert_eq!(sent.pop(), Some((SimPeer(peer), NapsterMsg::EndOfResults)));
    let name = |(_, msg)| match msg {
        NapsterMsg::Result { file, nick, .. } => format!("{nick}: {}", file.name),
        other => panic!("{other:?}"),
    };
    sent.into_iter().map(name).collect()
}

#[test]
fn the_index_knows_what_is_shared_while_its_owner_is_there() {
    let mut server = server();
    log_in(&mut server, 1, "ada");
    log_in(&mut server, 2, "bob");
    for name in ["one song", "two songs", "three", "a fourth song"] {
        share(&mut server, 1, name);
    }
    assert_eq!(results(&mut server, 2, "song"), ["ada: one song"], "three of each are known");
    assert_eq!(results(&mut server, 1, "song"), [] as [&str; 0], "nobody is told of their own");
    server.message(SimPeer(1), NapsterMsg::Unshare { name: "three".into() });
    share(&mut server, 1, "a fourth song");
    assert_eq!(results(&mut server, 2, "song").len(), 2);
    server.link(SimPeer(1), Link::Down(Down::Closed));
    assert_eq!(results(&mut server, 2, "song").len(), 0);
}

/// She shares a thousand before he shares one.
#[test]
fn who_has_most_leaves_the_others_room_among_the_results() {
    let mut server = Script::new(Napster::server(NapsterConfig::default()));
    for (peer, nick) in [(1, "eve"), (2, "ada"), (3, "bob")] {
        log_in(&mut server, peer, nick);
    }
    (0..1000).for_each(|i| share(&mut server, 1, &format!("song {i}")));
    share(&mut server, 2, "a song");
    let found = results(&mut server, 3, "song");
    assert_eq!(found.iter().filter(|file| file.starts_with("eve: ")).count(), 32);
    assert_eq!(found.last().map(String::as_str), Some("ada: a song"));
}

#[test]
fn a_nick_is_whoever_has_it_first() {
    let mut server = server();
    assert!(matches!(log_in(&mut server, 1, "ada")[..], [(SimPeer(1), NapsterMsg::LoginAck { .. })]));
    assert!(matches!(log_in(&mut server, 2, "ada")[..], [(SimPeer(2), NapsterMsg::Error(_))]));
    assert!(matches!(log_in(&mut server, 2, "a b")[..], [(SimPeer(2), NapsterMsg::Error(_))]));
    server.message(SimPeer(3), NapsterMsg::EndOfResults);
    assert!(matches!(server.sent()[..], [(SimPeer(3), NapsterMsg::Error(_))]), "who has not logged in");
    log_in(&mut server, 1, "eve");
    assert!(matches!(log_in(&mut server, 2, "ada")[..], [(SimPeer(2), NapsterMsg::LoginAck { .. })]));
}

/// A login counts as a hundred messages, of 2,200 at once.
#[test]
fn who_logs_in_again_has_sent_what_it_has_sent() {
    let mut server = server();
    let mut answered = |nick: &str| {
        let logged_in = is_let_in(&log_in(&mut server, 1, nick));
        for _ in 0..2050 {
            let search = NapsterMsg::Search { words: "song".into(), most: 100, local_only: false };
            server.message(SimPeer(1), search);
        }
        (logged_in, server.sent().len())
    };
    assert_eq!(answered("ada"), (true, 2050));
    assert_eq!(answered("ada"), (false, 50), "what was left");
    assert_eq!(answered("eve"), (false, 0));
    server.link(SimPeer(1), Link::Down(Down::Closed));
    assert!(matches!(&log_in(&mut server, 1, "ada")[..], [(SimPeer(1), NapsterMsg::Error(_))]), "it is said");
    assert!(is_let_in(&log_in(&mut server, 2, "ada")), "another is");
    server.advance(Duration::from_secs(1));
    assert!(is_let_in(&log_in(&mut server, 1, "bob")));
}

#[test]
fn nobody_is_sent_to_a_third() {
    let mut server = server();
    let victim = SimPeer(99).contact();
    let (nick, password) = ("eve".to_owned(), "x".to_owned());
    let login = NapsterMsg::Login { nick, password, contact: victim, info: "t".into(), link: 3 };
    server.message(SimPeer(1), login);
    share(&mut server, 1, "song");
    log_in(&mut server, 2, "bob");
    server.sent();
    server.message(SimPeer(2), NapsterMsg::Download { nick: "eve".into(), name: "song".into() });
    let sent = server.sent();
    let [(_, NapsterMsg::DownloadAck { contact, .. })] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(contact.addr.port(), 0, "she has to push");
    share(&mut server, 2, "other");
    server.message(SimPeer(1), NapsterMsg::Push { nick: "bob".into(), name: "other".into() });
    assert!(
        matches!(server.sent()[..], [(SimPeer(1), NapsterMsg::GetError { .. })]),
        "and nobody pushes to her"
    );
}

#[test]
fn the_hot_list_tells_who_comes_and_goes() {
    let mut server = server();
    log_in(&mut server, 1, "ada");
    for nick in ["bob", "eve", "dan"] {
        server.message(SimPeer(1), NapsterMsg::AddHot { nick: nick.into() });
    }
    let kinds: Vec<bool> =
        server.sent().into_iter().map(|(_, msg)| matches!(msg, NapsterMsg::HotAck { .. })).collect();
    assert_eq!(kinds, [true, true, false], "there is room for two");
    let sent = log_in(&mut server, 2, "bob");
    assert!(sent.contains(&(SimPeer(1), NapsterMsg::SignOn { nick: "bob".into(), link: 3 })));
    server.link(SimPeer(2), Link::Down(Down::TimedOut));
    assert_eq!(server.sent(), [(SimPeer(1), NapsterMsg::SignOff { nick: "bob".into() })]);
    server.message(SimPeer(1), NapsterMsg::RemoveHot { nick: "bob".into() });
    let sent = log_in(&mut server, 2, "bob");
    assert_eq!(sent.len(), 1, "{sent:?}");
}

#[test]
fn a_private_message_says_from_whom() {
    let mut server = server();
    log_in(&mut server, 1, "ada");
    log_in(&mut server, 2, "bob");
    server.message(SimPeer(1), NapsterMsg::Private { nick: "bob".into(), text: "hello there".into() });
    let said = NapsterMsg::Private { nick: "ada".into(), text: "hello there".into() };
    assert_eq!(server.sent(), [(SimPeer(2), said)]);
}

/// She waits for bob's file, who is reached; eve has seen the same results.
#[test]
fn nobody_sends_in_the_place_of_a_source_that_is_reached() {
    let server = SimPeer(100);
    let mut ada =
        Script::new(Napster::client("ada", SimPeer(0).contact(), server.contact(), NapsterConfig::default()));
    ada.message(server, NapsterMsg::LoginAck { email: String::new() });
    let (nick, name) = ("bob".to_owned(), "song".to_owned());
    let reference = bytes::Bytes::from_static(b"bob\nsong");
    let hit = Hit { item: Item::new("song", 7), fetch: Fetch::Ask, reference };
    let reach = |ada: &mut Machine| ada.command(NapsterCommand::Search(SearchCommand::Reach(hit.clone())));
    let reached = |op, from| (op, NapsterOutcome::Search(SearchOutcome::Reached(Ok(from))));
    let send = NapsterMsg::Send { nick: nick.clone(), name: name.clone(), size: 7 };
    let op = reach(&mut ada);
    ada.message(SimPeer(66), send.clone());
    assert_eq!(ada.outcomes(), []);
    let ack = |contact| {
        let checksum = String::new();
        NapsterMsg::DownloadAck { nick: nick.clone(), contact, name: name.clone(), checksum, link: 0 }
    };
    ada.message(server, ack(SimPeer(2).contact().unwrap()));
    assert_eq!(ada.outcomes(), [reached(op, SimPeer(2))]);
    // Who accepts no connections is asked to connect.
    let op = reach(&mut ada);
    ada.message(server, ack(crate::place::of_address("0.0.0.0:0".parse().unwrap())));
    ada.message(SimPeer(2), send);
    assert_eq!(ada.outcomes(), [reached(op, SimPeer(2))]);
}

// ---- worlds

fn world(seed: u64, servers: u32, clients: u32) -> Sim<Napster<SimPeer>> {
    let links = Some(Duration::from_secs(1));
    let mut sim = Sim::new(seed, Network { encoding: Encoding::RoundTrip, links, ..Network::default() });
    for _ in 0..servers {
        sim.spawn(|_| Napster::server(NapsterConfig::default()));
    }
    for i in 0..clients {
        sim.spawn(|birth| {
            let servers = (0..servers).filter_map(|server| SimPeer(server).contact());
            // Every fifth accepts no connections.
            let listen = birth.peer.contact().filter(|_| i % 5 != 4);
            let mut client = Napster::client(format!("user{i}"), listen, servers, NapsterConfig::default());
            client.library_mut().unwrap().insert(Item::new(format!("song {i}.mp3"), 1000)).unwrap();
            client
        });
    }
    sim.run_for(Duration::from_secs(2));
    sim
}

async fn find(client: &dyn Search<SimPeer>, words: &str) -> Option<Hit<SimPeer>> {
    client.search(Query::text(words), Scope { hits: 1, ..Scope::default() }).next().await
}

#[test]
fn clients_find_and_reach_each_other_whoever_can_connect() {
    run_seeds(2, |seed| {
        let mut sim = world(seed, 1, 10);
        let (open, hidden) = (sim.handle(SimPeer(1)), sim.handle(SimPeer(5)));
        let reached = sim.block_on(async move {
            let direct = find(&open, "song 2").await.unwrap();
            let push = find(&open, "song 4").await.unwrap();
            let both = find(&hidden, "song 9").await.unwrap();
            assert_eq!(direct.fetch, Fetch::Ask);
            [open.reach(&direct).await, open.reach(&push).await, hidden.reach(&both).await]
        });
        assert_eq!(reached, [Ok(SimPeer(3)), Ok(SimPeer(5)), Err(SearchError::Unreachable)]);
        sim.trace()
    });
}

#[test]
fn searches_wait_for_each_other_and_cost_what_they_cost() {
    let mut sim = world(1, 1, 10);
    let client = sim.handle(SimPeer(1));
    let (one, all) = sim.block_on(async move {
        let all = client.search(Query::text("song"), Scope::default());
        let one = client.search(Query::text("song 7"), Scope::default());
        drop(client.search(Query::text("song 8"), Scope::default()));
        (one.await.unwrap(), all.collect::<Vec<_>>().await)
    });
    assert_eq!((all.len(), one.end, one.cost.whole), (9, End::Exhausted, true));
    assert_eq!((one.cost.messages, one.cost.peers), (3, 1), "the question, a result, the end");
}

#[test]
fn what_an_index_cannot_find_is_refused() {
    let mut sim = world(1, 1, 2);
    let (client, server) = (sim.handle(SimPeer(1)), sim.handle(SimPeer(0)));
    let walk = Scope { reach: Reach::Walk { walkers: 1, check_every: 1, steps: 1 }, ..Scope::default() };
    let ended = sim.block_on(async move {
        [
            client.search(Query::text("song"), walk).await,
            client.search(Query::content(ContentHash::Sha1([0; 20])), Scope::default()).await,
            client.search(Query::text(""), Scope::default()).await,
            server.search(Query::text("song"), Scope::default()).await,
        ]
    });
    let unsupported = Err(SearchError::Unsupported);
    assert_eq!(ended, [unsupported, unsupported, Err(SearchError::BadQuery), unsupported]);
}

#[test]
fn when_a_server_dies_its_clients_go_to_the_next() {
    let mut sim = world(2, 2, 8);
    let size = |sim: &Sim<Napster<SimPeer>>, server: u32| sim.node(SimPeer(server)).and_then(Napster::index);
    assert_eq!((size(&sim, 0), size(&sim, 1)), (Some((8, 8)), Some((0, 0))));
    sim.crash(SimPeer(0));
    sim.run_for(Duration::from_secs(30));
    assert_eq!(size(&sim, 1), Some((8, 8)));
    let client = sim.handle(SimPeer(2));
    assert!(sim.block_on(async move { find(&client, "song 3").await }).is_some());
}

// ---- linked servers

fn links(name: &str, servers: impl IntoIterator<Item = u32>) -> NapsterLinks {
    let servers = servers.into_iter().filter_map(|server| SimPeer(server).contact()).collect();
    NapsterLinks { name: name.into(), password: "secret".into(), servers }
}

/// A server of this name that is linked to another, 50, called "far", with its user "eve" of "farther".
fn linked() -> Machine {
    let mut server = Script::new(Napster::linked(links("near", []), NapsterConfig::default()));
    let far = SimPeer(50);
    let say = |server: &mut Machine, msg| server.message(far, NapsterMsg::Link(msg));
    say(&mut server, NapsterLinkMsg::Login { name: "far".into(), nonce: "n".into() });
    let sent = server.sent();
    let [(_, NapsterMsg::Link(NapsterLinkMsg::Login { name, nonce })), (_, NapsterMsg::Link(ack))] =
        &sent[..]
    else {
        panic!("{sent:?}")
    };
    assert_eq!(name, "near");
    assert_eq!(*ack, NapsterLinkMsg::Ack { digest: link::digest("n", nonce, "secret") });
    say(&mut server, NapsterLinkMsg::Ack { digest: link::digest(nonce, "n", "secret") });
    say(&mut server, NapsterLinkMsg::Server { name: "farther".into(), to: "far".into(), hops: 2 });
    let (nick, contact) = ("eve".into(), SimPeer(60).contact());
    say(&mut server, NapsterLinkMsg::User { nick, contact, link: 3, server: "farther".into() });
    assert_eq!(server.sent(), []);
    assert_eq!(server.machine().linked_to(), Some((2, 1)));
    server
}

fn from_link(server: &mut Machine, msg: NapsterLinkMsg) -> Vec<(SimPeer, NapsterMsg)> {
    server.message(SimPeer(50), NapsterMsg::Link(msg));
    server.sent()
}

#[test]
fn who_does_not_know_the_password_is_not_linked() {
    let mut server = linked();
    let login = |name: &str| NapsterMsg::Link(NapsterLinkMsg::Login { name: name.into(), nonce: "n".into() });
    for name in ["near", "far", "farther", "a b"] {
        server.message(SimPeer(51), login(name));
        assert!(matches!(server.sent()[..], [(SimPeer(51), NapsterMsg::Error(_))]), "{name}");
    }
    server.message(SimPeer(51), login("wrong"));
    server.sent();
    server.message(SimPeer(51), NapsterMsg::Link(NapsterLinkMsg::Ack { digest: "00".repeat(16) }));
    assert!(matches!(server.sent()[..], [(SimPeer(51), NapsterMsg::Error(_))]));
    server.message(SimPeer(51), NapsterMsg::Link(NapsterLinkMsg::Quit { nick: "eve".into() }));
    assert!(matches!(server.sent()[..], [(SimPeer(51), NapsterMsg::Error(_))]), "nor listened to");
    assert_eq!(server.machine().linked_to(), Some((2, 1)));
    let mut alone = self::server();
    alone.message(SimPeer(51), login("one"));
    assert!(matches!(alone.sent()[..], [(SimPeer(51), NapsterMsg::Error(_))]), "takes no links");
}

#[test]
fn a_search_asks_the_others_for_what_is_still_wanted() {
    let mut server = linked();
    log_in(&mut server, 1, "ada");
    log_in(&mut server, 2, "bob");
    share(&mut server, 1, "one song");
    server.sent();
    server.message(SimPeer(2), NapsterMsg::Search { words: "song".into(), most: 3, local_only: false });
    let sent = server.sent();
    let [(SimPeer(2), NapsterMsg::Result { .. }), (SimPeer(50), NapsterMsg::Link(asked))] = &sent[..] else {
        panic!("{sent:?}")
    };
    let NapsterLinkMsg::Search { nick, id, words, most: 2 } = asked else { panic!("{asked:?}") };
    assert_eq!((&nick[..], &words[..]), ("bob", "song"));
    let file = |name: &str| NapsterFile { name: name.into(), checksum: "ab".into(), size: 7, music: [0; 3] };
    let result =
        |nick: &str, name: &str| NapsterLinkMsg::Result { id: *id, nick: nick.into(), file: file(name) };
    assert_eq!(from_link(&mut server, result("ada", "no song")), [], "she is not of that server");
    assert!(matches!(
        from_link(&mut server, result("eve", "a song"))[..],
        [(SimPeer(2), NapsterMsg::Result { .. })]
    ));
    assert_eq!(
        from_link(&mut server, NapsterLinkMsg::End { id: *id }),
        [(SimPeer(2), NapsterMsg::EndOfResults)]
    );
    assert_eq!(from_link(&mut server, result("eve", "another song")), [], "it is over");

    server.message(SimPeer(2), NapsterMsg::Search { words: "song".into(), most: 1, local_only: false });
    assert_eq!(server.sent().len(), 2, "there are enough here");
    server.message(SimPeer(2), NapsterMsg::Search { words: "no".into(), most: 1, local_only: true });
    assert_eq!(server.sent(), [(SimPeer(2), NapsterMsg::EndOfResults)]);
    server.message(SimPeer(2), NapsterMsg::Search { words: "no".into(), most: 1, local_only: false });
    assert_eq!(server.sent().len(), 1);
    server.link(SimPeer(50), Link::Down(Down::Closed));
    assert_eq!(server.sent(), [(SimPeer(2), NapsterMsg::EndOfResults)], "nobody is waited for who is gone");
    assert_eq!(server.machine().linked_to(), Some((0, 0)));
}

#[test]
fn what_users_say_to_those_of_other_servers_is_passed_on() {
    let mut server = linked();
    log_in(&mut server, 1, "ada");
    let link = |msg| [(SimPeer(50), NapsterMsg::Link(msg))];
    server.message(SimPeer(1), NapsterMsg::Private { nick: "eve".into(), text: "hello".into() });
    let (from, nick, text) = ("ada".to_owned(), "eve".to_owned(), "hello".to_owned());
    assert_eq!(server.sent(), link(NapsterLinkMsg::Private { from: from.clone(), nick: nick.clone(), text }));
    let said = NapsterLinkMsg::Private { from: nick.clone(), nick: from.clone(), text: "hi".into() };
    let told = NapsterMsg::Private { nick: nick.clone(), text: "hi".into() };
    assert_eq!(from_link(&mut server, said), [(SimPeer(1), told)]);

    let name = "a song".to_owned();
    server.message(SimPeer(1), NapsterMsg::Download { nick: nick.clone(), name: name.clone() });
    let sent = server.sent();
    let [(_, NapsterMsg::DownloadAck { contact, .. })] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(Some(*contact), SimPeer(60).contact());
    server.message(SimPeer(1), NapsterMsg::Push { nick: nick.clone(), name: name.clone() });
    assert_eq!(server.sent(), link(NapsterLinkMsg::Push { from: from.clone(), nick: nick.clone(), name }));
    share(&mut server, 1, "hers");
    let push = NapsterLinkMsg::Push { from: nick.clone(), nick: from, name: "hers".into() };
    let sent = from_link(&mut server, push);
    let [(SimPeer(1), NapsterMsg::PushAck { nick: asker, contact, .. })] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!((asker, Some(*contact)), (&nick, SimPeer(60).contact()));

    server.message(SimPeer(1), NapsterMsg::AddHot { nick: nick.clone() });
    assert!(server.sent().contains(&(SimPeer(1), NapsterMsg::SignOn { nick: nick.clone(), link: 3 })));
    let gone = from_link(&mut server, NapsterLinkMsg::Quit { nick: nick.clone() });
    assert_eq!(gone, [(SimPeer(1), NapsterMsg::SignOff { nick })]);
}

/// Two ways to one server would let messages go round for ever.
#[test]
fn a_circle_is_cut_where_it_is_seen() {
    let mut server = linked();
    let again = NapsterLinkMsg::Server { name: "farther".into(), to: "far".into(), hops: 5 };
    assert!(matches!(from_link(&mut server, again)[..], [(SimPeer(50), NapsterMsg::Error(_))]));
    assert_eq!(server.machine().linked_to(), Some((0, 0)));
}

/// Servers that may link to all others, with users of each; one server dies, and then another comes.
#[test]
fn the_index_outlives_its_servers() {
    run_seeds(2, |seed| {
        let net = Network {
            encoding: Encoding::RoundTrip,
            links: Some(Duration::from_secs(1)),
            ..Network::default()
        };
        let mut sim = Sim::new(seed, net);
        let server = |i: u32| {
            let links = links(&format!("server{i}"), (0..4).filter(|other| *other != i));
            Napster::linked(links, NapsterConfig::default())
        };
        for i in 0..4 {
            sim.spawn(|_| server(i));
        }
        for i in 0..16u32 {
            sim.spawn(|birth| {
                // Each knows two servers.
                let servers = [i % 4, (i + 1) % 4].into_iter().filter_map(|server| SimPeer(server).contact());
                let listen = birth.peer.contact().filter(|_| i % 5 != 4);
                let mut client =
                    Napster::client(format!("user{i}"), listen, servers, NapsterConfig::default());
                client.library_mut().unwrap().insert(Item::new(format!("song {i}.mp3"), 1000)).unwrap();
                client
            });
        }
        let all = |sim: &mut Sim<Napster<SimPeer>>, by: u32| {
            let handle = sim.handle(SimPeer(4 + by));
            sim.block_on(async move {
                let hits = handle.search(Query::text("song"), Scope::default());
                hits.map(|hit| hit.item.name).collect::<std::collections::BTreeSet<String>>().await.len()
            })
        };
        sim.run_for(Duration::from_secs(120));
        for by in [0, 1, 2, 3] {
            assert_eq!(all(&mut sim, by), 15, "everybody's but one's own");
        }
        let handle = sim.handle(SimPeer(4));
        let reached = sim.block_on(async move {
            let (open, hidden) =
                (find(&handle, "song 3").await.unwrap(), find(&handle, "song 9").await.unwrap());
            (handle.reach(&open).await, handle.reach(&hidden).await)
        });
        assert_eq!(reached, (Ok(SimPeer(7)), Ok(SimPeer(13))), "at other servers, one of them behind a push");

        sim.crash(SimPeer((seed % 4) as u32));
        sim.run_for(Duration::from_secs(240));
        assert_eq!(all(&mut sim, 1), 15);
        let fifth = sim.spawn(|_| Napster::linked(links("server4", 0..4), NapsterConfig::default()));
        sim.run_for(Duration::from_secs(240));
        assert_eq!(sim.node(fifth).and_then(Napster::linked_to), Some((3, 16)));
        sim.trace()
    });
}
