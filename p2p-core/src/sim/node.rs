//! One simulated node: its machine, and what the world keeps for it.

use std::time::Duration;

use super::arrivals::Outbound;
use super::disk::Disk;
use super::world::World;
use super::{Protocol, SimPeer};
use crate::time::nanos;
use crate::{CxState, prefetch};

pub(super) struct Node<P: Protocol, W> {
    pub machine: Option<P>,
    pub state: CxState,
    pub body: Body<P, W>,
}

impl<P: Protocol, W> Node<P, W> {
    /// Prefetches what the record points to.
    #[inline]
    pub(super) fn warm(&self) {
        prefetch(&self.body.timers[..]);
        self.body.outbound.warm();
        if let Some(machine) = &self.machine {
            machine.warm();
        }
    }
}

/// A node without its machine.
pub(super) struct Body<P: Protocol, W> {
    /// Sorted by timer.
    timers: Vec<Armed<P::Timer>>,
    next_timer: u32,
    /// Where the node stands in the list of the living.
    pub place: u32,
    pub paused_until: u64,
    pub outbound: Outbound,
    pub disk: Option<Box<Disk<P::Job, W>>>,
}

/// A timer that is set. Its entry in the event queue is due no later than it, and is pushed on when it comes early.
struct Armed<T> {
    due: u64,
    id: u32,
    /// Where its entry is kept.
    slot: u32,
    timer: T,
}

impl<P: Protocol, W> Default for Body<P, W> {
    fn default() -> Self {
        Body {
            timers: Vec::new(),
            next_timer: 0,
            place: 0,
            paused_until: 0,
            outbound: Outbound::default(),
            disk: None,
        }
    }
}

impl<P: Protocol<Peer = SimPeer>, W> Body<P, W> {
    pub(super) fn set_timer(
        &mut self,
        world: &mut World<P>,
        node: SimPeer,
        after: Duration,
        timer: P::Timer,
    ) {
        let due = world.now.saturating_add(world.global(node, nanos(after)));
        let place = self.timers.binary_search_by(|armed| armed.timer.cmp(&timer));
        if let Ok(i) = place
            && self.timers[i].due <= due
        {
            self.timers[i].due = due;
            return;
        }
        let id = self.next_timer;
        self.next_timer = self.next_timer.wrapping_add(1);
        let slot = world.push_timer(due, node, id);
        let armed = Armed { due, id, slot, timer };
        match place {
            Ok(i) => {
                let earlier = std::mem::replace(&mut self.timers[i], armed);
                world.drop_timer(earlier.slot);
            }
            Err(i) => {
                if self.timers.len() == self.timers.capacity() {
                    self.timers.reserve_exact(1 + self.timers.len() / 2);
                }
                self.timers.insert(i, armed);
            }
        }
    }

    pub(super) fn clear_timer(&mut self, world: &mut World<P>, timer: &P::Timer) {
        if let Ok(i) = self.timers.binary_search_by(|armed| armed.timer.cmp(timer)) {
            world.drop_timer(self.timers.remove(i).slot);
        }
    }

    /// The timer whose turn has come, unless it is not wanted any more or wanted later.
    pub(super) fn fire(&mut self, world: &mut World<P>, node: SimPeer, id: u32) -> Option<P::Timer> {
        let i = self.timers.iter().position(|armed| armed.id == id)?;
        let due = self.timers[i].due.max(self.paused_until);
        if due > world.now {
            self.timers[i].slot = world.push_timer(due, node, id);
            return None;
        }
        Some(self.timers.remove(i).timer)
    }

    /// Forgets what dies with the machine; says where the node stood among the living.
    pub(super) fn crash(&mut self, world: &mut World<P>) -> usize
    where
        W: crate::Worker<P::Job>,
    {
        self.timers.drain(..).for_each(|armed| world.drop_timer(armed.slot));
        self.paused_until = 0;
        if let Some(disk) = &mut self.disk {
            disk.crash(&mut world.disk_rng);
        }
        self.place as usize
    }
}
