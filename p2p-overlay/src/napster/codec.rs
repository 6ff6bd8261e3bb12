//! Napster over TCP: frames between client and server; between clients a byte, a word and a line.

use bytes::{Buf, BufMut, BytesMut};
use p2p_core::foreign::{After, Codec, Malformed, TcpPeer};

use super::msg::{MAX_LINE, NapsterMsg};

/// One connection's.
#[derive(Debug)]
pub struct NapsterCodec {
    peer: TcpPeer,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Frames,
    /// A client was dialled by another: it says a 1, and the other what it wants.
    Asked,
    /// The file comes here, or goes: nothing that this codec knows.
    Data,
}

impl NapsterCodec {
    /// Of a server.
    pub fn server(peer: TcpPeer) -> NapsterCodec {
        NapsterCodec { peer, phase: Phase::Frames }
    }

    /// Of a client, who is dialled by other clients, and dials servers or, to send a file, clients.
    pub fn client(peer: TcpPeer) -> NapsterCodec {
        let phase = match peer {
            TcpPeer::Dialled { .. } => Phase::Frames,
            TcpPeer::Accepted { .. } => Phase::Asked,
        };
        NapsterCodec { peer, phase }
    }
}

impl Codec for NapsterCodec {
    type Msg = NapsterMsg;

    fn begin(&mut self, output: &mut BytesMut) {
        if self.phase == Phase::Asked {
            output.put_u8(b'1');
        }
    }

    fn decode(&mut self, input: &mut BytesMut, _: &mut BytesMut) -> Result<Option<NapsterMsg>, Malformed> {
        match self.phase {
            Phase::Frames => NapsterMsg::decode(input, self.peer.addr()),
            Phase::Asked => {
                let sent = sent(input)?;
                if sent.is_some() {
                    self.phase = Phase::Data;
                }
                Ok(sent)
            }
            // The other client's 1.
            Phase::Data if input[..] == *b"1" => {
                input.advance(1);
                Ok(None)
            }
            Phase::Data if input.is_empty() => Ok(None),
            Phase::Data => Err(Malformed("bytes where a file was sent".into())),
        }
    }

    fn encode(&mut self, msg: NapsterMsg, output: &mut BytesMut) -> After {
        match &msg {
            NapsterMsg::Send { nick, name, size } => {
                output.put_slice(format!("SEND{nick} \"{name}\" {size}").as_bytes());
                self.phase = Phase::Data;
            }
            NapsterMsg::Error(_) => {
                msg.encode(output);
                return After::Close;
            }
            _ => msg.encode(output),
        }
        After::Open
    }
}

/// `SEND<nick> "<name>" <size>`. Nothing ends it but the end of what has come: the sender waits for an answer.
fn sent(input: &mut BytesMut) -> Result<Option<NapsterMsg>, Malformed> {
    let known = input.len().min(4);
    if input[..known] != b"SEND"[..known] || input.len() > MAX_LINE {
        return Err(Malformed("expected SEND, a nick, a name and a size".into()));
    }
    let line = String::from_utf8_lossy(&input[known..]).into_owned();
    let mut parts = line.splitn(3, '"');
    let (Some(nick), Some(name), Some(size)) = (parts.next(), parts.next(), parts.next()) else {
        return Ok(None);
    };
    let Ok(size) = size.trim().parse() else { return Ok(None) };
    input.clear();
    Ok(Some(NapsterMsg::Send { nick: nick.trim().to_owned(), name: name.to_owned(), size }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_sent_after_a_one() {
        let addr = "192.0.2.1:5".parse().unwrap();
        let mut taker = NapsterCodec::client(TcpPeer::Accepted { addr, number: 1 });
        let mut giver = NapsterCodec::client(TcpPeer::Dialled { addr, number: 1 });
        let (mut there, mut back) = (BytesMut::new(), BytesMut::new());
        taker.begin(&mut back);
        giver.begin(&mut there);
        let send = NapsterMsg::Send { nick: "ada".into(), name: "a song.mp3".into(), size: 77 };
        giver.encode(send.clone(), &mut there);
        assert_eq!((&there[..], &back[..]), (&b"SENDada \"a song.mp3\" 77"[..], &b"1"[..]));
        assert_eq!(giver.decode(&mut back, &mut BytesMut::new()), Ok(None));
        let mut cut = BytesMut::from(&there[..10]);
        assert_eq!(taker.decode(&mut cut, &mut BytesMut::new()), Ok(None));
        assert_eq!(taker.decode(&mut there, &mut BytesMut::new()), Ok(Some(send)));
        assert!(taker.decode(&mut BytesMut::from(&b"x"[..]), &mut BytesMut::new()).is_err());
        let mut stranger = NapsterCodec::client(TcpPeer::Accepted { addr, number: 2 });
        assert!(stranger.decode(&mut BytesMut::from(&b"GET /"[..]), &mut BytesMut::new()).is_err());
    }
}
