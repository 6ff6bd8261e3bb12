//! Who becomes a super-node, and who ceases to be one: one policy for Gnutella 0.6, KaZaA and Skype.
//!
//! Two questions are kept apart, as *Ultrapeers: Another Step Towards Gnutella Scalability* (Singla and Rohrs, 2002, §3)
//! does: whether a node is *eligible* (others reach it, it has been there for a while, its line is good enough), and
//! whether another super-node is *needed*. Only both together promote. Both are noisy, so:
//!
//! - the load is averaged over [`PromotionConfig::smoothing`], and there is a wide gap between the load that promotes and
//!   the one that demotes;
//! - a role is kept for [`PromotionConfig::stay`] at least, so that nobody changes more often than that;
//! - not all who see the same act at once: each draws a lot whenever it is asked, and the others see what has changed;
//! - a super-node whose line has become bad stays in office for [`PromotionConfig::grace`].
//!
//! In this order: the configuration, what is known ([`Standing`], [`Need`]), the policy ([`Promotion`]), and to whom a
//! super-node that retires hands its leaves ([`hand_over`]).

use std::time::Duration;

use p2p_core::Time;

/// When roles change. Loads are in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromotionConfig {
    /// How long a node has to have been there to be eligible. 30 minutes (ours; the paper leaves it open).
    pub uptime: Duration,
    /// What its line has to carry upwards, in kbit/s. 120 (15 kB/s, what the paper's programs asked for).
    pub bandwidth: u32,
    /// Super-nodes are needed above this average load. 800.
    pub crowded: u16,
    /// They are too many below this one. 150.
    pub idle: u16,
    /// The time that loads are averaged over. 2 minutes.
    pub smoothing: Duration,
    /// How long a role lasts at least. 10 minutes.
    pub stay: Duration,
    /// How long a super-node that is reached no longer, or has a bad line, stays in office. 1 minute.
    pub grace: Duration,
    /// How likely it is to act, each time that it is asked and has reason to; in thousandths. 50.
    pub chance: u16,
}

impl Default for PromotionConfig {
    fn default() -> PromotionConfig {
        PromotionConfig {
            uptime: Duration::from_secs(1800),
            bandwidth: 120,
            crowded: 800,
            idle: 150,
            smoothing: Duration::from_secs(120),
            stay: Duration::from_secs(600),
            grace: Duration::from_secs(60),
            chance: 50,
        }
    }
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has a super-node, which speaks for it.
    Leaf,
    /// It speaks for its leaves. Ultrapeer, in Gnutella's words.
    Ultrapeer,
}

/// What makes a node eligible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether others can connect to it.
    pub reachable: bool,
    /// How long it has been there.
    pub uptime: Duration,
    /// What its line carries upwards, in kbit/s.
    pub bandwidth: u32,
}

/// Whether super-nodes are needed, as far as this node sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// How much of the room for leaves is taken, in thousandths: with the super-nodes that it knows, if it is a leaf;
    /// with itself, if it is one of them.
    pub load: u16,
    /// Whether the others have room for all of its leaves. A leaf has none.
    pub room: bool,
}

/// One node's role. Of bounded size.
///
/// ```
/// use std::time::Duration;
/// use p2p_core::Time;
/// use p2p_overlay::{Need, Promotion, PromotionConfig, Role, Standing};
///
/// let mut promotion = Promotion::new(Role::Leaf, Time::ZERO, PromotionConfig::default());
/// let standing = Standing { reachable: true, uptime: Duration::from_secs(7200), bandwidth: 1000 };
/// let need = Need { load: 1000, room: true };
/// let changes = (0..60).filter_map(|minute| {
///     promotion.consider(Time::ZERO + Duration::from_secs(60 * minute), standing, need, 0)
/// });
/// assert_eq!(changes.collect::<Vec<_>>(), [Role::Ultrapeer]);
/// ```
#[derive(Clone, Debug)]
pub struct Promotion {
    config: PromotionConfig,
    role: Role,
    /// Since when.
    since: Time,
    /// The average load in millionths, and when it was taken; none in a new role.
    average: Option<(u32, Time)>,
    /// Since when its line has not been good enough.
    unfit: Option<Time>,
}

