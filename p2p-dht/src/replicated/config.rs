//! How a node of the hash table behaves: the numbers.

use std::time::Duration;

/// How room is shared among those who want it. What was given is theirs to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Everybody may take up so many times what is left free: with four alone four fifths of all, two four ninths each, and there
    /// is always some room for one more (dynamic thresholds, Choudhury & Hahne 1998). At least 1.
    Threshold(u32),
    /// By how much and for how long, whatever there is: who has taken more than others waits until they have had as much, and
    /// whoever comes next finds room at a certain rate (OpenDHT, Rhea et al. SIGCOMM 2005, §4). That rate is half of what
    /// there is in the longest lifetime: if that is 30 days and there is 1 GiB, 207 bytes a second. Over weeks it is fairer,
    /// where thresholds leave more room for who comes after a flood. A record counts as at least as many bytes as there are for
    /// each that fits.
    Fair,
}

/// How a node of the hash table behaves.
#[derive(Clone, Copy, Debug)]
pub struct DhtConfig {
    /// How many nodes keep each record, r. 8; 1 to 16. Where copies lie at salted keys these are the first r different
    /// roots of 2r such keys: all roots, where there are fewer.
    pub replicas: u8,
    /// How many of them must have it before it counts as stored; all, where the network has fewer nodes, or this node
    /// knows no more because it is cut off: [`Stored::copies`](crate::Stored::copies) says how many. That lookups fail is no
    /// reason: they are tried again some times. 5; at least 1.
    pub write_quorum: u8,
    /// How many of them must answer before the newest signed value counts as the newest. Together with the write
    /// quorum it should be more than all, so that one of them has what was stored last. 4; at least 1.
    pub read_quorum: u8,
    /// How many are asked for an immutable value at a time. 2.
    pub parallel: u8,
    /// How long a peer has to store or give a record. 4 s.
    pub timeout: Duration,
    /// All records are compared with the other replicas this often on average. 10 min.
    pub repair: Duration,
    /// How long after a change among the neighbours the records that it concerns are copied, on average; where change
    /// follows change, after the last, but at most nine times as long. 5 s.
    pub settle: Duration,
    /// How many bytes a node sends in a second when it copies records to others, one second's in a burst. 8 MiB.
    pub repair_rate: u64,
    /// A node stores what it has published again this often on average. 1 h.
    pub republish: Duration,
    /// How long records last that do not say. 24 h.
    pub lifetime: Duration,
    /// Records that last longer than this are refused. 30 days.
    pub max_lifetime: Duration,
    /// How many records a node keeps. 65,536.
    pub max_records: usize,
    /// How many bytes of records a node keeps. 1 GiB.
    pub max_bytes: u64,
    /// How publishers share that room, those of one [subnet](p2p_core::Keyed::subnet) as one; and how the clients of this node
    /// share what it puts for them, which is no more than it could keep. By thresholds, four times what is free. What one neighbour
    /// copies is a share by threshold, too.
    pub allocation: Allocation,
    /// How many providers of one key a node keeps, and gives, and how many values that can be removed. Who puts them takes at
    /// most four times as many of these places as are free: 52 of 64 alone, and the next ten. Those of one subnet count as one
    /// here, and all clients of a gateway do so at other nodes. 64; at most 64.
    pub max_providers: usize,
    /// How many bytes of values that others keep a node has in memory for a while, on the way of gets, 128 counted for each beside
    /// its own. With any, its gets of values under their hash go along the way first, and it passes on those of others. 0: then
    /// they go straight to those who keep the value.
    pub cache_bytes: u64,
    /// How many puts and gets are under way at once, and how many jobs, of which no more than an eighth for one peer. One more is
    /// refused. 1024.
    pub capacity: usize,
}

impl Default for DhtConfig {
    fn default() -> DhtConfig {
        DhtConfig {
            replicas: 8,
            write_quorum: 5,
            read_quorum: 4,
            parallel: 2,
            timeout: Duration::from_secs(4),
            repair: Duration::from_secs(600),
            settle: Duration::from_secs(5),
            repair_rate: 8 << 20,
            republish: Duration::from_secs(3600),
            lifetime: Duration::from_secs(24 * 3600),
            max_lifetime: Duration::from_secs(30 * 24 * 3600),
            max_records: 65_536,
            max_bytes: 1 << 30,
            allocation: Allocation::Threshold(4),
            max_providers: 64,
            cache_bytes: 0,
            capacity: 1024,
        }
    }
}
