//! What is heard of a call: frames as of speech on the telephone, and how well they came.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use p2p_core::net::{Connection, Node};
use p2p_core::{Contact, PeerId};
use p2p_examples::Failure;
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};

use crate::lock;

pub(crate) const VOICE: &str = "voice/1";
/// Fifty frames a second of 160 bytes each: 64 kbit/s, as G.711 in packets of 20 ms.
pub(crate) const PACE: Duration = Duration::from_millis(20);
const FRAME: usize = 160;
/// How long a call lasts at most, in frames: an hour.
pub(crate) const LONGEST: u32 = 3600 * 50;
/// How long the other's first frame may take, and the last.
pub(crate) const FIRST: Duration = Duration::from_secs(10);
pub(crate) const LAST: Duration = Duration::from_secs(1);
/// How many frames wait to be heard, and from how many who are not in a call.
pub(crate) const WAITING: usize = 1024;
const STRANGERS: usize = 64;

/// What comes as datagrams of our own node, by who has sent it: the first frames may come before the call is known.
#[derive(Clone, Default)]
pub(crate) struct Voices(Arc<Mutex<BTreeMap<PeerId, Voice>>>);

struct Voice {
    sender: mpsc::Sender<Option<Frame>>,
    receiver: Option<mpsc::Receiver<Option<Frame>>>,
}

impl Default for Voice {
    fn default() -> Voice {
        let (sender, receiver) = mpsc::channel(WAITING);
        Voice { sender, receiver: Some(receiver) }
    }
}

impl Voices {
    pub(crate) fn came(&self, from: PeerId, frame: Bytes) {
        let mut voices = lock(&self.0);
        if voices.len() < STRANGERS || voices.contains_key(&from) {
            let _ = voices.entry(from).or_default().sender.try_send(Frame::read(&frame));
        }
    }

    /// What has come from a peer, and comes.
    pub(crate) fn of(&self, peer: PeerId) -> mpsc::Receiver<Option<Frame>> {
        let mut voices = lock(&self.0);
        if let Some(receiver) = voices.entry(peer).or_default().receiver.take() {
            return receiver;
        }
        // A call after another, which has not come to its end.
        let (sender, receiver) = mpsc::channel(WAITING);
        voices.insert(peer, Voice { sender, receiver: None });
        receiver
    }

    pub(crate) fn forget(&self, peer: &PeerId) {
        lock(&self.0).remove(peer);
    }
}

/// A frame that has come.
pub(crate) struct Frame {
    number: u32,
    /// Of how many.
    of: u32,
    /// How long it was on its way, by both clocks, in microseconds.
    delay: i64,
}

fn clock() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

impl Frame {
    fn write(number: u32, of: u32) -> Bytes {
        let mut bytes = Vec::with_capacity(FRAME);
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&of.to_be_bytes());
        bytes.extend_from_slice(&clock().to_be_bytes());
        // Silence, as G.711 has it.
        bytes.resize(FRAME, 0xd5);
        bytes.into()
    }

    /// `None` if it is none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Frame> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (of, rest) = rest.split_first_chunk()?;
        let (sent, _) = rest.split_first_chunk()?;
        let (number, of) = (u32::from_be_bytes(*number), u32::from_be_bytes(*of));
        let delay = clock().saturating_sub(i64::from_be_bytes(*sent));
        (bytes.len() == FRAME && number < of && of <= LONGEST).then_some(Frame { number, of, delay })
    }
}

/// How frames go to the other.
pub(crate) enum Line {
    /// By our node's own connection, on which the other has proved its id.
    Own { node: Node, to: Contact },
    /// By a connection that a super-node carries.
    Relayed(Arc<dyn Connection>),
}

impl Line {
    /// Frames may be lost.
    async fn send(&self, frame: Bytes) {
        match self {
            Line::Own { node, to } => drop(node.datagram(*to, VOICE, frame).await),
            Line::Relayed(connection) => drop(connection.send_datagram(frame)),
        }
    }
}

/// Sends so many frames, or as many as the other, and hears those of the other.
pub(crate) async fn talk(
    line: &Line,
    mut heard: mpsc::Receiver<Option<Frame>>,
    frames: Option<u32>,
) -> Result<Quality, Failure> {
    let mut quality = Quality::default();
    let of = match frames {
        Some(frames) => frames,
        None => loop {
            let first = timeout(FIRST, heard.recv()).await.map_err(|_| "nothing is heard")?;
            if let Some(first) = first.ok_or("nothing is heard")? {
                let of = first.of;
                quality.add(&first);
                break of;
            }
        },
    };
    quality.of = of;
    let mut pace = interval(PACE);
    let mut end = std::pin::pin!(sleep(PACE * of + LAST));
    let mut number = 0;
    loop {
        tokio::select! {
            _ = pace.tick(), if number < of => {
                line.send(Frame::write(number, of)).await;
                number += 1;
            }
            Some(frame) = heard.recv() => if let Some(frame) = frame {
                quality.add(&frame);
            },
            () = &mut end => return Ok(quality),
        }
    }
}

/// How a call was heard.
#[derive(Default)]
pub(crate) struct Quality {
    /// How many frames the other has sent.
    of: u32,
    numbers: BTreeSet<u32>,
    /// In microseconds.
    delays: Vec<i64>,
    /// How much delays differ from one frame to the next, smoothed (RFC 3550 §6.4.1); in microseconds.
    jitter: f64,
}

impl Quality {
    fn add(&mut self, frame: &Frame) {
        if !self.numbers.insert(frame.number) {
            return;
        }
        if let Some(last) = self.delays.last() {
            let differs = frame.delay.abs_diff(*last) as f64;
            self.jitter += (differs - self.jitter) / 16.0;
        }
        self.delays.push(frame.delay);
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, of) = (self.delays.len(), self.of.max(1));
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        let ms = |micros: f64| micros / 1000.0;
        let mean = delays.iter().sum::<i64>() as f64 / count.max(1) as f64;
        let late = delays.get(count * 95 / 100).or(delays.last()).copied().unwrap_or(0) as f64;
        let lost = 100.0 * f64::from(of.saturating_sub(count as u32)) / f64::from(of);
        write!(
            f,
            "{count} of {of} frames, delay {:.2} ms mean, {:.2} ms 95%, jitter {:.2} ms, loss {lost:.1}%",
            ms(mean),
            ms(late),
            ms(self.jitter)
        )
    }
}
