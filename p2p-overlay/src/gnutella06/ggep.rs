//! What an ultrapeer says beside its pong: how many more leaves and ultrapeers it has room for (`UP`, in the extension
//! format GGEP 0.51 of the Gnutella Developer Forum).

use bytes::{BufMut, Bytes, BytesMut};

/// What a block of extensions begins with.
const MAGIC: u8 = 0xc3;
/// The last extension of a block; and how its identifier's length is told.
const LAST: u8 = 0x80;
const ID_LENGTH: u8 = 0x0f;
/// A byte of a length is followed by another, or is the last; six bits are its own.
const MORE: u8 = 0x80;
const LAST_LENGTH: u8 = 0x40;

/// How much room there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub leaves: u8,
    pub ultrapeers: u8,
}

impl Room {
    /// The extension of a pong.
    pub(super) fn write(self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&[MAGIC, LAST | 2]);
        out.put_slice(b"UP");
        // Three bytes: a version, and the two numbers.
        out.put_slice(&[LAST_LENGTH | 3, 1, self.leaves, self.ultrapeers]);
        out.freeze()
    }

    /// What an extension says of it, if it does.
    pub(super) fn read(extension: &[u8]) -> Option<Room> {
        let mut rest = extension.strip_prefix(&[MAGIC])?;
        loop {
            let (&flags, after) = rest.split_first()?;
            let (id, mut after) = after.split_at_checked((flags & ID_LENGTH).into())?;
            let mut length = 0;
            // A length has three bytes at most.
            for _ in 0..3 {
                let (&byte, next) = after.split_first()?;
                after = next;
                length = length << 6 | usize::from(byte & 0x3f);
                if byte & (MORE | LAST_LENGTH) == LAST_LENGTH {
                    break;
                }
            }
            let (data, next) = after.split_at_checked(length)?;
            if let (b"UP", &[_, leaves, ultrapeers, ..]) = (id, data) {
                return Some(Room { leaves, ultrapeers });
            }
            if flags & LAST != 0 {
                return None;
            }
            rest = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn room_is_told_among_others() {
        let room = Room { leaves: 7, ultrapeers: 9 };
        assert_eq!(room.write()[..], [0xc3, 0x82, b'U', b'P', 0x43, 1, 7, 9]);
        assert_eq!(Room::read(&room.write()), Some(room));
        let among = [0xc3, 0x02, b'D', b'U', 0x41, 5, 0x82, b'U', b'P', 0x43, 1, 7, 9];
        assert_eq!(Room::read(&among), Some(room));
        assert_eq!(Room::read(&[0xc3, 0x82, b'D', b'U', 0x41, 5]), None);
    }

    proptest! {
        #[test]
        fn any_extension_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Room::read(&bytes);
            let _ = Room::read(&[&[MAGIC][..], &bytes].concat());
        }
    }
}
