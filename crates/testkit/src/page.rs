//! A claim page in one thread's memory. It outlives both ends, as the real one does.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use eagleray_wire::{Claims, SlotState};

/// Cheap to clone: both ends hold the same words.
#[derive(Clone, Debug)]
pub struct SimulatedPage {
    words: Rc<RefCell<Vec<(u64, SlotState)>>>,
    turns: Rc<Cell<u64>>,
}

impl SimulatedPage {
    pub fn new(slots: u32) -> Self {
        let words = vec![(0, SlotState::Free); slots as usize];
        Self {
            words: Rc::new(RefCell::new(words)),
            turns: Rc::default(),
        }
    }

    /// The replica's loop turned.
    pub fn bump(&self) {
        self.turns.set(self.turns.get() + 1);
    }

    fn swap(&self, slot: u32, from: (u64, SlotState), to: SlotState) -> bool {
        match self.words.borrow_mut().get_mut(slot as usize) {
            Some(word) if *word == from => {
                word.1 = to;
                true
            }
            _ => false,
        }
    }
}

impl Claims for SimulatedPage {
    fn queue(&self, slot: u32, sequence: u64) {
        if let Some(word) = self.words.borrow_mut().get_mut(slot as usize) {
            *word = (sequence, SlotState::Queued);
        }
    }

    fn start(&self, slot: u32, sequence: u64) -> bool {
        self.swap(slot, (sequence, SlotState::Queued), SlotState::Started)
    }

    fn take(&self, slot: u32, sequence: u64) -> bool {
        self.swap(slot, (sequence, SlotState::Queued), SlotState::Taken)
    }

    fn read(&self, slot: u32) -> (u64, SlotState) {
        self.words
            .borrow()
            .get(slot as usize)
            .copied()
            .unwrap_or((0, SlotState::Free))
    }

    fn turns(&self) -> u64 {
        self.turns.get()
    }
}
