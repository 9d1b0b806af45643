//! The allocator from outside: events in, offers out.

mod filters;
mod followers;
mod offers;
mod properties;
mod sharing;
mod support;