impl Promotion {
    /// A node that begins in this role.
    pub fn new(role: Role, now: Time, config: PromotionConfig) -> Promotion {
        Promotion { config, role, since: now, average: None, unfit: None }
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether it might be a super-node, needed or not.
    pub fn is_eligible(&self, standing: Standing) -> bool {
        standing.uptime >= self.config.uptime && self.is_fit(standing)
    }

    /// Whether its line is good enough.
    fn is_fit(&self, standing: Standing) -> bool {
        standing.reachable && standing.bandwidth >= self.config.bandwidth
    }

    /// What is known now, and a number below a thousand, drawn anew; asked regularly. The new role, if it changes.
    pub fn consider(&mut self, now: Time, standing: Standing, need: Need, lot: u16) -> Option<Role> {
        let load = self.average(now, need.load);
        let unfit = match self.is_fit(standing) {
            true => None,
            false => Some(self.unfit.unwrap_or(now)),
        };
        self.unfit = unfit;
        let acts = now.since(self.since) >= self.config.stay && lot < self.config.chance;
        let changes = match self.role {
            Role::Leaf => acts && self.is_eligible(standing) && load >= self.config.crowded,
            Role::Ultrapeer => {
                let too_many = acts && need.room && load <= self.config.idle;
                too_many || unfit.is_some_and(|since| now.since(since) >= self.config.grace)
            }
        };
        changes.then(|| self.change(now))
    }

    /// Others say that it is not needed; it has no leaves to care for. Whether it gives in.
    pub fn give_in(&mut self, now: Time) -> bool {
        let gives_in = self.role == Role::Ultrapeer && now.since(self.since) >= self.config.stay;
        if gives_in {
            self.change(now);
        }
        gives_in
    }

    fn change(&mut self, now: Time) -> Role {
        let role = match self.role {
            Role::Leaf => Role::Ultrapeer,
            Role::Ultrapeer => Role::Leaf,
        };
        *self = Promotion::new(role, now, self.config);
        role
    }

    /// The average load in thousandths: each new one counts by the time that has passed.
    fn average(&mut self, now: Time, load: u16) -> u16 {
        let load = i64::from(load.min(1000)) * 1000;
        let average = match self.average {
            None => load,
            Some((average, at)) => {
                let whole = self.config.smoothing.as_millis().max(1) as i64;
                let passed = (now.since(at).as_millis() as i64).min(whole);
                i64::from(average) + (load - i64::from(average)) * passed / whole
            }
        };
        self.average = Some((average as u32, now));
        (average / 1000) as u16
    }
}

/// To whom each leaf of a super-node that retires is sent: up to `each` others that have room, those with the most first,
/// and no more leaves to one first than it has room for. Leaves for whom nobody has room get whoever is there.
pub fn hand_over<P: Copy + Ord>(leaves: &[P], others: &[(P, usize)], each: usize) -> Vec<(P, Vec<P>)> {
    let mut rooms: Vec<(P, usize)> = others.to_vec();
    let place = |leaf: &P| {
        rooms.sort_by_key(|(peer, room)| (std::cmp::Reverse(*room), *peer));
        let to: Vec<P> = rooms.iter().take(each).map(|(peer, _)| *peer).collect();
        if let Some((_, room)) = rooms.first_mut() {
            *room = room.saturating_sub(1);
        }
        (*leaf, to)
    };
    leaves.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: Standing = Standing { reachable: true, uptime: Duration::from_secs(7200), bandwidth: 1000 };

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn promotion(role: Role) -> Promotion {
        Promotion::new(role, at(0), PromotionConfig::default())
    }

    /// The changes of an hour, asked every ten seconds.
    fn hour(promotion: &mut Promotion, of: impl Fn(u64) -> (Standing, Need)) -> Vec<(u64, Role)> {
        let asked = (0..360).filter_map(|step| {
            let (standing, need) = of(step);
            Some((step * 10, promotion.consider(at(step * 10), standing, need, 0)?))
        });
        asked.collect()
    }

    #[test]
    fn who_is_not_eligible_is_never_promoted_however_needed() {
        let wrong = [
            Standing { reachable: false, ..GOOD },
            Standing { uptime: Duration::from_secs(1799), ..GOOD },
            Standing { bandwidth: 119, ..GOOD },
        ];
        for standing in wrong {
            let mut promotion = promotion(Role::Leaf);
            assert_eq!(hour(&mut promotion, |_| (standing, Need { load: 1000, room: true })), []);
        }
    }

    #[test]
    fn who_is_not_needed_is_never_promoted_however_good() {
        let need = Need { load: 790, room: true };
        assert_eq!(hour(&mut promotion(Role::Leaf), |_| (GOOD, need)), []);
    }

    #[test]
    fn both_together_promote_after_the_least_stay() {
        let need = Need { load: 900, room: true };
        assert_eq!(hour(&mut promotion(Role::Leaf), |_| (GOOD, need)), [(600, Role::Ultrapeer)]);
    }

    #[test]
    fn an_idle_super_node_retires_only_if_others_have_room() {
        let of = |room| move |_| (GOOD, Need { load: 100, room });
        assert_eq!(hour(&mut promotion(Role::Ultrapeer), of(false)), []);
        assert_eq!(hour(&mut promotion(Role::Ultrapeer), of(true)), [(600, Role::Leaf)]);
    }

    #[test]
    fn between_the_two_loads_everybody_stays_what_it_is() {
        for role in [Role::Leaf, Role::Ultrapeer] {
            let need = |step| Need { load: if step % 2 == 0 { 250 } else { 700 }, room: true };
            assert_eq!(hour(&mut promotion(role), |step| (GOOD, need(step))), []);
        }
    }

    /// A load that jumps from nothing to everything has an average of a half: nobody moves.
    #[test]
    fn noise_does_not_make_roles_flap() {
        for role in [Role::Leaf, Role::Ultrapeer] {
            let need = |step| Need { load: if step % 2 == 0 { 0 } else { 1000 }, room: true };
            let mut promotion = promotion(role);
            // Settled somewhere between the two, before the least stay is over.
            assert_eq!(hour(&mut promotion, |step| (GOOD, need(step))), []);
        }
    }

    #[test]
    fn a_line_that_fails_for_a_moment_costs_nobody_the_office() {
        let blink = |step: u64| Standing { reachable: !step.is_multiple_of(5), ..GOOD };
        let need = Need { load: 500, room: true };
        assert_eq!(hour(&mut promotion(Role::Ultrapeer), |step| (blink(step), need)), []);
        let gone = |step: u64| Standing { reachable: step < 10, ..GOOD };
        let changes = hour(&mut promotion(Role::Ultrapeer), |step| (gone(step), need));
        assert_eq!(changes, [(160, Role::Leaf)], "a minute after it was seen");
    }

    #[test]
    fn who_was_just_promoted_does_not_give_in() {
        let mut node = promotion(Role::Ultrapeer);
        assert!(!node.give_in(at(599)) && node.give_in(at(600)) && node.role() == Role::Leaf);
        assert!(!node.give_in(at(5000)), "a leaf has nothing to give up");
    }

    #[test]
    fn leaves_are_shared_out_by_room() {
        let handed = hand_over(&[1, 2, 3, 4], &[(10, 3), (11, 1), (12, 0)], 2);
        let first: Vec<i32> = handed.iter().map(|(_, to)| to[0]).collect();
        assert_eq!(first.iter().filter(|to| **to == 10).count(), 3);
        assert_eq!(first.iter().filter(|to| **to == 11).count(), 1);
        assert!(handed.iter().all(|(_, to)| to.len() == 2));
        assert_eq!(hand_over(&[1], &[], 2), [(1, vec![])]);
    }

    #[test]
    fn who_draws_a_blank_waits() {
        let (mut node, need) = (promotion(Role::Leaf), Need { load: 1000, room: true });
        for (seconds, lot, changes) in
            [(1000, 50, None), (1010, 999, None), (1020, 49, Some(Role::Ultrapeer))]
        {
            assert_eq!(node.consider(at(seconds), GOOD, need, lot), changes);
        }
    }

    #[test]
    fn who_begins_as_a_super_node_need_not_have_been_there_before() {
        let new = |step: u64| Standing { uptime: Duration::from_secs(step * 10), ..GOOD };
        let need = Need { load: 500, room: true };
        assert_eq!(hour(&mut promotion(Role::Ultrapeer), |step| (new(step), need)), []);
    }

    proptest! {
        /// Whatever comes, no role lasts less than it has to, but for an office that is lost for want of a line.
        #[test]
        fn roles_last(loads in prop::collection::vec((0u16..=1000, any::<bool>()), 360)) {
            let mut promotion = promotion(Role::Leaf);
            let of = |step: u64| (GOOD, Need { load: loads[step as usize].0, room: loads[step as usize].1 });
            let changes = hour(&mut promotion, of);
            prop_assert!(changes.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 600), "{:?}", changes);
        }
    }
}
