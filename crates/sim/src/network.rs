//! Connections as TCP gives them: in order, one way at a time, and gone with everything that was on
//! its way when one of their ends dies or when nothing gets through for too long.
//!
//! Two things happen here that a single TCP connection never does, since they happen to peers whose
//! connections are made anew: what was on its way when a connection broke may still arrive, after
//! what was sent on the next one; and plans may ask for messages that arrive twice or out of order.

use crate::{
    env::Env,
    event::{Channel, Event, Host, LinkKey, Parcel},
    zookeeper::{Ask, Request},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tepui_model::{Rng, Time};
use tepui_protocol::peer::{PeerMessage, Pid};

const MILLISECOND: Duration = Duration::from_millis(1);

/// All connections.
pub(crate) struct Network {
    links: BTreeMap<LinkKey, Link>,
    /// Ways that nothing passes, and how many faults say so.
    blocked: BTreeMap<(Host, Host), u32>,
    /// Added to the time that messages take.
    slow: BTreeMap<(Host, Host), Duration>,
    /// Ways on which messages are repeated or overtake each other.
    unruly: BTreeMap<(Host, Host), Unruly>,
    rng: Rng,
}

/// What a way does to messages.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unruly {
    pub(crate) repeat: f64,
    pub(crate) overtake: f64,
}

#[derive(Default)]
struct Link {
    generation: u32,
    /// Connected to this start of the process at the other end.
    established: Option<u32>,
    last_arrival: Time,
    /// Waits for the way to be free.
    stalled: Vec<(u32, Parcel)>,
    /// Set while a timer for giving up runs.
    doom: Option<u32>,
    dooms: u32,
    names: BTreeSet<String>,
}

impl Network {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            links: BTreeMap::new(),
            blocked: BTreeMap::new(),
            slow: BTreeMap::new(),
            unruly: BTreeMap::new(),
            rng,
        }
    }

    pub(crate) fn block(&mut self, from: Host, to: Host) {
        *self.blocked.entry((from, to)).or_default() += 1;
    }

    pub(crate) fn unblock(&mut self, from: Host, to: Host) {
        if let Some(count) = self.blocked.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.blocked.remove(&(from, to));
            }
        }
    }

    pub(crate) fn slow_down(&mut self, from: Host, to: Host, by: Option<Duration>) {
        match by {
            Some(by) => self.slow.insert((from, to), by),
            None => self.slow.remove(&(from, to)),
        };
    }

    pub(crate) fn unsettle(&mut self, from: Host, to: Host, how: Option<Unruly>) {
        match how {
            Some(how) => self.unruly.insert((from, to), how),
            None => self.unruly.remove(&(from, to)),
        };
    }

    /// Which connection this is: earlier ones have lower numbers.
    pub(crate) fn generation(&self, link: LinkKey) -> u32 {
        self.links.get(&link).map_or(0, |state| state.generation)
    }

    fn is_blocked(&self, from: Host, to: Host) -> bool {
        self.blocked.contains_key(&(from, to))
    }

    fn latency(&mut self, from: Host, to: Host) -> Duration {
        let base = Duration::from_micros(100 + self.rng.below(1500));
        match self.slow.get(&(from, to)) {
            Some(slow) => base + crate::env::between(&mut self.rng, Duration::ZERO, *slow),
            None => base,
        }
    }
}

/// Launches and kills count on their order, and on coming after the word that a follower is registered:
/// a connection gives that, and a new leader waits for it.
fn may_be_unruly(parcel: &Parcel) -> bool {
    use PeerMessage as M;
    match parcel {
        Parcel::Peer { message, .. } => !matches!(
            message,
            M::RunTask(_)
                | M::RunTaskGroup(_)
                | M::KillTask(_)
                | M::ShutdownFramework(_)
                | M::SlaveRegistered(_)
                | M::SlaveReregistered(_)
        ),
        // It may come once more, in another connection of its session.
        Parcel::Request(Request::Ask {
            ask: Ask::Apply { .. },
            ..
        }) => true,
        _ => false,
    }
}

