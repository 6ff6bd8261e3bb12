//! Files between two who know each other already: nothing is searched.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use p2p_core::{Cx, NoJob, OpId, Protocol, Wire};
use serde::{Deserialize, Serialize};

use super::msg::Wanted;
use super::request::Sharer;
use crate::place::Place;
use crate::search::{
    Fetch, Hit, Item, Library, Query, SearchCommand, SearchError, SearchItem, SearchOutcome, Searcher,
};

/// What a node shares with whoever is connected to it, for [`Sharing`](super::Sharing): the least searching machine.
/// How peers find each other, and what the other has, is somebody else's business; a hit is whatever item with
/// [`Fetch::Direct`], and an empty reference. As many items as it was made for.
///
/// ```
/// use p2p_core::SimPeer;
/// use p2p_core::sim::{DiskModel, Network, Sim};
/// use p2p_overlay::{
///     Download, Fetch, Fetcher, Hit, Item, MemoryFolder, ShareWorker, Sharing, SharingConfig, Shelf, hashes_of,
/// };
///
/// let folders = [MemoryFolder::default(), MemoryFolder::default()];
/// let song = vec![7u8; 100_000];
/// let item = hashes_of(&song).into_iter().fold(Item::new("song", 100_000), Item::hash);
/// folders[0].put("song", song.clone());
/// let theirs = folders.clone();
/// let worker = move |peer: SimPeer| ShareWorker::new(theirs[peer.0 as usize].clone());
/// let mut sim = Sim::<Sharing<Shelf<SimPeer>>, _>::with_workers(
///     1, Network::default(), DiskModel::default(), worker,
/// );
/// for has in [Some(item.clone()), None] {
///     sim.spawn(|_| {
///         let mut shelf = Shelf::new(100);
///         has.into_iter().for_each(|item| drop(shelf.library_mut().insert(item)));
///         Sharing::new(shelf, SharingConfig::default())
///     });
/// }
/// let hit = Hit { item, fetch: Fetch::Direct(SimPeer(0)), reference: Default::default() };
/// let here = sim.handle(SimPeer(1));
/// sim.block_on(async move { here.fetch(Download { hits: vec![hit], name: None }).await }).unwrap();
/// assert_eq!(folders[1].get("song").unwrap(), song);
/// ```
pub struct Shelf<P> {
    library: Library,
    peers: PhantomData<fn() -> P>,
}

/// Nothing is said but about files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShelfMsg {}

impl Wire for ShelfMsg {}

impl<P: Place> Shelf<P> {
    /// An empty one, of at most so many items.
    pub fn new(items: usize) -> Shelf<P> {
        Shelf { library: Library::new(items), peers: PhantomData }
    }

    /// What is shared.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// What is shared, to be changed.
    pub fn library_mut(&mut self) -> &mut Library {
        &mut self.library
    }
}

impl<P: Place> Protocol for Shelf<P> {
    type Peer = P;
    type Msg = ShelfMsg;
    type Timer = Infallible;
    type Command = SearchCommand<P>;
    type Item = SearchItem<P>;
    type Outcome = SearchOutcome<P>;
    type Event = Infallible;
    type Job = NoJob;

    fn on_message(&mut self, _: &mut Cx<'_, Self>, _: P, msg: ShelfMsg) {
        match msg {}
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: SearchCommand<P>) {
        let outcome = match command {
            SearchCommand::Publish(item) => SearchOutcome::Published(self.library.insert(item).map(drop)),
            SearchCommand::Unpublish(name) => {
                SearchOutcome::Unpublished(self.library.remove(&name).is_some())
            }
            SearchCommand::Search(..) => SearchOutcome::Searched(Err(SearchError::Unsupported)),
            SearchCommand::Reach(Hit { fetch: Fetch::Direct(peer), .. }) => SearchOutcome::Reached(Ok(peer)),
            SearchCommand::Reach(_) => SearchOutcome::Reached(Err(SearchError::BadHit)),
        };
        cx.finish(op, outcome);
    }
}

impl<P: Place> Searcher for Shelf<P> {
    fn command(command: SearchCommand<P>) -> SearchCommand<P> {
        command
    }
    fn outcome(outcome: SearchOutcome<P>) -> Option<SearchOutcome<P>> {
        Some(outcome)
    }
}

impl<P: Place> Sharer for Shelf<P> {
    fn wanted(hit: &Hit<P>) -> Option<Wanted> {
        let Item { name, size, hashes, .. } = &hit.item;
        Some(Wanted { hash: hashes.first().copied(), index: 0, name: name.clone(), size: *size })
    }
    fn shared(&self, wanted: &Wanted) -> Option<&Item> {
        match wanted.hash {
            Some(hash) => self.library.find(&Query::content(hash)).next().map(|(_, item)| item),
            None => self.library.get_of(&(), &wanted.name),
        }
    }
}

impl<P> fmt::Debug for Shelf<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shelf({} items)", self.library.iter().len())
    }
}
