//! The geometry: zones that tile a torus (§2).
//!
//! A [`Space`] has `d` dimensions; a [`Point`] in it is a key cut into `d` equal coordinates; a [`Zone`] is a box that
//! came from halving the space again and again, the dimensions taking turns (§2.3: always in the same order, so that
//! zones can merge again). So a zone has a *path*, the halves that led to it: zones are the nodes of a binary tree, and
//! in order of their paths they stand one after the other like the arcs of a ring.

use p2p_core::{Key, Rng};
use serde::{Deserialize, Serialize, Serializer};

/// A torus of `dimensions` dimensions, 1 to 8. Each coordinate has 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Space {
    dimensions: u8,
}

/// A place in a [`Space`]: the first `d` coordinates count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point(pub(super) [u32; 8]);

/// A box: in dimension `i` it is 2^32 long, halved as often as its turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "Encoded")]
pub struct Zone {
    space: Space,
    from: Point,
    /// How often it was halved, in all dimensions together.
    halvings: u16,
}

/// In which dimension a neighbour abuts, and at which ends of the zone: at both where two zones go around the torus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Border {
    pub(super) dimension: usize,
    /// It begins where the zone ends.
    pub(super) up: bool,
    /// It ends where the zone begins.
    pub(super) down: bool,
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

    /// How many dimensions it has.
    pub fn dimensions(&self) -> u8 {
        self.dimensions
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

    /// The path to a key: the bits of its coordinates, the most significant first, the dimensions taking turns. What
    /// lies in a zone begins with the zone's [path](Zone::path).
    pub fn path(&self, key: &Key) -> Key {
        self.path_to(&self.point(key), 32 * u16::from(self.dimensions))
    }

    fn path_to(&self, point: &Point, bits: u16) -> Key {
        let mut words = [0u64; 4];
        let mut bit = 0;
        'turns: for shift in (0..32).rev() {
            for x in self.of(point) {
                if bit == usize::from(bits) {
                    break 'turns;
                }
                words[bit / 64] |= u64::from(x >> shift & 1) << (63 - bit % 64);
                bit += 1;
            }
        }
        let mut path = [0; 32];
        path.chunks_exact_mut(8)
            .zip(words)
            .for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_be_bytes()));
        Key::new(path)
    }

    /// The coordinates of a point that count.
    fn of<'a>(&self, point: &'a Point) -> &'a [u32] {
        &point.0[..usize::from(self.dimensions).min(point.0.len())]
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

    /// Its first coordinate in each dimension, and how many there are.
    #[inline]
    pub(super) fn sides(&self) -> impl Iterator<Item = (u32, u64)> {
        // In all dimensions so often, in the first ones once more.
        let d = u16::from(self.space.dimensions);
        let (often, more) = (self.halvings / d, usize::from(self.halvings % d));
        let from = self.space.of(&self.from).iter().enumerate();
        from.map(move |(i, from)| (*from, (1 << 32) >> (often + u16::from(i < more))))
    }

    /// The space it is a part of.
    pub fn space(&self) -> Space {
        self.space
    }

    /// The share of the space that it covers, as the exponent of ½.
    pub fn halvings(&self) -> u16 {
        self.halvings
    }

    /// The halves that led to it, one bit each; zeros follow.
    pub fn path(&self) -> Key {
        self.space.path_to(&self.from, self.halvings)
    }

    /// The share of the space that it covers, in units of 2^-126; the smallest zones count as one unit.
    pub(super) fn volume(&self) -> u128 {
        1 << 126u16.saturating_sub(self.halvings)
    }

    /// Its lowest corner.
    pub(super) fn first_point(&self) -> Point {
        self.from
    }

    /// The key that lies in its first corner.
    pub(super) fn corner(&self) -> Key {
        let mut key = [0; 32];
        let corner = self.from.0.iter().take(self.space.dimensions.into());
        key.chunks_exact_mut(4).zip(corner).for_each(|(bytes, x)| bytes.copy_from_slice(&x.to_be_bytes()));
        Key::new(key)
    }

    /// A key that lies in it, by chance.
    pub(super) fn key(&self, rng: &mut Rng) -> Key {
        let mut key = [0; 32];
        rng.fill(&mut key);
        for ((from, len), bytes) in self.sides().zip(key.chunks_exact_mut(4)) {
            bytes.copy_from_slice(&from.wrapping_add(rng.below(len) as u32).to_be_bytes());
        }
        Key::new(key)
    }

    /// Whether all of another zone lies in it.
    #[inline]
    pub fn covers(&self, other: &Zone) -> bool {
        self.space == other.space && self.halvings <= other.halvings && self.contains(&other.from)
    }

    /// Whether two zones have a part in common: then one of them covers the other.
    pub fn overlaps(&self, other: &Zone) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// What is left of it without another zone: the other half of each halving that leads there.
    pub(super) fn without(&self, hole: &Zone) -> Vec<Zone> {
        let mut left = Vec::new();
        let mut rest = *self;
        while !hole.covers(&rest) {
            let halves = rest.split().filter(|_| rest.covers(hole));
            let Some((lower, upper)) = halves else {
                left.push(rest);
                break;
            };
            let (inner, outer) = if lower.overlaps(hole) { (lower, upper) } else { (upper, lower) };
            left.push(outer);
            rest = inner;
        }
        left
    }

    /// Whether two zones overlap or touch, be it in a corner only.
    pub(super) fn touches(&self, other: &Zone) -> bool {
        self.sides().zip(other.sides()).all(|((a, a_len), (b, b_len))| {
            u64::from(b.wrapping_sub(a)) <= a_len || u64::from(a.wrapping_sub(b)) <= b_len
        })
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
        self.border(other).is_some()
    }

    /// Where a neighbour abuts; `None` if it is none.
    pub(super) fn border(&self, other: &Zone) -> Option<Border> {
        let mut border = None;
        for (dimension, ((a, a_len), (b, b_len))) in self.sides().zip(other.sides()).enumerate() {
            let a_to_b = u64::from(b.wrapping_sub(a));
            let b_to_a = u64::from(a.wrapping_sub(b));
            let overlap = a_to_b < a_len || b_to_a < b_len;
            if overlap {
                continue;
            }
            let (up, down) = (a_to_b == a_len, b_to_a == b_len);
            if !up && !down || border.is_some() {
                return None;
            }
            border = Some(Border { dimension, up, down });
        }
        border
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

/// A zone travels in a few bytes, for it is seldom halved more than twenty times.
impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let path = self.path();
        let path = Bytes(&path.as_bytes()[..usize::from(self.halvings).div_ceil(8)]);
        (self.space.dimensions, self.halvings, path).serialize(serializer)
    }
}

/// As a list of bytes is encoded, but all at once.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// A zone as it comes: it may be none.
#[derive(Deserialize)]
struct Encoded {
    dimensions: u8,
    halvings: u16,
    /// As many bytes as have the bits.
    path: Vec<u8>,
}

impl TryFrom<Encoded> for Zone {
    type Error = &'static str;

    fn try_from(Encoded { dimensions, halvings, path }: Encoded) -> Result<Zone, &'static str> {
        if !(1..=8).contains(&dimensions) || halvings > 32 * u16::from(dimensions) {
            return Err("expected a zone of 1 to 8 dimensions, each halved at most 32 times");
        }
        if path.len() != usize::from(halvings).div_ceil(8) {
            return Err("expected one bit of path for each halving");
        }
        let d = usize::from(dimensions);
        let mut from = [0; 8];
        for bit in 0..usize::from(halvings) {
            let half = path[bit / 8] >> (7 - bit % 8) & 1;
            from[bit % d] |= u32::from(half) << (31 - bit / d);
        }
        Ok(Zone { space: Space { dimensions }, from: Point(from), halvings })
    }
}
