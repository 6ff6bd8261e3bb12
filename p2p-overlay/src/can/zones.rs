//! Zones and who claims them.
//!
//! The paper does not say what becomes of a zone that two nodes have taken over, each unseen by the other: after
//! failures side by side, or when a network that was cut in two is mended. Here a node holds a zone by a [`Claim`] with
//! a version, which grows whenever the zone changes hands. Of two claims to one place the later version wins, and of
//! two alike that of the peer with the lesser key: whoever has heard both knows the winner, in whatever order they
//! came. A split raises the version by two and a takeover by one: so whoever takes over a zone as it was before a split
//! yields to the newcomer. A claim to a place of which nobody knows the history has version 0, and yields to all
//! others. Liars can claim what they like, as in the paper.

use std::ops::Deref;

use p2p_core::Keyed;
use serde::{Deserialize, Serialize, Serializer};

use super::Zone;

/// A zone, and how often it has changed hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The zone.
    pub zone: Zone,
    /// How often it has changed hands: twice by each split, once by each takeover.
    pub version: u32,
}

/// What a node holds. Nearly always that is one zone, which needs no memory of its own: it is looked at with every
/// message and every hop.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Vec<Claim>")]
pub enum Claims {
    /// One zone.
    One(Claim),
    /// None, or several.
    Several(Vec<Claim>),
}

impl Deref for Claims {
    type Target = [Claim];

    #[inline]
    fn deref(&self) -> &[Claim] {
        match self {
            Claims::One(claim) => std::slice::from_ref(claim),
            Claims::Several(claims) => claims,
        }
    }
}

impl From<Vec<Claim>> for Claims {
    fn from(claims: Vec<Claim>) -> Claims {
        match claims[..] {
            [claim] => Claims::One(claim),
            _ => Claims::Several(claims),
        }
    }
}

impl From<&[Claim]> for Claims {
    fn from(claims: &[Claim]) -> Claims {
        match *claims {
            [claim] => Claims::One(claim),
            _ => Claims::Several(claims.to_vec()),
        }
    }
}

impl PartialEq for Claims {
    fn eq(&self, other: &Claims) -> bool {
        **self == **other
    }
}

impl Eq for Claims {}

/// As a list.
impl Serialize for Claims {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

/// The most zones that a node holds, or is believed to hold.
pub(super) const MAX_ZONES: usize = 32;

/// The most gaps that are worth knowing at a time.
const MAX_GAPS: usize = 16;

impl Claim {
    /// Whether this claim, by one peer, holds against that of another to the same place. If zones are `shared` (§3.4),
    /// two who claim the very same one hold it both.
    pub(super) fn beats<P: Keyed>(&self, by: P, other: &Claim, its: P, shared: bool) -> bool {
        if shared && self == other {
            return false;
        }
        match self.version == other.version {
            true => by.key() < its.key(),
            false => self.version > other.version,
        }
    }

    /// The claims to its halves after a split. `None` if it is a single point.
    pub(super) fn split(&self) -> Option<(Claim, Claim)> {
        let (lower, upper) = self.zone.split()?;
        let version = self.version.saturating_add(2);
        Some((Claim { zone: lower, version }, Claim { zone: upper, version }))
    }

    /// The claim of whoever takes the zone over.
    pub(super) fn taken_over(&self) -> Claim {
        Claim { version: self.version.saturating_add(1), ..*self }
    }

