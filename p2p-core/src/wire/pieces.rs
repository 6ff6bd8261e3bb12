//! How a message leaves for a stream of its own: its long payloads as they are.

use bytes::Bytes;
use postcard::ser_flavors::Flavor;

use super::payload::{SENT, SHORT};

/// An encoding in pieces: payloads as they are, and what goes between them.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// What comes before the first payload; all, if there is none.
    pub first: Vec<u8>,
    /// A payload, what goes before the next, and so on.
    more: Vec<Bytes>,
    /// What follows the last payload.
    last: Vec<u8>,
}

impl Pieces {
    /// Nothing but what goes before a message.
    pub(crate) fn after(first: Vec<u8>) -> Pieces {
        Pieces { first, ..Pieces::default() }
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.more.iter().map(Bytes::len).sum::<usize>() + self.last.len()
    }

    fn open(&mut self) -> &mut Vec<u8> {
        match self.more.is_empty() {
            true => &mut self.first,
            false => &mut self.last,
        }
    }

    /// One after the other.
    pub(crate) fn into_chunks(self) -> Vec<Bytes> {
        let Pieces { first, mut more, last } = self;
        more.insert(0, first.into());
        if !last.is_empty() {
            more.push(last.into());
        }
        more
    }

    /// Adds what `encode` writes, with its payloads uncopied.
    pub(super) fn add(
        self,
        encode: impl FnOnce(Pieces) -> Result<Pieces, postcard::Error>,
    ) -> Result<Pieces, postcard::Error> {
        /// Ends it, also by a panic of somebody's `Serialize`.
        struct Over;
        impl Drop for Over {
            fn drop(&mut self) {
                SENT.set(None);
            }
        }
        let _over = Over;
        SENT.set(Some(None));
        encode(self)
    }
}

impl Flavor for Pieces {
    type Output = Pieces;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.open().push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() >= SHORT {
            // Whether the same bytes: the field's serializer may have been another than this.
            let same = |payload: &mut Bytes| std::ptr::eq::<[u8]>(&**payload, bytes);
            let payload = SENT.with_borrow_mut(|sent| sent.as_mut()?.take_if(same));
            if let Some(payload) = payload {
                if !self.last.is_empty() {
                    self.more.push(std::mem::take(&mut self.last).into());
                }
                self.more.push(payload);
                return Ok(());
            }
        }
        self.open().extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Pieces> {
        Ok(self)
    }
}
