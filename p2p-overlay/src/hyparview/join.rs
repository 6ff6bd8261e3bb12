//! Into the network (DSN 2007 §4.2), and back into it.

use p2p_core::{Cx, Keyed};

use super::{HyParView, HyParViewMsg, HyParViewTimer};
use crate::doors::SELDOM;

impl<P: Keyed> HyParView<P> {
    // ---- the newcomer

    /// Nobody is left: looks for the network again, until a door leads in. That somebody else joins here meanwhile is
    /// not enough: the two would be a network of their own.
    pub(super) fn begin_join(&mut self, cx: &mut Cx<'_, Self>) {
        if !self.joining {
            self.joining = true;
            self.doors.begin();
            self.try_door(cx);
        }
    }

    pub(super) fn try_door(&mut self, cx: &mut Cx<'_, Self>) {
        if self.left || !self.joining {
            return;
        }
        let period = self.config.shuffle.max(self.config.upkeep);
        let mean = self.doors.patience(period);
        let (door, wait) = match self.doors.next() {
            Some(door) => (Some(door), cx.rng().duration(mean / 2, mean * 3 / 2)),
            // All were tried, but others have come: they are its network.
            None if !self.views.active().is_empty() => {
                self.joining = false;
                return;
            }
            // And nobody answers: seldom now.
            None => (self.doors.any(cx.rng()), cx.rng().duration(period / 2, period * SELDOM as u32 / 4)),
        };
        cx.set_timer(wait, HyParViewTimer::Join);
        if let Some(door) = door {
            self.ask(cx, door, HyParViewMsg::Join);
        }
    }

    // ---- those who are in

    pub(super) fn on_join(&mut self, cx: &mut Cx<'_, Self>, from: P) {
        let was_active = self.views.is_active(from);
        if !was_active && !self.strangers.may(cx.now(), from) {
            return self.disconnect(cx, from);
        }
        self.take_in(cx, from);
        cx.send(from, HyParViewMsg::Accepted);
        if !was_active {
            let steps = self.config.active_walk;
            for peer in self.views.active().iter().filter(|peer| **peer != from) {
                cx.send(*peer, HyParViewMsg::ForwardJoin { newcomer: from, steps });
            }
        }
    }

    pub(super) fn on_forward_join(&mut self, cx: &mut Cx<'_, Self>, from: P, newcomer: P, steps: u8) {
        // Only neighbours are believed: anybody else could have strangers dialled.
        if newcomer == self.me || !self.views.is_active(from) || self.views.is_active(newcomer) {
            return;
        }
        let steps = steps.min(self.config.active_walk);
        let next = match steps {
            0 => None,
            _ => self.views.any_active(cx.rng(), |peer| peer != from && peer != newcomer),
        };
        let Some(next) = next else {
            return self.ask(cx, newcomer, HyParViewMsg::Neighbour { urgent: true });
        };
        if steps == self.config.passive_walk {
            self.note(cx, newcomer, &mut Vec::new());
        }
        cx.send(next, HyParViewMsg::ForwardJoin { newcomer, steps: steps - 1 });
    }
}
