//! How nodes and login servers behave.

use std::time::Duration;

use crate::bucket::Rate;
use crate::promotion::PromotionConfig;

/// How a node or a login server behaves. Where no source is named, the value is ours.
#[derive(Clone, Copy, Debug)]
pub struct SkypeConfig {
    /// How many names a server certifies. 100,000.
    pub names: usize,
    /// How long a certificate lasts. 7 days.
    pub certified: Duration,
    /// How often one peer may log in. Every 5 s, 5 at once.
    pub logins_each: Rate,
    /// How often all may. Every 5 ms, 200 at once.
    pub logins: Rate,
    /// How many new names those of one subnet get, where addresses are rented: see
    /// [`Keyed::subnet`](p2p_core::Keyed::subnet). One a minute, 20 at once.
    pub names_each: Rate,
    /// How many super-nodes an ordinary node is a client of; at most [`MAX_THROUGH`](super::MAX_THROUGH). 2.
    pub homes: usize,
    /// How many clients a super-node has at most. 100.
    pub clients: usize,
    /// How many other super-nodes it looks for. 6.
    pub wanted: usize,
    /// How many it has at most. 16.
    pub degree: usize,
    /// How many super-nodes a node remembers (Baset and Schulzrinne: the host cache). 200.
    pub hosts: usize,
    /// How often neighbours, buddies and the role are looked after. 5 s.
    pub upkeep: Duration,
    /// A neighbour that says nothing for so long is given up. 16 s.
    pub silence: Duration,
    /// How long a super-node has to answer. 3 s.
    pub patience: Duration,
    /// How long a presence lasts; it is renewed three times as often. 90 s.
    pub lifetime: Duration,
    /// When roles change.
    pub promotion: PromotionConfig,
    /// What its line carries upwards, in kbit/s. 1,000.
    pub speed: u32,
    /// How many super-nodes the first round of a search asks beside its own (Baset and Schulzrinne). 4.
    pub first_round: usize,
    /// How many a search asks in all. 512.
    pub reach: usize,
    /// How many searches, calls and relayed calls of its own are under way at once, of each. 64.
    pub capacity: usize,
    /// How many buddies are watched. 100.
    pub buddies: usize,
    /// How long each way of making a call may take. 5 s.
    pub way: Duration,
    /// How many calls a super-node relays at once. 32.
    pub relayed: usize,
    /// What each end of a relayed call may send a second, in bytes. 32,000: twice what speech of 64 kbit/s in small
    /// packets takes.
    pub relay_rate: u32,
    /// What both may send in all, in bytes. 128 MiB.
    pub relay_total: u64,
    /// How long a ticket lasts. 1 hour.
    pub relay_time: Duration,
    /// How many messages one peer may send, frames apart. One every 20 ms, 100 at once.
    pub messages: Rate,
    /// How many records and rings of its clients and its own super-nodes a node checks; a check takes some 0.1 ms.
    /// One every 2 ms, 500 at once.
    pub checks: Rate,
    /// And of others, who so take nothing from them. One every 5 ms, 200 at once.
    pub checks_of_others: Rate,
    /// How many rings a super-node passes on to one client: what a client hears of its super-node is for more than these.
    /// One every 500 ms, 20 at once.
    pub rings: Rate,
    /// How often it dials whom it knows by hearsay only. Every second, 20 at once.
    pub hearsay: Rate,
}

impl Default for SkypeConfig {
    fn default() -> SkypeConfig {
        SkypeConfig {
            names: 100_000,
            certified: Duration::from_secs(7 * 24 * 3600),
            logins_each: Rate { every: Duration::from_secs(5), burst: 5 },
            logins: Rate { every: Duration::from_millis(5), burst: 200 },
            names_each: Rate { every: Duration::from_secs(60), burst: 20 },
            homes: 2,
            clients: 100,
            wanted: 6,
            degree: 16,
            hosts: 200,
            upkeep: Duration::from_secs(5),
            silence: Duration::from_secs(16),
            patience: Duration::from_secs(3),
            lifetime: Duration::from_secs(90),
            promotion: PromotionConfig::default(),
            speed: 1000,
            first_round: 4,
            reach: 512,
            capacity: 64,
            buddies: 100,
            way: Duration::from_secs(5),
            relayed: 32,
            relay_rate: 32_000,
            relay_total: 128 << 20,
            relay_time: Duration::from_secs(3600),
            messages: Rate { every: Duration::from_millis(20), burst: 100 },
            checks: Rate { every: Duration::from_millis(2), burst: 500 },
            checks_of_others: Rate { every: Duration::from_millis(5), burst: 200 },
            rings: Rate { every: Duration::from_millis(500), burst: 20 },
            hearsay: Rate { every: Duration::from_secs(1), burst: 20 },
        }
    }
}
