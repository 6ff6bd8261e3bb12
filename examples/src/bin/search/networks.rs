//! The networks: each system has one function, which starts a [`Member`].

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use p2p_core::foreign::{Codec, TcpPeer};
use p2p_core::net::{Node, tcp};
use p2p_core::{Contact, Limits, NoWorker, Peer};
use p2p_examples::{Failure, FreenetFiles, SkypeFiles, identity, login_server, name_of, patiently, say};
use p2p_overlay::{
    DiskFolder, Fetcher, Gnutella, Gnutella06, Gnutella06Codec, Gnutella06Config, GnutellaCodec,
    GnutellaConfig, HttpCodec, Item, Kazaa, KazaaConfig, Napster, NapsterCodec, NapsterConfig,
    NapsterFilesCodec, NapsterLinks, Rate, Role, Search, ShareWorker, Sharer, Sharing, SharingConfig,
    SharingMsg, SkypeUser, is_user_name, of_address,
};

use crate::Part;

/// A running member of a network.
pub(crate) struct Member<P: Peer> {
    pub(crate) search: Arc<dyn Fetcher<P>>,
    /// Where others reach it, if they do.
    pub(crate) contact: Option<String>,
    /// Ends it.
    pub(crate) stop: BoxFuture<'static, ()>,
}

/// Whom to join through.
fn doors<T: FromStr<Err: Display>>(part: &Part) -> Result<Vec<T>, Failure> {
    let parsed = part.join.iter().map(|door| {
        door.parse().map_err(|error| format!("cannot join through {door:?} in this network: {error}").into())
    });
    parsed.collect()
}

/// How often those who wait at their screens want neighbours looked after.
pub(crate) const UPKEEP: Duration = Duration::from_secs(1);

/// Napster's server.
pub(crate) async fn index(listen: SocketAddr, links: NapsterLinks) -> Result<(), Failure> {
    let config = NapsterConfig { relink: 2 * UPKEEP, relay_timeout: 2 * UPKEEP, ..NapsterConfig::default() };
    let server = Napster::<TcpPeer>::linked(links, config);
    let running =
        tcp::spawn(server, NapsterCodec::server, Some(listen), Limits::default(), [NoWorker; 0]).await;
    let running = running.map_err(|error| format!("cannot listen at {listen}: {error}"))?;
    if let Some(addr) = running.local_addr() {
        say("contact", addr);
    }
    tokio::signal::ctrl_c().await?;
    running.shutdown().await;
    Ok(())
}

pub(crate) async fn napster(part: &Part, items: Vec<Item>, out: &Path) -> Result<Member<TcpPeer>, Failure> {
    if part.join.is_empty() {
        return Err("name a server: --join ADDR, as `search index` has printed it".into());
    }
    let nick = part.nick.clone().unwrap_or_else(|| format!("user{}", std::process::id()));
    let config = NapsterConfig { login: 2 * UPKEEP, ..NapsterConfig::default() };
    // One connection brings a file to its end.
    let sharing = SharingConfig { piece: u64::MAX, ..SharingConfig::default() };
    let servers: Vec<Contact> = doors(part)?.into_iter().map(of_address).collect();
    let (name, codec) = (nick.clone(), move |peer| NapsterFilesCodec::new(peer, nick.clone()));
    let machine = move |listen: Option<SocketAddr>| {
        Sharing::new(Napster::client(name, listen.map(of_address), servers, config), sharing)
    };
    member(part, items, machine, codec, out).await
}

pub(crate) async fn gnutella04(
    part: &Part,
    items: Vec<Item>,
    out: &Path,
) -> Result<Member<TcpPeer>, Failure> {
    // Those who wait do not want to be guests for long.
    let hearsay = Rate { every: UPKEEP, burst: 10 };
    let config = GnutellaConfig { upkeep: UPKEEP, most: 16, hearsay, ..GnutellaConfig::default() };
    let seeds: Vec<Contact> = doors(part)?.into_iter().map(of_address).collect();
    let machine = move |listen: Option<SocketAddr>| {
        Sharing::new(Gnutella::new(listen.map(of_address), seeds, config), SharingConfig::default())
    };
    member(part, items, machine, |peer| HttpCodec::new(peer, GnutellaCodec::new(peer)), out).await
}

pub(crate) async fn gnutella06(
    part: &Part,
    items: Vec<Item>,
    out: &Path,
) -> Result<Member<TcpPeer>, Failure> {
    let config = Gnutella06Config { upkeep: UPKEEP, hop_wait: UPKEEP / 4, ..Gnutella06Config::default() };
    let role = if part.leaf || part.firewalled { Role::Leaf } else { Role::Ultrapeer };
    let seeds: Vec<Contact> = doors(part)?.into_iter().map(of_address).collect();
    let machine = move |listen: Option<SocketAddr>| {
        Sharing::new(Gnutella06::new(listen.map(of_address), seeds, role, config), SharingConfig::default())
    };
    member(part, items, machine, |peer| HttpCodec::new(peer, Gnutella06Codec::new(peer)), out).await
}

