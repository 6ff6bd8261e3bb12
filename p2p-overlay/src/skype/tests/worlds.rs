//! Whole networks.

use super::*;

/// A login server, so many super-nodes, and ordinary nodes after them, of whom every third accepts no connections.
fn world(seed: u64, supers: u32, ordinary: u32) -> Sim<Node> {
    let latency = Latency::Uniform(Duration::from_millis(10), Duration::from_millis(60));
    let network =
        Network { latency, encoding: Encoding::RoundTrip, links: Some(SECOND), ..Network::default() };
    let mut sim = Sim::new(seed, network);
    sim.spawn(|_| Skype::login_server(key(0), [], config()));
    sim.population(move |birth| {
        let super_node = birth.peer.0 <= supers;
        let role = if super_node { Role::Ultrapeer } else { Role::Leaf };
        let seeds = two_of(supers, birth.peer, birth.rng);
        node(birth.peer, seeds, role, super_node || birth.peer.0 % 3 != 0)
    });
    for _ in 0..supers + ordinary {
        sim.join();
    }
    sim.run_for(6 * SECOND);
    sim
}

/// Two super-nodes that somebody knows: who is one itself knows the one that came before it, and so all hang together.
/// If they were drawn, two or three might know each other alone, and nobody ever hear of them.
fn two_of(supers: u32, peer: SimPeer, rng: &mut Rng) -> [SimPeer; 2] {
    let mut others: Vec<SimPeer> = (1..=supers).map(SimPeer).filter(|other| *other != peer).collect();
    rng.shuffle(&mut others);
    let before = SimPeer(peer.0.saturating_sub(1));
    others.sort_by_key(|other| peer.0 > supers || *other != before);
    [others[0], others[1]]
}

async fn find(node: &dyn Search<SimPeer>, text: &str) -> (Vec<Hit<SimPeer>>, crate::search::Searched) {
    let mut hits = node.search(Query::text(text), Scope::default());
    let mut found = Vec::new();
    while let Some(hit) = hits.next().await {
        found.push(hit);
    }
    (found, hits.await.unwrap())
}

fn call(sim: &mut Sim<Node>, from: u32, to: u32) -> Result<Called, CallError> {
    let node = sim.handle(SimPeer(from));
    sim.block_on(async move { node.ask(Call { name: name(to) }).await.unwrap() })
}

#[test]
fn everybody_is_found_and_a_search_costs_what_it_says() {
    run_seeds(2, |seed| {
        let mut sim = world(seed, 6, 12);
        let node = sim.handle(SimPeer(7));
        let (all, none, refused) = sim.block_on(async move {
            let mut all = Vec::new();
            for peer in 1..=18 {
                all.push(find(&node, &name(peer)).await);
            }
            let none = find(&node, "nobody").await;
            (all, none, node.search(Query::text("?"), Scope::default()).await)
        });
        for (peer, (hits, searched)) in (1..).zip(&all) {
            let [hit] = &hits[..] else { panic!("{peer}: {hits:?}") };
            let open = peer <= 6 || peer % 3 != 0;
            let fetch = if open { Fetch::Direct(SimPeer(peer)) } else { Fetch::Push };
            assert_eq!((hit.item.name.clone(), hit.fetch), (name(peer), fetch));
            assert!(searched.cost.whole && searched.cost.peers <= 6);
        }
        let (hits, searched) = none;
        assert_eq!((hits.len(), searched.end, searched.cost.peers), (0, End::Exhausted, 6), "all were asked");
        assert_eq!(searched.cost.messages, 12, "a question and an answer each");
        assert_eq!(refused, Err(SearchError::BadQuery));
        sim.trace()
    });
}

#[test]
fn everything_goes_on_when_the_login_server_is_dead() {
    let mut sim = world(3, 3, 6);
    sim.crash(SERVER);
    // Each presence is renewed several times.
    sim.run_for(60 * SECOND);
    assert_eq!(call(&mut sim, 4, 5).unwrap().way, Way::Direct);
    let node = sim.handle(SimPeer(4));
    let (hits, _) = sim.block_on(async move { find(&node, &name(8)).await });
    assert_eq!(hits.len(), 1);
}

