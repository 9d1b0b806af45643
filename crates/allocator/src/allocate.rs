//! Making offers.

use crate::{
    Allocator,
    alternatives::{ANY, Alternatives, Free},
    options::OfferedResources,
    portion::{Stage, Turn},
    state::Whom,
    walk::{FEW, Place, Scope, Taker},
};
use std::collections::{BTreeMap, BTreeSet};
use tepui_model::{Rng, Time};

/// Where offers go, and what they need on the way.
struct Round<'a> {
    now: Time,
    rng: &'a mut Rng,
    out: &'a mut Vec<OfferedResources>,
}

impl Allocator {
    /// Offers what can be offered, as far as something has changed since the last call. The random
    /// order of followers spreads load (as in the reference); everything else is deterministic.
    pub fn allocate(&mut self, now: Time, rng: &mut Rng, out: &mut Vec<OfferedResources>) {
        self.expire_filters(now);
        self.wake(now);
        if !(self.hungry.is_empty() && self.dirty.is_empty() && !self.has_loosened()) {
            self.reconsider_budgets();
            if self.totals.settle() {
                self.refresh_all_orders(rng);
            } else {
                self.refresh_orders(rng);
            }
            let mut round = Round { now, rng, out };
            self.serve_changes(&mut round);
            self.serve_woken(&mut round);
            self.settle_budgets();
        }
        self.note_surplus();
    }

    /// Followers that have changed, and clients that can take more than before.
    fn serve_changes(&mut self, round: &mut Round<'_>) {
        let hungry = std::mem::take(&mut self.hungry);
        let all_hungry = self.scope_of(hungry.iter().copied());
        let mut work = self.take_work(&hungry);
        for stage in [Stage::Guarantees, Stage::FairShares] {
            if stage == Stage::Guarantees && self.creditors.is_empty() {
                continue;
            }
            shuffle(&mut work, round.rng);
            for (slot, whom) in &work {
                match whom {
                    Whom::All => self.offer(round, *slot, stage, &Scope::Everyone),
                    Whom::Only(clients) if clients.is_empty() => {
                        self.offer(round, *slot, stage, &all_hungry);
                    }
                    Whom::Only(clients) => {
                        let mut both: Vec<u32> = clients.to_vec();
                        both.extend(&hungry);
                        both.sort_unstable();
                        both.dedup();
                        both.retain(|client| self.clients.get(*client).is_some());
                        let scope = self.scope_of(both.iter().copied());
                        self.offer(round, *slot, stage, &scope);
                    }
                }
            }
        }
    }

    fn take_work(&mut self, hungry: &BTreeSet<u32>) -> Vec<(u32, Whom)> {
        let mut dirty: BTreeMap<u32, Whom> = std::mem::take(&mut self.dirty);
        if hungry.is_empty() {
            dirty.retain(|slot, _| self.free.contains(*slot));
            return dirty.into_iter().collect();
        }
        let few = hungry.len() <= FEW;
        let mut wanted = if few { 0 } else { ANY };
        for client in hungry.iter().filter(|_| few) {
            wanted |= self.alternatives_of_role(self.clients[*client].role);
        }
        let mut from = 0;
        while let Some(slot) = self.free.next(from, wanted) {
            from = slot + 1;
            dirty
                .entry(slot)
                .or_insert_with(|| Whom::Only(Default::default()));
        }
        dirty.retain(|slot, _| self.free.contains(*slot));
        dirty.into_iter().collect()
    }

    /// Roles that quota held back, and no longer does.
    fn serve_woken(&mut self, round: &mut Round<'_>) {
        if self.take_all_woken(round.now) {
            self.go_through_for_all(round);
        }
        let mut woken = self.take_woken(round.now);
        if woken.is_empty() || self.free.is_empty() {
            return;
        }
        for role in &woken {
            let name = self.roles[*role].name.clone();
            self.held_back.release(&name);
        }
        let mut scope = self.scope_of_roles(&woken);
        let mut in_vain = 0;
        let mut trip = self.round_trip(round.rng);
        let wanted = |allocator: &Self, roles: &[u32]| {
            let each = roles
                .iter()
                .map(|role| allocator.alternatives_of_role(*role));
            each.fold(0, |a, b| a | b)
        };
        let mut alternatives = wanted(self, &woken);
        while let Some(slot) = trip.next(&self.free, alternatives) {
            let before = round.out.len();
            for stage in [Stage::Guarantees, Stage::FairShares] {
                self.offer(round, slot, stage, &scope);
            }
            if round.out.len() == before {
                in_vain += 1;
                continue;
            }
            in_vain = 0;
            let (open, shut): (Vec<u32>, Vec<u32>) =
                woken.iter().partition(|role| !self.is_shut(**role));
            if shut.is_empty() {
                continue;
            }
            shut.into_iter().for_each(|role| self.hold_again(role));
            if open.is_empty() {
                return;
            }
            scope = self.scope_of_roles(&open);
            alternatives = wanted(self, &open);
            woken = open;
        }
        for role in woken {
            self.looked_for(role, in_vain, round.now);
        }
    }

