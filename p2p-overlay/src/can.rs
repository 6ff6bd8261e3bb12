//! CAN's geometry: zones that tile a torus.
//!
//! Ratnasamy et al., *A scalable content-addressable network* (SIGCOMM 2001), §2. A [`Space`] has `d` dimensions;
//! a [`Point`] in it is a key cut into `d` equal coordinates; a [`Zone`] is a box that came from halving the space
//! again and again, the dimensions taking turns (§2.3: always in the same order, so that zones can merge again).
//! A node forwards to the neighbour whose zone is nearest to the point (§2.2).
//!
//! This is the pure part, written to see that [`Overlay`](crate::Overlay)'s vocabulary is not a ring's. What it
//! found: a zone cannot be told from a node's key, so [`Region`](crate::Region) names boxes; the root is known only by
//! itself and its neighbours, which is [`Next::Root`](crate::Next) and [`Next::Toward`](crate::Next) as they stand;
//! copies in other realities lie at other points, which is [`Replicas::Keys`](crate::Replicas).

use p2p_core::Key;

/// A torus of `dimensions` dimensions, 1 to 8. Each coordinate has 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space {
    dimensions: u8,
}

/// A place in a [`Space`]: the first `d` coordinates count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point([u32; 8]);

/// A box: in dimension `i` it is 2^32 long, halved as often as its turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zone {
    space: Space,
    from: Point,
    /// How often it was halved, in all dimensions together.
    halvings: u16,
}

impl Space {
    /// A torus.
    ///
    /// # Panics
    /// If it has not 1 to 8 dimensions.
    pub fn new(dimensions: u8) -> Space {
        assert!((1..=8).contains(&dimensions), "a CAN has 1 to 8 dimensions, not {dimensions}");
        Space { dimensions }
    }

    /// Where a key lies: its consecutive 4-byte parts are the coordinates.
    pub fn point(&self, key: &Key) -> Point {
        let mut point = [0; 8];
        for (coordinate, bytes) in
            point.iter_mut().zip(key.as_bytes().chunks_exact(4)).take(self.dimensions.into())
        {
            *coordinate = bytes.iter().fold(0, |whole, byte| whole << 8 | u32::from(*byte));
        }
        Point(point)
    }

    /// The zone of a node that is alone: everything.
    pub fn whole(&self) -> Zone {
        Zone { space: *self, from: Point([0; 8]), halvings: 0 }
    }
}

impl Zone {
    /// How often dimension `i` was halved: they take turns, the first first.
    fn depth(&self, i: usize) -> u32 {
        let d = usize::from(self.space.dimensions);
        let halvings = usize::from(self.halvings);
        (halvings / d + usize::from(i < halvings % d)) as u32
    }

    /// The first coordinate in dimension `i`, and how many there are.
    fn side(&self, i: usize) -> (u32, u64) {
        (self.from.0[i], 1 << (32 - self.depth(i)))
    }

    fn sides(&self) -> impl Iterator<Item = (u32, u64)> {
        (0..usize::from(self.space.dimensions)).map(|i| self.side(i))
    }

    /// The space it is a part of.
    pub fn space(&self) -> Space {
        self.space
    }

    /// The share of the space that it covers, as the exponent of ½.
    pub fn halvings(&self) -> u16 {
        self.halvings
    }

    /// Whether a point lies in it.
    pub fn contains(&self, point: &Point) -> bool {
        self.sides().zip(point.0).all(|((from, len), x)| u64::from(x.wrapping_sub(from)) < len)
    }

    /// Its two halves, cut in the dimension whose turn it is (§2.3). `None` if it is a single point.
    pub fn split(&self) -> Option<(Zone, Zone)> {
        let i = usize::from(self.halvings) % usize::from(self.space.dimensions);
        let (from, len) = self.side(i);
        if len == 1 {
            return None;
        }
        let lower = Zone { halvings: self.halvings + 1, ..*self };
        let mut upper = lower;
        upper.from.0[i] = from.wrapping_add((len / 2) as u32);
        Some((lower, upper))
    }

    /// The zone that this one was split from, and whether this is its upper half; `None` of the whole space.
    pub fn parent(&self) -> Option<(Zone, bool)> {
        let halvings = self.halvings.checked_sub(1)?;
        let i = usize::from(halvings) % usize::from(self.space.dimensions);
        let mut parent = Zone { halvings, ..*self };
        let (_, len) = self.side(i);
        let upper = u64::from(self.from.0[i]) & len != 0;
        parent.from.0[i] &= !(len as u32);
        Some((parent, upper))
    }

    /// The zone that a takeover merges this one with: the other half of its parent.
    pub fn sibling(&self) -> Option<Zone> {
        let (parent, upper) = self.parent()?;
        let (lower_half, upper_half) = parent.split()?;
        Some(if upper { lower_half } else { upper_half })
    }

    /// Whether two zones are neighbours: their sides overlap in all dimensions but one, and abut in that one (§2).
    pub fn is_neighbour(&self, other: &Zone) -> bool {
        let mut abut = 0;
        for ((a, a_len), (b, b_len)) in self.sides().zip(other.sides()) {
            let a_to_b = u64::from(b.wrapping_sub(a));
            let b_to_a = u64::from(a.wrapping_sub(b));
            let overlap = a_to_b < a_len || b_to_a < b_len;
            if overlap {
                continue;
            }
            let touch = a_to_b == a_len || b_to_a == b_len;
            if !touch {
                return false;
            }
            abut += 1;
        }
        abut == 1
    }

    /// The square of the Euclidean distance, around the torus, from the nearest point of the zone.
    pub fn distance(&self, point: &Point) -> u128 {
        let gap = |((from, len), x): ((u32, u64), u32)| {
            let inside = u64::from(x.wrapping_sub(from));
            if inside < len {
                return 0;
            }
            // Past the far end, or around the other way to the near end.
            let past = inside - (len - 1);
            let before = (1 << 32) - inside;
            u128::from(past.min(before))
        };
        self.sides().zip(point.0).map(gap).map(|gap| gap * gap).sum()
    }
}

#[cfg(test)]
mod tests;
