//! One connection per peer.
//!
//! A [`Pool`] keeps, per peer, the connection in use, and dials when there is none. Two peers that dial each
//! other at once end up with two connections: both keep the one that the lower id dialled. The other is
//! *retired*: nothing new begins on it, and it closes when nothing has moved on it for a while, so that
//! streams that had begun come to their end. A peer that dials again has lost its old connection: the new one
//! takes over. A connection that nobody has used for [`Limits::idle_timeout`](crate::Limits::idle_timeout)
//! closes too, and the next use dials anew. [`Pool::get`] never hands out a connection that is lost, though its
//! task may have yet to notice; [`Pool::current`] may.

use std::collections::{BTreeMap, btree_map};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::clock::Clock;
use super::transport::{CloseReason, Connection, DialError, Lost};
use crate::{Contact, Down, PeerId};

/// Connections of one peer, with the retired ones; the oldest of more is closed at once.
const MOST_PER_PEER: usize = 4;
/// How long nothing must have happened on a retired connection: longer than any stream is on its way.
const QUIET: Duration = Duration::from_secs(2);

/// A connection in the pool.
#[derive(Debug)]
pub(super) struct Link {
    pub conn: Arc<dyn Connection>,
    /// Who and where.
    pub peer: Contact,
    /// Whether this end dialled.
    dialled: bool,
    retired: AtomicBool,
    retiring: Notify,
    dead: AtomicBool,
    /// Why this end closed it, if it did.
    why: OnceLock<Down>,
    /// Streams and requests of ours in use.
    busy: AtomicUsize,
    /// Bytes of messages that have begun to come on it.
    pub unfinished: AtomicUsize,
    /// The peer's requests and streams being handled, and the bytes of their bodies.
    pub requests: AtomicUsize,
    pub request_bytes: AtomicUsize,
    /// Whether it was used since the last sweep: cheaper for every request than to read the clock.
    touched: AtomicBool,
    /// Its connection's, as the last sweep found it.
    activity: AtomicU64,
    /// When a sweep last found it used, in nanoseconds.
    used: AtomicU64,
}

impl Link {
    /// Notes that it is in use right now.
    pub(super) fn touch(&self) {
        self.touched.store(true, Ordering::Relaxed);
    }

    /// Whether new streams may begin on it.
    pub(super) fn usable(&self) -> bool {
        !self.retired() && self.conn.lost().is_none()
    }

    /// Whether the peer has another to go on with.
    pub(super) fn retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Nothing new begins on it, and what has begun comes to its end.
    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.retiring.notify_waiters();
    }

    /// Resolves when it is retired.
    pub(super) async fn until_retired(&self) {
        loop {
            let retiring = self.retiring.notified();
            if self.retired() {
                return;
            }
            retiring.await;
        }
    }

    /// Whether it is lost, and whoever has to know has been told.
    pub(super) fn dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Closes it; `why` is what this node's machines are told.
    pub(super) fn close(&self, reason: CloseReason, why: Down) {
        let _ = self.why.set(why);
        self.conn.close(reason);
    }

    /// Why it is gone, as machines are told.
    pub(super) fn down(&self, lost: Lost) -> Down {
        if let Some(why) = self.why.get() {
            return *why;
        }
        match lost {
            Lost::Here => Down::Shutdown,
            Lost::TimedOut => Down::TimedOut,
            Lost::There(Some(CloseReason::Idle)) => Down::Idle,
            Lost::There(_) | Lost::Reset => Down::Closed,
            Lost::Broken => Down::Misbehaved,
        }
    }
}

/// A link in use: while one of these lives, the link is not closed as unused.
#[derive(Debug)]
pub(super) struct Use(Arc<Link>);

