//! Napster's messages: a length and a number of 16 bits each, little-endian, and a line of text (OpenNap §2).
//!
//! What linked servers say to each other is in `link`. Fields are set apart by spaces, those that may have some themselves stand in quotation marks, which cannot be quoted
//! again: a name with one in it cannot be shared. Addresses are numbers, the first octet of IPv4 in the lowest byte.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::{Buf, BufMut, BytesMut};
use p2p_core::foreign::Malformed;
use p2p_core::{Contact, Wire};
use serde::{Deserialize, Serialize};

use super::link::{self, NapsterLinkMsg};
use crate::place::of_address;

/// The longest line of text, in bytes.
pub(super) const MAX_LINE: usize = 2048;

/// A file as it is shared (100).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NapsterFile {
    /// Its name.
    pub name: String,
    /// What it is known by: by tradition an MD5 of the first 300,032 bytes, in hexadecimal digits. Any word.
    pub checksum: String,
    /// Its bytes.
    pub size: u64,
    /// Kilobits a second, samples a second and seconds, of music.
    pub music: [u32; 3],
}

/// What clients and servers say to each other. Each with its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NapsterMsg {
    /// 0: from a server, to whoever is not let in: why.
    Error(String),
    /// 2: a client is there. Answered by [`NapsterMsg::LoginAck`] or [`NapsterMsg::Error`].
    Login {
        /// Its name.
        nick: String,
        /// Its password.
        password: String,
        /// Where others reach it; nowhere if it has to push. On the wire of TCP, the port alone.
        contact: Option<Contact>,
        /// The program.
        info: String,
        /// How fast its line is, 0 to 10.
        link: u8,
    },
    /// 3: it is let in.
    LoginAck {
        /// An address of electronic mail, or anything.
        email: String,
    },
    /// 100: a client shares a file.
    Share(NapsterFile),
    /// 102: and does so no longer.
    Unshare {
        /// The file.
        name: String,
    },
    /// 200: a client searches. Answered by [`NapsterMsg::Result`] as often as there are any, and
    /// [`NapsterMsg::EndOfResults`].
    Search {
        /// Words of the name.
        words: String,
        /// How many results it wants; no more than 100 come.
        most: u16,
        /// Whether linked servers are not to be asked.
        local_only: bool,
    },
    /// 201: a file that matches.
    Result {
        /// The file.
        file: NapsterFile,
        /// Who has it.
        nick: String,
        /// From where; only the number of the address, which nobody can connect to without a port.
        ip: Ipv4Addr,
        /// How fast that one's line is.
        link: u8,
    },
    /// 202: there are no more.
    EndOfResults,
    /// 203: a client wants a file, and can connect to who has it. Answered by [`NapsterMsg::DownloadAck`] or
    /// [`NapsterMsg::GetError`].
    Download {
        /// Who has it.
        nick: String,
        /// The file.
        name: String,
    },
    /// 204: where to get it.
    DownloadAck {
        /// Who has it.
        nick: String,
        /// Where that is; port 0 if it has to push.
        contact: Contact,
        /// The file.
        name: String,
        /// What it is known by.
        checksum: String,
        /// How fast the line is.
        link: u8,
    },
    /// 205: to a server for another client, and from it to that one.
    Private {
        /// To whom; from whom, when it arrives.
        nick: String,
        /// What.
        text: String,
    },
    /// 206: the file is not to be had.
    GetError {
        /// Who was said to have it.
        nick: String,
        /// The file.
        name: String,
    },
    /// 207: a client wants to know when somebody comes and goes. Answered by [`NapsterMsg::HotAck`] or
    /// [`NapsterMsg::HotError`].
    AddHot {
        /// Whom.
        nick: String,
    },
    /// 209: somebody on the hot list has come.
    SignOn {
        /// Who.
        nick: String,
        /// How fast the line is.
        link: u8,
    },
    /// 210: and gone.
    SignOff {
        /// Who.
        nick: String,
    },
    /// 301: somebody is on the hot list.
    HotAck {
        /// Who.
        nick: String,
    },
    /// 302: there is no room.
    HotError {
        /// For whom.
        nick: String,
    },
    /// 303: off the hot list.
    RemoveHot {
        /// Who.
        nick: String,
    },
    /// 500: as [`NapsterMsg::Download`], of somebody who accepts no connections.
    Push {
        /// Who has it.
        nick: String,
        /// The file.
        name: String,
    },
    /// 501: to who has it: connect to this one and send it.
    PushAck {
        /// Who wants it.
        nick: String,
        /// Where that is.
        contact: Contact,
        /// The file.
        name: String,
        /// What it is known by.
        checksum: String,
        /// How fast the line is.
        link: u8,
    },
    /// Between clients, on a connection of their own: the file that a push was for comes here.
    Send {
        /// Who sends it.
        nick: String,
        /// The file.
        name: String,
        /// Its bytes.
        size: u64,
    },
    /// Between servers.
    Link(NapsterLinkMsg),
}

