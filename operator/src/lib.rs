//! Glint on Kubernetes.
//!
//! - [`api`]: the custom resource `ParameterServer` as Rust types, with the rules by which the API server judges it
//! - [`crd`]: its definition as YAML, which `glint-operator crd` prints and `crds/` holds
//! - [`build`]: what is made for a `ParameterServer`, as a pure function of it
//! - [`plan`]: what to do next about the number of servers and about pods that are not as the spec says; pure
//! - [`report`]: the status that follows from what there is; pure
//! - [`refusal`]: why a pod could not be made; pure
//! - [`reason`]: why things are as they are: the one list of reasons of conditions and events
//! - [`compare`]: whether what there is contains what is wanted, so that an idle operator writes nothing
//! - [`master`]: talks to the master of a parameter server
//! - [`reconcile`]: validate → plan → build → apply → report, for one object
//! - [`definition`]: waits for the definition of the custom resource, which may be installed after the operator
//! - [`controller`]: watches, and calls [`reconcile`] when something has changed
//! - [`lease`]: of several operators one works
//! - [`backoff`]: how long a look that failed waits; pure
//! - [`health`], [`metrics`]: what probes and Prometheus ask
//!
//! What is called pure talks to nobody.

pub mod api;
pub mod backoff;
pub mod build;
pub mod compare;
pub mod controller;
pub mod crd;
pub mod definition;
pub mod health;
pub mod lease;
pub mod master;
pub mod metrics;
pub mod nodes;
pub mod observe;
pub mod plan;
pub mod reason;
pub mod reconcile;
pub mod refusal;
pub mod report;
