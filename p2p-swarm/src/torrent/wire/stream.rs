//! A connection's bytes before they are messages: in the clear, or encrypted once both ends have agreed on that.

use bytes::BytesMut;
use p2p_core::foreign::Malformed;

use super::super::mse::{Accepting, Chance, Done, Encryption, Initiating, Mse, Rc4};
use super::{PROTOCOL, malformed};

/// What becomes of a connection's bytes on their way.
#[derive(Debug, Default)]
pub(super) enum Stream {
    /// Nothing.
    #[default]
    Plain,
    /// That is not decided: one that this end makes is in the clear unless it is told otherwise before it says anything;
    /// of others their first bytes tell.
    Open { mse: Mse, chance: Chance, dialled: bool },
    /// Whether they are encrypted is being agreed on,
    Initiating { this: Box<Initiating>, chance: Chance },
    /// by the end that was dialled.
    Accepting { this: Box<Accepting>, mse: Mse, chance: Chance },
    /// They are encrypted; `clear` bytes at the front of what has come are not any more.
    Rc4 { out: Box<Rc4>, into: Box<Rc4>, clear: usize },
}

impl Stream {
    /// Takes part in an encrypted handshake, or decrypts what has come; `false` while it is not known what that is.
    pub(super) fn receive(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<bool, Malformed> {
        if let Stream::Open { mse, dialled: false, .. } = self {
            let known = input.len().min(PROTOCOL.len());
            let plain = input[..known] == PROTOCOL[..known];
            match (plain, mse.policy()) {
                (true, _) if known < PROTOCOL.len() => return Ok(false),
                (true, Encryption::Required) => return Err(malformed("expected an encrypted handshake")),
                (true, Encryption::Off | Encryption::Preferred) => *self = Stream::Plain,
                (false, Encryption::Off) => return Err(malformed("expected a BitTorrent handshake")),
                (false, Encryption::Preferred | Encryption::Required) => {
                    if let Stream::Open { mse, chance, .. } = std::mem::take(self) {
                        *self = Stream::Accepting { this: Box::new(Accepting::new()), mse, chance };
                    }
                }
            }
        }
        let done = match self {
            Stream::Initiating { this, chance } => this.advance(input, output, chance)?,
            Stream::Accepting { this, mse, chance } => this.advance(mse, input, output, chance)?,
            Stream::Rc4 { into, clear, .. } => {
                into.apply(&mut input[*clear..]);
                *clear = input.len();
                return Ok(true);
            }
            // Nobody answers who was not spoken to.
            Stream::Plain | Stream::Open { .. } => return Ok(true),
        };
        match done {
            None => Ok(false),
            Some(Done { ciphers: None, .. }) => {
                *self = Stream::Plain;
                Ok(true)
            }
            Some(Done { ciphers: Some((out, mut into)), clear }) => {
                into.apply(&mut input[clear..]);
                *self = Stream::Rc4 { out: out.into(), into: into.into(), clear: input.len() };
                Ok(true)
            }
        }
    }

    /// What is left of what has come is in the clear.
    pub(super) fn keep(&mut self, left: usize) {
        if let Stream::Rc4 { clear, .. } = self {
            *clear = left;
        }
    }
}