impl Use {
    pub(super) fn new(link: Arc<Link>) -> Use {
        link.busy.fetch_add(1, Ordering::Relaxed);
        Use(link)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.touch();
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

type Dialled = Result<Arc<Link>, DialError>;

/// Every connection of one node.
#[derive(Debug)]
pub(super) struct Pool {
    me: PeerId,
    clock: Clock,
    idle: Duration,
    /// Nothing new begins. Set under the lock, read often.
    shut: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The one in use comes first. No list is empty.
    links: BTreeMap<PeerId, Vec<Arc<Link>>>,
    /// Dials under way, with who waits for them.
    dials: BTreeMap<(PeerId, SocketAddr), Vec<oneshot::Sender<Dialled>>>,
}

/// What [`Pool::get`] found.
pub(super) enum Found {
    /// A connection to use.
    Link(Arc<Link>),
    /// A dial under way.
    Dialling(oneshot::Receiver<Dialled>),
    /// Nothing: the caller has to [dial](Pool::dialled).
    Dial(oneshot::Receiver<Dialled>),
}

impl Pool {
    pub(super) fn new(me: PeerId, clock: Clock, idle: Duration) -> Pool {
        Pool { me, clock, idle, shut: AtomicBool::new(false), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection to a peer, or who will make it.
    pub(super) fn get(&self, to: Contact) -> Result<Found, DialError> {
        let mut state = self.state();
        if let Some(link) = state.usable(&to.id) {
            return Ok(Found::Link(link));
        }
        if to.id == self.me {
            return Err(DialError::Invalid("this node itself".into()));
        }
        if self.is_shut() {
            return Err(DialError::Shutdown);
        }
        let (sender, receiver) = oneshot::channel();
        match state.dials.entry((to.id, to.addr)) {
            btree_map::Entry::Occupied(mut waiting) => {
                waiting.get_mut().push(sender);
                Ok(Found::Dialling(receiver))
            }
            btree_map::Entry::Vacant(free) => {
                free.insert(vec![sender]);
                Ok(Found::Dial(receiver))
            }
        }
    }

    /// Tells those who wait for a dial what came of it.
    pub(super) fn dialled(&self, to: Contact, outcome: &Dialled) {
        let waiting = self.state().dials.remove(&(to.id, to.addr)).unwrap_or_default();
        for waiter in waiting {
            let _ = waiter.send(outcome.clone());
        }
    }

    /// Takes a new connection in. Gives it, and the one to use for the peer, which may be another.
    pub(super) fn adopt(&self, conn: Arc<dyn Connection>, dialled: bool) -> (Arc<Link>, Arc<Link>) {
        let link = Arc::new(Link {
            peer: Contact::new(conn.peer(), conn.remote_addr()),
            conn,
            dialled,
            retired: AtomicBool::new(false),
            retiring: Notify::new(),
            dead: AtomicBool::new(false),
            why: OnceLock::new(),
            busy: AtomicUsize::new(0),
            unfinished: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            request_bytes: AtomicUsize::new(0),
            activity: AtomicU64::new(0),
            touched: AtomicBool::new(false),
            used: AtomicU64::new(self.clock.now().as_nanos()),
        });
        let mut state = self.state();
        if self.is_shut() {
            link.close(CloseReason::Shutdown, Down::Shutdown);
        }
        let links = state.links.entry(link.peer.id).or_default();
        let wins = match links.first().filter(|current| current.usable()) {
            Some(current) if current.dialled != dialled => (self.me < link.peer.id) == dialled,
            _ => true,
        };
        if wins {
            if let Some(current) = links.first() {
                current.retire();
            }
            links.insert(0, link.clone());
        } else {
            link.retire();
            links.push(link.clone());
        }
        if links.len() > MOST_PER_PEER
            && let Some(oldest) = links.iter().skip(1).min_by_key(|link| link.used.load(Ordering::Relaxed))
        {
            oldest.close(CloseReason::Settled, Down::Closed);
        }
        let current = links[0].clone();
        (link, current)
    }

    /// Forgets a connection that is lost; says whether it was the peer's last.
    pub(super) fn forget(&self, link: &Arc<Link>) -> bool {
        let mut state = self.state();
        link.dead.store(true, Ordering::Release);
        let btree_map::Entry::Occupied(mut links) = state.links.entry(link.peer.id) else { return true };
        links.get_mut().retain(|other| !Arc::ptr_eq(other, link));
        match links.get().first() {
            Some(next) => {
                // The one in use is gone: a retired one that still lives is as good.
                next.retired.store(false, Ordering::Release);
                false
            }
            None => {
                links.remove();
                true
            }
        }
    }

    /// Closes what is retired and quiet, or idle.
    pub(super) fn sweep(&self) {
        let now = self.clock.now();
        for link in self.state().links.values().flatten() {
            if link.busy.load(Ordering::Relaxed) > 0 || link.requests.load(Ordering::Relaxed) > 0 {
                continue;
            }
            let activity = link.conn.activity();
            let moved = link.activity.swap(activity, Ordering::Relaxed) != activity;
            if link.touched.swap(false, Ordering::Relaxed) || moved {
                link.used.store(now.as_nanos(), Ordering::Relaxed);
            }
            let unused = now.since(crate::Time::from_nanos(link.used.load(Ordering::Relaxed)));
            if link.retired() {
                if unused >= QUIET {
                    link.close(CloseReason::Settled, Down::Closed);
                }
            } else if unused >= self.idle {
                link.close(CloseReason::Idle, Down::Idle);
            }
        }
    }

    /// Lets nothing new begin.
    pub(super) fn shut(&self) {
        let mut state = self.state();
        self.shut.store(true, Ordering::Release);
        for link in state.links.values().flatten() {
            let _ = link.why.set(Down::Shutdown);
        }
        state.dials.clear();
    }

    /// Whether nothing new begins.
    pub(super) fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Acquire)
    }

    /// The connection in use to a peer, if there is one. It may be lost by now: to ask for that is to wait for
    /// whoever is just sending on it, and whatever is done with it next tells as well.
    pub(super) fn current(&self, peer: &PeerId) -> Option<Arc<Link>> {
        self.state().links.get(peer)?.first().filter(|link| !link.retired()).cloned()
    }

    /// Every connection there is.
    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        self.state().links.values().flatten().cloned().collect()
    }
}

impl State {
    fn usable(&self, peer: &PeerId) -> Option<Arc<Link>> {
        self.links.get(peer)?.first().filter(|link| link.usable()).cloned()
    }
}
