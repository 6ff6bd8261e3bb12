//! Fair allocation of room among clients, by how much they store and for how long (OpenDHT; Rhea et al., *OpenDHT: a public DHT
//! service and its uses*, SIGCOMM 2005, §4).
//!
//! Room is given for a time, and not taken back before that. So whoever comes first could have all of it, and who comes next
//! none until that ends. Quotas would have to know how many clients there will be. Instead there are two rules.
//!
//! *Nobody starves.* Not all that is free is given away: however long what comes next is to last, there has to be room for it at a
//! rate of r bytes a second. With C bytes in all, and B(τ) of those given now still given in τ seconds, B(τ) + r·τ ≤ C for every τ
//! up to the longest lifetime T, and a put that would break that does not fit. The paper sets r = C / T, where what is put for T
//! comes in at that rate even if all is free; here r is half of that.
//!
//! *Everybody's turn.* What a client takes is bytes times seconds. Puts are accepted in the order of their start tags (start-time
//! fair queueing, Goyal, Vin & Cheng 1996): a client's next put starts where its last one has ended in virtual time, or now if
//! that is later, and ends by what it takes after that; now is the latest start of those that were accepted. So of clients that
//! want more than there is all get as much, whatever they ask, and who has asked for nothing so far comes before all who have.
//! The paper keeps puts that do not fit in queues. Here every put is answered at once, and a client that is refused keeps its
//! turn for a while: nobody whose start is later is accepted before it has come again.

use std::collections::BTreeMap;

/// How many clients are remembered that are ahead of the others; and how many that were refused.
const MOST: usize = 4096;
/// How long a client that is refused keeps its turn, in seconds.
const TURN: u64 = 600;
/// Time is cut into so many parts of the longest lifetime: what ends within one counts to its end.
const PARTS: u64 = 4096;

/// Bytes times seconds, of all that was ever accepted.
type Virtual = u128;

/// See the module's text. Remembers at most 4,096 clients that have had more than others, as many that were refused, and as many
/// ends of what is given.
#[derive(Clone, Debug)]
pub(crate) struct FairShares {
    capacity: u64,
    /// In seconds.
    longest: u64,
    /// What is given, by when it ends.
    given: BTreeMap<u64, u64>,
    now: Virtual,
    /// Where the last put of a client has ended, if that is later than now.
    ended: BTreeMap<u64, Virtual>,
    /// The start of what a client was refused, and until when it keeps its turn.
    refused: BTreeMap<u64, (Virtual, u64)>,
}

impl FairShares {
    /// Room for so many bytes, each of which is given for at most so many seconds.
    pub(crate) fn new(capacity: u64, longest: u64) -> FairShares {
        let (given, ended, refused) = Default::default();
        FairShares { capacity, longest: longest.max(1), given, now: 0, ended, refused }
    }

    /// Whether a client may have so many bytes from one time to another, in seconds, beside some that are as good as given. Then it
    /// has had its turn; [`FairShares::give`] says that they are given.
    pub(crate) fn admit(&mut self, client: u64, bytes: u64, (from, to): (u64, u64), coming: u64) -> bool {
        self.given.retain(|end, _| *end > from);
        self.refused.retain(|_, (_, until)| *until > from);
        let start = self.ended.get(&client).copied().unwrap_or(0).max(self.now);
        let is_next = self.refused.iter().all(|(other, (turn, _))| *other == client || *turn >= start);
        if !is_next || !self.fits(bytes + coming, from, to) {
            self.keep_turn(client, start, from + TURN);
            return false;
        }
        self.refused.remove(&client);
        self.now = start;
        self.ended.insert(client, start + Virtual::from(bytes) * Virtual::from(to.saturating_sub(from)));
        if self.ended.len() > MOST {
            let now = self.now;
            self.ended.retain(|_, ended| *ended > now);
        }
        if self.ended.len() > MOST
            && let Some((&first, _)) = self.ended.iter().min_by_key(|(_, ended)| **ended)
        {
            self.ended.remove(&first);
        }
        true
    }

    /// So many bytes are given until this time, to whomever.
    pub(crate) fn give(&mut self, bytes: u64, until: u64) {
        *self.given.entry(self.end(until)).or_default() += bytes;
    }

    /// They are free again, before their time perhaps.
    pub(crate) fn take_back(&mut self, bytes: u64, until: u64) {
        let end = self.end(until);
        if let Some(given) = self.given.get_mut(&end) {
            *given = given.saturating_sub(bytes);
            if *given == 0 {
                self.given.remove(&end);
            }
        }
    }

