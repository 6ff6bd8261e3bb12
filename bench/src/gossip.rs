//! Broadcast among nodes in this process: one of them publishes, and it is counted what comes to the others, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::cpu;

#[cfg(feature = "rivals")]
pub mod gossipsub;
#[cfg(feature = "rivals")]
pub mod iroh;
pub mod node;

/// How many nodes.
pub const NODES: usize = 16;
/// A message's bytes.
pub const BODY: usize = 100;
/// What has not come for so long does not come any more.
const PATIENCE: Duration = Duration::from_secs(5);
/// What share of the deliveries are nearly all, in hundredths.
const NEARLY_ALL: u64 = 95;
/// Who says that it is there, and not how many there are.
const HELLO: u64 = u64::MAX;

/// A network of [`NODES`] nodes on loopback, each of which counts what it receives.
pub trait Crowd: Send + Sync {
    /// What it is called in the table.
    fn name(&self) -> &'static str;
    /// Has the first node publish these messages, in order, as fast as it takes them.
    fn publish(&self, messages: Box<dyn Iterator<Item = Bytes> + Send>) -> BoxFuture<'_, ()>;
    /// Ends all nodes.
    fn stop(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// What has come to one node.
#[derive(Debug)]
pub struct Ear {
    all: Arc<Heard>,
    node: usize,
    /// Which messages of the present round.
    seen: Vec<bool>,
}

/// What has come to all nodes but the one that publishes.
#[derive(Debug)]
pub struct Heard {
    began: Instant,
    /// How many messages there are for each.
    messages: u64,
    /// Who has been greeted.
    greeted: AtomicUsize,
    /// Messages, each counted once at each node.
    new: AtomicU64,
    /// When the latest of these came, in nanoseconds since the beginning.
    last: AtomicU64,
    /// When nearly all had come, likewise; 0 until then.
    nearly: AtomicU64,
}

impl Heard {
    /// Nothing yet of so many messages.
    pub fn new(messages: u64) -> Arc<Heard> {
        Arc::new(Heard {
            began: Instant::now(),
            messages,
            greeted: AtomicUsize::new(0),
            new: AtomicU64::new(0),
            last: AtomicU64::new(0),
            nearly: AtomicU64::new(0),
        })
    }

    /// How many deliveries are expected.
    fn expected(&self) -> u64 {
        self.messages * (NODES as u64 - 1)
    }

    /// For one of the nodes.
    pub fn ear(self: &Arc<Heard>, node: usize) -> Ear {
        Ear { all: self.clone(), node, seen: Vec::new() }
    }

    fn last(&self) -> Duration {
        Duration::from_nanos(self.last.load(Relaxed))
    }
}

impl Ear {
    /// A message has come.
    pub fn hear(&mut self, message: &[u8]) {
        if self.node == 0 {
            return;
        }
        let number = u64::from_le_bytes(*message.first_chunk().unwrap());
        if number == HELLO {
            self.all.greeted.fetch_or(1 << self.node, Relaxed);
            return;
        }
        let number = number as usize;
        if self.seen.len() <= number {
            self.seen.resize(number + 1, false);
        }
        if !std::mem::replace(&mut self.seen[number], true) {
            let now = self.all.began.elapsed().as_nanos() as u64;
            let come = self.all.new.fetch_add(1, Relaxed) + 1;
            self.all.last.fetch_max(now, Relaxed);
            if come == (self.all.expected() * NEARLY_ALL).div_ceil(100) {
                self.all.nearly.store(now, Relaxed);
            }
        }
    }
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The share of all deliveries that took place.
    pub delivered: f64,
    /// From the first message's being published until 95% of the deliveries had taken place, in seconds; infinite if so
    /// many never did.
    pub nearly: f64,
    /// The same until the last delivery.
    pub last: f64,
    /// Seconds of processor, of all nodes.
    pub cpu: f64,
}

fn message(number: u64) -> Bytes {
    let mut message = vec![7; BODY];
    message[..8].copy_from_slice(&number.to_le_bytes());
    message.into()
}

/// Waits until all nodes hear the first one, then has it publish the messages.
pub async fn run(crowd: &dyn Crowd, heard: &Heard) -> Outcome {
    let everybody = (1 << NODES) - 2;
    while heard.greeted.load(Relaxed) != everybody {
        crowd.publish(Box::new(std::iter::once(message(HELLO)))).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (used, begun) = (cpu(), heard.began.elapsed());
    crowd.publish(Box::new((0..heard.messages).map(message))).await;
    let published = heard.began.elapsed();
    let expected = heard.expected();
    while heard.new.load(Relaxed) < expected && heard.began.elapsed() < heard.last().max(published) + PATIENCE
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let nearly = match heard.nearly.load(Relaxed) {
        0 => f64::INFINITY,
        at => Duration::from_nanos(at).saturating_sub(begun).as_secs_f64(),
    };
    Outcome {
        delivered: heard.new.load(Relaxed) as f64 / expected as f64,
        nearly,
        last: heard.last().saturating_sub(begun).as_secs_f64(),
        cpu: cpu() - used,
    }
}