    fn go_through_for_all(&mut self, round: &mut Round<'_>) {
        let mut in_vain = 0;
        let mut trip = self.round_trip(round.rng);
        while let Some(slot) = trip.next(&self.free, self.alternatives_of_surplus()) {
            if self.alternatives_of_surplus() == 0 {
                self.held_back.note_all();
                break;
            }
            let before = round.out.len();
            self.offer(round, slot, Stage::FairShares, &Scope::Everyone);
            in_vain = if round.out.len() == before {
                in_vain + 1
            } else {
                0
            };
        }
        self.looked_for_all(in_vain, round.now);
    }

    fn scope_of_roles(&self, roles: &[u32]) -> Scope {
        let clients = roles
            .iter()
            .flat_map(|role| self.roles[*role].clients.active_members());
        self.scope_of(clients)
    }

    /// Followers with something free, from a random one on.
    fn round_trip(&self, rng: &mut Rng) -> RoundTrip {
        let last = self.free.last().unwrap_or_default();
        let start = rng.below(u64::from(last) + 1) as u32;
        RoundTrip {
            start,
            from: start,
            wrapped: false,
        }
    }

    /// Offers what is free on a follower to whom it concerns.
    fn offer(&mut self, round: &mut Round<'_>, slot: u32, stage: Stage, scope: &Scope) {
        if !self.free.contains(slot) || (stage == Stage::Guarantees && self.creditors.is_empty()) {
            return;
        }
        let mut turn = Turn::new(slot, stage, round.now);
        turn.take_stock(&self.followers[slot]);
        if stage == Stage::FairShares
            && turn.plain
            && self.alternatives_of_surplus() & turn.alternatives == 0
        {
            self.held_back.note_all();
            return;
        }
        match scope {
            Scope::Few(clients) => self.offer_to_few(&mut turn, clients, round),
            _ => self.offer_in_order(&mut turn, scope, round),
        }
        for (role, by_limits, by_headroom) in &turn.held_back {
            let name = &self.roles[*role].name;
            self.held_back.note(name, *role, *by_limits, *by_headroom);
        }
        self.redraw(&turn, round.rng);
    }

    fn offer_in_order(&mut self, turn: &mut Turn, scope: &Scope, round: &mut Round<'_>) {
        let mut narrow = turn.all_reserved;
        'again: loop {
            for entry in self.entries(turn) {
                let mut place = Place::new();
                while let Some(taker) = self.next_taker(turn, scope, entry, &place) {
                    place.clone_from(&taker.place);
                    self.give(turn, taker, round);
                    if !turn.is_anything_free() || !self.free.contains(turn.slot) {
                        return;
                    }
                    if turn.all_reserved && !narrow {
                        narrow = true;
                        continue 'again;
                    }
                }
            }
            return;
        }
    }

    fn offer_to_few(&mut self, turn: &mut Turn, clients: &[u32], round: &mut Round<'_>) {
        let mut ordered: Vec<(Place, u32)> = clients
            .iter()
            .filter_map(|client| Some((self.keys_of_client(*client)?, *client)))
            .collect();
        if ordered.len() > 1 {
            ordered.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        }
        for (place, client) in ordered {
            if let Ok(resources) = self.judge(turn, client) {
                let taker = Taker {
                    client,
                    resources,
                    place,
                };
                self.give(turn, taker, round);
            }
        }
        debug_assert!(clients.len() <= FEW);
    }

    fn give(&mut self, turn: &mut Turn, taker: Taker, round: &mut Round<'_>) {
        let Taker {
            client, resources, ..
        } = taker;
        let c = &self.clients[client];
        let role = &self.roles[c.role].name;
        let follower = &self.followers[turn.slot];
        round.out.push(OfferedResources {
            framework: self.frameworks[c.framework].id.clone(),
            role: role.clone(),
            follower: follower.id.clone(),
            resources: resources.clone().allocated(role),
        });
        let framework = c.framework;
        let held = follower.held.get(client).cloned().unwrap_or_default();
        turn.offered_shared += &resources.shared();
        self.replace_held(turn.slot, client, held + &resources);
        self.note_offer(framework, &resources);
        self.choose(client, round.rng);
        turn.take_stock(&self.followers[turn.slot]);
    }

    /// In orders at random, whoever was passed draws a new place.
    fn redraw(&mut self, turn: &Turn, rng: &mut Rng) {
        if turn.passed.is_empty() {
            return;
        }
        for (role, clients, member) in &turn.passed {
            let entry = &mut self.roles[*role];
            let order = if *clients {
                &mut entry.clients
            } else {
                &mut entry.order
            };
            order.redraw(std::iter::once(*member));
            self.stale.insert(*role);
        }
        self.refresh_orders(rng);
    }
}

/// Followers with something free, in a circle. Offers change which are free, so it goes by slot.
struct RoundTrip {
    start: u32,
    /// The next one is this or after it.
    from: u32,
    wrapped: bool,
}

impl RoundTrip {
    fn next(&mut self, free: &Free, wanted: Alternatives) -> Option<u32> {
        if !self.wrapped {
            if let Some(slot) = free.next(self.from, wanted) {
                self.from = slot + 1;
                return Some(slot);
            }
            (self.wrapped, self.from) = (true, 0);
        }
        let slot = free
            .next(self.from, wanted)
            .filter(|slot| *slot < self.start)?;
        self.from = slot + 1;
        Some(slot)
    }
}

fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.below(i as u64 + 1) as usize);
    }
}
