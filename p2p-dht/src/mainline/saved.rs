//! What a node knows of the network, kept between runs (BEP 5): its ids, and nodes that were there.

use p2p_core::Key;

use super::krpc::{Node, put_nodes, read_nodes};
use crate::bencode::{self, Value};

/// Nodes that are kept of each network.
const MOST: usize = 400;

/// A routing table as it is saved: a bencoded dictionary with `id`, `id6`, `nodes` and `nodes6`. The nodes are asked
/// before any of them is believed to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedTable {
    /// This node's ids, by IPv4 and by IPv6.
    pub ids: [Option<Key<20>>; 2],
    /// Nodes of both.
    pub nodes: Vec<Node>,
}

impl SavedTable {
    /// As it is written to a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        bencode::dict(|d| {
            for (name, id) in ["id", "id6"].into_iter().zip(self.ids) {
                if let Some(id) = id {
                    d.bytes(name, id.as_bytes());
                }
            }
            d.bytes("nodes", put_nodes(&self.nodes, false));
            d.bytes("nodes6", put_nodes(&self.nodes, true));
        })
    }

    /// From a file; `None` if that is something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<SavedTable> {
        let saved = Value::decode(bytes).ok()?;
        let id = |name| saved.get(name).and_then(|id| id.as_array().copied().map(Key::new));
        let nodes = |name, v6| read_nodes(saved.get(name)?.as_bytes()?, v6, MOST);
        let all = [nodes("nodes", false)?, nodes("nodes6", true)?].concat();
        Some(SavedTable { ids: [id("id"), id("id6")], nodes: all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_comes_back_as_it_was_saved() {
        let node = |n: u8, addr: &str| Node { id: Key::new([n; 20]), addr: addr.parse().unwrap() };
        let nodes =
            vec![node(1, "203.0.113.1:6881"), node(2, "203.0.113.2:1"), node(3, "[2001:db8::1]:6881")];
        let saved = SavedTable { ids: [Some(Key::new([9; 20])), None], nodes };
        assert_eq!(SavedTable::from_bytes(&saved.to_bytes()), Some(saved.clone()));
        let bytes = saved.to_bytes();
        assert!((0..bytes.len()).all(|len| SavedTable::from_bytes(&bytes[..len]).is_none()));
    }
}
