//! What is said in the local network (BEP 14): HTTP in manner, in one packet.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use p2p_core::foreign::{Malformed, PacketCodec};

use crate::torrent::metainfo::SwarmId;

/// The group that is spoken to and listened in, by IPv4 (BEP 14).
pub const LSD_GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 192, 152, 143), 6771);
/// The swarms in one packet. 25: so it has at most 1,400 bytes (BEP 14).
pub const MAX_LSD_SWARMS: usize = 25;
/// The longest packet that is read, in bytes. 2 KiB: some make them longer than they should.
const MAX_PACKET: usize = 2 << 10;
/// The longest cookie that is read, in bytes. 128.
const MAX_COOKIE: usize = 128;

/// Somebody is in swarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LsdMsg {
    /// The port at which its client listens, at the address that the packet comes from.
    pub port: u16,
    /// The swarms.
    pub swarms: Vec<SwarmId>,
    /// What the sender knows its own packets by.
    pub cookie: Option<Vec<u8>>,
}

/// Packets of the local network.
///
/// ```
/// use p2p_core::foreign::PacketCodec;
/// use p2p_swarm::torrent::{LSD_GROUP, LsdCodec, LsdMsg};
///
/// let msg = LsdMsg { port: 6881, swarms: vec![[7; 20]], cookie: Some(b"x1".to_vec()) };
/// let mut packet = Vec::new();
/// LsdCodec.encode(LSD_GROUP.into(), msg.clone(), &mut packet);
/// assert!(packet.starts_with(b"BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\n"));
/// assert_eq!(LsdCodec.decode("192.0.2.1:6771".parse().unwrap(), &packet).unwrap(), msg);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LsdCodec;

fn malformed(what: &str) -> Malformed {
    Malformed(what.into())
}

impl PacketCodec for LsdCodec {
    type Msg = LsdMsg;

    /// What is not known is passed over, and swarms beyond those that fit a packet.
    fn decode(&mut self, _: SocketAddr, packet: &[u8]) -> Result<LsdMsg, Malformed> {
        if packet.len() > MAX_PACKET {
            return Err(malformed("a packet longer than 2 KiB"));
        }
        let text = std::str::from_utf8(packet).map_err(|_| malformed("a packet that is not text"))?;
        let mut lines = text.split("\r\n");
        if lines.next() != Some("BT-SEARCH * HTTP/1.1") {
            return Err(malformed("expected BT-SEARCH"));
        }
        let (mut port, mut swarms, mut cookie) = (None, Vec::new(), None);
        for (name, value) in lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':'))
        {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "port" => port = value.parse::<u16>().ok().filter(|port| *port != 0),
                "infohash" if swarms.len() < MAX_LSD_SWARMS => {
                    let hash = HEXLOWER_PERMISSIVE.decode(value.as_bytes()).ok();
                    let hash = hash.and_then(|hash| SwarmId::try_from(hash).ok());
                    swarms.push(
                        hash.ok_or_else(|| malformed("expected an info-hash of 40 hexadecimal digits"))?,
                    );
                }
                "cookie" if value.len() <= MAX_COOKIE => cookie = Some(value.into()),
                _ => {}
            }
        }
        match (port, swarms.is_empty()) {
            (Some(port), false) => Ok(LsdMsg { port, swarms, cookie }),
            (None, _) => Err(malformed("expected a port")),
            (_, true) => Err(malformed("expected an info-hash")),
        }
    }

    fn encode(&mut self, group: SocketAddr, msg: LsdMsg, packet: &mut Vec<u8>) {
        packet.extend_from_slice(
            format!("BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: {}\r\n", msg.port).as_bytes(),
        );
        for swarm in &msg.swarms {
            packet.extend_from_slice(format!("Infohash: {}\r\n", HEXLOWER.encode(swarm)).as_bytes());
        }
        if let Some(cookie) = &msg.cookie {
            packet.extend_from_slice(b"cookie: ");
            packet.extend_from_slice(cookie);
            packet.extend_from_slice(b"\r\n");
        }
        packet.extend_from_slice(b"\r\n\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(packet: &[u8]) -> Result<LsdMsg, Malformed> {
        LsdCodec.decode("192.0.2.1:6771".parse().unwrap(), packet)
    }

    #[test]
    fn a_full_packet_is_as_long_as_it_may_be() {
        let msg =
            LsdMsg { port: 65535, swarms: vec![[255; 20]; MAX_LSD_SWARMS], cookie: Some(vec![b'x'; 16]) };
        let mut packet = Vec::new();
        LsdCodec.encode(LSD_GROUP.into(), msg.clone(), &mut packet);
        assert!(packet.len() <= 1400 && packet.len() + 52 > 1400, "{}", packet.len());
        assert_eq!(read(&packet), Ok(msg));
    }

    #[test]
    fn other_programs_are_understood_and_strangers_are_not() {
        let hash = "ab".repeat(20);
        // As libtorrent and Transmission write it.
        for text in [
            format!(
                "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: {hash}\r\ncookie: 1a2b\r\n\r\n\r\n"
            ),
            format!(
                "BT-SEARCH * HTTP/1.1\r\nhost:x\r\nPORT:6881\r\nX-Other: y\r\nInfohash: {}\r\n\r\n",
                hash.to_uppercase()
            ),
        ] {
            let msg = read(text.as_bytes()).unwrap();
            assert_eq!((msg.port, msg.swarms), (6881, vec![[0xab; 20]]));
        }
        for text in [
            "M-SEARCH * HTTP/1.1\r\nPort: 1\r\n\r\n".to_owned(),
            format!("BT-SEARCH * HTTP/1.1\r\nInfohash: {hash}\r\n\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 0\r\nInfohash: {hash}\r\n\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 70000\r\nInfohash: {hash}\r\n\r\n"),
            "BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: abc\r\n\r\n".to_owned(),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n\r\nInfohash: {hash}\r\n"),
            format!("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\n{}", format!("Infohash: {hash}\r\n").repeat(40)),
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(read(b"BT-SEARCH * HTTP/1.1\r\n\xff").is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "(BT-SEARCH \\* HTTP/1\\.1\r\n)?(Port: [0-9]{1,6}\r\n|Infohash: [0-9a-f]{38,42}\r\n|cookie: .{0,9}\r\n){0,5}") {
            let _ = read(&bytes);
            if let Ok(msg) = read(text.as_bytes()) {
                let mut packet = Vec::new();
                LsdCodec.encode(LSD_GROUP.into(), msg.clone(), &mut packet);
                prop_assert_eq!(read(&packet).map(|again| (again.port, again.swarms)), Ok((msg.port, msg.swarms)));
            }
        }
    }
}
