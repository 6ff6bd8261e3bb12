//! A session whose connections are TCP's and uTP's.

use super::mse::Mse;
use super::session::{Session, SessionConfig};
use super::wire::PeerCodec;
use crate::utp::{StreamPeer, Streams, UtpConfig};

/// A [`Session`] over TCP and uTP, at one port. It takes the same requests.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// use p2p_core::Limits;
/// use p2p_core::net::both::{self, Listen};
/// use p2p_dht::mainline::Secret;
/// use p2p_swarm::Files;
/// use p2p_swarm::torrent::{Carriers, Encryption, FileTorrents, Mse, SessionConfig, client};
/// use p2p_swarm::utp::{StreamPeer, UtpCodec, UtpConfig};
///
/// let mse = Mse::new(Encryption::Preferred, &Secret::generate());
/// let config = SessionConfig { carriers: Carriers::Both, ..SessionConfig::default() };
/// let codecs = mse.clone();
/// let addr = Some("0.0.0.0:6881".parse().unwrap());
/// let running = both::spawn_at(
///     move |local| client(config, UtpConfig::default(), local.map(|addr| addr.port()), mse),
///     move |peer| codecs.codec(StreamPeer::Tcp(peer)),
///     UtpCodec,
///     Listen { tcp: addr, udp: addr },
///     Limits::default(),
///     [FileTorrents::new(Files)],
/// )
/// .await?;
/// # Ok(())
/// # }
/// ```
pub type Client = Streams<Session<StreamPeer>, PeerCodec>;

/// Makes one, without torrents, that listens at this port, if at any.
pub fn client(config: SessionConfig, utp: UtpConfig, listens: Option<u16>, mse: Mse) -> Client {
    let codecs = mse.clone();
    Streams::new(Session::encrypted(config, listens, mse), utp, move |peer| codecs.codec(peer))
}
