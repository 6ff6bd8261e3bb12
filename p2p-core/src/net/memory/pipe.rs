//! One direction of a stream in memory: chunks in order, a bounded buffer, an end.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::net::stream::StreamError;
use crate::net::transport::Lost;

/// Bytes written and not yet read, above which a writer waits. A single chunk may go over it.
const BUFFER: usize = 256 << 10;

#[derive(Debug, Default)]
pub(in crate::net) struct Pipe(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    finished: bool,
    /// The writer gave it up.
    reset: Option<u64>,
    /// The reader gave it up.
    stopped: Option<u64>,
    lost: Option<Lost>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lose(&self, lost: Lost) {
        let mut state = self.state();
        state.lost.get_or_insert(lost);
        state.wake();
    }
}

pub(super) fn pipe() -> (PipeWriter, PipeReader, Weak<Pipe>) {
    let pipe = Arc::new(Pipe::default());
    let weak = Arc::downgrade(&pipe);
    (PipeWriter(pipe.clone()), PipeReader(pipe), weak)
}

#[derive(Debug)]
pub(in crate::net) struct PipeWriter(Arc<Pipe>);

impl PipeWriter {
    pub(in crate::net) async fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        poll_fn(|cx| {
            let mut state = self.0.state();
            if let Some(code) = state.stopped {
                return Poll::Ready(Err(StreamError::Abandoned(code)));
            }
            if let Some(lost) = state.lost {
                return Poll::Ready(Err(lost.into()));
            }
            if state.finished || state.reset.is_some() {
                return Poll::Ready(Err(StreamError::Finished));
            }
            if state.bytes >= BUFFER {
                state.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if !bytes.is_empty() {
                state.bytes += bytes.len();
                state.chunks.push_back(bytes.clone());
                state.wake();
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    pub(in crate::net) fn finish(&mut self) {
        let mut state = self.0.state();
        state.finished = true;
        state.wake();
    }

    pub(in crate::net) fn reset(&mut self, code: u64) {
        let mut state = self.0.state();
        state.reset.get_or_insert(code);
        state.chunks.clear();
        state.wake();
    }

    /// Resolves when everything has been read.
    pub(in crate::net) async fn drained(&mut self) -> Result<(), StreamError> {
        poll_fn(|cx| {
            let mut state = self.0.state();
            if state.finished && state.chunks.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if let Some(code) = state.stopped {
                return Poll::Ready(Err(StreamError::Abandoned(code)));
            }
            if let Some(lost) = state.lost {
                return Poll::Ready(Err(lost.into()));
            }
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[derive(Debug)]
pub(in crate::net) struct PipeReader(Arc<Pipe>);

impl PipeReader {
    pub(in crate::net) async fn read(&mut self, max: usize) -> Result<Option<Bytes>, StreamError> {
        poll_fn(|cx| {
            let mut state = self.0.state();
            if let Some(code) = state.reset {
                return Poll::Ready(Err(StreamError::Abandoned(code)));
            }
            if let Some(mut chunk) = state.chunks.pop_front() {
                let part = chunk.split_to(chunk.len().min(max));
                if !chunk.is_empty() {
                    state.chunks.push_front(chunk);
                }
                state.bytes -= part.len();
                state.wake();
                return Poll::Ready(Ok(Some(part)));
            }
            if state.finished {
                return Poll::Ready(Ok(None));
            }
            if let Some(lost) = state.lost {
                return Poll::Ready(Err(lost.into()));
            }
            state.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    pub(in crate::net) fn stop(&mut self, code: u64) {
        let mut state = self.0.state();
        state.stopped.get_or_insert(code);
        state.wake();
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let read = {
            let state = self.0.state();
            state.finished && state.chunks.is_empty()
        };
        // Otherwise a writer that waits until all is read would wait for ever.
        if !read {
            self.stop(crate::net::stream::code::DROPPED.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_goes_early_is_not_waited_for() {
        let (mut writer, mut reader, _) = pipe();
        writer.write("one".into()).await.unwrap();
        writer.write("two".into()).await.unwrap();
        writer.finish();
        assert_eq!(reader.read(9).await.unwrap().unwrap(), "one");
        drop(reader);
        let dropped = crate::net::stream::code::DROPPED.into();
        let drained = tokio::time::timeout(std::time::Duration::ZERO, writer.drained()).await;
        assert_eq!(drained.expect("nobody reads any more"), Err(StreamError::Abandoned(dropped)));
    }
}
