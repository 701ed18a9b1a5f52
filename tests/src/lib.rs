//! What the tests of the whole need: clusters in one process, a proxy that harms messages, decoders that are fed with
//! anything, the protocol by hand, a simulated world, and a reference to compare with.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where something is not as promised"
)]

pub mod address;
pub mod cluster;
pub mod decoders;
pub mod leftovers;
mod process;
pub mod proxy;
pub mod reference;
pub mod schedule;
pub mod simulated;
pub mod wire;
