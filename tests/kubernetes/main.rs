//! What Glint promises on Kubernetes, on a real one: `make test-kubernetes` starts it (`tests/kubernetes/cluster`), gives it
//! the images, and runs these tests, which are ignored without it. Each has a namespace of its own, in which only
//! restricted pods are admitted; the operator is installed once, by its chart.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod changes;
mod chart;
mod crashes;
mod deaths;
mod deletion;
mod many;
mod operators;
mod roles;
mod rolls;
mod scaling;
mod spec;
mod zones;
