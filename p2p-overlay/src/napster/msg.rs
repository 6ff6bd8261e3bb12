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
mod tests {
    use super::*;

    fn from() -> SocketAddr {
        "192.0.2.9:5000".parse().unwrap()
    }

    /// The lines are the specification's own examples.
    fn check(kind: u16, text: &str, msg: NapsterMsg) {
        let frame = [&(text.len() as u16).to_le_bytes(), &kind.to_le_bytes(), text.as_bytes()].concat();
        let decoded = NapsterMsg::decode(&mut BytesMut::from(&frame[..]), from());
        assert_eq!(decoded, Ok(Some(msg.clone())), "decoded");
        let mut out = BytesMut::new();
        msg.encode(&mut out);
        assert_eq!(out, frame, "encoded");
        for cut in 0..frame.len() {
            assert_eq!(NapsterMsg::decode(&mut BytesMut::from(&frame[..cut]), from()), Ok(None));
        }
    }

    fn song(name: &str, checksum: &str, size: u64, seconds: u32) -> NapsterFile {
        NapsterFile { name: name.into(), checksum: checksum.into(), size, music: [128, 44_100, seconds] }
    }

    #[test]
    fn lines_are_the_specifications() {
        let contact = Some(of_address("192.0.2.9:6699".parse().unwrap()));
        let (nick, password) = ("foo".to_owned(), "badpass".to_owned());
        let login = NapsterMsg::Login { nick, password, contact, info: "nap v0.8".into(), link: 3 };
        check(2, "foo badpass 6699 \"nap v0.8\" 3", login);
        let line = "\"generic band - generic song.mp3\" b92870e0d41bc8e698cf2f0a1ddfeac7 443332 128 44100 60";
        let shared = song("generic band - generic song.mp3", "b92870e0d41bc8e698cf2f0a1ddfeac7", 443_332, 60);
        check(100, line, NapsterMsg::Share(shared));
        let line = "\"random band - random song.mp3\" 7d733c1e7419674744768db71bff8bcd 2558199 128 44100 159 \
            lefty 3437166285 4";
        let file = song("random band - random song.mp3", "7d733c1e7419674744768db71bff8bcd", 2_558_199, 159);
        let ip = Ipv4Addr::from(3_437_166_285u32.to_le_bytes());
        check(201, line, NapsterMsg::Result { file, nick: "lefty".into(), ip, link: 4 });
        let name = "C:\\Program Files\\Napster\\generic cowboy song.mp3".to_owned();
        let line = "mred \"C:\\Program Files\\Napster\\generic cowboy song.mp3\"";
        check(203, line, NapsterMsg::Download { nick: "mred".into(), name });
        check(202, "", NapsterMsg::EndOfResults);
        check(205, "ada what a day", NapsterMsg::Private { nick: "ada".into(), text: "what a day".into() });
    }

    #[test]
    fn an_address_has_its_first_octet_lowest() {
        let contact = of_address("192.0.2.9:6699".parse().unwrap());
        let (nick, name) = ("lefty".to_owned(), "a song.mp3".to_owned());
        let ack = NapsterMsg::DownloadAck { nick, contact, name, checksum: "10fe".into(), link: 3 };
        // 192 + 0 * 256 + 2 * 65536 + 9 * 16777216.
        check(204, "lefty 151126208 6699 \"a song.mp3\" 10fe 3", ack);
    }

