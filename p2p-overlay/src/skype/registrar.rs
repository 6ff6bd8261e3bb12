//! A login server whose names are written down: nobody hears that a name is certified before it is.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;

use p2p_core::{Cx, JobId, Keypair, OpId, PeerId, Protocol};

use super::login::{LoginError, Server};
use super::names::{NamesError, NoteName};
use super::{SkypeConfig, SkypeMsg};
use crate::place::Place;

/// How many names are being written down at once.
const MOST: usize = 1024;

/// A login server for nodes that are [`Skype`](super::Skype)s. Its worker is a [`NamesFile`](super::NamesFile), or one
/// that keeps names elsewhere: a name that was certified is a key's for ever, whatever becomes of the server. At most
/// [`SkypeConfig::names`] names, of which 1,024 are being written down.
///
/// ```
/// use p2p_core::net::Node;
/// use p2p_core::{Contact, Keypair};
/// use p2p_overlay::{LoginServer, NamesFile, SkypeConfig};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let file = std::env::temp_dir().join(format!("p2p-names-{}", std::process::id()));
/// let keypair = Keypair::generate();
/// let node = Node::builder().identity(keypair.clone()).bind("127.0.0.1:0").await?;
/// let (file, names) = NamesFile::open(&file)?;
/// let server = LoginServer::<Contact>::new(keypair, names, SkypeConfig::default());
/// node.spawn_with_workers("skype/1", server, [file])?;
/// node.shutdown().await;
/// # std::fs::remove_file(std::env::temp_dir().join(format!("p2p-names-{}", std::process::id())))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct LoginServer<P> {
    server: Server<P>,
    /// Who waits for what to be written down, by name.
    writing: BTreeMap<String, P>,
    jobs: BTreeMap<JobId, (String, PeerId)>,
}

impl<P: Place> LoginServer<P> {
    /// A server that peers know by the public half of its key, and that knows these names from before.
    pub fn new(
        keypair: Keypair,
        names: impl IntoIterator<Item = (String, PeerId)>,
        config: SkypeConfig,
    ) -> LoginServer<P> {
        let server = Server::new(keypair, names, config);
        LoginServer { server, writing: BTreeMap::new(), jobs: BTreeMap::new() }
    }

    /// The names that are certified, or about to be, and for whom.
    pub fn names(&self) -> impl Iterator<Item = (&str, PeerId)> {
        self.server.names().iter().map(|(name, key)| (name.as_str(), *key))
    }
}

impl<P: Place> Protocol for LoginServer<P> {
    type Peer = P;
    type Msg = SkypeMsg;
    type Timer = Infallible;
    type Command = Infallible;
    type Item = Infallible;
    type Outcome = Infallible;
    type Event = Infallible;
    type Job = NoteName;

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: P, msg: SkypeMsg) {
        // What is for nodes only, is not for a server.
        let SkypeMsg::Login(request) = msg else { return };
        let (name, key) = (request.name.clone(), request.key);
        match self.server.check(cx.now(), cx.wall(), from, &request) {
            Err(why) => cx.send(from, SkypeMsg::Refused(why)),
            // It asks again: it is answered once it is written down.
            Ok(_) if self.writing.contains_key(&name) => drop(self.writing.insert(name, from)),
            Ok(false) => cx.send(from, SkypeMsg::Certified(self.server.certificate(cx.wall(), &name, key))),
            Ok(true) if self.writing.len() >= MOST => cx.send(from, SkypeMsg::Refused(LoginError::Busy)),
            Ok(true) => {
                // From now on nobody else gets it.
                self.server.note(name.clone(), key);
                self.writing.insert(name.clone(), from);
                let job = cx.start(NoteName { name: name.clone(), key });
                self.jobs.insert(job, (name, key));
            }
        }
    }

    fn on_command(&mut self, _: &mut Cx<'_, Self>, _: OpId, command: Infallible) {
        match command {}
    }

    fn on_job(&mut self, cx: &mut Cx<'_, Self>, id: JobId, done: Result<(), NamesError>) {
        let Some((name, key)) = self.jobs.remove(&id) else { return };
        let Some(from) = self.writing.remove(&name) else { return };
        let answer = match done {
            Ok(()) => SkypeMsg::Certified(self.server.certificate(cx.wall(), &name, key)),
            Err(_) => {
                // It may be written down all the same: then it is this key's after the next start.
                self.server.free(&name);
                SkypeMsg::Refused(LoginError::Busy)
            }
        };
        cx.send(from, answer);
    }
}

impl<P> fmt::Debug for LoginServer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginServer({} names are being written down)", self.writing.len())
    }
}
