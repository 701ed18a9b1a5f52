//! Glint on Kubernetes.
//!
//! - [`api`]: the custom resource `ParameterServer` as Rust types, with the rules by which the API server judges it
//! - [`crd`]: its definition as YAML, which `glint-operator crd` prints and `crds/` holds
//!
//! Everything here is pure: nothing talks to a cluster.

pub mod api;
pub mod crd;
