//! Who was held back by quota, and when they are looked at again.
//!
//! A role whose clients were offered less than there is, because of a limit or the headroom, is noted. It is woken when the
//! reason weakens: a role on its path consumes less or may have more, its credit grows, or the surplus does. Then the
//! followers that have something free are gone through for the woken, and no further than until their bounds are reached
//! again, which as a rule is at the first.
//!
//! Woken roles that many followers were gone through for in vain (their clients refuse what is there) are not woken again
//! within an allocation interval: each task that ends would cost a look at the whole cluster.

use crate::{Allocator, quota::Surplus, tree::subtree};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tepui_model::Time;

/// Going through so many followers in vain costs next to nothing.
pub(crate) const CHEAP: usize = 64;

/// Stands for all roles among the waiting.
const ALL: u32 = u32::MAX;

/// Who was held back, and who is to be looked at again.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldBack {
    by_limits: BTreeMap<Arc<str>, u32>,
    by_headroom: BTreeMap<Arc<str>, u32>,
    /// Walks were not made at all, since the surplus was too little for anybody.
    all_by_headroom: bool,
    /// To look at in the next allocation.
    pub(crate) woken: BTreeSet<u32>,
    pub(crate) all_woken: bool,
    /// To wake later.
    waiting: BTreeSet<(Time, u32)>,
    all_next_look: Time,
    /// After the last allocation.
    surplus: Surplus,
}

impl HeldBack {
    pub(crate) fn note(&mut self, name: &Arc<str>, role: u32, by_limits: bool, by_headroom: bool) {
        for (is_held, map) in [
            (by_limits, &mut self.by_limits),
            (by_headroom, &mut self.by_headroom),
        ] {
            if is_held && !map.contains_key(name) {
                map.insert(name.clone(), role);
            }
        }
    }
    pub(crate) fn note_all(&mut self) {
        self.all_by_headroom = true;
    }
    pub(crate) fn release(&mut self, name: &str) {
        self.by_limits.remove(name);
        self.by_headroom.remove(name);
    }
    /// When the next waiting role is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.waiting.first().map(|(at, _)| *at)
    }
}

impl Allocator {
    /// Whether an event has weakened what held somebody back.
    pub(crate) fn has_loosened(&self) -> bool {
        !self.loosened.is_empty()
            || !self.held_back.woken.is_empty()
            || self.held_back.all_woken
            || self.has_surplus_grown()
    }

    /// Finds out who is to be looked at again.
    pub(crate) fn wake(&mut self, now: Time) {
        while let Some((at, role)) = self.held_back.waiting.first().copied()
            && at <= now
        {
            self.held_back.waiting.pop_first();
            if role == ALL {
                self.held_back.all_woken = true;
            } else {
                self.held_back.woken.insert(role);
            }
        }
        for role in std::mem::take(&mut self.loosened) {
            let Some(name) = self.roles.get(role).map(|role| role.name.clone()) else {
                continue;
            };
            let held = &mut self.held_back;
            let roles = subtree(&held.by_limits, &name).chain(subtree(&held.by_headroom, &name));
            held.woken.extend(roles.map(|(_, role)| *role));
        }
        if self.has_surplus_grown() {
            if self.alternatives_of_surplus() != 0 {
                self.held_back.all_woken |= self.held_back.all_by_headroom;
                let roles = self.held_back.by_headroom.values();
                self.held_back.woken.extend(roles);
            }
            self.note_surplus();
        }
    }

    /// All of a role and below it are looked at again.
    pub(crate) fn wake_subtree(&mut self, name: &str) {
        let roles = subtree(&self.role_index, name).map(|(_, role)| *role);
        self.held_back.woken.extend(roles);
    }

    /// Takes the woken that may be looked at now; the others wait.
    pub(crate) fn take_woken(&mut self, now: Time) -> Vec<u32> {
        let woken = std::mem::take(&mut self.held_back.woken);
        let mut due = Vec::with_capacity(woken.len());
        for slot in woken {
            let Some(role) = self.roles.get(slot) else {
                continue;
            };
            if !role.clients.has_active() {
                continue;
            }
            if self.is_shut(slot) {
                // Who is shut stays noted, or is woken as a whole when its limits open.
                self.hold_again(slot);
            } else if role.next_look > now {
                self.held_back.waiting.insert((role.next_look, slot));
            } else {
                due.push(slot);
            }
        }
        due
    }

    /// Whether all are to be looked at now.
    pub(crate) fn take_all_woken(&mut self, now: Time) -> bool {
        if !std::mem::take(&mut self.held_back.all_woken) {
            return false;
        }
        let at = self.held_back.all_next_look;
        if at > now {
            self.held_back.waiting.insert((at, ALL));
            return false;
        }
        self.held_back.all_by_headroom = false;
        true
    }

    /// What came of going through the followers for the woken.
    pub(crate) fn looked_for_all(&mut self, in_vain: usize, now: Time) {
        if in_vain > CHEAP {
            self.held_back.all_next_look = now + self.options.allocation_interval;
        }
    }

    /// The same, for one role.
    pub(crate) fn looked_for(&mut self, role: u32, in_vain: usize, now: Time) {
        if in_vain > CHEAP
            && let Some(role) = self.roles.get_mut(role)
        {
            role.next_look = now + self.options.allocation_interval;
        }
    }

    /// It may be held back on followers that were not looked at.
    pub(crate) fn hold_again(&mut self, role: u32) {
        let Some(entry) = self.roles.get(role) else {
            return;
        };
        let name = entry.name.clone();
        if self.is_at_limits(role) {
            // It is woken when they leave something again, whatever else held it back.
            return self.held_back.release(&name);
        }
        let by_headroom = !self.roles[crate::ROOT].required.is_empty();
        self.held_back.note(&name, role, true, by_headroom);
    }

    /// A role goes: nothing may refer to its slot.
    pub(crate) fn forget_role(&mut self, slot: u32, name: &str) {
        self.held_back.release(name);
        self.held_back.woken.remove(&slot);
        let next_look = self.roles[slot].next_look;
        self.held_back.waiting.remove(&(next_look, slot));
        self.loosened.remove(&slot);
        self.stale.remove(&slot);
    }

    /// Remembers the surplus, to see whether it grows.
    pub(crate) fn note_surplus(&mut self) {
        self.held_back.surplus = self.surplus();
    }

    fn has_surplus_grown(&self) -> bool {
        if self.held_back.surplus.is_empty() {
            return false;
        }
        let now = self.surplus();
        self.held_back.surplus.iter().any(|(name, before)| {
            let found = now.iter().find(|(own, _)| own == name);
            // What is no longer required bounds nobody.
            found.is_none_or(|(_, amount)| amount > before)
        })
    }

    pub(crate) fn check_held_back(&self) {
        let held = &self.held_back;
        for (name, role) in held.by_limits.iter().chain(&held.by_headroom) {
            assert_eq!(
                self.role_index.get(name),
                Some(role),
                "who is noted is there"
            );
        }
        for role in held.woken.iter().chain(&self.loosened) {
            assert!(self.roles.get(*role).is_some(), "who is woken is there");
        }
        for (at, role) in &held.waiting {
            assert!(
                *role == ALL || self.roles.get(*role).is_some_and(|r| r.next_look == *at),
                "who waits is there"
            );
        }
    }
}