#[test]
fn calls_are_made_in_whichever_way_works() {
    let mut sim = world(1, 3, 9);
    let known =
        |called: Result<Called, CallError>| called.map(|called| (called.name, called.key, called.way));
    // Those whose number three divides accept no connections.
    assert_eq!(known(call(&mut sim, 4, 5)), Ok((name(5), key(5).id(), Way::Direct)));
    assert_eq!(known(call(&mut sim, 4, 6)), Ok((name(6), key(6).id(), Way::Reversed)));
    assert_eq!(known(call(&mut sim, 6, 4)), Ok((name(4), key(4).id(), Way::Direct)));
    sim.run_for(SECOND);
    sim.take_events();
    let Ok((_, _, Way::Relayed { ticket })) = known(call(&mut sim, 6, 9)) else { panic!() };
    sim.run_for(SECOND);
    // What the caller sends comes to the other, through a super-node.
    let node = sim.handle(SimPeer(6));
    sim.block_on(async move { node.ask(SendFrame { ticket, bytes: Bytes::from("ahoy") }).await })
        .unwrap()
        .unwrap();
    sim.run_for(SECOND);
    let heard: Vec<SkypeEvent<SimPeer>> = sim
        .take_events()
        .into_iter()
        .filter(|(peer, _)| *peer == SimPeer(9))
        .map(|(_, event)| event)
        .collect();
    assert!(matches!(&heard[0], SkypeEvent::Call(called) if called.name == name(6)), "{heard:?}");
    // Though the ring has come through two super-nodes.
    assert_eq!(heard[1..], [SkypeEvent::Frame { ticket, bytes: "ahoy".into() }]);
    let relayed: u64 = sim.view().iter().map(|(_, node)| node.tally().relayed).sum();
    assert_eq!(relayed, 4);
    assert_eq!(call(&mut sim, 4, 99), Err(CallError::NotFound));
}

#[test]
fn where_two_do_not_reach_each_other_the_next_way_is_tried() {
    let mut sim = world(2, 3, 6);
    let (ada, bob) = (SimPeer(4), SimPeer(5));
    sim.inject(vec![(Duration::ZERO, Fault::Cut(Cut::between([ada], [bob])))]);
    sim.run_for(SECOND);
    let way = call(&mut sim, 4, 5).map(|called| called.way);
    assert!(matches!(way, Ok(Way::Relayed { .. })), "{way:?}");
    let others = (1..=3).map(SimPeer);
    sim.inject(vec![(Duration::ZERO, Fault::Cut(Cut::between([bob], others)))]);
    assert_eq!(call(&mut sim, 4, 5), Err(CallError::Unreachable));
}

/// Of all users the next three are buddies of each, who hears of whoever comes and goes.
fn befriend(sim: &mut Sim<Node>, peers: &[SimPeer]) {
    for (i, peer) in peers.iter().enumerate() {
        for j in 1..=3 {
            let buddy = peers[(i + j) % peers.len()];
            sim.command(*peer, SkypeCommand::Buddy(Buddy { name: name(buddy.0), on: true }));
        }
    }
}

/// What is true of some users, and the newest that each node believes of each.
struct Truth {
    users: Vec<(String, PeerId, Contact)>,
    latest: BTreeMap<(SimPeer, usize), u64>,
}

impl Truth {
    fn of(peers: impl IntoIterator<Item = SimPeer>) -> Truth {
        let of = |peer: SimPeer| (name(peer.0), key(peer.0).id(), peer.contact().unwrap());
        Truth { users: peers.into_iter().map(of).collect(), latest: BTreeMap::new() }
    }

    /// What a node believes of them never goes back, and is what they have said.
    fn check(&mut self, peer: SimPeer, node: &Node) -> Result<(), String> {
        for (i, (name, key, contact)) in self.users.iter().enumerate() {
            let Some(believed) = node.buddy(name) else { continue };
            if believed.key() != *key || believed.whereabouts().contact != *contact {
                return Err(format!("{believed:?} is forged"));
            }
            let latest = self.latest.entry((peer, i)).or_default();
            if believed.sequence() < *latest {
                return Err(format!("{believed:?} is older than {latest}"));
            }
            *latest = believed.sequence();
        }
        Ok(())
    }
}

/// Whether each has two homes that live, and knows of all its buddies where they are now.
fn all_are_known(sim: &Sim<Node>, peers: &[SimPeer]) -> Result<(), String> {
    for (i, peer) in peers.iter().enumerate() {
        let homes: Vec<SimPeer> = sim.node(*peer).into_iter().flat_map(Skype::super_nodes).collect();
        if homes.len() != 2 || homes.iter().any(|home| sim.node(*home).is_none()) {
            return Err(format!("{peer} is at home with {homes:?}"));
        }
        for j in 1..=3 {
            let buddy = peers[(i + j) % peers.len()];
            let (Some(node), Some(other)) = (sim.node(*peer), sim.node(buddy)) else { continue };
            let (Some(believed), Some(own)) = (node.buddy(&name(buddy.0)), other.own_presence()) else {
                return Err(format!("{peer} does not know of {buddy}"));
            };
            if believed.whereabouts().through != own.whereabouts().through {
                return Err(format!("{peer} believes {believed:?}, {buddy} says {own:?}"));
            }
        }
    }
    Ok(())
}

