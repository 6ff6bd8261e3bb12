//! Where a tracker is.

use std::fmt;
use std::str::FromStr;

use super::TrackerError;

/// The longest URL that is taken, in bytes. 2 KiB.
const MAX_URL: usize = 2 << 10;

/// How a tracker is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// HTTP (BEP 3).
    Http,
    /// UDP (BEP 15).
    Udp,
}

/// A tracker's address, as torrents and links have it.
///
/// ```
/// use p2p_swarm::torrent::tracker::TrackerUrl;
///
/// let url: TrackerUrl = "http://tracker.example/x/announce?key=1".parse().unwrap();
/// assert_eq!((url.host.as_str(), url.port), ("tracker.example", 80));
/// assert_eq!(url.scrape().unwrap().to_string(), "http://tracker.example:80/x/scrape?key=1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerUrl {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// The host: a name, or an address, of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, and what follows it: empty, or from the first `/` on.
    pub path: String,
}

impl TrackerUrl {
    /// Where it tells about swarms: BEP 48 has it where the last part of the path begins with `announce`.
    pub fn scrape(&self) -> Option<TrackerUrl> {
        let path = match self.scheme {
            Scheme::Udp => self.path.clone(),
            Scheme::Http => {
                let end = self.path.find('?').unwrap_or(self.path.len());
                let last = self.path[..end].rfind('/')? + 1;
                let rest = self.path[last..].strip_prefix("announce")?;
                format!("{}scrape{rest}", &self.path[..last])
            }
        };
        Some(TrackerUrl { path, ..self.clone() })
    }

    /// The host and port, as they stand in a URL.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for TrackerUrl {
    type Err = TrackerError;

    fn from_str(text: &str) -> Result<TrackerUrl, TrackerError> {
        let wrong = || TrackerError::Url(text.chars().take(100).collect());
        // What is not printed could end a line of HTTP, and begin another.
        if text.len() > MAX_URL || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong());
        }
        let (name, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (scheme, default) = match name.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, Some(80)),
            "udp" => (Scheme::Udp, None),
            _ => return Err(wrong()),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match authority.strip_prefix('[') {
            Some(six) => six.split_once(']').ok_or_else(wrong)?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0),
            None => default.filter(|_| port.is_empty()),
        };
        let named = !host.is_empty() && !host.contains(['@', '[', ']']);
        let path = match path.starts_with('?') {
            true => format!("/{path}"),
            false => path.into(),
        };
        Ok(TrackerUrl {
            scheme,
            host: Some(host).filter(|_| named).ok_or_else(wrong)?.into(),
            port: port.ok_or_else(wrong)?,
            path,
        })
    }
}

impl fmt::Display for TrackerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.scheme {
            Scheme::Http => "http",
            Scheme::Udp => "udp",
        };
        write!(f, "{name}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, host, port, path) in [
            ("udp://tracker.example:6969", "tracker.example", 6969, ""),
            ("UDP://192.0.2.1:1/announce", "192.0.2.1", 1, "/announce"),
            ("http://[2001:db8::1]:8080/a?b=c#d", "2001:db8::1", 8080, "/a?b=c"),
            ("http://tracker.example?x", "tracker.example", 80, "/?x"),
        ] {
            let url: TrackerUrl = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port, url.path.as_str()), (host, port, path), "{text}");
            assert_eq!(url.to_string().parse(), Ok(url), "{text}");
        }
    }

    #[test]
    fn what_is_no_tracker_is_refused() {
        for text in [
            "https://tracker.example/announce",
            "udp://tracker.example/announce",
            "http://:80/announce",
            "http://user@tracker.example/",
            "http://tracker.example:0/",
            "http://tracker.example:65536/",
            "http://[::1/",
            "http://[::1]x/",
            "http://a/ HTTP/1.1\r\nx: y",
            "tracker.example:80",
        ] {
            assert!(text.parse::<TrackerUrl>().is_err(), "{text}");
        }
        assert!(format!("http://a/{}", "x".repeat(MAX_URL)).parse::<TrackerUrl>().is_err());
    }

    #[test]
    fn a_scrape_is_where_an_announce_is_or_nowhere() {
        let scrape = |text: &str| Some(text.parse::<TrackerUrl>().unwrap().scrape()?.path);
        assert_eq!(scrape("http://a/announce.php?x=/y").as_deref(), Some("/scrape.php?x=/y"));
        assert_eq!(scrape("http://a/announce/x"), None);
        assert_eq!(scrape("http://a"), None);
        assert_eq!(scrape("udp://a:1").as_deref(), Some(""));
    }
}
