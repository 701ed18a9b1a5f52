//! What Glint promises on Kubernetes, on a real one: `make test-kubernetes` starts it (`tests/kubernetes/cluster`), gives it
//! the images, and runs these tests, which are ignored without it. Each has a namespace of its own, in which only
//! restricted pods are admitted; the operator is installed once, by its chart.
//!
//! Wherever pods, machines, the operator or the definition are harmed or changed, a Job trains meanwhile and judges
//! (`training.rs`). It is not where there is nothing that it could judge:
//! - nothing runs, or what runs is not touched: `spec`, `roles`, `rendering`, `quotas`, `examples` and the rest of `chart` (they have Jobs of their
//!   own), the bad specs and the name that is taken in `changes`, the definition that is missing (with it, all objects are gone), the log
//! - only what nobody trains against is changed: the switches and the fields of others in `changes`, the lease that is given back, zones that cannot be read
//! - everything is to go: `deletion` with retention `Delete` and with the operator away
//! - it would measure the Job: the look without a write, and the fifty in `many`
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod changes;
mod chart;
mod crashes;
mod deaths;
mod deletion;
mod examples;
mod many;
mod operators;
mod quotas;
mod rendering;
mod roles;
mod rolls;
mod scaling;
mod scope;
mod spec;
mod zones;
