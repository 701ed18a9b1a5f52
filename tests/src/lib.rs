//! What the tests of the whole need: clusters in one process, a proxy that harms messages, the protocol by hand, a
//! simulated world, and a reference to compare with.

pub mod cluster;
mod process;
pub mod proxy;
pub mod reference;
pub mod simulated;
pub mod wire;
