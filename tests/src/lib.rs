//! What the tests of the whole need: clusters in one process, a proxy that harms messages, and a reference to compare with.

pub mod proxy;
pub mod reference;