impl Env {
    /// Sends something. That it got lost is only ever heard as a broken connection.
    pub(crate) fn send(&mut self, link: LinkKey, parcel: Parcel) {
        self.trace(|| format!("{} -> {}: {}", link.from, link.to, parcel.name()));
        let boot = self.boot(link.to);
        let up = self.up(link.to);
        let forth = self.network.is_blocked(link.from, link.to);
        let back = self.network.is_blocked(link.to, link.from);
        let state = self.network.links.entry(link).or_default();
        if let Parcel::Peer { to, .. } = &parcel
            && !state.names.contains(to)
        {
            state.names.insert(to.clone());
        }
        if state.established.is_some_and(|other| other != boot) {
            state.established = None;
        }
        if !up && !forth && !back {
            // Refused.
            return self.break_link(link, true);
        }
        if forth || (back && state.established.is_none()) || !state.stalled.is_empty() {
            state.stalled.push((boot, parcel));
            return self.doom(link);
        }
        state.established = Some(boot);
        self.carry(link, boot, parcel);
        if back {
            self.doom(link);
        }
    }

    fn carry(&mut self, link: LinkKey, boot: u32, parcel: Parcel) {
        let latency = self.network.latency(link.from, link.to);
        let mut at = self.now + latency;
        let unruly = self.network.unruly.get(&(link.from, link.to)).copied();
        let mut unruly = unruly.filter(|_| may_be_unruly(&parcel));
        let Some(state) = self.network.links.get_mut(&link) else {
            return;
        };
        let generation = state.generation;
        if let Some(how) = &mut unruly
            && self.network.rng.unit() < how.repeat
        {
            let again = crate::env::between(&mut self.network.rng, MILLISECOND, MILLISECOND * 3000);
            let event = Event::Arrive {
                link,
                generation,
                boot,
                parcel: parcel.clone(),
            };
            self.at(at + again, event);
        }
        let overtakes = link.channel != Channel::Session
            && unruly.is_some_and(|how| self.network.rng.unit() < how.overtake);
        if overtakes {
            at = at + crate::env::between(&mut self.network.rng, MILLISECOND, MILLISECOND * 3000);
        } else if let Some(state) = self.network.links.get_mut(&link) {
            at = at.max(state.last_arrival + Duration::from_nanos(1));
            state.last_arrival = at;
        }
        self.in_order(
            at,
            Event::Arrive {
                link,
                generation,
                boot,
                parcel,
            },
        );
    }

    /// What arrives now, if it does.
    pub(crate) fn arrived(
        &mut self,
        link: LinkKey,
        generation: u32,
        boot: u32,
        parcel: Parcel,
    ) -> Option<Parcel> {
        if self.boot(link.to) != boot || !self.up(link.to) {
            return None;
        }
        let blocked = self.network.is_blocked(link.from, link.to);
        let state = self.network.links.entry(link).or_default();
        if state.generation != generation {
            // The connection is gone, but what is in the receiver's buffers is read.
            let read = link.channel == Channel::Messages && self.network.rng.unit() < 0.5;
            return (read && !blocked).then_some(parcel);
        }
        if blocked || !state.stalled.is_empty() {
            state.stalled.push((boot, parcel));
            self.doom(link);
            return None;
        }
        Some(parcel)
    }

    /// Nothing gets through: a timer runs.
    fn doom(&mut self, link: LinkKey) {
        let wait = crate::env::between(
            &mut self.network.rng,
            MILLISECOND * 500,
            MILLISECOND * 15_000,
        );
        let state = self.network.links.entry(link).or_default();
        if state.doom.is_some() {
            return;
        }
        state.dooms += 1;
        let doom = state.dooms;
        state.doom = Some(doom);
        self.after(wait, Event::GiveUp { link, doom });
    }

    pub(crate) fn give_up(&mut self, link: LinkKey, doom: u32) {
        let is = self.network.links.get(&link).and_then(|state| state.doom);
        if is == Some(doom) {
            self.break_link(link, true);
        }
    }

