//! What the operator answers: written by the operator alone, through the status subresource.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// How a parameter server fares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct ParameterServerStatus {
    /// The generation of the object that this status is about: when it is lower than `metadata.generation`, the operator
    /// has not seen the last change yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// How it fares, in one word that follows from the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,

    /// How it fares, in full: `Ready` (all servers and partitions answer), `Progressing` (something is being changed),
    /// `Degraded` (something is missing or lost), `Paused` (the operator leaves it alone).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The image that new pods run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,

    /// Servers that have a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_servers: Option<i32>,

    /// Servers that answer pulls and pushes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_servers: Option<i32>,

    /// Servers whose pod is as the spec says now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_servers: Option<i32>,

    /// Models in the catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<i64>,

    /// Partitions of all models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i64>,

    /// Partitions whose values are lost: they serve again once their model is restored or reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_partitions: Option<i64>,

    /// The servers one by one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub servers: Vec<ServerStatus>,

    /// The label selector of the servers' pods, for the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
}

/// How a parameter server fares, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Master and servers start for the first time.
    Starting,
    /// All servers answer.
    Ready,
    /// Servers are being added, or drained to be taken away.
    Scaling,
    /// A change of the pods is on its way, one server at a time.
    Rolling,
    /// A server or a partition is missing.
    Degraded,
    /// The spec cannot be followed; what ran before goes on.
    Invalid,
    /// The operator leaves it alone.
    Paused,
    /// It is being deleted, and a finalizer of somebody else's still holds it.
    Deleting,
}

/// How one server fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerStatus {
    /// Its name, which is that of its pod.
    pub name: String,

    /// Whether it answers pulls and pushes.
    pub ready: bool,

    /// Whether it is handing over what it holds.
    #[serde(default)]
    pub draining: bool,

    /// Partitions that it holds.
    #[serde(default)]
    pub partitions: i64,

    /// Bytes of the values that it holds.
    #[serde(default)]
    pub value_bytes: i64,

    /// The Kubernetes node it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,

    /// The zone of that Kubernetes node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}
