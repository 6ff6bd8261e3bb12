//! What linked servers say to each other, with OpenNap's numbers and fields.
//!
//! They stand in its servers' sources only (`server_login.c`, `synch.c`, `search.c`, `download.c` of 0.4x), in no
//! specification. What a server passes on for a user has the user's name in front, after a colon.

use std::net::{Ipv4Addr, SocketAddr};

use md5::{Digest, Md5};
use p2p_core::Contact;
use serde::{Deserialize, Serialize};

use super::msg::{Fields, NapsterFile, file, place};
use crate::place::of_address;

/// What a search is known by among servers: eight letters.
pub type NapsterSearchId = [u8; 8];

/// Between servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NapsterLinkMsg {
    /// 10010: a server wants to be linked, or would be. Answered by its like and [`NapsterLinkMsg::Ack`].
    Login {
        /// Its name.
        name: String,
        /// Drawn anew.
        nonce: String,
    },
    /// 10011: proves that it knows the password.
    Ack {
        /// MD5 of the other's nonce, its own, and the password, in hexadecimal digits.
        digest: String,
    },
    /// 2, with more fields than a client's: a user of another server.
    User {
        /// Its name.
        nick: String,
        /// Where others reach it.
        contact: Option<Contact>,
        /// How fast its line is.
        link: u8,
        /// The server's name.
        server: String,
    },
    /// 10000: a user is gone.
    Quit {
        /// Who.
        nick: String,
    },
    /// 10019: a server has been linked to another.
    Server {
        /// Which.
        name: String,
        /// To which.
        to: String,
        /// How far away it is.
        hops: u8,
    },
    /// 10101: a server is linked no longer.
    Gone {
        /// Which.
        name: String,
        /// Who says so.
        from: String,
    },
    /// 10015: a user of another server searches. Answered by [`NapsterLinkMsg::Result`] and [`NapsterLinkMsg::End`].
    Search {
        /// Who.
        nick: String,
        /// What its answers are known by.
        id: NapsterSearchId,
        /// Words of the name.
        words: String,
        /// How many results are wanted.
        most: u16,
    },
    /// 10016: a file that matches.
    Result {
        /// Of this search.
        id: NapsterSearchId,
        /// Who has it.
        nick: String,
        /// The file.
        file: NapsterFile,
    },
    /// 10017: there are no more.
    End {
        /// Of this search.
        id: NapsterSearchId,
    },
    /// 205.
    Private {
        /// Who says it.
        from: String,
        /// To whom.
        nick: String,
        /// What.
        text: String,
    },
    /// 500: see [`NapsterMsg::Push`](super::NapsterMsg::Push).
    Push {
        /// Who wants the file.
        from: String,
        /// Who has it.
        nick: String,
        /// The file.
        name: String,
    },
}

