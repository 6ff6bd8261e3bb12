//! Where a tracker is, or a web seed.

use std::fmt;
use std::str::FromStr;

/// The longest URL that is taken, in bytes. 2 KiB.
const MAX_URL: usize = 2 << 10;

/// A text that is no URL which can be asked: it begins so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected http://HOST/…, https://HOST/… or, of a tracker, udp://HOST:PORT, not {0:?}")]
pub struct ParseUrlError(pub String);

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// HTTP (BEP 3).
    Http,
    /// HTTP over TLS.
    Https,
    /// UDP (BEP 15): trackers alone are.
    Udp,
}

/// The address of a tracker or a web seed, as torrents and links have it.
///
/// ```
/// use p2p_swarm::torrent::Url;
///
/// let url: Url = "http://tracker.example/x/announce?key=1".parse().unwrap();
/// assert_eq!((url.host.as_str(), url.port), ("tracker.example", 80));
/// assert_eq!(url.scrape().unwrap().to_string(), "http://tracker.example:80/x/scrape?key=1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// The host: a name, or an address, of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path, and what follows it: empty, or from the first `/` on.
    pub path: String,
}

impl Url {
    /// Where a tracker tells about swarms: BEP 48 has it where the last part of the path begins with `announce`.
    pub fn scrape(&self) -> Option<Url> {
        let path = match self.scheme {
            Scheme::Udp => self.path.clone(),
            Scheme::Http | Scheme::Https => {
                let end = self.path.find('?').unwrap_or(self.path.len());
                let last = self.path[..end].rfind('/')? + 1;
                let rest = self.path[last..].strip_prefix("announce")?;
                format!("{}scrape{rest}", &self.path[..last])
            }
        };
        Some(Url { path, ..self.clone() })
    }

    /// What is asked for, as a request of HTTP has it.
    pub(super) fn target(&self) -> String {
        match self.path.is_empty() {
            true => "/".into(),
            false => self.path.clone(),
        }
    }

    /// Where this one sends a client, which may be said in full, or by what differs (RFC 3986, section 5.2).
    pub(super) fn join(&self, location: &str) -> Result<Url, ParseUrlError> {
        if location.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':')) {
            return location.parse();
        }
        let location = location.split('#').next().unwrap_or_default();
        if location.starts_with("//") {
            return format!("{}:{location}", self.scheme.name()).parse();
        }
        let (path, _) = self.path.split_at(self.path.find('?').unwrap_or(self.path.len()));
        let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
        let (to, query) = location.split_at(location.find('?').unwrap_or(location.len()));
        let path = match (to.is_empty(), to.starts_with('/')) {
            // The same, but for what follows the path.
            (true, _) if query.is_empty() => self.path.clone(),
            (true, _) => format!("{path}{query}"),
            (false, true) => format!("{}{query}", without_dots(to)),
            (false, false) => format!("{}{query}", without_dots(&format!("{folder}{to}"))),
        };
        format!("{}{path}", Url { path: String::new(), ..self.clone() }).parse()
    }

    /// The host and port, as they stand in a URL.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl Scheme {
    /// As it stands in a URL.
    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Udp => "udp",
        }
    }
}

/// A path from the root without `.` and `..` (RFC 3986, section 5.2.4).
fn without_dots(path: &str) -> String {
    let (mut parts, mut ends_open) = (Vec::new(), false);
    for part in path.split('/').skip(1) {
        ends_open = matches!(part, "." | "..");
        match part {
            "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    let end = if ends_open && !parts.is_empty() { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

impl FromStr for Url {
    type Err = ParseUrlError;

    fn from_str(text: &str) -> Result<Url, ParseUrlError> {
        let wrong = || ParseUrlError(text.chars().take(100).collect());
        // What is not printed could end a line of HTTP, and begin another.
        if text.len() > MAX_URL || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong());
        }
        let (name, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (scheme, default) = match name.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, Some(80)),
            "https" => (Scheme::Https, Some(443)),
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
        Ok(Url {
            scheme,
            host: Some(host).filter(|_| named).ok_or_else(wrong)?.into(),
            port: port.ok_or_else(wrong)?,
            path,
        })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority(), self.path)
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
            ("https://tracker.example/x", "tracker.example", 443, "/x"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port, url.path.as_str()), (host, port, path), "{text}");
            assert_eq!(url.to_string().parse(), Ok(url), "{text}");
        }
    }

    #[test]
    fn what_is_no_tracker_is_refused() {
        for text in [
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
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
        assert!(format!("http://a/{}", "x".repeat(MAX_URL)).parse::<Url>().is_err());
    }

    #[test]
    fn a_client_may_be_sent_to_another_path_or_another_host() {
        // RFC 3986, section 5.4.
        let here: Url = "http://a:81/b/c/d;p?q".parse().unwrap();
        for (location, there) in [
            ("http://b/", "http://b:80/"),
            ("//g/x", "http://g:80/x"),
            ("/g?y", "http://a:81/g?y"),
            ("g", "http://a:81/b/c/g"),
            ("./g", "http://a:81/b/c/g"),
            ("g/", "http://a:81/b/c/g/"),
            ("?y", "http://a:81/b/c/d;p?y"),
            ("g?y/../x", "http://a:81/b/c/g?y/../x"),
            ("g#s", "http://a:81/b/c/g"),
            ("#s", "http://a:81/b/c/d;p?q"),
            ("", "http://a:81/b/c/d;p?q"),
            (".", "http://a:81/b/c/"),
            ("..", "http://a:81/b/"),
            ("../g", "http://a:81/b/g"),
            ("../..", "http://a:81/"),
            ("../../../g", "http://a:81/g"),
            ("/./g/.", "http://a:81/g/"),
            ("/g;x=1/../y", "http://a:81/y"),
            ("g..", "http://a:81/b/c/g.."),
        ] {
            assert_eq!(here.join(location).unwrap().to_string(), there, "{location}");
        }
        let alone: Url = "https://a?x".parse().unwrap();
        assert_eq!(alone.join("g").unwrap().to_string(), "https://a:443/g");
        assert_eq!("https://a".parse::<Url>().unwrap().join("//b").unwrap().to_string(), "https://b:443");
        for location in ["ftp://b/", "mailto:x", "g h", "/\r\nx: y", "//"] {
            assert!(here.join(location).is_err(), "{location}");
        }
    }

    #[test]
    fn a_scrape_is_where_an_announce_is_or_nowhere() {
        let scrape = |text: &str| Some(text.parse::<Url>().unwrap().scrape()?.path);
        assert_eq!(scrape("http://a/announce.php?x=/y").as_deref(), Some("/scrape.php?x=/y"));
        assert_eq!(scrape("http://a/announce/x"), None);
        assert_eq!(scrape("http://a"), None);
        assert_eq!(scrape("udp://a:1").as_deref(), Some(""));
    }
}
