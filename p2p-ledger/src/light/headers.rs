//! Headers: every server's are taken, if they are good.

use bytes::Bytes;
use p2p_core::Cx;
use p2p_overlay::Membership;

use super::servers::What;
use super::{LightAsk, LightNode};
use crate::codec::decoded_list;
use crate::consensus::Consensus;
use crate::header::Header;
use crate::headers::{HeaderSync, Refused, SyncError, SyncStep};
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
            server.until.get_or_insert(cx.now() + self.config.patience / 2);
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
        let is_full = headers.len() == MAX_HEADERS;
        if let Some(sync) = self.syncing.remove(&from) {
            return self.sync(cx, from, sync, &headers);
        }
        let refused = self.chain.accept(&headers, cx.wall().as_secs()).err();
        let last = headers.last().and_then(|last| self.chain.place(&last.id()));
        self.has_shown(from, &headers, Some(tip));
        match refused {
            Some(refused) if refused.is_misbehaviour() => self.lied(cx, from, &refused.to_string()),
            // Who says the same again has no more, or has gone over to another branch: it is asked again in its time.
            None if is_full && last.is_some_and(|last| last.height > after) => {
                self.ask_headers(cx, from, last.map(|last| last.id));
            }
            Some(Refused::LowWork { .. }) if is_full => {
                let mut secret = [0; 32];
                cx.rng().fill(&mut secret);
                let first = headers.first().map_or(BlockId::NONE, Header::previous);
                let sync = HeaderSync::new(&self.chain, &first, secret);
                self.sync(cx, from, sync, &headers);
            }
            None | Some(_) => self.has_shown_all(from),
        }
    }

    /// Follows headers by themselves that are too little work so far.
    fn sync(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, mut sync: HeaderSync<C>, headers: &[C::Header]) {
        match sync.accept(&mut self.chain, headers, cx.wall().as_secs()) {
            Ok(SyncStep::Done) => self.ask_headers(cx, from, None),
            // The second time begins anew.
            Ok(SyncStep::After(id))
                if headers.len() == MAX_HEADERS || headers.last().map(Header::id) != Some(id) =>
            {
                self.syncing.insert(from, sync);
                self.ask_headers(cx, from, Some(id));
            }
            Err(SyncError::Refused(refused)) if refused.is_misbehaviour() => {
                self.lied(cx, from, &refused.to_string());
            }
            Err(why @ SyncError::TooLong) => self.lied(cx, from, &why.to_string()),
            Ok(SyncStep::After(_)) | Err(_) => self.has_shown_all(from),
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
            (server.is_done, server.is_overdue) = (true, false);
        }
    }
}
