//! Full nodes and light clients in one simulated network, whose machine is either.

use std::fmt;

use p2p_core::{Cx, JobId, Link, NoJob, OpId, Protocol, Request, Up};
use p2p_overlay::Membership;

use crate::consensus::Consensus;
use crate::light::{LightCommand, LightNode, LightOutcome};
use crate::node::{LedgerCommand, LedgerDone, LedgerJob, LedgerMsg, LedgerNode, LedgerOutcome, LedgerTimer};
use crate::state::State;

/// A node of either kind. What full nodes are asked is wrapped in [`ToFull`], what light clients are in [`ToLight`]; whoever asks
/// the other kind gets no answer. They say nothing unasked.
pub enum Party<M: Membership, C: Consensus, S: State> {
    /// A full node, with the [`Keeper`](crate::Keeper) that it needs.
    Full(Box<LedgerNode<M, C, S>>),
    /// A light client, which needs none.
    Light(Box<LightNode<M, C, S>>),
}

/// A command to a [`Party`]: see [`ToFull`] and [`ToLight`].
pub enum PartyCommand<P, C: Consensus, S: State> {
    /// To a full node.
    Full(LedgerCommand<C, S>),
    /// To a light client.
    Light(LightCommand<P, S>),
}

/// How a command ended.
pub enum PartyOutcome<C: Consensus, S: State> {
    /// At a full node.
    Full(LedgerOutcome<C, S>),
    /// At a light client.
    Light(LightOutcome<C, S>),
}

/// A request to a [`LedgerNode`] among others.
#[derive(Clone, Copy, Debug)]
pub struct ToFull<R>(pub R);

/// A request to a [`LightNode`] among others.
#[derive(Clone, Copy, Debug)]
pub struct ToLight<R>(pub R);

impl<M: Membership, C: Consensus, S: State> Party<M, C, S> {
    /// A full node.
    pub fn full(node: LedgerNode<M, C, S>) -> Party<M, C, S> {
        Party::Full(Box::new(node))
    }

    /// A light client.
    pub fn light(client: LightNode<M, C, S>) -> Party<M, C, S> {
        Party::Light(Box::new(client))
    }

    fn as_full(
        &mut self,
        cx: &mut Cx<'_, Self>,
        input: impl FnOnce(&mut LedgerNode<M, C, S>, &mut Cx<'_, LedgerNode<M, C, S>>),
    ) {
        let Party::Full(node) = self else { return };
        let ups = cx.nest(|msg| msg, Some, |job| job, |cx| input(node, cx));
        for up in ups {
            if let Up::Finished(op, outcome) = up {
                cx.finish(op, PartyOutcome::Full(outcome));
            }
        }
    }

    fn as_light(
        &mut self,
        cx: &mut Cx<'_, Self>,
        input: impl FnOnce(&mut LightNode<M, C, S>, &mut Cx<'_, LightNode<M, C, S>>),
    ) {
        let Party::Light(client) = self else { return };
        let ups = cx.nest(|msg| msg, |()| None, |job: NoJob| match job {}, |cx| input(client, cx));
        for up in ups {
            if let Up::Finished(op, outcome) = up {
                cx.finish(op, PartyOutcome::Light(outcome));
            }
        }
    }
}

impl<M: Membership, C: Consensus, S: State> Protocol for Party<M, C, S> {
    type Peer = M::Peer;
    type Msg = LedgerMsg<M::Msg>;
    /// Of a light client: `None`.
    type Timer = Option<LedgerTimer<M::Timer>>;
    type Command = PartyCommand<M::Peer, C, S>;
    type Item = ();
    type Outcome = PartyOutcome<C, S>;
    type Event = ();
    type Job = LedgerJob<C, S>;

    fn on_start(&mut self, cx: &mut Cx<'_, Self>) {
        self.as_full(cx, |node, cx| node.on_start(cx));
        self.as_light(cx, |client, cx| client.on_start(cx));
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Self>, from: M::Peer, msg: Self::Msg) {
        match self {
            Party::Full(_) => self.as_full(cx, |node, cx| node.on_message(cx, from, msg)),
            Party::Light(_) => self.as_light(cx, |client, cx| client.on_message(cx, from, msg)),
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Self>, timer: Self::Timer) {
        match timer {
            Some(timer) => self.as_full(cx, |node, cx| node.on_timer(cx, timer)),
            None => self.as_light(cx, |client, cx| client.on_timer(cx, ())),
        }
    }

    fn on_command(&mut self, cx: &mut Cx<'_, Self>, op: OpId, command: Self::Command) {
        match command {
            PartyCommand::Full(command) => self.as_full(cx, |node, cx| node.on_command(cx, op, command)),
            PartyCommand::Light(command) => {
                self.as_light(cx, |client, cx| client.on_command(cx, op, command));
            }
        }
    }

    fn on_cancel(&mut self, cx: &mut Cx<'_, Self>, op: OpId) {
        self.as_full(cx, |node, cx| node.on_cancel(cx, op));
        self.as_light(cx, |client, cx| client.on_cancel(cx, op));
    }

    fn on_link(&mut self, cx: &mut Cx<'_, Self>, peer: M::Peer, link: Link) {
        self.as_full(cx, |node, cx| node.on_link(cx, peer, link));
        self.as_light(cx, |client, cx| client.on_link(cx, peer, link));
    }

    fn on_job(&mut self, cx: &mut Cx<'_, Self>, id: JobId, done: LedgerDone<C, S>) {
        self.as_full(cx, |node, cx| node.on_job(cx, id, done));
    }
}

impl<M, C, S, R> Request<Party<M, C, S>> for ToFull<R>
where
    M: Membership,
    C: Consensus,
    S: State,
    R: Request<LedgerNode<M, C, S>, Item = ()>,
{
    type Item = ();
    type Reply = R::Reply;

    fn command(self) -> PartyCommand<M::Peer, C, S> {
        PartyCommand::Full(self.0.command())
    }
    fn item((): ()) -> Option<()> {
        None
    }
    fn reply(outcome: PartyOutcome<C, S>) -> Option<R::Reply> {
        match outcome {
            PartyOutcome::Full(outcome) => R::reply(outcome),
            PartyOutcome::Light(_) => None,
        }
    }
}

impl<M, C, S, R> Request<Party<M, C, S>> for ToLight<R>
where
    M: Membership,
    C: Consensus,
    S: State,
    R: Request<LightNode<M, C, S>, Item = ()>,
{
    type Item = ();
    type Reply = R::Reply;

    fn command(self) -> PartyCommand<M::Peer, C, S> {
        PartyCommand::Light(self.0.command())
    }
    fn item((): ()) -> Option<()> {
        None
    }
    fn reply(outcome: PartyOutcome<C, S>) -> Option<R::Reply> {
        match outcome {
            PartyOutcome::Light(outcome) => R::reply(outcome),
            PartyOutcome::Full(_) => None,
        }
    }
}

impl<M: Membership, C: Consensus, S: State> fmt::Debug for Party<M, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Full(node) => node.fmt(f),
            Party::Light(client) => client.fmt(f),
        }
    }
}

impl<P: fmt::Debug, C: Consensus, S: State> fmt::Debug for PartyCommand<P, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartyCommand::Full(command) => command.fmt(f),
            PartyCommand::Light(command) => command.fmt(f),
        }
    }
}

impl<C: Consensus, S: State> fmt::Debug for PartyOutcome<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartyOutcome::Full(outcome) => outcome.fmt(f),
            PartyOutcome::Light(outcome) => outcome.fmt(f),
        }
    }
}
