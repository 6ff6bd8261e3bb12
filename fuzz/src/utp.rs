//! Packets of uTP, and what they do to a connection.

use std::time::Duration;

use bytes::Bytes;
use p2p_core::Time;
use p2p_swarm::utp::{Connection, ConnectionConfig, Kind, Packet};

/// The first bytes are a packet. Then what follows is done to a connection that the fuzzer's packet has asked for, or that
/// this end has: time passes, something is written, or a packet comes whose numbers are near those that are expected. It
/// holds no more than it may, and what it sends is not endless.
pub fn utp(bytes: &[u8]) {
    if let Ok(packet) = Packet::decode(bytes) {
        let mut again = Vec::new();
        packet.encode(&mut again);
        assert_eq!(Packet::decode(&again), Ok(packet.clone()), "what is written is read");
    }
    let [dials, rest @ ..] = bytes else { return };
    let config = ConnectionConfig { packet: 60, receive_buffer: 500, send_buffer: 400 };
    let mut now = Time::ZERO;
    let numbers = |kind, seq, ack, payload: &[u8], selective: &[u8]| Packet {
        kind,
        connection: 7,
        timestamp: 1,
        difference: u32::from(ack) * 1000,
        window: u32::from(seq) * 100,
        seq,
        ack,
        selective: selective.to_vec(),
        payload: Bytes::copy_from_slice(payload),
    };
    let mut connection = match dials % 2 {
        0 => Connection::dial(config.clone(), 7, 10, now),
        _ => Connection::accept(config.clone(), &numbers(Kind::Syn, 10, 0, &[], &[]), 10, now),
    };
    let kinds = [Kind::Data, Kind::Fin, Kind::State, Kind::Reset, Kind::Syn];
    for op in rest.chunks_exact(4) {
        let &[what, seq, ack, more] = op else { continue };
        match what % 8 {
            kind @ 0..=4 => {
                let selective: &[u8] = if more % 2 == 0 { op } else { &[] };
                let payload = &[more; 255][..usize::from(more)];
                let packet = numbers(kinds[usize::from(kind)], seq.into(), ack.into(), payload, selective);
                connection.receive(packet, now);
            }
            5 => now += Duration::from_millis(u64::from(more) * u64::from(seq)),
            6 => _ = connection.write(Bytes::copy_from_slice(&[more; 255][..usize::from(ack)])),
            _ if more == 7 => connection.close(),
            _ => _ = connection.read(),
        }
        connection.tick(now);
        let sent = std::iter::from_fn(|| connection.transmit(now)).take(100).count();
        assert!(sent < 100, "it sends without end");
        let (unsent, unread) = connection.held();
        assert!(unsent <= config.send_buffer && unread <= config.receive_buffer + 255, "{unsent}, {unread}");
        let _ = connection.next();
    }
}
