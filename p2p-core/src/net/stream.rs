//! Streams: concrete types over QUIC and memory, so that a read or write allocates nothing.

use bytes::{Buf, Bytes};

use super::memory::{PipeReader, PipeWriter};
use super::pool::Use;
use super::transport::Lost;

/// Why a stream cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer gave it up: see [`code`].
    #[error("the peer gave the stream up (code {0})")]
    Abandoned(u64),
    /// The connection is lost.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The caller: it was finished or reset before.
    #[error("the stream was finished before")]
    Finished,
    /// The peer: more came than the reader allows.
    #[error("more than {0} bytes came")]
    TooLong(usize),
}

/// The numbers with which a stream is given up.
pub mod code {
    /// The protocol is not served here.
    pub const NOT_SERVED: u32 = 1;
    /// Too much is being handled already: try later.
    pub const BUSY: u32 = 2;
    /// The body is longer than allowed.
    pub const TOO_LONG: u32 = 3;
    /// The stream took too long.
    pub const TIMED_OUT: u32 = 4;
    /// Whoever used it is gone.
    pub const DROPPED: u32 = 5;
    /// A queue went over its bound.
    pub const OVERFLOW: u32 = 6;
    /// The first of an application's own numbers.
    pub const APPLICATION: u32 = 0x100;
}

/// The sending end of a stream. Dropping it without [`SendStream::finish`] gives it up.
#[derive(Debug)]
pub struct SendStream {
    kind: SendKind,
    done: bool,
    hold: Option<Use>,
}

#[derive(Debug)]
enum SendKind {
    Quic(quinn::SendStream),
    Memory(PipeWriter),
}

impl SendStream {
    pub(super) fn quic(stream: quinn::SendStream) -> SendStream {
        SendStream { kind: SendKind::Quic(stream), done: false, hold: None }
    }

    pub(super) fn memory(pipe: PipeWriter) -> SendStream {
        SendStream { kind: SendKind::Memory(pipe), done: false, hold: None }
    }

    /// Keeps its connection from being closed as unused.
    pub(super) fn hold(&mut self, hold: Use) {
        self.hold = Some(hold);
    }

    /// Writes all these bytes, with a copy.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        match &mut self.kind {
            SendKind::Quic(stream) => stream.write_all(bytes).await.map_err(write_error),
            SendKind::Memory(pipe) => pipe.write(Bytes::copy_from_slice(bytes)).await,
        }
    }

    /// Writes these bytes without a copy.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn write_chunk(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        match &mut self.kind {
            SendKind::Quic(stream) => stream.write_chunk(bytes).await.map_err(write_error),
            SendKind::Memory(pipe) => pipe.write(bytes).await,
        }
    }

    /// Writes these one after the other without a copy.
    pub(super) async fn write_chunks(&mut self, chunks: &mut [Bytes]) -> Result<(), StreamError> {
        match &mut self.kind {
            SendKind::Quic(stream) => stream.write_all_chunks(chunks).await.map_err(write_error),
            SendKind::Memory(pipe) => {
                for chunk in chunks {
                    pipe.write(std::mem::take(chunk)).await?;
                }
                Ok(())
            }
        }
    }

    /// Says that nothing follows. What was written is still delivered.
    ///
    /// # Errors
    /// [`StreamError::Finished`] if it was finished or reset before.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        if std::mem::replace(&mut self.done, true) {
            return Err(StreamError::Finished);
        }
        match &mut self.kind {
            SendKind::Quic(stream) => stream.finish().map_err(|_| StreamError::Finished),
            SendKind::Memory(pipe) => {
                pipe.finish();
                Ok(())
            }
        }
    }

    /// Gives the stream up; what was written may be lost. `code` is an application's own number, or one of
    /// [`code`](mod@code).
    pub fn reset(&mut self, code: u32) {
        self.done = true;
        match &mut self.kind {
            SendKind::Quic(stream) => {
                let _ = stream.reset(code.into());
            }
            SendKind::Memory(pipe) => pipe.reset(code.into()),
        }
    }

    /// Resolves when the peer has received everything after [`SendStream::finish`], or reads no further.
    ///
    /// # Errors
    /// [`StreamError::Abandoned`] if the peer stopped reading, [`StreamError::Lost`].
    pub async fn stopped(&mut self) -> Result<(), StreamError> {
        match &mut self.kind {
            SendKind::Quic(stream) => match stream.stopped().await {
                Ok(None) => Ok(()),
                Ok(Some(code)) => Err(StreamError::Abandoned(code.into_inner())),
                Err(quinn::StoppedError::ConnectionLost(error)) => Err(super::quic::lost(&error).into()),
                Err(quinn::StoppedError::ZeroRttRejected) => Err(StreamError::Lost(Lost::Reset)),
            },
            SendKind::Memory(pipe) => pipe.drained().await,
        }
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.done {
            self.reset(code::DROPPED);
        }
    }
}

fn write_error(error: quinn::WriteError) -> StreamError {
    match error {
        quinn::WriteError::Stopped(code) => StreamError::Abandoned(code.into_inner()),
        quinn::WriteError::ConnectionLost(error) => super::quic::lost(&error).into(),
        quinn::WriteError::ClosedStream => StreamError::Finished,
        quinn::WriteError::ZeroRttRejected => StreamError::Lost(Lost::Reset),
    }
}

/// The receiving end of a stream. Dropping it before its end tells the peer to stop.
#[derive(Debug)]
pub struct RecvStream {
    kind: RecvKind,
    /// What was read too far.
    head: Bytes,
    hold: Option<Use>,
}

#[derive(Debug)]
enum RecvKind {
    Quic(quinn::RecvStream),
    Memory(PipeReader),
}

