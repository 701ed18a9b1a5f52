//! The definition of the custom resource as YAML, generated from the types in [`crate::api`].

use kube::CustomResourceExt;

use crate::api::ParameterServer;

/// Prints the definition; said where the generated file is found to be stale, too.
pub const COMMAND: &str = "cargo run --quiet -p glint-operator -- crd > crds/parameterservers.yaml";

/// The `CustomResourceDefinition` of `ParameterServer` as one YAML document, as it stands in `crds/`.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    let definition = serde_saphyr::to_string(&ParameterServer::crd())?;
    Ok(format!(
        "# Generated from the Rust types in operator/src/api.rs; do not edit. To make it again:\n# {COMMAND}\n{definition}"
    ))
}