    /// The fields are those that OpenNap's servers print and split.
    #[test]
    fn what_servers_say_to_each_other_is_read_as_they_write_it() {
        let id = *b"ABCDEFGH";
        let contact = Some(of_address("192.0.2.9:6699".parse().unwrap()));
        let (nick, name) = ("ada".to_owned(), "one".to_owned());
        let lines = [
            (10_010, "one nonce 0", NapsterLinkMsg::Login { name: name.clone(), nonce: "nonce".into() }),
            (10_011, "00ff", NapsterLinkMsg::Ack { digest: "00ff".into() }),
            (
                2,
                "ada none 6699 \"p2p\" 3 unknown 0 151126208 one 0",
                NapsterLinkMsg::User { nick: nick.clone(), contact, link: 3, server: name.clone() },
            ),
            (10_000, "ada", NapsterLinkMsg::Quit { nick: nick.clone() }),
            (
                10_019,
                "two 0 one 0 2",
                NapsterLinkMsg::Server { name: name.clone(), to: "two".into(), hops: 2 },
            ),
            (10_101, ":two one \"\"", NapsterLinkMsg::Gone { name, from: "two".into() }),
            (
                10_015,
                "ada ABCDEFGH FILENAME CONTAINS \"blue monday\" MAX_RESULTS 9",
                NapsterLinkMsg::Search { nick: nick.clone(), id, words: "blue monday".into(), most: 9 },
            ),
            (
                10_016,
                "ABCDEFGH ada \"a song.mp3\" 10fe 7 128 44100 60",
                NapsterLinkMsg::Result { id, nick: nick.clone(), file: song("a song.mp3", "10fe", 7, 60) },
            ),
            (10_017, "ABCDEFGH", NapsterLinkMsg::End { id }),
            (
                205,
                ":bob ada what a day",
                NapsterLinkMsg::Private { from: "bob".into(), nick: nick.clone(), text: "what a day".into() },
            ),
            (
                500,
                ":bob ada \"a song.mp3\"",
                NapsterLinkMsg::Push { from: "bob".into(), nick, name: "a song.mp3".into() },
            ),
        ];
        for (kind, line, msg) in lines {
            check(kind, line, NapsterMsg::Link(msg));
        }
    }

    #[test]
    fn a_search_is_read_in_any_order() {
        let read = |text: &str| {
            let mut frame = BytesMut::new();
            frame.put_u16_le(text.len() as u16);
            frame.put_u16_le(200);
            frame.put_slice(text.as_bytes());
            NapsterMsg::decode(&mut frame, from()).unwrap().unwrap()
        };
        let asked =
            |words: &str, most, local_only| NapsterMsg::Search { words: words.into(), most, local_only };
        let line = "FILENAME CONTAINS \"Sneaker Pimps\" MAX_RESULTS 75 FILENAME CONTAINS \"tesko suicide\" \
            BITRATE \"AT LEAST\" \"128\"";
        assert_eq!(read(line), asked("Sneaker Pimps tesko suicide", 75, false));
        let line = "MAX_RESULTS 100 FILENAME CONTAINS \"Ventolin\" LINESPEED \"EQUAL TO\" 10 LOCAL_ONLY";
        assert_eq!(read(line), asked("Ventolin", 100, true));
    }

    #[test]
    fn what_nobody_has_to_know_is_passed_over_and_what_is_wrong_is_refused() {
        let frame = |kind: u16, text: &str| {
            [&[text.len() as u8, 0][..], &kind.to_le_bytes(), text.as_bytes()].concat()
        };
        let both = [frame(600, "ada"), frame(202, "")].concat();
        assert_eq!(
            NapsterMsg::decode(&mut BytesMut::from(&both[..]), from()),
            Ok(Some(NapsterMsg::EndOfResults))
        );
        for wrong in [frame(2, "foo bar"), frame(100, "\"name"), frame(201, "\"a\" b 1 2 3 4 nick x 5")] {
            assert!(NapsterMsg::decode(&mut BytesMut::from(&wrong[..]), from()).is_err());
        }
        assert!(NapsterMsg::decode(&mut BytesMut::from(&[1, 8, 0, 0][..]), from()).is_err(), "2,049 bytes");
    }

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_frame_is_survived(kind in prop_oneof![0u16..700, 10_000u16..10_110], text in "[a-z0-9\" ]{0,80}") {
            let mut input = BytesMut::new();
            input.put_u16_le(text.len() as u16);
            input.put_u16_le(kind);
            input.put_slice(text.as_bytes());
            if let Ok(Some(msg)) = NapsterMsg::decode(&mut input, from()) {
                let mut again = BytesMut::new();
                msg.encode(&mut again);
                prop_assert!(again.len() >= 4);
            }
        }
    }
}
