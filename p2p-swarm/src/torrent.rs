//! BitTorrent: torrents, the peers' wire, and a client that is one machine.
//!
//! - [`Metainfo`] is a `.torrent` file, of the first version (BEP 3), the second (BEP 52), or both; [`Magnet`] a link.
mod magnet;
mod merkle;
mod metainfo;
mod rarity;
mod wire;

pub use magnet::{MAX_MAGNET, Magnet, ParseMagnetError};
pub use merkle::BLOCK;
pub use metainfo::{
    CreateError, CreateOptions, Format, Info, InfoHashes, Kind, MAX_INFO, MAX_METAINFO, MAX_PIECE_LENGTH,
    MAX_PIECES, Metainfo, MetainfoError, SwarmId, TorrentFile,
};
pub use wire::{
    Block, ExtendedHandshake, Features, Handshake, HashRange, MAX_MESSAGE, MAX_PEX, MetadataMsg, PeerCodec,
    PeerMsg, PeerName, PexMsg, PexPeer,
};