pub(crate) async fn kazaa(part: &Part, items: Vec<Item>, out: &Path) -> Result<Member<Contact>, Failure> {
    let limits = match part.firewalled {
        true => Limits { handshakes_at_once: 0, ..Limits::default() },
        false => Limits::default(),
    };
    let keypair = identity(part.data.as_deref())?;
    let builder = Node::builder().network("kazaa").identity(keypair.clone()).limits(limits);
    let node = builder.bind(part.listen).await;
    let node = node.map_err(|error| format!("cannot listen at {}: {error}", part.listen))?;
    let listen = (!part.firewalled).then(|| node.contact());
    let role = if part.leaf || part.firewalled { Role::Leaf } else { Role::Ultrapeer };
    let (probe_wait, wait) = (UPKEEP / 4, UPKEEP / 2);
    let config = KazaaConfig { upkeep: UPKEEP, probe_wait, wait, ..KazaaConfig::default() };
    let config = KazaaConfig { dial_timeout: 3 * UPKEEP, silence: 5 * UPKEEP, ..config };
    let hearsay = Rate { every: UPKEEP / 4, burst: 10 };
    let machine = Kazaa::new(listen, doors::<Contact>(part)?, role, KazaaConfig { hearsay, ..config });
    let machine = machine.with_key(keypair);
    let sharing = Sharing::new(machine, SharingConfig::default());
    let folder = DiskFolder::new(part.share.clone(), out);
    let workers = [ShareWorker::new(folder.clone()), ShareWorker::new(folder)];
    let search = node.spawn_with_workers("kazaa/1", sharing, workers)?;
    share(&search, items).await?;
    let stop = Box::pin(async move { node.shutdown().await });
    Ok(Member { search: Arc::new(search), contact: listen.map(|contact| contact.to_string()), stop })
}

/// Skype's login server.
pub(crate) async fn names(listen: SocketAddr, data: Option<&Path>) -> Result<(), Failure> {
    let keypair = identity(data)?;
    let node = SkypeFiles::bind(&keypair, true, listen).await;
    let node = node.map_err(|error| format!("cannot listen at {listen}: {error}"))?;
    login_server(&node, keypair, data)?;
    say("contact", node.contact());
    tokio::signal::ctrl_c().await?;
    node.shutdown().await;
    Ok(())
}

pub(crate) async fn skype(part: &Part, items: Vec<Item>, out: &Path) -> Result<Member<Contact>, Failure> {
    let login = part
        .login
        .ok_or("name the login server: --login ADDR, as `search index --system skype` has printed it")?;
    let (keypair, open) = (identity(part.data.as_deref())?, !part.firewalled);
    let name = part.nick.clone().unwrap_or_else(|| name_of(&keypair));
    if !is_user_name(&name) {
        return Err(format!("{name:?} is no user name: small letters, digits, .-_, a letter first").into());
    }
    let node = SkypeFiles::bind(&keypair, open, part.listen).await;
    let node = node.map_err(|error| format!("cannot listen at {}: {error}", part.listen))?;
    let contact = node.contact();
    let role = if part.leaf || !open { Role::Leaf } else { Role::Ultrapeer };
    let profile = part.profile.clone().unwrap_or_default();
    let user = SkypeUser { keypair, name, profile, server: login.id, login, contact, open };
    let folder = DiskFolder::new(part.share.clone(), out);
    let files = SkypeFiles::start(node, user, doors(part)?, role, items, folder)?;
    let search = Arc::new(files.clone());
    Ok(Member { search, contact: open.then(|| contact.to_string()), stop: Box::pin(files.stop()) })
}

pub(crate) async fn freenet(part: &Part, items: Vec<Item>, out: &Path) -> Result<Member<Contact>, Failure> {
    let node = Node::builder().bind(part.listen).await;
    let node = node.map_err(|error| format!("cannot listen at {}: {error}", part.listen))?;
    let contact = node.contact().to_string();
    let files = FreenetFiles::start(node, doors(part)?, out.to_owned())?;
    let (given, folder) = (files.clone(), part.share.clone().unwrap_or_default());
    // Nobody takes them before it has found somebody.
    tokio::spawn(async move {
        for item in items {
            let name = item.name.clone();
            let shared = patiently(|| async {
                let content = tokio::fs::read(folder.join(&item.name)).await?;
                given.share(item.clone(), content).await
            });
            match shared.await {
                Ok(()) => say("shared", name),
                Err(error) => say("not shared", format_args!("{name}: {error}")),
            }
        }
    });
    let search = Arc::new(files.clone());
    Ok(Member { search, contact: Some(contact), stop: Box::pin(files.stop()) })
}

async fn share<P: Peer>(search: &dyn Search<P>, items: Vec<Item>) -> Result<(), Failure> {
    for item in items {
        let name = item.name.clone();
        search.publish(item).await.map_err(|error| format!("cannot share {name:?}: {error}"))?;
    }
    Ok(())
}

/// Runs a machine over TCP, and shares these items.
async fn member<S, C>(
    part: &Part,
    items: Vec<Item>,
    machine: impl FnOnce(Option<SocketAddr>) -> Sharing<S> + Send,
    codec: impl Fn(TcpPeer) -> C + Send + 'static,
    out: &Path,
) -> Result<Member<TcpPeer>, Failure>
where
    S: Sharer<Peer = TcpPeer>,
    C: Codec<Msg = SharingMsg<S::Msg>>,
{
    let listen = (!part.firewalled).then_some(part.listen);
    let folder = DiskFolder::new(part.share.clone(), out);
    let workers = [ShareWorker::new(folder.clone()), ShareWorker::new(folder)];
    let running = tcp::spawn_at(machine, codec, listen, Limits::default(), workers).await;
    let running = running.map_err(|error| format!("cannot listen at {}: {error}", part.listen))?;
    let search = running.handle();
    share(&search, items).await?;
    Ok(Member {
        search: Arc::new(search),
        contact: running.local_addr().map(|addr| addr.to_string()),
        stop: Box::pin(running.shutdown()),
    })
}
