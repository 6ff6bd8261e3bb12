//! Files between users of Skype's design: users are found through super-nodes, files by asking their users.
//!
//! Skype's users sent each other files as they talked to each other. So a search asks super-nodes for users with any of
//! its words in their names or profiles, calls those, and asks them for files with the rest of the words. A file takes
//! the way of the call: straight, over a connection that the other has made, or through a super-node, which carries a
//! QUIC connection between the two that it cannot read. `lines` makes these ways, `shelf` is what is said on them.

mod lines;
mod shelf;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use p2p_core::net::Node;
use p2p_core::{Contact, Keypair, Limits, Wire};
use p2p_overlay::{
    Cost, DiskFolder, Download, DownloadError, Downloaded, End, Fetch, Fetcher, Fetching, Hit, Hits, Item,
    LoginServer, NamesFile, Presence, Query, Role, Scope, Search, SearchError, SearchItem, Searched, Skype,
    SkypeConfig, SkypeUser, Way,
};
use serde::{Deserialize, Serialize};

use crate::Failure;
use lines::{Line, Lines, NETWORK};
use shelf::Shelves;

/// What nodes speak.
const NAME: &str = "skype/1";
/// How many words users are looked for by, how many users of each, and how many are called for one search.
const WORDS: usize = 8;
const USERS: u32 = 16;
/// How many are called at once.
const AT_ONCE: usize = 4;

/// People wait at their screens: everything is looked after every second. Who relays a file does so as fast as most lines
/// are.
pub fn skype_config() -> SkypeConfig {
    let second = Duration::from_secs(1);
    SkypeConfig {
        upkeep: second,
        silence: 4 * second,
        patience: 2 * second,
        lifetime: 20 * second,
        way: 3 * second,
        relay_rate: 1 << 20,
        relay_total: 4 << 30,
        ..SkypeConfig::default()
    }
}

/// Runs a login server on a node that has this key: with a folder, whatever it has certified is written down there.
///
/// # Errors
/// The names there are damaged or in use, or the protocol runs on this node already.
pub fn login_server(node: &Node, keypair: Keypair, data: Option<&Path>) -> Result<(), Failure> {
    let Some(data) = data else {
        node.spawn(NAME, Skype::login_server(keypair, [], skype_config()))?;
        return Ok(());
    };
    let path = data.join("names");
    let (file, names) = NamesFile::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    node.spawn_with_workers(NAME, LoginServer::new(keypair, names, skype_config()), [file])?;
    Ok(())
}

/// A node of a user who has files.
#[derive(Clone)]
pub struct SkypeFiles {
    node: Node,
    name: String,
    lines: Lines,
}

impl fmt::Debug for SkypeFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SkypeFiles({}, {:?})", self.name, self.node)
    }
}

/// What a hit refers to: whose item it is.
#[derive(Serialize, Deserialize)]
struct Reference {
    user: String,
}

impl Wire for Reference {}