    /// What is left of it without a zone.
    pub(super) fn without(&self, hole: &Zone) -> impl Iterator<Item = Claim> + use<> {
        let version = self.version;
        self.zone.without(hole).into_iter().map(move |zone| Claim { zone, version })
    }
}

/// What is left of one peer's claims where those of another do not hold against them. At most [`MAX_ZONES`].
pub(super) fn left_of<P: Keyed>(
    claims: &[Claim],
    by: P,
    others: &[Claim],
    its: P,
    shared: bool,
) -> Vec<Claim> {
    let mut left = Vec::new();
    for claim in claims {
        let better = others
            .iter()
            .filter(|other| other.zone.overlaps(&claim.zone) && other.beats(its, claim, by, shared));
        left.extend(better.fold(vec![*claim], |parts, other| {
            parts.iter().flat_map(|part| part.without(&other.zone)).take(MAX_ZONES).collect()
        }));
    }
    left.truncate(MAX_ZONES);
    left
}

/// Whether any zone of one list overlaps one of the other.
pub(super) fn overlap(claims: &[Claim], others: &[Claim]) -> bool {
    claims.iter().any(|claim| others.iter().any(|other| other.zone.overlaps(&claim.zone)))
}

/// How much of the space some claims cover, in units of 2^-126.
pub(super) fn volume(claims: &[Claim]) -> u128 {
    claims.iter().map(|claim| claim.zone.volume()).fold(0, u128::saturating_add)
}

/// Whether a zone is a neighbour of one of these.
pub(super) fn abuts(claims: &[Claim], zone: &Zone) -> bool {
    claims.iter().any(|claim| claim.zone.is_neighbour(zone))
}

/// Joins halves of one zone, and zones that lie in another (§2.3). At most [`MAX_ZONES`] are left, the largest.
pub(super) fn merge(claims: &mut Vec<Claim>) {
    let covered = |claims: &[Claim]| {
        let covers = |a: usize, b: usize| a != b && claims[a].zone.covers(&claims[b].zone);
        (0..claims.len()).find_map(|b| (0..claims.len()).find(|&a| covers(a, b)).map(|a| (a, b)))
    };
    let halves = |claims: &[Claim]| {
        claims.iter().enumerate().find_map(|(a, claim)| {
            let sibling = claim.zone.sibling()?;
            Some((a, claims.iter().position(|other| other.zone == sibling)?))
        })
    };
    while let Some((a, b)) = covered(claims).or_else(|| halves(claims)) {
        let version = claims[a].version.max(claims[b].version);
        let whole = match claims[a].zone.parent() {
            Some((parent, _)) if !claims[a].zone.covers(&claims[b].zone) => parent,
            _ => claims[a].zone,
        };
        claims[a] = Claim { zone: whole, version };
        claims.swap_remove(b);
    }
    claims.sort_unstable_by_key(|claim| claim.zone.halvings());
    claims.truncate(MAX_ZONES);
}

/// Places beside some zones that none of the `known` ones covers: each as large as the zone that it lies beside, or
/// smaller.
pub(super) fn gaps(own: &[Claim], known: &[Zone]) -> Vec<Zone> {
    let mut gaps = Vec::new();
    let mine: Vec<Zone> = own.iter().map(|claim| claim.zone).collect();
    if let Some(first) = mine.first() {
        let all: Vec<Zone> = mine.iter().chain(known).copied().collect();
        search(first.space().whole(), &mine, &all, &mut gaps);
    }
    gaps
}

/// Looks for gaps in a part of the space; `known` are the zones in it.
fn search(part: Zone, mine: &[Zone], known: &[Zone], gaps: &mut Vec<Zone>) {
    let is_covered = known.iter().any(|zone| zone.covers(&part));
    if is_covered || gaps.len() >= MAX_GAPS || !mine.iter().any(|zone| zone.touches(&part)) {
        return;
    }
    let inside: Vec<Zone> = known.iter().filter(|zone| part.covers(zone)).copied().collect();
    match part.split() {
        Some((lower, upper)) if !inside.is_empty() => {
            search(lower, mine, &inside, gaps);
            search(upper, mine, &inside, gaps);
        }
        _ => gaps.extend(mine.iter().find_map(|zone| beside(part, zone))),
    }
}

/// The part of an empty place that lies beside a zone and is no larger than that.
fn beside(place: Zone, zone: &Zone) -> Option<Zone> {
    let mut place = Some(place).filter(|place| place.is_neighbour(zone))?;
    while place.halvings() < zone.halvings()
        && let Some((lower, upper)) = place.split()
    {
        place = if lower.is_neighbour(zone) { lower } else { upper };
    }
    Some(place)
}
