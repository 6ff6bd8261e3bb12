//! What two servents tell each other before they are neighbours: headers as in HTTP.
//!
//! *Gnutella Protocol Development*, RFC-Gnutella 0.6 (Klingberg and Manfredi, 2002), §2.1; *Ultrapeers* (Singla and
//! Rohrs, 2002) §4; *Dynamic Query Protocol* (Fisk, 2003) §3. Names in capital or small letters alike; what is not known
//! is passed over, and what is known and senseless counts as not said.

use std::fmt::Write as _;
use std::net::SocketAddr;

use p2p_core::Contact;
use serde::{Deserialize, Serialize};

use crate::place::{is_somewhere, of_address};

/// How many ultrapeers are named at most.
pub(super) const TRIES: usize = 10;
/// Degrees that are believed.
const MOST_DEGREE: u16 = 200;
/// The versions of all extensions.
const VERSION: &str = "0.1";

/// What a servent says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Whether it is an ultrapeer (`X-Ultrapeer`); who does not say so knows of none.
    pub ultrapeer: Option<bool>,
    /// Whether whoever connects should be an ultrapeer too (`X-Ultrapeer-Needed`).
    pub needed: Option<bool>,
    /// It takes in query tables of leaves (`X-Query-Routing`),
    pub query_routing: bool,
    /// and of ultrapeers (`X-Ultrapeer-Query-Routing`).
    pub last_hop: bool,
    /// It asks its neighbours one after the other (`X-Dynamic-Querying`).
    pub dynamic: bool,
    /// How many ultrapeers it is connected to if it is one (`X-Degree`).
    pub degree: Option<u16>,
    /// The furthest that queries of its own, and its leaves', may be sent to it (`X-Max-TTL`).
    pub max_ttl: Option<u8>,
    /// Where others reach it (`Listen-IP`).
    pub listen: Option<Contact>,
    /// Other ultrapeers (`X-Try-Ultrapeers`); ten at most.
    pub tries: Vec<Contact>,
}

impl Hello {
    /// The lines that say this.
    pub(super) fn write(&self, out: &mut String) {
        let mut line = |name: &str, value: &str| {
            // A text takes in whatever is written to it.
            let _ = write!(out, "{name}: {value}\r\n");
        };
        let truth = |value: bool| if value { "True" } else { "False" };
        if let Some(ultrapeer) = self.ultrapeer {
            line("X-Ultrapeer", truth(ultrapeer));
        }
        if let Some(needed) = self.needed {
            line("X-Ultrapeer-Needed", truth(needed));
        }
        let versions = [
            (self.query_routing, "X-Query-Routing"),
            (self.last_hop, "X-Ultrapeer-Query-Routing"),
            (self.dynamic, "X-Dynamic-Querying"),
        ];
        for (_, name) in versions.into_iter().filter(|(said, _)| *said) {
            line(name, VERSION);
        }
        if let Some(degree) = self.degree {
            line("X-Degree", &degree.to_string());
        }
        if let Some(ttl) = self.max_ttl {
            line("X-Max-TTL", &ttl.to_string());
        }
        if let Some(listen) = self.listen {
            line("Listen-IP", &listen.addr.to_string());
        }
        if !self.tries.is_empty() {
            line("X-Try-Ultrapeers", &addresses(&self.tries));
        }
    }

    /// What lines say, after the first.
    pub(super) fn read(lines: &str) -> Hello {
        let mut hello = Hello::default();
        for line in lines.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            let truth = || match value.to_ascii_lowercase().as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            };
            // 0.0 would be no version of anything.
            let version = || value.starts_with(|c: char| c.is_ascii_digit()) && value != "0.0";
            match name.trim().to_ascii_lowercase().as_str() {
                "x-ultrapeer" => hello.ultrapeer = truth(),
                "x-ultrapeer-needed" => hello.needed = truth(),
                "x-query-routing" => hello.query_routing = version(),
                "x-ultrapeer-query-routing" => hello.last_hop = version(),
                "x-dynamic-querying" => hello.dynamic = version(),
                "x-degree" => hello.degree = value.parse().ok(),
                "x-max-ttl" => hello.max_ttl = value.parse().ok(),
                // gtk-gnutella's name for the same.
                "listen-ip" | "node" => hello.listen = value.parse().ok().map(of_address),
                "x-try-ultrapeers" => hello.tries = read_addresses(value),
                _ => {}
            }
        }
        hello.checked()
    }

    /// The same without what nobody can mean; it came from elsewhere.
    pub(super) fn checked(mut self) -> Hello {
        self.degree = self.degree.filter(|degree| (1..=MOST_DEGREE).contains(degree));
        self.max_ttl = self.max_ttl.filter(|ttl| *ttl > 0);
        self.listen = self.listen.filter(is_somewhere);
        self.tries.retain(is_somewhere);
        self.tries.truncate(TRIES);
        self
    }
}

