//! Dense storage under small, reusable indexes.
//!
//! Whoever removes an entry also removes every reference to its index, so indexes may be reused. Entries are shared with
//! copies of the storage until either side changes one: that makes a snapshot cheap.

use std::sync::Arc;

/// Entries by index.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Vec<Option<Arc<T>>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
            free: self.free.clone(),
        }
    }
}

impl<T: Clone> Slots<T> {
    pub(crate) fn insert(&mut self, entry: T) -> u32 {
        let entry = Some(Arc::new(entry));
        match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
        }
    }
    pub(crate) fn remove(&mut self, index: u32) -> Option<Arc<T>> {
        let entry = self.entries.get_mut(index as usize)?.take();
        if entry.is_some() {
            self.free.push(index);
        }
        entry
    }
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.entries.get(index as usize)?.as_deref()
    }
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let entry = self.entries.get_mut(index as usize)?.as_mut()?;
        Some(Arc::make_mut(entry))
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.entries
            .iter()
            .enumerate()
            .filter_map(|(i, entry)| Some((i as u32, entry.as_deref()?)))
    }
    /// The indexes in use.
    pub(crate) fn indexes(&self) -> Vec<u32> {
        self.iter().map(|(index, _)| index).collect()
    }
}

/// For indexes that the allocator's own indexes hold: they are live by construction.
impl<T: Clone> std::ops::Index<u32> for Slots<T> {
    type Output = T;
    fn index(&self, index: u32) -> &T {
        self.get(index).expect("live index")
    }
}

impl<T: Clone> std::ops::IndexMut<u32> for Slots<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.get_mut(index).expect("live index")
    }
}

/// A set of indexes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks(Vec<u64>);

impl Marks {
    pub(crate) fn set(&mut self, index: u32) {
        let word = index as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (index % 64);
    }
    pub(crate) fn contains(&self, index: u32) -> bool {
        let word = self.0.get(index as usize / 64);
        word.is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}
