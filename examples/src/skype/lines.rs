//! Lines to users who were called: our own connection to them, or one inside frames that a super-node carries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use p2p_core::net::{Carrier, Node, QuicTransport};
use p2p_core::{Contact, Handle, Keypair, Limits};
use p2p_overlay::{Call, Called, HangUp, LoggedIn, SendFrame, Sharing, Shelf, Skype, SkypeEvent, Way};
use tokio::time::timeout;

use super::shelf::Shelves;
use crate::Failure;

/// How long a caller may take to come to a relay.
const COMES: Duration = Duration::from_secs(15);
/// How many lines through relays a node has at once, of others' making and its own, of each.
const MOST: usize = 16;

/// What `Node`s of this network are told apart by.
pub(super) const NETWORK: &str = "skype";

type Files = Handle<Sharing<Shelf<Contact>>>;

/// A way to a user.
#[derive(Clone)]
pub(super) struct Line {
    /// The node that is connected to the user: this program's, or one that a super-node carries.
    pub(super) node: Node,
    pub(super) files: Files,
    pub(super) called: Called,
}

/// Calls of this node, and what super-nodes carry for it.
#[derive(Clone)]
pub(super) struct Lines {
    node: Node,
    keypair: Keypair,
    pub(super) skype: Handle<Skype<Contact>>,
    files: Files,
    shelves: Shelves,
    /// The way in of each relayed line, by its ticket.
    carriers: Arc<Mutex<BTreeMap<u64, Arc<Carrier>>>>,
    /// Lines of its own, by the user's name.
    lines: Arc<Mutex<BTreeMap<String, Line>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    /// Lines of this node, which answers calls from now on.
    pub(super) fn new(
        node: Node,
        keypair: Keypair,
        skype: Handle<Skype<Contact>>,
        shelves: Shelves,
    ) -> Result<Lines, Failure> {
        let files = shelves.put_up(&node)?;
        let (carriers, lines) = Default::default();
        let lines = Lines { node, keypair, skype, files, shelves, carriers, lines };
        tokio::spawn(lines.clone().answer());
        Ok(lines)
    }

    async fn answer(self) {
        let mut events = self.skype.events();
        loop {
            match events.next().await {
                Some(SkypeEvent::Frame { ticket, bytes }) => {
                    if let Some(carrier) = lock(&self.carriers).get(&ticket) {
                        carrier.came(bytes);
                    }
                }
                Some(SkypeEvent::Call(Called { way: Way::Relayed { ticket }, .. })) => {
                    // Whoever has come some other way asks on the connection there is.
                    if lock(&self.carriers).len() < 2 * MOST {
                        tokio::spawn(self.clone().serve(ticket));
                    }
                }
                Some(_) => {}
                // They came faster than they were read: frames were lost, as on any path.
                None if self.skype.ask(LoggedIn).await.is_ok() => events = self.skype.events(),
                None => return,
            }
        }
    }

    /// A node of its own for the time of a relayed line: its connection is encrypted from end to end.
    fn carried(&self, ticket: u64) -> Result<(Node, Files), Failure> {
        let (transport, carrier) = QuicTransport::carried(self.keypair.clone(), NETWORK, &Limits::default())?;
        let carrier = Arc::new(carrier);
        lock(&self.carriers).insert(ticket, carrier.clone());
        let lines = self.clone();
        tokio::spawn(async move {
            while let Some(bytes) = carrier.next().await {
                if !matches!(lines.skype.ask(SendFrame { ticket, bytes }).await, Ok(Ok(()))) {
                    break;
                }
            }
            lock(&lines.carriers).remove(&ticket);
            // The other may have been first.
            let _ = lines.skype.ask(HangUp { ticket }).await;
        });
        let node = Node::builder().identity(self.keypair.clone()).bind_on(transport);
        let files = self.shelves.put_up(&node)?;
        Ok((node, files))
    }

    /// Answers who has called through a relay, until the connection ends.
    async fn serve(self, ticket: u64) {
        let Ok((node, _files)) = self.carried(ticket) else { return };
        if timeout(COMES, node.stats_when(|stats| stats.connections > 0)).await.is_ok() {
            node.stats_when(|stats| stats.connections == 0).await;
        }
        node.shutdown().await;
    }

    /// Calls a user, or takes the line that is there.
    pub(super) async fn reach(&self, name: &str) -> Result<Line, Failure> {
        let known = lock(&self.lines).get(name).cloned();
        if let Some(line) = known {
            if line.node.rtt(&line.called.contact.id).is_some() {
                return Ok(line);
            }
            self.drop_line(name).await;
        }
        let called = self.skype.ask(Call { name: name.to_owned() }).await??;
        let (node, files) = match called.way {
            Way::Direct | Way::Reversed => (self.node.clone(), self.files.clone()),
            Way::Relayed { ticket } => self.carried(ticket)?,
        };
        let line = Line { node, files, called };
        let crowded = lock(&self.lines).keys().next().cloned();
        if let Some(other) = crowded.filter(|_| lock(&self.lines).len() >= MOST) {
            self.drop_line(&other).await;
        }
        lock(&self.lines).insert(name.to_owned(), line.clone());
        Ok(line)
    }

    /// Ends a line.
    pub(super) async fn drop_line(&self, name: &str) {
        let line = lock(&self.lines).remove(name);
        if let Some(line) = line.filter(|line| matches!(line.called.way, Way::Relayed { .. })) {
            line.node.shutdown().await;
        }
    }

    pub(super) async fn drop_all(&self) {
        let names: Vec<String> = lock(&self.lines).keys().cloned().collect();
        for name in names {
            self.drop_line(&name).await;
        }
    }
}
