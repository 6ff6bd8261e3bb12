//! A tracker: two machines, one for each wire, that know the same swarms.
//!
//! Where a peer is says the packet that it is announced in, and no parameter. Over UDP nothing is kept and nothing longer
//! than the question is answered until an address has shown that it gets what is sent there.

mod http;
mod udp;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use p2p_core::{Cx, Protocol, Time};
use p2p_dht::mainline::Secret;

use super::swarms::{Swarms, TrackerConfig, TrackerCounts};

pub use http::{HttpTracker, HttpTrackerTimer};
pub use udp::UdpTracker;

/// How often those who fell silent are looked for. A minute.
const SWEEP: Duration = Duration::from_secs(60);

/// A tracker's two machines. Run one, or both: best at the same port, as programs expect.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use p2p_core::net::{tcp, udp};
/// use p2p_core::{Limits, NoWorker};
/// use p2p_dht::mainline::Secret;
/// use p2p_swarm::torrent::http::HttpCodec;
/// use p2p_swarm::torrent::tracker::{Tracker, TrackerConfig, UdpCodec};
///
/// let Tracker { http, udp } = Tracker::new(TrackerConfig::default(), Secret::generate());
/// let (addr, limits) = ("0.0.0.0:6969".parse().unwrap(), Limits::default());
/// let http = tcp::spawn(http, |_| HttpCodec::server(), Some(addr), limits.clone(), [NoWorker]).await?;
/// let udp = udp::spawn(udp, UdpCodec::server(), addr, limits, [NoWorker]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tracker {
    /// For `p2p_core::net::tcp`, with [`HttpCodec::server`](crate::torrent::http::HttpCodec::server).
    pub http: HttpTracker,
    /// For `p2p_core::net::udp`, with [`UdpCodec::server`](super::UdpCodec::server).
    pub udp: UdpTracker,
}

impl Tracker {
    /// A tracker that knows of nobody yet. The secret is what addresses prove themselves with.
    pub fn new(config: TrackerConfig, secret: Secret) -> Tracker {
        let swarms = Shared::new(config);
        Tracker { http: HttpTracker::new(swarms.clone()), udp: UdpTracker::new(swarms, &secret) }
    }
}

/// Asks a tracker's machine how much it knows.
#[derive(Clone, Copy, Debug)]
pub struct CountPeers;

macro_rules! counts {
    ($machine:ty) => {
        impl p2p_core::Request<$machine> for CountPeers {
            type Item = ();
            type Reply = TrackerCounts;

            fn command(self) -> CountPeers {
                self
            }
            fn item(_: ()) -> Option<()> {
                None
            }
            fn reply(outcome: TrackerCounts) -> Option<TrackerCounts> {
                Some(outcome)
            }
        }
    };
}

counts!(HttpTracker);
counts!(UdpTracker);

/// The swarms that both machines know, each with its own clock; what one does to them is done before the other looks.
#[derive(Clone, Debug)]
struct Shared {
    swarms: Arc<Mutex<Swarms>>,
    /// What the clock of this one's machine said less than the time of day, when it began.
    base: Duration,
}

impl Shared {
    fn new(config: TrackerConfig) -> Shared {
        Shared { swarms: Arc::new(Mutex::new(Swarms::new(config))), base: Duration::ZERO }
    }

    fn start<P: Protocol>(&mut self, cx: &Cx<'_, P>) {
        self.base = cx.wall().saturating_sub(cx.now().since(Time::ZERO));
    }

    /// A time that both machines agree on, and that no change of the time of day moves.
    fn now<P: Protocol>(&self, cx: &Cx<'_, P>) -> Time {
        cx.now() + self.base
    }

    fn lock(&self) -> MutexGuard<'_, Swarms> {
        self.swarms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
