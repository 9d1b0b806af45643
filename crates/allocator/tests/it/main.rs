//! The allocator from outside: events in, offers out.

mod constraints;
mod explain;
mod filters;
mod followers;
mod hierarchy;
mod inverse;
mod offers;
mod properties;
mod quota;
mod sharing;
mod simulate;
mod support;
