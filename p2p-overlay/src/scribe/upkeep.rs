//! How a tree is kept: heartbeats down, refreshes up, and what to do about those who are silent (JSAC §III-B).
//!
//! Heartbeats begin at the root; whoever hears one passes it on at once, with itself at the end of the path. A node
//! whose parent is silent sends its own, so that those below it do not all look for parents at the same time.

use p2p_core::{Cx, Down, NoJob};

use super::tree::{Path, Place, Tree};
use super::{Scribe, ScribeMsg, ScribeTimer};
use crate::pubsub::Topic;
use crate::structured::{Next, SingleRoot};

impl<O: SingleRoot<Job = NoJob>> Scribe<O> {
    fn is_at_rest(&self) -> bool {
        self.config.heartbeat.is_zero()
    }

    pub(super) fn look_after_later(&self, cx: &mut Cx<'_, Self>, topic: Topic) {
        if !self.is_at_rest() {
            let after = cx.rng().duration(self.config.heartbeat / 2, self.config.heartbeat);
            cx.set_timer(after, ScribeTimer::Upkeep(topic));
        }
    }

    /// Looks after a tree: several times in the time that a child is patient.
    pub(super) fn look_after(&mut self, cx: &mut Cx<'_, Self>, topic: Topic) {
        let (now, config) = (cx.now(), self.config);
        let Some(tree) = self.trees.get_mut(&topic) else { return };
        tree.children.retain(|_, child| {
            let lasts = if child.proved { config.refresh * 3 } else { config.heartbeat };
            child.refreshed + lasts > now
        });
        if tree.is_idle() {
            return self.drop_if_idle(cx, topic);
        }
        self.look_after_later(cx, topic);
        self.check_place(cx, topic);
        let Some(tree) = self.trees.get_mut(&topic) else { return };
        // At the root heartbeats begin; elsewhere they are only missing when those above are.
        let silence = match &mut tree.place {
            Place::Root => config.heartbeat / 2,
            Place::Under(parent) => {
                if parent.heard + config.patience() <= now {
                    let silent = parent.peer;
                    cx.send(silent, ScribeMsg::Leave { topic });
                    return self.seek(cx, topic, Some(silent));
                }
                if parent.refreshed + config.refresh <= now {
                    parent.refreshed = now;
                    cx.send(parent.peer, ScribeMsg::Refresh { topic });
                }
                config.heartbeat
            }
            Place::Seeking(_) => config.heartbeat,
        };
        if tree.told + silence <= now {
            self.tell_children(cx, topic);
        }
    }

    /// The peers next to this node have changed: it may be the root no more.
    pub(super) fn check_roots(&mut self, cx: &mut Cx<'_, Self>) {
        let rooted = self.trees.iter().filter(|(_, tree)| matches!(tree.place, Place::Root));
        for topic in rooted.map(|(topic, _)| *topic).collect::<Vec<Topic>>() {
            self.check_place(cx, topic);
        }
    }

    /// The root that knows of another becomes its child, with all that is below; whoever is responsible for the topic
    /// becomes the root.
    fn check_place(&mut self, cx: &mut Cx<'_, Self>, topic: Topic) {
        let Some(tree) = self.trees.get(&topic) else { return };
        match tree.place {
            Place::Root if !self.may_be_root(topic) => self.seek(cx, topic, None),
            Place::Under(_) if self.next(topic, false, &[]) == Next::Mine => self.become_root(cx, topic),
            _ => {}
        }
    }

    pub(super) fn tell_children(&mut self, cx: &mut Cx<'_, Self>, topic: Topic) {
        let me = self.overlay.me();
        let Some(tree) = self.trees.get_mut(&topic) else { return };
        tree.told = cx.now();
        if tree.children.is_empty() {
            return;
        }
        let path = tree.path(me);
        for child in tree.children.keys() {
            cx.send(*child, ScribeMsg::Heartbeat { topic, path: path.clone() });
        }
    }

    // ---- from a parent

    pub(super) fn on_heartbeat(
        &mut self,
        cx: &mut Cx<'_, Self>,
        from: O::Peer,
        topic: Topic,
        path: Path<O::Peer>,
    ) {
        let me = self.overlay.me();
        let parent = match self.trees.get_mut(&topic) {
            Some(Tree { place: Place::Under(parent), .. }) if parent.peer == from => parent,
            // It does not know yet that this node has another parent, or none.
            _ => return cx.send(from, ScribeMsg::Leave { topic }),
        };
        if !path.suits(from, me) {
            cx.send(from, ScribeMsg::Leave { topic });
            return self.seek(cx, topic, Some(from));
        }
        parent.heard = cx.now();
        parent.path = path;
        self.tell_children(cx, topic);
        self.tell_members(cx, topic);
    }

    pub(super) fn on_gone(&mut self, cx: &mut Cx<'_, Self>, from: O::Peer, topic: Topic) {
        if self.parent(topic) == Some(from) {
            self.seek(cx, topic, None);
        }
    }

    // ---- from a child

    pub(super) fn on_refresh(&mut self, cx: &mut Cx<'_, Self>, from: O::Peer, topic: Topic) {
        let child = self.trees.get_mut(&topic).and_then(|tree| tree.children.get_mut(&from));
        match child {
            Some(child) => {
                child.refreshed = cx.now();
                child.proved = true;
            }
            None => cx.send(from, ScribeMsg::Gone { topic }),
        }
    }

    // ---- the dead

    /// A peer cannot be reached, or what was on the way to it is lost. One that is well joins again.
    pub(super) fn on_link_down(&mut self, cx: &mut Cx<'_, Self>, peer: O::Peer, why: Down) {
        if let Down::Idle | Down::Shutdown = why {
            return;
        }
        while let Some(op) = self.asked.give_up(peer) {
            self.root_silent(cx, op);
        }
        for topic in self.topics().collect::<Vec<Topic>>() {
            self.remove_child(cx, topic, peer);
            let Some(tree) = self.trees.get(&topic) else { continue };
            match &tree.place {
                Place::Under(parent) if parent.peer == peer => self.seek(cx, topic, Some(peer)),
                Place::Seeking(seek) if seek.via == Some(peer) => self.join_again(cx, topic),
                Place::Root | Place::Under(_) | Place::Seeking(_) => {}
            }
        }
    }
}