fn soon(sim: &mut Sim<Node>, within: Duration, peers: &[SimPeer]) {
    let from = sim.now();
    while let Err(why) = all_are_known(sim, peers) {
        assert!(sim.now().since(from) < within, "not within {within:?}: {why}");
        sim.run_for(SECOND);
    }
}

#[test]
fn presence_converges_after_a_third_of_the_super_nodes_has_died() {
    run_seeds(1, |seed| {
        let mut sim = world(seed, 9, 12);
        let users: Vec<SimPeer> = (10..=21).map(SimPeer).collect();
        let mut truth = Truth::of(users.clone());
        sim.check_each_step(move |peer, node| truth.check(peer, node));
        befriend(&mut sim, &users);
        sim.run_for(5 * SECOND);
        soon(&mut sim, 10 * SECOND, &users);
        for dead in [2, 5, 8] {
            sim.crash(SimPeer(dead));
        }
        // Their death is noticed after 4 s at most; whoever has lost a super-node finds another, and says where it is.
        soon(&mut sim, 20 * SECOND, &users);
        sim.trace()
    });
}

#[test]
fn presence_converges_after_trouble_of_every_kind() {
    run_seeds(1, |seed| {
        let mut sim = world(seed, 5, 8);
        let users: Vec<SimPeer> = (6..=13).map(SimPeer).collect();
        befriend(&mut sim, &users);
        let mut rng = Rng::stream(seed, 79);
        let hubs: Vec<SimPeer> = (1..=5).map(SimPeer).collect();
        let mix = p2p_core::sim::FaultMix { crashes: 2, ..IN_ONE_PIECE };
        sim.inject(random_faults(&mut rng, &hubs, 40 * SECOND, mix));
        sim.run_for(40 * SECOND);
        soon(&mut sim, 40 * SECOND, &users);
        sim.trace()
    });
}

#[test]
fn who_goes_is_gone_and_who_comes_back_is_there() {
    let mut sim = world(4, 3, 6);
    let watcher = SimPeer(4);
    sim.take_events();
    for buddy in [5, 6] {
        sim.command(watcher, SkypeCommand::Buddy(Buddy { name: name(buddy), on: true }));
    }
    let told = |sim: &mut Sim<Node>| -> Vec<(String, bool)> {
        let events = sim.take_events().into_iter().filter(|(peer, _)| *peer == watcher);
        let said = events.filter_map(|(_, event)| match event {
            SkypeEvent::Presence { name, online } => Some((name, online)),
            _ => None,
        });
        said.collect()
    };
    sim.run_for(2 * SECOND);
    assert_eq!(told(&mut sim), [(name(5), true), (name(6), true)]);
    let going = sim.handle(SimPeer(5));
    sim.block_on(async move { going.unpublish(&name(5)).await }).unwrap();
    sim.run_for(SECOND);
    assert_eq!(told(&mut sim), [(name(5), false)], "he has said so");
    assert_eq!(call(&mut sim, 4, 5), Err(CallError::NotFound));
    let coming = sim.handle(SimPeer(5));
    sim.block_on(async move { coming.publish(crate::search::Item::new(name(5), 0)).await }).unwrap();
    sim.crash(SimPeer(6));
    sim.run_for(SECOND);
    assert_eq!(told(&mut sim), [(name(5), true)]);
    sim.run_for(config().lifetime + 2 * SECOND);
    assert_eq!(told(&mut sim), [(name(6), false)], "her time is over");
}

