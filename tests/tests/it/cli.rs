//! The command line, as people and scripts meet it: what it prints where, and the status it ends with.

mod execute;
mod explain;
mod identity;
mod maintenance;
mod mixed;
mod operator;
mod registry;
mod resources;
mod roles;
mod settings;
