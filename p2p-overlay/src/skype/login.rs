//! The login server: names are whoever's key comes first.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::{Cx, Keyed, Keypair, PeerId, Subnet, Time};
use serde::{Deserialize, Serialize};

use super::certificate::{Certificate, is_user_name};
use super::{Skype, SkypeConfig, SkypeMsg};
use crate::bucket::Bucket;
use crate::place::Place;
use crate::recent::Recent;
use crate::signing::{Signature, Signing};

/// How old a request may be, and how far clocks may differ.
const FRESH: Duration = Duration::from_secs(300);

/// A user wants a name certified for a key, and shows that it has the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginRequest {
    pub(super) name: String,
    pub(super) key: PeerId,
    /// Milliseconds since the Unix epoch.
    made: u64,
    signature: Signature,
}

impl LoginRequest {
    pub(super) fn new(keypair: &Keypair, name: &str, server: &PeerId, wall: Duration) -> LoginRequest {
        let made = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        let unsigned =
            LoginRequest { name: name.into(), key: keypair.id(), made, signature: Signature::NONE };
        LoginRequest { signature: Signature::new(keypair, unsigned.signing(server)), ..unsigned }
    }

    fn signing(&self, server: &PeerId) -> Signing {
        Signing::new("skype", "login").text(&self.name).key(&self.key).key(server).number(self.made)
    }
}

/// Why a name is not certified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LoginError {
    /// Nobody may be called so: see [`is_user_name`].
    #[error("no user name: 1 to 32 small letters, digits, dots, hyphens and underscores, a letter first")]
    BadName,
    /// Another key has it.
    #[error("the name is taken: choose another")]
    Taken,
    /// The server has no room for another name.
    #[error("the login server is full")]
    Full,
    /// Too many logins at once.
    #[error("too many logins: try again later")]
    Busy,
    /// The request is not signed by the key, or was made long ago.
    #[error("the request is not signed, or too old: is the clock right?")]
    BadRequest,
}

/// At most [`SkypeConfig::names`] names; it remembers how often 4,096 peers have asked, and from how many of 4,096 subnets new
/// names have come.
pub(super) struct Server<P> {
    config: SkypeConfig,
    keypair: Keypair,
    names: BTreeMap<String, PeerId>,
    askers: Recent<P, Bucket>,
    /// A key costs nothing, and a name is for ever: so new ones are counted by where they come from.
    subnets: Recent<Subnet, Bucket>,
    all: Bucket,
}

impl<P: Place> Server<P> {
    pub(super) fn new(
        keypair: Keypair,
        names: impl IntoIterator<Item = (String, PeerId)>,
        config: SkypeConfig,
    ) -> Server<P> {
        let names = names.into_iter().take(config.names).collect();
        let (askers, subnets) = (Recent::new(4096), Recent::new(4096));
        Server { config, keypair, names, askers, subnets, all: Bucket::default() }
    }

    pub(super) fn names(&self) -> &BTreeMap<String, PeerId> {
        &self.names
    }

    pub(super) fn on_message(&mut self, cx: &mut Cx<'_, Skype<P>>, from: P, msg: SkypeMsg) {
        // What is for nodes only, is not for a server.
        let SkypeMsg::Login(request) = msg else { return };
        let LoginRequest { name, key, .. } = &request;
        let answer = self.check(cx.now(), cx.wall(), from, &request).map(|_| {
            self.note(name.clone(), *key);
            self.certificate(cx.wall(), name, *key)
        });
        cx.send(from, answer.map_or_else(SkypeMsg::Refused, SkypeMsg::Certified));
    }

    /// Whether a name can be certified, and if so whether it is a new one.
    pub(super) fn check(
        &mut self,
        now: Time,
        wall: Duration,
        from: P,
        request: &LoginRequest,
    ) -> Result<bool, LoginError> {
        self.askers.insert(from, Bucket::default());
        let own = self.askers.get_mut(&from);
        let passes = own.is_some_and(|own| own.take(now, self.config.logins_each))
            && self.all.take(now, self.config.logins);
        let LoginRequest { name, key, made, signature } = request;
        if !passes {
            return Err(LoginError::Busy);
        }
        if !is_user_name(name) {
            return Err(LoginError::BadName);
        }
        if Duration::from_millis(*made).abs_diff(wall) > FRESH
            || !signature.is_by(key, request.signing(&self.keypair.id()))
        {
            return Err(LoginError::BadRequest);
        }
        match self.names.get(name).copied() {
            Some(owner) if owner != *key => Err(LoginError::Taken),
            Some(_) => Ok(false),
            None if self.names.len() >= self.config.names => Err(LoginError::Full),
            None if !self.admits(now, &from) => Err(LoginError::Busy),
            None => Ok(true),
        }
    }

    /// Whether those of a peer's subnet may have one more new name.
    fn admits(&mut self, now: Time, from: &P) -> bool {
        let Some(subnet) = from.contact().and_then(|contact| contact.subnet()) else { return true };
        self.subnets.insert(subnet, Bucket::default());
        let rate = self.config.names_each;
        self.subnets.get_mut(&subnet).is_some_and(|bucket| bucket.take(now, rate))
    }

    /// A name is somebody's from now on.
    pub(super) fn note(&mut self, name: String, key: PeerId) {
        self.names.insert(name, key);
    }

    /// Or is free again.
    pub(super) fn free(&mut self, name: &str) {
        self.names.remove(name);
    }

    pub(super) fn certificate(&self, wall: Duration, name: &str, key: PeerId) -> Certificate {
        let expires = wall.saturating_add(self.config.certified).as_secs();
        Certificate::new(&self.keypair, name, key, expires)
    }
}
