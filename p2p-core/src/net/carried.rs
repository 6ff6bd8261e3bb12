//! QUIC inside datagrams that somebody else carries: a relay, or any other protocol between two peers.
//!
//! A [`QuicTransport`] as any other, with the same keys and the same proofs, but without a socket: what it would
//! send, its [`Carrier`] gives to whoever carries it, and what has been carried here comes back by it. Whoever
//! carries it can lose, delay and repeat it, and cannot read or change it. There is one place to dial, the other end:
//! addresses mean nothing.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::mpsc;

use super::quic::{QuicTransport, transport_config};
use crate::{Keypair, Limits};

/// Datagrams that wait each way; more are lost, as on any path.
const WAITING: usize = 256;
/// The longest datagram, in bytes: what every path of QUIC's carries (RFC 9000 §14). Nothing longer is tried.
const LONGEST: u16 = 1200;
/// Where everybody is, who is at the other end.
pub(super) const THERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

impl QuicTransport {
    /// A transport whose datagrams are carried by somebody else, both ways, by its [`Carrier`]. Dial whoever is to be
    /// at the other end; the address in the contact is not looked at. Close it when it is not needed any more: it
    /// does not end by itself.
    ///
    /// ```
    /// use p2p_core::net::{QuicTransport, Transport};
    /// use p2p_core::{Contact, Keypair, Limits};
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let [ada, bob] = [1, 2].map(|seed| Keypair::from_seed(&[seed; 32]));
    /// let to = Contact::new(bob.id(), "0.0.0.0:0".parse()?);
    /// let (here, one) = QuicTransport::carried(ada, "p2p", &Limits::default())?;
    /// let (there, other) = QuicTransport::carried(bob, "p2p", &Limits::default())?;
    /// // Whoever carries: here a task.
    /// tokio::spawn(async move {
    ///     loop {
    ///         tokio::select! {
    ///             Some(datagram) = one.next() => other.came(datagram),
    ///             Some(datagram) = other.next() => one.came(datagram),
    ///         }
    ///     }
    /// });
    /// let (dialled, accepted) = tokio::join!(here.dial(to), there.accept());
    /// let (dialled, accepted) = (dialled?, accepted.unwrap());
    /// dialled.send_datagram("hello".into())?;
    /// assert_eq!(accepted.recv_datagram().await?, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// There is no tokio runtime.
    pub fn carried(
        keypair: Keypair,
        network: &str,
        limits: &Limits,
    ) -> io::Result<(Arc<QuicTransport>, Carrier)> {
        let (sender, outgoing) = mpsc::channel(WAITING);
        let (incoming, receiver) = mpsc::channel(WAITING);
        let socket = Arc::new(Socket { sender, receiver: Mutex::new(receiver) });
        let mut config = transport_config(limits);
        config.initial_mtu(LONGEST).mtu_discovery_config(None);
        let transport = QuicTransport::start(keypair, network, socket, Some(THERE), config, limits)?;
        Ok((transport, Carrier { outgoing: tokio::sync::Mutex::new(outgoing), incoming }))
    }
}

/// The way in and out of a transport that somebody else carries. At most 256 datagrams wait each way.
#[derive(Debug)]
pub struct Carrier {
    outgoing: tokio::sync::Mutex<mpsc::Receiver<Bytes>>,
    incoming: mpsc::Sender<Bytes>,
}

impl Carrier {
    /// The next datagram for the other end, of 1,200 bytes at most; `None` once the transport is gone.
    pub async fn next(&self) -> Option<Bytes> {
        self.outgoing.lock().await.recv().await
    }

    /// A datagram has come from the other end, or is said to.
    pub fn came(&self, datagram: Bytes) {
        // A path that is full loses datagrams.
        let _ = self.incoming.try_send(datagram);
    }
}

/// What quinn takes for a socket.
struct Socket {
    sender: mpsc::Sender<Bytes>,
    receiver: Mutex<mpsc::Receiver<Bytes>>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Socket(carried)")
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Always)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let _ = self.sender.try_send(Bytes::copy_from_slice(transmit.contents));
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buf), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else { return Poll::Ready(Ok(0)) };
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some(datagram) = ready!(receiver.poll_recv(cx)) else {
                // Whoever carries is gone: the path is silent from now on.
                return Poll::Pending;
            };
            // Longer than anything that was sent.
            let Some(room) = buf.get_mut(..datagram.len()) else { continue };
            room.copy_from_slice(&datagram);
            *meta = RecvMeta {
                addr: THERE,
                len: datagram.len(),
                stride: datagram.len(),
                ecn: None,
                dst_ip: None,
            };
            return Poll::Ready(Ok(1));
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(THERE)
    }
}

