//! Executors over HTTP, task groups, messages.

use crate::harness::*;