/// How a server proves that it knows the password of a link: MD5 of the other's nonce, its own, and the password, in
/// hexadecimal digits. MD5 is what OpenNap has; over QUIC the connection proves more.
pub(super) fn digest(theirs: &str, own: &str, password: &str) -> String {
    let hash = Md5::new_with_prefix(theirs).chain_update(own).chain_update(password).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Numbers that only servers use.
pub(super) const NUMBERS: [u16; 8] = [10_000, 10_010, 10_011, 10_015, 10_016, 10_017, 10_019, 10_101];

impl NapsterLinkMsg {
    /// Its number and its text.
    pub(super) fn text(&self) -> (u16, String) {
        let letters = |id: &NapsterSearchId| id.map(char::from).iter().collect::<String>();
        match self {
            // The last field is how much is compressed: nothing.
            NapsterLinkMsg::Login { name, nonce } => (10_010, format!("{name} {nonce} 0")),
            NapsterLinkMsg::Ack { digest } => (10_011, digest.clone()),
            NapsterLinkMsg::User { nick, contact, link, server } => {
                let (ip, port) = contact.as_ref().map_or((0, 0), place);
                (2, format!("{nick} none {port} \"p2p\" {link} unknown 0 {ip} {server} 0"))
            }
            NapsterLinkMsg::Quit { nick } => (10_000, nick.clone()),
            NapsterLinkMsg::Server { name, to, hops } => (10_019, format!("{to} 0 {name} 0 {hops}")),
            NapsterLinkMsg::Gone { name, from } => (10_101, format!(":{from} {name} \"\"")),
            NapsterLinkMsg::Search { nick, id, words, most } => {
                let request = format!("FILENAME CONTAINS \"{words}\" MAX_RESULTS {most}");
                (10_015, format!("{nick} {} {request}", letters(id)))
            }
            NapsterLinkMsg::Result { id, nick, file: found } => {
                (10_016, format!("{} {nick} {}", letters(id), file(found)))
            }
            NapsterLinkMsg::End { id } => (10_017, letters(id)),
            NapsterLinkMsg::Private { from, nick, text } => (205, format!(":{from} {nick} {text}")),
            NapsterLinkMsg::Push { from, nick, name } => (500, format!(":{from} {nick} \"{name}\"")),
        }
    }

    /// What a line says whose number only servers use.
    pub(super) fn read(kind: u16, fields: &mut Fields<'_>) -> Option<NapsterLinkMsg> {
        Some(match kind {
            10_000 => NapsterLinkMsg::Quit { nick: fields.word()? },
            10_010 => NapsterLinkMsg::Login { name: fields.word()?, nonce: fields.word()? },
            10_011 => NapsterLinkMsg::Ack { digest: fields.word()? },
            10_015 => {
                let (nick, id) = (fields.word()?, search_id(fields)?);
                let (words, most, _) = fields.search()?;
                NapsterLinkMsg::Search { nick, id, words, most }
            }
            10_016 => {
                let (id, nick) = (search_id(fields)?, fields.word()?);
                NapsterLinkMsg::Result { id, nick, file: fields.file()? }
            }
            10_017 => NapsterLinkMsg::End { id: search_id(fields)? },
            10_019 => {
                let (to, _) = (fields.word()?, fields.number::<u16>()?);
                let (name, _) = (fields.word()?, fields.number::<u16>()?);
                NapsterLinkMsg::Server { name, to, hops: fields.number()? }
            }
            10_101 => {
                let from = fields.sender()?;
                NapsterLinkMsg::Gone { name: fields.word()?, from }
            }
            _ => return None,
        })
    }

    /// What follows a client's fields in the login of another server's user.
    pub(super) fn user(nick: String, port: u16, link: u8, fields: &mut Fields<'_>) -> Option<NapsterLinkMsg> {
        let (_, _) = (fields.word()?, fields.word()?);
        let ip = Ipv4Addr::from(fields.number::<u32>()?.to_le_bytes());
        let contact = (port != 0).then(|| of_address(SocketAddr::from((ip, port))));
        Some(NapsterLinkMsg::User { nick, contact, link, server: fields.word()? })
    }
}

fn search_id(fields: &mut Fields<'_>) -> Option<NapsterSearchId> {
    fields.word()?.into_bytes().try_into().ok().filter(|id: &NapsterSearchId| id.is_ascii())
}

#[cfg(test)]
mod tests {
    use super::super::msg::number;
    use super::*;

    /// MD5 of "abc" (RFC 1321, A.5), however it is cut in three.
    #[test]
    fn a_digest_is_of_both_nonces_and_the_password() {
        assert_eq!(digest("a", "b", "c"), "900150983cd24fb0d6963f7d28e17f72");
    }

    #[test]
    fn an_address_is_the_same_number_as_in_results() {
        let contact = Some(of_address("192.0.2.9:6699".parse().unwrap()));
        let user = NapsterLinkMsg::User { nick: "ada".into(), contact, link: 3, server: "one".into() };
        assert_eq!(user.text(), (2, "ada none 6699 \"p2p\" 3 unknown 0 151126208 one 0".into()));
        assert_eq!(number(Ipv4Addr::new(192, 0, 2, 9)), 151_126_208);
    }
}