impl Wire for NapsterMsg {
    const MAX_BYTES: usize = 2 * MAX_LINE;
}

/// A file's fields.
pub(super) fn file(file: &NapsterFile) -> String {
    let NapsterFile { name, checksum, size, music: [rate, frequency, seconds] } = file;
    format!("\"{name}\" {checksum} {size} {rate} {frequency} {seconds}")
}

/// An address as a number.
pub(super) fn number(ip: Ipv4Addr) -> u32 {
    u32::from_le_bytes(ip.octets())
}

pub(super) fn place(contact: &Contact) -> (u32, u16) {
    match contact.addr {
        SocketAddr::V4(addr) => (number(*addr.ip()), addr.port()),
        SocketAddr::V6(_) => (0, 0),
    }
}

impl NapsterMsg {
    /// Its number and its text; `None` of what is no message to a server or from one.
    fn text(&self) -> Option<(u16, String)> {
        Some(match self {
            NapsterMsg::Error(why) => (0, why.clone()),
            NapsterMsg::Login { nick, password, contact, info, link } => {
                let port = contact.map_or(0, |contact| contact.addr.port());
                (2, format!("{nick} {password} {port} \"{info}\" {link}"))
            }
            NapsterMsg::LoginAck { email } => (3, email.clone()),
            NapsterMsg::Share(shared) => (100, file(shared)),
            NapsterMsg::Unshare { name } => (102, format!("\"{name}\"")),
            NapsterMsg::Search { words, most, local_only } => {
                let local = if *local_only { " LOCAL_ONLY" } else { "" };
                (200, format!("FILENAME CONTAINS \"{words}\" MAX_RESULTS {most}{local}"))
            }
            NapsterMsg::Result { file: shared, nick, ip, link } => {
                (201, format!("{} {nick} {} {link}", file(shared), number(*ip)))
            }
            NapsterMsg::EndOfResults => (202, String::new()),
            NapsterMsg::Download { nick, name } => (203, format!("{nick} \"{name}\"")),
            NapsterMsg::DownloadAck { nick, contact, name, checksum, link } => {
                let (ip, port) = place(contact);
                (204, format!("{nick} {ip} {port} \"{name}\" {checksum} {link}"))
            }
            NapsterMsg::Private { nick, text } => (205, format!("{nick} {text}")),
            NapsterMsg::GetError { nick, name } => (206, format!("{nick} \"{name}\"")),
            NapsterMsg::AddHot { nick } => (207, nick.clone()),
            NapsterMsg::SignOn { nick, link } => (209, format!("{nick} {link}")),
            NapsterMsg::SignOff { nick } => (210, nick.clone()),
            NapsterMsg::HotAck { nick } => (301, nick.clone()),
            NapsterMsg::HotError { nick } => (302, nick.clone()),
            NapsterMsg::RemoveHot { nick } => (303, nick.clone()),
            NapsterMsg::Push { nick, name } => (500, format!("{nick} \"{name}\"")),
            NapsterMsg::PushAck { nick, contact, name, checksum, link } => {
                let (ip, port) = place(contact);
                (501, format!("{nick} {ip} {port} \"{name}\" {checksum} {link}"))
            }
            NapsterMsg::Link(msg) => msg.text(),
            NapsterMsg::Send { .. } => return None,
        })
    }