    /// Whether the first rule holds if so many bytes more are given.
    fn fits(&self, bytes: u64, from: u64, to: u64) -> bool {
        let end = self.end(to);
        if end > from + self.longest + 2 * self.part() {
            return false;
        }
        let holds = |given: u64, until: u64| {
            let after = u128::from(until.saturating_sub(from));
            let kept_free = u128::from(self.capacity) * after / (2 * u128::from(self.longest));
            u128::from(given) + u128::from(bytes) + kept_free <= u128::from(self.capacity)
        };
        // What is kept free grows, and what is given shrinks only where something ends: it is most just before that.
        let mut left: u64 = self.given.values().sum();
        for (&until, given) in self.given.range(..=end) {
            if !holds(left, until) {
                return false;
            }
            left -= given;
        }
        holds(left, end)
    }

    fn keep_turn(&mut self, client: u64, start: Virtual, until: u64) {
        self.refused.insert(client, (start, until));
        if self.refused.len() > MOST
            && let Some((&last, _)) = self.refused.iter().max_by_key(|(_, (start, _))| *start)
        {
            self.refused.remove(&last);
        }
    }

    fn part(&self) -> u64 {
        (self.longest / PARTS).max(1)
    }

    /// Until when what ends at this time counts.
    fn end(&self, until: u64) -> u64 {
        until.div_ceil(self.part()) * self.part()
    }
}

#[cfg(test)]
mod tests {
    use p2p_core::Rng;
    use proptest::prelude::*;

    use super::*;

    const CAPACITY: u64 = 1_000_000;
    const LONGEST: u64 = 1000;

    /// Room, what of it is given, and how much every client has had, in bytes and in bytes times seconds.
    struct Node {
        shares: FairShares,
        given: Vec<(u64, u64)>,
        had: BTreeMap<u64, (u64, u64)>,
    }

    impl Node {
        fn new() -> Node {
            Node { shares: FairShares::new(CAPACITY, LONGEST), given: Vec::new(), had: BTreeMap::new() }
        }

        fn ask(&mut self, now: u64, client: u64, bytes: u64, lifetime: u64) -> bool {
            self.given.retain(|(_, end)| *end > now);
            let is_given = self.shares.admit(client, bytes, (now, now + lifetime), 0);
            if is_given {
                self.shares.give(bytes, now + lifetime);
                self.given.push((bytes, now + lifetime));
                let had = self.had.entry(client).or_default();
                *had = (had.0 + bytes, had.1 + bytes * lifetime);
            }
            let total: u64 = self.given.iter().map(|(bytes, _)| bytes).sum();
            assert!(total <= CAPACITY, "{total} bytes are given at {now}");
            is_given
        }
    }

    /// The paper's figure: clients that want more than there is get as much, in bytes times seconds, whatever they ask: more
    /// often, larger puts, or shorter ones. In the order in which they come, which changes.
    #[test]
    fn clients_that_want_more_than_there_is_get_equal_shares() {
        let mut node = Node::new();
        let mut rng = Rng::new(1);
        // How many puts a second, of how many bytes, for how many seconds: each wants at least twice its share.
        let wants = [(1, 1000, 1000), (9, 1000, 1000), (1, 10_000, 1000), (4, 1000, 250), (2, 500, 1000)];
        let mut settled = BTreeMap::new();
        for now in 0..6 * LONGEST {
            if now == 2 * LONGEST {
                settled = node.had.clone();
            }
            let mut order: Vec<u64> = (0..wants.len() as u64).collect();
            rng.shuffle(&mut order);
            for client in order {
                let (often, bytes, lifetime) = wants[client as usize];
                for _ in 0..often {
                    node.ask(now, client, bytes, lifetime);
                }
            }
        }
        let had: Vec<u64> = (0..5).map(|client| node.had[&client].1 - settled[&client].1).collect();
        let (least, most) = (had.iter().min().unwrap(), had.iter().max().unwrap());
        // Within one put of each at either end.
        assert!(most - least <= 4 * 10_000 * 1000, "{had:?}");
        // And nothing lies idle: more than the half that is always free for a newcomer.
        let all = CAPACITY * 4 * LONGEST;
        assert!(had.iter().sum::<u64>() * 2 > all, "{had:?} of {all}");
        // What lasts a quarter as long may be four times as many bytes.
        let bytes = |client: u64| (node.had[&client].0 - settled[&client].0) as f64;
        assert!((bytes(3) / bytes(0) - 4.0).abs() < 0.2, "{} and {}", bytes(3), bytes(0));
    }