    /// Ways have become free.
    pub(crate) fn flush_links(&mut self) {
        let keys: Vec<LinkKey> = self.network.links.keys().copied().collect();
        for key in keys {
            let forth = self.network.is_blocked(key.from, key.to);
            let back = self.network.is_blocked(key.to, key.from);
            if forth || back {
                continue;
            }
            let Some(state) = self.network.links.get_mut(&key) else {
                continue;
            };
            if state.doom.take().is_none() {
                continue;
            }
            let stalled = std::mem::take(&mut state.stalled);
            for (boot, parcel) in stalled {
                if boot != self.boot(key.to) || !self.up(key.to) {
                    self.break_link(key, true);
                    break;
                }
                if let Some(state) = self.network.links.get_mut(&key) {
                    state.established = Some(boot);
                }
                self.carry(key, boot, parcel);
            }
        }
    }

    /// Ends a connection. The sender hears of it if it does not do it itself.
    pub(crate) fn break_link(&mut self, link: LinkKey, tell: bool) {
        let Some(state) = self.network.links.get_mut(&link) else {
            return;
        };
        let generation = state.generation;
        state.generation += 1;
        state.established = None;
        state.stalled.clear();
        state.doom = None;
        let names: Vec<String> = std::mem::take(&mut state.names).into_iter().collect();
        if !tell {
            return;
        }
        let wait = self.network.latency(link.to, link.from);
        let boot = self.boot(link.from);
        let event = Event::Broken {
            link,
            boot,
            generation,
            names,
        };
        self.after(wait, event);
    }

    /// A process died. Peers hear of it if the way from it is free; the others find out.
    pub(crate) fn cut(&mut self, host: Host) {
        let keys: Vec<LinkKey> = self.network.links.keys().copied().collect();
        for key in keys {
            if key.from == host {
                let generation = self.network.generation(key);
                self.break_link(key, false);
                // Who reads from it sees its end.
                if key.channel == Channel::Events || key.channel == Channel::Session {
                    let wait = self.network.latency(key.from, key.to);
                    let boot = self.boot(key.to);
                    let names = Vec::new();
                    if !self.network.is_blocked(key.from, key.to) {
                        let event = Event::Broken {
                            link: key,
                            boot,
                            generation,
                            names,
                        };
                        self.after(wait, event);
                    }
                }
            } else if key.to == host {
                let established = self
                    .network
                    .links
                    .get(&key)
                    .is_some_and(|state| state.established.is_some());
                if !established {
                    continue;
                }
                if self.network.is_blocked(host, key.from) {
                    self.doom(key);
                } else {
                    self.break_link(key, true);
                }
            }
        }
    }

    /// Both ways of a scheduler's conversation end, as one of them does.
    pub(crate) fn hang_up(&mut self, from: Host, to: Host) {
        for (from, to, channel, tell) in [
            (from, to, Channel::Calls, false),
            (to, from, Channel::Events, true),
        ] {
            let link = LinkKey { from, to, channel };
            if tell && self.network.is_blocked(to, from) {
                self.doom(link);
            } else {
                self.break_link(link, tell);
            }
        }
    }

    /// All connections of a process break.
    pub(crate) fn reset(&mut self, host: Host) {
        let keys: Vec<LinkKey> = self.network.links.keys().copied().collect();
        for key in keys {
            if key.from == host || key.to == host {
                self.break_link(key, true);
            }
        }
    }

    /// A leader that is deposed drops its connections, and what waits on them.
    pub(crate) fn abandon_links(&mut self, host: Host) {
        let keys: Vec<LinkKey> = self.network.links.keys().copied().collect();
        for key in keys.into_iter().filter(|key| key.from == host) {
            match key.channel {
                Channel::Messages => self.break_link(key, false),
                Channel::Events => self.break_link(key, true),
                Channel::Calls | Channel::Session => {}
            }
        }
    }

    /// Sends a message between libprocess peers.
    pub(crate) fn send_peer(&mut self, host: Host, from: Pid, to: Pid, message: PeerMessage) {
        let Some(other) = Host::at(to.address) else {
            return self.checker.fail(format!("{host} writes to {to}"));
        };
        let link = LinkKey {
            from: host,
            to: other,
            channel: Channel::Messages,
        };
        let to = to.name;
        self.send(link, Parcel::Peer { from, to, message });
    }
}
