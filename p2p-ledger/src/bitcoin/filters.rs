//! Filter headers (BIP 157): what every node that serves filters says of them, and what is believed.
//!
//! They are asked for only while somebody scans, and not from the first block on: all that are heard name those of every 1,000th
//! block up to where the scan begins, and the last at which they agree is where belief begins. From there on they name the hashes of
//! all filters, and the next one is believed if they say the same; if they do not the block decides (`dispute`).
//!
//! Who serves filters is heard from when it has shown its headers until it is late with an answer about filters, or does not show a
//! filter that it has named; that for good, or else it could keep all waiting for as long as it likes. If nobody is left all are
//! heard again.

use std::collections::BTreeSet;

use p2p_core::{Cx, Key, Time};
use p2p_overlay::Place;

use super::BitcoinClient;
use super::codec::{BitcoinMsg, FilterRange, MAX_FILTER_HASHES, NODE_COMPACT_FILTERS};
use super::dispute::Dispute;
use super::nodes::Node;
use crate::filter::FilterHeaders;
use crate::header::Header;
use crate::id::BlockId;

/// Of every how many blocks a checkpoint names the filter header.
const INTERVAL: u64 = 1_000;

/// What is believed of filters.
#[derive(Debug)]
pub(super) struct Filters {
    /// The first block's filter header.
    first: Key,
    pub(super) headers: FilterHeaders,
    /// Blocks that allow several of the filters that were named: whoever scans looks at the blocks themselves.
    pub(super) doubtful: BTreeSet<u64>,
    /// A block of which nodes name several filters.
    pub(super) dispute: Option<Dispute>,
}

/// What a node was asked about filters.
#[derive(Debug)]
pub(super) struct FilterAsk {
    pub(super) until: Time,
    of: Ask,
    /// The last block that the answer is about.
    stop: BlockId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Checkpoints,
    /// The hashes of the filters from this height on.
    Headers(u64),
}

impl Filters {
    pub(super) fn new(id: BlockId, header: Key) -> Filters {
        let headers = FilterHeaders::new(0, id, header);
        Filters { first: header, headers, doubtful: BTreeSet::new(), dispute: None }
    }
}

impl<P: Place> BitcoinClient<P> {
    /// Does what can be done now to know the filter headers that somebody scans by.
    pub(super) fn learn_filters(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(wanted) = self.scanned_from() else {
            self.filters.dispute = None;
            return;
        };
        if !self.is_synced() {
            return;
        }
        self.keep_filters_to_chain();
        self.hear_all_if_nobody_is_left();
        if !self.begin_where_all_agree(cx, wanted) {
            return;
        }
        loop {
            self.believe(cx);
            if !self.settle_dispute(cx) {
                break;
            }
        }
        self.ask_filter_headers(cx);
    }

    /// Whether the filters of all blocks are known that those that are heard have shown.
    pub(super) fn knows_filters(&self) -> bool {
        let has_said = |(_, node): (usize, &Node<P>)| node.said.agrees_to(self.reach(node));
        self.is_synced()
            && self.filters.dispute.is_none()
            && self.heard().next().is_some()
            && self.heard().all(has_said)
    }

    // ---- who is heard

    /// Whether a node serves filters, has shown its headers and has a say.
    fn has_a_say(&self, node: &Node<P>) -> bool {
        let has_shown = node.ready().is_some_and(|link| link.is_done);
        has_shown && !node.is_late && !node.is_mute && node.services() & NODE_COMPACT_FILTERS != 0
    }

    /// Those that are heard, and say the same as is believed of the first block of that.
    pub(super) fn heard(&self) -> impl Iterator<Item = (usize, &Node<P>)> {
        let base = self.filters.headers.base();
        let nodes = self.nodes.iter().enumerate().filter(move |(_, node)| self.has_a_say(node));
        nodes.filter(move |(_, node)| node.said.agreed() >= base && self.reach(node) >= base)
    }

    /// Up to which height the chain is a node's, too.
    pub(super) fn reach(&self, node: &Node<P>) -> u64 {
        let index = self.chain.index();
        let shown = node.ready().and_then(|link| index.find(&link.shown?));
        shown.map_or(0, |at| index.entry(index.fork(at)).height)
    }

