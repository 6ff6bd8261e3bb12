//! Addresses and nodes in compact form (BEP 5, 23, 32): the address' bytes, then the port's, behind a node's id.

use std::net::{IpAddr, SocketAddr};

use p2p_core::Key;

/// A node, as others name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Its id, as it claims.
    pub id: Key<20>,
    /// Where it is.
    pub addr: SocketAddr,
}

/// How long a node is.
fn compact_len(v6: bool) -> usize {
    20 + addr_len(v6)
}

fn addr_len(v6: bool) -> usize {
    if v6 { 18 } else { 6 }
}

/// The address that these bytes are.
pub(super) fn read_addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// The nodes that these bytes are, at most so many.
pub(in crate::mainline) fn read_nodes(bytes: &[u8], v6: bool, most: usize) -> Option<Vec<Node>> {
    let (chunks, rest) = (bytes.chunks_exact(compact_len(v6)), bytes.len() % compact_len(v6));
    let node = |chunk: &[u8]| {
        let (id, addr) = chunk.split_first_chunk::<20>()?;
        Some(Node { id: Key::new(*id), addr: read_addr(addr)? })
    };
    (rest == 0).then(|| chunks.take(most).filter_map(node).collect())
}

pub(super) fn put_addr(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_be_bytes());
}

pub(in crate::mainline) fn put_nodes(nodes: &[Node], v6: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(nodes.len() * compact_len(v6));
    for node in nodes.iter().filter(|node| node.addr.ip().to_canonical().is_ipv6() == v6) {
        out.extend_from_slice(node.id.as_bytes());
        put_addr(&mut out, node.addr);
    }
    out
}