/// A third of the super-nodes tells the oldest that they have heard of each, or what they have made up.
#[test]
fn what_is_stale_or_forged_is_never_believed() {
    run_seeds(1, |seed| {
        let network = Network { encoding: Encoding::RoundTrip, ..Network::default() };
        let mut sim: Sim<Liar<Node>> = Sim::new(seed, network);
        sim.spawn(|_| Liar::honest(Skype::login_server(key(0), [], config())));
        for i in 1..=16u32 {
            sim.spawn(|birth| {
                let role = if i <= 6 { Role::Ultrapeer } else { Role::Leaf };
                let honest = node(birth.peer, two_of(6, birth.peer, birth.rng), role, true);
                let mut oldest: BTreeMap<String, Presence> = BTreeMap::new();
                let lie = move |rng: &mut Rng, to, msg| vec![(to, lied(rng, &mut oldest, msg))];
                if i <= 6 && i % 3 == 0 { Liar::new(honest, lie) } else { Liar::honest(honest) }
            });
        }
        let mut truth = Truth::of((7..=16).map(SimPeer));
        sim.check_each_step(move |peer, node| truth.check(peer, node.machine()));
        sim.run_for(5 * SECOND);
        for i in 7..=16 {
            for j in 1..=3 {
                let buddy = name(7 + (i - 7 + j) % 10);
                sim.command(SimPeer(i), SkypeCommand::Buddy(Buddy { name: buddy, on: true }));
            }
        }
        sim.run_for(40 * SECOND);
        let disbelieved: u64 = sim.view().iter().map(|(_, node)| node.machine().tally().disbelieved).sum();
        assert!(disbelieved > 0, "nobody has lied");
        // Where a user has two liars for homes lies may hide it. Whoever has an honest one is known to all, through it.
        let node = |peer| sim.node(SimPeer(peer)).unwrap().machine();
        let in_good_hands = |peer| node(peer).super_nodes().any(|home| home.0 % 3 != 0);
        let known: Vec<u32> = (7..=16).filter(|buddy| in_good_hands(*buddy)).collect();
        assert!(known.len() >= 5, "most have an honest home: {known:?}");
        for buddy in known {
            for watcher in (1..=3).map(|j| 7 + (buddy - 7 + 10 - j) % 10) {
                assert!(node(watcher).buddy(&name(buddy)).is_some(), "{watcher} does not know of {buddy}");
            }
        }
        sim.trace()
    });
}

fn lied(rng: &mut Rng, oldest: &mut BTreeMap<String, Presence>, msg: SkypeMsg) -> SkypeMsg {
    let mut lie = |presence: Presence| {
        let old = oldest.entry(presence.name().to_owned()).or_insert_with(|| presence.clone()).clone();
        if rng.chance(0.5) {
            return old;
        }
        // Certified by itself, or taken from another; at a place of its own.
        let eve = key(66);
        let theirs = Certificate::new(&eve, presence.name(), eve.id(), presence.expires());
        let whereabouts =
            Whereabouts { contact: SimPeer(66).contact().unwrap(), ..presence.whereabouts().clone() };
        Presence::new(&eve, theirs, whereabouts, presence.sequence() + 1000, presence.expires())
    };
    match msg {
        SkypeMsg::Told { name, presence: Some(presence) } => {
            SkypeMsg::Told { name, presence: Some(Box::new(lie(*presence))) }
        }
        SkypeMsg::Found { id, users, others } => {
            SkypeMsg::Found { id, users: users.into_iter().map(lie).collect(), others }
        }
        other => other,
    }
}

/// One super-node has room for four. Others become what it is, and everybody finds a home.
#[test]
fn super_nodes_come_as_they_are_needed_and_hand_over_when_they_go() {
    let promotion = PromotionConfig {
        uptime: 5 * SECOND,
        stay: 20 * SECOND,
        smoothing: 3 * SECOND,
        chance: 300,
        ..PromotionConfig::default()
    };
    let config = SkypeConfig { promotion, clients: 4, homes: 1, ..config() };
    let network = Network { encoding: Encoding::RoundTrip, links: Some(SECOND), ..Network::default() };
    let mut sim: Sim<Node> = Sim::new(1, network);
    sim.spawn(|_| Skype::login_server(key(0), [], config));
    for i in 1..=12 {
        sim.spawn(|birth| {
            let role = if i == 1 { Role::Ultrapeer } else { Role::Leaf };
            // Every third accepts no connections, and is never a super-node.
            let user = user(birth.peer, i % 3 != 0);
            Skype::node(user, SimPeer(1).contact(), role, config)
        });
    }
    sim.run_for(180 * SECOND);
    let supers = |sim: &Sim<Node>| -> Vec<u32> {
        let all = sim.view();
        let supers = all.iter().filter(|(_, node)| node.role() == Some(Role::Ultrapeer));
        supers.map(|(peer, _)| peer.0).collect()
    };
    let now = supers(&sim);
    assert!(now.len() >= 3 && now.iter().all(|peer| peer % 3 != 0), "{now:?}");
    for (peer, node) in sim.view().iter().skip(1) {
        assert!(node.super_nodes().next().is_some(), "{peer} has no home");
        assert!(node.clients().count() <= 4);
    }
    for peer in 2..=12 {
        assert!(call(&mut sim, 1, peer).is_ok(), "{peer}");
    }
}