/// There is always room: what there is none for, is lost.
#[derive(Debug)]
struct Always;

impl UdpPoller for Always {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{CloseReason, DialError, Lost, Transport};
    use crate::{Contact, PeerId};

    const SECRET: &[u8] = b"something that nobody else may read";

    fn end(seed: u8) -> (PeerId, Arc<QuicTransport>, Carrier) {
        let keypair = Keypair::from_seed(&[seed; 32]);
        let id = keypair.id();
        let (transport, carrier) = QuicTransport::carried(keypair, "test", &Limits::default()).unwrap();
        (id, transport, carrier)
    }

    fn at(id: PeerId) -> Contact {
        Contact::new(id, "192.0.2.1:9".parse().unwrap())
    }

    /// Carries between two, but for every `lost`-th datagram, and looks at what it carries.
    async fn carry(one: Carrier, other: Carrier, lost: u64) {
        let mut count = 0;
        loop {
            let (datagram, to) = tokio::select! {
                Some(datagram) = one.next() => (datagram, &other),
                Some(datagram) = other.next() => (datagram, &one),
                else => return,
            };
            assert!(datagram.len() <= usize::from(LONGEST));
            assert!(!datagram.windows(SECRET.len()).any(|window| window == SECRET), "it can be read");
            count += 1;
            if count % lost != 0 {
                to.came(datagram);
            }
        }
    }

    #[tokio::test]
    async fn what_is_carried_arrives_though_some_of_it_is_lost_and_nobody_reads_it() {
        let ((_, ada, one), (id, bob, other)) = (end(1), end(2));
        let carries = tokio::spawn(carry(one, other, 7));
        let (dialled, accepted) = tokio::join!(ada.dial(at(id)), bob.accept());
        let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!((dialled.peer(), accepted.peer()), (id, ada.id()));
        let (mut send, _) = dialled.open_bi().await.unwrap();
        let long = SECRET.repeat(3000);
        let sent = async {
            send.write(&long).await.unwrap();
            send.finish().unwrap();
        };
        let received = async {
            let (_, mut recv) = accepted.accept_bi().await.unwrap();
            recv.read_to_end(1 << 20).await.unwrap()
        };
        let ((), received) = tokio::join!(sent, received);
        assert!(received == long);
        dialled.close(CloseReason::Shutdown);
        assert!(!carries.is_finished(), "what it carried could not be read");
        carries.abort();
    }

    #[tokio::test]
    async fn who_is_at_the_other_end_proves_it() {
        let ((_, ada, one), (bob_id, _bob, other)) = (end(1), end(2));
        let carries = tokio::spawn(carry(one, other, u64::MAX));
        let eve = Keypair::from_seed(&[3; 32]).id();
        assert_eq!(
            ada.dial(at(eve)).await.unwrap_err(),
            DialError::WrongKey { expected: eve, found: bob_id }
        );
        carries.abort();
    }

    #[tokio::test]
    async fn garbage_and_silence_are_survived() {
        let limits = Limits { silence_timeout: std::time::Duration::from_millis(300), ..Limits::default() };
        let [(_, ada, one), (id, bob, other)] = [1, 2].map(|seed| {
            let keypair = Keypair::from_seed(&[seed; 32]);
            let id = keypair.id();
            let (transport, carrier) = QuicTransport::carried(keypair, "test", &limits).unwrap();
            (id, transport, carrier)
        });
        for len in [0, 1, 20, 1200, 9000] {
            other.came(vec![0xc5; len].into());
        }
        let carries = tokio::spawn(carry(one, other, u64::MAX));
        let (dialled, accepted) = tokio::join!(ada.dial(at(id)), bob.accept());
        carries.abort();
        let _ = carries.await;
        assert_eq!(dialled.unwrap().closed().await, Lost::TimedOut);
        assert_eq!(accepted.unwrap().closed().await, Lost::TimedOut);
    }
}
