//! What the tests on a real Kubernetes have in common; the tests are beside it, from `main.rs` on.
//!
//! - [`stories`]: the cluster through `kubectl` and `helm`, a namespace per test, waiting
//! - [`installation`]: the operator
//! - [`audit`]: what the operator asked of the API server
//! - [`processes`]: `glint` as an admin runs it, and processes of pods that stand still
//! - [`turns`]: which tests run beside each other
//! - [`training`]: a Job that pulls and pushes all the time, and judges
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

pub mod audit;
pub mod installation;
pub mod processes;
pub mod stories;
pub mod training;
pub mod turns;
