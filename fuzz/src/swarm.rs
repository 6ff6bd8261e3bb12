//! What the peers of a swarm say, and what they hand each other.

use p2p_core::Key;
use p2p_swarm::{GROUP, Manifest, SwarmMsg, Ticket, group_count, verify};

use crate::decoded;

/// `Wire` of what the peers of a swarm say to each other.
pub fn swarm(bytes: &[u8]) {
    decoded::<SwarmMsg>(bytes);
}

/// The list of a folder's files: what is accepted leads nowhere out of the folder.
pub fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::decode(bytes) else { return };
    assert_eq!(manifest.encode(), bytes, "one folder has one list");
    for entry in manifest.entries() {
        let inside = std::path::Path::new(&entry.name).components();
        assert!(
            inside.into_iter().all(|part| matches!(part, std::path::Component::Normal(_))),
            "{:?}",
            entry.name
        );
    }
}

/// A ticket's text form.
pub fn ticket(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Ticket>() {
        Ok(ticket) => {
            let again: Ticket = ticket.to_string().parse().expect("what was printed is a ticket");
            assert_eq!(again.to_string(), ticket.to_string());
        }
        Err(error) => assert!(error.to_string().len() < 2000, "an error quotes no more than a line"),
    }
}

/// A proof that bytes belong to a blob: the root, the size and the groups are what a peer says, the rest is cut into
/// hashes and data.
pub fn proof(bytes: &[u8]) {
    let Some((header, rest)) = bytes.split_first_chunk::<52>() else { return };
    let (root, numbers) = header.split_at(32);
    let number =
        |at: usize| numbers[at..at + 8].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let (size, from) = (number(0), number(8));
    let groups = from..from.saturating_add(u64::from(numbers[16] % 4));
    let (hashes, data) = rest.split_at(rest.len().min(usize::from(numbers[17]) * 32));
    let hashes: Vec<[u8; 32]> = hashes.chunks_exact(32).filter_map(|hash| hash.try_into().ok()).collect();
    let root = Key::new(root.try_into().expect("32 bytes"));
    if verify(&root, size, groups.clone(), data, &hashes).is_ok() {
        assert!(
            groups.end <= group_count(size)
                && data.len() as u64 <= (groups.end - groups.start) * GROUP as u64
        );
    }
}
