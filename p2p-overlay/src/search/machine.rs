//! What all machines that search have in common: the same commands, the same outcomes, and so the same [`Search`].

use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use p2p_core::{Ask, AskError, Handle, Peer, Protocol, Request};

use super::{Hit, Hits, Item, Query, Scope, Search, SearchError, SearchItem, Searched};

/// A machine that can be searched through: its handle is a [`Search`]. It may have commands of its own beside these,
/// and items of other commands.
pub trait Searcher: Protocol<Item: TryInto<SearchItem<<Self as Protocol>::Peer>>> {
    /// The machine's own form of a command.
    fn command(command: SearchCommand<Self::Peer>) -> Self::Command;
    /// What an outcome of such a command says; `None` of another one's.
    fn outcome(outcome: Self::Outcome) -> Option<SearchOutcome<Self::Peer>>;
}

/// What [`Search`] asks of a machine.
#[derive(Clone, Debug)]
pub enum SearchCommand<P> {
    /// See [`Search::publish`].
    Publish(Item),
    /// See [`Search::unpublish`].
    Unpublish(String),
    /// See [`Search::search`]. Yields [`SearchItem::Hit`] on the way.
    Search(Query, Scope),
    /// See [`Search::reach`].
    Reach(Hit<P>),
}

impl<P> SearchCommand<P> {
    /// How it ends at a node that does none of this: an index server.
    pub(crate) fn refused(self) -> SearchOutcome<P> {
        let why = SearchError::Unsupported;
        match self {
            SearchCommand::Publish(_) => SearchOutcome::Published(Err(why)),
            SearchCommand::Unpublish(_) => SearchOutcome::Unpublished(false),
            SearchCommand::Search(..) => SearchOutcome::Searched(Err(why)),
            SearchCommand::Reach(_) => SearchOutcome::Reached(Err(why)),
        }
    }
}

/// How that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchOutcome<P> {
    /// Of [`SearchCommand::Publish`].
    Published(Result<(), SearchError>),
    /// Of [`SearchCommand::Unpublish`]: whether there was such an item.
    Unpublished(bool),
    /// Of [`SearchCommand::Search`].
    Searched(Result<Searched, SearchError>),
    /// Of [`SearchCommand::Reach`].
    Reached(Result<P, SearchError>),
}

impl<M: Searcher> Request<M> for SearchCommand<M::Peer> {
    type Item = SearchItem<M::Peer>;
    type Reply = SearchOutcome<M::Peer>;

    fn command(self) -> M::Command {
        M::command(self)
    }
    fn item(found: M::Item) -> Option<SearchItem<M::Peer>> {
        found.try_into().ok()
    }
    fn reply(outcome: M::Outcome) -> Option<SearchOutcome<M::Peer>> {
        M::outcome(outcome)
    }
}

const MISMATCH: SearchError = SearchError::Ask(AskError::Mismatch);

#[async_trait]
impl<P: Peer + Sync, M: Searcher + Protocol<Peer = P>> Search<P> for Handle<M> {
    async fn publish(&self, item: Item) -> Result<(), SearchError> {
        match self.ask(SearchCommand::Publish(item)).await? {
            SearchOutcome::Published(published) => published,
            _ => Err(MISMATCH),
        }
    }

    async fn unpublish(&self, name: &str) -> Result<bool, SearchError> {
        match self.ask(SearchCommand::Unpublish(name.to_owned())).await? {
            SearchOutcome::Unpublished(removed) => Ok(removed),
            _ => Err(MISMATCH),
        }
    }

    fn search(&self, query: Query, scope: Scope) -> Hits<P> {
        let asked = self.ask(SearchCommand::Search(query, scope));
        Hits::new(stream::unfold(Some(asked), next_found))
    }

    async fn reach(&self, hit: &Hit<P>) -> Result<P, SearchError> {
        match self.ask(SearchCommand::Reach(hit.clone())).await? {
            SearchOutcome::Reached(reached) => reached,
            _ => Err(MISMATCH),
        }
    }
}

type Asked<M> = Ask<M, SearchCommand<<M as Protocol>::Peer>>;

/// The next hit, or the end.
async fn next_found<M: Searcher>(asked: Option<Asked<M>>) -> Option<(SearchItem<M::Peer>, Option<Asked<M>>)> {
    let mut asked = asked?;
    if let Some(found) = asked.next().await {
        return Some((found, Some(asked)));
    }
    let end = match asked.await {
        Ok(SearchOutcome::Searched(searched)) => searched,
        Ok(_) => Err(MISMATCH),
        Err(error) => Err(error.into()),
    };
    Some((SearchItem::End(end), None))
}
