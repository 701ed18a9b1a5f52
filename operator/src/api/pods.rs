//! What a user may say about pods. Chosen field by field: a whole pod template would make the definition too large for
//! `kubectl apply`, and would let through what the operator has to decide.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{KubeSchema, core::Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Processor and memory of a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
pub struct Resources {
    /// What Kubernetes sets aside for the pod, such as `cpu: 2` and `memory: 8Gi`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8, "additionalProperties" = {"x-kubernetes-int-or-string": true}))]
    #[x_kube(validation = quantities())]
    pub requests: BTreeMap<String, Quantity>,

    /// What the pod may never exceed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8, "additionalProperties" = {"x-kubernetes-int-or-string": true}))]
    #[x_kube(validation = quantities())]
    pub limits: BTreeMap<String, Quantity>,
}

impl Resources {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.limits.is_empty()
    }
}

fn quantities() -> Rule {
    Rule::new("self.all(name, isQuantity(string(self[name])))").message(
        "give each resource a Kubernetes quantity, such as 2 or 500m for cpu and 8Gi for memory",
    )
}

/// When to fetch an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// Whenever a pod starts.
    Always,
    /// When the Kubernetes node does not have it.
    IfNotPresent,
    /// Never: it must be there.
    Never,
}

/// Something the operator makes unless it is told not to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Toggle {
    /// Whether the operator makes it.
    #[serde(default = "yes")]
    pub enabled: bool,
}

const fn yes() -> bool {
    true
}

impl Default for Toggle {
    fn default() -> Self {
        Self { enabled: yes() }
    }
}
