use std::time::Duration;

use super::*;

fn from(host: u16, port: u16) -> SocketAddr {
    let [high, low] = host.to_be_bytes();
    SocketAddr::from(([198, 51, high, low], port))
}

fn packet(kind: Kind, connection: u16) -> Packet {
    Packet {
        kind,
        connection,
        timestamp: 1,
        difference: 0,
        window: 1000,
        seq: 7,
        ack: 9,
        selective: Vec::new(),
        payload: Bytes::new(),
    }
}

struct World {
    mux: Mux,
    rng: Rng,
    now: Time,
}

impl World {
    fn new() -> World {
        World {
            mux: Mux::new(UtpConfig::default()),
            rng: Rng::new(3),
            now: Time::ZERO + Duration::from_secs(1),
        }
    }

    fn receive(&mut self, from: SocketAddr, packet: Packet) -> Verdict {
        self.mux.receive(from, packet, self.now, &mut self.rng)
    }

    /// Somebody asks for a connection: what this end answers, if it does.
    fn asks(&mut self, from: SocketAddr, id: u16) -> Option<(TcpPeer, Packet)> {
        let now = self.now;
        match self.receive(from, packet(Kind::Syn, id)) {
            Verdict::Of(name) | Verdict::Accepted(name, _) => {
                Some((name, self.mux.get(&name)?.connection.transmit(now)?))
            }
            Verdict::Answer(_) | Verdict::Nothing => None,
        }
    }

    /// It has heard the answer.
    fn confirms(&mut self, from: SocketAddr, name: TcpPeer, answer: &Packet) -> bool {
        let heard = Packet { ack: answer.seq.wrapping_sub(1), ..packet(Kind::State, answer.connection + 1) };
        self.receive(from, heard);
        self.mux.get(&name).is_some_and(|entry| entry.connection.status() == Status::Open)
    }
}

#[test]
fn packets_of_no_connection_are_answered_at_a_limited_rate() {
    let mut world = World::new();
    let answers = |world: &mut World, kind| {
        let answered = |n| matches!(world.receive(from(n, 1), packet(kind, n)), Verdict::Answer(_));
        (0..1000).map(answered).filter(|answered| *answered).count()
    };
    assert_eq!(answers(&mut world, Kind::Reset), 0, "or it would never end");
    assert_eq!(answers(&mut world, Kind::Data), 128);
    world.now += Duration::from_millis(500);
    assert_eq!(answers(&mut world, Kind::State), 32);
    world.now += Duration::from_secs(1);
    let Verdict::Answer(answer) = world.receive(from(1, 2), packet(Kind::Fin, 33)) else { panic!() };
    assert_eq!((answer.kind, answer.connection, answer.seq, answer.ack), (Kind::Reset, 33, 0, 7));
}

#[test]
fn no_answer_is_longer_than_what_it_answers() {
    let length = |packet: &Packet| {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes);
        bytes.len()
    };
    let mut world = World::new();
    let (name, answer) = world.asks(from(1, 1), 5).unwrap();
    assert!(length(&answer) <= length(&packet(Kind::Syn, 5)));
    let now = world.now;
    assert_eq!(world.mux.get(&name).unwrap().connection.transmit(now), None, "and there is one");
    let Verdict::Answer(answer) = world.receive(from(1, 1), packet(Kind::State, 99)) else { panic!() };
    assert!(length(&answer) <= length(&packet(Kind::State, 99)));
}

#[test]
fn who_asks_and_hears_no_answer_keeps_nobody_else_out() {
    let mut world = World::new();
    let (honest, flood) = (from(9, 9), |n: u16| from(1000 + n, n));
    (0..5000).for_each(|n| _ = world.asks(flood(n), n));
    assert_eq!(world.mux.connections.len(), 128);
    let (name, answer) = world.asks(honest, 1).unwrap();
    (5000..5100).for_each(|n| _ = world.asks(flood(n), n));
    assert!(world.confirms(honest, name, &answer), "it was quicker than a hundred others");
    (5100..9000).for_each(|n| _ = world.asks(flood(n), n));
    assert_eq!(world.mux.connections.len(), 129);
    assert!(world.mux.get(&name).is_some());
    assert_eq!((world.mux.keys.len(), world.mux.unconfirmed.len()), (129, 128));
}

#[test]
fn who_asks_in_a_hosts_name_does_not_keep_it_out() {
    let mut world = World::new();
    (0..1000).for_each(|n| _ = world.asks(from(1, n), n));
    assert_eq!(world.mux.connections.len(), 64);
    let (name, answer) = world.asks(from(1, 6881), 1).unwrap();
    (1000..1060).for_each(|n| _ = world.asks(from(1, n), n));
    assert!(world.confirms(from(1, 6881), name, &answer), "it was quicker than sixty others");
    (2000..3000).for_each(|n| _ = world.asks(from(1, n), n));
    assert!(world.mux.get(&name).is_some());
    assert_eq!((world.mux.connections.len(), world.mux.unconfirmed.len()), (64, 63));
}

