//! The exchange that makes a connection an encrypted one, at both its ends.
//!
//! A is who connects, S the secret that both know after two messages, SKEY the swarm's name:
//!
//! 1. A: its public key, a pad
//! 2. B: its public key, a pad
//! 3. A: HASH(req1, S), HASH(req2, SKEY) xor HASH(req3, S); and encrypted: VC, what it can use, a pad, what it says first
//! 4. B: encrypted: VC, what is used, a pad
//!
//! VC is eight zeros. Nobody says how long the first two pads are: B looks for HASH(req1, S), A for VC, encrypted. Both
//! look no further than the longest pad reaches.

use bytes::{Buf, BufMut, BytesMut};
use p2p_core::foreign::Malformed;

use super::{Chance, Encryption, KEY, MAX_PAD, Mse, Number, Rc4, hash, method, public, shared};
use crate::torrent::metainfo::SwarmId;

const VC: usize = 8;
/// What A may say first, in bytes, before B has answered. 4 KiB: a handshake has 68.
const MAX_FIRST: usize = 4 << 10;

/// How a connection goes on: each direction has its cipher, unless it is not encrypted.
#[derive(Debug)]
pub(in super::super) struct Done {
    /// For what is sent, and for what comes.
    pub ciphers: Option<(Rc4, Rc4)>,
    /// So many bytes at the front of what has come are in the clear already.
    pub clear: usize,
}

fn malformed(what: &str) -> Malformed {
    Malformed(format!("an encrypted handshake: {what}"))
}

/// What has the key at the front of what has come.
fn take_key(input: &mut BytesMut) -> Option<[u8; KEY]> {
    let key = *input.first_chunk::<KEY>()?;
    input.advance(KEY);
    Some(key)
}

/// Drops a pad and what follows it, up to where `pattern` ends; `None` while it has not come.
fn skip_to(input: &mut BytesMut, pattern: &[u8]) -> Result<Option<()>, Malformed> {
    let reach = MAX_PAD + pattern.len();
    let seen = &input[..input.len().min(reach)];
    match seen.windows(pattern.len()).position(|window| window == pattern) {
        Some(at) => {
            input.advance(at + pattern.len());
            Ok(Some(()))
        }
        None if input.len() >= reach => Err(malformed("what should follow a pad does not come")),
        None => Ok(None),
    }
}

/// A's end.
#[derive(Debug)]
pub(in super::super) struct Initiating {
    swarm: SwarmId,
    private: Number,
    pub(super) provides: u32,
    /// What was said meanwhile.
    pub held: BytesMut,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// The other's key is to come,
    Key,
    /// VC,
    Vc {
        out: Rc4,
        into: Rc4,
    },
    /// what is used, and how long a pad,
    Choice {
        out: Rc4,
        into: Rc4,
    },
    /// the pad.
    Pad {
        out: Rc4,
        into: Rc4,
        chosen: u32,
        left: usize,
    },
    Over,
}

impl Initiating {
    /// Begins: the key goes to `output`.
    pub(in super::super) fn new(
        swarm: SwarmId,
        policy: Encryption,
        chance: &mut Chance,
        output: &mut BytesMut,
    ) -> Initiating {
        let private = chance.private();
        output.put_slice(&public(private));
        output.put_slice(&chance.pad());
        let provides = match policy {
            Encryption::Required => method::RC4,
            Encryption::Off | Encryption::Preferred => method::PLAIN | method::RC4,
        };
        Initiating { swarm, private, provides, held: BytesMut::new(), step: Step::Key }
    }

    /// Takes what has come; how to go on, when it is over.
    pub(in super::super) fn advance(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
        chance: &mut Chance,
    ) -> Result<Option<Done>, Malformed> {
        loop {
            self.step = match std::mem::replace(&mut self.step, Step::Over) {
                Step::Key => {
                    let Some(theirs) = take_key(input) else {
                        self.step = Step::Key;
                        return Ok(None);
                    };
                    let secret = shared(self.private, theirs);
                    let mut out = Rc4::new(b"keyA", &secret, &self.swarm);
                    let into = Rc4::new(b"keyB", &secret, &self.swarm);
                    output.put_slice(&hash([b"req1", &secret]));
                    let name = hash([b"req2", &self.swarm]).into_iter().zip(hash([b"req3", &secret]));
                    name.for_each(|(a, b)| output.put_u8(a ^ b));
                    let begin = output.len();
                    let pad = chance.pad();
                    let first = self.held.split_to(self.held.len().min(MAX_FIRST));
                    output.put_bytes(0, VC);
                    output.put_u32(self.provides);
                    output.put_u16(pad.len() as u16);
                    output.put_slice(&pad);
                    output.put_u16(first.len() as u16);
                    output.put_slice(&first);
                    out.apply(&mut output[begin..]);
                    Step::Vc { out, into }
                }
                Step::Vc { out, mut into } => {
                    let mut vc = [0; VC];
                    into.clone().apply(&mut vc);
                    if skip_to(input, &vc)?.is_none() {
                        self.step = Step::Vc { out, into };
                        return Ok(None);
                    }
                    into.apply(&mut vc);
                    Step::Choice { out, into }
                }
                Step::Choice { out, mut into } => {
                    let Some(choice) = input.first_chunk::<6>() else {
                        self.step = Step::Choice { out, into };
                        return Ok(None);
                    };
                    let mut choice = *choice;
                    input.advance(6);
                    into.apply(&mut choice);
                    let [a, b, c, d, high, low] = choice;
                    let chosen = u32::from_be_bytes([a, b, c, d]);
                    let left = usize::from(u16::from_be_bytes([high, low]));
                    if ![method::PLAIN, method::RC4].contains(&chosen) || chosen & self.provides == 0 {
                        return Err(malformed("a method was chosen that was not offered"));
                    }
                    if left > MAX_PAD {
                        return Err(malformed("a pad of more than 512 bytes"));
                    }
                    Step::Pad { out, into, chosen, left }
                }
                Step::Pad { mut out, mut into, chosen, left } => {
                    if input.len() < left {
                        self.step = Step::Pad { out, into, chosen, left };
                        return Ok(None);
                    }
                    into.apply(&mut input[..left]);
                    input.advance(left);
                    let begin = output.len();
                    output.put_slice(&self.held.split());
                    if chosen == method::PLAIN {
                        return Ok(Some(Done { ciphers: None, clear: 0 }));
                    }
                    out.apply(&mut output[begin..]);
                    return Ok(Some(Done { ciphers: Some((out, into)), clear: 0 }));
                }
                Step::Over => return Err(malformed("it is over")),
            };
        }
    }
}

