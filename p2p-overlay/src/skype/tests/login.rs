//! Names.

use super::*;

/// Whether that comes before or after; but nobody is told to give up because a server is busy, or not there yet.
#[test]
fn whoever_waits_for_the_login_hears_how_it_went() {
    let mut sim = Sim::<Node>::new(1, Network::default());
    sim.spawn(|_| Skype::login_server(key(0), [], config()));
    let [ada, thief] = [1, 2].map(|peer| {
        let user = SkypeUser { name: "ada".into(), ..user(SimPeer(peer), true) };
        sim.spawn(|_| Skype::node(user, [], Role::Ultrapeer, config()))
    });
    let [first, second, server] = [ada, thief, SERVER].map(|peer| sim.handle(peer));
    let (certified, taken, none) = sim.block_on(async move {
        (
            first.ask(LoggedIn).await.unwrap(),
            second.ask(LoggedIn).await.unwrap(),
            server.ask(LoggedIn).await.unwrap(),
        )
    });
    assert_eq!(certified.as_ref().map(Certificate::key), Ok(key(1).id()));
    assert_eq!((taken, none), (Err(LoginError::Taken), Err(LoginError::BadName)));
    sim.crash(SERVER);
    let first = sim.handle(ada);
    assert_eq!(sim.block_on(async move { first.ask(LoggedIn).await.unwrap() }), certified);
}

fn log_in(server: &mut Script<Node>, peer: u32, name: &str) -> SkypeMsg {
    // The script's clock begins at the epoch.
    let request = LoginRequest::new(&key(peer), name, &key(0).id(), Duration::ZERO);
    server.message(SimPeer(peer), SkypeMsg::Login(request));
    let (to, answer) = server.sent().pop().unwrap();
    assert_eq!(to, SimPeer(peer));
    answer
}

#[test]
fn a_name_is_whoevers_key_comes_first() {
    let config = SkypeConfig { names: 2, ..config() };
    let mut server = Script::new(Node::login_server(key(0), [], config));
    let SkypeMsg::Certified(first) = log_in(&mut server, 1, "ada") else { panic!() };
    assert!(first.is_genuine(&key(0).id(), Duration::ZERO) && first.key() == key(1).id());
    assert_eq!(log_in(&mut server, 2, "ada"), SkypeMsg::Refused(LoginError::Taken));
    assert_eq!(log_in(&mut server, 2, "A d a"), SkypeMsg::Refused(LoginError::BadName));
    assert_eq!(log_in(&mut server, 1, "ada"), SkypeMsg::Certified(first), "she comes again");
    assert!(matches!(log_in(&mut server, 2, "bob"), SkypeMsg::Certified(_)));
    assert_eq!(log_in(&mut server, 3, "eve"), SkypeMsg::Refused(LoginError::Full));
}

#[test]
fn who_does_not_show_the_key_gets_no_name() {
    let mut server = Script::new(Node::login_server(key(0), [], config()));
    let login = |server: &mut Script<Node>, request| {
        server.message(SimPeer(2), SkypeMsg::Login(request));
        server.sent().pop().unwrap().1
    };
    let bad = SkypeMsg::Refused(LoginError::BadRequest);
    let other = LoginRequest::new(&key(1), "ada", &key(9).id(), Duration::ZERO);
    assert_eq!(login(&mut server, other), bad, "it was made for another server");
    let old = LoginRequest::new(&key(1), "ada", &key(0).id(), Duration::from_secs(301));
    assert_eq!(login(&mut server, old), bad, "by another clock");
    let sound = LoginRequest::new(&key(1), "ada", &key(0).id(), Duration::ZERO);
    assert!(matches!(login(&mut server, sound.clone()), SkypeMsg::Certified(_)));
    for _ in 0..2 {
        login(&mut server, sound.clone());
    }
    assert_eq!(login(&mut server, sound.clone()), SkypeMsg::Refused(LoginError::Busy), "five at once");
    server.advance(Duration::from_secs(5));
    assert!(matches!(login(&mut server, sound), SkypeMsg::Certified(_)));
}

