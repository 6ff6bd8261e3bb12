//! Traces by hand: what comes, what goes, at which time. Packets carry at most ten bytes here.

use super::*;

const CONFIG: ConnectionConfig =
    ConnectionConfig { packet: HEADER + 10, receive_buffer: 100, send_buffer: 200 };

fn ms(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

fn packet(kind: Kind, connection: u16, seq: u16, ack: u16) -> Packet {
    Packet {
        kind,
        connection,
        timestamp: 0,
        difference: 0,
        window: 1000,
        seq,
        ack,
        selective: Vec::new(),
        payload: Bytes::new(),
    }
}

fn data(seq: u16, ack: u16, payload: &'static str) -> Packet {
    Packet { payload: Bytes::from_static(payload.as_bytes()), ..packet(Kind::Data, 700, seq, ack) }
}

fn state(seq: u16, ack: u16) -> Packet {
    packet(Kind::State, 700, seq, ack)
}

/// What goes now: which kind, with which numbers, and what it carries.
fn sent(connection: &mut Connection, now: Time) -> Vec<(Kind, u16, u16, String)> {
    let packets = std::iter::from_fn(|| connection.transmit(now));
    let text = |packet: &Packet| String::from_utf8(packet.payload.to_vec()).unwrap();
    packets.map(|packet| (packet.kind, packet.seq, packet.ack, text(&packet))).collect()
}

fn read(connection: &mut Connection) -> String {
    String::from_utf8(std::iter::from_fn(|| connection.read()).flatten().collect()).unwrap()
}

/// One that this end has made: its next packet is 2, and theirs 5000.
fn open() -> Connection {
    let mut connection = Connection::dial(CONFIG, 700, 1, ms(0));
    assert_eq!(sent(&mut connection, ms(0)), [(Kind::Syn, 1, 0, String::new())]);
    connection.receive(state(5000, 1), ms(20));
    assert_eq!(connection.status(), Status::Open);
    assert_eq!(sent(&mut connection, ms(30)), [(Kind::State, 2, 4999, String::new())]);
    connection
}

fn write(connection: &mut Connection, text: &'static str) {
    assert!(connection.write(Bytes::from_static(text.as_bytes())));
}

#[test]
fn a_connection_is_made_as_in_the_figure() {
    let mut a = Connection::dial(CONFIG, 700, 1, ms(0));
    let syn = a.transmit(ms(0)).unwrap();
    assert_eq!((syn.kind, syn.connection, syn.seq), (Kind::Syn, 700, 1));
    let mut b = Connection::accept(CONFIG, &syn, 5000, ms(1_000_005));
    assert_eq!((a.ids(), b.ids()), ((700, 701), (701, 700)));
    let answer = b.transmit(ms(1_000_005)).unwrap();
    assert_eq!((answer.kind, answer.connection, answer.seq, answer.ack), (Kind::State, 700, 5000, 1));
    assert_eq!((b.status(), b.transmit(ms(1_000_005))), (Status::Opening, None));
    a.receive(answer, ms(10));
    assert_eq!(a.status(), Status::Open);
    write(&mut a, "hello");
    let hello = a.transmit(ms(10)).unwrap();
    assert_eq!((hello.kind, hello.connection, hello.seq, hello.ack), (Kind::Data, 701, 2, 4999));
    assert_eq!((hello.timestamp, hello.window), (10_000, 100));
    // It left b at 1,000,005 ms by b's clock, and came at 10 by a's.
    assert_eq!(hello.difference, 10_000_u32.wrapping_sub(1_000_005_000));
    b.receive(hello, ms(1_000_015));
    assert_eq!((b.status(), read(&mut b)), (Status::Open, "hello".into()));
    // The acceptor's first data bears the number that its answer did.
    write(&mut b, "hi");
    assert_eq!(sent(&mut b, ms(1_000_015)), [(Kind::Data, 5000, 2, "hi".into())]);
}

#[test]
fn whoever_does_not_answer_is_asked_twice_and_given_up() {
    let mut connection = Connection::dial(CONFIG, 700, 1, ms(0));
    let mut asked = Vec::new();
    while connection.status() == Status::Opening {
        let now = if asked.is_empty() { ms(0) } else { connection.next() };
        connection.tick(now);
        asked.extend(sent(&mut connection, now).into_iter().map(|(kind, ..)| (kind, now)));
        assert!(asked.len() < 10);
        if connection.status() != Status::Opening {
            assert_eq!((now, connection.status()), (ms(3000), Status::Over(End::Unreachable)));
        }
    }
    assert_eq!(asked, [(Kind::Syn, ms(0)), (Kind::Syn, ms(1000))]);
}

#[test]
fn nobody_is_connected_who_did_not_hear_the_answer() {
    let syn = packet(Kind::Syn, 700, 1, 0);
    let mut connection = Connection::accept(CONFIG, &syn, 5000, ms(0));
    write(&mut connection, "not yet");
    assert_eq!(sent(&mut connection, ms(0)), [(Kind::State, 5000, 1, String::new())]);
    // It asks again: the answer was lost.
    connection.receive(syn, ms(900));
    assert_eq!(sent(&mut connection, ms(900)), [(Kind::State, 5000, 1, String::new())]);
    for ack in [5000, 4998, 0] {
        connection.receive(packet(Kind::Data, 701, 2, ack), ms(901));
        assert_eq!((connection.status(), connection.transmit(ms(901))), (Status::Opening, None), "{ack}");
    }
    assert_eq!(connection.next(), ms(10_000));
    connection.tick(ms(10_000));
    assert_eq!(connection.status(), Status::Over(End::TimedOut));
}

#[test]
fn every_second_packet_is_acknowledged_and_one_alone_after_10_ms() {
    let mut connection = open();
    connection.receive(data(5000, 1, "a"), ms(40));
    assert_eq!(sent(&mut connection, ms(40)), []);
    connection.receive(data(5001, 1, "b"), ms(41));
    assert_eq!(sent(&mut connection, ms(41)), [(Kind::State, 2, 5001, String::new())]);
    connection.receive(data(5002, 1, "c"), ms(42));
    assert_eq!(connection.next(), ms(52));
    assert_eq!(sent(&mut connection, ms(52)), [(Kind::State, 2, 5002, String::new())]);
    // What is said anyhow acknowledges, too.
    connection.receive(data(5003, 1, "d"), ms(60));
    write(&mut connection, "x");
    assert_eq!(sent(&mut connection, ms(60)), [(Kind::Data, 2, 5003, "x".into())]);
    assert_eq!((read(&mut connection), sent(&mut connection, ms(80))), ("abcd".into(), vec![]));
}

#[test]
fn what_is_missing_is_told_at_once() {
    let mut connection = open();
    connection.receive(data(5001, 1, "b"), ms(40));
    let told = connection.transmit(ms(40)).unwrap();
    assert_eq!((told.kind, told.ack, told.selective), (Kind::State, 4999, vec![1, 0, 0, 0]));
    assert_eq!(told.window, 99);
    connection.receive(data(5003, 1, "d"), ms(40));
    assert_eq!(connection.transmit(ms(40)).unwrap().selective, [0b101, 0, 0, 0]);
    connection.receive(data(5000, 1, "a"), ms(41));
    let told = connection.transmit(ms(41)).unwrap();
    assert_eq!((told.ack, told.selective), (5001, vec![1, 0, 0, 0]));
    connection.receive(data(5000, 1, "a"), ms(42));
    assert_eq!(sent(&mut connection, ms(42)), [(Kind::State, 2, 5001, String::new())], "it was sent again");
    connection.receive(data(5002, 1, "c"), ms(43));
    let told = connection.transmit(ms(43)).unwrap();
    assert_eq!((told.ack, told.selective, read(&mut connection)), (5003, vec![], "abcd".into()));
}

#[test]
fn what_is_lost_is_sent_again_before_its_time() {
    let mut connection = open();
    write(&mut connection, "aaaaaaaaaabbbbbbbbbb");
    assert_eq!(sent(&mut connection, ms(100)).len(), 2, "the first window");
    connection.receive(state(5000, 3), ms(120));
    write(&mut connection, "ccccccccccddddddddddeeeeeeeeeeffffffffff");
    assert_eq!(sent(&mut connection, ms(120)).len(), 4);
    // 4 is missing; 5, 6 and 7 have come.
    let mut ack = state(5000, 3);
    ack.selective = vec![0b111, 0, 0, 0];
    connection.receive(ack.clone(), ms(140));
    write(&mut connection, "g");
    let again = sent(&mut connection, ms(140));
    assert_eq!(again, [(Kind::Data, 4, 4999, "cccccccccc".into()), (Kind::Data, 8, 4999, "g".into())]);
    connection.receive(ack, ms(141));
    assert_eq!(sent(&mut connection, ms(141)), [], "once");
}

#[test]
fn silence_doubles_the_time_to_wait_and_then_ends_it() {
    let mut connection = open();
    write(&mut connection, "aaaaaaaaaabbbbbbbbbb");
    assert_eq!(sent(&mut connection, ms(1000)).len(), 2);
    let mut times = Vec::new();
    loop {
        let now = connection.next();
        connection.tick(now);
        let mut again = sent(&mut connection, now);
        // There are signs of life, too.
        again.retain(|(kind, ..)| *kind == Kind::Data);
        if let Status::Over(end) = connection.status() {
            assert_eq!((end, now), (End::TimedOut, ms(1000 + 63_000)));
            break;
        }
        if !again.is_empty() {
            assert_eq!(again, [(Kind::Data, 2, 4999, "aaaaaaaaaa".into())], "one packet, the first");
            times.push(now);
        }
    }
    assert_eq!(times, [2000, 4000, 8000, 16_000, 32_000].map(ms));
}

#[test]
fn after_silence_it_goes_on_where_it_was() {
    let mut connection = open();
    write(&mut connection, "aaaaaaaaaabbbbbbbbbb");
    sent(&mut connection, ms(1000));
    connection.tick(ms(2000));
    assert_eq!(sent(&mut connection, ms(2000)).len(), 1);
    // Both had arrived: what was sent again tells.
    connection.receive(state(5000, 3), ms(2020));
    write(&mut connection, "ccccccccccdddddddddd");
    assert_eq!(sent(&mut connection, ms(2020)).len(), 2, "the window doubles again");
    // The second was sent once, 1,020 ms before: rtt + 4 * rtt_var.
    assert_eq!(connection.next(), ms(2020 + 1020 + 4 * 510));
}

/// One that has room for so many bytes.
fn with_room(packet: Packet, window: u32) -> Packet {
    Packet { window, ..packet }
}

/// Lets time pass, and the other end say the same every second: what was sent when, but for what only acknowledges.
fn seconds(connection: &mut Connection, seconds: std::ops::Range<u64>, says: &Packet) -> Vec<(u64, u16)> {
    let mut packets = Vec::new();
    for second in seconds {
        connection.receive(says.clone(), ms(second * 1000));
        connection.tick(ms(second * 1000));
        let now = sent(connection, ms(second * 1000)).into_iter().filter(|(kind, ..)| *kind != Kind::State);
        packets.extend(now.map(|(_, seq, ..)| (second, seq)));
    }
    packets
}

#[test]
fn who_has_room_for_less_than_a_packet_is_asked_every_15_s_and_kept() {
    for room in [0, 9] {
        let mut connection = open();
        connection.receive(with_room(state(5000, 1), room), ms(1000));
        write(&mut connection, "aaaaaaaaaabbbbbbbbbbcccccccccc");
        // It is there, and refuses what it has no room for.
        let probes = seconds(&mut connection, 2..300, &with_room(state(5000, 1), room));
        let expected: Vec<_> = (1..20).map(|n| (1 + n * 15, 2)).collect();
        assert_eq!((probes, connection.status()), (expected, Status::Open), "{room}");
        // There is room again, and the window is what it was.
        connection.receive(state(5000, 1), ms(300_000));
        let texts = ["aaaaaaaaaa", "bbbbbbbbbb"].into_iter().zip(2..);
        let expected: Vec<_> = texts.map(|(text, seq)| (Kind::Data, seq, 4999, text.to_owned())).collect();
        assert_eq!(sent(&mut connection, ms(300_000)), expected, "{room}");
    }
}

#[test]
fn what_is_less_than_a_packet_goes_where_there_is_room_for_it() {
    let mut connection = open();
    connection.receive(with_room(state(5000, 1), 9), ms(1000));
    write(&mut connection, "aaaaaaaaa");
    assert_eq!(sent(&mut connection, ms(1000)), [(Kind::Data, 2, 4999, "aaaaaaaaa".into())]);
}

#[test]
fn who_takes_nothing_and_is_not_heard_of_is_given_up_after_3_minutes() {
    let mut connection = open();
    connection.receive(with_room(state(5000, 1), 0), ms(1000));
    write(&mut connection, "aaaaaaaaaa");
    let mut now = ms(1000);
    while connection.status() == Status::Open {
        now = connection.next();
        connection.tick(now);
        sent(&mut connection, now);
    }
    assert_eq!((now, connection.status()), (ms(181_000), Status::Over(End::TimedOut)));
}

#[test]
fn a_packet_that_was_overtaken_tells_of_no_room() {
    let mut connection = open();
    write(&mut connection, "aaaaaaaaaabbbbbbbbbb");
    assert_eq!(sent(&mut connection, ms(100)).len(), 2);
    connection.receive(with_room(state(5000, 3), 0), ms(120));
    connection.receive(with_room(state(5000, 2), 10), ms(121));
    write(&mut connection, "cccccccccc");
    assert_eq!(sent(&mut connection, ms(121)), []);
}

#[test]
fn who_waits_for_room_is_told_when_there_is_some() {
    let mut connection = open();
    for (seq, n) in (5000..).zip(0..10) {
        connection.receive(data(seq, 1, "aaaaaaaaaa"), ms(40 + n));
    }
    assert_eq!(connection.transmit(ms(50)).map(|told| (told.ack, told.window)), Some((5009, 0)));
    assert_eq!(connection.transmit(ms(99)), None);
    connection.read().unwrap();
    assert!(connection.next() <= ms(99));
    assert_eq!(connection.transmit(ms(99)).map(|told| (told.ack, told.window)), Some((5009, 10)));
    connection.read().unwrap();
    assert_eq!(connection.transmit(ms(100)), None, "that can wait");
}

#[test]
fn what_is_lost_twice_is_waited_for_though_others_arrive() {
    let mut connection = open();
    write(&mut connection, "aaaaaaaaaabbbbbbbbbb");
    sent(&mut connection, ms(100));
    connection.receive(state(5000, 3), ms(120));
    // Packet 4 never arrives; what is behind it does, one in 100 ms.
    let mut again = Vec::new();
    for n in 0..20_u32 {
        write(&mut connection, "cccccccccc");
        let now = ms(120 + 100 * u64::from(n));
        connection.tick(now);
        again.extend(sent(&mut connection, now).into_iter().filter(|(_, seq, ..)| *seq == 4).map(|_| now));
        let mask = (1_u32 << n) - 1;
        let ack = Packet { selective: mask.to_le_bytes().to_vec(), ..state(5000, 3) };
        connection.receive(ack, now + Duration::from_millis(50));
    }
    // It goes, is found to be lost, and half a second after that nobody has heard of it.
    assert!(again.len() >= 3 && again[2] <= again[1] + Duration::from_millis(700), "{again:?}");
}

#[test]
fn what_was_written_before_there_was_a_connection_is_sent_before_its_end() {
    let mut connection = Connection::dial(CONFIG, 700, 1, ms(0));
    write(&mut connection, "hello");
    sent(&mut connection, ms(0));
    connection.close();
    assert_eq!(connection.status(), Status::Opening);
    connection.receive(state(5000, 1), ms(20));
    let last = [(Kind::Data, 2, 4999, "hello".into()), (Kind::Fin, 3, 4999, String::new())];
    assert_eq!(sent(&mut connection, ms(20)), last);
}

#[test]
fn who_takes_nothing_is_asked_every_15_s() {
    let mut connection = open();
    let mut full = state(5000, 1);
    full.window = 0;
    connection.receive(full, ms(1000));
    write(&mut connection, "aaaaaaaaaabbbbbbbbbb");
    assert_eq!(sent(&mut connection, ms(1000)), []);
    assert_eq!(connection.next(), ms(16_000));
    connection.tick(ms(16_000));
    assert_eq!(sent(&mut connection, ms(16_000)), [(Kind::Data, 2, 4999, "aaaaaaaaaa".into())]);
    // There is room again.
    connection.receive(state(5000, 2), ms(16_020));
    assert_eq!(sent(&mut connection, ms(16_020)), [(Kind::Data, 3, 4999, "bbbbbbbbbb".into())]);
}

#[test]
fn the_other_ends_window_is_kept() {
    let mut connection = open();
    let mut small = state(5000, 1);
    small.window = 15;
    connection.receive(small, ms(50));
    write(&mut connection, "aaaaaaaaaabbbbbbbbbb");
    assert_eq!(sent(&mut connection, ms(50)), [(Kind::Data, 2, 4999, "aaaaaaaaaa".into())]);
}

#[test]
fn both_ends_close() {
    let mut connection = open();
    write(&mut connection, "bye");
    connection.close();
    let last = [(Kind::Data, 2, 4999, "bye".into()), (Kind::Fin, 3, 4999, String::new())];
    assert_eq!(sent(&mut connection, ms(100)), last);
    // The other end's last words come after its last packet.
    connection.receive(packet(Kind::Fin, 700, 5001, 3), ms(120));
    assert!(!connection.is_finished());
    connection.receive(data(5000, 3, "and you"), ms(121));
    assert_eq!(read(&mut connection), "and you");
    assert!(connection.is_finished());
    assert_eq!(sent(&mut connection, ms(121)), [(Kind::State, 4, 5001, String::new())]);
    // It did not hear that.
    connection.receive(packet(Kind::Fin, 700, 5001, 3), ms(700));
    assert_eq!(sent(&mut connection, ms(700)), [(Kind::State, 4, 5001, String::new())]);
    assert_eq!(connection.next(), ms(2120));
    connection.tick(ms(2120));
    assert_eq!((connection.status(), connection.transmit(ms(2120))), (Status::Over(End::Closed), None));
}

#[test]
fn one_that_is_closed_does_not_wait_for_ever() {
    let mut connection = open();
    connection.close();
    sent(&mut connection, ms(0));
    while !matches!(connection.status(), Status::Over(_)) {
        let now = connection.next();
        assert!(now < ms(20_000));
        connection.tick(now);
        sent(&mut connection, now);
    }
    let mut unheard = Connection::dial(CONFIG, 700, 1, ms(0));
    sent(&mut unheard, ms(0));
    unheard.close();
    assert_eq!(unheard.status(), Status::Over(End::Closed));
}

#[test]
fn a_reset_ends_it() {
    let mut connection = open();
    connection.receive(packet(Kind::Reset, 700, 1, 1), ms(50));
    assert_eq!((connection.status(), connection.transmit(ms(50))), (Status::Over(End::Reset), None));
    let mut asking = Connection::dial(CONFIG, 700, 1, ms(0));
    asking.receive(packet(Kind::Reset, 700, 1, 0), ms(50));
    assert_eq!(asking.status(), Status::Opening, "it did not hear that");
    asking.receive(packet(Kind::Reset, 700, 1, 1), ms(50));
    assert_eq!(asking.status(), Status::Over(End::Unreachable));
    for (ack, believed) in
        [(0, false), (1, true), (2, true), (3, true), (4, true), (5, false), (40_000, false)]
    {
        let mut told = open();
        write(&mut told, "aaaaaaaaaabbbbbbbbbb");
        sent(&mut told, ms(40));
        told.receive(packet(Kind::Reset, 700, 0, ack), ms(50));
        assert_eq!(told.status() == Status::Over(End::Reset), believed, "{ack}");
    }
    let mut ours = open();
    ours.reset();
    assert_eq!(sent(&mut ours, ms(50)), [(Kind::Reset, 2, 4999, String::new())]);
}

#[test]
fn there_is_a_sign_of_life_every_29_s_and_an_end_after_3_minutes_without_one() {
    let mut connection = open();
    let mut signs = Vec::new();
    while connection.status() == Status::Open {
        let now = connection.next();
        connection.tick(now);
        signs.extend(sent(&mut connection, now).into_iter().map(|(kind, ..)| (kind, now)));
    }
    // The last packet was sent at 30 ms, and the last came at 20.
    let every: Vec<_> = (1..=6).map(|sign| (Kind::State, ms(30 + sign * 29_000))).collect();
    assert_eq!((signs, connection.status()), (every, Status::Over(End::TimedOut)));
}

#[test]
fn what_acknowledges_what_was_never_sent_is_not_the_other_ends() {
    let mut connection = open();
    connection.receive(data(5000, 2, "forged"), ms(40));
    assert_eq!((read(&mut connection), sent(&mut connection, ms(60))), (String::new(), vec![]));
}

#[test]
fn no_more_is_taken_to_be_sent_than_the_bound() {
    let mut connection = open();
    assert!(connection.write(vec![b'a'; 150].into()));
    assert!(!connection.write(vec![b'a'; 51].into()));
    assert_eq!(connection.held(), (150, 0));
    sent(&mut connection, ms(40));
    connection.receive(state(5000, 3), ms(60));
    assert!(connection.write(vec![b'a'; 51].into()), "two packets have arrived");
}