/// B's end.
#[derive(Debug)]
pub(in super::super) struct Accepting {
    state: State,
}

#[derive(Debug)]
enum State {
    /// The other's key is to come,
    Key,
    /// HASH(req1, S),
    Req1 {
        secret: [u8; KEY],
    },
    /// the swarm's name,
    Name {
        secret: [u8; KEY],
    },
    /// VC, what the other can use, and how long a pad,
    Offer {
        out: Rc4,
        into: Rc4,
    },
    /// the pad, and the length of what is said first,
    Pad {
        out: Rc4,
        into: Rc4,
        chosen: u32,
        left: usize,
    },
    /// what is said first.
    First {
        out: Rc4,
        into: Rc4,
        chosen: u32,
        left: usize,
    },
    Over,
}

impl Accepting {
    pub(in super::super) fn new() -> Accepting {
        Accepting { state: State::Key }
    }

    /// Takes what has come; how to go on, when it is over.
    pub(in super::super) fn advance(
        &mut self,
        mse: &Mse,
        input: &mut BytesMut,
        output: &mut BytesMut,
        chance: &mut Chance,
    ) -> Result<Option<Done>, Malformed> {
        loop {
            self.state = match std::mem::replace(&mut self.state, State::Over) {
                State::Key => {
                    let Some(theirs) = take_key(input) else {
                        self.state = State::Key;
                        return Ok(None);
                    };
                    let private = chance.private();
                    output.put_slice(&public(private));
                    output.put_slice(&chance.pad());
                    State::Req1 { secret: shared(private, theirs) }
                }
                State::Req1 { secret } => {
                    if skip_to(input, &hash([b"req1", &secret]))?.is_none() {
                        self.state = State::Req1 { secret };
                        return Ok(None);
                    }
                    State::Name { secret }
                }
                State::Name { secret } => {
                    let Some(said) = input.first_chunk::<20>() else {
                        self.state = State::Name { secret };
                        return Ok(None);
                    };
                    let req3 = hash([b"req3", &secret]);
                    let name: [u8; 20] = std::array::from_fn(|i| said[i] ^ req3[i]);
                    input.advance(20);
                    let swarm = mse.swarm(&name).ok_or_else(|| malformed("a swarm that is not here"))?;
                    let (out, into) =
                        (Rc4::new(b"keyB", &secret, &swarm), Rc4::new(b"keyA", &secret, &swarm));
                    State::Offer { out, into }
                }
                State::Offer { out, mut into } => {
                    let Some(offer) = input.first_chunk::<14>() else {
                        self.state = State::Offer { out, into };
                        return Ok(None);
                    };
                    let mut offer = *offer;
                    input.advance(14);
                    into.apply(&mut offer);
                    let [vc @ .., a, b, c, d, high, low] = offer;
                    let offered = u32::from_be_bytes([a, b, c, d]);
                    let left = usize::from(u16::from_be_bytes([high, low]));
                    if vc != [0; VC] || left > MAX_PAD {
                        return Err(malformed("what follows the swarm's name is not eight zeros and a pad"));
                    }
                    let chosen = match mse.policy {
                        _ if offered & method::RC4 != 0 => method::RC4,
                        Encryption::Preferred if offered & method::PLAIN != 0 => method::PLAIN,
                        _ => return Err(malformed("no method that is offered may be used")),
                    };
                    State::Pad { out, into, chosen, left }
                }
                State::Pad { out, mut into, chosen, left } => {
                    if input.len() < left + 2 {
                        self.state = State::Pad { out, into, chosen, left };
                        return Ok(None);
                    }
                    into.apply(&mut input[..left + 2]);
                    input.advance(left);
                    let left = usize::from(input.get_u16());
                    if left > MAX_FIRST {
                        return Err(malformed("too much is said before the answer"));
                    }
                    State::First { out, into, chosen, left }
                }
                State::First { mut out, mut into, chosen, left } => {
                    if input.len() < left {
                        self.state = State::First { out, into, chosen, left };
                        return Ok(None);
                    }
                    into.apply(&mut input[..left]);
                    let begin = output.len();
                    let pad = chance.pad();
                    output.put_bytes(0, VC);
                    output.put_u32(chosen);
                    output.put_u16(pad.len() as u16);
                    output.put_slice(&pad);
                    out.apply(&mut output[begin..]);
                    let ciphers = (chosen == method::RC4).then_some((out, into));
                    return Ok(Some(Done { ciphers, clear: left }));
                }
                State::Over => return Err(malformed("it is over")),
            };
        }
    }
}
