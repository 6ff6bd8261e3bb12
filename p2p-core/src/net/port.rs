//! The end of a machine's inbox that connections have.
//!
//! Each stream of messages that a peer opens is read by a task of its own. It waits when the machine's inbox is full,
//! in messages or in [bytes](super::room), before it decodes the next, and so does the peer; it refuses the stream
//! when the machine has no room for the peer or has ended, so that the peer learns why. What is not all there yet is
//! [bounded](super::unfinished), in bytes and in time.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{Either, select};
use tokio::sync::mpsc::Permit;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::deadlines::TooLate;
use super::frame::{Encoded, Frame};
use super::pool::Link as Connected;
use super::room::{Held, Room, Turn, Turns};
use super::serve::{Conversation, Inbox};
use super::shared::Shared;
use super::stats::{Drop as Dropped, ProtocolCounters};
use super::stream::{RecvStream, StreamError, code};
use super::transport::CloseReason;
use super::unfinished::Unfinished;
use crate::{Contact, Down, Wire};

/// Chunks of a stream that are read at once: packets, mostly.
const CHUNKS: usize = 32;

/// What connections tell the machine's task.
pub(super) enum Note<M> {
    Message(Arc<Source>, M, Held),
    /// An outbox, by its number, has a connection.
    Up(u64, Arc<Connected>),
    /// An outbox has ended.
    Ended(u64, Contact, Option<Down>),
    /// A connection is gone, or something that came on it.
    Down(Arc<Connected>, Down),
}

/// Where a message came from: one stream, or a datagram.
pub(super) struct Source {
    pub link: Arc<Connected>,
    /// There is no room for the peer.
    pub refused: Notify,
}

impl Source {
    fn new(link: Arc<Connected>) -> Arc<Source> {
        Arc::new(Source { link, refused: Notify::new() })
    }
}

/// Takes in what peers send to one machine.
pub(super) struct Port<M> {
    notes: mpsc::Sender<Note<M>>,
    room: Room,
    turns: Turns,
    pub shared: Arc<Shared>,
    pub counters: Arc<ProtocolCounters>,
    ended: watch::Sender<bool>,
}

/// Why a stream of messages is not read further.
enum Fault {
    Misbehaved(String),
    Stream(StreamError),
    Unfinished,
    TimedOut,
}

impl<M> Port<M> {
    pub(super) fn new(notes: mpsc::Sender<Note<M>>, shared: &Arc<Shared>, name: &str) -> Port<M> {
        let counters = shared.counters_of(name);
        let (room, ended) = (Room::new(shared.limits.inbox_bytes), watch::Sender::new(false));
        Port { notes, room, turns: Turns::default(), shared: shared.clone(), counters, ended }
    }

    pub(super) async fn tell(&self, note: Note<M>) {
        // If the machine is gone, nobody needs to know.
        let _ = self.notes.send(note).await;
    }

    /// Takes messages no more: nobody waits any longer.
    pub(super) fn close(&self) {
        self.room.close();
    }

    fn misbehaved(&self, link: &Connected, what: &dyn fmt::Display) {
        tracing::debug!(peer = ?link.peer, %what, "a peer misbehaved");
        self.shared.counters.drop(Dropped::Undecodable);
        link.close(CloseReason::Misbehaved, Down::Misbehaved);
    }
}

