//! The clients against real clusters.

mod operator;
mod scheduler;
mod tls;
