//! Pinging (DSN 2002 §3.1, §4.3), and suspecting (§4.2).

use std::time::Duration;

use p2p_core::{Cx, Peer, Time};

use super::members::Change;
use super::{MemberState, News, Swim, SwimMsg, SwimTimer};
use crate::membership::{Neighbour, Parting};

/// Whom this node pings in this period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe<P> {
    peer: P,
    sequence: u32,
    answered: bool,
}

/// A ping for somebody else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Relayed<P> {
    sequence: u32,
    asker: P,
    askers: u32,
    at: Time,
}

/// How many pings for others are under way.
pub(super) const MAX_RELAYED: usize = 256;
/// How ill a node may think itself (Lifeguard §IV-A: S).
const MAX_ILL: u32 = 8;

impl<P: Peer> Swim<P> {
    // ---- this node's own pings

    pub(super) fn begin_period(&mut self, cx: &mut Cx<'_, Self>) {
        match self.probe.take() {
            Some(probe) if !probe.answered => {
                self.ill = (self.ill + 1).min(MAX_ILL);
                self.suspect(cx, probe.peer);
            }
            Some(_) => self.ill = self.ill.saturating_sub(1),
            None => {}
        }
        let patience = self.config.period * (1 + self.ill);
        cx.set_timer(patience, SwimTimer::Period);
        self.members.forget(cx.now(), self.suspicion() * 4);
        self.rumours.retain(|rumour| rumour.peer() == self.me || self.members.state(rumour.peer()).is_some());
        self.relayed.retain(|relayed| relayed.at + self.config.period > cx.now());
        let knows = |door| self.members.state(door).is_some_and(|state| state != MemberState::Dead);
        if let Some(door) = self.doors.knock(self.members.alive().len(), knows, cx.rng()) {
            cx.send(door, SwimMsg::Join { incarnation: self.incarnation });
        }
        let Some(peer) = self.next_target(cx) else { return };
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.probe = Some(Probe { peer, sequence, answered: false });
        self.ping(cx, peer, sequence);
        cx.set_timer(self.config.timeout * (1 + self.ill), SwimTimer::Late);
    }

    /// All members in turn, in an order that is random anew each time.
    fn next_target(&mut self, cx: &mut Cx<'_, Self>) -> Option<P> {
        for again in [true, false] {
            while let Some(peer) = self.round.pop() {
                if self.members.alive().binary_search(&peer).is_ok() {
                    return Some(peer);
                }
            }
            if again {
                self.round = self.members.alive().to_vec();
                cx.rng().shuffle(&mut self.round);
            }
        }
        None
    }

    fn ping(&mut self, cx: &mut Cx<'_, Self>, to: P, sequence: u32) {
        let news = self.news_for(to);
        cx.send(to, SwimMsg::Ping { sequence, incarnation: self.incarnation, news });
    }

    pub(super) fn ask_helpers(&mut self, cx: &mut Cx<'_, Self>) {
        let Some(Probe { peer, sequence, answered: false }) = self.probe else { return };
        let mut others: Vec<P> =
            self.members.alive().iter().copied().filter(|other| *other != peer).collect();
        for _ in 0..self.config.helpers.min(others.len()) {
            let helper = others.swap_remove(cx.rng().index(others.len()));
            let news = self.news_for(helper);
            cx.send(helper, SwimMsg::PingFor { sequence, target: peer, news });
        }
    }

    pub(super) fn on_ack(&mut self, cx: &mut Cx<'_, Self>, from: P, sequence: u32, news: Vec<News<P>>) {
        self.hear(cx, news);
        if let Some(at) = self.relayed.iter().position(|relayed| relayed.sequence == sequence) {
            let Relayed { asker, askers, .. } = self.relayed.swap_remove(at);
            let news = self.news_for(asker);
            cx.send(asker, SwimMsg::Ack { sequence: askers, news });
        }
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.sequence == sequence) {
            // From the member itself or a helper; others do not know the number.
            probe.answered |= probe.peer == from || self.members.state(from).is_some();
        }
    }

    // ---- others' pings

    pub(super) fn on_ping(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        sequence: u32,
        incarnation: u64,
        news: Vec<News<P>>,
    ) {
        let stranger = self.members.state(from).is_none();
        self.hear_from(cx, from, incarnation);
        self.hear(cx, news);
        let news = self.news_for(from);
        cx.send(from, SwimMsg::Ack { sequence, news });
        if stranger {
            self.tell_group(cx, from);
        }
    }

    pub(super) fn on_ping_for(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: P,
        sequence: u32,
        target: P,
        news: Vec<News<P>>,
    ) {
        self.hear(cx, news);
        // Members alone are pinged, for members alone.
        let members = [from, target].iter().all(|peer| self.members.state(*peer).is_some());
        if !members || self.relayed.len() >= MAX_RELAYED {
            return;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let mine = self.sequence;
        self.relayed.push(Relayed { sequence: mine, asker: from, askers: sequence, at: cx.now() });
        self.ping(cx, target, mine);
    }

    // ---- suspecting

    /// How long a member is suspected.
    pub(super) fn suspicion(&self) -> Duration {
        let digits = (self.members.alive().len() + 1).max(10).ilog10();
        self.config.period * self.config.suspicion * digits
    }

    pub(super) fn suspect(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        if let Some(News { incarnation, state: MemberState::Alive, .. }) = self.members.news_of(peer) {
            self.hear(cx, [News { peer, incarnation, state: MemberState::Suspect }]);
        }
    }

    /// It has not said that it lives.
    pub(super) fn confirm(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        if let Some(News { incarnation, state: MemberState::Suspect, .. }) = self.members.news_of(peer) {
            self.hear(cx, [News { peer, incarnation, state: MemberState::Dead }]);
        }
    }

    /// It is too slow: dead to this node alone, until it says that it lives.
    pub(super) fn expel(&mut self, cx: &mut Cx<'_, Self>, peer: P) {
        let Some(news) = self.members.news_of(peer) else { return };
        if self.members.apply(News { state: MemberState::Dead, ..news }, cx.now()) == Change::Down {
            cx.clear_timer(SwimTimer::Suspect(peer));
            cx.emit(Neighbour::Down(peer, Parting::Slow));
        }
    }
}
