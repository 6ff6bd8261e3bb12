//! Magnet links (BEP 9, with BEP 52's `btmh` and BEP 53's `so`): a torrent by its info-hash alone.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD_NOCASE, HEXLOWER, HEXLOWER_PERMISSIVE};

use super::metainfo::{InfoHashes, Metainfo};

/// The longest link, in bytes. 64 KiB.
pub const MAX_MAGNET: usize = 64 << 10;
/// Of trackers, web seeds, peers and ranges of files each so many are taken; the rest are passed over. 256.
const MAX_EACH: usize = 256;

/// A magnet link.
///
/// ```
/// use p2p_swarm::torrent::Magnet;
///
/// let text = "magnet:?xt=urn:btih:c0fda1edafdbdbb96443424e0b3899af7159d10e&dn=a%20song&x.pe=192.0.2.1:6881&so=0,2-4";
/// let magnet: Magnet = text.parse().unwrap();
/// assert_eq!(magnet.name.as_deref(), Some("a song"));
/// assert!(magnet.selects(3) && !magnet.selects(1));
/// assert_eq!(magnet.to_string(), text);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Magnet {
    /// The info-hashes: one, or both of a hybrid.
    pub hashes: InfoHashes,
    /// What to call it until its metadata is there.
    pub name: Option<String>,
    /// Trackers.
    pub trackers: Vec<String>,
    /// Where its content lies on the web (`ws`, as the clients that know web seeds have it).
    pub web_seeds: Vec<String>,
    /// Peers (`x.pe`): host and port.
    pub peers: Vec<String>,
    /// Which files are wanted (`so`, BEP 53); all, if none are named.
    pub select: Vec<RangeInclusive<u32>>,
}

/// Why a text is no magnet link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseMagnetError {
    /// Something else.
    #[error("expected a link that begins with magnet:? and has at most {MAX_MAGNET} bytes")]
    NotMagnet,
    /// No info-hash.
    #[error(
        "expected xt=urn:btih: with 40 hexadecimal or 32 base32 digits, or xt=urn:btmh:1220 with 64 hexadecimal"
    )]
    Hash,
    /// Two hashes of one kind.
    #[error("expected one info-hash of each kind: the link has two, and they differ")]
    Ambiguous,
    /// What `so` says is no list of files.
    #[error("expected numbers and ranges in so=, such as 0,2,4-6")]
    Select,
    /// A `%` that no two hexadecimal digits follow, or bytes that are not UTF-8.
    #[error("expected % and two hexadecimal digits, and UTF-8")]
    Escape,
}

impl Magnet {
    /// Whether a file, by its number, is wanted.
    pub fn selects(&self, file: u32) -> bool {
        self.select.is_empty() || self.select.iter().any(|range| range.contains(&file))
    }
}

impl From<&Metainfo> for Magnet {
    fn from(metainfo: &Metainfo) -> Magnet {
        Magnet {
            hashes: metainfo.info().hashes(),
            name: Some(metainfo.info().name().into()),
            trackers: metainfo.trackers.iter().flatten().cloned().collect(),
            web_seeds: metainfo.web_seeds.clone(),
            peers: Vec::new(),
            select: Vec::new(),
        }
    }
}

fn unescape(text: &str) -> Result<String, ParseMagnetError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>().ok_or(ParseMagnetError::Escape)?;
                let byte = HEXLOWER_PERMISSIVE.decode(digits).map_err(|_| ParseMagnetError::Escape)?;
                bytes.extend(byte);
                rest = after;
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| ParseMagnetError::Escape)
}

/// What may stand in a parameter as it is.
fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' => {
                out.push(byte.into());
            }
            byte => {
                out.push('%');
                out.push_str(&data_encoding::HEXUPPER.encode(&[byte]));
            }
        }
    }
}

/// A hash that is there once, or twice the same.
fn put<const N: usize>(place: &mut Option<[u8; N]>, hash: &[u8]) -> Result<(), ParseMagnetError> {
    let hash: [u8; N] = hash.try_into().map_err(|_| ParseMagnetError::Hash)?;
    match place.replace(hash) {
        Some(other) if other != hash => Err(ParseMagnetError::Ambiguous),
        _ => Ok(()),
    }
}

fn ranges(text: &str) -> Option<Vec<RangeInclusive<u32>>> {
    let range = |part: &str| match part.split_once('-') {
        Some((from, to)) => Some(from.parse().ok()?..=to.parse().ok()?),
        None => part.parse().ok().map(|one: u32| one..=one),
    };
    let ranges: Option<Vec<RangeInclusive<u32>>> = text.split(',').take(MAX_EACH).map(range).collect();
    ranges.filter(|ranges| ranges.iter().all(|range| !range.is_empty()))
}

impl FromStr for Magnet {
    type Err = ParseMagnetError;

