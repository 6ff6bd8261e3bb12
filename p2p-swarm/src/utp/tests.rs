//! Two connections and the way between them, in virtual time: whatever the way does, the bytes arrive; and what LEDBAT
//! is there for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use p2p_core::{Rng, Time};
use proptest::prelude::*;

use super::{Connection, ConnectionConfig, End, HEADER, Packet, Status};

/// Bytes of UDP and IP before each packet.
const BELOW: usize = 28;

/// One direction of a way: a line of some speed with a queue before it, and what may happen behind that.
#[derive(Clone, Debug)]
struct Line {
    /// Bytes per second.
    rate: f64,
    /// Bytes that may wait.
    queue: f64,
    delay: Duration,
    /// So much later a packet may come, and overtake.
    jitter: Duration,
    loss: f64,
    copies: f64,
    /// When all that waits is sent.
    free: Time,
}

impl Line {
    fn new(rate: f64, queue: Duration, delay: Duration) -> Line {
        let queue = rate * queue.as_secs_f64();
        Line { rate, queue, delay, jitter: Duration::ZERO, loss: 0.0, copies: 0.0, free: Time::ZERO }
    }

    /// How long what is sent now waits.
    fn waits(&self, now: Time) -> Duration {
        self.free.since(now)
    }

    /// When a packet arrives, if it does, and how often.
    fn carry(&mut self, bytes: usize, now: Time, rng: &mut Rng) -> Vec<Time> {
        if self.waits(now).as_secs_f64() * self.rate + bytes as f64 > self.queue {
            return Vec::new();
        }
        self.free = self.free.max(now) + Duration::from_secs_f64(bytes as f64 / self.rate);
        let mut arrivals = Vec::new();
        for chance in [1.0 - self.loss, self.copies] {
            if rng.chance(chance) {
                arrivals.push(self.free + self.delay + rng.duration(Duration::ZERO, self.jitter));
            }
        }
        arrivals
    }
}

/// Somebody else's flow over the same line, whose window halves when it loses a packet and grows by one in a round trip:
/// TCP's congestion avoidance (RFC 5681 §3.1).
#[derive(Debug, Default)]
struct LossBased {
    window: f64,
    flight: usize,
    arrived: usize,
    /// Losses of packets that were sent before this count as one.
    recovers: Time,
}

const SEGMENT: usize = 1500;

enum Event {
    Packet(usize, Packet),
    /// One of the other flow's packets has arrived, or was found to be lost; it was sent then.
    Segment(bool, Time),
}

/// Two connections, what each has written and read, and what is on its way.
struct World {
    now: Time,
    rng: Rng,
    ends: [Connection; 2],
    lines: [Line; 2],
    events: BTreeMap<(Time, u64), Event>,
    next: u64,
    /// What is still to be written.
    to_write: [VecDeque<Bytes>; 2],
    read: [Vec<u8>; 2],
    /// Bytes that were read, if they are not kept.
    many: [usize; 2],
    keep: bool,
    /// Whether each reads all that comes at once.
    reads: [bool; 2],
    other: Option<LossBased>,
    /// How long each of the first end's packets has waited, in seconds.
    waited: Vec<f64>,
    lost: usize,
    /// The most bytes that either held: to be sent, and come.
    held: [usize; 2],
}

impl World {
    /// Both ends number their packets from `start`.
    fn new(seed: u64, start: u16, config: ConnectionConfig, lines: [Line; 2]) -> World {
        let now = Time::ZERO + Duration::from_secs(5);
        let mut dials = Connection::dial(config.clone(), 700, start, now);
        let syn = dials.transmit(now).unwrap();
        // The first packets are let through.
        let mut accepts = Connection::accept(config, &syn, start, now);
        dials.receive(accepts.transmit(now).unwrap(), now);
        let mut world = World {
            now,
            rng: Rng::new(seed),
            ends: [dials, accepts],
            lines,
            events: BTreeMap::new(),
            next: 0,
            to_write: Default::default(),
            read: Default::default(),
            many: [0; 2],
            keep: true,
            reads: [true; 2],
            other: None,
            waited: Vec::new(),
            lost: 0,
            held: [0; 2],
        };
        world.send();
        world
    }

    fn at(&mut self, when: Time, event: Event) {
        self.next += 1;
        self.events.insert((when, self.next), event);
    }

