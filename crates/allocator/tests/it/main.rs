//! The allocator from outside: events in, offers out.

mod filters;
mod followers;
mod inverse;
mod offers;
mod properties;
mod sharing;
mod support;
