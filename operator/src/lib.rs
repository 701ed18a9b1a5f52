//! Glint on Kubernetes.
//!
//! - [`api`]: the custom resource `ParameterServer` as Rust types, with the rules by which the API server judges it
//! - [`crd`]: its definition as YAML, which `glint-operator crd` prints and `crds/` holds
//! - [`build`]: what is made for a `ParameterServer`, as a pure function of it
//! - [`plan`]: what to do next about the number of servers and about pods that are not as the spec says; pure
//! - [`report`]: the status that follows from what there is; pure
//! - [`reason`]: why things are as they are: the one list of reasons of conditions and events
//! - [`compare`]: whether what there is contains what is wanted, so that an idle operator writes nothing
//! - [`master`]: talks to the master of a parameter server
//! - [`reconcile`]: validate → plan → build → apply → report, for one object
//! - [`controller`]: watches, and calls [`reconcile`] when something has changed
//! - [`lease`]: of several operators one works
//! - [`health`], [`metrics`]: what probes and Prometheus ask
//!
//! Only the last five talk to a cluster.

pub mod api;
pub mod build;
pub mod compare;
pub mod controller;
pub mod crd;
pub mod health;
pub mod lease;
pub mod master;
pub mod metrics;
pub mod nodes;
pub mod observe;
pub mod plan;
pub mod reason;
pub mod reconcile;
pub mod report;
