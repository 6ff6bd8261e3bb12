//! News, which travels on pings and their answers (DSN 2002 §4.1); joining and leaving.

use p2p_core::{Cx, Peer};

use super::members::Change;
use super::{MAX_LEAP, MAX_NEWS, MemberState, News, Swim, SwimMsg, SwimTimer};
use crate::doors::SELDOM;
use crate::membership::{Neighbour, Parting};

/// A piece of news that is still passed on: at most one of each member, and of this node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rumour<P> {
    news: News<P>,
    /// How often it was passed on.
    times: u32,
}

impl<P: Peer> Rumour<P> {
    /// Of whom it is.
    pub(super) fn peer(&self) -> P {
        self.news.peer
    }
}

impl<P: Peer> Swim<P> {
    // ---- telling

    /// What to tell a member: what was told least often; and first of all what is said of itself, if that is not well
    /// (Lifeguard §IV-C).
    pub(super) fn news_for(&mut self, to: P) -> Vec<News<P>> {
        let size = self.members.alive().len() + 1;
        let enough = self.config.spread * (size.ilog2() + 1);
        self.rumours.sort_by_key(|rumour| rumour.times);
        let mut news: Vec<News<P>> =
            self.members.news_of(to).filter(|news| news.state != MemberState::Alive).into_iter().collect();
        for rumour in &mut self.rumours {
            if news.len() == MAX_NEWS {
                break;
            }
            if rumour.news.peer != to {
                rumour.times += 1;
                news.push(rumour.news);
            }
        }
        self.rumours.retain(|rumour| rumour.times < enough);
        news
    }

    fn pass_on(&mut self, news: News<P>) {
        self.rumours.retain(|rumour| rumour.news.peer != news.peer);
        self.rumours.push(Rumour { news, times: 0 });
    }

    // ---- hearing

    pub(super) fn hear(&mut self, cx: &mut Cx<'_, Self>, news: impl IntoIterator<Item = News<P>>) {
        for news in news.into_iter().take(self.config.max_members + 1) {
            match news.peer == self.me {
                true => self.hear_of_myself(news),
                false => self.hear_of(cx, news),
            }
        }
    }

    /// A member says of itself that it lives.
    pub(super) fn hear_from(&mut self, cx: &mut Cx<'_, Self>, from: P, incarnation: u64) {
        self.members.correct(from, incarnation);
        self.hear(cx, [News { peer: from, incarnation, state: MemberState::Alive }]);
    }

    /// Somebody takes this node for dead: says that it lives.
    fn hear_of_myself(&mut self, news: News<P>) {
        // What was said of an earlier life of this node may be somewhat higher.
        let told = self.incarnation..=self.incarnation.saturating_add(MAX_LEAP);
        if news.state != MemberState::Alive && told.contains(&news.incarnation) {
            self.incarnation = news.incarnation.saturating_add(1);
            self.pass_on(News { peer: self.me, incarnation: self.incarnation, state: MemberState::Alive });
        }
    }

    fn hear_of(&mut self, cx: &mut Cx<'_, Self>, news: News<P>) {
        let peer = news.peer;
        if self.members.state(peer).is_none() && self.members.len() >= self.config.max_members {
            return;
        }
        let change = self.members.apply(news, cx.now());
        if change == Change::None {
            return;
        }
        self.pass_on(news);
        match news.state {
            MemberState::Suspect => cx.set_timer(self.suspicion(), SwimTimer::Suspect(peer)),
            MemberState::Alive | MemberState::Dead | MemberState::Left => {
                cx.clear_timer(SwimTimer::Suspect(peer));
            }
        }
        match change {
            Change::Up => {
                self.doors.found_again(peer);
                self.doors.found();
                self.was_in = true;
                cx.emit(Neighbour::Up(peer));
            }
            Change::Down => {
                let why = if news.state == MemberState::Left { Parting::Left } else { Parting::Silent };
                if why == Parting::Silent {
                    self.doors.lose(peer);
                }
                cx.emit(Neighbour::Down(peer, why));
                if self.members.alive().is_empty() {
                    self.doors.begin();
                    self.seek(cx);
                }
            }
            Change::Other | Change::None => {}
        }
    }

    // ---- joining and leaving

    /// Knows nobody: tries the next door.
    pub(super) fn seek(&mut self, cx: &mut Cx<'_, Self>) {
        if self.left || !self.members.alive().is_empty() {
            return;
        }
        let mean = self.doors.patience(self.config.period * SELDOM as u32);
        let door = self.doors.next().or_else(|| self.doors.any(cx.rng()));
        let wait = cx.rng().duration(mean / 2, mean * 3 / 2);
        cx.set_timer(wait, SwimTimer::Join);
        if let Some(door) = door {
            cx.send(door, SwimMsg::Join { incarnation: self.incarnation });
        }
    }

    pub(super) fn on_join(&mut self, cx: &mut Cx<'_, Self>, from: P, incarnation: u64) {
        self.hear_from(cx, from, incarnation);
        self.tell_group(cx, from);
    }

    pub(super) fn tell_group(&self, cx: &mut Cx<'_, Self>, to: P) {
        let me = News { peer: self.me, incarnation: self.incarnation, state: MemberState::Alive };
        // What is said of the receiver may be that it is dead: it has to know.
        let receiver = self.members.news_of(to).filter(|news| news.state == MemberState::Dead);
        let others = self.members.news().filter(|news| news.peer != to);
        cx.send(to, SwimMsg::Group([me].into_iter().chain(receiver).chain(others).collect()));
    }

    pub(super) fn on_group(&mut self, cx: &mut Cx<'_, Self>, from: P, news: Vec<News<P>>) {
        let incarnation = self.incarnation;
        self.hear(cx, news);
        // It takes this node for dead.
        if self.incarnation != incarnation {
            cx.send(from, SwimMsg::Join { incarnation: self.incarnation });
        }
    }

    pub(super) fn leave(&mut self, cx: &mut Cx<'_, Self>) {
        self.left = true;
        let goodbye = News { peer: self.me, incarnation: self.incarnation, state: MemberState::Left };
        for peer in self.members.alive().to_vec() {
            // Those who are told pass it on.
            cx.send(peer, SwimMsg::Group(vec![goodbye]));
            cx.clear_timer(SwimTimer::Suspect(peer));
            cx.emit(Neighbour::Down(peer, Parting::Left));
        }
        self.members = Default::default();
        for timer in [SwimTimer::Period, SwimTimer::Late, SwimTimer::Join] {
            cx.clear_timer(timer);
        }
    }
}