    fn send(&mut self) {
        for end in 0..2 {
            while let Some(bytes) = self.to_write[end].pop_front() {
                if !self.ends[end].write(bytes.clone()) {
                    self.to_write[end].push_front(bytes);
                    break;
                }
            }
            while let Some(packet) = self.ends[end].transmit(self.now) {
                if end == 0 {
                    self.waited.push(self.lines[0].waits(self.now).as_secs_f64());
                }
                let bytes = HEADER + packet.payload.len() + packet.selective.len() + BELOW;
                let arrivals = self.lines[end].carry(bytes, self.now, &mut self.rng);
                self.lost += usize::from(arrivals.is_empty());
                for when in arrivals {
                    self.at(when, Event::Packet(1 - end, packet.clone()));
                }
            }
        }
        while let Some(other) = &mut self.other
            && (other.flight as f64) < other.window
        {
            other.flight += 1;
            let back = self.lines[0].delay + self.lines[1].delay;
            let found = self.lines[0].waits(self.now) + back;
            let arrives = self.lines[0].carry(SEGMENT, self.now, &mut self.rng).pop();
            let (when, arrived) =
                arrives.map_or((self.now + found, false), |when| (when + self.lines[1].delay, true));
            self.at(when, Event::Segment(arrived, self.now));
        }
    }

    /// One end reads a little; `false` if there is nothing.
    fn read_next(&mut self, end: usize) -> bool {
        let Some(bytes) = self.ends[end].read() else { return false };
        self.many[end] += bytes.len();
        if self.keep {
            self.read[end].extend_from_slice(&bytes);
        }
        true
    }

    /// Lets time pass.
    fn run(&mut self, until: Time) {
        while self.now < until {
            let over = |end: &Connection| matches!(end.status(), Status::Over(_));
            let due = self.ends.iter().filter(|end| !over(end)).map(Connection::next);
            let next = due.chain(self.events.first_key_value().map(|((when, _), _)| *when)).min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            while let Some(event) = self.events.first_entry().filter(|event| event.key().0 <= self.now) {
                match event.remove() {
                    Event::Packet(end, packet) => self.ends[end].receive(packet, self.now),
                    Event::Segment(arrived, sent) => self.acknowledged(arrived, sent),
                }
            }
            for end in 0..2 {
                self.ends[end].tick(self.now);
                let (unsent, unread) = self.ends[end].held();
                self.held = [self.held[0].max(unsent), self.held[1].max(unread)];
                while self.reads[end] && self.read_next(end) {}
            }
            self.send();
        }
    }

    fn acknowledged(&mut self, arrived: bool, sent: Time) {
        let now = self.now;
        let Some(other) = &mut self.other else { return };
        other.flight -= 1;
        if arrived {
            other.arrived += SEGMENT;
            other.window += 1.0 / other.window;
        } else if sent >= other.recovers {
            other.recovers = now;
            other.window = (other.window / 2.0).max(2.0);
        }
    }
}

// ---- whatever the way does

fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut content = vec![0; len];
    Rng::new(seed).fill(&mut content);
    content
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("P2P_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(40),
        ..ProptestConfig::default()
    })]
    #[test]
    fn the_bytes_arrive_whatever_the_way_does(
        seed: u64,
        start in prop_oneof![Just(65_500_u16), any::<u16>()],
        loss in 0.0..0.2_f64,
        copies in 0.0..0.2_f64,
        jitter in 0_u64..80,
        lengths in [0_usize..150_000, 0_usize..50_000],
        chunk in 1_usize..5000,
        packet in 60_usize..1400,
    ) {
        let line = Line {
            loss,
            copies,
            jitter: Duration::from_millis(jitter),
            ..Line::new(1e6, Duration::from_millis(300), Duration::from_millis(15))
        };
        let config = ConnectionConfig { packet, receive_buffer: 40_000, send_buffer: 30_000 };
        let mut world = World::new(seed, start, config.clone(), [line.clone(), line]);
        let contents = [content(lengths[0], seed), content(lengths[1], !seed)];
        for (end, content) in contents.iter().enumerate() {
            world.to_write[end] = content.chunks(chunk).map(Bytes::copy_from_slice).collect();
        }
        let (mut closed, begun) = (false, world.now);
        while !world.ends.iter().all(|end| matches!(end.status(), Status::Over(_))) {
            let now = world.now;
            world.run(now + Duration::from_millis(100));
            prop_assert!(world.now < begun + Duration::from_secs(3600), "it takes for ever");
            if !closed && (0..2).all(|end| world.read[end].len() == contents[1 - end].len()) {
                closed = true;
                world.ends.iter_mut().for_each(Connection::close);
                world.send();
            }
            // So lossy a way may look dead. Then it is said, and what came until then is right.
            if world.ends.iter().any(|end| end.status() == Status::Over(End::TimedOut)) {
                break;
            }
        }
        let lossless = loss < 0.05;
        for end in 0..2 {
            let (read, expected) = (&world.read[end], &contents[1 - end]);
            prop_assert!(read.len() <= expected.len() && read[..] == expected[..read.len()]);
            prop_assert!(!lossless || read.len() == expected.len());
        }
        let [unsent, unread] = world.held;
        prop_assert!(unsent <= config.send_buffer && unread <= config.receive_buffer + packet, "{:?}", world.held);
    }
}

