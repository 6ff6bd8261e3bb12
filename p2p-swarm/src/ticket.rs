//! What one person gives another to fetch something: its root, what it is, and who may have it.
//!
//! The text form is `p2p-file:<root>` or `p2p-folder:<root>`, the root as 52 characters of lower-case base32, then for
//! each contact `+<id>@<ip:port>` in the form of [`Contact`]. One ticket has one text.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use p2p_core::{Contact, Key, ParseContactError};

/// The most contacts a ticket names.
pub const MAX_CONTACTS: usize = 16;

/// What a root stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A single file.
    File,
    /// A folder: the root is that of its [`Manifest`](crate::Manifest).
    Folder,
}

/// Something to fetch.
///
/// ```
/// use p2p_core::{Contact, Key, PeerId};
/// use p2p_swarm::{Kind, Ticket};
///
/// let contact = Contact::new(PeerId::from_bytes([7; 32]), "127.0.0.1:4001".parse().unwrap());
/// let ticket = Ticket::new(Key::of(b"a song"), Kind::File).with([contact]);
/// let text = ticket.to_string();
/// assert!(text.starts_with("p2p-file:") && text.ends_with("@127.0.0.1:4001"));
/// assert_eq!(text.parse::<Ticket>().unwrap(), ticket);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket<P = Contact> {
    /// The root of the file, or of the folder's manifest.
    pub root: Key,
    /// What it is.
    pub kind: Kind,
    /// Who may have it. At most [`MAX_CONTACTS`] are written or read.
    pub contacts: Vec<P>,
}

impl<P> Ticket<P> {
    /// A ticket that names nobody: providers are found in the hash table.
    pub fn new(root: Key, kind: Kind) -> Ticket<P> {
        Ticket { root, kind, contacts: Vec::new() }
    }

    /// Names some who may have it.
    pub fn with(mut self, contacts: impl IntoIterator<Item = P>) -> Ticket<P> {
        self.contacts.extend(contacts);
        self.contacts.truncate(MAX_CONTACTS);
        self
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::File => FILE,
            Kind::Folder => FOLDER,
        };
        write!(f, "{kind}{}", BASE32_NOPAD.encode(self.root.as_bytes()).to_ascii_lowercase())?;
        self.contacts.iter().take(MAX_CONTACTS).try_for_each(|c| write!(f, "+{}@{}", c.id, c.addr))
    }
}

const FILE: &str = "p2p-file:";
const FOLDER: &str = "p2p-folder:";

/// A text that is not a [`Ticket`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTicketError {
    /// It begins with something else.
    #[error("a ticket looks like p2p-file:<root> or p2p-folder:<root>, then +<id>@<ip:port>; {0:?} does not")]
    Shape(String),
    /// The root.
    #[error("a root is 52 characters of base32 (a-z, 2-7, in lower case); {0:?} is not")]
    Root(String),
    /// One of the contacts.
    #[error("contact {at} of the ticket: {why}")]
    Contact {
        /// Which, from 1.
        at: usize,
        /// What is wrong with it.
        why: ParseContactError,
    },
    /// More contacts than a ticket may have.
    #[error("a ticket names at most {MAX_CONTACTS} contacts")]
    TooMany,
}

impl FromStr for Ticket {
    type Err = ParseTicketError;

    fn from_str(text: &str) -> Result<Ticket, ParseTicketError> {
        let short = |text: &str| text.chars().take(80).collect::<String>();
        let kinds = [(FILE, Kind::File), (FOLDER, Kind::Folder)];
        let found = kinds.iter().find_map(|(prefix, kind)| Some((text.strip_prefix(prefix)?, *kind)));
        let (rest, kind) = found.ok_or_else(|| ParseTicketError::Shape(short(text)))?;
        let mut parts = rest.split('+');
        let root = parts.next().unwrap_or_default();
        let decoded = BASE32_NOPAD.decode(root.to_ascii_uppercase().as_bytes()).ok();
        let bytes = decoded.filter(|_| !root.bytes().any(|b| b.is_ascii_uppercase()));
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        let root = Key::new(bytes.ok_or_else(|| ParseTicketError::Root(short(root)))?);
        let mut contacts = Vec::new();
        for (contact, at) in parts.zip(1..) {
            if at > MAX_CONTACTS {
                return Err(ParseTicketError::TooMany);
            }
            let contact = format!("p2p://{contact}").parse();
            contacts.push(contact.map_err(|why| ParseTicketError::Contact { at, why })?);
        }
        Ok(Ticket { root, kind, contacts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2p_core::PeerId;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn contact(n: u8) -> Contact {
        Contact::new(PeerId::from_bytes([n; 32]), SocketAddr::from(([127, 0, 0, 1], n.into())))
    }

    #[test]
    fn a_wrong_text_is_told_what_is_wrong() {
        let good = Ticket::new(Key::of(b"x"), Kind::File).with([contact(1)]).to_string();
        let error = |text: &str| text.parse::<Ticket>().unwrap_err();
        assert!(matches!(error(""), ParseTicketError::Shape(_)));
        assert!(matches!(error("p2p://abc"), ParseTicketError::Shape(_)));
        assert!(matches!(error("p2p-file:abc"), ParseTicketError::Root(_)));
        assert!(matches!(error(&good.replace("p2p-file:", "p2p-file:A")), ParseTicketError::Root(_)));
        assert!(matches!(error(&format!("{good}+")), ParseTicketError::Contact { at: 2, .. }));
        assert!(matches!(error(&format!("{good} ")), ParseTicketError::Contact { at: 1, .. }));
        let many = (2..20).fold(good, |text, n| format!("{text}+{}@127.0.0.1:1", contact(n).id));
        assert_eq!(error(&many), ParseTicketError::TooMany);
    }

    proptest! {
        #[test]
        fn text_comes_back(
            root: [u8; 32],
            folder: bool,
            people in prop::collection::vec((any::<[u8; 32]>(), any::<SocketAddr>()), 0..16),
        ) {
            let kind = if folder { Kind::Folder } else { Kind::File };
            let contacts = people.into_iter().map(|(id, addr)| {
                Contact::new(PeerId::from_bytes(id), SocketAddr::new(addr.ip(), addr.port()))
            });
            let ticket = Ticket::new(Key::new(root), kind).with(contacts);
            let back: Ticket = ticket.to_string().parse().unwrap();
            prop_assert_eq!(back.to_string(), ticket.to_string());
            prop_assert_eq!(back, ticket);
        }

        #[test]
        fn any_text_is_an_error_or_its_own_ticket(text in "p2p-(file|folder):[a-z2-7]{50,53}(\\+.{0,60})?") {
            if let Ok(ticket) = text.parse::<Ticket>() {
                prop_assert_eq!(ticket.root, ticket.to_string().parse::<Ticket>().unwrap().root);
            }
        }
    }
}
