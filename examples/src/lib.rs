//! What the programs share: a member of a hash table, over the overlay that its user names; work in units.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "programs talk on the terminal")]

mod freenet;
pub mod ledger;
pub mod remote;
pub mod sealed;
mod skype;
pub mod units;

use std::error::Error;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::ValueEnum;
use p2p_core::net::Node;
use p2p_core::{Contact, Handle, Keypair, NoJob, Wire, Worker};
use p2p_dht::past::{PastConfig, PastMemory, PastNode};
use p2p_dht::{DhtConfig, Gateway, MemoryStore, RedbStore, Replicated, StoreJob};
use p2p_overlay::{
    Can, CanConfig, Chord, ChordConfig, Find, Kademlia, KademliaConfig, Looked, Lookup, LookupConfig,
    Overlay, Pastry, PastryConfig, Tapestry, TapestryConfig,
};

use remote::Stores;

pub use freenet::FreenetFiles;
pub use skype::{SkypeFiles, login_server, name_of, skype_config};

/// An error for the user of a program.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Which overlay finds the nodes responsible for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A torus cut into zones.
    Can,
    /// A ring with fingers.
    Chord,
    /// A tree by exclusive or.
    Kademlia,
    /// A ring with a routing table by digits.
    Pastry,
    /// Digit by digit.
    Tapestry,
}

/// How a program takes part.
#[derive(Clone, Debug, clap::Args)]
pub struct Part {
    /// Which overlay: all members of one network must use the same.
    #[arg(long, value_enum, default_value_t = Kind::Kademlia)]
    pub overlay: Kind,
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Members to join through; without any the program starts a network of its own.
    #[arg(long, value_name = "CONTACT")]
    pub join: Vec<Contact>,
    /// Where the identity is kept, and the records of a node, which has them again after any end; otherwise the identity
    /// is a new one every time, and records are kept in memory.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// The identity that is kept in a folder; a new one without.
///
/// # Errors
/// The folder or the key in it cannot be read or made.
pub fn identity(data: Option<&Path>) -> Result<Keypair, Failure> {
    let Some(data) = data else { return Ok(Keypair::generate()) };
    std::fs::create_dir_all(data).map_err(|error| format!("{}: {error}", data.display()))?;
    Ok(Keypair::load_or_create(data.join("key"))?)
}

/// The key pair in a file; a new one, if there is none.
///
/// # Errors
/// The file cannot be read or made, or is none.
pub fn keypair(file: &Path) -> Result<Keypair, Failure> {
    Ok(Keypair::load_or_create(file)?)
}

/// A node that keeps records for others.
pub struct Member {
    /// The node.
    pub node: Node,
    /// The hash table.
    pub dht: Arc<dyn Gateway<Contact>>,
    /// The overlay under it.
    pub lookup: Arc<dyn Lookup<Contact>>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({:?})", self.node)
    }
}

/// How long what is put for those who are no members lasts, unless they put it again: a week.
pub const LASTS: Duration = Duration::from_secs(7 * 24 * 3600);

/// Upkeep for networks of people who wait at their screens: every second.
const UPKEEP: Duration = Duration::from_secs(1);

impl Part {
    /// This program's identity.
    ///
    /// # Errors
    /// The folder or the key in it cannot be read or made.
    pub fn identity(&self) -> Result<Keypair, Failure> {
        identity(self.data.as_deref())
    }

    /// Becomes a member.
    ///
    /// # Errors
    /// The identity or the records cannot be had, or the address cannot be listened at.
    pub async fn member(&self) -> Result<Member, Failure> {
        let identity = self.identity()?;
        match &self.data {
            Some(data) => self.keeping(identity, RedbStore::open(data.join("records.redb"))?).await,
            None => self.keeping(identity, MemoryStore::default()).await,
        }
    }

    /// What a member keeps besides: whole files, and the fragments of an archive, each over an overlay of its own.
    ///
    /// # Errors
    /// The fragments cannot be had.
    pub fn stores(&self, member: &Member) -> Result<Stores, Failure> {
        let (node, me) = (&member.node, member.node.contact());
        let config = PastryConfig { upkeep: UPKEEP, lease: 3 * UPKEEP, ..PastryConfig::default() };
        let config = PastryConfig { lookup: LookupConfig { timeout: 3 * UPKEEP, ..config.lookup }, ..config };
        let pastry = Pastry::with(me, self.join.iter().copied(), config);
        let config = PastConfig { settle: UPKEEP, repair: 60 * UPKEEP, ..PastConfig::default() };
        let past = PastNode::new(pastry, config);
        let past = node.spawn_with_workers("past/1", past, [PastMemory::default()])?;
        let config = KademliaConfig { upkeep: UPKEEP, ..KademliaConfig::default() };
        let config =
            KademliaConfig { lookup: LookupConfig { timeout: 3 * UPKEEP, ..config.lookup }, ..config };
        let kademlia = Kademlia::with(me, self.join.iter().copied(), config);
        // An archive has its redundancy in the fragments.
        let config = DhtConfig {
            replicas: 1,
            write_quorum: 1,
            read_quorum: 1,
            repair: 60 * UPKEEP,
            settle: UPKEEP,
            timeout: 2 * UPKEEP,
            ..DhtConfig::default()
        };
        let fragments = Replicated::new(kademlia, config);
        let fragments = match &self.data {
            Some(data) => {
                let store = RedbStore::open(data.join("fragments.redb"))?;
                node.spawn_with_workers("fragments/1", fragments, [store])?
            }
            None => node.spawn_with_workers("fragments/1", fragments, [MemoryStore::default()])?,
        };
        let lookup = Arc::new(Below(fragments.clone()));
        Ok(Stores { blocks: member.dht.clone(), fragments: Arc::new(fragments), lookup, past })
    }

