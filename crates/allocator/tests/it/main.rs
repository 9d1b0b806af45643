//! The allocator from outside: events in, offers out.

mod budget;
mod constraints;
mod explain;
mod filters;
mod followers;
mod hierarchy;
mod inverse;
mod offers;
mod oracle;
mod oversubscription;
mod quota;
mod random;
mod reservations;
mod shared;
mod sharing;
mod simulate;
mod support;
mod volumes;
mod weights;
