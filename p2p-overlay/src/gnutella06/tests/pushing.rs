//! Pushes.

use super::*;

/// An ultrapeer with a leaf and three ultrapeers, which shares a song, and the hit that it gives for a query.
fn offered() -> (Node, QueryHit) {
    let mut node = hub(1, 3);
    let item = Item::new("a song", 9);
    node.command(SearchCommand::Publish(item));
    say(&mut node, 101, 5, 1, 1, query("song"));
    let Payload::QueryHit(hit) = said(&mut node).remove(0).1.payload else { panic!("a hit") };
    (node, hit)
}

fn push(servent: Guid, index: u32) -> Payload {
    Payload::Push { servent, index, contact: SimPeer(9).contact().unwrap(), extension: Bytes::new() }
}

#[test]
fn a_push_has_to_bear_the_hits_nonce_and_is_good_twice() {
    let (mut node, hit) = offered();
    let mut forged = hit.servent;
    forged.0[12] ^= 1;
    say(&mut node, 101, 9, 3, 0, push(forged, 0));
    assert_eq!(said(&mut node), []);
    for id in 10..15 {
        say(&mut node, 101, id, 3, 0, push(hit.servent, 0));
    }
    let give = Gnutella06Msg::Give { index: 0, servent: hit.servent, name: "a song".into() };
    assert_eq!(node.sent(), [(SimPeer(9), give.clone()), (SimPeer(9), give)]);
}

/// Between ultrapeers, and to a leaf that accepts no connections.
#[test]
fn a_push_goes_back_the_way_that_the_hit_has_come() {
    let mut node = hub(1, 3);
    say(&mut node, 101, 5, 2, 1, query("song"));
    say(&mut node, 1, 5, 4, 0, hit(90, 1));
    say(&mut node, 102, 6, 2, 1, query("song"));
    say(&mut node, 103, 6, 4, 1, hit(91, 1));
    said(&mut node);
    say(&mut node, 101, 10, 4, 0, push(guid(90), 0));
    assert!(matches!(said(&mut node)[..], [(1, Descriptor { ttl: 3, hops: 1, .. })]));
    say(&mut node, 102, 11, 4, 0, push(guid(91), 0));
    assert!(matches!(said(&mut node)[..], [(103, Descriptor { ttl: 3, hops: 1, .. })]));
    say(&mut node, 101, 10, 4, 0, push(guid(90), 0));
    say(&mut node, 101, 12, 4, 0, push(guid(92), 0));
    assert_eq!(said(&mut node), [], "once, and only where a hit came from");
}

/// A leaf that nobody can connect to gives its file to a leaf of another ultrapeer.
#[test]
fn a_source_that_accepts_no_connection_is_reached_by_a_push() {
    let mut sim = Sim::<Gnutella06<SimPeer>>::new(3, Network::default());
    for i in 0..12u32 {
        let role = if i < 4 { Role::Ultrapeer } else { Role::Leaf };
        let config = Gnutella06Config { hubs: 1, ..config() };
        sim.spawn(|birth| {
            let door = if i < 4 { SimPeer(0) } else { SimPeer(i % 4) };
            let seed = Some(door).filter(|door| *door != birth.peer).and_then(|door| door.contact());
            let listen = birth.peer.contact().filter(|_| i != 11);
            let mut servent = Gnutella06::new(listen, seed, role, config);
            if i == 11 {
                servent.library_mut().insert(Item::new("rare", 5)).unwrap();
            }
            servent
        });
    }
    sim.run_for(Duration::from_secs(60));
    let here = sim.handle(SimPeer(4));
    let (hit, reached) = sim.block_on(async move {
        let mut hits = here.search(Query::text("rare"), Scope { hits: 1, ..Scope::default() });
        let hit = hits.next().await.unwrap();
        let reached = here.reach(&hit).await;
        (hit, reached)
    });
    assert_eq!((hit.fetch, reached), (crate::search::Fetch::Push, Ok(SimPeer(11))));
}

#[test]
fn a_file_that_nobody_has_asked_for_is_refused() {
    let mut node = hub(1, 1);
    let give = Gnutella06Msg::Give { index: 0, servent: guid(9), name: "virus".into() };
    node.message(SimPeer(9), give.clone());
    assert_eq!(node.sent(), [(SimPeer(9), Gnutella06Msg::Refuse(Vec::new()))]);
    node.message(SimPeer(101), give);
    assert_eq!(node.sent(), [], "a neighbour's connection is there for more than files");
}
