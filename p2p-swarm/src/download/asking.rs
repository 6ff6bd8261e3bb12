//! What to ask next, and of whom.

use std::collections::BTreeMap;
use std::time::Duration;

use p2p_core::{Peer, Time};

use super::{Asked, Download, Flight, Stage, Step};
use crate::command::{FetchItem, Standing};
use crate::job::Work;
use crate::msg::{Part, QuestionId, SwarmMsg};
use crate::provider::Provider;

/// How many may be asked for one run at a time.
const MAX_ASKED: usize = 3;

impl<P: Peer> Download<P> {
    /// Asks for as much as there is room for, or finishes.
    pub(crate) fn go_on(&mut self, step: &mut Step<'_, '_, P>) {
        if self.stage != Stage::Running {
            return;
        }
        if self.size.is_some() && self.have.is_full() {
            self.stage = Stage::Finishing;
            self.start(step.cx, Work::Finish { fetch: self.number });
            return;
        }
        while self.flights.len() < step.config.outstanding {
            let Some(peer) = self.most_room(step.cx.now(), &[]) else { return };
            let Some(part) = self.next_part() else { break };
            if !self.ask(step, peer, part) {
                if let Part::Run(run) = part {
                    self.again.insert(run);
                }
                return;
            }
        }
        self.endgame(step);
    }

    fn next_part(&mut self) -> Option<Part> {
        if self.size.is_none() {
            return Some(Part::Last).filter(|part| !self.flights.contains_key(part));
        }
        loop {
            let run = match self.again.pop_first() {
                Some(run) => run,
                None => {
                    let run = self.have.first_missing(self.cursor)?;
                    self.cursor = run + 1;
                    run
                }
            };
            if !self.have.contains(run) && !self.flights.contains_key(&Part::Run(run)) {
                return Some(Part::Run(run));
            }
        }
    }

    /// The provider with most room that is not slow, if there is one, and not among these.
    fn most_room(&self, now: Time, except: &[(P, Time)]) -> Option<P> {
        let others =
            self.providers.iter().filter(|(peer, _)| !except.iter().any(|(other, _)| other == *peer));
        let free = others.filter(|(_, provider)| provider.room(now) > 0);
        let best = free.max_by_key(|(_, p)| (p.standing == Standing::Good, p.room(now)));
        best.map(|(peer, _)| *peer)
    }

    fn ask(&mut self, step: &mut Step<'_, '_, P>, peer: P, part: Part) -> bool {
        let now = step.cx.now();
        let asked = Asked { fetch: self.number, part, at: now };
        let Ok(number) = step.asks.insert(peer, now + step.config.silence, asked) else { return false };
        let flight = self.flights.entry(part).or_insert_with(|| Flight { asked: Vec::new(), writing: None });
        flight.asked.push((peer, now));
        if let Some(provider) = self.providers.get_mut(&peer) {
            provider.in_flight += 1;
        }
        let id = QuestionId { session: step.session, number };
        step.cx.send(peer, SwarmMsg::Ask { id, root: self.root, part });
        true
    }

    /// Nothing is left to ask for. Whoever is idle is asked for what others have been asked for longest, if that is
    /// longer ago than it would need itself, twice over.
    fn endgame(&mut self, step: &mut Step<'_, '_, P>) {
        let now = step.cx.now();
        let idle = |p: &Provider| p.standing == Standing::Good && p.in_flight == 0 && p.room(now) > 0;
        let idle: Vec<(P, Duration)> = self
            .providers
            .iter()
            .filter(|(_, p)| idle(p))
            .filter_map(|(peer, p)| Some((*peer, p.smoothed()?)))
            .collect();
        for (peer, needs) in idle {
            let waiting = self.flights.iter().filter_map(|(part, flight)| match flight.asked.as_slice() {
                [(other, at)] if flight.writing.is_none() && *other != peer => Some((*at, *part)),
                _ => None,
            });
            if let Some((at, part)) = waiting.min()
                && now - at > needs * 2
            {
                self.ask(step, peer, part);
            }
        }
    }

    /// Asks others for what is late.
    pub(super) fn chase(&mut self, step: &mut Step<'_, '_, P>) {
        let now = step.cx.now();
        let fastest = |except: &P| {
            let good = self.providers.iter().filter(|(peer, p)| *peer != except && p.is_usable());
            good.filter_map(|(_, p)| p.smoothed()).min()
        };
        let patience: BTreeMap<P, Duration> =
            self.providers.iter().map(|(peer, p)| (*peer, p.patience(fastest(peer)))).collect();
        let late = |(peer, at): &(P, Time)| patience.get(peer).is_some_and(|patience| now - *at > *patience);
        let mut chased = Vec::new();
        for (part, flight) in &self.flights {
            if flight.writing.is_none() && flight.asked.len() < MAX_ASKED && flight.asked.iter().all(late) {
                chased.push((*part, flight.asked.clone()));
            }
        }
        for (part, asked) in chased {
            for (peer, _) in &asked {
                if self.providers.get_mut(peer).is_some_and(Provider::late) {
                    step.cx.item(self.op, FetchItem::Slow(*peer));
                }
            }
            if let Some(other) = self.most_room(now, &asked) {
                self.ask(step, other, part);
            }
        }
    }
}