impl SkypeFiles {
    /// Binds a node for a user; whoever is not `open` accepts no connections.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(keypair: &Keypair, open: bool, listen: std::net::SocketAddr) -> std::io::Result<Node> {
        let limits = match open {
            true => Limits::default(),
            false => Limits { handshakes_at_once: 0, ..Limits::default() },
        };
        Node::builder().network(NETWORK).identity(keypair.clone()).limits(limits).bind(listen).await
    }

    /// A user on this node, who joins through these super-nodes, and has these items in this folder.
    ///
    /// # Errors
    /// An item cannot be shared, or the protocols run on this node already.
    pub fn start(
        node: Node,
        user: SkypeUser,
        seeds: Vec<Contact>,
        role: Role,
        items: Vec<Item>,
        folder: DiskFolder,
    ) -> Result<SkypeFiles, Failure> {
        let (name, keypair) = (user.name.clone(), user.keypair.clone());
        let shelves = Shelves::new(&name, &user.profile, items, folder)?;
        let skype = node.spawn(NAME, Skype::node(user, seeds, role, skype_config()))?;
        let lines = Lines::new(node.clone(), keypair, skype, shelves)?;
        Ok(SkypeFiles { node, name, lines })
    }

    /// Says goodbye, and ends it.
    pub async fn stop(self) {
        self.lines.drop_all().await;
        let _ = tokio::time::timeout(Duration::from_secs(1), self.lines.skype.unpublish(&self.name)).await;
        self.node.shutdown().await;
    }

    /// Users with any of the words, those with most of them first.
    async fn users(&self, query: &Query, scope: Scope) -> Result<(Vec<Presence>, Cost), SearchError> {
        let scope = Scope { hits: USERS, ..scope };
        let words = query.words().iter().take(WORDS);
        let asked = words.map(|word| {
            let found = self.lines.skype.search(Query::text(word), scope);
            async move {
                let mut found = found;
                let mut hits = Vec::new();
                while let Some(hit) = found.next().await {
                    hits.push(hit);
                }
                (hits, found.await)
            }
        });
        let mut users: BTreeMap<String, (usize, Presence)> = BTreeMap::new();
        let (mut cost, mut failed) = (Cost::default(), Ok(()));
        for (hits, searched) in futures::future::join_all(asked).await {
            match searched {
                Ok(Searched { cost: more, .. }) => {
                    cost.messages += more.messages;
                    cost.bytes += more.bytes;
                    cost.peers += more.peers;
                    cost.duplicates += more.duplicates;
                }
                Err(error) => failed = Err(error),
            }
            let found =
                hits.iter().filter_map(|hit: &Hit<Contact>| Presence::from_bytes(&hit.reference).ok());
            for user in found.filter(|user| user.name() != self.name) {
                users.entry(user.name().to_owned()).or_insert((0, user)).0 += 1;
            }
        }
        if users.is_empty() {
            failed?;
        }
        let mut users: Vec<(usize, Presence)> = users.into_values().collect();
        users.sort_by_key(|(words, _)| std::cmp::Reverse(*words));
        users.truncate(USERS as usize);
        Ok((users.into_iter().map(|(_, user)| user).collect(), cost))
    }

    /// What one user has.
    async fn ask(&self, user: Presence, query: &Query) -> Vec<Hit<Contact>> {
        let name = user.name().to_owned();
        let Ok(line) = self.lines.reach(&name).await else { return Vec::new() };
        let Ok(items) = shelf::list(&line, query).await else {
            self.lines.drop_line(&name).await;
            return Vec::new();
        };
        let relay = user.whereabouts().through.first().copied();
        let fetch = match (line.called.way, relay) {
            (Way::Direct, _) => Fetch::Direct(line.called.contact),
            (Way::Relayed { .. }, Some(relay)) => Fetch::Relay(relay),
            (Way::Reversed | Way::Relayed { .. }, _) => Fetch::Push,
        };
        let reference = Reference { user: name }.to_bytes();
        items.into_iter().map(|item| Hit { item, fetch, reference: reference.clone().into() }).collect()
    }

    async fn find(self, query: Query, scope: Scope, cost: Arc<Mutex<Cost>>) -> Result<Found, SearchError> {
        let half = Scope { deadline: scope.deadline / 2, ..scope };
        let (users, spent) = self.users(&query, half).await?;
        // One question and one answer for each; what a call takes nobody has counted.
        let calls = users.len() as u64;
        *cost.lock().unwrap_or_else(PoisonError::into_inner) =
            Cost { messages: spent.messages + 2 * calls, peers: spent.peers + calls, whole: false, ..spent };
        let asked = stream::iter(users).map(move |user| {
            let (here, query) = (self.clone(), query.clone());
            async move { here.ask(user, &query).await }
        });
        Ok(asked.buffer_unordered(AT_ONCE).flat_map(stream::iter).boxed())
    }

    /// Fetches from all whose connections this program has itself, and then, as long as it is not whole, from each
    /// through its relay.
    async fn fetch_all(self, Download { hits, name }: Download<Contact>) -> Fetched {
        let first = hits.first().ok_or(DownloadError::BadHit)?;
        let (size, name) = (first.item.size, Some(name.unwrap_or_else(|| first.item.name.clone())));
        let (mut own, mut relayed) = (Vec::new(), Vec::<(Line, Vec<Hit<Contact>>)>::new());
        for hit in hits {
            let Reference { user } =
                Reference::from_bytes(&hit.reference).map_err(|_| DownloadError::BadHit)?;
            let Ok(line) = self.lines.reach(&user).await else { continue };
            let there = Hit {
                item: hit.item,
                fetch: Fetch::Direct(line.called.contact),
                reference: Default::default(),
            };
            match line.called.way {
                Way::Direct | Way::Reversed => own.push((line, there)),
                Way::Relayed { .. } => relayed.push((line, vec![there])),
            }
        }
        let mut ways = relayed;
        if let Some((line, _)) = own.first() {
            ways.insert(0, (line.clone(), own.into_iter().map(|(_, hit)| hit).collect()));
        }
        let mut fetched = Err(DownloadError::NoSource { bytes: 0, size });
        for (line, hits) in ways {
            fetched = line.files.fetch(Download { hits, name: name.clone() }).await;
            match fetched {
                Err(DownloadError::NoSource { .. }) => self.lines.drop_line(&line.called.name).await,
                _ => return fetched,
            }
        }
        fetched
    }
}

