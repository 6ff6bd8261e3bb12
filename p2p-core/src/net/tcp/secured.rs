//! A connection's bytes over TLS 1.3 (RFC 8446), for foreign protocols that need it: HTTPS.
//!
//! TLS is bytes in and bytes out, as a codec is: [`Secured`] is a codec around another one, and the drivers know nothing of
//! it. It is the client's end alone; our own nodes prove themselves by their keys, over QUIC.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::foreign::{After, Codec, Malformed, Securing};

/// Bytes that are decrypted at a time.
const CHUNK: usize = 16 << 10;

/// A codec, over TLS where the first message of a connection that this end makes names a server.
pub struct Secured<C> {
    inner: C,
    state: State,
}

enum State {
    /// Nothing was said yet.
    Open(Arc<rustls::ClientConfig>),
    Clear,
    Secured {
        tls: Box<ClientConnection>,
        /// What was decrypted, and not understood yet.
        plain: BytesMut,
    },
    /// There is nobody of such a name.
    Nobody,
}

impl<C> Secured<C> {
    /// A connection whose server must prove its name as this configuration wants it: by certificates that chain to its
    /// roots.
    pub fn new(inner: C, config: Arc<rustls::ClientConfig>) -> Secured<C> {
        Secured { inner, state: State::Open(config) }
    }
}

fn begin(config: Arc<rustls::ClientConfig>, name: &str) -> Option<State> {
    let name = ServerName::try_from(name.to_owned()).ok()?;
    let mut tls = ClientConnection::new(config, name).ok()?;
    // The driver bounds what waits to be sent.
    tls.set_buffer_limit(None);
    Some(State::Secured { tls: Box::new(tls), plain: BytesMut::new() })
}

/// Appends what TLS has to send.
fn flush(tls: &mut ClientConnection, output: &mut BytesMut) {
    let mut output = output.writer();
    // Writing to memory does not fail.
    while tls.wants_write() && tls.write_tls(&mut output).is_ok() {}
}

impl<C: Codec<Msg: Securing>> Codec for Secured<C> {
    type Msg = C::Msg;

    fn decode(&mut self, input: &mut BytesMut, output: &mut BytesMut) -> Result<Option<C::Msg>, Malformed> {
        let State::Secured { tls, plain } = &mut self.state else { return self.inner.decode(input, output) };
        while !input.is_empty() {
            let read = tls.read_tls(&mut &input[..]).map_err(|error| Malformed(error.to_string()))?;
            input.advance(read);
            let processed = tls.process_new_packets();
            // An alert says why it ends.
            flush(tls, output);
            processed.map_err(|error| Malformed(format!("TLS: {error}")))?;
            loop {
                let filled = plain.len();
                plain.resize(filled + CHUNK, 0);
                let got = tls.reader().read(&mut plain[filled..]);
                plain.truncate(filled + *got.as_ref().unwrap_or(&0));
                match got {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(Malformed(error.to_string())),
                }
            }
            // Nothing is expected after its end.
            if read == 0 {
                input.clear();
            }
        }
        let mut answer = BytesMut::new();
        let msg = self.inner.decode(plain, &mut answer)?;
        if !answer.is_empty() && tls.writer().write_all(&answer).is_ok() {
            flush(tls, output);
        }
        Ok(msg)
    }

    fn encode(&mut self, msg: C::Msg, output: &mut BytesMut) -> After {
        if let State::Open(config) = &self.state {
            self.state = match msg.server_name() {
                Some(name) => begin(config.clone(), name).unwrap_or(State::Nobody),
                None => State::Clear,
            };
        }
        match &mut self.state {
            State::Nobody => After::Close,
            State::Open(_) | State::Clear => self.inner.encode(msg, output),
            State::Secured { tls, .. } => {
                let mut plain = BytesMut::new();
                let after = self.inner.encode(msg, &mut plain);
                // There is room: it has no limit.
                let _ = tls.writer().write_all(&plain);
                if after == After::Close {
                    tls.send_close_notify();
                }
                flush(tls, output);
                after
            }
        }
    }
}

impl<C> fmt::Debug for Secured<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured")
            .field("secured", &matches!(self.state, State::Secured { .. }))
            .finish_non_exhaustive()
    }
}
