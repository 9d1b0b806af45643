//! The walk: through the tree of roles in fair order, for one follower.
//!
//! An offer moves its receiver back, so the walk goes by place: it meets everyone, and someone twice only after getting
//! something. Between two offers nothing changes, so the walk needs no copies of the order.
//!
//! Walks do not start at the root where less will do: when all that is free is reserved, only the roles it is reserved to
//! and those below them can have it; in the first stage only roles that a guarantee owes something.

use crate::{
    Allocator, ROOT,
    alternatives::{ANY, Alternatives},
    portion::{Stage, Turn},
    slots::Marks,
    sorter::{Key, Members},
};
use smallvec::SmallVec;
use tepui_model::{Resources, roles};

/// With more candidates than this it is cheaper to go through everybody in order, since that ends
/// when the follower has nothing left.
pub(crate) const FEW: usize = 16;

/// Whom to consider.
#[derive(Debug)]
pub(crate) enum Scope {
    /// Everybody.
    Everyone,
    /// These clients, in whatever order.
    Few(Vec<u32>),
    /// Clients that are marked; the roles on their paths are too.
    Marked {
        /// The clients.
        clients: Marks,
        /// Their roles and those above.
        roles: Marks,
    },
}

impl Scope {
    fn has_client(&self, client: u32) -> bool {
        match self {
            Self::Everyone => true,
            Self::Few(clients) => clients.contains(&client),
            Self::Marked { clients, .. } => clients.contains(client),
        }
    }
    fn has_role(&self, role: u32) -> bool {
        match self {
            Self::Marked { roles, .. } => roles.contains(role),
            _ => true,
        }
    }
}

/// Who takes what, and where in the order they were met, from the entry down.
pub(crate) struct Taker {
    pub(crate) client: u32,
    pub(crate) resources: Resources,
    pub(crate) place: Place,
}

/// The keys from an entry down to a client.
pub(crate) type Place = SmallVec<[Key; 3]>;

/// A level of the walk.
struct Frame<'a> {
    role: u32,
    /// Among the clients of the role, not among the roles below it.
    clients: bool,
    /// In the first stage: something is owed to a role above.
    owed: bool,
    rest: Members<'a>,
    at: Option<&'a Key>,
}

/// The members of a level that the walk is to meet: roles with room for what is free, and all clients.
fn wanted(turn: &Turn, clients: bool) -> Alternatives {
    if clients { ANY } else { turn.alternatives }
}

impl Allocator {
    /// Scope of some clients.
    pub(crate) fn scope_of(&self, clients: impl Iterator<Item = u32>) -> Scope {
        let clients: Vec<u32> = clients.collect();
        if clients.len() <= FEW {
            return Scope::Few(clients);
        }
        let (mut marked, mut roles) = (Marks::default(), Marks::default());
        for client in clients {
            marked.set(client);
            let mut slot = Some(self.clients[client].role);
            while let Some(role) = slot
                && !roles.contains(role)
            {
                roles.set(role);
                slot = self.roles[role].parent;
            }
        }
        Scope::Marked {
            clients: marked,
            roles,
        }
    }

    /// Where to start: these roles, none of them below another, in order.
    pub(crate) fn entries(&self, turn: &Turn) -> SmallVec<[u32; 4]> {
        let mut roles: SmallVec<[u32; 4]> = SmallVec::new();
        if turn.stage == Stage::Guarantees && self.creditors.len() <= FEW {
            roles.extend(self.creditors.iter().copied());
        } else if turn.all_reserved
            && let Some(owners) = turn.few_owners()
        {
            // A role that is not known has nobody below it.
            roles.extend(
                owners
                    .iter()
                    .filter_map(|role| self.role_index.get(*role).copied()),
            );
        } else {
            roles.push(ROOT);
            return roles;
        }
        roles.retain(|role| self.roles[*role].order.has_active());
        if roles.len() > 1 {
            let all = roles.clone();
            roles.retain(|role| {
                let name = &self.roles[*role].name;
                !all.iter()
                    .any(|other| roles::is_strict_subrole(name, &self.roles[*other].name))
            });
            roles.sort_by_cached_key(|role| self.keys_of_role(*role));
        }
        roles
    }