    /// Appends its frame; nothing if it has none, or is too long for one.
    pub fn encode(&self, out: &mut BytesMut) {
        let Some((kind, text)) = self.text().filter(|(_, text)| text.len() <= MAX_LINE) else { return };
        out.put_u16_le(text.len() as u16);
        out.put_u16_le(kind);
        out.put_slice(text.as_bytes());
    }

    /// Takes the next message from the front of the input; `None` while it is not all there. Numbers that nobody has to
    /// know are passed over. `from` is where the connection comes from: a login says the port alone.
    ///
    /// # Errors
    /// It is too long, or its text is not what its number says.
    pub fn decode(input: &mut BytesMut, from: SocketAddr) -> Result<Option<NapsterMsg>, Malformed> {
        loop {
            let Some(&[a, b, c, d]) = input.first_chunk::<4>() else { return Ok(None) };
            let (length, kind) = (usize::from(u16::from_le_bytes([a, b])), u16::from_le_bytes([c, d]));
            if length > MAX_LINE {
                return Err(Malformed(format!("a line of {length} bytes; at most {MAX_LINE} are taken in")));
            }
            if input.len() < 4 + length {
                return Ok(None);
            }
            input.advance(4);
            let text = String::from_utf8_lossy(&input.split_to(length)).into_owned();
            match message(kind, &text, from) {
                Read::Message(msg) => return Ok(Some(msg)),
                Read::Unknown => {}
                Read::Wrong => return Err(Malformed(format!("not the text of a message {kind}: {text:?}"))),
            }
        }
    }
}

enum Read {
    Message(NapsterMsg),
    Unknown,
    Wrong,
}

fn message(kind: u16, text: &str, from: SocketAddr) -> Read {
    if !KNOWN.contains(&kind) && !link::NUMBERS.contains(&kind) {
        return Read::Unknown;
    }
    let mut fields = Fields(text);
    match known(kind, text, &mut fields, from) {
        Some(msg) => Read::Message(msg),
        None => Read::Wrong,
    }
}

/// 208 is 207 from a client that has just come.
const KNOWN: [u16; 21] =
    [0, 2, 3, 100, 102, 200, 201, 202, 203, 204, 205, 206, 207, 208, 209, 210, 301, 302, 303, 500, 501];