/// One end sends 300 kB; the other does not read by itself.
fn unread() -> (World, Vec<u8>) {
    let config = ConnectionConfig { receive_buffer: 40_000, ..ConnectionConfig::default() };
    let line = Line::new(1e6, Duration::from_millis(300), Duration::from_millis(15));
    let mut world = World::new(7, 65_500, config, [line.clone(), line]);
    let content = content(300_000, 7);
    world.reads[1] = false;
    // No packet fills what room is left.
    world.to_write[0] = content.chunks(1111).map(Bytes::copy_from_slice).collect();
    world.send();
    (world, content)
}

#[test]
fn who_does_not_read_for_an_hour_is_kept_and_costs_a_packet_in_15_s() {
    let (mut world, content) = unread();
    let second = Duration::from_secs(1);
    world.run(world.now + 10 * second);
    let before = world.waited.len();
    world.run(world.now + 3600 * second);
    // A probe each 15 s, and a sign of life each 29 at most.
    let packets = world.waited.len() - before;
    assert!((240..=240 + 125).contains(&packets), "{packets} packets in an hour");
    assert!(world.ends.iter().all(|end| end.status() == Status::Open));
    assert!(world.held[1] <= 40_000 + 1232, "{:?}", world.held);
    world.reads[1] = true;
    while world.read_next(1) {}
    world.send();
    world.run(world.now + 3 * second);
    assert!(world.read[1] == content, "{} bytes", world.read[1].len());
}

#[test]
fn who_reads_slowly_is_sent_as_much() {
    let (mut world, content) = unread();
    let begun = world.now;
    while world.read[1].len() < content.len() {
        // 1,212 bytes in 50 ms, if they are there.
        world.read_next(1);
        world.send();
        world.run(world.now + Duration::from_millis(50));
        assert!(world.now < begun + Duration::from_secs(20), "{} bytes", world.read[1].len());
    }
    assert!(world.read[1] == content);
}

// ---- LEDBAT's claims (RFC 6817 §1.2, BEP 29)

/// A line of 1 MB/s, 20 ms long each way, whose first direction has a queue so long.
fn home(queue: Duration) -> [Line; 2] {
    let delay = Duration::from_millis(20);
    [Line::new(1e6, queue, delay), Line::new(10e6, Duration::from_secs(1), delay)]
}

/// Sends without end over such lines.
fn endless(lines: [Line; 2]) -> World {
    let mut world = World::new(7, 7, ConnectionConfig::default(), lines);
    world.keep = false;
    world.to_write[0] = (0..4000).map(|_| Bytes::from(vec![7; 1 << 16])).collect();
    world.send();
    world
}

/// Runs for so many seconds: the share of the line that was used, and how long packets have waited on the average.
fn measure(world: &mut World, seconds: u64) -> (f64, Duration) {
    let (before, waited) = (world.many[1], world.waited.len());
    let until = world.now + Duration::from_secs(seconds);
    world.run(until);
    let share = (world.many[1] - before) as f64 / (world.lines[0].rate * seconds as f64);
    let waited = &world.waited[waited..];
    (share, Duration::from_secs_f64(waited.iter().sum::<f64>() / waited.len() as f64))
}

#[test]
fn it_uses_an_idle_line_and_queues_for_100_ms() {
    let mut world = endless(home(Duration::from_secs(2)));
    measure(&mut world, 20);
    let (share, waited) = measure(&mut world, 60);
    println!("{share:.3} of the line, {waited:?} in the queue, {} lost", world.lost);
    // Headers are 4% of it.
    assert!(share > 0.93, "{share}");
    assert!((80..=110).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(world.lost, 0);
}

#[test]
fn it_uses_a_line_whose_queue_is_shorter_than_the_target() {
    let mut world = endless(home(Duration::from_millis(60)));
    measure(&mut world, 20);
    let (share, waited) = measure(&mut world, 60);
    println!("{share:.3} of the line, {waited:?} in the queue, {} lost", world.lost);
    assert!(share > 0.85, "{share}");
    assert!(world.lost > 0, "it goes by losses then");
}

#[test]
fn it_gives_way_to_a_flow_that_goes_by_losses_and_comes_back() {
    let mut world = endless(home(Duration::from_millis(400)));
    measure(&mut world, 20);
    world.other = Some(LossBased { window: 2.0, ..LossBased::default() });
    world.send();
    // The other needs time to grow.
    measure(&mut world, 30);
    let before = world.other.as_ref().map_or(0, |other| other.arrived);
    let (share, _) = measure(&mut world, 60);
    let other = world.other.take().map_or(0, |other| other.arrived - before) as f64 / 60e6;
    println!("{share:.3} of the line beside {other:.3}");
    assert!(share < 0.1 && other > 0.8, "{share} beside {other}");
    // What it had on its way goes yet.
    measure(&mut world, 20);
    let (share, waited) = measure(&mut world, 20);
    println!("{share:.3} of the line again, {waited:?} in the queue");
    assert!(share > 0.9, "{share}");
    assert!((70..=115).contains(&waited.as_millis()), "{waited:?}");
}
