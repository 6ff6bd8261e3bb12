//! Headers: every server's are taken, if they are good.

use bytes::Bytes;
use p2p_core::Cx;
use p2p_overlay::Membership;

use super::servers::What;
use super::{LightAsk, LightNode};
use crate::codec::decoded_list;
use crate::consensus::Consensus;
use crate::header::Header;
use crate::headers::{Followed, Refused, follow};
use crate::id::BlockId;
use crate::node::{MAX_ANNOUNCED, MAX_HEADERS};
use crate::state::State;

impl<M: Membership, C: Consensus, S: State> LightNode<M, C, S> {
    /// Asks a server for the headers after what is known here, or after this one.
    pub(super) fn ask_headers(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, after: Option<BlockId>) {
        if self.open_of(peer, |what| matches!(what, What::Headers { .. })) > 0 {
            return;
        }
        if let Some(server) = self.servers.get_mut(&peer) {
            server.next = cx.now() + self.config.poll;
        }
        let height = after.and_then(|after| self.chain.place(&after)).map_or(0, |place| place.height);
        let locator = after.map_or_else(|| self.chain.locator(), |after| vec![after]);
        self.ask(cx, peer, LightAsk::Headers(locator), What::Headers { after: height });
    }

    /// A server's headers, which was asked for those after this height.
    pub(super) fn headers_came(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: M::Peer,
        after: u64,
        tip: BlockId,
        bytes: &Bytes,
    ) {
        let headers = match decoded_list::<C::Header>(bytes, MAX_HEADERS) {
            Ok(headers) => headers,
            Err(why) => return self.lied(cx, from, &format!("headers that cannot be read: {why}")),
        };
        let mut secret = [0; 32];
        cx.rng().fill(&mut secret);
        let mut sync = self.syncing.remove(&from);
        let by_itself = sync.is_some();
        let now = cx.wall().as_secs();
        let followed = follow(&mut self.chain, &mut sync, &headers, (after, MAX_HEADERS), now, secret);
        if let Some(sync) = sync {
            self.syncing.insert(from, sync);
            // Nothing grows by it yet.
            if self.servers.get(&from).is_some_and(|server| !server.is_done && !server.is_overdue) {
                self.be_patient(cx.now());
            }
        }
        if !by_itself {
            self.has_shown(from, &headers, Some(tip));
        }
        match followed {
            Followed::More(after) => self.ask_headers(cx, from, after),
            Followed::All | Followed::Unconnected => self.has_shown_all(from),
            Followed::Lied(how) => self.lied(cx, from, &how),
        }
    }

    /// A server says unasked that there are new blocks.
    pub(super) fn announced(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, bytes: &Bytes) {
        if self.servers.get(&from).is_none_or(|server| server.is_silent) {
            return;
        }
        let headers = match decoded_list::<C::Header>(bytes, MAX_ANNOUNCED) {
            Ok(headers) => headers,
            Err(why) => return self.lied(cx, from, &format!("headers that cannot be read: {why}")),
        };
        let refused = self.chain.accept(&headers, cx.wall().as_secs()).err();
        self.has_shown(from, &headers, None);
        match refused {
            Some(refused) if refused.is_misbehaviour() => self.lied(cx, from, &refused.to_string()),
            Some(Refused::Unconnected(_)) => self.ask_headers(cx, from, None),
            None | Some(_) => {}
        }
    }

    /// The last of these that is known here, and where it says that its chain ends, if that is known.
    fn has_shown(&mut self, from: M::Peer, headers: &[C::Header], tip: Option<BlockId>) {
        let known = |id: &BlockId| self.chain.place(id);
        let last = headers.iter().rev().find_map(|header| known(&header.id()));
        let tip = tip.and_then(|tip| known(&tip));
        let Some(server) = self.servers.get_mut(&from) else { return };
        let before = server.shown.and_then(|id| self.chain.place(&id));
        let best = [before, last, tip].into_iter().flatten().max_by_key(|place| place.work);
        server.shown = best.map(|place| place.id);
    }

    fn has_shown_all(&mut self, from: M::Peer) {
        if let Some(server) = self.servers.get_mut(&from) {
            server.is_done = true;
        }
    }
}