impl<M: Wire + Send + 'static> Port<M> {
    /// Reads frames to the stream's end.
    async fn read(&self, source: &Arc<Source>, stream: &mut RecvStream) -> Result<(), Fault> {
        let link = &source.link;
        let mut chunks: [Bytes; CHUNKS] = Default::default();
        let mut frame = Frame::default();
        let mut unfinished = Unfinished::new(&self.shared, link);
        let turn = self.turns.of(link.peer.id);
        let mut deadline: Option<Instant> = None;
        loop {
            let read = stream.read_chunks(&mut chunks);
            let read = match deadline {
                None => read.await,
                Some(deadline) => {
                    let left = Instant::saturating_duration_since(&deadline, Instant::now());
                    self.shared.deadlines.within(left, pin!(read)).await.map_err(|TooLate| Fault::TimedOut)?
                }
            };
            let Some(count) = read.map_err(Fault::Stream)? else {
                return match frame.is_empty() {
                    true => Ok(()),
                    false => Err(Fault::Misbehaved("a stream that ends within a message".into())),
                };
            };
            link.touch();
            for mut chunk in chunks.iter_mut().take(count).map(std::mem::take) {
                while let Some(message) = frame.next::<M>(&mut chunk).map_err(Fault::Misbehaved)? {
                    deadline = None;
                    self.deliver(source, &turn, &message).await.map_err(Fault::Misbehaved)?;
                }
            }
            if !frame.is_empty() && deadline.is_none() {
                deadline = Instant::now().checked_add(self.shared.limits.request_timeout);
            }
            unfinished.is(frame.len()).map_err(|_| Fault::Unfinished)?;
        }
    }

    /// Puts a message into the inbox, as soon as there is a slot and room.
    async fn deliver(&self, source: &Arc<Source>, turn: &Turn<'_>, message: &Encoded) -> Result<(), String> {
        let slot = self.notes.try_reserve().ok();
        let place = match slot.and_then(|slot| Some((slot, self.room.try_enter(message.len())?))) {
            Some(place) => Some(place),
            None => turn.take(self.place(message.len())).await,
        };
        // If the machine is gone, nobody needs to know.
        let Some((slot, held)) = place else { return Ok(()) };
        let message = message.decode()?;
        self.counters.received();
        slot.send(Note::Message(source.clone(), message, held));
        Ok(())
    }

    /// Waits for a place in the inbox. Room comes last: whoever has it waits for nothing, or streams would wait for
    /// each other.
    async fn place(&self, len: usize) -> Option<(Permit<'_, Note<M>>, Held)> {
        let slot = self.notes.reserve().await.ok()?;
        Some((slot, self.room.enter(len).await))
    }

    async fn fault(&self, link: Arc<Connected>, stream: &mut RecvStream, fault: Fault) {
        let (why, number, down) = match fault {
            Fault::Misbehaved(what) => return self.misbehaved(&link, &what),
            Fault::Stream(StreamError::Abandoned(number)) if number == u64::from(code::OVERFLOW) => {
                return self.tell(Note::Down(link, Down::Overflow)).await;
            }
            // Nothing is told twice: the machine knows if the peer's last connection is gone.
            Fault::Stream(StreamError::Lost(lost)) => {
                let why = link.down(lost);
                return self.tell(Note::Down(link, why)).await;
            }
            Fault::Stream(_) => return,
            Fault::Unfinished => (Dropped::Unfinished, code::OVERFLOW, Down::Overflow),
            Fault::TimedOut => (Dropped::TimedOut, code::TIMED_OUT, Down::TimedOut),
        };
        self.shared.counters.drop(why);
        stream.stop(number);
        self.tell(Note::Down(link, down)).await;
    }
}

impl<M: Wire + Send + 'static> Inbox for Port<M> {
    fn stream(self: Arc<Self>, link: Arc<Connected>, mut stream: RecvStream) -> Conversation {
        Box::pin(async move {
            let source = Source::new(link);
            let mut ended = self.ended.subscribe();
            let ended = async {
                let _ = ended.wait_for(|ended| *ended).await;
            };
            let outcome = {
                let read = pin!(self.read(&source, &mut stream));
                let (refused, ended) = (pin!(source.refused.notified()), pin!(ended));
                match select(read, select(refused, ended)).await {
                    Either::Left((read, _)) => Ok(read),
                    Either::Right((Either::Left(_), _)) => Err(code::BUSY),
                    Either::Right((Either::Right(_), _)) => Err(code::NOT_SERVED),
                }
            };
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => self.fault(source.link.clone(), &mut stream, fault).await,
                Err(number) => stream.stop(number),
            }
        })
    }

    fn datagram(&self, link: &Arc<Connected>, bytes: &[u8]) {
        match M::from_bytes(bytes) {
            Ok(message) => {
                self.counters.received();
                let note = |held| Note::Message(Source::new(link.clone()), message, held);
                let note = self.room.try_enter(bytes.len()).map(note);
                if note.is_none_or(|note| self.notes.try_send(note).is_err()) {
                    self.shared.counters.drop(Dropped::DatagramOverrun);
                }
            }
            Err(error) => self.misbehaved(link, &error),
        }
    }

    fn down(self: Arc<Self>, link: Arc<Connected>, why: Down) -> Conversation {
        Box::pin(async move { self.tell(Note::Down(link, why)).await })
    }

    fn end(&self) {
        self.ended.send_replace(true);
    }
}
