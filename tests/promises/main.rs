//! What Glint promises, each promise a test: clusters on real sockets in this process, with and without faults.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as promised"
)]

mod away;
mod bad_input;
mod copies;
mod draining;
mod durable;
mod failover;
mod faults;
mod following;
mod hot;
mod lanes;
mod messages;
mod models;
mod moving;
mod order;
mod page;
mod parity;
mod python;
mod recovery;
mod suspended;
mod using;
