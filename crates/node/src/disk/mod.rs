//! What a node stores on disk, apart from sandboxes.

pub mod registry;