impl RecvStream {
    pub(super) fn quic(stream: quinn::RecvStream) -> RecvStream {
        RecvStream { kind: RecvKind::Quic(stream), head: Bytes::new(), hold: None }
    }

    pub(super) fn memory(pipe: PipeReader) -> RecvStream {
        RecvStream { kind: RecvKind::Memory(pipe), head: Bytes::new(), hold: None }
    }

    pub(super) fn hold(&mut self, hold: Use) {
        self.hold = Some(hold);
    }

    /// The next bytes, at most `max` of them, without a copy; `None` at the end.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn read_chunk(&mut self, max: usize) -> Result<Option<Bytes>, StreamError> {
        if !self.head.is_empty() {
            let len = self.head.len().min(max);
            return Ok(Some(self.head.split_to(len)));
        }
        self.read_more(max).await
    }

    /// The next bytes of those that are not in `head`.
    async fn read_more(&mut self, max: usize) -> Result<Option<Bytes>, StreamError> {
        match &mut self.kind {
            RecvKind::Quic(stream) => {
                let chunk = stream.read_chunk(max, true).await.map_err(read_error)?;
                Ok(chunk.map(|chunk| chunk.bytes))
            }
            RecvKind::Memory(pipe) => pipe.read(max).await,
        }
    }

    /// The next chunks, as many as there are and fit into `chunks`, without a copy; says how many, `None` at the end.
    /// Cheaper than one after the other: QUIC's come packet by packet.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn read_chunks(&mut self, chunks: &mut [Bytes]) -> Result<Option<usize>, StreamError> {
        if self.head.is_empty()
            && let RecvKind::Quic(stream) = &mut self.kind
        {
            return stream.read_chunks(chunks).await.map_err(read_error);
        }
        let Some(first) = chunks.first_mut() else { return Ok(Some(0)) };
        Ok(self.read_chunk(usize::MAX).await?.map(|chunk| {
            *first = chunk;
            1
        }))
    }

    /// Reads into `buffer` and says how many bytes; `None` at the end.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, StreamError> {
        if self.head.is_empty()
            && let RecvKind::Quic(stream) = &mut self.kind
        {
            return stream.read(buffer).await.map_err(read_error);
        }
        Ok(self.read_chunk(buffer.len()).await?.map(|mut chunk| {
            let len = chunk.len();
            chunk.copy_to_slice(&mut buffer[..len]);
            len
        }))
    }

    /// Fills `buffer`; says whether the stream ended before its first byte.
    ///
    /// # Errors
    /// See [`StreamError`]; an end in the middle is [`StreamError::Finished`].
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<bool, StreamError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]).await? {
                Some(len) => filled += len,
                None if filled == 0 => return Ok(false),
                None => return Err(StreamError::Finished),
            }
        }
        Ok(true)
    }

    /// Everything up to the end, which must be at most `max` bytes. One chunk is passed on without a copy.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub async fn read_to_end(&mut self, max: usize) -> Result<Bytes, StreamError> {
        self.read_to_end_counting(max, |_| Ok(())).await
    }

    /// As [`RecvStream::read_to_end`], with `count` told of every chunk before the next is read.
    pub(super) async fn read_to_end_counting(
        &mut self,
        max: usize,
        mut count: impl FnMut(usize) -> Result<(), StreamError>,
    ) -> Result<Bytes, StreamError> {
        let Some(first) = self.read_chunk(usize::MAX).await? else { return Ok(Bytes::new()) };
        if first.len() > max {
            return Err(StreamError::TooLong(max));
        }
        count(first.len())?;
        let Some(second) = self.read_chunk(usize::MAX).await? else { return Ok(first) };
        let mut whole = Vec::with_capacity((first.len() + second.len()).saturating_mul(2).min(max));
        whole.extend_from_slice(&first);
        let mut next = Some(second);
        while let Some(chunk) = next {
            if whole.len() + chunk.len() > max {
                return Err(StreamError::TooLong(max));
            }
            count(chunk.len())?;
            whole.extend_from_slice(&chunk);
            next = self.read_chunk(usize::MAX).await?;
        }
        Ok(whole.into())
    }

    /// Tells the peer to send no more.
    pub fn stop(&mut self, code: u32) {
        match &mut self.kind {
            RecvKind::Quic(stream) => {
                let _ = stream.stop(code.into());
            }
            RecvKind::Memory(pipe) => pipe.stop(code.into()),
        }
    }

    /// Waits for the name of the protocol, with which a stream begins: a length byte and as many of UTF-8. `false` if
    /// the stream ends before.
    pub(super) async fn read_name(&mut self) -> Result<bool, StreamError> {
        loop {
            let Some(chunk) = self.read_more(usize::MAX).await? else { return Ok(false) };
            self.head = match self.head.is_empty() {
                true => chunk,
                false => [&self.head[..], &chunk].concat().into(),
            };
            if self.head.len() > usize::from(self.head[0]) {
                return Ok(true);
            }
        }
    }

    /// What `find` knows of the name that was read. What came with the name is read next.
    pub(super) fn take_name<T>(&mut self, find: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let len = usize::from(*self.head.first()?);
        let found = self.head.get(1..=len).and_then(|name| std::str::from_utf8(name).ok()).and_then(find);
        self.head.advance((1 + len).min(self.head.len()));
        found
    }
}

fn read_error(error: quinn::ReadError) -> StreamError {
    match error {
        quinn::ReadError::Reset(code) => StreamError::Abandoned(code.into_inner()),
        quinn::ReadError::ConnectionLost(error) => super::quic::lost(&error).into(),
        quinn::ReadError::ClosedStream | quinn::ReadError::IllegalOrderedRead => StreamError::Finished,
        quinn::ReadError::ZeroRttRejected => StreamError::Lost(Lost::Reset),
    }
}