fn known(kind: u16, text: &str, fields: &mut Fields<'_>, from: SocketAddr) -> Option<NapsterMsg> {
    Some(match kind {
        0 => NapsterMsg::Error(text.to_owned()),
        2 => {
            let (nick, password) = (fields.word()?, fields.word()?);
            let port = fields.number()?;
            let (info, link) = (fields.word()?, fields.number()?);
            if fields.has_two() {
                return NapsterLinkMsg::user(nick, port, link, fields).map(NapsterMsg::Link);
            }
            let contact = (port != 0).then(|| of_address(SocketAddr::new(from.ip(), port)));
            NapsterMsg::Login { nick, password, contact, info, link }
        }
        3 => NapsterMsg::LoginAck { email: text.to_owned() },
        100 => NapsterMsg::Share(fields.file()?),
        102 => NapsterMsg::Unshare { name: text.trim_matches('"').to_owned() },
        200 => {
            let (words, most, local_only) = fields.search()?;
            NapsterMsg::Search { words, most, local_only }
        }
        201 => {
            let (file, nick) = (fields.file()?, fields.word()?);
            let ip = Ipv4Addr::from(fields.number::<u32>()?.to_le_bytes());
            NapsterMsg::Result { file, nick, ip, link: fields.number()? }
        }
        202 => NapsterMsg::EndOfResults,
        203 => NapsterMsg::Download { nick: fields.word()?, name: fields.word()? },
        206 => NapsterMsg::GetError { nick: fields.word()?, name: fields.word()? },
        500 => match fields.sender() {
            None => NapsterMsg::Push { nick: fields.word()?, name: fields.word()? },
            Some(from) => {
                let (nick, name) = (fields.word()?, fields.word()?);
                NapsterMsg::Link(NapsterLinkMsg::Push { from, nick, name })
            }
        },
        204 | 501 => {
            let nick = fields.word()?;
            let ip = Ipv4Addr::from(fields.number::<u32>()?.to_le_bytes());
            let contact = of_address(SocketAddr::from((ip, fields.number::<u16>()?)));
            let (name, checksum, link) = (fields.word()?, fields.word()?, fields.number()?);
            match kind {
                204 => NapsterMsg::DownloadAck { nick, contact, name, checksum, link },
                _ => NapsterMsg::PushAck { nick, contact, name, checksum, link },
            }
        }
        205 => {
            let (from, nick) = (fields.sender(), fields.word()?);
            let text = fields.0.trim_start().to_owned();
            match from {
                None => NapsterMsg::Private { nick, text },
                Some(from) => NapsterMsg::Link(NapsterLinkMsg::Private { from, nick, text }),
            }
        }
        209 => NapsterMsg::SignOn { nick: fields.word()?, link: fields.number()? },
        207 | 208 => NapsterMsg::AddHot { nick: fields.word()? },
        210 => NapsterMsg::SignOff { nick: fields.word()? },
        301 => NapsterMsg::HotAck { nick: fields.word()? },
        302 => NapsterMsg::HotError { nick: fields.word()? },
        303 => NapsterMsg::RemoveHot { nick: fields.word()? },
        _ => NapsterMsg::Link(NapsterLinkMsg::read(kind, fields)?),
    })
}

/// What is left of a line.
pub(super) struct Fields<'a>(&'a str);

impl Fields<'_> {
    /// The next field; what stands in quotation marks is one.
    pub(super) fn word(&mut self) -> Option<String> {
        let line = self.0.trim_start_matches(' ');
        let (word, rest) = match line.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None if line.is_empty() => return None,
            None => line.split_once(' ').unwrap_or((line, "")),
        };
        self.0 = rest;
        Some(word.to_owned())
    }

    pub(super) fn number<N: std::str::FromStr>(&mut self) -> Option<N> {
        self.word()?.parse().ok()
    }

    pub(super) fn file(&mut self) -> Option<NapsterFile> {
        let (name, checksum) = (self.word()?, self.word()?);
        let size = self.number()?;
        Some(NapsterFile { name, checksum, size, music: [self.number()?, self.number()?, self.number()?] })
    }

    /// The name in front of what a server passes on for somebody.
    pub(super) fn sender(&mut self) -> Option<String> {
        let line = self.0.trim_start_matches(' ').strip_prefix(':')?;
        let (name, rest) = line.split_once(' ')?;
        self.0 = rest;
        Some(name.to_owned())
    }

    /// Whether two fields or more are left: clients may add one to a login, servers add five.
    fn has_two(&self) -> bool {
        let mut rest = Fields(self.0);
        rest.word().is_some() && rest.word().is_some()
    }

    /// `FILENAME CONTAINS "…" MAX_RESULTS n …`, in any order; what is asked of music is not. The words, how many results
    /// are wanted, and whether no other server is to be asked.
    pub(super) fn search(&mut self) -> Option<(String, u16, bool)> {
        let (mut words, mut most, mut local_only) = (String::new(), 100, false);
        while let Some(field) = self.word() {
            match &field[..] {
                "FILENAME" => {
                    self.word().filter(|contains| contains == "CONTAINS")?;
                    if !words.is_empty() {
                        words.push(' ');
                    }
                    words.push_str(&self.word()?);
                }
                "MAX_RESULTS" => most = self.number()?,
                "LOCAL_ONLY" => local_only = true,
                "LINESPEED" | "BITRATE" | "FREQ" => {
                    let _ = (self.word()?, self.word()?);
                }
                _ => {}
            }
        }
        Some((words, most, local_only))
    }
}

#[cfg(test)]
mod tests;
