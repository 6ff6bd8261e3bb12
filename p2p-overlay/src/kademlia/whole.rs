//! What holds of a Kademlia network when all is quiet (§2.2, §2.4).

use p2p_core::sim::View;
use p2p_core::{Key, Keyed, NoWorker, SimPeer};

use super::converged::closest;
use super::{Kademlia, KademliaTable};

/// All have joined, all know the k nodes nearest to them, and there is somebody in each bucket in which somebody belongs
/// and in no other.
pub(super) fn is_whole(view: &View<'_, Kademlia<SimPeer>, NoWorker>) -> Result<(), String> {
    let mut nodes: Vec<(Key, SimPeer)> = view.iter().map(|(peer, _)| (peer.key(), peer)).collect();
    nodes.sort_unstable();
    view.iter().try_for_each(|(_, node)| has_its_own(node.table(), &nodes))
}

fn has_its_own(table: &KademliaTable<SimPeer>, nodes: &[(Key, SimPeer)]) -> Result<(), String> {
    let (me, key) = (table.me, table.key());
    if !table.joined {
        return Err(format!("{me} has not joined"));
    }
    let near = closest(nodes, &key, table.config.most() + 1).into_iter().map(|(_, peer)| peer);
    let near: Vec<SimPeer> = near.filter(|peer| *peer != me).take(table.config.most()).collect();
    if table.buckets.near() != near {
        return Err(format!("nearest to {me} are {near:?}, not {:?}", table.buckets.near()));
    }
    // The bits in which somebody differs from this node first.
    let others = nodes.iter().filter(|(_, peer)| *peer != me);
    let mask = others.fold(Key::ZERO, |mask, (other, _)| mask.with_bit(key.common_prefix(other), true));
    let occupied = table.buckets.occupied();
    match occupied == mask {
        true => Ok(()),
        false => Err(format!("{me} has contacts in the buckets {occupied}, not {mask}")),
    }
}