    /// The next client of an entry, after a place if there is one, that takes something.
    pub(crate) fn next_taker(
        &self,
        turn: &mut Turn,
        scope: &Scope,
        entry: u32,
        after: &[Key],
    ) -> Option<Taker> {
        let mut frames: SmallVec<[Frame<'_>; 4]> = SmallVec::new();
        let owed = self.path(entry).any(|(_, role)| !role.credit.is_empty());
        if after.is_empty() {
            frames.push(self.frame(turn, entry, false, owed));
        }
        for key in after {
            let mut frame = match frames.last().and_then(|above| Some((above, above.at?))) {
                None => self.frame(turn, entry, false, owed),
                Some((above, at)) => self.below(turn, above, at),
            };
            frame.rest = self
                .level(&frame)
                .after(Some(key), wanted(turn, frame.clients));
            frame.at = Some(key);
            frames.push(frame);
        }
        while let Some(frame) = frames.last_mut() {
            if frame.clients {
                if let Some((key, resources)) = self.next_of_clients(turn, scope, frame) {
                    frame.at = Some(key);
                    return Some(Taker {
                        client: key.member,
                        resources,
                        place: frames.iter().filter_map(|f| f.at).cloned().collect(),
                    });
                }
                frames.pop();
                continue;
            }
            match self.next_of_roles(turn, scope, frame) {
                Some(key) => {
                    frame.at = Some(key);
                    let below = self.below(turn, frame, key);
                    frames.push(below);
                }
                None => {
                    frames.pop();
                }
            }
        }
        None
    }

    fn frame(&self, turn: &Turn, role: u32, clients: bool, owed: bool) -> Frame<'_> {
        let entry = &self.roles[role];
        let order = if clients {
            &entry.clients
        } else {
            &entry.order
        };
        Frame {
            role,
            clients,
            owed,
            rest: order.after(None, wanted(turn, clients)),
            at: None,
        }
    }

    /// The level below a member. A role without roles below has its clients there at once.
    fn below(&self, turn: &Turn, above: &Frame<'_>, at: &Key) -> Frame<'_> {
        let role = at.member;
        let clients = role == above.role || self.roles[role].children == 0;
        let owed = above.owed || !self.roles[role].credit.is_empty();
        self.frame(turn, role, clients, owed)
    }

    fn level(&self, frame: &Frame<'_>) -> &crate::sorter::Sorter {
        let role = &self.roles[frame.role];
        if frame.clients {
            &role.clients
        } else {
            &role.order
        }
    }

    fn next_of_roles<'a>(
        &'a self,
        turn: &mut Turn,
        scope: &Scope,
        frame: &mut Frame<'a>,
    ) -> Option<&'a Key> {
        let random = self.level(frame).is_random();
        for key in frame.rest.by_ref() {
            if random {
                turn.passed.push((frame.role, false, key.member));
            }
            let is_owed = || {
                turn.stage == Stage::FairShares
                    || frame.owed
                    || (key.member != frame.role && self.roles[key.member].credits > 0)
            };
            if scope.has_role(key.member) && is_owed() {
                return Some(key);
            }
        }
        None
    }

    fn next_of_clients<'a>(
        &'a self,
        turn: &mut Turn,
        scope: &Scope,
        frame: &mut Frame<'a>,
    ) -> Option<(&'a Key, Resources)> {
        let random = self.level(frame).is_random();
        for key in frame.rest.by_ref() {
            if random {
                turn.passed.push((frame.role, true, key.member));
            }
            if scope.has_client(key.member)
                && let Ok(resources) = self.judge(turn, key.member)
            {
                return Some((key, resources));
            }
        }
        None
    }

    /// The place of a role in the whole order, from the root down.
    pub(crate) fn keys_of_role(&self, role: u32) -> Place {
        let mut keys = Place::new();
        let mut slot = role;
        while let Some(parent) = self.roles[slot].parent {
            keys.extend(self.roles[parent].order.key(slot).cloned());
            slot = parent;
        }
        keys.reverse();
        keys
    }

    /// The place of a client in the whole order; `None` if it wants no offers.
    pub(crate) fn keys_of_client(&self, client: u32) -> Option<Place> {
        let role = self.clients.get(client)?.role;
        let key = self.roles[role].clients.key(client)?;
        let mut keys = self.keys_of_role(role);
        keys.extend(self.roles[role].order.key(role).cloned());
        keys.push(key.clone());
        Some(keys)
    }
}