    /// Who wants less than its share gets all of it, after no more than it takes that much room to come at the rate r; who
    /// takes whatever it can is refused meanwhile.
    #[test]
    fn who_wants_less_than_its_share_gets_it_while_a_greedy_client_is_refused() {
        let mut node = Node::new();
        let (mut refused, mut longest_wait) = (0, 0);
        // Every 4 s 1,000 bytes for as long as may be: a quarter of C / T, half of a share of two.
        let mut waits_since = None;
        for now in 0..10 * LONGEST {
            refused += (0..10).filter(|_| !node.ask(now, 1, 1000, LONGEST)).count();
            if now % 4 == 0 {
                waits_since = waits_since.or(Some(now));
            }
            if let Some(since) = waits_since
                && node.ask(now, 2, 1000, LONGEST)
            {
                longest_wait = longest_wait.max(now - since);
                waits_since = None;
            }
        }
        // 500 bytes a second.
        assert!(longest_wait <= 3, "{longest_wait} s");
        assert!(node.had[&2].0 >= 10 * LONGEST / 4 * 1000 - 2000, "{:?}", node.had);
        assert!(refused > 90_000, "{refused} of 100,000");
    }

    /// All is one client's that is alone, but for what is kept free for others; and a newcomer has room at once.
    #[test]
    fn who_is_alone_takes_what_there_is_and_a_newcomer_finds_room_all_the_same() {
        let mut node = Node::new();
        let alone = (0..2000).filter(|_| node.ask(0, 1, 1000, LONGEST)).count();
        assert_eq!(alone, 500);
        assert_eq!((0..2000).filter(|_| node.ask(1, 1, 1000, 10)).count(), 495, "for a short time");
        assert!(!node.ask(1, 2, 1000, LONGEST));
        assert!(node.ask(3, 2, 1000, LONGEST), "500 bytes have come free in each second");
    }

    /// A turn is kept for a while, not for ever, and not before those who have had no more.
    #[test]
    fn a_turn_is_kept_for_those_who_come_again() {
        let mut node = Node::new();
        assert!(node.ask(0, 1, 500_000, LONGEST));
        assert!(!node.ask(1, 2, 100_000, LONGEST));
        assert!(!node.ask(100, 1, 1000, LONGEST), "there is room, but another comes first");
        assert!(node.ask(100, 3, 1000, LONGEST), "who has had nothing comes first, too");
        assert!(node.ask(TURN + 1, 1, 1000, LONGEST), "the other has not come again");
    }

    #[test]
    fn floods_of_clients_take_no_more_memory() {
        let mut shares = FairShares::new(1 << 40, 1 << 20);
        for client in 0..3 * MOST as u64 {
            assert!(shares.admit(client, 1 + client, (client, client + 100), 0));
            shares.give(1 + client, client + 100);
        }
        assert!(shares.ended.len() <= MOST && shares.given.len() <= 4 * MOST);
        for client in 0..3 * MOST as u64 {
            assert!(!shares.admit(client, 1 << 41, (0, 100), 0));
        }
        assert!(shares.refused.len() <= MOST);
    }

    proptest! {
        /// There is room at the rate r for what comes next, whatever has been given: the first rule, by its words, at every second.
        #[test]
        fn the_rate_that_is_promised_is_kept(asked in prop::collection::vec((1u64..60, 0u64..3, 1u64..200_000, 1u64..=LONGEST), 1..60)) {
            let mut node = Node::new();
            let mut now = 0;
            for (wait, client, bytes, lifetime) in asked {
                now += wait;
                node.ask(now, client, bytes, lifetime);
                for tau in 0..LONGEST {
                    let given = node.given.iter().filter(|(_, end)| *end > now + tau);
                    let given: u64 = given.map(|(bytes, _)| bytes).sum();
                    prop_assert!(2 * LONGEST * given + CAPACITY * tau <= 2 * LONGEST * CAPACITY, "{given} in {tau} s");
                }
            }
        }

        #[test]
        fn what_is_taken_back_is_free_again(gives in prop::collection::vec((1u64..1000, 1u64..5000), 1..50)) {
            let mut shares = FairShares::new(CAPACITY, LONGEST);
            gives.iter().for_each(|(bytes, until)| shares.give(*bytes, *until));
            gives.iter().for_each(|(bytes, until)| shares.take_back(*bytes, *until));
            prop_assert!(shares.given.is_empty());
        }
    }
}
