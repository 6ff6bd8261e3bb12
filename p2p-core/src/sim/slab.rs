//! Values that stay where they were put until they are taken out.

use crate::prefetch;

#[derive(Debug)]
enum Slot<T> {
    Free { next: u32 },
    Used(T),
}

/// Storage with stable indices; freed places are used again, the last one freed first.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: u32,
}

const END: u32 = u32::MAX;

impl<T> Slab<T> {
    pub(super) const fn new() -> Slab<T> {
        Slab { slots: Vec::new(), free: END }
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        let index = self.free;
        if index == END {
            self.slots.push(Slot::Used(value));
            return (self.slots.len() - 1) as u32;
        }
        let slot = &mut self.slots[index as usize];
        let Slot::Free { next } = *slot else { unreachable!("the free list leads to free places only") };
        self.free = next;
        *slot = Slot::Used(value);
        index
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.slots.get_mut(index as usize)? {
            Slot::Used(value) => Some(value),
            Slot::Free { .. } => None,
        }
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        match self.slots.get(index as usize)? {
            Slot::Used(value) => Some(value),
            Slot::Free { .. } => None,
        }
    }

    pub(super) fn prefetch(&self, index: u32) {
        if let Some(slot) = self.slots.get(index as usize) {
            prefetch(slot);
        }
    }

    pub(super) fn take(&mut self, index: u32) -> Option<T> {
        let slot = self.slots.get_mut(index as usize)?;
        if matches!(slot, Slot::Free { .. }) {
            return None;
        }
        let Slot::Used(value) = std::mem::replace(slot, Slot::Free { next: self.free }) else { return None };
        self.free = index;
        Some(value)
    }
}