type Found = BoxStream<'static, Hit<Contact>>;
type Fetched = Result<Downloaded<Contact>, DownloadError<Contact>>;

#[async_trait]
impl Search<Contact> for SkypeFiles {
    /// What a user shares is decided before the program starts.
    async fn publish(&self, _: Item) -> Result<(), SearchError> {
        Err(SearchError::Unsupported)
    }

    async fn unpublish(&self, _: &str) -> Result<bool, SearchError> {
        Err(SearchError::Unsupported)
    }

    fn search(&self, query: Query, scope: Scope) -> Hits<Contact> {
        if query.hash().is_some() {
            // Users are not found by what their files are made of.
            let refused = SearchItem::End(Err(SearchError::Unsupported));
            return Hits::new(stream::iter([refused]));
        }
        let cost = Arc::new(Mutex::new(Cost::default()));
        let late = Box::pin(tokio::time::sleep(scope.deadline)).shared();
        let (spent, told) = (cost.clone(), Arc::new(Mutex::new((0, None))));
        let found = self.clone().find(query, scope, cost);
        let (why, count) = (told.clone(), told.clone());
        let hits = stream::once(found).flat_map(move |found| match found {
            Ok(found) => found,
            Err(error) => {
                why.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(error);
                stream::empty().boxed()
            }
        });
        let hits = hits.take(scope.hits.max(1) as usize).take_until(late.clone()).map(move |hit| {
            count.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
            SearchItem::Hit(hit)
        });
        let end = async move {
            let (hits, error) = *told.lock().unwrap_or_else(PoisonError::into_inner);
            let cost = *spent.lock().unwrap_or_else(PoisonError::into_inner);
            let end = match () {
                () if hits >= scope.hits.max(1) => End::Enough,
                () if late.peek().is_some() => End::Deadline,
                () => End::Exhausted,
            };
            SearchItem::End(error.map_or(Ok(Searched { end, cost }), Err))
        };
        Hits::new(hits.chain(stream::once(end)))
    }

    async fn reach(&self, hit: &Hit<Contact>) -> Result<Contact, SearchError> {
        let Reference { user } = Reference::from_bytes(&hit.reference).map_err(|_| SearchError::BadHit)?;
        let line = self.lines.reach(&user).await.map_err(|_| SearchError::Unreachable)?;
        Ok(line.called.contact)
    }
}

impl Fetcher<Contact> for SkypeFiles {
    fn fetch(&self, download: Download<Contact>) -> Fetching<Contact> {
        let here = self.clone();
        Fetching::new(stream::once(async move { Err(here.fetch_all(download).await) }))
    }
}

/// What a user is called who has not said it: by the key, so that nobody else has that name.
pub fn name_of(keypair: &Keypair) -> String {
    let id: String =
        keypair.id().to_string().to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    format!("u{}", id.get(..16).unwrap_or(&id))
}