/// Addresses, as `X-Try-Ultrapeers` has them.
pub(super) fn addresses(contacts: &[Contact]) -> String {
    let each: Vec<String> = contacts.iter().map(|contact| contact.addr.to_string()).collect();
    each.join(",")
}

/// And what such a text says; ten at most. Some programs add a time to each.
pub(super) fn read_addresses(text: &str) -> Vec<Contact> {
    let each = text.split(',').filter_map(|part| part.split_whitespace().next());
    let parsed = each.filter_map(|part| part.parse::<SocketAddr>().ok()).map(of_address);
    parsed.filter(is_somewhere).take(TRIES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(addr: &str) -> Contact {
        of_address(addr.parse().unwrap())
    }

    /// After the example of the dynamic query proposal, §3.
    #[test]
    fn headers_of_other_programs_are_read() {
        let hello = Hello::read(
            "User-Agent: LimeWire/3.4.4\r\nListen-IP:192.0.2.1:6346\r\nX-Query-Routing: 0.1\r\n\
             X-Max-TTL: 3\r\nX-Dynamic-Querying: 0.1\r\nx-ultrapeer: false\r\nX-Degree: 15\r\n\
             X-Ultrapeer-Query-Routing: 0.1\r\nX-Try-Ultrapeers: 192.0.2.2:6346, 192.0.2.3:6347 4711,x\r\n",
        );
        let wanted = Hello {
            ultrapeer: Some(false),
            needed: None,
            query_routing: true,
            last_hop: true,
            dynamic: true,
            degree: Some(15),
            max_ttl: Some(3),
            listen: Some(at("192.0.2.1:6346")),
            tries: vec![at("192.0.2.2:6346"), at("192.0.2.3:6347")],
        };
        assert_eq!(hello, wanted);
    }

    #[test]
    fn what_is_senseless_was_not_said() {
        let hello = Hello::read(
            "X-Ultrapeer: perhaps\r\nX-Degree: 65535\r\nX-Max-TTL: 0\r\nListen-IP: 0.0.0.0:0\r\n\
             X-Query-Routing: 0.0\r\nX-Dynamic-Querying: no\r\nX-Try-Ultrapeers: 255.255.255.255:1\r\n: x\r\nx",
        );
        assert_eq!(hello, Hello::default());
        let many: Vec<String> = (0..50).map(|port| format!("192.0.2.1:{}", port + 1)).collect();
        let hello = Hello::read(&format!("X-Try-Ultrapeers: {}", many.join(",")));
        assert_eq!(hello.tries.len(), TRIES);
    }

    proptest! {
        #[test]
        fn headers_are_read_as_they_were_written(
            truths in any::<(Option<bool>, Option<bool>, bool, bool, bool)>(),
            degree in prop::option::of(1u16..=200),
            max_ttl in prop::option::of(1u8..),
            ports in prop::collection::vec(1u16.., 0..=TRIES),
        ) {
            let (ultrapeer, needed, query_routing, last_hop, dynamic) = truths;
            let tries: Vec<Contact> = ports.iter().map(|port| at(&format!("192.0.2.9:{port}"))).collect();
            let listen = tries.first().copied();
            let hello =
                Hello { ultrapeer, needed, query_routing, last_hop, dynamic, degree, max_ttl, listen, tries };
            let mut text = String::new();
            hello.write(&mut text);
            prop_assert_eq!(Hello::read(&text), hello);
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,300}") {
            let hello = Hello::read(&text);
            prop_assert_eq!(hello.clone().checked(), hello);
        }
    }
}