    fn hear_all_if_nobody_is_left(&mut self) {
        if !self.nodes.iter().any(|node| self.has_a_say(node)) {
            self.nodes.iter_mut().for_each(|node| (node.is_mute, node.overruled) = (false, 0));
        }
        if self.heard().next().is_some() && self.heard().all(|(_, node)| node.said.is_overruled()) {
            // Nobody is left who has said what is believed.
            self.begin_at(0, self.filters.first);
        }
    }

    // ---- where belief begins

    /// Believes this of a block, and nothing yet of those after it.
    fn begin_at(&mut self, height: u64, header: Key) {
        let Some(id) = self.chain.at(height).map(Header::id) else { return };
        self.filters.headers = FilterHeaders::new(height, id, header);
        self.filters.dispute = None;
        self.filters.doubtful.clear();
        self.nodes.iter_mut().for_each(|node| node.said.begin_at(height));
    }

    /// Begins at the last checkpoint before what is wanted at which all agree; whether they have named them.
    fn begin_where_all_agree(&mut self, cx: &mut Cx<'_, Self>, wanted: u64) -> bool {
        let (base, height) = (self.filters.headers.base(), self.filters.headers.height());
        let start = if (base..=height).contains(&wanted) { base } else { wanted - wanted % INTERVAL };
        // It is above the end of the chain: then there is nothing to scan.
        let Some(stop) = self.chain.at(start).map(Header::id) else { return false };
        let is_able = |node: &Node<P>| self.has_a_say(node) && self.reach(node) >= start;
        let able: Vec<usize> = (0..self.nodes.len()).filter(|at| is_able(&self.nodes[*at])).collect();
        let has_named = |at: &usize| {
            start == 0 || self.nodes[*at].checkpoints.as_ref().is_some_and(|(of, _)| *of == stop)
        };
        let due: Vec<usize> = able.iter().copied().filter(|at| !has_named(at)).collect();
        for at in &due {
            self.ask_about_filters(cx, *at, Ask::Checkpoints, stop);
        }
        if able.is_empty() || !due.is_empty() {
            return false;
        }
        // Who was overruled names others, and is compared block by block.
        let mut voices: Vec<&Node<P>> = able.iter().map(|at| &self.nodes[*at]).collect();
        if voices.iter().any(|node| !node.said.is_overruled()) {
            voices.retain(|node| !node.said.is_overruled());
        }
        let agreed = |number: u64| {
            let mut named = voices.iter().map(|node| node.checkpoint(number));
            let first = named.next().flatten()?;
            named.all(|other| other == Some(first)).then_some((number * INTERVAL, first))
        };
        let agreed = (1..=start / INTERVAL).rev().find_map(agreed);
        let (begin, header) = agreed.unwrap_or((0, self.filters.first));
        if !(base..=height).contains(&begin) {
            self.begin_at(begin, header);
        }
        let base = self.filters.headers.base();
        for at in able {
            if self.nodes[at].said.agreed() < base {
                self.nodes[at].said.begin_at(base);
            }
        }
        true
    }

    /// The chain may have gone over to another branch.
    fn keep_filters_to_chain(&mut self) {
        let index = self.chain.index();
        let last = index.find(&self.filters.headers.last());
        let fork = last.map_or(0, |last| index.entry(index.fork(last)).height);
        if fork < self.filters.headers.base() {
            return self.begin_at(0, self.filters.first);
        }
        self.disbelieve_above(fork);
    }

    /// Believes nothing above a height any more.
    pub(super) fn disbelieve_above(&mut self, height: u64) {
        while self.filters.headers.pop_above(height).is_some() {}
        self.filters.doubtful.retain(|at| *at <= height);
        let (height, chain) = (self.filters.headers.height(), &self.chain);
        self.nodes.iter_mut().for_each(|node| node.said.keep_to(height, chain));
    }

    // ---- what they say

