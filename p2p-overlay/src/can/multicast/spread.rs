//! Where a flood goes next: geometry alone.
//!
//! A flood begins in the lowest corner of a zone, its origin, and goes away from it on the torus, in each dimension at
//! most half-way around.

use super::super::space::{Border, Zone};
use super::super::zones::Claim;

/// Half of the torus in one dimension.
const HALF: u32 = 1 << 31;

/// Directions in which a flood goes on: two bits for each dimension, the lower one for down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ways(u16);

/// One direction: of travel, not of where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    pub(super) dimension: u8,
    pub(super) up: bool,
}

impl Way {
    fn bit(self) -> u16 {
        1 << (2 * self.dimension + u8::from(self.up))
    }

    /// Where one goes on who has come this way (NGC, multicast forwarding): on in the same direction, and both ways in
    /// each dimension before it. Nowhere, if there is no such dimension.
    pub(super) fn onward(self) -> Ways {
        match self.dimension {
            0..8 => Ways(((1 << (2 * self.dimension)) - 1) | self.bit()),
            _ => Ways(0),
        }
    }
}

impl Ways {
    /// Nowhere.
    pub(super) const NONE: Ways = Ways(0);
    /// Where the publisher sends: to all neighbours.
    pub(super) const ALL: Ways = Ways(u16::MAX);

    fn has(self, way: Way) -> bool {
        self.0 & way.bit() != 0
    }

    pub(super) fn without(self, done: Ways) -> Ways {
        Ways(self.0 & !done.0)
    }

    pub(super) fn with(self, more: Ways) -> Ways {
        Ways(self.0 | more.0)
    }
}

/// By which of some ways a flood from `origin` goes from one zone over to another; the one that leads furthest on.
pub(super) fn crossing(origin: &Zone, from: &Zone, to: &Zone, ways: Ways) -> Option<Way> {
    let Border { dimension, up, down } = from.border(to)?;
    let way = |up| Way { dimension: dimension as u8, up };
    let may =
        |at_this_end: bool, up| at_this_end && ways.has(way(up)) && goes_on(origin, from, dimension, up);
    [(up, true), (down, false)].into_iter().find(|(here, up)| may(*here, *up)).map(|(_, up)| way(up))
}

/// The same for whoever holds several zones.
pub(super) fn crossing_any(origin: &Zone, from: &[Claim], to: &[Claim], ways: Ways) -> Option<Way> {
    let all = from.iter().flat_map(|a| to.iter().map(move |b| (&a.zone, &b.zone)));
    all.filter_map(|(from, to)| crossing(origin, from, to, ways)).max()
}

/// Whether what comes after the end of a zone is no more than half-way around from the origin.
fn goes_on(origin: &Zone, zone: &Zone, dimension: usize, up: bool) -> bool {
    let (Some((first, _)), Some((from, len))) = (origin.sides().nth(dimension), zone.sides().nth(dimension))
    else {
        return false;
    };
    match up {
        true => from.wrapping_add(len as u32).wrapping_sub(first) < HALF,
        false => first.wrapping_sub(from.wrapping_sub(1)) <= HALF,
    }
}

/// Whether a flood from `origin` comes to a zone through one of these: whoever goes from the origin's corner to the
/// nearest point of the zone, the last dimension first, takes the last step from there. Of zones that tile the space
/// one is the last before each other, and they lead back to the origin.
pub(super) fn is_last_before(origin: &Zone, to: &Zone, from: &[Claim]) -> bool {
    let mut step = origin.first_point();
    let mut last = None;
    for (i, ((first, _), (start, len))) in origin.sides().zip(to.sides()).enumerate() {
        if u64::from(first.wrapping_sub(start)) < len {
            continue;
        }
        let (ahead, end) = (start.wrapping_sub(first), start.wrapping_add((len - 1) as u32));
        let up = ahead < HALF && ahead <= first.wrapping_sub(end);
        step.0[i] = if up { start } else { end };
        last = last.or(Some((i, if up { start.wrapping_sub(1) } else { end.wrapping_add(1) })));
    }
    let Some((i, before)) = last else { return false };
    step.0[i] = before;
    from.iter().any(|claim| claim.zone.contains(&step))
}