    async fn keeping(
        &self,
        identity: Keypair,
        store: impl Worker<StoreJob<Contact>> + 'static,
    ) -> Result<Member, Failure> {
        let bound = Node::builder().identity(identity).bind(self.listen).await;
        let node = bound.map_err(|error| format!("cannot listen at {}: {error}", self.listen))?;
        let (me, seeds) = (node.contact(), self.join.iter().copied());
        let patient = |lookup| LookupConfig { timeout: 3 * UPKEEP, ..lookup };
        match self.overlay {
            Kind::Can => {
                let config = CanConfig { update: UPKEEP, dimensions: 2, ..CanConfig::default() };
                let config = CanConfig { lookup: patient(config.lookup), ..config };
                member(node, store, "can", Can::with(me, seeds, config))
            }
            Kind::Chord => {
                let config = ChordConfig { stabilize: UPKEEP, fingers: 4, ..ChordConfig::default() };
                let config = ChordConfig { lookup: patient(config.lookup), ..config };
                member(node, store, "chord", Chord::with(me, seeds, config))
            }
            Kind::Kademlia => {
                let config = KademliaConfig { upkeep: UPKEEP, ..KademliaConfig::default() };
                let config = KademliaConfig { lookup: patient(config.lookup), ..config };
                member(node, store, "kademlia", Kademlia::with(me, seeds, config))
            }
            Kind::Pastry => {
                let config = PastryConfig { upkeep: UPKEEP, lease: 3 * UPKEEP, ..PastryConfig::default() };
                let config = PastryConfig { lookup: patient(config.lookup), ..config };
                member(node, store, "pastry", Pastry::with(me, seeds, config))
            }
            Kind::Tapestry => {
                let config =
                    TapestryConfig { upkeep: UPKEEP, probe: 2 * UPKEEP, ..TapestryConfig::default() };
                let config = TapestryConfig { lookup: patient(config.lookup), ..config };
                member(node, store, "tapestry", Tapestry::with(me, seeds, config))
            }
        }
    }
}

/// Runs a hash table on a node.
fn member<O>(
    node: Node,
    store: impl Worker<StoreJob<Contact>> + 'static,
    name: &str,
    overlay: O,
) -> Result<Member, Failure>
where
    O: Overlay<Peer = Contact, Msg: Wire, Job = NoJob>,
{
    let config =
        DhtConfig { repair: 60 * UPKEEP, settle: UPKEEP, timeout: 2 * UPKEEP, ..DhtConfig::default() };
    let machine = Replicated::new(overlay, config);
    let handle = node.spawn_with_workers(&format!("dht-{name}/1"), machine, [store])?;
    Ok(Member { node, dht: Arc::new(handle.clone()), lookup: Arc::new(Below(handle)) })
}

/// The overlay under a hash table.
struct Below<O: Overlay<Job = NoJob>>(Handle<Replicated<O>>);

#[async_trait]
impl<O: Overlay<Job = NoJob>> Lookup<O::Peer> for Below<O> {
    async fn lookup(&self, find: Find) -> Looked<O::Peer> {
        self.0.ask(find).await?
    }
}

/// How a program ends: a failure is said on the error output.
pub fn exit(program: &str, done: Result<(), impl Display>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {}", printable(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

/// Says on the error output what did not go well, and does not end the program.
pub fn warn(what: &str) {
    eprintln!("{}", printable(what));
}

/// As it may go to a terminal, whoever has written it: control characters, and those that turn the direction of writing, are
/// escaped.
pub fn printable(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        match c.is_control() || turns(c) {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
        line
    })
}

/// Prints `name: value`, a line that other programs can read, at once.
pub fn say(name: &str, value: impl Display) {
    println!("{name}: {value}");
}

/// Tries something until it succeeds or a minute is over: a member that has just started has to find the others.
///
/// # Errors
/// The last one.
pub async fn patiently<T, E, F>(mut attempt: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match attempt().await {
            Err(_) if tokio::time::Instant::now() < end => tokio::time::sleep(UPKEEP / 5).await,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_others_have_named_does_not_command_the_terminal() {
        let named = "a\u{1b}[2J\r\nb\u{9b}\u{202e}é ö 字";
        assert_eq!(super::printable(named), r"a\u{1b}[2J\r\nb\u{9b}\u{202e}é ö 字");
    }
}
