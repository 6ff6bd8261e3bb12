//! How nodes behave.

use std::time::Duration;

use crate::bucket::Rate;
use crate::promotion::PromotionConfig;

/// How a node behaves. Where the papers give no value, it is ours.
#[derive(Clone, Copy, Debug)]
pub struct KazaaConfig {
    /// How many super-nodes a node knows. 200 (the papers' refresh lists).
    pub known: usize,
    /// How many of them an ordinary node probes to choose one. 5 (after the papers).
    pub probes: usize,
    /// How long it waits for their answers. 1 s.
    pub probe_wait: Duration,
    /// How many ordinary nodes a super-node has at most. 150 (the papers saw 60 to 150).
    pub leaves: usize,
    /// How many other super-nodes it has at most. 50 (the papers saw 30 to 50).
    pub degree: usize,
    /// How many it looks for: fewer, so that there is always room for who comes later. 30.
    pub wanted: usize,
    /// How often it exchanges one of them: with 30, one lasts half an hour. 1 minute.
    pub exchange: Duration,
    /// How often a node asks somebody for what cannot be there. 1 minute.
    pub decoy: Duration,
    /// How far a search that goes as the network thinks best goes among super-nodes at a time. 1.
    pub ttl: u8,
    /// The furthest that anybody's goes. 3.
    pub most_hops: u8,
    /// How long a search waits before another super-node is asked. 3 s.
    pub wait: Duration,
    /// How many more are asked. 10.
    pub more: usize,
    /// How often a node looks after its neighbours. 10 s.
    pub upkeep: Duration,
    /// A neighbour that says nothing for so long is given up. 35 s.
    pub silence: Duration,
    /// How long it may take to be welcomed. 10 s.
    pub dial_timeout: Duration,
    /// When roles change.
    pub promotion: PromotionConfig,
    /// How many messages one neighbour may send. One every 10 ms, 200 at once.
    pub messages: Rate,
    /// How many questions one super-node may send. One every 100 ms, 50 at once.
    pub queries: Rate,
    /// And all of them together. One every 5 ms, 400 at once.
    pub passing: Rate,
    /// How many of those a node passes on: each becomes as many as it has neighbours. One every 200 ms, 20 at once.
    pub forwards: Rate,
    /// How many searches one ordinary node may begin. One every half a second, 20 at once.
    pub asks: Rate,
    /// How many all visitors together. One every 100 ms, 20 at once.
    pub visits: Rate,
    /// How many messages all who are no neighbours may send together. One every 5 ms, 400 at once.
    pub strangers: Rate,
    /// How many super-nodes that are not neighbours one neighbour's questions may have a node answer. One every 100 ms,
    /// 20 at once.
    pub offers: Rate,
    /// How often it dials whom it knows by hearsay only. Every 2 s, 10 at once.
    pub hearsay: Rate,
    /// How often it connects to somebody who wants a file. Every second, 5 at once.
    pub push: Rate,
    /// And to one host: nobody knows whether who wants the file is there. Every 10 s, 3 at once.
    pub push_each: Rate,
    /// How long a source has to connect, when it was asked to. 20 s.
    pub push_timeout: Duration,
    /// How many items a node shares. 10,000.
    pub items: usize,
    /// How many items of one ordinary node a super-node knows. 500.
    pub items_each: usize,
    /// And of all. 50,000.
    pub index: usize,
    /// How many hits one super-node gives another for one search, and how many are taken of one. 32.
    pub results: usize,
    /// How many hits one source may give one search. 32.
    pub hits_per_source: u16,
    /// How many of one ordinary node's signatures a super-node checks, where nodes have keys; a check takes some 0.1 ms.
    /// One every 2 ms, 600 at once: all that one shares.
    pub checks: Rate,
    /// How long the word of a source is good, where nodes have keys. 1 day.
    pub lifetime: Duration,
    /// How many searches of others it remembers to see to. 1,024.
    pub asked: usize,
    /// How many searches it remembers to have seen. 8,192.
    pub seen: usize,
    /// How many searches of its users are under way at once, and how many pushes. 64.
    pub capacity: usize,
    /// What its line carries, in kbit/s: it makes it eligible. 1,000.
    pub speed: u32,
}

impl Default for KazaaConfig {
    fn default() -> KazaaConfig {
        KazaaConfig {
            known: 200,
            probes: 5,
            probe_wait: Duration::from_secs(1),
            leaves: 150,
            degree: 50,
            wanted: 30,
            exchange: Duration::from_secs(60),
            decoy: Duration::from_secs(60),
            ttl: 1,
            most_hops: 3,
            wait: Duration::from_secs(3),
            more: 10,
            upkeep: Duration::from_secs(10),
            silence: Duration::from_secs(35),
            dial_timeout: Duration::from_secs(10),
            promotion: PromotionConfig::default(),
            messages: Rate { every: Duration::from_millis(10), burst: 200 },
            queries: Rate { every: Duration::from_millis(100), burst: 50 },
            passing: Rate { every: Duration::from_millis(5), burst: 400 },
            forwards: Rate { every: Duration::from_millis(200), burst: 20 },
            asks: Rate { every: Duration::from_millis(500), burst: 20 },
            visits: Rate { every: Duration::from_millis(100), burst: 20 },
            strangers: Rate { every: Duration::from_millis(5), burst: 400 },
            offers: Rate { every: Duration::from_millis(100), burst: 20 },
            hearsay: Rate { every: Duration::from_secs(2), burst: 10 },
            push: Rate { every: Duration::from_secs(1), burst: 5 },
            push_each: Rate { every: Duration::from_secs(10), burst: 3 },
            push_timeout: Duration::from_secs(20),
            items: 10_000,
            items_each: 500,
            index: 50_000,
            results: 32,
            hits_per_source: 32,
            checks: Rate { every: Duration::from_millis(2), burst: 600 },
            lifetime: Duration::from_secs(24 * 3600),
            asked: 1024,
            seen: 8192,
            capacity: 64,
            speed: 1000,
        }
    }
}