    /// Believes what all say that are heard and have the block; if they do not say the same the block is asked for.
    fn believe(&mut self, cx: &mut Cx<'_, Self>) {
        let before = self.filters.headers.height();
        while self.filters.dispute.is_none() {
            if let Some(doubted) = self.heard().filter_map(|(_, node)| node.said.doubts()).min() {
                self.dispute(cx, doubted);
                break;
            }
            let headers = &self.filters.headers;
            let next = headers.height() + 1;
            let Some(id) = self.chain.at(next).map(Header::id) else { break };
            let said = self.heard().filter(|(_, node)| self.reach(node) >= next);
            let said: Option<BTreeSet<Key>> = said.map(|(_, node)| node.said.of(next, headers)).collect();
            // Somebody has not answered yet.
            let Some(said) = said else { break };
            match said.len() {
                0 => break,
                1 => said.into_iter().for_each(|header| self.settle(next, id, header)),
                _ => self.dispute(cx, next),
            }
        }
        if self.filters.headers.height() > before {
            self.be_patient(cx.now());
        }
    }

    pub(super) fn settle(&mut self, height: u64, id: BlockId, header: Key) {
        self.filters.headers.push(id, header);
        self.nodes.iter_mut().for_each(|node| node.said.settle(height, header));
    }

    fn ask_filter_headers(&mut self, cx: &mut Cx<'_, Self>) {
        let due = self.heard().filter_map(|(at, node)| {
            let (reach, agreed) = (self.reach(node), node.said.agreed());
            let last = reach.min(agreed + MAX_FILTER_HASHES as u64);
            let stop = self.chain.at(last).filter(|_| node.said.is_due(reach))?;
            Some((at, agreed + 1, stop.id()))
        });
        for (at, from, stop) in due.collect::<Vec<_>>() {
            self.ask_about_filters(cx, at, Ask::Headers(from), stop);
        }
    }

    fn ask_about_filters(&mut self, cx: &mut Cx<'_, Self>, at: usize, of: Ask, stop: BlockId) {
        let until = cx.now() + self.config.timeout;
        let Some(link) = self.nodes[at].link.as_mut().filter(|link| link.asked_filters.is_none()) else {
            return;
        };
        link.asked_filters = Some(FilterAsk { until, of, stop });
        let ask = match of {
            Ask::Checkpoints => BitcoinMsg::GetCFCheckpt(stop),
            Ask::Headers(from) => {
                let start = u32::try_from(from).unwrap_or(u32::MAX);
                BitcoinMsg::GetCFHeaders(FilterRange { start, stop })
            }
        };
        cx.send(link.peer, ask);
    }

    pub(super) fn filter_headers_came(
        &mut self,
        cx: &mut Cx<'_, Self>,
        at: usize,
        stop: BlockId,
        previous: Key,
        hashes: &[Key],
    ) {
        let is_asked = |asked: &mut FilterAsk| asked.of != Ask::Checkpoints && asked.stop == stop;
        let asked = self.nodes[at].link.as_mut().and_then(|link| link.asked_filters.take_if(is_asked));
        let (Some(FilterAsk { of: Ask::Headers(from), .. }), Some(last)) = (asked, self.chain.place(&stop))
        else {
            return;
        };
        let said = &mut self.nodes[at].said;
        let Some((_, before)) = self.filters.headers.at(from - 1) else { return };
        // The chain has gone another way since, or belief begins elsewhere.
        if !self.chain.is_on_chain(&stop) || said.agreed() + 1 != from {
            return;
        }
        if hashes.len() as u64 != last.height + 1 - from {
            return self.lied(cx, at, "it names more filters than there are blocks, or fewer");
        }
        if previous != before && !said.is_overruled() {
            return self.lied(cx, at, "its filter headers do not follow those that it has named before");
        }
        said.hear(hashes, stop, &self.filters.headers);
    }

    pub(super) fn checkpoints_came(
        &mut self,
        cx: &mut Cx<'_, Self>,
        at: usize,
        stop: BlockId,
        headers: Vec<Key>,
    ) {
        let is_asked = |asked: &mut FilterAsk| asked.of == Ask::Checkpoints && asked.stop == stop;
        let asked = self.nodes[at].link.as_mut().and_then(|link| link.asked_filters.take_if(is_asked));
        let (Some(_), Some(last)) = (asked, self.chain.place(&stop)) else { return };
        match headers.len() as u64 == last.height / INTERVAL {
            true => self.nodes[at].checkpoints = Some((stop, headers)),
            false => self.lied(cx, at, "it names more checkpoints of filters than there are, or fewer"),
        }
    }
}