#[test]
fn who_is_not_confirmed_gives_way_when_all_places_are_taken() {
    let mut world = World::new();
    world.mux = Mux::new(UtpConfig { connections: 3, ..UtpConfig::default() });
    let names = [1, 2, 3].map(|n| world.asks(from(n, 1), 1).unwrap().0);
    let dialled = TcpPeer::Dialled { addr: from(9, 9), number: 1 };
    assert_eq!(world.mux.dial(dialled, world.now, &mut world.rng), Ok(Some(names[0])));
    let (name, answer) = world.asks(from(4, 1), 1).unwrap();
    assert!(world.confirms(from(4, 1), name, &answer));
    assert_eq!((world.mux.connections.len(), world.mux.unconfirmed.len()), (3, 1));
    assert!(world.mux.get(&names[1]).is_none() && world.mux.get(&names[2]).is_some());
}

#[test]
fn a_name_is_one_connections() {
    let mut world = World::new();
    let name = TcpPeer::Dialled { addr: from(1, 1), number: 1 };
    (0..3).for_each(|_| assert_eq!(world.mux.dial(name, world.now, &mut world.rng), Ok(None)));
    assert_eq!((world.mux.connections.len(), world.mux.keys.len()), (1, 1));
}

#[test]
fn a_host_has_so_many_connections_and_all_have_so_many() {
    let mut world = World::new();
    for n in 0..100 {
        if let Some((name, answer)) = world.asks(from(1, n), n) {
            assert!(world.confirms(from(1, n), name, &answer));
        }
    }
    assert_eq!(world.mux.connections.len(), 64);
    let six = |n: u16| SocketAddr::from(([0x2001, 0xdb8, 0, 1, n, n, n, n], n));
    (0..100).for_each(|n| _ = world.asks(six(n), n));
    assert_eq!(world.mux.connections.len(), 64 + 64, "a /64 is a host");
    for n in 0..2000 {
        // No faster than all may open them.
        world.now += Duration::from_millis(10);
        if let Some((name, answer)) = world.asks(from(n, 1), 1) {
            world.confirms(from(n, 1), name, &answer);
        }
    }
    assert_eq!(world.mux.connections.len(), 1024);
    let dialled = TcpPeer::Dialled { addr: from(1, 1), number: 1 };
    assert_eq!(world.mux.dial(dialled, world.now, &mut world.rng), Err(Full));
    world.mux.remove(&TcpPeer::Accepted { addr: from(1, 0), number: 1 });
    assert_eq!(world.mux.dial(dialled, world.now, &mut world.rng), Ok(None));
}

#[test]
fn a_reset_bears_either_number() {
    for (kind, number) in [("its own", 6), ("that of the other direction", 5)] {
        let mut world = World::new();
        let (name, answer) = world.asks(from(1, 1), 5).unwrap();
        let reset = |number, ack| Packet { ack, ..packet(Kind::Reset, number) };
        assert!(matches!(world.receive(from(1, 2), reset(number, answer.seq)), Verdict::Nothing));
        assert!(matches!(world.receive(from(1, 1), reset(77, answer.seq)), Verdict::Nothing));
        world.receive(from(1, 1), reset(number, answer.seq.wrapping_add(1)));
        assert_eq!(world.mux.get(&name).unwrap().connection.status(), Status::Opening, "{kind}");
        assert!(matches!(world.receive(from(1, 1), reset(number, answer.seq)), Verdict::Of(_)), "{kind}");
        assert!(matches!(world.mux.get(&name).unwrap().connection.status(), Status::Over(_)), "{kind}");
    }
    let mut world = World::new();
    let name = TcpPeer::Dialled { addr: from(1, 1), number: 1 };
    assert_eq!(world.mux.dial(name, world.now, &mut world.rng), Ok(None));
    let (_, goes) = world.mux.get(&name).unwrap().connection.ids();
    assert!(matches!(world.receive(from(1, 1), packet(Kind::Reset, goes)), Verdict::Of(_)));
}

#[test]
fn who_opens_one_after_the_other_is_reset_before_anything_is_read() {
    let mut world = World::new();
    let opens = |world: &mut World, host, n| {
        let Some((name, answer)) = world.asks(from(host, n), n) else { return false };
        let open = world.confirms(from(host, n), name, &answer);
        assert!(open || matches!(world.mux.get(&name).unwrap().connection.status(), Status::Over(_)));
        world.mux.remove(&name);
        open
    };
    // Asked for in its name, and never confirmed: that costs it nothing.
    (0..1000).for_each(|n| _ = world.asks(from(1, n), n));
    assert_eq!((0..1000).filter(|n| opens(&mut world, 1, *n)).count(), 64);
    assert!(opens(&mut world, 2, 1), "others may");
    world.now += Duration::from_secs(1);
    assert_eq!((0..1000).filter(|n| opens(&mut world, 1, *n)).count(), 16);
}
