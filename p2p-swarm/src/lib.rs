//! Files and folders under their BLAKE3 root.
mod tree;

pub use tree::{GROUP, NotProved, Outboard, TreeBuilder, group_count, verify};