    fn from_str(text: &str) -> Result<Magnet, ParseMagnetError> {
        let scheme = text.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:?"));
        if !scheme || text.len() > MAX_MAGNET {
            return Err(ParseMagnetError::NotMagnet);
        }
        let mut magnet = Magnet {
            hashes: InfoHashes { v1: None, v2: None },
            name: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            select: Vec::new(),
        };
        for parameter in text[8..].split('&') {
            let Some((key, value)) = parameter.split_once('=') else { continue };
            let value = unescape(value)?;
            // Several of a kind may be numbered: `xt.1`.
            let numbered = key.rsplit_once('.').filter(|(_, number)| number.parse::<u32>().is_ok());
            match numbered.map_or(key, |(key, _)| key) {
                "xt" => {
                    if let Some(hash) = value.strip_prefix("urn:btih:") {
                        let bytes = match hash.len() {
                            40 => HEXLOWER_PERMISSIVE.decode(hash.as_bytes()),
                            _ => BASE32_NOPAD_NOCASE.decode(hash.as_bytes()),
                        };
                        put(&mut magnet.hashes.v1, &bytes.map_err(|_| ParseMagnetError::Hash)?)?;
                    } else if let Some(hash) = value.strip_prefix("urn:btmh:") {
                        // A multihash: SHA-256 is 0x12, and 32 bytes long.
                        let bytes = HEXLOWER_PERMISSIVE.decode(hash.as_bytes());
                        let bytes = bytes.map_err(|_| ParseMagnetError::Hash)?;
                        let hash = bytes.strip_prefix(&[0x12, 0x20]).ok_or(ParseMagnetError::Hash)?;
                        put(&mut magnet.hashes.v2, hash)?;
                    }
                }
                "dn" => magnet.name = Some(value),
                "tr" if magnet.trackers.len() < MAX_EACH => magnet.trackers.push(value),
                "ws" if magnet.web_seeds.len() < MAX_EACH => magnet.web_seeds.push(value),
                "x.pe" if magnet.peers.len() < MAX_EACH => magnet.peers.push(value),
                "so" => magnet.select = ranges(&value).ok_or(ParseMagnetError::Select)?,
                _ => {}
            }
        }
        match magnet.hashes {
            InfoHashes { v1: None, v2: None } => Err(ParseMagnetError::Hash),
            _ => Ok(magnet),
        }
    }
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::from("magnet:?");
        if let Some(v1) = self.hashes.v1 {
            out.push_str(&format!("xt=urn:btih:{}&", HEXLOWER.encode(&v1)));
        }
        if let Some(v2) = self.hashes.v2 {
            out.push_str(&format!("xt=urn:btmh:1220{}&", HEXLOWER.encode(&v2)));
        }
        let named = self.name.iter().map(|name| ("dn", name));
        let trackers = self.trackers.iter().map(|tracker| ("tr", tracker));
        let web_seeds = self.web_seeds.iter().map(|url| ("ws", url));
        let peers = self.peers.iter().map(|peer| ("x.pe", peer));
        for (key, value) in named.chain(trackers).chain(web_seeds).chain(peers) {
            out.push_str(key);
            out.push('=');
            escape(value, &mut out);
            out.push('&');
        }
        let select = self.select.iter().map(|range| match range.start() == range.end() {
            true => range.start().to_string(),
            false => format!("{}-{}", range.start(), range.end()),
        });
        if !self.select.is_empty() {
            out.push_str(&format!("so={}&", select.collect::<Vec<_>>().join(",")));
        }
        f.write_str(out.trim_end_matches('&'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V1: &str = "urn:btih:c0fda1edafdbdbb96443424e0b3899af7159d10e";
    const V2: &str = "urn:btmh:1220597b180c1a170a585dfc5e85d834d69013ceda174b8f357d5bb1a0ca509faf0a";

    fn parse(text: &str) -> Result<Magnet, ParseMagnetError> {
        text.parse()
    }

    #[test]
    fn both_hashes_of_a_hybrid_are_taken_and_base32_too() {
        let both = parse(&format!("magnet:?xt.1={V1}&xt.2={V2}")).unwrap().hashes;
        assert!(both.v1.is_some() && both.v2.is_some());
        let base32 = parse("MAGNET:?xt=urn:btih:YD62D3NP3PN3SZCDIJHAWOEZV5YVTUIO").unwrap();
        assert_eq!(base32.hashes, parse(&format!("magnet:?xt={V1}")).unwrap().hashes);
    }

    #[test]
    fn what_is_no_magnet_is_refused_with_a_reason() {
        let short = &V1[..40];
        for (text, why) in [
            ("http://example.org", ParseMagnetError::NotMagnet),
            ("magnet:?dn=song", ParseMagnetError::Hash),
            (&format!("magnet:?xt={short}"), ParseMagnetError::Hash),
            (&format!("magnet:?xt={}", V2.replace("1220", "1320")), ParseMagnetError::Hash),
            (&format!("magnet:?xt={V1}&xt={}", V1.replace('c', "d")), ParseMagnetError::Ambiguous),
            (&format!("magnet:?xt={V1}&so=4-2"), ParseMagnetError::Select),
            (&format!("magnet:?xt={V1}&so=1,,2"), ParseMagnetError::Select),
            (&format!("magnet:?xt={V1}&dn=%f"), ParseMagnetError::Escape),
            (&format!("magnet:?xt={V1}&dn=%ff"), ParseMagnetError::Escape),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
        assert!(
            parse(&format!("magnet:?xt={V1}&unknown=%20&lone&so=0")).is_ok(),
            "what is not known is passed over"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            v1 in any::<[u8; 20]>(), v2 in any::<Option<[u8; 32]>>(), name in any::<Option<String>>(),
            trackers in prop::collection::vec(any::<String>(), 0..3), from in 0u32..9, more in 0u32..9,
        ) {
            let hashes = InfoHashes { v1: Some(v1), v2 };
            let (web_seeds, peers) = (trackers.clone(), vec!["[2001:db8::1]:6881".into()]);
            let magnet = Magnet { hashes, name, trackers, web_seeds, peers, select: vec![from..=from + more] };
            prop_assert_eq!(parse(&magnet.to_string()), Ok(magnet));
        }
    }
}