/// A login server that writes names down, and what it has sent since.
fn asked(server: &mut Script<LoginServer<SimPeer>>, peer: u32, name: &str) -> Vec<(SimPeer, SkypeMsg)> {
    let request = LoginRequest::new(&key(peer), name, &key(0).id(), Duration::ZERO);
    server.message(SimPeer(peer), SkypeMsg::Login(request));
    server.sent()
}

#[test]
fn no_name_is_certified_before_it_is_written_down() {
    let mut server = Script::new(LoginServer::new(key(0), [], config()));
    assert_eq!(asked(&mut server, 1, "ada"), []);
    assert_eq!(asked(&mut server, 1, "ada"), [], "she asks again");
    assert_eq!(asked(&mut server, 2, "ada"), [(SimPeer(2), SkypeMsg::Refused(LoginError::Taken))]);
    let jobs = server.jobs();
    let [(job, NoteName { name, key: owner })] = &jobs[..] else { panic!("{jobs:?}") };
    assert_eq!((&name[..], *owner), ("ada", key(1).id()));
    server.done(*job, Ok(()));
    let sent = server.sent();
    assert!(matches!(&sent[..], [(SimPeer(1), SkypeMsg::Certified(_))]), "{sent:?}");
    let sent = asked(&mut server, 1, "ada");
    assert!(matches!(&sent[..], [(SimPeer(1), SkypeMsg::Certified(_))]), "at once: {sent:?}");
    // What cannot be written down is nobody's.
    assert_eq!(asked(&mut server, 3, "bob"), []);
    let (job, _) = server.jobs().pop().unwrap();
    server.done(job, Err(NamesError::Io("no space left".into())));
    assert_eq!(server.sent(), [(SimPeer(3), SkypeMsg::Refused(LoginError::Busy))]);
    assert_eq!(server.machine().names().map(|(name, _)| name).collect::<Vec<_>>(), ["ada"]);
    assert_eq!(asked(&mut server, 4, "bob"), []);
    assert_eq!(server.jobs().len(), 1);
}

#[test]
fn one_subnet_does_not_take_all_names() {
    let mut server = Script::new(Skype::<Contact>::login_server(key(0), [], config()));
    let log_in = |server: &mut Script<Skype<Contact>>, peer: u32, subnet: u8| {
        let from = Contact::new(key(peer).id(), ([8, 8, subnet, peer as u8], 4000).into());
        let request = LoginRequest::new(&key(peer), &name(peer), &key(0).id(), Duration::ZERO);
        server.message(from, SkypeMsg::Login(request));
        matches!(server.sent().pop(), Some((_, SkypeMsg::Certified(_))))
    };
    assert_eq!((1..40).filter(|peer| log_in(&mut server, *peer, 1)).count(), 20, "as many at once");
    assert!(log_in(&mut server, 50, 2), "another subnet's are its own");
    server.advance(Duration::from_secs(60));
    assert!(log_in(&mut server, 1, 1), "who has a name keeps it");
    assert!(log_in(&mut server, 51, 1) && !log_in(&mut server, 52, 1));
}

#[test]
fn users_are_found_by_their_profiles_too() {
    let mut sim = Sim::<Node>::new(1, Network::default());
    sim.spawn(|_| Skype::login_server(key(0), [], config()));
    for peer in 1..6 {
        let role = if peer == 1 { Role::Ultrapeer } else { Role::Leaf };
        sim.spawn(|birth| node(birth.peer, (peer > 1).then_some(SimPeer(1)), role, true));
    }
    sim.run_for(20 * SECOND);
    let find = |sim: &mut Sim<Node>, words: &str| {
        let here = sim.handle(SimPeer(2));
        let found = here.search(Query::text(words), Scope::default());
        let hits = sim.block_on(found.collect::<Vec<Hit<SimPeer>>>());
        hits.into_iter().map(|hit| hit.item.name).collect::<Vec<String>>()
    };
    assert_eq!(find(&mut sim, "number4 somewhere"), ["user4"]);
    assert_eq!(find(&mut sim, "somewhere").len(), 5);
    assert_eq!(find(&mut sim, "user4 number5"), [""; 0]);
}
