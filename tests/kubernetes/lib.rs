//! What the tests on a real Kubernetes have in common; the tests are beside it, from `main.rs` on.
//!
//! - [`stories`]: the cluster through `kubectl` and `helm`, a namespace per test, waiting
//! - [`training`]: a Job that pulls and pushes all the time, and judges
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod stories;
pub mod training;
