//! One TCP connection: its codec, what waits to be sent, and the task that carries it.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::{Either, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, tcp};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::{After, Codec, TcpPeer};
use crate::Limits;
use crate::net::gate::ConnectionPass;
use crate::net::room::{Held, Room};
use crate::protocol::Down;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// What connections tell the machine's task.
pub(super) enum Note<M> {
    Message(TcpPeer, M, Held),
    Up(TcpPeer),
    Down(TcpPeer, Down),
}

/// Where they tell it.
pub(super) struct Port<M> {
    pub notes: mpsc::Sender<Note<M>>,
    pub room: Arc<Room>,
}

impl<M> Clone for Port<M> {
    fn clone(&self) -> Port<M> {
        Port { notes: self.notes.clone(), room: self.room.clone() }
    }
}

/// One connection's codec and what waits to be sent on it.
pub(super) struct Line<C> {
    state: Mutex<LineState<C>>,
    wake: Notify,
    /// It is to be closed.
    closed: Notify,
}

struct LineState<C> {
    codec: C,
    output: BytesMut,
    /// Bytes taken from `output` and not yet written.
    writing: usize,
    /// How often the other end has taken in some.
    taken: u64,
    closing: bool,
}

impl<C: Codec> Line<C> {
    pub(super) fn new(mut codec: C) -> Arc<Line<C>> {
        let mut output = BytesMut::new();
        codec.begin(&mut output);
        let state = LineState { codec, output, writing: 0, taken: 0, closing: false };
        Arc::new(Line { state: Mutex::new(state), wake: Notify::new(), closed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, LineState<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encodes a message; `false` if more waits than may.
    pub(super) fn push(&self, msg: C::Msg, most: usize) -> bool {
        let mut state = self.state();
        let LineState { codec, output, writing, closing, .. } = &mut *state;
        if *closing {
            return true;
        }
        let before = output.len() + *writing;
        *closing = codec.encode(msg, output) == After::Close;
        let (fits, closing) = (before == 0 || output.len() + *writing <= most, *closing);
        drop(state);
        if closing {
            self.closed.notify_one();
        }
        self.wake.notify_one();
        fits
    }

    /// Closes it as soon as everything is written, or nothing more is taken in.
    pub(super) fn close(&self) {
        self.state().closing = true;
        self.wake.notify_one();
        self.closed.notify_one();
    }

    /// Writes whatever waits until the line is closed.
    async fn write(&self, mut to: tcp::OwnedWriteHalf) -> Down {
        loop {
            let (mut bytes, closing) = {
                let mut state = self.state();
                let bytes: Bytes = state.output.split().freeze();
                state.writing = bytes.len();
                (bytes, state.closing)
            };
            if bytes.is_empty() {
                if closing {
                    let _ = to.shutdown().await;
                    return Down::Closed;
                }
                self.wake.notified().await;
            }
            while !bytes.is_empty() {
                let Ok(1..) = to.write_buf(&mut bytes).await else { return Down::Closed };
                let mut state = self.state();
                state.writing = bytes.len();
                state.taken += 1;
            }
        }
    }

    /// Ends after the line is closed, once the other end has taken in nothing of what is left for so long.
    async fn linger(&self, most: Duration) -> Down {
        self.closed.notified().await;
        loop {
            let taken = self.state().taken;
            sleep(most).await;
            if self.state().taken == taken {
                return Down::Closed;
            }
        }
    }

    /// Reads messages until the other end closes.
    async fn read(&self, peer: TcpPeer, mut from: tcp::OwnedReadHalf, port: &Port<C::Msg>) -> Down {
        let mut input = BytesMut::new();
        loop {
            input.reserve(CHUNK);
            match from.read_buf(&mut input).await {
                Ok(0) | Err(_) => return Down::Closed,
                Ok(_) => {}
            }
            loop {
                let came = input.len();
                let decoded = {
                    let mut state = self.state();
                    let LineState { codec, output, .. } = &mut *state;
                    let before = output.len();
                    let decoded = codec.decode(&mut input, output);
                    if output.len() > before {
                        self.wake.notify_one();
                    }
                    decoded
                };
                match decoded {
                    Ok(Some(msg)) => {
                        let held = port.room.enter(came.saturating_sub(input.len())).await;
                        if port.notes.send(Note::Message(peer, msg, held)).await.is_err() {
                            return Down::Shutdown;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(?peer, %error, "a peer misbehaved");
                        return Down::Misbehaved;
                    }
                }
            }
        }
    }
}

/// Whichever comes first.
async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    match select(pin!(one), pin!(other)).await {
        Either::Left((first, _)) | Either::Right((first, _)) => first,
    }
}

/// Carries one connection until it is gone.
pub(super) async fn carry<C: Codec>(
    line: Arc<Line<C>>,
    peer: TcpPeer,
    stream: Option<TcpStream>,
    limits: Limits,
    port: Port<C::Msg>,
    _pass: ConnectionPass,
) {
    let stream = match stream {
        Some(stream) => Some(stream),
        None => timeout(limits.dial_timeout, TcpStream::connect(peer.addr())).await.ok().and_then(Result::ok),
    };
    let why = match stream {
        None => Down::Unreachable,
        Some(stream) => {
            let _ = stream.set_nodelay(true);
            let _ = port.notes.send(Note::Up(peer)).await;
            let (reader, writer) = stream.into_split();
            let carried = first(line.read(peer, reader, &port), line.write(writer));
            first(carried, line.linger(limits.shutdown_deadline)).await
        }
    };
    let _ = port.notes.send(Note::Down(peer, why)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::gate::Gate;
    use crate::net::tcp::Malformed;
    use bytes::BufMut;
    use tokio::net::TcpListener;

    const LONG: usize = 1000;

    /// Messages of one length.
    struct Blocks;
    impl Codec for Blocks {
        type Msg = BytesMut;
        fn decode(&mut self, input: &mut BytesMut, _: &mut BytesMut) -> Result<Option<BytesMut>, Malformed> {
            Ok((input.len() >= LONG).then(|| input.split_to(LONG)))
        }
        fn encode(&mut self, msg: BytesMut, output: &mut BytesMut) -> After {
            output.put_slice(&msg);
            if msg.is_empty() { After::Close } else { After::Open }
        }
    }

    /// Nobody reads what is sent: the connection is closed all the same.
    #[tokio::test]
    async fn a_connection_that_is_to_be_closed_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let limits = Limits { shutdown_deadline: Duration::from_millis(100), ..Limits::default() };
        let pass = Gate::new(limits.clone()).dialled(addr.ip()).unwrap();
        let (notes, mut inbox) = mpsc::channel(100);
        let port = Port { notes, room: Arc::new(Room::new(LONG)) };
        let peer = TcpPeer::Dialled { addr, number: 1 };
        let line = Line::new(Blocks);
        // More than the sockets hold.
        assert!(line.push(BytesMut::zeroed(64 << 20), usize::MAX));
        assert!(line.push(BytesMut::new(), usize::MAX));
        let carried = carry(line.clone(), peer, None, limits, port, pass);
        let silent = async { listener.accept().await.unwrap() };
        let ((), _silent) =
            timeout(Duration::from_secs(60), futures::future::join(carried, silent)).await.unwrap();
        assert!(matches!(inbox.recv().await, Some(Note::Up(_))));
        assert!(matches!(inbox.recv().await, Some(Note::Down(_, Down::Closed))));
    }

    /// Whoever reads slowly gets all that was sent before.
    #[tokio::test]
    async fn a_slow_reader_gets_everything() {
        const ALL: usize = 32 << 20;
        const PART: usize = ALL / 64;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let deadline = Duration::from_secs(2);
        let limits = Limits { shutdown_deadline: deadline, ..Limits::default() };
        let pass = Gate::new(limits.clone()).dialled(addr.ip()).unwrap();
        let (notes, _inbox) = mpsc::channel(100);
        let port = Port { notes, room: Arc::new(Room::new(LONG)) };
        let line = Line::new(Blocks);
        assert!(line.push(BytesMut::zeroed(ALL), usize::MAX));
        assert!(line.push(BytesMut::new(), usize::MAX));
        let peer = TcpPeer::Dialled { addr, number: 1 };
        let carried = carry(line.clone(), peer, None, limits, port, pass);
        // It takes two and a half times as long as nothing may be taken in.
        let slow = async {
            let (mut stream, mut part) = (listener.accept().await.unwrap().0, vec![0; PART]);
            for _ in 0..ALL / PART {
                stream.read_exact(&mut part).await.unwrap();
                sleep(5 * deadline / 128).await;
            }
            assert_eq!(stream.read(&mut part).await.unwrap(), 0);
        };
        timeout(Duration::from_secs(60), futures::future::join(carried, slow)).await.unwrap();
    }

    #[tokio::test]
    async fn messages_wait_for_room() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut writer = TcpStream::connect(addr).await.unwrap();
        // They are all in the socket before the first is read.
        writer.write_all(&[7; 10 * LONG]).await.unwrap();
        drop(writer);
        let (reader, _) = listener.accept().await.unwrap().0.into_split();
        let (notes, mut inbox) = mpsc::channel(100);
        let port = Port { notes, room: Arc::new(Room::new(3 * LONG)) };
        let peer = TcpPeer::Accepted { addr, number: 1 };
        let line = Line::new(Blocks);
        let mut reading = pin!(line.read(peer, reader, &port));
        let mut taken = Vec::new();
        while taken.len() < 3 {
            let note = pin!(inbox.recv());
            let Either::Right((note, _)) = select(&mut reading, note).await else { panic!("it has ended") };
            taken.push(note);
        }
        assert!(inbox.try_recv().is_err(), "there is room for three");
        taken.clear();
        let rest = async {
            for _ in 3..10 {
                inbox.recv().await.unwrap();
            }
        };
        let (why, ()) = futures::future::join(reading, rest).await;
        assert_eq!(why, Down::Closed);
    }
}
