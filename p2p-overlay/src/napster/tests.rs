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
